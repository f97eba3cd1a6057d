//! Behaviour 63: the proxy is killed and started again.

use std::time::Duration;

use jid::{BareJid, FullJid};
use mucplex_muc::{AccountJid, Hub, Input, UplinkId};

use crate::dialect::PROSODY;
use crate::world::{ALICE, END, TEA, World};

impl World {
    /// The process of alice's hub dies, and the next one has what was stored. Streams end, but for
    /// the one that `anchor` is: the server keeps that. Gives its new number.
    pub(crate) fn kill(&mut self, anchor: Option<u64>) -> Option<u64> {
        let alices = |jid: &str| jid.starts_with(ALICE);
        let dead = self.sessions.values_mut().filter(|it| alices(&it.jid));
        dead.for_each(|session| session.alive = false);
        let streams = self.uplinks.iter_mut().filter(|(_, it)| alices(&it.jid));
        for (_, uplink) in streams.filter(|(id, it)| it.open && Some(**id) != anchor) {
            uplink.open = false;
            uplink.down.clear();
            uplink.up = [END.to_owned()].into();
        }
        let anchor = anchor.map(|anchor| {
            let mut uplink = self.uplinks.remove(&anchor).unwrap();
            // What the server has not handled is lost with the process.
            uplink.up.clear();
            uplink.sent.clear();
            self.next += 1;
            self.uplinks.insert(self.next + 1000, uplink);
            self.next + 1000
        });
        let account = AccountJid(ALICE.parse::<BareJid>().unwrap());
        let saved = self.stores.entry(ALICE.to_owned()).or_default().saved();
        let now = self.now();
        let hub = Hub::restore(account, self.policy.clone(), saved, now);
        self.hubs.insert(ALICE.to_owned(), hub);
        self.outputs(ALICE);
        anchor
    }

    /// The anchor of the process before is there again.
    pub(crate) fn anchor_returns(&mut self, id: u64) {
        let jid: FullJid = self.uplinks[&id].jid.parse().unwrap();
        let (uplink, lang) = (UplinkId(id), None);
        self.input(ALICE, Input::AnchorRestored { uplink, jid, lang });
    }

    fn stored(&self) -> crate::store::Stored {
        let store = &self.stores[ALICE];
        assert_eq!(store.rooms.len(), 1);
        store.rooms.values().next().unwrap().clone()
    }
}

/// Alice's phone in the room with bob, by way of an anchor.
fn anchored() -> (World, u64, u64) {
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    let anchor = w.anchor(ALICE);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    w.seen_by_other("bob");
    (w, anchor, phone)
}

fn says(w: &mut World, bodies: &[&str]) {
    for body in bodies {
        w.other_says("bob", TEA, body);
        w.run();
        w.wait(Duration::from_secs(1));
    }
}

#[test]
fn b63_a_resumed_anchor_is_in_its_rooms_as_if_nothing_had_happened() {
    let (mut w, anchor, phone) = anchored();
    says(&mut w, &["a", "b"]);
    let had = w.sessions[&phone].all.len();
    let mark = w.mark_of(phone, had - 1);
    let anchor = w.kill(Some(anchor)).unwrap();
    // While nobody is there, the server keeps what is said.
    w.other_says("bob", TEA, "c");
    w.seen_by_other("bob");
    w.wait(Duration::from_secs(30));
    w.anchor_returns(anchor);
    w.run();
    assert!(w.sent(anchor).is_empty() && w.seen_by_other("bob").is_empty());
    w.other_says("bob", TEA, "d");
    w.run();
    w.seen_by_other("bob");
    // The client tries to resume, and tells what it has had.
    let resource = "phone".to_owned();
    let number = mark;
    w.input(ALICE, Input::Served { resource, number });
    let phone = w.bind("phone");
    w.join(phone, TEA, "alice");
    let seen = [
        "presence bob",
        "presence alice 110",
        "past bob: b",
        "past bob: c",
        "past bob: d",
        "subject room: ",
    ];
    assert_eq!(w.seen(phone), seen);
    w.say(phone, TEA, "1", "hi");
    w.run();
    assert_eq!(w.seen(phone), ["message alice: hi"]);
    assert_eq!(w.seen_by_other("bob"), ["message alice: hi"]);
}

#[test]
fn b37_after_a_restart_the_room_is_told_in_the_end_that_nobody_is_there() {
    let (mut w, anchor, _) = anchored();
    let anchor = w.kill(Some(anchor)).unwrap();
    w.anchor_returns(anchor);
    w.run();
    w.wait(Duration::from_secs(59));
    w.run();
    assert!(w.seen_by_other("bob").is_empty());
    w.wait(Duration::from_secs(2));
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["presence alice xa"]);
    // Once is enough, over restarts.
    let anchor = w.kill(Some(anchor)).unwrap();
    w.anchor_returns(anchor);
    w.wait(Duration::from_secs(100));
    w.run();
    assert!(w.seen_by_other("bob").is_empty());
}

