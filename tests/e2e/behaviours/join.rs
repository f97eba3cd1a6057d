//! Joins (behaviours 1 to 7, 15, 17); refused ones are in `errors`, the history in `history`.

use mucplex_testkit::client::Join;
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::{NS_MUC, NS_MUC_OWNER, Stanza};

use crate::stage::{Stage, bodies, impersonal, leave, mark, nick, outline, until};

crate::tests![
    b01_the_first_session_joins_once_and_in_order,
    b02_a_second_session_joins_unseen,
    b03_two_sessions_join_in_the_same_instant,
    b04_the_self_presence_ends_the_list,
    b05_live_messages_come_after_the_replay,
    b06_late_joiners_are_told_what_room_it_is,
    b06_late_joiners_are_told_that_the_room_is_logged,
    b07_only_the_creator_is_told_so,
    b15_a_second_join_is_a_resync_for_the_session_alone,
    b17_a_join_without_a_nick,
];

const BOB: &str = "presence bob owner/moderator";
const ALICE: &str = "presence alice none/participant 110";
const NO_SUBJECT: &str = "subject by (room): ";

async fn b01_the_first_session_joins_once_and_in_order(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    bob.say(&stage.room, "hello").await.unwrap();
    bob.hear("hello").await.unwrap();
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;

    let joined = phone.join(&stage.room, "alice").await.unwrap();

    assert_eq!(
        outline(&joined.all),
        [BOB, ALICE, "bob, earlier: hello", NO_SUBJECT]
    );
    assert!(
        joined
            .all
            .iter()
            .all(|stanza| stanza.to() == Some(phone.jid()))
    );
    assert_eq!(front.tap.count_up(&stage.room), 1);
    let [rest] = mark(&mut bob, &stage.room, [&mut phone]).await;
    assert_eq!(outline(&rest), [""; 0]);
    let mut other = stage.outsider(&stage.account("carol").await, "desk").await;
    let occupants = other.join(&stage.room, "carol").await.unwrap();
    assert_eq!(occupants.nicks().len(), 2);
}

async fn b02_a_second_session_joins_unseen(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    bob.say(&stage.room, "hello").await.unwrap();
    until(&mut bob, "hello").await;
    until(&mut phone, "hello").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let upstream = front.tap.count_up(&stage.room);

    let joined = laptop.join(&stage.room, "alice").await.unwrap();

    assert_eq!(front.tap.count_up(&stage.room), upstream);
    assert_eq!(
        outline(&joined.all),
        [BOB, ALICE, "bob, earlier: hello", NO_SUBJECT]
    );
    assert!(
        joined
            .all
            .iter()
            .all(|stanza| stanza.to() == Some(laptop.jid()))
    );
    let [seen, rest] = mark(&mut laptop, &stage.room, [&mut bob, &mut phone]).await;
    assert_eq!(outline(&seen), [""; 0]);
    assert_eq!(outline(&rest), [""; 0]);
}

async fn b03_two_sessions_join_in_the_same_instant(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    for _ in 0..10 {
        let room = stage.server.new_room("instant");
        bob.create_room(&room, "bob").await.unwrap();

        let join = Join::default();
        let asked = tokio::join!(
            phone.send_join(&room, "alice", &join),
            laptop.send_join(&room, "alice", &join)
        );
        let first = phone.collect_join(&room, &asked.0.unwrap()).await.unwrap();
        let second = laptop.collect_join(&room, &asked.1.unwrap()).await.unwrap();

        for joined in [first, second] {
            assert_eq!(outline(&joined.all), [BOB, ALICE, NO_SUBJECT]);
        }
        assert_eq!(front.tap.count_up(&format!("{room}/alice")), 1);
        let [seen, on_laptop] = mark(&mut phone, &room, [&mut bob, &mut laptop]).await;
        assert_eq!(outline(&seen), ["presence alice none/participant"]);
        assert_eq!(outline(&on_laptop), [""; 0]);
    }
}

async fn b04_the_self_presence_ends_the_list(stage: Stage) {
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;

    let room = stage.server.new_room("alone");
    let created = phone.create_room(&room, "alice").await.unwrap();
    let own = "presence alice owner/moderator";
    assert_eq!(
        outline(&created.all),
        [&format!("{own} 110 201"), NO_SUBJECT]
    );
    let late = laptop.join(&room, "alice").await.unwrap();
    assert_eq!(outline(&late.all), [&format!("{own} 110"), NO_SUBJECT]);

    for others in [1, 40] {
        let room = stage.server.new_room("crowded");
        let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
        bob.create_room(&room, "bob").await.unwrap();
        let crowd = stage.crowd(&room, others - 1).await;
        let mut nicks: Vec<String> = (1..others).map(|number| format!("c{number}")).collect();
        nicks.push("bob".to_owned());
        nicks.sort_unstable();
        for client in [&mut phone, &mut laptop] {
            let joined = client.join(&room, "alice").await.unwrap();
            let mut found = joined.nicks();
            found.sort_unstable();
            assert_eq!(found, nicks);
            let presences = joined
                .all
                .iter()
                .filter(|stanza| stanza.name() == "presence");
            assert_eq!(presences.last().unwrap().raw, joined.self_presence.raw);
            assert!(joined.other.is_empty(), "{:?}", joined.other);
        }
        drop(crowd);
    }
}

