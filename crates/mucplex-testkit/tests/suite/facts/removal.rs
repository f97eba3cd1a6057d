//! Kick, ban and destroy, with one and with two sessions of the account.

use mucplex_testkit::client::Client;
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::{NS_MUC_ADMIN, NS_MUC_OWNER};

use crate::stage::Stage;

crate::on_each_server!(kick, ban, destroy, members_only, voice);

/// Alice has one or two sessions, bob is the owner; he sends `payload`, and all are written down.
async fn removal(stage: &mut Stage, sessions: usize, payload: impl Fn(&str) -> String) {
    let room = stage.server.new_room("removal");
    stage.room.clone_from(&room);
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let mut others: Vec<(String, Client)> = Vec::new();
    for resource in ["phone", "laptop"].iter().take(sessions) {
        let mut client = stage.session(&alice, resource).await;
        client.join(&room, "alice").await.unwrap();
        others.push((format!("alice/{resource}"), client));
    }
    for (_, client) in &mut others {
        client.settle(&room).await.unwrap();
    }
    desk.settle(&room).await.unwrap();

    stage.note(&format!("{sessions} session(s) of alice"));
    // Not settled by a ping to the room: one that is being destroyed may never answer.
    let id = desk
        .send_iq("set", Some(&room), &payload(&alice.jid()))
        .await
        .unwrap();
    let answer = loop {
        let stanza = desk.recv_for("the answer of the room").await.unwrap();
        stage.show("bob/desk", [&stanza]);
        if stanza.id() == Some(&id) {
            break stanza;
        }
    };
    assert_eq!(answer.kind(), Some("result"));
    stage.show("bob/desk, later", &desk.drain_until_pong().await.unwrap());
    for (name, client) in &mut others {
        loop {
            let stanza = client.recv_for("the removal").await.unwrap();
            stage.show(name, [&stanza]);
            if stanza.kind() == Some("unavailable") && stanza.item().is_some() {
                break;
            }
        }
        stage.show(
            &format!("{name}, later"),
            &client.drain_until_pong().await.unwrap(),
        );
    }
}

async fn kick(kind: Kind) {
    let mut stage = Stage::new(kind, "kick").await;
    for sessions in [1, 2] {
        removal(&mut stage, sessions, |_| {
            format!(
                "<query xmlns='{NS_MUC_ADMIN}'><item nick='alice' role='none'>\
                 <reason>enough</reason></item></query>"
            )
        })
        .await;
    }
}

async fn ban(kind: Kind) {
    let mut stage = Stage::new(kind, "ban").await;
    for sessions in [1, 2] {
        removal(&mut stage, sessions, |jid| {
            format!(
                "<query xmlns='{NS_MUC_ADMIN}'><item jid='{jid}' affiliation='outcast'>\
                 <reason>for good</reason></item></query>"
            )
        })
        .await;
    }
}

async fn destroy(kind: Kind) {
    let mut stage = Stage::new(kind, "destroy").await;
    for sessions in [1, 2] {
        removal(&mut stage, sessions, |_| {
            format!(
                "<query xmlns='{NS_MUC_OWNER}'><destroy jid='other@rooms.example.test'>\
                 <reason>we move</reason><password>tea</password></destroy></query>"
            )
        })
        .await;
    }
}

async fn members_only(kind: Kind) {
    let mut stage = Stage::new(kind, "members-only").await;
    for sessions in [1, 2] {
        removal(&mut stage, sessions, |_| {
            format!(
                "<query xmlns='{NS_MUC_OWNER}'><x xmlns='jabber:x:data' type='submit'>\
                 <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value>\
                 </field><field var='muc#roomconfig_membersonly'><value>1</value></field>\
                 </x></query>"
            )
        })
        .await;
    }
}

async fn voice(kind: Kind) {
    let mut stage = Stage::new(kind, "voice").await;
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
    let items = [
        "<item nick='alice' role='visitor'/>".to_owned(),
        format!("<item jid='{}' affiliation='admin'/>", alice.jid()),
    ];
    for item in items {
        stage.note(&format!("bob sends {item}"));
        let query = format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>");
        desk.send_iq("set", Some(&room), &query).await.unwrap();
        stage.settle("bob/desk", &mut desk).await;
        stage.settle("alice/phone", &mut phone).await;
        stage.settle("alice/laptop", &mut laptop).await;
    }
}
