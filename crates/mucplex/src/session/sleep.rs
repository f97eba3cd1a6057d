//! A client that is away and may resume its session (XEP-0198 5; behaviours 56, 75).
//!
//! ```text
//! client   ──┤ lost                        [new connection] [login] <resume/> ──── …
//! session    asleep: what is for the client waits            Claim    Resume
//! uplink     ── held ──┤ cut: Release, or a minute is over   [fresh uplink: the server's resume]
//! ```
//! A login that is asked to resume claims the session first: while it is claimed, nothing changes
//! that the login has been told. The claim that comes last counts, since a client that tries again
//! has given up the earlier try.

use std::time::Duration;

use mucplex_muc::{AccountJid, Csi};
use mucplex_net::Connection;
use mucplex_stream::sm::{Count, Nonza, SmId, SmState};
use mucplex_xml::StreamErrorCondition;
use tokio::{sync::oneshot, time::Instant};
use tracing::{debug, info, warn};

use super::{
    server::CONNECTION_LOST,
    steady::{Farewell, Flow, HELD_SHARE, Phase, Steady},
};
use crate::{account::AccountInput, management::Management, stream::Stream, uplink::Uplink};

/// How long the uplink of a client that is away is held for the one it may come back with.
const HOLD: Duration = Duration::from_secs(60);

/// The client is away.
#[derive(Debug)]
pub(super) struct Asleep {
    /// When the session ends for good.
    until: Instant,
    /// When the uplink is cut, if not before.
    hold: Option<Instant>,
}

/// How a session can be resumed.
#[derive(Debug)]
pub(super) struct Resumption {
    pub(super) id: SmId,
    /// For how long after the connection is lost.
    window: Duration,
    _registered: crate::registry::Resumable,
}

/// A login that wants to resume a session.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Its number, later ones being greater.
    pub(crate) number: u64,
    /// What the client has handled.
    pub(crate) h: Count,
    /// How the session can go on; dropped if it cannot.
    pub(crate) answer: oneshot::Sender<Claimed>,
}

/// What a session that is claimed needs in order to go on.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// Its uplink is there.
    Held { account: AccountJid },
    /// Its uplink is to be resumed at the server.
    Cut {
        /// The server's stream.
        stream: SmState,
        /// What is handled of it.
        h: Count,
        /// What is handled of the client's.
        client_h: Count,
    },
}

/// A session goes on.
#[derive(Debug)]
pub(crate) struct Resume {
    /// The claim that it comes of.
    pub(crate) number: u64,
    /// What the client has handled.
    pub(crate) h: Count,
    pub(crate) client: Connection,
    pub(crate) fresh: Fresh,
}

/// The uplink of the login by which a session is resumed.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// The session has one: this one is for the account.
    Spare(Box<Uplink>),
    /// The server's stream goes on here; it has handled so much of what it was sent.
    Uplink {
        connection: Box<Connection>,
        h: Count,
    },
}

impl Steady {
    /// `<enable/>`: the client and the proxy count from now on.
    pub(super) fn enable_management(&mut self, resume: bool, max: Option<u32>) {
        let Some(client) = &mut self.client else {
            return;
        };
        if client.management().is_some() {
            client.push(Nonza::failed("unexpected-request").to_bytes());
            return;
        }
        let configured = self.shared.resume_timeout;
        let window = max.map_or(configured, |max| {
            configured.min(Duration::from_secs(u64::from(max)))
        });
        let resumes = resume && !window.is_zero();
        self.resumption = resumes.then(|| {
            let id = fresh_id();
            let registered = self.shared.sessions.resumable(&id, &self.own_mailbox);
            Resumption {
                id,
                window,
                _registered: registered,
            }
        });
        let enabled = Nonza::Enabled {
            id: self.resumption.as_ref().map(|it| it.id.clone()),
            resume: resumes,
            location: None,
            max: resumes.then(|| u32::try_from(window.as_secs()).unwrap_or(u32::MAX)),
        };
        client.push(enabled.to_bytes());
        client.keep_until_acknowledged();
        client.counts_peer(Management::new());
        let stream = self.resumption.as_ref().map(|it| it.id.as_str().to_owned());
        if let Some(journal) = &mut self.journal {
            journal.set_stream(stream);
        }
        debug!(resumes, "stream management with the client");
    }

