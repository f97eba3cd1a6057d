//! Rooms that lie (behaviours 71 and 72): what a room says of itself to one account is between the
//! two of them, and changes neither another room nor another account.

use mucplex_testkit::client::{Client, ClientError, History, Join};
use mucplex_testkit::rooms::{Joining, Room};
use mucplex_testkit::xml::{NS_STREAM, Stanza};

use super::{Played, as_alice, forgeries, last_word};
use crate::stage::{Stage, leave, marked, outline};

crate::tests![
    b72_a_room_that_passes_on_what_occupants_forge,
    b72_a_room_that_answers_a_join_with_lies,
    b71_a_room_that_lies_to_one_account_about_another,
    b66_b71_a_room_that_is_too_large_ends_the_joining_session_alone,
    b71_b72_rooms_with_odd_names,
];

/// Namespace of the conditions in a stream error (RFC 6120 4.9.3).
const NS_STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

const NO_SUBJECT: &str = "<message type='groupchat' from='{room}' to='{to}'><subject/></message>";

/// A presence of the room's making; `kind` is what its start tag has beside the addresses.
fn presence(nick: &str, kind: &str, x: &str) -> String {
    format!(
        "<presence from='{{room}}/{nick}' to='{{to}}'{kind}>\
         <x xmlns='http://jabber.org/protocol/muc#user'>\
         <item affiliation='none' role='participant'/>{x}</x></presence>"
    )
}

fn codes(codes: &[u16]) -> String {
    let codes = codes.iter().map(|code| format!("<status code='{code}'/>"));
    codes.collect()
}

/// Answers of joins, one wrong in another way than the next.
fn answers() -> Vec<Vec<String>> {
    let gone = " type='unavailable'";
    let own = presence("{nick}", "", &codes(&[110]));
    let bob = presence("bob", "", &codes(&[110]));
    let mut all = vec![
        // Under another's nick, with 210 and without.
        vec![bob.clone()],
        vec![presence("bob", "", &codes(&[110, 210]))],
        vec![presence("mallory", "", &codes(&[110, 210]))],
        // Several are the account's own.
        vec![
            bob.clone(),
            own.clone(),
            presence("carol", "", &codes(&[110])),
        ],
        vec![own.clone(), own.clone(), bob.clone()],
        // The list does not end, or begins again.
        vec![presence("bob", "", "")],
        vec![own.clone(), presence("bob", "", ""), own.clone()],
        // It is over before it has begun.
        vec![presence("bob", gone, &codes(&[110, 307])), own.clone()],
        vec![presence("{nick}", gone, &codes(&[110, 307])), own.clone()],
        vec![own.clone(), presence("{nick}", gone, &codes(&[110, 301]))],
        vec![
            own.clone(),
            presence("bob", gone, "<destroy jid='evil@scripted.test'/>"),
        ],
        vec![own.clone(), presence("{nick}", gone, &codes(&[303]))],
    ];
    for lie in [
        &[303][..],
        &[307, 333],
        &[110, 303, 307, 301, 321, 322, 332, 333],
    ] {
        all.push(vec![presence("{nick}", "", &codes(lie)), own.clone()]);
        all.push(vec![own.clone(), presence("{nick}", "", &codes(lie))]);
    }
    for answer in &mut all {
        answer.push(NO_SUBJECT.to_owned());
    }
    all
}

/// Alice sees of each answer what dora sees without the proxy. In another room alice is as she was,
/// and mallory, who is in the lying one through the same proxy, sees nothing.
async fn b72_a_room_that_answers_a_join_with_lies(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let mallory = stage.account("mallory").await;
    let mut mallory = stage.session(&mallory, "phone").await;
    for answer in answers() {
        let liar = stage.scripted("liar").await;
        mallory.join(liar.jid(), "mallory").await.unwrap();
        liar.rules(|rules| rules.joining = Joining::Say(answer.clone()));
        let join = Join::default();
        for (client, nick) in [(&mut at.dora, "dora"), (&mut at.phone, "alice")] {
            let id = client.send_join(liar.jid(), nick, &join).await.unwrap();
            liar.wait_for("the join", |it| it.id() == Some(&id)).await;
        }
        let [dora] = marked(&liar, "dora", [&mut at.dora]).await;
        let [phone] = marked(&liar, "alice", [&mut at.phone]).await;
        assert_eq!(outline(&phone), as_alice(&dora), "{answer:#?}");
        let [seen] = marked(&liar, "mallory", [&mut mallory]).await;
        assert_eq!(outline(&seen), [""; 0], "{answer:#?}");
        assert_eq!(at.same_for_all().await, [""; 0], "{answer:#?}");
    }
    at.unchanged(&stage).await;
}

