//! What goes into the login of an anchor and what comes out of it.

use std::fmt;

use bytes::Bytes;
use jid::FullJid;
use mucplex_xml::{Event, Frame, FramingError, StreamErrorCondition};

use super::AnchorError;
use crate::{
    DialFailure,
    scram::{Derivation, ScramKeys},
    sm::{Count, SmState},
};

/// What the uplink is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A new stream.
    Bind {
        /// The resource to ask for: a name nobody else asks for.
        resource: String,
    },
    /// The stream that was there before, or, where the server has forgotten it, a new one under
    /// the same resource.
    Resume {
        /// What [`Established::sm`] was then.
        sm: SmState,
        /// What was handled of the server's stanzas.
        h: Count,
        /// What the stream was bound as.
        jid: FullJid,
    },
}

/// What happened.
pub enum Input {
    /// The connection that [`Output::Dial`] asked for is open (with direct TLS: and secured).
    UplinkOpen,
    /// There is no connection to the server, or its TLS handshake failed.
    UplinkFailed(DialFailure),
    /// The TLS handshake that [`Output::SecureUplink`] asked for is done.
    UplinkSecured,
    /// An event of the uplink's framer, given while
    /// [`AnchorLogin::wants_server`](super::AnchorLogin::wants_server) says so.
    Server {
        /// What the framer found.
        event: Event,
        /// Bytes the framer still holds behind it.
        buffered: usize,
    },
    /// The server's bytes are no stream.
    ServerFraming(FramingError),
    /// EOF or error of the connection.
    ServerClosed,
    /// The keys that [`Output::Derive`] asked for.
    Derived(ScramKeys),
    /// The shell ends this login: shutdown, it took too long.
    Abort(StreamErrorCondition, &'static str),
}

/// What is to be done, in this order.
pub enum Output {
    /// Open the connection. For a resumption the server may prefer another address than usual
    /// ([`SmState::location`]); whether it is asked there is the shell's to choose.
    Dial,
    /// Write to the server. May hold a secret; the bytes are wiped when they are dropped.
    ToServer(Bytes),
    /// Flush what was written, then TLS as client, verifying the domain name. The framer is
    /// restarted.
    SecureUplink,
    /// A new stream follows: restart the framer.
    RestartServer,
    /// Run this where it may block, then [`Input::Derived`].
    Derive(Derivation),
    /// The uplink is there; what is in the framer belongs to its steady state. No more inputs are
    /// taken.
    Established(Established),
    /// Flush and close. No more inputs are taken.
    Failed(AnchorError),
}

/// An uplink without a client. Its stream has `jabber:client` as the default namespace.
#[derive(Clone)]
pub struct Established {
    /// What it is bound as. Whether that is the account that was meant is the shell's to see.
    pub jid: FullJid,
    /// What the server has handled of the former stream, if that goes on.
    pub resumed: Option<Count>,
    /// What the server has handled of the former stream, if it has forgotten all else of it.
    pub former_h: Option<Count>,
    /// Whether stream management is on: both sides count from here, or where they were.
    pub sm_enabled: bool,
    /// How to resume the stream, if it can be.
    pub sm: Option<SmState>,
    /// The keys that have served, if the login was by SCRAM: worth keeping in place of a password.
    pub keys: Option<ScramKeys>,
    /// Stanzas that came before stream management was on: to be handled first, and not counted.
    pub early: Vec<Frame>,
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established")
            .field("jid", &self.jid)
            .field("resumed", &self.resumed)
            .field("former_h", &self.former_h)
            .field("sm_enabled", &self.sm_enabled)
            .field("early", &self.early.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UplinkOpen => f.write_str("UplinkOpen"),
            Self::UplinkFailed(failure) => f.debug_tuple("UplinkFailed").field(failure).finish(),
            Self::UplinkSecured => f.write_str("UplinkSecured"),
            Self::Server { buffered, .. } => f
                .debug_struct("Server")
                .field("buffered", buffered)
                .finish(),
            Self::ServerFraming(error) => f
                .debug_tuple("ServerFraming")
                .field(&error.condition())
                .finish(),
            Self::ServerClosed => f.write_str("ServerClosed"),
            Self::Derived(keys) => f.debug_tuple("Derived").field(keys).finish(),
            Self::Abort(condition, text) => {
                f.debug_tuple("Abort").field(condition).field(text).finish()
            }
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial => f.write_str("Dial"),
            Self::ToServer(bytes) => write!(f, "ToServer({} bytes)", bytes.len()),
            Self::SecureUplink => f.write_str("SecureUplink"),
            Self::RestartServer => f.write_str("RestartServer"),
            Self::Derive(derivation) => derivation.fmt(f),
            Self::Established(established) => established.fmt(f),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}
