//! Nick changes where the room tells less than usual.

use mucplex_testkit::client::Client;
use mucplex_testkit::server::Kind;

use crate::stage::Stage;

crate::on_each_server!(quiet_rooms, to_a_sibling, nothing_new);

async fn change(client: &mut Client, room: &str, nick: &str) {
    let id = client.new_id("nick");
    client
        .send_raw(format!("<presence id='{id}' to='{room}/{nick}'/>"))
        .await
        .unwrap();
}

/// Submits the roles whose presence is broadcast (XEP-0045 10.2,
/// `muc#roomconfig_presencebroadcast`), which may be none.
async fn broadcast(client: &mut Client, room: &str, roles: &[&str]) -> Option<String> {
    let values: String = roles
        .iter()
        .map(|role| format!("<value>{role}</value>"))
        .collect();
    let query = format!(
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_presencebroadcast'>{values}</field></x></query>"
    );
    let answer = client.iq("set", Some(room), &query).await.unwrap();
    answer.kind().map(str::to_owned)
}

async fn quiet_rooms(kind: Kind) {
    let mut stage = Stage::new(kind, "quiet-rooms").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let roles: [&[&str]; 3] = [&["moderator"], &["participant"], &["visitor"]];
    for roles in roles {
        let room = stage.server.new_room("quiet");
        stage.room.clone_from(&room);
        let mut desk = stage.session(&bob, "desk").await;
        let mut phone = stage.session(&alice, "phone").await;
        desk.create_room(&room, "bob").await.unwrap();
        assert_eq!(
            broadcast(&mut desk, &room, roles).await.as_deref(),
            Some("result")
        );
        let joined = phone.join(&room, "alice").await.unwrap();
        stage.note(&format!("broadcast of {roles:?}: alice joins"));
        stage.show("alice/phone", &joined.all);
        stage.round("then", &mut [&mut phone, &mut desk]).await;
        phone
            .send_raw(format!(
                "<presence id='away' to='{room}/alice'><show>away</show></presence>"
            ))
            .await
            .unwrap();
        stage
            .round(
                "alice, a participant, goes away",
                &mut [&mut phone, &mut desk],
            )
            .await;
        change(&mut phone, &room, "ally").await;
        let seen = stage
            .round("and becomes ally", &mut [&mut phone, &mut desk])
            .await;
        let told = kind == Kind::Prosody || roles == ["participant"];
        assert_eq!(seen[0].iter().any(|stanza| stanza.has_status(303)), told);
        assert_eq!(seen[0].is_empty(), !told);
        phone.say(&room, "who am I").await.unwrap();
        let seen = stage
            .round("and says something", &mut [&mut phone, &mut desk])
            .await;
        assert_eq!(seen[0][0].from(), Some(format!("{room}/ally").as_str()));
        change(&mut desk, &room, "rob").await;
        stage
            .round(
                "bob, a moderator, becomes rob",
                &mut [&mut desk, &mut phone],
            )
            .await;
        phone.leave(&room, "ally", None).await.unwrap();
        stage
            .round("alice leaves", &mut [&mut phone, &mut desk])
            .await;
        desk.close().await.unwrap();
        phone.close().await.unwrap();
    }
}

async fn to_a_sibling(kind: Kind) {
    let mut stage = Stage::new(kind, "to-a-sibling").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    laptop.join(&room, "ally").await.unwrap();
    stage
        .round("two nicks", &mut [&mut phone, &mut laptop, &mut desk])
        .await;
    change(&mut phone, &room, "ally").await;
    stage
        .round(
            "phone takes the nick of laptop",
            &mut [&mut phone, &mut laptop, &mut desk],
        )
        .await;
    phone.say(&room, "who am I").await.unwrap();
    stage
        .round("and speaks", &mut [&mut phone, &mut laptop, &mut desk])
        .await;
}

async fn nothing_new(kind: Kind) {
    let mut stage = Stage::new(kind, "nothing-new").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    stage.round("before", &mut [&mut phone, &mut desk]).await;
    for nick in ["alice", "Alice", " alice "] {
        change(&mut phone, &room, nick).await;
        stage
            .round(
                &format!("alice wants to be {nick:?}"),
                &mut [&mut phone, &mut desk],
            )
            .await;
    }
    let fields = [
        ("muc#roomconfig_changenick", "0"),
        ("muc#roomconfig_moderatedroom", "1"),
    ];
    for field in fields {
        let answer = desk.configure_room(&room, &[field]).await;
        stage.note(&format!("{field:?}: {}", answer.is_ok()));
    }
    change(&mut phone, &room, "other").await;
    stage
        .round(
            "a nick change of a participant",
            &mut [&mut phone, &mut desk],
        )
        .await;
    let query = "<query xmlns='http://jabber.org/protocol/muc#admin'>\
                 <item nick='other' role='visitor'/></query>";
    desk.iq("set", Some(&room), query).await.unwrap();
    change(&mut phone, &room, "visitor").await;
    stage
        .round("and as a visitor", &mut [&mut desk, &mut phone])
        .await;
    change(&mut phone, &room, "visitor").await;
    stage.round("once more", &mut [&mut phone, &mut desk]).await;
}
