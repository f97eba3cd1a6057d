//! Stream management (XEP-0198): enabling, resuming, and what the others see meanwhile.

use std::time::Duration;

use mucplex_testkit::client::{Answers, ClientError, Connection, Device, Loss, Resume, Resumption};
use mucplex_testkit::server::{Kind, Options, StreamManagement};
use mucplex_testkit::xml::{NS_BIND, NS_SM, Stanza};

use crate::stage::Stage;

crate::on_each_server!(
    pipelined,
    resumed_while_the_old_connection_lives,
    occupancy_of_a_silent_stream,
    wrong_numbers,
    stream_of_another_account,
    unanswered_requests,
    contacts_of_a_lost_session,
);

/// The elements of the stream in the order in which they came, until one says it is the last.
async fn order(
    stage: &mut Stage,
    connection: &mut Connection,
    last: impl Fn(&Stanza) -> bool,
) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let stanza = connection.recv().await.unwrap();
        stage.show("alice", [&stanza]);
        names.push(stanza.name().to_owned());
        if last(&stanza) {
            return names;
        }
    }
}

async fn pipelined(kind: Kind) {
    let mut stage = Stage::new(kind, "sm-pipelined").await;
    let alice = stage.account("alice").await;
    let (mut connection, features) = alice.direct().authenticate().await.unwrap();
    stage.show("alice", [&features]);
    stage.note("bind, enable, presence and a ping in one write");
    let domain = stage.server.domain();
    connection
        .send_raw(format!(
            "<iq type='set' id='b'><bind xmlns='{NS_BIND}'><resource>phone</resource></bind></iq>\
             <enable xmlns='{NS_SM}' resume='true'/><presence/>\
             <iq type='get' id='p' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq><r xmlns='{NS_SM}'/>"
        ))
        .await
        .unwrap();
    let names = order(&mut stage, &mut connection, |it| it.is("a", NS_SM)).await;
    assert_eq!(names[..2], ["iq", "enabled"]);
}

/// A new connection resumes while the old one is open and its end is not known.
async fn resumed_while_the_old_connection_lives(kind: Kind) {
    let mut stage = Stage::new(kind, "sm-old-connection").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let room = stage.room.clone();
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let login = alice.direct().resource("phone");
    let mut old = Device::connect(login.clone()).await.unwrap();
    old.join(&room, "alice").await.unwrap();
    old.answer(Answers::Never);
    old.settle(&room).await.unwrap();
    stage.settle("bob", &mut desk).await;

    stage.note("a new connection resumes");
    let mut new = Device::new(login);
    let with = Resume {
        previd: old.stream_id().map(str::to_owned),
        h: Some(old.told()),
    };
    let resumed = new.resume_with(&with).await.unwrap().resumed();
    stage.show("alice, new", [&resumed]);
    stage.settle("bob", &mut desk).await;
    let rest = old.read_to_end().await.unwrap();
    stage.note(&format!(
        "the old one: {:?}",
        String::from_utf8_lossy(&rest)
    ));
    desk.say(&room, "still there?").await.unwrap();
    let heard = new.hear("still there?").await.unwrap();
    stage.show("alice, new", [&heard]);
}

