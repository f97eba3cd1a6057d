//! Stream headers and features.

use mucplex_testkit::DOMAIN;
use mucplex_testkit::client::Connection;
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::NS_STREAM;

use crate::stage::Stage;

crate::on_each_server!(features, stream_errors);

async fn features(kind: Kind) {
    let mut stage = Stage::new(kind, "features").await;
    let mut connection = Connection::open(stage.server.plain()).await.unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    connection.features().await.unwrap();
    stage.note("plain port before the login");
    stage.note(&String::from_utf8_lossy(connection.received_raw()));

    let trust = stage.server.trust();
    let address = stage.server.direct_tls();
    let mut connection = Connection::open_tls(address, DOMAIN, &trust).await.unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    connection.features().await.unwrap();
    stage.note(&format!(
        "direct TLS before the login, ALPN {:?}",
        connection.alpn()
    ));
    stage.note(&String::from_utf8_lossy(connection.received_raw()));

    let mut connection = Connection::open(stage.server.starttls()).await.unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    connection.features().await.unwrap();
    stage.note("STARTTLS port before TLS");
    stage.note(&String::from_utf8_lossy(connection.received_raw()));

    let alice = stage.account("alice").await;
    let (connection, features) = alice.direct().authenticate().await.unwrap();
    assert!(features.has_child("csi", "urn:xmpp:csi:0"));
    stage.note("plain port, everything up to the features after the login");
    stage.note(&String::from_utf8_lossy(connection.received_raw()));
    let client = alice
        .direct()
        .resource("phone")
        .bind(connection)
        .await
        .unwrap();
    stage.note(client.transcript().lines().last().unwrap_or_default());
}

async fn stream_errors(kind: Kind) {
    let mut stage = Stage::new(kind, "stream-errors").await;
    let alice = stage.account("alice").await;
    for bytes in [
        "<message><body></message>",
        "<!-- comment -->",
        "<a xmlns='urn:unknown'/>",
    ] {
        let mut client = stage.session(&alice, "phone").await;
        client.send_raw(bytes).await.unwrap();
        // A server that takes no offence answers this instead.
        client
            .send_iq("get", None, "<ping xmlns='urn:xmpp:ping'/>")
            .await
            .unwrap();
        let answer = client.recv().await.unwrap();
        stage.note(bytes);
        stage.show("alice/phone", [&answer]);
        if answer.is("error", NS_STREAM) {
            let rest = client.into_connection().read_to_end().await.unwrap();
            stage.note(&format!("then {:?}", String::from_utf8_lossy(&rest)));
        }
    }
    stage.note("a resource that is in use");
    let mut first = stage.session(&alice, "phone").await;
    let second = stage.session(&alice, "phone").await;
    stage.note(second.jid());
    let error = first.recv().await.unwrap();
    stage.show("alice/phone, the first", [&error]);
}
