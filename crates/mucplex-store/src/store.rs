//! The handle that the rest of the process has.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use jid::BareJid;
use rusqlite::Connection;

use crate::{
    error::{CloseError, LoadError, OpenError},
    lock::Lock,
    queue::{Health, Queue},
    read::{self, Bounds},
    record::{AccountSummary, Batch, Op, Snapshot},
    retention::Retention,
    schema,
    time::before,
    uses::{InUse, Uses},
    write::Ids,
    writer::Writer,
};

/// Connections that are kept for the next reader.
const IDLE_READERS: usize = 4;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Age of the oldest room message.
    pub history: Duration,
    /// The most messages of one room. Until retention comes by, it may be half as many more.
    pub room_messages: usize,
    /// The most bytes of the messages of one room; the same.
    pub room_bytes: usize,
    /// An account that has had no batch for so long, and has not been in use (see
    /// [`Store::in_use`]), is forgotten, and so is the served mark of a device. A day is the finest
    /// that is told apart.
    pub unseen: Duration,
    /// Bytes that may wait to be written before [`Health::over_bound`] is set.
    pub queue_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: Duration::from_secs(30 * 24 * 3600),
            room_messages: 1_000,
            room_bytes: 1 << 20,
            unseen: Duration::from_secs(90 * 24 * 3600),
            queue_bytes: 64 << 20,
        }
    }
}

/// What outlives the process, in one file. A clone is another handle to the same.
///
/// When the last handle goes, what waits is still written, on the writer's own time, and the file
/// is free for another process only then; [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    path: PathBuf,
    options: Options,
    queue: Arc<Queue>,
    uses: Arc<Uses>,
    readers: Mutex<Vec<Connection>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.handle.path)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store at `path`, or makes it; its directory must be there. Reads it once,
    /// to know that it is good; of one larger than 256 MiB not the messages.
    ///
    /// # Errors
    /// When it cannot be trusted, is in use, or is not ours. The file is left as it was.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let path = schema::real_path(path)?;
        let lock = Lock::take(&path)?;
        let file = schema::open(&path)?;
        let queue = Arc::new(Queue::new(options.queue_bytes));
        let uses = Arc::new(Uses::default());
        let writer = Writer {
            file,
            queue: Arc::clone(&queue),
            retention: Retention::new(options, Arc::clone(&uses)),
            ids: Ids::default(),
            lock,
        };
        let thread = thread::Builder::new().name("store".to_owned());
        let spawned = thread.spawn(move || writer.run());
        spawned.map_err(|source: io::Error| OpenError::Io {
            path: path.clone(),
            source,
        })?;
        let handle = Handle {
            path,
            options,
            queue,
            uses,
            readers: Mutex::default(),
        };
        Ok(Self {
            handle: Arc::new(handle),
        })
    }

    /// Hands changes over, behind all that were handed over before. Never waits, and never fails:
    /// what cannot be stored now is tried again. After [`close`](Self::close) nothing is stored any
    /// more, and what hangs on a batch is never dropped.
    pub fn submit(&self, batch: Batch) {
        self.handle.queue.push(batch);
    }

    /// Says that somebody is there for an account: as long as what is returned lives, retention does
    /// not forget it. To be called before [`load`](Self::load), and on a thread that may wait as
    /// well: for the end of one transaction.
    #[must_use = "the account is in use until this is dropped"]
    pub fn in_use(&self, account: BareJid) -> InUse {
        self.handle.uses.begin(account)
    }

    /// Forgets all of an account, behind what was handed over before. What was stored of it is
    /// overwritten, not only released; in the log when that starts anew, at the latest with
    /// [`close`](Self::close).
    pub fn forget(&self, account: BareJid) {
        let mut batch = Batch::new(account);
        batch.ops.push(Op::ForgetAccount);
        self.submit(batch);
    }

    /// The accounts of which something is stored: of the file, for the start of the process. What
    /// waits to be written is not seen here.
    ///
    /// Reads on the caller's thread, and may wait for the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn accounts(&self) -> Result<Vec<AccountSummary>, LoadError> {
        let reader = self.handle.reader()?;
        let accounts = read::accounts(&reader);
        self.handle.put_back(reader);
        accounts
    }

    /// All that is stored of an account, and all that was submitted for it before, written or not:
    /// an owner that starts behind another's end misses nothing, also while the disk is full.
    ///
    /// Reads on the caller's thread with a connection of its own, and may wait for the disk: for
    /// the end of one transaction, not for the queue.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(&self, account: &BareJid, bounds: &Bounds) -> Result<Snapshot, LoadError> {
        let mut reader = self.handle.reader()?;
        let oldest = before(SystemTime::now(), self.handle.options.history);
        let bounds = Bounds {
            since: bounds.since.max(oldest),
            ..*bounds
        };
        let snapshot = self.handle.snapshot(&mut reader, account, &bounds);
        self.handle.put_back(reader);
        snapshot
    }

    /// The bounds for [`load`](Self::load) that give all that is kept.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            messages: self.handle.options.room_messages,
            bytes: self.handle.options.room_bytes,
            since: SystemTime::UNIX_EPOCH,
        }
    }

    /// How it fares.
    pub fn health(&self) -> Health {
        self.handle.queue.health()
    }

    /// Writes what waits, brings the log into the file and ends. If writing fails, it is tried once
    /// more and then given up. The file is released when the writer has ended, also after this has
    /// stopped waiting for it.
    ///
    /// # Errors
    /// When that cannot be done, or not `within` this time. The server still has what was not
    /// acknowledged.
    pub fn close(&self, within: Duration) -> Result<(), CloseError> {
        self.handle.lock_readers().clear();
        self.handle.queue.stop();
        let ended = self.handle.queue.wait_for_end(within);
        let health = self.health();
        if ended && health.waiting_batches == 0 {
            return Ok(());
        }
        Err(CloseError {
            waiting_batches: health.waiting_batches,
            reason: health.failing_since.and(health.last_error),
        })
    }
}

impl Handle {
    fn lock_readers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> rusqlite::Result<Connection> {
        let idle = self.lock_readers().pop();
        idle.map_or_else(|| schema::open_reader(&self.path), Ok)
    }

    fn put_back(&self, reader: Connection) {
        let mut readers = self.lock_readers();
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
    }

    fn snapshot(
        &self,
        reader: &mut Connection,
        account: &BareJid,
        bounds: &Bounds,
    ) -> Result<Snapshot, LoadError> {
        let (transaction, waiting) = self.queue.read_past(account, || {
            let transaction = reader.transaction()?;
            // A transaction sees the file as it is at its first look.
            transaction
                .query_row("SELECT 1 FROM account LIMIT 1", [], |_| Ok(()))
                .or_else(|error| match error {
                    rusqlite::Error::QueryReturnedNoRows => Ok(()),
                    other => Err(other),
                })?;
            Ok::<_, rusqlite::Error>(transaction)
        })?;
        let mut snapshot = read::snapshot(&transaction, account, bounds)?;
        for op in waiting.iter().flat_map(|work| &work.ops) {
            snapshot.apply(op);
        }
        snapshot.keep_within(bounds);
        Ok(snapshot)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.stop();
    }
}
