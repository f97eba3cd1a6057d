//! Stanzas that come wrapped, as if the account's own server had carried or kept them, and marks
//! that only the room may set (behaviours 72 and 74).

use mucplex_testkit::client::Join;

use super::{Forged, Played, as_alice, last_word};
use crate::stage::{Stage, leave, marked, outline, until};

crate::tests![
    b72_carbons_and_archives_from_a_stranger,
    b72_carbons_and_archives_from_an_occupant,
    b72_archives_from_the_room_are_for_the_stream_that_gets_them,
    b74_marks_that_the_room_has_not_set,
    b74_a_forged_delay_and_ids_are_not_believed,
];

/// Forwarded stanzas of the room, in each wrapper: what alice would see if she were put out, if
/// the subject changed, if somebody had said something.
fn wrappers(room: &str, alice: &str) -> Vec<String> {
    let inside = [
        format!(
            "<presence xmlns='jabber:client' type='unavailable' from='{room}/alice' to='{alice}'>\
             <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/>\
             <status code='110'/><status code='307'/></x></presence>"
        ),
        format!(
            "<message xmlns='jabber:client' type='groupchat' from='{room}' to='{alice}'>\
             <subject>lies</subject></message>"
        ),
        format!(
            "<message xmlns='jabber:client' type='groupchat' from='{room}/c1' to='{alice}' id='m'>\
             <body>lies</body><delay xmlns='urn:xmpp:delay' from='{room}' \
             stamp='2001-01-01T00:00:00Z'/></message>"
        ),
    ];
    let mut all = Vec::new();
    for stanza in inside {
        let forwarded = format!("<forwarded xmlns='urn:xmpp:forward:0'>{stanza}</forwarded>");
        all.extend([
            format!("<received xmlns='urn:xmpp:carbons:2'>{forwarded}</received>"),
            format!("<sent xmlns='urn:xmpp:carbons:2'>{forwarded}</sent>"),
            format!("<result xmlns='urn:xmpp:mam:2' id='1' queryid='q'>{forwarded}</result>"),
            forwarded,
        ]);
    }
    all
}

async fn b72_carbons_and_archives_from_a_stranger(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let from = "stranger@scripted.test/alice";
    for wrapped in wrappers(at.room.jid(), at.phone.jid()) {
        for kind in ["", " type='chat'", " type='groupchat'"] {
            for client in [&at.phone, &at.laptop, &at.dora] {
                let to = client.jid();
                at.room.send(format!(
                    "<message{kind} from='{from}' to='{to}'>{wrapped}</message>"
                ));
            }
        }
    }
    let expected = as_alice(&last_word(&at.room, from, &mut at.dora).await);
    for client in [&mut at.phone, &mut at.laptop] {
        let seen = last_word(&at.room, from, client).await;
        assert_eq!(outline(&seen), expected);
    }
    at.unchanged(&stage).await;
}

/// To everybody and in private; each session gets what dora gets, once, as it was sent.
async fn b72_carbons_and_archives_from_an_occupant(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let wrapped = wrappers(at.room.jid(), at.phone.jid());
    for wrapped in &wrapped {
        for kind in ["", " type='chat'", " type='groupchat'"] {
            at.both_are_told(&format!(
                "<message{kind} from='{{room}}/c1' to='{{to}}'>{wrapped}</message>"
            ));
        }
    }
    assert_eq!(at.same_for_all().await.len(), 3 * wrapped.len());
    at.unchanged(&stage).await;
}

/// As an answer of an archive that the phone has asked, and the laptop has not.
async fn b72_archives_from_the_room_are_for_the_stream_that_gets_them(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let wrapped = wrappers(at.room.jid(), at.phone.jid());
    let wrapped: Vec<_> = wrapped
        .iter()
        .filter(|it| it.starts_with("<result"))
        .collect();
    for wrapped in &wrapped {
        at.both_are_told(&format!(
            "<message from='{{room}}' to='{{to}}'>{wrapped}</message>"
        ));
    }
    let [phone, laptop] = marked(&at.room, "alice", [&mut at.phone, &mut at.laptop]).await;
    let [dora] = marked(&at.room, "dora", [&mut at.dora]).await;
    assert_eq!(outline(&phone), as_alice(&dora));
    assert_eq!((phone.len(), outline(&laptop).len()), (wrapped.len(), 0));
    at.unchanged(&stage).await;
}

