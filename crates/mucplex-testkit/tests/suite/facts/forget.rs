//! Ways in which a room ends an occupancy while the stream lives, and what a message to a room
//! is answered with when one is not in it.

use mucplex_testkit::client::{Client, Join};
use mucplex_testkit::server::{Kind, Options};
use mucplex_testkit::{DOMAIN, ROOMS};

use crate::stage::Stage;

crate::on_each_server!(not_in_the_room, errors_of_an_occupant, service_restarted);

async fn not_in_the_room(kind: Kind) {
    let mut stage = Stage::new(kind, "not-in-the-room").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    let payload = "<body>hello</body><x xmlns='urn:payload'>&lt;</x>";
    for attributes in [
        format!("type='groupchat' id='m-1' xml:lang='de' to='{room}'"),
        format!("type='groupchat' to='{room}'"),
        format!("type='groupchat' id='m-2' to='{room}/bob'"),
        format!("type='chat' id='m-3' to='{room}/bob'"),
        format!("id='m-4' to='{room}'"),
    ] {
        phone
            .send_raw(format!("<message {attributes}>{payload}</message>"))
            .await
            .unwrap();
        stage.round(&attributes, &mut [&mut phone]).await;
    }
}

/// Whether the room still takes what the client says.
async fn speaks(stage: &mut Stage, clients: &mut [&mut Client]) -> bool {
    let room = stage.room.clone();
    clients[0].say(&room, "am I here").await.unwrap();
    let seen = stage.round("says something", clients).await;
    seen[0]
        .iter()
        .any(|stanza| stanza.kind() == Some("groupchat") && stanza.body().is_some())
}

