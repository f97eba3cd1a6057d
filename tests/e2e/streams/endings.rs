//! How streams end: by the client, by the server, by the network, and by SIGTERM.

use std::time::{Duration, Instant};

use mucplex_testkit::DOMAIN;
use mucplex_testkit::client::{Client, Connection, STREAM_HEADER_END};
use mucplex_testkit::server::{Account, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::raw::{Line, end_of, ends_with};
use crate::stage::Stage;

crate::tests![
    ending_by_the_client_is_answered_at_each_step,
    ending_of_the_clients_connection_ends_the_uplink,
    ending_of_one_direction_of_the_clients_connection,
    ending_of_the_uplink_is_told_to_the_client,
    ending_of_the_uplink_during_a_login,
    ending_where_no_server_answers,
    ending_of_the_server,
    ending_by_a_signal_with_fifty_sessions,
    ending_by_a_signal_during_logins,
];

async fn ending_by_the_client_is_answered_at_each_step(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;

    let mut unencrypted = Connection::open(line.proxy.starttls()).await.unwrap();
    unencrypted.open_stream(DOMAIN).await.unwrap();
    unencrypted.features().await.unwrap();
    let (secured, _) = line.secured().await;
    let (authenticated, _) = line.proxy.login(&alice).authenticate().await.unwrap();
    let mut session = line.proxy.login(&alice).connect().await.unwrap();
    session.drain_until_pong().await.unwrap();

    for mut connection in [
        unencrypted,
        secured,
        authenticated,
        session.into_connection(),
    ] {
        connection.send_raw("</stream:stream>").await.unwrap();
        let end = end_of(&mut connection).await;
        assert!(end.condition.is_none() && end.before.is_empty(), "{end:?}");
    }
    assert!(
        line.tap
            .wait_until(|links| links.iter().all(|link| link.closed))
            .await
    );
    for link in line.tap.recordings() {
        assert!(link.up.ends_with(b"</stream:stream>") && link.down.ends_with(b"</stream:stream>"));
    }
}

async fn ending_of_the_clients_connection_ends_the_uplink(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    for reset in [false, true] {
        let (secured, _) = line.secured().await;
        let (authenticated, _) = line.proxy.login(&alice).authenticate().await.unwrap();
        let session = line.proxy.login(&alice).connect().await.unwrap();
        for connection in [secured, authenticated, session.into_connection()] {
            match reset {
                true => connection.reset_connection().unwrap(),
                false => connection.drop_connection().await.unwrap(),
            }
        }
        assert!(
            line.tap
                .wait_until(|links| links.iter().all(|link| link.closed))
                .await
        );
    }
    assert_eq!(line.tap.recordings().len(), 6);
    for link in line.tap.recordings() {
        assert!(link.up.ends_with(b"</stream:stream>"), "the server is told");
    }
}

/// The client has said all it wants to say, in TCP's words.
async fn ending_of_one_direction_of_the_clients_connection(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let header = format!("<stream:stream to='{DOMAIN}' {STREAM_HEADER_END}");
    let tcp = TcpStream::connect(line.proxy.direct_tls()).await.unwrap();
    let mut secured = line.proxy.trust().connect(tcp, DOMAIN, &[]).await.unwrap();
    secured.write_all(header.as_bytes()).await.unwrap();
    let mut first = [0; 1];
    secured.read_exact(&mut first).await.unwrap();
    secured.shutdown().await.unwrap();
    let mut unencrypted = TcpStream::connect(line.proxy.starttls()).await.unwrap();
    unencrypted.write_all(header.as_bytes()).await.unwrap();
    unencrypted.shutdown().await.unwrap();

    let mut rest = Vec::new();
    let both = async {
        // What comes before the end does not matter, and TLS may end without a word.
        let _ = secured.read_to_end(&mut rest).await;
        let _ = unencrypted.read_to_end(&mut rest).await;
    };
    tokio::time::timeout(Duration::from_secs(10), both)
        .await
        .expect("the proxy ends them, too");
    assert!(
        line.tap
            .wait_until(|links| links.iter().all(|link| link.closed))
            .await
    );
}

async fn ending_of_the_uplink_is_told_to_the_client(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    for reset in [false, true] {
        let mut other = line
            .proxy
            .login(&alice)
            .resource("laptop")
            .connect()
            .await
            .unwrap();
        let mut client = line
            .proxy
            .login(&alice)
            .resource("phone")
            .connect()
            .await
            .unwrap();
        let uplink = line.uplink_of_last();
        match reset {
            true => line.tap.reset(uplink),
            false => line.tap.cut(uplink),
        }
        ends_with(&mut client, "remote-connection-failed").await;
        assert!(other.drain_until_pong().await.unwrap().is_empty());
        // The next login finds the server where it was.
        line.proxy
            .login(&alice)
            .resource("phone")
            .connect()
            .await
            .unwrap();
        other.close().await.unwrap();
    }
}

async fn ending_of_the_uplink_during_a_login(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let (mut secured, _) = line.secured().await;
    line.tap.cut(line.uplink_of_last());
    ends_with(&mut secured, "remote-connection-failed").await;
    let (mut authenticated, _) = line.proxy.login(&alice).authenticate().await.unwrap();
    line.tap.reset(line.uplink_of_last());
    ends_with(&mut authenticated, "remote-connection-failed").await;
}

async fn ending_where_no_server_answers(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let trust = line.proxy.trust();
    let attempt = async || {
        let mut connection = Connection::open_tls(line.proxy.direct_tls(), DOMAIN, &trust)
            .await
            .unwrap();
        connection.open_stream(DOMAIN).await.unwrap();
        ends_with(&mut connection, "remote-connection-failed").await;
    };
    // The connection is closed as soon as it stands; then there is nobody to connect to.
    line.tap.refuse(true);
    attempt().await;
    line.tap.refuse(false);
    let Line { proxy, tap } = line;
    let address = proxy.direct_tls();
    drop(tap);
    let mut connection = Connection::open_tls(address, DOMAIN, &trust).await.unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    ends_with(&mut connection, "remote-connection-failed").await;
}

async fn ending_of_the_server(stage: Stage) {
    let mut server = Server::start(stage.kind).await.unwrap();
    let line = Line::start(server.plain()).await;
    let alice = server.account("alice").await.unwrap();
    let mut clients = sessions(&line, &alice, 3).await;
    server.stop().await.unwrap();
    for client in &mut clients {
        let end = end_of(client).await;
        assert!(end.before.is_empty(), "{end:?}");
        let condition = end.condition.unwrap();
        let in_its_words = line.tap.count_down(&format!("<{condition} ")) > 0;
        assert!(
            in_its_words || condition == "remote-connection-failed",
            "{condition}"
        );
    }
    server.restart().await.unwrap();
    let mut clients = sessions(&line, &alice, 1).await;
    server.kill();
    ends_with(&mut clients[0], "remote-connection-failed").await;
}

async fn sessions(line: &Line, account: &Account, count: usize) -> Vec<Client> {
    let mut logins = JoinSet::new();
    for number in 0..count {
        let login = line.proxy.login(account).resource(&format!("r{number}"));
        logins.spawn(async move {
            let mut client = login.connect().await.unwrap();
            client.drain_until_pong().await.unwrap();
            client
        });
    }
    logins.join_all().await
}

async fn ending_by_a_signal_with_fifty_sessions(stage: Stage) {
    let mut line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let mut clients = sessions(&line, &alice, 50).await;
    let asked = Instant::now();
    line.proxy.terminate().unwrap();
    for client in &mut clients {
        ends_with(client, "system-shutdown").await;
    }
    let status = line
        .proxy
        .wait(Duration::from_secs(10))
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}: {}", line.proxy.output());
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        line.tap
            .wait_until(|links| links.iter().all(|link| link.closed))
            .await
    );
    for link in line.tap.recordings() {
        assert!(link.up.ends_with(b"</stream:stream>"), "the server is told");
    }
}

async fn ending_by_a_signal_during_logins(stage: Stage) {
    let mut line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let silent = Connection::open(line.proxy.direct_tls()).await.unwrap();
    let mut unencrypted = Connection::open(line.proxy.starttls()).await.unwrap();
    unencrypted.open_stream(DOMAIN).await.unwrap();
    unencrypted.features().await.unwrap();
    let (secured, _) = line.secured().await;
    let (authenticated, _) = line.proxy.login(&alice).authenticate().await.unwrap();
    line.proxy.terminate().unwrap();
    for mut connection in [unencrypted, secured, authenticated] {
        ends_with(&mut connection, "system-shutdown").await;
    }
    let status = line
        .proxy
        .wait(Duration::from_secs(10))
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
    drop(silent);
}
