//! Fills a store with room messages and opens it again: how many are stored in a second, and what
//! it costs to look through the file at the start.
//!
//! ```text
//! cargo run --release -p mucplex-store --example fill -- DIRECTORY MEBIBYTES
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an example ends with a message"
)]

use std::{
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use jid::BareJid;
use mucplex_store::{Batch, Op, Options, RoomRecord, Store, StoredMessage};

/// A usual groupchat message.
const STANZA_BYTES: usize = 500;
const ACCOUNTS: usize = 1_000;
/// Messages of one account that wait at a time, as in a busy second.
const UNDER_WAY: usize = 5_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let path = PathBuf::from(&arguments[1]).join("fill.db");
    let messages = arguments[2].parse::<usize>().unwrap() * (1 << 20) / STANZA_BYTES;
    // Each message stays.
    let options = Options {
        room_messages: usize::MAX,
        room_bytes: usize::MAX,
        ..Options::default()
    };
    let store = Store::open(&path, options).unwrap();
    let room: BareJid = "tea@rooms.example.org".parse().unwrap();
    let accounts: Vec<BareJid> = (0..ACCOUNTS)
        .map(|number| format!("account-{number}@example.org").parse().unwrap())
        .collect();
    let begun = Instant::now();
    for account in &accounts {
        submit(&store, account, join(&room), None);
    }
    let (hold, stored) = mpsc::channel();
    for number in 0..messages {
        let said = say(&room, number);
        let signal = Signal(hold.clone());
        submit(&store, &accounts[number % ACCOUNTS], said, Some(signal));
        if number >= UNDER_WAY {
            stored.recv().unwrap();
        }
    }
    store.close(Duration::from_secs(60)).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!("{:.0} messages a second", messages as f64 / seconds);
    println!(
        "{:.0} bytes of file for each",
        bytes as f64 / messages as f64
    );

    let begun = Instant::now();
    let store = Store::open(&path, options).unwrap();
    println!("{} MiB opened in {:?}", bytes >> 20, begun.elapsed());
    let begun = Instant::now();
    let kept = store.load(&accounts[7], &store.bounds()).unwrap();
    let count = kept.rooms[&room].messages.len();
    println!(
        "{count} messages of an account loaded in {:?}",
        begun.elapsed()
    );
    let begun = Instant::now();
    while store.health().retention_passes == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!(
        "a pass of retention without anything to drop: {:?}",
        begun.elapsed()
    );
}

/// Told when it is dropped.
struct Signal(mpsc::Sender<()>);

impl Drop for Signal {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn submit(store: &Store, account: &BareJid, op: Op, signal: Option<Signal>) {
    let held = signal.map(|signal| Box::new(signal) as Box<dyn Send>);
    store.submit(Batch {
        account: account.clone(),
        ops: vec![op],
        held: held.into_iter().collect(),
    });
}

fn say(room: &BareJid, number: usize) -> Op {
    Op::AddMessage {
        room: room.clone(),
        message: StoredMessage {
            number: number as u64,
            at: SystemTime::now(),
            stamped: false,
            stanza: Bytes::from(vec![b'x'; STANZA_BYTES]),
        },
    }
}

fn join(room: &BareJid) -> Op {
    Op::PutRoom(RoomRecord {
        room: room.clone(),
        nick: "nick".to_owned(),
        sent_presence: Bytes::new(),
        own_presence: None,
        room_presence: None,
        subject: None,
        password: None,
        carrier: None,
        non_anonymous: false,
        logged: false,
        reflects_join_id: false,
        nick_assigned: false,
        spoken: true,
        wanted: true,
        unsettled: false,
        joined_at: SystemTime::now(),
        detached_since: None,
    })
}
