//! The same script once directly and once through the proxy: every session sees the same, but for
//! what `allowed-differences.txt` says, each entry with its reason.

mod play;
mod record;
mod report;
mod script;
mod session;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use mucplex_testkit::server::Kind;
use mucplex_testkit::transcript::{Allowed, difference};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

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
                Test {
                    name: "transparent_report",
                    run: |_| Box::pin(report::is_current()),
                    on: &[],
                },
            ];
            scenarios.into_iter().chain(about).collect()
        }
    };
}

scenarios![
    admin_requests_malformed,
    affiliation_lists,
    archive_after_an_absence,
    archive_of_the_room,
    archive_queries,
    ban,
    ban_before_the_join,
    chat_with_carbons,
    destroy,
    destroy_refused_and_moved,
    disco_of_occupants,
    disco_of_the_room,
    groupchat_error,
    history_late,
    history_limits,
    history_since_the_last_time,
    invitations,
    iq_answers_unasked,
    iq_malformed,
    iq_to_an_occupant,
    iq_to_the_account,
    join_again,
    join_errors,
    join_many,
    join_one,
    join_the_first,
    kick,
    leave_and_return_under_another_nick,
    leave_in_odd_ways,
    leave_last,
    membership_taken,
    message_attachments,
    message_claims,
    message_ids,
    message_languages,
    message_long,
    message_namespaces,
    message_reactions_and_retraction,
    message_states_and_receipts,
    message_types_to_a_room,
    message_white_space,
    moderation_by_the_account,
    moderation_of_equals,
    moderation_refused,
    nick_case_and_spaces,
    nick_change_and_back,
    nick_change_of_another,
    nick_changed_by_a_join,
    nick_in_use,
    nick_invalid,
    nick_of_many_marks,
    nick_prepared,
    nick_registration,
    nick_taken_over,
    nowhere,
    odd_nick,
    outside_blocking,
    outside_bookmarks,
    outside_contacts,
    outside_invitations,
    outside_invited_into_a_closed_room,
    outside_real_jid,
    owner_configuration,
    plain_archive,
    plain_blocking,
    plain_carbons,
    plain_eventing,
    plain_file,
    plain_information,
    plain_messages,
    plain_presence,
    plain_roster,
    plain_state,
    plain_unknown,
    presence_away,
    presence_extensions,
    presence_types_to_a_room,
    presence_unchanged,
    presence_without_the_element,
    private_message_kinds,
    private_message_paths,
    private_messages,
    private_messages_forbidden,
    rejoin_after_kick,
    role_given_again,
    room_configuration,
    room_configuration_cancelled,
    room_full,
    room_members_only,
    room_moderated,
    room_password_changes,
    room_persistent,
    room_reserved,
    self_ping,
    standing,
    subject,
    subject_by_participants,
    talk,
    two_rooms,
    two_sessions,
    two_sessions_errors,
    two_sessions_history,
    two_sessions_in_two_rooms,
    two_sessions_late,
    two_sessions_moderated,
    two_sessions_one_leaves,
    two_sessions_one_outside,
    two_sessions_private_messages,
    two_sessions_requests,
    two_sessions_subject,
    two_sessions_the_first_goes,
    unknown_iq,
    vcard_of_an_occupant,
    vcard_of_the_room,
    voice_approval,
    voice_request,
];

/// What came of one scenario on one server.
struct Outcome {
    scenario: &'static str,
    kind: Kind,
    /// What the scenario says of itself.
    about: String,
    /// What differs and may not.
    difference: Option<String>,
    needed: Needed,
}

/// Entries of the allowed differences, and rules of theirs, by number.
#[derive(Default)]
struct Needed {
    entries: BTreeSet<usize>,
    rules: BTreeSet<(usize, usize)>,
}

impl Outcome {
    async fn of(kind: Kind, scenario: &'static str, script: &str) -> Self {
        let script = Script::parse(script);
        let stage = async |direct| {
            let mut stage = Stage::new(kind, scenario).await;
            if script.archived {
                stage = stage.archived().await;
            }
            stage.direct = direct;
            stage
        };
        // One after the other: what a server does at the same time for two accounts may meet inside
        // it.
        let direct = play::play(&stage(true).await, &script).await;
        let proxied = play::play(&stage(false).await, &script).await;
        let runs = Runs {
            name: format!("{scenario} on {kind}"),
            direct,
            proxied,
        };
        runs.keep(scenario, kind);
        let allowed = allowed();
        Self {
            scenario,
            kind,
            about: script.about,
            difference: runs.difference(&allowed),
            needed: runs.needed(&allowed),
        }
    }
}

