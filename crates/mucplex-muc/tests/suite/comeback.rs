//! What ejabberd does with streams of one full JID, and with presences of its own: each once a bug.

use std::time::Duration;

use crate::dialect::{EJABBERD, PROSODY, SPARSE};
use crate::world::{TEA, World, two_of};

impl World {
    /// The service handles a leave of the carrier that the carrier has not sent.
    fn leave_behind_its_back(&mut self, session: u64) {
        let stream = self.sessions[&session].jid.clone();
        let leave = format!("<presence to='{TEA}/alice' type='unavailable'/>");
        self.service.handle(&stream, &leave);
    }
}

#[test]
fn b43_the_leave_of_an_older_stream_takes_the_occupancy_along() {
    for dialect in [PROSODY, EJABBERD] {
        let (mut w, a, b) = two_of(dialect);
        w.leave_behind_its_back(a);
        w.other_says("bob", TEA, "one");
        w.run();
        w.other_says("bob", TEA, "two");
        w.run();
        for session in [a, b] {
            assert_eq!(w.seen(session), ["past bob: one", "message bob: two"]);
        }
    }
}

#[test]
fn b43_the_same_in_the_middle_of_a_join() {
    // Without a subject the join is not complete before somebody speaks.
    let mut w = World::of(SPARSE);
    w.other_joins("bob", TEA);
    let a = w.bind("phone");
    w.send(
        a,
        "<presence to='tea@rooms.test/alice'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
    );
    w.run();
    w.leave_behind_its_back(a);
    w.run();
    w.other_says("bob", TEA, "hi");
    w.run();
    let seen = w.seen(a);
    assert!(!seen.contains(&"gone alice 110".to_owned()), "{seen:?}");
    assert_eq!(seen.last().unwrap(), "message bob: hi");
}

#[test]
fn b47_a_room_that_does_it_again_means_it() {
    let (mut w, a, b) = two_of(PROSODY);
    w.leave_behind_its_back(a);
    w.run();
    w.wait(Duration::from_secs(5));
    w.leave_behind_its_back(a);
    w.run();
    for session in [a, b] {
        assert_eq!(w.seen(session), ["gone alice 110"]);
    }
}

#[test]
fn b43_an_unavailable_of_the_bare_room_is_between_it_and_the_stream() {
    let (mut w, a, b) = two_of(EJABBERD);
    w.service_sends(
        a,
        "<presence from='tea@rooms.test' to='{to}' type='unavailable'/>",
    );
    w.run();
    assert!(w.seen(a).is_empty() && w.seen(b).is_empty());
    w.join(b, TEA, "alice");
    assert!(!w.seen(b).iter().any(|line| line.starts_with("gone")));
}

#[test]
fn b38_b39_an_own_presence_is_marked_for_every_session() {
    let (mut w, a, b) = two_of(EJABBERD);
    w.service_sends(
        a,
        "<presence from='tea@rooms.test/alice' to='{to}'><show>dnd</show>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='participant'/></x></presence>",
    );
    w.run();
    for session in [a, b] {
        assert_eq!(w.seen(session), ["presence alice dnd 110"]);
    }
}

/// A moderator gives the account the role it has: the presence says nothing new but who did it. It
/// was taken for the echo of a hand-over where there was none.
#[test]
fn b32_a_role_given_again_is_told() {
    let (mut w, a, b) = two_of(PROSODY);
    let own = w.sessions[&a]
        .all
        .iter()
        .find(|xml| xml.contains("'110'"))
        .unwrap();
    let again = own.replace("<status", "<reason>again</reason><status");
    w.service_sends(a, &again);
    w.run();
    for session in [a, b] {
        assert_eq!(w.seen(session), ["presence alice 110"]);
    }
}