    /// The client's connection is gone: it may come back, or its session ends.
    pub(super) async fn client_lost(&mut self, reason: &str) -> Flow {
        let unsent = self
            .client
            .as_ref()
            .map_or(0, |client| client.outbox().queued());
        match &self.resumption {
            Some(resumption) if self.may_sleep() => {
                info!(reason, unsent, "client lost: it may resume");
                let until = Instant::now() + resumption.window;
                self.fall_asleep(until).await
            }
            Some(_) | None => {
                info!(reason, unsent, "client lost");
                self.note_served();
                self.client = None;
                self.release().await
            }
        }
    }

    fn may_sleep(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.owed.is_over()
    }

    async fn fall_asleep(&mut self, until: Instant) -> Flow {
        if let Some(client) = &mut self.client {
            client.cut();
        }
        self.client_has_more = false;
        let hold = self.uplink.is_resumable().then(|| Instant::now() + HOLD);
        self.asleep = Some(Asleep { until, hold });
        let session = self.session;
        self.tell(AccountInput::Asleep { session }).await
    }

    /// The next thing that becomes of a session that sleeps.
    pub(super) fn asleep_deadline(&self) -> Option<Instant> {
        let asleep = self.asleep.as_ref().filter(|_| self.claimed.is_none())?;
        let hold = asleep.hold.filter(|_| !self.uplink.stream.is_cut());
        Some(hold.map_or(asleep.until, |hold| hold.min(asleep.until)))
    }

    pub(super) async fn asleep_too_long(&mut self, now: Instant) -> Flow {
        let Some(asleep) = self.asleep.as_ref().filter(|_| self.claimed.is_none()) else {
            return Flow::Continue(());
        };
        if asleep.until <= now {
            info!("the client has not come back");
            return self.end_sleep().await;
        }
        if asleep.hold.is_some_and(|hold| hold <= now) && !self.uplink.stream.is_cut() {
            return self.suspend_uplink("held long enough").await;
        }
        Flow::Continue(())
    }

    /// The session ends though its client may still come: it gets a new one then.
    pub(super) async fn end_sleep(&mut self) -> Flow {
        self.asleep = None;
        self.note_served();
        self.resumption = None;
        self.client = None;
        if self.uplink.stream.is_cut() {
            // The server has the rest; it ends the stream in its own time.
            return Flow::Break(Farewell::End);
        }
        self.release().await
    }

    /// The server is to see what it would see of a client that is lost: it keeps the stream, stores
    /// and pushes (XEP-0198 5, XEP-0357).
    pub(super) fn cut_uplink(&mut self, reason: &str) {
        info!(reason, "uplink cut, to be resumed");
        self.uplink.stream.cut();
        self.uplink_has_more = false;
    }

    /// The uplink is gone for now, and with it what it carries.
    pub(super) async fn suspend_uplink(&mut self, reason: &str) -> Flow {
        self.cut_uplink(reason);
        let uplink = self.uplink_id;
        self.tell(AccountInput::Suspended { uplink }).await
    }

    /// The hub needs the uplink of a client that is away no more.
    pub(super) fn released_asleep(&mut self) {
        if self.claimed.is_some() {
            // Whoever has claimed the session was told that the uplink is there.
            self.released_while_claimed = true;
        } else if self.uplink.is_resumable() && !self.uplink.stream.is_cut() {
            self.cut_uplink("no room needs it");
        }
    }