/// A room that takes nothing out of what occupants write, and puts its own beside it: also while
/// alice is joining. Nobody can tell whose codes they are, so they change nothing.
async fn b72_a_room_that_passes_on_what_occupants_forge(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let account = stage.account("mallory").await;
    let mut mallory = stage.outsider(&account, "desk").await;
    let own = at.room.occupant("mallory");
    let room = at.room.jid().to_owned();
    for forged in forgeries() {
        let join = Join {
            children: forged.clone(),
            ..Join::default()
        };
        mallory.send_join(&room, "mallory", &join).await.unwrap();
        let private = ["dora", "alice"].map(|nick| {
            let to = at.room.occupant(nick);
            format!("<message type='chat' to='{to}'><body>lies</body>{forged}</message>")
        });
        mallory
            .send_raw(format!(
                "<presence to='{own}'>{forged}</presence>\
                 <message type='groupchat' to='{room}'><body>lies</body>{forged}</message>{}",
                private.concat()
            ))
            .await
            .unwrap();
        mallory.settle(&room).await.unwrap();
        // Mallory's arrival, its presence, and its messages.
        assert_eq!(at.same_for_all().await.len(), 4);

        let other = stage.account("carol").await;
        let mut carol = stage.session(&other, "phone").await;
        let joined = carol.join(&room, "carol").await.unwrap();
        let own_line = "presence carol none/participant 110";
        let last = joined.all.iter().rfind(|it| it.name() == "presence");
        assert_eq!(outline(last), [own_line]);
        let presences = joined.all.iter().filter(|it| it.name() == "presence");
        assert_eq!(presences.count(), 6);
        leave(&mut carol, &room, "carol").await;

        let gone = format!("<presence type='unavailable' to='{own}'>{forged}</presence>");
        mallory.send_raw(gone).await.unwrap();
        for session in [mallory.jid(), carol.jid()] {
            let left = |it: &Stanza| it.from() == Some(session) && is_gone(it);
            at.room.wait_for("the leave", left).await;
        }
        // Carol's coming and going, and mallory's going.
        assert_eq!(at.same_for_all().await.len(), 3);
        at.room.forget_received();
    }
    at.unchanged(&stage).await;
}

/// Mallory is in no room; what alice's room sends there is a stranger's.
async fn b71_a_room_that_lies_to_one_account_about_another(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let account = stage.account("mallory").await;
    let mut mallory = stage.session(&account, "phone").await;
    let mut direct = stage.outsider(&account, "desk").await;
    let lounge = stage.scripted("lounge").await;
    mallory.join(lounge.jid(), "alice").await.unwrap();
    for forged in forgeries() {
        for nick in ["alice", "dora", "mallory"] {
            for client in [&mallory, &direct] {
                let (from, to) = (at.room.occupant(nick), client.jid());
                at.room.send(format!(
                    "<presence from='{from}' to='{to}'>{forged}</presence>\
                     <presence type='unavailable' from='{from}' to='{to}'>{forged}</presence>\
                     <message type='groupchat' from='{from}' to='{to}'>{forged}</message>"
                ));
            }
        }
    }
    let from = at.room.occupant("alice");
    let expected = outline(&last_word(&at.room, &from, &mut direct).await);
    let seen = outline(&last_word(&at.room, &from, &mut mallory).await);
    assert_eq!(seen, expected);
    let [seen] = marked(&lounge, "alice", [&mut mallory]).await;
    assert_eq!(outline(&seen), [""; 0]);
    assert_eq!(at.same_for_all().await, [""; 0]);
    at.unchanged(&stage).await;
}

