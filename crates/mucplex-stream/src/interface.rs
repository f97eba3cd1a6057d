//! What goes into a login and what comes out of it.
//!
//! `Debug` of these never shows bytes of a stream: they may be SASL payload.

use std::fmt;

use bytes::Bytes;
use jid::{BareJid, FullJid};
use mucplex_xml::{Event, FramingError, StreamErrorCondition};

use crate::{
    credentials::Credentials,
    header::ContentNamespace,
    sm::{Count, SmId},
};

/// How clients reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    /// STARTTLS, required before anything else (RFC 6120 5).
    StartTls,
    /// TLS from the first byte (XEP-0368): the connection is secured when the login begins.
    Direct,
}

/// How the proxy reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Plain text: loopback, a private network.
    None,
    /// STARTTLS, without which nothing goes on (RFC 6120 5).
    StartTls,
    /// TLS from the first byte (XEP-0368).
    Direct,
}

/// What the login has to know of a served domain.
#[derive(Clone, Debug)]
pub struct DomainSettings {
    /// The domain, normalised by the rules of JIDs.
    pub name: String,
    /// How its server is reached.
    pub upstream_tls: UpstreamTls,
}

/// What happened.
pub enum Input {
    /// An event of the client's framer, given while
    /// [`Login::wants_client`](crate::Login::wants_client) says so.
    Client {
        /// What the framer found.
        event: Event,
        /// Bytes the framer still holds behind it (those behind `<starttls/>` are refused).
        buffered: usize,
    },
    /// The client's bytes are no stream.
    ClientFraming(FramingError),
    /// The TLS handshake that [`Output::SecureClient`] asked for is done.
    ClientSecured,
    /// EOF or error of the client's connection, or its TLS handshake failed.
    ClientClosed,
    /// An event of the uplink's framer, given while
    /// [`Login::wants_server`](crate::Login::wants_server) says so.
    Server {
        /// What the framer found.
        event: Event,
        /// Bytes the framer still holds behind it (those behind `<proceed/>` are refused).
        buffered: usize,
    },
    /// The server's bytes are no stream.
    ServerFraming(FramingError),
    /// The connection that [`Output::Dial`] asked for is open (with [`UpstreamTls::Direct`]:
    /// and secured).
    UplinkOpen,
    /// There is no connection to the server, or its TLS handshake failed.
    UplinkFailed(DialFailure),
    /// The TLS handshake that [`Output::SecureUplink`] asked for is done.
    UplinkSecured,
    /// EOF or error of the uplink's connection.
    ServerClosed,
    /// The answer to [`Output::FindSession`].
    SessionFound(Found),
    /// The answer to [`Output::BindRequested`].
    BindDecision(BindDecision),
    /// The shell ends this login: shutdown, login took too long, over a limit. The client gets
    /// the condition and the text.
    Abort(StreamErrorCondition, &'static str),
}

/// Which session a client wants to resume, as the shell knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// None. The client may go on to bind (XEP-0198 5).
    Unknown {
        /// What was handled of the client's stanzas, where that is still known.
        h: Option<Count>,
    },
    /// It has its uplink. The fresh one is bound by the proxy, to learn who asks.
    Held {
        /// Whose session it is.
        account: BareJid,
        /// What the fresh uplink is bound under: a name nobody else asks for.
        resource: String,
    },
    /// Its uplink was cut. The server is asked to resume that on the fresh one.
    Cut {
        /// The server's id of the stream.
        previd: SmId,
        /// What was handled of the server's stanzas.
        h: Count,
        /// What was handled of the client's, which the client is told if the server has forgotten
        /// the stream.
        client_h: Option<Count>,
    },
}

/// Who binds the fresh uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindDecision {
    /// The client: its request passes as it is.
    Pass,
    /// The proxy, as the client seems to ask for a resource whose uplink the proxy holds.
    Proxy {
        /// What the fresh uplink is bound under.
        resource: String,
        /// Whose uplink is held: the client gets it if the server says that it is this account.
        account: BareJid,
    },
}

/// Why there is no uplink. The text is for the log; the client gets `remote-connection-failed`
/// without detail.
#[derive(Clone, Debug)]
pub struct DialFailure(pub String);

/// What is to be done, in this order.
pub enum Output {
    /// Write to the client.
    ToClient(Bytes),
    /// Write to the server.
    ToServer(Bytes),
    /// Flush what was written, then TLS as server; the certificate is that of the SNI name, else
    /// of this domain. The client's framer is restarted.
    SecureClient {
        /// Index into the settings.
        domain: usize,
    },
    /// Open the uplink.
    Dial {
        /// Index into the settings.
        domain: usize,
    },
    /// Flush what was written, then TLS as client, verifying the domain name. The uplink's framer
    /// is restarted.
    SecureUplink,
    /// A new stream follows on the client's connection: restart its framer.
    RestartClient,
    /// A new stream follows on the server's connection: restart its framer.
    RestartServer,
    /// The client asks to resume a session (XEP-0198 5). Nothing else is taken from it before
    /// [`Input::SessionFound`].
    FindSession {
        /// The id it names.
        previd: SmId,
        /// What it has handled of that session.
        h: Count,
    },
    /// The server does not resume the stream of [`Found::Cut`]: that session is over. The client
    /// goes on without.
    SessionGone {
        /// What the server has handled of the stream, where it still knows.
        server_h: Option<Count>,
    },
    /// The client goes on with the session that was found; it has not been told yet. No more
    /// inputs are taken.
    Resumed(Resumed),
    /// The client asks to bind. Nothing else is taken from it before [`Input::BindDecision`].
    BindRequested {
        /// The resource it asks for, as it is written.
        resource: Option<String>,
        /// Who it said it is during SASL. The server may have made of that what it likes: a hint,
        /// not an identity.
        username_hint: Option<String>,
    },
    /// The client is to get the held uplink; its request to bind has not been answered yet. No
    /// more inputs are taken.
    Attach(Attach),
    /// The session is bound; from here on the steady state. Comes after the bind result was put
    /// out to the client. No more inputs are taken.
    Bound(Bound),
    /// Flush and close both connections. No more inputs are taken.
    Close {
        /// Why, for the log. Never holds SASL payload.
        reason: String,
    },
}

