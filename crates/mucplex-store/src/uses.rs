//! The accounts that somebody is there for: retention leaves them alone.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jid::BareJid;

/// Who is in use, and by how many.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    accounts: Mutex<BTreeMap<BareJid, usize>>,
}

/// An account is in use until this is dropped: however long nothing of it changes, it is not
/// forgotten.
pub struct InUse {
    account: BareJid,
    uses: Arc<Uses>,
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InUse").field(&self.account).finish()
    }
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<BareJid, usize>> {
        // No code under this lock leaves the map half changed.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(self: &Arc<Self>, account: BareJid) -> InUse {
        *self.lock().entry(account.clone()).or_default() += 1;
        InUse {
            account,
            uses: Arc::clone(self),
        }
    }

    /// Some of those in use, behind this one.
    pub(crate) fn some(&self, behind: Option<&BareJid>, most: usize) -> Vec<BareJid> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let accounts = self.lock();
        let behind = accounts.range::<BareJid, _>((from, Bound::Unbounded));
        behind.map(|(jid, _)| jid.clone()).take(most).collect()
    }

    /// Does this if the account is not in use, and it is not until that is done.
    ///
    /// ```text
    /// owner                       retention
    ///                             sees that nobody uses the account
    /// uses it, and loads it
    ///                             forgets it: what the owner adds has no room to go to
    /// ```
    pub(crate) fn unless_in_use<T>(&self, account: &BareJid, act: impl FnOnce() -> T) -> Option<T> {
        let accounts = self.lock();
        (!accounts.contains_key(account)).then(act)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut accounts = self.uses.lock();
        if let Some(count) = accounts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                accounts.remove(&self.account);
            }
        }
    }
}
