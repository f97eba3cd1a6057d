//! Behaviour 65: what an inactive session gets, and when (XEP-0352).

use std::collections::BTreeMap;

use bytes::Bytes;
use mucplex_muc::{Csi, Urgency};
use mucplex_xml::Outgoing;
use proptest::prelude::*;

use crate::dialect::{EJABBERD, PROSODY};
use crate::service::{MUC_USER, parse};
use crate::world::{ALICE, TEA, two_of};

const STATES: &str = "http://jabber.org/protocol/chatstates";
const INACTIVE: &str = "<inactive xmlns='urn:xmpp:csi:0'/>";
const ACTIVE: &str = "<active xmlns='urn:xmpp:csi:0'/>";

/// A session that is inactive, and what it has been sent.
struct Phone {
    csi: Csi<()>,
    got: Vec<String>,
}

impl Phone {
    fn new(bound: usize) -> Self {
        let mut csi = Csi::new(&"alice@test/phone".parse().unwrap(), bound);
        csi.inactive();
        Self {
            csi,
            got: Vec::new(),
        }
    }

    fn pass(&mut self, xml: &str) {
        let urgency = self.csi.urgency_of(&parse(xml));
        let stanza = Outgoing::from(Bytes::copy_from_slice(xml.as_bytes()));
        let got = &mut self.got;
        self.csi.pass(urgency, stanza, (), |stanza, ()| {
            got.push(String::from_utf8(stanza.to_bytes().to_vec()).unwrap());
        });
    }

    fn active(&mut self) {
        let got = &mut self.got;
        self.csi.active(|stanza, ()| {
            got.push(String::from_utf8(stanza.to_bytes().to_vec()).unwrap());
        });
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.got)
    }
}

fn from(who: &str, show: &str) -> String {
    format!("<presence from='{who}'><show>{show}</show></presence>")
}

fn gone(who: &str) -> String {
    format!("<presence from='{who}' type='unavailable'/>")
}

fn state(who: &str, state: &str) -> String {
    format!("<message from='{who}' type='chat'><{state} xmlns='{STATES}'/></message>")
}

fn text(who: &str) -> String {
    format!("<message from='{who}' type='chat'><body>hi</body><active xmlns='{STATES}'/></message>")
}

#[test]
fn b65_the_last_of_each_sender_in_their_order() {
    let mut phone = Phone::new(1 << 16);
    for xml in [
        from("bob@test/pc", "away"),
        state("bob@test/pc", "composing"),
        from("carol@test/pc", "away"),
        from("bob@test/laptop", "dnd"),
        gone("bob@test/pc"),
        state("bob@test/pc", "paused"),
    ] {
        phone.pass(&xml);
    }
    assert!(phone.take().is_empty());
    phone.pass(&text("dave@test/pc"));
    let expected = [
        from("carol@test/pc", "away"),
        from("bob@test/laptop", "dnd"),
        gone("bob@test/pc"),
        state("bob@test/pc", "paused"),
        text("dave@test/pc"),
    ];
    assert_eq!(phone.take(), expected);
    // It is still inactive.
    phone.pass(&from("bob@test/pc", "xa"));
    assert!(phone.take().is_empty());
    phone.active();
    assert_eq!(phone.take(), [from("bob@test/pc", "xa")]);
    phone.pass(&from("bob@test/pc", "chat"));
    assert_eq!(phone.take(), [from("bob@test/pc", "chat")]);
}

#[test]
fn b65_what_cannot_wait() {
    let own = format!(
        "<presence from='r@m/alice'><x xmlns='{MUC_USER}'><item/><status code='110'/></x></presence>"
    );
    let destroyed = format!(
        "<presence from='r@m/alice' type='unavailable'><x xmlns='{MUC_USER}'><destroy/></x></presence>"
    );
    let with_state = |more: &str| {
        format!("<message from='bob@test/pc'><composing xmlns='{STATES}'/>{more}</message>")
    };
    let headline =
        format!("<message from='bob@test/pc' type='headline'><gone xmlns='{STATES}'/></message>");
    let error =
        format!("<message from='bob@test/pc' type='error'><gone xmlns='{STATES}'/></message>");
    for urgent in [
        own.as_str(),
        &destroyed,
        "<presence from='alice@test/phone'/>",
        "<presence from='bob@test' type='subscribe'/>",
        "<presence from='bob@test' type='subscribed'/>",
        "<presence from='bob@test' type='unsubscribe'/>",
        "<presence from='bob@test' type='unsubscribed'/>",
        "<presence from='bob@test' type='probe'/>",
        "<presence from='r@m/alice' type='error'/>",
        "<presence/>",
        "<iq type='result' id='1'/>",
        "<iq type='get' id='1' from='bob@test/pc'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<message from='bob@test/pc'/>",
        "<message from='bob@test/pc'><body>hi</body></message>",
        "<message from='bob@test/pc'><subject>hi</subject></message>",
        &with_state("<body/>"),
        &with_state("<subject/>"),
        &with_state("<encrypted xmlns='urn:xmpp:omemo:2'/>"),
        &with_state("<received xmlns='urn:xmpp:receipts' id='1'/>"),
        &with_state("<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>"),
        &with_state("<store xmlns='urn:xmpp:hints'/>"),
        &with_state("<delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>"),
        &with_state(&format!("<x xmlns='{MUC_USER}'><status code='104'/></x>")),
        &with_state("<x xmlns='urn:example'/>"),
        &format!(
            "<message from='bob@test/pc'><x xmlns='urn:x'><active xmlns='{STATES}'/></x></message>"
        ),
        &headline,
        &error,
    ] {
        let mut phone = Phone::new(1 << 16);
        phone.pass(&from("bob@test/pc", "away"));
        phone.pass(urgent);
        assert_eq!(phone.take(), [from("bob@test/pc", "away"), urgent.into()]);
    }
}

