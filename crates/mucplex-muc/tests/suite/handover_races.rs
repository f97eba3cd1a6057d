//! Races around a hand-over that went wrong once: each a story of its own.

use std::time::Duration;

use crate::dialect::{EJABBERD, PROSODY, SPARSE};
use crate::world::{TEA, World, two_of};

fn show(w: &mut World, show: &str) {
    w.other(
        "bob",
        &format!("<presence to='tea@rooms.test/bob'><show>{show}</show></presence>"),
    );
}

/// ```text
///   old  ── away ── chat ── away ──┤
///   next              [join] away ── chat …
/// ```
/// The next carrier's first "away" is the old one's second, and its "chat" is new; taken for the
/// old one's, bob stayed away for the sessions.
#[test]
fn presences_that_look_alike() {
    let (mut w, a, b) = two_of(PROSODY);
    let (old, new) = (w.up(a), w.up(b));
    w.cut(a);
    show(&mut w, "away");
    show(&mut w, "chat");
    w.all_up(new);
    show(&mut w, "away");
    w.all_down(old);
    w.all_down(new);
    w.all_up(old);
    w.all_down(old);
    show(&mut w, "chat");
    w.run();
    assert_eq!(w.seen(b).last().unwrap(), "presence bob chat");
    w.join(b, TEA, "alice");
    assert_eq!(w.seen(b)[0], "presence bob chat");
}

/// The uplink breaks after the next carrier is in, but before all of what came before its join
/// has been read: that was taken for a clean end, and the messages between were lost.
#[test]
fn the_old_uplink_breaks_before_its_mark() {
    for dialect in [PROSODY, EJABBERD] {
        let (mut w, a, b) = two_of(dialect);
        let (old, new) = (w.up(a), w.up(b));
        w.cut(a);
        w.other_says("bob", TEA, "one");
        w.all_up(new);
        w.all_down(new);
        w.other_says("bob", TEA, "two");
        w.lose(old);
        w.run();
        assert_eq!(w.seen(b), ["past bob: one", "message bob: two"]);
    }
}

/// A leave and a join on one uplink: the answers of the stay that is over once passed for those of
/// the new one, and the account's "unavailable" for a kick.
#[test]
fn a_join_behind_a_leave_on_one_uplink() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let a = w.bind("phone");
    w.join(a, TEA, "alice");
    w.unavailable(a);
    w.join(a, TEA, "alice");
    w.run();
    assert_eq!(
        w.seen(a),
        ["presence bob", "presence alice 110", "subject room: "]
    );
    w.say(a, TEA, "1", "hi");
    w.run();
    assert_eq!(w.seen(a), ["message alice: hi"]);
}

/// The old carrier's room was destroyed, and nobody saw it: the next one's join has made a new
/// room of that name, and what was said in the old one is nobody's business there.
#[test]
fn a_room_that_is_another_one_by_now() {
    let (mut w, a, b) = two_of(PROSODY);
    w.other_says("bob", TEA, "old");
    w.run();
    w.seen(b);
    w.service.destroy(TEA);
    let up = w.up(a);
    w.sort_out();
    w.lose(up);
    w.run();
    assert!(w.seen(b).contains(&"gone bob".to_owned()));
    let c = w.bind("third");
    w.join(c, TEA, "alice");
    assert_eq!(w.seen(c), ["presence alice 110", "subject room: "]);
}

/// A service that tells no subject kept a hand-over waiting for 30 seconds, and then every session
/// was told that the room was lost.
#[test]
fn no_subject_in_a_silent_room() {
    let (mut w, a, b) = two_of(SPARSE);
    w.cut(a);
    w.run();
    w.wait(Duration::from_secs(11));
    w.run();
    assert!(!w.uplinks[&w.up(a)].open);
    w.wait(Duration::from_secs(60));
    assert!(w.seen(b).is_empty());
    w.other_says("bob", TEA, "hi");
    w.run();
    assert_eq!(w.seen(b), ["message bob: hi"]);
}

