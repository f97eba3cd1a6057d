//! Sessions that leave, end or are lost, and what the room sees of it (behaviours 41 to 44).

use std::time::{Duration, Instant};

use mucplex_testkit::Element;
use mucplex_testkit::client::{Client, Join};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::Stanza;

use crate::stage::{Ending, Front, Stage, bodies, mark, outline, through, until};

crate::tests![
    b41_one_of_two_leaves,
    b42_the_last_one_leaves,
    b42_a_session_joins_while_the_account_is_leaving,
    b43_a_session_ends_while_another_is_in_the_room,
    b43_a_session_ends_while_another_is_connected,
    b44_without_a_time_to_stay_the_account_leaves_at_once,
    b44_the_account_leaves_when_its_time_to_stay_is_over,
];

/// The session's answer to its leave: alone, its own, with its words.
fn assert_farewell(seen: &[Stanza], client: &Client, status: &str) {
    assert_eq!(outline(seen), ["presence alice unavailable none/none 110"]);
    assert_eq!(seen[0].to(), Some(client.jid()));
    let text = seen[0]
        .get_child("status", "jabber:client")
        .map(Element::text);
    assert_eq!(text.as_deref(), Some(status));
}

async fn say_farewell(client: &mut Client, room: &str, status: &str) {
    client.leave(room, "alice", Some(status)).await.unwrap();
    let answer = |it: &Stanza| it.has_status(110) && it.kind() == Some("unavailable");
    let seen = through(client, "the answer to the leave", answer).await;
    assert_farewell(&seen, client, status);
}

async fn b41_one_of_two_leaves(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let room = &stage.room;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    phone.join(room, "alice").await.unwrap();
    laptop.join(room, "alice").await.unwrap();
    mark(&mut phone, room, [&mut bob, &mut laptop]).await;

    // One that is not the carrier, then the carrier; each comes back.
    let (mut leaving, mut staying) = (laptop, phone);
    for round in 0..4 {
        say_farewell(&mut leaving, room, "bye &lt;").await;
        let [on_bob] = mark(&mut staying, room, [&mut bob]).await;
        assert_eq!(outline(&on_bob), [""; 0], "round {round}");
        assert_eq!(front.tap.count_up("unavailable"), 0, "round {round}");
        bob.say(room, "without you").await.unwrap();
        let on_staying = until(&mut staying, "without you").await;
        assert_eq!(outline(&on_staying), [""; 0], "round {round}");
        staying.say(room, "yes").await.unwrap();
        staying.hear("yes").await.unwrap();
        bob.hear("yes").await.unwrap();
        let on_leaving = leaving.drain_until_pong().await.unwrap();
        assert_eq!(outline(&on_leaving), [""; 0], "round {round}");
        leaving.join(room, "alice").await.unwrap();
        (leaving, staying) = (staying, leaving);
    }
}

async fn b42_the_last_one_leaves(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let room = &stage.room;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    // The carrier goes last, and then the carrier goes first.
    for phone_is_last in [true, false] {
        phone.join(room, "alice").await.unwrap();
        laptop.join(room, "alice").await.unwrap();
        mark(&mut phone, room, [&mut bob, &mut laptop]).await;
        let (first, last) = if phone_is_last {
            (&mut laptop, &mut phone)
        } else {
            (&mut phone, &mut laptop)
        };
        say_farewell(first, room, "first").await;
        say_farewell(last, room, "gone home").await;
        let gone = |it: &Stanza| it.kind() == Some("unavailable");
        let seen = through(&mut bob, "alice's leave", gone).await;
        assert_eq!(outline(&seen), ["presence alice unavailable none/none"]);
        let status = seen
            .last()
            .unwrap()
            .get_child("status", "jabber:client")
            .unwrap();
        assert_eq!(status.text(), "gone home");
        assert_eq!(outline(&bob.settle(room).await.unwrap()), [""; 0]);
        for client in [&mut phone, &mut laptop] {
            let rest = client.drain_until_pong().await.unwrap();
            assert_eq!(outline(&rest), [""; 0]);
        }
    }
}