#[test]
fn b65_what_servers_add_to_a_chat_state_changes_nothing() {
    for more in [
        "<no-store xmlns='urn:xmpp:hints'/><no-copy xmlns='urn:xmpp:hints'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='r@m' id='1'/>",
        "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='1'/>",
        &format!("<x xmlns='{MUC_USER}'/>"),
        "<thread>t</thread>",
    ] {
        let xml = format!("<message from='bob@test/pc'><paused xmlns='{STATES}'/>{more}</message>");
        assert!(
            matches!(Urgency::of(&parse(&xml)), Urgency::ChatState(_)),
            "{xml}"
        );
    }
}

#[test]
fn b65_chat_states_of_two_conversations_are_both_kept() {
    let in_thread = |thread: &str, kind: &str| {
        format!(
            "<message from='r@m/bob' type='{kind}'><paused xmlns='{STATES}'/><thread>{thread}</thread></message>"
        )
    };
    let mut phone = Phone::new(1 << 16);
    let kept = [
        in_thread("a", "chat"),
        in_thread("b", "chat"),
        in_thread("a", "groupchat"),
    ];
    for xml in &kept {
        phone.pass(xml);
    }
    phone.active();
    assert_eq!(phone.take(), kept);
}

#[test]
fn b65_at_its_bound_it_lets_go() {
    let mut phone = Phone::new(2_000);
    let mut passed = 0;
    while phone.got.is_empty() {
        // One sender alone never fills it.
        phone.pass(&from("bob@test/pc", "away"));
        phone.pass(&from(&format!("c{passed}@test/pc"), "away"));
        passed += 1;
        assert!(passed < 20);
    }
    assert!(passed > 4);
    assert_eq!(phone.got.len(), passed + 1);
}

/// Where everybody stands, as a client knows it that applies what it gets; and everything that is
/// not to be held, with where they stood when it came.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Known {
    presences: BTreeMap<String, String>,
    states: BTreeMap<(String, Option<String>), String>,
}

fn read(stanzas: &[String]) -> (Known, Vec<(String, Known)>) {
    let mut known = Known::default();
    let mut rest = Vec::new();
    for xml in stanzas {
        let frame = parse(xml);
        let from = frame.from().unwrap_or_default().into_owned();
        match Urgency::of(&frame) {
            Urgency::Presence(_) => {
                known.presences.insert(from, xml.clone());
            }
            Urgency::ChatState(_) => {
                let thread = frame.root().child("thread", "jabber:client");
                let thread = thread.map(|thread| thread.text());
                known.states.insert((from, thread), xml.clone());
            }
            Urgency::Now => rest.push((xml.clone(), known.clone())),
        }
    }
    (known, rest)
}

