//! Groupchat messages (behaviours 20 to 26).

use mucplex_testkit::client::Client;
use mucplex_testkit::xml::Stanza;

use crate::raw::uncounted;
use crate::stage::{Stage, bodies, impersonal, leave, mark, moderate, nick, outline, through};

crate::tests![
    b20_each_session_gets_one_reflection,
    b20_b21_b23_four_sessions_and_bob_exchange_40_messages,
    b21_the_server_sends_one_copy,
    b22_messages_without_a_body,
    b23_one_order_of_messages_and_presences,
    b24_an_error_is_for_its_sender,
    b24_two_sessions_use_the_same_id,
    b26_a_session_that_has_not_joined,
];

async fn b20_each_session_gets_one_reflection(stage: Stage) {
    let stage = stage.archived().await;
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    // The carrier, and then one that is not.
    for (body, id) in [("of the phone", "m-1"), ("of the laptop", "m-2")] {
        let speaker = if id == "m-1" { &mut phone } else { &mut laptop };
        let message = format!(
            "<message type='groupchat' id='{id}' to='{}' from='{}'><body>{body}</body>\
             <x xmlns='urn:payload'/></message>",
            stage.room,
            speaker.jid()
        );
        speaker.send_raw(message).await.unwrap();
        assert!(
            front
                .tap
                .wait_until(|all| all.iter().any(|one| one.count_down(body) > 0))
                .await
        );
        let listeners = [&mut phone, &mut laptop];
        let [on_phone, on_laptop] = mark(&mut bob, &stage.room, listeners).await;

        assert_eq!(outline(&on_phone), [format!("alice: {body}")]);
        assert_eq!(on_phone[0].id(), Some(id));
        assert!(on_phone[0].has_child("stanza-id", "urn:xmpp:sid:0"));
        assert!(on_phone[0].has_child("x", "urn:payload"));
        assert_eq!(
            impersonal(&phone, &on_phone),
            impersonal(&laptop, &on_laptop)
        );
        assert_eq!(front.tap.count_up(body), 1);
        assert_eq!(front.tap.count_down(body), 1);
    }
}

/// The stanzas that are a message of the talk, each with sender, text and id.
fn talk(stanzas: &[Stanza]) -> Vec<(String, Option<String>, Option<String>)> {
    let messages = stanzas.iter().filter(|stanza| stanza.body().is_some());
    messages
        .map(|it| (nick(it).to_owned(), it.body(), it.id().map(str::to_owned)))
        .collect()
}

async fn b20_b21_b23_four_sessions_and_bob_exchange_40_messages(stage: Stage) {
    const EACH: usize = 8;
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    bob.configure_room(&stage.room, &[("muc#roomconfig_whois", "anyone")])
        .await
        .unwrap();
    let alice = stage.account("alice").await;
    let mut sessions = Vec::new();
    for resource in ["phone", "laptop", "tablet", "watch"] {
        let mut client = front.session(&alice, resource).await;
        client.join(&stage.room, "alice").await.unwrap();
        sessions.push(client);
    }
    let occupant = bob
        .wait_for("alice", |it| nick(it) == "alice")
        .await
        .unwrap();
    let items = occupant.raw_str().matches("<item ").count();
    let jids = occupant
        .raw_str()
        .matches(&format!("jid='{}", alice.jid()))
        .count();
    assert_eq!((items, jids), (1, 1), "{occupant:?}");

    let mut ids = Vec::new();
    for number in 0..EACH {
        for client in sessions.iter_mut().chain([&mut bob]) {
            let body = format!("talk {number} of {}", client.resource());
            let id = client.say(&stage.room, &body).await.unwrap();
            ids.push((body, id));
        }
    }
    // Everybody's last word comes after all that the same one has said before.
    let last: Vec<String> = ids[5 * (EACH - 1)..]
        .iter()
        .map(|(body, _)| body.clone())
        .collect();
    let mut views = Vec::new();
    for client in sessions.iter_mut().chain([&mut bob]) {
        let mut missing = last.clone();
        let mut seen = Vec::new();
        while !missing.is_empty() {
            let stanza = client.recv_for("the rest of the talk").await.unwrap();
            missing.retain(|body| stanza.body().as_ref() != Some(body));
            seen.push(stanza);
        }
        views.push(seen);
    }
    let [phone, laptop, tablet, watch] = &mut sessions[..] else {
        panic!("four")
    };
    for (seen, rest) in views
        .iter_mut()
        .zip(mark(&mut bob, &stage.room, [phone, laptop, tablet, watch]).await)
    {
        seen.extend(rest);
    }

    let on_bob = views.pop().unwrap();
    // Nothing else has come: bob sees one occupant, and its words.
    assert!(
        on_bob.iter().all(|stanza| stanza.name() == "message"),
        "{on_bob:?}"
    );
    let order = talk(&on_bob);
    assert_eq!(order.len(), 40);
    for (body, id) in &ids {
        let found = order
            .iter()
            .filter(|(_, got, with)| got.as_ref() == Some(body) && with.as_ref() == Some(id));
        assert_eq!(found.count(), 1, "{body}");
    }
    let first = impersonal(&sessions[0], &views[0]);
    for (client, seen) in sessions.iter().zip(&views) {
        assert_eq!(talk(seen), order, "{}", client.jid());
        assert_eq!(impersonal(client, seen), first);
    }
    assert_eq!(front.tap.count_down("<body>talk "), 40);
    assert_eq!(front.tap.count_up("<body>talk "), 32);
}

