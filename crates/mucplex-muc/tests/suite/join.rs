//! Behaviours 1 to 11 and 14 to 19: joining.

use std::time::Duration;

use crate::dialect::{self, EJABBERD, PROSODY, SPARSE};
use crate::scribe;
use crate::world::{TEA, World};

#[test]
fn b01_first_session_joins_upstream_once() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        w.other_joins("bob", TEA);
        w.other_says("bob", TEA, "one");
        let a = w.bind("phone");
        w.join(a, TEA, "alice");
        w.run();
        w.wait(Duration::from_secs(10));
        assert_eq!(w.sent(w.up(a)).len(), 1, "{}", dialect.name);
        let mut expected = vec![
            "presence bob",
            "presence alice 110",
            "past bob: one",
            "subject room: ",
        ];
        if dialect.room_presence {
            expected.insert(0, "presence room");
        }
        assert_eq!(w.seen(a), expected, "{}", dialect.name);
        assert!(w.is_quiet());
    }
}

#[test]
fn b02_second_session_joins_from_the_proxys_own_state() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        w.other_joins("bob", TEA);
        w.other_joins("carol", TEA);
        w.other_says("bob", TEA, "one");
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.joined(a, "alice");
        w.seen_by_other("bob");
        w.join(b, TEA, "alice");
        let expected = [
            "presence bob",
            "presence carol",
            "presence alice 110",
            "past bob: one",
            "subject room: ",
        ];
        let seen: Vec<String> = w
            .seen(b)
            .into_iter()
            .filter(|it| it != "presence room")
            .collect();
        assert_eq!(seen, expected, "{}", dialect.name);
        w.run();
        assert!(w.sent(w.up(a)).is_empty() && w.sent(w.up(b)).is_empty());
        assert!(w.seen_by_other("bob").is_empty());
        assert!(w.seen(a).is_empty() && w.seen(b).is_empty());
    }
}

#[test]
fn b03_two_sessions_in_the_same_instant_share_one_join() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.join(b, TEA, "alice");
    w.all_up(w.up(a));
    w.step_down(w.up(a));
    assert_eq!(w.seen(a), ["presence bob"]);
    assert!(w.seen(b).is_empty());
    w.run();
    assert_eq!(w.seen(a), ["presence alice 110", "subject room: "]);
    assert_eq!(
        w.seen(b),
        ["presence bob", "presence alice 110", "subject room: "]
    );
    assert!(w.sent(w.up(b)).is_empty());
}

#[test]
fn b03_the_asking_session_goes_and_the_waiting_one_gets_in() {
    for gone in [World::cut, World::unavailable, |w: &mut World, id| {
        w.leave(id, TEA, "alice");
    }] {
        let mut w = World::new();
        w.other_joins("bob", TEA);
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.join(a, TEA, "alice");
        w.join(b, TEA, "alice");
        gone(&mut w, a);
        w.run();
        assert_eq!(
            w.seen(b),
            ["presence bob", "presence alice 110", "subject room: "]
        );
        assert_eq!(
            w.seen_by_other("bob"),
            ["presence bob 110 201", "subject room: ", "presence alice"]
        );
    }
}

#[test]
fn b03_the_uplink_of_the_asking_session_is_lost() {
    let mut w = World::new();
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.join(b, TEA, "alice");
    let up = w.up(a);
    w.lose(up);
    w.run();
    assert_eq!(w.seen(b), ["presence alice 110 201", "subject room: "]);
}

#[test]
fn b04_self_presence_is_the_last_for_any_number_of_others() {
    for others in [0_usize, 1, 5_000] {
        let mut w = World::new();
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.join(a, TEA, "alice");
        w.all_up(w.up(a));
        // The others are written onto the uplink: thousands of joins would be slow to simulate.
        let down = &mut w.uplinks.get_mut(&(a + 1000)).unwrap().down;
        for n in (0..others).rev() {
            down.push_front(format!(
                "<presence from='{TEA}/n{n}' to='alice@test/phone'><show>away</show>\
                 <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/></x></presence>"
            ));
        }
        w.run();
        w.seen(a);
        w.join(b, TEA, "alice");
        let seen = w.seen(b);
        assert_eq!(seen.len(), others + 2);
        for (n, line) in seen[..others].iter().enumerate() {
            assert_eq!(*line, format!("presence n{n} away"));
        }
        assert_eq!(seen[others], "presence alice 110 201".replace(" 201", ""));
        // A replay costs the session the addresses and not the room.
        assert!(
            w.sessions[&b].owned < 1_000 + others * 90,
            "{}",
            w.sessions[&b].owned
        );
    }
}

