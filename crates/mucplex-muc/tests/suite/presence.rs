//! Behaviours 32 to 39: presences and nicks.

use crate::dialect::{self, PROSODY};
use crate::world::{TEA, World, two_of};

fn both(w: &mut World, a: u64, b: u64, expected: &[&str]) {
    assert_eq!(w.seen(a), expected);
    assert_eq!(w.seen(b), expected);
}

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

/// Where the server does not give ids back, the new self-presence was once taken for one the
/// sessions knew already, and kept from them.
#[test]
fn b34_the_accounts_change_of_nick() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
        w.run();
        both(&mut w, a, b, &["gone alice 110 303", "presence ally 110"]);
        w.say(a, TEA, "1", "hi");
        w.run();
        both(&mut w, a, b, &["message ally: hi"]);
        // Somebody else takes the old nick; a late joiner that asks for it gets the account's.
        w.other("carol", "<presence to='tea@rooms.test/alice'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
        w.run();
        let c = w.bind("third");
        w.join(c, TEA, "alice");
        let seen = w.seen(c);
        assert!(
            seen.contains(&"presence alice".to_owned())
                && seen.contains(&"presence ally 110 210".to_owned()),
            "{seen:?}"
        );
    }
}

#[test]
fn b35_a_refused_change_of_nick_is_told_to_the_one_who_asked() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(b, "<presence to='tea@rooms.test/bob' id='n'/>");
    w.run();
    assert_eq!(w.seen(b), ["error presence n conflict"]);
    assert!(w.seen(a).is_empty());
    w.say(b, TEA, "1", "hi");
    w.run();
    both(&mut w, a, b, &["message alice: hi"]);
}

#[test]
fn b38_a_presence_is_answered_also_when_it_changes_nothing() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        for _ in 0..2 {
            w.send(
                b,
                "<presence to='tea@rooms.test/alice' id='p'><show>away</show></presence>",
            );
            w.run();
            both(&mut w, a, b, &["presence alice away 110"]);
        }
        assert!(
            w.seen_by_other("bob")
                .contains(&"presence alice away".to_owned())
        );
    }
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

/// Between the two presences of a change of nick, a late joiner was once shown under the old one.
#[test]
fn b34_a_session_joins_in_the_middle_of_a_change_of_nick() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
    w.all_up(w.up(a));
    w.step_down(w.up(a));
    let c = w.bind("third");
    w.join(c, TEA, "ally");
    w.run();
    assert_eq!(
        w.seen(c),
        [
            "presence bob",
            "presence ally 110",
            "subject room: ",
            "presence ally 110"
        ]
    );
}
