//! The bound session: what arrives on either socket, or from the account's owner, goes where it
//! belongs.
//!
//! ```text
//!            ┌ Direct ────────────────────────────┐
//! client ────┤                                    ├──▶ uplink's outbox ──▶ server
//!            └ Hub ──▶ account's owner ──▶ mailbox┘
//! ```
//! and the same the other way. Reads go before writes: while both peers have more, stanzas gather
//! in the outboxes and leave together; when reads run dry, or enough has gathered, they are
//! written.
//!
//! What bounds memory:
//! - The client is not read while more than [`WAITING`] bytes wait for the server, or more than
//!   [`IN_FLIGHT`] bytes of it are on their way through the hub.
//! - The uplink is not read while half of the outbox's bound waits for the client, unless it
//!   carries rooms and the account has other sessions: then their traffic comes on it, and it is
//!   always read.
//! - What cannot be held back, room traffic for this client, ends the session at the bound
//!   (`resource-constraint`).

use std::{
    future::{pending, poll_fn},
    ops::ControlFlow,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use jid::FullJid;
use mucplex_muc::{AccountJid, Csi, RouteSettings, Routes, SessionId, UplinkId};
use mucplex_net::{Budget, Charge, Connection};
use mucplex_stream::{ContentNamespace, stream_end};
use mucplex_xml::{Frame, Outgoing, StreamErrorCondition};
use tokio::{
    sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender},
    time::{Instant, sleep_until},
};
use tracing::{Instrument as _, debug, info, warn};

use super::{CLOSING, SessionInput, login::LoggedIn};
use crate::{account::AccountInput, server::Shared};

/// What may wait for the server before the client is no longer read.
const WAITING: usize = 64 * 1024;
/// What of one client may be on its way through the hub before the client is no longer read.
const IN_FLIGHT: usize = 64 * 1024;
/// The part of the outbox's bound that may be held for an inactive client: by itself it neither
/// keeps the uplink from being read nor tells the account's owner to be slow.
const HELD_SHARE: usize = 8;
/// So much is written even while there is more to read.
const WRITE_BATCH: usize = 16 * 1024;
/// Frames taken from one side before the others have their turn.
pub(super) const FRAMES_PER_TURN: usize = 64;
/// How long the hub may keep an uplink whose client has gone, or a client's unavailable.
const RELEASE: Duration = Duration::from_secs(15);
/// How long the server may take to answer `</stream:stream>`.
const SERVER_END: Duration = Duration::from_secs(3);

/// A session and its two connections.
pub(super) struct Steady {
    pub(super) shared: Arc<Shared>,
    pub(super) session: SessionId,
    pub(super) uplink_id: UplinkId,
    /// Bare JID.
    pub(super) own_bare: String,
    pub(super) routes: Routes,
    /// Everything for the client goes through here; what it holds is charged to `owed` all the
    /// while.
    pub(super) csi: Csi<Charge>,
    /// `None` once it is gone, or on its own way to its end.
    pub(super) client: Option<Connection>,
    pub(super) uplink: Connection,
    pub(super) account: Sender<AccountInput>,
    pub(super) phase: Phase,
    /// What waits for the client, here and in the mailbox.
    pub(super) owed: Arc<Budget>,
    /// What of the client is on its way through the hub.
    pub(super) in_flight: Arc<Budget>,
    /// The framer may hold another frame.
    pub(super) client_has_more: bool,
    pub(super) uplink_has_more: bool,
    /// How the uplink's stream declares `jabber:client`.
    content: ContentNamespace,
    /// Other sessions of the account may live by what this uplink carries.
    pub(super) has_siblings: bool,
    /// Stanzas of the server that had no reader and no sender to be told.
    pub(super) undelivered: usize,
    mailbox: UnboundedReceiver<SessionInput>,
    jid: FullJid,
    client_lang: Option<String>,
    /// When the phase has lasted too long.
    deadline: Option<Instant>,
    turn: u8,
}

/// How far the session is. Each has a limit in time but the first.
#[derive(Debug)]
pub(super) enum Phase {
    /// Both sides talk.
    Open,
    /// The client's undirected unavailable waits for the hub to release the uplink, and its input
    /// with it.
    Withholding(Frame),
    /// The client is done; the uplink waits for the hub to release it. With the stanza that was
    /// withheld.
    Releasing(Option<Frame>),
    /// `</stream:stream>` was sent to the server, whose own is awaited.
    Ending,
}

/// How the session ends for a client that is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// `</stream:stream>`.
    End,
    /// A stream error before it.
    Error(StreamErrorCondition, &'static str),
}

/// On with the session, or its end.
pub(super) type Flow = ControlFlow<Farewell>;

/// What there is to do next.
enum Event {
    Mail(SessionInput),
    ClientFrames,
    ClientLost(String),
    UplinkFrames,
    UplinkLost(String),
    Deadline,
    /// Something that waited may go on.
    Relieved,
}

