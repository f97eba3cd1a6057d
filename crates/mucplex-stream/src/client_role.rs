//! Towards the server: from an open connection to features that offer login, or, after login,
//! binding (RFC 6120 4.3, 5). Knows nothing of a client: an anchor opens its stream by it too.
//!
//! ```text
//! UpstreamTls::StartTls: PlainHeader -> PlainFeatures -> Proceed -> Handshake -> Header -> Features
//! None, Direct, and after login:                                                 Header -> Features
//! ```
//!
//! There is no way from STARTTLS back to plain text: where it was asked for and is not offered,
//! or is refused, the uplink fails.

use bytes::Bytes;
use mucplex_xml::{Event, Frame, Kind, StreamErrorCondition, StreamHeader};

use crate::{
    UpstreamTls,
    features::{StartTlsOffer, starttls_offer},
    header::{HeaderFault, StreamRequest, accept_server},
    ns,
};

/// The response header of the unencrypted stream is awaited.
#[derive(Debug)]
pub struct PlainHeader(());
/// Its features are awaited.
#[derive(Debug)]
pub struct PlainFeatures(());
/// The answer to `<starttls/>` is awaited.
#[derive(Debug)]
pub struct Proceed(());
/// The TLS handshake goes on.
#[derive(Debug)]
pub struct Handshake(());
/// The response header is awaited.
#[derive(Debug)]
pub struct Header {
    tls_settled: bool,
}
/// The features are awaited.
#[derive(Debug)]
pub struct Features {
    tls_settled: bool,
}

/// An uplink's stream on its way to its features, in one of the states above.
#[derive(Debug)]
pub struct Opening<S> {
    request: StreamRequest,
    state: S,
}

/// Why an uplink cannot be used. Fatal to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UplinkFault {
    /// Its header is not accepted.
    #[error("the server's stream header is refused: {0}")]
    Header(#[from] HeaderFault),
    /// STARTTLS was asked for and is not offered.
    #[error("the server does not offer STARTTLS, which upstream_tls asks for")]
    StartTlsMissing,
    /// STARTTLS was offered and failed (RFC 6120 5.4.2.2).
    #[error("the server refused STARTTLS")]
    StartTlsRefused,
    /// Bytes behind `<proceed/>`, which TLS would not protect (RFC 6120 5.3.3).
    #[error("the server sent bytes behind <proceed/>")]
    Injection,
    /// The server insists on TLS, which the configuration does without.
    #[error("configuration: the server requires STARTTLS, and upstream_tls is none")]
    TlsRequired,
    /// Something else than the protocol asks for came.
    #[error("the server sent what does not belong into the opening of a stream")]
    Unexpected,
    /// It spoke before it was spoken to.
    #[error("the server spoke out of turn")]
    OutOfTurn,
    /// The stream ended, by its end tag or a stream error, before it was usable.
    #[error("the server ended the stream while it was opened")]
    Ended,
}

impl UplinkFault {
    /// The stream error the server gets, unless it only gets the end tag.
    #[must_use]
    pub const fn condition(self) -> Option<StreamErrorCondition> {
        match self {
            Self::Header(fault) => Some(fault.condition()),
            Self::Unexpected => Some(StreamErrorCondition::UnsupportedStanzaType),
            Self::StartTlsMissing
            | Self::StartTlsRefused
            | Self::Injection
            | Self::TlsRequired
            | Self::OutOfTurn
            | Self::Ended => None,
        }
    }
}

impl Opening<PlainHeader> {
    /// Begins the unencrypted stream; the bytes are its header.
    #[must_use]
    pub fn begin(request: StreamRequest) -> (Self, Bytes) {
        let header = request.to_bytes();
        (
            Self {
                request,
                state: PlainHeader(()),
            },
            header,
        )
    }

    fn header(self, header: &StreamHeader) -> Result<Opening<PlainFeatures>, UplinkFault> {
        accept_server(header)?;
        Ok(Opening {
            request: self.request,
            state: PlainFeatures(()),
        })
    }
}

