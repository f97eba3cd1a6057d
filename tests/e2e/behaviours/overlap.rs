//! What happens at the same time as a hand-over (behaviours 5, 43, 47 and 59).

use mucplex_testkit::client::Client;
use mucplex_testkit::xml::{Incoming, NS_STREAM, Stanza};

use super::handover::{Listener, assert_no_leave, audience};
use crate::stage::{Ending, Stage, bodies, leave, mark, outline, through, until};

crate::tests![
    b43_the_last_words_of_a_session_are_said,
    b43_b59_all_rooms_of_a_carrier_are_handed_over,
    b05_b59_a_session_joins_during_a_hand_over,
    b47_b59_the_account_is_kicked_during_a_hand_over,
    b59_the_carrier_comes_back_under_its_own_name,
    b59_the_only_session_comes_back_under_its_own_name,
];

/// What a client has said before its end is said, though nobody waits for the reflection.
async fn b43_the_last_words_of_a_session_are_said(stage: Stage) {
    const WORDS: usize = 10;
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let room = &stage.room;
    let mut laptop = front.session(&alice, "first").await;
    laptop.join(room, "alice").await.unwrap();
    for (round, carrier_ends) in [false, true, false, true, true].into_iter().enumerate() {
        let mut next = front.session(&alice, &format!("session-{round}")).await;
        next.join(room, "alice").await.unwrap();
        let (mut ending, mut staying) = if carrier_ends {
            (laptop, next)
        } else {
            (next, laptop)
        };
        mark(&mut staying, room, [&mut bob, &mut ending]).await;
        let body = |number| format!("{round}: last words {number}");
        let words: String = (0..WORDS)
            .map(|number| {
                let body = body(number);
                format!("<message type='groupchat' to='{room}'><body>{body}</body></message>")
            })
            .collect();
        let uplink = front.uplink(&ending);
        let unavailable = round % 2 == 0;
        if unavailable {
            let last = "<presence type='unavailable'/></stream:stream>";
            ending.send_raw(words + last).await.unwrap();
        } else {
            ending.send_raw(words + "</stream:stream>").await.unwrap();
        }
        front.released(uplink).await;
        staying.say(room, "after them").await.unwrap();
        let expected: Vec<String> = (0..WORDS).map(body).collect();
        let on_staying = until(&mut staying, "after them").await;
        assert_eq!(bodies(&on_staying), expected, "round {round}");
        let on_bob = until(&mut bob, "after them").await;
        assert_no_leave(&on_bob);
        assert_eq!(bodies(&on_bob), expected, "round {round}");
        laptop = staying;
    }
}

async fn b43_b59_all_rooms_of_a_carrier_are_handed_over(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    let alice = stage.account("alice").await;
    for ending in Ending::ALL {
        let mut phone = front.session(&alice, "phone").await;
        let mut laptop = front.session(&alice, "laptop").await;
        // All on the phone's uplink but the last, which the laptop is not in.
        let mut rooms = Vec::new();
        for _ in 0..5 {
            let room = stage.server.new_room("one-of-five");
            bob.create_room(&room, "bob").await.unwrap();
            phone.join(&room, "alice").await.unwrap();
            rooms.push(room);
        }
        for room in &rooms[..4] {
            laptop.join(room, "alice").await.unwrap();
            mark(&mut laptop, room, [&mut phone, &mut bob]).await;
        }
        mark(&mut phone, &rooms[4], [&mut bob]).await;

        let rest = ending.end(&front, phone).await;

        for room in &rooms[..4] {
            laptop.say(room, "still here").await.unwrap();
            let on_laptop = until(&mut laptop, "still here").await;
            assert!(on_laptop.is_empty(), "{ending:?}: {on_laptop:?}");
            assert_no_leave(&until(&mut bob, "still here").await);
        }
        bob.say(&rooms[4], "anybody?").await.unwrap();
        assert_no_leave(&until(&mut bob, "anybody?").await);
        let joined = laptop.join(&rooms[4], "alice").await.unwrap();
        let [after] = mark(&mut bob, &rooms[4], [&mut laptop]).await;
        let heard = [joined.bodies(), bodies(&after)].concat();
        assert_eq!(heard, ["anybody?"], "{ending:?}");
        laptop.close().await.unwrap();
        drop(rest);
    }
}

async fn b05_b59_a_session_joins_during_a_hand_over(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let (mut talk, mut listeners) = audience(&stage, &front, &alice).await;
    for round in 0..12 {
        let case = format!("round {round}");
        let connected = front.session(&alice, &format!("session-{round}")).await;
        let said = talk.more(2).await;
        let mut carrier = listeners.pop_front().unwrap();
        carrier.complete(said, &case).await;
        let uplink = front.uplink(&carrier.client);
        let (carrier, reset) = (carrier.client, round % 2 == 0);
        let join = Listener::enter(connected, &stage.room);
        let end = async {
            match round % 3 {
                0 => front.tap.cut(uplink),
                _ if reset => carrier.reset_connection().unwrap(),
                _ => carrier.drop_connection().await.unwrap(),
            }
        };
        let (joined, ()) = tokio::join!(join, end);
        listeners.push_back(joined);
        front.released(uplink).await;
        let said = talk.more(3).await;
        for listener in &mut listeners {
            listener.complete(said, &case).await;
        }
    }
    talk.stop().await;
}

