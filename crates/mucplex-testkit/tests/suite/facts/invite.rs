//! Mediated invitations and their declination (XEP-0045 7.8.2).

use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::NS_MUC_USER;

use crate::stage::Stage;

crate::on_each_server!(mediated);

async fn mediated(kind: Kind) {
    let mut stage = Stage::new(kind, "invite").await;
    let room = stage.room.clone();
    let alice = stage.account("alice").await;
    let (bob, carol) = (stage.account("bob").await, stage.account("carol").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let mut other = stage.session(&alice, "other").await;
    let mut tablet = stage.session(&carol, "tablet").await;
    let mut watch = stage.session(&carol, "watch").await;
    for client in [&mut phone, &mut laptop, &mut other, &mut tablet, &mut watch] {
        let enable = "<enable xmlns='urn:xmpp:carbons:2'/>";
        client.iq("set", None, enable).await.unwrap();
        client.available().await.unwrap();
    }
    desk.create_room(&room, "bob").await.unwrap();
    let answer = desk
        .configure_room(&room, &[("muc#roomconfig_allowinvites", "1")])
        .await;
    stage.note(&format!("invitations by anyone: {}", answer.is_ok()));
    phone.join(&room, "alice").await.unwrap();
    laptop.join(&room, "alice").await.unwrap();
    let clients = &mut [
        &mut phone,
        &mut laptop,
        &mut other,
        &mut tablet,
        &mut watch,
        &mut desk,
    ];
    stage
        .round("alice/phone and alice/laptop are in the room", clients)
        .await;

    for to in [carol.jid(), format!("{}/tablet", carol.jid())] {
        let invite = format!("<invite to='{to}'><reason>tea</reason></invite>");
        let id = clients[0].new_id("invite");
        clients[0]
            .send_raw(format!(
                "<message id='{id}' to='{room}'><x xmlns='http://jabber.org/protocol/muc#user'>\
                 {invite}</x></message>"
            ))
            .await
            .unwrap();
        let seen = stage
            .round(&format!("alice/phone invites {to}"), clients)
            .await;
        let inviter = match kind {
            Kind::Prosody => format!("{room}/alice"),
            Kind::Ejabberd => clients[0].jid().to_owned(),
        };
        let invite = seen[3][0]
            .get_child("x", NS_MUC_USER)
            .and_then(|x| x.get_child("invite", NS_MUC_USER));
        assert_eq!(seen[3][0].from(), Some(room.as_str()));
        assert_eq!(invite.unwrap().attr("from"), Some(inviter.as_str()));
        assert_eq!(seen[4].is_empty(), to.contains('/'));
    }
    let inviters = [
        format!("{}/phone", alice.jid()),
        alice.jid(),
        format!("{room}/alice"),
    ];
    for to in inviters {
        let id = clients[3].new_id("decline");
        clients[3]
            .send_raw(format!(
                "<message id='{id}' to='{room}'><x xmlns='http://jabber.org/protocol/muc#user'>\
                 <decline to='{to}'><reason>no tea</reason></decline></x></message>"
            ))
            .await
            .unwrap();
        clients.swap(0, 3);
        stage
            .round(&format!("carol/tablet declines to {to}"), clients)
            .await;
        clients.swap(0, 3);
    }
    clients[0].leave(&room, "alice", None).await.unwrap();
    clients[1].leave(&room, "alice", None).await.unwrap();
    stage.round("alice leaves", clients).await;
    clients[3]
        .send_raw(format!(
            "<message id='late' to='{room}'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <decline to='{}'/></x></message>",
            alice.jid()
        ))
        .await
        .unwrap();
    clients.swap(0, 3);
    stage
        .round("carol/tablet declines after that", clients)
        .await;
}
