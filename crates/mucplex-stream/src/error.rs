//! How a login ends without a session, and what either side is told of it.

use mucplex_xml::{FramingError, StreamErrorCondition};

use crate::{
    bind::BindFault, client_role::UplinkFault, sasl_relay::Unasked, server_role::ClientFault,
    sm::SmFault,
};

/// Why a login ended. Fatal to both streams; its text is the log's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// What the client did, or that it ended its stream.
    #[error(transparent)]
    Client(#[from] ClientFault),
    /// The client's bytes are no stream.
    #[error("the client's bytes are no stream: {0}")]
    ClientFraming(FramingError),
    /// The client's connection is gone.
    #[error("the client's connection is gone")]
    ClientGone,
    /// The server's connection is gone.
    #[error("the server's connection is gone")]
    ServerGone,
    /// No connection to the server.
    #[error("no uplink: {0}")]
    Dial(String),
    /// The uplink's stream could not be opened.
    #[error(transparent)]
    Uplink(#[from] UplinkFault),
    /// The server's bytes are no stream.
    #[error("the server's bytes are no stream: {0}")]
    ServerFraming(FramingError),
    /// `<stream:error/>` of the server, with its condition.
    #[error("the server ended its stream with the error {0}")]
    ServerStreamError(&'static str),
    /// `</stream:stream>` of the server.
    #[error("the server ended its stream")]
    ServerEnded,
    /// SASL of the server that answers nothing.
    #[error(transparent)]
    Sasl(#[from] Unasked),
    /// A session the proxy cannot go on with.
    #[error(transparent)]
    Bind(#[from] BindFault),
    /// An answer to `<resume/>` that cannot be read.
    #[error("the server's answer to a resumption: {0}")]
    Resumption(#[from] SmFault),
    /// The id of a session, from somebody else than the one it was given to.
    #[error("the session that was asked for is another account's")]
    NotTheirs,
    /// The shell ends the login.
    #[error("login ended by the proxy with {}: {}", .0.name(), .1)]
    Aborted(StreamErrorCondition, &'static str),
}

/// The last words on a stream that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Nobody is there to hear.
    Silence,
    /// The end tag.
    End,
    /// A stream error with an optional text, and the end tag.
    Error(StreamErrorCondition, Option<&'static str>),
}

impl Farewell {
    fn of(condition: Option<StreamErrorCondition>) -> Self {
        condition.map_or(Self::End, |condition| Self::Error(condition, None))
    }
}

impl LoginError {
    /// What the client is told. A server that cannot be reached or used is
    /// `remote-connection-failed` (RFC 6120 4.9.3.15), one that breaks the protocol is
    /// `internal-server-error` (4.9.3.8): to the client both are this server.
    #[must_use]
    pub fn to_client(&self) -> Farewell {
        match self {
            Self::Client(fault) => Farewell::of(fault.condition()),
            Self::ClientFraming(error) => Farewell::of(Some(error.condition())),
            Self::ClientGone => Farewell::Silence,
            Self::ServerGone | Self::Dial(_) => {
                Farewell::of(Some(StreamErrorCondition::RemoteConnectionFailed))
            }
            Self::Uplink(fault) => match fault {
                UplinkFault::StartTlsMissing
                | UplinkFault::StartTlsRefused
                | UplinkFault::Injection
                | UplinkFault::TlsRequired
                | UplinkFault::Ended => {
                    Farewell::of(Some(StreamErrorCondition::RemoteConnectionFailed))
                }
                UplinkFault::Header(_) | UplinkFault::Unexpected | UplinkFault::OutOfTurn => {
                    Farewell::of(Some(StreamErrorCondition::InternalServerError))
                }
            },
            Self::NotTheirs => Farewell::of(Some(StreamErrorCondition::NotAuthorized)),
            Self::ServerFraming(_) | Self::Sasl(_) | Self::Bind(_) | Self::Resumption(_) => {
                Farewell::of(Some(StreamErrorCondition::InternalServerError))
            }
            // The server's own error has been passed on by then.
            Self::ServerStreamError(_) | Self::ServerEnded => Farewell::End,
            Self::Aborted(condition, text) => Farewell::Error(*condition, Some(text)),
        }
    }

    /// What the server is told, if its stream is open.
    #[must_use]
    pub fn to_server(&self) -> Farewell {
        match self {
            // Behind <proceed/> only TLS may follow.
            Self::ServerGone | Self::Dial(_) | Self::Uplink(UplinkFault::Injection) => {
                Farewell::Silence
            }
            Self::Uplink(fault) => Farewell::of(fault.condition()),
            Self::ServerFraming(error) => Farewell::of(Some(error.condition())),
            Self::Client(_)
            | Self::ClientFraming(_)
            | Self::ClientGone
            | Self::ServerStreamError(_)
            | Self::ServerEnded
            | Self::Sasl(_)
            | Self::Bind(_)
            | Self::Resumption(_)
            | Self::NotTheirs
            | Self::Aborted(..) => Farewell::End,
        }
    }
}
