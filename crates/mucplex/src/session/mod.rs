//! One session: the task that owns both its sockets, from the accepted connection to the end.
//!
//! [`login`] brings it to a bound stream on both sides; [`steady`] is what follows. Stanzas that
//! are no room traffic never leave this task.

mod begun;
mod bounce;
mod claim;
mod client;
mod ending;
mod login;
mod mail;
mod queue;
mod served;
mod server;
mod sleep;
mod steady;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mucplex_muc::{RoomJid, SessionId, Urgency};
use mucplex_net::{Connection, Freight, Transport};
use mucplex_stream::ListenerTls;
use mucplex_xml::{Outgoing, StreamErrorCondition};
use tokio::{
    net::TcpStream,
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    time::timeout,
};
use tracing::{Instrument as _, Span, debug, field::Empty, info_span};

use crate::{anchor::Home, server::Shared, uplink::Uplink};

use begun::Begun;
use login::LoggedIn;

pub(crate) use sleep::{Claim, Fresh, Resume};
pub(crate) use steady::FRAMES_PER_TURN;

/// Both ends of what reaches a task.
pub(crate) type Mailbox = (
    UnboundedSender<SessionInput>,
    UnboundedReceiver<SessionInput>,
);

/// What a queued stanza costs beside its bytes.
pub(crate) const PER_STANZA: usize = 128;
/// How long a TLS handshake may take.
const TLS_HANDSHAKE: Duration = Duration::from_secs(15);
/// How long a connection's last bytes may take.
const CLOSING: Duration = Duration::from_secs(5);

/// What reaches a session's task from outside its sockets, in the order in which it counts.
#[derive(Debug)]
pub(crate) enum SessionInput {
    /// From the hub to this session's client.
    ToClient {
        stanza: Outgoing,
        freight: Freight,
        urgency: Urgency,
    },
    /// From the hub to the server on this session's uplink; with what the session that caused it
    /// has at stake.
    ToServer { stanza: Outgoing, freight: Freight },
    /// What this room sends on the uplink goes to the hub from now on.
    Carry(RoomJid),
    /// Another session has bound the same full JID.
    Replaced,
    /// Whether the account has other sessions, which may live by what this uplink carries.
    Siblings(bool),
    /// The hub has no more use for the uplink than the client has.
    Release,
    /// A session wants the anchor's uplink when the hub has released it.
    Reclaim(oneshot::Sender<Uplink>),
    /// The client has ended, and the uplink goes on as the account's anchor.
    Retain(Home),
    /// A login wants to resume the session.
    Claim(Claim),
    /// Nothing came of the claim with this number.
    Unclaim(u64),
    /// The server has told the login with this claim that the session's stream is over.
    StreamGone(u64),
    /// The session goes on on another connection.
    Resume(Box<Resume>),
    /// The client's stream ends with an error.
    End(StreamErrorCondition, &'static str),
    /// The process ends.
    Shutdown,
}

/// Serves one client connection to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: ListenerTls,
) {
    let (session, uplink) = shared.sessions.next_ids();
    let span = info_span!("session", id = %session, %peer, account = Empty);
    async move {
        let (sender, mut mailbox) = mpsc::unbounded_channel();
        let _registered = shared.sessions.register(session, &sender);
        // Boxed: what a login needs is not carried through the session's life.
        let login = Box::pin(log_in(&shared, stream, tls, session, &mut mailbox));
        let Some(logged_in) = login.await else { return };
        let begun = match logged_in {
            LoggedIn::Bound(bound) => Some(Begun::bound(*bound)),
            LoggedIn::Attached(attached) => Box::pin(attached.attach()).await,
        };
        let Some(begun) = begun else { return };
        Span::current().record(
            "account",
            tracing::field::display(begun.uplink.jid.to_bare()),
        );
        steady::Steady::new(shared, session, uplink, begun, (sender, mailbox))
            .run()
            .await;
    }
    .instrument(span)
    .await;
}

async fn log_in(
    shared: &Arc<Shared>,
    stream: TcpStream,
    tls: ListenerTls,
    session: SessionId,
    mailbox: &mut UnboundedReceiver<SessionInput>,
) -> Option<LoggedIn> {
    debug!("connected");
    let mut client = Connection::new(Transport::Plain(stream), shared.client_limits);
    if tls == ListenerTls::Direct {
        // There is no stream yet that could end with an error, so a shutdown just cuts it.
        let handshake = timeout(TLS_HANDSHAKE, client.secure_as_server(shared.tls.direct()));
        let secured = tokio::select! {
            secured = handshake => secured,
            _ = mailbox.recv() => return None,
        };
        client = match secured {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                debug!(%error, "TLS handshake failed");
                return None;
            }
            Err(_) => {
                debug!("TLS handshake took too long");
                return None;
            }
        };
    }
    login::LoginTask::new(shared, client, tls, session, mailbox)
        .run()
        .await
}
