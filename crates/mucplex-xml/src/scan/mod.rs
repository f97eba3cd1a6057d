//! The scanner: checks one element byte by byte and notes where the parts of its head lie.
//!
//! It is a state machine that can stop and go on at any byte. Where a character or the name that
//! began a piece is cut, that much is looked at once more; nothing else is. What it lets through is
//! well-formed XML 1.0 with well-formed namespaces, less what RFC 6120 11.1 leaves out.

mod content;
mod tag;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    FramingError, Limits,
    chars::{self, Decoded},
    frame::Head,
    scope::{Ambient, Scope},
    span::Span,
};

/// Where in an element the scanner is: what the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Right before the element.
    Start,
    /// After `<`.
    Open,
    /// In the name of a start tag.
    ElementName,
    /// Between the parts of a start tag; whether white space has been seen.
    Gap { spaced: bool },
    /// In the name of an attribute.
    AttributeName,
    /// Between an attribute's name and `=`.
    BeforeEquals,
    /// Between `=` and the value.
    BeforeValue,
    /// In an attribute value that this quote ends.
    Value { quote: u8 },
    /// After `/` in a start tag.
    Slash,
    /// In the name of an end tag, of which so many bytes have matched.
    Close { matched: usize },
    /// After the name of an end tag.
    CloseGap,
    /// In character data.
    Text,
    /// After `<!`, with so many bytes of `[CDATA[` seen.
    Bang { matched: usize },
    /// After `<!-`.
    Comment,
    /// After `<?`.
    Instruction,
    /// In a CDATA section.
    Cdata,
    /// In a reference: after `&`.
    Reference,
    /// In a reference: in the name of an entity, which began here.
    Entity { start: usize },
    /// In a reference: after `&#`.
    Number,
    /// In a reference: in its digits.
    Digits { radix: u32, value: u32, count: u8 },
    /// Behind the last byte.
    Done,
}

/// Whether a call of a state's function came to an end of the state.
enum Step {
    /// The next state is set.
    Next,
    /// More bytes are needed.
    More,
}

/// How much of an element a scanner reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Up to its end tag.
    Element,
    /// Its start tag alone: the header of a stream.
    StartTag,
}

/// One attribute of the start tag that is being scanned.
#[derive(Clone, Copy, Debug)]
struct Attribute {
    name: Span,
    /// Bytes of the prefix; 0 without one.
    prefix: usize,
}

/// Checks one element, or the start tag of one.
#[derive(Debug)]
pub(crate) struct Scanner {
    extent: Extent,
    state: State,
    /// The first byte that has not been looked at.
    at: usize,
    /// Where the name that is being read begins, and where its colon is.
    name_start: usize,
    colon: Option<usize>,
    /// Name of the element whose start tag is being read.
    element: Attribute,
    attributes: SmallVec<[Attribute; 16]>,
    /// Name of the attribute whose value is being read, and where the value begins.
    attribute: Attribute,
    value_start: usize,
    /// The state a reference returns to.
    referrer: State,
    /// Raw names of the open elements.
    open: Vec<Span>,
    scope: Scope,
    head: Head,
}

const NO_NAME: Attribute = Attribute {
    name: Span { start: 0, end: 0 },
    prefix: 0,
};

impl Scanner {
    pub(crate) fn new(extent: Extent, ambient: Arc<Ambient>) -> Self {
        Self {
            extent,
            state: State::Start,
            at: 0,
            name_start: 0,
            colon: None,
            element: NO_NAME,
            attributes: SmallVec::new(),
            attribute: NO_NAME,
            value_start: 0,
            referrer: State::Text,
            open: Vec::new(),
            scope: Scope::new(ambient),
            head: Head::default(),
        }
    }

