//! Behaviours 9 and 34 to 36: the account's nick.

use std::time::Duration;

use mucplex_muc::NickConflict;

use crate::dialect::{self, PROSODY};
use crate::service::Silence;
use crate::world::{TEA, World, both, two_in, two_of};

fn two_with(policy: NickConflict) -> (World, u64, u64) {
    let mut w = World::new();
    w.policy.nick_conflict = policy;
    two_in(w)
}

/// Where the server does not give ids back, the new self-presence was once taken for one the
/// sessions knew already, and kept from them.
#[test]
fn b34_the_accounts_change_of_nick() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
        w.run();
        both(&mut w, a, b, &["gone alice 110 303", "presence ally 110"]);
        w.say(a, TEA, "1", "hi");
        w.run();
        both(&mut w, a, b, &["message ally: hi"]);
        // Somebody else takes the old nick; a late joiner that asks for it gets the account's.
        w.other("carol", "<presence to='tea@rooms.test/alice'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
        w.run();
        let c = w.bind("third");
        w.join(c, TEA, "alice");
        let seen = w.seen(c);
        assert!(
            seen.contains(&"presence alice".to_owned())
                && seen.contains(&"presence ally 110 210".to_owned()),
            "{seen:?}"
        );
    }
}

#[test]
fn b35_a_refused_change_of_nick_is_told_to_the_one_who_asked() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(b, "<presence to='tea@rooms.test/bob' id='n'/>");
    w.run();
    assert_eq!(w.seen(b), ["error presence n conflict"]);
    assert!(w.seen(a).is_empty());
    w.say(b, TEA, "1", "hi");
    w.run();
    both(&mut w, a, b, &["message alice: hi"]);
}

/// Between the two presences of a change of nick, a late joiner was once shown under the old one.
#[test]
fn b34_a_session_joins_in_the_middle_of_a_change_of_nick() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
    w.all_up(w.up(a));
    w.step_down(w.up(a));
    let c = w.bind("third");
    w.join(c, TEA, "ally");
    w.run();
    assert_eq!(
        w.seen(c),
        [
            "presence bob",
            "presence ally 110",
            "subject room: ",
            "presence ally 110"
        ]
    );
}

#[test]
fn b36_a_room_that_keeps_a_change_of_nick_to_itself() {
    for silence in [Silence::Gone, Silence::Code, Silence::Everything] {
        let (mut w, a, b) = two_of(PROSODY);
        w.service.room(TEA).nick_silence = silence;
        w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
        w.run();
        w.wait(Duration::from_secs(4));
        w.run();
        both(&mut w, a, b, &["gone alice 110 303", "presence ally 110"]);
        w.say(a, TEA, "1", "hi");
        w.run();
        both(&mut w, a, b, &["message ally: hi"]);
        let c = w.bind("third");
        w.joined(c, "ally");
        w.service.room(TEA).nick_silence = Silence::Nothing;
        w.send(c, "<presence to='tea@rooms.test/al' id='n'/>");
        w.run();
        assert_eq!(
            w.seen(c),
            ["gone ally 110 303", "presence al 110"],
            "{silence:?}"
        );
    }
}

#[test]
fn b36_a_message_from_the_new_nick_completes_the_change() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.room(TEA).nick_silence = Silence::Everything;
    w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
    w.say(a, TEA, "1", "hi");
    w.run();
    both(
        &mut w,
        a,
        b,
        &[
            "gone alice 110 303",
            "presence ally 110",
            "message ally: hi",
        ],
    );
}

#[test]
fn b36_a_change_that_was_not_made_is_given_up() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.dead.insert(TEA.into());
    w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
    w.run();
    w.service.dead.clear();
    w.wait(Duration::from_secs(11));
    w.run();
    both(&mut w, a, b, &[]);
    w.send(a, "<presence to='tea@rooms.test/al' id='n'/>");
    w.run();
    both(&mut w, a, b, &["gone alice 110 303", "presence al 110"]);
}

/// The nick belongs to somebody else, and the room says nothing: whose answer that is decides.
#[test]
fn b36_a_ping_answered_by_somebody_else_is_no_proof() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.dead.insert(TEA.into());
    w.send(b, "<presence to='tea@rooms.test/bob' id='n'/>");
    w.run();
    w.service.dead.clear();
    w.wait(Duration::from_secs(4));
    w.run();
    let asked = w.seen_by_other("bob").pop().unwrap();
    let id = asked.split(' ').nth(2).unwrap();
    w.other(
        "bob",
        &format!("<iq type='result' to='tea@rooms.test/alice' id='{id}'/>"),
    );
    w.run();
    both(&mut w, a, b, &[]);
}

