//! What is put in comes out again, in the next process too.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use bytes::Bytes;
use mucplex_store::{
    AccountSummary, AnchorState, Bounds, Op, PushRegistration, RoomRecord, SealedKey, Served,
    Snapshot,
};

use crate::stage::{
    Stage, alice, bob, close, join, load, message, now, occupant, put, record, say, served, tea,
    until,
};

fn full_record() -> RoomRecord {
    RoomRecord {
        nick: "Alice \u{1f375}".to_owned(),
        own_presence: Some(Bytes::from_static(b"<presence id='own'/>")),
        room_presence: Some(Bytes::from_static(b"<presence id='room'/>")),
        subject: Some(Bytes::from_static(b"<message><subject/></message>")),
        password: Some("s3cret".to_owned()),
        carrier: Some("alice@example.org/anchor-1".to_owned()),
        non_anonymous: true,
        logged: true,
        reflects_join_id: true,
        nick_assigned: true,
        spoken: true,
        wanted: false,
        unsettled: true,
        detached_since: Some(now()),
        ..record(&tea())
    }
}

fn anchor() -> AnchorState {
    AnchorState {
        domain: "example.org".to_owned(),
        jid: "alice@example.org/anchor-1".to_owned(),
        previd: "p/r+e=".to_owned(),
        location: Some("[::1]:5222".to_owned()),
        h_in: u32::MAX,
        max: Some(Duration::from_secs(600)),
        at: now(),
    }
}

/// What a device was served; of the desk it is not known for certain.
fn mark(resource: &str) -> Served {
    let known = resource == "phone";
    Served {
        room: tea(),
        resource: resource.to_owned(),
        number: known.then_some(7),
        joined: 6,
        replay: 4,
        before: known.then_some(3),
        at: std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_001),
    }
}

fn push(resource: &str, node: &str) -> PushRegistration {
    PushRegistration {
        resource: resource.to_owned(),
        service: "push.example.net".to_owned(),
        node: node.to_owned(),
        form: Bytes::from_static(b"<x/>"),
    }
}

#[test]
fn everything_is_there_again_in_the_next_process() {
    let stage = Stage::new();
    let store = stage.open();
    let key = SealedKey {
        bytes: Bytes::from_static(&[0, 1, 255]),
    };
    let ops = vec![
        Op::PutRoom(full_record()),
        Op::ReplaceOccupants {
            room: tea(),
            occupants: vec![occupant("zoe", 1), occupant("bob", 2)],
        },
        Op::PutOccupant {
            room: tea(),
            occupant: occupant("carol", 0),
        },
        say(&tea(), 7),
        say(&tea(), 8),
        Op::PutServed(mark("phone")),
        Op::PutServed(mark("desk")),
        Op::PutAnchor(anchor()),
        Op::PutKey(key.clone()),
        Op::PutPush(push("phone", "n1")),
        Op::PutPush(push("phone", "n2")),
        Op::PutPush(push("tablet", "")),
    ];
    put(&store, &alice(), ops);
    put(&store, &bob(), vec![join(&tea())]);
    let before = load(&store, &alice());
    close(&store);

    let store = stage.open();
    let after = load(&store, &alice());
    assert_eq!(before, after);
    let room = &after.rooms[&tea()];
    let expected = RoomRecord {
        joined_at: room.record.joined_at,
        detached_since: room.record.detached_since,
        ..full_record()
    };
    assert_eq!(room.record, expected);
    let nicks: Vec<_> = room.occupants.iter().map(|o| o.nick.as_str()).collect();
    assert_eq!(nicks, ["carol", "zoe", "bob"]);
    assert_eq!(room.messages.len(), 2);
    assert_eq!(room.messages[0].stanza, message(7).stanza);
    let marks = [mark("desk"), mark("phone")];
    assert_eq!(room.served, marks);
    assert_eq!(after.key, Some(key));
    assert_eq!(after.anchor.unwrap().h_in, u32::MAX);
    let nodes: Vec<_> = after.push.iter().map(|push| push.node.as_str()).collect();
    assert_eq!(nodes, ["n1", "n2", ""]);
    let accounts = store.accounts().unwrap();
    let summary = |account, has| AccountSummary {
        account,
        rooms: 1,
        has_key: has,
        has_anchor: has,
    };
    assert_eq!(accounts, [summary(alice(), true), summary(bob(), false)]);
}

