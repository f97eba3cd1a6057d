//! Behaviours 71 to 74: what must never happen.

use crate::dialect::PROSODY;
use crate::service::MUC_USER;
use crate::world::{TEA, World};

fn two() -> (World, u64, u64) {
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.joined(b, "alice");
    (w, a, b)
}

#[test]
fn b71_accounts_have_nothing_in_common() {
    let mut w = World::new();
    let a = w.bind("phone");
    let m = w.bind_as("mallory@test", "phone", None);
    w.joined(a, "alice");
    w.joined(m, "mallory");
    w.raw(a);
    w.other(
        "bob",
        "<presence to='tea@rooms.test/bob'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
    );
    w.run();
    w.other(
        "bob",
        "<message to='tea@rooms.test/alice' type='chat'><body>psst</body></message>",
    );
    w.send(a, "<iq type='get' to='tea@rooms.test/bob' id='1'/>");
    w.send(m, "<iq type='get' to='tea@rooms.test/bob' id='1'/>");
    w.run();
    let seen = w.seen(m);
    assert_eq!(seen, ["presence bob"]);
    assert_eq!(w.sent(w.up(a)).len(), 1);
    let id = w
        .seen_by_other("bob")
        .iter()
        .rev()
        .find(|it| it.starts_with("iq get"))
        .unwrap()
        .split(' ')
        .nth(2)
        .unwrap()
        .to_owned();
    w.other(
        "bob",
        &format!("<iq type='result' to='tea@rooms.test/mallory' id='{id}'/>"),
    );
    w.run();
    assert_eq!(w.seen(m), ["iq result 1 bob"]);
    assert_eq!(w.seen(a), ["presence bob", "private bob: psst"]);
}

/// A service that lets an occupant's own muc#user payload through, before or behind its own.
#[test]
fn b72_forged_codes_in_anothers_presence() {
    let forged = |codes: &str| {
        format!(
            "<x xmlns='{MUC_USER}'>{codes}<item affiliation='owner' role='none' nick='evil'/></x>"
        )
    };
    let own = format!("<x xmlns='{MUC_USER}'><item affiliation='none' role='participant'/></x>");
    for codes in [
        "<status code='110'/>",
        "<status code='110'/><status code='303'/>",
        "<status code='307'/><status code='110'/>",
        "<destroy/>",
    ] {
        for xs in [forged(codes) + &own, own.clone() + &forged(codes)] {
            for kind in ["", " type='unavailable'"] {
                let presence = |to: &str| {
                    format!(
                        "<presence{kind} from='tea@rooms.test/mallory' to='{to}'>{xs}</presence>"
                    )
                };
                // While the account is joining.
                let mut w = World::of(PROSODY);
                let a = w.bind("phone");
                w.service
                    .out
                    .push(("alice@test/phone".into(), presence("alice@test/phone")));
                w.join(a, TEA, "alice");
                w.run();
                w.raw(a);
                w.say(a, TEA, "1", "hi");
                w.run();
                assert_eq!(w.seen(a), ["message alice: hi"], "{xs}");
                // When it is in the room.
                w.service
                    .out
                    .push(("alice@test/phone".into(), presence("alice@test/phone")));
                w.run();
                w.raw(a);
                let b = w.bind("desk");
                w.join(b, TEA, "alice");
                assert!(w.seen(b).contains(&"presence alice 110".to_owned()), "{xs}");
                w.say(b, TEA, "1", "hi");
                w.run();
                assert_eq!(w.seen(a), ["message alice: hi"]);
                // While another uplink takes over.
                w.cut(a);
                w.service
                    .out
                    .push(("alice@test/desk".into(), presence("alice@test/desk")));
                w.run();
                w.raw(b);
                w.say(b, TEA, "1", "hi");
                w.run();
                assert_eq!(w.seen(b), ["message alice: hi"], "{xs}");
            }
        }
    }
}

#[test]
fn b72_forged_codes_in_messages() {
    let (mut w, a, b) = two();
    let codes = "<status code='110'/><status code='303'/><status code='307'/><status code='172'/><status code='170'/>";
    let x = format!("<x xmlns='{MUC_USER}'>{codes}</x>");
    w.other(
        "bob",
        &format!("<message to='tea@rooms.test' type='groupchat'><body>x</body>{x}</message>"),
    );
    w.other(
        "bob",
        &format!("<message to='tea@rooms.test/alice' type='chat'><body>x</body>{x}</message>"),
    );
    w.run();
    w.raw(a);
    w.raw(b);
    w.join(b, TEA, "alice");
    assert_eq!(w.seen(b)[..2], ["presence bob", "presence alice 110"]);
}

#[test]
fn b72_other_rooms_and_other_uplinks() {
    let (mut w, a, b) = two();
    let kick = |room: &str, to: &str| {
        format!(
            "<presence type='unavailable' from='{room}/alice' to='{to}'><x xmlns='{MUC_USER}'>\
            <item affiliation='none' role='none'/><status code='307'/><status code='110'/></x></presence>"
        )
    };
    // Another room's is that room's; on an uplink that has no part in the room it is an echo.
    w.service.out.push((
        "alice@test/phone".into(),
        kick("den@rooms.test", "alice@test/phone"),
    ));
    w.service
        .out
        .push(("alice@test/desk".into(), kick(TEA, "alice@test/desk")));
    w.run();
    w.raw(a);
    w.raw(b);
    w.say(b, TEA, "1", "hi");
    w.run();
    assert_eq!(w.seen(b), ["message alice: hi"]);
    assert_eq!(w.seen(a), ["message alice: hi"]);
}

#[test]
fn b73_a_session_cannot_send_as_somebody_else() {
    let (mut w, a, b) = two();
    w.send(a, "<message from='alice@test/desk' to='tea@rooms.test' type='groupchat'><body>x</body></message>");
    assert!(w.sessions[&a].refused);
    assert!(w.sent(w.up(a)).is_empty());
    assert!(w.seen(b).is_empty());
}

#[test]
fn b74_an_occupants_delay_is_not_the_rooms() {
    let (mut w, a, b) = two();
    w.other("bob", "<message to='tea@rooms.test' type='groupchat'><body>x</body><delay xmlns='urn:xmpp:delay' from='tea@rooms.test' stamp='2001-01-01T00:00:00Z'/></message>");
    w.run();
    w.raw(a);
    w.raw(b);
    w.wait(std::time::Duration::from_secs(1));
    w.join(b, TEA, "alice");
    let raw = w.raw(b);
    let past = raw
        .iter()
        .find(|xml| xml.contains("<body>x</body>"))
        .unwrap();
    assert!(!past.contains("2001-01-01"), "{past}");
    assert_eq!(past.matches("<delay").count(), 1);
}
