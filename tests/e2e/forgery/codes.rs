//! Occupants and strangers who write what only a room may write, on the servers' own rooms
//! (behaviour 72).

use mucplex_testkit::client::{Client, Join};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::Stanza;

use super::{Forged, forgeries};
use crate::stage::{Stage, leave, nick, outline, through};

crate::tests![
    b72_forged_codes_in_an_occupants_presence,
    b72_forged_codes_in_an_occupants_message,
    b72_forged_codes_in_the_presence_of_who_is_there_already,
    b72_forged_codes_from_a_stranger,
    b72_forged_codes_from_an_address_like_the_rooms,
];

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
