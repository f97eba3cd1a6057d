//! Stream headers: those we write, and the checks on those that arrive (RFC 6120 4.7, 4.8).

use std::fmt::Write as _;

use bytes::Bytes;
use jid::DomainPart;
use mucplex_xml::{StreamErrorCondition, StreamHeader, escape::escape_attribute};

use crate::{DomainSettings, ns};

/// RFC 6120 11.5: it SHOULD stand before a stream header.
const XML_DECLARATION: &str = "<?xml version='1.0'?>";

/// How the stanzas of a stream come by their namespace (RFC 6120 4.8.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentNamespace {
    /// `jabber:client` is the default namespace, as with nearly everybody.
    #[default]
    Default,
    /// No default namespace: each stanza has a prefix, or declares its own. What is written to
    /// such a stream has to declare `jabber:client` itself.
    Prefixed,
    /// The same, with the streams namespace as the default.
    PrefixedBesideStreams,
}

/// What a stream header of ours says besides `version='1.0'` and `xmlns:stream`, which it always
/// says.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderFields<'a> {
    /// `from`, unescaped.
    pub from: Option<&'a str>,
    /// `to`, unescaped.
    pub to: Option<&'a str>,
    /// `id`, which only a response header has (RFC 6120 4.7.3).
    pub id: Option<&'a str>,
    /// `xml:lang`: the default language of the stanzas that follow (RFC 6120 4.7.4).
    pub lang: Option<&'a str>,
    /// What `xmlns` declares.
    pub content: ContentNamespace,
    /// Further prefixes and their namespaces.
    pub declarations: &'a [(Box<str>, Box<str>)],
}

/// A stream header with the XML declaration before it.
#[must_use]
pub fn opening(fields: &HeaderFields<'_>) -> Bytes {
    let mut xml = String::from(XML_DECLARATION);
    xml.push_str("<stream:stream");
    let attributes = [("from", fields.from), ("to", fields.to), ("id", fields.id)];
    for (name, value) in attributes {
        if let Some(value) = value {
            attribute(&mut xml, name, value);
        }
    }
    attribute(&mut xml, "version", "1.0");
    if let Some(lang) = fields.lang {
        attribute(&mut xml, "xml:lang", lang);
    }
    match fields.content {
        ContentNamespace::Default => attribute(&mut xml, "xmlns", ns::CLIENT),
        ContentNamespace::Prefixed => {}
        ContentNamespace::PrefixedBesideStreams => attribute(&mut xml, "xmlns", ns::STREAMS),
    }
    attribute(&mut xml, "xmlns:stream", ns::STREAMS);
    for (prefix, namespace) in fields.declarations {
        attribute(&mut xml, &format!("xmlns:{prefix}"), namespace);
    }
    xml.push('>');
    Bytes::from(xml)
}

fn attribute(xml: &mut String, name: &str, value: &str) {
    // Writing to a String does not fail.
    let _ = write!(xml, " {name}='{}'", escape_attribute(value));
}

/// The closing tag of a stream (RFC 6120 4.4).
#[must_use]
pub fn stream_end() -> Bytes {
    Bytes::from_static(b"</stream:stream>")
}

/// A header that arrived, for the other side: its bytes, and the XML declaration before them.
#[must_use]
pub fn relayed(header: &StreamHeader) -> Bytes {
    let mut bytes = Vec::with_capacity(XML_DECLARATION.len() + header.bytes().len());
    bytes.extend_from_slice(XML_DECLARATION.as_bytes());
    bytes.extend_from_slice(header.bytes());
    Bytes::from(bytes)
}

/// Prefixes and the namespaces they are bound to.
pub type Declarations = Vec<(Box<str>, Box<str>)>;

/// What an initial stream header asks for: what an uplink's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// The domain, normalised; it becomes `to`.
    pub domain: String,
    /// Who asks, as it was said (RFC 6120 4.7.1).
    pub from: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
    /// What the default namespace is. A frame that passes as the bytes that arrived must mean to
    /// the server what it means to the proxy: under another default namespace an element that is
    /// nothing here would be a stanza there.
    pub content: ContentNamespace,
    /// Prefixes the frames of the stream may use, for the same reason.
    pub declarations: Declarations,
}

impl StreamRequest {
    /// A request that says no more than the domain.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            from: None,
            lang: None,
            content: ContentNamespace::Default,
            declarations: Vec::new(),
        }
    }

    /// The initial stream header.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        opening(&HeaderFields {
            from: self.from.as_deref(),
            to: Some(&self.domain),
            id: None,
            lang: self.lang.as_deref(),
            content: self.content,
            declarations: &self.declarations,
        })
    }
}