impl Steady {
    pub(super) fn new(
        shared: Arc<Shared>,
        session: SessionId,
        uplink_id: UplinkId,
        logged_in: LoggedIn,
        mailbox: UnboundedReceiver<SessionInput>,
    ) -> Self {
        let LoggedIn {
            client,
            uplink,
            bound,
        } = logged_in;
        let account_jid = AccountJid(bound.jid.to_bare());
        let route_settings = RouteSettings {
            server_csi: bound.login.server_csi,
            passthrough: shared.passthrough.clone(),
        };
        Self {
            account: shared.accounts.owner(&account_jid),
            owed: Budget::new(shared.outbox_bytes),
            in_flight: Budget::new(IN_FLIGHT),
            session,
            uplink_id,
            own_bare: account_jid.to_string(),
            routes: Routes::new(bound.jid.clone(), route_settings),
            csi: Csi::new(&bound.jid, shared.outbox_bytes / HELD_SHARE),
            client: Some(client),
            uplink,
            phase: Phase::Open,
            // The login may have left frames behind.
            client_has_more: true,
            uplink_has_more: true,
            undelivered: 0,
            mailbox,
            content: bound.login.content,
            has_siblings: false,
            jid: bound.jid,
            client_lang: bound.login.client_lang,
            deadline: None,
            turn: 0,
            shared,
        }
    }

    /// Runs the session to its end. `sender` is that of its own mailbox, for the account's owner.
    pub(super) async fn run(mut self, sender: UnboundedSender<SessionInput>) {
        let bound = AccountInput::Bound {
            session: self.session,
            uplink: self.uplink_id,
            jid: self.jid.clone(),
            client_lang: self.client_lang.take(),
            mailbox: sender,
            owed: Arc::clone(&self.owed),
        };
        let mut flow = self.tell(bound).await;
        let farewell = loop {
            if let ControlFlow::Break(farewell) = flow {
                break farewell;
            }
            let event = self.next_event().await;
            flow = self.handle(event).await;
        };
        self.finish(farewell).await;
    }

    async fn handle(&mut self, event: Event) -> Flow {
        match event {
            Event::Mail(input) => self.mail(input).await,
            Event::ClientFrames => self.client_frames().await,
            Event::ClientLost(reason) => self.client_lost(&reason).await,
            Event::UplinkFrames => self.uplink_frames().await,
            Event::UplinkLost(reason) => self.uplink_lost(&reason),
            Event::Deadline => self.too_late(),
            Event::Relieved => Flow::Continue(()),
        }
    }

