//! Behaviour 57: a session that was lost and comes back; and what the hub tells of that and of its
//! rooms to be kept.

use std::time::Duration;

use mucplex_muc::{Input, UplinkId};

use crate::dialect::PROSODY;
use crate::world::{ALICE, TEA, World};

/// Alice's phone and desk in the room with bob, the phone's uplink carrying it.
fn rooms() -> (World, u64, u64) {
    crate::world::two_of(PROSODY)
}

fn says(w: &mut World, bodies: &[&str]) {
    for body in bodies {
        w.other_says("bob", TEA, body);
        w.run();
        w.wait(Duration::from_secs(1));
    }
}

/// The messages of the past among what a session was sent since the last time.
fn past(w: &mut World, id: u64) -> Vec<String> {
    let seen = w.seen(id);
    assert_eq!(
        seen.last().map(String::as_str),
        Some("subject room: "),
        "{seen:?}"
    );
    let past = seen
        .iter()
        .filter_map(|line| line.strip_prefix("past bob: "));
    past.map(str::to_owned).collect()
}

/// A session of this resource binds and joins: what of the past it gets.
fn returns(w: &mut World, resource: &str, asks: &str) -> (u64, Vec<String>) {
    let id = w.bind(resource);
    w.join_with(id, TEA, "alice", asks);
    w.run();
    let past = past(w, id);
    (id, past)
}

fn had(w: &World, id: u64) -> usize {
    w.sessions[&id].all.len()
}

#[test]
fn b57_a_lost_session_gets_exactly_what_it_has_not_had() {
    let (mut w, _, desk) = rooms();
    let bodies: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    let all: Vec<&str> = bodies.iter().map(String::as_str).collect();
    says(&mut w, &all[..10]);
    let ten = had(&w, desk);
    says(&mut w, &all[10..15]);
    // Five more went out to it, and nobody knows of them.
    w.lose_client(desk, ten);
    says(&mut w, &all[15..]);
    let (desk, got) = returns(&mut w, "desk", "");
    assert_eq!(got, all[10..]);
    // It has had them now, and asks once more.
    w.join(desk, TEA, "alice");
    assert_eq!(past(&mut w, desk), all[20..]);
    let everything = had(&w, desk);
    w.lose_client(desk, everything);
    let (_, got) = returns(&mut w, "desk", "");
    assert_eq!(got, Vec::<String>::new());
}

#[test]
fn b57_what_is_asked_for_limits_what_comes_and_brings_nothing_twice() {
    let asks = [
        ("<history maxstanzas='0'/>", 0),
        ("<history maxstanzas='2'/>", 2),
        ("<history maxstanzas='100'/>", 3),
        ("<history seconds='1000'/>", 3),
        ("<history since='2023-11-14T22:13:20Z'/>", 3),
    ];
    for (ask, expected) in asks {
        let (mut w, _, desk) = rooms();
        says(&mut w, &["a", "b", "c"]);
        let three = had(&w, desk);
        w.lose_client(desk, three);
        says(&mut w, &["d", "e", "f"]);
        let (_, got) = returns(&mut w, "desk", ask);
        assert_eq!(got, ["d", "e", "f"][3 - expected..], "{ask}");
    }
}

#[test]
fn b57_who_has_left_is_a_stranger_when_it_comes_again() {
    let ends: [fn(&mut World, u64); 3] = [
        |w, desk| w.leave(desk, TEA, "alice"),
        |w, desk| {
            w.unavailable(desk);
            w.run();
        },
        |w, desk| w.cut(desk),
    ];
    for end in ends {
        let (mut w, _, desk) = rooms();
        says(&mut w, &["a", "b"]);
        end(&mut w, desk);
        w.cut(desk);
        says(&mut w, &["c"]);
        let (_, got) = returns(&mut w, "desk", "");
        assert_eq!(got, ["a", "b", "c"]);
    }
    let (mut w, _, desk) = rooms();
    says(&mut w, &["a"]);
    w.lose_client(desk, 100);
    says(&mut w, &["b"]);
    assert_eq!(returns(&mut w, "tablet", "").1, ["a", "b"]);
    assert_eq!(returns(&mut w, "desk", "").1, ["b"]);
}

#[test]
fn b57_a_join_that_was_not_served_to_its_end_does_not_count() {
    let (mut w, _, desk) = rooms();
    says(&mut w, &["a", "b", "c"]);
    // A stranger is one still, wherever its answer was cut.
    for most in 0..5 {
        let (tablet, got) = returns(&mut w, "tablet", "");
        assert_eq!(got, ["a", "b", "c"]);
        w.lose_client(tablet, most);
    }
    let three = had(&w, desk);
    w.lose_client(desk, three);
    says(&mut w, &["d", "e", "f"]);
    // Two presences, then one message after another: what has come of it has come.
    let mut expected = ["d", "e", "f"].as_slice();
    for most in [0, 1, 2, 3, 2, 4] {
        let (desk, got) = returns(&mut w, "desk", "");
        assert_eq!(got, expected);
        w.lose_client(desk, most);
        expected = &expected[most.saturating_sub(2)..];
    }
    says(&mut w, &["g"]);
    assert_eq!(returns(&mut w, "desk", "").1, ["g"]);
}

