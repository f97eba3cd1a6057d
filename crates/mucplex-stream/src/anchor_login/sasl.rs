//! SASL as the client (RFC 6120 6.4), by whatever the account has left behind.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use mucplex_xml::{Frame, escape::escape_attribute};
use zeroize::Zeroizing;

use super::AnchorError;
use crate::{
    Credentials, conditions, ns,
    sasl_relay::{SaslElement, Unasked},
    scram::{
        AwaitFinal, Derivation, Deriving, Identity, Reply, Scram, ScramFault, ScramKeys,
        ScramMechanism, Secret,
    },
};

/// An exchange that goes on.
#[derive(Debug)]
pub(super) struct Exchange {
    state: State,
    /// Whether a refusal is about kept keys.
    by_keys: bool,
}

#[derive(Debug)]
enum State {
    /// All was said.
    OneMessage,
    First(Scram),
    Deriving(Deriving),
    Final(AwaitFinal),
    /// The server has proved itself in a challenge.
    Verified(ScramKeys),
}

/// What follows on a message.
#[derive(Debug)]
pub(super) enum Step {
    Send(Exchange, Bytes),
    Derive(Exchange, Derivation),
    /// Logged in.
    Done(Option<ScramKeys>),
}

impl Exchange {
    /// Chooses among the mechanisms that are offered; the bytes are the `<auth/>`. Nothing is
    /// tried twice: one refusal is all that an account is to see of it.
    pub(super) fn begin(
        credentials: Credentials,
        offered: &[String],
        nonce: &[u8],
    ) -> Result<(Self, Bytes), AnchorError> {
        match credentials {
            Credentials::Token {
                mechanism,
                initial_response,
            } => {
                if !offered.contains(&mechanism) {
                    return Err(AnchorError::NoMechanism);
                }
                Ok(Self::one_message(&mechanism, &initial_response))
            }
            Credentials::Keys {
                username,
                authzid,
                keys,
            } => {
                let mechanism = keys.mechanism();
                if !offered.iter().any(|name| name == mechanism.name()) {
                    return Err(ScramFault::Stale.into());
                }
                let identity = identity(&username, authzid.as_deref());
                Self::scram(mechanism, identity, Secret::Keys(keys), nonce)
            }
            Credentials::Password {
                username,
                authzid,
                password,
            } => {
                let identity = identity(&username, authzid.as_deref());
                if let Some(mechanism) = ScramMechanism::strongest(offered) {
                    let secret = Secret::Password(mechanism, password);
                    Self::scram(mechanism, identity, secret, nonce)
                } else if offered.iter().any(|name| name == "PLAIN") {
                    // The uplink was good enough for the client's own PLAIN.
                    let message = plain(identity, &password);
                    Ok(Self::one_message("PLAIN", &message))
                } else {
                    Err(AnchorError::NoMechanism)
                }
            }
        }
    }

    fn one_message(mechanism: &str, message: &str) -> (Self, Bytes) {
        let exchange = Self {
            state: State::OneMessage,
            by_keys: false,
        };
        (exchange, auth(mechanism, message))
    }

    fn scram(
        mechanism: ScramMechanism,
        identity: Identity<'_>,
        secret: Secret,
        nonce: &[u8],
    ) -> Result<(Self, Bytes), AnchorError> {
        let by_keys = matches!(secret, Secret::Keys(_));
        let (scram, first) = Scram::begin(identity, secret, nonce)?;
        let exchange = Self {
            state: State::First(scram),
            by_keys,
        };
        let message = BASE64_STANDARD.encode(first);
        Ok((exchange, auth(mechanism.name(), &message)))
    }

    /// Whether the server is to be heard.
    pub(super) const fn awaits_server(&self) -> bool {
        match self.state {
            State::OneMessage | State::First(_) | State::Final(_) | State::Verified(_) => true,
            State::Deriving(_) => false,
        }
    }

