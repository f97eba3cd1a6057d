//! The way to a bound session: carries out what [`Login`] decides, on two connections.

use std::{
    future::poll_fn,
    io,
    ops::ControlFlow,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use jid::BareJid;
use mucplex_muc::{AccountJid, SessionId};
use mucplex_net::Connection;
use mucplex_store::Device;
use mucplex_stream::{
    Attach, BindDecision, Bound, DialFailure, Found, Input, ListenerTls, Login, Output, Resumed,
    sm::{Count, SmId},
};
use mucplex_xml::StreamErrorCondition;
use tokio::{
    sync::mpsc::{Sender, UnboundedReceiver},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info};

use super::{
    CLOSING, SessionInput, TLS_HANDSHAKE,
    begun::{AttachedLogin, BoundLogin, is_held},
    claim::PendingClaim,
};
use crate::{account::AccountInput, anchor, registry::Accounts, server::Shared, upstream};

/// How long a client may take from its connection to its bound session, its own thinking included.
const LOGIN: Duration = Duration::from_secs(60);
/// How long it may take to open a connection to the server, names and all addresses included.
const DIAL: Duration = Duration::from_secs(15);
/// What may wait for a peer during a login before the other one is no longer listened to.
const WAITING: usize = 64 * 1024;
/// What is read from a peer whose turn it is not.
const AHEAD: usize = 16 * 1024;

/// What a login has led to.
pub(super) enum LoggedIn {
    Bound(Box<BoundLogin>),
    Attached(Box<AttachedLogin>),
}

/// A login under way.
pub(super) struct LoginTask<'a> {
    shared: &'a Arc<Shared>,
    login: Login,
    /// Absent only while a handshake has it, or after one that failed.
    client: Option<Connection>,
    uplink: Option<Connection>,
    /// Of the server that was dialed.
    domain: Option<usize>,
    mailbox: &'a mut UnboundedReceiver<SessionInput>,
    deadline: Instant,
    client_ended: bool,
    uplink_ended: bool,
    /// The session that the client wants to resume.
    claim: Option<PendingClaim>,
    /// The one of which the server knows no more.
    gone: Option<PendingClaim>,
    /// The owner of the account whose anchor has the resource that the client asks for.
    holder: Option<Sender<AccountInput>>,
}

/// What a step of a login leads to: the next one, or its end, one way or the other.
type Step = ControlFlow<Option<LoggedIn>>;

