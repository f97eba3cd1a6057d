//! Whether a line is a JSON object (RFC 8259): enough to know that a log line can be read.

/// The line is one object and nothing else.
pub(super) fn is_object(line: &str) -> bool {
    line.starts_with('{') && value(line).is_some_and(str::is_empty)
}

/// What follows a value at the beginning of the text.
fn value(text: &str) -> Option<&str> {
    match text.as_bytes().first()? {
        b'{' => members(&text[1..], '}', |text| {
            value(string(text)?.strip_prefix(':')?)
        }),
        b'[' => members(&text[1..], ']', value),
        b'"' => string(text),
        b't' => text.strip_prefix("true"),
        b'f' => text.strip_prefix("false"),
        b'n' => text.strip_prefix("null"),
        _ => {
            let end = text
                .find(|c: char| !"+-.eE0123456789".contains(c))
                .unwrap_or(text.len());
            text[..end].parse::<f64>().ok().map(|_| &text[end..])
        }
    }
}

fn members<'a>(
    text: &'a str,
    end: char,
    member: impl Fn(&'a str) -> Option<&'a str>,
) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix(end) {
        return Some(rest);
    }
    let mut rest = member(text)?;
    while let Some(next) = rest.strip_prefix(',') {
        rest = member(next)?;
    }
    rest.strip_prefix(end)
}

fn string(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?;
    loop {
        let at = rest.find(|c: char| c == '"' || c == '\\' || c.is_control())?;
        match rest.as_bytes()[at] {
            b'"' => return Some(&rest[at + 1..]),
            b'\\' => rest = rest.get(at + 2..)?,
            _ => return None,
        }
    }
}