async fn b21_the_server_sends_one_copy(stage: Stage) {
    const MESSAGES: usize = 25;
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut sessions = Vec::new();
    let mut one_session = 0;
    for number in 1..=5 {
        let mut client = front.session(&alice, &format!("r{number}")).await;
        client.join(&stage.room, "alice").await.unwrap();
        sessions.push(client);
        let bytes = |front: &crate::stage::Front| -> usize {
            front
                .tap
                .recordings()
                .iter()
                .map(|recording| uncounted(&recording.down).len())
                .sum()
        };
        let before = bytes(&front);
        let bodies: Vec<String> = (1..=MESSAGES)
            .map(|message| format!("{number} said {message:02}"))
            .collect();
        for body in &bodies {
            bob.say(&stage.room, body).await.unwrap();
        }
        for client in &mut sessions {
            let last = bodies.last().unwrap();
            let is_last = |it: &Stanza| it.body().as_ref() == Some(last);
            let seen = through(client, "the last message", is_last).await;
            assert_eq!(crate::stage::bodies(&seen), bodies);
        }
        assert_eq!(
            front.tap.count_down(&format!("<body>{number} said ")),
            MESSAGES
        );
        // To the byte, but for ids that the server counts up.
        let traffic = bytes(&front) - before;
        if number == 1 {
            one_session = traffic;
        }
        assert!(
            traffic.abs_diff(one_session) < 4 * MESSAGES,
            "{traffic}, at first {one_session}"
        );
    }
}