/// Whoever is first: each session is told once that it is out, and nobody goes back.
async fn b47_b59_the_account_is_kicked_during_a_hand_over(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    let alice = stage.account("alice").await;
    let query = "<query xmlns='http://jabber.org/protocol/muc#admin'>\
                 <item nick='alice' role='none'/></query>";
    let mut laptop = front.session(&alice, "laptop").await;
    let mut tablet = front.session(&alice, "tablet").await;
    for round in 0..12 {
        let mut phone = front.session(&alice, &format!("phone-{round}")).await;
        for client in [&mut phone, &mut laptop, &mut tablet] {
            client.join(room, "alice").await.unwrap();
        }
        mark(&mut phone, room, [&mut bob, &mut laptop, &mut tablet]).await;
        let uplink = front.uplink(&phone);
        // Sooner or later by some words to the server.
        for _ in 0..round % 4 {
            laptop.send_raw("<presence/>").await.unwrap();
        }
        let (kick, ended) = if round % 2 == 0 {
            phone.reset_connection().unwrap();
            (bob.send_iq("set", Some(room), query).await, None)
        } else {
            let kick = bob.send_iq("set", Some(room), query).await;
            (kick, Some(phone.reset_connection()))
        };
        let kick = kick.unwrap();
        ended.transpose().unwrap();
        through(&mut bob, "the answer", |it| it.id() == Some(&kick)).await;
        front.released(uplink).await;
        for client in [&mut laptop, &mut tablet] {
            let out = |it: &Stanza| it.kind() == Some("unavailable") && it.item().is_some();
            let mut seen = through(client, "the kick", out).await;
            seen.extend(client.drain_until_pong().await.unwrap());
            seen.retain(|it| it.item().is_some());
            let expected = ["presence alice unavailable none/none 110 307"];
            assert_eq!(outline(&seen), expected, "round {round}");
        }
        bob.settle(room).await.unwrap();
        let mut carol = stage.outsider(&stage.account("carol").await, "desk").await;
        let joined = carol.join(room, "carol").await.unwrap();
        assert_eq!(joined.nicks().last(), Some(&"bob"), "round {round}");
        assert!(!joined.nicks().contains(&"alice"), "round {round}");
        carol.close().await.unwrap();
        bob.wait_for("carol's end", |it| it.kind() == Some("unavailable"))
            .await
            .unwrap();
    }
}

/// A client that has lost its connection, and comes back before anybody has noticed: the server
/// ends the older stream of that name, and the room is on it.
async fn b59_the_carrier_comes_back_under_its_own_name(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let (mut talk, mut listeners) = audience(&stage, &front, &alice).await;
    let mut keep = Vec::new();
    for round in 0..6 {
        let case = format!("round {round}");
        let said = talk.more(3).await;
        let mut carrier = listeners.pop_front().unwrap();
        carrier.complete(said, &case).await;
        let resource = carrier.client.resource().to_owned();
        let again = front.session(&alice, &resource).await;
        assert_eq!(again.jid(), carrier.client.jid());
        replaced(&mut carrier.client).await;
        keep.push(carrier.client);
        let mut again = Listener::enter_again(again, &stage.room).await;
        let said = talk.more(3).await;
        for listener in listeners.iter_mut().chain([&mut again]) {
            listener.complete(said, &case).await;
        }
        listeners.push_back(again);
    }
    talk.stop().await;
}

/// The same without any other session in the room. ejabberd may handle the older stream's leave
/// after the join of the new one, which has the same name, and is out then: the account has not
/// asked for that.
async fn b59_the_only_session_comes_back_under_its_own_name(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    bob.say(&stage.room, "bob 0").await.unwrap();
    until(&mut bob, "bob 0").await;
    let alice = stage.account("alice").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    for round in 0..8 {
        let again = front.session(&alice, "phone").await;
        let older = std::mem::replace(&mut phone, again);
        let mut again = Listener::enter_again(phone, &stage.room).await;
        drop(older);
        // The proxy knows that the account is there.
        let joined = laptop.join(&stage.room, "alice").await.unwrap();
        assert_eq!(joined.nicks(), ["bob"], "round {round}");
        assert_eq!(front.tap.count_up(&joined.id), 0, "round {round}");
        // The account may be out of the room for a moment, by the server's own doing: what the room
        // keeps reaches the sessions all the same.
        let body = format!("bob {}", round + 1);
        bob.say(&stage.room, &body).await.unwrap();
        until(&mut bob, &body).await;
        for listener in [&mut again.client, &mut laptop] {
            let seen = until(listener, &body).await;
            assert!(seen.is_empty(), "round {round}: {seen:?}");
        }
        leave(&mut laptop, &stage.room, "alice").await;
        phone = again.client;
    }
}

async fn replaced(client: &mut Client) {
    loop {
        match client.next("a stream error").await.unwrap() {
            Incoming::Stanza(stanza) if stanza.is("error", NS_STREAM) => {
                assert!(
                    stanza.children().any(|child| child.name() == "conflict"),
                    "{stanza:?}"
                );
                return;
            }
            Incoming::Stanza(_) => {}
            other => panic!("{other:?} instead of a stream error"),
        }
    }
}
