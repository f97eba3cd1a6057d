//! Behaviours 20 to 29: messages.

use crate::dialect::{self, EJABBERD, PROSODY};
use crate::service::parse;
use crate::world::{TEA, World, two_of};

fn two() -> (World, u64, u64) {
    two_of(PROSODY)
}

#[test]
fn b20_a_message_is_reflected_once_to_each_session() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.say(b, TEA, "7", "hi");
        w.run();
        assert_eq!(w.sent(w.up(a)).len() + w.sent(w.up(b)).len(), 1);
        let (first, second) = (w.raw(a), w.raw(b));
        assert_eq!(first.len(), 1);
        assert!(first[0].contains("id='7'"));
        assert_eq!(first[0].replace("/phone", "/desk"), second[0]);
        assert_eq!(w.seen_by_other("bob"), ["message alice: hi"]);
    }
}

#[test]
fn b21_anothers_message_comes_once_and_is_shared() {
    let (mut w, a, b) = two();
    let before = w.uplinks[&w.up(b)].down.len();
    w.other_says("bob", TEA, "hi");
    assert_eq!(w.uplinks[&w.up(b)].down.len(), before);
    w.run();
    assert_eq!(w.seen(a), ["message bob: hi"]);
    assert_eq!(w.seen(b), ["message bob: hi"]);
}

#[test]
fn b22_messages_without_a_body_fan_out_alike() {
    let (mut w, a, b) = two();
    for payload in [
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
        "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>",
    ] {
        w.other(
            "bob",
            &format!("<message to='{TEA}' type='groupchat'>{payload}</message>"),
        );
    }
    w.run();
    assert_eq!(
        w.seen(a),
        ["message bob: composing", "message bob: reactions"]
    );
    assert_eq!(
        w.seen(b),
        ["message bob: composing", "message bob: reactions"]
    );
}

#[test]
fn b23_all_see_messages_and_presences_in_the_rooms_order() {
    let (mut w, a, b) = two();
    w.other_says("bob", TEA, "1");
    w.other(
        "bob",
        "<presence to='tea@rooms.test/bob'><show>away</show></presence>",
    );
    w.other_joins("carol", TEA);
    w.other_says("carol", TEA, "2");
    w.run();
    let expected = [
        "message bob: 1",
        "presence bob away",
        "presence carol",
        "message carol: 2",
    ];
    assert_eq!(w.seen(a), expected);
    assert_eq!(w.seen(b), expected);
}

#[test]
fn b24_an_error_finds_its_sender() {
    let (mut w, a, b) = two();
    // Both with one id: the first answer is the first one's.
    w.say(a, TEA, "1", "x");
    w.say(b, TEA, "1", "y");
    let up = w.up(a);
    w.uplinks.get_mut(&up).unwrap().up.clear();
    let error = "<message type='error' from='tea@rooms.test' to='alice@test/phone' id='1'><error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>";
    w.service
        .out
        .push(("alice@test/phone".into(), error.into()));
    w.run();
    assert_eq!(w.seen(a), ["error message 1 forbidden"]);
    assert!(w.seen(b).is_empty());
    w.service
        .out
        .push(("alice@test/phone".into(), error.into()));
    w.run();
    assert!(w.seen(a).is_empty());
    assert_eq!(w.seen(b), ["error message 1 forbidden"]);
}

#[test]
fn b26_a_session_that_has_not_joined_cannot_speak() {
    let (mut w, a, _) = two();
    let c = w.bind("third");
    w.say(c, TEA, "1", "x");
    w.run();
    assert_eq!(w.seen(c), ["error message 1 not-acceptable"]);
    w.leave(a, TEA, "alice");
    w.seen(a);
    w.say(a, TEA, "2", "x");
    w.run();
    assert_eq!(w.seen(a), ["error message 2 not-acceptable"]);
    assert!(w.seen_by_other("bob").is_empty());
}

#[test]
fn b27_a_private_message_reaches_each_session_once() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.other(
            "bob",
            "<message to='tea@rooms.test/alice' type='chat'><body>psst</body></message>",
        );
        w.run();
        assert_eq!(w.seen(a), ["private bob: psst"]);
        let raw = w.raw(b);
        assert_eq!(raw.len(), 1);
        assert!(raw[0].contains("<x xmlns='http://jabber.org/protocol/muc#user'/>"));
    }
}

#[test]
fn b28_a_private_message_goes_out_once_without_an_echo() {
    let (mut w, a, b) = two();
    w.send(
        b,
        "<message to='tea@rooms.test/bob' type='chat' id='p'><body>psst</body></message>",
    );
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["private alice: psst"]);
    assert!(w.seen(a).is_empty() && w.seen(b).is_empty());
}

#[test]
fn b29_a_private_message_to_nobody() {
    let (mut w, a, b) = two();
    w.send(
        b,
        "<message to='tea@rooms.test/ghost' type='chat' id='p'><body>psst</body></message>",
    );
    w.run();
    assert_eq!(w.seen(b), ["error message p item-not-found"]);
    assert!(w.seen(a).is_empty());
}

