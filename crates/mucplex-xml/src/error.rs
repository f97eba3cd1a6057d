//! Why the bytes of a peer are no XMPP stream, and the stream error that tells it so.

use bytes::Bytes;

use crate::escape::escape_text;

/// The stream error conditions of RFC 6120 4.9.3 that mucplex sends, from framing and from the
/// layers above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamErrorCondition {
    /// XML that cannot be processed (4.9.3.1).
    BadFormat,
    /// A prefix that is not bound, or bound against the rules (4.9.3.2).
    BadNamespacePrefix,
    /// A newer stream took this one's place (4.9.3.3).
    Conflict,
    /// The peer has been silent too long (4.9.3.4).
    ConnectionTimeout,
    /// The domain is no longer served here (4.9.3.5).
    HostGone,
    /// The domain is not served here (4.9.3.6).
    HostUnknown,
    /// A stanza lacks an address it needs (4.9.3.7).
    ImproperAddressing,
    /// Something failed here that is not the peer's doing (4.9.3.8).
    InternalServerError,
    /// A `from` that is not the peer's own (4.9.3.9).
    InvalidFrom,
    /// The stream or content namespace is not the expected one (4.9.3.10).
    InvalidNamespace,
    /// XML that a schema refuses (4.9.3.11).
    InvalidXml,
    /// Data before authentication (4.9.3.12).
    NotAuthorized,
    /// XML or its namespaces are not well-formed (4.9.3.13).
    NotWellFormed,
    /// A limit was passed (4.9.3.14).
    PolicyViolation,
    /// What has to be reached for this stream cannot be (4.9.3.15).
    RemoteConnectionFailed,
    /// The stream has to be opened anew (4.9.3.16).
    Reset,
    /// No resources to go on (4.9.3.17).
    ResourceConstraint,
    /// A comment, processing instruction, DTD or entity (4.9.3.18).
    RestrictedXml,
    /// This process ends (4.9.3.20).
    SystemShutdown,
    /// None of the others (4.9.3.21).
    UndefinedCondition,
    /// An encoding other than UTF-8 (4.9.3.22).
    UnsupportedEncoding,
    /// A mandatory feature that is not supported (4.9.3.23).
    UnsupportedFeature,
    /// A first-level element nobody knows (4.9.3.24).
    UnsupportedStanzaType,
    /// An XMPP version that is not supported (4.9.3.25).
    UnsupportedVersion,
}

impl StreamErrorCondition {
    /// The element name, e.g. `not-well-formed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }

    /// `<stream:error>…</stream:error>` with an optional English text, which is escaped here
    /// (RFC 6120 4.9.2). The stream it is written to must bind the prefix `stream`.
    #[must_use]
    pub fn to_xml(self, text: Option<&str>) -> Bytes {
        const NS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
        let name = self.name();
        let text = text.map_or_else(String::new, |text| {
            let text = escape_text(text);
            format!("<text xmlns='{NS}' xml:lang='en'>{text}</text>")
        });
        Bytes::from(format!(
            "<stream:error><{name} xmlns='{NS}'/>{text}</stream:error>"
        ))
    }
}

/// Why the bytes of a peer are no stream, or no element.
///
/// All are fatal to the stream; [`condition`](Self::condition) is what the peer is told. The
/// `&'static str` of a variant says which rule it was, for the log and the `<text/>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The grammar of XML 1.0 is broken.
    #[error("not well-formed: {0}")]
    Syntax(&'static str),
    /// Bytes that are not UTF-8 (overlong, surrogate, truncated, out of range).
    #[error("not well-formed: bytes are not UTF-8")]
    Utf8,
    /// A character, or a reference to one, that XML 1.0 does not allow.
    #[error("not well-formed: character not allowed in XML")]
    Character,
    /// An end tag without its start tag.
    #[error("not well-formed: end tag does not match")]
    TagMismatch,
    /// Two attributes of one element have one expanded name.
    #[error("not well-formed: attribute given twice")]
    DuplicateAttribute,
    /// A prefix is used that nothing binds.
    #[error("namespace prefix is not bound")]
    UnboundPrefix,
    /// A declaration that "Namespaces in XML" does not allow: of `xml` or `xmlns`, or of nothing.
    #[error("namespace declaration not allowed: {0}")]
    Declaration(&'static str),
    /// XML that XMPP leaves out (RFC 6120 11.1).
    #[error("restricted XML: {0}")]
    Restricted(&'static str),
    /// Another encoding than UTF-8, declared or detected (RFC 6120 11.6).
    #[error("encoding is not UTF-8")]
    Encoding,
    /// Another XML version than 1.0 (RFC 6120 11.4).
    #[error("XML version is not 1.0")]
    XmlVersion,
    /// Character data between stanzas that is not whitespace (RFC 6120 4.6.1).
    #[error("text between stanzas")]
    StrayText,
    /// The root element is not a stream that goes on.
    #[error("no stream: {0}")]
    NotAStream(&'static str),
    /// The root element is not in the streams namespace.
    #[error("root element is not in the streams namespace")]
    StreamNamespace,
    /// A limit of [`Limits`](crate::Limits) was passed.
    #[error("limit passed: {0}")]
    Limit(&'static str),
}

impl FramingError {
    /// The stream error to close the stream with (RFC 6120 4.9.3).
    #[must_use]
    pub const fn condition(&self) -> StreamErrorCondition {
        match self {
            // 4.9.3.13 covers XML and "Namespaces in XML". Bytes that are not UTF-8 are a broken
            // UTF-8 document, not one in another encoding, as nothing announced another.
            Self::Syntax(_)
            | Self::Utf8
            | Self::Character
            | Self::TagMismatch
            | Self::DuplicateAttribute => StreamErrorCondition::NotWellFormed,
            // Also in reach of 4.9.3.13; of two that fit, 4.9.3 prefers the one that says more.
            Self::UnboundPrefix | Self::Declaration(_) => StreamErrorCondition::BadNamespacePrefix,
            Self::Restricted(_) => StreamErrorCondition::RestrictedXml,
            Self::Encoding => StreamErrorCondition::UnsupportedEncoding,
            // Well-formed, but nothing that can be processed: 4.9.3.1. `unsupported-version` is
            // about the version of XMPP, and `invalid-xml` needs a schema that is validated.
            Self::XmlVersion | Self::StrayText | Self::NotAStream(_) => {
                StreamErrorCondition::BadFormat
            }
            Self::StreamNamespace => StreamErrorCondition::InvalidNamespace,
            Self::Limit(_) => StreamErrorCondition::PolicyViolation,
        }
    }
}
