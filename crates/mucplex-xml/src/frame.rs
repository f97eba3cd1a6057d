//! A complete first-level element: its bytes, and where the parts of its head lie in them.

use std::{borrow::Cow, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    Element, FramingError, Limits, Outgoing, Patch,
    escape::{decode_attribute, escape_attribute, utf8},
    scan::{Extent, Scanner},
    scope::{Ambient, CLIENT, STREAMS},
    span::Span,
};

/// Namespace of a first-level element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `jabber:client`
    Client,
    /// `http://etherx.jabber.org/streams`
    Streams,
    /// Anything else; empty for no namespace.
    Other(Box<str>),
}

impl Namespace {
    /// The namespace name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Client => CLIENT,
            Self::Streams => STREAMS,
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Namespace {
    fn from(name: &str) -> Self {
        match name {
            CLIENT => Self::Client,
            STREAMS => Self::Streams,
            other => Self::Other(other.into()),
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<message/>` in `jabber:client`
    Message,
    /// `<presence/>` in `jabber:client`
    Presence,
    /// `<iq/>` in `jabber:client`
    Iq,
    /// `<stream:error/>`
    StreamError,
    /// `<stream:features/>`
    StreamFeatures,
    /// Any other first-level element (SASL, STARTTLS, XEP-0198, unknown).
    Nonza,
}

/// Where the parts of a start tag lie that are asked for often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    /// The name as it is written, and how much of it is prefix.
    name: Span,
    prefix: u32,
    pub(crate) to: Option<Span>,
    pub(crate) from: Option<Span>,
    pub(crate) id: Option<Span>,
    pub(crate) kind: Option<Span>,
    pub(crate) lang: Option<Span>,
    pub(crate) version: Option<Span>,
    /// The value of `xmlns`, and that of the declaration of the element's own prefix.
    pub(crate) default_ns: Option<Span>,
}

impl Head {
    /// Notes the attribute `name`.
    pub(crate) fn note(&mut self, name: &[u8], value: Span) {
        let slot = match name {
            b"to" => &mut self.to,
            b"from" => &mut self.from,
            b"id" => &mut self.id,
            b"type" => &mut self.kind,
            b"xml:lang" => &mut self.lang,
            b"version" => &mut self.version,
            b"xmlns" => &mut self.default_ns,
            _ => return,
        };
        // The first one, should there be more: an element with two is refused at its end.
        slot.get_or_insert(value);
    }

    pub(crate) fn set_name(&mut self, name: Span, prefix: usize) {
        self.name = name;
        self.prefix = crate::span::offset(prefix);
    }

    /// The name as it is written.
    pub(crate) fn raw_name(self) -> Span {
        self.name
    }

    pub(crate) fn prefix(self, data: &[u8]) -> &[u8] {
        let length = self.prefix as usize;
        self.name.of(data).get(..length).unwrap_or_default()
    }

    pub(crate) fn local(self, data: &[u8]) -> &str {
        let skip = match self.prefix as usize {
            0 => 0,
            prefix => prefix + 1,
        };
        utf8(self.name.of(data).get(skip..).unwrap_or_default())
    }

    /// The same head after `by` bytes were put in right behind the name.
    fn shifted(self, by: usize) -> Self {
        let shift = |span: Option<Span>| span.map(|span| span.shifted(by));
        Self {
            name: self.name,
            prefix: self.prefix,
            to: shift(self.to),
            from: shift(self.from),
            id: shift(self.id),
            kind: shift(self.kind),
            lang: shift(self.lang),
            version: shift(self.version),
            default_ns: shift(self.default_ns),
        }
    }
}

/// A complete first-level element, as it arrived.
///
/// Cheap to clone: the bytes are shared. They are shared with the buffer they arrived in, too,
/// which stays in memory as long as one frame of it does; a frame that is kept for long is better
/// kept as [`compact`](Self::compact).
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    head: Head,
    namespace: Namespace,
    kind: Kind,
    /// What the stream header declares, if this frame relies on anything in it that not every
    /// stream has.
    ambient: Option<Arc<Ambient>>,
}

impl Frame {
    /// Reads bytes that hold exactly one element and stand alone: the default namespace is
    /// `jabber:client` unless the element declares another, the prefix `stream` is bound. For
    /// stanzas written here, and for what a [`Patch`] made.
    ///
    /// # Errors
    /// Whatever the framer refuses, and bytes before or behind the element.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, FramingError> {
        Self::parse_in(bytes, limits, Arc::clone(Ambient::standard()))
    }

    /// [`parse`](Self::parse) for bytes from a stream that declares `ambient`.
    pub(crate) fn parse_in(
        bytes: Bytes,
        limits: &Limits,
        ambient: Arc<Ambient>,
    ) -> Result<Self, FramingError> {
        let mut scanner = Scanner::new(Extent::Element, ambient);
        match scanner.scan(&bytes, limits)? {
            Some(length) if length == bytes.len() => Ok(Self::scanned(bytes, &scanner)),
            Some(_) => Err(FramingError::Syntax("more than one element")),
            None => Err(FramingError::Syntax("element does not end")),
        }
    }

    /// The frame that `scanner` has come to the end of.
    pub(crate) fn scanned(bytes: Bytes, scanner: &Scanner) -> Self {
        let head = *scanner.head();
        let ambient = scanner.scope().ambient();
        let namespace = root_namespace(&bytes, head, ambient);
        let kind = match (&namespace, head.local(&bytes)) {
            (Namespace::Client, "message") => Kind::Message,
            (Namespace::Client, "presence") => Kind::Presence,
            (Namespace::Client, "iq") => Kind::Iq,
            (Namespace::Streams, "error") => Kind::StreamError,
            (Namespace::Streams, "features") => Kind::StreamFeatures,
            _ => Kind::Nonza,
        };
        let inherits_default = &*ambient.default != CLIENT && head.default_ns.is_none();
        let inherits = inherits_default || !scanner.scope().used().is_empty();
        Self {
            head,
            namespace,
            kind,
            ambient: inherits.then(|| Arc::clone(ambient)),
            bytes,
        }
    }

    /// What the frame is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Local name of the element.
    #[must_use]
    pub fn name(&self) -> &str {
        self.head.local(&self.bytes)
    }

    /// Namespace of the element.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Name of the element's namespace; empty for none.
    #[must_use]
    pub fn ns(&self) -> &str {
        self.namespace.as_str()
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

    /// The attribute `type`, decoded.
    #[must_use]
    pub fn stanza_type(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.kind)
    }

    /// `xml:lang` of the element itself, decoded.
    #[must_use]
    pub fn lang(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.lang)
    }

    fn value(&self, span: Option<Span>) -> Option<Cow<'_, str>> {
        span.map(|span| decode_attribute(span.of(&self.bytes)))
    }

    /// The bytes that arrived.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The element, to look into it without building a tree.
    #[must_use]
    pub fn root(&self) -> Element<'_> {
        let ambient = self.ambient.as_ref().unwrap_or(Ambient::standard());
        Element::root(&self.bytes, ambient)
    }

    /// The same frame, readable on any stream whose default namespace is `jabber:client`: the
    /// declarations it inherits from its stream header are written into its start tag. A cheap
    /// clone where there are none.
    #[must_use]
    pub fn portable(&self) -> Self {
        let Some(ambient) = &self.ambient else {
            return self.clone();
        };
        let declarations = self.inherited(ambient);
        let at = self.head.raw_name().range().end;
        let (name, rest) = self.bytes.split_at_checked(at).unwrap_or_default();
        Self {
            bytes: [name, declarations.as_bytes(), rest].concat().into(),
            head: self.head.shifted(declarations.len()),
            namespace: self.namespace.clone(),
            kind: self.kind,
            ambient: None,
        }
    }

    /// The declarations of the header that the frame uses and its root does not make itself, as
    /// attributes.
    fn inherited(&self, ambient: &Arc<Ambient>) -> String {
        // Only the framer knew what is used, and few streams need this: look once more.
        let mut scanner = Scanner::new(Extent::Element, Arc::clone(ambient));
        let _checked_before = scanner.scan(&self.bytes, &Limits::NONE);
        let mut out = String::new();
        if &*ambient.default != CLIENT && self.head.default_ns.is_none() {
            let uri = escape_attribute(&ambient.default);
            out.push_str(&format!(" xmlns='{uri}'"));
        }
        for (prefix, uri) in scanner
            .scope()
            .used()
            .iter()
            .filter_map(|&index| ambient.binding(index))
        {
            let uri = escape_attribute(uri);
            out.push_str(&format!(" xmlns:{prefix}='{uri}'"));
        }
        out
    }

    /// The same frame in memory of its own, no larger than it needs.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ..self.clone()
        }
    }

    /// A copy for another recipient: only `to` differs (replaced, or put in right behind the
    /// name); the bytes behind it are shared. The one place that writes `to`.
    ///
    /// A frame that goes to another stream than its own has to be [`portable`](Self::portable).
    #[must_use]
    pub fn with_to(&self, to: &str) -> Outgoing {
        let to = escape_attribute(to);
        match self.head.to {
            Some(span) => self.splice(span.range(), &[&to]),
            None => {
                let at = self.head.raw_name().range().end;
                self.splice(at..at, &[" to='", &to, "'"])
            }
        }
    }

    /// A copy for a stream that declares no default namespace (RFC 6120 4.8.2 allows that): the
    /// element says itself that it is of `jabber:client`. The bytes behind that are shared.
    ///
    /// The frame has to be [`portable`](Self::portable).
    #[must_use]
    pub fn declaring_client(&self) -> Outgoing {
        if self.head.default_ns.is_some() {
            return Outgoing::from(self);
        }
        let at = self.head.raw_name().range().end;
        self.splice(at..at, &[" xmlns='", CLIENT, "'"])
    }

    /// A copy with other bytes in place of `range`; what follows them is shared.
    fn splice(&self, range: Range<usize>, parts: &[&str]) -> Outgoing {
        let before = self.bytes.get(..range.start).unwrap_or_default();
        let length = before.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut head = Vec::with_capacity(length);
        head.extend_from_slice(before);
        for part in parts {
            head.extend_from_slice(part.as_bytes());
        }
        Outgoing {
            head: head.into(),
            tail: self.bytes.slice(range.end.min(self.bytes.len())..),
        }
    }

    /// Begins a set of changes.
    #[must_use]
    pub fn patch(&self) -> Patch<'_> {
        Patch::new(self)
    }

    pub(crate) fn ambient(&self) -> Arc<Ambient> {
        Arc::clone(self.ambient.as_ref().unwrap_or(Ambient::standard()))
    }
}

/// The namespace of the element whose start tag `head` describes.
pub(crate) fn root_namespace(data: &[u8], head: Head, ambient: &Ambient) -> Namespace {
    match head.prefix(data) {
        b"" => match head.default_ns {
            Some(value) => Namespace::from(&*decode_attribute(value.of(data))),
            None => Namespace::from(&*ambient.default),
        },
        prefix => Namespace::from(&*Element::root(data, ambient).namespace_of(prefix)),
    }
}