    /// A SASL element of the server.
    pub(super) fn server(self, element: SaslElement, frame: &Frame) -> Result<Step, AnchorError> {
        match (element, self.state) {
            (SaslElement::Failure, _) => Err(refused(frame, self.by_keys)),
            (SaslElement::Challenge, State::First(scram)) => {
                let reply = scram.server_first(&message(frame)?)?;
                Ok(Self::follow(reply, self.by_keys))
            }
            // RFC 6120 6.4.6 lets the last message come in a challenge, too.
            (SaslElement::Challenge, State::Final(end)) => {
                let keys = end.server_final(&message(frame)?)?;
                let exchange = Self {
                    state: State::Verified(keys),
                    by_keys: self.by_keys,
                };
                Ok(Step::Send(exchange, element_of("response", "")))
            }
            (SaslElement::Challenge, State::OneMessage) => Err(AnchorError::Challenged),
            (SaslElement::Success, State::OneMessage) => Ok(Step::Done(None)),
            (SaslElement::Success, State::Final(end)) => {
                Ok(Step::Done(Some(end.server_final(&message(frame)?)?)))
            }
            (SaslElement::Success, State::Verified(keys)) => Ok(Step::Done(Some(keys))),
            (SaslElement::Challenge, State::Deriving(_) | State::Verified(_))
            | (SaslElement::Success, State::First(_) | State::Deriving(_))
            | (SaslElement::Auth | SaslElement::Response | SaslElement::Abort, _) => {
                Err(Unasked.into())
            }
        }
    }

    /// The keys that were asked for.
    pub(super) fn derived(self, keys: ScramKeys) -> Result<Step, AnchorError> {
        match self.state {
            State::Deriving(deriving) => Ok(Self::follow(deriving.keys(keys)?, self.by_keys)),
            State::OneMessage | State::First(_) | State::Final(_) | State::Verified(_) => {
                Err(Unasked.into())
            }
        }
    }

    fn follow(reply: Reply, by_keys: bool) -> Step {
        match reply {
            Reply::Derive(derivation, deriving) => {
                let state = State::Deriving(deriving);
                Step::Derive(Self { state, by_keys }, derivation)
            }
            Reply::Proof(proof, end) => {
                let state = State::Final(end);
                let response = element_of("response", &BASE64_STANDARD.encode(proof));
                Step::Send(Self { state, by_keys }, response)
            }
        }
    }
}

/// `<abort/>` (RFC 6120 6.4.4).
pub(super) fn abort() -> Bytes {
    element_of("abort", "")
}

fn identity<'a>(username: &'a str, authzid: Option<&'a str>) -> Identity<'a> {
    Identity { username, authzid }
}

/// RFC 4616 2, in base64.
fn plain(identity: Identity<'_>, password: &str) -> Zeroizing<String> {
    let parts = [
        identity.authzid.unwrap_or_default(),
        "\0",
        identity.username,
        "\0",
        password,
    ];
    Zeroizing::new(BASE64_STANDARD.encode(&*joined(&parts)))
}

fn auth(mechanism: &str, message: &str) -> Bytes {
    let mechanism = escape_attribute(mechanism);
    let tag = format!("<auth xmlns='{}' mechanism='{mechanism}'>", ns::SASL);
    wiped(joined(&[&tag, message, "</auth>"]))
}

fn element_of(name: &str, message: &str) -> Bytes {
    let tag = format!("<{name} xmlns='{}'", ns::SASL);
    if message.is_empty() {
        wiped(joined(&[&tag, "/>"]))
    } else {
        wiped(joined(&[&tag, ">", message, "</", name, ">"]))
    }
}

/// In one piece of memory from the start: growing would leave copies behind.
fn joined(parts: &[&str]) -> Zeroizing<String> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut whole = Zeroizing::new(String::with_capacity(length));
    for part in parts {
        whole.push_str(part);
    }
    whole
}

/// Bytes that are wiped when the last of their owners is done.
fn wiped(text: Zeroizing<String>) -> Bytes {
    Bytes::from_owner(text)
}

/// What a server's element holds.
fn message(frame: &Frame) -> Result<Vec<u8>, ScramFault> {
    let text = frame.root().text();
    BASE64_STANDARD
        .decode(text.trim())
        .map_err(|_| ScramFault::Malformed("no base64"))
}

/// RFC 6120 6.5: only one condition says that another try may succeed, and one that the fault is
/// in the configuration.
fn refused(failure: &Frame, by_keys: bool) -> AnchorError {
    match conditions::of_sasl(&failure.root()) {
        Some(condition @ ("temporary-auth-failure" | "encryption-required")) => {
            AnchorError::Postponed(condition)
        }
        condition if by_keys => AnchorError::KeysRefused(condition.unwrap_or("no condition")),
        condition => AnchorError::Refused(condition.unwrap_or("no condition")),
    }
}
