//! What can go wrong for a client.

use std::fmt;

use crate::xml::{Stanza, XmlError};

/// Why a step of a script failed. What is shown ends with what was sent and received before.
#[derive(thiserror::Error)]
pub enum ClientError {
    /// An operating system or TLS error, with what was being done.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error.
        source: std::io::Error,
    },
    /// Nothing came in time.
    #[error("timeout: waited for {waiting_for}\n{log}")]
    Timeout {
        /// What was waited for.
        waiting_for: String,
        /// What was sent and received before.
        log: String,
    },
    /// The peer ended the stream or the connection.
    #[error("{how} while waiting for {waiting_for}\n{log}")]
    Ended {
        /// `end of stream` or `end of connection`.
        how: &'static str,
        /// What was waited for.
        waiting_for: String,
        /// What was sent and received before.
        log: String,
    },
    /// The peer sent something that is not XMPP.
    #[error("{source}\n{log}")]
    Xml {
        /// What is wrong.
        source: XmlError,
        /// What was sent and received before.
        log: String,
    },
    /// A stanza came that is not the expected one.
    #[error("expected {expected}, got {got}\n{log}")]
    Unexpected {
        /// What should have come.
        expected: String,
        /// The bytes that came.
        got: String,
        /// What was sent and received before.
        log: String,
    },
    /// The room refused the join, with this presence.
    #[error("the join was refused: {0:?}")]
    Refused(Box<Stanza>),
    /// The server refused the login, with this `<failure/>`.
    #[error("the login was refused: {0:?}")]
    Login(Box<Stanza>),
    /// A SASL message of the server is wrong, or its signature.
    #[error("SASL: {0}")]
    Sasl(String),
}

impl ClientError {
    /// An answer that is not the expected one.
    pub fn unexpected(expected: &str, got: &Stanza) -> Self {
        Self::Unexpected {
            expected: expected.to_owned(),
            got: format!("{got:?}"),
            log: String::new(),
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
