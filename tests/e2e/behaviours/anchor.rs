//! Anchors: each way to get one, and what the room sees of it (behaviours 43, 59, 60).

use std::time::Duration;

use mucplex_testkit::client::{Client, Device, Login, Loss, Mechanism};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::Stanza;

use crate::stage::{Front, Stage, mark, outline, through, until};

crate::tests![
    b59_a_login_with_plain_is_replayed_for_an_anchor,
    b59_a_client_that_resumes_brings_a_spare_uplink,
    b59_the_uplink_of_the_last_session_is_retained,
    b59_a_session_asks_for_the_resource_of_the_anchor,
    b60_an_anchor_that_is_cut_is_resumed_unseen,
    b60_an_anchor_that_is_forgotten_is_made_anew,
];

/// A proxy with anchors on a server that keeps SCRAM keys: where it keeps passwords, each login
/// has a salt of its own, and keys serve once.
async fn front(stage: &mut Stage) -> Front {
    *stage = stage.hashed().await;
    Front::with_anchors(stage.server, "").await
}

fn scram(front: &Front, account: &Account, resource: &str) -> Login {
    let login = front.login(account).mechanism(Mechanism::ScramSha1);
    login.resource(resource)
}

/// The number of the tap's connection on which the anchor is, once it is bound.
async fn anchor(front: &Front) -> usize {
    let is_anchor = |down: &[u8]| String::from_utf8_lossy(down).contains("/mucplex-");
    let bound = front
        .tap
        .wait_until(|all| all.iter().any(|it| is_anchor(&it.down)))
        .await;
    assert!(bound, "no anchor was bound");
    let all = front.tap.recordings();
    all.iter().rposition(|it| is_anchor(&it.down)).unwrap()
}

/// Joins, and gets what was said last: as history, or live if it has not reached the proxy yet.
async fn joins_and_hears(client: &mut Client, room: &str, body: &str) {
    let joined = client.join(room, "alice").await.unwrap();
    if joined.bodies().last().map(String::as_str) != Some(body) {
        until(client, body).await;
    }
}

async fn b59_a_login_with_plain_is_replayed_for_an_anchor(mut stage: Stage) {
    let front = front(&mut stage).await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    let anchor = anchor(&front).await;
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    // One join, and it is the anchor's.
    let joins = front.tap.count_up("http://jabber.org/protocol/muc'");
    assert_eq!(
        (
            joins,
            front.tap.recordings()[anchor].count_up("http://jabber.org/protocol/muc'")
        ),
        (1, 1)
    );
    // The first loss already is unseen, and nobody is needed for the account to stay.
    let uplink = front.uplink(&phone);
    phone.reset_connection().unwrap();
    front.released(uplink).await;
    let [seen] = mark(&mut carol, &stage.room, [&mut bob]).await;
    assert_eq!(outline(&seen), [""; 0]);
    // Who comes back is served by the proxy, with what was said meanwhile.
    bob.say(&stage.room, "while you were out").await.unwrap();
    until(&mut carol, "while you were out").await;
    let mut laptop = front.session(&alice, "laptop").await;
    joins_and_hears(&mut laptop, &stage.room, "while you were out").await;
    assert_eq!(front.tap.count_up("http://jabber.org/protocol/muc'"), 1);
    laptop.say(&stage.room, "here I am").await.unwrap();
    until(&mut bob, "here I am").await;
    // Behaviour 42: an explicit leave of the last session is one of the account.
    laptop.leave(&stage.room, "alice", None).await.unwrap();
    let gone = |it: &Stanza| it.kind() == Some("unavailable");
    let seen = through(&mut bob, "alice's leave", gone).await;
    assert_eq!(
        outline(&seen[seen.len() - 1..]),
        ["presence alice unavailable none/none"]
    );
}

async fn b59_a_client_that_resumes_brings_a_spare_uplink(mut stage: Stage) {
    let front = front(&mut stage).await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let mut phone = Device::connect(scram(&front, &alice, "phone"))
        .await
        .unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    assert_eq!(front.tap.count_down("/mucplex-"), 0);

    phone.lose(Loss::Reset);
    bob.say(&stage.room, "one").await.unwrap();
    until(&mut carol, "one").await;
    assert!(phone.come_back().await.unwrap());
    until(&mut phone, "one").await;
    let anchor = anchor(&front).await;
    // The rooms go to it.
    let carries = front
        .tap
        .wait_until(|all| all[anchor].count_up("http://jabber.org/protocol/muc'") > 0)
        .await;
    assert!(carries, "the anchor does not join");
    let seen = mark(&mut carol, &stage.room, [&mut bob]).await;
    assert!(
        !outline(&seen[0])
            .iter()
            .any(|line| line.contains("unavailable")),
        "{seen:?}"
    );

    // From now on a loss is unseen, and one for good, too.
    for round in 0..2 {
        phone.lose(Loss::Fin);
        let said = format!("away {round}");
        bob.say(&stage.room, &said).await.unwrap();
        until(&mut carol, &said).await;
        assert!(phone.come_back().await.unwrap());
        until(&mut phone, &said).await;
    }
    let uplink = front.uplink(&phone);
    phone.end().await.unwrap();
    front.released(uplink).await;
    let [seen] = mark(&mut carol, &stage.room, [&mut bob]).await;
    let lines = outline(&seen);
    assert!(
        !lines.iter().any(|line| line.contains("unavailable")),
        "{lines:?}"
    );
}

