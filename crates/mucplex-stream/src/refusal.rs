//! What the proxy answers a client by itself, while the stream lives on, and which frames of a
//! client mean what before there is a session.

use bytes::Bytes;
use mucplex_xml::{Frame, Kind, escape::escape_attribute};

use crate::{
    bind, ns,
    sasl_relay::{SaslElement, asks_channel_binding},
    sm::Nonza,
};

/// A request that does not reach the server, answered in the words of its own protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// SASL before TLS: `encryption-required` (RFC 6120 6.5.4).
    Unencrypted,
    /// SASL2 before TLS, the same.
    Unencrypted2,
    /// A mechanism that binds to the TLS channel: `invalid-mechanism` (RFC 6120 6.5.7).
    ChannelBinding,
    /// SASL2 (XEP-0388), which would bind unseen: `invalid-mechanism`.
    Sasl2,
    /// Stream management before there is a session: `unexpected-request` (XEP-0198 3).
    StreamManagement,
    /// A `<resume/>` that cannot be read: `bad-request` (XEP-0198 6).
    BadResume,
    /// Compression: `setup-failed` (XEP-0138 3).
    Compression,
    /// Non-SASL authentication (XEP-0078), which would bind unseen: `service-unavailable`.
    LegacyAuth,
    /// Binding before login: `not-allowed`.
    BindBeforeLogin,
}

impl Refusal {
    /// The answer to `frame`.
    #[must_use]
    pub fn answer(self, frame: &Frame) -> Bytes {
        match self {
            Self::Unencrypted => sasl_failure("encryption-required"),
            Self::ChannelBinding => sasl_failure("invalid-mechanism"),
            Self::Unencrypted2 => sasl2_failure(frame, "encryption-required"),
            Self::Sasl2 => sasl2_failure(frame, "invalid-mechanism"),
            Self::StreamManagement => Bytes::from(format!(
                "<failed xmlns='{}'><unexpected-request xmlns='{}'/></failed>",
                escape_attribute(frame.ns()),
                ns::STANZAS
            )),
            Self::BadResume => Nonza::failed("bad-request").to_bytes(),
            Self::Compression => Bytes::from(format!(
                "<failure xmlns='{}'><setup-failed/></failure>",
                ns::COMPRESS
            )),
            Self::LegacyAuth => iq_error(frame, "service-unavailable"),
            Self::BindBeforeLogin => iq_error(frame, "not-allowed"),
        }
    }
}

fn sasl_failure(condition: &str) -> Bytes {
    Bytes::from(format!(
        "<failure xmlns='{}'><{condition}/></failure>",
        ns::SASL
    ))
}

fn sasl2_failure(frame: &Frame, condition: &str) -> Bytes {
    let namespace = escape_attribute(frame.ns());
    Bytes::from(format!(
        "<failure xmlns='{namespace}'><{condition} xmlns='{}'/></failure>",
        ns::SASL
    ))
}

/// RFC 6120 8.3.1: the error comes from where the request was sent to.
fn iq_error(frame: &Frame, condition: &str) -> Bytes {
    let attribute = |name: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| {
            format!(" {name}='{}'", escape_attribute(value))
        })
    };
    let id = attribute("id", frame.id().as_deref());
    let from = attribute("from", frame.to().as_deref());
    Bytes::from(format!(
        "<iq type='error'{id}{from}><error type='cancel'><{condition} xmlns='{}'/></error></iq>",
        ns::STANZAS
    ))
}

/// RFC 6120 5.4.2.2: the answer to STARTTLS that ends the stream.
#[must_use]
pub fn starttls_failure() -> Bytes {
    Bytes::from(format!("<failure xmlns='{}'/>", ns::TLS))
}

/// What a client's frame is to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// `<starttls/>`: never for the server, whose connection is another one.
    StartTls,
    /// A SASL element that passes.
    Sasl(SaslElement),
    /// A request to bind.
    Bind,
    /// A request to resume a session.
    Resume,
    /// `<stream:error/>`.
    StreamError,
    /// Not for the server, whatever the state is.
    Refuse(Refusal),
    /// Everything else passes.
    Plain,
}

impl ClientFrame {
    /// Reads a frame of a secured client.
    #[must_use]
    pub fn of(frame: &Frame) -> Self {
        match frame.kind() {
            Kind::StreamError => Self::StreamError,
            Kind::Iq => Self::of_iq(frame),
            Kind::Message | Kind::Presence | Kind::StreamFeatures => Self::Plain,
            Kind::Nonza => Self::of_nonza(frame),
        }
    }

    fn of_iq(frame: &Frame) -> Self {
        let is_request = matches!(frame.stanza_type().as_deref(), Some("get" | "set"));
        if is_request
            && frame
                .root()
                .children()
                .any(|child| child.ns() == ns::IQ_AUTH)
        {
            Self::Refuse(Refusal::LegacyAuth)
        } else if bind::is_request(frame) {
            Self::Bind
        } else {
            Self::Plain
        }
    }

    fn of_nonza(frame: &Frame) -> Self {
        match (frame.ns(), SaslElement::of(frame)) {
            (_, Some(SaslElement::Auth)) if asks_channel_binding(frame) => {
                Self::Refuse(Refusal::ChannelBinding)
            }
            (_, Some(element)) => Self::Sasl(element),
            (ns::TLS, None) if frame.name() == "starttls" => Self::StartTls,
            (ns::COMPRESS, None) if frame.name() == "compress" => {
                Self::Refuse(Refusal::Compression)
            }
            (ns::STREAM_MANAGEMENT, None) if frame.name() == "resume" => Self::Resume,
            (other, None) if other.starts_with(ns::SASL2_ANY) => Self::Refuse(Refusal::Sasl2),
            (other, None) if other.starts_with(ns::STREAM_MANAGEMENT_ANY) => {
                Self::Refuse(Refusal::StreamManagement)
            }
            (_, None) => Self::Plain,
        }
    }
}
