//! Why there is no anchor, and what that says of the credentials.

use mucplex_xml::{FramingError, StreamErrorCondition};

use crate::{
    bind::BindFault, client_role::UplinkFault, error::Farewell, sasl_relay::Unasked,
    scram::ScramFault, sm::SmFault,
};

/// What a failure means for who wants an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kept keys are not for the salt there is now: the password was changed, or the server
    /// makes up another each time ([`ScramKeys`](crate::scram::ScramKeys)). They are to be
    /// dropped, and never tried again: that could lock the account.
    Stale,
    /// The server does not take these credentials. They are to be dropped as well.
    Refused,
    /// The server is there, and does not want this now. To be tried again, later.
    Temporary,
    /// There is no server that could be talked to. To be tried again, later.
    Unreachable,
}

/// Why there is no uplink. Its text is the log's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// No connection to the server.
    #[error("no uplink: {0}")]
    Dial(String),
    /// The stream could not be opened.
    #[error(transparent)]
    Uplink(#[from] UplinkFault),
    /// The connection is gone.
    #[error("the server's connection is gone")]
    ServerGone,
    /// `</stream:stream>` of the server.
    #[error("the server ended its stream")]
    ServerEnded,
    /// `<stream:error/>` of the server, with its condition.
    #[error("the server ended its stream with the error {0}")]
    ServerStreamError(&'static str),
    /// The server's bytes are no stream.
    #[error("the server's bytes are no stream: {0}")]
    ServerFraming(FramingError),
    /// No mechanism is offered that the credentials serve.
    #[error("the server offers no SASL mechanism for these credentials")]
    NoMechanism,
    /// The exchange failed on our side.
    #[error(transparent)]
    Scram(#[from] ScramFault),
    /// A challenge where all was said.
    #[error("the server asks for more than the credentials hold")]
    Challenged,
    /// SASL that answers nothing.
    #[error(transparent)]
    Sasl(#[from] Unasked),
    /// `<failure/>`, with its condition.
    #[error("the server refused the login: {0}")]
    Refused(&'static str),
    /// `<failure/>` for kept keys.
    #[error("the server refused the kept keys: {0}")]
    KeysRefused(&'static str),
    /// `<failure/>` that is not about the credentials.
    #[error("the server cannot log in now: {0}")]
    Postponed(&'static str),
    /// The server refused to bind, with its condition.
    #[error("the server refused to bind: {0}")]
    NotBound(&'static str),
    /// A bind result that is none.
    #[error(transparent)]
    Bind(#[from] BindFault),
    /// Stream management that cannot be read.
    #[error("the server's answer: {0}")]
    StreamManagement(#[from] SmFault),
    /// More stanzas than [`Established::early`](super::Established::early) may hold.
    #[error("the server sent too much before the uplink was established")]
    Flooded,
    /// The shell ends the login.
    #[error("login ended by the proxy with {}: {}", .0.name(), .1)]
    Aborted(StreamErrorCondition, &'static str),
}

impl AnchorError {
    /// What is to become of the credentials.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Scram(ScramFault::Stale) | Self::KeysRefused(_) => Failure::Stale,
            // Of these the same credentials would meet the same again, or, where the server has
            // shown not to know the keys, somebody else than the server.
            Self::Scram(
                ScramFault::Prepare
                | ScramFault::Iterations
                | ScramFault::Refused
                | ScramFault::Signature,
            )
            | Self::NoMechanism
            | Self::Challenged
            | Self::Refused(_) => Failure::Refused,
            Self::Scram(ScramFault::Malformed(_) | ScramFault::Nonce)
            | Self::Sasl(_)
            | Self::Postponed(_)
            | Self::NotBound(_)
            | Self::Bind(_)
            | Self::StreamManagement(_)
            | Self::Flooded
            | Self::ServerEnded
            | Self::ServerStreamError(_) => Failure::Temporary,
            Self::Dial(_)
            | Self::Uplink(_)
            | Self::ServerGone
            | Self::ServerFraming(_)
            | Self::Aborted(..) => Failure::Unreachable,
        }
    }

    /// What the server is told, if its stream is open.
    pub(super) fn to_server(&self) -> Farewell {
        match self {
            // Behind <proceed/> only TLS may follow.
            Self::Dial(_) | Self::ServerGone | Self::Uplink(UplinkFault::Injection) => {
                Farewell::Silence
            }
            Self::Uplink(fault) => match fault.condition() {
                Some(condition) => Farewell::Error(condition, None),
                None => Farewell::End,
            },
            Self::ServerFraming(error) => Farewell::Error(error.condition(), None),
            _ => Farewell::End,
        }
    }
}
