//! A client that is away and may resume its session (XEP-0198 5; behaviours 56, 75).
//!
//! ```text
//! client   ──┤ lost                        [new connection] [login] <resume/> ──── …
//! session    asleep: what is for the client waits            Claim    Resume
//! uplink     ── held ──┤ cut: Release, or a minute is over   [fresh uplink: the server's resume]
//! ```
//! A login that is asked to resume claims the session first: while it is claimed, nothing changes
//! that the login has been told, and later claims wait. Were there two at once, each might resume
//! the server's stream, and the one that is second there takes it from the other:
//! ```text
//! login 1   claim ── <resume/> ──────────── <resumed/>, Resume
//! login 2       claim ──────── <resume/> ── <resumed/> ────── …, and login 1 has lost its uplink
//! ```
//! So the session goes on on login 1, and then on login 2: who tries again gives up the earlier try.

use std::time::Duration;

use bytes::Bytes;
use mucplex_muc::{AccountJid, ClientRoute, Csi};
use mucplex_net::Connection;
use mucplex_stream::{
    Authenticated,
    sm::{Count, Nonza, SmId, SmState},
    stream_end,
};
use mucplex_xml::{Frame, StreamErrorCondition};
use tokio::{sync::oneshot, time::Instant};
use tracing::{Instrument as _, debug, info, warn};

use super::{
    CLOSING,
    server::CONNECTION_LOST,
    steady::{Flow, HELD_SHARE, Phase, Steady},
};
use crate::{account::AccountInput, management::Management, stream::Stream, uplink::Uplink};

/// How long the uplink of a client that is away is held for the one it may come back with.
const HOLD: Duration = Duration::from_secs(60);

/// Logins that may wait for a session which another one has claimed.
const CLAIMS: usize = 8;

/// The client is away.
#[derive(Debug)]
pub(super) struct Asleep {
    /// When the session ends for good.
    until: Instant,
    /// When the uplink is cut, if not before, and if it can be resumed.
    hold: Instant,
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

/// What is told to a login that claims a session.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Whose the session is. Nothing is known yet of who claims it.
    pub(crate) account: AccountJid,
    pub(crate) way: Way,
}

