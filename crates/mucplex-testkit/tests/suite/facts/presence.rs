//! Presence in rooms that is no join, and nick changes.

use mucplex_testkit::server::Kind;

use crate::stage::Stage;

crate::on_each_server!(updates, nick_change, two_sessions);

async fn updates(kind: Kind) {
    let mut stage = Stage::new(kind, "presence").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();

    stage.note("presence without the muc x to a room that alice is not in");
    phone
        .send_raw(format!("<presence id='p-1' to='{room}/alice'/>"))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("bob/desk", &mut desk).await;
    phone.leave(&room, "alice", None).await.unwrap();
    phone.settle(&room).await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    desk.settle(&room).await.unwrap();

    stage.note("alice, in the room, goes away");
    phone
        .send_raw(format!(
            "<presence id='p-2' to='{room}/alice'><show>away</show><status>tea</status>\
             <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>"
        ))
        .await
        .unwrap();
    let own = stage.settle("alice/phone", &mut phone).await;
    assert!(own.iter().any(|stanza| stanza.has_status(110)));
    stage.settle("bob/desk", &mut desk).await;

    stage.note("the same again, without an id, and to the room's bare JID");
    phone
        .send_raw(format!(
            "<presence to='{room}/alice'><show>xa</show></presence>"
        ))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    phone
        .send_raw(format!(
            "<presence id='p-3' to='{room}'><show>dnd</show></presence>"
        ))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    desk.settle(&room).await.unwrap();

    stage.note("alice sends undirected presence");
    phone
        .send_raw("<presence id='p-4'><show>chat</show></presence>")
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("bob/desk", &mut desk).await;
}

async fn nick_change(kind: Kind) {
    let mut stage = Stage::new(kind, "nick").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    desk.settle(&room).await.unwrap();

    stage.note("alice becomes ally");
    phone
        .send_raw(format!("<presence id='n-1' to='{room}/ally'/>"))
        .await
        .unwrap();
    let own = stage.settle("alice/phone", &mut phone).await;
    assert!(own[0].has_status(303));
    stage.settle("bob/desk", &mut desk).await;

    stage.note("ally wants to be bob, who is there");
    phone
        .send_raw(format!("<presence id='n-2' to='{room}/bob'/>"))
        .await
        .unwrap();
    let own = stage.settle("alice/phone", &mut phone).await;
    assert_eq!(own[0].error_condition(), Some("conflict"));
    stage.settle("bob/desk", &mut desk).await;

    stage.note("a nick change with the muc x");
    phone
        .send_raw(format!(
            "<presence id='n-3' to='{room}/al'><x xmlns='http://jabber.org/protocol/muc'/>\
             </presence>"
        ))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("bob/desk", &mut desk).await;
}

async fn two_sessions(kind: Kind) {
    let mut stage = Stage::new(kind, "two-sessions").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    laptop.join(&room, "alice").await.unwrap();
    for client in [&mut phone, &mut laptop, &mut desk] {
        client.settle(&room).await.unwrap();
    }
    stage.note("alice/phone, the first of two sessions, goes away");
    phone
        .send_raw(format!(
            "<presence id='p-5' to='{room}/alice'><show>away</show></presence>"
        ))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("alice/laptop", &mut laptop).await;
    stage.settle("bob/desk", &mut desk).await;
    stage.note("alice/laptop, the second, goes dnd");
    laptop
        .send_raw(format!(
            "<presence id='p-6' to='{room}/alice'><show>dnd</show></presence>"
        ))
        .await
        .unwrap();
    stage.settle("alice/laptop", &mut laptop).await;
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("bob/desk", &mut desk).await;
    stage.note("alice/phone changes the nick");
    phone
        .send_raw(format!("<presence id='n-4' to='{room}/ally'/>"))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("alice/laptop", &mut laptop).await;
    stage.settle("bob/desk", &mut desk).await;
}
