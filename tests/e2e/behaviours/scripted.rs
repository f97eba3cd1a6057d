//! What no real room service does on demand, behind the real servers (behaviours 2, 4, 8, 18, 19
//! and 46).

use std::time::Duration;

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::rooms::{Joining, Leaving, Room};
use mucplex_testkit::tap::Tap;
use mucplex_testkit::xml::Stanza;

use crate::raw::uncounted;
use crate::stage::{Stage, leave, marked, outline, until};

crate::tests![
    b04_the_self_presence_ends_a_list_of_any_length,
    b02_b04_a_late_join_of_a_room_with_5000_costs_the_server_nothing,
    b08_an_assigned_nick_is_every_sessions,
    b18_the_id_comes_back_where_the_room_gives_it_back,
    b19_a_challenge_reaches_who_joins,
    b46_a_leave_is_answered_by_who_is_there,
    b46_a_leave_is_answered_though_the_server_is_gone,
];

const OWN: &str = "presence alice none/participant 110";
const NO_SUBJECT: &str = "subject by (room): ";

/// Two sessions of alice, through the proxy.
async fn both(stage: &Stage) -> (Client, Client) {
    let alice = stage.account("alice").await;
    let phone = stage.session(&alice, "phone").await;
    let laptop = stage.session(&alice, "laptop").await;
    (phone, laptop)
}

async fn b04_the_self_presence_ends_a_list_of_any_length(stage: Stage) {
    let (mut phone, mut laptop) = both(&stage).await;
    for others in [0, 1, 5_000] {
        let room = stage.scripted("crowded").await;
        room.crowd(others);
        let nicks: Vec<String> = (1..=others).map(|number| format!("c{number}")).collect();
        let first = phone.join(room.jid(), "alice").await.unwrap();
        let late = laptop.join(room.jid(), "alice").await.unwrap();
        for joined in [first, late] {
            assert_eq!(joined.nicks(), nicks);
            assert_eq!(joined.all.len(), others + 2);
            let end = &joined.all[others..];
            assert_eq!(outline(end), [OWN, NO_SUBJECT]);
        }
        let listeners = [&mut phone, &mut laptop];
        for seen in marked(&room, "alice", listeners).await {
            assert_eq!(outline(&seen), [""; 0]);
        }
        assert_eq!(room.received().len(), 1);
    }
}

/// Bytes in both directions, on all connections.
fn bytes(tap: &Tap) -> usize {
    let recordings = tap.recordings();
    let sizes = recordings
        .iter()
        .map(|it| uncounted(&it.up).len() + uncounted(&it.down).len());
    sizes.sum()
}

async fn b02_b04_a_late_join_of_a_room_with_5000_costs_the_server_nothing(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let room = stage.scripted("large").await;
    room.crowd(5_000);
    let first = phone.join(room.jid(), "alice").await.unwrap();
    // Some have come, gone and changed since, and the late joiner finds them as they are.
    room.arrive("dave");
    room.rename("c7", "seven");
    room.remove("c8", &[]);
    room.show("c9", "<show>away</show>");
    room.say("c9", "hello");
    until(&mut phone, "hello").await;
    laptop.drain_until_pong().await.unwrap();
    marked(&room, "alice", [&mut phone]).await;
    let before = bytes(&front.tap);

    let late = laptop.join(room.jid(), "alice").await.unwrap();

    assert_eq!(bytes(&front.tap), before);
    let mut expected = outline(&first.all[..5_000]);
    expected.retain(|line| {
        !["c7", "c8"]
            .iter()
            .any(|nick| line.contains(&format!(" {nick} ")))
    });
    let c9 = expected
        .iter()
        .position(|line| line.contains(" c9 "))
        .unwrap();
    expected[c9] += " away";
    let others = ["dave", "seven"].map(|nick| format!("presence {nick} none/participant"));
    expected.extend(others);
    expected.extend([OWN, "c9, earlier: hello", NO_SUBJECT].map(str::to_owned));
    assert_eq!(outline(&late.all), expected);
    assert!(late.all.iter().all(|it| it.to() == Some(laptop.jid())));
    // Nor does it later: the mark alone comes, to the carrier alone.
    for seen in marked(&room, "alice", [&mut phone, &mut laptop]).await {
        assert_eq!(outline(&seen), [""; 0]);
    }
    assert_eq!(room.received().len(), 1);
}