/// The carrier goes, comes back under another resource at once, and goes again.
#[test]
fn a_carrier_that_flaps() {
    let (mut w, mut a, b) = two_of(EJABBERD);
    for n in 0..20 {
        w.cut(a);
        if n % 3 == 0 {
            w.run();
        }
        a = w.bind(&format!("phone{n}"));
        w.join(a, TEA, "alice");
        w.other_says("bob", TEA, &format!("m{n}"));
        w.unavailable(b);
        if n % 2 == 0 {
            w.run();
        }
        w.run();
        w.join(b, TEA, "alice");
    }
    w.run();
    let told = w.seen_by_other("bob");
    assert!(
        told.iter().all(|line| !line.starts_with("gone")),
        "{told:?}"
    );
    w.seen(b);
    w.other_says("bob", TEA, "end");
    w.run();
    assert_eq!(w.seen(b), ["message bob: end"]);
}

impl World {
    /// The service gives the account another nick.
    fn rename_account(&mut self, by: u64, nick: &str) {
        let stream = self.sessions[&by].jid.clone();
        let change = format!("<presence to='{TEA}/{nick}'/>");
        self.service.handle(&stream, &change);
        self.sort_out();
    }
}

/// The room renames the account while both carriers are in it, and each of them brings that, or
/// the next one alone.
#[test]
fn b34_a_change_of_nick_that_two_carriers_bring() {
    for case in ["old first", "next in", "next first", "next alone"] {
        let (mut w, a, b) = two_of(PROSODY);
        let (old, next) = (w.up(a), w.up(b));
        w.cut(a);
        w.all_up(next);
        if case.ends_with("in") || case.ends_with("alone") {
            w.all_down(next);
        }
        if case == "next alone" {
            w.all_up(old);
        }
        w.rename_account(b, "ally");
        match case {
            "old first" | "next in" => w.all_down(old),
            _ => w.all_down(next),
        }
        w.run();
        assert_eq!(
            w.seen(b),
            ["gone alice 110 303", "presence ally 110"],
            "{case}"
        );
        w.say(b, TEA, "1", "hi");
        w.run();
        assert_eq!(w.seen(b), ["message ally: hi"], "{case}");
        let c = w.bind("third");
        w.join(c, TEA, "ally");
        assert_eq!(w.seen(c)[..2], ["presence bob", "presence ally 110"]);
    }
}

/// The next carrier has been told that the account is put out, and the old one is lost before it
/// is: nobody told the sessions.
#[test]
fn b47_a_kick_that_the_next_carrier_alone_brings() {
    for (code, back) in [(307, false), (333, true)] {
        let (mut w, a, b) = two_of(PROSODY);
        let (old, next) = (w.up(a), w.up(b));
        // The old carrier stays for an answer.
        w.send(
            b,
            "<iq type='get' to='tea@rooms.test/bob' id='1'><query xmlns='jabber:iq:version'/></iq>",
        );
        w.run();
        w.cut(a);
        w.all_up(next);
        w.all_down(next);
        w.service.remove(TEA, "alice", code);
        w.sort_out();
        w.all_down(next);
        w.lose(old);
        w.run();
        let mut told = vec!["error iq 1 remote-server-timeout"];
        if !back {
            told.push("gone alice 110 307");
        }
        assert_eq!(w.seen(b), told);
        assert_eq!(w.service.known(TEA).nick("alice").is_some(), back);
    }
}

/// What waited for a hand-over goes out before the account leaves, on the next carrier; an error
/// for it is its sender's.
#[test]
fn b24_an_error_for_what_went_out_before_the_account_left() {
    let (mut w, a, b) = two_of(PROSODY);
    let c = w.bind("third");
    w.joined(c, "alice");
    let next = w.up(b);
    w.cut(a);
    w.all_up(next);
    w.all_down(next);
    w.say(c, TEA, "1", "hi");
    for session in [b, c] {
        w.leave(session, TEA, "alice");
    }
    let sent = w.sent(next);
    assert!(sent.iter().any(|xml| xml.contains("id='1'")), "{sent:?}");
    w.service_sends(
        b,
        "<message type='error' from='tea@rooms.test' to='{to}' id='1'><error type='auth'>\
         <forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
    );
    w.all_down(next);
    assert_eq!(w.seen(b), ["gone alice 110"]);
    assert_eq!(w.seen(c), ["gone alice 110", "error message 1 forbidden"]);
}