    async fn next_event(&mut self) -> Event {
        // Asked before the client is polled: what is given back from now on wakes this task, even
        // before it waits.
        let held_back = self.in_flight.is_over();
        let in_flight = Arc::clone(&self.in_flight);
        let relieved = async {
            if held_back {
                in_flight.relieved().await;
            } else {
                pending::<()>().await;
            }
        };
        let deadline = self.deadline;
        let late = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            event = poll_fn(|cx| self.poll_event(cx)) => event,
            () = relieved => Event::Relieved,
            () = late => Event::Deadline,
        }
    }

    /// Reads go first and take turns; writes follow when there is nothing to read or enough to
    /// write.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.queued() >= WRITE_BATCH
            && let Some(lost) = self.write(cx)
        {
            return Poll::Ready(lost);
        }
        loop {
            for _ in 0..3 {
                self.turn = (self.turn + 1) % 3;
                let event = match self.turn {
                    0 => self.poll_mail(cx),
                    1 => self.poll_client(cx),
                    _ => self.poll_uplink(cx),
                };
                if event.is_ready() {
                    return event;
                }
            }
            let gates = (self.client_may_go_on(), self.uplink_may_go_on());
            if let Some(lost) = self.write(cx) {
                return Poll::Ready(lost);
            }
            // A side that was held back until something is written has asked for no wake-up.
            if gates == (self.client_may_go_on(), self.uplink_may_go_on()) {
                return Poll::Pending;
            }
        }
    }

    fn poll_mail(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // The registry holds a sender as long as the session lives.
        match self.mailbox.poll_recv(cx) {
            Poll::Ready(Some(input)) => Poll::Ready(Event::Mail(input)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.client_may_go_on() {
            return Poll::Pending;
        }
        let Some(client) = &mut self.client else {
            return Poll::Pending;
        };
        if self.client_has_more {
            return Poll::Ready(Event::ClientFrames);
        }
        client.poll_read(cx).map(|read| match read {
            Ok(0) => Event::ClientLost("closed without an end of the stream".to_owned()),
            Ok(_) => Event::ClientFrames,
            Err(error) => Event::ClientLost(error.to_string()),
        })
    }

    fn poll_uplink(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.uplink_may_go_on() {
            return Poll::Pending;
        }
        if self.uplink_has_more {
            return Poll::Ready(Event::UplinkFrames);
        }
        self.uplink.poll_read(cx).map(|read| match read {
            Ok(0) => Event::UplinkLost("closed without an end of the stream".to_owned()),
            Ok(_) => Event::UplinkFrames,
            Err(error) => Event::UplinkLost(error.to_string()),
        })
    }

    /// Bytes that wait for either socket.
    fn queued(&self) -> usize {
        let client = self
            .client
            .as_ref()
            .map_or(0, |client| client.outbox().queued());
        client.max(self.uplink.outbox().queued())
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        if let Some(client) = &mut self.client
            && let Poll::Ready(Err(error)) = client.poll_write(cx)
        {
            return Some(Event::ClientLost(error.to_string()));
        }
        match self.uplink.poll_write(cx) {
            Poll::Ready(Err(error)) => Some(Event::UplinkLost(error.to_string())),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    pub(super) fn client_may_go_on(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && self.client.is_some()
            && self.uplink.outbox().queued() <= WAITING
            && !self.in_flight.is_over()
    }

    pub(super) fn uplink_may_go_on(&self) -> bool {
        self.client.is_none()
            || (self.routes.carries() && self.has_siblings)
            || self.owed.used() <= self.owed.bound() / 2
    }

    /// Tells the account's owner. It waits for nobody, so this wait is short.
    pub(super) async fn tell(&self, input: AccountInput) -> Flow {
        match self.account.send(input).await {
            Ok(()) => Flow::Continue(()),
            Err(_) => Flow::Break(Farewell::Error(
                StreamErrorCondition::InternalServerError,
                "the account's state was lost",
            )),
        }
    }

    /// Queues for the server what the proxy or another session has written: it takes
    /// `jabber:client` for the default namespace, which it is on nearly every stream.
    pub(super) fn queue_for_server(&mut self, stanza: impl Into<Outgoing>, charge: Option<Charge>) {
        let mut stanza = stanza.into();
        if self.content != ContentNamespace::Default
            && let Ok(frame) = Frame::parse(stanza.to_bytes(), &self.shared.server_limits)
        {
            stanza = frame.declaring_client();
        }
        self.uplink.outbox_mut().push_charged(stanza, charge);
    }

    /// Enters a phase that must not last for ever.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.deadline = match phase {
            Phase::Open => None,
            Phase::Withholding(_) | Phase::Releasing(_) => Some(Instant::now() + RELEASE),
            Phase::Ending => Some(Instant::now() + SERVER_END),
        };
        self.phase = phase;
    }

    /// The client is done or gone: its rooms are handed over before the uplink may end.
    pub(super) async fn release(&mut self) -> Flow {
        let withheld = match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Open => None,
            Phase::Withholding(frame) => Some(frame),
            phase @ (Phase::Releasing(_) | Phase::Ending) => {
                self.phase = phase;
                return Flow::Continue(());
            }
        };
        self.enter(Phase::Releasing(withheld));
        self.tell(AccountInput::Ended {
            session: self.session,
        })
        .await
    }

    /// The uplink is free: what was withheld goes out, and the end of a client that is done.
    pub(super) fn released(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Open => {}
            Phase::Withholding(frame) => {
                self.uplink.outbox_mut().push(&frame);
                self.enter(Phase::Open);
            }
            Phase::Releasing(withheld) => {
                if let Some(frame) = withheld {
                    self.uplink.outbox_mut().push(&frame);
                }
                self.uplink.outbox_mut().push(stream_end());
                self.enter(Phase::Ending);
            }
            Phase::Ending => self.phase = Phase::Ending,
        }
    }

    fn too_late(&mut self) -> Flow {
        match self.phase {
            Phase::Open => self.enter(Phase::Open),
            Phase::Withholding(_) | Phase::Releasing(_) => {
                warn!("the uplink was not released in time");
                self.released();
            }
            Phase::Ending => {
                debug!("the server does not end its stream");
                return Flow::Break(Farewell::End);
            }
        }
        Flow::Continue(())
    }

    /// Lets a client that is still there go with what it is owed, on its own time.
    pub(super) fn dismiss_client(&mut self, farewell: Farewell) {
        self.flush_held();
        let Some(mut client) = self.client.take() else {
            return;
        };
        if let Farewell::Error(condition, text) = farewell {
            info!(condition = condition.name(), text, "client ended");
            client.outbox_mut().push(condition.to_xml(Some(text)));
        }
        client.outbox_mut().push(stream_end());
        let closing = async move {
            let unsent = client.close(CLOSING).await;
            if unsent > 0 {
                debug!(unsent, "the client did not take its last bytes");
            }
        };
        self.shared.tasks.spawn(closing.in_current_span());
    }

    /// The end of the session, whatever it came from.
    async fn finish(mut self, farewell: Farewell) {
        self.dismiss_client(farewell);
        // An owner that is gone needs no telling.
        let _ = self
            .tell(AccountInput::UplinkLost {
                uplink: self.uplink_id,
            })
            .await;
        if !matches!(self.phase, Phase::Ending) {
            self.uplink.outbox_mut().push(stream_end());
        }
        let unsent = self.uplink.close(CLOSING).await;
        info!(unsent, undelivered = self.undelivered, "session ended");
    }
}
