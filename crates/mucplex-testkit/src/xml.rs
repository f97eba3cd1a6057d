//! An incremental reader of XMPP streams that keeps the bytes of every stanza.

use std::fmt;
use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use minidom::Element;
use rxml::{Parse, WithOptions, error::EndOrError};

/// Namespace of the delay element of replayed messages (XEP-0203).
pub const NS_DELAY: &str = "urn:xmpp:delay";
/// Namespace of the join element (XEP-0045).
pub const NS_MUC: &str = "http://jabber.org/protocol/muc";
/// Namespace of what a room tells its occupants (XEP-0045).
pub const NS_MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// Namespace of the owner forms (XEP-0045).
pub const NS_MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
/// Namespace of the admin lists (XEP-0045).
pub const NS_MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
/// Namespace of SASL elements (RFC 6120 6).
pub const NS_SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Namespace of STARTTLS elements (RFC 6120 5).
pub const NS_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// Namespace of resource binding (RFC 6120 7).
pub const NS_BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Namespace of the conditions in a stanza error (RFC 6120 8.3).
pub const NS_STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Namespace of the stream element, its features and its errors (RFC 6120 4).
pub const NS_STREAM: &str = "http://etherx.jabber.org/streams";
/// Namespace of stanzas on a client's stream.
pub const NS_CLIENT: &str = "jabber:client";
/// Namespace of stream management (XEP-0198).
pub const NS_SM: &str = "urn:xmpp:sm:3";
/// Namespace of push notifications (XEP-0357).
pub const NS_PUSH: &str = "urn:xmpp:push:0";

/// Namespace of stanzas on the stream of a component (XEP-0114).
pub const NS_COMPONENT: &str = "jabber:component:accept";

/// Large enough for any attribute or text that a test sends in one piece.
const MAX_TOKEN: usize = 16 << 20;

/// The bytes are not a well-formed XMPP stream.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// The parser refused the bytes.
    #[error("not well-formed: {error}; it stands at the end of: {near}")]
    Malformed {
        /// What the parser says.
        error: rxml::Error,
        /// The last bytes before the failure.
        near: String,
    },
    /// Text other than white space between two stanzas.
    #[error("text between stanzas: {0:?}")]
    TextBetweenStanzas(String),
}

/// A child of the stream element: a stanza, a nonza, features, or a stream error.
#[derive(Clone)]
pub struct Stanza {
    /// What it means.
    pub element: Element,
    /// The bytes as they arrived.
    pub raw: Bytes,
}

impl Stanza {
    /// Its bytes as text.
    pub fn raw_str(&self) -> &str {
        std::str::from_utf8(&self.raw).expect("the parser has checked the UTF-8")
    }

    /// The `id` attribute.
    pub fn id(&self) -> Option<&str> {
        self.attr("id")
    }

    /// The `type` attribute.
    pub fn kind(&self) -> Option<&str> {
        self.attr("type")
    }

    /// The `from` attribute.
    pub fn from(&self) -> Option<&str> {
        self.attr("from")
    }

    /// The `to` attribute.
    pub fn to(&self) -> Option<&str> {
        self.attr("to")
    }

    /// Text of the first `<body/>`.
    pub fn body(&self) -> Option<String> {
        self.get_child("body", NS_CLIENT).map(Element::text)
    }

    /// The muc#user status codes, in the order in which they stand.
    pub fn statuses(&self) -> Vec<u16> {
        let Some(user) = self.get_child("x", NS_MUC_USER) else {
            return Vec::new();
        };
        user.children()
            .filter(|child| child.is("status", NS_MUC_USER))
            .filter_map(|child| child.attr("code")?.parse().ok())
            .collect()
    }

    /// Whether it carries the muc#user status `code`.
    pub fn has_status(&self, code: u16) -> bool {
        self.statuses().contains(&code)
    }

    /// The muc#user `<item/>`.
    pub fn item(&self) -> Option<&Element> {
        self.get_child("x", NS_MUC_USER)?
            .get_child("item", NS_MUC_USER)
    }

