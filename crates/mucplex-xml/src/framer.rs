//! Cuts one direction of an XMPP stream into frames.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    Frame, FramingError, Limits, StreamHeader,
    chars::{Decoded, SPACE, decode, is_xml_char, run_of},
    prolog::{self, Prolog},
    scan::{Extent, Scanner},
    scope::Ambient,
};

/// What the framer found next.
#[derive(Clone, Debug)]
pub enum Event {
    /// The stream's opening tag; an XML declaration before it is taken with it.
    Header(StreamHeader),
    /// A complete first-level element: stanza or nonza.
    Frame(Frame),
    /// White space between frames (RFC 6120 4.6.1), as it arrived: as much as is there, so that
    /// nothing is held back and nothing accumulates.
    Whitespace(Bytes),
    /// `</stream:stream>`. Nothing but white space may follow, of which nothing is told.
    End,
}

/// A stream header has no use for more; see [`Limits::stanza_bytes`].
const MAX_HEADER: usize = 16 * 1024;

/// Cuts one direction of an XMPP stream into frames, and refuses what RFC 6120 11 does not allow.
/// Resumable at any byte: what has been looked at is not looked at again, and events and errors do
/// not depend on how the bytes were cut on their way.
///
/// A shell reads into [`buffer`](Self::buffer) and then takes events until there are none; as it
/// reads no more than its buffer's worth at a time, no more than that and the
/// [`Limits`] of one frame are ever held.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    buffer: BytesMut,
    stage: Stage,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Stage {
    /// The XML declaration or the root element. `spaced`: white space that belongs to this stream
    /// has been seen, so no declaration may come any more.
    Prolog {
        spaced: bool,
        restarted: bool,
    },
    /// The root element, or white space before it.
    Root,
    /// The root element's start tag.
    Header(Box<Scanner>),
    /// The content of the stream.
    Open(Box<Open>),
    /// Nothing.
    Ended,
    Failed(FramingError),
}

/// An open stream.
#[derive(Debug)]
struct Open {
    scanner: Scanner,
    /// Name of the root element as it is written.
    root: Bytes,
    place: Place,
}

/// Where on an open stream the next byte is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Between,
    InFrame,
    /// In the end tag of the stream, of whose name so many bytes have matched.
    Closing {
        matched: usize,
    },
}

impl Framer {
    /// A framer before the first byte of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            stage: Stage::Prolog {
                spaced: false,
                restarted: false,
            },
        }
    }

    /// Where the shell reads bytes into (`read_buf`). Only append.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Adds bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes received that no event has given out yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// A new stream header follows (RFC 6120 5.4.3.3, 6.4.6). Bytes that are buffered and not
    /// given out stay and are read as the new stream. White space at its start is taken for the
    /// end of the old stream, so an XML declaration may follow it. An error stays.
    ///
    /// The buffer begins anew: the old stream's bytes, which may hold what a client has logged in
    /// with, go with the last frame of it.
    pub fn restart(&mut self) {
        self.buffer = BytesMut::from(&self.buffer[..]);
        if !matches!(self.stage, Stage::Failed(_)) {
            self.stage = Stage::Prolog {
                spaced: false,
                restarted: true,
            };
        }
    }

    /// The next event; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Why the stream has to be closed. Every further call gives the same error.
    pub fn next_event(&mut self) -> Result<Option<Event>, FramingError> {
        let event = self.advance();
        if let Err(error) = &event {
            // What else the peer sends is not kept.
            self.buffer.clear();
            self.stage = Stage::Failed(error.clone());
        }
        event
    }

    fn advance(&mut self) -> Result<Option<Event>, FramingError> {
        let Self {
            limits,
            buffer,
            stage,
        } = self;
        loop {
            match stage {
                Stage::Open(open) => {
                    let event = open.next_event(buffer, limits)?;
                    if let Some(Event::End) = event {
                        *stage = Stage::Ended;
                    }
                    return Ok(event);
                }
                Stage::Prolog { spaced, restarted } => {
                    let skipped = skip_space(buffer);
                    *spaced |= skipped && !*restarted;
                    match prolog::read(buffer)? {
                        Prolog::Unfinished => return Ok(None),
                        Prolog::Declaration(_) if *spaced => {
                            return Err(FramingError::Syntax("white space before `<?xml`"));
                        }
                        Prolog::Declaration(length) => buffer.advance(length),
                        Prolog::None => {}
                    }
                    *stage = Stage::Root;
                }
                Stage::Root => {
                    skip_space(buffer);
                    if buffer.is_empty() {
                        return Ok(None);
                    }
                    let nothing = Arc::new(Ambient::default());
                    *stage = Stage::Header(Box::new(Scanner::new(Extent::StartTag, nothing)));
                }
                Stage::Header(scanner) => {
                    let Some(length) = scanner.scan(buffer, &header_limits(limits))? else {
                        return Ok(None);
                    };
                    let bytes = buffer.split_to(length).freeze();
                    let header = StreamHeader::scanned(bytes, scanner)?;
                    *stage = Stage::Open(Box::new(Open::new(&header)));
                    return Ok(Some(Event::Header(header)));
                }
                Stage::Ended => {
                    skip_space(buffer);
                    return if buffer.is_empty() {
                        Ok(None)
                    } else {
                        Err(FramingError::Syntax("content behind the stream"))
                    };
                }
                Stage::Failed(error) => return Err(error.clone()),
            }
        }
    }
}

