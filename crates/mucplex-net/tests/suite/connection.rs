use std::time::Duration;

use bytes::Bytes;
use mucplex_net::{Connection, Transport};
use mucplex_xml::{Event, Limits, Outgoing};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const HEADER: &str =
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialed = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    (
        Connection::new(Transport::Plain(accepted), Limits::default()),
        dialed,
    )
}

#[tokio::test]
async fn what_is_read_goes_to_the_framer() {
    let (mut connection, mut peer) = pair().await;
    peer.write_all(format!("{HEADER}<presence/>").as_bytes())
        .await
        .unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        assert_ne!(connection.read().await.unwrap(), 0);
        while let Some(event) = connection.framer_mut().next_event().unwrap() {
            events.push(event);
        }
    }
    assert!(
        matches!(&events[..], [Event::Header(_), Event::Frame(frame)] if frame.name() == "presence")
    );
    drop(peer);
    assert_eq!(connection.read().await.unwrap(), 0);
}

#[tokio::test]
async fn a_large_stanza_passes_and_its_buffer_is_given_back() {
    let (mut connection, mut peer) = pair().await;
    let body = "x".repeat(200_000);
    let message = format!("{HEADER}<message><body>{body}</body></message>");
    let writing = tokio::spawn(async move {
        peer.write_all(message.as_bytes()).await.unwrap();
        peer
    });
    let frame = loop {
        connection.read().await.unwrap();
        match connection.framer_mut().next_event().unwrap() {
            Some(Event::Header(_)) | None => {}
            Some(Event::Frame(frame)) => break frame,
            Some(other) => panic!("{other:?}"),
        }
    };
    assert!(frame.bytes().len() > 200_000);
    let _peer = writing.await.unwrap();
    assert!(connection.framer_mut().next_event().unwrap().is_none());
    // Nothing more comes: the read that finds that out lets go of the memory.
    tokio::time::timeout(Duration::from_millis(20), connection.read())
        .await
        .unwrap_err();
    assert!(connection.framer_mut().buffer().capacity() <= 8 * 1024);
}

#[tokio::test]
async fn everything_queued_arrives_in_order() {
    let (mut connection, mut peer) = pair().await;
    let mut expected = String::new();
    for number in 0..5_000 {
        let (head, tail) = (
            format!("<message to='{number}'"),
            format!("><body>{number}</body></message>"),
        );
        expected += &head;
        expected += &tail;
        connection.outbox_mut().push(Outgoing {
            head: Bytes::from(head),
            tail: Bytes::from(tail),
        });
    }
    let length = expected.len();
    let reading = tokio::spawn(async move {
        let mut read = vec![0; length];
        peer.read_exact(&mut read).await.unwrap();
        read
    });
    connection.flush().await.unwrap();
    assert!(connection.is_flushed());
    assert_eq!(reading.await.unwrap(), expected.as_bytes());
}

#[tokio::test]
async fn closing_delivers_what_was_queued_and_ends() {
    let (mut connection, mut peer) = pair().await;
    // Unread bytes would turn the close into a reset.
    peer.write_all(b"<presence/>").await.unwrap();
    connection
        .outbox_mut()
        .push(Bytes::from_static(b"</stream:stream>"));
    let closing = tokio::spawn(connection.close(Duration::from_secs(5)));
    let mut read = String::new();
    peer.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "</stream:stream>");
    drop(peer);
    assert!(closing.await.unwrap().is_empty());
}

#[tokio::test]
async fn closing_does_not_wait_for_a_peer_that_does_not_read() {
    let (mut connection, _peer) = pair().await;
    connection
        .outbox_mut()
        .push(Bytes::from(vec![b'x'; 32 << 20]));
    let outbox = connection.close(Duration::from_millis(100)).await;
    assert!(outbox.queued() > 0);
}
