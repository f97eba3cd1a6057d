//! Behaviours 27 and 28: private messages and carbons.

use mucplex_muc::NickConflict;

use crate::dialect::PROSODY;
use crate::world::{TEA, World, both, two_in, two_of};

const WHISPER: &str =
    "<message type='chat' to='tea@rooms.test/bob' id='w'><body>psst</body></message>";

impl World {
    /// The session asks for carbons, and the server grants them.
    fn carbons(&mut self, session: u64, what: &str) {
        self.send(
            session,
            &format!("<iq type='set' id='c'><{what} xmlns='urn:xmpp:carbons:2'/></iq>"),
        );
        self.service_sends(session, "<iq type='result' id='c' to='{to}'/>");
        self.run();
        self.raw(session);
    }

    /// The server's copy of a message that `by` has sent to bob's nick or got from there.
    fn carbon(&mut self, session: u64, what: &str, by: &str) {
        let (from, to) = match what {
            "sent" => (by, "tea@rooms.test/bob"),
            _ => ("tea@rooms.test/bob", by),
        };
        self.service_sends(
            session,
            &format!(
                "<message from='alice@test' to='{{to}}' type='chat'><{what} xmlns='urn:xmpp:carbons:2'>\
                 <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{from}' to='{to}' \
                 type='chat' id='w'><body>psst</body></message></forwarded></{what}></message>"
            ),
        );
    }
}

fn whispered(w: &mut World, session: u64, whisper: &str) {
    w.send(session, whisper);
    w.run();
}

#[test]
fn b28_the_others_with_carbons_get_one_copy() {
    let (mut w, a, b) = two_of(PROSODY);
    let (c, d) = (w.bind("third"), w.bind("fourth"));
    for session in [c, d] {
        w.joined(session, "alice");
    }
    for session in [a, b, c] {
        w.carbons(session, "enable");
    }
    // The sender is not the carrier; the server gives copies to all others but that.
    whispered(&mut w, b, WHISPER);
    for session in [b, c] {
        w.carbon(session, "sent", "alice@test/phone");
    }
    w.run();
    for session in [a, c] {
        let raw = w.raw(session);
        assert_eq!(raw.len(), 1, "{raw:?}");
        let to = w.sessions[&session].jid.clone();
        assert_eq!(
            raw[0],
            format!(
                "<message from='alice@test' to='{to}' type='chat'><sent xmlns='urn:xmpp:carbons:2'>\
                 <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='alice@test/desk' \
                 type='chat' to='tea@rooms.test/bob' id='w'><body>psst</body></message></forwarded></sent></message>"
            )
        );
    }
    both(&mut w, b, d, &[]);
    assert_eq!(
        w.seen_by_other("bob").last().unwrap(),
        "private alice: psst"
    );
    w.carbons(c, "disable");
    whispered(&mut w, a, WHISPER);
    assert!(w.raw(c).is_empty());
}

#[test]
fn b28_what_asks_not_to_be_copied_is_not() {
    let (mut w, a, b) = two_of(PROSODY);
    w.carbons(a, "enable");
    for kept in [
        "<body>psst</body><private xmlns='urn:xmpp:carbons:2'/>",
        "<body>psst</body><no-copy xmlns='urn:xmpp:hints'/>",
    ] {
        whispered(
            &mut w,
            b,
            &format!("<message type='chat' to='tea@rooms.test/bob'>{kept}</message>"),
        );
    }
    whispered(
        &mut w,
        b,
        "<message to='tea@rooms.test/bob'><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
    );
    both(&mut w, a, b, &[]);
    whispered(
        &mut w,
        b,
        "<message to='tea@rooms.test/bob'><body>psst</body></message>",
    );
    assert_eq!(w.raw(a).len(), 1);
}

