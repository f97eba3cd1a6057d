//! Each way to log in, and a room.

use mucplex_testkit::client::{Mechanism, Security};
use mucplex_testkit::server::{Kind, Server};

async fn every_login(kind: Kind) {
    let server = Server::shared(kind).await;
    let alice = server.account("alice").await.unwrap();
    let ways = [
        (server.plain(), Security::Plain),
        (server.starttls(), Security::StartTls(server.trust())),
        (server.direct_tls(), Security::DirectTls(server.trust())),
    ];
    let mechanisms = [
        Mechanism::Plain,
        Mechanism::ScramSha1,
        Mechanism::ScramSha1Binding,
        Mechanism::ScramSha256,
        Mechanism::ScramSha256Binding,
    ];
    for (address, security) in ways {
        for mechanism in mechanisms {
            let login = alice
                .login(address)
                .security(security.clone())
                .mechanism(mechanism);
            let client = login.resource("phone").connect().await;
            let mut client = client.unwrap_or_else(|e| {
                panic!("{mechanism:?} {security:?}: {e}\n{}", server.log_tail(40))
            });
            assert_eq!(client.jid(), format!("{}/phone", alice.jid()));
            assert!(client.drain_until_pong().await.unwrap().is_empty());
            client.close().await.unwrap();
        }
    }
    let wrong = alice
        .direct()
        .password("wrong")
        .connect()
        .await
        .unwrap_err();
    assert!(wrong.to_string().contains("not-authorized"), "{wrong}");
}

async fn room(kind: Kind) {
    let server = Server::shared(kind).await;
    let room = server.new_room("smoke");
    let alice = server.account("alice").await.unwrap();
    let bob = server.account("bob").await.unwrap();
    let mut alice = alice.direct().resource("phone").connect().await.unwrap();
    let mut bob = bob.direct().resource("desk").connect().await.unwrap();
    alice.create_room(&room, "alice").await.unwrap();
    let joined = bob.join(&room, "bob").await.unwrap();
    assert_eq!(joined.nicks(), ["alice"]);
    let id = alice.say(&room, "hello <bob> & all").await.unwrap();
    let heard = bob.hear("hello <bob> & all").await.unwrap();
    assert_eq!(heard.id(), Some(id.as_str()));
    alice.hear("hello <bob> & all").await.unwrap();
    alice.reset_connection().unwrap();
    bob.wait_for("alice to be gone", |s| s.kind() == Some("unavailable"))
        .await
        .unwrap();
    bob.drop_connection().await.unwrap();
}

crate::on_each_server!(every_login, room);