#[test]
fn b09_another_nick_by_the_account_policy() {
    let (mut w, a, _) = two_of(PROSODY);
    let c = w.bind("third");
    w.join(c, TEA, "ally");
    assert_eq!(
        w.seen(c),
        ["presence bob", "presence alice 110 210", "subject room: "]
    );
    w.run();
    assert!(w.seen(a).is_empty());
    assert!(w.seen_by_other("bob").is_empty());
}

#[test]
fn b09_another_nick_by_the_rename_policy() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        w.policy.nick_conflict = NickConflict::Rename;
        let (mut w, a, b) = two_in(w);
        let c = w.bind("third");
        w.join(c, TEA, "ally");
        w.say(c, TEA, "1", "hi");
        w.run();
        both(
            &mut w,
            a,
            b,
            &[
                "gone alice 110 303",
                "presence ally 110",
                "message ally: hi",
            ],
        );
        let mut seen = w.seen(c);
        seen.retain(|line| line != "presence room");
        let expected = [
            "presence bob",
            "presence ally 110",
            "subject room: ",
            "message ally: hi",
        ];
        assert_eq!(seen, expected);
        assert_eq!(
            w.seen_by_other("bob"),
            ["gone alice 303", "presence ally", "message ally: hi"]
        );
    }
}

#[test]
fn b09_the_room_refuses_to_rename_the_account() {
    let (mut w, a, b) = two_with(NickConflict::Rename);
    let (c, d) = (w.bind("third"), w.bind("fourth"));
    w.join(c, TEA, "bob");
    w.join(d, TEA, "bob");
    w.run();
    for session in [c, d] {
        assert_eq!(w.seen(session), ["error presence join conflict"]);
        w.say(session, TEA, "1", "hi");
        assert_eq!(w.seen(session), ["error message 1 not-acceptable"]);
    }
    both(&mut w, a, b, &[]);
}

#[test]
fn b09_another_nick_by_the_separate_policy() {
    let (mut w, a, b) = two_with(NickConflict::Separate);
    let c = w.bind("third");
    w.join(c, TEA, "ally");
    w.run();
    let seen = w.seen(c);
    let expected = [
        "presence bob",
        "presence alice",
        "presence ally 110",
        "subject room: ",
    ];
    assert_eq!(seen, expected);
    both(&mut w, a, b, &["presence ally"]);
    w.say(c, TEA, "1", "hi");
    w.run();
    both(&mut w, a, b, &["message ally: hi"]);
    assert_eq!(w.seen(c), ["message ally: hi"]);
    w.other(
        "bob",
        "<message type='chat' to='tea@rooms.test/ally'><body>psst</body></message>",
    );
    w.run();
    assert_eq!(w.seen(c), ["private bob: psst"]);
    w.leave(c, TEA, "ally");
    w.run();
    assert_eq!(w.seen(c), ["gone ally 110"]);
    both(&mut w, a, b, &["gone ally"]);
    // It is free to join as the account now.
    w.join(c, TEA, "alice");
    assert_eq!(
        w.seen(c),
        [
            "presence bob",
            "presence alice 110",
            "past ally: hi",
            "subject room: "
        ]
    );
}

/// The uplink of the session that wants to be separate carries the account's occupancy: that moves
/// to another one first.
#[test]
fn b09_the_carriers_own_session_wants_to_be_separate() {
    let (mut w, a, b) = two_with(NickConflict::Separate);
    w.leave(a, TEA, "alice");
    w.run();
    w.seen(a);
    w.join(a, TEA, "ally");
    w.say(b, TEA, "1", "hi");
    w.run();
    let seen = w.seen(a);
    assert_eq!(seen.last().unwrap(), "subject room: ", "{seen:?}");
    assert_eq!(w.seen(b), ["message alice: hi", "presence ally"]);
    w.say(a, TEA, "1", "hello");
    w.run();
    assert_eq!(w.seen(b), ["message ally: hello"]);
    // The account's occupancy ends with its own session; the separate one stays.
    w.cut(b);
    w.run();
    assert_eq!(w.seen(a), ["message ally: hello", "gone alice"]);
    let seen = w.seen_by_other("bob");
    assert_eq!(seen.last().unwrap(), "gone alice", "{seen:?}");
}

/// A presence to the old nick is a change back to it (XEP-0045 7.6): a status that a session set
/// while the account was getting a new nick undid the change.
#[test]
fn b34_a_status_set_during_a_change_of_nick_does_not_undo_it() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
        w.send(
            a,
            "<presence to='tea@rooms.test/alice' id='s'><show>chat</show></presence>",
        );
        w.run();
        let told = [
            "gone alice 110 303",
            "presence ally 110",
            "presence ally chat 110",
        ];
        both(&mut w, a, b, &told);
        let told = ["gone alice 303", "presence ally", "presence ally chat"];
        assert_eq!(w.seen_by_other("bob"), told, "{}", dialect.name);
    }
}

