//! Behaviours 25, 48 and 51: whether the account is in the room.

use std::time::Duration;

use crate::dialect::{self, EJABBERD, PROSODY};
use crate::world::{TEA, World, both, two_of};

impl World {
    /// The service forgets the account, and tells nobody.
    fn forget_account(&mut self) {
        let occupants = &mut self.service.room(TEA).occupants;
        occupants.retain(|it| it.nick != "alice");
    }
}

fn ping(w: &mut World, session: u64) {
    w.send(
        session,
        "<iq type='get' to='tea@rooms.test/alice' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>",
    );
}

#[test]
fn b51_a_self_ping_is_answered_from_what_is_known() {
    let (mut w, a, b) = two_of(PROSODY);
    let c = w.bind("third");
    w.other_says("bob", TEA, "hi");
    w.run();
    w.seen(a);
    w.seen(b);
    w.seen_by_other("bob");
    ping(&mut w, a);
    ping(&mut w, b);
    both(&mut w, a, b, &["iq result ping alice"]);
    // One that is not in the room goes by its own stream, of which the room knows nothing.
    ping(&mut w, c);
    w.run();
    assert_eq!(w.seen(c), ["error iq ping not-acceptable"]);
    w.leave(b, TEA, "alice");
    ping(&mut w, b);
    w.run();
    assert_eq!(
        w.seen(b),
        ["gone alice 110", "error iq ping not-acceptable"]
    );
    assert!(w.seen_by_other("bob").is_empty());
}

#[test]
fn b51_after_a_silence_the_room_is_asked() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.wait(Duration::from_secs(61));
        ping(&mut w, b);
        assert!(w.seen(b).is_empty());
        w.run();
        assert_eq!(w.seen(b), ["iq result ping alice"]);
        ping(&mut w, b);
        assert_eq!(w.seen(b).len(), usize::from(true));
        assert!(w.seen(a).is_empty());
    }
}

#[test]
fn b51_a_ping_that_finds_the_room_lost_heals_it() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.forget_account();
        w.other_says("bob", TEA, "missed");
        w.wait(Duration::from_secs(61));
        ping(&mut w, b);
        w.run();
        w.wait(Duration::from_secs(20));
        w.run();
        assert_eq!(w.seen(b), ["past bob: missed", "iq result ping alice"]);
        assert_eq!(w.seen(a), ["past bob: missed"]);
    }
}

#[test]
fn b51_a_room_that_does_not_take_the_account_back() {
    let (mut w, a, b) = two_of(PROSODY);
    w.forget_account();
    w.service.room(TEA).refuses = Some("forbidden");
    w.wait(Duration::from_secs(61));
    ping(&mut w, b);
    w.run();
    assert_eq!(
        w.seen(b),
        ["error iq ping remote-server-timeout", "gone alice 110 333"]
    );
    assert_eq!(w.seen(a), ["gone alice 110 333"]);
}

#[test]
fn b25_a_forgotten_occupancy_is_made_anew_and_the_message_sent_again() {
    for dialect in dialect::ALL {
        let (mut w, a, b) = two_of(dialect);
        w.forget_account();
        w.other_says("bob", TEA, "missed");
        w.say(a, TEA, "1", "one");
        w.say(b, TEA, "2", "two");
        w.run();
        w.wait(Duration::from_secs(20));
        w.run();
        let expected = [
            "past bob: missed",
            "message alice: one",
            "message alice: two",
        ];
        both(&mut w, a, b, &expected);
        assert_eq!(w.service.room(TEA).said, ["missed", "one", "two"]);
    }
}

#[test]
fn b25_if_that_fails_the_sender_gets_an_error_and_all_are_out() {
    let (mut w, a, b) = two_of(PROSODY);
    w.forget_account();
    w.service.room(TEA).refuses = Some("forbidden");
    w.say(b, TEA, "1", "one");
    w.run();
    let seen = w.seen(b);
    assert_eq!(seen.last().unwrap(), "gone alice 110 333", "{seen:?}");
    assert!(seen[0].starts_with("error message 1 "), "{seen:?}");
    assert_eq!(seen.len(), 2);
    assert_eq!(w.seen(a), ["gone alice 110 333"]);
    w.say(b, TEA, "2", "two");
    w.run();
    assert_eq!(w.seen(b), ["error message 2 not-acceptable"]);
}

