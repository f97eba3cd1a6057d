//! Private messages, and what goes through the room to people outside it (behaviours 27 to 30).

use mucplex_testkit::client::Client;
use mucplex_testkit::server::{Account, Kind};
use mucplex_testkit::xml::{NS_MUC_USER, Stanza};

use crate::stage::{Stage, impersonal, mark, moderate, outline, through};

crate::tests![
    b27_a_private_message_reaches_each_session_once,
    b28_a_private_message_of_a_session,
    b28_what_is_not_to_be_copied,
    b29_a_private_message_to_nobody,
    b29_two_sessions_use_the_same_id,
    b30_invitations_and_declines_from_each_session,
    b30_invitations_and_declines_to_the_account,
    b30_each_session_asks_for_voice,
    b30_a_request_for_voice_is_answered_once,
];

/// The sessions of alice in bob's room; the first one's uplink carries it.
async fn sessions<const N: usize>(stage: &Stage, resources: [&str; N]) -> (Client, [Client; N]) {
    let alice = stage.account("alice").await;
    sessions_of(stage, &alice, resources).await
}

async fn sessions_of<const N: usize>(
    stage: &Stage,
    alice: &Account,
    resources: [&str; N],
) -> (Client, [Client; N]) {
    let mut bob = stage.room_with_bob().await;
    let mut sessions = Vec::new();
    for resource in resources {
        let mut client = stage.session(alice, resource).await;
        client.available().await.unwrap();
        client.join(&stage.room, "alice").await.unwrap();
        sessions.push(client);
    }
    let mut sessions: [Client; N] = sessions.try_into().unwrap();
    quiet(&mut bob, &stage.room, &mut sessions).await;
    (bob, sessions)
}

/// All that has happened so far has arrived. Gives what each session got of it: what the room
/// said, and what came past the room.
async fn quiet<const N: usize>(
    bob: &mut Client,
    room: &str,
    sessions: &mut [Client; N],
) -> [Vec<Stanza>; N] {
    let mut heard = mark(bob, room, sessions.each_mut()).await;
    for (client, seen) in sessions.iter_mut().zip(&mut heard) {
        seen.extend(client.drain_until_pong().await.unwrap());
    }
    heard
}

async fn carbons(client: &mut Client, action: &str) {
    let payload = format!("<{action} xmlns='urn:xmpp:carbons:2'/>");
    let answer = client.iq("set", None, &payload).await.unwrap();
    assert_eq!(answer.kind(), Some("result"), "{answer:?}");
}

/// How many elements of the room itself a stanza has.
fn room_elements(stanza: &Stanza) -> usize {
    let children = stanza.children();
    children.filter(|it| it.is("x", NS_MUC_USER)).count()
}

async fn b27_a_private_message_reaches_each_session_once(stage: Stage) {
    let (mut bob, mut sessions) = sessions(&stage, ["phone", "laptop", "tablet"]).await;
    let room = &stage.room;
    let stanzas = [
        (Some("chat"), "<body>psst</body>", "(chat) bob: psst"),
        (
            Some("chat"),
            "<received xmlns='urn:xmpp:receipts' id='1'/>",
            "(chat) bob: (no body)",
        ),
        (
            None,
            "<body>psst</body><x xmlns='http://jabber.org/protocol/muc#user'/>",
            "bob: psst",
        ),
    ];
    // Nobody has carbons, the carrier alone, another alone, all.
    for enabled in [
        [false; 3],
        [true, false, false],
        [false, true, false],
        [true; 3],
    ] {
        for (client, enabled) in sessions.iter_mut().zip(enabled) {
            carbons(client, if enabled { "enable" } else { "disable" }).await;
        }
        for (number, (kind, payload, line)) in stanzas.iter().enumerate() {
            let id = format!("pm-{number}");
            let kind = kind
                .map(|kind| format!(" type='{kind}'"))
                .unwrap_or_default();
            let message = format!("<message{kind} id='{id}' to='{room}/alice'>{payload}</message>");
            bob.send_raw(message).await.unwrap();
            let heard = quiet(&mut bob, room, &mut sessions).await;
            let first = impersonal(&sessions[0], &heard[0]);
            for (client, seen) in sessions.iter().zip(&heard) {
                assert_eq!(outline(seen), [*line], "carbons: {enabled:?}, {seen:?}");
                assert_eq!(
                    (seen[0].id(), seen[0].to()),
                    (Some(&*id), Some(client.jid()))
                );
                assert_eq!(room_elements(&seen[0]), 1, "{seen:?}");
                assert_eq!(impersonal(client, seen), first);
            }
        }
    }
}