async fn b08_an_assigned_nick_is_every_sessions(stage: Stage) {
    let (mut phone, mut laptop) = both(&stage).await;
    let room = stage.scripted("assigned").await;
    room.crowd(1);
    room.rules(|rules| rules.joining = Joining::Assign("guest7".into()));
    let own = "presence guest7 none/participant 110 210";

    let first = phone.join(room.jid(), "alice").await.unwrap();
    assert_eq!(outline([&first.self_presence]), [own]);
    for asked in ["alice", "guest7"] {
        let late = laptop.join(room.jid(), asked).await.unwrap();
        assert_eq!(late.nicks(), ["c1"]);
        assert_eq!(outline([&late.self_presence]), [own], "asked for {asked}");
    }
    assert_eq!(room.joins(), 1);

    // It is the nick of what each says, by which the others reach each, and under which each leaves.
    for _ in 0..2 {
        let body = format!("said by {}", phone.jid());
        phone.say(room.jid(), &body).await.unwrap();
        for client in [&mut phone, &mut laptop] {
            let heard = client.hear(&body).await.unwrap();
            assert_eq!(heard.from(), Some(&*room.occupant("guest7")));
        }
        std::mem::swap(&mut phone, &mut laptop);
    }
    room.whisper("c1", "guest7", "psst");
    for seen in marked(&room, "guest7", [&mut phone, &mut laptop]).await {
        assert_eq!(outline(&seen), ["(chat) c1: psst"]);
    }
    let left = leave(&mut laptop, room.jid(), "guest7").await;
    assert_eq!(
        outline(&left),
        ["presence guest7 unavailable none/none 110"]
    );
    leave(&mut phone, room.jid(), "guest7").await;
    room.wait_for("the leave", |it| it.kind() == Some("unavailable"))
        .await;
    assert_eq!(room.nicks(), ["c1"]);
}

async fn b18_the_id_comes_back_where_the_room_gives_it_back(stage: Stage) {
    let (mut phone, mut laptop) = both(&stage).await;
    for reflects in [true, false] {
        let room = stage.scripted("ids").await;
        room.rules(|rules| {
            rules.reflects_ids = reflects;
            rules.joining = Joining::Refuse("forbidden");
        });
        let id = phone
            .send_join(room.jid(), "alice", &Join::default())
            .await
            .unwrap();
        let refused = phone.collect_join(room.jid(), &id).await.unwrap_err();
        let ClientError::Refused(error) = refused else {
            panic!("{refused}")
        };
        assert_eq!(error.id(), Some(&*id));

        // As the first, as a late joiner, and once more for a resync.
        room.rules(|rules| rules.joining = Joining::Admit);
        for _ in 0..3 {
            let joined = phone.join(room.jid(), "alice").await.unwrap();
            let expected = reflects.then_some(&*joined.id);
            assert_eq!(joined.self_presence.id(), expected);
            std::mem::swap(&mut phone, &mut laptop);
        }
    }
}

const FORM: &str = "<captcha xmlns='urn:xmpp:captcha'><x xmlns='jabber:x:data' type='submit'>\
                    <field var='qa'><value>14</value></field></x></captcha>";

/// Sends the answer of a challenge, as an IQ or as a message.
async fn answer(client: &mut Client, room: &Room, kind: &str) -> String {
    if kind == "iq" {
        return client.send_iq("set", Some(room.jid()), FORM).await.unwrap();
    }
    let id = client.new_id("answer");
    let message = format!("<message id='{id}' to='{}'>{FORM}</message>", room.jid());
    client.send_raw(message).await.unwrap();
    id
}