    /// The defined condition of the `<error/>` child, as `forbidden`.
    pub fn error_condition(&self) -> Option<&str> {
        self.get_child("error", NS_CLIENT)?
            .children()
            .find(|child| child.has_ns(NS_STANZAS) && child.name() != "text")
            .map(Element::name)
    }

    /// Whether it sets or tells the subject: a groupchat message with a subject and no body
    /// (XEP-0045 8.1).
    pub fn is_subject(&self) -> bool {
        self.is("message", NS_CLIENT)
            && self.kind() == Some("groupchat")
            && self.has_child("subject", NS_CLIENT)
            && !self.has_child("body", NS_CLIENT)
    }
}

impl Deref for Stanza {
    type Target = Element;

    fn deref(&self) -> &Element {
        &self.element
    }
}

impl fmt::Debug for Stanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shorten(self.raw_str()))
    }
}

/// What the reader found next.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// The stream header; its raw bytes begin with the XML declaration, if there was one.
    Open(Stanza),
    /// A complete child of the stream element.
    Stanza(Stanza),
    /// The end tag of the stream.
    Close,
}

/// Takes bytes as they come and gives stream headers and stanzas with their bytes.
pub struct StreamReader {
    parser: rxml::Parser,
    /// Bytes that belong to no finished item yet.
    pending: BytesMut,
    /// How many of `pending` the parser has taken.
    parsed: usize,
    /// How many of `pending` the parser has given out in events.
    accounted: usize,
    open: bool,
    /// The stanza that is being read, outermost element first.
    stack: Vec<Element>,
    /// See [`Self::of_component`].
    of_component: bool,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self::new()
    }
}

/// It says nothing about itself in failure messages.
impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl StreamReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        let options = rxml::Options {
            max_token_length: MAX_TOKEN,
            ..rxml::Options::default()
        };
        Self {
            parser: rxml::Parser::with_options(options),
            pending: BytesMut::new(),
            parsed: 0,
            accounted: 0,
            open: false,
            stack: Vec::new(),
            of_component: false,
        }
    }

    /// From now on elements of a component's namespace are given as those of a client's: it is
    /// the same stanza in either.
    pub(crate) fn of_component(&mut self) {
        self.of_component = true;
    }

    /// Adds bytes from the peer.
    pub fn feed(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
    }

    /// Begins a new stream with whatever has been fed and not been given out (RFC 6120 4.3.3).
    pub fn restart(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let of_component = self.of_component;
        *self = Self {
            pending,
            of_component,
            ..Self::new()
        };
    }

    /// Bytes that have been fed and not been given out.
    pub fn rest(&self) -> &[u8] {
        &self.pending
    }

    /// The next complete item, or `None` until more bytes are fed.
    pub fn next_item(&mut self) -> Result<Option<Incoming>, XmlError> {
        loop {
            let mut rest = &self.pending[self.parsed..];
            let before = rest.len();
            let result = self.parser.parse(&mut rest, false);
            self.parsed += before - rest.len();
            let event = match result {
                Ok(Some(event)) => event,
                Ok(None) | Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(error)) => return Err(self.malformed(error)),
            };
            self.accounted += event.metrics().len();
            if let Some(item) = self.take_event(event)? {
                return Ok(Some(item));
            }
        }
    }

    fn take_event(&mut self, event: rxml::Event) -> Result<Option<Incoming>, XmlError> {
        match event {
            rxml::Event::XmlDeclaration(..) => {}
            rxml::Event::StartElement(_, (ns, name), attrs) => {
                let translate = self.of_component && ns.as_str() == NS_COMPONENT;
                let ns = if translate { NS_CLIENT } else { ns.as_str() };
                let mut element = Element::bare(name.as_str(), ns);
                *element.attrs_mut() = attrs;
                if !self.open {
                    self.open = true;
                    let raw = self.take_raw();
                    return Ok(Some(Incoming::Open(Stanza { element, raw })));
                }
                self.stack.push(element);
            }
            rxml::Event::Text(_, text) => match self.stack.last_mut() {
                Some(parent) => parent.append_text(text),
                None if text.trim().is_empty() => drop(self.take_raw()),
                None => return Err(XmlError::TextBetweenStanzas(text)),
            },
            rxml::Event::EndElement(_) => {
                let Some(element) = self.stack.pop() else {
                    drop(self.take_raw());
                    return Ok(Some(Incoming::Close));
                };
                if let Some(parent) = self.stack.last_mut() {
                    parent.append_child(element);
                } else {
                    let raw = self.take_raw();
                    return Ok(Some(Incoming::Stanza(Stanza { element, raw })));
                }
            }
        }
        Ok(None)
    }

    fn take_raw(&mut self) -> Bytes {
        let raw = self.pending.split_to(self.accounted).freeze();
        self.parsed -= self.accounted;
        self.accounted = 0;
        raw
    }

    fn malformed(&self, error: rxml::Error) -> XmlError {
        let seen = &self.pending[..self.parsed];
        let near = &seen[seen.len().saturating_sub(200)..];
        XmlError::Malformed {
            error,
            near: String::from_utf8_lossy(near).into_owned(),
        }
    }
}

