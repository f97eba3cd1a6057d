//! A disk that is full, for real: a small file system of its own.

use std::{
    ffi::OsString,
    fs::File,
    io::{ErrorKind, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use mucplex_store::{Batch, Op, Store, StoredMessage};

use crate::{
    child::{command, directory, keep_all, spawnable},
    stage::{Ledger, Stage, alice, batch, bob, close, join, load, message, put, say, tea, until},
};

/// Mounts a file system of 4 MiB at `$0` that only the rest of the command sees.
const ON_A_SMALL_DISK: &str = "mount -t tmpfs -o size=4m tmpfs \"$0\" && exec \"$@\"";

#[test]
fn a_full_disk_stops_acknowledging_and_nothing_else() {
    let stage = Stage::new();
    let mut inside: Vec<OsString> = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
    ]
    .map(Into::into)
    .to_vec();
    inside.extend([ON_A_SMALL_DISK.into(), stage.dir.path().into()]);
    inside.extend(command("full::fills_its_disk", stage.dir.path()));
    let played = spawnable(&inside).output().expect("unshare of util-linux");
    assert!(
        played.status.success(),
        "{}{}",
        String::from_utf8_lossy(&played.stdout),
        String::from_utf8_lossy(&played.stderr)
    );
}

/// Keeps what is logged.
struct LogWriter(Arc<Mutex<Vec<u8>>>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Takes what is left of the disk.
fn ballast(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [64 << 10, 1] {
        let error = std::iter::repeat_with(|| file.write_all(&vec![0; size]))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}

#[test]
#[ignore = "played by a_full_disk_stops_acknowledging_and_nothing_else"]
fn fills_its_disk() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    tracing_subscriber::fmt()
        .with_writer(move || LogWriter(Arc::clone(&writer)))
        .with_ansi(false)
        .init();
    let (path, weight) = (directory().join("mucplex.db"), directory().join("ballast"));
    let store = Store::open(&path, keep_all()).unwrap();
    put(&store, &alice(), vec![join(&tea())]);
    ballast(&weight);

    let ledger = Ledger::new();
    let large = |number| StoredMessage {
        stanza: Bytes::from(vec![b'x'; 10_000]),
        ..message(number)
    };
    for number in 0..100 {
        let op = Op::AddMessage {
            room: tea(),
            message: large(number),
        };
        store.submit(Batch {
            held: vec![ledger.hold(number)],
            ..batch(&alice(), vec![op])
        });
    }
    // An account that is new while nothing can be written.
    store.submit(Batch {
        held: vec![ledger.hold(100)],
        ..batch(&bob(), vec![join(&tea()), say(&tea(), 0)])
    });
    until("two attempts have failed", || store.health().failures >= 2);
    let health = store.health();
    assert!(health.failing_since.is_some());
    assert_eq!(
        health.last_error.as_deref(),
        Some("database or disk is full")
    );
    let acknowledged = ledger.so_far().len();
    assert_eq!(acknowledged + health.waiting_batches, 101, "{health:?}");
    assert!(health.waiting_batches > 0);
    let seen = load(&store, &alice());
    assert_eq!(seen.rooms[&tea()].messages.len(), 100, "serving goes on");

    std::fs::remove_file(&weight).unwrap();
    let rest = ledger.take(101 - acknowledged);
    assert_eq!(rest, Vec::from_iter(acknowledged as u64..101));
    assert_eq!(store.health().failing_since, None);
    close(&store);
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let told = |line: &str| log.matches(line).count();
    assert_eq!(told("ERROR"), 1, "{log}");
    assert_eq!(told("the store cannot be written"), 1, "{log}");
    assert_eq!(told("the store can be written again"), 1, "{log}");
    let store = Store::open(&path, keep_all()).unwrap();
    assert_eq!(load(&store, &alice()), seen);
    assert_eq!(load(&store, &bob()).rooms[&tea()].messages.len(), 1);
}
