//! A SASL exchange between client and server, seen from between them (RFC 6120 6.4).
//!
//! What the elements hold is not looked at here: only whose turn it is, and the mechanism.

use mucplex_xml::Frame;

use crate::{features::binds_channel, ns};

/// A SASL element by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslElement {
    /// `<auth/>`: the client chooses a mechanism.
    Auth,
    /// `<challenge/>` of the server.
    Challenge,
    /// `<response/>` of the client.
    Response,
    /// `<abort/>` of the client.
    Abort,
    /// `<success/>` of the server.
    Success,
    /// `<failure/>` of the server.
    Failure,
}

impl SaslElement {
    /// Which one a frame is, if it is one.
    #[must_use]
    pub fn of(frame: &Frame) -> Option<Self> {
        match (frame.ns(), frame.name()) {
            (ns::SASL, "auth") => Some(Self::Auth),
            (ns::SASL, "challenge") => Some(Self::Challenge),
            (ns::SASL, "response") => Some(Self::Response),
            (ns::SASL, "abort") => Some(Self::Abort),
            (ns::SASL, "success") => Some(Self::Success),
            (ns::SASL, "failure") => Some(Self::Failure),
            (_, _) => None,
        }
    }
}

/// The mechanism of an `<auth/>`; empty when it names none, which the server refuses.
#[must_use]
pub fn mechanism(auth: &Frame) -> String {
    auth.root()
        .attr("mechanism")
        .map(Into::into)
        .unwrap_or_default()
}

/// Whether an `<auth/>` asks for a mechanism that cannot work through the proxy.
#[must_use]
pub fn asks_channel_binding(auth: &Frame) -> bool {
    binds_channel(&mechanism(auth))
}

/// Where the exchange is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    /// None goes on: not begun, or failed.
    #[default]
    Idle,
    /// The server has to answer.
    ServersTurn {
        /// The mechanism the client chose.
        mechanism: String,
    },
    /// The client has to answer a challenge.
    ClientsTurn {
        /// The mechanism the client chose.
        mechanism: String,
    },
}

/// What a server's element leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The exchange goes on, or may begin again.
    Pending(Exchange),
    /// The client is logged in.
    Authenticated {
        /// The mechanism that succeeded.
        mechanism: String,
    },
}

/// The server sent a `<challenge/>` or `<success/>` that answers nothing. Fatal: it would let a
/// stream pass for authenticated that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's SASL element answers nothing")]
pub struct Unasked;

impl Exchange {
    /// The client's element, which passes to the server whatever the state is. `frame` gives the
    /// mechanism of an `<auth/>`.
    #[must_use]
    pub fn client(self, element: SaslElement, frame: &Frame) -> Self {
        match (self, element) {
            (
                Self::Idle | Self::ClientsTurn { .. } | Self::ServersTurn { .. },
                SaslElement::Auth,
            ) => Self::ServersTurn {
                mechanism: mechanism(frame),
            },
            (
                Self::ClientsTurn { mechanism } | Self::ServersTurn { mechanism },
                SaslElement::Response | SaslElement::Abort,
            ) => Self::ServersTurn { mechanism },
            // An answer that crossed the server's failure: the server refuses it.
            (Self::Idle, SaslElement::Response | SaslElement::Abort) => Self::Idle,
            // What only a server says changes nothing when a client says it.
            (state, SaslElement::Challenge | SaslElement::Success | SaslElement::Failure) => state,
        }
    }

    /// The server's element, before it passes to the client.
    ///
    /// # Errors
    /// [`Unasked`] for a challenge or success when it is not the server's turn.
    pub fn server(self, element: SaslElement) -> Result<Verdict, Unasked> {
        match (self, element) {
            (Self::ServersTurn { mechanism }, SaslElement::Challenge) => {
                Ok(Verdict::Pending(Self::ClientsTurn { mechanism }))
            }
            (Self::ServersTurn { mechanism }, SaslElement::Success) => {
                Ok(Verdict::Authenticated { mechanism })
            }
            // At any time: a server may give up while it waits for the client.
            (
                Self::Idle | Self::ServersTurn { .. } | Self::ClientsTurn { .. },
                SaslElement::Failure,
            ) => Ok(Verdict::Pending(Self::Idle)),
            (
                Self::Idle | Self::ClientsTurn { .. },
                SaslElement::Challenge | SaslElement::Success,
            )
            | (_, SaslElement::Auth | SaslElement::Response | SaslElement::Abort) => Err(Unasked),
        }
    }

    /// Whether the server has to answer before the client may say more. What a client sends
    /// ahead (XEP-0305) belongs to a stream that does not exist yet.
    #[must_use]
    pub const fn awaits_server(&self) -> bool {
        match self {
            Self::ServersTurn { .. } => true,
            Self::Idle | Self::ClientsTurn { .. } => false,
        }
    }
}