/// ```text
/// bob     1 2 3 4 5 … 20          as fast as he can
/// laptop      join
///         └ history ┘└ live ┘     together all of it, in order, nothing twice
/// ```
async fn b05_live_messages_come_after_the_replay(stage: Stage) {
    const ROUNDS: usize = 20;
    const MESSAGES: usize = 20;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    phone.join(&stage.room, "alice").await.unwrap();
    let mut live = 0;
    for round in 0..ROUNDS {
        let body = |number| format!("{round}: {number}");
        let words = (1..=MESSAGES).map(|number| {
            let (room, body) = (&stage.room, body(number));
            format!("<message type='groupchat' to='{room}'><body>{body}</body></message>")
        });
        let (words, join) = (words.collect::<String>(), Join::default());
        let (said, asked) = tokio::join!(
            bob.send_raw(words),
            laptop.send_join(&stage.room, "alice", &join)
        );
        said.unwrap();
        let joined = laptop
            .collect_join(&stage.room, &asked.unwrap())
            .await
            .unwrap();
        let [after, on_phone] = mark(&mut bob, &stage.room, [&mut laptop, &mut phone]).await;

        let expected: Vec<String> = (1..=MESSAGES).map(body).collect();
        assert_eq!(bodies(&on_phone), expected);
        assert_eq!(outline(&joined.other), [""; 0], "before the subject");
        assert!(
            after.iter().all(|stanza| nick(stanza) == "bob"),
            "{after:?}"
        );
        live += after.len();
        let mut heard = joined.bodies();
        heard.extend(bodies(&after));
        heard.retain(|body| body.starts_with(&format!("{round}: ")));
        assert_eq!(heard, expected);
        let left = leave(&mut laptop, &stage.room, "alice").await;
        assert_eq!(left.len(), 1, "{left:?}");
    }
    assert!(live > 0, "no message came while a session was joining");
}

async fn b06_late_joiners_are_told_what_room_it_is(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    bob.configure_room(&stage.room, &[("muc#roomconfig_whois", "anyone")])
        .await
        .unwrap();
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        let joined = client.join(&stage.room, "alice").await.unwrap();
        assert_eq!(
            outline(&[joined.self_presence]),
            ["presence alice none/participant 100 110"]
        );
    }

    // The room may change, and may be the account's own.
    let room = stage.server.new_room("own");
    phone.create_room(&room, "alice").await.unwrap();
    let own = "presence alice owner/moderator";
    let joined = laptop.join(&room, "alice").await.unwrap();
    assert_eq!(outline(&[joined.self_presence]), [format!("{own} 110")]);
    for (whois, codes) in [("anyone", "100 110"), ("moderators", "110")] {
        phone
            .configure_room(&room, &[("muc#roomconfig_whois", whois)])
            .await
            .unwrap();
        mark(&mut phone, &room, [&mut laptop]).await;
        let joined = laptop.join(&room, "alice").await.unwrap();
        assert_eq!(outline(&[joined.self_presence]), [format!("{own} {codes}")]);
    }
}

/// ejabberd says so in the first session's self-presence. Prosody says it only when it begins,
/// and the late joiner is to know it all the same.
async fn b06_late_joiners_are_told_that_the_room_is_logged(stage: Stage) {
    let stage = stage.archived().await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    // ejabberd cannot be told to end it.
    let (logging, changes) = match stage.kind {
        Kind::Prosody => ("muc#roomconfig_enablearchiving", &["0", "1", "0", "1"][..]),
        Kind::Ejabberd => ("muc#roomconfig_enablelogging", &["1"][..]),
    };
    phone.join(&stage.room, "alice").await.unwrap();
    for on in changes {
        bob.configure_room(&stage.room, &[(logging, on)])
            .await
            .unwrap();
        let (code, codes) = if *on == "1" {
            (170, "110 170")
        } else {
            (171, "110")
        };
        let told = |it: &Stanza| it.has_status(170) || it.has_status(171);
        let told = phone.wait_for("the change", told).await.unwrap();
        assert!(told.has_status(code), "{told:?}");
        let joined = laptop.join(&stage.room, "alice").await.unwrap();
        let line = format!("presence alice none/participant {codes}");
        assert_eq!(outline(&[joined.self_presence]), [line]);
        leave(&mut laptop, &stage.room, "alice").await;
    }
    if stage.kind == Kind::Ejabberd {
        leave(&mut phone, &stage.room, "alice").await;
        let joined = phone.join(&stage.room, "alice").await.unwrap();
        let line = "presence alice none/participant 110 170";
        assert_eq!(outline(&[joined.self_presence]), [line]);
        let joined = laptop.join(&stage.room, "alice").await.unwrap();
        assert_eq!(outline(&[joined.self_presence]), [line]);
    }
}