    /// A login wants the session.
    pub(super) async fn claim(&mut self, claim: Claim) -> Flow {
        let can_resume = self.resumption.is_some()
            && matches!(self.phase, Phase::Open)
            && self
                .client
                .as_ref()
                .is_some_and(|it| it.can_resume(claim.h));
        if !can_resume {
            return Flow::Continue(());
        }
        if self.asleep.is_none() {
            // The proxy has not noticed yet, or the client has been quicker than its old connection.
            if let Some(client) = &mut self.client {
                client.push(StreamErrorCondition::Conflict.to_xml(Some("resumed elsewhere")));
            }
            self.client_lost("resumed on another connection").await?;
        }
        let claimed = match (self.uplink.resumption(), self.uplink.stream.is_cut()) {
            (_, false) => Claimed::Held {
                account: AccountJid(self.uplink.jid.to_bare()),
            },
            (Some((stream, h)), true) => Claimed::Cut {
                stream: stream.clone(),
                h,
                client_h: self.client.as_ref().map_or(Count::ZERO, Stream::handled),
            },
            (None, true) => return Flow::Continue(()),
        };
        if claim.answer.send(claimed).is_ok() {
            self.claimed = Some(claim.number);
        }
        Flow::Continue(())
    }

    /// Nothing came of a login.
    pub(super) fn unclaim(&mut self, number: u64) {
        if self.claimed == Some(number) {
            self.claimed = None;
            if std::mem::take(&mut self.released_while_claimed) {
                self.released_asleep();
            }
        }
    }

    /// The server has forgotten the session's stream, and so must the session.
    pub(super) async fn stream_gone(&mut self, number: u64) -> Flow {
        if self.claimed != Some(number) {
            return Flow::Continue(());
        }
        info!("the server does not know the session any more");
        self.claimed = None;
        self.end_sleep().await
    }

    /// The client is back.
    pub(super) async fn resume(&mut self, resume: Resume) -> Flow {
        let Resume {
            number,
            h,
            mut client,
            fresh,
        } = resume;
        let (Some(Resumption { id, .. }), Some(stream)) = (&self.resumption, &mut self.client)
        else {
            return Flow::Continue(());
        };
        if self.claimed != Some(number) {
            debug!("a later login has the session");
            return Flow::Continue(());
        }
        self.claimed = None;
        self.released_while_claimed = false;
        let resumed = Nonza::Resumed {
            previd: id.clone(),
            h: stream.received(),
        };
        client.outbox_mut().push(resumed.to_bytes());
        // What was held for an inactive client is what it gets now: its state does not outlive a
        // connection (XEP-0352 5).
        let outbox = stream.outbox_mut();
        self.csi
            .flush(|stanza, freight| outbox.push_stanza(stanza, freight));
        self.csi = Csi::new(&self.uplink.jid, self.shared.outbox_bytes / HELD_SHARE);
        if stream.resume(client, h).is_err() {
            warn!("a client claims to have what it was not sent");
            return self.end_sleep().await;
        }
        self.client_has_more = true;
        self.asleep = None;
        self.streams_match = false;
        info!("client resumed");
        self.go_on_with(fresh).await?;
        if self.uplink.stream.is_cut() {
            // Lost while the client was on its way to it: it is to bring another one.
            return self.client_lost("its uplink is lost").await;
        }
        let session = self.session;
        self.tell(AccountInput::Awake { session }).await
    }

    async fn go_on_with(&mut self, fresh: Fresh) -> Flow {
        match fresh {
            Fresh::Spare(spare) => self.tell(AccountInput::Spare(spare)).await,
            Fresh::Uplink { connection, h } => {
                if self.uplink.stream.resume(*connection, h).is_err() {
                    warn!("the server claims to have what it was not sent");
                    return Flow::Break(CONNECTION_LOST);
                }
                self.uplink_has_more = true;
                let uplink = self.uplink_id;
                self.tell(AccountInput::Resumed { uplink }).await
            }
        }
    }
}

/// Not to be guessed (XEP-0198 11).
fn fresh_id() -> SmId {
    SmId::from(format!(
        "{:016x}{:016x}",
        rand::random::<u64>(),
        rand::random::<u64>()
    ))
}