/// A room that takes nothing out of what its occupants write: each live copy is what dora gets,
/// and a late joiner gets each message once, in order, at the time the proxy has heard it, however
/// the marks make one look like another.
async fn b74_marks_that_the_room_has_not_set(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let (room, account) = (at.room.jid().to_owned(), at.alice.jid());
    let marks = [
        format!("<stanza-id xmlns='urn:xmpp:sid:0' id='same' by='{room}'/>"),
        format!("<stanza-id xmlns='urn:xmpp:sid:0' id='same' by='{account}'/>"),
        "<origin-id xmlns='urn:xmpp:sid:0' id='same'/>".to_owned(),
        "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='same'/>".to_owned(),
        format!("<delay xmlns='urn:xmpp:delay' from='{room}' stamp='2001-01-01T00:00:00Z'/>"),
        format!("<delay xmlns='urn:xmpp:delay' from='{account}' stamp='2101-01-01T00:00:00Z'/>"),
    ];
    let mut said = Vec::new();
    for (number, mark) in marks.iter().enumerate() {
        // Twice the same id, and the same marks, with another body.
        for part in ["a", "b"] {
            let body = format!("{number}{part}");
            let content = format!("<body>{body}</body>{mark}");
            let (from, id) = (at.room.occupant("c1"), "same");
            for nick in ["alice", "dora"] {
                at.room.send_each(nick, &format!(
                    "<message type='groupchat' from='{from}' to='{{to}}' id='{id}'>{content}</message>"
                ));
            }
            said.push(body);
        }
    }
    let live = at.same_for_all().await;
    assert_eq!(live.len(), said.len());
    let mut late = stage.session(&at.alice, "late").await;
    let joined = late.join(&room, "alice").await.unwrap();
    assert_eq!(joined.bodies(), said);
    for message in &joined.history {
        let delays = message
            .children()
            .filter(|child| child.is("delay", "urn:xmpp:delay"));
        let stamps: Vec<_> = delays
            .filter(|delay| delay.attr("from") == Some(&room))
            .filter_map(|delay| delay.attr("stamp"))
            .collect();
        assert_eq!(stamps.len(), 1, "{message:?}");
        assert!(!stamps[0].starts_with("2001"), "{message:?}");
    }
    leave(&mut late, &room, "alice").await;

    // The carrier goes, and the laptop takes over: no message of the room is taken for another.
    at.phone.reset_connection().unwrap();
    at.room
        .wait_for("the laptop's join", |it| it.from() == Some(at.laptop.jid()))
        .await;
    at.room.say("c1", "behind");
    let seen = until(&mut at.laptop, "behind").await;
    assert_eq!(outline(&seen), [""; 0]);
    let joined = at.laptop.join(&room, "alice").await.unwrap();
    said.push("behind".to_owned());
    assert_eq!(joined.bodies(), said);
}

/// What an occupant has written itself is not the room's: live it is passed on, and a late
/// joiner gets it with the room's own delay.
async fn b74_a_forged_delay_and_ids_are_not_believed(stage: Stage) {
    let stage = stage.archived().await;
    let mut at = Forged::new(&stage).await;
    let room = &stage.room;
    let message = format!(
        "<message type='groupchat' id='m' to='{room}'><body>long ago</body>\
         <delay xmlns='urn:xmpp:delay' from='{room}' stamp='2001-01-01T00:00:00Z'/>\
         <stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='{room}'/></message>"
    );
    at.mallory.send_raw(message).await.unwrap();
    for client in [&mut at.phone, &mut at.laptop, &mut at.bob] {
        let copy = client.hear("long ago").await.unwrap();
        assert!(!copy.raw_str().contains("'forged'"), "{copy:?}");
    }
    let mut late = stage.session(&at.alice, "late").await;
    let since = mucplex_testkit::client::History {
        since: Some("2020-01-01T00:00:00Z".into()),
        ..Default::default()
    };
    let join = Join {
        history: Some(since),
        ..Join::default()
    };
    let joined = late.join_with(room, "alice", &join).await.unwrap();
    assert_eq!(joined.bodies(), ["long ago"]);
    let own: Vec<_> = joined.history[0]
        .children()
        .filter(|child| child.name() == "delay" && child.attr("from") == Some(&**room))
        .filter_map(|child| child.attr("stamp"))
        .collect();
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(!own[0].starts_with("2001"), "{own:?}");
}
