//! SIGTERM.

use std::time::{Duration, Instant};

use mucplex_testkit::client::Connection;

use crate::stage::{Stage, expect_end, expect_stream_error};

#[tokio::test]
async fn every_stream_ends_in_order() {
    let mut stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    stage.proxy.terminate().unwrap();
    expect_stream_error(&mut client, "system-shutdown").await;
    expect_end(&mut peer).await;
    peer.send_raw("</stream:stream>").await.unwrap();
    drop((client, peer));
    let status = stage.proxy.wait(Duration::from_secs(5)).await.unwrap();
    assert!(status.unwrap().success(), "{}", stage.proxy.output());
}

#[tokio::test]
async fn no_peer_holds_it_up() {
    let mut stage = Stage::new().await;
    // None of these answers or goes away: a session, a login at the server, a connection that says
    // nothing.
    let (_client, _peer) = stage.session("alice").await;
    let silent = stage.login("bob");
    let login = tokio::spawn(async move { silent.connect().await.map(drop) });
    let _dialed = stage.server.accept_raw().await.unwrap();
    let _idle = Connection::open(stage.proxy.starttls()).await.unwrap();
    let _handshake = Connection::open(stage.proxy.direct_tls()).await.unwrap();
    let begun = Instant::now();
    stage.proxy.terminate().unwrap();
    let status = stage.proxy.wait(Duration::from_secs(10)).await.unwrap();
    assert!(status.unwrap().success(), "{}", stage.proxy.output());
    assert!(begun.elapsed() < Duration::from_secs(10));
    let refused = login.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("system-shutdown"), "{refused}");
}
