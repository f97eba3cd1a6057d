//! Escaping and unescaping of text and attribute values.

use std::borrow::Cow;

use crate::chars::{ESCAPE, is, is_xml_char};

/// Escapes for an attribute value in either kind of quotes: `& < > " '`, and tab, CR and LF as
/// character references, which attribute-value normalisation (XML 1.0 3.3.3) leaves alone.
///
/// A character that XML does not allow at all becomes U+FFFD: what is written is well-formed
/// whatever is given.
///
/// ```
/// assert_eq!(mucplex_xml::escape::escape_attribute("Tom & 'Jerry'"), "Tom &amp; &apos;Jerry&apos;");
/// ```
#[must_use]
pub fn escape_attribute(value: &str) -> Cow<'_, str> {
    escape(value, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&apos;"),
        '\t' => Some("&#9;"),
        '\n' => Some("&#10;"),
        '\r' => Some("&#13;"),
        c if !is_xml_char(c) => Some("\u{fffd}"),
        _ => None,
    })
}

/// Escapes for text: `& < >`, and CR, which end-of-line handling (XML 1.0 2.11) would change.
///
/// A character that XML does not allow at all becomes U+FFFD.
#[must_use]
pub fn escape_text(value: &str) -> Cow<'_, str> {
    escape(value, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\r' => Some("&#13;"),
        c if !is_xml_char(c) => Some("\u{fffd}"),
        _ => None,
    })
}

fn escape(value: &str, replacement: impl Fn(char) -> Option<&'static str>) -> Cow<'_, str> {
    if !value.bytes().any(|byte| is(byte, ESCAPE)) {
        return Cow::Borrowed(value);
    }
    let mut characters = value.char_indices();
    let Some((plain, _)) = characters.find(|&(_, c)| replacement(c).is_some()) else {
        return Cow::Borrowed(value);
    };
    let (plain, rest) = value.split_at_checked(plain).unwrap_or((value, ""));
    let mut out = String::with_capacity(value.len() + 16);
    out.push_str(plain);
    for c in rest.chars() {
        match replacement(c) {
            Some(escaped) => out.push_str(escaped),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// What the bytes between the quotes of an attribute mean: references resolved, white space
/// normalised (XML 1.0 3.3.3). `raw` is what a scanner has let through.
pub(crate) fn decode_attribute(raw: &[u8]) -> Cow<'_, str> {
    let raw = utf8(raw);
    if !raw
        .bytes()
        .any(|b| matches!(b, b'&' | b'\t' | b'\n' | b'\r'))
    {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    decode_into(raw, &mut out, ' ');
    Cow::Owned(out)
}

/// Appends what text between tags means: references resolved, line ends normalised (XML 1.0 2.11).
pub(crate) fn decode_text(raw: &[u8], out: &mut String) {
    let raw = utf8(raw);
    if raw.bytes().any(|b| matches!(b, b'&' | b'\r')) {
        decode_into(raw, out, '\n');
    } else {
        out.push_str(raw);
    }
}

/// Appends the content of a CDATA section, line ends normalised.
pub(crate) fn decode_cdata(raw: &[u8], out: &mut String) {
    let mut lines = utf8(raw).split('\r');
    out.push_str(lines.next().unwrap_or_default());
    for line in lines {
        // A CR is a line end, alone or with the LF behind it.
        out.push('\n');
        out.push_str(line.strip_prefix('\n').unwrap_or(line));
    }
}

/// `line_end` is what a literal line end becomes; in attribute values (`' '`) a tab becomes it too.
fn decode_into(raw: &str, out: &mut String, line_end: char) {
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '\t', '\n', '\r']) {
        let (plain, special) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(plain);
        rest = if let Some(tail) = special.strip_prefix('&') {
            let (name, after) = tail.split_once(';').unwrap_or((tail, ""));
            out.extend(resolve(name));
            after
        } else if let Some(tail) = special.strip_prefix('\r') {
            out.push(line_end);
            tail.strip_prefix('\n').unwrap_or(tail)
        } else if let Some(tail) = special.strip_prefix('\n') {
            out.push(line_end);
            tail
        } else {
            let tail = special.strip_prefix('\t').unwrap_or_default();
            out.push(if line_end == ' ' { ' ' } else { '\t' });
            tail
        };
    }
    out.push_str(rest);
}

/// The character a reference stands for; `name` is what lies between `&` and `;`.
fn resolve(name: &str) -> Option<char> {
    let code = match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => name.strip_prefix('#')?,
    };
    let number = match code.strip_prefix('x') {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => code.parse(),
    };
    char::from_u32(number.ok()?)
}

/// The scanner has checked these bytes, so the empty string stands for what cannot happen.
pub(crate) fn utf8(raw: &[u8]) -> &str {
    std::str::from_utf8(raw).unwrap_or_default()
}
