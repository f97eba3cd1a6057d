//! What others send to an anchor's full JID, and what the server asks it (behaviours 54, 76).

use crate::dialect::PROSODY;
use crate::world::{ALICE, World, two_of};

/// Two sessions in the room, an anchor, and the anchor's full JID.
fn anchored() -> (World, u64, u64, u64) {
    let (mut w, a, b) = two_of(PROSODY);
    let anchor = w.anchor(ALICE);
    w.run();
    for session in [a, b] {
        w.raw(session);
    }
    w.sent(anchor);
    (w, a, b, anchor)
}

/// Something comes on the anchor, `{to}` standing for its JID.
fn comes(w: &mut World, anchor: u64, xml: &str) {
    let to = w.uplinks[&anchor].jid.clone();
    w.service.send(&to, xml.replace("{to}", &to));
    w.sort_out();
    w.run();
}

#[test]
fn b76_a_message_reaches_every_session_in_a_room() {
    let (mut w, a, b, anchor) = anchored();
    let outside = w.bind("elsewhere");
    comes(
        &mut w,
        anchor,
        "<message from='bob@test/pc' to='{to}' type='chat'><body>hi</body></message>",
    );
    assert_eq!(
        w.raw(a),
        ["<message from='bob@test/pc' to='alice@test/phone' type='chat'><body>hi</body></message>"]
    );
    assert_eq!(
        w.raw(b),
        ["<message from='bob@test/pc' to='alice@test/desk' type='chat'><body>hi</body></message>"]
    );
    assert!(w.raw(outside).is_empty() && w.sent(anchor).is_empty());
}

#[test]
fn b76_a_request_reaches_one_and_is_answered_once() {
    let (mut w, a, b, anchor) = anchored();
    w.sleep(a);
    comes(
        &mut w,
        anchor,
        "<iq from='bob@test/pc' to='{to}' type='get' id='7'><q xmlns='urn:test:q' n='1'/></iq>",
    );
    assert!(w.raw(a).is_empty());
    let asked = w.raw(b);
    assert_eq!(asked.len(), 1);
    let id = crate::service::parse(&asked[0]).id().unwrap().into_owned();
    let answer = format!("<iq to='bob@test/pc' type='result' id='{id}' from='alice@test/desk'/>");
    w.send(b, &answer);
    assert_eq!(
        w.sent(anchor),
        ["<iq to='bob@test/pc' type='result' id='7'/>"]
    );
    // A second answer is none, and goes as any other stanza.
    w.send(b, &answer);
    assert!(w.sent(anchor).is_empty());
}

#[test]
fn b76_who_goes_without_an_answer_is_followed_by_another() {
    let (mut w, a, b, anchor) = anchored();
    comes(
        &mut w,
        anchor,
        "<iq from='bob@test/pc' to='{to}' type='get' id='7'><q xmlns='urn:test:q' n='1'/></iq>",
    );
    assert_eq!((w.raw(a).len(), w.raw(b).len()), (1, 0));
    w.cut(a);
    assert_eq!(w.raw(b).len(), 1);
    w.cut(b);
    w.run();
    let sent = w.sent(anchor);
    assert!(
        sent.iter()
            .any(|it| it.contains("id='7'") && it.contains("service-unavailable"))
    );
}

#[test]
fn b76_nobody_is_there() {
    let (mut w, a, b, anchor) = anchored();
    w.cut(a);
    w.cut(b);
    w.run();
    w.sent(anchor);
    for (payload, answered) in [
        ("<ping xmlns='urn:xmpp:ping'/>", "result"),
        ("<query xmlns='jabber:iq:version'/>", "result"),
        (
            "<query xmlns='http://jabber.org/protocol/disco#info'/>",
            "result",
        ),
        ("<q xmlns='urn:test:q' n='1'/>", "error"),
    ] {
        let xml = format!("<iq from='bob@test/pc' to='{{to}}' type='get' id='7'>{payload}</iq>");
        comes(&mut w, anchor, &xml);
        let sent = w.sent(anchor);
        assert_eq!(sent.len(), 1);
        assert!(sent[0].contains(&format!("type='{answered}'")), "{sent:?}");
    }
    comes(
        &mut w,
        anchor,
        "<message from='bob@test/pc' to='{to}' type='chat' id='1'><body>hi</body></message>",
    );
    assert!(w.sent(anchor)[0].contains("service-unavailable"));
    // Behaviour 58.
    for xml in [
        "<message from='den@rooms.test/bob' to='{to}' type='chat'><body>hi</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>",
        "<message from='den@rooms.test/bob' to='{to}' type='groupchat'><body>hi</body></message>",
        "<message from='bob@test/pc' to='{to}' type='error'/>",
        "<presence from='bob@test' to='{to}' type='subscribe'/>",
        "<iq from='bob@test/pc' to='{to}' type='result' id='x'/>",
    ] {
        comes(&mut w, anchor, xml);
        assert!(w.sent(anchor).is_empty(), "{xml}");
    }
}

#[test]
fn b54_the_server_is_answered_by_the_proxy() {
    let (mut w, a, b, anchor) = anchored();
    for from in ["from='test' ", "from='alice@test' ", ""] {
        comes(
            &mut w,
            anchor,
            &format!("<iq {from}to='{{to}}' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>"),
        );
        let sent = w.sent(anchor);
        assert!(sent.len() == 1 && sent[0].contains("type='result'") && sent[0].contains("id='p'"));
        assert!(w.raw(a).is_empty() && w.raw(b).is_empty());
    }
}
