//! A session that does not read (behaviour 66).

use std::time::{Duration, Instant};

use mucplex_testkit::Element;
use mucplex_testkit::client::{Client, Device};
use mucplex_testkit::xml::{NS_STREAM, Stanza};

use crate::stage::{Front, Stage, mark, outline, through, until};

crate::tests![
    b66_a_slow_carrier_ends_alone,
    b66_a_slow_session_beside_the_carrier_ends_alone,
    b66_a_slow_session_that_counts_ends_alone,
];

/// A message of this size is soon more than the buffers of the slow one's connection, and its
/// outbox, can hold.
const SIZE: usize = 100_000;
const OUTBOX: &str = "[session]\noutbox_bytes = '1MiB'";
/// What the proxy says when it ends a session for its slowness.
const ENDED: &str = "a client too slow is ended";
/// The messages by which the siblings' delivery is measured.
const MEASURED: usize = 60;
/// Far more than it takes to fill what stands between the proxy and the slow client.
const MOST: usize = 1_000;

/// Bob talks to two sessions of alice, each word after both have heard the one before.
struct Talk {
    front: Front,
    bob: Client,
    siblings: [Client; 2],
    room: String,
    filler: String,
    said: usize,
    /// What bob has got beside his own words.
    seen: Vec<Stanza>,
}

impl Talk {
    /// Gives how long it took, from bob's sending to the later one's hearing.
    async fn say(&mut self) -> Duration {
        self.said += 1;
        let body = format!("word {} {}", self.said, self.filler);
        let start = Instant::now();
        self.bob.say(&self.room, &body).await.unwrap();
        for sibling in &mut self.siblings {
            // The next one it gets: in order, and each once.
            let message = sibling.recv_for("the next word").await.unwrap();
            assert_eq!(word(&message), Some(self.said), "{message:?}");
        }
        let took = start.elapsed();
        let own = |it: &Stanza| word(it) == Some(self.said);
        let mut seen = through(&mut self.bob, "its own word", own).await;
        seen.pop();
        self.seen.append(&mut seen);
        took
    }

    /// Bob talks until the slow session has been ended. Gives how long each word took.
    async fn until_slow_has_ended(&mut self) -> Vec<Duration> {
        let mut times = Vec::new();
        while !self.slow_has_ended() {
            assert!(times.len() < MOST, "the slow one is never ended");
            times.push(self.say().await);
        }
        times
    }

    async fn measure(&mut self) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..MEASURED {
            times.push(self.say().await);
        }
        times
    }

    fn slow_has_ended(&self) -> bool {
        self.front.proxy.output().contains(ENDED)
    }
}

/// Which word of bob's a message is.
fn word(stanza: &Stanza) -> Option<usize> {
    let body = stanza.body()?;
    body.split(' ').nth(1)?.parse().ok()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

async fn b66_a_slow_carrier_ends_alone(stage: Stage) {
    ends_alone(stage, true, false).await;
}

async fn b66_a_slow_session_beside_the_carrier_ends_alone(stage: Stage) {
    ends_alone(stage, false, false).await;
}

/// What it has not acknowledged counts as what waits for it (XEP-0198).
async fn b66_a_slow_session_that_counts_ends_alone(stage: Stage) {
    ends_alone(stage, false, true).await;
}

async fn ends_alone(stage: Stage, slow_carries: bool, counts: bool) {
    let front = stage.own_front(OUTBOX).await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let room = stage.room.clone();
    let mut slow = Device::new(front.login(&alice).resource("slow"));
    slow.bind().await.unwrap();
    if counts {
        slow.enable(true).await.unwrap();
    }
    let mut siblings = [
        front.session(&alice, "phone").await,
        front.session(&alice, "laptop").await,
    ];
    if slow_carries {
        slow.join(&room, "alice").await.unwrap();
    }
    for sibling in &mut siblings {
        sibling.join(&room, "alice").await.unwrap();
    }
    mark(&mut bob, &room, siblings.each_mut()).await;
    let mut talk = Talk {
        front,
        bob,
        siblings,
        room,
        filler: "x".repeat(SIZE),
        said: 0,
        seen: Vec::new(),
    };
    if !slow_carries {
        slow.join(&talk.room, "alice").await.unwrap();
    }
    // While the slow one is stuck the siblings hear every word, before the next one is said.
    let beside = talk.until_slow_has_ended().await;
    let uplink = talk.front.uplink(&slow);
    assert_prefix(&mut slow).await;
    talk.front.released(uplink).await;
    let without = talk.measure().await;
    assert_eq!(talk.front.proxy.output().matches(ENDED).count(), 1);
    // A machine may be busy; a sibling that waits for the slow one waits for as long as that one
    // is allowed to be.
    let (beside, without) = (p99(beside), p99(without));
    assert!(
        beside < without * 10 + Duration::from_secs(2),
        "{beside:?} beside a slow one, {without:?} without"
    );

    // The room has seen no leave; the siblings are in it, and talk.
    for number in 0..2 {
        let body = format!("sibling {number}");
        talk.siblings[number].say(&talk.room, &body).await.unwrap();
        for client in &mut talk.siblings {
            assert_eq!(outline(&until(client, &body).await), [""; 0]);
        }
        let seen = until(&mut talk.bob, &body).await;
        talk.seen.extend(seen);
    }
    for presence in &talk.seen {
        assert_eq!(outline([presence]), ["presence alice none/participant"]);
    }

    let mut again = talk.front.session(&alice, "slow").await;
    let joined = again.join(&talk.room, "alice").await.unwrap();
    assert_eq!(
        joined.bodies().last().map(String::as_str),
        Some("sibling 1")
    );
}

/// The slow one reads at last: words in their order without a gap, and then why it was ended.
async fn assert_prefix(slow: &mut Client) {
    let mut next = 1;
    loop {
        let stanza = slow.recv_for("the end of the stream").await.unwrap();
        if stanza.is("error", NS_STREAM) {
            let mut conditions = stanza.children().map(Element::name);
            assert_eq!(conditions.next(), Some("resource-constraint"));
            break;
        }
        let Some(word) = word(&stanza) else { continue };
        assert_eq!(word, next, "a word is missing, or comes twice");
        next += 1;
    }
    assert!(next > 1, "it has got nothing");
}