/// What a session that is claimed needs in order to go on.
#[derive(Debug)]
pub(crate) enum Way {
    /// Its uplink is there.
    Held,
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
        login: Box<Authenticated>,
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
        if resumes {
            // What is kept may go out on a stream whose header declares something else.
            self.streams_match = false;
        }
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
                self.depart();
                self.release().await
            }
        }
    }

    fn may_sleep(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Withholding(_)) && !self.owed.is_over()
    }

    /// Nothing but the hub needs the uplink.
    pub(super) fn may_cut_uplink(&self) -> bool {
        self.asleep.is_some() && matches!(self.phase, Phase::Open)
    }

    async fn fall_asleep(&mut self, until: Instant) -> Flow {
        if let Some(client) = &mut self.client {
            client.cut();
        }
        self.client_has_more = false;
        let hold = Instant::now() + HOLD;
        self.asleep = Some(Asleep { until, hold });
        let session = self.session;
        self.tell(AccountInput::Asleep { session }).await
    }

    /// The next thing that becomes of a session that sleeps.
    pub(super) fn asleep_deadline(&self) -> Option<Instant> {
        let asleep = self.asleep.as_ref().filter(|_| self.claimed.is_none())?;
        Some(if self.is_held() {
            asleep.hold.min(asleep.until)
        } else {
            asleep.until
        })
    }

    /// The uplink is there, and could be cut.
    fn is_held(&self) -> bool {
        self.uplink.is_resumable() && !self.uplink.stream.is_cut()
    }

    pub(super) async fn asleep_too_long(&mut self, now: Instant) -> Flow {
        let Some(asleep) = self.asleep.as_ref().filter(|_| self.claimed.is_none()) else {
            return Flow::Continue(());
        };
        if asleep.until <= now {
            info!("the client has not come back");
            return self.end_sleep().await;
        }
        if asleep.hold <= now && self.is_held() {
            return self.suspend_uplink("held long enough").await;
        }
        Flow::Continue(())
    }

    /// The session ends though its client may still come: it gets a new one then.
    pub(super) async fn end_sleep(&mut self) -> Flow {
        self.flush_held();
        self.depart();
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
        } else if self.is_held() {
            self.cut_uplink("no room needs it");
        }
    }

    /// A login wants the session. Whoever that is, nothing happens to a client that is there before
    /// the server has said that it is of the same account.
    pub(super) fn claim(&mut self, claim: Claim) {
        let can_resume = self.resumption.is_some()
            && matches!(self.phase, Phase::Open | Phase::Withholding(_))
            && self
                .client
                .as_ref()
                .is_some_and(|it| it.can_resume(claim.h));
        if !can_resume {
            return;
        }
        if self.claimed.is_some() {
            // Those that are too many find nothing, as if they had been wrong.
            if self.claims.len() < CLAIMS {
                self.claims.push_back(claim);
            }
            return;
        }
        let way = match (self.uplink.resumption(), self.uplink.stream.is_cut()) {
            (_, false) => Way::Held,
            (Some((stream, h)), true) => Way::Cut {
                stream: stream.clone(),
                h,
                client_h: self.client.as_ref().map_or(Count::ZERO, Stream::handled),
            },
            (None, true) => return,
        };
        let account = AccountJid(self.uplink.jid.to_bare());
        if claim.answer.send(Claimed { account, way }).is_ok() {
            self.claimed = Some(claim.number);
        }
    }

    /// A login is done with the session: the next one gets it.
    fn next_claim(&mut self) {
        while self.claimed.is_none()
            && let Some(claim) = self.claims.pop_front()
        {
            self.claim(claim);
        }
    }

    /// Nothing came of a login.
    pub(super) fn unclaim(&mut self, number: u64) {
        if self.claimed == Some(number) {
            self.claimed = None;
            if std::mem::take(&mut self.released_while_claimed) {
                self.released_asleep();
            }
            self.next_claim();
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
        if self.claimed != Some(resume.number) {
            debug!("the session has ended meanwhile");
            return Flow::Continue(());
        }
        self.claimed = None;
        self.released_while_claimed = false;
        let Resume {
            h, client, fresh, ..
        } = resume;
        self.flush_held();
        if !self.resume_client(client, h) {
            warn!("a client claims to have what it was not sent");
            return self.end_sleep().await;
        }
        let slept = self.asleep.take().is_some();
        info!("client resumed");
        self.go_on_with(fresh).await?;
        self.client_is_active();
        self.next_claim();
        if self.uplink.stream.is_cut() {
            // Lost while the client was on its way to it: it is to bring another one.
            return self.client_lost("its uplink is lost").await;
        }
        if slept {
            let session = self.session;
            self.tell(AccountInput::Awake { session }).await?;
        }
        Flow::Continue(())
    }

    /// The client's stream goes on on another connection; whether it can.
    fn resume_client(&mut self, mut connection: Connection, h: Count) -> bool {
        let (Some(Resumption { id, .. }), Some(stream)) = (&self.resumption, &mut self.client)
        else {
            return false;
        };
        if let Some(mut displaced) = stream.displace() {
            // The client has been quicker than the end of its old connection.
            let error = StreamErrorCondition::Conflict.to_xml(Some("resumed elsewhere"));
            displaced.outbox_mut().push(error);
            displaced.outbox_mut().push(stream_end());
            let closing = async move { drop(displaced.close(CLOSING).await) };
            self.shared.tasks.spawn(closing.in_current_span());
        }
        let resumed = Nonza::Resumed {
            previd: id.clone(),
            h: stream.grant(),
        };
        connection.outbox_mut().push(resumed.to_bytes());
        self.client_has_more = true;
        self.streams_match = false;
        stream.resume(connection, h).is_ok()
    }

    /// A client state does not outlive a connection (XEP-0352 5), and the server's idea of it may
    /// have.
    fn client_is_active(&mut self) {
        if !std::mem::take(&mut self.inactive) {
            return;
        }
        self.csi = Csi::new(&self.uplink.jid, self.shared.outbox_bytes / HELD_SHARE);
        let active = Bytes::from_static(b"<active xmlns='urn:xmpp:csi:0'/>");
        let Ok(active) = Frame::parse(active, &self.shared.client_limits) else {
            return;
        };
        if let ClientRoute::ClientState { upstream: true, .. } = self.routes.from_client(&active) {
            self.uplink.stream.push(&active);
        }
    }

    async fn go_on_with(&mut self, fresh: Fresh) -> Flow {
        match fresh {
            Fresh::Spare(spare) => self.tell(AccountInput::Spare(spare)).await,
            Fresh::Uplink {
                connection,
                h,
                login,
            } => {
                if self.uplink.resume(*connection, h, &login).is_err() {
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
