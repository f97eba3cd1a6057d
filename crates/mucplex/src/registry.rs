//! Who is there: the owners of accounts and the sessions of the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use dashmap::{DashMap, Entry};
use mucplex_muc::{AccountJid, Policy, SessionId, UplinkId};
use tokio::sync::mpsc::{self, Sender, UnboundedSender, WeakSender};
use tokio_util::task::TaskTracker;

use crate::{
    account::{AccountInput, Owner},
    session::SessionInput,
};

/// Inputs that wait for an owner before a session that brings more has to wait. An owner waits for
/// nobody, so a session waits for computation only.
const OWNER_MAILBOX: usize = 32;

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
#[derive(Debug)]
pub(crate) struct Accounts {
    owners: DashMap<AccountJid, WeakSender<AccountInput>>,
    policy: Policy,
    tasks: TaskTracker,
}

impl Accounts {
    pub(crate) fn new(policy: Policy, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            owners: DashMap::new(),
            policy,
            tasks,
        })
    }

    /// The owner of `account`.
    pub(crate) fn owner(self: &Arc<Self>, account: &AccountJid) -> Sender<AccountInput> {
        match self.owners.entry(account.clone()) {
            Entry::Occupied(mut entry) => match entry.get().upgrade() {
                Some(owner) => owner,
                None => {
                    let owner = self.start(account);
                    entry.insert(owner.downgrade());
                    owner
                }
            },
            Entry::Vacant(entry) => {
                let owner = self.start(account);
                entry.insert(owner.downgrade());
                owner
            }
        }
    }

    fn start(self: &Arc<Self>, account: &AccountJid) -> Sender<AccountInput> {
        let (sender, inputs) = mpsc::channel(OWNER_MAILBOX);
        let owner = Owner::new(account.clone(), self.policy.clone(), inputs);
        let (accounts, account) = (Arc::clone(self), account.clone());
        self.tasks.spawn(async move {
            owner.run().await;
            // A fresh owner may stand here already.
            accounts
                .owners
                .remove_if(&account, |_, owner| owner.strong_count() == 0);
        });
        sender
    }
}

/// The sessions of the process, from the accepted connection to the end.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    mailboxes: DashMap<SessionId, UnboundedSender<SessionInput>>,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mucplex_muc::NickConflict;

    use super::*;

    /// Sessions that come while the owner ends get one that lives.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_handle_is_never_that_of_an_owner_that_has_ended() {
        let policy = Policy {
            nick_conflict: NickConflict::Account,
            stay: Duration::ZERO,
            history: Duration::ZERO,
        };
        let tasks = TaskTracker::new();
        let accounts = Accounts::new(policy, tasks.clone());
        let account = AccountJid("alice@example.org".parse().unwrap());
        let sessions: Vec<_> = (0..4)
            .map(|number| {
                let (accounts, account) = (Arc::clone(&accounts), account.clone());
                tokio::spawn(async move {
                    for _ in 0..2_000 {
                        let owner = accounts.owner(&account);
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
        tasks.close();
        tasks.wait().await;
        assert!(accounts.owners.is_empty());
    }
}