/// The two runs of a scenario on one server.
struct Runs {
    /// As the file of allowed differences knows the scenario.
    name: String,
    direct: Record,
    proxied: Record,
}

impl Runs {
    fn difference(&self, allowed: &Allowed) -> Option<String> {
        let (allowed, _) = allowed.about(&self.name);
        let (direct, proxied) = self.transcripts(&allowed);
        difference(&direct, &proxied, &allowed, &self.name)
    }

    /// Direct and proxied.
    fn transcripts(&self, allowed: &Allowed) -> (String, String) {
        let render = |record: &Record| record.render(allowed, &self.name);
        (render(&self.direct), render(&self.proxied))
    }

    fn differ(&self, allowed: &Allowed) -> bool {
        let (direct, proxied) = self.transcripts(allowed);
        allowed.apply(&self.name, &direct) != allowed.apply(&self.name, &proxied)
    }

    /// The entries without which the two runs would differ, and their rules.
    fn needed(&self, allowed: &Allowed) -> Needed {
        let (allowed, numbers) = allowed.about(&self.name);
        let mut needed = Needed::default();
        if !self.differ(&Allowed::default()) {
            return needed;
        }
        for (place, number) in numbers.into_iter().enumerate() {
            if !self.differ(&allowed.without(place)) {
                continue;
            }
            needed.entries.insert(number);
            for rule in 0..allowed.entries()[place].rules.len() {
                if self.differ(&allowed.without_rule(place, rule)) {
                    needed.rules.insert((number, rule));
                }
            }
        }
        needed
    }

    /// For the eyes of who looks into a difference.
    fn keep(&self, scenario: &str, kind: Kind) {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transcripts");
        std::fs::create_dir_all(&directory).unwrap();
        let (direct, proxied) = self.transcripts(&Allowed::default());
        for (way, text) in [("direct", direct), ("proxied", proxied)] {
            let file = format!("{scenario}.{kind}.{way}.txt");
            std::fs::write(directory.join(file), text).unwrap();
        }
    }
}

async fn same(kind: Kind, scenario: &'static str) {
    let outcome = outcome(kind, scenario).await;
    if let Some(difference) = &outcome.difference {
        panic!("- direct, + through the proxy\n{difference}");
    }
}

/// The same for all scenarios whose names begin like this.
pub(crate) async fn all_same(kind: Kind, prefix: &str) {
    for scenario in SCENARIOS.iter().filter(|name| name.starts_with(prefix)) {
        same(kind, scenario).await;
    }
}

fn allowed() -> Allowed {
    Allowed::load(&path("allowed-differences.txt")).unwrap()
}

/// Both the scenario's own test and the ones about all of them want it; it is played once.
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

/// Every scenario on every server, by name; the servers at the same time.
async fn outcomes() -> Vec<Arc<Outcome>> {
    let mut servers = JoinSet::new();
    for kind in Kind::ALL {
        servers.spawn(async move {
            let mut outcomes = Vec::new();
            for scenario in SCENARIOS {
                outcomes.push(outcome(kind, scenario).await);
            }
            outcomes
        });
    }
    let mut all = servers.join_all().await.concat();
    all.sort_by_key(|outcome| (outcome.scenario, outcome.kind.name()));
    all
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

/// An entry or a rule that can be taken out without a scenario noticing allows what does not
/// happen.
async fn every_allowed_difference_is_needed() {
    let allowed = allowed();
    let mut rules: BTreeSet<(usize, usize)> = BTreeSet::new();
    for outcome in outcomes().await {
        rules.extend(&outcome.needed.rules);
    }
    let mut idle = Vec::new();
    for (number, entry) in allowed.entries().iter().enumerate() {
        let unused = entry.rules.iter().enumerate();
        let unused = unused.filter(|(rule, _)| !rules.contains(&(number, *rule)));
        idle.extend(unused.map(|(_, rule)| format!("{}\n{rule}", entry.scenarios)));
    }
    assert!(idle.is_empty(), "no scenario needs\n{}", idle.join("\n\n"));
}
