//! An anchor whose connection is gone: it is resumed, or made anew, with the account's keys.
//!
//! ```text
//!  cut ──┬── attempt ── pause ── attempt ── … ──┬── resumed: nobody has noticed
//!        └ 3 s: the hub knows that it is        ├── bound anew: the hub takes the old one for lost
//!          suspended                            └── keys of no use: lost, and so they are dropped
//! ```

use std::time::Duration;

use mucplex_muc::AccountJid;
use mucplex_net::Connection;
use mucplex_stream::anchor_login::{AnchorError, Established, Failure, Goal};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::{Anchor, End, login::log_in, resource};
use crate::{account::AccountInput, session::SessionInput, uplink::Uplink};

/// What a resumption may take before sessions' own uplinks are to help.
const GRACE: Duration = Duration::from_secs(3);
/// Pauses between attempts: doubled each time, and then any part of it, so that not all accounts
/// come back at once.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How far the hub knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It does not even know the uplink.
    Unknown,
    Nothing,
    Suspended,
    Lost,
}

impl Anchor {
    /// Gets the anchor a connection again. `Some`: it has come to this end.
    pub(super) async fn reconnect(&mut self) -> Option<End> {
        self.uplink.stream.cut();
        self.has_more = false;
        // The hub knows nothing of an uplink that an earlier process has had.
        let mut told = if self.restored {
            Told::Unknown
        } else {
            Told::Nothing
        };
        if !self.uplink.is_resumable() {
            told = self.tell_lost(told).await;
        }
        let grace = Instant::now() + GRACE;
        let mut pause = Duration::ZERO;
        loop {
            if self.keyring.is_empty() {
                info!("the anchor is lost: there are no keys to log in with");
                self.tell_lost(told).await;
                return Some(End::Released);
            }
            let attempt = attempt(self.attempt(told), pause);
            tokio::pin!(attempt);
            let done = loop {
                tokio::select! {
                    done = &mut attempt => break done,
                    input = self.mailbox.recv() => match input {
                        Some(SessionInput::ToServer { stanza, freight }) => {
                            let limits = &self.shared.server_limits;
                            self.uplink.queue(stanza, freight, limits);
                        }
                        Some(SessionInput::Release) => return Some(End::Released),
                        Some(SessionInput::Shutdown) | None => return Some(End::Shutdown),
                        Some(_) => {}
                    },
                    () = sleep_until(grace), if told == Told::Nothing => {
                        let uplink = self.id;
                        self.tell(AccountInput::Suspended { uplink }).await;
                        told = Told::Suspended;
                    }
                }
            };
            match done {
                Ok((connection, established)) => {
                    return self.connected(connection, established, told).await;
                }
                Err(error) => match error.failure() {
                    Failure::Stale | Failure::Refused => {
                        warn!(%error, "the anchor's keys are dropped");
                        self.keyring.forget();
                    }
                    Failure::Temporary | Failure::Unreachable => {
                        info!(%error, "no anchor yet");
                        pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    }
                },
            }
        }
    }

    /// One login; independent of the anchor's state, which goes on changing.
    fn attempt(
        &self,
        told: Told,
    ) -> impl Future<Output = Result<(Connection, Established), AnchorError>> + 'static {
        let goal = match self.uplink.resumption() {
            Some((sm, h)) if told != Told::Lost => Goal::Resume {
                sm: sm.clone(),
                h,
                jid: self.uplink.jid.clone(),
            },
            Some(_) | None => Goal::Bind {
                resource: resource(),
            },
        };
        let (shared, domain) = (self.shared.clone(), self.uplink.domain);
        let keys = self.keyring.keys();
        async move {
            let Some(keys) = keys else {
                return Err(AnchorError::NoMechanism);
            };
            shared.reconnects.turn().await;
            log_in(&shared, domain, keys, goal).await
        }
    }

    async fn connected(
        &mut self,
        connection: Connection,
        established: Established,
        told: Told,
    ) -> Option<End> {
        if AccountJid(established.jid.to_bare()) != self.account {
            warn!(jid = %established.jid, "the keys are not this account's");
            self.keyring.forget();
            self.tell_lost(told).await;
            return Some(End::Released);
        }
        self.quiet_since = Instant::now();
        self.has_more = true;
        if let Some(h) = established.resumed {
            if self.uplink.stream.resume(connection, h).is_err() {
                warn!("the server claims to have what it was not sent");
                self.uplink.has_ended();
                return Some(End::Released);
            }
            info!("anchor resumed");
            match told {
                Told::Unknown => self.announce().await,
                Told::Suspended => {
                    let uplink = self.id;
                    self.tell(AccountInput::Resumed { uplink }).await;
                }
                Told::Nothing | Told::Lost => {}
            }
            self.restored = false;
            return None;
        }
        info!(jid = %established.jid, "anchor bound anew");
        self.tell_lost(told).await;
        let (_, id) = self.shared.sessions.next_ids();
        self.id = id;
        let domain = self.uplink.domain;
        let (uplink, early) = Uplink::established(connection, established, domain);
        self.uplink = uplink;
        self.early = early;
        self.restored = false;
        self.announce().await;
        None
    }

    /// The hub is told that the uplink is lost, unless it knows.
    async fn tell_lost(&self, told: Told) -> Told {
        if !matches!(told, Told::Lost | Told::Unknown) {
            let uplink = self.id;
            self.tell(AccountInput::UplinkLost { uplink }).await;
        }
        Told::Lost
    }
}

/// Some part of the pause, then the login.
async fn attempt<T>(login: impl Future<Output = T>, pause: Duration) -> T {
    sleep(pause.mul_f64(rand::random())).await;
    login.await
}
