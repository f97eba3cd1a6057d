//! Anchors: uplinks without a session, which carry the rooms before all others (behaviours 42, 43,
//! 59).

use std::time::Duration;

use mucplex_muc::{Input, SessionId, UplinkId};

use crate::dialect::{self, PROSODY};
use crate::world::{ALICE, TEA, World, two_of};

/// The streams by which alice is in the room.
fn streams(w: &World) -> Vec<String> {
    let known = w.service.known(TEA);
    known
        .nick("alice")
        .map_or(Vec::new(), |at| known.occupants[at].streams.clone())
}

fn is_seen_to_leave(w: &mut World) -> bool {
    let seen = w.seen_by_other("bob");
    seen.iter().any(|line| line.starts_with("gone alice"))
}

#[test]
fn b59_rooms_go_to_the_anchor_and_nobody_notices() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        let anchor = w.anchor(ALICE);
        for n in 0..12 {
            w.other_says("bob", TEA, &format!("b{n}"));
            w.say(b, TEA, &format!("c{n}"), &format!("c{n}"));
            for uplink in [anchor, w.up(a), w.up(b)] {
                w.step_up(uplink);
                w.step_down(uplink);
            }
        }
        w.run();
        w.wait(Duration::from_secs(11));
        assert_eq!(streams(&w), [w.uplinks[&anchor].jid.clone()]);
        let said = w.service.known(TEA).said.clone();
        assert_eq!(said.len(), 24);
        for session in [a, b] {
            let seen = w.seen(session);
            let bodies: Vec<_> = seen.iter().filter_map(|it| it.split(": ").nth(1)).collect();
            assert_eq!(bodies, said, "{}", dialect.name);
        }
        assert!(!is_seen_to_leave(&mut w) || !dialect.second_stream);
    }
}

#[test]
fn b59_of_many_rooms_eight_at_a_time_go_to_the_anchor() {
    let mut w = World::new();
    let a = w.bind("phone");
    for n in 0..20 {
        w.join(a, &format!("room{n}@rooms.test"), "alice");
    }
    w.run();
    let anchor = w.anchor(ALICE);
    assert_eq!(w.sent(anchor).len(), 8);
    w.all_up(anchor);
    w.all_down(anchor);
    assert_eq!(w.sent(anchor).len(), 0, "the old carrier is still in");
    w.run();
    assert_eq!(w.sent(anchor).len(), 12);
    let alone = |room: &crate::service::Room| room.occupants.iter().all(|it| it.streams.len() == 1);
    assert!(w.service.rooms.values().all(alone));
}

#[test]
fn b1_a_first_join_goes_out_on_the_anchor() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        w.other_joins("bob", TEA);
        let anchor = w.anchor(ALICE);
        let a = w.bind("phone");
        w.join(a, TEA, "alice");
        w.run();
        w.wait(Duration::from_secs(11));
        let seen = w.seen(a);
        let presences: Vec<_> = seen
            .iter()
            .filter(|it| it.contains("bob") || it.contains("alice"))
            .collect();
        assert_eq!(presences, ["presence bob", "presence alice 110"]);
        assert!(seen.last().unwrap().starts_with("subject room"), "{seen:?}");
        assert_eq!(streams(&w), [w.uplinks[&anchor].jid.clone()]);
    }
}

#[test]
fn b59_a_first_join_waits_for_an_anchor_that_is_expected() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let a = w.bind("phone");
    w.expect_anchor(ALICE, true);
    w.join(a, TEA, "alice");
    w.say(a, TEA, "1", "hello");
    assert!(w.sent(w.up(a)).is_empty());
    let anchor = w.anchor(ALICE);
    w.run();
    assert!(w.sent(w.up(a)).is_empty());
    assert_eq!(streams(&w), [w.uplinks[&anchor].jid.clone()]);
    assert_eq!(w.seen(a).last().unwrap(), "message alice: hello");
}

