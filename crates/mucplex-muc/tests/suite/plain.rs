//! Behaviour 68: what is no room is as it is without the proxy.

use std::time::Duration;

use proptest::prelude::*;

use crate::dialect::{EJABBERD, PROSODY};
use crate::service::MUC;
use crate::world::{TEA, World};

const BOT: &str = "bot@test";
const HERE: &str = "bot@test/here";

impl World {
    /// The bot says something to a session: `{to}` is its full JID.
    fn bot(&mut self, id: u64, xml: &str) -> String {
        let to = self.sessions[&id].jid.clone();
        let xml = xml.replace("{to}", &to);
        self.service.out.push((to, xml.clone()));
        self.run();
        xml
    }

    fn enter_bot(&mut self, id: u64) -> String {
        let xml = format!("<presence to='{HERE}' id='join'><x xmlns='{MUC}'/></presence>");
        self.send(id, &xml);
        xml
    }

    fn both(&mut self) -> (u64, u64) {
        (self.bind("phone"), self.bind("desk"))
    }

    fn sent_of(&mut self, id: u64) -> Vec<String> {
        let uplink = self.up(id);
        self.sent(uplink)
    }
}

fn presence() -> String {
    format!("<presence from='{HERE}' to='{{to}}'/>")
}

fn from_bot(kind: &str, from: &str) -> String {
    format!("<message from='{from}' to='{{to}}'{kind}><body>hello</body></message>")
}

fn to_bot(number: usize, to: &str) -> String {
    format!("<message to='{to}' type='chat' id='{number}'><body>hi</body></message>")
}

/// Two sessions speak with it, and nothing of either is held or seen by the other.
fn speaks_plainly(w: &mut World, phone: u64, desk: u64) {
    for id in [phone, desk] {
        w.raw(id);
        w.sent_of(id);
    }
    for id in [phone, desk] {
        let said = [
            format!("<presence to='{HERE}'><show>away</show></presence>"),
            to_bot(1, HERE),
            to_bot(2, BOT),
            format!("<iq type='get' to='{HERE}' id='3'/>"),
            format!("<iq type='error' to='{HERE}' id='4'/>"),
            format!("<message type='error' to='{HERE}' id='5'/>"),
            format!("<presence type='error' to='{HERE}'/>"),
            format!("<presence type='subscribe' to='{BOT}'/>"),
            format!("<presence type='unavailable' to='{HERE}'/>"),
            format!("<presence to='{HERE}'><x xmlns='{MUC}'/></presence>"),
        ];
        for xml in &said {
            w.send(id, xml);
        }
        assert_eq!(w.sent_of(id), said);
        let told = [
            presence(),
            from_bot("", HERE),
            from_bot(" type='chat'", BOT),
            format!("<iq type='get' from='{HERE}' to='{{to}}' id='6'/>"),
            format!("<iq type='result' from='{HERE}' to='{{to}}' id='3'/>"),
            format!("<presence from='{HERE}' to='{{to}}' type='unavailable'/>"),
            format!("<message from='{HERE}' to='{{to}}' type='error'/>"),
        ];
        let told: Vec<String> = told.iter().map(|xml| w.bot(id, xml)).collect();
        assert_eq!(w.raw(id), told);
    }
    for id in [phone, desk] {
        assert_eq!((w.raw(id).len(), w.sent_of(id).len()), (0, 0));
    }
}

#[test]
fn b68_a_bot_answers_with_its_presence() {
    let mut w = World::new();
    let (phone, desk) = w.both();
    let join = w.enter_bot(phone);
    w.send(phone, &to_bot(1, HERE));
    w.enter_bot(desk);
    w.send(desk, &to_bot(2, HERE));
    w.send(desk, &format!("<presence type='subscribe' to='{BOT}'/>"));
    // It may be a room still.
    assert_eq!(w.sent_of(phone), [join.as_str()]);
    assert!(w.sent_of(desk).is_empty());
    let answer = w.bot(phone, &presence());
    assert_eq!(w.raw(phone), [answer]);
    assert_eq!(w.sent_of(phone), [to_bot(1, HERE)]);
    assert_eq!(
        w.sent_of(desk),
        [
            join,
            to_bot(2, HERE),
            format!("<presence type='subscribe' to='{BOT}'/>")
        ]
    );
    assert!(w.raw(desk).is_empty());
    speaks_plainly(&mut w, phone, desk);
    // For one that comes later it is no room from the start.
    let tablet = w.bind("tablet");
    let join = w.enter_bot(tablet);
    assert_eq!(w.sent_of(tablet), [join]);
    speaks_plainly(&mut w, tablet, desk);
}

