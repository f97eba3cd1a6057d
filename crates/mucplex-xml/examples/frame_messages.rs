//! Frames N copies of a groupchat message of 435 bytes and addresses each to four recipients, for
//! instruction counts that anyone can take:
//!
//! ```text
//! cargo build --release -p mucplex-xml --example frame_messages
//! valgrind --tool=callgrind target/release/examples/frame_messages 10000
//! ```
//!
//! The count with N messages less the one with none, divided by N, is the cost of one message.

use std::{hint::black_box, process::ExitCode};

use mucplex_xml::{Event, Framer, FramingError, Limits};

const HEADER: &[u8] =
    b"<?xml version='1.0'?><stream:stream from='example.org' id='s1' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

const MESSAGE: &[u8] = b"<message to='juliet@example.org/balcony' from='garden@muc.example.org/romeo' \
    type='groupchat' id='9d3b0f4e-6a51-4c8e-b6f2-0d2f6f3a7c11' xml:lang='en'>\
    <body>It was the nightingale, and not the lark, that pierced the fearful hollow.</body>\
    <stanza-id xmlns='urn:xmpp:sid:0' by='garden@muc.example.org' id='2026-01-31-7f0c1e9ab2d34c561'/>\
    <occupant-id xmlns='urn:xmpp:occupant-id:0' id='dd72603deec90a38ba552f7c68cbcc61bca202cd'/>\
    </message>";

/// What a shell reads at a time.
const READ: usize = 8 * 1024;

fn run(messages: usize) -> Result<(usize, usize), FramingError> {
    let recipients = [
        "a@example.org/phone",
        "b@example.org/desk",
        "c@example.org/x",
        "d@example.org/y",
    ];
    let mut framer = Framer::new(Limits::default());
    framer.push(HEADER);
    let input: Vec<u8> = MESSAGE.repeat(READ / MESSAGE.len());
    let (mut framed, mut bytes) = (0, 0);
    loop {
        while let Some(event) = framer.next_event()? {
            let Event::Frame(frame) = event else { continue };
            framed += 1;
            for recipient in recipients {
                bytes += black_box(frame.with_to(recipient)).len();
            }
        }
        if framed >= messages {
            return Ok((framed, bytes));
        }
        framer.push(&input);
    }
}

fn main() -> ExitCode {
    let messages = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let Some(messages) = messages else {
        eprintln!("usage: frame_messages <messages>");
        return ExitCode::FAILURE;
    };
    match run(messages) {
        Ok((framed, bytes)) => {
            println!(
                "{framed} messages of {} bytes, {bytes} bytes out",
                MESSAGE.len()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