/// Cuts what is too long to be read in a failure message.
pub(crate) fn shorten(text: &str) -> String {
    const LIMIT: usize = 4000;
    if text.len() <= LIMIT {
        return text.to_owned();
    }
    let head: String = text.chars().take(LIMIT / 2).collect();
    format!("{head}… ({} bytes)", text.len())
}

/// Escapes text for element content and attribute values in either kind of quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "<?xml version='1.0'?>\n<stream:stream xmlns='jabber:client' \
                          xmlns:stream='http://etherx.jabber.org/streams' id='a'>";
    const FIRST: &str = "<message a:b='&#xe4;' xmlns:a='urn:a' to=\"x\"><body>1 &lt; 2\u{1f600}\
                         </body><e/></message>";
    const SECOND: &str = "<r xmlns='urn:xmpp:sm:3'/>";

    fn read_in_pieces(size: usize) -> Vec<Incoming> {
        let all = format!("{HEADER}{FIRST}\n {SECOND}{FIRST}</stream:stream>");
        let mut reader = StreamReader::new();
        let mut items = Vec::new();
        for piece in all.as_bytes().chunks(size) {
            reader.feed(piece);
            while let Some(item) = reader.next_item().unwrap() {
                items.push(item);
            }
        }
        items
    }

    #[test]
    fn raw_bytes_are_exact_for_every_split() {
        for size in [1, 2, 3, 7, 50, 10_000] {
            let items = read_in_pieces(size);
            assert_eq!(items.len(), 5, "pieces of {size}");
            let Incoming::Open(open) = &items[0] else {
                panic!("{items:?}")
            };
            assert_eq!(open.raw_str(), HEADER);
            for (item, expected) in items[1..4].iter().zip([FIRST, SECOND, FIRST]) {
                let Incoming::Stanza(stanza) = item else {
                    panic!("{item:?}")
                };
                assert_eq!(stanza.raw_str(), expected, "pieces of {size}");
            }
            assert!(matches!(items[4], Incoming::Close));
        }
    }

    #[test]
    fn long_values_pass_and_a_wrong_tag_does_not() {
        let mut reader = StreamReader::new();
        reader.feed(HEADER.as_bytes());
        let long = "x".repeat(200_000);
        reader.feed(format!("<message id='{long}'><body>{long}</body></message>").as_bytes());
        assert!(matches!(reader.next_item(), Ok(Some(Incoming::Open(_)))));
        let Ok(Some(Incoming::Stanza(stanza))) = reader.next_item() else {
            panic!("no stanza")
        };
        assert_eq!(stanza.id().unwrap().len(), 200_000);
        assert_eq!(stanza.body().unwrap().len(), 200_000);
        reader.feed(b"<a></b>");
        assert!(matches!(
            reader.next_item(),
            Err(XmlError::Malformed { .. })
        ));
    }
}