/// How long to wait where the trials that the document tells of took more than a minute.
fn patience() -> Option<Duration> {
    let seconds = std::env::var("MUCPLEX_PATIENCE_SECONDS").ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// How long the connection stays away.
fn away() -> Duration {
    patience().unwrap_or(Duration::from_secs(3))
}

/// A stream that sends directed presence alone, cut and resumed.
async fn occupancy_of_a_silent_stream(kind: Kind) {
    let mut stage = Stage::new(kind, "sm-occupancy").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let room = stage.room.clone();
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let mut anchor = Device::connect(alice.direct().resource("anchor"))
        .await
        .unwrap();
    anchor.join(&room, "alice").await.unwrap();
    let occupant = format!("{room}/alice");
    let of_alice = |it: &Stanza| it.name() == "presence" && it.from() == Some(&occupant);
    stage.settle("bob", &mut desk).await;
    for how in [Loss::Fin, Loss::Reset] {
        anchor.settle(&room).await.unwrap();
        anchor.ack().await.unwrap();
        anchor.request_ack().await.unwrap();
        stage.settle("bob", &mut desk).await;
        stage.note(&format!("lost ({how:?}) for {:?}", away()));
        anchor.lose(how);
        tokio::time::sleep(away()).await;
        let first = desk.say(&room, "first").await.unwrap();
        let pm = format!("<message type='chat' to='{room}/alice'><body>psst</body></message>");
        desk.send_raw(pm).await.unwrap();
        let version = "<query xmlns='jabber:iq:version'/>";
        desk.send_iq("get", Some(&format!("{room}/alice")), version)
            .await
            .unwrap();
        desk.send_raw(format!(
            "<presence to='{room}/bob'><show>away</show><status>{how:?}</status></presence>"
        ))
        .await
        .unwrap();
        let seen = stage.settle("bob", &mut desk).await;
        assert!(!seen.iter().any(&of_alice), "{seen:?}");
        let resumed = anchor.resume().await.unwrap().resumed();
        stage.show("alice", [&resumed]);
        let seen = anchor.settle(&room).await.unwrap();
        stage.show("alice", &seen);
        assert_eq!(seen.iter().filter(|it| it.id() == Some(&first)).count(), 1);
        let seen = stage.settle("bob", &mut desk).await;
        assert!(!seen.iter().any(&of_alice), "{seen:?}");
    }
}

/// A result as one line: without the transcript that an error ends with.
fn brief<T: std::fmt::Debug>(result: &Result<T, ClientError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => {
            let error = error.to_string();
            error.lines().next().unwrap_or_default().to_owned()
        }
    }
}

/// What becomes of a stream whose client tells a wrong number when it resumes.
async fn wrong_numbers(kind: Kind) {
    let mut stage = Stage::new(kind, "sm-wrong-numbers").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    for (what, h) in [("fewer than acknowledged", 1), ("more than sent", 100)] {
        let mut phone = Device::connect(alice.direct().resource("phone"))
            .await
            .unwrap();
        let jid = phone.jid().to_owned();
        for body in 0..3 {
            desk.send_raw(format!(
                "<message type='chat' to='{jid}'><body>{body}</body></message>"
            ))
            .await
            .unwrap();
        }
        desk.drain_until_pong().await.unwrap();
        phone.drain_until_pong().await.unwrap();
        phone.ack().await.unwrap();
        phone.request_ack().await.unwrap();
        stage.note(&format!("{what}: {h} instead of {}", phone.told()));
        phone.lose(Loss::Reset);
        let with = Resume {
            h: Some(h),
            ..Resume::default()
        };
        let result = phone.resume_with(&with).await;
        stage.note(&brief(&result));
        if phone.is_connected() {
            let seen = phone.listen(Duration::from_secs(1)).await;
            stage.show("alice", &seen);
            phone.lose(Loss::Reset);
        }
        let again = phone.resume().await;
        stage.note(&format!("once more, with the right one: {}", brief(&again)));
        // A stream on which a wrong number was told is lost, but for the one that ejabberd ignores.
        let ignored = h == 1 && kind == Kind::Ejabberd;
        assert_eq!(matches!(again, Ok(Resumption::Resumed(_))), ignored);

        stage.note(&format!("{what}, on a live stream"));
        let mut phone = Device::connect(alice.direct().resource("laptop"))
            .await
            .unwrap();
        phone.drain_until_pong().await.unwrap();
        phone.ack().await.unwrap();
        phone.ack_with(h.saturating_sub(1)).await.unwrap();
        let lives = phone.drain_until_pong().await;
        stage.note(&brief(&lives));
        assert_eq!(lives.is_ok(), ignored);
        stage.note(phone.transcript().lines().rev().nth(1).unwrap_or_default());
    }
}

async fn stream_of_another_account(kind: Kind) {
    let mut stage = Stage::new(kind, "sm-other-account").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut phone = Device::connect(alice.direct().resource("phone"))
        .await
        .unwrap();
    phone.lose(Loss::Reset);
    let mut thief = Device::new(bob.direct().resource("phone"));
    let with = Resume {
        previd: phone.stream_id().map(str::to_owned),
        h: Some(0),
    };
    let failed = thief.resume_with(&with).await.unwrap().failed();
    stage.show("bob", [&failed]);
    let resumed = phone.resume().await.unwrap().resumed();
    stage.show("alice", [&resumed]);
}

