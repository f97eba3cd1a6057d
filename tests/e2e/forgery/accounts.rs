//! Two accounts in one room, as like each other as they can be (behaviour 71).

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::xml::{NS_MUC_USER, Stanza};

use crate::stage::{Stage, leave, mark, nick, outline, through};

crate::tests![
    b71_two_accounts_in_one_room,
    b71_two_accounts_join_at_once_with_passwords,
    b71_nicks_that_are_nearly_the_same,
    b71_two_accounts_swap_their_nicks,
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

/// A private message of bob to each nick reaches each session of its account, and no other.
async fn each_gets_its_own(bob: &mut Client, room: &str, accounts: &mut [(&str, [Client; 2])]) {
    for (nick, _) in accounts.iter() {
        let message = format!(
            "<message type='chat' id='pm' to='{room}/{nick}'><body>for {nick}</body>\
             <x xmlns='{NS_MUC_USER}'/></message>"
        );
        bob.send_raw(message).await.unwrap();
    }
    for (nick, sessions) in accounts {
        for session in sessions {
            let [seen] = mark(bob, room, [session]).await;
            let mut seen = outline(&seen);
            // The marks before this one are for other sessions.
            seen.retain(|line| !line.starts_with("bob: (no body)"));
            assert_eq!(seen, [format!("(chat) bob: for {nick}")]);
        }
    }
}

/// Nicks that one only reads to be the same, and one that a server writes as another.
async fn b71_nicks_that_are_nearly_the_same(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    let nicks = ["alice", "alice2", "Alice", "alic\u{435}", "alice alice"];
    let mut accounts = Vec::new();
    for nick in nicks {
        let account = stage.account("alice").await;
        let mut sessions = Vec::new();
        for resource in ["alice", "phone"] {
            let mut session = stage.session(&account, resource).await;
            let joined = session.join(room, nick).await.unwrap();
            let own = format!("presence {nick} none/participant 110");
            assert_eq!(outline([&joined.self_presence]), [own]);
            sessions.push(session);
        }
        let sessions: [Client; 2] = sessions.try_into().unwrap();
        accounts.push((nick, sessions));
    }
    // Full-width letters are the plain ones to a server that prepares nicks as RFC 6122 has it.
    let carol = stage.account("carol").await;
    let mut direct = stage.outsider(&carol, "direct").await;
    let mut proxied = stage.session(&carol, "proxied").await;
    let wide = "\u{ff21}lice";
    let expected = direct.join(room, wide).await;
    let got = proxied.join(room, wide).await;
    match (expected, got) {
        (Err(ClientError::Refused(expected)), Err(ClientError::Refused(got))) => {
            assert_eq!(outline([&*got]), outline([&*expected]));
        }
        (expected, got) => panic!("the nick was not taken: {expected:?}, {got:?}"),
    }
    for (_, sessions) in &mut accounts {
        for session in sessions {
            mark(&mut bob, room, [session]).await;
        }
    }
    each_gets_its_own(&mut bob, room, &mut accounts).await;

    // One leaves; the others, whose nicks begin with or look like its, stay.
    let (_, mut gone) = accounts.remove(0);
    for session in &mut gone {
        leave(session, room, "alice").await;
    }
    let is_gone = |it: &Stanza| it.kind() == Some("unavailable") && nick(it) == "alice";
    for (_, sessions) in &mut accounts {
        for session in sessions {
            through(session, "alice's leave", is_gone).await;
        }
    }
    each_gets_its_own(&mut bob, room, &mut accounts).await;
    for (nick, sessions) in &mut accounts {
        let joined = sessions[0].join(room, nick).await.unwrap();
        let own = format!("presence {nick} none/participant 110");
        assert_eq!(outline([&joined.self_presence]), [own]);
        assert_eq!(joined.nicks().len(), 4);
    }
}

/// ```text
/// alice   alice ─► x ───────────► carol
/// carol   carol ───► alice ──────────
/// ```
async fn b71_two_accounts_swap_their_nicks(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    let (alice, carol) = (stage.account("alice").await, stage.account("carol").await);
    let mut of_alice = Vec::new();
    let mut of_carol = Vec::new();
    for resource in ["phone", "laptop"] {
        let mut session = stage.session(&alice, resource).await;
        session.join(room, "alice").await.unwrap();
        of_alice.push(session);
        let mut session = stage.session(&carol, resource).await;
        session.join(room, "carol").await.unwrap();
        of_carol.push(session);
    }
    for round in 0..3 {
        let (a, c) = if round % 2 == 0 {
            ("alice", "carol")
        } else {
            ("carol", "alice")
        };
        for (is_alice, wanted) in [(true, "x"), (false, a), (true, c)] {
            let sessions = if is_alice {
                &mut of_alice
            } else {
                &mut of_carol
            };
            let asking = &mut sessions[round % 2];
            let presence = format!("<presence id='nick' to='{room}/{wanted}'/>");
            asking.send_raw(presence).await.unwrap();
            for session in sessions {
                let is_new = |it: &Stanza| nick(it) == wanted && it.has_status(110);
                through(session, "its new nick", is_new).await;
            }
        }
        for session in of_alice.iter_mut().chain(&mut of_carol) {
            mark(&mut bob, room, [session]).await;
        }
        let take = |sessions: Vec<Client>| <[Client; 2]>::try_from(sessions).unwrap();
        let mut accounts = [(c, take(of_alice)), (a, take(of_carol))];
        each_gets_its_own(&mut bob, room, &mut accounts).await;
        let [(_, sessions), (_, others)] = accounts;
        (of_alice, of_carol) = (sessions.into(), others.into());
        for (sessions, nick) in [(&mut of_alice, c), (&mut of_carol, a)] {
            let joined = sessions[0].join(room, nick).await.unwrap();
            let own = format!("presence {nick} none/participant 110");
            assert_eq!(outline([&joined.self_presence]), [own]);
            assert_eq!(joined.nicks().len(), 2);
        }
    }
}
