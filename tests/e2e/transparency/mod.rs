//! The same script once directly and once through the proxy: every session sees the same, but for
//! what `allowed-differences.txt` says, each entry with its reason.

mod play;
mod record;
mod script;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use mucplex_testkit::server::Kind;
use mucplex_testkit::transcript::{Allowed, difference};
use tokio::sync::OnceCell;

use self::record::Record;
use self::script::Script;
use crate::Test;
use crate::stage::Stage;

/// Lists the scenarios, each a file `scenarios/<name>.txt`.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        const SCENARIOS: &[&str] = &[$(stringify!($name)),+];

        pub(crate) fn tests() -> Vec<Test> {
            let scenarios = [$(Test {
                name: concat!("transparent_", stringify!($name)),
                run: |stage| Box::pin(same(stage.kind, stringify!($name))),
                on: &[],
            }),+];
            let about = [
                Test {
                    name: "transparent_every_scenario_is_listed",
                    run: |_| Box::pin(every_scenario_is_listed()),
                    on: &[],
                },
                Test {
                    name: "transparent_every_allowed_difference_is_needed",
                    run: |_| Box::pin(every_allowed_difference_is_needed()),
                    on: &[],
                },
            ];
            scenarios.into_iter().chain(about).collect()
        }
    };
}

scenarios![
    ban,
    chat_with_carbons,
    destroy,
    disco_of_the_room,
    groupchat_error,
    history_late,
    history_limits,
    invitations,
    join_again,
    join_errors,
    join_many,
    join_one,
    join_the_first,
    kick,
    leave_last,
    leave_one,
    nick_change_of_another,
    nick_in_use,
    odd_nick,
    owner_configuration,
    presence_away,
    private_messages,
    rejoin_after_kick,
    role_given_again,
    room_configuration,
    second_session,
    second_session_history,
    self_ping,
    standing,
    subject,
    talk,
    unknown_iq,
];

/// One scenario on one server, both runs.
struct Outcome {
    /// As the file of allowed differences knows it.
    name: String,
    direct: Record,
    proxied: Record,
}

impl Outcome {
    async fn of(kind: Kind, scenario: &str, script: &str) -> Self {
        let script = Script::parse(script);
        let mut direct = Stage::new(kind, scenario).await;
        direct.direct = true;
        let proxied = Stage::new(kind, scenario).await;
        // One after the other: what a server does at the same time for two accounts may meet inside
        // it.
        let direct = play::play(&direct, &script).await;
        let proxied = play::play(&proxied, &script).await;
        Self {
            name: format!("{scenario} on {kind}"),
            direct,
            proxied,
        }
    }

    fn difference(&self, allowed: &Allowed) -> Option<String> {
        let direct = self.direct.render(allowed, &self.name);
        let proxied = self.proxied.render(allowed, &self.name);
        difference(&direct, &proxied, allowed, &self.name)
    }
}

/// Plays a script both ways; nothing may differ.
pub(crate) async fn no_difference(kind: Kind, name: &str, script: &str) {
    let outcome = Outcome::of(kind, name, script).await;
    if let Some(difference) = outcome.difference(&Allowed::default()) {
        panic!("- direct, + through the proxy\n{difference}");
    }
}

async fn same(kind: Kind, scenario: &'static str) {
    let allowed = Allowed::load(&path("allowed-differences.txt")).unwrap();
    if let Some(difference) = outcome(kind, scenario).await.difference(&allowed) {
        panic!("- direct, + through the proxy\n{difference}");
    }
}

/// Both the scenario's own test and the one of the allowed differences want it; it is played once.
async fn outcome(kind: Kind, scenario: &'static str) -> Arc<Outcome> {
    type Outcomes = HashMap<(Kind, &'static str), Arc<OnceCell<Arc<Outcome>>>>;
    static OUTCOMES: LazyLock<Mutex<Outcomes>> = LazyLock::new(Mutex::default);
    let cell = Arc::clone(
        OUTCOMES
            .lock()
            .unwrap()
            .entry((kind, scenario))
            .or_default(),
    );
    let play = async {
        let script =
            std::fs::read_to_string(path("transparency/scenarios").join(format!("{scenario}.txt")));
        Arc::new(Outcome::of(kind, scenario, &script.unwrap()).await)
    };
    Arc::clone(cell.get_or_init(|| play).await)
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

async fn every_scenario_is_listed() {
    let files = std::fs::read_dir(path("transparency/scenarios")).unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".txt").expect("a .txt file").to_owned())
        .collect();
    files.sort();
    let mut listed = SCENARIOS.to_vec();
    listed.sort_unstable();
    assert_eq!(files, listed);
}

/// An entry that can be taken out without a scenario noticing allows what does not happen.
async fn every_allowed_difference_is_needed() {
    let text = std::fs::read_to_string(path("allowed-differences.txt")).unwrap();
    let entries: Vec<&str> = text
        .split("\n\n")
        .filter(|entry| entry.contains("scenario:"))
        .collect();
    let mut outcomes = Vec::new();
    for scenario in SCENARIOS {
        for kind in Kind::ALL {
            outcomes.push(outcome(kind, scenario).await);
        }
    }
    let all = Allowed::parse(&text).unwrap();
    let idle: Vec<&str> = entries
        .iter()
        .enumerate()
        .filter(|(index, _)| {
            let others = entries
                .iter()
                .enumerate()
                .filter(|(other, _)| other != index);
            let others: Vec<&str> = others.map(|(_, entry)| *entry).collect();
            let without = Allowed::parse(&others.join("\n\n")).unwrap();
            outcomes
                .iter()
                .all(|outcome| outcome.difference(&without) == outcome.difference(&all))
        })
        .map(|(_, entry)| *entry)
        .collect();
    assert!(idle.is_empty(), "no scenario needs\n{}", idle.join("\n\n"));
}
