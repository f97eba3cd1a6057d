//! Holds the framer against rxml, and against itself with the bytes cut in other places.
//!
//! `cargo +nightly fuzz run framer`. The first byte of an input tells how the rest is cut and
//! whether a stream header precedes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mucplex_xml::{Event, Framer, FramingError, Limits};

#[path = "../../crates/mucplex-xml/tests/suite/compare.rs"]
#[allow(dead_code)]
mod compare;

const HEADERS: [&str; 4] = [
    "",
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:c='jabber:client' xmlns:p='u'>",
    "<stream xmlns='http://etherx.jabber.org/streams' xmlns:stream='u' xmlns:q='u'>",
];

/// Small enough for a fuzzer to reach.
const LIMITS: Limits = Limits {
    stanza_bytes: 1024,
    depth: 8,
    attributes: 8,
    name_bytes: 32,
    unbound_prefixes: false,
};

fuzz_target!(|data: &[u8]| {
    let Some((&way, content)) = data.split_first() else {
        return;
    };
    let mut input = HEADERS[usize::from(way & 3)].as_bytes().to_vec();
    input.extend_from_slice(content);
    let whole = compare::check(&input, LIMITS);
    let (accepted, error) = in_pieces(&input, usize::from(way >> 2) + 1);
    assert_eq!(accepted, whole.accepted);
    assert_eq!(error, whole.error);
});

fn in_pieces(input: &[u8], size: usize) -> (Vec<u8>, Option<FramingError>) {
    let mut framer = Framer::new(LIMITS);
    let mut accepted = Vec::new();
    for piece in input.chunks(size) {
        framer.push(piece);
        loop {
            match framer.next_event() {
                Ok(Some(Event::Header(header))) => accepted.extend_from_slice(header.bytes()),
                Ok(Some(Event::Frame(frame))) => accepted.extend_from_slice(frame.bytes()),
                Ok(Some(Event::Whitespace(space))) => accepted.extend_from_slice(&space),
                Ok(Some(Event::End)) => {}
                Ok(None) => break,
                Err(error) => return (accepted, Some(error)),
            }
        }
    }
    (accepted, None)
}
