//! IQs to occupants (XEP-0045 17.4, XEP-0410).

use mucplex_testkit::client::Client;
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::Stanza;

use crate::stage::Stage;

crate::on_each_server!(to_occupants);

const REQUESTS: [&str; 3] = [
    "<ping xmlns='urn:xmpp:ping'/>",
    "<query xmlns='http://jabber.org/protocol/disco#info'/>",
    "<query xmlns='jabber:iq:version'/>",
];

/// `asker` sends each request to `to`; a request that the room relays to anyone is answered.
async fn ask(stage: &mut Stage, heading: &str, to: &str, clients: &mut [&mut Client]) {
    for request in REQUESTS {
        let id = clients[0].send_iq("get", Some(to), request).await.unwrap();
        let seen = stage
            .round(&format!("{heading}: {id} {request}"), clients)
            .await;
        if heading.starts_with("own nick") && request.contains("ping") {
            assert_eq!(seen[0][0].kind(), Some("result"), "answered by the room");
        }
        let relayed = |stanza: &&Stanza| stanza.name() == "iq" && stanza.kind() == Some("get");
        for (client, stanzas) in clients.iter_mut().zip(&seen) {
            for stanza in stanzas.iter().filter(relayed) {
                let (from, id) = (stanza.from().unwrap(), stanza.id().unwrap());
                client
                    .send_raw(format!("<iq type='result' id='{id}' to='{from}'/>"))
                    .await
                    .unwrap();
            }
        }
        stage
            .round("after the answer to what was relayed", clients)
            .await;
    }
}

async fn to_occupants(kind: Kind) {
    let mut stage = Stage::new(kind, "iq-to-occupants").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let own = format!("{room}/alice");
    let nobody = format!("{room}/nobody");

    ask(
        &mut stage,
        "nobody's nick, not joined",
        &own,
        &mut [&mut phone],
    )
    .await;
    phone.join(&room, "alice").await.unwrap();
    stage.round("joined", &mut [&mut phone, &mut desk]).await;
    ask(&mut stage, "own nick", &own, &mut [&mut phone, &mut desk]).await;
    ask(
        &mut stage,
        "nobody's nick, joined",
        &nobody,
        &mut [&mut phone],
    )
    .await;
    ask(
        &mut stage,
        "bob to alice",
        &own,
        &mut [&mut desk, &mut phone],
    )
    .await;
    let clients = &mut [&mut laptop, &mut phone];
    ask(
        &mut stage,
        "from alice's stream that has not joined",
        &own,
        clients,
    )
    .await;
    laptop.join(&room, "alice").await.unwrap();
    stage
        .round("laptop joins", &mut [&mut laptop, &mut phone, &mut desk])
        .await;
    let clients = &mut [&mut laptop, &mut phone];
    ask(
        &mut stage,
        "own nick, two streams, by laptop",
        &own,
        clients,
    )
    .await;
    let clients = &mut [&mut phone, &mut laptop];
    ask(&mut stage, "own nick, two streams, by phone", &own, clients).await;
}
