//! Who is there: the owners of accounts and the sessions of the process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use dashmap::{DashMap, Entry};
use mucplex_muc::{AccountJid, SessionId, UplinkId};
use mucplex_store::Lost;
use mucplex_stream::sm::SmId;
use tokio::sync::mpsc::{Sender, UnboundedSender, WeakSender};

use crate::{
    account::{AccountInput, Owner},
    server::Shared,
    session::SessionInput,
};

/// Sessions that are no more and of which something is kept.
const MOST_LOST: usize = 10_000;

/// The owners of accounts, started on first use.
///
/// Sessions hold strong handles, the registry a weak one: an owner ends when the last session has
/// dropped its handle and everything sent before that is handled. There is no moment between "is
/// anybody there?" and "end":
/// ```text
/// owner    … handles the last input, receives None (no strong handle left), ends
/// session                     upgrade() fails from then on, so it starts a fresh owner
/// ```
/// The one that ends has no session, no uplink and thus no state that the fresh one could miss.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    owners: DashMap<AccountJid, WeakSender<AccountInput>>,
}

impl Accounts {
    /// The owner of `account`.
    pub(crate) fn owner(shared: &Arc<Shared>, account: &AccountJid) -> Sender<AccountInput> {
        match shared.accounts.owners.entry(account.clone()) {
            Entry::Occupied(mut entry) => match entry.get().upgrade() {
                Some(owner) => owner,
                None => {
                    let owner = Self::start(shared, account);
                    entry.insert(owner.downgrade());
                    owner
                }
            },
            Entry::Vacant(entry) => {
                let owner = Self::start(shared, account);
                entry.insert(owner.downgrade());
                owner
            }
        }
    }

    /// The owner of `account`, if it has one.
    pub(crate) fn find(shared: &Arc<Shared>, account: &AccountJid) -> Option<Sender<AccountInput>> {
        shared.accounts.owners.get(account)?.upgrade()
    }

    fn start(shared: &Arc<Shared>, account: &AccountJid) -> Sender<AccountInput> {
        let (owner, sender) = Owner::new(account.clone(), Arc::clone(shared));
        let (shared, account) = (Arc::clone(shared), account.clone());
        shared.tasks.clone().spawn(async move {
            owner.run().await;
            // A fresh owner may stand here already.
            let owners = &shared.accounts.owners;
            owners.remove_if(&account, |_, owner| owner.strong_count() == 0);
        });
        sender
    }
}

/// The sessions of the process, from the accepted connection to the end.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    mailboxes: DashMap<SessionId, UnboundedSender<SessionInput>>,
    /// Sessions that are no more, whose clients may still tell how much they have received.
    lost: Mutex<HashMap<SmId, (Lost, Instant)>>,
    /// Sessions whose clients can resume them.
    resumable: DashMap<SmId, UnboundedSender<SessionInput>>,
    shutting_down: AtomicBool,
    numbers: AtomicU64,
}

impl Sessions {
    /// A number for a session and one for its uplink; never given twice.
    pub(crate) fn next_ids(&self) -> (SessionId, UplinkId) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        (SessionId(number), UplinkId(number))
    }

    /// Makes a session reachable until the guard is dropped.
    pub(crate) fn register(
        self: &Arc<Self>,
        session: SessionId,
        mailbox: &UnboundedSender<SessionInput>,
    ) -> Registered {
        self.mailboxes.insert(session, mailbox.clone());
        // Either this sees the flag, or the one who set it sees the entry.
        if self.shutting_down.load(Ordering::SeqCst) {
            // The receiver is the caller's own.
            let _ = mailbox.send(SessionInput::Shutdown);
        }
        Registered {
            sessions: Arc::clone(self),
            session,
        }
    }

    /// Makes a session one that can be resumed, until the guard is dropped.
    pub(crate) fn resumable(
        self: &Arc<Self>,
        id: &SmId,
        mailbox: &UnboundedSender<SessionInput>,
    ) -> Resumable {
        self.resumable.insert(id.clone(), mailbox.clone());
        Resumable {
            sessions: Arc::clone(self),
            id: id.clone(),
        }
    }

    /// The session that can be resumed by this id, and the number of the claim to it.
    pub(crate) fn find(&self, id: &SmId) -> Option<(UnboundedSender<SessionInput>, u64)> {
        let mailbox = self.resumable.get(id)?.value().clone();
        Some((mailbox, self.numbers.fetch_add(1, Ordering::Relaxed)))
    }

    /// Keeps what a session that is no more has sent, for the case that its client comes back.
    pub(crate) fn remember(&self, lost: Lost, now: Instant) {
        let Some(id) = lost.device.stream.as_deref().map(SmId::from) else {
            return;
        };
        let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_LOST
            && let Some(oldest) = all.iter().min_by_key(|(_, (_, at))| *at)
        {
            let oldest = oldest.0.clone();
            all.remove(&oldest);
        }
        all.insert(id, (lost, now));
    }

    /// What was sent to the session that had this id. It is told once.
    pub(crate) fn recall(&self, id: &SmId) -> Option<Lost> {
        let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(id).map(|(lost, _)| lost)
    }

    /// Tells every session, and every one still to come, to end.
    pub(crate) fn shut_down(&self) -> usize {
        self.shutting_down.store(true, Ordering::SeqCst);
        for entry in &self.mailboxes {
            // A session that ends by itself just now needs no telling.
            let _ = entry.value().send(SessionInput::Shutdown);
        }
        self.mailboxes.len()
    }
}

/// A session's place in [`Sessions`].
#[derive(Debug)]
pub(crate) struct Registered {
    sessions: Arc<Sessions>,
    session: SessionId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sessions.mailboxes.remove(&self.session);
    }
}

/// A session's place among those that can be resumed.
#[derive(Debug)]
pub(crate) struct Resumable {
    sessions: Arc<Sessions>,
    id: SmId,
}

impl Drop for Resumable {
    fn drop(&mut self) {
        self.sessions.resumable.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions that come while the owner ends get one that lives.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_handle_is_never_that_of_an_owner_that_has_ended() {
        let shared = Shared::for_tests();
        let account = AccountJid("alice@example.org".parse().unwrap());
        let sessions: Vec<_> = (0..4)
            .map(|number| {
                let (shared, account) = (Arc::clone(&shared), account.clone());
                tokio::spawn(async move {
                    for _ in 0..2_000 {
                        let owner = Accounts::owner(&shared, &account);
                        let lost = AccountInput::UplinkLost {
                            uplink: UplinkId(number),
                        };
                        owner.send(lost).await.unwrap();
                    }
                })
            })
            .collect();
        for session in sessions {
            session.await.unwrap();
        }
        shared.tasks.close();
        shared.tasks.wait().await;
        assert!(shared.accounts.owners.is_empty());
    }
}