/// The senders that the `sent` carbons among stanzas name; anything else is none.
fn carbons_of(seen: &[Stanza]) -> Vec<String> {
    let sender = |stanza: &Stanza| {
        let sent = stanza.get_child("sent", "urn:xmpp:carbons:2")?;
        let forwarded = sent.get_child("forwarded", "urn:xmpp:forward:0")?;
        let message = forwarded.get_child("message", "jabber:client")?;
        message.attr("from").map(str::to_owned)
    };
    let senders = seen.iter().map(sender);
    senders.map(Option::unwrap_or_default).collect()
}

async fn b28_a_private_message_of_a_session(stage: Stage) {
    let alice = stage.account("alice").await;
    let resources = ["phone", "laptop", "tablet", "plain"];
    let (mut bob, mut sessions) = sessions_of(&stage, &alice, resources).await;
    let room = &stage.room;
    // One that has not joined gets what the server gives it.
    let mut watch = stage.session(&alice, "watch").await;
    watch.available().await.unwrap();
    for client in sessions[..3].iter_mut().chain([&mut watch]) {
        carbons(client, "enable").await;
    }
    quiet(&mut bob, room, &mut sessions).await;
    watch.drain_until_pong().await.unwrap();
    for round in 0..2 {
        for sender in 0..sessions.len() {
            let id = format!("pm-{round}-{sender}");
            let message = format!(
                "<message type='chat' id='{id}' to='{room}/bob'><body>psst</body></message>"
            );
            sessions[sender].send_raw(message).await.unwrap();
            let at_bob = bob.recv_for("the message").await.unwrap();
            assert_eq!(outline([&at_bob]), ["(chat) alice: psst"]);
            let from = sessions[sender].jid().to_owned();
            let heard = quiet(&mut bob, room, &mut sessions).await;
            for (number, seen) in heard.iter().enumerate() {
                let copied = number != sender && number != 3;
                let expected = if copied { vec![from.clone()] } else { vec![] };
                assert_eq!(carbons_of(seen), expected, "{seen:?}");
                let own = |it: &Stanza| it.to() == Some(sessions[number].jid());
                assert!(seen.iter().all(own), "{seen:?}");
            }
            let watched = watch.drain_until_pong().await.unwrap();
            assert_eq!(carbons_of(&watched).len(), 1, "{watched:?}");
        }
    }
}

async fn b28_what_is_not_to_be_copied(stage: Stage) {
    let (mut bob, mut sessions) = sessions(&stage, ["phone", "laptop"]).await;
    let room = &stage.room;
    for client in &mut sessions {
        carbons(client, "enable").await;
    }
    for hint in [
        "<private xmlns='urn:xmpp:carbons:2'/><no-copy xmlns='urn:xmpp:hints'/>",
        "<no-copy xmlns='urn:xmpp:hints'/>",
    ] {
        for sender in 0..sessions.len() {
            let message = format!(
                "<message type='chat' id='pm' to='{room}/bob'><body>psst</body>{hint}</message>"
            );
            sessions[sender].send_raw(message).await.unwrap();
            bob.recv_for("the message").await.unwrap();
            for seen in quiet(&mut bob, room, &mut sessions).await {
                assert_eq!(outline(&seen), [""; 0]);
            }
        }
    }
}

/// The error of a message to an occupant who is not there.
fn assert_nobody(error: &Stanza, asking: &Client, room: &str, id: &str) {
    assert_eq!(outline([error]), ["message error nobody item-not-found"]);
    assert_eq!(error.from(), Some(&*format!("{room}/nobody")));
    assert_eq!((error.id(), error.to()), (Some(id), Some(asking.jid())));
}

async fn b29_a_private_message_to_nobody(stage: Stage) {
    let (mut bob, mut sessions) = sessions(&stage, ["phone", "laptop", "tablet"]).await;
    let room = &stage.room;
    for number in 0..sessions.len() {
        for kind in ["chat", "normal"] {
            let id = format!("to-nobody-{number}");
            let message = format!(
                "<message type='{kind}' id='{id}' to='{room}/nobody'><body>psst</body></message>"
            );
            let asking = &mut sessions[number];
            asking.send_raw(message).await.unwrap();
            let error = asking.recv_for("the error").await.unwrap();
            assert_nobody(&error, asking, room, &id);
            for seen in quiet(&mut bob, room, &mut sessions).await {
                assert_eq!(outline(&seen), [""; 0]);
            }
        }
    }
}

async fn b29_two_sessions_use_the_same_id(stage: Stage) {
    let (mut bob, mut sessions) = sessions(&stage, ["phone", "laptop"]).await;
    let room = &stage.room;
    let message =
        format!("<message type='chat' id='same' to='{room}/nobody'><body>psst</body></message>");
    for _ in 0..10 {
        let [phone, laptop] = &mut sessions;
        let (first, second) = tokio::join!(phone.send_raw(&message), laptop.send_raw(&message));
        first.unwrap();
        second.unwrap();
        for client in [phone, laptop] {
            let error = client.recv_for("the error").await.unwrap();
            assert_nobody(&error, client, room, "same");
        }
        for seen in quiet(&mut bob, room, &mut sessions).await {
            assert_eq!(outline(&seen), [""; 0]);
        }
    }
}

