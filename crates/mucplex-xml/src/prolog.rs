//! What may stand before the root element of a stream: an XML declaration.

use memchr::memchr;

use crate::{
    FramingError,
    chars::{SPACE, is, run_of},
};

/// Longer than any declaration anybody sends.
const MAX_DECLARATION: usize = 256;

/// What a stream begins with, as far as it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prolog {
    /// More bytes are needed.
    Unfinished,
    /// An XML declaration of that many bytes.
    Declaration(usize),
    /// No declaration: the root element is next.
    None,
}

/// Looks at the start of a stream, where all white space has been skipped.
///
/// # Errors
/// Another encoding than UTF-8, a declaration that is none, or what may not stand before the root.
pub(crate) fn read(data: &[u8]) -> Result<Prolog, FramingError> {
    const MARK: &[u8] = b"<?xml";
    match data {
        // RFC 6120 11.6. What UTF-16 and UTF-32 begin with, with and without a byte order mark.
        [0x00 | 0xfe | 0xff, ..] | [b'<', 0x00, ..] => return Err(FramingError::Encoding),
        // And 11.6 again: the mark of UTF-8 is a character like any other, and no text may stand
        // before the root.
        [] | [b'<'] | [b'<', b'?', ..] => {}
        [b'<', ..] => return Ok(Prolog::None),
        _ => return Err(FramingError::Syntax("text before the root element")),
    }
    let known = data.len().min(MARK.len());
    if data.get(..known) != MARK.get(..known) {
        return Err(FramingError::Restricted("processing instruction"));
    }
    match data.get(MARK.len()) {
        None => return Ok(Prolog::Unfinished),
        Some(&byte) if is(byte, SPACE) || byte == b'?' => {}
        Some(_) => return Err(FramingError::Restricted("processing instruction")),
    }
    // No part of a declaration can hold a `>`.
    let window = data.get(..MAX_DECLARATION).unwrap_or(data);
    let Some(end) = memchr(b'>', window) else {
        return if data.len() > MAX_DECLARATION {
            Err(FramingError::Limit("bytes of the XML declaration"))
        } else {
            Ok(Prolog::Unfinished)
        };
    };
    check(data.get(MARK.len()..end).unwrap_or_default())?;
    Ok(Prolog::Declaration(end + 1))
}

const MALFORMED: FramingError = FramingError::Syntax("XML declaration");

/// Checks what lies between `<?xml` and `>` (XML 1.0 production 23).
fn check(declaration: &[u8]) -> Result<(), FramingError> {
    let mut rest = declaration.strip_suffix(b"?").ok_or(MALFORMED)?;
    let version = pseudo_attribute(&mut rest, b"version")?.ok_or(MALFORMED)?;
    match version.strip_prefix(b"1.") {
        Some(b"0") => {}
        Some(minor) if !minor.is_empty() && minor.iter().all(u8::is_ascii_digit) => {
            return Err(FramingError::XmlVersion);
        }
        _ => return Err(MALFORMED),
    }
    if let Some(encoding) = pseudo_attribute(&mut rest, b"encoding")? {
        if !encoding.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(MALFORMED);
        }
        if !encoding.eq_ignore_ascii_case(b"utf-8") {
            return Err(FramingError::Encoding);
        }
    }
    if let Some(standalone) = pseudo_attribute(&mut rest, b"standalone")?
        && standalone != b"yes"
        && standalone != b"no"
    {
        return Err(MALFORMED);
    }
    skip_space(&mut rest);
    if rest.is_empty() {
        Ok(())
    } else {
        Err(MALFORMED)
    }
}

/// Takes ` name='value'` from the start of `rest`, if it is there, and gives the value.
fn pseudo_attribute<'a>(
    rest: &mut &'a [u8],
    name: &[u8],
) -> Result<Option<&'a [u8]>, FramingError> {
    let mut ahead = *rest;
    if !skip_space(&mut ahead) {
        return Ok(None);
    }
    let Some(mut ahead) = ahead.strip_prefix(name) else {
        return Ok(None);
    };
    skip_space(&mut ahead);
    ahead = ahead.strip_prefix(b"=").ok_or(MALFORMED)?;
    skip_space(&mut ahead);
    let (&quote, value) = ahead.split_first().ok_or(MALFORMED)?;
    if !matches!(quote, b'"' | b'\'') {
        return Err(MALFORMED);
    }
    let end = memchr(quote, value).ok_or(MALFORMED)?;
    *rest = value.get(end + 1..).unwrap_or_default();
    Ok(value.get(..end))
}

fn skip_space(rest: &mut &[u8]) -> bool {
    let run = run_of(rest, SPACE);
    *rest = rest.get(run..).unwrap_or_default();
    run > 0
}
