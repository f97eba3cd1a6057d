//! Bytes that somebody has taken and not given back yet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts the bytes that are on their way somewhere, against a bound.
///
/// At the bound nothing is refused: whoever feeds the budget looks at [`is_over`](Self::is_over)
/// and stops feeding it (a reader, who then waits for [`relieved`](Self::relieved)) or ends what
/// does not drain.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    bound: usize,
    relieved: Notify,
}

impl Budget {
    /// A budget of `bound` bytes.
    pub fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            bound,
            relieved: Notify::new(),
        })
    }

    /// Takes `bytes` until the charge is dropped.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Charge {
            budget: Arc::clone(self),
            bytes,
        }
    }

    /// Bytes taken at the moment.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The bound in bytes.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// More than the bound is taken.
    pub fn is_over(&self) -> bool {
        self.used() > self.bound
    }

    /// Waits until charges that were given back have brought the budget under its bound. One waiter
    /// at a time; a relief between [`is_over`](Self::is_over) and this call is not missed, an
    /// earlier one may end the wait once without need.
    pub async fn relieved(&self) {
        self.relieved.notified().await;
    }
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let before = self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        let bound = self.budget.bound;
        if before > bound && before.saturating_sub(self.bytes) <= bound {
            self.budget.relieved.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_come_back() {
        let budget = Budget::new(10);
        let first = budget.charge(8);
        assert!(!budget.is_over());
        let second = budget.charge(8);
        assert!(budget.is_over());
        drop(first);
        assert_eq!(budget.used(), 8);
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_relief_before_the_wait_is_not_missed() {
        let budget = Budget::new(1);
        let charge = budget.charge(2);
        assert!(budget.is_over());
        drop(charge);
        budget.relieved().await;
    }
}
