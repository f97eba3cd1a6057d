//! The proxy dies and is started again (behaviours 57, 63, 64).

use std::time::Duration;

use mucplex_testkit::client::{Answers, Client, Device, Login, Loss, Mechanism};
use mucplex_testkit::server::Account;
use tempfile::TempDir;

use crate::stage::{Front, Stage, Talk, mark, outline, until};

crate::tests![
    b63_with_sealed_keys_the_room_sees_nothing,
    b63_without_keys_the_next_session_brings_the_account_back,
    b57_a_lost_session_gets_what_it_has_missed,
    b57_b63_what_a_session_was_served_outlives_the_process,
    b64_anchors_are_left_to_be_resumed,
];

/// A proxy that keeps what it knows in a directory of the test's.
struct Kept {
    front: Front,
    _directory: TempDir,
}

impl Kept {
    /// `seals`: with a key, so that anchors come back by themselves.
    async fn start(stage: &mut Stage, seals: bool, more: &str) -> Self {
        *stage = stage.hashed().await;
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name).display().to_string();
        let mut sections = format!("[store]\npath = '{}'\n{more}\n", path("mucplex.db"));
        if seals {
            let mut command = std::process::Command::new(mucplex_testkit::proxy::binary_path());
            let made = command
                .args(["seal-key", "--out", &path("seal.key")])
                .output();
            assert!(made.unwrap().status.success());
            sections += &format!("[anchor]\nseal_key_file = '{}'\n", path("seal.key"));
        }
        Self {
            front: Front::with_anchors(stage.server, &sections).await,
            _directory: directory,
        }
    }

    async fn kill(&mut self) {
        self.front.proxy.kill().await.unwrap();
    }

    async fn restart(&mut self) {
        self.front.proxy.restart().await.unwrap();
    }

    fn plain(&self, account: &Account, resource: &str) -> Login {
        let login = self.front.login(account).mechanism(Mechanism::Plain);
        login.resource(resource)
    }

    fn scram(&self, account: &Account, resource: &str) -> Login {
        let login = self.front.login(account).mechanism(Mechanism::ScramSha1);
        login.resource(resource)
    }

    /// Waits until the server has said this so often, on all uplinks.
    async fn down(&self, needle: &str, times: usize) {
        let count = |all: &[mucplex_testkit::tap::Recording]| -> usize {
            all.iter().map(|it| it.count_down(needle)).sum()
        };
        let said = self.front.tap.wait_until(|all| count(all) >= times).await;
        assert!(said, "{needle} not {times} times");
    }
}

/// What was said before a session's join, and after it.
async fn joins(client: &mut Client, room: &str) -> Vec<String> {
    client.join(room, "alice").await.unwrap().bodies()
}

async fn b63_with_sealed_keys_the_room_sees_nothing(mut stage: Stage) {
    let mut kept = Kept::start(&mut stage, true, "").await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let mut phone = kept.plain(&alice, "phone").connect().await.unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    let joins_before = kept.front.tap.count_up("http://jabber.org/protocol/muc'");

    for round in 1..=3 {
        kept.kill().await;
        bob.say(&stage.room, &format!("down {round}"))
            .await
            .unwrap();
        until(&mut carol, &format!("down {round}")).await;
        kept.restart().await;
        // No session is needed.
        kept.down("<resumed", round).await;
        bob.say(&stage.room, &format!("up {round}")).await.unwrap();
        until(&mut carol, &format!("up {round}")).await;
    }
    let seen = mark(&mut carol, &stage.room, [&mut bob]).await;
    let lines = outline(&seen[0]);
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("carol") || line.starts_with("bob")),
        "{lines:?}"
    );

    let mut laptop = kept.plain(&alice, "laptop").connect().await.unwrap();
    let bodies = joins(&mut laptop, &stage.room).await;
    let said: Vec<_> = (1..=3)
        .flat_map(|it| [format!("down {it}"), format!("up {it}")])
        .collect();
    let heard: Vec<_> = bodies.into_iter().filter(|it| said.contains(it)).collect();
    assert_eq!(heard, said);
    assert_eq!(
        kept.front.tap.count_up("http://jabber.org/protocol/muc'"),
        joins_before
    );
    laptop.say(&stage.room, "here").await.unwrap();
    until(&mut bob, "here").await;
}