#[test]
fn b68_what_shows_that_nobody_of_a_room_speaks() {
    for sign in [
        presence(),
        from_bot(" type='chat'", HERE),
        from_bot("", HERE),
        from_bot(" type='normal'", HERE),
        from_bot(" type='headline'", HERE),
        from_bot(" type='chat'", BOT),
    ] {
        // On the uplink of the join, and on that of a session that waits.
        for beside in [false, true] {
            let mut w = World::new();
            let (phone, desk) = w.both();
            w.enter_bot(phone);
            let join = w.enter_bot(desk);
            let to = if beside { desk } else { phone };
            let told = w.bot(to, &sign);
            assert_eq!(w.raw(to), [told], "{sign}");
            assert_eq!(w.sent_of(desk), [join], "{sign}");
            speaks_plainly(&mut w, phone, desk);
        }
    }
}

#[test]
fn b68_what_a_room_may_say_too_is_passed_on() {
    for word in [
        format!("<presence from='{BOT}' to='{{to}}'/>"),
        from_bot("", BOT),
        from_bot(" type='normal'", BOT),
        from_bot(" type='headline'", BOT),
        format!(
            "<message from='{HERE}' to='{{to}}' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
        ),
        format!("<presence from='{HERE}' to='{{to}}' type='unavailable'/>"),
    ] {
        let mut w = World::new();
        let (phone, desk) = w.both();
        w.enter_bot(phone);
        let join = w.enter_bot(desk);
        w.send(desk, &to_bot(1, HERE));
        for id in [phone, desk] {
            let told = w.bot(id, &word);
            assert_eq!(w.raw(id), [told], "{word}");
        }
        assert!(w.sent_of(desk).is_empty(), "{word}");
        // A room would have gone on.
        w.wait(Duration::from_secs(121));
        assert_eq!(w.sent_of(desk), [join, to_bot(1, HERE)], "{word}");
        assert!(w.raw(desk).is_empty() && w.raw(phone).is_empty());
        speaks_plainly(&mut w, phone, desk);
    }
}

#[test]
fn b68_a_request_is_answered_before_it_is_known_who_asks() {
    for from in [HERE, BOT] {
        let mut w = World::new();
        let (phone, desk) = w.both();
        let join = w.enter_bot(phone);
        w.enter_bot(desk);
        for (id, before) in [(phone, vec![join]), (desk, vec![])] {
            let asked = format!("<iq type='get' from='{from}' to='{{to}}' id='1'/>");
            let told = w.bot(id, &asked);
            assert_eq!(w.raw(id), [told]);
            let answer = format!("<iq type='result' to='{from}' id='1'/>");
            w.send(id, &answer);
            assert_eq!(w.sent_of(id), [before, vec![answer]].concat());
        }
        w.bot(phone, &presence());
        speaks_plainly(&mut w, phone, desk);
    }
}

#[test]
fn b68_silence_is_that_of_a_room() {
    let mut w = World::new();
    let (phone, _) = w.both();
    w.enter_bot(phone);
    w.send(phone, &to_bot(1, HERE));
    w.wait(Duration::from_secs(121));
    assert_eq!(
        w.seen(phone),
        [
            "error presence join remote-server-timeout",
            "error message 1 not-acceptable"
        ]
    );
}

#[test]
fn b68_who_leaves_before_the_answer_leaves_the_bot() {
    let leave = format!("<presence type='unavailable' to='{HERE}'/>");
    // The only one.
    let mut w = World::new();
    let (phone, desk) = w.both();
    let join = w.enter_bot(phone);
    w.send(phone, &leave);
    w.raw(phone);
    assert_eq!(w.sent_of(phone), [join.clone(), leave.clone()]);
    let told = [w.bot(phone, &presence()), w.bot(phone, &from_bot("", HERE))];
    assert_eq!(w.raw(phone), told);
    assert!(w.sent_of(phone).is_empty());
    speaks_plainly(&mut w, phone, desk);
    // One of two.
    let mut w = World::new();
    let (phone, desk) = w.both();
    w.enter_bot(phone);
    w.enter_bot(desk);
    w.send(phone, &leave);
    assert_eq!(w.sent_of(phone), [join.as_str()]);
    w.bot(phone, &presence());
    assert_eq!(w.sent_of(phone), [leave.as_str()]);
    assert_eq!(w.sent_of(desk), [join.as_str()]);
    // One that the bot has not heard of, which comes back.
    let mut w = World::new();
    let (phone, desk) = w.both();
    w.enter_bot(phone);
    w.enter_bot(desk);
    w.send(desk, &leave);
    w.enter_bot(desk);
    w.bot(phone, &presence());
    assert_eq!(w.sent_of(desk), [join]);
}

