//! A look into a frame without a tree.

use std::{borrow::Cow, ops::Range, sync::Arc};

use memchr::{memchr, memchr3, memmem};

use crate::{
    chars,
    escape::{decode_attribute, decode_cdata, decode_text, utf8},
    scope::{Ambient, XML},
};

/// A borrowed view of one element of a [`Frame`](crate::Frame): names, attributes, children, text,
/// found by walking the bytes the framer has already checked. Nothing is allocated for what is
/// not asked.
///
/// Each question walks the bytes anew: [`children`](Self::children) costs one pass over the
/// element, [`attr`](Self::attr) one over its start tag.
#[derive(Clone, Debug)]
pub struct Element<'a> {
    /// The frame.
    data: &'a [u8],
    tag: Tag,
    default: Default<'a>,
    /// The start tags around this one, this one included, that bind prefixes.
    scope: Option<Arc<Scope<'a>>>,
    ambient: &'a Ambient,
}

/// The default namespace in scope.
#[derive(Clone, Copy, Debug)]
enum Default<'a> {
    /// An attribute value as it is written.
    Raw(&'a [u8]),
    /// What the stream header declares.
    Header(&'a str),
}

/// A start tag that binds prefixes, and the one around it that does.
#[derive(Debug)]
struct Scope<'a> {
    attributes: &'a [u8],
    outer: Option<Arc<Self>>,
}

/// Where the parts of a start tag lie in the frame.
#[derive(Clone, Copy, Debug)]
struct Tag {
    start: usize,
    name_end: usize,
    /// Behind the last attribute: at `>` or `/>`.
    attributes_end: usize,
    empty: bool,
}

impl Tag {
    /// Reads the start tag that begins at `start`.
    fn read(data: &[u8], start: usize) -> Self {
        let name = data.get(start + 1..).unwrap_or_default();
        let name_length = name
            .iter()
            .position(|&byte| matches!(byte, b'>' | b'/') || chars::is(byte, chars::SPACE));
        let name_end = start + 1 + name_length.unwrap_or(name.len());
        let close = tag_end(data, name_end);
        let empty = close > name_end && data.get(close - 1) == Some(&b'/');
        Self {
            start,
            name_end,
            attributes_end: if empty { close - 1 } else { close },
            empty,
        }
    }

    /// Behind the `>` of the start tag.
    fn end(self) -> usize {
        self.attributes_end + if self.empty { 2 } else { 1 }
    }

    fn attributes(self, data: &[u8]) -> Attributes<'_> {
        Attributes {
            data,
            at: self.name_end,
            end: self.attributes_end,
        }
    }
}

/// An attribute: its name as it is written, where its value lies, and where all of it lies with
/// the white space before it.
struct Attribute<'a> {
    name: &'a [u8],
    value: Range<usize>,
    span: Range<usize>,
}

struct Attributes<'a> {
    data: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let data = self.data.get(..self.end)?;
        let start = self.at;
        let name_start = start + chars::run_of(data.get(start..)?, chars::SPACE);
        let name = data.get(name_start..)?;
        let name = name
            .iter()
            .position(|&byte| byte == b'=' || chars::is(byte, chars::SPACE))
            .and_then(|length| name.get(..length))?;
        let rest = data.get(name_start + name.len()..)?;
        let quote_at = rest.iter().position(|&byte| matches!(byte, b'\'' | b'"'))?;
        let value_start = name_start + name.len() + quote_at + 1;
        let length = memchr(*rest.get(quote_at)?, data.get(value_start..)?)?;
        let value = value_start..value_start + length;
        self.at = value.end + 1;
        Some(Attribute {
            name,
            span: start..self.at,
            value,
        })
    }
}

/// What comes next in the content of an element.
enum Content {
    Text(Range<usize>),
    Cdata(Range<usize>),
    /// A child, by where it starts.
    Child(usize),
    /// The end tag, by where it starts.
    End(usize),
}

fn content_at(data: &[u8], at: usize) -> Content {
    let rest = data.get(at..).unwrap_or_default();
    let text = memchr(b'<', rest).unwrap_or(rest.len());
    if text > 0 {
        return Content::Text(at..at + text);
    }
    match rest.get(1) {
        Some(b'!') => {
            let start = at + b"<![CDATA[".len();
            let rest = data.get(start..).unwrap_or_default();
            let length = memmem::find(rest, b"]]>").unwrap_or(rest.len());
            Content::Cdata(start..start + length)
        }
        Some(b'/') | None => Content::End(at),
        Some(_) => Content::Child(at),
    }
}

