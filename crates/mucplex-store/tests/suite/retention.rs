//! What is too old or too much goes by itself.

use std::time::Duration;

use bytes::Bytes;
use jid::BareJid;
use mucplex_store::{Op, Options, Store, StoredMessage};

use crate::child::keep_all;
use crate::stage::{
    Stage, alice, batch, bob, close, join, load, message, now, put, say, served, tea, until,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn passed(store: &Store) {
    until("retention has passed", || {
        store.health().retention_passes > 0
    });
}

fn count(stage: &Stage, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    stage
        .outsider()
        .query_row(&sql, [], |row| row.get(0))
        .unwrap()
}

fn aged(number: u64, days: u32) -> Op {
    let mut message = message(number);
    message.at = now() - days * DAY;
    Op::AddMessage {
        room: tea(),
        message,
    }
}

#[test]
fn messages_beyond_the_history_go() {
    let stage = Stage::new();
    let store = stage.open_with(keep_all());
    let mut ops = vec![join(&tea())];
    ops.extend((0..1_200).map(|number| aged(number, 20)));
    ops.extend((1_200..1_205).map(|number| aged(number, 1)));
    ops.extend((1_205..1_210).map(|number| aged(number, 19)));
    put(&store, &alice(), ops);
    close(&store);
    let store = stage.open_with(Options {
        history: 10 * DAY,
        ..Options::default()
    });
    passed(&store);
    assert_eq!(count(&stage, "message"), 5);
    let room = &load(&store, &alice()).rooms[&tea()];
    let numbers: Vec<_> = room.messages.iter().map(|message| message.number).collect();
    assert_eq!(numbers, Vec::from_iter(1_200..1_205));
}

#[test]
fn what_is_too_old_is_not_read_either() {
    let stage = Stage::new();
    let store = stage.open_with(Options {
        history: 10 * DAY,
        ..Options::default()
    });
    passed(&store);
    put(
        &store,
        &alice(),
        vec![join(&tea()), aged(0, 11), aged(1, 9)],
    );
    assert_eq!(load(&store, &alice()).rooms[&tea()].messages.len(), 1);
}

#[test]
fn a_full_room_loses_its_oldest_messages_while_it_fills() {
    let stage = Stage::new();
    let options = Options {
        room_messages: 100,
        room_bytes: 50_000,
        ..Options::default()
    };
    let store = stage.open_with(options);
    passed(&store);
    put(&store, &alice(), vec![join(&tea())]);
    for number in 0..1_000 {
        store.submit(batch(&alice(), vec![say(&tea(), number)]));
    }
    put(&store, &alice(), vec![]);
    until("no more than half too much", || {
        count(&stage, "message") <= 151
    });
    let messages = load(&store, &alice()).rooms[&tea()].messages.clone();
    assert_eq!(messages.len(), 100);
    assert_eq!(messages.last().unwrap().number, 999);

    let large = |number| StoredMessage {
        stanza: Bytes::from(vec![b'x'; 20_000]),
        ..message(number)
    };
    let add = |number| Op::AddMessage {
        room: tea(),
        message: large(number),
    };
    put(&store, &alice(), (1_000..1_004).map(add).collect());
    until("two large ones are left", || count(&stage, "message") == 2);
    let messages = &load(&store, &alice()).rooms[&tea()].messages;
    let numbers: Vec<_> = messages.iter().map(|message| message.number).collect();
    assert_eq!(numbers, [1_002, 1_003]);
    close(&store);

    let store = stage.open_with(Options {
        room_messages: 1,
        ..options
    });
    passed(&store);
    assert_eq!(count(&stage, "message"), 1);
}

#[test]
fn accounts_and_devices_long_unseen_are_forgotten() {
    let stage = Stage::new();
    let store = stage.open();
    for account in [alice(), bob()] {
        put(
            &store,
            &account,
            vec![join(&tea()), say(&tea(), 0), served(&tea(), "phone", 0)],
        );
    }
    close(&store);
    let outsider = stage.outsider();
    let sql = "UPDATE account SET seen = seen - 91 WHERE jid LIKE 'alice%';
               UPDATE served SET at = at - 91 * 86400000";
    outsider.execute_batch(sql).unwrap();
    let store = stage.open();
    passed(&store);
    let accounts: Vec<BareJid> = store
        .accounts()
        .unwrap()
        .into_iter()
        .map(|a| a.account)
        .collect();
    assert_eq!(accounts, [bob()]);
    assert_eq!(count(&stage, "message") + count(&stage, "room"), 2);
    assert_eq!(count(&stage, "served"), 0);
    // An account that is forgotten can come back at once.
    put(&store, &alice(), vec![join(&tea()), say(&tea(), 5)]);
    assert_eq!(load(&store, &alice()).rooms[&tea()].messages[0].number, 5);
}

#[test]
fn an_account_without_news_stays_by_a_sign_of_life() {
    let stage = Stage::new();
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea())]);
    close(&store);
    stage
        .outsider()
        .execute_batch("UPDATE account SET seen = seen - 80")
        .unwrap();
    let store = stage.open();
    put(&store, &alice(), vec![]);
    close(&store);
    stage
        .outsider()
        .execute_batch("UPDATE account SET seen = seen - 80")
        .unwrap();
    let store = stage.open();
    passed(&store);
    assert_eq!(load(&store, &alice()).rooms.len(), 1);
}

#[test]
fn the_file_gets_smaller_again() {
    let stage = Stage::new();
    let store = stage.open();
    let large = StoredMessage {
        stanza: Bytes::from(vec![b'x'; 100_000]),
        ..message(0)
    };
    let add = |number| Op::AddMessage {
        room: tea(),
        message: StoredMessage {
            number,
            ..large.clone()
        },
    };
    let mut ops = vec![join(&tea())];
    ops.extend((0..40).map(add));
    put(&store, &alice(), ops);
    store.forget(alice());
    close(&store);
    let size = || std::fs::metadata(stage.path()).unwrap().len();
    assert!(size() > 4_000_000);
    let store = stage.open();
    passed(&store);
    close(&store);
    assert!(size() < 200_000, "{}", size());
}