impl Opening<PlainFeatures> {
    fn features(self, features: &Frame) -> Result<(Opening<Proceed>, Bytes), UplinkFault> {
        match starttls_offer(features) {
            StartTlsOffer::Absent => Err(UplinkFault::StartTlsMissing),
            StartTlsOffer::Optional | StartTlsOffer::Required => {
                let starttls = Bytes::from(format!("<starttls xmlns='{}'/>", ns::TLS));
                Ok((
                    Opening {
                        request: self.request,
                        state: Proceed(()),
                    },
                    starttls,
                ))
            }
        }
    }
}

impl Opening<Proceed> {
    fn answer(self, answer: &Frame, buffered: usize) -> Result<Opening<Handshake>, UplinkFault> {
        match (answer.ns(), answer.name()) {
            (ns::TLS, "proceed") if buffered > 0 => Err(UplinkFault::Injection),
            (ns::TLS, "proceed") => Ok(Opening {
                request: self.request,
                state: Handshake(()),
            }),
            (ns::TLS, "failure") => Err(UplinkFault::StartTlsRefused),
            (_, _) => Err(UplinkFault::Unexpected),
        }
    }
}

impl Opening<Handshake> {
    fn secured(self) -> (Opening<Header>, Bytes) {
        Opening::<Header>::begin(self.request, true)
    }
}

impl Opening<Header> {
    /// Begins the stream that login or binding is to follow on; the bytes are its header.
    /// `tls_settled`: there is TLS, or login is past, so that STARTTLS means nothing any more.
    #[must_use]
    pub fn begin(request: StreamRequest, tls_settled: bool) -> (Self, Bytes) {
        let header = request.to_bytes();
        (
            Self {
                request,
                state: Header { tls_settled },
            },
            header,
        )
    }

    fn header(self, header: &StreamHeader) -> Result<Opening<Features>, UplinkFault> {
        accept_server(header)?;
        let tls_settled = self.state.tls_settled;
        Ok(Opening {
            request: self.request,
            state: Features { tls_settled },
        })
    }
}

impl Opening<Features> {
    fn features(self, features: &Frame) -> Result<(), UplinkFault> {
        match (starttls_offer(features), self.state.tls_settled) {
            (StartTlsOffer::Required, false) => Err(UplinkFault::TlsRequired),
            (StartTlsOffer::Required, true)
            | (StartTlsOffer::Absent | StartTlsOffer::Optional, _) => Ok(()),
        }
    }
}

/// The client role's states until the features are there.
#[derive(Debug)]
pub enum ClientRole {
    /// See [`PlainHeader`].
    PlainHeader(Opening<PlainHeader>),
    /// See [`PlainFeatures`].
    PlainFeatures(Opening<PlainFeatures>),
    /// See [`Proceed`].
    Proceed(Opening<Proceed>),
    /// See [`Handshake`].
    Handshake(Opening<Handshake>),
    /// See [`Header`].
    Header(Opening<Header>),
    /// See [`Features`].
    Features(Opening<Features>),
}

/// What an event of the server leads to.
#[derive(Debug)]
pub enum Progress {
    /// Nothing to do.
    Wait(ClientRole),
    /// These bytes are to be sent.
    Send(ClientRole, Bytes),
    /// TLS as client is to follow, then [`ClientRole::secured`].
    Secure(ClientRole),
    /// The header of the stream that counts is there and was accepted. Features follow.
    Opened(ClientRole),
    /// The event was the features: login or binding can begin. The role ends here.
    Ready,
}

impl ClientRole {
    /// The connection is open (with [`UpstreamTls::Direct`], secured); the bytes are to be sent.
    #[must_use]
    pub fn begin(request: StreamRequest, tls: UpstreamTls) -> (Self, Bytes) {
        match tls {
            UpstreamTls::StartTls => {
                let (opening, header) = Opening::<PlainHeader>::begin(request);
                (Self::PlainHeader(opening), header)
            }
            UpstreamTls::None => Self::begin_last(request, false),
            UpstreamTls::Direct => Self::begin_last(request, true),
        }
    }