/// What a room says to the account, a server gives to each available resource. The carrier's copy
/// once went to every session beside its own.
#[test]
fn b30_an_invitation_or_a_decline_reaches_each_session_once() {
    let (mut w, a, b) = two();
    let decline = "<message from='tea@rooms.test' to='alice@test'>\
        <x xmlns='http://jabber.org/protocol/muc#user'><decline from='bob@test/pc'/></x></message>";
    for resource in ["phone", "desk"] {
        let copy = (format!("alice@test/{resource}"), decline.to_owned());
        w.service.out.push(copy);
    }
    w.run();
    for id in [a, b] {
        assert_eq!(w.seen(id), ["private room: "]);
    }
    // To the full JID that the room knows, it is for all who are in the room.
    let decline = decline.replace("to='alice@test'", "to='alice@test/phone'");
    w.service.out.push(("alice@test/phone".into(), decline));
    w.run();
    for id in [a, b] {
        assert_eq!(w.seen(id), ["private room: "]);
    }
}

#[test]
fn b30_what_goes_through_the_room_to_others_works_from_every_session() {
    let (mut w, a, b) = two();
    for (number, id) in [a, b].into_iter().enumerate() {
        for payload in [
            "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='carol@test'/></x>",
            "<x xmlns='http://jabber.org/protocol/muc#user'><decline to='bob@test'/></x>",
            "<x xmlns='jabber:x:data' type='submit'/>",
        ] {
            w.send(
                id,
                &format!("<message to='tea@rooms.test' id='m{number}'>{payload}</message>"),
            );
            let up = w.up(a);
            let sent = w.uplinks.get_mut(&up).unwrap().sent.pop().unwrap();
            assert!(sent.contains(payload), "{sent}");
        }
        assert!(w.uplinks[&w.up(b)].sent.is_empty());
    }
}

#[test]
fn b31_changes_of_the_configuration_reach_every_session() {
    let (mut w, a, b) = two();
    let changes: [(&[u16], &str, &str); 9] = [
        (&[104], "104", "110"),
        (&[170], "170", "110 170"),
        (&[172], "172", "110 100 170"),
        (&[171], "171", "110 100"),
        (&[173], "173", "110"),
        (&[104, 172], "104 172", "110 100"),
        (&[174], "174", "110"),
        (&[102], "102", "110"),
        (&[103], "103", "110"),
    ];
    for (codes, told, late) in changes {
        w.service.config_change(TEA, codes);
        w.run();
        for id in [a, b] {
            assert_eq!(w.seen(id), [format!("message room: {told}")]);
        }
        let c = w.bind("late");
        w.join(c, TEA, "alice");
        assert_eq!(w.seen(c)[1], format!("presence alice {late}"));
        w.leave(c, TEA, "alice");
        w.cut(c);
    }
}

#[test]
fn b58_an_error_of_a_session_never_reaches_the_room() {
    let (mut w, a, b) = two();
    w.send(a, "<message to='tea@rooms.test' type='error' id='e'/>");
    w.send(b, "<presence to='tea@rooms.test/bob' type='error'/>");
    w.send(b, "<iq to='tea@rooms.test/bob' type='error' id='e'/>");
    w.run();
    assert!(w.sent(w.up(a)).is_empty() && w.sent(w.up(b)).is_empty());
}

#[test]
fn b70_a_message_crosses_uplinks_without_its_sender_and_with_its_language() {
    let mut w = World::of(EJABBERD);
    let a = w.bind_as(crate::world::ALICE, "phone", Some("de"));
    let b = w.bind_as(crate::world::ALICE, "desk", Some("fr"));
    w.joined(a, "alice");
    w.joined(b, "alice");
    w.send(b, "<message from='alice@test/desk' to='tea@rooms.test' type='groupchat'><body>salut</body></message>");
    w.send(
        b,
        "<message xml:lang='en' to='tea@rooms.test' type='groupchat'><body>hi</body></message>",
    );
    w.send(a, "<message from='alice@test/phone' to='tea@rooms.test' type='groupchat'><body>hallo</body></message>");
    let sent = w.sent(w.up(a));
    assert_eq!(
        sent[0],
        "<message xml:lang='fr' to='tea@rooms.test' type='groupchat'><body>salut</body></message>"
    );
    assert_eq!(
        sent[1],
        "<message xml:lang='en' to='tea@rooms.test' type='groupchat'><body>hi</body></message>"
    );
    assert_eq!(
        sent[2],
        "<message from='alice@test/phone' to='tea@rooms.test' type='groupchat'><body>hallo</body></message>"
    );
}