#[test]
fn b05_live_traffic_comes_behind_the_subject_of_a_replay() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.other_says("bob", TEA, "one");
    w.join(b, TEA, "alice");
    w.run();
    assert_eq!(
        w.seen(b),
        [
            "presence bob",
            "presence alice 110",
            "subject room: ",
            "message bob: one"
        ]
    );
    assert_eq!(w.seen(a), ["message bob: one"]);
}

#[test]
fn b06_late_joiners_are_told_of_the_rooms_kind_as_it_is_now() {
    let mut w = World::new();
    w.service.room(TEA).non_anonymous = true;
    w.service.room(TEA).logged = true;
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.join(b, TEA, "alice");
    assert_eq!(w.seen(b), ["presence alice 110 100 170", "subject room: "]);
    w.service.config_change(TEA, &[171]);
    w.service.config_change(TEA, &[173]);
    w.run();
    w.join(b, TEA, "alice");
    assert_eq!(
        w.seen(b),
        [
            "message room: 171",
            "message room: 173",
            "presence alice 110",
            "subject room: "
        ]
    );
    w.service.config_change(TEA, &[172, 170]);
    w.run();
    w.join(b, TEA, "alice");
    assert_eq!(
        w.seen(b),
        [
            "message room: 170 172",
            "presence alice 110 100 170",
            "subject room: "
        ]
    );
}

#[test]
fn b07_201_is_for_the_creator_alone() {
    let mut w = World::new();
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.join(b, TEA, "alice");
    w.run();
    assert_eq!(w.seen(a), ["presence alice 110 201", "subject room: "]);
    assert_eq!(w.seen(b), ["presence alice 110", "subject room: "]);
}

#[test]
fn b08_a_nick_the_server_assigns_is_everybodys() {
    let mut w = World::new();
    w.service.room(TEA).assigns = Some(("alice".into(), "alice2".into()));
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.run();
    assert_eq!(w.seen(a), ["presence alice2 110 210", "subject room: "]);
    w.join(b, TEA, "alice");
    assert_eq!(w.seen(b), ["presence alice2 110 210", "subject room: "]);
    w.say(b, TEA, "1", "hi");
    w.run();
    assert_eq!(w.seen(a), ["message alice2: hi"]);
}

#[test]
fn b09_another_nick_gets_the_accounts() {
    let mut w = World::new();
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.join(b, TEA, "alice-desk");
    assert_eq!(w.seen(b), ["presence alice 110 210", "subject room: "]);
}

#[test]
fn b10_a_join_error_is_for_the_asking_session_and_leaves_no_state() {
    for condition in [
        "not-authorized",
        "forbidden",
        "registration-required",
        "conflict",
        "item-not-found",
        "not-allowed",
        "not-acceptable",
        "service-unavailable",
        "resource-constraint",
        "jid-malformed",
    ] {
        let mut w = World::new();
        w.service.room(TEA).refuses = Some(condition);
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.join(a, TEA, "alice");
        w.run();
        let raw = w.raw(a);
        assert_eq!(
            scribe::lines(&raw),
            [format!("error presence join {condition}")]
        );
        assert!(raw[0].contains("from='tea@rooms.test/alice'"), "{}", raw[0]);
        assert!(w.seen(b).is_empty());
        w.say(a, TEA, "1", "hi");
        w.run();
        assert_eq!(w.seen(a), ["error message 1 not-acceptable"]);
        w.service.room(TEA).refuses = None;
        w.join(a, TEA, "alice");
        w.run();
        assert_eq!(w.seen(a), ["presence alice 110", "subject room: "]);
    }
}

#[test]
fn b10_those_who_wait_ask_for_themselves() {
    let mut w = World::new();
    w.service.room(TEA).password = Some("secret".into());
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join_with(a, TEA, "alice", "<password>wrong</password>");
    w.join_with(b, TEA, "alice", "<password>secret</password>");
    w.run();
    assert_eq!(w.seen(a), ["error presence join not-authorized"]);
    assert_eq!(w.seen(b), ["presence alice 110", "subject room: "]);
}