/// Where the `>` of a start tag is, from anywhere between its name and its end.
fn tag_end(data: &[u8], mut at: usize) -> usize {
    loop {
        let rest = data.get(at..).unwrap_or_default();
        let Some(found) = memchr3(b'>', b'"', b'\'', rest) else {
            return data.len();
        };
        at += found;
        let Some(&quote @ (b'"' | b'\'')) = rest.get(found) else {
            return at;
        };
        let value = data.get(at + 1..).unwrap_or_default();
        at += memchr(quote, value).map_or(value.len() + 1, |length| length + 2);
    }
}

/// Behind the `>` of the end tag that starts at `at`.
fn end_tag_end(data: &[u8], at: usize) -> usize {
    let rest = data.get(at..).unwrap_or_default();
    memchr(b'>', rest).map_or(data.len(), |length| at + length + 1)
}

/// Where the end tag of the element begins whose content begins at `at`.
fn content_end(data: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match content_at(data, at) {
            Content::Text(span) => at = span.end,
            Content::Cdata(span) => at = span.end + b"]]>".len(),
            Content::Child(start) => {
                let close = tag_end(data, start);
                if data.get(close.saturating_sub(1)) != Some(&b'/') {
                    depth += 1;
                }
                at = close + 1;
            }
            Content::End(start) => {
                if depth == 0 || start >= data.len() {
                    return start;
                }
                depth -= 1;
                at = end_tag_end(data, start);
            }
        }
    }
}

impl<'a> Element<'a> {
    /// The element that begins with the first byte of `data`, on a stream that declares `ambient`.
    pub(crate) fn root(data: &'a [u8], ambient: &'a Ambient) -> Self {
        Self::at(data, 0, Default::Header(&ambient.default), None, ambient)
    }

    fn at(
        data: &'a [u8],
        start: usize,
        mut default: Default<'a>,
        mut scope: Option<Arc<Scope<'a>>>,
        ambient: &'a Ambient,
    ) -> Self {
        let tag = Tag::read(data, start);
        let mut binds_prefixes = false;
        for attribute in tag.attributes(data) {
            if attribute.name == b"xmlns" {
                default = Default::Raw(data.get(attribute.value).unwrap_or_default());
            } else if attribute.name.starts_with(b"xmlns:") {
                binds_prefixes = true;
            }
        }
        if binds_prefixes {
            scope = Some(Arc::new(Scope {
                attributes: data
                    .get(tag.name_end..tag.attributes_end)
                    .unwrap_or_default(),
                outer: scope,
            }));
        }
        Self {
            data,
            tag,
            default,
            scope,
            ambient,
        }
    }

