//! The parts of the kit that stand between programs: options of servers, tap, scripted server,
//! proxy process.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mucplex_testkit::DOMAIN;
use mucplex_testkit::client::{ClientError, Connection, Login, Mechanism, Security};
use mucplex_testkit::proxy::{Setup, UpstreamTls};
use mucplex_testkit::scripted::ScriptedServer;
use mucplex_testkit::server::{Kind, Options, Server};
use mucplex_testkit::tap::Tap;
use mucplex_testkit::xml::NS_TLS;

crate::on_each_server!(options, restart, frozen, tap_counts, proxy_again);

async fn options(kind: Kind) {
    let options = Options {
        require_tls: true,
        hashed_passwords: true,
        rate_limits: true,
        stanza_bytes: Some(65_536),
        ..Options::default()
    };
    let server = Server::start_with(kind, options).await.unwrap();
    let alice = server.account("alice").await.unwrap();
    let mut plain = Connection::open(server.plain()).await.unwrap();
    plain.open_stream(DOMAIN).await.unwrap();
    let features = plain.features().await.unwrap();
    assert!(features.get_child("starttls", NS_TLS).is_some());
    assert!(!features.raw_str().contains("<mechanism>"), "{features:?}");

    let login = alice
        .login(server.plain())
        .security(Security::StartTls(server.trust()));
    let mut client = login
        .mechanism(Mechanism::ScramSha1)
        .connect()
        .await
        .unwrap();
    client.set_timeout(Duration::from_secs(30));
    client
        .say("nowhere@rooms.example.test", &"x".repeat(70_000))
        .await
        .unwrap();
    let error = client
        .wait_for("the end", |stanza| stanza.name() == "error")
        .await
        .unwrap();
    assert!(error.raw_str().contains("policy-violation"), "{error:?}");
    let path = server.log_path();
    drop(server);
    assert!(!path.exists(), "the directory goes with the server");
}

async fn restart(kind: Kind) {
    let mut server = Server::start(kind).await.unwrap();
    let alice = server.account("alice").await.unwrap();
    let mut client = alice.direct().connect().await.unwrap();
    let first = server.pid().unwrap();
    server.restart().await.unwrap();
    assert_ne!(server.pid().unwrap(), first);
    client.read_to_end().await.unwrap();
    alice
        .direct()
        .connect()
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    server.kill();
    assert!(alice.direct().connect().await.is_err());
    server.restart().await.unwrap();
    alice.direct().connect().await.unwrap();
}

async fn frozen(kind: Kind) {
    let server = Server::start(kind).await.unwrap();
    let alice = server.account("alice").await.unwrap();
    let mut client = alice.direct().connect().await.unwrap();
    server.freeze(true).unwrap();
    client.set_timeout(Duration::from_millis(300));
    assert!(matches!(
        client.drain_until_pong().await,
        Err(ClientError::Timeout { .. })
    ));
    server.freeze(false).unwrap();
    client.set_timeout(Duration::from_secs(10));
    client.drain_until_pong().await.unwrap();
}

/// The built binary: `tests/run.sh` builds it before.
async fn proxy_again(kind: Kind) {
    let server = Server::shared(kind).await;
    let alice = server.account("alice").await.unwrap();
    let setup = Setup::server(server, UpstreamTls::None);
    let mut proxy = setup.start().await.unwrap();
    let (first, address) = (proxy.pid(), proxy.starttls());
    for _ in 0..2 {
        proxy.login(&alice).connect().await.unwrap();
        proxy.kill().await.unwrap();
        assert!(proxy.login(&alice).connect().await.is_err());
        proxy.restart().await.unwrap();
    }
    assert_eq!(proxy.starttls(), address);
    assert_ne!(proxy.pid(), first);
    let mut client = proxy.login(&alice).connect().await.unwrap();
    let limit = Duration::from_secs(10);
    let ended = proxy.end(limit).await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.took < limit, "{ended:?}");
    client.read_to_end().await.unwrap();
    assert!(proxy.end(limit).await.is_err(), "it does not run");
}

async fn tap_counts(kind: Kind) {
    let server = Server::shared(kind).await;
    let tap = Tap::start(server.plain()).await.unwrap();
    let room = server.new_room("tap");
    let alice = server.account("alice").await.unwrap();
    let mut client = alice
        .login(tap.address())
        .resource("phone")
        .connect()
        .await
        .unwrap();
    client.create_room(&room, "alice").await.unwrap();
    client.say(&room, "one of a kind").await.unwrap();
    client.hear("one of a kind").await.unwrap();
    assert_eq!(tap.count_up("<body>one of a kind</body>"), 1);
    assert_eq!(tap.count_down("<body>one of a kind</body>"), 1);

    client.set_timeout(Duration::from_millis(300));
    tap.hold(0);
    client.say(&room, "later").await.unwrap();
    assert!(matches!(
        client.hear("later").await,
        Err(ClientError::Timeout { .. })
    ));
    tap.forward(0);
    client.set_timeout(Duration::from_secs(10));
    client.hear("later").await.unwrap();

    tap.black_hole(0);
    client.say(&room, "lost").await.unwrap();
    assert!(tap.wait_until(|all| all[0].count_up("lost") == 1).await);
    assert_eq!(tap.count_down("lost"), 0);
    tap.reset(0);
    let error = client.recv().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Io { .. }),
        "a reset is an error: {error}"
    );
    assert!(tap.wait_until(|all| all[0].closed).await);

    let mut client = alice
        .login(tap.address())
        .resource("phone")
        .connect()
        .await
        .unwrap();
    tap.cut(1);
    let error = client.recv().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Ended { .. }),
        "a cut is an end: {error}"
    );
    tap.refuse(true);
    assert!(alice.login(tap.address()).connect().await.is_err());
}

