//! Rooms that no uplink can carry for a while (behaviours 43, 44, 57, 60).

use std::time::Duration;

use crate::dialect::{self, PROSODY};
use crate::world::{ALICE, TEA, World, two_of};

/// alice's phone was in the room, and its uplink is lost; bob has said something meanwhile.
fn lost(mut w: World) -> World {
    w.other_joins("bob", TEA);
    let a = w.bind("phone");
    w.joined(a, "alice");
    w.other_says("bob", TEA, "before");
    w.run();
    w.lose(w.up(a));
    w.run();
    w.wait(Duration::from_secs(1_000));
    w.other_says("bob", TEA, "meanwhile");
    w.run();
    w.seen_by_other("bob");
    w
}

#[test]
fn b43_the_account_comes_back_with_the_next_uplink() {
    for dialect in dialect::ALL {
        for anchor in [true, false] {
            let mut w = lost(World::of(dialect));
            assert!(w.hubs[ALICE].is_idle() && w.hubs[ALICE].keeps_state());
            let b = if anchor {
                w.anchor(ALICE);
                w.run();
                w.bind("desk")
            } else {
                w.bind("desk")
            };
            w.join(b, TEA, "alice");
            for _ in 0..2 {
                w.run();
                w.wait(Duration::from_secs(11));
            }
            let seen = w.seen(b);
            let context = format!("{} {anchor}: {seen:?}", dialect.name);
            let past: Vec<_> = seen.iter().filter(|it| it.starts_with("past")).collect();
            assert_eq!(
                past,
                ["past bob: before", "past bob: meanwhile"],
                "{context}"
            );
            let own = seen
                .iter()
                .filter(|it| it.starts_with("presence alice") && it.contains("110"));
            assert!(own.count() >= 1, "{context}");
            assert_eq!(
                seen.iter().filter(|it| *it == "presence bob").count(),
                1,
                "{context}"
            );
            let room = w.seen_by_other("bob");
            let comes = room.iter().filter(|it| it.starts_with("presence alice"));
            assert!(comes.count() >= 1, "{room:?}");
        }
    }
}

#[test]
fn b44_its_time_to_stay_goes_on() {
    let mut w = lost(World::new());
    w.wait(Duration::from_secs(2_600));
    assert!(!w.hubs[ALICE].keeps_state());
    let b = w.bind("desk");
    w.run();
    assert!(w.sent(w.up(b)).is_empty());
}

#[test]
fn b60_who_sleeps_is_told_what_it_has_missed() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        let anchor = w.anchor(ALICE);
        for _ in 0..3 {
            w.run();
            w.wait(Duration::from_secs(11));
        }
        w.cut(b);
        w.sleep(a);
        for _ in 0..2 {
            w.run();
            w.wait(Duration::from_secs(11));
        }
        assert!(w.uplinks[&w.up(a)].cut);
        w.seen(a);
        w.lose(anchor);
        w.run();
        w.other_joins("carol", TEA);
        w.other_says("bob", TEA, "hi");
        w.wait(Duration::from_secs(400));
        assert!(w.seen(a).is_empty(), "{}", dialect.name);
        w.wake(a);
        for _ in 0..2 {
            w.run();
            w.wait(Duration::from_secs(11));
        }
        let seen = w.seen(a);
        assert_eq!(
            seen.first().unwrap(),
            "presence carol",
            "{}: {seen:?}",
            dialect.name
        );
        assert!(
            seen.contains(&"past bob: hi".to_owned()),
            "{}: {seen:?}",
            dialect.name
        );
        assert!(!seen.iter().any(|it| it.starts_with("gone")), "{seen:?}");
    }
}

#[test]
fn b60_what_is_said_behind_waking_waits_for_the_room() {
    let (mut w, a, b) = two_of(PROSODY);
    let anchor = w.anchor(ALICE);
    w.run();
    w.cut(b);
    w.sleep(a);
    w.run();
    w.lose(anchor);
    w.run();
    w.wake(a);
    w.say(a, TEA, "1", "back");
    w.run();
    assert!(w.seen(a).contains(&"message alice: back".to_owned()));
}

#[test]
fn b43_a_room_that_does_not_let_the_account_in_again() {
    for (condition, told) in [
        ("forbidden", "gone alice 110 301"),
        ("registration-required", "gone alice 110 322"),
        ("not-authorized", "gone alice 110 333"),
        ("gone", "gone alice 110"),
    ] {
        let (mut w, a, b) = two_of(PROSODY);
        let anchor = w.anchor(ALICE);
        w.run();
        w.cut(b);
        w.sleep(a);
        w.run();
        w.seen(a);
        w.lose(anchor);
        w.run();
        w.service.room(TEA).refuses = Some(condition);
        w.anchor(ALICE);
        w.run();
        assert_eq!(w.seen(a), [told]);
        assert!(!w.hubs[ALICE].keeps_state());
    }
}

#[test]
fn b62_a_service_that_is_not_there_is_asked_again() {
    let mut w = lost(World::new());
    w.service.room(TEA).refuses = Some("remote-server-not-found");
    let anchor = w.anchor(ALICE);
    w.run();
    assert!(w.hubs[ALICE].keeps_state());
    assert_eq!(w.sent(anchor).len(), 1);
    for tries in [1, 1, 1] {
        w.wait(Duration::from_secs(60));
        w.run();
        assert_eq!(w.sent(anchor).len().min(1), tries);
    }
    w.service.room(TEA).refuses = None;
    for _ in 0..60 {
        w.wait(Duration::from_secs(5));
        w.run();
    }
    assert!(w.service.known(TEA).nick("alice").is_some());
}

#[test]
fn b3_many_rooms_come_back_eight_at_a_time() {
    let mut w = World::new();
    let a = w.bind("phone");
    for n in 0..20 {
        w.join(a, &format!("room{n}@rooms.test"), "alice");
    }
    w.run();
    w.lose(w.up(a));
    w.run();
    let anchor = w.anchor(ALICE);
    assert_eq!(
        w.sent(anchor)
            .iter()
            .filter(|it| it.contains("jabber.org/protocol/muc"))
            .count(),
        8
    );
    w.run();
    let inside = |room: &crate::service::Room| room.nick("alice").is_some();
    assert!(w.service.rooms.values().all(inside));
}