#[test]
fn b57_what_the_client_says_later_counts() {
    let (mut w, phone, desk) = rooms();
    says(&mut w, &["a"]);
    let one = had(&w, desk);
    says(&mut w, &["b", "c"]);
    let mark = w.mark_of(desk, one + 1);
    w.lose_client(desk, one);
    says(&mut w, &["d"]);
    let served = |number| Input::Served {
        resource: "desk".to_owned(),
        number,
    };
    w.input(ALICE, served(mark));
    // An older word of it takes nothing back.
    w.input(ALICE, served(1));
    let (desk, got) = returns(&mut w, "desk", "");
    assert_eq!(got, ["c", "d"]);

    // Lost with its uplink, nobody knows what it has had.
    let all = had(&w, desk);
    let mark = w.mark_of(desk, all);
    w.lose(w.up(desk));
    w.run();
    says(&mut w, &["e"]);
    w.input(ALICE, served(mark));
    let (desk, got) = returns(&mut w, "desk", "");
    assert_eq!(got, ["e"]);
    w.lose(w.up(desk));
    w.run();
    assert_eq!(returns(&mut w, "desk", "").1, ["a", "b", "c", "d", "e"]);
    assert!(w.sessions[&phone].alive);
}

#[test]
fn b57_one_mark_counts_for_all_rooms() {
    const CAKE: &str = "cake@rooms.test";
    let (mut w, phone, desk) = rooms();
    w.other_joins("bob", CAKE);
    for id in [phone, desk] {
        w.join(id, CAKE, "alice");
        w.run();
    }
    let say = |w: &mut World, room: &str, body: &str| {
        w.other_says("bob", room, body);
        w.run();
    };
    say(&mut w, TEA, "a");
    say(&mut w, CAKE, "x");
    let two = had(&w, desk);
    say(&mut w, CAKE, "y");
    say(&mut w, TEA, "b");
    w.lose_client(desk, two);
    let desk = w.bind("desk");
    w.join(desk, TEA, "alice");
    assert_eq!(past(&mut w, desk), ["b"]);
    // It is lost before it comes back to the other one.
    let all = had(&w, desk);
    w.lose_client(desk, all);
    let desk = w.bind("desk");
    w.join(desk, CAKE, "alice");
    assert_eq!(past(&mut w, desk), ["y"]);
}

#[test]
fn b57_what_was_served_is_known_for_as_long_as_messages_are_kept() {
    for (days, expected) in [(29, 30), (31, 20)] {
        let (mut w, phone, desk) = rooms();
        w.policy.stay = Duration::from_secs(90 * 86_400);
        let all = had(&w, desk);
        w.lose_client(desk, all);
        w.wait(Duration::from_secs(days * 86_400));
        let bodies: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        says(&mut w, &bodies);
        assert_eq!(returns(&mut w, "desk", "").1.len(), expected);
        assert!(w.sessions[&phone].alive);
    }
}

#[test]
fn b63_a_message_is_one_change_and_others_cost_none() {
    let (mut w, phone, desk) = rooms();
    let changes = |w: &World| w.stores[ALICE].changes;
    let before = changes(&w);
    says(&mut w, &["a"]);
    assert_eq!(changes(&w), before + 1);
    w.other("bob", &format!("<message to='{TEA}' type='groupchat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>"));
    w.run();
    assert_eq!(changes(&w), before + 1);
    w.say(phone, TEA, "1", "hi");
    w.run();
    assert_eq!(changes(&w), before + 2);
    w.other(
        "bob",
        &format!("<presence to='{TEA}/bob'><show>away</show></presence>"),
    );
    w.run();
    assert_eq!(changes(&w), before + 3);
    w.leave(desk, TEA, "alice");
    assert_eq!(changes(&w), before + 4);
    w.join(desk, TEA, "alice");
    assert_eq!(changes(&w), before + 5);
}

#[test]
fn b42_b49_nothing_is_kept_of_a_room_that_was_left_or_destroyed() {
    let (mut w, phone, desk) = rooms();
    says(&mut w, &["a"]);
    let room = |w: &World| w.stores[ALICE].rooms.values().next().cloned();
    assert_eq!(room(&w).unwrap().messages.len(), 1);
    w.leave(desk, TEA, "alice");
    w.leave(phone, TEA, "alice");
    let leaving = room(&w).unwrap().room;
    assert!(!leaving.wanted && leaving.unsettled);
    w.run();
    assert!(room(&w).is_none());

    w.join(phone, TEA, "alice");
    let joining = room(&w).unwrap().room;
    assert!(!joining.wanted && joining.unsettled);
    w.run();
    let joined = room(&w).unwrap().room;
    assert!(joined.wanted && !joined.unsettled);
    assert_eq!(joined.carrier.as_deref(), Some("alice@test/phone"));
    w.service.destroy(TEA);
    w.sort_out();
    w.run();
    assert!(room(&w).is_none());
}

#[test]
fn b63_a_room_that_is_on_its_way_to_another_uplink_is_unsettled() {
    let (mut w, phone, _) = rooms();
    let unsettled = |w: &World| {
        let room = &w.stores[ALICE].rooms.values().next().unwrap().room;
        assert!(room.wanted);
        room.unsettled
    };
    assert!(!unsettled(&w));
    w.cut(phone);
    assert!(unsettled(&w));
    w.run();
    assert!(!unsettled(&w));
    let room = &w.stores[ALICE].rooms.values().next().unwrap().room;
    assert_eq!(room.carrier.as_deref(), Some("alice@test/desk"));
}

#[test]
fn b63_without_a_store_nothing_is_told_to_it() {
    let mut w = World::new();
    w.policy.persist = false;
    w.other_joins("bob", TEA);
    let phone = w.bind("phone");
    w.joined(phone, "alice");
    says(&mut w, &["a"]);
    let uplink = UplinkId(w.up(phone));
    w.input(ALICE, Input::UplinkLost { uplink });
    assert!(w.stores.is_empty());
}
