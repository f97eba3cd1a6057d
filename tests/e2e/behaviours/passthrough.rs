//! Rooms that pass as they are (behaviour 68).

use mucplex_testkit::client::Client;
use mucplex_testkit::xml::Stanza;

use crate::stage::{Front, Stage, mark, nick, outline, until};

crate::tests![b68_a_room_in_passthrough_is_as_without_the_proxy];

/// The second glob is for the rooms of this test.
const GLOB: &str = "[rooms]\npassthrough = ['elsewhere@*', 'b68-a-room-*@rooms.example.test']\n";

/// Two sessions of an account are in the room, talk, and leave; gives what each of them and bob
/// gets, as lines without names of their own.
async fn visit(bob: &mut Client, sessions: [&mut Client; 2], room: &str) -> Vec<String> {
    let [phone, laptop] = sessions;
    let mut lines = Vec::new();
    let mut note = |who: &str, seen: &[Stanza]| {
        lines.extend(
            outline(seen)
                .into_iter()
                .map(|line| format!("{who}: {line}")),
        );
    };
    for session in [&mut *phone, &mut *laptop] {
        let joined = session.join(room, "alice").await.unwrap();
        note("joins", &joined.all);
        session.settle(room).await.unwrap();
    }
    let [on_bob, on_phone, on_laptop] = mark_all(bob, room, [&mut *phone, &mut *laptop]).await;
    note("bob", &on_bob);
    note("phone", &on_phone);
    note("laptop", &on_laptop);
    phone.say(room, "hi").await.unwrap();
    for (who, client) in [
        ("phone", &mut *phone),
        ("laptop", &mut *laptop),
        ("bob", &mut *bob),
    ] {
        let seen = until(client, "hi").await;
        note(who, &seen);
    }
    for session in [&mut *phone, &mut *laptop] {
        session.leave(room, "alice", Some("bye")).await.unwrap();
        let seen = session.settle(room).await.unwrap();
        note("leaves", &seen);
    }
    let on_bob = bob.settle(room).await.unwrap();
    note("bob", &on_bob);
    lines
}

/// What bob and two others get up to bob's mark.
async fn mark_all(bob: &mut Client, room: &str, others: [&mut Client; 2]) -> [Vec<Stanza>; 3] {
    let on_bob = bob.settle(room).await.unwrap();
    let [first, second] = mark(bob, room, others).await;
    [on_bob, first, second]
}

/// Every stanza the session has got is there in what the server has sent on its uplink.
fn arrived_as_sent(front: &Front, session: &Client, room: &str) {
    let uplink = front.uplink(session);
    let recordings = front.tap.recordings();
    let down = &recordings[uplink];
    let received = session.received_raw();
    let text = String::from_utf8_lossy(received);
    let stanzas = text.split_inclusive('>').collect::<Vec<_>>();
    let heads = stanzas
        .iter()
        .filter(|tag| tag.contains(&format!("from='{room}")));
    let mut found = 0;
    for head in heads {
        assert!(down.count_down(head) > 0, "{head}");
        found += 1;
    }
    assert!(found > 5, "{text}");
}

async fn b68_a_room_in_passthrough_is_as_without_the_proxy(stage: Stage) {
    let front = stage.own_front(GLOB).await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    let alice = stage.account("alice").await;
    let mut views = Vec::new();
    for through_proxy in [false, true] {
        let room = &stage.server.new_room("b68-a-room");
        bob.create_room(room, "bob").await.unwrap();
        let mut sessions = Vec::new();
        for resource in ["phone", "laptop"] {
            sessions.push(match through_proxy {
                true => front.session(&alice, resource).await,
                false => stage.outsider(&alice, resource).await,
            });
        }
        let [phone, laptop] = &mut sessions[..] else {
            unreachable!()
        };
        views.push(visit(&mut bob, [&mut *phone, &mut *laptop], room).await);
        if through_proxy {
            // Each session has joined and left by itself.
            assert_eq!(front.tap.count_up(&format!("to='{room}/alice'><x ")), 2);
            assert_eq!(front.tap.count_up("<status>bye</status>"), 2);
            arrived_as_sent(&front, phone, room);
            arrived_as_sent(&front, laptop, room);
            beside(&stage, &front, &mut bob, [phone, laptop]).await;
        }
        for session in sessions {
            session.close().await.unwrap();
        }
    }
    assert_eq!(views[0], views[1]);
}

/// Another room is multiplexed as ever.
async fn beside(stage: &Stage, front: &Front, bob: &mut Client, sessions: [&mut Client; 2]) {
    let room = stage.server.new_room("beside");
    bob.create_room(&room, "bob").await.unwrap();
    let [phone, laptop] = sessions;
    phone.join(&room, "alice").await.unwrap();
    laptop.join(&room, "alice").await.unwrap();
    mark(bob, &room, [&mut *phone, &mut *laptop]).await;
    assert_eq!(front.tap.count_up(&format!("to='{room}/alice'")), 1);
    laptop.say(&room, "hello").await.unwrap();
    for session in [phone, laptop] {
        let seen = until(session, "hello").await;
        assert!(
            seen.iter().all(|stanza| nick(stanza) != "alice"),
            "{seen:?}"
        );
    }
}
