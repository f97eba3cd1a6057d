//! What waits for the writer, and how it fares: shared by the handles and the writer's thread.

use std::{
    collections::VecDeque,
    mem::ManuallyDrop,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use jid::BareJid;

use crate::record::{Batch, Op};

/// The most that goes into one transaction. After an outage much may wait, and nothing of it is
/// acknowledged before its transaction has ended.
const TRANSACTION_BYTES: usize = 8 << 20;

/// How the store fares, for metrics and for those who want to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Since when nothing can be written; `None` while all is well.
    pub failing_since: Option<SystemTime>,
    /// The last error, also of an outage that is over.
    pub last_error: Option<String>,
    /// Batches that are not stored yet.
    pub waiting_batches: usize,
    /// What they take in memory, about.
    pub waiting_bytes: usize,
    /// That is more than [`Options::queue_bytes`](crate::Options::queue_bytes).
    pub over_bound: bool,
    /// Attempts to write that have failed.
    pub failures: u64,
    /// Transactions with changes.
    pub commits: u64,
    /// Batches that have been stored.
    pub stored_batches: u64,
    /// How often retention has been through the whole store.
    pub retention_passes: u64,
}

/// The changes of a batch, for the writer and for those who read past it.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) account: BareJid,
    pub(crate) ops: Vec<Op>,
    bytes: usize,
}

struct Waiting {
    work: Arc<Work>,
    /// Dropped by hand, and only when the work is stored.
    held: ManuallyDrop<Vec<Box<dyn Send>>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    health: Health,
    stopping: bool,
    ended: bool,
}

/// What the writer is to do next.
pub(crate) enum Next {
    /// Store these, the oldest that wait.
    Store(Vec<Arc<Work>>),
    /// Nothing waits, and the given time has come.
    Due,
    /// Nothing waits, and nothing will.
    Stop,
}