/// Why something that takes time was cut short.
struct Interrupted(StreamErrorCondition, &'static str);

impl<'a> LoginTask<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        client: Connection,
        listener: ListenerTls,
        session: SessionId,
        mailbox: &'a mut UnboundedReceiver<SessionInput>,
    ) -> Self {
        // Unpredictable (RFC 6120 4.7.3), and different for every session whatever the source does.
        let stream_id = format!("{:x}-{:016x}", session.0, rand::random::<u64>());
        Self {
            shared,
            login: Login::new(Arc::clone(&shared.domains), listener, stream_id),
            client: Some(client),
            uplink: None,
            domain: None,
            mailbox,
            deadline: Instant::now() + LOGIN,
            client_ended: false,
            uplink_ended: false,
            claim: None,
            gone: None,
            holder: None,
        }
    }

    /// Runs the login to its end; `None` when it led nowhere.
    pub(super) async fn run(mut self) -> Option<LoggedIn> {
        loop {
            while let Some(output) = self.login.poll_output() {
                if let ControlFlow::Break(end) = self.perform(output).await {
                    return end;
                }
            }
            if let Some(input) = self.next_input() {
                self.login.handle(input);
            } else {
                self.wait().await;
            }
        }
    }

    async fn perform(&mut self, output: Output) -> Step {
        match output {
            Output::ToClient(bytes) => {
                if let Some(client) = &mut self.client {
                    client.outbox_mut().push(bytes);
                }
            }
            Output::ToServer(bytes) => {
                if let Some(uplink) = &mut self.uplink {
                    uplink.outbox_mut().push(bytes);
                }
            }
            Output::SecureClient { domain } => self.secure_client(domain).await,
            Output::Dial { domain } => self.dial(domain).await,
            Output::SecureUplink => self.secure_uplink().await,
            Output::RestartClient => {
                if let Some(client) = &mut self.client {
                    client.framer_mut().restart();
                }
            }
            Output::RestartServer => {
                if let Some(uplink) = &mut self.uplink {
                    uplink.framer_mut().restart();
                }
            }
            Output::FindSession { previd, h } => self.find_session(&previd, h).await,
            Output::SessionGone { .. } => self.gone = self.claim.take(),
            Output::Resumed(resumed) => {
                self.resume(resumed);
                return ControlFlow::Break(None);
            }
            Output::BindRequested {
                resource,
                username_hint,
            } => {
                let decision = self.decide_bind(resource, username_hint).await;
                self.login.handle(Input::BindDecision(decision));
            }
            Output::Attach(attach) => return ControlFlow::Break(self.attach(attach)),
            Output::Bound(bound) => return ControlFlow::Break(self.bound(bound)),
            Output::Close { reason } => {
                // Connections that only knock (probes, scanners) are no news.
                match self.domain {
                    Some(_) => info!(reason, "login ended"),
                    None => debug!(reason, "login ended"),
                }
                self.close().await;
                return ControlFlow::Break(None);
            }
        }
        ControlFlow::Continue(())
    }

    fn bound(&mut self, bound: Bound) -> Option<LoggedIn> {
        let client = self.client.take()?;
        let uplink = self.uplink.take()?;
        if let Some(claim) = self.gone.take() {
            claim.stream_gone(&bound.jid.to_bare());
        }
        info!(
            jid = %bound.jid,
            mechanism = bound.login.mechanism,
            client_tls = client.is_secured(),
            uplink_tls = uplink.is_secured(),
            "session bound"
        );
        Some(LoggedIn::Bound(Box::new(BoundLogin {
            client,
            uplink,
            bound,
        })))
    }

    /// Whether the client asks for the resource of its account's anchor. Who it is it has only said
    /// so far; what it gets depends on what the server says.
    async fn decide_bind(
        &mut self,
        resource: Option<String>,
        username: Option<String>,
    ) -> BindDecision {
        let domain = self
            .domain
            .and_then(|domain| self.shared.domains.get(domain));
        let (Some(resource), Some(username), Some(domain)) = (resource, username, domain) else {
            return BindDecision::Pass;
        };
        let Ok(account) = BareJid::new(&format!("{username}@{}", domain.name)) else {
            return BindDecision::Pass;
        };
        let Some(owner) = Accounts::find(self.shared, &AccountJid(account.clone())) else {
            return BindDecision::Pass;
        };
        if !is_held(&owner, &resource).await {
            return BindDecision::Pass;
        }
        self.holder = Some(owner);
        BindDecision::Proxy {
            resource: anchor::resource(),
            account,
        }
    }

    fn attach(&mut self, attach: Attach) -> Option<LoggedIn> {
        if let Some(claim) = self.gone.take() {
            claim.stream_gone(&attach.spare.jid.to_bare());
        }
        Some(LoggedIn::Attached(Box::new(AttachedLogin {
            client: self.client.take()?,
            uplink: self.uplink.take()?,
            attach,
            owner: self.holder.take()?,
        })))
    }

    /// Claims the session that the client wants back.
    async fn find_session(&mut self, previd: &SmId, h: Count) {
        (self.claim, self.gone) = (None, None);
        let claiming = PendingClaim::make(&self.shared.sessions, previd, h);
        let claimed = tokio::select! {
            claimed = claiming => claimed,
            Interrupted(condition, text) = interruption(self.mailbox, self.deadline) => {
                self.login.handle(Input::Abort(condition, text));
                return;
            }
        };
        let found = match claimed {
            Some((claim, found)) => {
                self.claim = Some(claim);
                found
            }
            None => {
                self.tell_served(previd, h).await;
                Found::Unknown { h: None }
            }
        };
        self.login.handle(Input::SessionFound(found));
    }

    /// A client tells how much it has received of a session that is no more: what it gets when it
    /// joins its rooms again goes on from there.
    async fn tell_served(&self, previd: &SmId, h: Count) {
        let Some(lost) = self.shared.sessions.recall(previd) else {
            return;
        };
        let number = lost.mark_at(h.get());
        let Device {
            account, resource, ..
        } = lost.device;
        let owner = Accounts::owner(self.shared, &AccountJid(account));
        // An owner that ends at this moment keeps nothing that this could be about.
        let _ = owner.send(AccountInput::Served { resource, number }).await;
    }

    /// Both connections go to the session that the client has resumed.
    fn resume(&mut self, resumed: Resumed) {
        let (Some(client), Some(uplink)) = (self.client.take(), self.uplink.take()) else {
            return;
        };
        if let Some(claim) = self.claim.take() {
            claim.resume(client, uplink, resumed);
        }
    }

    async fn close(&mut self) {
        if self.claim.as_ref().is_some_and(PendingClaim::resumes) {
            // An end of the stream could be that of the session's.
            self.uplink = None;
        }
        let (client, uplink) = (self.client.take(), self.uplink.take());
        tokio::join!(close(client), close(uplink));
    }

    async fn secure_client(&mut self, domain: usize) {
        let (Some(client), Some(config)) = (self.client.take(), self.shared.tls.starttls(domain))
        else {
            self.login.handle(Input::ClientClosed);
            return;
        };
        let input = match self
            .guarded(TLS_HANDSHAKE, client.secure_as_server(config))
            .await
        {
            Ok(Ok(client)) => {
                self.client = Some(client);
                Input::ClientSecured
            }
            Ok(Err(error)) => {
                debug!(%error, "the client's TLS handshake failed");
                Input::ClientClosed
            }
            Err(Interrupted(condition, text)) => Input::Abort(condition, text),
        };
        self.login.handle(input);
    }

    async fn dial(&mut self, domain: usize) {
        self.domain = Some(domain);
        let shared = Arc::clone(self.shared);
        let input = match self.guarded(DIAL, upstream::open(&shared, domain)).await {
            Ok(Ok(uplink)) => {
                self.uplink = Some(uplink);
                Input::UplinkOpen
            }
            Ok(Err(error)) => Input::UplinkFailed(DialFailure(error.to_string())),
            Err(Interrupted(condition, text)) => Input::Abort(condition, text),
        };
        self.login.handle(input);
    }

    async fn secure_uplink(&mut self) {
        let (Some(uplink), Some(domain)) = (self.uplink.take(), self.domain) else {
            return;
        };
        let shared = Arc::clone(self.shared);
        let handshake = upstream::secure(&shared, domain, uplink);
        let input = match self.guarded(TLS_HANDSHAKE, handshake).await {
            Ok(Ok(uplink)) => {
                self.uplink = Some(uplink);
                Input::UplinkSecured
            }
            Ok(Err(error)) => {
                Input::UplinkFailed(DialFailure(format!("TLS with the server: {error}")))
            }
            Err(Interrupted(condition, text)) => Input::Abort(condition, text),
        };
        self.login.handle(input);
    }

    /// Runs `step`, but not beyond its own limit, the login's deadline, or a word from outside.
    async fn guarded<T>(
        &mut self,
        limit: Duration,
        step: impl Future<Output = io::Result<T>>,
    ) -> Result<io::Result<T>, Interrupted> {
        tokio::select! {
            done = timeout(limit, step) => Ok(done.unwrap_or_else(|late| Err(late.into()))),
            interrupted = interruption(self.mailbox, self.deadline) => Err(interrupted),
        }
    }

    /// The next event whose turn it is, or the end of a peer.
    fn next_input(&mut self) -> Option<Input> {
        self.next_of_server().or_else(|| self.next_of_client())
    }

    fn next_of_client(&mut self) -> Option<Input> {
        let hungry = self.client_has_turn();
        let client = self.client.as_mut()?;
        if hungry {
            match client.framer_mut().next_event() {
                Ok(Some(event)) => {
                    return Some(Input::Client {
                        event,
                        buffered: client.buffered(),
                    });
                }
                Ok(None) => {}
                Err(error) => return Some(Input::ClientFraming(error)),
            }
        }
        self.client_ended.then_some(Input::ClientClosed)
    }

    fn next_of_server(&mut self) -> Option<Input> {
        let hungry = self.server_has_turn();
        let uplink = self.uplink.as_mut()?;
        if hungry {
            match uplink.framer_mut().next_event() {
                Ok(Some(event)) => {
                    return Some(Input::Server {
                        event,
                        buffered: uplink.buffered(),
                    });
                }
                Ok(None) => {}
                Err(error) => return Some(Input::ServerFraming(error)),
            }
        }
        self.uplink_ended.then_some(Input::ServerClosed)
    }

    fn client_has_turn(&self) -> bool {
        self.login.wants_client() && !is_behind(self.uplink.as_ref())
    }

    fn server_has_turn(&self) -> bool {
        self.login.wants_server() && !is_behind(self.client.as_ref())
    }

    /// Reads and writes until there is something new to look at.
    async fn wait(&mut self) {
        let (client_turn, server_turn) = (self.client_has_turn(), self.server_has_turn());
        let (client, uplink) = (&mut self.client, &mut self.uplink);
        let (client_ended, uplink_ended) = (&mut self.client_ended, &mut self.uplink_ended);
        let io = poll_fn(|cx| {
            let client = poll_peer(client, client_turn, client_ended, cx);
            let uplink = poll_peer(uplink, server_turn, uplink_ended, cx);
            if client || uplink {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            () = io => {}
            Interrupted(condition, text) = interruption(self.mailbox, self.deadline) => {
                self.login.handle(Input::Abort(condition, text));
            }
        }
    }
}

async fn close(connection: Option<Connection>) {
    if let Some(connection) = connection {
        connection.close(CLOSING).await;
    }
}

/// More waits for this peer than it should.
fn is_behind(peer: Option<&Connection>) -> bool {
    peer.is_some_and(|peer| peer.outbox().queued() > WAITING)
}

/// Moves one peer's bytes; whether that brought news. A peer that has no turn is read a little
/// ahead, so that its end is noticed.
fn poll_peer(
    peer: &mut Option<Connection>,
    has_turn: bool,
    ended: &mut bool,
    cx: &mut Context<'_>,
) -> bool {
    let was_behind = is_behind(peer.as_ref());
    let Some(connection) = peer.as_mut().filter(|_| !*ended) else {
        return false;
    };
    if let Poll::Ready(Err(error)) = connection.poll_write(cx) {
        debug!(%error, "a peer cannot be written to");
        *ended = true;
        return true;
    }
    if has_turn || connection.buffered() < AHEAD {
        match connection.poll_read(cx) {
            Poll::Ready(Ok(0) | Err(_)) => {
                *ended = true;
                return true;
            }
            Poll::Ready(Ok(_)) => return true,
            Poll::Pending => {}
        }
    }
    was_behind && !is_behind(peer.as_ref())
}

/// A word from outside, or the login's deadline.
async fn interruption(
    mailbox: &mut UnboundedReceiver<SessionInput>,
    deadline: Instant,
) -> Interrupted {
    loop {
        tokio::select! {
            () = sleep_until(deadline) => {
                let text = "the login took too long";
                return Interrupted(StreamErrorCondition::ConnectionTimeout, text);
            }
            input = mailbox.recv() => match input {
                Some(SessionInput::Shutdown) | None => {
                    let text = "the server is shutting down";
                    return Interrupted(StreamErrorCondition::SystemShutdown, text);
                }
                Some(SessionInput::End(condition, text)) => return Interrupted(condition, text),
                // No hub knows of a session that is not bound.
                Some(
                    SessionInput::ToClient { .. }
                    | SessionInput::ToServer { .. }
                    | SessionInput::Carry(_)
                    | SessionInput::Siblings(_)
                    | SessionInput::Replaced
                    | SessionInput::Reclaim(_)
                    | SessionInput::Release
                    | SessionInput::Retain(_)
                    | SessionInput::Claim(_)
                    | SessionInput::Unclaim(_)
                    | SessionInput::StreamGone(_)
                    | SessionInput::Resume(_),
                ) => {}
            }
        }
    }
}