#[derive(Debug, Clone)]
enum Step {
    Stanza(String),
    Active,
    Inactive,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || prop_oneof!["a@test/x", "a@test/y", "b@test/x", "r@m/c"];
    let stanza = prop_oneof![
        4 => (who(), "away|dnd|xa").prop_map(|(who, show)| from(&who, &show)),
        2 => who().prop_map(|who| gone(&who)),
        3 => (who(), "composing|paused|gone").prop_map(|(who, said)| state(&who, &said)),
        1 => who().prop_map(|who| text(&who)),
        1 => who().prop_map(|who| format!("<iq type='get' id='1' from='{who}'/>")),
        1 => who().prop_map(|who| format!("<presence type='subscribe' from='{who}'/>")),
    ];
    let step = prop_oneof![
        8 => stanza.prop_map(Step::Stanza),
        1 => Just(Step::Active),
        1 => Just(Step::Inactive),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever comes, an inactive client knows the same as an active one when anything comes that
    /// is not held, and in the end; it sees no more, and nothing that was not sent.
    #[test]
    fn b65_an_inactive_client_knows_the_same_in_the_end(steps in steps(), bound in 300..20_000_usize) {
        let mut phone = Phone::new(bound);
        let mut sent = Vec::new();
        for step in steps {
            match step {
                Step::Stanza(xml) => {
                    phone.pass(&xml);
                    sent.push(xml);
                }
                Step::Active => phone.active(),
                Step::Inactive => phone.csi.inactive(),
            }
        }
        phone.active();
        let got = phone.take();
        prop_assert_eq!(read(&got), read(&sent));
        let mut all = sent.iter();
        // What goes out is a part of what came, in its order.
        prop_assert!(got.iter().all(|xml| all.any(|sent| sent == xml)));
    }

    /// An active client gets every stanza when it comes.
    #[test]
    fn b65_an_active_client_gets_everything_at_once(steps in steps()) {
        let mut phone = Phone::new(1 << 16);
        phone.active();
        for step in steps {
            if let Step::Stanza(xml) = step {
                phone.pass(&xml);
                prop_assert_eq!(phone.take(), [xml]);
            }
        }
    }
}

#[test]
fn b65_in_a_busy_room_only_the_inactive_session_waits() {
    for dialect in [PROSODY, EJABBERD] {
        let (mut w, phone, desk) = two_of(dialect);
        w.send(phone, INACTIVE);
        for show in ["away", "dnd", "xa"] {
            w.other(
                "bob",
                &format!("<presence to='{TEA}/bob'><show>{show}</show></presence>"),
            );
            w.other(
                "bob",
                &format!(
                    "<message to='{TEA}' type='groupchat'><composing xmlns='{STATES}'/></message>"
                ),
            );
        }
        w.run();
        assert!(w.raw(phone).is_empty());
        let live = w.raw(desk);
        assert_eq!(live.len(), 6, "{live:?}");
        w.other_says("bob", TEA, "lunch?");
        w.run();
        let mut expected = live[4..].to_vec();
        expected.extend(w.raw(desk));
        let seen: Vec<String> = w.raw(phone);
        let anyone = |stanzas: &[String]| -> Vec<String> {
            let swap = |xml: &String| xml.replace("/phone", "/any").replace("/desk", "/any");
            stanzas.iter().map(swap).collect()
        };
        assert_eq!(anyone(&seen), anyone(&expected));
        w.send(phone, ACTIVE);
        assert!(w.raw(phone).is_empty());
    }
}

#[test]
fn b65_an_inactive_session_joins_as_any_other() {
    let (mut w, phone, desk) = two_of(PROSODY);
    w.other_joins("carol", TEA);
    w.run();
    w.seen(desk);
    let tablet = w.bind("tablet");
    for session in [phone, tablet] {
        w.send(session, INACTIVE);
        w.join(session, TEA, "alice");
        let seen = w.seen(session);
        assert!(seen.contains(&"presence alice 110".to_owned()), "{seen:?}");
        assert!(seen.contains(&"presence carol".to_owned()), "{seen:?}");
        assert!(seen.last().unwrap().starts_with("subject"), "{seen:?}");
    }
    // As the first of its account, too.
    let other = w.bind_as("dora@test", "phone", None);
    w.send(other, INACTIVE);
    w.join(other, TEA, "dora");
    w.run();
    let seen = w.seen(other);
    assert!(seen.contains(&"presence dora 110".to_owned()), "{seen:?}");
    assert!(seen.last().unwrap().starts_with("subject"), "{seen:?}");
}

#[test]
fn b65_what_becomes_of_the_account_itself_does_not_wait() {
    for dialect in [PROSODY, EJABBERD] {
        let (mut w, phone, desk) = two_of(dialect);
        w.send(phone, INACTIVE);
        // Another nick, by its sibling.
        w.send(desk, &format!("<presence to='{TEA}/ally'/>"));
        w.run();
        assert_eq!(w.seen(phone).len(), 2);
        w.service.remove(TEA, "ally", 307);
        w.sort_out();
        w.run();
        let seen = w.seen(phone);
        assert!(
            seen.iter()
                .any(|line| line.starts_with("gone ally 110 307")),
            "{seen:?}"
        );
    }
}

/// The server of the uplink knows nothing of the client's state, and still the contacts of a
/// session that carries a room are combined.
#[test]
fn b65_contacts_of_a_carrying_session_are_combined() {
    let (mut w, phone, _) = two_of(PROSODY);
    let uplink = w.up(phone);
    w.send(phone, INACTIVE);
    assert!(w.sent(uplink).is_empty());
    let to = format!("{ALICE}/phone");
    for show in ["away", "xa", "dnd"] {
        let xml = format!("<presence from='eve@test/pc' to='{to}'><show>{show}</show></presence>");
        w.service.out.push((to.clone(), xml));
    }
    w.run();
    assert!(w.raw(phone).is_empty());
    w.send(phone, ACTIVE);
    assert_eq!(
        w.raw(phone),
        [format!(
            "<presence from='eve@test/pc' to='{to}'><show>dnd</show></presence>"
        )]
    );
    assert!(w.sent(uplink).is_empty());
}

/// The plain path of an active session looks at nothing.
#[test]
fn b65_for_an_active_session_all_is_urgent() {
    let csi = Csi::<()>::new(&"alice@test/phone".parse().unwrap(), 1);
    let presence = parse("<presence from='bob@test/pc'/>");
    assert_eq!(csi.urgency_of(&presence), Urgency::Now);
}
