//! Leaves, with one session under a nick and with two.

use mucplex_testkit::server::Kind;

use crate::stage::Stage;

crate::on_each_server!(one_of_two, last, connection_lost);

async fn one_of_two(kind: Kind) {
    let mut stage = Stage::new(kind, "leave-one").await;
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

    for (status, text) in [(None, "without a status"), (Some("bye"), "with a status")] {
        stage.note(&format!("alice/phone leaves {text}, alice/laptop stays"));
        phone.leave(&room, "alice", status).await.unwrap();
        stage.settle("alice/phone", &mut phone).await;
        stage.settle("alice/laptop", &mut laptop).await;
        let seen = stage.settle("bob/desk", &mut desk).await;
        assert!(
            seen.iter()
                .all(|stanza| stanza.kind() != Some("unavailable"))
        );
        phone.join(&room, "alice").await.unwrap();
        laptop.settle(&room).await.unwrap();
        desk.settle(&room).await.unwrap();
    }
    stage.note("the session that joined first leaves by ending its stream");
    phone.close().await.unwrap();
    stage.settle("alice/laptop", &mut laptop).await;
    stage.settle("bob/desk", &mut desk).await;
}

async fn last(kind: Kind) {
    let mut stage = Stage::new(kind, "leave-last").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    desk.settle(&room).await.unwrap();

    stage.note("alice's only session leaves with a status");
    phone.leave(&room, "alice", Some("bye")).await.unwrap();
    let own = stage.settle("alice/phone", &mut phone).await;
    assert!(own.iter().any(|stanza| stanza.has_status(110)));
    stage.settle("bob/desk", &mut desk).await;

    phone.join(&room, "alice").await.unwrap();
    desk.settle(&room).await.unwrap();
    stage.note("alice's only session sends undirected unavailable with a status");
    phone
        .send_raw("<presence type='unavailable'><status>off</status></presence>")
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("bob/desk", &mut desk).await;

    stage.note("alice leaves a room that she is not in");
    phone.leave(&room, "alice", None).await.unwrap();
    stage.settle("alice/phone", &mut phone).await;
}

async fn connection_lost(kind: Kind) {
    let mut stage = Stage::new(kind, "lost").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    desk.settle(&room).await.unwrap();
    stage.note("the TCP connection of alice's only session ends without a stream end");
    phone.drop_connection().await.unwrap();
    let gone = desk
        .wait_for("a leave", |s| s.kind() == Some("unavailable"))
        .await
        .unwrap();
    stage.show("bob/desk", [&gone]);
}
