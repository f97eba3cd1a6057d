//! Which bytes and characters XML 1.0 allows where; for names outside of ASCII see `names`.

/// Ends a run of plain text: `<`, `&`, `>`, a control character, the start of a longer character.
pub(crate) const TEXT_STOP: u8 = 1;
/// The same for an attribute value in apostrophes.
pub(crate) const APOS_STOP: u8 = 1 << 1;
/// The same for an attribute value in quotation marks.
pub(crate) const QUOT_STOP: u8 = 1 << 2;
/// The same for a CDATA section.
pub(crate) const CDATA_STOP: u8 = 1 << 3;
/// ASCII that may stand in an `NCName` (production 4 of "Namespaces in XML").
pub(crate) const NAME: u8 = 1 << 4;
/// ASCII that may begin an `NCName`.
pub(crate) const NAME_START: u8 = 1 << 5;
/// White space (production 3).
pub(crate) const SPACE: u8 = 1 << 6;
/// Needs a look before it is written as text or as an attribute value: what is escaped, and the
/// first byte of U+FFFE and U+FFFF, which are replaced.
pub(crate) const ESCAPE: u8 = 1 << 7;

const fn classify(byte: u8) -> u8 {
    let all_stops = TEXT_STOP | APOS_STOP | QUOT_STOP | CDATA_STOP;
    match byte {
        b' ' => SPACE,
        b'\t' | b'\n' | b'\r' => SPACE | ESCAPE,
        0..=0x1f | 0xef => all_stops | ESCAPE,
        0x80.. => all_stops,
        b'<' | b'&' => TEXT_STOP | APOS_STOP | QUOT_STOP | ESCAPE,
        b'>' => TEXT_STOP | CDATA_STOP | ESCAPE,
        b'\'' => APOS_STOP | ESCAPE,
        b'"' => QUOT_STOP | ESCAPE,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => NAME | NAME_START,
        b'0'..=b'9' | b'-' | b'.' => NAME,
        _ => 0,
    }
}

static CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    #[expect(
        clippy::indexing_slicing,
        reason = "a constant: the compiler runs every step of it"
    )]
    while byte < 256 {
        table[byte] = classify(byte as u8);
        byte += 1;
    }
    table
};

/// Whether `byte` is of one of `classes`.
#[inline]
pub(crate) fn is(byte: u8, classes: u8) -> bool {
    CLASSES
        .get(usize::from(byte))
        .is_some_and(|class| class & classes != 0)
}

/// How many bytes at the start of `data` are not of the class `STOP`, which is one of the `_STOP`.
///
/// Eight bytes at a time: this is where most of the bytes of a stream are looked at.
#[inline]
pub(crate) fn run_without<const STOP: u8>(data: &[u8]) -> usize {
    let mut run = 0;
    let mut rest = data;
    while let Some((word, after)) = rest.split_first_chunk() {
        let found = suspects::<STOP>(u64::from_le_bytes(*word));
        if found == 0 {
            run += 8;
            rest = after;
            continue;
        }
        run += found.trailing_zeros() as usize / 8;
        if data.get(run).is_none_or(|&byte| is(byte, STOP)) {
            return run;
        }
        // White space is a control character that is allowed.
        run += 1;
        rest = data.get(run..).unwrap_or_default();
    }
    let tail = rest.iter().position(|&byte| is(byte, STOP));
    run + tail.unwrap_or(rest.len())
}

/// Finds a control character, a byte that is not ASCII, or what else ends a run, in eight bytes.
/// The lowest bit that is set is the highest of the first such byte; those above it mean nothing,
/// since a subtraction may borrow from the byte above.
#[inline]
fn suspects<const STOP: u8>(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let equal = |mark: u8| {
        let difference = word ^ (ONES * u64::from(mark));
        difference.wrapping_sub(ONES) & !difference
    };
    let marked = match STOP {
        TEXT_STOP => equal(b'<') | equal(b'&') | equal(b'>'),
        APOS_STOP => equal(b'<') | equal(b'&') | equal(b'\''),
        QUOT_STOP => equal(b'<') | equal(b'&') | equal(b'"'),
        _ => equal(b'>'),
    };
    (marked | word.wrapping_sub(ONES * 0x20) | word) & HIGHS
}

/// How many bytes at the start of `data` are of one of `classes`.
#[inline]
pub(crate) fn run_of(data: &[u8], classes: u8) -> usize {
    data.iter()
        .position(|&byte| !is(byte, classes))
        .unwrap_or(data.len())
}