/// The room refuses the nick: what was said meanwhile is said under the old one, and answered.
#[test]
fn b38_a_status_set_during_a_refused_change_of_nick_is_answered() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(b, "<presence to='tea@rooms.test/bob' id='n'/>");
    for id in ["s", "t"] {
        let chat =
            format!("<presence to='tea@rooms.test/alice' id='{id}'><show>chat</show></presence>");
        w.send(a, &chat);
    }
    w.run();
    let told = ["presence alice chat 110", "presence alice 110"];
    assert_eq!(
        w.seen(b),
        ["error presence n conflict", "presence alice chat 110"]
    );
    let mut seen = w.seen(a);
    seen.sort_unstable();
    let mut told = told.to_vec();
    told.sort_unstable();
    assert_eq!(seen, told);
}

/// The same for a status that the account has because a session went.
#[test]
fn b37_who_goes_during_a_change_of_nick_does_not_undo_it() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(
        b,
        "<presence to='tea@rooms.test/alice'><show>chat</show></presence>",
    );
    w.run();
    w.seen(a);
    w.seen_by_other("bob");
    w.send(a, "<presence to='tea@rooms.test/ally' id='n'/>");
    w.cut(b);
    w.run();
    assert_eq!(w.seen(a), ["gone alice chat 110 303", "presence ally 110"]);
    assert_eq!(
        w.seen_by_other("bob"),
        ["gone alice chat 303", "presence ally"]
    );
}

/// The one that asked for a nick goes before the room has given it: its status went with the nick,
/// and stayed the account's.
#[test]
fn b37_the_one_who_asked_for_a_nick_goes_before_it_is_given() {
    let mut w = World::of(PROSODY);
    w.policy.nick_conflict = NickConflict::Rename;
    let (mut w, a, b) = two_in(w);
    for session in [a, b] {
        w.send(
            session,
            "<presence to='tea@rooms.test/alice'><show>away</show></presence>",
        );
        w.run();
        w.seen(session);
    }
    w.seen_by_other("bob");
    let c = w.bind("third");
    w.join(c, TEA, "ally");
    w.cut(c);
    w.run();
    let seen = w.seen_by_other("bob");
    assert_eq!(seen.last().unwrap(), "presence ally away", "{seen:?}");
}

/// The carrier is lost with the change of nick for which a session waits: nobody asked the room
/// again, and the session waited for good.
#[test]
fn b09_the_carrier_is_lost_while_a_session_waits_for_its_nick() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        w.policy.nick_conflict = NickConflict::Rename;
        let (mut w, a, b) = two_in(w);
        let c = w.bind("third");
        w.join(c, TEA, "ally");
        let up = w.up(a);
        w.lose(up);
        for _ in 0..15 {
            w.run();
            w.wait(Duration::from_secs(1));
        }
        let seen = w.seen(b);
        assert_eq!(
            seen,
            ["gone alice 110 303", "presence ally 110"],
            "{}",
            dialect.name
        );
        let seen = w.seen(c);
        assert_eq!(seen.last().unwrap(), "subject room: ", "{seen:?}");
    }
}

/// The session that has asked for a nick is told when nobody knows what has become of it.
#[test]
fn b35_the_carrier_is_lost_with_a_change_of_nick() {
    let (mut w, a, b) = two_of(PROSODY);
    w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
    let up = w.up(a);
    w.lose(up);
    w.run();
    assert_eq!(w.seen(b), ["error presence n remote-server-timeout"]);
    w.say(b, TEA, "1", "hi");
    w.run();
    assert_eq!(w.seen(b), ["message alice: hi"]);
}

/// The carrier is lost between the two presences of a change of nick: the sessions were told that
/// the old nick is gone, and never that the account is there under the new one.
#[test]
fn b34_the_carrier_is_lost_in_the_middle_of_a_change_of_nick() {
    for dialect in dialect::ALL {
        let mut w = World::of(dialect);
        w.policy.nick_conflict = NickConflict::Rename;
        let (mut w, a, b) = two_in(w);
        let c = w.bind("third");
        w.join(c, TEA, "ally");
        let up = w.up(a);
        w.all_up(up);
        w.step_down(up);
        w.lose(up);
        for _ in 0..15 {
            w.run();
            w.wait(Duration::from_secs(1));
        }
        assert_eq!(w.seen(b), ["gone alice 110 303", "presence ally 110"]);
        let seen = w.seen(c);
        assert_eq!(seen.last().unwrap(), "subject room: ", "{seen:?}");
    }
}

