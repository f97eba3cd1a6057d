//! What hangs on a batch is dropped when it is stored, in order, and otherwise never.

use std::time::Duration;

use mucplex_store::{Batch, Options};

use crate::stage::{Ledger, Stage, alice, batch, bob, close, join, load, put, say, tea, until};

#[test]
fn drops_come_in_order_and_when_it_is_stored() {
    let stage = Stage::new();
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea())]);
    let ledger = Ledger::new();
    let outsider = stage.outsider();
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..50 {
        let account = if number % 2 == 0 { alice() } else { bob() };
        let held = vec![ledger.hold(2 * number), ledger.hold(2 * number + 1)];
        store.submit(Batch {
            held,
            ..batch(&account, vec![say(&tea(), number)])
        });
    }
    assert!(ledger.so_far().is_empty(), "nobody could write");
    outsider.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ledger.take(100), Vec::from_iter(0..100));
    assert_eq!(load(&store, &alice()).rooms[&tea()].messages.len(), 25);
    let health = store.health();
    assert_eq!((health.waiting_batches, health.waiting_bytes), (0, 0));
    assert_eq!(health.stored_batches, 51);
    assert!(health.commits < 51, "what waited went together: {health:?}");
}

#[test]
fn what_cannot_be_stored_waits_and_is_told() {
    let stage = Stage::new();
    let store = stage.open_with(Options {
        queue_bytes: 1_000,
        ..Options::default()
    });
    put(&store, &alice(), vec![join(&tea())]);
    let outsider = stage.outsider();
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ledger = Ledger::new();
    for number in 0..20 {
        store.submit(Batch {
            held: vec![ledger.hold(number)],
            ..batch(&alice(), vec![say(&tea(), number)])
        });
    }
    until("an attempt has failed", || store.health().failures > 0);
    let health = store.health();
    assert!(
        health.failing_since.is_some() && health.over_bound,
        "{health:?}"
    );
    assert_eq!(health.last_error.as_deref(), Some("database is locked"));
    assert_eq!(health.waiting_batches, 20);
    assert!(ledger.so_far().is_empty());
    outsider.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ledger.take(20), Vec::from_iter(0..20));
    let health = store.health();
    assert!(!health.over_bound && health.failures > 0, "{health:?}");
    assert_eq!(health.failing_since, None);
}

#[test]
fn a_store_that_cannot_write_ends_without_a_promise() {
    let stage = Stage::new();
    let store = stage.open();
    put(&store, &alice(), vec![join(&tea())]);
    let outsider = stage.outsider();
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ledger = Ledger::new();
    store.submit(Batch {
        held: vec![ledger.hold(0)],
        ..batch(&alice(), vec![say(&tea(), 0)])
    });
    let error = store.close(Duration::from_secs(20)).unwrap_err();
    assert_eq!(error.waiting_batches, 1);
    outsider.execute_batch("ROLLBACK").unwrap();
    drop(store);
    assert!(ledger.so_far().is_empty());
    let store = stage.open();
    assert!(load(&store, &alice()).rooms[&tea()].messages.is_empty());
}

#[test]
fn to_close_takes_no_longer_than_asked() {
    let stage = Stage::new();
    let store = stage.open();
    let outsider = stage.outsider();
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.submit(batch(&alice(), vec![join(&tea())]));
    let error = store.close(Duration::ZERO).unwrap_err();
    assert_eq!(error.waiting_batches, 1);
    outsider.execute_batch("ROLLBACK").unwrap();
    // The writer gets there by itself, and the file is whole.
    close(&store);
    assert_eq!(load(&stage.open(), &alice()).rooms.len(), 1);
}