#[test]
fn b59_it_does_not_wait_for_long() {
    for gives_up in [true, false] {
        let mut w = World::new();
        let a = w.bind("phone");
        w.expect_anchor(ALICE, true);
        w.join(a, TEA, "alice");
        if gives_up {
            w.expect_anchor(ALICE, false);
        } else {
            w.wait(Duration::from_millis(1_999));
            assert!(w.sent(w.up(a)).is_empty());
            w.wait(Duration::from_millis(1));
        }
        assert_eq!(w.sent(w.up(a)).len(), 1);
    }
}

#[test]
fn b46_who_leaves_meanwhile_is_answered_at_once() {
    let mut w = World::new();
    let a = w.bind("phone");
    w.expect_anchor(ALICE, true);
    w.join(a, TEA, "alice");
    w.leave(a, TEA, "alice");
    assert_eq!(w.seen(a), ["gone alice 110"]);
    w.run();
    w.wait(Duration::from_secs(3));
    w.run();
    assert!(streams(&w).is_empty());
}

#[test]
fn b59_a_newer_anchor_takes_the_place_of_an_older_one() {
    for dialect in dialect::ALL {
        let (mut w, a, _) = two_of(dialect);
        let older = w.anchor(ALICE);
        w.run();
        w.wait(Duration::from_secs(11));
        w.run();
        w.seen_by_other("bob");
        let newer = w.anchor(ALICE);
        w.other_says("bob", TEA, "hi");
        w.run();
        w.wait(Duration::from_secs(11));
        w.run();
        assert_eq!(streams(&w), [w.uplinks[&newer].jid.clone()]);
        assert!(!w.uplinks[&older].open && w.uplinks[&newer].open);
        assert!(w.seen(a).contains(&"message bob: hi".to_owned()));
        assert!(!is_seen_to_leave(&mut w) || !dialect.second_stream);
    }
}

#[test]
fn b59_the_newer_one_is_lost_before_it_has_all() {
    let (mut w, a, _) = two_of(PROSODY);
    let older = w.anchor(ALICE);
    w.run();
    let newer = w.anchor(ALICE);
    w.lose(newer);
    w.run();
    w.other_says("bob", TEA, "hi");
    w.run();
    assert_eq!(streams(&w), [w.uplinks[&older].jid.clone()]);
    assert!(w.uplinks[&older].open);
    assert_eq!(w.seen(a), ["message bob: hi"]);
    assert!(!is_seen_to_leave(&mut w));
}

#[test]
fn b43_the_last_session_goes_and_the_anchor_stays() {
    let (mut w, a, b) = two_of(PROSODY);
    let anchor = w.anchor(ALICE);
    w.run();
    w.cut(a);
    w.cut(b);
    w.run();
    w.wait(Duration::from_secs(6));
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["presence alice xa"]);
    assert_eq!(streams(&w), [w.uplinks[&anchor].jid.clone()]);
    assert!(w.hubs[ALICE].keeps_state() && !w.hubs[ALICE].is_idle());
    // Behaviour 57: who comes back has missed nothing.
    w.other_says("bob", TEA, "meanwhile");
    w.run();
    let c = w.bind("desk");
    w.join(c, TEA, "alice");
    assert_eq!(
        w.seen(c),
        [
            "presence bob",
            "presence alice xa 110",
            "past bob: meanwhile",
            "subject room: "
        ]
    );
}

#[test]
fn b42_b44_the_account_leaves_by_the_anchor() {
    for explicit in [true, false] {
        let (mut w, a, b) = two_of(PROSODY);
        w.anchor(ALICE);
        w.run();
        w.cut(a);
        if explicit {
            w.leave(b, TEA, "alice");
        } else {
            w.cut(b);
            w.run();
            w.wait(Duration::from_secs(3599));
            w.run();
            assert!(!is_seen_to_leave(&mut w));
            w.wait(Duration::from_secs(1));
        }
        w.run();
        assert!(is_seen_to_leave(&mut w));
        assert!(!w.hubs[ALICE].keeps_state());
    }
}