#[test]
fn b68_who_asks_twice_loses_nothing() {
    let mut w = World::new();
    let (phone, desk) = w.both();
    for id in [phone, desk] {
        w.enter_bot(id);
        w.send(id, &to_bot(1, HERE));
        w.enter_bot(id);
        w.send(id, &to_bot(2, HERE));
    }
    w.bot(phone, &presence());
    for id in [phone, desk] {
        let sent = w.sent_of(id);
        let messages: Vec<_> = sent.iter().filter(|xml| xml.contains("<body>")).collect();
        assert_eq!(messages, [&to_bot(1, HERE), &to_bot(2, HERE)]);
    }
}

#[test]
fn b68_the_first_session_goes_before_the_answer() {
    let mut w = World::new();
    let (phone, desk) = w.both();
    w.enter_bot(phone);
    let join = w.enter_bot(desk);
    w.cut(phone);
    w.bot(phone, &presence());
    assert_eq!(w.sent_of(desk), [join]);
    let (uplink, desk_jid) = (w.up(phone), w.sessions[&desk].jid.clone());
    assert!(!w.uplinks[&uplink].open);
    let told = w.bot(desk, &presence());
    assert_eq!(w.raw(desk), [told]);
    assert_eq!(desk_jid, "alice@test/desk");
}

#[test]
fn b68_what_finds_no_reader_comes_back() {
    let mut w = World::new();
    let (phone, desk) = w.both();
    // A room keeps the uplink while its leave waits to be handed over.
    w.service.dead.insert(TEA.to_owned());
    w.enter_bot(phone);
    w.bot(phone, &presence());
    w.join(phone, TEA, "alice");
    w.join(desk, TEA, "alice");
    w.cut(phone);
    w.sent_of(phone);
    w.bot(phone, &from_bot(" type='chat' id='1'", HERE));
    w.bot(
        phone,
        &format!("<iq type='get' from='{HERE}' to='{{to}}' id='2'/>"),
    );
    w.bot(phone, &presence());
    w.bot(
        phone,
        &format!("<message type='error' from='{HERE}' to='{{to}}'/>"),
    );
    let sent = w.sent_of(phone);
    assert_eq!(sent.len(), 2, "{sent:?}");
    for (xml, id) in sent.iter().zip(["1", "2"]) {
        assert!(xml.contains(&format!("to='{HERE}' id='{id}'")), "{xml}");
        assert!(xml.contains("<service-unavailable "), "{xml}");
    }
}

#[test]
fn b68_it_is_found_out_anew_when_nobody_has_to_do_with_it() {
    let mut w = World::new();
    let (phone, desk) = w.both();
    w.enter_bot(phone);
    w.bot(phone, &presence());
    w.cut(phone);
    w.enter_bot(desk);
    assert_eq!(w.sent_of(desk).len(), 1);
    w.cut(desk);
    w.run();
    let (phone, desk) = w.both();
    w.enter_bot(phone);
    w.enter_bot(desk);
    assert_eq!((w.sent_of(phone).len(), w.sent_of(desk).len()), (1, 0));
    w.bot(phone, &presence());
    speaks_plainly(&mut w, phone, desk);
}