    fn raw_name(&self) -> &'a [u8] {
        self.data
            .get(self.tag.start + 1..self.tag.name_end)
            .unwrap_or_default()
    }

    /// Prefix (empty without one) and local part.
    fn split_name(&self) -> (&'a [u8], &'a [u8]) {
        let name = self.raw_name();
        memchr(b':', name)
            .and_then(|colon| Some((name.get(..colon)?, name.get(colon + 1..)?)))
            .unwrap_or((b"", name))
    }

    /// Local name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        utf8(self.split_name().1)
    }

    /// Name of the element's namespace, inherited from ancestors and the stream header where the
    /// element does not declare it itself; empty for none.
    #[must_use]
    pub fn ns(&self) -> Cow<'a, str> {
        match self.split_name().0 {
            b"" => match self.default {
                Default::Raw(value) => decode_attribute(value),
                Default::Header(name) => Cow::Borrowed(name),
            },
            prefix => self.namespace_of(prefix),
        }
    }

    /// The namespace a prefix stands for inside this element; empty for one that is not bound.
    pub(crate) fn namespace_of(&self, prefix: &[u8]) -> Cow<'a, str> {
        if prefix == b"xml" {
            return Cow::Borrowed(XML);
        }
        let mut scope = self.scope.as_deref();
        while let Some(Scope { attributes, outer }) = scope {
            let declared = Attributes {
                data: attributes,
                at: 0,
                end: attributes.len(),
            }
            .find(|attribute| attribute.name.strip_prefix(b"xmlns:") == Some(prefix));
            if let Some(attribute) = declared {
                return decode_attribute(attributes.get(attribute.value).unwrap_or_default());
            }
            scope = outer.as_deref();
        }
        Cow::Borrowed(self.ambient.get(prefix).unwrap_or_default())
    }

    /// Whether this is the element `name` of the namespace `ns`.
    #[must_use]
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name() == name && self.ns() == ns
    }

    /// Value of an attribute of no namespace, decoded.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<Cow<'a, str>> {
        let span = self.attr_value_span(name)?;
        self.data.get(span).map(decode_attribute)
    }

    /// Where the attribute's value lies in the frame's bytes (between the quotes).
    #[must_use]
    pub fn attr_value_span(&self, name: &str) -> Option<Range<usize>> {
        self.attribute(name).map(|attribute| attribute.value)
    }

    /// Where the attribute lies in the frame's bytes, with the white space before it.
    pub(crate) fn attr_span(&self, name: &str) -> Option<Range<usize>> {
        self.attribute(name).map(|attribute| attribute.span)
    }

    fn attribute(&self, name: &str) -> Option<Attribute<'a>> {
        // A name with a colon has a namespace, and `xmlns` declares one.
        if name == "xmlns" || name.contains(':') {
            return None;
        }
        self.tag
            .attributes(self.data)
            .find(|attribute| attribute.name == name.as_bytes())
    }

    /// All attributes that are no namespace declarations: local name, namespace (empty for none),
    /// value.
    pub fn attributes(
        &self,
    ) -> impl Iterator<Item = (&'a str, Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let element = self.clone();
        let data = self.data;
        self.tag.attributes(data).filter_map(move |attribute| {
            let value = decode_attribute(data.get(attribute.value)?);
            let name = attribute.name;
            let (ns, local) = match memchr(b':', name) {
                None if name == b"xmlns" => return None,
                None => (Cow::Borrowed(""), name),
                Some(colon) => match name.get(..colon)? {
                    b"xmlns" => return None,
                    prefix => (element.namespace_of(prefix), name.get(colon + 1..)?),
                },
            };
            Some((utf8(local), ns, value))
        })
    }

    /// The namespace declarations of this start tag: prefix (empty for the default) and name.
    pub(crate) fn declarations(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        let data = self.data;
        self.tag.attributes(data).filter_map(move |attribute| {
            let prefix = match attribute.name.strip_prefix(b"xmlns")? {
                b"" => b"",
                rest => rest.strip_prefix(b":")?,
            };
            Some((utf8(prefix), decode_attribute(data.get(attribute.value)?)))
        })
    }

    /// Direct child elements in order.
    pub fn children(&self) -> impl Iterator<Item = Element<'a>> + use<'a> {
        let element = self.clone();
        let mut at = if self.tag.empty {
            self.data.len()
        } else {
            self.tag.end()
        };
        std::iter::from_fn(move || {
            loop {
                match content_at(element.data, at) {
                    Content::Text(span) => at = span.end,
                    Content::Cdata(span) => at = span.end + b"]]>".len(),
                    Content::Child(start) => {
                        let child = Self::at(
                            element.data,
                            start,
                            element.default,
                            element.scope.clone(),
                            element.ambient,
                        );
                        at = child.span().end;
                        return Some(child);
                    }
                    Content::End(_) => return None,
                }
            }
        })
    }

    /// First direct child of that name and namespace.
    #[must_use]
    pub fn child(&self, name: &str, ns: &str) -> Option<Element<'a>> {
        self.children().find(|child| child.is(name, ns))
    }

    /// Direct character data, decoded (references, CDATA, line ends), concatenated.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.tag.empty {
            return text;
        }
        let mut at = self.tag.end();
        loop {
            match content_at(self.data, at) {
                Content::Text(span) => {
                    at = span.end;
                    decode_text(self.data.get(span).unwrap_or_default(), &mut text);
                }
                Content::Cdata(span) => {
                    at = span.end + b"]]>".len();
                    decode_cdata(self.data.get(span).unwrap_or_default(), &mut text);
                }
                Content::Child(start) => at = element_end(self.data, Tag::read(self.data, start)),
                Content::End(_) => return text,
            }
        }
    }

    /// From `<` to the final `>` in the frame's bytes.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.tag.start..element_end(self.data, self.tag)
    }

    /// Right behind the name in the start tag, where an attribute can be put in.
    pub(crate) fn name_end(&self) -> usize {
        self.tag.name_end
    }

    /// Where content can be added at the end: before the end tag, or the `/>` to be replaced.
    pub(crate) fn content_end(&self) -> Result<usize, Range<usize>> {
        if self.tag.empty {
            Err(self.tag.attributes_end..self.tag.end())
        } else {
            Ok(content_end(self.data, self.tag.end()))
        }
    }

    /// The name as it is written.
    pub(crate) fn written_name(&self) -> &'a str {
        utf8(self.raw_name())
    }
}

fn element_end(data: &[u8], tag: Tag) -> usize {
    if tag.empty {
        tag.end()
    } else {
        end_tag_end(data, content_end(data, tag.end()))
    }
}