#[test]
fn what_is_taken_back_is_gone() {
    let stage = Stage::new();
    let store = stage.open();
    let ops = vec![
        join(&tea()),
        say(&tea(), 0),
        say(&tea(), 1),
        served(&tea(), "desk", 0),
        served(&tea(), "phone", 1),
        Op::PutOccupant {
            room: tea(),
            occupant: occupant("bob", 0),
        },
        Op::PutAnchor(anchor()),
        Op::AnchorHandled { h_in: 5 },
        Op::PutKey(SealedKey {
            bytes: Bytes::new(),
        }),
        Op::PutPush(push("phone", "n1")),
        Op::PutPush(push("phone", "n2")),
        Op::PutPush(push("tablet", "n1")),
    ];
    put(&store, &alice(), ops);
    assert_eq!(load(&store, &alice()).anchor.unwrap().h_in, 5);
    let ops = vec![
        Op::RemoveOccupant {
            room: tea(),
            nick: "bob".to_owned(),
        },
        Op::DropMessages(tea()),
        Op::RemoveServed {
            room: tea(),
            resource: "desk".to_owned(),
        },
        Op::RemoveAnchor,
        Op::AnchorHandled { h_in: 6 },
        Op::RemoveKey,
        Op::RemovePush {
            resource: "phone".to_owned(),
            service: "push.example.net".to_owned(),
            node: Some("n1".to_owned()),
        },
    ];
    put(&store, &alice(), ops);
    let kept = load(&store, &alice());
    let room = &kept.rooms[&tea()];
    assert!(room.occupants.is_empty() && room.messages.is_empty());
    let resources: Vec<_> = room.served.iter().map(|it| it.resource.as_str()).collect();
    assert_eq!(resources, ["phone"]);
    assert_eq!((kept.anchor, kept.key), (None, None));
    assert_eq!(kept.push.len(), 2);

    let everything_of_the_phone = Op::RemovePush {
        resource: "phone".to_owned(),
        service: "push.example.net".to_owned(),
        node: None,
    };
    put(
        &store,
        &alice(),
        vec![everything_of_the_phone, Op::ForgetRoom(tea())],
    );
    let kept = load(&store, &alice());
    assert!(kept.rooms.is_empty());
    assert_eq!(kept.push, [push("tablet", "n1")]);

    put(&store, &alice(), vec![join(&tea())]);
    let room = &load(&store, &alice()).rooms[&tea()];
    assert!(room.served.is_empty(), "they went with the room");
}

#[test]
fn a_room_that_is_not_stored_takes_nothing() {
    let stage = Stage::new();
    let store = stage.open();
    put(
        &store,
        &alice(),
        vec![say(&tea(), 0), join(&tea()), say(&tea(), 1)],
    );
    let room = &load(&store, &alice()).rooms[&tea()];
    let numbers: Vec<_> = room.messages.iter().map(|message| message.number).collect();
    assert_eq!(numbers, [1]);
}

#[test]
fn accounts_do_not_share_a_room() {
    let stage = Stage::new();
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea()), say(&tea(), 0)]);
    put(&store, &bob(), vec![join(&tea())]);
    assert!(load(&store, &bob()).rooms[&tea()].messages.is_empty());
    put(&store, &bob(), vec![Op::ForgetRoom(tea())]);
    assert_eq!(load(&store, &alice()).rooms[&tea()].messages.len(), 1);
    let nobody = "carol@example.org".parse().unwrap();
    assert_eq!(load(&store, &nobody), Snapshot::default());
}

#[test]
fn the_latest_messages_within_the_bounds() {
    let stage = Stage::new();
    let store = stage.open();
    let messages = (0..10).map(|number| say(&tea(), number));
    put(
        &store,
        &alice(),
        [join(&tea())].into_iter().chain(messages).collect(),
    );
    let numbers = |bounds: Bounds| -> Vec<u64> {
        let room = &store.load(&alice(), &bounds).unwrap().rooms[&tea()];
        room.messages.iter().map(|message| message.number).collect()
    };
    let all = store.bounds();
    assert_eq!(numbers(all), Vec::from_iter(0..10));
    assert_eq!(numbers(Bounds { messages: 3, ..all }), [7, 8, 9]);
    let one = message(0).stanza.len();
    assert_eq!(
        numbers(Bounds {
            bytes: 2 * one + 1,
            ..all
        }),
        [8, 9]
    );
    let since = now() + Duration::from_secs(60);
    assert!(numbers(Bounds { since, ..all }).is_empty());
}

#[test]
fn what_is_forgotten_is_not_in_the_file_any_more() {
    let stage = Stage::new();
    let store = stage.open();
    let large = Bytes::from(b"unforgettable ".repeat(2_000));
    let mut said = message(0);
    said.stanza = large;
    let ops = vec![
        join(&tea()),
        say(&tea(), 1),
        Op::AddMessage {
            room: tea(),
            message: said,
        },
    ];
    put(&store, &alice(), ops);
    put(&store, &bob(), vec![join(&tea())]);
    let found = |needle: &[u8]| {
        let file = std::fs::read(stage.path()).unwrap();
        file.windows(needle.len()).any(|window| window == needle)
    };
    close(&store);
    assert!(found(b"unforgettable") && found(b"message 1") && found(b"alice@example.org"));
    let store = stage.open();
    store.forget(alice());
    assert_eq!(load(&store, &alice()), Snapshot::default());
    close(&store);
    assert!(!found(b"unforgettable") && !found(b"message 1") && !found(b"alice@example.org"));
    assert!(found(b"bob@example.org"));
}

#[test]
fn only_its_owner_may_read_it() {
    let stage = Stage::new();
    let mode = |suffix: &str| {
        let path = stage.dir.path().join(format!("mucplex.db{suffix}"));
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    };
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea())]);
    let suffixes = ["", "-wal", "-shm", ".lock"];
    assert_eq!(suffixes.map(mode), [0o600; 4]);
    close(&store);
    // Made by someone who meant well.
    std::fs::set_permissions(stage.path(), PermissionsExt::from_mode(0o644)).unwrap();
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea())]);
    assert_eq!(suffixes.map(mode), [0o600; 4]);
}

#[test]
fn the_last_handle_lets_it_be_opened_again() {
    let stage = Stage::new();
    let store = stage.open();
    let other = store.clone();
    drop(store);
    other.submit(crate::stage::batch(
        &alice(),
        vec![join(&tea()), say(&tea(), 0)],
    ));
    drop(other);
    until("it is free", || {
        mucplex_store::Store::open(&stage.path(), mucplex_store::Options::default())
            .is_ok_and(|store| load(&store, &alice()).rooms[&tea()].messages.len() == 1)
    });
}