/// A room shows itself once, and what a service leaves out afterwards changes nothing.
#[test]
fn b68_a_room_stays_one() {
    for dialect in [PROSODY, EJABBERD] {
        let mut w = World::of(dialect);
        w.other_joins("bob", TEA);
        let (phone, desk) = w.both();
        w.join(phone, TEA, "alice");
        w.join(desk, TEA, "alice");
        let uplink = w.up(phone);
        w.all_up(uplink);
        // The room's own presence, if it has one, and bob's.
        w.step_down(uplink);
        w.step_down(uplink);
        let early = "<presence from='tea@rooms.test/mallory' to='{to}'/>";
        let private =
            "<message type='chat' from='tea@rooms.test/mallory' to='{to}'><body>x</body></message>";
        w.bot(phone, early);
        w.bot(phone, private);
        assert!(w.sent_of(desk).is_empty());
        w.say(desk, TEA, "1", "hi");
        w.run();
        assert_eq!(w.seen(desk).last().unwrap(), "message alice: hi");
        assert!(w.sent_of(desk).is_empty());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Client(usize, usize),
    Bot(usize, usize),
    Deliver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 0..6_usize).prop_map(|(who, what)| Step::Client(who, what)),
        3 => (0..2_usize, 0..8_usize).prop_map(|(who, what)| Step::Bot(who, what)),
        1 => Just(Step::Deliver),
    ];
    proptest::collection::vec(step, 0..40)
}

/// A stanza of a client, numbered.
fn of_client(what: usize, number: usize) -> String {
    let id = format!("id='c{number}'");
    match what {
        0 => format!("<message to='{HERE}' type='chat' {id}><body>x</body></message>"),
        1 => format!("<message to='{BOT}' {id}><body>x</body></message>"),
        2 => format!("<iq type='get' to='{HERE}' {id}/>"),
        3 => format!("<presence to='{HERE}' {id}><show>away</show></presence>"),
        4 => format!("<presence to='{BOT}' type='subscribe' {id}/>"),
        _ => format!("<message to='{HERE}' type='groupchat' {id}><body>x</body></message>"),
    }
}

/// A stanza of the bot, numbered.
fn of_bot(what: usize, number: usize) -> String {
    let id = format!("to='{{to}}' id='b{number}'");
    match what {
        0 => format!("<presence from='{HERE}' {id}/>"),
        1 => format!("<message from='{HERE}' type='chat' {id}><body>x</body></message>"),
        2 => format!("<message from='{BOT}' {id}><body>x</body></message>"),
        3 => format!("<iq type='get' from='{HERE}' {id}/>"),
        4 => format!("<presence from='{BOT}' {id}/>"),
        5 => format!("<presence from='{HERE}' type='unavailable' {id}/>"),
        6 => format!("<message from='{HERE}' {id}/>"),
        _ => format!("<iq type='get' from='{BOT}' {id}/>"),
    }
}

proptest! {
    /// Whenever the bot shows what it is: what each session has sent has gone out on its own uplink,
    /// once and in its order, and what the bot has sent to it has come.
    #[test]
    fn b68_nothing_is_lost_doubled_or_out_of_order(
        steps in steps(),
        joins in proptest::collection::vec(0..40_usize, 2),
    ) {
        let mut w = World::new();
        let (phone, desk) = w.both();
        let ids = [phone, desk];
        let (mut sent, mut told) = ([vec![], vec![]], [vec![], vec![]]);
        let length = steps.len();
        for (number, step) in steps.into_iter().enumerate() {
            for who in 0..2 {
                if joins[who].min(length - 1) == number {
                    sent[who].push(w.enter_bot(ids[who]));
                }
            }
            match step {
                Step::Client(who, what) => {
                    let xml = of_client(what, number);
                    w.send(ids[who], &xml);
                    sent[who].push(xml);
                }
                Step::Bot(who, what) => {
                    let to = w.sessions[&ids[who]].jid.clone();
                    let xml = of_bot(what, number).replace("{to}", &to);
                    w.service.out.push((to, xml.clone()));
                    w.sort_out();
                    told[who].push(xml);
                }
                Step::Deliver => w.run(),
            }
        }
        w.run();
        for who in 0..2 {
            told[who].push(w.bot(ids[who], &presence()));
        }
        for who in 0..2 {
            let out = w.sent_of(ids[who]);
            let sorted = |xml: &[String]| {
                let mut xml = xml.to_vec();
                xml.sort();
                xml
            };
            prop_assert_eq!(sorted(&out), sorted(&sent[who]));
            // What may answer a question at the door of a room does not wait (XEP-0158).
            let waits = |xml: &&String| !xml.starts_with(&format!("<message to='{BOT}'"));
            let in_order: Vec<_> = out.iter().filter(waits).collect();
            prop_assert_eq!(in_order, sent[who].iter().filter(waits).collect::<Vec<_>>());
            prop_assert_eq!(&w.raw(ids[who]), &told[who]);
        }
    }
}
