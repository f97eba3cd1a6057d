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
    collections::VecDeque,
    future::{pending, poll_fn},
    ops::ControlFlow,
    sync::Arc,
    task::{Context, Poll},
};

use mucplex_muc::{AccountJid, Csi, RouteSettings, Routes, SessionId, UplinkId};
use mucplex_net::{Budget, Freight, Outbox};
use mucplex_store::SessionJournal;
use mucplex_stream::Credentials;
use mucplex_xml::{Frame, Outgoing, StreamErrorCondition};
use tokio::{
    sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Mailbox, SessionInput,
    begun::Begun,
    sleep::{Asleep, Claim, Resumption},
};
use crate::{
    account::AccountInput,
    alarm::Alarm,
    anchor::Home,
    registry::Accounts,
    server::Shared,
    stream::{Stream, settled},
    uplink::Uplink,
};

/// What may wait for the server before the client is no longer read.
const WAITING: usize = 64 * 1024;
/// What of one client may be on its way through the hub before the client is no longer read.
const IN_FLIGHT: usize = 64 * 1024;
/// The part of the outbox's bound that may be held for an inactive client: by itself it neither
/// keeps the uplink from being read nor tells the account's owner to be slow.
pub(super) const HELD_SHARE: usize = 8;
/// So much is written even while there is more to read.
const WRITE_BATCH: usize = 16 * 1024;
/// Frames taken from one side before the others have their turn.
pub(crate) const FRAMES_PER_TURN: usize = 64;

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
    pub(super) csi: Csi<Freight>,
    /// `None` once it is gone, or on its own way to its end.
    pub(super) client: Option<Stream>,
    pub(super) uplink: Uplink,
    /// How the client can resume the session.
    pub(super) resumption: Option<Resumption>,
    /// The client is away and may resume.
    pub(super) asleep: Option<Asleep>,
    /// The login that is about to resume the session.
    pub(super) claimed: Option<u64>,
    /// Those that want to do so after it.
    pub(super) claims: VecDeque<Claim>,
    /// The hub has released the uplink meanwhile.
    pub(super) released_while_claimed: bool,
    pub(super) account: Sender<AccountInput>,
    pub(super) phase: Phase,
    /// What waits for the client, here and in the mailbox.
    pub(super) owed: Arc<Budget>,
    /// What of the client is on its way through the hub.
    pub(super) in_flight: Arc<Budget>,
    /// The framer may hold another frame.
    pub(super) client_has_more: bool,
    pub(super) uplink_has_more: bool,
    /// Other sessions of the account may live by what this uplink carries.
    pub(super) has_siblings: bool,
    /// The client has ended its stream.
    pub(super) client_ended: bool,
    /// What the client has been sent is noted here before it is written.
    pub(super) journal: Option<SessionJournal>,
    /// The latest mark of what it has, as it was noted.
    pub(super) noted: u64,
    /// The latest mark of what a client has had that was lost.
    pub(super) served: Option<u64>,
    /// Another session has bound the same full JID: the server ends this one.
    pub(super) replaced: bool,
    /// The uplink stays as the account's anchor.
    pub(super) retained: Option<Home>,
    /// Stanzas of the server that had no reader and no sender to be told.
    pub(super) undelivered: usize,
    /// The headers of both streams belong together, as far as they declare what stanzas use: those
    /// of a client that has resumed are of different times.
    pub(super) streams_match: bool,
    /// The session was available (RFC 6121 4.2) when its client was last heard of.
    pub(super) available: bool,
    /// The client has said that nobody looks at it (XEP-0352).
    pub(super) inactive: bool,
    /// What a client that is gone does not have. The server is not told that it is handled, so
    /// that it does with it what it does for any lost client.
    pub(super) departed: Option<Box<Outbox>>,
    /// Messages that have come since.
    pub(super) unread: Vec<(Frame, Freight)>,
    /// Cancelled when the uplink tells the server nothing any more.
    pub(super) over: CancellationToken,
    _over: DropGuard,
    /// What the client has logged in with, until the account's owner has it.
    credentials: Option<Credentials>,
    pub(super) mailbox: UnboundedReceiver<SessionInput>,
    pub(super) own_mailbox: UnboundedSender<SessionInput>,
    /// When the phase has lasted too long.
    pub(super) deadline: Option<Instant>,
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
    /// A peer can be told of more that is handled.
    Settled,
    /// Something that waited may go on.
    Relieved,
}

