//! What outlives the process: each account's rooms, what was said in them, how far its devices have
//! been served, the stream of its anchor, and its sealed keys. One SQLite file with one writer.
//!
//! Changes are handed over in [`Batch`]es and written by a thread of the store's own, all that wait
//! in one transaction. What hangs on a batch is dropped when it is stored, and only then: so a
//! stanza is acknowledged by dropping what stands for its acknowledgement. A commit survives the
//! death of the process; the death of the machine may take the last moments (decision 0003).
//!
//! While nothing can be written, serving goes on: changes wait in order, are tried again and again,
//! and [`Health`] says so.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use bytes::Bytes;
//! use mucplex_store::{Batch, Op, Options, RoomRecord, Store, StoredMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("mucplex.db");
//! let store = Store::open(&path, Options::default())?;
//! let account: jid::BareJid = "alice@example.org".parse()?;
//! let room: jid::BareJid = "tea@rooms.example.org".parse()?;
//! let now = SystemTime::now();
//!
//! let joined = Op::PutRoom(RoomRecord {
//!     room: room.clone(),
//!     nick: "alice".to_owned(),
//!     sent_presence: Bytes::from_static(b"<presence/>"),
//!     own_presence: None,
//!     room_presence: None,
//!     subject: None,
//!     password: None,
//!     carrier: None,
//!     non_anonymous: false,
//!     logged: false,
//!     reflects_join_id: true,
//!     nick_assigned: false,
//!     spoken: true,
//!     wanted: true,
//!     unsettled: false,
//!     joined_at: now,
//!     detached_since: None,
//! });
//! let said = Op::AddMessage {
//!     room: room.clone(),
//!     message: StoredMessage {
//!         number: 0,
//!         at: now,
//!         stamped: false,
//!         stanza: Bytes::from_static(b"<message><body>hello</body></message>"),
//!     },
//! };
//!
//! // Whatever is to happen once it is stored hangs on the batch.
//! let (acknowledgement, stored) = std::sync::mpsc::channel::<()>();
//! let held: Vec<Box<dyn Send>> = vec![Box::new(acknowledgement)];
//! store.submit(Batch { account: account.clone(), ops: vec![joined, said], held });
//! assert!(stored.recv().is_err(), "the other end is dropped");
//! store.close(Duration::from_secs(5))?;
//!
//! let store = Store::open(&path, Options::default())?;
//! let kept = store.load(&account, &store.bounds())?;
//! let room = &kept.rooms[&room];
//! assert_eq!(room.record.nick, "alice");
//! assert_eq!(room.messages[0].stanza, "<message><body>hello</body></message>");
//! # Ok(())
//! # }
//! ```

mod error;
mod journal;
mod lock;
mod overlay;
mod queue;
mod read;
mod record;
mod retention;
mod schema;
mod seal;
mod store;
mod time;
mod uses;
mod write;
mod writer;

pub use error::{CloseError, LoadError, OpenError};
pub use journal::{AccountJournal, Before, Device, Journal, Lost, SessionJournal};
pub use queue::Health;
pub use read::Bounds;
pub use record::{
    AccountSummary, AnchorState, Batch, Occupant, Op, PushRegistration, RoomRecord, SealedKey,
    Served, Snapshot, StoredMessage, StoredRoom,
};
pub use seal::{SealError, SealKey, SealKeyError};
pub use store::{Options, Store};
pub use uses::InUse;