/// How long `<r/>` may wait, and what is told apart by an answer with the same number.
async fn unanswered_requests(kind: Kind) {
    // With patience, the limits are the servers' own.
    let ack_timeout = patience().is_none().then_some(2);
    let time = patience().unwrap_or(Duration::from_secs(8));
    let options = Options {
        stream_management: StreamManagement {
            ack_timeout,
            ..StreamManagement::default()
        },
        ..Options::default()
    };
    let mut stage = Stage::with(kind, "sm-unanswered", options).await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    for answers in [Answers::Unchanged, Answers::Never] {
        let mut phone = Device::connect(alice.direct().resource("phone"))
            .await
            .unwrap();
        phone.answer(answers);
        let jid = phone.jid().to_owned();
        desk.send_raw(format!(
            "<message type='chat' to='{jid}'><body>1</body></message>"
        ))
        .await
        .unwrap();
        phone
            .wait_for("the message", |it| it.body().is_some())
            .await
            .unwrap();
        let seen = phone.listen(time).await;
        stage.note(&format!(
            "{answers:?}, {time:?}, {} unanswered",
            phone.unanswered()
        ));
        stage.show("alice", &seen);
        let lives = phone.drain_until_pong().await;
        stage.note(&format!("then a ping: {}", lives.is_ok()));
        phone.lose(Loss::Fin);
        let resumed = phone.resume().await;
        stage.note(&format!("then resumed: {}", brief(&resumed)));
        let seen = phone.drain_until_pong().await;
        stage.note(&brief(&seen));
        let ends = kind == Kind::Ejabberd && answers == Answers::Never;
        assert_eq!(lives.is_err(), ends);
    }
}

/// What contacts see of a session whose connection is gone.
async fn contacts_of_a_lost_session(kind: Kind) {
    let options = Options {
        stream_management: StreamManagement {
            resume_timeout: Some(3),
            ..StreamManagement::default()
        },
        ..Options::default()
    };
    let mut stage = Stage::with(kind, "sm-contacts", options).await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    desk.available().await.unwrap();
    let mut phone = Device::connect(alice.direct().resource("phone"))
        .await
        .unwrap();
    phone.available().await.unwrap();
    desk.send_raw(format!("<presence type='subscribe' to='{}'/>", alice.jid()))
        .await
        .unwrap();
    phone
        .wait_for("the request", |it| it.kind() == Some("subscribe"))
        .await
        .unwrap();
    phone
        .send_raw(format!("<presence type='subscribed' to='{}'/>", bob.jid()))
        .await
        .unwrap();
    let from_phone = phone.jid().to_owned();
    let from_phone = |it: &Stanza| it.name() == "presence" && it.from() == Some(&from_phone);
    desk.wait_for("alice's presence", from_phone).await.unwrap();
    phone.drain_until_pong().await.unwrap();
    phone.ack().await.unwrap();
    phone.request_ack().await.unwrap();

    phone.lose(Loss::Reset);
    let ask = format!("<presence type='probe' to='{}'/>", alice.jid());
    desk.send_raw(ask).await.unwrap();
    let seen = desk.drain_until_pong().await.unwrap();
    stage.note("lost");
    stage.show("bob", &seen);
    assert!(seen.iter().all(|it| it.kind() != Some("unavailable")));
    let mut late = stage.session(&bob, "late").await;
    late.available().await.unwrap();
    let presence = late
        .wait_for("alice, who is lost", from_phone)
        .await
        .unwrap();
    stage.show("bob, who comes later", [&presence]);
    assert_eq!(presence.kind(), None);
    let gone = desk.wait_for("the end of the session", |it| {
        from_phone(it) && it.kind() == Some("unavailable")
    });
    let gone = gone.await.unwrap();
    stage.note("its time is over");
    stage.show("bob", [&gone]);
}
