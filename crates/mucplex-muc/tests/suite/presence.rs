//! Behaviours 32, 33 and 39: presences of others.

use crate::dialect::PROSODY;
use crate::world::{TEA, World, both, two_of};

#[test]
fn b32_what_others_do_is_told_once() {
    let (mut w, a, b) = two_of(PROSODY);
    w.other_joins("carol", TEA);
    w.other(
        "carol",
        "<presence to='tea@rooms.test/carol'><show>away</show></presence>",
    );
    w.other(
        "carol",
        "<presence to='tea@rooms.test/carol' type='unavailable'/>",
    );
    w.run();
    both(
        &mut w,
        a,
        b,
        &["presence carol", "presence carol away", "gone carol"],
    );
}

#[test]
fn b33_anothers_change_of_nick() {
    let (mut w, a, b) = two_of(PROSODY);
    w.other("bob", "<presence to='tea@rooms.test/rob'/>");
    w.run();
    both(&mut w, a, b, &["gone bob 303", "presence rob"]);
    let c = w.bind("third");
    w.join(c, TEA, "alice");
    assert_eq!(
        w.seen(c),
        ["presence rob", "presence alice 110", "subject room: "]
    );
}

/// That no session sees the full JID of another is checked with every stanza of every test.
#[test]
fn b39_the_accounts_items_show_the_receiver() {
    let mut w = World::new();
    w.service.room(TEA).non_anonymous = true;
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.join(b, TEA, "alice");
    let raw = w.raw(b);
    assert!(raw[1].contains("jid='alice@test/desk'"), "{}", raw[1]);
    assert!(raw[0].contains("jid='bob@test/pc'"), "{}", raw[0]);
    w.service.remove(TEA, "alice", 307);
    w.run();
    assert!(w.raw(a)[0].contains("jid='alice@test/phone'"));
    assert!(w.raw(b)[0].contains("jid='alice@test/desk'"));
}

#[test]
fn b39_a_session_that_acts_on_another_occupant_is_not_shown_as_the_carrier() {
    let (mut w, a, b) = two_of(PROSODY);
    let kicked = "<presence type='unavailable' from='tea@rooms.test/bob' to='alice@test/phone'>\
        <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'>\
        <actor nick='alice' jid='alice@test/phone'/></item><status code='307'/></x></presence>";
    w.service
        .out
        .push(("alice@test/phone".into(), kicked.into()));
    w.run();
    assert_eq!(w.seen(a), ["gone bob 307"]);
    assert!(w.raw(b)[0].contains("<actor nick='alice' jid='alice@test/desk'/>"));
}

/// The proxy once refused it with `not-acceptable`, though the session was in the room.
#[test]
fn b69_a_subscription_to_a_room_is_between_the_accounts() {
    let (mut w, a, b) = two_of(PROSODY);
    for id in [a, b] {
        let up = w.up(id);
        w.sent(up);
        let subscribe = "<presence type='subscribe' id='s' to='tea@rooms.test'/>";
        w.send(id, subscribe);
        assert_eq!(w.sent(up), [subscribe]);
    }
    let refused = "<presence type='unsubscribed' from='tea@rooms.test' to='alice@test'/>";
    w.service
        .out
        .push(("alice@test/phone".into(), refused.into()));
    w.run();
    assert_eq!(w.raw(a), [refused]);
    assert!(w.raw(b).is_empty());
}

#[test]
fn b32_a_probe_is_sent_by_the_occupant() {
    let (mut w, a, b) = two_of(PROSODY);
    let up = w.up(a);
    w.sent(up);
    let probe = "<presence type='probe' id='p' to='tea@rooms.test/bob'/>";
    w.send(b, probe);
    assert_eq!(w.sent(up), [probe]);
}

/// A late joiner was once told who had given an occupant its standing, and why, as if that were
/// happening now.
#[test]
fn b32_the_reason_of_a_change_is_told_once() {
    let (mut w, a, _) = two_of(PROSODY);
    for nick in ["bob", "alice"] {
        let hushed = format!(
            "<presence from='tea@rooms.test/{nick}' to='alice@test/phone'>\
             <x xmlns='http://jabber.org/protocol/muc#user'>\
             <item affiliation='none' role='visitor'><actor nick='eve'/><reason>hush</reason></item>\
             </x></presence>"
        );
        w.service.out.push(("alice@test/phone".into(), hushed));
    }
    w.run();
    assert_eq!(w.raw(a).concat().matches("hush").count(), 2);
    let c = w.bind("third");
    w.join(c, TEA, "alice");
    let told = w.raw(c).concat();
    assert_eq!(told.matches("role='visitor'").count(), 2, "{told}");
    assert!(!told.contains("eve") && !told.contains("hush"), "{told}");
}
