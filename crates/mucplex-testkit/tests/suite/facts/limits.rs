//! What servers do with a client that sends more than they let pass.

use std::time::{Duration, Instant};

use mucplex_testkit::client::{Connection, Device};
use mucplex_testkit::server::{Kind, Options};

use crate::stage::Stage;

crate::on_each_server!(bursts, unread);

async fn stage(kind: Kind, name: &'static str) -> Stage {
    let options = Options {
        rate_limits: true,
        ..Options::default()
    };
    Stage::with(kind, name, options).await
}

/// A burst of groupchat messages, and how long everything behind it takes.
async fn bursts(kind: Kind) {
    let mut stage = stage(kind, "limits-bursts").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let mut phone = Device::connect(alice.direct().resource("phone"))
        .await
        .unwrap();
    phone.join(&room, "alice").await.unwrap();
    phone.set_timeout(Duration::from_secs(120));
    desk.set_timeout(Duration::from_secs(120));
    phone.request_ack().await.unwrap();
    desk.settle(&room).await.unwrap();
    let text = "x".repeat(900);
    let mut number = 0;
    let mut slowest = Duration::ZERO;
    for kilobytes in [8, 64] {
        let start = Instant::now();
        for _ in 0..kilobytes {
            phone.say(&room, &format!("{number} {text}")).await.unwrap();
            number += 1;
        }
        let written = start.elapsed();
        phone.request_ack().await.unwrap();
        let acked = start.elapsed();
        slowest = slowest.max(acked);
        assert_eq!(phone.unacked().len(), 0);
        desk.hear(&format!("{} {text}", number - 1)).await.unwrap();
        let heard = start.elapsed();
        phone.settle(&room).await.unwrap();
        stage.note(&format!(
            "{kilobytes} KiB: written after {written:?}, <a/> after {acked:?}, heard by bob after \
             {heard:?}, a ping behind it after {:?}",
            start.elapsed()
        ));
    }
    assert!(
        phone.bodies_from(&room).len() >= number,
        "and nobody was disconnected"
    );
}

/// How much of what nobody reads finds a place between the two.
async fn unread(kind: Kind) {
    let mut stage = stage(kind, "limits-unread").await;
    let alice = stage.account("alice").await;
    let client = stage.session(&alice, "phone").await;
    let mut connection: Connection = client.into_connection();
    connection.set_timeout(Duration::from_millis(500));
    let message = format!(
        "<message to='{}'><body>{}</body></message>",
        alice.jid(),
        "x".repeat(16_000)
    );
    let mut taken = 0;
    while taken < 64 << 20 {
        if connection.send_raw(&message).await.is_err() {
            break;
        }
        taken += message.len();
    }
    stage.note(&format!(
        "{taken} bytes were taken before the sender had to wait"
    ));
    assert!(taken < 64 << 20, "the sender is held up");
    connection.set_timeout(Duration::from_secs(2));
    let end = connection.read_to_end().await;
    assert!(end.is_err(), "it is not disconnected");
}