#[test]
fn b63_without_the_anchor_the_next_uplink_joins_again_and_fills_in_what_was_missed() {
    for anchored in [false, true] {
        let (mut w, anchor, _) = self::anchored();
        says(&mut w, &["a", "b"]);
        w.policy.stay = Duration::from_secs(86_400);
        w.kill(None);
        assert!(!w.uplinks[&anchor].open);
        w.run();
        assert_eq!(w.seen_by_other("bob")[2..], ["gone alice"]);
        // A long outage.
        for body in ["c", "d", "e"] {
            w.other_says("bob", TEA, body);
            w.wait(Duration::from_secs(3600));
        }
        w.other_joins("eve", TEA);
        w.seen_by_other("bob");
        if anchored {
            let anchor = w.anchor(ALICE);
            w.run();
            assert_eq!(w.seen_by_other("bob"), ["presence alice xa"]);
            assert_eq!(w.sent(anchor).len(), 1);
        }
        let desk = w.bind("desk");
        w.join(desk, TEA, "alice");
        w.run();
        let seen: Vec<_> = w.seen(desk).into_iter().take(8).collect();
        assert_eq!(
            seen,
            [
                "presence bob",
                "presence eve",
                "presence alice xa 110",
                "past bob: a",
                "past bob: b",
                "past bob: c",
                "past bob: d",
                "past bob: e",
            ]
        );
        assert_eq!(w.stored().messages.len(), 5);
    }
}

#[test]
fn b63_a_room_that_was_unsettled_is_joined_again_on_the_anchor() {
    // The phone's uplink carries it, and the anchor's join is on its way.
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    says(&mut w, &["a"]);
    let anchor = w.anchor(ALICE);
    assert!(w.stored().room.unsettled);
    let anchor = w.kill(Some(anchor)).unwrap();
    w.other_says("bob", TEA, "b");
    w.anchor_returns(anchor);
    w.run();
    assert_eq!(w.sent(anchor).len(), 1);
    let stored = w.stored();
    assert!(!stored.room.unsettled && stored.room.wanted);
    assert_eq!(stored.room.carrier, Some(w.uplinks[&anchor].jid.clone()));
    assert_eq!(stored.messages.len(), 2);

    // Settled, but by another stream.
    let mut w = World::of(PROSODY);
    let anchor = w.anchor(ALICE);
    w.suspend(anchor);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    let anchor = w.kill(Some(anchor)).unwrap();
    w.resume(anchor);
    w.anchor_returns(anchor);
    assert_eq!(w.sent(anchor).len(), 1);
}

#[test]
fn b63_a_join_or_a_leave_on_its_way_leaves_no_ghost() {
    for leaves in [false, true] {
        let mut w = World::of(PROSODY);
        w.other_joins("bob", TEA);
        let anchor = w.anchor(ALICE);
        let phone = w.bind("phone");
        w.join(phone, TEA, "alice");
        w.all_up(anchor);
        if leaves {
            w.run();
            w.leave(phone, TEA, "alice");
        }
        w.seen_by_other("bob");
        // The leave is lost with the process.
        let anchor = w.kill(Some(anchor)).unwrap();
        w.anchor_returns(anchor);
        w.run();
        assert_eq!(w.seen_by_other("bob"), ["gone alice"]);
        assert!(w.stores[ALICE].rooms.is_empty());
        assert!(!w.hubs[ALICE].keeps_state());
    }
}

#[test]
fn b63_a_room_that_was_being_left_can_be_entered_meanwhile() {
    for anchored in [false, true] {
        let mut w = World::of(PROSODY);
        w.other_joins("bob", TEA);
        let anchor = w.anchor(ALICE);
        let phone = w.bind("phone");
        w.joined(phone, "alice");
        says(&mut w, &["a"]);
        w.leave(phone, TEA, "alice");
        let anchor = w.kill(anchored.then_some(anchor));
        w.run();
        let phone = w.bind("phone");
        w.join(phone, TEA, "alice");
        w.run();
        if let Some(anchor) = anchor {
            w.anchor_returns(anchor);
            w.run();
        }
        w.seen(phone);
        w.seen_by_other("bob");
        says(&mut w, &["b"]);
        assert_eq!(w.seen(phone), ["message bob: b"]);
        assert_eq!(w.stored().messages.len(), 2);
        w.say(phone, TEA, "1", "hi");
        w.run();
        assert_eq!(
            w.seen_by_other("bob"),
            ["message bob: b", "message alice: hi"]
        );
    }
}

#[test]
fn b44_the_time_to_stay_goes_on_over_a_restart() {
    let (mut w, anchor, phone) = anchored();
    w.cut(phone);
    w.wait(Duration::from_secs(1000));
    let anchor = w.kill(Some(anchor)).unwrap();
    w.wait(Duration::from_secs(1000));
    w.anchor_returns(anchor);
    w.run();
    w.wait(Duration::from_secs(1500));
    w.run();
    assert!(w.hubs[ALICE].keeps_state());
    w.seen_by_other("bob");
    w.wait(Duration::from_secs(101));
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["gone alice"]);
    assert!(w.stores[ALICE].rooms.is_empty());

    // With a session in the room when the process died it begins with the next one, and only once.
    let (mut w, _, _) = anchored();
    w.kill(None);
    w.wait(Duration::from_secs(3000));
    w.kill(None);
    w.wait(Duration::from_secs(599));
    assert!(w.hubs[ALICE].keeps_state());
    w.wait(Duration::from_secs(2));
    assert!(!w.hubs[ALICE].keeps_state() && w.stores[ALICE].rooms.is_empty());
}

