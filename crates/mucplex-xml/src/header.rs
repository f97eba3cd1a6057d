//! The opening tag of a stream.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use crate::{
    Element, FramingError, Namespace,
    escape::decode_attribute,
    frame::{Head, root_namespace},
    scan::Scanner,
    scope::Ambient,
    span::Span,
};

/// The opening tag of a stream (RFC 6120 4.7). The framer has seen to it that it is the element
/// `stream` of `http://etherx.jabber.org/streams`; everything else about it is for the layers
/// above to judge.
#[derive(Clone, Debug)]
pub struct StreamHeader {
    bytes: Bytes,
    head: Head,
    content_namespace: Box<str>,
    declarations: Vec<(Box<str>, Box<str>)>,
}

impl StreamHeader {
    /// The header that `scanner` has come to the end of.
    ///
    /// # Errors
    /// When the element is no stream (RFC 6120 4.8.1).
    pub(crate) fn scanned(bytes: Bytes, scanner: &Scanner) -> Result<Self, FramingError> {
        let head = *scanner.head();
        let nothing = Ambient::default();
        if root_namespace(&bytes, head, &nothing) != Namespace::Streams {
            return Err(FramingError::StreamNamespace);
        }
        if head.local(&bytes) != "stream" {
            return Err(FramingError::NotAStream("root element is not `stream`"));
        }
        let root = Element::root(&bytes, &nothing);
        let own = head.prefix(&bytes);
        let declarations = root
            .declarations()
            .filter(|(prefix, _)| !prefix.is_empty() && prefix.as_bytes() != own)
            .map(|(prefix, uri)| (prefix.into(), uri.into()))
            .collect();
        let content_namespace = head
            .default_ns
            .map_or(Cow::Borrowed(""), |value| {
                decode_attribute(value.of(&bytes))
            })
            .into();
        Ok(Self {
            head,
            content_namespace,
            declarations,
            bytes,
        })
    }

    /// What it declares for the frames of its stream.
    pub(crate) fn ambient(&self) -> Arc<Ambient> {
        let nothing = Ambient::default();
        let prefixes = Element::root(&self.bytes, &nothing)
            .declarations()
            .filter(|(prefix, _)| !prefix.is_empty())
            .map(|(prefix, uri)| (prefix.into(), uri.into()))
            .collect();
        Arc::new(Ambient::new(self.content_namespace.clone(), prefixes))
    }

    /// The name as it is written, which the end of the stream repeats.
    pub(crate) fn raw_name(&self) -> Bytes {
        self.bytes.slice(self.head.raw_name().range())
    }

    /// As it arrived, without the XML declaration.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The attribute `to`, decoded.
    #[must_use]
    pub fn to(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.to)
    }

    /// The attribute `from`, decoded.
    #[must_use]
    pub fn from(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.from)
    }

    /// The attribute `id`, decoded.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.id)
    }

    /// The attribute `version`, decoded.
    #[must_use]
    pub fn version(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.version)
    }

    /// The attribute `xml:lang`, decoded.
    #[must_use]
    pub fn lang(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.lang)
    }

    fn value(&self, span: Option<Span>) -> Option<Cow<'_, str>> {
        span.map(|span| decode_attribute(span.of(&self.bytes)))
    }

    /// Default namespace (RFC 6120 4.8.2), empty when none is declared.
    #[must_use]
    pub fn content_namespace(&self) -> &str {
        &self.content_namespace
    }

    /// Prefixes and the namespaces they are bound to, without the default namespace and the
    /// prefix of the stream element itself.
    #[must_use]
    pub fn declarations(&self) -> &[(Box<str>, Box<str>)] {
        &self.declarations
    }
}
