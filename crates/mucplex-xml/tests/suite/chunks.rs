//! How the bytes are cut on their way makes no difference.

use mucplex_xml::{Event, Framer, Limits};
use proptest::{collection::vec, prelude::*};

use crate::generate;

/// All that a framer tells about bytes that come in these pieces, in words; white space that came
/// in pieces is put together again. A frame named `r` restarts the stream, as SASL success does.
pub(crate) fn tell<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: Limits,
) -> (Vec<String>, Option<&'static str>) {
    let mut framer = Framer::new(limits);
    let mut told: Vec<String> = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_event() {
                Ok(Some(Event::Whitespace(space))) => {
                    let space = format!("{space:?}");
                    match told.last_mut() {
                        Some(last) if last.starts_with("white") => last.push_str(&space),
                        _ => told.push(format!("white {space}")),
                    }
                }
                Ok(Some(event)) => {
                    told.push(format!("{event:?}"));
                    if matches!(&event, Event::Frame(frame) if frame.name() == "r") {
                        framer.restart();
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.next_event().unwrap_err(), error);
                    told.push(format!("{error:?}"));
                    return (told, Some(error.condition().name()));
                }
            }
        }
    }
    (told, None)
}

/// White space pieces, as [`tell`] writes them, in one.
fn told(bytes: &[u8], sizes: &[usize], limits: Limits) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (piece, after) = rest.split_at(size);
        pieces.push(piece);
        rest = after;
    }
    tell(pieces, limits)
        .0
        .into_iter()
        .map(|line| match line.strip_prefix("white ") {
            Some(spaces) => spaces.replace("\"b\"", ""),
            None => line,
        })
        .collect()
}

/// So small that the generated streams pass them now and then.
fn tight() -> Limits {
    Limits {
        stanza_bytes: 150,
        depth: 3,
        attributes: 4,
        name_bytes: 9,
        unbound_prefixes: false,
    }
}

proptest! {
    #[test]
    fn a_valid_stream_in_pieces(
        stream in generate::stream(),
        sizes in vec(1..40_usize, 1..20),
    ) {
        let whole = told(&stream, &[], Limits::default());
        prop_assert_eq!(&told(&stream, &sizes, Limits::default()), &whole);
        prop_assert_eq!(&told(&stream, &[1], Limits::default()), &whole);
    }

    #[test]
    fn a_damaged_stream_in_pieces(
        stream in prop_oneof![generate::damaged_stream(), generate::wild_stream()],
        sizes in vec(1..40_usize, 1..20),
    ) {
        let whole = told(&stream, &[], Limits::default());
        prop_assert_eq!(&told(&stream, &sizes, Limits::default()), &whole);
        prop_assert_eq!(&told(&stream, &[1], Limits::default()), &whole);
    }

    #[test]
    fn a_limit_in_pieces(
        stream in prop_oneof![generate::stream(), generate::damaged_stream()],
        sizes in vec(1..40_usize, 1..20),
    ) {
        let whole = told(&stream, &[], tight());
        prop_assert_eq!(&told(&stream, &sizes, tight()), &whole);
        prop_assert_eq!(&told(&stream, &[1], tight()), &whole);
    }
}

/// The old stream's last white space may come together with the new stream's header or before it.
#[test]
fn white_space_around_a_restart_belongs_to_neither_stream() {
    let header = "<?xml version='1.0'?><a:stream xmlns:a='http://etherx.jabber.org/streams'>";
    let stream = format!("{header}<r/>\r\n {header}<b/>");
    let whole = told(stream.as_bytes(), &[], Limits::default());
    assert_eq!(whole.len(), 4, "{whole:?}");
    assert_eq!(told(stream.as_bytes(), &[1], Limits::default()), whole);
}
