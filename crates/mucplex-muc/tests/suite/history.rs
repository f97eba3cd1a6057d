//! Behaviours 12 and 13: what of the past a session gets.

use std::time::Duration;

use crate::dialect::PROSODY;
use crate::world::{TEA, World};

/// Ten messages, ten seconds apart, the last ten seconds ago; each is `m0`…`m9`.
fn room() -> World {
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    for n in 0..10 {
        w.other_says("bob", TEA, &format!("m{n}"));
        w.wait(Duration::from_secs(10));
    }
    w
}

fn past(seen: &[String]) -> usize {
    seen.iter().filter(|line| line.starts_with("past")).count()
}

#[test]
fn b12_limits_of_history_for_the_first_and_for_late_joiners() {
    let chars = |n: usize| format!("<history maxchars='{n}'/>");
    let asks = [
        (String::new(), 10),
        ("<history maxstanzas='0'/>".into(), 0),
        ("<history maxstanzas='3'/>".into(), 3),
        ("<history maxstanzas='30'/>".into(), 10),
        (chars(0), 0),
        ("<history seconds='25'/>".into(), 2),
        ("<history seconds='0'/>".into(), 0),
        ("<history since='2023-11-14T22:14:40Z'/>".into(), 2),
        ("<history since='2023-11-14T23:14:40+01:00'/>".into(), 2),
        ("<history maxstanzas='1' seconds='25'/>".into(), 1),
        (
            "<history maxstanzas='5' seconds='25' since='2023-11-14T22:14:50Z'/>".into(),
            1,
        ),
        ("<history maxstanzas='many'/>".into(), 10),
    ];
    for (ask, expected) in asks {
        let mut w = room();
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.join_with(a, TEA, "alice", &ask);
        w.run();
        assert_eq!(past(&w.seen(a)), expected, "first: {ask}");
        w.join_with(b, TEA, "alice", &ask);
        assert_eq!(past(&w.seen(b)), expected, "late: {ask}");
    }
}

#[test]
fn b12_characters_count_whole_stanzas() {
    let mut w = room();
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.join(b, TEA, "alice");
    let raw = w.raw(b);
    let sizes: Vec<usize> = raw
        .iter()
        .filter(|xml| xml.contains("delay"))
        .map(String::len)
        .collect();
    let last: usize = sizes.iter().rev().take(2).sum();
    for (most, expected) in [(last + 10, 2), (last - 60, 1), (20, 0)] {
        w.join_with(b, TEA, "alice", &format!("<history maxchars='{most}'/>"));
        assert_eq!(past(&w.seen(b)), expected, "{most}");
    }
}

#[test]
fn b12_a_late_joiner_without_limits_gets_no_more_than_a_server_gives() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    for n in 0..30 {
        w.other_says("bob", TEA, &format!("m{n}"));
    }
    w.run();
    w.join(b, TEA, "alice");
    let seen = w.seen(b);
    assert_eq!(past(&seen), 20);
    assert_eq!(seen[seen.len() - 2], "past bob: m29");
}

#[test]
fn b13_a_replayed_message_is_the_original_with_its_time() {
    let mut w = World::new();
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.send(a, "<message to='tea@rooms.test' type='groupchat' id='mine'><body>hi</body><occupant-id xmlns='urn:xmpp:occupant-id:0' id='o'/></message>");
    w.run();
    w.wait(Duration::from_secs(60));
    w.join(b, TEA, "alice");
    let raw = w.raw(b);
    let message = &raw[1];
    for part in [
        "id='mine'",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='tea@rooms.test' id='s1'/>",
        "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o'/>",
        "<delay xmlns='urn:xmpp:delay' from='tea@rooms.test' stamp='2023-11-14T22:13:31.000Z'/>",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