#[tokio::test]
async fn scripted_server_sends_what_no_server_would() {
    let mut server = ScriptedServer::start().await.unwrap();
    server.offer("<sm xmlns='urn:xmpp:sm:3'/>");
    let login = Login::new(server.address(), DOMAIN, "alice", "anything").resource("phone");
    let client = async {
        let (mut connection, features) = login.authenticate().await.unwrap();
        assert!(features.has_child("sm", "urn:xmpp:sm:3"));
        connection
            .send_raw("<resume xmlns='urn:xmpp:sm:3' previd='p' h='0'/>")
            .await
            .unwrap();
        login.bind(connection).await.unwrap()
    };
    let (mut client, peer) = tokio::join!(client, server.accept());
    let mut peer = peer.unwrap();
    assert_eq!(peer.credentials().user, "alice");
    assert_eq!(peer.credentials().password.as_deref(), Some("anything"));
    assert_eq!(peer.early().unwrap().name(), "resume");
    assert_eq!(client.jid(), peer.jid());

    // A kick without 110, as ejabberd sends it, and a stanza in two pieces.
    let kick = format!(
        "<presence from='r@rooms.example.test/alice' to='{}' type='unavailable'>\
         <x xmlns='http://jabber.org/protocol/muc#user'><status code='307'/></x></presence>",
        peer.jid()
    );
    let (head, tail) = kick.split_at(40);
    peer.send_raw(head).await.unwrap();
    peer.send_raw(tail).await.unwrap();
    let stanza = client
        .expect("a kick", |stanza| stanza.has_status(307))
        .await
        .unwrap();
    assert_eq!(stanza.raw_str(), kick);

    // A server that says nothing.
    client.set_timeout(Duration::from_millis(100));
    assert!(matches!(
        client.drain_until_pong().await,
        Err(ClientError::Timeout { .. })
    ));
    assert!(
        peer.answer_iq("")
            .await
            .unwrap()
            .raw_str()
            .contains("urn:xmpp:ping")
    );
    client.set_timeout(Duration::from_secs(10));
    assert_eq!(client.recv().await.unwrap().kind(), Some("result"));
    peer.drop_connection().await.unwrap();
    assert!(matches!(
        client.recv().await,
        Err(ClientError::Ended { .. })
    ));
}

#[tokio::test]
async fn scripted_server_speaks_scram() {
    let mut server = ScriptedServer::start().await.unwrap();
    server.offer_scram("pencil");
    for mechanism in [Mechanism::ScramSha1, Mechanism::ScramSha1Binding] {
        let login = Login::new(server.address(), DOMAIN, "alice", "pencil").mechanism(mechanism);
        let (client, peer) = tokio::join!(login.connect(), server.accept());
        assert_eq!(client.unwrap().jid(), peer.as_ref().unwrap().jid());
        assert_eq!(peer.unwrap().credentials().mechanism, "SCRAM-SHA-1");
    }
    let login = Login::new(server.address(), DOMAIN, "alice", "pen");
    let login = login.mechanism(Mechanism::ScramSha1);
    let (client, peer) = tokio::join!(login.connect(), server.accept());
    assert!(matches!(client.unwrap_err(), ClientError::Login(_)));
    peer.unwrap_err();
}

#[tokio::test]
async fn proxy_that_ends_at_once_shows_its_output_and_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("mucplex");
    let missing = Setup::new(([127, 0, 0, 1], 1).into())
        .binary(&binary)
        .start()
        .await;
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("no mucplex binary")
    );

    std::fs::write(&binary, "#!/bin/sh\necho \"$1 $2: $GREETING\"; exit 64\n").unwrap();
    std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
    let setup = Setup::new(([127, 0, 0, 1], 5222).into())
        .tls(UpstreamTls::Direct, dir.path())
        .section("[rooms]\nstay = \"1s\"")
        .environment("GREETING", "hello")
        .binary(&binary)
        .store();
    let error = setup.start().await.unwrap_err().to_string();
    for part in [
        "ended at once with exit status: 64",
        "run --config: hello",
        "upstream = \"127.0.0.1:5222\"",
        "upstream_tls = \"direct\"",
        "upstream_ca = ",
        "stay = \"1s\"",
        "[store]",
        "mucplex.db",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}