/// The server gives a session that is not in the room its copies itself, but for the carrier's own,
/// which it takes for the sender.
#[test]
fn b28_sessions_that_have_not_joined() {
    let (mut w, a, b) = two_of(PROSODY);
    let (c, d) = (w.bind("third"), w.bind("fourth"));
    w.joined(d, "alice");
    for session in [a, c, d] {
        w.carbons(session, "enable");
    }
    for session in [a, d] {
        w.leave(session, TEA, "alice");
        w.run();
        w.raw(session);
    }
    whispered(&mut w, b, WHISPER);
    for session in [b, c, d] {
        w.carbon(session, "sent", "alice@test/phone");
    }
    w.run();
    for session in [a, c, d] {
        assert_eq!(w.raw(session).len(), 1, "{session}");
    }
    assert!(w.raw(b).is_empty());
}

#[test]
fn b28_a_client_past_the_proxy_is_no_session() {
    let (mut w, a, b) = two_of(PROSODY);
    for session in [a, b] {
        w.carbons(session, "enable");
        w.carbon(session, "sent", "alice@test/elsewhere");
        w.run();
        assert_eq!(w.raw(session).len(), 1);
    }
}

#[test]
fn b27_a_private_message_comes_once_with_carbons_and_without() {
    let (mut w, a, b) = two_of(PROSODY);
    let c = w.bind("third");
    for session in [b, c] {
        w.carbons(session, "enable");
    }
    w.other(
        "bob",
        "<message type='chat' to='tea@rooms.test/alice'><body>psst</body></message>",
    );
    for session in [b, c] {
        w.carbon(session, "received", "alice@test/phone");
    }
    w.run();
    both(&mut w, a, b, &["private bob: psst"]);
    // One that has not joined gets what the server gives it.
    let raw = w.raw(c);
    assert_eq!(raw.len(), 1);
    assert!(raw[0].contains("<received "), "{raw:?}");
}

/// Carbons are granted by the account's own server, and by its answer to the request.
#[test]
fn b28_nobody_else_can_enable_carbons() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(
        a,
        "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
    );
    w.service_sends(a, "<iq type='result' id='c' from='bob@test' to='{to}'/>");
    w.service_sends(a, "<iq type='result' id='d' to='{to}'/>");
    w.service_sends(a, "<iq type='error' id='c' to='{to}'/>");
    w.service_sends(a, "<iq type='result' id='c' to='{to}'/>");
    w.run();
    w.raw(a);
    whispered(&mut w, b, WHISPER);
    assert!(w.raw(a).is_empty());
}

/// What a session that is in the room on its own says and gets in private, the others have from
/// nobody but the server.
#[test]
fn b28_copies_of_what_a_separate_session_says() {
    let mut w = World::new();
    w.policy.nick_conflict = NickConflict::Separate;
    let (mut w, a, b) = two_in(w);
    let c = w.bind("third");
    w.joined(c, "ally");
    w.raw(a);
    w.raw(b);
    for what in ["sent", "received"] {
        for session in [a, b] {
            w.carbons(session, "enable");
            w.carbon(session, what, "alice@test/third");
            w.run();
            assert_eq!(w.raw(session).len(), 1, "{what}");
        }
        w.carbons(c, "enable");
        w.carbon(c, what, "alice@test/phone");
        w.run();
        assert_eq!(w.raw(c).len(), 1, "{what}");
    }
}

#[test]
fn b27_copies_of_what_a_client_past_the_proxy_gets() {
    let (mut w, a, b) = two_of(PROSODY);
    for session in [a, b] {
        w.carbons(session, "enable");
        w.carbon(session, "received", "alice@test/elsewhere");
        w.run();
        assert_eq!(w.raw(session).len(), 1);
    }
}

/// The carrier is lost with a private message on its way, and the server's copy comes after that.
#[test]
fn b28_a_copy_that_comes_when_the_carrier_is_lost() {
    let (mut w, a, b) = two_of(PROSODY);
    w.carbons(b, "enable");
    w.send(b, WHISPER);
    let up = w.up(a);
    w.lose(up);
    w.carbon(b, "sent", "alice@test/phone");
    w.run();
    let raw = w.raw(b);
    assert!(raw.iter().all(|xml| !xml.contains("<sent ")), "{raw:?}");
}
