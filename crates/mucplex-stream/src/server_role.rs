//! Towards the client: from its first stream header to one that is secured and names a domain
//! that is served (RFC 6120 4.3, 5). From there on the server itself answers.
//!
//! ```text
//! AwaitHeader --header--> AwaitStartTls --<starttls/>--> Securing --TLS--> AwaitSecuredHeader
//!                                                                               | header
//! listener with direct TLS ------------------------------> AwaitSecuredHeader --+--> Accepted
//! ```

use bytes::Bytes;
use mucplex_xml::{Event, Frame, Kind, StreamErrorCondition, StreamHeader};

use crate::{
    DomainSettings, ListenerTls,
    header::{HeaderFault, StreamRequest, accept_client},
    ns,
    refusal::Refusal,
    sasl_relay::SaslElement,
};

/// The client has to send the header of its unencrypted stream.
#[derive(Debug)]
pub struct AwaitHeader(());

/// Only `<starttls/>` goes on from here.
#[derive(Debug)]
pub struct AwaitStartTls {
    domain: usize,
}

/// The TLS handshake goes on.
#[derive(Debug)]
pub struct Securing {
    domain: usize,
}

/// The client has to send the header of its encrypted stream.
#[derive(Debug)]
pub struct AwaitSecuredHeader {
    /// The domain of the unencrypted stream, if there was one.
    expected: Option<usize>,
}

/// A client that an uplink can be opened for.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Index of the domain.
    pub domain: usize,
    /// What its header asks for.
    pub request: StreamRequest,
}

