//! Text, CDATA sections, references, and the markup that XMPP leaves out.

use super::{Extent, Scanner, State, Step};
use crate::{
    FramingError, Limits,
    chars::{self, CDATA_STOP, Decoded, TEXT_STOP},
    names,
};

/// More digits than any character needs. `&#0000000065;` is XML, yet parsers disagree on it.
const MAX_DIGITS: u8 = 7;

impl Scanner {
    pub(super) fn text(&mut self, data: &[u8], limits: &Limits) -> Result<Step, FramingError> {
        loop {
            match self.run::<TEXT_STOP>(data)? {
                Some(b'<') => {
                    self.at += 1;
                    self.state = State::Open;
                    return self.open(data, limits);
                }
                Some(b'&') => {
                    self.at += 1;
                    self.referrer = State::Text;
                    return Ok(self.go(State::Reference));
                }
                // Only `>` is left. XML 1.0 2.4: `]]>` must not stand in text. Two brackets right
                // before it are text themselves: markup and references end in `>` and `;`.
                Some(_) => {
                    if ends_with_brackets(data, self.at) {
                        return Err(FramingError::Syntax("`]]>` in text"));
                    }
                    self.at += 1;
                }
                None => return Ok(Step::More),
            }
        }
    }

    pub(super) fn cdata(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        loop {
            // Only `>` ends a run here. The brackets before it cannot be those of `<![CDATA[`.
            if self.run::<CDATA_STOP>(data)?.is_none() {
                return Ok(Step::More);
            }
            let end = ends_with_brackets(data, self.at);
            self.at += 1;
            if end {
                return Ok(self.go(State::Text));
            }
        }
    }

    /// After `<!`: a CDATA section, or what RFC 6120 11.1 leaves out.
    pub(super) fn bang(&mut self, data: &[u8], matched: usize) -> Result<Step, FramingError> {
        const CDATA: &[u8] = b"[CDATA[";
        let Some(byte) = self.next(data) else {
            return Ok(Step::More);
        };
        if CDATA.get(matched) == Some(&byte) {
            let matched = matched + 1;
            return Ok(self.go(if matched < CDATA.len() {
                State::Bang { matched }
            } else if self.open.is_empty() {
                // Around a root element the grammar has no CDATA; between stanzas it is text.
                return Err(match self.extent {
                    Extent::StartTag => FramingError::Syntax("CDATA outside of an element"),
                    Extent::Element => FramingError::StrayText,
                });
            } else {
                State::Cdata
            }));
        }
        match byte {
            b'-' if matched == 0 => Ok(self.go(State::Comment)),
            b'A'..=b'Z' if matched == 0 => Err(FramingError::Restricted("DTD")),
            _ => Err(FramingError::Syntax("`<!` begins nothing")),
        }
    }

    pub(super) fn comment(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        match self.next(data) {
            None => Ok(Step::More),
            Some(b'-') => Err(FramingError::Restricted("comment")),
            Some(_) => Err(FramingError::Syntax("`<!` begins nothing")),
        }
    }

    pub(super) fn instruction(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        match self.name_start_char(data)? {
            None => Ok(Step::More),
            Some(true) => Err(FramingError::Restricted("processing instruction")),
            Some(false) => Err(FramingError::Syntax("`<?` begins nothing")),
        }
    }

    /// Whether the next character, which stays, may begin a name.
    fn name_start_char(&self, data: &[u8]) -> Result<Option<bool>, FramingError> {
        match chars::decode(data.get(self.at..).unwrap_or_default()) {
            Decoded::Char(c, _) if c.is_ascii() => Ok(u8::try_from(c)
                .ok()
                .map(|byte| chars::is(byte, chars::NAME_START))),
            Decoded::Char(c, _) => Ok(Some(names::is_name_start(c))),
            Decoded::Unfinished => Ok(None),
            Decoded::Invalid => Err(FramingError::Utf8),
        }
    }

    pub(super) fn reference(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        match self.peek(data) {
            None => return Ok(Step::More),
            Some(b'#') => {
                self.at += 1;
                return Ok(self.go(State::Number));
            }
            Some(_) => {}
        }
        match self.name_start_char(data)? {
            None => Ok(Step::More),
            Some(true) => {
                let start = self.at;
                Ok(self.go(State::Entity { start }))
            }
            Some(false) => Err(FramingError::Syntax("`&` begins no reference")),
        }
    }

    pub(super) fn entity(
        &mut self,
        data: &[u8],
        start: usize,
        limits: &Limits,
    ) -> Result<Step, FramingError> {
        let ended = self.name_chars(data, start, start, limits)?;
        let Some(byte) = ended else {
            return Ok(Step::More);
        };
        if byte != b';' {
            return Err(FramingError::Syntax("`&` begins no reference"));
        }
        match data.get(start..self.at).unwrap_or_default() {
            b"amp" | b"lt" | b"gt" | b"quot" | b"apos" => {
                self.at += 1;
                Ok(self.go(self.referrer))
            }
            // RFC 6120 11.1: only the predefined entities.
            _ => Err(FramingError::Restricted("entity reference")),
        }
    }

    pub(super) fn number(&mut self, data: &[u8]) -> Result<Step, FramingError> {
        let Some(byte) = self.peek(data) else {
            return Ok(Step::More);
        };
        let radix = if byte == b'x' {
            self.at += 1;
            16
        } else {
            10
        };
        Ok(self.go(State::Digits {
            radix,
            value: 0,
            count: 0,
        }))
    }

    pub(super) fn digits(
        &mut self,
        data: &[u8],
        radix: u32,
        mut value: u32,
        mut count: u8,
    ) -> Result<Step, FramingError> {
        while let Some(byte) = self.next(data) {
            if byte == b';' && count > 0 {
                let allowed = char::from_u32(value).is_some_and(chars::is_xml_char);
                return if allowed {
                    Ok(self.go(self.referrer))
                } else {
                    Err(FramingError::Character)
                };
            }
            let digit = char::from(byte)
                .to_digit(radix)
                .ok_or(FramingError::Syntax("`&#` begins no reference"))?;
            if count == MAX_DIGITS {
                return Err(FramingError::Limit("digits of a character reference"));
            }
            value = value * radix + digit;
            count += 1;
        }
        Ok(self.go_on(State::Digits {
            radix,
            value,
            count,
        }))
    }

    fn go_on(&mut self, state: State) -> Step {
        self.state = state;
        Step::More
    }
}

fn ends_with_brackets(data: &[u8], at: usize) -> bool {
    data.get(..at).is_some_and(|before| before.ends_with(b"]]"))
}