/// The length of the character at the start of `data`, if it is whole, not ASCII, and `Char`. The
/// way text takes; [`decode`] tells what is wrong with the rest.
#[inline]
pub(crate) fn long_char(data: &[u8]) -> Option<usize> {
    // Table 3-7 of the Unicode standard, without U+FFFE and U+FFFF.
    match data {
        [0xc2..=0xdf, 0x80..=0xbf, ..] => Some(2),
        [0xef, 0xbf, 0xbe | 0xbf, ..] => None,
        [0xe0, 0xa0..=0xbf, 0x80..=0xbf, ..]
        | [0xe1..=0xec | 0xee | 0xef, 0x80..=0xbf, 0x80..=0xbf, ..]
        | [0xed, 0x80..=0x9f, 0x80..=0xbf, ..] => Some(3),
        [0xf0, 0x90..=0xbf, 0x80..=0xbf, 0x80..=0xbf, ..]
        | [0xf1..=0xf3, 0x80..=0xbf, 0x80..=0xbf, 0x80..=0xbf, ..]
        | [0xf4, 0x80..=0x8f, 0x80..=0xbf, 0x80..=0xbf, ..] => Some(4),
        _ => None,
    }
}

/// The character at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A whole one, and its length in bytes.
    Char(char, usize),
    /// The start of one: more bytes are needed.
    Unfinished,
    /// No UTF-8.
    Invalid,
}

/// Decodes the character at the start of `data`.
pub(crate) fn decode(data: &[u8]) -> Decoded {
    let Some(&lead) = data.first() else {
        return Decoded::Unfinished;
    };
    let length = match lead {
        0..=0x7f => return Decoded::Char(char::from(lead), 1),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        // Continuation bytes, overlong two-byte forms, and what would be beyond U+10FFFF.
        _ => return Decoded::Invalid,
    };
    match std::str::from_utf8(data.get(..length).unwrap_or(data)) {
        Ok(text) => text
            .chars()
            .next()
            .map_or(Decoded::Unfinished, |c| Decoded::Char(c, length)),
        Err(error) if error.error_len().is_none() => Decoded::Unfinished,
        Err(_) => Decoded::Invalid,
    }
}

/// `Char`, production 2.
pub(crate) const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fast way agrees with the table, for each byte at each place of two words.
    #[test]
    fn runs_end_where_the_table_says() {
        type Run = fn(&[u8]) -> usize;
        for (stop, run) in [
            (TEXT_STOP, run_without::<TEXT_STOP> as Run),
            (APOS_STOP, run_without::<APOS_STOP>),
            (QUOT_STOP, run_without::<QUOT_STOP>),
            (CDATA_STOP, run_without::<CDATA_STOP>),
        ] {
            for byte in 0..=u8::MAX {
                for second in [b'a', b'\n', b'<', 0x80, b'\x7f'] {
                    for at in 0..16 {
                        let mut data = [b'x'; 19];
                        data[at] = byte;
                        data[at + 1] = second;
                        let expected = data.iter().position(|&byte| is(byte, stop)).unwrap_or(19);
                        assert_eq!(run(&data), expected, "{data:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn long_characters_are_those_of_the_standard() {
        for c in '\0'..=char::MAX {
            let mut bytes = [0; 4];
            let length = c.encode_utf8(&mut bytes).len();
            let expected = (!c.is_ascii() && is_xml_char(c)).then_some(length);
            assert_eq!(long_char(&bytes), expected, "{c:?}");
        }
        // Whatever else four bytes may be, the two ways agree on it.
        for lead in 0x80..=u8::MAX {
            for second in 0..=u8::MAX {
                for rest in [
                    [0x80, 0x80],
                    [0xbf, 0xbf],
                    [0xbf, 0xbe],
                    [b'a', 0x80],
                    [0x80, b'a'],
                ] {
                    let data = [lead, second, rest[0], rest[1]];
                    let expected = match decode(&data) {
                        Decoded::Char(c, length) if is_xml_char(c) => Some(length),
                        _ => None,
                    };
                    assert_eq!(long_char(&data), expected, "{data:x?}");
                }
            }
        }
    }

    #[test]
    fn every_character_is_decoded_or_awaited() {
        for c in ['\u{80}', 'é', '日', '\u{ffff}', '😀', '\u{10ffff}'] {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            assert_eq!(decode(bytes), Decoded::Char(c, bytes.len()));
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]), Decoded::Unfinished);
            }
        }
    }
}
