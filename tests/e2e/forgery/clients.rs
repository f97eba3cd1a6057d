//! A client that says it is somebody else (behaviour 73).

use mucplex_testkit::server::Account;
use mucplex_testkit::xml::{Incoming, NS_STREAM};

use crate::stage::{Front, Stage, mark, outline, until};

crate::tests![
    b73_a_from_that_is_not_the_sessions_own,
    b73_a_from_that_is_nearly_the_sessions_own,
];

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

/// Sends the stanza as a session of its own that has joined, and gives whether the proxy has ended
/// it with `invalid-from`. Nothing of it may go up then.
async fn is_refused(front: &Front, alice: &Account, room: &str, stanza: &str) -> bool {
    let mut laptop = front.session(alice, "laptop").await;
    laptop.join(room, "alice").await.unwrap();
    let sent = front.tap.count_up("forged");
    laptop.send_raw(stanza).await.unwrap();
    let ping = "<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>";
    laptop.send_raw(ping).await.unwrap();
    loop {
        let Incoming::Stanza(stanza) = laptop.next("the end, or the pong").await.unwrap() else {
            panic!("an end without an error")
        };
        if stanza.is("error", NS_STREAM) {
            assert!(
                stanza.children().any(|it| it.name() == "invalid-from"),
                "{stanza:?}"
            );
            assert_eq!(front.tap.count_up("forged"), sent);
            return true;
        }
        if stanza.name() == "iq" && stanza.id() == Some("ping") {
            assert!(front.tap.count_up("forged") > sent);
            return false;
        }
    }
}

/// Every kind of stanza, to the room, to an occupant, to another account and to nobody: in the
/// path of the room and past it.
async fn b73_a_from_that_is_nearly_the_sessions_own(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(room, "alice").await.unwrap();
    mark(&mut phone, room, [&mut bob]).await;
    let (user, domain) = (&alice.user, &alice.domain);
    let own = format!("{user}@{domain}/laptop");
    let froms = [
        (own.clone(), false),
        // Addresses are compared as RFC 7622 has it: cases of a resource differ, others do not.
        (format!("{}@{domain}/laptop", user.to_uppercase()), false),
        (format!("{user}@{}", domain.to_uppercase()), false),
        (format!("{user}@{domain}/Laptop"), true),
        (format!("{user}@{domain}/laptop/phone"), true),
        (format!("{user}@{domain}/phone"), true),
        (format!("{user}@{domain}/"), true),
        (format!("{user}@{domain}x/laptop"), true),
        (format!("{user}0@{domain}/laptop"), true),
        (format!("{user}0@{domain}"), true),
        (
            format!("{}@{domain}", user.replacen('a', "\u{430}", 1)),
            true,
        ),
        (format!("{room}/alice"), true),
        (room.clone(), true),
        (user.clone(), true),
        (String::new(), true),
        (" ".to_owned(), true),
    ];
    let bob_jid = bob.jid().to_owned();
    for (from, refused) in froms {
        for stanza in [
            format!(
                "<message from='{from}' type='groupchat' to='{room}'><body>forged</body></message>"
            ),
            format!("<iq from='{from}' type='get' id='f' to='{room}/bob'><q xmlns='forged'/></iq>"),
            format!(
                "<presence from='{from}' type='unavailable' to='{bob_jid}'><status>forged</status></presence>"
            ),
        ] {
            let is = is_refused(&front, &alice, room, &stanza).await;
            assert_eq!(is, refused, "{stanza}");
        }
    }
    // What was said in the account's own name is all that has come.
    let [seen] = mark(&mut phone, room, [&mut bob]).await;
    let mut said = outline(&seen);
    said.retain(|line| line.starts_with("alice"));
    assert_eq!(said, ["alice: forged"; 3]);
}
