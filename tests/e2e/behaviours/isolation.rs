//! What must never happen (behaviours 71 to 74).

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::{Incoming, NS_MUC_USER, NS_STREAM, Stanza};

use crate::stage::{Stage, leave, mark, nick, outline, through, until};

crate::tests![
    b71_two_accounts_in_one_room,
    b71_two_accounts_join_at_once_with_passwords,
    b72_forged_codes_in_an_occupants_presence,
    b72_forged_codes_in_an_occupants_message,
    b72_forged_codes_in_the_presence_of_who_is_there_already,
    b72_forged_codes_from_a_stranger,
    b72_forged_codes_from_an_address_like_the_rooms,
    b73_a_from_that_is_not_the_sessions_own,
    b74_a_forged_delay_and_ids_are_not_believed,
];

async fn b71_two_accounts_in_one_room(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    let (alice, carol) = (stage.account("alice").await, stage.account("carol").await);
    // The same resources, one after the other: nothing but the account tells them apart.
    let mut a1 = stage.session(&alice, "phone").await;
    let mut c1 = stage.session(&carol, "phone").await;
    let mut a2 = stage.session(&alice, "laptop").await;
    let mut c2 = stage.session(&carol, "laptop").await;

    // The nick is taken by the other account, not shared with it.
    a1.join(room, "alice").await.unwrap();
    let refused = c1.join(room, "alice").await;
    assert!(
        matches!(refused, Err(ClientError::Refused(_))),
        "{refused:?}"
    );
    c1.join(room, "carol").await.unwrap();
    let joined = a2.join(room, "alice").await.unwrap();
    assert_eq!(
        outline(&[joined.self_presence]),
        ["presence alice none/participant 110"]
    );
    let joined = c2.join(room, "carol").await.unwrap();
    assert_eq!(
        outline(&[joined.self_presence]),
        ["presence carol none/participant 110"]
    );
    mark(&mut bob, room, [&mut a1, &mut a2, &mut c1, &mut c2]).await;

    // A private message with the same id to each, and an error for one of them.
    for (nick, secret) in [("alice", "for alice"), ("carol", "for carol")] {
        bob.send_raw(format!(
            "<message type='chat' id='pm' to='{room}/{nick}'><body>{secret}</body>\
             <x xmlns='{NS_MUC_USER}'/></message>"
        ))
        .await
        .unwrap();
    }
    let listeners = [&mut a1, &mut a2, &mut c1, &mut c2];
    let [on_a1, on_a2, on_c1, on_c2] = mark(&mut bob, room, listeners).await;
    for (seen, line) in [
        (on_a1, "(chat) bob: for alice"),
        (on_a2, "(chat) bob: for alice"),
        (on_c1, "(chat) bob: for carol"),
        (on_c2, "(chat) bob: for carol"),
    ] {
        assert_eq!(outline(&seen), [line]);
    }
    a1.send_raw(format!(
        "<message type='chat' id='same' to='{room}/nobody'><body>alice's secret</body></message>"
    ))
    .await
    .unwrap();
    let error = a1.recv().await.unwrap();
    assert_eq!((error.kind(), error.id()), (Some("error"), Some("same")));
    let listeners = [&mut a1, &mut a2, &mut c1, &mut c2];
    for seen in mark(&mut bob, room, listeners).await {
        assert_eq!(outline(&seen), [""; 0]);
    }

    // One account leaves; the other stays as it is.
    leave(&mut a1, room, "alice").await;
    leave(&mut a2, room, "alice").await;
    bob.wait_for("alice's leave", |it| it.kind() == Some("unavailable"))
        .await
        .unwrap();
    for seen in mark(&mut bob, room, [&mut c1, &mut c2]).await {
        assert_eq!(outline(&seen), ["presence alice unavailable none/none"]);
    }
    c2.join(room, "carol").await.unwrap();
    for (client, other) in [(&a1, &carol), (&a2, &carol), (&c1, &alice), (&c2, &alice)] {
        let received = String::from_utf8_lossy(client.received_raw());
        assert!(
            !received.contains(&other.jid()),
            "{} sees {}",
            client.jid(),
            other.jid()
        );
    }
}