    /// The stream after login (RFC 6120 6.4.6); the bytes are to be sent.
    #[must_use]
    pub fn begin_again(request: StreamRequest) -> (Self, Bytes) {
        Self::begin_last(request, true)
    }

    fn begin_last(request: StreamRequest, tls_settled: bool) -> (Self, Bytes) {
        let (opening, header) = Opening::<Header>::begin(request, tls_settled);
        (Self::Header(opening), header)
    }

    /// Whether the server has something to say now.
    #[must_use]
    pub const fn wants_server(&self) -> bool {
        match self {
            Self::PlainHeader(_)
            | Self::PlainFeatures(_)
            | Self::Proceed(_)
            | Self::Header(_)
            | Self::Features(_) => true,
            Self::Handshake(_) => false,
        }
    }

    /// The TLS handshake is done; bytes are to be sent. Without meaning in other states.
    #[must_use]
    pub fn secured(self) -> (Self, Option<Bytes>) {
        match self {
            Self::Handshake(opening) => {
                let (opening, header) = opening.secured();
                (Self::Header(opening), Some(header))
            }
            Self::PlainHeader(_)
            | Self::PlainFeatures(_)
            | Self::Proceed(_)
            | Self::Header(_)
            | Self::Features(_) => (self, None),
        }
    }

    /// An event of the server; `buffered` are the bytes its framer holds behind it.
    ///
    /// # Errors
    /// [`UplinkFault`]: the uplink is to be ended.
    pub fn event(self, event: &Event, buffered: usize) -> Result<Progress, UplinkFault> {
        match event {
            Event::Whitespace(_) => Ok(Progress::Wait(self)),
            Event::End => Err(UplinkFault::Ended),
            Event::Header(header) => self.header(header),
            Event::Frame(frame) => match frame.kind() {
                Kind::StreamError => Err(UplinkFault::Ended),
                Kind::StreamFeatures => self.features(frame),
                Kind::Nonza | Kind::Message | Kind::Presence | Kind::Iq => {
                    self.other(frame, buffered)
                }
            },
        }
    }

    fn header(self, header: &StreamHeader) -> Result<Progress, UplinkFault> {
        match self {
            Self::PlainHeader(opening) => {
                Ok(Progress::Wait(Self::PlainFeatures(opening.header(header)?)))
            }
            Self::Header(opening) => Ok(Progress::Opened(Self::Features(opening.header(header)?))),
            Self::PlainFeatures(_) | Self::Proceed(_) | Self::Handshake(_) | Self::Features(_) => {
                Err(UplinkFault::OutOfTurn)
            }
        }
    }

    fn features(self, features: &Frame) -> Result<Progress, UplinkFault> {
        match self {
            Self::PlainFeatures(opening) => {
                let (opening, starttls) = opening.features(features)?;
                Ok(Progress::Send(Self::Proceed(opening), starttls))
            }
            Self::Features(opening) => opening.features(features).map(|()| Progress::Ready),
            Self::PlainHeader(_) | Self::Proceed(_) | Self::Handshake(_) | Self::Header(_) => {
                Err(UplinkFault::OutOfTurn)
            }
        }
    }

    fn other(self, frame: &Frame, buffered: usize) -> Result<Progress, UplinkFault> {
        match self {
            Self::Proceed(opening) => Ok(Progress::Secure(Self::Handshake(
                opening.answer(frame, buffered)?,
            ))),
            Self::PlainHeader(_)
            | Self::PlainFeatures(_)
            | Self::Handshake(_)
            | Self::Header(_)
            | Self::Features(_) => Err(UplinkFault::Unexpected),
        }
    }
}