/// Why a stream header is not accepted. Fatal to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The content namespace is not `jabber:client` (RFC 6120 4.8.2, 4.9.3.10).
    #[error("the content namespace is not jabber:client")]
    Namespace,
    /// The prefix `stream` does not mean what it has to (RFC 6120 4.8.5, 4.9.3.2).
    #[error("the prefix 'stream' is not that of the stream")]
    Prefix,
    /// Not version 1.x, or none at all (RFC 6120 4.7.5, 4.9.3.25).
    #[error("the version is not 1.x")]
    Version,
    /// `to` is absent, or no domain that is served here (RFC 6120 4.9.1.3, 4.9.3.6).
    #[error("the domain asked for is not served")]
    Host,
    /// The domain changed between the streams of one connection (RFC 6120 4.9.3.6).
    #[error("the domain asked for is not that of the stream before")]
    HostChanged,
}

impl HeaderFault {
    /// What the peer is told.
    #[must_use]
    pub const fn condition(self) -> StreamErrorCondition {
        match self {
            Self::Namespace => StreamErrorCondition::InvalidNamespace,
            Self::Prefix => StreamErrorCondition::BadNamespacePrefix,
            Self::Version => StreamErrorCondition::UnsupportedVersion,
            Self::Host | Self::HostChanged => StreamErrorCondition::HostUnknown,
        }
    }
}

/// The index of the served domain that a header's `to` names, compared by the rules of JIDs
/// (RFC 7622 3.2).
#[must_use]
pub fn served(header: &StreamHeader, domains: &[DomainSettings]) -> Option<usize> {
    let to = header.to()?;
    let to = DomainPart::new(&to).ok()?;
    domains.iter().position(|domain| domain.name == to.as_str())
}

/// Checks a client's header; gives the index of the domain and what the header asks for.
///
/// # Errors
/// The first fault, in the order namespace, prefix, version, host.
pub fn accept_client(
    header: &StreamHeader,
    domains: &[DomainSettings],
) -> Result<(usize, StreamRequest), HeaderFault> {
    let content = client_content(header)?;
    let declarations = declarations(header)?;
    check_version(header)?;
    let domain = served(header, domains).ok_or(HeaderFault::Host)?;
    let name = domains.get(domain).ok_or(HeaderFault::Host)?.name.clone();
    let request = StreamRequest {
        domain: name,
        from: header.from().map(Into::into),
        lang: header.lang().map(Into::into),
        content,
        declarations,
    };
    Ok((domain, request))
}

/// Checks a server's response header. It passes to the client as its bytes, and what the proxy
/// itself writes behind it relies on the two namespaces being declared in the usual way.
///
/// # Errors
/// The first fault, in the order namespace, prefix, version.
pub fn accept_server(header: &StreamHeader) -> Result<(), HeaderFault> {
    if header.content_namespace() != ns::CLIENT {
        return Err(HeaderFault::Namespace);
    }
    if stream_prefix(header) != Some("stream") {
        return Err(HeaderFault::Prefix);
    }
    check_version(header)
}

fn client_content(header: &StreamHeader) -> Result<ContentNamespace, HeaderFault> {
    let prefixed = header
        .declarations()
        .iter()
        .any(|(_, namespace)| &**namespace == ns::CLIENT);
    match header.content_namespace() {
        ns::CLIENT => Ok(ContentNamespace::Default),
        "" if prefixed => Ok(ContentNamespace::Prefixed),
        ns::STREAMS if prefixed => Ok(ContentNamespace::PrefixedBesideStreams),
        _ => Err(HeaderFault::Namespace),
    }
}

/// The header's prefixes that an uplink's header has to declare as well.
fn declarations(header: &StreamHeader) -> Result<Declarations, HeaderFault> {
    let own = stream_prefix(header).map(|prefix| (Box::from(prefix), Box::from(ns::STREAMS)));
    let declared = header.declarations().iter().cloned().chain(own);
    let mut declarations = Vec::new();
    for (prefix, namespace) in declared {
        match (&*prefix, &*namespace) {
            ("stream", ns::STREAMS) => {}
            ("stream", _) => return Err(HeaderFault::Prefix),
            _ => declarations.push((prefix, namespace)),
        }
    }
    Ok(declarations)
}

/// The prefix of the header's own tag.
fn stream_prefix(header: &StreamHeader) -> Option<&str> {
    let tag = std::str::from_utf8(header.bytes())
        .ok()?
        .strip_prefix('<')?;
    let name = tag.split([' ', '\t', '\r', '\n', '>', '/']).next()?;
    name.split_once(':').map(|(prefix, _)| prefix)
}

fn check_version(header: &StreamHeader) -> Result<(), HeaderFault> {
    let version = header.version().ok_or(HeaderFault::Version)?;
    let (major, minor) = version.split_once('.').ok_or(HeaderFault::Version)?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.trim_start_matches('0').to_owned())
    };
    match (number(major).as_deref(), number(minor)) {
        (Some("1"), Some(_)) => Ok(()),
        (Some(_) | None, _) => Err(HeaderFault::Version),
    }
}