/// `<invite/>` or `<decline/>`, as it is sent and as it arrives.
fn mediated(room: &str, name: &str, to: &str) -> String {
    format!(
        "<message id='{name}' to='{room}'><x xmlns='{NS_MUC_USER}'><{name} to='{to}'>\
         <reason>tea &amp; cake</reason></{name}></x></message>"
    )
}

/// The one message of the room among these that is an `<invite/>` or `<decline/>`, and nothing
/// else: from whom it is.
fn mediated_by(seen: &[Stanza], room: &str, name: &str) -> String {
    let [message] = seen else {
        panic!("not one {name}: {seen:?}");
    };
    assert_eq!(message.from(), Some(room));
    let user = message.get_child("x", NS_MUC_USER).unwrap();
    let mediated = user.get_child(name, NS_MUC_USER).unwrap();
    let reason = mediated.get_child("reason", NS_MUC_USER).unwrap();
    assert_eq!(reason.text(), "tea & cake");
    mediated.attr("from").unwrap().to_owned()
}

/// ejabberd lets only moderators invite unless it is told otherwise.
async fn let_all_invite(stage: &Stage, bob: &mut Client) {
    if stage.kind == Kind::Ejabberd {
        let fields = [("muc#roomconfig_allowinvites", "1")];
        bob.configure_room(&stage.room, &fields).await.unwrap();
    }
}

async fn b30_invitations_and_declines_from_each_session(stage: Stage) {
    let (mut bob, mut sessions) = sessions(&stage, ["phone", "laptop"]).await;
    let_all_invite(&stage, &mut bob).await;
    let mut carol = stage.outsider(&stage.account("carol").await, "desk").await;
    carol.available().await.unwrap();
    carol.drain_until_pong().await.unwrap();
    bob.available().await.unwrap();
    let room = &stage.room;
    let lounge = stage.server.new_room("lounge");
    bob.create_room(&lounge, "bob").await.unwrap();
    quiet(&mut bob, room, &mut sessions).await;
    for number in 0..sessions.len() {
        let invite = mediated(room, "invite", carol.bare_jid());
        sessions[number].send_raw(invite).await.unwrap();
        // The room handles what comes on one stream in order: the invitation is out.
        let [rest] = mark(&mut sessions[number], room, [&mut bob]).await;
        assert_eq!(outline(&rest), [""; 0]);
        let seen = carol.drain_until_pong().await.unwrap();
        let by = mediated_by(&seen, room, "invite");
        let account = sessions[number].bare_jid();
        assert!(
            by == format!("{room}/alice") || by.starts_with(account),
            "invited by {by}"
        );
        // The session may be in the room already, and then ejabberd takes no decline from it.
        for (place, is_taken) in [(&lounge, true), (room, stage.kind == Kind::Prosody)] {
            let decline = mediated(place, "decline", bob.bare_jid());
            sessions[number].send_raw(decline).await.unwrap();
            sessions[number].settle(place).await.unwrap();
            mark(&mut sessions[number], room, []).await;
            let mut seen = bob.settle(place).await.unwrap();
            seen.retain(|it| it.kind() != Some("groupchat"));
            if is_taken {
                mediated_by(&seen, place, "decline");
            } else {
                assert_eq!(outline(&seen), [""; 0]);
            }
        }
        // Nobody else has heard anything of it but the marks.
        let heard = quiet(&mut bob, room, &mut sessions).await;
        for seen in &heard {
            assert!(
                seen.iter().all(|it| it.has_child("mark", "urn:mark")),
                "{seen:?}"
            );
        }
    }
}

/// To the account's bare JID a server gives every available resource its own; to the JID that the
/// invitation showed, one to the carrier, which is for all.
async fn b30_invitations_and_declines_to_the_account(stage: Stage) {
    let (mut bob, mut sessions) = sessions(&stage, ["phone", "laptop"]).await;
    let_all_invite(&stage, &mut bob).await;
    let mut carol = stage.outsider(&stage.account("carol").await, "desk").await;
    carol.available().await.unwrap();
    carol.drain_until_pong().await.unwrap();
    let room = &stage.room;
    quiet(&mut bob, room, &mut sessions).await;
    let account = sessions[0].bare_jid().to_owned();

    bob.send_raw(mediated(room, "invite", &account))
        .await
        .unwrap();
    for seen in quiet(&mut bob, room, &mut sessions).await {
        mediated_by(&seen, room, "invite");
    }
    for number in 0..sessions.len() {
        let invite = mediated(room, "invite", carol.bare_jid());
        sessions[number].send_raw(invite).await.unwrap();
        let invited = carol.recv_for("the invitation").await.unwrap();
        let by = mediated_by(&[invited], room, "invite");
        for to in [&account, &by] {
            carol.send_raw(mediated(room, "decline", to)).await.unwrap();
            assert_eq!(outline(&carol.settle(room).await.unwrap()), [""; 0]);
            for seen in quiet(&mut bob, room, &mut sessions).await {
                let by = mediated_by(&seen, room, "decline");
                assert!(by.starts_with(carol.bare_jid()), "declined by {by}");
            }
        }
    }
}

