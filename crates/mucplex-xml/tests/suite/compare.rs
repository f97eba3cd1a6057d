//! Holds the framer against rxml, an XML parser of other authors: what the framer lets through,
//! rxml must read, and as the same tree. The fuzz target includes this file.

use std::collections::BTreeMap;

use mucplex_xml::{Element, Event, Frame, Framer, FramingError, Kind, Limits, StreamHeader};
use rxml::{Parse, WithOptions};

/// An element as XML means it, however it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) ns: String,
    /// By namespace and local name.
    pub(crate) attributes: BTreeMap<(String, String), String>,
    /// The direct text, in one piece.
    pub(crate) text: String,
    pub(crate) children: Vec<Tree>,
}

impl Tree {
    /// The tree as [`Element`] walks it.
    pub(crate) fn of(element: &Element<'_>) -> Self {
        Self {
            name: element.name().to_owned(),
            ns: element.ns().into_owned(),
            attributes: element
                .attributes()
                .map(|(name, ns, value)| ((ns.into_owned(), name.to_owned()), value.into_owned()))
                .collect(),
            text: element.text(),
            children: element.children().map(|child| Self::of(&child)).collect(),
        }
    }

    pub(crate) fn attr(&self, name: &str) -> Option<&str> {
        self.attributes
            .get(&(String::new(), name.to_owned()))
            .map(String::as_str)
    }
}

/// Reads a document, or the beginning of one that lacks nothing but its last end tag, with rxml.
pub(crate) fn read_with_rxml(bytes: &[u8], whole: bool) -> Result<Tree, String> {
    let mut parser = rxml::Parser::with_options(rxml::parser::Options {
        max_token_length: bytes.len() + 64,
        ..rxml::parser::Options::default()
    });
    let mut rest = bytes;
    let mut open: Vec<Tree> = Vec::new();
    let mut root = None;
    loop {
        let event = match parser.parse(&mut rest, whole) {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(rxml::error::EndOrError::NeedMoreData) if !whole => break,
            Err(error) => return Err(format!("{error:?}")),
        };
        match event {
            rxml::Event::XmlDeclaration(..) => {}
            rxml::Event::StartElement(_, (ns, name), attributes) => open.push(Tree {
                name: name.to_string(),
                ns: ns.to_string(),
                attributes: attributes
                    .into_iter()
                    .map(|((ns, name), value)| ((ns.to_string(), name.to_string()), value))
                    .collect(),
                ..Tree::default()
            }),
            rxml::Event::EndElement(_) => {
                let done = open.pop().ok_or("end without a start")?;
                match open.last_mut() {
                    Some(outer) => outer.children.push(done),
                    None => root = Some(done),
                }
            }
            rxml::Event::Text(_, text) => {
                let inner = open.last_mut().ok_or("text outside")?;
                inner.text.push_str(&text);
            }
        }
    }
    match (root, open.len()) {
        (Some(root), _) if whole => Ok(root),
        (None, 1) if !whole => Ok(open.remove(0)),
        (_, depth) => Err(format!("{depth} elements open at the end")),
    }
}

/// What a framer made of some bytes.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) header: Option<StreamHeader>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) ended: bool,
    pub(crate) error: Option<FramingError>,
    /// What was let through, from the header on.
    pub(crate) accepted: Vec<u8>,
}

/// Gives all of `bytes` to a framer at once.
pub(crate) fn frame_all(bytes: &[u8], limits: Limits) -> Outcome {
    let mut framer = Framer::new(limits);
    framer.push(bytes);
    let mut outcome = Outcome {
        header: None,
        frames: Vec::new(),
        ended: false,
        error: None,
        accepted: Vec::new(),
    };
    loop {
        match framer.next_event() {
            Ok(Some(Event::Header(header))) => {
                outcome.accepted.extend_from_slice(header.bytes());
                outcome.header = Some(header);
            }
            Ok(Some(Event::Frame(frame))) => {
                outcome.accepted.extend_from_slice(frame.bytes());
                outcome.frames.push(frame);
            }
            Ok(Some(Event::Whitespace(space))) => outcome.accepted.extend_from_slice(&space),
            Ok(Some(Event::End)) => outcome.ended = true,
            Ok(None) => return outcome,
            Err(error) => {
                outcome.error = Some(error);
                return outcome;
            }
        }
    }
}

/// Line ends as XML 1.0 2.11 wants them before anything else is done. rxml does it on the way and
/// errs where a lone CR stands in an attribute value or behind a `]` in a CDATA section.
fn with_normal_line_ends(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => {}
            b'\r' => out.push(b'\n'),
            byte => out.push(byte),
        }
    }
    out
}

