//! Sessions without rooms.

use std::time::Duration;

use mucplex_testkit::{client::Client, scripted::Peer};

use crate::stage::{Stage, expect_end, expect_stream_error};

/// Behaviour 70.
#[tokio::test]
async fn what_is_no_room_traffic_passes_byte_for_byte() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    for stanza in [
        "<message  xml:lang=\"de\" to='b@example.test'  x:a='1' xmlns:x='u'><body>&lt;&#x41;\n</body ></message>",
        "<iq id='1' type=\"get\"><q:q xmlns:q='q' a=\"'\"/></iq>",
        "<message><body><![CDATA[<&]]></body></message>",
        "<presence/>",
    ] {
        client.send_raw(stanza).await.unwrap();
        assert_eq!(peer.recv().await.unwrap().raw_str(), stanza);
        peer.send_raw(stanza).await.unwrap();
        assert_eq!(client.recv().await.unwrap().raw_str(), stanza);
    }
}

#[tokio::test]
async fn keepalives_go_the_whole_way() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    client.send_raw(" \n").await.unwrap();
    peer.read_raw_until("a keepalive", |bytes| bytes.ends_with(b" \n"))
        .await
        .unwrap();
    peer.send_raw(" ").await.unwrap();
    client
        .read_raw_until("a keepalive", |bytes| bytes.ends_with(b" "))
        .await
        .unwrap();
}

#[tokio::test]
async fn many_stanzas_in_one_write_and_one_large() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    let burst: String = (0..60)
        .map(|number| format!("<message id='{number}'/>"))
        .collect();
    let large = format!(
        "<message id='60'><body>{}</body></message>",
        "x".repeat(200_000)
    );
    client.send_raw(format!("{burst}{large}")).await.unwrap();
    for number in 0..=60 {
        let message = peer.recv().await.unwrap();
        assert_eq!(message.id(), Some(number.to_string().as_str()));
    }
    peer.send_raw(format!("{burst}{large}")).await.unwrap();
    for number in 0..=60 {
        let message = client.recv().await.unwrap();
        assert_eq!(message.id(), Some(number.to_string().as_str()));
    }
}

#[tokio::test]
async fn an_end_goes_to_the_server_and_back() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    client
        .send_raw("<presence/></stream:stream>")
        .await
        .unwrap();
    assert_eq!(peer.recv().await.unwrap().name(), "presence");
    expect_end(&mut peer).await;
    // What the server still has to say arrives before its own end.
    peer.send_raw("<message id='last'/></stream:stream>")
        .await
        .unwrap();
    assert_eq!(client.recv().await.unwrap().id(), Some("last"));
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_an_end_holds_nobody_up() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    client.send_raw("</stream:stream>").await.unwrap();
    expect_end(&mut peer).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_lost_client_ends_its_uplink() {
    let stage = Stage::new().await;
    let (client, mut peer) = stage.session("alice").await;
    client.drop_connection().await.unwrap();
    expect_end(&mut peer).await;
    let (client, mut peer) = stage.session("alice").await;
    client.reset_connection().unwrap();
    expect_end(&mut peer).await;
}

#[tokio::test]
async fn a_lost_uplink_ends_its_client() {
    let stage = Stage::new().await;
    let (mut client, peer) = stage.session("alice").await;
    peer.drop_connection().await.unwrap();
    expect_stream_error(&mut client, "remote-connection-failed").await;
}

#[tokio::test]
async fn the_server_s_own_error_passes() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    let error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                 <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>another &amp; better one</text></stream:error>";
    peer.send_raw(format!("<presence/>{error}</stream:stream>"))
        .await
        .unwrap();
    assert_eq!(client.recv().await.unwrap().name(), "presence");
    assert_eq!(client.recv().await.unwrap().raw_str(), error);
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_client_that_sends_no_xml_is_told_so() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    client
        .send_raw("<presence/><message></presence>")
        .await
        .unwrap();
    expect_stream_error(&mut client, "not-well-formed").await;
    assert_eq!(peer.recv().await.unwrap().name(), "presence");
    expect_end(&mut peer).await;
}

/// Behaviour 73.
#[tokio::test]
async fn nobody_sends_as_someone_else() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    client
        .send_raw("<message from='bob@example.test/x'/>")
        .await
        .unwrap();
    expect_stream_error(&mut client, "invalid-from").await;
    expect_end(&mut peer).await;
}

#[tokio::test]
async fn a_server_that_sends_no_xml_is_left() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    peer.send_raw("<message></presence>").await.unwrap();
    expect_stream_error(&mut client, "remote-connection-failed").await;
    expect_stream_error(&mut peer, "not-well-formed").await;
}

/// A client that reads nothing makes its server wait, and the proxy holds little of what is meant
/// for it.
#[tokio::test]
async fn a_slow_client_is_no_burden() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = stage.session("alice").await;
    let before = stage.proxy.resident_bytes().unwrap();
    let body = "x".repeat(10_000);
    let sending = tokio::spawn(async move {
        for number in 0..4_000 {
            let message = format!("<message id='{number}'><body>{body}</body></message>");
            peer.send_raw(message).await.unwrap();
        }
        peer
    });
    // The proxy has stopped reading when another session finds it with nothing left to do.
    while !sending.is_finished() {
        let (mut other, mut other_peer) = stage.session("bob").await;
        other.send_raw("<presence/>").await.unwrap();
        other_peer.recv().await.unwrap();
        let grown = stage.proxy.resident_bytes().unwrap().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes more");
        for _ in 0..400 {
            if sending.is_finished() {
                break;
            }
            client.recv().await.unwrap();
        }
    }
    drop(sending.await.unwrap());
}