/// Way 3: the room sees one leave and one join where the client was available, else nothing.
#[test]
fn b59_the_uplink_of_the_last_session_is_retained() {
    for dialect in dialect::ALL {
        for available in [true, false] {
            let mut w = World::of(dialect);
            w.other_joins("bob", TEA);
            let a = w.bind("phone");
            w.joined(a, "alice");
            w.seen_by_other("bob");
            w.sessions.get_mut(&a).unwrap().available = available;
            w.cut(a);
            w.other_says("bob", TEA, "bye");
            w.run();
            w.wait(Duration::from_secs(11));
            w.run();
            let seen = w.seen_by_other("bob");
            let seen: Vec<_> = seen.iter().filter(|it| it.contains("alice")).collect();
            match available {
                true => assert_eq!(
                    seen,
                    ["gone alice", "presence alice xa"],
                    "{}",
                    dialect.name
                ),
                false => assert_eq!(seen, ["presence alice xa"], "{}", dialect.name),
            }
            assert!(w.uplinks[&w.up(a)].anchor && w.uplinks[&w.up(a)].open);
            let b = w.bind("desk");
            w.join(b, TEA, "alice");
            assert!(w.seen(b).contains(&"past bob: bye".to_owned()));
        }
    }
}

#[test]
fn b59_an_uplink_is_not_retained_for_nothing() {
    // Without rooms, with an anchor, and where the account does not stay.
    let mut w = World::new();
    let a = w.bind("phone");
    w.cut(a);
    assert!(!w.uplinks[&w.up(a)].open && w.hubs[ALICE].is_idle());
    let (mut w, a, b) = two_of(PROSODY);
    w.anchor(ALICE);
    w.run();
    w.cut(a);
    w.cut(b);
    assert!(!w.uplinks[&w.up(a)].open && !w.uplinks[&w.up(b)].open);
    let mut w = World::with(PROSODY, Duration::ZERO);
    let a = w.bind("phone");
    w.joined(a, "alice");
    w.cut(a);
    w.run();
    assert!(!w.uplinks[&w.up(a)].open);
}

#[test]
fn b59_while_an_anchor_is_expected_the_last_uplink_is_kept_for_it() {
    for comes in [true, false] {
        let mut w = World::new();
        w.other_joins("bob", TEA);
        let a = w.bind("phone");
        w.joined(a, "alice");
        w.seen_by_other("bob");
        w.expect_anchor(ALICE, true);
        w.cut(a);
        assert!(w.uplinks[&w.up(a)].open && !w.uplinks[&w.up(a)].anchor);
        if comes {
            w.anchor(ALICE);
        } else {
            w.wait(Duration::from_secs(2));
        }
        w.run();
        assert_eq!(w.uplinks[&w.up(a)].anchor, !comes);
        assert_eq!(w.uplinks[&w.up(a)].open, !comes);
        assert!(!is_seen_to_leave(&mut w));
    }
}

/// A session that asks for the anchor's resource gets that uplink, and what the room says on it goes
/// on by way of the hub.
#[test]
fn b59_an_anchor_becomes_a_sessions_own_uplink() {
    let (mut w, a, b) = two_of(PROSODY);
    let anchor = w.anchor(ALICE);
    w.run();
    let jid = w.uplinks[&anchor].jid.clone();
    let session = SessionId(9_000);
    let input = Input::SessionBound {
        session,
        uplink: UplinkId(anchor),
        jid: jid.parse().unwrap(),
        client_lang: None,
    };
    let known = w.uplinks.get_mut(&anchor).unwrap();
    known.anchor = false;
    w.input(ALICE, input);
    let fresh = w.anchor(ALICE);
    w.other_says("bob", TEA, "hi");
    w.run();
    for session in [a, b] {
        assert_eq!(w.seen(session), ["message bob: hi"]);
    }
    assert_eq!(streams(&w), [w.uplinks[&fresh].jid.clone()]);
    assert!(w.uplinks[&anchor].open);
    assert!(!is_seen_to_leave(&mut w));
}