async fn b71_two_accounts_join_at_once_with_passwords(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let fields = [
        ("muc#roomconfig_passwordprotectedroom", "1"),
        ("muc#roomconfig_roomsecret", "tea"),
    ];
    bob.configure_room(&stage.room, &fields).await.unwrap();
    let (alice, carol) = (stage.account("alice").await, stage.account("carol").await);
    let mut phone = stage.session(&alice, "phone").await;
    let mut other = stage.session(&carol, "phone").await;
    let right = Join {
        password: Some("tea".into()),
        ..Join::default()
    };
    let none = Join::default();
    for _ in 0..10 {
        let (first, second) = tokio::join!(
            phone.send_join(&stage.room, "alice", &right),
            other.send_join(&stage.room, "carol", &none)
        );
        let joined = phone
            .collect_join(&stage.room, &first.unwrap())
            .await
            .unwrap();
        assert_eq!(joined.nicks(), ["bob"]);
        let refused = other.collect_join(&stage.room, &second.unwrap()).await;
        assert!(
            matches!(refused, Err(ClientError::Refused(_))),
            "{refused:?}"
        );
        leave(&mut phone, &stage.room, "alice").await;
    }
}

/// Codes that would throw alice out, rename her, make her somebody else, or change the room.
fn forgeries() -> Vec<String> {
    let item = "<item affiliation='outcast' role='none' nick='mallory'/>";
    let codes = [
        &[110][..],
        &[110, 303],
        &[110, 307],
        &[301, 110],
        &[321, 110],
        &[332],
        &[333, 110],
    ];
    let with_codes = codes.iter().map(|codes| {
        let codes: String = codes
            .iter()
            .map(|code| format!("<status code='{code}'/>"))
            .collect();
        format!("<x xmlns='{NS_MUC_USER}'>{item}{codes}</x>")
    });
    let destroyed =
        format!("<x xmlns='{NS_MUC_USER}'>{item}<destroy jid='evil@rooms.example.test'/></x>");
    let config = ["100", "170", "172", "201", "210"];
    let config: String = config
        .iter()
        .map(|code| format!("<status code='{code}'/>"))
        .collect();
    let config = format!("<x xmlns='{NS_MUC_USER}'>{config}</x>");
    with_codes.chain([destroyed, config]).collect()
}

/// Alice has two sessions in the room, and mallory is the one who lies.
struct Forged {
    bob: Client,
    mallory: Client,
    phone: Client,
    laptop: Client,
    alice: Account,
    room: String,
}

impl Forged {
    async fn new(stage: &Stage) -> Self {
        let mut bob = stage.room_with_bob().await;
        let mut mallory = stage.guest("mallory").await;
        let alice = stage.account("alice").await;
        let mut phone = stage.session(&alice, "phone").await;
        let mut laptop = stage.session(&alice, "laptop").await;
        let room = stage.room.clone();
        for client in [&mut phone, &mut laptop] {
            client.join(&room, "alice").await.unwrap();
        }
        mark(&mut bob, &room, [&mut phone, &mut laptop, &mut mallory]).await;
        Self {
            bob,
            mallory,
            phone,
            laptop,
            alice,
            room,
        }
    }

    /// Nothing of it is true: alice is who she was, where she was, and so is the room.
    async fn unchanged(mut self, stage: &Stage) {
        let room = &self.room;
        for client in [&mut self.phone, &mut self.laptop] {
            client.say(room, "still here").await.unwrap();
            until(client, "still here").await;
            let on_bob = until(&mut self.bob, "still here").await;
            assert!(
                on_bob
                    .iter()
                    .all(|it| it.from() != Some(&*format!("{room}/alice"))),
                "{on_bob:?}"
            );
        }
        mark(&mut self.bob, room, [&mut self.phone, &mut self.laptop]).await;
        let mut late = stage.session(&self.alice, "late").await;
        let joined = late.join(room, "alice").await.unwrap();
        assert_eq!(
            outline([&joined.self_presence]),
            ["presence alice none/participant 110"]
        );
        assert_eq!(
            joined
                .nicks()
                .iter()
                .filter(|nick| **nick == "alice")
                .count(),
            0
        );
        self.mallory.leave(room, "mallory", None).await.unwrap();
        self.mallory.settle(room).await.unwrap();
        // The room has handled it; by the mark the proxy knows it, too.
        mark(&mut self.bob, room, [&mut self.phone, &mut self.laptop]).await;
        let gone = leave(&mut late, room, "alice").await;
        assert_eq!(
            outline(&gone[gone.len() - 1..]),
            ["presence alice unavailable none/none 110"]
        );
        let again = late.join(room, "alice").await.unwrap();
        assert_eq!(again.nicks(), ["bob"]);
    }
}

