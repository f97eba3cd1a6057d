//! What the session task owes the hub, seen on the wire.

use mucplex_testkit::{client::Client, scripted::Peer};

use crate::stage::{Stage, expect_end, expect_stream_error};

const ROOM: &str = "room@rooms.example.test";

/// Joins the room, which the server lets it.
async fn join(client: &mut Client, peer: &mut Peer) {
    client
        .send_join(ROOM, "nick", &mucplex_testkit::client::Join::default())
        .await
        .unwrap();
    let join = peer.recv().await.unwrap();
    assert_eq!(join.to(), Some(format!("{ROOM}/nick").as_str()));
    enter(peer, join.id().unwrap_or_default()).await;
    client
        .wait_for("the subject", mucplex_testkit::xml::Stanza::is_subject)
        .await
        .unwrap();
}

async fn enter(peer: &mut Peer, id: &str) {
    let to = peer.jid();
    let presence = format!(
        "<presence from='{ROOM}/nick' to='{to}' id='{id}'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <item affiliation='none' role='participant'/><status code='110'/></x></presence>\
         <message from='{ROOM}' to='{to}' type='groupchat'><subject/></message>"
    );
    peer.send_raw(presence).await.unwrap();
}

async fn left(peer: &mut Peer) {
    let to = peer.jid();
    let presence = format!(
        "<presence from='{ROOM}/nick' to='{to}' type='unavailable'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <item affiliation='none' role='none'/><status code='110'/></x></presence>"
    );
    peer.send_raw(presence).await.unwrap();
}

/// The undirected unavailable, and what comes after it, wait until the room is left.
#[tokio::test]
async fn unavailable_waits_for_the_rooms() {
    let stage = Stage::with("[rooms]\nstay = '0s'").await;
    let (mut client, mut peer) = stage.session("alice").await;
    join(&mut client, &mut peer).await;
    client
        .send_raw("<presence type='unavailable'/><message to='b@example.test' id='after'/>")
        .await
        .unwrap();
    let leave = peer.recv().await.unwrap();
    assert_eq!(
        (leave.to(), leave.kind()),
        (Some(format!("{ROOM}/nick").as_str()), Some("unavailable"))
    );
    left(&mut peer).await;
    let unavailable = peer.recv().await.unwrap();
    assert_eq!(unavailable.raw_str(), "<presence type='unavailable'/>");
    assert_eq!(peer.recv().await.unwrap().id(), Some("after"));
}

/// While the uplink of a lost client waits for its rooms to be on another one, nobody waits for an
/// answer in vain.
#[tokio::test]
async fn what_a_lost_client_was_sent_comes_back() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    join(&mut client, &mut peer).await;
    let (mut other, mut other_peer) = stage.session("alice").await;
    other.join(ROOM, "nick").await.unwrap();

    client.drop_connection().await.unwrap();
    let rejoin = other_peer.recv().await.unwrap();
    let to = peer.jid();
    peer.send_raw(format!(
        "<iq type='get' id='1' from='bob@example.test/x' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>\
         <presence from='bob@example.test/x' to='{to}'/>\
         <message id='2' from='bob@example.test/x' to='{to}'><body>hi</body></message>"
    ))
    .await
    .unwrap();
    for id in ["1", "2"] {
        let error = peer.recv().await.unwrap();
        assert_eq!(
            (error.id(), error.to()),
            (Some(id), Some("bob@example.test/x"))
        );
        assert_eq!(error.error_condition(), Some("service-unavailable"));
    }
    enter(&mut other_peer, rejoin.id().unwrap_or_default()).await;
    peer.wait_for("the leave", |stanza| stanza.kind() == Some("unavailable"))
        .await
        .unwrap();
    left(&mut peer).await;
    expect_end(&mut peer).await;
}