/// Frames `input` and panics where rxml disagrees with anything that was let through, or where
/// the parts of this crate disagree with each other.
pub(crate) fn check(input: &[u8], limits: Limits) -> Outcome {
    let outcome = frame_all(input, limits);
    let Some(header) = &outcome.header else {
        assert!(outcome.frames.is_empty());
        return outcome;
    };
    let mut document = with_normal_line_ends(&outcome.accepted);
    if outcome.ended {
        document.extend_from_slice(b"</");
        document.extend_from_slice(raw_root_name(header).as_bytes());
        document.push(b'>');
    }
    let stream = match read_with_rxml(&document, outcome.ended) {
        Ok(tree) => tree,
        Err(error) => panic!(
            "rxml refuses what was let through: {error}\n{}",
            String::from_utf8_lossy(&outcome.accepted)
        ),
    };
    check_header(header, &stream);
    assert_eq!(stream.children.len(), outcome.frames.len());
    for (frame, tree) in outcome.frames.iter().zip(&stream.children) {
        check_frame(frame, tree);
    }
    outcome
}

fn raw_root_name(header: &StreamHeader) -> String {
    let text = String::from_utf8(header.bytes().to_vec()).unwrap();
    let end = text
        .find(|c: char| c.is_ascii_whitespace() || c == '>')
        .unwrap();
    text[1..end].to_owned()
}

fn check_header(header: &StreamHeader, tree: &Tree) {
    assert_eq!(tree.name, "stream");
    assert_eq!(tree.ns, "http://etherx.jabber.org/streams");
    assert_eq!(header.to().as_deref(), tree.attr("to"));
    assert_eq!(header.from().as_deref(), tree.attr("from"));
    assert_eq!(header.id().as_deref(), tree.attr("id"));
    assert_eq!(header.version().as_deref(), tree.attr("version"));
}

fn check_frame(frame: &Frame, tree: &Tree) {
    assert_eq!(&Tree::of(&frame.root()), tree, "{frame:?}");
    check_head(frame, tree);
    assert_eq!(frame.root().span(), 0..frame.bytes().len());

    let alone = frame.portable();
    check_head(&alone, tree);
    let again = Frame::parse(alone.bytes().clone(), &no_limits()).unwrap();
    check_head(&again, tree);
    assert_eq!(&Tree::of(&again.root()), tree, "{alone:?}");
    // Nothing of the stream is left that a second call could write.
    assert_eq!(again.portable().bytes(), alone.bytes());

    let to = "a&'\"<>\t\r\n\u{1f600}@b/c";
    let copy = Frame::parse(alone.with_to(to).to_bytes(), &no_limits()).unwrap();
    assert_eq!(copy.to().as_deref(), Some(to));
    let mut expected = tree.clone();
    expected
        .attributes
        .insert((String::new(), "to".to_owned()), to.to_owned());
    assert_eq!(Tree::of(&copy.root()), expected);
}

fn check_head(frame: &Frame, tree: &Tree) {
    const XML: &str = "http://www.w3.org/XML/1998/namespace";
    assert_eq!(frame.name(), tree.name);
    assert_eq!(frame.ns(), tree.ns);
    assert_eq!(frame.to().as_deref(), tree.attr("to"));
    assert_eq!(frame.from().as_deref(), tree.attr("from"));
    assert_eq!(frame.id().as_deref(), tree.attr("id"));
    assert_eq!(frame.stanza_type().as_deref(), tree.attr("type"));
    let lang = tree.attributes.get(&(XML.to_owned(), "lang".to_owned()));
    assert_eq!(frame.lang().as_deref(), lang.map(String::as_str));
    let kind = match (&*tree.ns, &*tree.name) {
        ("jabber:client", "message") => Kind::Message,
        ("jabber:client", "presence") => Kind::Presence,
        ("jabber:client", "iq") => Kind::Iq,
        ("http://etherx.jabber.org/streams", "error") => Kind::StreamError,
        ("http://etherx.jabber.org/streams", "features") => Kind::StreamFeatures,
        _ => Kind::Nonza,
    };
    assert_eq!(frame.kind(), kind);
}

/// Far above anything a test sends.
pub(crate) fn no_limits() -> Limits {
    Limits {
        stanza_bytes: 1 << 30,
        depth: 1 << 20,
        attributes: 1 << 12,
        name_bytes: 1 << 20,
        unbound_prefixes: false,
    }
}
