//! The one thread that writes.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{Connection, TransactionBehavior};
use tracing::{error, info, warn};

use crate::{
    lock::Lock,
    queue::{Next, Queue, Work},
    retention::{Retention, Step},
    write::{self, Growth, Ids},
};

/// Between attempts, while nothing can be written: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Writer {
    pub(crate) file: Connection,
    pub(crate) queue: Arc<Queue>,
    pub(crate) retention: Retention,
    pub(crate) ids: Ids,
    /// Given back when the file is closed.
    pub(crate) lock: Lock,
}

/// Tells those who wait that the thread has ended, however it has.
struct End(Arc<Queue>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer {
    /// Until the store is closed and nothing waits, or nothing can be written then.
    pub(crate) fn run(mut self) {
        let end = End(Arc::clone(&self.queue));
        let mut pause = FIRST_PAUSE;
        loop {
            match self.queue.next(self.retention.due()) {
                Next::Store(works) => {
                    if let Err(error) = self.store(&works) {
                        self.tell_failure(&error);
                        if !self.pause(&mut pause) {
                            break;
                        }
                    } else {
                        pause = FIRST_PAUSE;
                        self.keep_house();
                    }
                }
                Next::Due => self.keep_house(),
                Next::Stop => break,
            }
        }
        self.close();
        drop(end);
    }

    /// One transaction for all of these; afterwards what hangs on them is dropped.
    fn store(&mut self, works: &[Arc<Work>]) -> rusqlite::Result<()> {
        let now = SystemTime::now();
        let mut growth = Growth::new();
        let failing_since = self
            .try_store(works, &mut growth, now)
            // They may be of rows that are not there.
            .inspect_err(|_| self.ids.clear())?;
        self.retention.grown(&growth);
        if let Some(since) = failing_since {
            let seconds = since.elapsed().unwrap_or_default().as_secs();
            info!(seconds, "the store can be written again");
        }
        Ok(())
    }

    fn try_store(
        &mut self,
        works: &[Arc<Work>],
        growth: &mut Growth,
        now: SystemTime,
    ) -> rusqlite::Result<Option<SystemTime>> {
        let immediate = TransactionBehavior::Immediate;
        let transaction = self.file.transaction_with_behavior(immediate)?;
        for work in works {
            write::apply(&transaction, &mut self.ids, growth, work, now)?;
        }
        self.queue.commit(works.len(), || transaction.commit())
    }

    fn tell_failure(&self, error: &rusqlite::Error) {
        if self.queue.failed(error) {
            error!(
                %error,
                "the store cannot be written; serving goes on, what comes is not acknowledged"
            );
        }
    }

    /// Waits before the next attempt. A store that is being closed gets one more, at once: `false`
    /// after that.
    fn pause(&self, pause: &mut Duration) -> bool {
        if pause.is_zero() {
            return false;
        }
        *pause = if self.queue.hold_back(*pause) {
            (*pause * 2).min(LONGEST_PAUSE)
        } else {
            Duration::ZERO
        };
        true
    }

    fn keep_house(&mut self) {
        match self.retention.step(&mut self.file, SystemTime::now()) {
            Ok(Step::More | Step::Nothing) => {}
            Ok(Step::PassEnded) => self.queue.passed(),
            Err(error) => {
                warn!(%error, "old messages stay until the next attempt");
                self.retention.give_up();
            }
        }
    }

    /// Brings the log into the file, which is whole without it then. An error there costs nothing:
    /// the next opening does it.
    fn close(self) {
        let begun = Instant::now();
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        if let Err(error) = self.file.query_row(checkpoint, [], |_| Ok(())) {
            warn!(%error, "the store's log is left for the next start");
        }
        drop(self.file);
        drop(self.lock);
        tracing::debug!(millis = begun.elapsed().as_millis(), "store closed");
    }
}
