//! The tap as a bad network, between two plain sockets.

use std::time::{Duration, Instant};

use mucplex_testkit::tap::{Arrival, Pace, Tap};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A tap with a listener of the test behind it.
async fn tap() -> (Tap, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tap = Tap::start(listener.local_addr().unwrap()).await.unwrap();
    (tap, listener)
}

/// Both ends of one connection through it.
async fn connect(tap: &Tap, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let (near, far) = tokio::join!(TcpStream::connect(tap.address()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

async fn send(from: &mut TcpStream, data: &[u8]) {
    from.write_all(data).await.unwrap();
}

async fn receive(to: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut data = vec![0; count];
    let read = tokio::time::timeout(Duration::from_secs(10), to.read_exact(&mut data));
    read.await.expect("in time").unwrap();
    data
}

/// Whether nothing can be read now, though the connection is open.
async fn silent(stream: &mut TcpStream) -> bool {
    let mut buffer = [0];
    let read = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut buffer));
    read.await.is_err()
}

#[tokio::test]
async fn a_delay_delays_and_keeps_the_order() {
    let (tap, listener) = tap().await;
    let (mut near, mut far) = connect(&tap, &listener).await;
    let delay = Duration::from_millis(300);
    tap.pace_all(Pace {
        delay,
        bytes_per_second: None,
    });
    let start = Instant::now();
    send(&mut near, b"one").await;
    assert!(tap.wait_until(|all| all[0].up == b"one").await);
    // Faster from here on, and yet not past what is on its way.
    tap.pace(0, Pace::default());
    send(&mut near, b"two").await;
    assert_eq!(receive(&mut far, 6).await, b"onetwo");
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
    // Connections to come are as all were told.
    let (mut near, mut far) = connect(&tap, &listener).await;
    let start = Instant::now();
    send(&mut far, b"down").await;
    receive(&mut near, 4).await;
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_throttle_lets_so_many_bytes_pass_in_a_second() {
    let (tap, listener) = tap().await;
    let (mut near, mut far) = connect(&tap, &listener).await;
    tap.pace(
        0,
        Pace {
            delay: Duration::ZERO,
            bytes_per_second: Some(100_000),
        },
    );
    let start = Instant::now();
    let data = vec![7; 50_000];
    let (_, received) = tokio::join!(send(&mut near, &data), receive(&mut far, data.len()));
    assert_eq!(received, data);
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_slow_receiver_is_felt_by_the_sender() {
    let (tap, listener) = tap().await;
    let (mut near, _far) = connect(&tap, &listener).await;
    let data = vec![7; 64 << 20];
    let send = tokio::time::timeout(Duration::from_millis(500), near.write_all(&data));
    assert!(send.await.is_err(), "64 MiB fit in nobody's buffers");
}

#[tokio::test]
async fn everything_that_was_on_its_way_falls_into_a_black_hole() {
    let (tap, listener) = tap().await;
    let (mut near, mut far) = connect(&tap, &listener).await;
    tap.pace_all(Pace {
        delay: Duration::from_millis(100),
        bytes_per_second: None,
    });
    send(&mut near, b"lost").await;
    assert!(tap.wait_until(|all| all[0].up == b"lost").await);
    tap.black_hole_all();
    send(&mut far, b"lost too").await;
    assert!(tap.wait_until(|all| all[0].down == b"lost too").await);
    assert!(silent(&mut near).await && silent(&mut far).await);
    // The end of one side is not seen by the other.
    drop(near);
    assert!(silent(&mut far).await);
    assert_eq!(tap.open_connections(), [0]);
    // What was lost does not come back, and neither does the connection.
    tap.forward_all();
    assert!(silent(&mut far).await);
    tap.reset_all();
    assert!(far.read(&mut [0]).await.is_err(), "a reset is an error");
}

#[tokio::test]
async fn held_bytes_arrive_later() {
    let (tap, listener) = tap().await;
    let (mut near, mut far) = connect(&tap, &listener).await;
    tap.hold_all();
    send(&mut near, b"later").await;
    assert!(silent(&mut far).await);
    tap.forward_all();
    assert_eq!(receive(&mut far, 5).await, b"later");
}

#[tokio::test]
async fn arrivals_are_refused_or_met_with_silence() {
    let (tap, listener) = tap().await;
    tap.arrivals(Arrival::Refuse);
    let mut refused = TcpStream::connect(tap.address()).await.unwrap();
    assert!(refused.read(&mut [0]).await.is_err(), "a reset is an error");
    assert_eq!(tap.connections(), 0);

    tap.arrivals(Arrival::BlackHole);
    let mut ignored = TcpStream::connect(tap.address()).await.unwrap();
    send(&mut ignored, b"hello?").await;
    assert!(silent(&mut ignored).await);
    assert_eq!(tap.open_connections(), [0]);
    tap.cut(0);
    assert_eq!(ignored.read(&mut [0]).await.unwrap(), 0);

    tap.arrivals(Arrival::Serve);
    let (mut near, mut far) = connect(&tap, &listener).await;
    tap.keep_bytes(false);
    send(&mut near, b"not kept").await;
    receive(&mut far, 8).await;
    assert_eq!(tap.recordings()[1].up, b"");
    // What was cut stays so.
    tap.cut(1);
    tap.forward(1);
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
}