#[test]
fn b25_a_room_that_forgets_again_and_again_means_it() {
    let (mut w, a, b) = two_of(PROSODY);
    w.forget_account();
    w.say(b, TEA, "1", "one");
    w.run();
    w.wait(Duration::from_secs(5));
    w.forget_account();
    w.say(b, TEA, "2", "two");
    w.run();
    assert_eq!(
        w.seen(b),
        ["message alice: one", "error message 2 not-acceptable"]
    );
    w.wait(Duration::from_secs(30));
    w.say(b, TEA, "3", "three");
    w.run();
    assert_eq!(w.seen(b), ["message alice: three"]);
    assert_eq!(w.seen(a), ["message alice: one", "message alice: three"]);
}

/// The one a private message goes to may answer with the same error as a room that has forgotten
/// the account: the room is asked.
#[test]
fn b25_a_private_message_is_sent_again_if_the_room_has_forgotten_the_account() {
    let (mut w, a, b) = two_of(PROSODY);
    let whisper = "<message type='chat' to='tea@rooms.test/bob' id='w'><body>psst</body></message>";
    w.send(b, whisper);
    w.run();
    let refusal = "<message type='error' from='tea@rooms.test/bob' to='{to}' id='w'><error type='cancel'>\
        <not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>";
    w.service_sends(a, refusal);
    w.run();
    assert_eq!(w.seen(b), ["error message w not-acceptable"]);
    w.seen_by_other("bob");
    w.forget_account();
    w.send(b, whisper);
    w.run();
    w.wait(Duration::from_secs(20));
    w.run();
    both(&mut w, a, b, &[]);
    let seen = w.seen_by_other("bob");
    assert_eq!(seen, ["presence alice", "private alice: psst"]);
}

/// ejabberd refuses a message to the room that is no groupchat with the same error. The proxy once
/// left the room for it.
#[test]
fn b25_a_message_of_a_type_that_the_room_does_not_take() {
    let (mut w, a, b) = two_of(EJABBERD);
    w.send(
        b,
        "<message type='chat' to='tea@rooms.test' id='c'><body>hm</body></message>",
    );
    let refusal = "<message type='error' from='tea@rooms.test' to='{to}' id='c'><error type='cancel'>\
        <not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>";
    w.service_sends(a, refusal);
    w.run();
    assert_eq!(w.seen(b), ["error message c not-acceptable"]);
    assert!(w.seen(a).is_empty());
    assert!(w.seen_by_other("bob").is_empty());
}

#[test]
fn b48_what_the_room_has_lost_comes_back_unseen() {
    for dialect in dialect::ALL {
        for code in [332, 333] {
            let (mut w, a, b) = two_of(dialect);
            w.other_joins("carol", TEA);
            w.run();
            w.seen(a);
            w.seen(b);
            w.service.remove(TEA, "alice", code);
            w.other_says("bob", TEA, "missed");
            w.other(
                "carol",
                "<presence to='tea@rooms.test/carol' type='unavailable'/>",
            );
            w.service.room(TEA).refuses = Some("service-unavailable");
            w.run();
            w.wait(Duration::from_secs(9));
            w.run();
            w.service.room(TEA).refuses = None;
            w.say(b, TEA, "1", "hi");
            for _ in 0..10 {
                w.run();
                w.wait(Duration::from_secs(2));
            }
            let expected = ["gone carol", "past bob: missed", "message alice: hi"];
            both(&mut w, a, b, &expected);
        }
    }
}

/// While ejabberd restarts its room service it takes a join without a word: the proxy once waited
/// for the answer until its time was over.
#[test]
fn b48_a_join_on_the_way_back_that_the_service_has_lost() {
    for dialect in dialect::ALL {
        for silence in [3, 9] {
            let (mut w, a, b) = two_of(dialect);
            w.service.remove(TEA, "alice", 332);
            w.other_says("bob", TEA, "missed");
            w.service.dead.insert(TEA.into());
            w.run();
            w.say(b, TEA, "1", "hi");
            for _ in 0..silence {
                w.run();
                w.wait(Duration::from_secs(1));
            }
            w.service.dead.clear();
            // With time for a subject that does not come.
            for _ in 0..20 {
                w.run();
                w.wait(Duration::from_secs(1));
            }
            both(&mut w, a, b, &["past bob: missed", "message alice: hi"]);
            // One join was lost, and one taken: the room sees one.
            let joins = w.seen_by_other("bob");
            let joins = joins.iter().filter(|line| *line == "presence alice");
            assert_eq!(joins.count(), 1, "{}", dialect.name);
        }
    }
}

/// A room that is only slow: its answer to the join comes before that to the question.
#[test]
fn b48_a_join_on_the_way_back_that_takes_its_time() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.remove(TEA, "alice", 332);
    w.other_says("bob", TEA, "missed");
    let up = w.up(a);
    w.all_down(up);
    w.wait(Duration::from_secs(9));
    w.run();
    w.wait(Duration::from_secs(2));
    w.run();
    both(&mut w, a, b, &["past bob: missed"]);
    w.say(b, TEA, "1", "hi");
    w.run();
    both(&mut w, a, b, &["message alice: hi"]);
}

