//! A reader sees what was submitted, written or not, and it makes no difference to it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jid::BareJid;
use mucplex_store::{AnchorState, Op, PushRegistration, SealedKey, Served, StoredMessage};
use proptest::prelude::*;

use crate::stage::{Stage, alice, batch, join, load, next, now, occupant, put, record, say, tea};

#[test]
fn an_owner_that_starts_sees_what_the_one_before_has_left() {
    let stage = Stage::new();
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea()), say(&tea(), 0)]);
    let outsider = stage.outsider();
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.submit(batch(&alice(), vec![say(&tea(), 1)]));
    store.submit(batch(&alice(), vec![say(&tea(), 2)]));
    let waiting = load(&store, &alice());
    assert_eq!(waiting.rooms[&tea()].messages.len(), 3);
    assert_eq!(next(&waiting.rooms[&tea()]), 3);
    outsider.execute_batch("ROLLBACK").unwrap();
    put(&store, &alice(), vec![]);
    assert_eq!(load(&store, &alice()), waiting);
}

#[test]
fn a_reader_beside_a_busy_writer_sees_every_change() {
    const MESSAGES: u64 = 5_000;
    let stage = Stage::new();
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea())]);
    let submitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..MESSAGES {
                store.submit(batch(&alice(), vec![say(&tea(), number)]));
                submitted.store(number + 1, Ordering::SeqCst);
            }
        });
        let few = mucplex_store::Bounds {
            messages: 3,
            ..store.bounds()
        };
        let mut seen = 0;
        while seen < MESSAGES {
            let before = submitted.load(Ordering::SeqCst);
            let kept = store.load(&alice(), &few).unwrap();
            let room = &kept.rooms[&tea()];
            seen = next(room);
            assert!(
                seen >= before,
                "{before} were submitted, {seen} is the next"
            );
            let numbers: Vec<_> = room.messages.iter().map(|message| message.number).collect();
            assert_eq!(numbers, Vec::from_iter(seen.saturating_sub(3)..seen));
        }
    });
}

fn rooms() -> impl Strategy<Value = BareJid> {
    prop::sample::select(vec!["tea", "coffee", "milk"])
        .prop_map(|name| format!("{name}@rooms.example.org").parse().unwrap())
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn room_ops() -> impl Strategy<Value = Op> {
    let put_room = (rooms(), names(), prop::option::of(names()), any::<bool>()).prop_map(
        |(room, nick, carrier, flag)| {
            let mut record = record(&room);
            record.nick = nick;
            record.carrier = carrier;
            record.spoken = flag;
            record.wanted = !flag;
            record.unsettled = flag;
            // Finer than what is kept.
            record.joined_at = std::time::SystemTime::now();
            record.detached_since = flag.then(std::time::SystemTime::now);
            Op::PutRoom(record)
        },
    );
    let message = (rooms(), 0_u64..20, 0_usize..50).prop_map(|(room, number, bytes)| {
        let message = StoredMessage {
            number,
            at: std::time::SystemTime::now(),
            stamped: bytes % 2 == 0,
            stanza: Bytes::from(vec![b'x'; bytes]),
        };
        Op::AddMessage { room, message }
    });
    let put_occupant = (rooms(), names(), 0_u64..4).prop_map(|(room, nick, order)| {
        let occupant = occupant(&nick, order);
        Op::PutOccupant { room, occupant }
    });
    let occupants = prop::collection::vec((names(), 0_u64..4), 0..4);
    let replace = (rooms(), occupants).prop_map(|(room, occupants)| {
        let occupants = occupants.iter().map(|(nick, order)| occupant(nick, *order));
        let occupants = occupants.collect();
        Op::ReplaceOccupants { room, occupants }
    });
    let remove = (rooms(), names()).prop_map(|(room, nick)| Op::RemoveOccupant { room, nick });
    let number = || prop::option::of(0_u64..20);
    let served = (rooms(), names(), number(), number(), 0_u64..20);
    let served = served.prop_map(|(room, resource, number, before, joined)| {
        Op::PutServed(Served {
            room,
            resource,
            number,
            joined,
            replay: joined / 2,
            before,
            at: std::time::SystemTime::now(),
        })
    });
    let not_served =
        (rooms(), names()).prop_map(|(room, resource)| Op::RemoveServed { room, resource });
    prop_oneof![
        4 => put_room,
        6 => message,
        2 => put_occupant,
        1 => replace,
        1 => remove,
        2 => served,
        1 => not_served,
        1 => rooms().prop_map(Op::ForgetRoom),
        1 => rooms().prop_map(Op::DropMessages),
    ]
}

fn account_ops() -> impl Strategy<Value = Op> {
    let anchor = (names(), any::<u32>()).prop_map(|(previd, h_in)| {
        Op::PutAnchor(AnchorState {
            domain: "example.org".to_owned(),
            jid: "alice@example.org/anchor".to_owned(),
            previd,
            location: None,
            h_in,
            max: None,
            at: std::time::SystemTime::now(),
        })
    });
    let push = (names(), names(), names()).prop_map(|(resource, service, node)| {
        let form = Bytes::new();
        Op::PutPush(PushRegistration {
            resource,
            service,
            node,
            form,
        })
    });
    let no_push = (names(), names(), prop::option::of(names()));
    let no_push = no_push.prop_map(|(resource, service, node)| Op::RemovePush {
        resource,
        service,
        node,
    });
    let key = names().prop_map(|key| Op::PutKey(SealedKey { bytes: key.into() }));
    prop_oneof![
        3 => anchor,
        3 => any::<u32>().prop_map(|h_in| Op::AnchorHandled { h_in }),
        1 => Just(Op::RemoveAnchor),
        2 => key,
        1 => Just(Op::RemoveKey),
        4 => push,
        3 => no_push,
        1 => Just(Op::ForgetAccount),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(prop_oneof![5 => room_ops(), 1 => account_ops()], 0..40)
}

#[test]
fn waiting_or_written_is_the_same() {
    let stage = Stage::new();
    let store = stage.open();
    let outsider = stage.outsider();
    let started = now();
    let case = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(
        &(ops(), ops(), 0_usize..15, 0_usize..200),
        |(written, waiting, messages, bytes)| {
            case.set(case.get() + 1);
            let account: BareJid = format!("account-{}@example.org", case.get())
                .parse()
                .unwrap();
            let bounds = mucplex_store::Bounds {
                messages,
                bytes,
                since: started,
            };
            put(&store, &account, written);
            outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
            for op in waiting {
                store.submit(batch(&account, vec![op]));
            }
            let wide = load(&store, &account);
            outsider.execute_batch("ROLLBACK").unwrap();
            put(&store, &account, vec![]);
            prop_assert_eq!(&wide, &load(&store, &account));
            // Narrower bounds give the end of the same list.
            let narrow = store.load(&account, &bounds).unwrap();
            for (room, narrow) in &narrow.rooms {
                let all = &wide.rooms[room].messages;
                prop_assert!(all.ends_with(&narrow.messages));
                prop_assert!(narrow.messages.len() <= messages);
            }
            Ok(())
        },
    );
    result.unwrap();
}
