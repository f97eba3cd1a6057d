//! Behaviours 41 to 49: leaving, being detached, being put out.

use std::time::Duration;

use crate::dialect::{self, EJABBERD, PROSODY};
use crate::world::{TEA, World, two_in};

fn two_of(dialect: dialect::Dialect, stay: u64) -> (World, u64, u64) {
    two_in(World::with(dialect, Duration::from_secs(stay)))
}

#[test]
fn b41_one_of_several_leaves_and_nobody_sees_it() {
    let (mut w, a, b) = two_of(PROSODY, 60);
    w.leave(a, TEA, "alice");
    let raw = w.raw(a);
    assert_eq!(
        raw,
        [
            "<presence type='unavailable' from='tea@rooms.test/alice' to='alice@test/phone' id='leave'>\
        <status>bye</status><x xmlns='http://jabber.org/protocol/muc#user'><item role='none' affiliation='none'/>\
        <status code='110'/></x></presence>"
        ]
    );
    w.run();
    assert!(w.seen(b).is_empty() && w.seen_by_other("bob").is_empty());
    w.other_says("bob", TEA, "hi");
    w.run();
    assert!(w.seen(a).is_empty());
    assert_eq!(w.seen(b), ["message bob: hi"]);
}

#[test]
fn b42_the_last_leaves_and_the_room_sees_it_once() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect, 60);
        w.leave(a, TEA, "alice");
        // To whichever nick or to the room itself: it is a leave.
        w.send(
            b,
            "<presence to='tea@rooms.test' type='unavailable'><status>bye</status></presence>",
        );
        assert_eq!(w.seen(b), ["gone alice 110"]);
        w.run();
        assert!(w.seen(b).is_empty());
        assert_eq!(
            w.sent(w.up(a)),
            [
                "<presence to='tea@rooms.test/alice' type='unavailable'><status>bye</status></presence>"
            ]
        );
        assert_eq!(w.seen_by_other("bob"), ["gone alice"]);
        w.join(b, TEA, "alice");
        w.run();
        assert!(w.seen(b).contains(&"presence alice 110".to_owned()));
    }
}

#[test]
fn b42_a_join_that_follows_a_leave_waits_for_the_room_to_let_go() {
    let (mut w, a, b) = two_of(PROSODY, 60);
    w.leave(b, TEA, "alice");
    w.leave(a, TEA, "alice");
    w.join(a, TEA, "alice");
    w.join(b, TEA, "other");
    w.run();
    assert_eq!(
        w.seen(a),
        [
            "gone alice 110",
            "presence bob",
            "presence alice 110",
            "subject room: "
        ]
    );
    assert_eq!(
        w.seen(b),
        [
            "gone alice 110",
            "presence bob",
            "presence alice 110 210",
            "subject room: "
        ]
    );
}

#[test]
fn b43_a_session_that_is_lost_or_unavailable_is_not_missed() {
    for gone in [World::cut, World::unavailable] {
        for dialect in [PROSODY, EJABBERD] {
            for carries in [true, false] {
                let (mut w, a, b) = two_of(dialect, 60);
                let (gone_one, stays) = if carries { (a, b) } else { (b, a) };
                gone(&mut w, gone_one);
                w.run();
                let told = w.seen_by_other("bob");
                assert!(told.iter().all(|line| line == "presence alice"), "{told:?}");
                assert!(
                    w.seen(gone_one)
                        .iter()
                        .all(|line| !line.starts_with("gone"))
                );
                assert!(!w.withholds(gone_one));
                w.other_says("bob", TEA, "hi");
                w.say(stays, TEA, "1", "hello");
                w.run();
                assert_eq!(w.seen(stays), ["message bob: hi", "message alice: hello"]);
                assert_eq!(w.seen_by_other("bob").len(), 2);
            }
        }
    }
}

#[test]
fn b44_a_detached_occupancy_ends_when_its_time_is_over() {
    let (mut w, a, b) = two_of(PROSODY, 60);
    let idle = w.bind("idle");
    w.cut(a);
    w.cut(b);
    w.run();
    w.wait(Duration::from_secs(59));
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["presence alice xa"]);
    w.wait(Duration::from_secs(2));
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["gone alice"]);
    assert!(w.seen(idle).is_empty());
}

#[test]
fn b44_a_session_that_comes_back_in_time_finds_what_it_missed() {
    let (mut w, a, b) = two_of(PROSODY, 60);
    w.bind("idle");
    w.cut(a);
    w.cut(b);
    w.run();
    w.other_says("bob", TEA, "missed");
    w.run();
    w.wait(Duration::from_secs(4));
    let c = w.bind("phone2");
    w.join(c, TEA, "alice");
    w.wait(Duration::from_secs(60));
    w.run();
    assert_eq!(
        w.seen(c),
        [
            "presence bob",
            "presence alice 110",
            "past bob: missed",
            "subject room: "
        ]
    );
    assert_eq!(w.seen_by_other("bob"), ["message bob: missed"]);
}