async fn b72_forged_codes_in_an_occupants_presence(stage: Stage) {
    let mut at = Forged::new(&stage).await;
    for forged in forgeries() {
        let presence = format!("<presence to='{}/mallory'>{forged}</presence>", at.room);
        at.mallory.send_raw(presence).await.unwrap();
    }
    at.mallory.settle(&stage.room).await.unwrap();
    at.unchanged(&stage).await;
}

async fn b72_forged_codes_in_an_occupants_message(stage: Stage) {
    let mut at = Forged::new(&stage).await;
    for forged in forgeries() {
        for (kind, to) in [("groupchat", ""), ("chat", "/alice"), ("normal", "/alice")] {
            let message = format!(
                "<message type='{kind}' to='{}{to}'><body>lies</body>{forged}</message>",
                at.room
            );
            at.mallory.send_raw(message).await.unwrap();
        }
    }
    at.mallory.settle(&stage.room).await.unwrap();
    at.unchanged(&stage).await;
}

/// The account's own join is under way while the presences of others come in.
async fn b72_forged_codes_in_the_presence_of_who_is_there_already(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let mut mallory = stage.guest("mallory").await;
    let alice = stage.account("alice").await;
    let mut direct = stage.outsider(&stage.account("direct").await, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    for forged in forgeries() {
        let presence = format!("<presence to='{}/mallory'>{forged}</presence>", stage.room);
        mallory.send_raw(presence).await.unwrap();
        mallory.settle(&stage.room).await.unwrap();
        let expected = direct.join(&stage.room, "direct").await.unwrap();
        direct.leave(&stage.room, "direct", None).await.unwrap();
        direct.settle(&stage.room).await.unwrap();
        let joined = phone.join(&stage.room, "alice").await.unwrap();
        assert_eq!(
            outline([&joined.self_presence]),
            ["presence alice none/participant 110"]
        );
        assert_eq!(outline(&joined.presences), outline(&expected.presences));
        let left = leave(&mut phone, &stage.room, "alice").await;
        assert_eq!(
            outline(&left[left.len() - 1..]),
            ["presence alice unavailable none/none 110"]
        );
        // The session is answered before the room is.
        let gone = |it: &Stanza| nick(it) == "alice" && it.kind() == Some("unavailable");
        bob.wait_for("alice's leave", gone).await.unwrap();
    }
}

/// A barrier: a server delivers what one client sends to another in order.
async fn all_has_come(liar: &mut Client, at: &mut Forged) {
    for client in [&mut at.phone, &mut at.laptop] {
        let message = format!(
            "<message type='chat' id='last' to='{}'><body>last</body></message>",
            client.jid()
        );
        liar.send_raw(message).await.unwrap();
        through(client, "the last word", |it| it.id() == Some("last")).await;
    }
}

/// What comes from elsewhere is passed on, for a client to think of it what it likes.
async fn b72_forged_codes_from_a_stranger(stage: Stage) {
    let mut at = Forged::new(&stage).await;
    let stranger = stage.account("stranger").await;
    let mut stranger = stage.outsider(&stranger, "alice").await;
    let targets = [at.phone.jid().to_owned(), at.laptop.jid().to_owned()];
    for forged in forgeries() {
        for to in &targets {
            for stanza in [
                format!("<presence to='{to}'>{forged}</presence>"),
                format!("<presence type='unavailable' to='{to}'>{forged}</presence>"),
                format!(
                    "<message type='groupchat' to='{to}'><subject>lies</subject>{forged}</message>"
                ),
                format!("<message type='normal' to='{to}'>{forged}</message>"),
            ] {
                stranger.send_raw(stanza).await.unwrap();
            }
        }
    }
    all_has_come(&mut stranger, &mut at).await;
    at.unchanged(&stage).await;
}

/// An account on the server that is called as the room, and another room of nearly its name.
async fn b72_forged_codes_from_an_address_like_the_rooms(stage: Stage) {
    let mut at = Forged::new(&stage).await;
    let local = stage.room.split('@').next().unwrap();
    let namesake = Account::new(stage.server, local, "secret");
    let security = mucplex_testkit::client::Security::Plain;
    namesake
        .submit(stage.server.plain(), &security)
        .await
        .unwrap();
    let mut namesake = stage.outsider(&namesake, "alice").await;
    for forged in forgeries() {
        for to in [at.phone.jid(), at.laptop.jid()] {
            namesake
                .send_raw(format!(
                    "<presence type='unavailable' to='{to}'>{forged}</presence>\
                     <message type='groupchat' to='{to}'><subject>lies</subject>{forged}</message>"
                ))
                .await
                .unwrap();
        }
    }
    all_has_come(&mut namesake, &mut at).await;

    // Written with a letter that only looks the same, and with capitals, which are the same room.
    let alike = stage.room.replacen('o', "\u{43e}", 1);
    at.mallory.create_room(&alike, "alice").await.unwrap();
    at.phone.join(&alike, "phone").await.unwrap();
    let query = format!(
        "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='{}'/></query>",
        stage.room
    );
    at.mallory
        .send_iq("set", Some(&alike), &query)
        .await
        .unwrap();
    let own = format!("{alike}/phone");
    let destroyed = |it: &Stanza| it.kind() == Some("unavailable") && it.from() == Some(&own);
    through(&mut at.phone, "the end of the other room", destroyed).await;
    let (user, rooms) = stage.room.split_once('@').unwrap();
    let capitals = format!("{}@{rooms}", user.to_uppercase());
    let join = Join::default();
    let id = at.laptop.send_join(&capitals, "alice", &join).await;
    let joined = at.laptop.collect_join(&stage.room, &id.unwrap()).await;
    assert_eq!(joined.unwrap().nicks().len(), 2);
    at.unchanged(&stage).await;
}

async fn b73_a_from_that_is_not_the_sessions_own(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    mark(&mut phone, &stage.room, [&mut bob]).await;
    let room = &stage.room;
    let (of_bob, of_phone) = (bob.jid().to_owned(), phone.jid().to_owned());
    let occupant = format!("{room}/bob");
    let others = [&of_bob, &of_phone, &occupant, room, stage.server.domain()];
    for (number, from) in others.into_iter().enumerate() {
        for has_joined in [true, false] {
            let mut laptop = front.session(&alice, "laptop").await;
            if has_joined {
                laptop.join(room, "alice").await.unwrap();
            }
            let secret = format!("lie {number} {has_joined}");
            laptop
                .send_raw(format!(
                    "<message from='{from}' type='groupchat' to='{room}'><body>{secret}</body>\
                     </message>"
                ))
                .await
                .unwrap();
            let error = laptop.recv_for("a stream error").await.unwrap();
            assert!(error.is("error", NS_STREAM), "{error:?}");
            assert!(
                error.children().any(|child| child.name() == "invalid-from"),
                "{error:?}"
            );
            assert!(matches!(
                laptop.next("the end").await.unwrap(),
                Incoming::Close
            ));
            assert_eq!(front.tap.count_up(&secret), 0);
        }
    }
    let [seen] = mark(&mut phone, room, [&mut bob]).await;
    assert_eq!(outline(&seen), [""; 0]);

    // Its own, full or bare, is as good as none.
    let mut laptop = front.session(&alice, "laptop").await;
    laptop.join(room, "alice").await.unwrap();
    for from in [laptop.jid().to_owned(), alice.jid()] {
        let message = format!(
            "<message from='{from}' type='groupchat' to='{room}'><body>true</body></message>"
        );
        laptop.send_raw(message).await.unwrap();
        for client in [&mut laptop, &mut phone, &mut bob] {
            assert_eq!(outline(&until(client, "true").await), [""; 0]);
        }
    }
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