#[test]
fn b48_what_does_not_come_back_in_time_is_told_as_the_room_said_it() {
    for code in [332_u16, 333] {
        let (mut w, a, b) = two_of(PROSODY);
        w.service.remove(TEA, "alice", code);
        w.service.room(TEA).refuses = Some("service-unavailable");
        for _ in 0..28 {
            w.run();
            w.wait(Duration::from_secs(1));
            both(&mut w, a, b, &[]);
        }
        for _ in 0..5 {
            w.run();
            w.wait(Duration::from_secs(1));
        }
        both(&mut w, a, b, &[&format!("gone alice 110 {code}")]);
        w.service.room(TEA).refuses = None;
        w.join(b, TEA, "alice");
        w.run();
        assert_eq!(
            w.seen(b),
            ["presence bob", "presence alice 110", "subject room: "]
        );
    }
}

/// The room has forgotten the account, and its answer to a ping comes when the last session is
/// leaving: the proxy joined anew, for nobody.
#[test]
fn b51_a_ping_is_answered_when_nobody_is_there_any_more() {
    let (mut w, a, b) = two_of(PROSODY);
    w.leave(b, TEA, "alice");
    w.wait(Duration::from_secs(61));
    w.forget_account();
    ping(&mut w, a);
    w.leave(a, TEA, "alice");
    w.run();
    w.wait(Duration::from_secs(11));
    w.run();
    assert!(w.service.known(TEA).nick("alice").is_none());
    assert_eq!(
        w.seen(a),
        ["gone alice 110", "error iq ping remote-server-timeout"]
    );
}

/// The same with a change of nick of which nobody hears any more.
#[test]
fn b36_a_change_of_nick_is_given_up_when_nobody_is_there_any_more() {
    let mut w = World::new();
    let a = w.bind("phone");
    w.joined(a, "alice");
    w.service.dead.insert(TEA.into());
    w.send(a, "<presence to='tea@rooms.test/ally' id='n'/>");
    w.run();
    w.service_sends(
        a,
        "<presence type='unavailable' from='tea@rooms.test/alice' to='{to}'>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='none'/><status code='110'/></x></presence>",
    );
    w.run();
    w.wait(Duration::from_secs(5));
    w.leave(a, TEA, "alice");
    let up = w.up(a);
    w.sent(up);
    w.wait(Duration::from_secs(9));
    let sent = w.sent(up);
    assert!(sent.is_empty(), "{sent:?}");
}

/// The room has just said that the account is not in it: nobody is told that it is.
#[test]
fn b51_a_refused_message_is_reason_to_ask() {
    let (mut w, a, b) = two_of(PROSODY);
    w.forget_account();
    w.say(b, TEA, "1", "one");
    w.run();
    w.wait(Duration::from_secs(5));
    w.forget_account();
    w.say(b, TEA, "2", "two");
    w.run();
    w.seen(b);
    w.seen(a);
    ping(&mut w, b);
    w.run();
    assert_eq!(
        w.seen(b),
        ["error iq ping not-acceptable", "gone alice 110 333"]
    );
    assert_eq!(w.seen(a), ["gone alice 110 333"]);
}

#[test]
fn b51_pings_without_an_answer_are_bounded() {
    let (mut w, a, b) = two_of(PROSODY);
    w.wait(Duration::from_secs(61));
    w.service.dead.insert(TEA.into());
    for _ in 0..1_100 {
        ping(&mut w, b);
    }
    assert_eq!(w.seen(b).len(), 1_100 - 1_024);
    w.run();
    w.wait(Duration::from_secs(121));
    assert_eq!(w.seen(b).len(), 1_024);
    assert!(w.seen(a).is_empty());
}

/// Private messages are never reflected; what was kept of them once left no space for a message
/// that had to be sent again.
#[test]
fn b25_many_private_messages_before_the_one_to_be_sent_again() {
    let (mut w, a, b) = two_of(PROSODY);
    let text = "x".repeat(4_096);
    for n in 0..70 {
        let whisper = format!(
            "<message type='chat' to='tea@rooms.test/bob' id='w{n}'><body>{text}</body></message>"
        );
        w.send(b, &whisper);
    }
    w.run();
    w.forget_account();
    w.say(b, TEA, "1", &text);
    w.run();
    both(&mut w, a, b, &[&format!("message alice: {text}")]);
}