#[test]
fn b30_a_request_for_voice_is_answered_once() {
    let form = |kind: &str, who: &str, allow: &str| {
        format!(
            "<x xmlns='jabber:x:data' type='{kind}'><field var='FORM_TYPE'>\
             <value>http://jabber.org/protocol/muc#request</value></field>\
             <field var='muc#jid'><value>{who}@test/pc</value></field>\
             <field var='muc#roomnick'><value>{who}</value></field>\
             <field var='muc#request_allow'><value>{allow}</value></field></x>"
        )
    };
    let (mut w, a, b) = two_of(PROSODY);
    let up = w.up(a);
    let asks = |w: &mut World, who: &str| {
        let form = form("form", who, "0");
        w.service_sends(
            a,
            &format!("<message from='{TEA}' to='{{to}}'>{form}</message>"),
        );
        w.run();
        assert_eq!(w.seen(a), ["private room: x"]);
        assert_eq!(w.seen(b), ["private room: x"]);
    };
    let answers = |w: &mut World, session: u64, who: &str, allow: &str| {
        w.sent(up);
        let form = form("submit", who, allow);
        w.send(session, &format!("<message to='{TEA}'>{form}</message>"));
        w.run();
        w.sent(up).len()
    };
    asks(&mut w, "bob");
    asks(&mut w, "carol");
    assert_eq!(answers(&mut w, b, "bob", "1"), 1);
    assert_eq!(answers(&mut w, a, "bob", "0"), 0);
    // One may change its mind.
    assert_eq!(answers(&mut w, b, "bob", "0"), 1);
    assert_eq!(answers(&mut w, a, "carol", "0"), 1);
    // Asked anew, it may be answered anew; and what nobody has asked for may be given.
    asks(&mut w, "bob");
    assert_eq!(answers(&mut w, a, "bob", "1"), 1);
    assert_eq!(answers(&mut w, b, "dave", "1"), 1);
    assert_eq!(answers(&mut w, a, "dave", "1"), 1);
}

/// The proxy once wrote the session's full JID on it.
#[test]
fn b70_an_invitation_is_addressed_to_the_account() {
    let (mut w, a, b) = two_of(PROSODY);
    let invitation = "<message from='tea@rooms.test' to='alice@test'>\
        <x xmlns='http://jabber.org/protocol/muc#user'><invite from='bob@test'/></x></message>";
    for stream in ["alice@test/phone", "alice@test/desk"] {
        w.service.out.push((stream.into(), invitation.into()));
    }
    w.run();
    assert_eq!(w.raw(a), [invitation]);
    assert_eq!(w.raw(b), [invitation]);
}

/// A service that gives no ids back: each message was taken for one that has not come back, and an
/// error came for all of them when a carrier was lost.
#[test]
fn b20_b24_messages_whose_ids_are_not_given_back() {
    for said in ["", " id='other'"] {
        let (mut w, a, b) = two_of(PROSODY);
        let up = w.up(a);
        for (n, body) in ["one", "two", "three"].iter().enumerate() {
            w.say(b, TEA, &format!("m{n}"), body);
        }
        // The last one does not get there.
        w.step_up(up);
        w.step_up(up);
        for xml in &mut w.uplinks.get_mut(&up).unwrap().down {
            for n in 0..2 {
                *xml = xml.replace(&format!(" id='m{n}'"), said);
            }
        }
        for (n, past) in w.service.room(TEA).past.iter_mut().enumerate() {
            let xml = String::from_utf8(past.frame.bytes().to_vec()).unwrap();
            past.frame = parse(&xml.replace(&format!(" id='m{n}'"), said));
        }
        w.all_down(up);
        w.lose(up);
        w.run();
        let seen = w.seen(b);
        assert_eq!(
            seen,
            [
                "message alice: one",
                "message alice: two",
                "error message m2 remote-server-timeout"
            ]
        );
    }
}

/// Requests for voice come from the room; an occupant's message that looks like one does not let a
/// second answer through.
#[test]
fn b30_an_occupant_forges_a_request_for_voice() {
    let form = |kind: &str| {
        format!(
            "<x xmlns='jabber:x:data' type='{kind}'><field var='FORM_TYPE'>\
             <value>http://jabber.org/protocol/muc#request</value></field>\
             <field var='muc#jid'><value>carol@test/pc</value></field>\
             <field var='muc#roomnick'><value>carol</value></field></x>"
        )
    };
    let (mut w, a, b) = two();
    let up = w.up(a);
    let request = form("form");
    w.service_sends(
        a,
        &format!("<message from='{TEA}' to='{{to}}'>{request}</message>"),
    );
    w.run();
    let answer = format!("<message to='{TEA}'>{}</message>", form("submit"));
    w.sent(up);
    w.send(a, &answer);
    assert_eq!(w.sent(up).len(), 1);
    w.other(
        "bob",
        &format!("<message type='chat' to='{TEA}/alice'>{request}</message>"),
    );
    w.run();
    w.send(b, &answer);
    assert!(w.sent(up).is_empty());
}

/// A session that has left says something to the room on its own stream, under the id of a message
/// of another session that is under way: the error was taken for that one's.
#[test]
fn b24_an_error_for_what_went_on_another_stream() {
    let (mut w, a, b) = two();
    w.leave(b, TEA, "alice");
    w.run();
    w.seen(b);
    w.say(a, TEA, "1", "hi");
    w.send(
        b,
        "<message to='tea@rooms.test' id='1'><body>hello?</body></message>",
    );
    let up = w.up(b);
    w.all_up(up);
    w.all_down(up);
    assert_eq!(w.seen(b), ["error message 1 not-acceptable"]);
    w.run();
    assert_eq!(w.seen(a), ["message alice: hi"]);
}