/// Why the client's stream ends here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// Its header is not accepted.
    #[error("the client's stream header is refused: {0}")]
    Header(#[from] HeaderFault),
    /// A stanza before TLS (RFC 6120 4.9.3.12).
    #[error("the client sent a stanza before TLS")]
    Unencrypted,
    /// An element that has no meaning where it came (RFC 6120 4.9.3.24).
    #[error("the client sent an element that means nothing here")]
    Unsupported,
    /// Bytes behind `<starttls/>`, which TLS would not protect (RFC 6120 5.3.3).
    #[error("the client sent bytes behind <starttls/>")]
    Injection,
    /// `<starttls/>` on a connection that is secured.
    #[error("the client asked for STARTTLS over TLS")]
    AlreadySecured,
    /// It sent something when it was not its turn.
    #[error("the client spoke out of turn")]
    OutOfTurn,
    /// `<auth/>` after login.
    #[error("the client wants to authenticate again")]
    Reauthentication,
    /// More requests that the proxy refuses than it puts up with.
    #[error("the client keeps asking for what is refused")]
    TooManyRefusals,
    /// `<stream:error/>`, with its condition.
    #[error("the client ended its stream with the error {0}")]
    StreamError(&'static str),
    /// `</stream:stream>`.
    #[error("the client ended its stream")]
    Ended,
}

impl ClientFault {
    /// The stream error the client gets, unless it only gets the end tag.
    #[must_use]
    pub const fn condition(&self) -> Option<StreamErrorCondition> {
        match self {
            Self::Header(fault) => Some(fault.condition()),
            Self::Unencrypted => Some(StreamErrorCondition::NotAuthorized),
            Self::Unsupported => Some(StreamErrorCondition::UnsupportedStanzaType),
            Self::OutOfTurn | Self::Reauthentication | Self::TooManyRefusals => {
                Some(StreamErrorCondition::PolicyViolation)
            }
            // RFC 6120 5.4.2.2: a STARTTLS failure is followed by the end of the stream.
            Self::Injection | Self::AlreadySecured | Self::StreamError(_) | Self::Ended => None,
        }
    }
}

/// The server role's states before an uplink.
#[derive(Debug)]
pub enum ServerRole {
    /// See [`AwaitHeader`].
    AwaitHeader(AwaitHeader),
    /// See [`AwaitStartTls`].
    AwaitStartTls(AwaitStartTls),
    /// See [`Securing`].
    Securing(Securing),
    /// See [`AwaitSecuredHeader`].
    AwaitSecuredHeader(AwaitSecuredHeader),
}

/// What an event of the client leads to.
#[derive(Debug)]
pub enum Progress {
    /// Nothing to do.
    Wait(ServerRole),
    /// Our header and [`starttls_features`] are to be sent.
    Offer(ServerRole),
    /// The request is to be refused; the stream goes on.
    Refuse(ServerRole, Refusal),
    /// [`starttls_proceed`] is to be sent, then TLS with the certificate of this domain.
    Secure(ServerRole, usize),
    /// An uplink is to be opened.
    Accepted(Accepted),
}

/// RFC 6120 5.3.1: STARTTLS is the only feature when it is required.
#[must_use]
pub fn starttls_features() -> Bytes {
    let xmlns = ns::TLS;
    Bytes::from(format!(
        "<stream:features><starttls xmlns='{xmlns}'><required/></starttls></stream:features>"
    ))
}

/// RFC 6120 5.4.2.3: TLS follows.
#[must_use]
pub fn starttls_proceed() -> Bytes {
    Bytes::from(format!("<proceed xmlns='{}'/>", ns::TLS))
}

impl AwaitHeader {
    fn header(
        self,
        header: &StreamHeader,
        domains: &[DomainSettings],
    ) -> Result<AwaitStartTls, ClientFault> {
        let (domain, _) = accept_client(header, domains)?;
        Ok(AwaitStartTls { domain })
    }
}

impl AwaitStartTls {
    fn frame(self, frame: &Frame, buffered: usize) -> Result<Progress, ClientFault> {
        match frame.kind() {
            Kind::Message | Kind::Presence | Kind::Iq => Err(ClientFault::Unencrypted),
            Kind::StreamError => Err(ClientFault::StreamError(stream_error_name(frame))),
            Kind::StreamFeatures => Err(ClientFault::Unsupported),
            Kind::Nonza => self.nonza(frame, buffered),
        }
    }

    fn nonza(self, frame: &Frame, buffered: usize) -> Result<Progress, ClientFault> {
        match (frame.ns(), frame.name()) {
            (ns::TLS, "starttls") if buffered > 0 => Err(ClientFault::Injection),
            (ns::TLS, "starttls") => {
                let domain = self.domain;
                Ok(Progress::Secure(
                    ServerRole::Securing(Securing { domain }),
                    domain,
                ))
            }
            (namespace, name) => {
                let refusal = if SaslElement::of(frame) == Some(SaslElement::Auth) {
                    Refusal::Unencrypted
                } else if namespace.starts_with(ns::SASL2_ANY) && name == "authenticate" {
                    Refusal::Unencrypted2
                } else {
                    return Err(ClientFault::Unsupported);
                };
                Ok(Progress::Refuse(ServerRole::AwaitStartTls(self), refusal))
            }
        }
    }
}

impl Securing {
    fn secured(self) -> AwaitSecuredHeader {
        AwaitSecuredHeader {
            expected: Some(self.domain),
        }
    }
}

impl AwaitSecuredHeader {
    /// After login the same is asked of the next header (RFC 6120 6.4.6).
    #[must_use]
    pub const fn again(domain: usize) -> Self {
        Self {
            expected: Some(domain),
        }
    }

    /// Checks the header.
    ///
    /// # Errors
    /// [`ClientFault::Header`].
    pub fn header(
        self,
        header: &StreamHeader,
        domains: &[DomainSettings],
    ) -> Result<Accepted, ClientFault> {
        let (domain, request) = accept_client(header, domains)?;
        if self.expected.is_some_and(|expected| expected != domain) {
            return Err(HeaderFault::HostChanged.into());
        }
        Ok(Accepted { domain, request })
    }
}

impl ServerRole {
    /// A connection that was just accepted.
    #[must_use]
    pub const fn new(listener: ListenerTls) -> Self {
        match listener {
            ListenerTls::StartTls => Self::AwaitHeader(AwaitHeader(())),
            ListenerTls::Direct => Self::AwaitSecuredHeader(AwaitSecuredHeader { expected: None }),
        }
    }

    /// Whether the client has something to say now.
    #[must_use]
    pub const fn wants_client(&self) -> bool {
        match self {
            Self::AwaitHeader(_) | Self::AwaitStartTls(_) | Self::AwaitSecuredHeader(_) => true,
            Self::Securing(_) => false,
        }
    }

    /// The TLS handshake is done. Without meaning in other states.
    #[must_use]
    pub fn secured(self) -> Self {
        match self {
            Self::Securing(securing) => Self::AwaitSecuredHeader(securing.secured()),
            Self::AwaitHeader(_) | Self::AwaitStartTls(_) | Self::AwaitSecuredHeader(_) => self,
        }
    }

    /// An event of the client; `buffered` are the bytes its framer holds behind it.
    ///
    /// # Errors
    /// [`ClientFault`]: the stream is to be ended.
    pub fn event(
        self,
        event: &Event,
        buffered: usize,
        domains: &[DomainSettings],
    ) -> Result<Progress, ClientFault> {
        match (self, event) {
            (state, Event::Whitespace(_)) => Ok(Progress::Wait(state)),
            (_, Event::End) => Err(ClientFault::Ended),
            (Self::AwaitHeader(state), Event::Header(header)) => Ok(Progress::Offer(
                Self::AwaitStartTls(state.header(header, domains)?),
            )),
            (Self::AwaitStartTls(state), Event::Frame(frame)) => state.frame(frame, buffered),
            (Self::AwaitSecuredHeader(state), Event::Header(header)) => {
                Ok(Progress::Accepted(state.header(header, domains)?))
            }
            (
                Self::AwaitHeader(_) | Self::AwaitSecuredHeader(_) | Self::Securing(_),
                Event::Frame(_),
            )
            | (Self::AwaitStartTls(_) | Self::Securing(_), Event::Header(_)) => {
                Err(ClientFault::OutOfTurn)
            }
        }
    }
}

/// The conditions of RFC 6120 4.9.3.
const CONDITIONS: [&str; 25] = [
    "bad-format",
    "bad-namespace-prefix",
    "conflict",
    "connection-timeout",
    "host-gone",
    "host-unknown",
    "improper-addressing",
    "internal-server-error",
    "invalid-from",
    "invalid-namespace",
    "invalid-xml",
    "not-authorized",
    "not-well-formed",
    "policy-violation",
    "remote-connection-failed",
    "reset",
    "resource-constraint",
    "restricted-xml",
    "see-other-host",
    "system-shutdown",
    "undefined-condition",
    "unsupported-encoding",
    "unsupported-feature",
    "unsupported-stanza-type",
    "unsupported-version",
];

/// The condition in a peer's `<stream:error/>`, for the log: one of RFC 6120 4.9.3, as everything
/// else in it may say anything.
#[must_use]
pub fn stream_error_name(error: &Frame) -> &'static str {
    const NS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
    let root = error.root();
    root.children()
        .filter(|child| child.ns() == NS)
        .find_map(|child| {
            CONDITIONS
                .into_iter()
                .find(|condition| *condition == child.name())
        })
        .unwrap_or("undefined-condition")
}
