//! What lets the account log in once more, and how much of it a relayed login shows.
//!
//! The relay does not read a SASL exchange but for this: of PLAIN and of bearer tokens it keeps
//! what an uplink without a client would need, of these and of SCRAM the user name. All of it is
//! wiped when dropped, and `Debug` shows none of it.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use mucplex_xml::Frame;
use zeroize::Zeroizing;

use crate::scram::ScramKeys;

/// How an uplink that has no client logs in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A password, as PLAIN has it (RFC 4616 2). Only for the first login: what is kept after that
    /// are keys.
    Password {
        /// Authentication identity.
        username: String,
        /// Authorization identity, if it was given.
        authzid: Option<String>,
        /// As it was typed.
        password: Zeroizing<String>,
    },
    /// SCRAM keys of an earlier login.
    Keys {
        /// Authentication identity.
        username: String,
        /// Authorization identity, if it was given.
        authzid: Option<String>,
        /// Its keys.
        keys: ScramKeys,
    },
    /// A bearer token (RFC 7628 and its forerunners), which the server takes more than once.
    Token {
        /// The SASL mechanism it goes by.
        mechanism: String,
        /// The client's message, in base64 as it stands in `<auth/>`.
        initial_response: Zeroizing<String>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { .. } => f.write_str("Password"),
            Self::Keys { keys, .. } => keys.fmt(f),
            Self::Token { mechanism, .. } => write!(f, "Token({mechanism:?})"),
        }
    }
}

/// What a client's first message of a mechanism holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstMessage {
    /// `[authzid] NUL authcid NUL password` (RFC 4616 2).
    Plain,
    /// The same with a token.
    PlainToken,
    /// A GS2 header and a token (RFC 7628 3.1).
    Gs2Token,
    /// A GS2 header and a user name (RFC 5802 7).
    Scram,
    /// Nothing of use, or it has been seen.
    Nothing,
}

impl FirstMessage {
    fn of(mechanism: &str) -> Self {
        match mechanism {
            "PLAIN" => Self::Plain,
            "X-OAUTH2" | "X-TOKEN" => Self::PlainToken,
            "OAUTHBEARER" => Self::Gs2Token,
            other if other.starts_with("SCRAM-") => Self::Scram,
            _ => Self::Nothing,
        }
    }
}

/// What one exchange has shown. Worth something only when the server has accepted it.
#[derive(PartialEq, Eq)]
pub(crate) struct Learnt {
    pub(crate) mechanism: String,
    credentials: Option<Credentials>,
    username: Option<String>,
    awaited: FirstMessage,
}

impl fmt::Debug for Learnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Learnt")
    }
}

impl Learnt {
    /// An `<auth/>` for `mechanism`, which may hold the first message (RFC 6120 6.4.2).
    pub(crate) fn begin(mechanism: String, auth: &Frame) -> Self {
        let mut learnt = Self {
            awaited: FirstMessage::of(&mechanism),
            mechanism,
            credentials: None,
            username: None,
        };
        learnt.message(auth);
        learnt
    }

    /// A `<response/>`, which holds the first message if the `<auth/>` did not.
    pub(crate) fn message(&mut self, frame: &Frame) {
        if self.awaited == FirstMessage::Nothing {
            return;
        }
        let text = Zeroizing::new(frame.root().text());
        if text.trim().is_empty() {
            return;
        }
        let awaited = std::mem::replace(&mut self.awaited, FirstMessage::Nothing);
        let Ok(message) = BASE64_STANDARD.decode(text.trim()).map(Zeroizing::new) else {
            return;
        };
        let Ok(message) = std::str::from_utf8(&message) else {
            return;
        };
        match awaited {
            FirstMessage::Plain => self.plain(message),
            FirstMessage::PlainToken => {
                self.username = plain(message).map(|[_, username, _]| username.to_owned());
                self.token(&text);
            }
            FirstMessage::Gs2Token => {
                self.username = gs2_field(message, 1, "a=");
                self.token(&text);
            }
            FirstMessage::Scram => self.username = gs2_field(message, 2, "n="),
            FirstMessage::Nothing => {}
        }
    }

    /// The credentials, if they serve more than once, and the user name.
    pub(crate) fn into_parts(self) -> (Option<Credentials>, Option<String>) {
        (self.credentials, self.username)
    }

    fn plain(&mut self, message: &str) {
        let Some([authzid, username, password]) = plain(message) else {
            return;
        };
        self.username = Some(username.to_owned());
        self.credentials = Some(Credentials::Password {
            username: username.to_owned(),
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
            password: Zeroizing::new(password.to_owned()),
        });
    }

    fn token(&mut self, text: &str) {
        self.credentials = Some(Credentials::Token {
            mechanism: self.mechanism.clone(),
            initial_response: Zeroizing::new(text.trim().to_owned()),
        });
    }
}

/// The three parts of a message as PLAIN has it; name and secret are not empty.
fn plain(message: &str) -> Option<[&str; 3]> {
    let (authzid, rest) = message.split_once('\0')?;
    let (username, secret) = rest.split_once('\0')?;
    let whole = !username.is_empty() && !secret.is_empty() && !secret.contains('\0');
    whole.then_some([authzid, username, secret])
}

/// A name from a GS2 header or the attribute behind it, unescaped (RFC 5801 4, RFC 5802 5.1).
fn gs2_field(message: &str, index: usize, prefix: &str) -> Option<String> {
    let name = message.split(',').nth(index)?.strip_prefix(prefix)?;
    (!name.is_empty()).then(|| name.replace("=2C", ",").replace("=3D", "="))
}
