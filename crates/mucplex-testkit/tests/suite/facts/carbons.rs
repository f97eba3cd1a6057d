//! Carbons (XEP-0280) of private messages in rooms.

use mucplex_testkit::client::Client;
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::Stanza;

use crate::stage::Stage;

crate::on_each_server!(private_messages);

/// What a client adds to a private message it sends: nothing, the mark of XEP-0045 7.5, the same
/// with the request not to carbon-copy (XEP-0280 9).
const MARKS: [(&str, &str); 3] = [
    ("no mark", ""),
    ("x", "<x xmlns='http://jabber.org/protocol/muc#user'/>"),
    (
        "x and private",
        "<x xmlns='http://jabber.org/protocol/muc#user'/><private xmlns='urn:xmpp:carbons:2'/>\
         <no-copy xmlns='urn:xmpp:hints'/>",
    ),
];

async fn carbons(client: &mut Client) {
    let enable = "<enable xmlns='urn:xmpp:carbons:2'/>";
    let answer = client.iq("set", None, enable).await.unwrap();
    assert_eq!(answer.kind(), Some("result"));
}

fn is_carbon(stanza: &Stanza) -> bool {
    ["sent", "received"]
        .iter()
        .any(|name| stanza.has_child(*name, "urn:xmpp:carbons:2"))
}

/// Whether a server copies a private message with that mark to a stream other than its sender's:
/// only what alice sends, never what she gets; to a stream without presence only on Prosody.
fn copied(kind: Kind, sender: &str, mark: &str, receiver: &str) -> bool {
    let marked = match kind {
        Kind::Prosody => mark != "no mark",
        Kind::Ejabberd => mark == "x and private",
    };
    let copied = receiver == "laptop" || (receiver == "silent" && kind == Kind::Prosody);
    sender == "phone" && copied && !marked
}

/// The first of the clients sends a message to `to` for each type and each mark; the others listen.
async fn send_each(stage: &mut Stage, heading: &str, to: &str, clients: &mut [&mut Client]) {
    for kind in ["type='chat' ", ""] {
        for (name, mark) in MARKS {
            let id = clients[0].new_id("pm");
            clients[0]
                .send_raw(format!(
                    "<message {kind}id='{id}' to='{to}'><body>psst</body>{mark}</message>"
                ))
                .await
                .unwrap();
            let text = format!("{heading}: {id}, {kind}{name}");
            let seen = stage.round(&text, clients).await;
            for (client, stanzas) in clients.iter().zip(&seen) {
                let copies = stanzas.iter().filter(|stanza| is_carbon(stanza)).count();
                let (sender, receiver) = (clients[0].resource(), client.resource());
                let expected = copied(stage.kind, sender, name, receiver);
                assert_eq!(copies, usize::from(expected), "{text}: {receiver}");
            }
        }
    }
}

async fn private_messages(kind: Kind) {
    let mut stage = Stage::new(kind, "carbons").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let mut silent = stage.session(&alice, "silent").await;
    for client in [&mut phone, &mut laptop, &mut silent] {
        carbons(client).await;
    }
    phone.available().await.unwrap();
    laptop.available().await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    let (from_bob, from_alice) = (format!("{room}/alice"), format!("{room}/bob"));
    stage
        .round(
            "before",
            &mut [&mut phone, &mut laptop, &mut silent, &mut desk],
        )
        .await;

    for who in ["phone alone is in the room", "phone and laptop are"] {
        let clients = &mut [&mut desk, &mut phone, &mut laptop, &mut silent];
        send_each(&mut stage, &format!("{who}, bob sends"), &from_bob, clients).await;
        let clients = &mut [&mut phone, &mut laptop, &mut silent, &mut desk];
        send_each(
            &mut stage,
            &format!("{who}, phone sends"),
            &from_alice,
            clients,
        )
        .await;
        laptop.join(&room, "alice").await.unwrap();
        stage
            .round("then", &mut [&mut desk, &mut phone, &mut laptop])
            .await;
    }
}