/// A service took the occupant out for a change of nick and then refused that.
#[test]
fn b35_a_room_that_lets_go_of_the_old_nick_and_refuses_the_new_one() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.dead.insert(TEA.into());
    w.send(b, "<presence to='tea@rooms.test/ally' id='n'/>");
    w.run();
    w.service.dead.clear();
    w.service
        .room(TEA)
        .occupants
        .retain(|it| it.nick != "alice");
    w.service_sends(
        a,
        "<presence type='unavailable' from='tea@rooms.test/alice' to='{to}'>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='none'/><status code='110'/></x></presence>",
    );
    w.service_sends(
        a,
        "<presence type='error' from='tea@rooms.test/ally' to='{to}' id='n'><error type='cancel'>\
         <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>",
    );
    w.run();
    w.other_says("bob", TEA, "hi");
    w.run();
    assert_eq!(w.seen(b), ["error presence n conflict", "message bob: hi"]);
    assert_eq!(w.seen(a), ["message bob: hi"]);
}

/// The nick belongs to somebody else, who writes under the id of a message that is under way.
#[test]
fn b36_a_message_of_somebody_else_is_no_proof() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.dead.insert(TEA.into());
    w.send(b, "<presence to='tea@rooms.test/bob' id='n'/>");
    w.say(a, TEA, "1", "hi");
    w.run();
    w.service.dead.clear();
    w.other(
        "bob",
        "<message to='tea@rooms.test' type='groupchat' id='1'><body>got you</body></message>",
    );
    w.run();
    both(&mut w, a, b, &["message bob: got you"]);
}

/// With no time to stay, the account left while a session waited for its nick.
#[test]
fn b09_b44_nobody_is_in_the_room_but_one_that_waits_for_its_nick() {
    let mut w = World::with(PROSODY, Duration::ZERO);
    w.policy.nick_conflict = NickConflict::Rename;
    let (mut w, a, b) = two_in(w);
    w.cut(b);
    let c = w.bind("third");
    w.join(c, TEA, "ally");
    w.cut(a);
    let up = w.up(a);
    w.all_up(up);
    w.wait(Duration::from_secs(1));
    w.run();
    let seen = w.seen_by_other("bob");
    assert_eq!(seen, ["gone alice 303", "presence ally"]);
    let seen = w.seen(c);
    assert_eq!(seen.last().unwrap(), "subject room: ", "{seen:?}");
}

/// A session that is apart is unavailable for a moment, and joins again: the room's answer to the
/// first was taken for the end of its stay.
#[test]
fn b09_a_separate_session_goes_and_comes_back_at_once() {
    let (mut w, a, b) = two_with(NickConflict::Separate);
    let c = w.bind("third");
    w.joined(c, "ally");
    w.unavailable(c);
    w.join(c, TEA, "ally");
    w.run();
    assert_eq!(
        w.seen(c),
        [
            "gone ally 110",
            "presence bob",
            "presence alice",
            "presence ally 110",
            "subject room: "
        ]
    );
    w.seen(a);
    w.seen(b);
    w.say(c, TEA, "1", "hi");
    w.run();
    both(&mut w, a, b, &["message ally: hi"]);
}

/// A second leave that the room does not answer once kept a session apart for good.
#[test]
fn b09_a_separate_session_leaves_twice() {
    let (mut w, _, _) = two_with(NickConflict::Separate);
    let c = w.bind("third");
    w.joined(c, "ally");
    w.leave(c, TEA, "ally");
    w.leave(c, TEA, "ally");
    w.run();
    assert_eq!(w.seen(c), ["gone ally 110"]);
    let up = w.up(c);
    w.sent(up);
    w.join(c, TEA, "alice");
    assert_eq!(w.seen(c).len(), 3);
    assert!(w.sent(up).is_empty());
}

/// The last session leaves while another waits for its nick, which the room then refuses: nobody
/// is left who wants the account to stay.
#[test]
fn b09_b42_the_last_one_leaves_and_the_one_that_waits_is_refused() {
    for refused in [true, false] {
        let (mut w, a, b) = two_with(NickConflict::Rename);
        w.leave(a, TEA, "alice");
        let c = w.bind("third");
        w.join(c, TEA, if refused { "bob" } else { "ally" });
        w.leave(b, TEA, "alice");
        w.run();
        w.wait(Duration::from_secs(1));
        w.run();
        let nick = if refused { "alice" } else { "ally" };
        let there = w.service.known(TEA).nick(nick).is_some();
        assert_eq!(there, !refused);
        let seen = w.seen(c);
        let last = if refused {
            "error presence join conflict"
        } else {
            "subject room: "
        };
        assert_eq!(seen.last().unwrap(), last);
    }
}