/// A login that succeeded: what is known of the client and of both fresh streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// Index of the domain in the settings.
    pub domain: usize,
    /// SASL mechanism that succeeded.
    pub mechanism: String,
    /// What the client has logged in with, if that serves more than once and could be seen.
    pub credentials: Option<Credentials>,
    /// The user name in the exchange; no more than a hint.
    pub username_hint: Option<String>,
    /// `xml:lang` of the client's stream header after login: the default language of its stanzas
    /// (RFC 6120 4.7.4).
    pub client_lang: Option<String>,
    /// How the client's stream, and with it the fresh uplink, declares `jabber:client`. Unless it
    /// is [`ContentNamespace::Default`], a stanza that the proxy itself writes to the uplink has
    /// to declare it. (Towards the client it is always the default namespace.)
    ///
    /// Only the fresh uplink's header declares what the client's does: frames for an older one
    /// have to be [portable](mucplex_xml::Frame::portable).
    pub content: ContentNamespace,
    /// Whether the server offers client state indication (XEP-0352), as the proxy always does.
    pub server_csi: bool,
    /// Whether the server offers stream management (XEP-0198), as the proxy always does.
    pub server_sm: bool,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its full JID.
    pub jid: FullJid,
    /// How it came to be.
    pub login: Authenticated,
}

/// A client that goes on with a session it had. The shell answers `<resumed/>` to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// How the client came back.
    pub login: Authenticated,
    /// What the server has handled of the session's stream, if that goes on on the fresh uplink
    /// ([`Found::Cut`]).
    pub server_h: Option<Count>,
    /// The fresh uplink, if the session goes on on its own ([`Found::Held`]).
    pub spare: Option<Spare>,
}

/// A client that gets an uplink the proxy holds. The shell answers its request to bind
/// ([`bind::result`](crate::bind::result)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// How the client came to be here.
    pub login: Authenticated,
    /// `id` of its request.
    pub request_id: Option<String>,
    /// The fresh uplink.
    pub spare: Spare,
}

/// An uplink that no client needs, bound, and of the right account. Whether it has stream
/// management to offer, and how it declares `jabber:client`, is said by the login it comes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spare {
    /// What the server bound it as.
    pub jid: FullJid,
}

/// An event without its content.
fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Header(_) => "header",
        Event::Frame(_) => "frame",
        Event::Whitespace(_) => "whitespace",
        Event::End => "end",
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = |f: &mut fmt::Formatter<'_>, name: &str, event: &Event, buffered: &usize| {
            f.debug_struct(name)
                .field("event", &event_name(event))
                .field("buffered", buffered)
                .finish()
        };
        match self {
            Self::Client { event, buffered } => peer(f, "Client", event, buffered),
            Self::Server { event, buffered } => peer(f, "Server", event, buffered),
            // The condition only: what the error itself holds is not known here.
            Self::ClientFraming(error) => f
                .debug_tuple("ClientFraming")
                .field(&error.condition())
                .finish(),
            Self::ServerFraming(error) => f
                .debug_tuple("ServerFraming")
                .field(&error.condition())
                .finish(),
            Self::ClientSecured => f.write_str("ClientSecured"),
            Self::ClientClosed => f.write_str("ClientClosed"),
            Self::UplinkOpen => f.write_str("UplinkOpen"),
            Self::UplinkFailed(failure) => f.debug_tuple("UplinkFailed").field(failure).finish(),
            Self::UplinkSecured => f.write_str("UplinkSecured"),
            Self::ServerClosed => f.write_str("ServerClosed"),
            Self::SessionFound(found) => f.debug_tuple("SessionFound").field(found).finish(),
            Self::BindDecision(decision) => f.debug_tuple("BindDecision").field(decision).finish(),
            Self::Abort(condition, text) => {
                f.debug_tuple("Abort").field(condition).field(text).finish()
            }
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToClient(bytes) => write!(f, "ToClient({} bytes)", bytes.len()),
            Self::ToServer(bytes) => write!(f, "ToServer({} bytes)", bytes.len()),
            Self::SecureClient { domain } => f
                .debug_struct("SecureClient")
                .field("domain", domain)
                .finish(),
            Self::Dial { domain } => f.debug_struct("Dial").field("domain", domain).finish(),
            Self::SecureUplink => f.write_str("SecureUplink"),
            Self::RestartClient => f.write_str("RestartClient"),
            Self::RestartServer => f.write_str("RestartServer"),
            Self::FindSession { h, .. } => f.debug_struct("FindSession").field("h", h).finish(),
            Self::SessionGone { server_h } => f
                .debug_struct("SessionGone")
                .field("server_h", server_h)
                .finish(),
            Self::Resumed(resumed) => f.debug_tuple("Resumed").field(resumed).finish(),
            Self::BindRequested { resource, .. } => f
                .debug_struct("BindRequested")
                .field("resource", resource)
                .finish(),
            Self::Attach(attach) => f.debug_tuple("Attach").field(attach).finish(),
            Self::Bound(bound) => f.debug_tuple("Bound").field(bound).finish(),
            Self::Close { reason } => f.debug_struct("Close").field("reason", reason).finish(),
        }
    }
}
