//! The table of what no peer may send. `hostile.txt` explains its format.

use mucplex_xml::{Event, Framer, Limits};

/// What precedes the cases of place `stream`.
pub(crate) const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// One input that must end the stream.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The stream error condition it must cause.
    pub(crate) condition: &'static str,
    /// Whether [`HEADER`] precedes it.
    pub(crate) in_stream: bool,
    pub(crate) input: Vec<u8>,
}

/// All cases of `hostile.txt`.
pub(crate) fn cases() -> Vec<Case> {
    include_str!("../hostile.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut parts = line.splitn(4, " | ");
            let mut part = || parts.next().unwrap_or_else(|| panic!("no case: {line}"));
            Case {
                name: part(),
                condition: part(),
                in_stream: match part() {
                    "stream" => true,
                    "start" => false,
                    place => panic!("no such place: {place}"),
                },
                input: unescape(part()),
            }
        })
        .collect()
}

/// The bytes that the last column of the table stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(brace) = rest.find('{') {
        // An escaped brace is not the start of a repetition.
        if rest[..brace].ends_with('\\') {
            unescape_simple(&rest[..=brace], 0, &mut out);
            rest = &rest[brace + 1..];
            continue;
        }
        unescape_simple(&rest[..brace], 0, &mut out);
        let end = brace + rest[brace..].find('}').unwrap();
        let (what, times) = rest[brace + 1..end].rsplit_once('*').unwrap();
        for time in 0..times.parse().unwrap() {
            unescape_simple(what, time, &mut out);
        }
        rest = &rest[end + 1..];
    }
    unescape_simple(rest, 0, &mut out);
    out
}

fn unescape_simple(text: &str, time: usize, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let mut length = 1;
        match escaped.as_bytes()[0] {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b's' => out.push(b' '),
            b'i' => out.extend(time.to_string().bytes()),
            b'x' => {
                length = 3;
                out.push(u8::from_str_radix(&escaped[1..length], 16).unwrap());
            }
            other => out.push(other),
        }
        rest = &escaped[length..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Gives the framer pieces of one size and tells the condition it refuses them with.
fn refused(case: &Case, size: usize) -> Option<&'static str> {
    let mut framer = Framer::new(Limits::default());
    if case.in_stream {
        framer.push(HEADER.as_bytes());
        assert!(matches!(framer.next_event(), Ok(Some(Event::Header(_)))));
    }
    for piece in case.input.chunks(size) {
        framer.push(piece);
        loop {
            match framer.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Some(error.condition().name()),
            }
        }
        // What is held is bounded, whatever was sent.
        assert!(framer.buffered() <= Limits::default().stanza_bytes);
    }
    None
}

#[test]
fn each_is_refused_as_the_table_says_whole_and_in_pieces() {
    let mut wrong = Vec::new();
    for case in cases() {
        for size in [case.input.len(), 1, 7] {
            let condition = refused(&case, size);
            if condition != Some(case.condition) {
                wrong.push(format!(
                    "{}, in pieces of {size}: {condition:?} instead of {}",
                    case.name, case.condition
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_is_large_and_says_nothing_twice() {
    let cases = cases();
    assert!(cases.len() >= 300, "{}", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    let mut inputs: Vec<_> = cases
        .iter()
        .map(|case| (case.in_stream, &case.input))
        .collect();
    names.sort_unstable();
    names.dedup();
    inputs.sort_unstable();
    inputs.dedup();
    assert_eq!((names.len(), inputs.len()), (cases.len(), cases.len()));
}
