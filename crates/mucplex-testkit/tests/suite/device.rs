//! The client with stream management (XEP-0198), and what it says about servers' counts.

use std::time::Duration;

use mucplex_testkit::client::{Answers, Client, Device, Loss, Resume};
use mucplex_testkit::server::{Account, Kind, Server};
use mucplex_testkit::tap::{Pace, Tap};
use mucplex_testkit::xml::Stanza;

crate::on_each_server!(
    counts_both_ways,
    resumes_after_each_loss,
    half_open_behind_a_tap,
    failed_and_bound_again,
    away_while_the_server_is_down,
    cut_again_and_again,
);

/// A sender, and a receiver whose stream can be resumed.
async fn pair(server: &Server) -> (Client, Account) {
    let (alice, bob) = (server.account("alice").await, server.account("bob").await);
    let desk = bob.unwrap().direct().resource("desk").connect().await;
    (desk.unwrap(), alice.unwrap())
}

/// Sends chat messages `first..last` and waits until the server has handled them.
async fn send(from: &mut Client, to: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let message = format!("<message type='chat' to='{to}'><body>{number}</body></message>");
        from.send_raw(message).await.unwrap();
    }
    from.drain_until_pong().await.unwrap();
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

async fn counts_both_ways(kind: Kind) {
    let server = Server::shared(kind).await;
    let (mut desk, alice) = pair(server).await;
    let mut phone = Device::connect(alice.direct().resource("phone"))
        .await
        .unwrap();
    assert!(phone.stream_id().is_some());
    // Two in one write, and one in two: what counts are stanzas.
    phone.send_raw("<presence/><message to='").await.unwrap();
    let to = desk.jid().to_owned();
    phone
        .send_raw(format!("{to}'><body>0</body></message>"))
        .await
        .unwrap();
    assert_eq!(phone.unacked().len(), 2);
    phone.request_ack().await.unwrap();
    assert_eq!((phone.acked(), phone.unacked().len()), (2, 0));

    phone.answer(Answers::Never);
    let told = phone.told();
    let jid = phone.jid().to_owned();
    send(&mut desk, &jid, 1..4).await;
    let seen = phone.drain_until_pong().await.unwrap();
    assert_eq!(seen.iter().filter(|it| it.body().is_some()).count(), 3);
    assert_eq!(phone.bodies_from(desk.bare_jid()), numbers(1..4));
    assert_eq!(phone.told(), told, "nothing was acknowledged");
    // Acknowledged by itself, and then on demand.
    phone.ack().await.unwrap();
    assert_eq!(phone.told(), phone.handled());
    assert!(phone.take_received().len() >= 3);
    assert!(phone.received().is_empty() && phone.log().is_empty());
    // A number that was never sent ends the stream, so the ones before were right.
    let wrong = phone.handled() + 1000;
    phone.request_ack().await.unwrap();
    phone.ack_with(wrong).await.unwrap();
    phone
        .wait_for("the end", |it| it.name() == "error")
        .await
        .unwrap();
}

async fn resumes_after_each_loss(kind: Kind) {
    let server = Server::shared(kind).await;
    let (mut desk, alice) = pair(server).await;
    let mut phone = Device::connect(alice.direct().resource("phone"))
        .await
        .unwrap();
    phone.available().await.unwrap();
    phone.drain_until_pong().await.unwrap();
    let jid = phone.jid().to_owned();
    let losses = [Loss::Fin, Loss::Reset, Loss::Silence];
    for (round, loss) in (0..).zip(losses) {
        let (first, middle, last) = (round * 4, round * 4 + 2, round * 4 + 4);
        phone.answer(Answers::Never);
        send(&mut desk, &jid, first..middle).await;
        // The first of the two is read and never acknowledged; the resumption tells.
        phone
            .wait_for("one", |it| it.body() == Some(first.to_string()))
            .await
            .unwrap();
        phone.lose(loss);
        send(&mut desk, &jid, middle..last).await;
        phone.answer(Answers::Always);
        phone.resume().await.unwrap().resumed();
        phone
            .wait_for("the last", |it| it.body() == Some((last - 1).to_string()))
            .await
            .unwrap();
        assert_eq!(
            phone.bodies_from(desk.bare_jid()),
            numbers(0..last),
            "{loss:?}"
        );
    }
    assert_eq!(phone.connections(), 4);
    let last = phone
        .received()
        .iter()
        .rfind(|it| it.stanza.body().is_some());
    assert_eq!(last.unwrap().connection, 3);
}

/// What the client has sent into a black hole is sent again; what the server has is not.
async fn half_open_behind_a_tap(kind: Kind) {
    let server = Server::shared(kind).await;
    let (mut desk, alice) = pair(server).await;
    let tap = Tap::start(server.plain()).await.unwrap();
    let login = alice.login(tap.address()).resource("phone");
    let mut phone = Device::connect(login).await.unwrap();
    let to = desk.jid().to_owned();
    for (number, lost) in [(0, false), (1, true), (2, true)] {
        if lost {
            tap.black_hole(0);
        }
        let message = format!("<message type='chat' to='{to}'><body>{number}</body></message>");
        phone.send_raw(message).await.unwrap();
        if !lost {
            desk.wait_for("the first", |it| it.body().is_some())
                .await
                .unwrap();
        }
    }
    assert_eq!(phone.unacked().len(), 3);
    phone.lose(Loss::Fin);
    assert!(!tap.recordings()[0].closed, "the server has seen no end");
    phone.resume().await.unwrap().resumed();
    phone.request_ack().await.unwrap();
    assert_eq!(phone.unacked().len(), 0);
    let seen = desk.drain_until_pong().await.unwrap();
    let bodies: Vec<_> = seen.iter().filter_map(Stanza::body).collect();
    assert_eq!(bodies, ["1", "2"]);
}