async fn b42_a_session_joins_while_the_account_is_leaving(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let room = &stage.room;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    for _ in 0..20 {
        phone.join(room, "alice").await.unwrap();
        let join = Join::default();
        let (left, asked) = tokio::join!(
            phone.leave(room, "alice", Some("bye")),
            laptop.send_join(room, "alice", &join)
        );
        left.unwrap();
        let joined = laptop.collect_join(room, &asked.unwrap()).await.unwrap();
        assert_eq!(joined.nicks(), ["bob"]);
        assert_eq!(outline(&joined.other), [""; 0]);
        let seen = through(&mut phone, "the answer", |it| {
            it.kind() == Some("unavailable")
        })
        .await;
        assert_farewell(&seen, &phone, "bye");
        bob.say(room, "hello").await.unwrap();
        assert_eq!(outline(&until(&mut laptop, "hello").await), [""; 0]);
        say_farewell(&mut laptop, room, "bye").await;
    }
}

/// What the room may see of a hand-over: the account's presence once more, never a leave.
fn assert_unseen(seen: &[Stanza], case: &str) {
    let lines = outline(seen);
    let update = |line: &String| line == "presence alice none/participant";
    assert!(
        lines.len() <= 2 && lines.iter().all(update),
        "{case}: {lines:?}"
    );
}

async fn b43_a_session_ends_while_another_is_in_the_room(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    let alice = stage.account("alice").await;
    for ending in Ending::ALL {
        for carrier_ends in [false, true] {
            let case = format!("{ending:?}, the carrier: {carrier_ends}");
            let room = stage.server.new_room("ends");
            bob.create_room(&room, "bob").await.unwrap();
            let mut phone = front.session(&alice, "phone").await;
            let mut laptop = front.session(&alice, "laptop").await;
            phone.join(&room, "alice").await.unwrap();
            laptop.join(&room, "alice").await.unwrap();
            mark(&mut phone, &room, [&mut bob, &mut laptop]).await;

            let (ending_one, mut staying) = if carrier_ends {
                (phone, laptop)
            } else {
                (laptop, phone)
            };
            let rest = ending.end(&front, ending_one).await;

            staying.say(&room, "still here").await.unwrap();
            let on_bob = until(&mut bob, "still here").await;
            if carrier_ends {
                assert_unseen(&on_bob, &case);
            } else {
                assert_eq!(outline(&on_bob), [""; 0], "{case}");
            }
            let on_staying = until(&mut staying, "still here").await;
            assert_eq!(outline(&on_staying), [""; 0], "{case}");
            bob.say(&room, "good").await.unwrap();
            assert_eq!(
                outline(&until(&mut staying, "good").await),
                [""; 0],
                "{case}"
            );
            if let Some((mut client, seen)) = rest {
                // The room is quiet for it, and takes it back.
                assert!(
                    seen.iter().all(|it| it.body().is_none()),
                    "{case}: {seen:?}"
                );
                let quiet = client.drain_until_pong().await.unwrap();
                assert_eq!(outline(&quiet), [""; 0], "{case}");
                let joined = client.join(&room, "alice").await.unwrap();
                assert_eq!(joined.bodies(), ["still here", "good"], "{case}");
            }
            staying.close().await.unwrap();
        }
    }
}

/// Nobody is in the room, and it goes on for the account: what is said is there for who comes.
async fn b43_a_session_ends_while_another_is_connected(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    for ending in Ending::ALL {
        let alice = stage.account("alice").await;
        let case = format!("{ending:?}");
        let room = stage.server.new_room("detached");
        bob.create_room(&room, "bob").await.unwrap();
        let mut laptop = front.session(&alice, "laptop").await;
        let mut phone = front.session(&alice, "phone").await;
        phone.join(&room, "alice").await.unwrap();
        mark(&mut phone, &room, [&mut bob]).await;

        let rest = ending.end(&front, phone).await;

        bob.say(&room, "anybody?").await.unwrap();
        assert_unseen(&until(&mut bob, "anybody?").await, &case);
        let quiet = laptop.drain_until_pong().await.unwrap();
        assert_eq!(outline(&quiet), [""; 0], "{case}");
        let joined = laptop.join(&room, "alice").await.unwrap();
        assert_eq!(joined.nicks(), ["bob"], "{case}");
        // What two streams bring at once comes in one of two orders.
        let [after] = mark(&mut bob, &room, [&mut laptop]).await;
        let heard = [joined.bodies(), bodies(&after)].concat();
        assert_eq!(heard, ["anybody?"], "{case}");
        assert_eq!(outline(&after).len(), bodies(&after).len(), "{case}");
        bob.say(&room, "there").await.unwrap();
        assert_unseen(&until(&mut bob, "there").await, &case);
        assert_eq!(
            outline(&until(&mut laptop, "there").await),
            [""; 0],
            "{case}"
        );
        laptop.say(&room, "yes").await.unwrap();
        assert_eq!(outline(&until(&mut bob, "yes").await), [""; 0], "{case}");
        if let Some((mut client, _)) = rest {
            let quiet = client.drain_until_pong().await.unwrap();
            assert_eq!(outline(&quiet), [""; 0], "{case}");
        }
    }
}

