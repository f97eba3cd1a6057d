//! A room's bookmark is given up (XEP-0402; behaviour 45).

use crate::dialect::PROSODY;
use crate::world::{ALICE, TEA, World, two_of};

const RETRACT: &str = "<iq type='set' id='b1'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
    <retract node='urn:xmpp:bookmarks:1'><item id='tea@rooms.test'/></retract></pubsub></iq>";

fn publish(autojoin: &str) -> String {
    format!(
        "<iq type='set' id='b1' to='alice@test'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
         <publish node='urn:xmpp:bookmarks:1'><item id='tea@rooms.test'>\
         <conference xmlns='urn:xmpp:bookmarks:1'{autojoin}/></item></publish></pubsub></iq>"
    )
}

fn event(item: &str) -> String {
    format!(
        "<message from='alice@test' to='{{to}}'><event xmlns='http://jabber.org/protocol/pubsub#event'>\
         <items node='urn:xmpp:bookmarks:1'>{item}</items></event></message>"
    )
}

/// The account is in the room by an anchor, and no session; one session is connected.
fn detached() -> (World, u64) {
    let (mut w, a, b) = two_of(PROSODY);
    w.anchor(ALICE);
    w.run();
    w.cut(a);
    w.cut(b);
    w.run();
    let c = w.bind("laptop");
    w.run();
    (w, c)
}

fn is_in(w: &World) -> bool {
    w.service.known(TEA).nick("alice").is_some()
}

#[test]
fn b45_a_session_gives_a_bookmark_up() {
    for (request, ends) in [
        (RETRACT.to_owned(), true),
        (publish(" autojoin='false'"), true),
        (publish(" autojoin='0'"), true),
        (publish(""), true),
        (publish(" autojoin='true'"), false),
        (publish(" autojoin='1'"), false),
    ] {
        for accepted in [true, false] {
            let (mut w, c) = detached();
            w.send(c, &request);
            w.run();
            assert!(is_in(&w), "the server has not answered");
            let kind = if accepted { "result" } else { "error" };
            w.service_sends(
                c,
                &format!("<iq type='{kind}' id='b1' from='alice@test' to='{{to}}'/>"),
            );
            w.run();
            assert_eq!(is_in(&w), !(ends && accepted), "{request} {kind}");
        }
    }
}

#[test]
fn b45_another_client_gives_a_bookmark_up() {
    for (item, ends) in [
        ("<retract id='tea@rooms.test'/>", true),
        (
            "<item id='tea@rooms.test'><conference xmlns='urn:xmpp:bookmarks:1'/></item>",
            true,
        ),
        (
            "<item id='tea@rooms.test'><conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'/></item>",
            false,
        ),
        ("<retract id='den@rooms.test'/>", false),
    ] {
        let (mut w, c) = detached();
        w.service_sends(c, &event(item));
        w.run();
        assert_eq!(is_in(&w), !ends, "{item}");
        assert_eq!(w.raw(c).len(), 1, "the client is told all the same");
    }
}

#[test]
fn b45_nobody_else_can_say_so() {
    let (mut w, c) = detached();
    let forged =
        event("<retract id='tea@rooms.test'/>").replace("from='alice@test'", "from='bob@test'");
    w.service_sends(c, &forged);
    w.send(c, RETRACT);
    w.service_sends(
        c,
        "<iq type='result' id='b1' from='bob@test/pc' to='{to}'/>",
    );
    w.run();
    assert!(is_in(&w));
}

#[test]
fn b45_a_room_that_somebody_is_in_stays() {
    let (mut w, a, _) = two_of(PROSODY);
    w.service_sends(a, &event("<retract id='tea@rooms.test'/>"));
    w.run();
    assert!(is_in(&w));
}
