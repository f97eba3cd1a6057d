//! Behaviours 37, 38 and 40: the account's one presence.

use std::time::Duration;

use crate::dialect::{self, PROSODY};
use crate::world::{TEA, World, both, two_of};

fn show(w: &mut World, session: u64, show: &str) {
    let show = match show {
        "" => String::new(),
        show => format!("<show>{show}</show>"),
    };
    let xml = format!("<presence to='tea@rooms.test/alice' id='p'>{show}</presence>");
    w.send(session, &xml);
    w.run();
}

/// The most available of two: whoever is `down` does not count while another is up.
#[test]
fn b37_the_most_available_session_is_the_accounts_status() {
    for (rank, better) in ["dnd", "xa", "away"].iter().zip(["xa", "away", ""]) {
        let (mut w, a, b) = two_of(PROSODY);
        show(&mut w, a, rank);
        // The other one is available still.
        assert!(w.seen_by_other("bob").is_empty());
        show(&mut w, b, rank);
        assert_eq!(w.seen_by_other("bob"), [format!("presence alice {rank}")]);
        show(&mut w, b, better);
        let told = format!("presence alice {better}").trim().to_owned();
        assert_eq!(w.seen_by_other("bob"), [told]);
    }
}

#[test]
fn b37_among_equals_the_last_word_counts() {
    let (mut w, a, b) = two_of(PROSODY);
    show(&mut w, a, "chat");
    show(&mut w, b, "");
    assert_eq!(
        w.seen_by_other("bob"),
        ["presence alice chat", "presence alice"]
    );
    // A session that joins takes nothing over from an equal, and does from a lesser one.
    show(&mut w, a, "away");
    show(&mut w, b, "away");
    w.seen_by_other("bob");
    let c = w.bind("third");
    w.send(
        c,
        "<presence to='tea@rooms.test/alice'><show>away</show><status>out</status>\
        <x xmlns='http://jabber.org/protocol/muc'/></presence>",
    );
    w.run();
    assert!(w.seen_by_other("bob").is_empty());
    let d = w.bind("fourth");
    w.join(d, TEA, "alice");
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["presence alice"]);
}

#[test]
fn b37_the_status_follows_those_who_come_and_go() {
    let (mut w, a, b) = two_of(PROSODY);
    show(&mut w, b, "away");
    assert!(w.seen_by_other("bob").is_empty());
    w.cut(a);
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["presence alice away"]);
    let c = w.bind("third");
    w.joined(c, "alice");
    assert_eq!(w.seen_by_other("bob"), ["presence alice"]);
    w.leave(c, TEA, "alice");
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["presence alice away"]);
}

#[test]
fn b37_nobody_there_is_xa_but_not_at_once() {
    let (mut w, a, b) = two_of(PROSODY);
    w.bind("idle");
    w.cut(a);
    w.cut(b);
    w.run();
    w.wait(Duration::from_secs(4));
    w.run();
    assert!(w.seen_by_other("bob").is_empty());
    w.wait(Duration::from_secs(2));
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["presence alice xa"]);
    let c = w.bind("phone2");
    w.joined(c, "alice");
    assert_eq!(w.seen_by_other("bob"), ["presence alice"]);
}

#[test]
fn b38_a_presence_is_answered_also_when_it_changes_nothing() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        // The other one is available: the room is told nothing.
        show(&mut w, b, "away");
        assert_eq!(w.seen(b), ["presence alice 110"]);
        assert!(w.seen(a).is_empty());
        show(&mut w, a, "away");
        both(&mut w, a, b, &["presence alice away 110"]);
        show(&mut w, a, "away");
        assert_eq!(w.seen(a), ["presence alice away 110"]);
        assert!(w.seen(b).is_empty());
        assert_eq!(w.seen_by_other("bob"), ["presence alice away"]);
    }
}

#[test]
fn b38_the_answer_has_the_id_where_the_service_gives_ids_back() {
    let (mut w, _, b) = two_of(PROSODY);
    show(&mut w, b, "away");
    assert!(w.raw(b)[0].contains("id='p'"));
}

/// What the room is asked of the account is asked of the session whose capabilities it sees.
#[test]
fn b40_capabilities_and_answers_are_of_one_session() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(
        b,
        "<presence to='tea@rooms.test/alice'><c xmlns='http://jabber.org/protocol/caps' \
        hash='sha-1' node='urn:desk' ver='d='/></presence>",
    );
    w.run();
    w.raw(a);
    w.raw(b);
    let ask = "<iq type='get' to='tea@rooms.test/alice' id='i'>\
        <query xmlns='http://jabber.org/protocol/disco#info' node='urn:desk#d='/></iq>";
    w.other("bob", ask);
    w.run();
    assert!(w.seen(a).is_empty());
    assert_eq!(w.seen(b).len(), 1);
    // It goes: the room sees the other one's, and asks that one.
    w.cut(b);
    w.run();
    w.raw(a);
    let seen = w.outside.remove("bob@test/pc").unwrap();
    let last = seen.last().unwrap();
    assert!(
        last.starts_with("<presence") && !last.contains("caps"),
        "{last}"
    );
    w.other("bob", ask);
    w.run();
    assert_eq!(w.seen(a).len(), 1);
}

/// The next carrier's join says what the account's status is by then.
#[test]
fn b37_the_carriers_own_session_goes_and_its_status_with_it() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        show(&mut w, b, "away");
        w.seen(b);
        w.cut(a);
        w.run();
        w.wait(Duration::from_secs(11));
        w.run();
        assert_eq!(w.seen(b), ["presence alice away 110"], "{}", dialect.name);
        let up = w.up(b);
        w.sent(up);
        let (mut w, a, b) = two_of(dialect);
        show(&mut w, b, "away");
        let up = w.up(a);
        w.lose(up);
        w.run();
        w.wait(Duration::from_secs(20));
        w.run();
        let seen = w.seen_by_other("bob");
        assert_eq!(
            seen.last().unwrap(),
            "presence alice away",
            "{}",
            dialect.name
        );
    }
}