/// The error of an earlier presence once was taken for the refusal of the join behind it: a client
/// that is kicked, says "away" before it knows, and joins again was told that it could not.
#[test]
fn b10_the_error_of_another_presence_is_no_refusal() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        let a = w.bind("phone");
        w.joined(a, "alice");
        w.service.remove(TEA, "alice", 307);
        w.sort_out();
        w.send(
            a,
            "<presence to='tea@rooms.test/alice' id='away'><show>away</show></presence>",
        );
        w.all_down(w.up(a));
        w.join(a, TEA, "alice");
        w.run();
        w.wait(Duration::from_secs(11));
        let seen: Vec<String> = w
            .seen(a)
            .into_iter()
            .filter(|it| it != "presence room")
            .collect();
        assert_eq!(
            seen,
            [
                "gone alice 110 307",
                "error presence away not-acceptable",
                "presence alice 110",
                "subject room: ",
            ],
            "{}",
            dialect.name
        );
    }
}

#[test]
fn b10_a_room_that_does_not_answer() {
    let mut w = World::new();
    w.service.dead.insert(TEA.into());
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.join(b, TEA, "alice");
    w.say(b, TEA, "1", "hi");
    w.run();
    w.wait(Duration::from_secs(121));
    assert_eq!(w.seen(a), ["error presence join remote-server-timeout"]);
    assert_eq!(
        w.seen(b),
        [
            "error presence join remote-server-timeout",
            "error message 1 not-acceptable"
        ]
    );
    w.service.dead.clear();
    w.wait(Duration::from_secs(11));
    w.join(a, TEA, "alice");
    w.run();
    assert_eq!(w.seen(a), ["presence alice 110 201", "subject room: "]);
}

#[test]
fn b11_a_password_is_given_once_and_serves_no_other_account() {
    let mut w = World::new();
    w.service.room(TEA).password = Some("a<b".into());
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    let mallory = w.bind_as("mallory@test", "x", None);
    w.join_with(a, TEA, "alice", "<password>a&lt;b</password>");
    w.run();
    w.join(b, TEA, "alice");
    assert_eq!(w.seen(b), ["presence alice 110", "subject room: "]);
    w.join(mallory, TEA, "mallory");
    w.run();
    assert_eq!(w.seen(mallory), ["error presence join not-authorized"]);
    // The account itself comes back in by it when the carrier changes.
    w.cut(a);
    w.run();
    w.say(b, TEA, "1", "hi");
    w.run();
    assert_eq!(w.seen(b), ["message alice: hi"]);
}

#[test]
fn b14_the_subject_is_always_sent_with_its_time() {
    for dialect in [PROSODY, EJABBERD] {
        let mut w = World::of(dialect);
        w.other_joins("bob", TEA);
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.joined(a, "alice");
        w.other(
            "bob",
            "<message to='tea@rooms.test' type='groupchat'><subject>green</subject></message>",
        );
        w.other("bob", "<message to='tea@rooms.test' type='groupchat'><subject>no</subject><body>one</body></message>");
        w.run();
        assert_eq!(w.seen(a), ["subject bob: green", "message bob: one"]);
        w.join(b, TEA, "alice");
        let raw = w.raw(b);
        let subject = raw.last().unwrap();
        assert_eq!(scribe::line(subject), "subject bob: green");
        assert!(subject.contains("<delay xmlns='urn:xmpp:delay' from='tea@rooms.test' stamp='2023-11-14T22:13:31.000Z'/>"), "{subject}");
    }
}

/// A service without a subject once kept the joining session waiting for two minutes, and then it
/// was told that the room did not answer.
#[test]
fn b14_a_service_that_tells_no_subject() {
    let mut w = World::of(SPARSE);
    w.other_joins("bob", TEA);
    let a = w.bind("phone");
    w.join(a, TEA, "alice");
    w.run();
    assert_eq!(w.seen(a), ["presence bob", "presence alice 110"]);
    w.wait(Duration::from_secs(10));
    assert_eq!(w.seen(a), ["subject room: "]);
    w.say(a, TEA, "1", "hi");
    w.run();
    assert_eq!(w.seen(a), ["message alice: hi"]);
}

#[test]
fn b15_who_joins_again_is_told_everything_again() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.joined(b, "alice");
    w.join(a, TEA, "alice");
    w.run();
    assert_eq!(
        w.seen(a),
        ["presence bob", "presence alice 110", "subject room: "]
    );
    assert!(w.seen(b).is_empty() && w.sent(w.up(a)).is_empty());
}