/// Behaviour 66: a session that does not read is ended alone, and the uplink that carries the room
/// is read on.
#[tokio::test]
async fn a_session_over_its_bound_is_ended_alone() {
    let stage = Stage::with("[session]\noutbox_bytes = '1MiB'").await;
    let (mut slow, mut slow_peer) = stage.session("alice").await;
    join(&mut slow, &mut slow_peer).await;
    let (mut quick, mut quick_peer) = stage.session("alice").await;
    quick.join(ROOM, "nick").await.unwrap();

    // The quick one has read each part before the next is sent.
    let to = slow_peer.jid();
    let body = "x".repeat(10_000);
    let part: String = (0..10)
        .map(|_| format!("<message from='{ROOM}/other' to='{to}' type='groupchat'><body>{body}</body></message>"))
        .collect();
    for _ in 0..200 {
        slow_peer.send_raw(&part).await.unwrap();
        for _ in 0..10 {
            quick
                .wait_for("a message", |stanza| stanza.body().is_some())
                .await
                .unwrap();
        }
    }
    // The room goes on the other session's uplink, and the slow one's may end.
    let rejoin = quick_peer.recv().await.unwrap();
    assert_eq!(rejoin.to(), Some(format!("{ROOM}/nick").as_str()));
    enter(&mut quick_peer, rejoin.id().unwrap_or_default()).await;
    slow_peer
        .wait_for("the leave", |stanza| stanza.kind() == Some("unavailable"))
        .await
        .unwrap();
    left(&mut slow_peer).await;
    expect_end(&mut slow_peer).await;

    quick.say(ROOM, "still here").await.unwrap();
    assert_eq!(
        quick_peer.recv().await.unwrap().body().as_deref(),
        Some("still here")
    );
    assert!(
        stage.proxy.output().contains("a client too slow is ended"),
        "{}",
        stage.proxy.output()
    );
    // What it reads late is a stream that was cut, or ended with the reason; either way it ends.
    while let Ok(stanza) = slow.recv().await {
        if stanza.name() == "error" {
            assert!(stanza.raw_str().contains("resource-constraint"));
            break;
        }
    }
}

/// The hub ends nothing of a session that ends the stream itself while its room is handed over.
#[tokio::test]
async fn a_lost_uplink_with_rooms_ends_its_client() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    join(&mut client, &mut peer).await;
    peer.drop_connection().await.unwrap();
    loop {
        let stanza = client.recv().await.unwrap();
        if stanza.name() == "error" {
            assert!(stanza.raw_str().contains("remote-connection-failed"));
            break;
        }
    }
    // The account's owner has ended with its last session; the next one starts afresh.
    let (mut client, mut peer) = stage.session("alice").await;
    join(&mut client, &mut peer).await;
    client.send_raw("<message").await.unwrap();
    client.send_raw("<").await.unwrap();
    expect_stream_error(&mut client, "not-well-formed").await;
}

/// A client that sends faster than its server reads is held back by way of the hub too, and every
/// stanza arrives, in order.
#[tokio::test]
async fn room_traffic_is_held_back_at_its_source() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    join(&mut client, &mut peer).await;
    let before = stage.proxy.resident_bytes().unwrap();
    let body = "x".repeat(10_000);
    let sending = tokio::spawn(async move {
        for _ in 0..2_000 {
            client.say(ROOM, &body).await.unwrap();
        }
        client
    });
    let mut last = None;
    for number in 1..=2_000 {
        if number == 1 {
            // Time for the client to fill what there is to fill.
            drop(stage.session("bob").await);
        }
        let message = peer.recv().await.unwrap();
        assert_eq!(message.kind(), Some("groupchat"));
        // The kit numbers what it sends.
        let sent = message
            .id()
            .and_then(|id| id.rsplit('-').next()?.parse::<usize>().ok());
        assert!(sent.is_some() && sent > last, "{sent:?} after {last:?}");
        last = sent;
        let grown = stage.proxy.resident_bytes().unwrap().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more");
    }
    drop(sending.await.unwrap());
}
