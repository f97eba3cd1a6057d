//! A store in a directory of its own, and things to put into it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use jid::BareJid;
use mucplex_store::{
    Batch, Occupant, Op, Options, RoomRecord, Served, Snapshot, Store, StoredMessage, StoredRoom,
};
use tempfile::TempDir;

/// What anything here may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) dir: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mucplex.db")
    }

    pub(crate) fn open(&self) -> Store {
        self.open_with(Options::default())
    }

    pub(crate) fn open_with(&self, options: Options) -> Store {
        Store::open(&self.path(), options).unwrap()
    }

    /// Someone who looks at the file from outside.
    pub(crate) fn outsider(&self) -> rusqlite::Connection {
        let outsider = rusqlite::Connection::open(self.path()).unwrap();
        outsider.busy_timeout(Duration::from_secs(5)).unwrap();
        outsider
    }
}

pub(crate) fn alice() -> BareJid {
    "alice@example.org".parse().unwrap()
}

pub(crate) fn bob() -> BareJid {
    "bob@example.org".parse().unwrap()
}

pub(crate) fn tea() -> BareJid {
    "tea@rooms.example.org".parse().unwrap()
}

/// A time the store keeps as it is.
pub(crate) fn now() -> SystemTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = u64::try_from(now.unwrap().as_millis()).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

pub(crate) fn record(room: &BareJid) -> RoomRecord {
    RoomRecord {
        room: room.clone(),
        nick: "alice".to_owned(),
        sent_presence: Bytes::from_static(b"<presence/>"),
        own_presence: None,
        room_presence: None,
        subject: None,
        password: None,
        carrier: None,
        non_anonymous: false,
        logged: false,
        reflects_join_id: false,
        nick_assigned: false,
        spoken: false,
        wanted: true,
        unsettled: false,
        joined_at: now(),
        detached_since: None,
    }
}

pub(crate) fn join(room: &BareJid) -> Op {
    Op::PutRoom(record(room))
}

pub(crate) fn message(number: u64) -> StoredMessage {
    StoredMessage {
        number,
        at: now(),
        stamped: false,
        stanza: format!("<message><body>message {number}</body></message>").into(),
    }
}

pub(crate) fn say(room: &BareJid, number: u64) -> Op {
    Op::AddMessage {
        room: room.clone(),
        message: message(number),
    }
}

pub(crate) fn occupant(nick: &str, order: u64) -> Occupant {
    Occupant {
        nick: nick.to_owned(),
        order,
        presence: format!("<presence from='{nick}'/>").into(),
    }
}

pub(crate) fn served(room: &BareJid, resource: &str, number: u64) -> Op {
    Op::PutServed(Served {
        room: room.clone(),
        resource: resource.to_owned(),
        number: Some(number),
        joined: number,
        replay: number,
        before: None,
        at: now(),
    })
}

pub(crate) fn batch(account: &BareJid, ops: Vec<Op>) -> Batch {
    Batch {
        account: account.clone(),
        ops,
        held: Vec::new(),
    }
}

/// Submits, and waits until it is stored.
pub(crate) fn put(store: &Store, account: &BareJid, ops: Vec<Op>) {
    let (hold, stored) = mpsc::channel::<()>();
    let held: Vec<Box<dyn Send>> = vec![Box::new(hold)];
    store.submit(Batch {
        held,
        ..batch(account, ops)
    });
    let end = stored.recv_timeout(LIMIT).unwrap_err();
    assert_eq!(end, mpsc::RecvTimeoutError::Disconnected);
}

pub(crate) fn load(store: &Store, account: &BareJid) -> Snapshot {
    store.load(account, &store.bounds()).unwrap()
}

/// What is behind the last message, where they are counted from 0.
pub(crate) fn next(room: &StoredRoom) -> u64 {
    room.messages.last().map_or(0, |last| last.number + 1)
}

pub(crate) fn close(store: &Store) {
    store.close(LIMIT).unwrap();
}

/// Waits for a condition.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Holds that tell, in order, that they were dropped.
pub(crate) struct Ledger {
    sender: Arc<Mutex<Sender<u64>>>,
    dropped: Receiver<u64>,
}

pub(crate) struct Hold {
    number: u64,
    ledger: Arc<Mutex<Sender<u64>>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.ledger.lock().unwrap().send(self.number);
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let (sender, dropped) = mpsc::channel();
        Self {
            sender: Arc::new(Mutex::new(sender)),
            dropped,
        }
    }

    pub(crate) fn hold(&self, number: u64) -> Box<dyn Send> {
        Box::new(Hold {
            number,
            ledger: Arc::clone(&self.sender),
        })
    }

    /// The next `count` that are dropped.
    pub(crate) fn take(&self, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| self.dropped.recv_timeout(LIMIT).expect("a drop"))
            .collect()
    }

    /// Those dropped so far.
    pub(crate) fn so_far(&self) -> Vec<u64> {
        self.dropped.try_iter().collect()
    }
}