#[test]
fn b44_without_a_stay_the_account_leaves_with_the_last_session() {
    let (mut w, a, b) = two_of(PROSODY, 0);
    w.bind("idle");
    w.cut(a);
    w.run();
    assert!(w.seen_by_other("bob").is_empty());
    w.cut(b);
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["gone alice"]);
}

#[test]
fn b44_the_stay_ends_in_the_middle_of_a_hand_over() {
    let (mut w, a, b) = two_of(PROSODY, 3);
    let idle = w.bind("idle");
    w.cut(b);
    w.run();
    w.cut(a);
    assert_eq!(w.sent(w.up(idle)).len(), 1);
    w.wait(Duration::from_secs(4));
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["gone alice"]);
    assert!(!w.uplinks[&w.up(a)].open);
    w.join(idle, TEA, "alice");
    w.run();
    assert_eq!(
        w.seen(idle),
        ["presence bob", "presence alice 110", "subject room: "]
    );
}

#[test]
fn b46_a_leave_is_answered_by_a_room_that_is_dead() {
    let (mut w, a, b) = two_of(PROSODY, 60);
    w.service.dead.insert(TEA.into());
    w.leave(b, TEA, "alice");
    w.leave(a, TEA, "alice");
    assert_eq!(w.seen(a), ["gone alice 110"]);
    w.run();
    w.join(a, TEA, "alice");
    assert_eq!(w.sent(w.up(a)).len(), 1);
    w.wait(Duration::from_secs(10));
    assert_eq!(w.sent(w.up(a)).len(), 1);
}

#[test]
fn b47_put_out_is_told_once_to_each_with_110() {
    for dialect in dialect::ALL {
        for code in [307, 301, 321, 322] {
            let (mut w, a, b) = two_of(dialect, 60);
            w.service.remove(TEA, "alice", code);
            w.run();
            assert_eq!(w.seen(a), [format!("gone alice 110 {code}")]);
            assert_eq!(w.seen(b), [format!("gone alice 110 {code}")]);
            w.wait(Duration::from_secs(60));
            w.run();
            assert!(w.sent(w.up(a)).is_empty(), "no rejoin by the proxy");
            w.join(b, TEA, "alice");
            w.run();
            assert_eq!(w.sent(w.up(b)).len(), 1);
            assert!(w.seen(b).contains(&"presence alice 110".to_owned()));
        }
    }
}

/// A kick once told the session on the next carrier twice: by the room, and by its own stream.
#[test]
fn b47_put_out_in_the_middle_of_a_hand_over() {
    for dialect in [PROSODY, EJABBERD] {
        for steps in 0..8 {
            let (mut w, a, b) = two_of(dialect, 60);
            w.cut(a);
            for _ in 0..steps {
                for uplink in [w.up(b), w.up(a)] {
                    w.step_up(uplink);
                    w.step_down(uplink);
                }
            }
            w.seen(b);
            w.service.remove(TEA, "alice", 307);
            w.run();
            w.wait(Duration::from_secs(30));
            w.run();
            let seen = w.seen(b);
            assert_eq!(
                seen.iter().filter(|line| line.starts_with("gone")).count(),
                1,
                "{seen:?}"
            );
            assert_eq!(
                w.service.known(TEA).nick("alice"),
                None,
                "{} after {steps}",
                dialect.name
            );
        }
    }
}

#[test]
fn b49_a_destroyed_room_is_told_with_all_it_says() {
    let (mut w, a, b) = two_of(PROSODY, 60);
    w.other_says("bob", TEA, "hi");
    w.run();
    w.seen(a);
    w.seen(b);
    w.service.destroy(TEA);
    w.run();
    for id in [a, b] {
        let raw = w.raw(id);
        assert_eq!(raw.len(), 1);
        assert!(raw[0].contains("<destroy jid='new@rooms.test'><reason>moved</reason><password>open</password></destroy>"));
    }
    w.join(b, TEA, "alice");
    w.run();
    assert_eq!(w.seen(b), ["presence alice 110 201", "subject room: "]);
}

/// Joined twice and gone: the second join once stayed behind, and brought the account back in.
#[test]
fn b43_a_session_that_asked_twice_is_gone_for_good() {
    let mut w = World::new();
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.join(a, TEA, "alice");
    w.join(a, TEA, "alice");
    w.leave(a, TEA, "alice");
    w.run();
    assert_eq!(w.seen(a), ["gone alice 110"]);
    assert!(w.service.known(TEA).occupants.is_empty());
    assert!(w.seen(b).is_empty());
}