#[test]
fn b16_a_presence_without_the_muc_element_attaches_nothing() {
    let mut w = World::new();
    let (a, b, c) = (w.bind("phone"), w.bind("desk"), w.bind("old"));
    w.send(a, "<presence to='tea@rooms.test/alice' id='x'/>");
    w.run();
    assert_eq!(w.seen(a), ["error presence x not-acceptable"]);
    w.joined(b, "alice");
    w.joined(c, "alice");
    w.leave(c, TEA, "alice");
    w.seen(c);
    w.send(c, "<presence to='tea@rooms.test/alice' id='y'/>");
    w.send(a, "<presence to='tea@rooms.test/alice' id='z'/>");
    w.run();
    // For c the room is one it knows, on an uplink that has no part in it.
    assert_eq!(w.seen(c), ["error presence y not-acceptable"]);
    w.say(b, TEA, "1", "hi");
    w.run();
    assert!(w.seen(c).is_empty());
    assert_eq!(w.seen(b), ["message alice: hi"]);
}

#[test]
fn b17_a_join_without_a_nick_is_malformed() {
    let mut w = World::new();
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    let bare = "<presence to='tea@rooms.test' id='bare'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
    w.send(a, bare);
    w.run();
    assert_eq!(w.seen(a), ["error presence bare jid-malformed"]);
    // Also for one whose uplink carries the room, and for one whose uplink did.
    w.joined(a, "alice");
    w.joined(b, "alice");
    w.send(a, bare);
    w.run();
    assert_eq!(w.seen(a), ["error presence bare jid-malformed"]);
    w.unavailable(a);
    w.run();
    w.seen(a);
    w.send(a, bare);
    w.run();
    assert_eq!(w.seen(a), ["error presence bare jid-malformed"]);
}

#[test]
fn b18_the_id_of_a_join_comes_back_where_the_server_does_that() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        let (a, b) = (w.bind("phone"), w.bind("desk"));
        w.join(a, TEA, "alice");
        w.run();
        w.wait(Duration::from_secs(10));
        w.join(b, TEA, "alice");
        for id in [a, b] {
            let raw = w.raw(id);
            let own = raw.iter().find(|xml| xml.contains("'110'")).unwrap();
            assert_eq!(own.contains("id='join'"), dialect.reflects_id, "{own}");
        }
    }
}

/// After a first join without an id the later ones once got theirs back from no server.
#[test]
fn b18_the_first_join_has_no_id() {
    let (mut w, muc) = (World::new(), "<x xmlns='http://jabber.org/protocol/muc'/>");
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    let join = format!("<presence to='{TEA}/alice'>{muc}</presence>");
    w.send(a, &join);
    w.run();
    w.join(b, TEA, "alice");
    w.send(a, &join);
    w.run();
    for (id, expected) in [(a, false), (b, true)] {
        let raw = w.raw(id);
        let own = raw.iter().rfind(|xml| xml.contains("'110'")).unwrap();
        assert_eq!(own.contains(" id='"), expected, "{own}");
    }
}

#[test]
fn b19_a_challenge_reaches_the_joining_session() {
    let mut w = World::new();
    w.service.room(TEA).challenge = Some("2+2?".into());
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.run();
    assert_eq!(w.seen(a), ["private room: 2+2?"]);
    w.send(
        a,
        "<iq type='set' to='tea@rooms.test' id='c'><captcha xmlns='urn:xmpp:captcha'/></iq>",
    );
    w.run();
    assert_eq!(w.seen(a), ["iq result c room"]);
    assert!(w.seen(b).is_empty());
}

/// Behind the join it would wait for what it is to bring about.
#[test]
fn b19_the_answer_of_a_challenge_may_be_a_message() {
    let mut w = World::new();
    w.service.room(TEA).challenge = Some("2+2?".into());
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.join(a, TEA, "alice");
    w.join(b, TEA, "alice");
    w.run();
    assert_eq!(w.sent(w.up(a)).len(), 1);
    for id in [a, b] {
        w.send(
            id,
            "<message to='tea@rooms.test' id='c'><captcha xmlns='urn:xmpp:captcha'/></message>",
        );
        w.say(id, TEA, "1", "hello");
    }
    w.all_up(w.up(a));
    w.run();
    let sent = w.sent(w.up(a));
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].contains("captcha"), "{sent:?}");
    assert!(w.sent(w.up(b)).is_empty());
}

/// With the server alone, what a client sends behind its join comes after it.
#[test]
fn what_is_sent_behind_a_join_comes_after_it() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    for id in [a, b] {
        w.join(id, TEA, "alice");
        w.say(id, TEA, "1", &format!("hi{id}"));
    }
    w.run();
    assert_eq!(
        w.seen(a),
        [
            "presence bob",
            "presence alice 110",
            "subject room: ",
            "message alice: hi1",
            "message alice: hi2"
        ]
    );
    assert_eq!(
        w.seen(b),
        [
            "presence bob",
            "presence alice 110",
            "subject room: ",
            "message alice: hi1",
            "message alice: hi2"
        ]
    );
}
