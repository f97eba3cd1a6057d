//! What of an account outlives the process: the owner's side of the store.

use std::sync::Arc;

use jid::BareJid;
use mucplex_muc::{AccountJid, Change, Saved, fingerprint};
use mucplex_net::Custody;
use mucplex_store::{AccountJournal, AnchorState, Batch, InUse, Op, Snapshot, Store};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use crate::{anchor::Keyring, keeping, server::Shared};

/// Collects what one input changes, and hands it over together.
///
/// What hangs on a batch is settled when it is stored: a stanza of the server's is acknowledged
/// only then (decision 0003).
pub(super) struct Keeper {
    store: Store,
    account: BareJid,
    ops: Vec<Op>,
    /// The account's keys are in the store.
    has_key: bool,
    journal: Option<AccountJournal>,
    /// It is not forgotten meanwhile.
    _in_use: InUse,
}

/// What was kept.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) rooms: Saved,
    pub(super) anchor: Option<AnchorState>,
}

impl Keeper {
    /// Opens what is kept of an account, and what was kept. Without a store nothing is; and where it
    /// cannot be read, nothing is written over it.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        account: &AccountJid,
        keyring: &Keyring,
    ) -> (Option<Self>, Restored) {
        let Some(store) = shared.store.clone() else {
            return (None, Restored::default());
        };
        let loading = (store.clone(), account.0.clone());
        let loaded = spawn_blocking(move || {
            let (store, account) = loading;
            let in_use = store.in_use(account.clone());
            let snapshot = store.load(&account, &store.bounds())?;
            Ok::<_, mucplex_store::LoadError>((snapshot, in_use))
        })
        .await;
        let (snapshot, in_use) = match loaded {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                error!(%account, %error, "what was kept cannot be read: nothing is kept on");
                return (None, Restored::default());
            }
            Err(error) => {
                error!(%account, %error, "what was kept cannot be read: nothing is kept on");
                return (None, Restored::default());
            }
        };
        let mut keeper = Self {
            store,
            account: account.0.clone(),
            ops: Vec::new(),
            has_key: snapshot.key.is_some(),
            journal: shared
                .journal
                .as_ref()
                .map(|it| it.account(account.0.clone())),
            _in_use: in_use,
        };
        keeper.unseal(shared, &snapshot, keyring);
        let (mut rooms, unreadable) = keeping::saved(&snapshot);
        let said = shared.said.remove(&account.0);
        rooms.said = said.map(|(_, said)| said).unwrap_or_default();
        for room in unreadable {
            error!(%account, %room, "what was kept of a room cannot be read");
            keeper.ops.push(Op::ForgetRoom(room));
        }
        let anchor = snapshot.anchor;
        (Some(keeper), Restored { rooms, anchor })
    }

    fn unseal(&mut self, shared: &Shared, snapshot: &Snapshot, keyring: &Keyring) {
        let (Some(key), Some(sealed)) = (&shared.anchors.seal_key, &snapshot.key) else {
            return;
        };
        let domain = self.account.domain().as_str();
        match keeping::unsealed(key, &self.account, domain, sealed) {
            Ok(credentials) => keyring.keep(credentials),
            Err(error) => {
                warn!(account = %self.account, %error, "the kept keys do not open and are dropped");
                self.ops.push(Op::RemoveKey);
                self.has_key = false;
            }
        }
    }

    /// A change of the hub, before sessions are told what it comes of.
    pub(super) fn change(&mut self, change: Change) {
        if let Change::Message { message, .. } = &change
            && let Some(journal) = &mut self.journal
            && let Err(error) = journal.said(message.number, fingerprint(&message.frame))
        {
            warn!(account = %self.account, %error, "what was said cannot be noted");
        }
        self.ops.push(keeping::op(change));
    }

    /// The anchor's stream, or that it is no more.
    pub(super) fn anchor(&mut self, stream: Option<AnchorState>) {
        self.ops.push(match stream {
            Some(stream) => Op::PutAnchor(stream),
            None => Op::RemoveAnchor,
        });
    }

    /// The account's keys as they are now: sealed, or not at all.
    pub(super) fn keys(&mut self, shared: &Shared, keyring: &Keyring) {
        let Some(key) = &shared.anchors.seal_key else {
            return;
        };
        let domain = self.account.domain().as_str();
        match keyring.keys() {
            Some(keys) if !self.has_key => {
                if let Some(sealed) = keeping::sealed(key, &self.account, domain, &keys) {
                    self.ops.push(Op::PutKey(sealed));
                    self.has_key = true;
                }
            }
            None if self.has_key => {
                self.ops.push(Op::RemoveKey);
                self.has_key = false;
            }
            Some(_) | None => {}
        }
    }

    /// Hands over what an input has changed. `custody`: of the stanza that it was; on the anchor it
    /// is counted in the store as well.
    pub(super) fn commit(&mut self, custody: Option<Custody>, of_anchor: bool) {
        if of_anchor && let Some(custody) = &custody {
            // XEP-0198 4: modulo 2^32.
            let h_in = (custody.number() & u64::from(u32::MAX)) as u32;
            self.ops.push(Op::AnchorHandled { h_in });
        }
        if self.ops.is_empty() {
            return;
        }
        let mut batch = Batch::new(self.account.clone());
        batch.ops = std::mem::take(&mut self.ops);
        batch
            .held
            .extend(custody.map(|it| Box::new(it) as Box<dyn Send>));
        self.store.submit(batch);
    }
}