/// A stream header is no stanza: it needs little space, and it has depth 1.
fn header_limits(limits: &Limits) -> Limits {
    Limits {
        stanza_bytes: limits.stanza_bytes.min(MAX_HEADER),
        ..*limits
    }
}

fn skip_space(buffer: &mut BytesMut) -> bool {
    let run = run_of(buffer, SPACE);
    buffer.advance(run);
    run > 0
}

impl Open {
    fn new(header: &StreamHeader) -> Self {
        Self {
            scanner: Scanner::new(Extent::Element, header.ambient()),
            root: header.raw_name(),
            place: Place::Between,
        }
    }

    fn next_event(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<Event>, FramingError> {
        loop {
            match self.place {
                Place::Between => {
                    let space = run_of(buffer, SPACE);
                    if space > 0 {
                        let space = buffer.split_to(space).freeze();
                        return Ok(Some(Event::Whitespace(space)));
                    }
                    match self.begin(buffer)? {
                        Some(place) => self.place = place,
                        None => return Ok(None),
                    }
                }
                Place::InFrame => {
                    let Some(length) = self.scanner.scan(buffer, limits)? else {
                        return Ok(None);
                    };
                    let bytes = buffer.split_to(length).freeze();
                    let frame = Frame::scanned(bytes, &self.scanner);
                    self.scanner.reset();
                    self.place = Place::Between;
                    return Ok(Some(Event::Frame(frame)));
                }
                Place::Closing { matched } => return self.close(buffer, matched),
            }
        }
    }

    /// Tells by its first bytes what comes next on the stream.
    fn begin(&self, buffer: &mut BytesMut) -> Result<Option<Place>, FramingError> {
        match **buffer {
            [] | [b'<'] => Ok(None),
            [b'<', b'/', ..] => {
                buffer.advance(2);
                Ok(Some(Place::Closing { matched: 0 }))
            }
            [b'<', ..] => Ok(Some(Place::InFrame)),
            _ => match decode(buffer) {
                Decoded::Unfinished => Ok(None),
                Decoded::Invalid => Err(FramingError::Utf8),
                Decoded::Char(c, _) if !is_xml_char(c) => Err(FramingError::Character),
                // RFC 6120 4.6.1 allows white space alone; references and CDATA are text, too.
                Decoded::Char(..) => Err(FramingError::StrayText),
            },
        }
    }

    /// Reads on in the end tag of the stream. What has been read is dropped at once, so that it
    /// needs no limit.
    fn close(
        &mut self,
        buffer: &mut BytesMut,
        matched: usize,
    ) -> Result<Option<Event>, FramingError> {
        let expected = self.root.get(matched..).unwrap_or_default();
        let comparable = expected.len().min(buffer.len());
        if expected.get(..comparable) != buffer.get(..comparable) {
            return Err(FramingError::TagMismatch);
        }
        buffer.advance(comparable);
        self.place = Place::Closing {
            matched: matched + comparable,
        };
        if comparable < expected.len() {
            return Ok(None);
        }
        skip_space(buffer);
        match buffer.first() {
            None => Ok(None),
            Some(b'>') => {
                buffer.advance(1);
                Ok(Some(Event::End))
            }
            Some(_) => Err(FramingError::TagMismatch),
        }
    }
}
