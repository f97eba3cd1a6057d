//! Gives N groupchat messages of 435 bytes to a hub with four sessions in the room, for
//! instruction counts that anyone can take (`just bench`).

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use mucplex_muc::{AccountJid, Hub, Input, NickConflict, Now, Output, Policy, SessionId, UplinkId};
use mucplex_xml::{Frame, Limits};

const ROOM: &str = "garden@muc.example.org";
const SESSIONS: u64 = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages: usize = std::env::args()
        .nth(1)
        .unwrap_or_default()
        .parse()
        .unwrap_or(1000);
    #[expect(
        clippy::disallowed_methods,
        reason = "an example is a shell, and gives the time"
    )]
    let now = Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    };
    let mut hub = room_with_sessions(now)?;
    let message = frame(&format!(
        "<message to='juliet@example.org/0' from='{ROOM}/romeo' type='groupchat' \
         id='9d3b0f4e-6a51-4c8e-b6f2-0d2f6f3a7c11' xml:lang='en'>\
         <body>It was the nightingale, and not the lark, that pierced the fearful hollow.</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='2026-01-31-7f0c1e9ab2d34c561'/>\
         <occupant-id xmlns='urn:xmpp:occupant-id:0' id='dd72603deec90a38ba552f7c68cbcc61bca202cd'/>\
         </message>"
    ))?;
    let mut copies = 0;
    for _ in 0..messages {
        hub.handle(
            now,
            Input::FromServer {
                uplink: UplinkId(0),
                frame: message.clone(),
            },
        );
        while let Some(output) = hub.poll_output() {
            copies += usize::from(matches!(black_box(output), Output::ToClient { .. }));
        }
    }
    println!("{messages} messages, {copies} copies");
    Ok(())
}

/// A hub whose sessions are all in the room, the first one's uplink carrying it.
fn room_with_sessions(now: Now) -> Result<Hub, Box<dyn std::error::Error>> {
    let account = AccountJid("juliet@example.org".parse()?);
    let policy = Policy {
        nick_conflict: NickConflict::Account,
        persist: std::env::args().nth(2).is_some(),
        anchors: true,
        stay: Duration::from_secs(3600),
        history: Duration::from_secs(3600),
    };
    let mut hub = Hub::new(account, policy);
    for number in 0..SESSIONS {
        let (session, uplink) = (SessionId(number), UplinkId(number));
        let jid = format!("juliet@example.org/{number}").parse()?;
        hub.handle(
            now,
            Input::SessionBound {
                session,
                uplink,
                jid,
                client_lang: None,
            },
        );
        let join = frame(&format!(
            "<presence to='{ROOM}/juliet'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        ))?;
        hub.handle(
            now,
            Input::FromClient {
                session,
                frame: join,
            },
        );
        if number == 0 {
            let own = frame(&format!(
                "<presence to='juliet@example.org/0' from='{ROOM}/juliet'>\
                 <x xmlns='http://jabber.org/protocol/muc#user'>\
                 <item affiliation='none' role='participant'/><status code='110'/></x></presence>"
            ))?;
            let subject = frame(&format!(
                "<message to='juliet@example.org/0' from='{ROOM}' type='groupchat'><subject/></message>"
            ))?;
            for frame in [own, subject] {
                hub.handle(now, Input::FromServer { uplink, frame });
            }
        }
    }
    while hub.poll_output().is_some() {}
    Ok(hub)
}

fn frame(xml: &str) -> Result<Frame, mucplex_xml::FramingError> {
    Frame::parse(Bytes::copy_from_slice(xml.as_bytes()), &Limits::default())
}
