//! What an account's anchor logs in with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mucplex_stream::Credentials;

/// The SCRAM keys of one account, wiped when they are dropped. Never a password: that serves for
/// one login and is gone.
#[derive(Debug, Default)]
pub(crate) struct Keyring(Mutex<Option<Credentials>>);

impl Keyring {
    /// The keys of an account of which nothing is known.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn keys(&self) -> Option<Credentials> {
        self.held().clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held().is_none()
    }

    pub(crate) fn keep(&self, keys: Credentials) {
        *self.held() = Some(keys);
    }

    /// The server does not take the keys (any more): they are never tried again, which could lock
    /// the account.
    pub(crate) fn forget(&self) {
        *self.held() = None;
    }

    fn held(&self) -> MutexGuard<'_, Option<Credentials>> {
        // Nothing in here can panic halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
