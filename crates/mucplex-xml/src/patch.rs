//! Changes to a frame.

use std::ops::Range;

use bytes::Bytes;

use crate::{Element, Frame, FramingError, Limits, escape::escape_attribute};

/// Changes to a frame, gathered and then made in one copy.
///
/// Elements are those of the unchanged frame. Attribute values are escaped here; XML given to
/// [`append`](Self::append) and [`replace`](Self::replace) must be well-formed and declare the
/// namespaces it uses. Of two changes to one thing the later counts, and a change inside of
/// something that is removed or replaced goes with it.
///
/// ```
/// # use mucplex_xml::{Frame, Limits};
/// let xml = "<message to='a'><body>hi</body></message>";
/// let frame = Frame::parse(xml.into(), &Limits::default())?;
/// let body = frame.root().child("body", "jabber:client").unwrap();
/// let mut patch = frame.patch();
/// patch.set_attr(&frame.root(), "to", "b").remove(&body).append(&frame.root(), "<x xmlns='y'/>");
/// assert_eq!(patch.finish(), "<message to='b'><x xmlns='y'/></message>");
/// # Ok::<(), mucplex_xml::FramingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Patch<'a> {
    frame: &'a Frame,
    edits: Vec<Edit>,
}

/// Bytes to be put in the place of others.
#[derive(Clone, Debug)]
struct Edit {
    span: Range<usize>,
    text: String,
    target: Target,
}

/// What an edit changes; elements by where they start.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Attribute { element: usize, name: String },
    Element { element: usize },
    Content { element: usize },
}

impl<'a> Patch<'a> {
    pub(crate) fn new(frame: &'a Frame) -> Self {
        Self {
            frame,
            edits: Vec::new(),
        }
    }

    /// Sets (replaces or adds) an attribute of no namespace.
    pub fn set_attr(&mut self, element: &Element<'a>, name: &str, value: &str) -> &mut Self {
        let value = escape_attribute(value);
        match element.attr_value_span(name) {
            Some(span) => self.edit_attribute(element, name, span, value.into_owned()),
            None => {
                let at = element.name_end();
                self.edit_attribute(element, name, at..at, format!(" {name}='{value}'"))
            }
        }
    }

    /// Takes the attribute out with the white space before it.
    pub fn remove_attr(&mut self, element: &Element<'a>, name: &str) -> &mut Self {
        let at = element.name_end();
        let span = element.attr_span(name).unwrap_or(at..at);
        self.edit_attribute(element, name, span, String::new())
    }

    fn edit_attribute(
        &mut self,
        element: &Element<'a>,
        name: &str,
        span: Range<usize>,
        text: String,
    ) -> &mut Self {
        let target = Target::Attribute {
            element: element.span().start,
            name: name.to_owned(),
        };
        self.put(Edit { span, text, target })
    }

    /// Takes the element out, with all that is in it.
    ///
    /// The root cannot be taken out of its frame: then [`finish`](Self::finish) gives nothing and
    /// [`finish_frame`](Self::finish_frame) an error.
    pub fn remove(&mut self, element: &Element<'a>) -> &mut Self {
        self.replace(element, "")
    }

    /// Puts XML in the element's place.
    pub fn replace(&mut self, element: &Element<'a>, xml: &str) -> &mut Self {
        let span = element.span();
        let target = Target::Element {
            element: span.start,
        };
        self.put(Edit {
            span,
            text: xml.to_owned(),
            target,
        })
    }

    /// Adds XML as last content of the element (opens a self-closed one). What is appended to one
    /// element comes in the order of the calls.
    pub fn append(&mut self, element: &Element<'a>, xml: &str) -> &mut Self {
        let start = element.span().start;
        let target = Target::Content { element: start };
        if let Some(edit) = self.edits.iter_mut().find(|edit| edit.target == target) {
            // Before the end tag that the first call has made, if it had to.
            let at = match element.content_end() {
                Ok(_) => edit.text.len(),
                Err(_) => edit.text.rfind("</").unwrap_or(edit.text.len()),
            };
            edit.text.insert_str(at, xml);
            return self;
        }
        let (span, text) = match element.content_end() {
            Ok(at) => (at..at, xml.to_owned()),
            Err(slash) => (slash, format!(">{xml}</{}>", element.written_name())),
        };
        self.put(Edit { span, text, target })
    }

    fn put(&mut self, edit: Edit) -> &mut Self {
        self.edits.retain(|earlier| earlier.target != edit.target);
        self.edits.push(edit);
        self
    }

    /// The changed bytes.
    #[must_use]
    pub fn finish(&self) -> Bytes {
        let data = self.frame.bytes();
        let mut edits: Vec<&Edit> = self.edits.iter().collect();
        // Where two begin at one place, what is put in comes before what is taken out; stable, so
        // that the order of the calls decides the rest.
        edits.sort_by_key(|edit| (edit.span.start, !edit.span.is_empty()));
        let growth: usize = edits.iter().map(|edit| edit.text.len()).sum();
        let mut out = Vec::with_capacity(data.len() + growth);
        let mut copied = 0;
        for edit in edits {
            if edit.span.start < copied {
                continue;
            }
            out.extend_from_slice(data.get(copied..edit.span.start).unwrap_or_default());
            out.extend_from_slice(edit.text.as_bytes());
            copied = edit.span.end;
        }
        out.extend_from_slice(data.get(copied..).unwrap_or_default());
        out.into()
    }

    /// [`finish`](Self::finish), and read again as a frame of the same stream.
    ///
    /// # Errors
    /// When XML was given that is not well-formed, or when the root was removed. The frame was
    /// within the limits before, so no limit but the size of an offset applies.
    pub fn finish_frame(&self) -> Result<Frame, FramingError> {
        Frame::parse_in(self.finish(), &Limits::NONE, self.frame.ambient())
    }
}
