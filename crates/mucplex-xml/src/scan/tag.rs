//! Start tags and end tags: names, attributes, namespaces, nesting.

use smallvec::SmallVec;

use super::{Attribute, Extent, Scanner, State, Step};
use crate::{
    FramingError, Limits,
    chars::{self, APOS_STOP, QUOT_STOP},
    frame::{Namespace, root_namespace},
    names,
    scope::{NamespaceId, Scope, check_default},
    span::Span,
};

impl Scanner {
    /// After `<`.
    pub(super) fn open(&mut self, data: &[u8], limits: &Limits) -> Result<Step, FramingError> {
        let Some(byte) = self.peek(data) else {
            return Ok(Step::More);
        };
        match byte {
            b'/' if !self.open.is_empty() => {
                self.at += 1;
                self.state = State::Close { matched: 0 };
                self.close(data, 0)
            }
            b'!' => {
                self.at += 1;
                Ok(self.go(State::Bang { matched: 0 }))
            }
            b'?' => {
                self.at += 1;
                Ok(self.go(State::Instruction))
            }
            _ => {
                if self.open.len() >= limits.depth {
                    return Err(FramingError::Limit("depth"));
                }
                self.begin_name();
                self.attributes.clear();
                self.state = State::ElementName;
                self.element_name(data, limits)
            }
        }
    }

    fn begin_name(&mut self) {
        self.name_start = self.at;
        self.colon = None;
    }

    pub(super) fn element_name(
        &mut self,
        data: &[u8],
        limits: &Limits,
    ) -> Result<Step, FramingError> {
        if !self.name(data, limits)? {
            return Ok(Step::More);
        }
        self.element = self.finished_name();
        self.gap(data, false, limits)
    }

    /// Reads on in a qualified name; whether its end has been seen.
    #[inline]
    fn name(&mut self, data: &[u8], limits: &Limits) -> Result<bool, FramingError> {
        if self.at == self.name_start && self.plain_name(data, limits) {
            return Ok(true);
        }
        loop {
            let part = self.colon.map_or(self.name_start, |colon| colon + 1);
            match self.name_chars(data, part, self.name_start, limits)? {
                None => return Ok(false),
                Some(b':') if self.colon.is_some() => {
                    return Err(FramingError::Syntax("name with two colons"));
                }
                Some(b':') => {
                    self.colon = Some(self.at);
                    self.at += 1;
                }
                Some(_) => return Ok(true),
            }
        }
    }

    /// Takes a name that is there in one piece, in ASCII and without a prefix, as nearly all are.
    #[inline]
    fn plain_name(&mut self, data: &[u8], limits: &Limits) -> bool {
        let rest = data.get(self.at..).unwrap_or_default();
        let length = chars::run_of(rest, chars::NAME);
        let begins = rest
            .first()
            .is_some_and(|&byte| chars::is(byte, chars::NAME_START));
        let ends = rest
            .get(length)
            .is_some_and(|&byte| byte < 0x80 && byte != b':');
        if !begins || !ends || length > limits.name_bytes {
            return false;
        }
        self.at += length;
        true
    }

    /// Reads on in an `NCName` that began at `start`, as part of a name that began at `whole`.
    /// Gives the byte behind it, which stays.
    pub(super) fn name_chars(
        &mut self,
        data: &[u8],
        start: usize,
        whole: usize,
        limits: &Limits,
    ) -> Result<Option<u8>, FramingError> {
        if self.at == start {
            match self.peek(data) {
                None => return Ok(None),
                Some(0x80..) => match self.character(data)? {
                    None => return Ok(None),
                    Some(c) if names::is_name_start(c) => {}
                    Some(_) => return Err(FramingError::Syntax("character not in a name")),
                },
                Some(byte) if chars::is(byte, chars::NAME_START) => {}
                Some(byte) => return Err(name_error(byte)),
            }
        }
        loop {
            self.at += chars::run_of(data.get(self.at..).unwrap_or_default(), chars::NAME);
            if self.at - whole > limits.name_bytes {
                return Err(FramingError::Limit("name bytes"));
            }
            match self.peek(data) {
                Some(0x80..) => match self.character(data)? {
                    None => return Ok(None),
                    Some(c) if names::is_name_char(c) => {}
                    Some(_) => return Err(FramingError::Syntax("character not in a name")),
                },
                byte => return Ok(byte),
            }
        }
    }

    /// The name that has just been read.
    fn finished_name(&self) -> Attribute {
        Attribute {
            name: Span::new(self.name_start, self.at),
            prefix: self.colon.map_or(0, |colon| colon - self.name_start),
        }
    }