/// A room may have as many occupants as it likes. Where they are more than may wait for a session
/// (`outbox_bytes`), one that joins late is ended, and nobody else sees anything of it.
async fn b66_b71_a_room_that_is_too_large_ends_the_joining_session_alone(stage: Stage) {
    let front = stage
        .own_front("[session]\nstanza_bytes = \"16KiB\"\noutbox_bytes = \"64KiB\"")
        .await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut mallory = front
        .session(&stage.account("mallory").await, "phone")
        .await;
    let room = stage.scripted("large").await;
    phone.join(room.jid(), "alice").await.unwrap();
    mallory.join(room.jid(), "mallory").await.unwrap();
    marked(&room, "alice", [&mut phone]).await;
    for part in 0..80 {
        for number in 0..50 {
            room.arrive(&format!("c{part}.{number}"));
        }
        let [seen] = marked(&room, "alice", [&mut phone]).await;
        let [others] = marked(&room, "mallory", [&mut mallory]).await;
        assert_eq!((seen.len(), others.len()), (50, 50));
    }
    let received = room.received().len();
    let mut laptop = front.session(&alice, "laptop").await;

    laptop
        .send_join(room.jid(), "alice", &Join::default())
        .await
        .unwrap();

    let is_error = |it: &Stanza| it.is("error", NS_STREAM);
    let error = laptop.wait_for("a stream error", is_error).await.unwrap();
    assert!(
        error.has_child("resource-constraint", NS_STREAM_ERRORS),
        "{error:?}"
    );
    assert_eq!(room.received().len(), received);
    let [on_phone] = marked(&room, "alice", [&mut phone]).await;
    let [on_mallory] = marked(&room, "mallory", [&mut mallory]).await;
    assert_eq!(outline(&on_phone), [""; 0]);
    assert_eq!(outline(&on_mallory), [""; 0]);
    phone.say(room.jid(), "still here").await.unwrap();
    for client in [&mut phone, &mut mallory] {
        client.hear("still here").await.unwrap();
    }
}

fn is_gone(stanza: &Stanza) -> bool {
    stanza.kind() == Some("unavailable")
}

/// Joins, talks and leaves in a room; what the session has seen of it, or the refusal.
async fn stay(room: &Room, client: &mut Client, nick: &str) -> Result<Vec<String>, String> {
    let none = History {
        maxstanzas: Some(0),
        ..History::default()
    };
    let join = Join {
        history: Some(none),
        ..Join::default()
    };
    let joined = match client.join_with(room.jid(), nick, &join).await {
        Ok(joined) => joined,
        Err(ClientError::Refused(error)) => return Err(outline([&*error]).concat()),
        Err(error) => panic!("{}: {error}", room.jid()),
    };
    let mut seen = outline(&joined.all);
    client.say(room.jid(), "hello").await.unwrap();
    room.whisper("c1", nick, "psst");
    let id = room.ask("c1", nick, "get", "<q xmlns='urn:q'/>");
    for _ in 0..3 {
        seen.extend(outline([&client.recv().await.unwrap()]));
    }
    let answer = format!("<iq type='result' id='{id}' to='{}'/>", room.occupant("c1"));
    client.send_raw(answer).await.unwrap();
    room.wait_for("the answer", |it| it.id() == Some(&id)).await;
    seen.sort_unstable();
    seen.extend(outline(&leave(client, room.jid(), nick).await));
    Ok(seen)
}

/// Characters that have a meaning elsewhere (in a path, a pattern, XML, XEP-0106), letters beyond
/// ASCII, and names as long as they may be; likewise the nicks.
async fn b71_b72_rooms_with_odd_names(stage: Stage) {
    let alice = stage.account("alice").await;
    let mut direct = stage.outsider(&alice, "direct").await;
    let mut phone = stage.session(&alice, "phone").await;
    let names = [
        "tea\\20room".to_owned(),
        "a%20b;c=d?e#f".to_owned(),
        "*[a-z]{2}(x)+$^|~!,".to_owned(),
        "#irc%irc.example.test".to_owned(),
        "t\u{e9}\u{4e2d}\u{3c9}".to_owned(),
        "\u{5d0}\u{5d1}".to_owned(),
        "mucplex-1".to_owned(),
        "x".repeat(900),
    ];
    let service = mucplex_testkit::rooms::Service::shared(stage.kind).await;
    for name in &names {
        for nick in [
            "alice",
            "a/b@c",
            "<&>'\"",
            "\u{1f600}",
            "{0}%s\\27",
            "mucplex-1",
        ] {
            let room = service.room(name);
            room.crowd(1);
            let expected = stay(&room, &mut direct, nick).await;
            let got = stay(&room, &mut phone, nick).await;
            assert_eq!(got, expected, "{nick} in {}", room.jid());
            if got.is_ok() {
                let is_leave = |it: &Stanza| it.from() == Some(phone.jid()) && is_gone(it);
                room.wait_for("the leave", is_leave).await;
            }
            room.forget_received();
            room.forget("c1");
        }
    }
}