async fn b07_only_the_creator_is_told_so(stage: Stage) {
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let own = "presence alice owner/moderator";

    let created = phone.join(&stage.room, "alice").await.unwrap();
    assert_eq!(
        outline(&created.all),
        [&format!("{own} 110 201"), NO_SUBJECT]
    );
    let joined = laptop.join(&stage.room, "alice").await.unwrap();
    assert_eq!(outline(&joined.all), [&format!("{own} 110"), NO_SUBJECT]);

    let query = format!("<query xmlns='{NS_MUC_OWNER}'/>");
    let form = phone.iq("get", Some(&stage.room), &query).await.unwrap();
    assert_eq!(form.kind(), Some("result"));
    let form = form.get_child("query", NS_MUC_OWNER).unwrap();
    assert!(form.has_child("x", "jabber:x:data"));
    phone.configure_room(&stage.room, &[]).await.unwrap();
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    bob.join(&stage.room, "bob").await.unwrap();
    let [on_phone, on_laptop] = mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    assert_eq!(outline(&on_laptop), ["presence bob none/participant"]);
    // The answer to the form was awaited, and may have come after what the room said to all.
    assert_eq!(
        impersonal(&phone, &on_phone),
        impersonal(&laptop, &on_laptop)
    );
}

async fn b15_a_second_join_is_a_resync_for_the_session_alone(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let mut carol = stage.guest("carol").await;
    carol.say(&stage.room, "before").await.unwrap();
    until(&mut bob, "before").await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    phone.join(&stage.room, "alice").await.unwrap();
    laptop.join(&stage.room, "alice").await.unwrap();
    phone.say(&stage.room, "after").await.unwrap();
    for client in [&mut phone, &mut laptop, &mut bob] {
        until(client, "after").await;
    }

    // The carrier first, then one that is not.
    let (mut asking, mut other) = (phone, laptop);
    for _ in 0..2 {
        let joined = asking.join(&stage.room, "alice").await.unwrap();
        assert!(
            joined
                .all
                .iter()
                .all(|stanza| stanza.to() == Some(asking.jid()))
        );
        let mut nicks = joined.nicks();
        nicks.sort_unstable();
        assert_eq!(nicks, ["bob", "carol"]);
        let expected = [
            ALICE,
            "carol, earlier: before",
            "alice, earlier: after",
            NO_SUBJECT,
        ];
        assert_eq!(outline(&joined.all)[2..], expected);
        let listeners = [&mut bob, &mut other, &mut asking];
        for seen in mark(&mut carol, &stage.room, listeners).await {
            assert_eq!(outline(&seen), [""; 0]);
        }
        (asking, other) = (other, asking);
    }
}

async fn b17_a_join_without_a_nick(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let mut direct = stage.outsider(&stage.account("direct").await, "desk").await;
    let join = format!(
        "<presence id='j-1' to='{}'><x xmlns='{NS_MUC}'/></presence>",
        stage.room
    );

    // Prosody 0.12 says service-unavailable.
    direct.send_raw(&join).await.unwrap();
    let expected = outline(&[direct.recv().await.unwrap()]);
    if stage.kind == Kind::Ejabberd {
        assert_eq!(expected, ["presence error (room) jid-malformed"]);
    }
    for account_is_in in [false, true] {
        if account_is_in {
            phone.join(&stage.room, "alice").await.unwrap();
            mark(&mut phone, &stage.room, [&mut bob]).await;
        }
        laptop.send_raw(&join).await.unwrap();
        let error = laptop.recv().await.unwrap();
        assert_eq!(outline([&error]), expected);
        assert_eq!((error.id(), error.to()), (Some("j-1"), Some(laptop.jid())));
    }
    let [seen] = mark(&mut phone, &stage.room, [&mut bob]).await;
    assert_eq!(outline(&seen), [""; 0]);
    assert_eq!(outline(&laptop.drain_until_pong().await.unwrap()), [""; 0]);
}