#[test]
fn b43_rooms_that_are_not_stayed_in_are_left_after_a_restart() {
    let mut w = World::with(PROSODY, Duration::ZERO);
    w.other_joins("bob", TEA);
    let anchor = w.anchor(ALICE);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    let anchor = w.kill(Some(anchor)).unwrap();
    w.seen_by_other("bob");
    w.anchor_returns(anchor);
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["gone alice"]);
    assert!(w.stores[ALICE].rooms.is_empty());
}

#[test]
fn b63_numbers_go_on_where_the_clock_was_set_back() {
    let (mut w, anchor, _) = anchored();
    says(&mut w, &["a", "b"]);
    let before = *w.stored().messages.last_key_value().unwrap().0;
    w.elapsed = Duration::ZERO;
    let anchor = w.kill(Some(anchor)).unwrap();
    w.anchor_returns(anchor);
    says(&mut w, &["c"]);
    let stored = w.stored();
    assert_eq!(stored.messages.len(), 3);
    assert!(*stored.messages.last_key_value().unwrap().0 > before);
}

#[test]
fn b63_the_answer_to_a_join_of_the_process_before_is_not_told_twice() {
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    says(&mut w, &["a", "b"]);
    // The room has answered the anchor's join, and the process that has asked is no more.
    let anchor = w.anchor(ALICE);
    w.all_up(anchor);
    w.other_says("bob", TEA, "c");
    let anchor = w.kill(Some(anchor)).unwrap();
    w.anchor_returns(anchor);
    let desk = w.bind("desk");
    w.join(desk, TEA, "alice");
    w.run();
    w.other_says("bob", TEA, "d");
    w.run();
    let seen = w.seen(desk);
    let said = seen.iter().filter(|line| line.contains(" bob: "));
    let said: Vec<_> = said.collect();
    assert_eq!(
        said,
        [
            "past bob: a",
            "past bob: b",
            "past bob: c",
            "message bob: d"
        ]
    );
    assert_eq!(w.stored().messages.len(), 4);
}

#[test]
fn b63_what_two_carriers_bring_is_not_told_twice_after_a_restart() {
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    let anchor = w.anchor(ALICE);
    w.all_up(anchor);
    w.all_down(anchor);
    // The phone's stream still brings it, and the anchor's will bring it once more.
    w.other_says("bob", TEA, "a");
    w.all_up(w.up(phone));
    w.all_down(w.up(phone));
    assert_eq!(w.stored().messages.len(), 1);
    assert!(w.stored().room.unsettled);
    let anchor = w.kill(Some(anchor)).unwrap();
    w.anchor_returns(anchor);
    w.run();
    assert_eq!(w.stored().messages.len(), 1);
}

#[test]
fn b60_history_that_comes_late_is_not_live() {
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    says(&mut w, &["a", "b"]);
    w.seen(phone);
    let anchor = w.anchor(ALICE);
    w.all_up(anchor);
    // The room's presences, and then nothing for as long as a subject may take.
    assert!(w.step_down(anchor) && w.step_down(anchor));
    w.wait(Duration::from_secs(11));
    w.run();
    let seen = w.seen(phone);
    assert!(!seen.iter().any(|line| line.contains(" bob: ")), "{seen:?}");
    says(&mut w, &["c"]);
    assert_eq!(w.seen(phone), ["message bob: c"]);
    assert_eq!(w.stored().messages.len(), 3);
}

#[test]
fn b60_what_was_said_before_the_account_came_is_not_missed() {
    let mut w = World::of(PROSODY);
    w.other_joins("bob", TEA);
    for n in 0..25 {
        w.other_says("bob", TEA, &format!("m{n}"));
    }
    let (phone, desk) = (w.bind("phone"), w.bind("desk"));
    w.join(phone, TEA, "alice");
    w.run();
    w.join(desk, TEA, "alice");
    w.run();
    assert_eq!(w.stored().messages.len(), 20);
    w.seen(desk);
    w.lose(w.up(phone));
    w.other_says("bob", TEA, "m25");
    w.run();
    let seen = w.seen(desk);
    let said = seen.iter().filter(|line| line.contains(" bob: "));
    assert_eq!(said.collect::<Vec<_>>(), ["past bob: m25"]);
}

#[test]
fn b63_a_room_that_was_made_anew_meanwhile_has_another_past() {
    let (mut w, _, _) = anchored();
    says(&mut w, &["a", "b"]);
    w.kill(None);
    w.run();
    w.service.rooms.remove(TEA);
    w.anchor(ALICE);
    w.run();
    assert!(w.stored().messages.is_empty());
}