async fn b22_messages_without_a_body(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    mark(&mut phone, &stage.room, [&mut bob, &mut laptop]).await;
    let payloads = [
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
        "<displayed xmlns='urn:xmpp:chat-markers:0' id='m-0'/>",
        "<reactions xmlns='urn:xmpp:reactions:0' id='m-0'><reaction>\u{1f44d}</reaction></reactions>",
        "<retract xmlns='urn:xmpp:message-retract:1' id='m-0'/><store xmlns='urn:xmpp:hints'/>",
        "<body>better</body><replace xmlns='urn:xmpp:message-correct:0' id='m-0'/>",
        "<apply-to xmlns='urn:xmpp:fasten:0' id='m-0'>\
         <moderate xmlns='urn:xmpp:message-moderate:0'><retract xmlns='urn:xmpp:message-retract:0'/>\
         </moderate></apply-to>",
    ];
    let mut sent = Vec::new();
    for (number, payload) in payloads.iter().enumerate() {
        for (who, client) in [
            ("bob", &mut bob),
            ("phone", &mut phone),
            ("laptop", &mut laptop),
        ] {
            let id = format!("{who}-{number}");
            let message = format!(
                "<message type='groupchat' id='{id}' to='{}'>{payload}</message>",
                stage.room
            );
            client.send_raw(message).await.unwrap();
            sent.push((id, payload.split(['<', ' ', '>']).nth(1).unwrap()));
        }
    }
    let count = sent.len();
    let mut views = Vec::new();
    for client in [&mut bob, &mut phone, &mut laptop] {
        let mut seen = Vec::new();
        while seen.len() < count {
            seen.push(client.recv_for("the rest of the messages").await.unwrap());
        }
        views.push(seen);
    }
    let [rest] = mark(&mut bob, &stage.room, [&mut phone]).await;
    assert_eq!(outline(&rest), [""; 0]);
    assert_eq!(
        impersonal(&phone, &views[1]),
        impersonal(&laptop, &views[2])
    );
    let ids = |stanzas: &[Stanza]| -> Vec<String> {
        stanzas
            .iter()
            .map(|it| it.id().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(ids(&views[0]), ids(&views[1]));
    for (id, payload) in sent {
        let copies: Vec<_> = views[1].iter().filter(|it| it.id() == Some(&id)).collect();
        assert_eq!(copies.len(), 1, "{id}");
        assert!(
            copies[0].children().any(|child| child.name() == payload),
            "{copies:?}"
        );
    }

    // Only what was said is history; which of these a room keeps is its own matter.
    leave(&mut laptop, &stage.room, "alice").await;
    let mut carol = stage.outsider(&stage.account("carol").await, "desk").await;
    let direct = carol.join(&stage.room, "carol").await.unwrap();
    let late = laptop.join(&stage.room, "alice").await.unwrap();
    assert_eq!(bodies(&late.history), bodies(&direct.history));
}

/// Everybody talks, and changes presence, at the same time.
async fn b23_one_order_of_messages_and_presences(stage: Stage) {
    const ROUNDS: usize = 20;
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    let mut dave = stage.guest("dave").await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let mut tablet = stage.session(&alice, "tablet").await;
    for client in [&mut phone, &mut laptop, &mut tablet] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    mark(
        &mut phone,
        &stage.room,
        [&mut bob, &mut carol, &mut dave, &mut laptop, &mut tablet],
    )
    .await;
    let room = &stage.room;
    let say = |who: &str, number: usize| {
        format!("<message type='groupchat' to='{room}'><body>{who} {number}</body></message>")
    };
    let show = |who: &str, number: usize| {
        let show = ["away", "xa", "dnd"][number % 3];
        format!("<presence to='{room}/{who}'><show>{show}</show></presence>")
    };
    for number in 0..ROUNDS {
        let sends = [
            (&mut bob, say("bob", number)),
            (&mut carol, show("carol", number) + &say("carol", number)),
            (&mut phone, say("phone", number)),
            (&mut dave, say("dave", number) + &show("dave", number)),
            (&mut tablet, say("tablet", number)),
            (&mut laptop, say("laptop", number)),
        ];
        for (client, stanzas) in sends {
            client.send_raw(stanzas).await.unwrap();
        }
    }
    // Messages: six a round; presences: two a round.
    let mut views: Vec<Vec<Stanza>> = Vec::new();
    for client in [&mut bob, &mut phone, &mut laptop, &mut tablet] {
        let mut seen = Vec::new();
        while seen.len() < ROUNDS * 8 {
            seen.push(client.recv_for("the rest of the talk").await.unwrap());
        }
        views.push(seen);
    }
    let listeners = [&mut phone, &mut laptop, &mut tablet];
    for rest in mark(&mut bob, room, listeners).await {
        assert_eq!(outline(&rest), [""; 0]);
    }
    let order = outline(&views[0]);
    for (client, seen) in [&phone, &laptop, &tablet].into_iter().zip(&views[1..]) {
        assert_eq!(outline(seen), order);
        assert_eq!(impersonal(client, seen), impersonal(&phone, &views[1]));
    }
}

/// A moderated room, in which alice has no voice.
async fn without_voice(stage: &Stage) -> (Client, Client, Client) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    bob.configure_room(&stage.room, &[("muc#roomconfig_moderatedroom", "1")])
        .await
        .unwrap();
    for client in [&mut phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    moderate(&mut bob, &stage.room, "<item nick='alice' role='visitor'/>").await;
    mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    (bob, phone, laptop)
}

async fn b24_an_error_is_for_its_sender(stage: Stage) {
    let (mut bob, mut phone, mut laptop) = without_voice(&stage).await;
    for _ in 0..2 {
        let id = phone.say(&stage.room, "may I?").await.unwrap();
        let error = phone.recv().await.unwrap();
        assert_eq!(outline([&error]), ["message error (room) forbidden"]);
        assert_eq!((error.id(), error.to()), (Some(&*id), Some(phone.jid())));
        for rest in mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await {
            assert_eq!(outline(&rest), [""; 0]);
        }
        std::mem::swap(&mut phone, &mut laptop);
    }
    // The room's opinion changes, and the same two are heard.
    moderate(
        &mut bob,
        &stage.room,
        "<item nick='alice' role='participant'/>",
    )
    .await;
    mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    laptop.say(&stage.room, "thanks").await.unwrap();
    let [on_phone] = {
        laptop.hear("thanks").await.unwrap();
        mark(&mut bob, &stage.room, [&mut phone]).await
    };
    assert_eq!(outline(&on_phone), ["alice: thanks"]);
}

async fn b24_two_sessions_use_the_same_id(stage: Stage) {
    let (mut bob, mut phone, mut laptop) = without_voice(&stage).await;
    let message = format!(
        "<message type='groupchat' id='same' to='{}'><body>may I?</body></message>",
        stage.room
    );
    for _ in 0..10 {
        let (first, second) = tokio::join!(phone.send_raw(&message), laptop.send_raw(&message));
        first.unwrap();
        second.unwrap();
        for client in [&mut phone, &mut laptop] {
            let error = client.recv().await.unwrap();
            assert_eq!(outline([&error]), ["message error (room) forbidden"]);
            assert_eq!((error.id(), error.to()), (Some("same"), Some(client.jid())));
        }
        for rest in mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await {
            assert_eq!(outline(&rest), [""; 0]);
        }
    }

    // One is refused and the other heard: who is who is in the order of their words.
    moderate(
        &mut bob,
        &stage.room,
        "<item nick='alice' role='participant'/>",
    )
    .await;
    mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    phone.send_raw(&message).await.unwrap();
    phone.hear("may I?").await.unwrap();
    moderate(&mut bob, &stage.room, "<item nick='alice' role='visitor'/>").await;
    laptop.send_raw(&message).await.unwrap();
    let error = laptop
        .wait_for("the error", |it| it.kind() == Some("error"))
        .await
        .unwrap();
    assert_eq!(error.id(), Some("same"));
    let [on_phone, on_laptop] = mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    assert_eq!(outline(&on_phone), ["presence alice none/visitor 110"]);
    assert_eq!(outline(&on_laptop), [""; 0]);
}

async fn b26_a_session_that_has_not_joined(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;

    // The account is not in the room; it is, but this session is not; it has left.
    for state in ["nobody", "another", "left"] {
        match state {
            "another" => drop(phone.join(&stage.room, "alice").await.unwrap()),
            "left" => {
                laptop.join(&stage.room, "alice").await.unwrap();
                leave(&mut laptop, &stage.room, "alice").await;
            }
            _ => {}
        }
        let body = format!("{state} is in the room");
        let id = laptop.say(&stage.room, &body).await.unwrap();
        let error = laptop.recv().await.unwrap();
        assert_eq!(outline([&error]), ["message error (room) not-acceptable"]);
        assert_eq!((error.id(), error.to()), (Some(&*id), Some(laptop.jid())));
        let [seen] = if state == "nobody" {
            [bob.settle(&stage.room).await.unwrap()]
        } else {
            mark(&mut phone, &stage.room, [&mut bob]).await
        };
        assert!(bodies(&seen).is_empty(), "{seen:?}");
        // Where the server has refused it, it was in the session's own name.
        let carrier = &front.tap.recordings()[front.uplink(&phone)];
        assert_eq!(carrier.count_up(&body), 0);
    }
}
