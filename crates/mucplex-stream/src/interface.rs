//! What goes into a login and what comes out of it.
//!
//! `Debug` of these never shows bytes of a stream: they may be SASL payload.

use std::fmt;

use bytes::Bytes;
use jid::FullJid;
use mucplex_xml::{Event, FramingError, StreamErrorCondition};

use crate::header::ContentNamespace;

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
    /// The shell ends this login: shutdown, login took too long, over a limit. The client gets
    /// the condition and the text.
    Abort(StreamErrorCondition, &'static str),
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
    /// The session is bound; from here on the steady state. Comes after the bind result was put
    /// out to the client. No more inputs are taken.
    Bound(Bound),
    /// Flush and close both connections. No more inputs are taken.
    Close {
        /// Why, for the log. Never holds SASL payload.
        reason: String,
    },
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its full JID.
    pub jid: FullJid,
    /// Index of its domain in the settings.
    pub domain: usize,
    /// SASL mechanism that succeeded.
    pub mechanism: String,
    /// `xml:lang` of the client's stream header after login: the default language of its stanzas
    /// (RFC 6120 4.7.4).
    pub client_lang: Option<String>,
    /// How the client's stream, and with it the uplink, declares `jabber:client`. Unless it is
    /// [`ContentNamespace::Default`], a stanza that the proxy itself writes to the uplink has to
    /// declare it. (Towards the client it is always the default namespace.)
    pub content: ContentNamespace,
    /// Whether the server offers client state indication (XEP-0352), as the proxy always does.
    pub server_csi: bool,
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
            Self::Bound(bound) => f.debug_tuple("Bound").field(bound).finish(),
            Self::Close { reason } => f.debug_struct("Close").field("reason", reason).finish(),
        }
    }
}