async fn b63_without_keys_the_next_session_brings_the_account_back(mut stage: Stage) {
    let mut kept = Kept::start(&mut stage, false, "").await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let mut phone = kept.scram(&alice, "phone").connect().await.unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    bob.say(&stage.room, "before").await.unwrap();
    until(&mut phone, "before").await;
    kept.kill().await;
    bob.say(&stage.room, "meanwhile").await.unwrap();
    until(&mut carol, "meanwhile").await;
    kept.restart().await;
    let mut laptop = kept.scram(&alice, "laptop").connect().await.unwrap();
    let bodies = joins(&mut laptop, &stage.room).await;
    assert_eq!(bodies, ["before", "meanwhile"]);
    bob.say(&stage.room, "after").await.unwrap();
    let seen = until(&mut laptop, "after").await;
    // The account's own presence may come once more, of the way back.
    let mut lines = outline(&seen);
    lines.retain(|line| !line.starts_with("presence alice"));
    assert_eq!(lines, [""; 0]);
}

async fn b57_a_lost_session_gets_what_it_has_missed(mut stage: Stage) {
    let short = "[session]\nresume_timeout = '1s'";
    let kept = Kept::start(&mut stage, true, short).await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let mut phone = Device::connect(kept.plain(&alice, "phone")).await.unwrap();
    let mut laptop = kept.plain(&alice, "laptop").connect().await.unwrap();
    for client in [&mut *phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    mark(&mut carol, &stage.room, [&mut bob, &mut phone, &mut laptop]).await;
    phone.request_ack().await.unwrap();
    bob.say(&stage.room, "received, and not acknowledged")
        .await
        .unwrap();
    phone.answer(Answers::Never);
    until(&mut phone, "received, and not acknowledged").await;
    let uplink = kept.front.uplink(&phone);
    phone.lose(Loss::Reset);
    // More than a late joiner gets by default.
    let missed: Vec<String> = (0..30).map(|it| format!("missed {it}")).collect();
    for body in &missed {
        bob.say(&stage.room, body).await.unwrap();
    }
    until(&mut laptop, "missed 29").await;
    kept.front.released(uplink).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    phone.answer(Answers::Always);
    assert!(!phone.come_back().await.unwrap());
    assert_eq!(joins(&mut phone, &stage.room).await, missed);
    // Who has ended its stream is a stranger.
    phone.end().await.unwrap();
    phone.bind().await.unwrap();
    assert_eq!(joins(&mut phone, &stage.room).await, missed[10..]);
}

/// SIGKILL while messages come: the phone tells how much it has received.
async fn b57_b63_what_a_session_was_served_outlives_the_process(mut stage: Stage) {
    let mut kept = Kept::start(&mut stage, true, "").await;
    let bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = Device::connect(kept.plain(&alice, "phone")).await.unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    let mut talk = Talk::start(bob, &stage.room, "bob");
    let mut last = 0;
    for round in 1..=4 {
        let said = talk.more(7).await;
        until(&mut phone, &format!("bob {said}")).await;
        if round % 2 == 0 {
            phone.answer(Answers::Never);
        }
        let said = talk.more(2).await;
        until(&mut phone, &format!("bob {said}")).await;
        kept.kill().await;
        talk.more(3).await;
        kept.restart().await;
        kept.down("<resumed", round).await;
        phone.answer(Answers::Always);
        assert!(!phone.come_back().await.unwrap());
        let joined = phone.join(&stage.room, "alice").await.unwrap();
        assert_eq!(joined.nicks(), ["bob"]);
        last = talk.more(1).await;
        until(&mut phone, &format!("bob {last}")).await;
    }
    drop(talk.stop().await);
    let heard = phone.bodies_from(&stage.room);
    let first: usize = heard[0].trim_start_matches("bob ").parse().unwrap();
    let all: Vec<String> = (first..=last).map(|it| format!("bob {it}")).collect();
    assert_eq!(heard[..all.len()], all);
}

async fn b64_anchors_are_left_to_be_resumed(mut stage: Stage) {
    let mut kept = Kept::start(&mut stage, true, "").await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let mut phone = kept.plain(&alice, "phone").connect().await.unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    let ended = kept.front.proxy.end(Duration::from_secs(10)).await.unwrap();
    assert!(ended.status.success(), "{}", kept.front.proxy.output());
    bob.say(&stage.room, "down").await.unwrap();
    until(&mut carol, "down").await;
    kept.restart().await;
    kept.down("<resumed", 1).await;
    let [seen] = mark(&mut carol, &stage.room, [&mut bob]).await;
    let lines = outline(&seen);
    assert!(
        !lines.iter().any(|line| line.contains("presence alice")),
        "{lines:?}"
    );
}