impl Steady {
    pub(super) fn new(
        shared: Arc<Shared>,
        session: SessionId,
        uplink_id: UplinkId,
        begun: Begun,
        (own_mailbox, mailbox): Mailbox,
    ) -> Self {
        let Begun {
            client,
            uplink,
            mut login,
            streams_match,
        } = begun;
        let over = CancellationToken::new();
        let credentials = login.credentials.take();
        let account_jid = AccountJid(uplink.jid.to_bare());
        let route_settings = RouteSettings {
            server_csi: login.server_csi,
            passthrough: shared.passthrough.clone(),
        };
        Self {
            account: Accounts::owner(&shared, &account_jid),
            owed: Budget::new(shared.outbox_bytes),
            in_flight: Budget::new(IN_FLIGHT),
            session,
            uplink_id,
            own_bare: account_jid.to_string(),
            routes: Routes::new(uplink.jid.clone(), route_settings),
            csi: Csi::new(&uplink.jid, shared.outbox_bytes / HELD_SHARE),
            client: Some(Stream::new(client)),
            uplink,
            resumption: None,
            asleep: None,
            claimed: None,
            claims: VecDeque::new(),
            released_while_claimed: false,
            phase: Phase::Open,
            // The login may have left frames behind.
            client_has_more: true,
            uplink_has_more: true,
            client_ended: false,
            journal: None,
            noted: 0,
            served: None,
            replaced: false,
            retained: None,
            undelivered: 0,
            streams_match,
            available: false,
            inactive: false,
            departed: None,
            unread: Vec::new(),
            _over: over.clone().drop_guard(),
            over,
            credentials,
            mailbox,
            own_mailbox,
            has_siblings: false,
            deadline: None,
            turn: 0,
            shared,
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self) {
        let mut alarm = Alarm::default();
        let bound = AccountInput::Bound {
            session: self.session,
            uplink: self.uplink_id,
            jid: self.uplink.jid.clone(),
            client_lang: self.uplink.lang.clone(),
            mailbox: self.own_mailbox.clone(),
            owed: Arc::clone(&self.owed),
            domain: self.uplink.domain,
            credentials: self.credentials.take(),
        };
        let mut flow = self.tell(bound).await;
        let farewell = loop {
            if let ControlFlow::Break(farewell) = flow {
                break farewell;
            }
            let event = self.next_event(&mut alarm).await;
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
            Event::UplinkLost(reason) => self.uplink_lost(&reason).await,
            Event::Deadline => self.deadline_passed().await,
            Event::Relieved | Event::Settled => Flow::Continue(()),
        }
    }

    async fn next_event(&mut self, alarm: &mut Alarm) -> Event {
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
        let client_settled = settled(self.client.as_ref().and_then(Stream::awaited));
        let uplink_settled = settled(self.uplink.stream.awaited());
        tokio::select! {
            biased;
            event = poll_fn(|cx| match self.poll_event(cx) {
                Poll::Ready(event) => Poll::Ready(event),
                Poll::Pending => alarm.poll(cx, self.next_deadline()).map(|()| Event::Deadline),
            }) => event,
            () = relieved => Event::Relieved,
            () = client_settled => Event::Settled,
            () = uplink_settled => Event::Settled,
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
        self.uplink.stream.poll_read(cx).map(|read| match read {
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
        client.max(self.uplink.stream.outbox().queued())
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        let now = Instant::now();
        if let Some(client) = &mut self.client {
            client.flush_counts(now);
        }
        self.note_marks();
        if let Some(client) = &mut self.client
            && let Poll::Ready(Err(error)) = client.poll_write(cx)
        {
            return Some(Event::ClientLost(error.to_string()));
        }
        // Behind the write to the client, which settles what a client that does not count was sent.
        self.uplink.stream.flush_counts(now);
        match self.uplink.stream.poll_write(cx) {
            Poll::Ready(Err(error)) => Some(Event::UplinkLost(error.to_string())),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    pub(super) fn client_may_go_on(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && self.asleep.is_none()
            && self.client.is_some()
            && self.uplink.stream.outbox().queued() <= WAITING
            && !self.in_flight.is_over()
    }

    pub(super) fn uplink_may_go_on(&self) -> bool {
        self.client.is_none()
            || (self.routes.carries() && self.has_siblings)
            || self.owed.used() <= self.owed.bound() / 2
    }

    /// The earliest of all that can become late.
    fn next_deadline(&self) -> Option<Instant> {
        let client = self.client.as_ref().and_then(Stream::deadline);
        let asleep = self.asleep_deadline();
        [self.deadline, client, self.uplink.stream.deadline(), asleep]
            .into_iter()
            .flatten()
            .min()
    }

    /// Something is late, or may be: the timer is not moved back.
    async fn deadline_passed(&mut self) -> Flow {
        let now = Instant::now();
        let (client_heard, uplink_heard) = (self.client_may_go_on(), self.uplink_may_go_on());
        if let Some(client) = self.client.as_mut().filter(|it| it.is_silent(now)) {
            if client_heard {
                self.client_lost("does not acknowledge anything").await?;
            } else {
                client.excuse(now);
            }
        }
        if self.uplink.stream.is_silent(now) {
            if uplink_heard {
                return self.uplink_lost("does not acknowledge anything").await;
            }
            self.uplink.stream.excuse(now);
        }
        self.asleep_too_long(now).await?;
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return self.too_late();
        }
        Flow::Continue(())
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

    /// Queues for the server what the proxy or another session has written.
    pub(super) fn queue_for_server(&mut self, stanza: impl Into<Outgoing>, freight: Freight) {
        let limits = &self.shared.server_limits;
        self.uplink.queue(stanza, freight, limits);
    }
}