async fn errors_of_an_occupant(kind: Kind) {
    let mut stage = Stage::new(kind, "errors-of-an-occupant").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let condition = |name: &str| {
        format!(
            "<error type='cancel'><{name} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        )
    };
    let stanzas = [
        ("message", "", "recipient-unavailable"),
        ("message", "", "service-unavailable"),
        ("message", "", "remote-server-timeout"),
        ("message", "", "not-acceptable"),
        ("message", "/bob", "recipient-unavailable"),
        ("message", "/bob", "not-acceptable"),
        ("presence", "/alice", "recipient-unavailable"),
        ("presence", "", "not-acceptable"),
        ("iq", "/bob", "recipient-unavailable"),
    ];
    for streams in [1, 2] {
        for (name, nick, error) in stanzas {
            let room = stage.server.new_room("errors");
            stage.room.clone_from(&room);
            let mut phone = stage.session(&alice, "phone").await;
            let mut laptop = stage.session(&alice, "laptop").await;
            desk.create_room(&room, "bob").await.unwrap();
            phone.join(&room, "alice").await.unwrap();
            if streams == 2 {
                laptop.join(&room, "alice").await.unwrap();
            }
            for client in [&mut phone, &mut laptop, &mut desk] {
                client.settle(&room).await.unwrap();
            }
            phone
                .send_raw(format!(
                    "<{name} type='error' id='e-1' to='{room}{nick}'>{}</{name}>",
                    condition(error)
                ))
                .await
                .unwrap();
            let text = format!("{streams} stream(s): {name} of type error to R{nick}, {error}");
            let clients = &mut [&mut phone, &mut laptop, &mut desk];
            let seen = stage.round(&text, clients).await;
            let stays = speaks(&mut stage, clients).await;
            stage.note(&format!("{text}: stays: {stays}"));
            let kicked = match (name, nick, error) {
                ("iq", ..) | ("message", "/bob", "not-acceptable") => false,
                ("message", _, "not-acceptable") => kind == Kind::Ejabberd,
                _ => true,
            };
            assert_eq!(stays, !kicked, "{text}");
            let told = seen[0].iter().any(|stanza| stanza.has_status(110));
            assert_eq!(told, kicked && (streams == 1 || kind == Kind::Ejabberd));
            let lost = seen[0].iter().any(|stanza| stanza.has_status(333));
            assert_eq!(lost, told && kind == Kind::Prosody);
            phone.close().await.unwrap();
            laptop.close().await.unwrap();
        }
    }
}

/// Prosody keeps who is in a room in a store while its room service is restarted; without that
/// store it has forgotten them. On ejabberd a room that ends tells its occupants, see
/// [`service_restarted`].
#[tokio::test]
async fn store_lost() {
    let kind = Kind::Prosody;
    let mut stage = Stage::with(kind, "store-lost", with_commands()).await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    desk.configure_room(&room, &[("muc#roomconfig_persistentroom", "1")])
        .await
        .unwrap();
    phone.join(&room, "alice").await.unwrap();
    phone.settle(&room).await.unwrap();
    stage.server.lose_occupants().await.unwrap();
    let clients = &mut [&mut phone, &mut desk];
    let seen = stage.round("the occupants are forgotten", clients).await;
    assert!(seen[0].is_empty(), "nobody is told");
    assert!(!speaks(&mut stage, clients).await);
    let id = phone
        .send_join(&room, "alice", &Join::default())
        .await
        .unwrap();
    let clients = &mut [&mut phone, &mut desk];
    stage
        .round(&format!("alice joins again: {id}"), clients)
        .await;
}

/// A server that takes commands of its administrator.
fn with_commands() -> Options {
    Options {
        commands: true,
        ..Options::default()
    }
}

/// Commands that restart the room service or end a room, each with its arguments.
fn commands(kind: Kind, room: &str) -> Vec<(String, String)> {
    let name = room.split('@').next().unwrap();
    match kind {
        Kind::Prosody => vec![
            (format!("module:reload('muc', '{ROOMS}')"), String::new()),
            (format!("host:deactivate('{ROOMS}')"), String::new()),
            (format!("host:activate('{ROOMS}')"), String::new()),
        ],
        Kind::Ejabberd => vec![
            (
                "restart_module".to_owned(),
                format!(r#"{{"host": "{DOMAIN}", "module": "mod_muc"}}"#),
            ),
            (
                "destroy_room".to_owned(),
                format!(r#"{{"name": "{name}", "service": "{ROOMS}"}}"#),
            ),
        ],
    }
}

async fn service_restarted(kind: Kind) {
    let mut stage = Stage::with(kind, "service-restarted", with_commands()).await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    desk.configure_room(&room, &[("muc#roomconfig_persistentroom", "1")])
        .await
        .unwrap();
    phone.join(&room, "alice").await.unwrap();
    stage.round("before", &mut [&mut phone, &mut desk]).await;
    for (command, arguments) in commands(kind, &room) {
        let answer = stage.server.command(&command, &arguments).await;
        let log = || stage.server.log_tail(60);
        let answer = answer.unwrap_or_else(|error| panic!("{error}\n{}", log()));
        let text = format!("{command}: {answer}");
        if command == "destroy_room" {
            // Not settled by a ping to the room: one that is being destroyed may never answer.
            stage.note(&text);
            removed_twice(&mut stage, &mut phone).await;
        } else {
            let clients = &mut [&mut phone, &mut desk];
            let seen = stage.round(&text, clients).await;
            let told = seen[0].iter().any(|stanza| stanza.has_status(332));
            assert_eq!(told, kind == Kind::Ejabberd);
            assert_eq!(seen[0].is_empty(), kind == Kind::Prosody);
            let stays = speaks(&mut stage, clients).await;
            stage.note(&format!("after {command}: stays: {stays}"));
            let kept = command.starts_with("module:") || command.starts_with("host:activate");
            assert_eq!(stays, kept, "{command}");
        }
        let id = phone
            .send_join(&room, "alice", &Join::default())
            .await
            .unwrap();
        let clients = &mut [&mut phone, &mut desk];
        stage
            .round(&format!("alice joins again: {id}"), clients)
            .await;
    }
}

/// Reads both removals of a room that a command of ejabberd destroys.
async fn removed_twice(stage: &mut Stage, client: &mut Client) {
    loop {
        let stanza = client
            .recv_for("the end of the room's process")
            .await
            .unwrap();
        stage.show("alice/phone", [&stanza]);
        if stanza.has_status(332) {
            break;
        }
    }
    let rest = client.drain_until_pong().await.unwrap();
    stage.show("alice/phone, later", &rest);
}
