//! The server slows its clients down, and many sessions speak through one anchor (behaviour 67).

use std::time::{Duration, Instant};

use mucplex_testkit::client::{Client, ClientError};
use mucplex_testkit::server::{Options, Server};
use mucplex_testkit::xml::Stanza;

use crate::stage::{Front, Stage, until};

crate::tests![b67_many_sessions_speak_through_one_anchor_that_is_slowed_down];

const PATIENCE: Duration = Duration::from_secs(90);
const SESSIONS: usize = 5;
const MESSAGES: usize = 12;
/// More than the server reads within its minute of patience, all together.
const BYTES: usize = 1500;

async fn b67_many_sessions_speak_through_one_anchor_that_is_slowed_down(stage: Stage) {
    let options = Options {
        rate_limits: true,
        ..Options::default()
    };
    let server = Server::start_with(stage.kind, options).await.unwrap();
    let front = Front::with_anchors(&server, "").await;
    let room = server.new_room("rate");
    let bob = server.account("bob").await.unwrap();
    let mut bob = bob.direct().resource("desk").connect().await.unwrap();
    bob.create_room(&room, "bob").await.unwrap();
    let alice = server.account("alice").await.unwrap();
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let mut session = front.session(&alice, &format!("s{number}")).await;
        session.join(&room, "alice").await.unwrap();
        sessions.push(session);
    }
    let speaking = sessions
        .into_iter()
        .enumerate()
        .map(|(number, session)| tokio::spawn(speak(session, room.clone(), number)));
    let speaking: Vec<_> = speaking.collect();
    let mut heard = vec![0; SESSIONS];
    for _ in 0..SESSIONS * MESSAGES {
        let said = patiently(&mut bob, |it| it.body().is_some()).await;
        let body = said.body().unwrap();
        let mut parts = body.split(' ');
        let mut next = || parts.next().unwrap().parse::<usize>().unwrap();
        let (session, number) = (next(), next());
        // Each in the order in which it was said.
        assert_eq!(number, heard[session], "session {session}");
        heard[session] += 1;
    }
    assert_eq!(heard, [MESSAGES; SESSIONS]);
    for speaking in speaking {
        // Nobody was disconnected, and everybody has seen all of it.
        let mut session = speaking.await.unwrap();
        assert!(session.drain_until_pong().await.is_ok());
    }
    bob.say(&room, "still there?").await.unwrap();
    until(&mut bob, "still there?").await;
    let anchors = front.tap.recordings();
    let bound = anchors.iter().filter(|it| it.count_down("/mucplex-") > 0);
    assert_eq!(
        bound.filter(|it| !it.closed).count(),
        1,
        "the anchor is the first one"
    );
}

async fn speak(mut session: Client, room: String, number: usize) -> Client {
    let filler = "x".repeat(BYTES);
    for message in 0..MESSAGES {
        session
            .say(&room, &format!("{number} {message} {filler}"))
            .await
            .unwrap();
    }
    let last = format!("{number} {} {filler}", MESSAGES - 1);
    patiently(&mut session, |it| it.body().as_ref() == Some(&last)).await;
    session
}

/// A server that slows its clients down reads nothing for many seconds at a time.
async fn patiently(client: &mut Client, wanted: impl Fn(&Stanza) -> bool) -> Stanza {
    let begun = Instant::now();
    loop {
        match client.wait_for("what is said", &wanted).await {
            Ok(stanza) => return stanza,
            Err(ClientError::Timeout { .. }) if begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}
