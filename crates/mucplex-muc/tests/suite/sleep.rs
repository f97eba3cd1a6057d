//! Sessions whose clients are away and may come back, and uplinks whose connections are (behaviours
//! 53, 56, 60, 75).

use std::time::Duration;

use crate::dialect::{self, PROSODY};
use crate::world::{ALICE, TEA, World, both, two_of};

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
fn b75_with_an_anchor_the_uplink_of_a_sleeper_is_cut() {
    for anchor_first in [true, false] {
        let (mut w, a, b) = two_of(PROSODY);
        if anchor_first {
            w.anchor(ALICE);
        }
        w.sleep(a);
        if !anchor_first {
            w.run();
            assert!(!w.uplinks[&w.up(a)].cut, "it carries the room");
            w.anchor(ALICE);
        }
        w.run();
        assert!(w.uplinks[&w.up(a)].cut && w.uplinks[&w.up(a)].open);
        // What is said meanwhile waits for it.
        w.other_says("bob", TEA, "hi");
        w.run();
        both(&mut w, a, b, &["message bob: hi"]);
        assert!(!is_seen_to_leave(&mut w));
    }
}

#[test]
fn b75_the_room_is_left_on_a_stream_before_that_is_cut() {
    let (mut w, a, _) = two_of(PROSODY);
    w.anchor(ALICE);
    w.sleep(a);
    let up = w.up(a);
    while !w.uplinks[&up].cut {
        assert!(
            w.uplinks
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .any(|id| {
                    let up = w.step_up(id);
                    w.step_down(id) || up
                })
        );
    }
    assert!(!streams(&w).contains(&w.uplinks[&up].jid));
}

#[test]
fn b56_a_session_that_wakes_goes_on() {
    let (mut w, a, b) = two_of(PROSODY);
    let anchor = w.anchor(ALICE);
    w.run();
    w.sleep(a);
    w.run();
    w.wake(a);
    w.say(a, TEA, "1", "back");
    w.run();
    both(&mut w, a, b, &["message alice: back"]);
    // Should the anchor be lost, its uplink can carry again.
    w.cut(b);
    w.lose(anchor);
    w.run();
    assert_eq!(streams(&w), [w.uplinks[&w.up(a)].jid.clone()]);
}

#[test]
fn b53_who_is_awake_is_asked_before_who_sleeps() {
    let ask = |w: &mut World, id: &str| {
        w.other("bob", &format!("<iq type='get' to='tea@rooms.test/alice' id='{id}'><q xmlns='urn:test:q' n='1'/></iq>"));
        w.run();
    };
    let (mut w, a, b) = two_of(PROSODY);
    w.anchor(ALICE);
    w.run();
    w.sleep(a);
    ask(&mut w, "1");
    assert!(w.seen(a).is_empty());
    assert_eq!(w.seen(b).len(), 1);
    // With all away it waits for one of them, as with the server alone.
    w.sleep(b);
    ask(&mut w, "2");
    assert_eq!(w.seen(a).len() + w.seen(b).len(), 1);
    assert_eq!(
        w.seen_by_other("bob")
            .iter()
            .filter(|it| it.starts_with("iq"))
            .count(),
        0
    );
    w.cut(a);
    w.cut(b);
    w.run();
    assert!(
        w.seen_by_other("bob")
            .contains(&"error iq 2 service-unavailable".to_owned())
    );
}

/// The anchor's connection is gone for long: a session's own uplink takes over, and the anchor leaves
/// first when it is back, and takes over again.
#[test]
fn b60_somebody_looks_while_the_anchor_is_suspended() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        let anchor = w.anchor(ALICE);
        w.run();
        w.wait(Duration::from_secs(11));
        w.run();
        w.seen_by_other("bob");
        w.suspend(anchor);
        for n in 0..3 {
            w.other_says("bob", TEA, &format!("m{n}"));
            w.run();
            w.wait(Duration::from_secs(1));
        }
        w.wait(Duration::from_secs(31));
        w.run();
        if dialect.second_stream {
            both(
                &mut w,
                a,
                b,
                &["past bob: m0", "message bob: m1", "message bob: m2"],
            );
        }
        w.sent(anchor);
        w.resume(anchor);
        let sent = w.sent(anchor);
        // Where the account can be there only once, it has waited for the anchor.
        let first = sent.first().map_or("", String::as_str);
        let leaves = first.contains("unavailable");
        assert_eq!(leaves, dialect.second_stream, "{}: {sent:?}", dialect.name);
        w.other_says("bob", TEA, "m3");
        for _ in 0..3 {
            w.run();
            w.wait(Duration::from_secs(11));
        }
        assert_eq!(
            streams(&w),
            [w.uplinks[&anchor].jid.clone()],
            "{}",
            dialect.name
        );
        let seen = w.seen(a);
        let m3 = seen.iter().filter(|it| it.ends_with("m3")).count();
        assert_eq!(m3, 1, "{}: {seen:?}", dialect.name);
        assert!(!is_seen_to_leave(&mut w) || !dialect.second_stream);
    }
}

#[test]
fn b60_nobody_looks_while_the_anchor_is_suspended() {
    let (mut w, a, b) = two_of(PROSODY);
    let anchor = w.anchor(ALICE);
    w.run();
    w.sleep(a);
    w.sleep(b);
    w.run();
    w.seen_by_other("bob");
    w.suspend(anchor);
    w.other_says("bob", TEA, "hi");
    w.run();
    assert!(w.seen(a).is_empty());
    w.resume(anchor);
    w.run();
    both(&mut w, a, b, &["message bob: hi"]);
    assert!(
        w.seen_by_other("bob")
            .iter()
            .all(|it| !it.contains("presence alice"))
    );
}
