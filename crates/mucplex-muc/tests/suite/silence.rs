//! Rooms of which nothing is heard any more (behaviour 62).

use std::time::Duration;

use crate::dialect::{self, PROSODY};
use crate::world::{TEA, World, two_of};

fn pings(w: &mut World, session: u64) -> usize {
    let sent = w.sent(w.up(session));
    sent.iter()
        .filter(|xml| xml.contains("urn:xmpp:ping"))
        .count()
}

#[test]
fn b62_a_silent_room_is_asked_after_a_while() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.other_says("bob", TEA, "hi");
        w.run();
        w.sent(w.up(a));
        w.wait(Duration::from_secs(599));
        assert_eq!(pings(&mut w, a), 0);
        w.wait(Duration::from_secs(1));
        assert_eq!(pings(&mut w, a), 1);
        w.run();
        w.wait(Duration::from_secs(599));
        assert_eq!(pings(&mut w, a), 0, "{}", dialect.name);
        for session in [a, b] {
            assert_eq!(w.seen(session), ["message bob: hi"]);
        }
    }
}

#[test]
fn b62_a_room_that_has_lost_the_account_is_joined_again() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.other_says("bob", TEA, "one");
        w.run();
        // The link between the servers breaks, and the room puts the account out without a word.
        let known = w.service.room(TEA);
        known.occupants.retain(|it| it.nick != "alice");
        w.wait(Duration::from_secs(300));
        w.other_says("bob", TEA, "two");
        w.wait(Duration::from_secs(300));
        for _ in 0..3 {
            w.run();
            w.wait(Duration::from_secs(5));
        }
        for session in [a, b] {
            let seen = w.seen(session);
            assert_eq!(
                seen[..2],
                ["message bob: one", "past bob: two"],
                "{}",
                dialect.name
            );
            assert!(!seen.iter().any(|it| it.starts_with("gone")), "{seen:?}");
        }
        assert!(w.service.known(TEA).nick("alice").is_some());
    }
}

#[test]
fn b62_a_room_that_does_not_answer_is_asked_again_and_again() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.dead.insert(TEA.into());
    w.wait(Duration::from_secs(600));
    w.run();
    assert_eq!(pings(&mut w, a), 1);
    let mut asked = 0;
    for _ in 0..60 {
        w.wait(Duration::from_secs(60));
        w.run();
        asked += pings(&mut w, a);
    }
    assert!((5..=15).contains(&asked), "{asked}");
    w.service.dead.clear();
    w.service
        .room(TEA)
        .occupants
        .retain(|it| it.nick != "alice");
    w.wait(Duration::from_secs(900));
    w.run();
    assert!(w.service.known(TEA).nick("alice").is_some());
    for session in [a, b] {
        assert!(!w.seen(session).iter().any(|it| it.starts_with("gone")));
    }
}

#[test]
fn b62_of_many_rooms_one_is_asked_in_a_second() {
    let mut w = World::new();
    let a = w.bind("phone");
    for n in 0..20 {
        w.join(a, &format!("room{n}@rooms.test"), "alice");
    }
    w.run();
    w.sent(w.up(a));
    w.wait(Duration::from_secs(600));
    assert_eq!(pings(&mut w, a), 1);
    for _ in 1..20 {
        w.wait(Duration::from_secs(1));
        assert_eq!(pings(&mut w, a), 1);
    }
    w.wait(Duration::from_secs(60));
    assert_eq!(pings(&mut w, a), 0);
}
