//! An anchor: the uplink, without a client, on which an account's rooms live (decision 0003).
//!
//! It is got in one of three ways: by a login that is replayed ([`Home::replay`]), as the spare uplink of
//! a client that has resumed its session ([`Anchor::fresh`]), or as the uplink of the last session
//! ([`Anchor::retained`]). From then on all three are the same task. All that comes on the anchor
//! goes to the account's owner, in order, so that what is handled of it is one number.

mod keyring;
mod login;
mod reconnect;

use std::{
    future::poll_fn,
    ops::ControlFlow,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jid::FullJid;
use mucplex_muc::{AccountJid, UplinkId};
use mucplex_store::AnchorState;
use mucplex_stream::{Credentials, anchor_login::Goal, sm::SmState};
use mucplex_xml::{Event, Frame, Kind, StreamErrorCondition};
use tokio::{
    sync::{
        mpsc::{self, Sender, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    time::{Instant, timeout},
};
use tracing::{Instrument as _, info, info_span, warn};

use login::log_in;

use crate::{
    account::AccountInput,
    alarm::Alarm,
    registry::Registered,
    server::Shared,
    session::{FRAMES_PER_TURN, Mailbox, SessionInput},
    stream::settled,
    uplink::{Counted, Garbled, Uplink},
};

pub(crate) use keyring::Keyring;

/// A server that has been silent for so long is asked whether it is there; servers take silent
/// clients for gone after some minutes more.
const QUIET: Duration = Duration::from_secs(240);
/// How long what is queued may take when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The task's state.
pub(crate) struct Anchor {
    shared: Arc<Shared>,
    owner: Sender<AccountInput>,
    account: AccountJid,
    keyring: Arc<Keyring>,
    id: UplinkId,
    uplink: Uplink,
    /// Stanzas that came before the uplink counted, to be handled first.
    early: Vec<Frame>,
    mailbox: UnboundedReceiver<SessionInput>,
    own_mailbox: UnboundedSender<SessionInput>,
    _registered: Registered,
    /// Nothing has come since.
    quiet_since: Instant,
    has_more: bool,
    /// The stream is that of an earlier process.
    restored: bool,
    /// Who gets the uplink when it is released.
    reclaimed: Option<oneshot::Sender<Uplink>>,
}

/// What every anchor of an account needs.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) shared: Arc<Shared>,
    pub(crate) owner: Sender<AccountInput>,
    pub(crate) keyring: Arc<Keyring>,
}

impl Home {
    /// Replays a login, in a task of its own: the credentials serve once, and what is kept of them
    /// are the keys by which the anchor can come back.
    pub(crate) fn replay(self, account: AccountJid, domain: usize, credentials: Credentials) {
        let tasks = self.shared.tasks.clone();
        let span = info_span!(parent: None, "anchor", %account);
        let replaying = async move {
            let stop = self.shared.stop.clone();
            let anchor = tokio::select! {
                anchor = self.log_in(&account, domain, credentials) => anchor,
                () = stop.cancelled() => None,
            };
            match anchor {
                Some(anchor) => Box::pin(anchor.run(false)).await,
                // The owner lives as long as this sender.
                None => drop(self.owner.send(AccountInput::NoAnchor).await),
            }
        };
        tasks.spawn(replaying.instrument(span));
    }

    /// Gets the anchor of an earlier process back, by the account's keys: its stream, if the server
    /// still has it, or a new one.
    pub(crate) fn restore(self, account: AccountJid, domain: usize, stream: Option<AnchorState>) {
        let tasks = self.shared.tasks.clone();
        let span = info_span!(parent: None, "anchor", %account);
        let jid = stream.as_ref().and_then(|it| FullJid::new(&it.jid).ok());
        let restoring = async move {
            let resource = resource();
            let fallback = account.0.with_resource_str(&resource);
            let Some(jid) = jid.or(fallback.ok()) else {
                return;
            };
            let state = stream.map(|it| {
                let sm = SmState {
                    id: it.previd.into(),
                    location: it.location,
                    max: it.max.and_then(|max| u32::try_from(max.as_secs()).ok()),
                };
                (sm, it.h_in)
            });
            let uplink = Uplink::of_earlier_process(jid, domain, state);
            let mut anchor = Anchor::fresh(&self, uplink, Vec::new());
            anchor.restored = true;
            Box::pin(anchor.run_restored()).await;
        };
        tasks.spawn(restoring.instrument(span));
    }

    async fn log_in(
        &self,
        account: &AccountJid,
        domain: usize,
        credentials: Credentials,
    ) -> Option<Anchor> {
        let (username, authzid) = match &credentials {
            Credentials::Password {
                username, authzid, ..
            }
            | Credentials::Keys {
                username, authzid, ..
            } => (username.clone(), authzid.clone()),
            Credentials::Token { .. } => (String::new(), None),
        };
        let goal = Goal::Bind {
            resource: resource(),
        };
        let (connection, mut established) =
            match log_in(&self.shared, domain, credentials, goal).await {
                Ok(bound) => bound,
                Err(error) => {
                    warn!(%error, "the login could not be replayed");
                    return None;
                }
            };
        let keys = established.keys.take();
        let bound = AccountJid(established.jid.to_bare());
        let (uplink, early) = Uplink::established(connection, established, domain);
        if bound != *account {
            warn!(%bound, "the replayed login is another account's");
            uplink.close().await;
            return None;
        }
        if let Some(keys) = keys {
            self.keyring.keep(Credentials::Keys {
                username,
                authzid,
                keys,
            });
        }
        Some(Anchor::fresh(self, uplink, early))
    }
}

/// A resource for an anchor: nobody else asks for it, and the one of an anchor that the server
/// still keeps is not taken from it (design.md, fact 8).
pub(crate) fn resource() -> String {
    format!("mucplex-{:016x}", rand::random::<u64>())
}

/// Why an anchor is served no more on its connection.
#[derive(Debug)]
enum End {
    /// The hub needs it no more.
    Released,
    /// The process ends.
    Shutdown,
    /// The connection is gone or of no use.
    Lost(String),
    /// The server has ended the stream.
    Ended,
}

type Flow = ControlFlow<End>;

enum Happening {
    Mail(SessionInput),
    Frames,
    Lost(String),
    Deadline,
}

impl Anchor {
    /// An uplink that was not needed for a session, or was bound as an anchor.
    pub(crate) fn fresh(home: &Home, uplink: Uplink, early: Vec<Frame>) -> Self {
        let (own_mailbox, mailbox) = mpsc::unbounded_channel();
        let (_, id) = home.shared.sessions.next_ids();
        let mut anchor = Self::retained(home, id, uplink, (own_mailbox, mailbox));
        anchor.early = early;
        anchor
    }

    /// The uplink of a session that has ended, under the number by which the hub knows it; what it
    /// has sent to it since is in that session's mailbox.
    pub(crate) fn retained(
        home: &Home,
        id: UplinkId,
        uplink: Uplink,
        (own_mailbox, mailbox): Mailbox,
    ) -> Self {
        let Home {
            shared,
            owner,
            keyring,
        } = home.clone();
        let (number, _) = shared.sessions.next_ids();
        Self {
            _registered: shared.sessions.register(number, &own_mailbox),
            account: AccountJid(uplink.jid.to_bare()),
            owner,
            keyring,
            id,
            uplink,
            early: Vec::new(),
            mailbox,
            own_mailbox,
            quiet_since: Instant::now(),
            has_more: true,
            restored: false,
            reclaimed: None,
            shared,
        }
    }

    /// Serves the anchor to its end, in a task of its own. `known`: the hub knows the uplink.
    pub(crate) fn spawn(self, known: bool) {
        let tasks = self.shared.tasks.clone();
        let span = info_span!(parent: None, "anchor", account = %self.account, uplink = %self.id);
        tasks.spawn(self.run(known).instrument(span));
    }

    /// Serves an anchor of an earlier process, if it comes back.
    async fn run_restored(mut self) {
        match self.reconnect().await {
            None => Box::pin(self.run(true)).await,
            Some(_) => self.tell(AccountInput::NoAnchor).await,
        }
    }

    async fn run(mut self, known: bool) {
        if known {
            self.tell_stream().await;
        } else {
            info!(jid = %self.uplink.jid, "anchor bound");
            self.announce().await;
        }
        loop {
            let end = match self.serve().await {
                End::Lost(reason) => {
                    info!(reason, "anchor cut");
                    self.reconnect().await
                }
                End::Ended => {
                    info!("the server has ended the anchor");
                    self.uplink.has_ended();
                    self.reconnect().await
                }
                end @ (End::Released | End::Shutdown) => Some(end),
            };
            match end {
                None => {}
                // Left to be resumed: the server keeps the occupancies for its while.
                Some(End::Shutdown) if self.uplink.is_resumable() => {
                    // What cannot be written is not acknowledged either.
                    let _ = timeout(LAST_WORDS, self.uplink.stream.flush()).await;
                    return;
                }
                Some(End::Released) => {
                    let Some(session) = self.reclaimed.take() else {
                        break;
                    };
                    match session.send(self.uplink) {
                        Ok(()) => info!("anchor's uplink given to a session"),
                        // It has given up.
                        Err(uplink) => uplink.close().await,
                    }
                    return;
                }
                Some(_) => break,
            }
        }
        let uplink = self.id;
        self.tell(AccountInput::UplinkLost { uplink }).await;
        self.uplink.close().await;
        info!("anchor ended");
    }

    /// Tells the owner of an uplink that it does not know.
    async fn announce(&mut self) {
        let bound = AccountInput::AnchorBound {
            uplink: self.id,
            jid: self.uplink.jid.clone(),
            lang: self.uplink.lang.clone(),
            mailbox: self.own_mailbox.clone(),
            restored: self.restored,
        };
        self.tell(bound).await;
        self.tell_stream().await;
    }

    /// Tells how the stream can be resumed, so that it is known after the death of the process.
    async fn tell_stream(&self) {
        let uplink = self.id;
        let stream = self.uplink.resumption().map(|(sm, _)| AnchorState {
            domain: self.account.0.domain().to_string(),
            jid: self.uplink.jid.to_string(),
            previd: sm.id.as_str().to_owned(),
            location: sm.location.clone(),
            // All that has come so far has been told to the owner before this.
            h_in: self.uplink.stream.received().get(),
            max: sm.max.map(|max| Duration::from_secs(u64::from(max))),
            at: SystemTime::now(),
        });
        let stream = stream.map(Box::new);
        self.tell(AccountInput::AnchorStream { uplink, stream })
            .await;
    }

    async fn tell(&self, input: AccountInput) {
        // The owner lives as long as this sender.
        let _ = self.owner.send(input).await;
    }

    async fn serve(&mut self) -> End {
        for frame in std::mem::take(&mut self.early) {
            let (uplink, custody) = (self.id, None);
            self.tell(AccountInput::FromServer {
                uplink,
                frame,
                custody,
            })
            .await;
        }
        let mut alarm = Alarm::default();
        loop {
            let settled = settled(self.uplink.stream.awaited());
            let happening = tokio::select! {
                biased;
                happening = poll_fn(|cx| match self.poll(cx) {
                    Poll::Ready(happening) => Poll::Ready(Some(happening)),
                    Poll::Pending => alarm
                        .poll(cx, Some(self.deadline()))
                        .map(|()| Some(Happening::Deadline)),
                }) => happening,
                () = settled => None,
            };
            let flow = match happening {
                Some(Happening::Mail(input)) => self.mail(input),
                Some(Happening::Frames) => self.frames().await,
                Some(Happening::Lost(reason)) => ControlFlow::Break(End::Lost(reason)),
                Some(Happening::Deadline) => self.deadline_passed(),
                None => ControlFlow::Continue(()),
            };
            if let ControlFlow::Break(end) = flow {
                return end;
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        // The registry holds a sender as long as the anchor lives.
        if let Poll::Ready(Some(input)) = self.mailbox.poll_recv(cx) {
            return Poll::Ready(Happening::Mail(input));
        }
        if self.has_more {
            return Poll::Ready(Happening::Frames);
        }
        match self.uplink.stream.poll_read(cx) {
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Happening::Lost(
                    "closed without an end of the stream".into(),
                ));
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(Happening::Frames),
            Poll::Ready(Err(error)) => return Poll::Ready(Happening::Lost(error.to_string())),
            Poll::Pending => {}
        }
        self.uplink.stream.flush_counts(Instant::now());
        match self.uplink.stream.poll_write(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Happening::Lost(error.to_string())),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    fn deadline(&self) -> Instant {
        let quiet = self.quiet_since + QUIET;
        self.uplink
            .stream
            .deadline()
            .map_or(quiet, |deadline| deadline.min(quiet))
    }

    fn deadline_passed(&mut self) -> Flow {
        let now = Instant::now();
        if self.uplink.stream.is_silent(now) {
            return ControlFlow::Break(End::Lost("the server does not answer".into()));
        }
        if self.quiet_since + QUIET <= now {
            self.quiet_since = now;
            if self.uplink.stream.management().is_some() {
                self.uplink.stream.ask_now(now);
            } else {
                // RFC 6120 4.6.1: a keepalive.
                self.uplink.stream.push(Bytes::from_static(b" "));
            }
        }
        ControlFlow::Continue(())
    }

    fn mail(&mut self, input: SessionInput) -> Flow {
        match input {
            SessionInput::ToServer { stanza, freight } => {
                let limits = &self.shared.server_limits;
                self.uplink.queue(stanza, freight, limits);
            }
            SessionInput::Reclaim(session) => self.reclaimed = Some(session),
            SessionInput::Release => return ControlFlow::Break(End::Released),
            SessionInput::Shutdown => return ControlFlow::Break(End::Shutdown),
            // All that comes on an anchor is the hub's.
            SessionInput::Carry(_)
            // Of the time when the uplink had a session.
            | SessionInput::ToClient { .. }
            | SessionInput::Siblings(_)
            | SessionInput::Replaced
            | SessionInput::Retain(_)
            | SessionInput::Claim(_)
            | SessionInput::Unclaim(_)
            | SessionInput::StreamGone(_)
            | SessionInput::Resume(_)
            | SessionInput::End(..) => {}
        }
        ControlFlow::Continue(())
    }

    async fn frames(&mut self) -> Flow {
        self.quiet_since = Instant::now();
        for _ in 0..FRAMES_PER_TURN {
            self.has_more = true;
            match self.uplink.stream.next_event() {
                Ok(Some(Event::Frame(frame))) => self.frame(frame).await?,
                Ok(Some(Event::Whitespace(_))) => {}
                Ok(Some(Event::End)) => return ControlFlow::Break(End::Ended),
                Ok(Some(Event::Header(_))) => {
                    return self.garbled(StreamErrorCondition::BadFormat);
                }
                Ok(None) => {
                    self.has_more = false;
                    return ControlFlow::Continue(());
                }
                Err(error) => return self.garbled(error.condition()),
            }
        }
        ControlFlow::Continue(())
    }

    fn garbled(&mut self, condition: StreamErrorCondition) -> Flow {
        self.uplink.stream.push(condition.to_xml(None));
        ControlFlow::Break(End::Lost("its stream cannot be read on".into()))
    }

    async fn frame(&mut self, frame: Frame) -> Flow {
        match self.uplink.counts(&frame) {
            Some(Ok(Counted::Begun)) => {
                self.tell_stream().await;
                return ControlFlow::Continue(());
            }
            Some(Ok(Counted::Done | Counted::Asks)) => return ControlFlow::Continue(()),
            Some(Err(Garbled(error))) => {
                self.uplink.stream.push(error);
                return ControlFlow::Break(End::Ended);
            }
            None => {}
        }
        match frame.kind() {
            Kind::Message | Kind::Presence | Kind::Iq => {
                let custody = self.uplink.stream.receive(&frame);
                let (uplink, frame) = (self.id, frame.portable());
                self.tell(AccountInput::FromServer {
                    uplink,
                    frame,
                    custody,
                })
                .await;
            }
            Kind::StreamError => {
                info!("the server ends the anchor with an error");
                return ControlFlow::Break(End::Ended);
            }
            Kind::StreamFeatures | Kind::Nonza => {}
        }
        ControlFlow::Continue(())
    }
}