/// Both are in another room, which one of them carries, so the proxy could mix them up.
async fn b19_a_challenge_reaches_who_joins(stage: Stage) {
    let (mut phone, mut laptop) = both(&stage).await;
    let lounge = stage.scripted("lounge").await;
    for client in [&mut phone, &mut laptop] {
        client.join(lounge.jid(), "alice").await.unwrap();
    }
    for kind in ["iq", "iq", "message", "message"] {
        let room = stage.scripted("challenge").await;
        room.rules(|rules| rules.joining = Joining::Challenge("who".into()));
        let id = phone
            .send_join(room.jid(), "alice", &Join::default())
            .await
            .unwrap();
        let challenge = phone.recv_for("the challenge").await.unwrap();
        assert_eq!(challenge.from(), Some(room.jid()));
        assert_eq!(challenge.to(), Some(phone.jid()));
        assert!(
            challenge.has_child("captcha", "urn:xmpp:captcha"),
            "{challenge:?}"
        );

        let answered = answer(&mut phone, &room, kind).await;
        if kind == "iq" {
            let result = phone.recv_for("the result").await.unwrap();
            assert_eq!(
                (result.kind(), result.id()),
                (Some("result"), Some(&*answered))
            );
        }
        let joined = phone.collect_join(room.jid(), &id).await.unwrap();
        assert_eq!(outline(&joined.all), [OWN, NO_SUBJECT]);
        let at_room = room
            .wait_for("the answer", |it| it.id() == Some(&answered))
            .await;
        assert_eq!(at_room.from(), Some(phone.jid()));
        for seen in marked(&lounge, "alice", [&mut laptop, &mut phone]).await {
            assert_eq!(outline(&seen), [""; 0], "for {}", phone.jid());
        }
        // The other one is in without a challenge: the account is.
        let late = laptop.join(room.jid(), "alice").await.unwrap();
        assert_eq!(outline(&late.all), [OWN, NO_SUBJECT]);
        std::mem::swap(&mut phone, &mut laptop);
    }
}

/// The room never confirms: each is answered at once, and who comes back is in again, when the
/// proxy has given up waiting for the room.
async fn b46_a_leave_is_answered_by_who_is_there(stage: Stage) {
    let (mut phone, mut laptop) = both(&stage).await;
    let room = stage.scripted("deaf").await;
    room.rules(|rules| rules.leaving = Leaving::Ignore);
    for client in [&mut phone, &mut laptop] {
        client.join(room.jid(), "alice").await.unwrap();
    }
    for client in [&mut phone, &mut laptop] {
        let left = leave(client, room.jid(), "alice").await;
        assert_eq!(outline(&left), ["presence alice unavailable none/none 110"]);
    }
    let unavailable = |it: &Stanza| it.kind() == Some("unavailable");
    room.wait_for("the leave", unavailable).await;
    assert_eq!(room.count(unavailable), 1);
    // What the room tells one that is no longer there is not for who has left.
    room.say("c1", "anybody?");
    assert_eq!(outline(&laptop.drain_until_pong().await.unwrap()), [""; 0]);

    phone.set_timeout(Duration::from_secs(30));
    let joined = phone.join(room.jid(), "alice").await.unwrap();
    assert_eq!(outline([&joined.self_presence]), [OWN]);
    assert_eq!(
        (room.joins(), joined.bodies()),
        (2, vec!["anybody?".to_owned()])
    );
    assert_eq!(outline(&phone.settle(room.jid()).await.unwrap()), [""; 0]);
}

/// Nothing comes from the server any more, on the connection that carries the room.
async fn b46_a_leave_is_answered_though_the_server_is_gone(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let room = stage.scripted("gone").await;
    phone.join(room.jid(), "alice").await.unwrap();
    front.tap.black_hole(front.uplink(&phone));
    let left = leave(&mut phone, room.jid(), "alice").await;
    assert_eq!(outline(&left), ["presence alice unavailable none/none 110"]);
}