async fn b30_each_session_asks_for_voice(stage: Stage) {
    let (mut bob, mut sessions) = sessions(&stage, ["phone", "laptop"]).await;
    let room = &stage.room;
    let mut fields = vec![("muc#roomconfig_moderatedroom", "1")];
    if stage.kind == Kind::Ejabberd {
        // One request in half an hour otherwise.
        fields.push(("voice_request_min_interval", "0"));
    }
    bob.configure_room(room, &fields).await.unwrap();
    moderate(&mut bob, room, "<item nick='alice' role='visitor'/>").await;
    quiet(&mut bob, room, &mut sessions).await;
    let request = format!(
        "<message id='voice' to='{room}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>\
         <field var='muc#role'><value>participant</value></field></x></message>"
    );
    for asking in &mut sessions {
        asking.send_raw(&request).await.unwrap();
        // A visitor cannot speak; what it asks bob comes behind what it asks the room.
        let bobs = format!("{room}/bob");
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        asking.send_iq("get", Some(&bobs), ping).await.unwrap();
        let asked = |it: &Stanza| it.name() == "iq";
        let mut seen = through(&mut bob, "the ping", asked).await;
        seen.pop();
        let [form] = &seen[..] else {
            panic!("not one request: {seen:?}");
        };
        assert_eq!(form.from(), Some(&**room));
        let form = form.get_child("x", "jabber:x:data").unwrap();
        let nick = form
            .children()
            .find(|it| it.attr("var") == Some("muc#roomnick"));
        let value = nick.and_then(|it| it.get_child("value", "jabber:x:data"));
        assert_eq!(value.unwrap().text(), "alice");
    }
    moderate(&mut bob, room, "<item nick='alice' role='participant'/>").await;
    for seen in quiet(&mut bob, room, &mut sessions).await {
        assert_eq!(outline(&seen), ["presence alice none/participant 110"]);
    }
}

/// The answer of a moderator to a request for voice.
fn verdict(nick: &str, jid: &str, allow: &str) -> String {
    let fields = [
        ("FORM_TYPE", "http://jabber.org/protocol/muc#request"),
        ("muc#role", "participant"),
        ("muc#jid", jid),
        ("muc#roomnick", nick),
        ("muc#request_allow", allow),
    ];
    let field = |(name, value)| format!("<field var='{name}'><value>{value}</value></field>");
    let fields: String = fields.map(field).concat();
    format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>")
}

/// The sessions are those of a moderator; the first one's uplink carries the room.
async fn b30_a_request_for_voice_is_answered_once(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    bob.configure_room(room, &[("muc#roomconfig_moderatedroom", "1")])
        .await
        .unwrap();
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        client.join(room, "alice").await.unwrap();
    }
    moderate(&mut bob, room, "<item nick='alice' role='moderator'/>").await;
    let mut carol = stage.guest("carol").await;
    moderate(&mut bob, room, "<item nick='carol' role='visitor'/>").await;
    mark(&mut bob, room, [&mut phone, &mut laptop, &mut carol]).await;

    let ask = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
        <value>http://jabber.org/protocol/muc#request</value></field>\
        <field var='muc#role'><value>participant</value></field></x>";
    let request = format!("<message id='v' to='{room}'>{ask}</message>");
    carol.send_raw(request).await.unwrap();
    for client in [&mut phone, &mut laptop] {
        let form = client.recv_for("the request").await.unwrap();
        assert!(form.has_child("x", "jabber:x:data"), "{form:?}");
    }
    let before = front.tap.count_up("request_allow");
    let jid = carol.jid().to_owned();
    for (client, allow) in [(&mut laptop, "true"), (&mut phone, "false")] {
        let answer = format!(
            "<message to='{room}'>{}</message>",
            verdict("carol", &jid, allow)
        );
        client.send_raw(answer).await.unwrap();
        client.drain_until_pong().await.unwrap();
    }
    mark(&mut phone, room, [&mut laptop, &mut carol]).await;
    let sent = front.tap.count_up("request_allow") - before;
    assert_eq!(sent, 1, "approvals sent");
    carol.say(room, "thanks").await.unwrap();
    carol
        .wait_for("its own message", |it| {
            it.body().as_deref() == Some("thanks")
        })
        .await
        .unwrap();
}