/// The same the other way.
#[tokio::test]
async fn a_slow_server_is_no_burden() {
    let stage = Stage::new().await;
    let (client, mut peer) = stage.session("alice").await;
    let before = stage.proxy.resident_bytes().unwrap();
    let mut client = client.into_connection();
    client.set_timeout(Duration::from_secs(30));
    let body = "x".repeat(10_000);
    let sending = tokio::spawn(async move {
        for number in 0..3_000 {
            let message = format!("<message id='{number}'><body>{body}</body></message>");
            client.send_raw(message).await.unwrap();
        }
        client
    });
    for number in 0..3_000 {
        if number == 0 {
            drop(stage.session("bob").await);
        }
        assert_eq!(
            peer.recv().await.unwrap().id(),
            Some(number.to_string().as_str())
        );
        let grown = stage.proxy.resident_bytes().unwrap().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more");
    }
    drop(sending.await.unwrap());
}

const INACTIVE: &str = "<inactive xmlns='urn:xmpp:csi:0'/>";
const ACTIVE: &str = "<active xmlns='urn:xmpp:csi:0'/>";

/// A session of which the proxy knows that nobody looks at it.
async fn inactive_session(stage: &Stage) -> (Client, Peer) {
    let (mut client, mut peer) = stage.session("alice").await;
    client
        .send_raw(format!("{INACTIVE}<message id='first'/>"))
        .await
        .unwrap();
    // The server has not offered it, and is not told.
    assert_eq!(peer.recv().await.unwrap().id(), Some("first"));
    (client, peer)
}

fn presence(who: &str, id: usize) -> String {
    format!("<presence from='{who}@example.test/pc' id='{id}'/>")
}

/// Behaviour 65, with a server that knows nothing of it.
#[tokio::test]
async fn an_inactive_client_gets_the_last_presences_before_what_needs_them() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = inactive_session(&stage).await;
    peer.send_raw(format!(
        "{}{}{} ",
        presence("bob", 1),
        presence("carol", 2),
        presence("bob", 3)
    ))
    .await
    .unwrap();
    // A keepalive passes by.
    client
        .read_raw_until("a keepalive", |bytes| bytes.ends_with(b" "))
        .await
        .unwrap();
    peer.send_raw("<iq type='get' id='4'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await
        .unwrap();
    for id in ["2", "3", "4"] {
        assert_eq!(client.recv().await.unwrap().id(), Some(id));
    }
    peer.send_raw(format!("{}{} ", presence("bob", 5), presence("bob", 6)))
        .await
        .unwrap();
    client
        .read_raw_until("a keepalive", |bytes| bytes.ends_with(b" "))
        .await
        .unwrap();
    client.send_raw(ACTIVE).await.unwrap();
    assert_eq!(client.recv().await.unwrap().id(), Some("6"));
    peer.send_raw(format!("{}{}", presence("bob", 7), presence("bob", 8)))
        .await
        .unwrap();
    for id in ["7", "8"] {
        assert_eq!(client.recv().await.unwrap().id(), Some(id));
    }
}

/// Whoever ends the stream, nothing stays behind.
#[tokio::test]
async fn what_is_held_goes_out_before_the_end() {
    let stage = Stage::new().await;
    let (mut client, mut peer) = inactive_session(&stage).await;
    peer.send_raw(format!("{}</stream:stream>", presence("bob", 1)))
        .await
        .unwrap();
    assert_eq!(client.recv().await.unwrap().id(), Some("1"));
    expect_end(&mut client).await;

    let (mut client, mut peer) = inactive_session(&stage).await;
    client.send_raw("</stream:stream>").await.unwrap();
    expect_end(&mut peer).await;
    peer.send_raw(format!("{}</stream:stream>", presence("bob", 2)))
        .await
        .unwrap();
    assert_eq!(client.recv().await.unwrap().id(), Some("2"));
    expect_end(&mut client).await;
}

/// What is held is bounded far below what would end the session.
#[tokio::test]
async fn an_inactive_client_with_many_contacts_is_no_slow_one() {
    let stage = Stage::with("[session]\noutbox_bytes = '64KiB'\nstanza_bytes = '16KiB'\n").await;
    let (mut client, mut peer) = inactive_session(&stage).await;
    let last = 2_000;
    let all: String = (0..=last)
        .map(|number| presence(&format!("contact{number}"), number))
        .collect();
    peer.send_raw(all).await.unwrap();
    peer.send_raw("<message id='done'/>").await.unwrap();
    for number in 0..=last {
        let id = number.to_string();
        assert_eq!(client.recv().await.unwrap().id(), Some(&*id));
    }
    assert_eq!(client.recv().await.unwrap().id(), Some("done"));
}