    /// Between the attributes of a start tag.
    pub(super) fn gap(
        &mut self,
        data: &[u8],
        spaced: bool,
        limits: &Limits,
    ) -> Result<Step, FramingError> {
        let spaced = self.skip_space(data) || spaced;
        let Some(byte) = self.peek(data) else {
            self.state = State::Gap { spaced };
            return Ok(Step::More);
        };
        match byte {
            b'>' => {
                self.at += 1;
                self.finish_start_tag(data, limits)?;
                if self.extent == Extent::StartTag {
                    return Ok(self.go(State::Done));
                }
                self.open.push(self.element.name);
                Ok(self.go(State::Text))
            }
            b'/' => {
                self.at += 1;
                Ok(self.go(State::Slash))
            }
            _ if !spaced => Err(name_error(byte)),
            _ => {
                if self.attributes.len() >= limits.attributes {
                    return Err(FramingError::Limit("attributes"));
                }
                self.begin_name();
                self.state = State::AttributeName;
                self.attribute_name(data, limits)
            }
        }
    }

    pub(super) fn slash(&mut self, data: &[u8], limits: &Limits) -> Result<Step, FramingError> {
        match self.next(data) {
            None => return Ok(Step::More),
            Some(b'>') => {}
            Some(_) => return Err(FramingError::Syntax("`/` in a start tag")),
        }
        self.finish_start_tag(data, limits)?;
        if self.extent == Extent::StartTag {
            // RFC 6120 4.2: a stream begins with a start tag. One that ends with it carries nothing.
            return Err(FramingError::NotAStream("header is an empty element"));
        }
        self.scope.leave(data, self.open.len());
        Ok(self.after_element())
    }

    pub(super) fn attribute_name(
        &mut self,
        data: &[u8],
        limits: &Limits,
    ) -> Result<Step, FramingError> {
        if !self.name(data, limits)? {
            return Ok(Step::More);
        }
        self.attribute = self.finished_name();
        self.state = State::BeforeEquals;
        self.before_equals(data)
    }

    pub(super) fn before_equals(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        self.skip_space(data);
        match self.next(data) {
            None => Ok(Step::More),
            Some(b'=') => {
                self.state = State::BeforeValue;
                self.before_value(data)
            }
            Some(_) => Err(FramingError::Syntax("attribute without a value")),
        }
    }

    pub(super) fn before_value(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        self.skip_space(data);
        match self.next(data) {
            None => Ok(Step::More),
            Some(quote @ (b'"' | b'\'')) => {
                self.value_start = self.at;
                self.state = State::Value { quote };
                self.value(data, quote)
            }
            Some(_) => Err(FramingError::Syntax("attribute value without quotes")),
        }
    }

    pub(super) fn value(&mut self, data: &[u8], quote: u8) -> Result<Step, FramingError> {
        let end = if quote == b'\'' {
            self.run::<APOS_STOP>(data)?
        } else {
            self.run::<QUOT_STOP>(data)?
        };
        match end {
            None => Ok(Step::More),
            Some(b'<') => Err(FramingError::Syntax("`<` in an attribute value")),
            Some(b'&') => {
                self.at += 1;
                self.referrer = State::Value { quote };
                Ok(self.go(State::Reference))
            }
            Some(_) => {
                let value = Span::new(self.value_start, self.at);
                self.at += 1;
                self.finish_attribute(data, value)?;
                Ok(self.go(State::Gap { spaced: false }))
            }
        }
    }

    fn finish_attribute(&mut self, data: &[u8], value: Span) -> Result<(), FramingError> {
        let attribute = self.attribute;
        let name = attribute.name.of(data);
        if self.open.is_empty() {
            self.head.note(name, value);
        }
        if attribute.prefix > 0 {
            if let Some(prefix) = declared_prefix(data, attribute) {
                self.scope.declare(data, prefix, value, self.open.len())?;
            }
        } else if name == b"xmlns" {
            check_default(value.of(data))?;
        }
        self.attributes.push(attribute);
        Ok(())
    }

