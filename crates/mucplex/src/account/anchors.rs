//! Where an account's anchor comes from, and what becomes of an uplink that could be it.

use std::sync::Arc;

use mucplex_muc::Input;
use mucplex_net::Freight;
use mucplex_stream::Credentials;
use tokio::sync::oneshot;
use tracing::debug;

use super::Owner;
use crate::{
    anchor::{Anchor, Home},
    session::SessionInput,
    uplink::Uplink,
};

impl Owner {
    /// What an anchor needs. `None` if whoever has sent the last input is gone already, and nobody
    /// else is there.
    pub(super) fn home(&self) -> Option<Home> {
        Some(Home {
            shared: Arc::clone(&self.shared),
            owner: self.handle.upgrade()?,
            keyring: Arc::clone(&self.keyring),
        })
    }

    /// An uplink that a login has left over.
    pub(super) fn spare(&mut self, uplink: Uplink) {
        match self.home() {
            Some(home) if self.anchor.is_none() && self.shared.anchors.enabled => {
                Anchor::fresh(&home, uplink, Vec::new()).spawn(false);
            }
            Some(_) | None => {
                debug!(account = %self.account, "a spare uplink is not needed");
                self.shared.tasks.spawn(uplink.close());
            }
        }
    }

    /// The anchor's uplink goes to the session that has its resource; the hub frees it as soon as the
    /// next anchor has the rooms.
    pub(super) fn reclaim(&mut self, spare: Uplink, answer: oneshot::Sender<Uplink>) {
        let (Some(home), Some(anchor)) = (self.home(), self.anchor) else {
            self.shared.tasks.spawn(spare.close());
            return;
        };
        self.send_to_uplink(anchor, SessionInput::Reclaim(answer));
        Anchor::fresh(&home, spare, Vec::new()).spawn(false);
    }

    /// A client has logged in with what serves once more: for an anchor, if there is none that
    /// could come back.
    pub(super) fn replay(&mut self, domain: usize, credentials: Credentials) {
        let settings = &self.shared.anchors;
        let wanted = settings.enabled && settings.replay_login && self.keyring.is_empty();
        if !wanted || self.expected {
            return;
        }
        if let Some(home) = self.home() {
            self.expect_anchor(true);
            home.replay(self.account.clone(), domain, credentials);
        }
    }

    pub(super) fn expect_anchor(&mut self, expected: bool) {
        if self.expected != expected {
            self.expected = expected;
            self.drive(Input::AnchorExpected { expected }, Freight::default());
        }
    }
}