/// Where handles and writer meet.
///
/// The queue has no end: to refuse a change would lose it. Its bound in bytes is one that is told
/// ([`Health::over_bound`]); what keeps memory bounded is that nothing in it is acknowledged, and
/// servers stop sending to those who do not acknowledge.
pub(crate) struct Queue {
    state: Mutex<State>,
    news: Condvar,
    /// Held while a transaction becomes visible and its batches leave the queue, so that a reader
    /// sees each change in the file or in the queue, and none in both.
    turn: Mutex<()>,
    bound: usize,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks panics half way.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::default(),
            news: Condvar::new(),
            turn: Mutex::default(),
            bound,
        }
    }

    pub(crate) fn push(&self, batch: Batch) {
        let bytes = batch.ops.iter().map(Op::bytes).sum();
        let waiting = Waiting {
            work: Arc::new(Work {
                account: batch.account,
                ops: batch.ops,
                bytes,
            }),
            held: ManuallyDrop::new(batch.held),
        };
        let mut state = held(&self.state);
        state.health.waiting_bytes += bytes;
        state.health.waiting_batches += 1;
        state.waiting.push_back(waiting);
        self.news.notify_all();
    }

    /// Waits for something to do.
    pub(crate) fn next(&self, due: Instant) -> Next {
        let mut state = held(&self.state);
        loop {
            if !state.waiting.is_empty() {
                return Next::Store(state.oldest());
            }
            if state.stopping {
                return Next::Stop;
            }
            let Some(left) = due.checked_duration_since(Instant::now()) else {
                return Next::Due;
            };
            state = self.wait(state, left);
        }
    }

    fn wait<'q>(&self, state: MutexGuard<'q, State>, time: Duration) -> MutexGuard<'q, State> {
        let waited = self.news.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Runs `commit`; if that goes well, the first `count` batches are stored. Tells since when
    /// that had not gone well.
    pub(crate) fn commit<E>(
        &self,
        count: usize,
        commit: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<SystemTime>, E> {
        let turn = held(&self.turn);
        commit()?;
        let mut state = held(&self.state);
        let stored: Vec<_> = state.waiting.drain(..count).collect();
        let bytes: usize = stored.iter().map(|waiting| waiting.work.bytes).sum();
        state.health.waiting_bytes -= bytes;
        state.health.waiting_batches -= count;
        state.health.commits += 1;
        state.health.stored_batches += count as u64;
        let failing_since = state.health.failing_since.take();
        drop(state);
        drop(turn);
        for waiting in stored {
            drop(ManuallyDrop::into_inner(waiting.held));
        }
        Ok(failing_since)
    }

    /// Begins to read with `begin`, and tells what an account has waiting behind that.
    pub(crate) fn read_past<T, E>(
        &self,
        account: &BareJid,
        begin: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Vec<Arc<Work>>), E> {
        let _turn = held(&self.turn);
        let begun = begin()?;
        let state = held(&self.state);
        let works = state.waiting.iter().map(|waiting| &waiting.work);
        let of_account = works.filter(|work| work.account == *account);
        Ok((begun, of_account.cloned().collect()))
    }

    /// Notes a failed attempt; `true` for the first of a series.
    pub(crate) fn failed(&self, error: &rusqlite::Error) -> bool {
        let mut state = held(&self.state);
        state.health.failures += 1;
        state.health.last_error = Some(error.to_string());
        let first = state.health.failing_since.is_none();
        state.health.failing_since.get_or_insert(SystemTime::now());
        first
    }

    pub(crate) fn passed(&self) {
        held(&self.state).health.retention_passes += 1;
    }

    /// Waits before the next attempt. `false` if the store is to end.
    pub(crate) fn hold_back(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = held(&self.state);
        while !state.stopping {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return true;
            };
            state = self.wait(state, left);
        }
        false
    }

    pub(crate) fn stop(&self) {
        held(&self.state).stopping = true;
        self.news.notify_all();
    }

    pub(crate) fn end(&self) {
        let mut state = held(&self.state);
        state.ended = true;
        if !state.stopping {
            state.health.failing_since.get_or_insert(SystemTime::now());
            state.health.last_error = Some("the writer has died".to_owned());
        }
        self.news.notify_all();
    }

    /// Waits for the writer's end; `false` if that takes longer.
    pub(crate) fn wait_for_end(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = held(&self.state);
        while !state.ended {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return false;
            };
            state = self.wait(state, left);
        }
        true
    }

    pub(crate) fn health(&self) -> Health {
        let mut health = held(&self.state).health.clone();
        health.over_bound = health.waiting_bytes > self.bound;
        health
    }
}

impl State {
    fn oldest(&self) -> Vec<Arc<Work>> {
        let mut bytes = 0;
        let within = self.waiting.iter().take_while(|waiting| {
            let first_or_fits = bytes == 0 || bytes + waiting.work.bytes <= TRANSACTION_BYTES;
            bytes += waiting.work.bytes;
            first_or_fits
        });
        within.map(|waiting| Arc::clone(&waiting.work)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::mpsc, thread};

    use super::*;

    /// ```text
    /// reader                      writer
    /// begins to read the file
    ///                             commits, takes the batch out of the queue
    /// looks into the queue: the change is in neither
    /// ```
    #[test]
    fn no_change_falls_between_the_file_and_the_queue() {
        let queue = Queue::new(0);
        let account: BareJid = "alice@example.org".parse().unwrap();
        queue.push(Batch {
            account: account.clone(),
            ops: vec![Op::RemoveKey],
            held: Vec::new(),
        });
        let (committed, commits) = mpsc::channel();
        let writer = || {
            let done = queue.commit(1, || Ok::<_, Infallible>(()));
            committed.send(done).unwrap();
        };
        thread::scope(|scope| {
            let begin = || {
                scope.spawn(writer);
                // Long enough for a writer that need not wait.
                let early = commits.recv_timeout(Duration::from_millis(200));
                assert!(early.is_err(), "committed while a reader began");
                Ok::<_, Infallible>(())
            };
            let Ok(((), waiting)) = queue.read_past(&account, begin);
            assert_eq!(waiting.len(), 1);
        });
        assert_eq!(queue.health().waiting_batches, 0);
    }
}
