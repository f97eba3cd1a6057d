//! Who answers for a stanza that was received (XEP-0198 4; `docs/decisions/0003`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The stanzas received on one stream, and how many of them, from the first, are settled: somebody
/// else has them for good. That many, and no more, may be told to the peer as handled.
///
/// A ledger is shared: the pieces of [`Custody`] it gives out go wherever their stanzas go.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    received: u64,
    /// All stanzas up to this one are settled.
    settled: u64,
    /// Settled ones behind that.
    ahead: BTreeSet<u64>,
    /// Somebody waits for this many to be settled.
    awaited: Option<u64>,
    /// What the peer was told that is handled when the stream was last resumed.
    offered: u64,
    /// So many of the next stanzas are here already.
    repeats: u64,
}

/// The duty to see a stanza delivered. Dropped, it is settled.
#[derive(Debug)]
pub struct Custody {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Ledger {
    /// The ledger of a stream on which nothing was received.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The ledger of a stream on which `count` stanzas were received and settled before.
    pub fn resumed(count: u64) -> Arc<Self> {
        let ledger = Self::default();
        {
            let mut state = ledger.state();
            state.received = count;
            state.settled = count;
        }
        Arc::new(ledger)
    }

    /// One more stanza.
    pub fn receive(self: &Arc<Self>) -> Custody {
        let mut state = self.state();
        state.received += 1;
        Custody {
            number: state.received,
            ledger: Arc::clone(self),
        }
    }

    /// Stanzas received.
    pub fn received(&self) -> u64 {
        self.state().received
    }

    /// The longest run of settled stanzas from the first.
    pub fn settled(&self) -> u64 {
        self.state().settled
    }

    /// What the peer is told as handled so that it resumes the stream: what is settled. It sends the
    /// rest again, though that is not lost as long as this ledger lives; see
    /// [`is_repeated`](Self::is_repeated).
    pub fn offer_settled(&self) -> u64 {
        let mut state = self.state();
        state.offered = state.settled;
        state.offered
    }

    /// The same, for a peer that is to send nothing again that has come.
    pub fn offer_received(&self) -> u64 {
        let mut state = self.state();
        state.offered = state.received;
        state.offered
    }

    /// The stream goes on from what was offered last.
    pub fn go_on(&self) {
        let mut state = self.state();
        state.repeats = state.received - state.offered;
    }

    /// Whether the next stanza is one that has come before the stream was resumed, and has its
    /// [`Custody`] already.
    pub fn is_repeated(&self) -> bool {
        let mut state = self.state();
        let repeated = state.repeats > 0;
        state.repeats -= u64::from(repeated);
        repeated
    }

    /// Waits until `count` stanzas are settled. One waiter at a time.
    pub async fn settles(&self, count: u64) {
        loop {
            {
                let mut state = self.state();
                if state.settled >= count {
                    return;
                }
                state.awaited = Some(count);
            }
            self.settled.notified().await;
        }
    }

    fn settle(&self, number: u64) {
        let mut state = self.state();
        if number != state.settled + 1 {
            state.ahead.insert(number);
            return;
        }
        state.settled = number;
        while state.ahead.first() == Some(&(state.settled + 1)) {
            state.ahead.pop_first();
            state.settled += 1;
        }
        if state.awaited.is_some_and(|count| state.settled >= count) {
            state.awaited = None;
            self.settled.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Custody {
    /// The stanza's number on its stream, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Custody {
    fn drop(&mut self) {
        self.ledger.settle(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unbroken_run_is_settled() {
        let ledger = Ledger::new();
        let [first, second, third] = [ledger.receive(), ledger.receive(), ledger.receive()];
        assert_eq!((first.number(), third.number()), (1, 3));
        drop(second);
        assert_eq!((ledger.received(), ledger.settled()), (3, 0));
        drop(first);
        assert_eq!(ledger.settled(), 2);
        drop(third);
        assert_eq!(ledger.settled(), 3);
    }

    #[test]
    fn a_resumed_stream_counts_on() {
        let ledger = Ledger::resumed(41);
        assert_eq!(ledger.settled(), 41);
        let custody = ledger.receive();
        assert_eq!((custody.number(), ledger.settled()), (42, 41));
    }

    /// Not more is promised than somebody else has, and nothing is taken twice.
    #[test]
    fn what_comes_again_is_known() {
        let ledger = Ledger::new();
        let [first, second, third] = [ledger.receive(), ledger.receive(), ledger.receive()];
        drop(first);
        assert_eq!(ledger.offer_settled(), 1);
        // It changes nothing what is settled while the peer resumes.
        drop(second);
        ledger.go_on();
        assert!(ledger.is_repeated() && ledger.is_repeated());
        assert!(!ledger.is_repeated());
        assert_eq!(ledger.receive().number(), 4);
        drop(third);
        assert_eq!((ledger.settled(), ledger.received()), (4, 4));
        let _fifth = ledger.receive();
        assert_eq!(ledger.offer_received(), 5);
        ledger.go_on();
        assert!(!ledger.is_repeated());
    }

    #[tokio::test]
    async fn who_waits_is_woken_in_time() {
        let ledger = Ledger::new();
        let [first, second] = [ledger.receive(), ledger.receive()];
        let waiting = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move { ledger.settles(2).await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
        // What is settled is not waited for.
        ledger.settles(2).await;
    }
}