/// A room with alice in it, who has one more session that is connected and no more.
async fn detached(stage: &Stage, front: &Front, alice: &Account) -> (Client, Client, Client) {
    let mut bob = stage.room_with_bob().await;
    let laptop = front.session(alice, "laptop").await;
    let mut phone = front.session(alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    mark(&mut phone, &stage.room, [&mut bob]).await;
    (bob, phone, laptop)
}

async fn b44_without_a_time_to_stay_the_account_leaves_at_once(stage: Stage) {
    let front = stage.own_front("[rooms]\nstay = \"0s\"").await;
    let alice = stage.account("alice").await;
    let (mut bob, mut phone, mut laptop) = detached(&stage, &front, &alice).await;
    for ending in [Ending::StreamEnd, Ending::Reset, Ending::Fin] {
        ending.end(&front, phone).await;
        let seen = bob.recv_for("alice's leave").await.unwrap();
        assert_eq!(
            outline(&[seen]),
            ["presence alice unavailable none/none"],
            "{ending:?}"
        );
        assert_eq!(
            outline(&bob.settle(&stage.room).await.unwrap()),
            [""; 0],
            "{ending:?}"
        );
        phone = front.session(&alice, "phone").await;
        let joined = phone.join(&stage.room, "alice").await.unwrap();
        assert_eq!(joined.nicks(), ["bob"]);
        mark(&mut phone, &stage.room, [&mut bob]).await;
    }

    // With another session in the room nobody leaves.
    laptop.join(&stage.room, "alice").await.unwrap();
    Ending::Reset.end(&front, phone).await;
    laptop.say(&stage.room, "still here").await.unwrap();
    assert_unseen(
        &until(&mut bob, "still here").await,
        "another is in the room",
    );
}

async fn b44_the_account_leaves_when_its_time_to_stay_is_over(stage: Stage) {
    const STAY: Duration = Duration::from_secs(1);
    let front = stage.own_front("[rooms]\nstay = \"1s\"").await;
    let alice = stage.account("alice").await;
    let (mut bob, phone, mut laptop) = detached(&stage, &front, &alice).await;

    let from = Instant::now();
    Ending::Reset.end(&front, phone).await;
    let gone = |it: &Stanza| it.kind() == Some("unavailable");
    let seen = through(&mut bob, "alice's leave", gone).await;
    assert!(from.elapsed() >= STAY, "after {:?}", from.elapsed());
    assert_eq!(
        outline(&seen[seen.len() - 1..]),
        ["presence alice unavailable none/none"]
    );
    assert_unseen(&seen[..seen.len() - 1], "the hand-over");

    // Whoever comes in time stops the clock: the time is over and nobody has left.
    laptop.join(&stage.room, "alice").await.unwrap();
    mark(&mut laptop, &stage.room, [&mut bob]).await;
    let mut phone = front.session(&alice, "phone").await;
    laptop
        .send_raw("<presence type='unavailable'/>")
        .await
        .unwrap();
    laptop.drain_until_pong().await.unwrap();
    let joined = phone.join(&stage.room, "alice").await.unwrap();
    assert_eq!(bodies(&joined.history).len(), 0);
    tokio::time::sleep(STAY + STAY / 2).await;
    let [seen] = mark(&mut phone, &stage.room, [&mut bob]).await;
    assert_unseen(&seen, "somebody came back");
}