    /// Makes ready for the next element of the same stream.
    pub(crate) fn reset(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.attributes.clear();
        self.open.clear();
        self.scope.clear();
        self.head = Head::default();
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Goes on with `data`, which begins where the element begins and holds everything that has
    /// arrived of it. `Some(length)` when the element is complete.
    ///
    /// # Errors
    /// What makes the element one that RFC 6120 does not allow, or the limit it passes.
    pub(crate) fn scan(
        &mut self,
        data: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, FramingError> {
        let limit = limits.stanza_bytes.min(u32::MAX as usize);
        // Cut at the limit first: so an error before it and the limit itself come in the same
        // order, however the bytes arrive.
        let within = data.get(..limit).unwrap_or(data);
        loop {
            if self.state == State::Done {
                return Ok(Some(self.at));
            }
            if let Step::More = self.step(within, limits)? {
                if data.len() > limit {
                    return Err(FramingError::Limit("stanza bytes"));
                }
                return Ok(None);
            }
        }
    }

    /// Goes on with the state. What usually follows is called from there at once, in a chain that
    /// ends with an attribute or a tag: so a tag without oddities takes few steps.
    fn step(&mut self, data: &[u8], limits: &Limits) -> Result<Step, FramingError> {
        match self.state {
            State::Text => self.text(data, limits),
            State::Open => self.open(data, limits),
            State::ElementName => self.element_name(data, limits),
            State::Gap { spaced } => self.gap(data, spaced, limits),
            State::AttributeName => self.attribute_name(data, limits),
            State::BeforeEquals => self.before_equals(data),
            State::BeforeValue => self.before_value(data),
            State::Value { quote } => self.value(data, quote),
            State::Slash => self.slash(data, limits),
            State::Close { matched } => self.close(data, matched),
            State::CloseGap => self.close_gap(data),
            State::Bang { matched } => self.bang(data, matched),
            State::Comment => self.comment(data),
            State::Instruction => self.instruction(data),
            State::Cdata => self.cdata(data),
            State::Reference => self.reference(data),
            State::Entity { start } => self.entity(data, start, limits),
            State::Number => self.number(data),
            State::Digits {
                radix,
                value,
                count,
            } => self.digits(data, radix, value, count),
            State::Start => match self.next(data) {
                Some(b'<') => Ok(self.go(State::Open)),
                Some(_) => Err(FramingError::Syntax("text outside of an element")),
                None => Ok(Step::More),
            },
            State::Done => Ok(Step::Next),
        }
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        Step::Next
    }

    /// Takes the next byte.
    fn next(&mut self, data: &[u8]) -> Option<u8> {
        let byte = data.get(self.at).copied();
        if byte.is_some() {
            self.at += 1;
        }
        byte
    }

    /// The next byte, which stays.
    fn peek(&self, data: &[u8]) -> Option<u8> {
        data.get(self.at).copied()
    }

    fn skip_space(&mut self, data: &[u8]) -> bool {
        let run = chars::run_of(data.get(self.at..).unwrap_or_default(), chars::SPACE);
        self.at += run;
        run > 0
    }

    /// Takes a character that is not ASCII; `None` when its end has not arrived.
    fn character(&mut self, data: &[u8]) -> Result<Option<char>, FramingError> {
        match chars::decode(data.get(self.at..).unwrap_or_default()) {
            Decoded::Char(c, _) if !chars::is_xml_char(c) => Err(FramingError::Character),
            Decoded::Char(c, length) => {
                self.at += length;
                Ok(Some(c))
            }
            Decoded::Unfinished => Ok(None),
            Decoded::Invalid => Err(FramingError::Utf8),
        }
    }

    /// Takes a run of characters up to a byte of `STOP` that is ASCII, which stays and is given.
    #[inline]
    fn run<const STOP: u8>(&mut self, data: &[u8]) -> Result<Option<u8>, FramingError> {
        loop {
            self.at += chars::run_without::<STOP>(data.get(self.at..).unwrap_or_default());
            match self.peek(data) {
                None => return Ok(None),
                Some(0x80..) => {
                    let mut rest = data.get(self.at..).unwrap_or_default();
                    while let Some(length) = chars::long_char(rest) {
                        self.at += length;
                        rest = rest.get(length..).unwrap_or_default();
                    }
                    if rest.first().is_some_and(|&byte| byte >= 0x80)
                        && self.character(data)?.is_none()
                    {
                        return Ok(None);
                    }
                }
                Some(0..=0x1f) => return Err(FramingError::Character),
                byte => return Ok(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(xml: &[u8], limits: &Limits) -> Result<Option<usize>, FramingError> {
        Scanner::new(Extent::Element, Ambient::standard().clone()).scan(xml, limits)
    }

    #[test]
    fn takes_one_element_and_leaves_the_rest() {
        let xml = b"<message to='a'><body>x</body></message><r/>";
        assert_eq!(scan(xml, &Limits::default()), Ok(Some(xml.len() - 4)));
    }

    #[test]
    fn a_prefix_ends_with_its_element() {
        let limits = Limits::default();
        assert!(
            scan(b"<a><b xmlns:p='u'/><p:c/></a>", &limits) == Err(FramingError::UnboundPrefix)
        );
        let shadowed = b"<a xmlns:p='u'><b xmlns:p='v'/><p:c/></a>";
        assert_eq!(scan(shadowed, &limits), Ok(Some(shadowed.len())));
    }

    #[test]
    fn the_limit_is_the_last_byte_that_is_allowed() {
        let limits = Limits {
            stanza_bytes: 8,
            ..Limits::default()
        };
        assert_eq!(scan(b"<a>b</a>", &limits), Ok(Some(8)));
        assert_eq!(scan(b"<a>bb</a", &limits), Ok(None));
        assert_eq!(
            scan(b"<a>bb</a>", &limits),
            Err(FramingError::Limit("stanza bytes"))
        );
    }
}