async fn b59_the_uplink_of_the_last_session_is_retained(mut stage: Stage) {
    let front = front(&mut stage).await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let mut phone = scram(&front, &alice, "phone").connect().await.unwrap();
    phone.send_raw("<presence/>").await.unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    phone.reset_connection().unwrap();
    // The one case in which the room sees it.
    let back = |it: &Stanza| it.kind().is_none() && it.raw_str().contains("/alice'");
    let seen = through(&mut bob, "alice's return", back).await;
    assert_eq!(
        outline(&seen),
        [
            "presence alice unavailable none/none",
            "presence alice none/participant xa"
        ]
    );
    bob.say(&stage.room, "nobody is there").await.unwrap();
    until(&mut carol, "nobody is there").await;
    // Whoever comes is served by it; and goes without being seen.
    let mut laptop = scram(&front, &alice, "laptop").connect().await.unwrap();
    joins_and_hears(&mut laptop, &stage.room, "nobody is there").await;
    let uplink = front.uplink(&laptop);
    laptop.reset_connection().unwrap();
    front.released(uplink).await;
    let [seen] = mark(&mut carol, &stage.room, [&mut bob]).await;
    let lines = outline(&seen);
    assert!(
        !lines.iter().any(|line| line.contains("unavailable")),
        "{lines:?}"
    );
}

/// Alice's phone in the room by way of an anchor, which is this connection of the tap.
async fn anchored(stage: &Stage, front: &Front, alice: &Account) -> (Client, usize) {
    let mut phone = front.session(alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    (phone, anchor(front).await)
}

async fn b60_an_anchor_that_is_cut_is_resumed_unseen(mut stage: Stage) {
    let front = front(&mut stage).await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let (mut phone, anchor) = anchored(&stage, &front, &alice).await;
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    for round in 0..3 {
        let resumptions = front.tap.count_down("<resumed");
        for connection in anchor..front.tap.recordings().len() {
            front.tap.reset(connection);
        }
        let said = format!("cut {round}");
        bob.say(&stage.room, &said).await.unwrap();
        until(&mut carol, &said).await;
        let seen = until(&mut phone, &said).await;
        assert_eq!(outline(&seen), [""; 0]);
        assert!(front.tap.count_down("<resumed") > resumptions);
    }
    phone.say(&stage.room, "still here").await.unwrap();
    let seen = until(&mut bob, "still here").await;
    assert!(
        !outline(&seen)
            .iter()
            .any(|line| line.starts_with("presence alice")),
        "{seen:?}"
    );
}

/// The server forgets the stream while the proxy cannot reach it.
async fn b60_an_anchor_that_is_forgotten_is_made_anew(mut stage: Stage) {
    let front = front(&mut stage).await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let (mut phone, anchor) = anchored(&stage, &front, &alice).await;
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    // Somebody takes its resource: the server ends the stream.
    let down = String::from_utf8_lossy(&front.tap.recordings()[anchor].down).into_owned();
    let resource = down.split("/mucplex-").nth(1).unwrap();
    let resource = format!("mucplex-{}", &resource[..16]);
    let thief = alice.direct().resource(&resource).connect().await.unwrap();
    bob.say(&stage.room, "who was that").await.unwrap();
    let seen = until(&mut phone, "who was that").await;
    assert_eq!(outline(&seen), [""; 0]);
    phone.say(&stage.room, "not me").await.unwrap();
    until(&mut bob, "not me").await;
    drop(thief);
    tokio::time::timeout(Duration::from_secs(10), until(&mut phone, "not me"))
        .await
        .unwrap();
}

/// Whoever comes back under the resource that the anchor has gets that uplink, and brings the next
/// anchor.
async fn b59_a_session_asks_for_the_resource_of_the_anchor(mut stage: Stage) {
    let front = front(&mut stage).await;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let alice = stage.account("alice").await;
    let login = scram(&front, &alice, "phone");
    let mut phone = login.clone().connect().await.unwrap();
    phone.send_raw("<presence/>").await.unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    let jid = phone.jid().to_owned();
    phone.reset_connection().unwrap();
    let back = |it: &Stanza| it.kind().is_none() && it.raw_str().contains("/alice'");
    through(&mut bob, "alice's first presence", back).await;
    through(&mut bob, "alice's return", back).await;
    for round in 0..2 {
        let mut phone = login.clone().connect().await.unwrap();
        assert_eq!(phone.jid(), jid);
        bob.say(&stage.room, &format!("meanwhile {round}"))
            .await
            .unwrap();
        until(&mut carol, &format!("meanwhile {round}")).await;
        joins_and_hears(&mut phone, &stage.room, &format!("meanwhile {round}")).await;
        let said = format!("it is me {round}");
        phone.say(&stage.room, &said).await.unwrap();
        until(&mut bob, &said).await;
        assert!(phone.drain_until_pong().await.is_ok());
        let uplink = front.uplink(&phone);
        phone.reset_connection().unwrap();
        if round == 1 {
            front.released(uplink).await;
        }
    }
    let [seen] = mark(&mut carol, &stage.room, [&mut bob]).await;
    let lines = outline(&seen);
    assert!(
        !lines.iter().any(|line| line.contains("unavailable")),
        "{lines:?}"
    );
}