    /// At the end of a start tag all declarations are known: XML 1.0 3.1 "Unique Att Spec",
    /// "Namespaces in XML" 5 "Prefix Declared" and 6.3 "Attributes Unique".
    fn finish_start_tag(&mut self, data: &[u8], limits: &Limits) -> Result<(), FramingError> {
        let element = self.element;
        if self.open.is_empty() {
            self.head.set_name(element.name, element.prefix);
            self.refuse_nested_stream(data)?;
        }
        if element.prefix > 0 {
            resolve(&mut self.scope, prefix_of(data, element), limits)?;
        }
        let names = self
            .attributes
            .iter()
            .map(|attribute| attribute.name.of(data));
        if has_duplicate(names.collect::<SmallVec<[_; 16]>>()) {
            return Err(FramingError::DuplicateAttribute);
        }
        let mut expanded: SmallVec<[(&[u8], NamespaceId); 8]> = SmallVec::new();
        for &attribute in &self.attributes {
            if attribute.prefix > 0 && declared_prefix(data, attribute).is_none() {
                let namespace = resolve(&mut self.scope, prefix_of(data, attribute), limits)?;
                expanded.extend(namespace.map(|namespace| (local_of(data, attribute), namespace)));
            }
        }
        if has_duplicate(expanded) {
            return Err(FramingError::DuplicateAttribute);
        }
        Ok(())
    }

    /// A peer that opens its stream anew where nothing asked it to would be waited for until its
    /// stream ends; nothing else sends such an element.
    fn refuse_nested_stream(&self, data: &[u8]) -> Result<(), FramingError> {
        let nested = self.extent == Extent::Element
            && self.head.local(data) == "stream"
            && root_namespace(data, self.head, self.scope.ambient()) == Namespace::Streams;
        if nested {
            return Err(FramingError::NotAStream("a stream in a stream"));
        }
        Ok(())
    }

    pub(super) fn close(&mut self, data: &[u8], matched: usize) -> Result<Step, FramingError> {
        let name = self.open.last().copied().unwrap_or_default().of(data);
        let expected = name.get(matched..).unwrap_or_default();
        let arrived = data.get(self.at..).unwrap_or_default();
        let comparable = expected.len().min(arrived.len());
        if expected.get(..comparable) != arrived.get(..comparable) {
            return Err(FramingError::TagMismatch);
        }
        self.at += comparable;
        if comparable < expected.len() {
            self.state = State::Close {
                matched: matched + comparable,
            };
            return Ok(Step::More);
        }
        self.state = State::CloseGap;
        self.close_gap(data)
    }

    pub(super) fn close_gap(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        self.skip_space(data);
        match self.next(data) {
            None => Ok(Step::More),
            Some(b'>') => {
                self.open.pop();
                self.scope.leave(data, self.open.len());
                Ok(self.after_element())
            }
            // A longer name, or an attribute where none may be.
            Some(_) => Err(FramingError::TagMismatch),
        }
    }

    fn after_element(&mut self) -> Step {
        self.go(if self.open.is_empty() {
            State::Done
        } else {
            State::Text
        })
    }
}

/// The prefix that `xmlns:prefix` declares.
fn declared_prefix(data: &[u8], attribute: Attribute) -> Option<Span> {
    let Span { start, end } = attribute.name;
    (prefix_of(data, attribute) == b"xmlns").then_some(Span {
        start: start + 6,
        end,
    })
}

fn prefix_of(data: &[u8], name: Attribute) -> &[u8] {
    name.name.of(data).get(..name.prefix).unwrap_or_default()
}

/// The local part of a name that has a prefix.
fn local_of(data: &[u8], name: Attribute) -> &[u8] {
    name.name
        .of(data)
        .get(name.prefix + 1..)
        .unwrap_or_default()
}

fn name_error(byte: u8) -> FramingError {
    match byte {
        b'\t' | b'\n' | b'\r' => FramingError::Syntax("name expected"),
        0..=0x1f => FramingError::Character,
        _ => FramingError::Syntax("name expected"),
    }
}

/// The namespace of a prefix, `None` for one that nothing declares where that may be.
fn resolve(
    scope: &mut Scope,
    prefix: &[u8],
    limits: &Limits,
) -> Result<Option<NamespaceId>, FramingError> {
    match scope.resolve(prefix) {
        Err(FramingError::UnboundPrefix) if limits.unbound_prefixes => Ok(None),
        resolved => resolved.map(Some),
    }
}

/// Whether two of some names are the same. Comparing each with each is the fastest for the few that
/// elements have; for many it would give a peer a way to make work.
fn has_duplicate<A>(mut names: SmallVec<A>) -> bool
where
    A: smallvec::Array,
    A::Item: Ord,
{
    if names.len() > 16 {
        names.sort_unstable();
        return names
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a == b));
    }
    let mut rest = names.as_slice();
    while let Some((first, others)) = rest.split_first() {
        if others.contains(first) {
            return true;
        }
        rest = others;
    }
    false
}