async fn failed_and_bound_again(kind: Kind) {
    let server = Server::shared(kind).await;
    let (mut desk, alice) = pair(server).await;
    let mut phone = Device::connect(alice.direct().resource("phone"))
        .await
        .unwrap();
    let jid = phone.jid().to_owned();
    let id = phone.stream_id().unwrap().to_owned();
    phone.lose(Loss::Reset);
    let nobody = Resume {
        previd: Some("nobody's".to_owned()),
        h: None,
    };
    phone.resume_with(&nobody).await.unwrap().failed();
    phone.bind().await.unwrap();
    assert_eq!(phone.jid(), jid);
    assert_eq!(phone.connections(), 2, "on the stream on which it failed");
    phone.enable(true).await.unwrap();
    assert_ne!(phone.stream_id(), Some(id.as_str()));
    send(&mut desk, &jid, 0..1).await;
    phone.lose(Loss::Fin);
    assert!(phone.come_back().await.unwrap());
    phone.drain_until_pong().await.unwrap();
    assert_eq!(phone.bodies_from(desk.bare_jid()), numbers(0..1));
    // An ended stream cannot be resumed.
    phone.end().await.unwrap();
    assert!(!phone.come_back().await.unwrap());
}

/// What was received is still known when nobody answers, and everything works again later.
async fn away_while_the_server_is_down(kind: Kind) {
    let mut server = Server::start(kind).await.unwrap();
    let (mut desk, alice) = pair(&server).await;
    let mut phone = Device::connect(alice.direct().resource("phone"))
        .await
        .unwrap();
    let (jid, bob) = (phone.jid().to_owned(), desk.bare_jid().to_owned());
    send(&mut desk, &jid, 0..1).await;
    phone.drain_until_pong().await.unwrap();
    server.kill();
    assert!(phone.recv().await.is_err());
    for _ in 0..2 {
        assert!(phone.come_back().await.is_err());
        assert!(!phone.is_connected());
        assert_eq!(phone.bodies_from(&bob), numbers(0..1));
    }
    server.restart().await.unwrap();
    assert!(!phone.come_back().await.unwrap());
    assert_eq!(phone.jid(), jid);
    assert_eq!(phone.bodies_from(&bob), numbers(0..1));
    phone.request_ack().await.unwrap();
}

/// In a room, behind a bad network: both sides get everything once and in order.
async fn cut_again_and_again(kind: Kind) {
    let server = Server::shared(kind).await;
    let (mut desk, alice) = pair(server).await;
    let room = server.new_room("cut-again");
    desk.create_room(&room, "bob").await.unwrap();
    let tap = Tap::start(server.plain()).await.unwrap();
    tap.pace_all(Pace {
        delay: Duration::from_millis(5),
        bytes_per_second: None,
    });
    let login = alice.login(tap.address()).resource("phone");
    let mut phone = Device::connect(login).await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    let mut heard = Vec::new();
    for round in 0..12 {
        let newest = tap.connections() - 1;
        for number in 0..6 {
            if number == 3 {
                match round % 4 {
                    0 => tap.cut(newest),
                    1 => tap.reset(newest),
                    2 => tap.black_hole(newest),
                    _ => phone.lose(Loss::Silence),
                }
            }
            let number = round * 6 + number;
            desk.say(&room, &format!("bob {number}")).await.unwrap();
            if phone.is_connected() {
                // What cannot be written is kept all the same.
                let _ = phone.say(&room, &format!("alice {number}")).await;
            }
        }
        heard.extend(desk.settle(&room).await.unwrap());
        assert!(phone.come_back().await.unwrap(), "round {round}");
        phone.settle(&room).await.unwrap();
        phone.request_ack().await.unwrap();
        assert_eq!(phone.unacked().len(), 0, "round {round}");
    }
    heard.extend(desk.settle(&room).await.unwrap());
    let seen: Vec<_> = phone.bodies_from(&room);
    let of = |who: &str| -> Vec<_> {
        let mine = seen.iter().filter(|body| body.starts_with(who));
        mine.cloned().collect()
    };
    let all: Vec<_> = (0..72).map(|number| format!("bob {number}")).collect();
    assert_eq!(of("bob"), all);
    let said: Vec<_> = (0..72)
        // A device that has gone says nothing.
        .filter(|number| number / 6 % 4 != 3 || number % 6 < 3)
        .map(|number| format!("alice {number}"))
        .collect();
    assert_eq!(of("alice"), said);
    let heard: Vec<_> = heard.iter().filter_map(Stanza::body).collect();
    assert_eq!(heard, seen, "one order for all");
}
