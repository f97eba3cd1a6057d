//! What a joining session gets of the past (behaviours 12 to 14).

use std::time::{Duration, Instant};

use mucplex_testkit::client::{Client, History, Join};
use mucplex_testkit::xml::{NS_DELAY, Stanza};

use crate::stage::{Stage, bodies, leave, outline, until};

crate::tests![
    b12_each_limit_alone_and_together,
    b12_nothing_is_missing_since_the_newest_stamp,
    b12_the_default_amount,
    b13_replayed_messages_are_the_originals,
    b14_the_subject_is_always_sent,
];

fn stamp(stanza: &Stanza) -> &str {
    let delay = stanza.get_child("delay", NS_DELAY).expect("a delay");
    delay.attr("stamp").expect("a stamp")
}

fn characters(stanza: &Stanza) -> usize {
    stanza.raw_str().chars().count()
}

/// What the session gets that joins with these limits; it leaves again.
async fn history(client: &mut Client, room: &str, history: &History) -> Vec<Stanza> {
    let join = Join {
        history: Some(history.clone()),
        ..Join::default()
    };
    let joined = client.join_with(room, "alice", &join).await.unwrap();
    leave(client, room, "alice").await;
    joined.history
}

/// ```text
/// old 1 … old 5      middle      new 1 … new 5
///              pause        pause
/// ```
async fn b12_each_limit_alone_and_together(stage: Stage) {
    // Servers stamp in whole seconds; no limit below is that near to an old or new message.
    const PAUSE: Duration = Duration::from_millis(2500);
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    phone.join(&stage.room, "alice").await.unwrap();
    let mut all = Vec::new();
    let mut middle = Instant::now();
    for (part, count) in [("old", 5), ("middle", 1), ("new", 5)] {
        if part != "old" {
            tokio::time::sleep(PAUSE).await;
        }
        if part == "middle" {
            middle = Instant::now();
        }
        for number in 1..=count {
            // The account's own words and others'; some characters are of more than one byte.
            let speaker = if number == 3 { &mut phone } else { &mut bob };
            let body = format!("{part} \u{e4}\u{20ac} {number}");
            speaker.say(&stage.room, &body).await.unwrap();
            until(speaker, &body).await;
            all.push(body);
        }
    }
    until(&mut phone, &all[10]).await;

    let joined = laptop.join(&stage.room, "alice").await.unwrap();
    assert_eq!(joined.bodies(), all);
    leave(&mut laptop, &stage.room, "alice").await;
    let (past, now, future) = (
        "1970-01-01T00:00:00Z",
        stamp(&joined.history[5]),
        "2100-01-01T00:00:00Z",
    );
    // The length of a stanza is a matter of how it is written: two fit, whatever is added to
    // each, and three do not.
    let two: usize = joined.history[9..].iter().map(characters).sum();
    let two = u32::try_from(two + two / 4).unwrap();
    let table = |age: Option<u32>| {
        let many = Some(100_000);
        [
            // maxstanzas, maxchars, seconds, since: how many of the newest
            (Some(0), None, None, None, 0),
            (Some(3), None, None, None, 3),
            (Some(100), None, None, None, 11),
            (None, Some(0), None, None, 0),
            (None, Some(10), None, None, 0),
            (None, Some(two), None, None, 2),
            (None, many, None, None, 11),
            (None, None, Some(3600), None, 11),
            (None, None, age, None, 5),
            (None, None, None, Some(now), 5),
            (None, None, None, Some(past), 11),
            (None, None, None, Some(future), 0),
            (Some(1), many, age, Some(now), 1),
            (Some(11), Some(two), Some(3600), Some(past), 2),
            (Some(11), many, age, Some(past), 5),
            (Some(11), many, Some(3600), Some(now), 5),
        ]
    };
    // As a late joiner; and then, when the account has left, as the first.
    for who in ["late", "first"] {
        if who == "first" {
            leave(&mut phone, &stage.room, "alice").await;
        }
        for row in 0..table(None).len() {
            let age = u32::try_from(middle.elapsed().as_secs()).ok();
            let (maxstanzas, maxchars, seconds, since, count) = table(age)[row];
            let since = since.map(str::to_owned);
            let limits = History {
                maxstanzas,
                maxchars,
                seconds,
                since,
            };
            let mut got = bodies(&history(&mut laptop, &stage.room, &limits).await);
            if count == 5 {
                // On which side of itself the middle is, is not the question.
                got.retain(|body| *body != all[5]);
            }
            assert_eq!(got, all[11 - count..], "{who}, {limits:?}");
        }
    }
}

/// A client asks for what has been said since the newest message it has, by that one's stamp.
async fn b12_nothing_is_missing_since_the_newest_stamp(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    for round in 0..5 {
        let (seen, unseen) = (format!("seen {round}"), format!("unseen {round}"));
        phone.join(&stage.room, "alice").await.unwrap();
        bob.say(&stage.room, &seen).await.unwrap();
        until(&mut bob, &seen).await;
        until(&mut phone, &seen).await;
        let joined = laptop.join(&stage.room, "alice").await.unwrap();
        let newest = joined.history.last().unwrap();
        assert_eq!(newest.body(), Some(seen));
        let since = Some(stamp(newest).to_owned());
        leave(&mut laptop, &stage.room, "alice").await;
        leave(&mut phone, &stage.room, "alice").await;
        bob.say(&stage.room, &unseen).await.unwrap();
        until(&mut bob, &unseen).await;
        let limits = History {
            since,
            ..History::default()
        };
        let got = bodies(&history(&mut laptop, &stage.room, &limits).await);
        assert_eq!(got.last(), Some(&unseen), "{limits:?}");
    }
}

/// Without a limit the first session gets what the server gives, 20 on both, and so does a late
/// one; who asks for more gets more, as far as the proxy has it.
async fn b12_the_default_amount(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let all: Vec<String> = (1..=40).map(|number| format!("message {number}")).collect();
    for body in &all[..30] {
        bob.say(&stage.room, body).await.unwrap();
        until(&mut bob, body).await;
    }
    let first = phone.join(&stage.room, "alice").await.unwrap();
    assert_eq!(first.bodies(), all[10..30]);
    let late = laptop.join(&stage.room, "alice").await.unwrap();
    assert_eq!(late.bodies(), all[10..30]);
    leave(&mut laptop, &stage.room, "alice").await;
    for body in &all[30..] {
        bob.say(&stage.room, body).await.unwrap();
        until(&mut phone, body).await;
    }
    let limits = History {
        maxstanzas: Some(25),
        ..History::default()
    };
    let late = history(&mut laptop, &stage.room, &limits).await;
    assert_eq!(bodies(&late), all[15..]);
    let late = laptop.join(&stage.room, "alice").await.unwrap();
    assert_eq!(late.bodies(), all[20..]);
}

/// A message without what differs between its live form and the replayed one.
fn original(stanza: &Stanza) -> Vec<String> {
    let mut parts: Vec<String> = ["id", "from", "type", "xml:lang"]
        .iter()
        .map(|name| format!("{name}={:?}", stanza.attr(*name)))
        .collect();
    let children = stanza
        .children()
        .filter(|child| !child.is("delay", NS_DELAY));
    parts.extend(children.map(String::from));
    parts.sort_unstable();
    parts
}

async fn b13_replayed_messages_are_the_originals(stage: Stage) {
    let stage = stage.archived().await;
    let front = stage.front;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    let mut live = Vec::new();
    for number in 0..2 {
        let (room, id) = (&stage.room, format!("m-{number}"));
        let speaker = if number == 0 { &mut bob } else { &mut phone };
        speaker
            .send_raw(format!(
                "<message type='groupchat' id='{id}' to='{room}' xml:lang='de'>\
                 <body>h\u{e4}llo {number}</body><origin-id xmlns='urn:xmpp:sid:0' id='o-{number}'/>\
                 <thing xmlns='urn:thing' a='&quot;&apos;'>&lt;\n</thing></message>"
            ))
            .await
            .unwrap();
        live.push(phone.hear(&format!("h\u{e4}llo {number}")).await.unwrap());
    }
    let expected: Vec<_> = live.iter().map(original).collect();
    assert!(
        live.iter()
            .all(|stanza| stanza.has_child("stanza-id", "urn:xmpp:sid:0"))
    );

    let mut laptop = front.session(&alice, "laptop").await;
    let late = laptop.join(&stage.room, "alice").await.unwrap();
    leave(&mut laptop, &stage.room, "alice").await;
    leave(&mut phone, &stage.room, "alice").await;
    let first = laptop.join(&stage.room, "alice").await.unwrap();
    let direct = stage.outsider(&stage.account("carol").await, "desk").await;
    let direct = { direct }.join(&stage.room, "carol").await.unwrap();
    for (who, got) in [
        ("late", late.history),
        ("first", first.history),
        ("direct", direct.history),
    ] {
        assert_eq!(got.len(), 2, "{who}");
        assert_eq!(
            got.iter().map(original).collect::<Vec<_>>(),
            expected,
            "{who}"
        );
        for stanza in &got {
            let delays: Vec<_> = stanza
                .children()
                .filter(|child| child.is("delay", NS_DELAY))
                .collect();
            assert_eq!(delays.len(), 1, "{who}: {stanza:?}");
            assert_eq!(delays[0].attr("from"), Some(&*stage.room), "{who}");
            assert!(stamp(stanza).ends_with('Z'), "{who}: {stanza:?}");
        }
    }
}

async fn b14_the_subject_is_always_sent(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let room = &stage.room;
    let subject = async |client: &mut Client| {
        let joined = client.join(room, "alice").await.unwrap();
        leave(client, room, "alice").await;
        joined
    };

    let first = phone.join(room, "alice").await.unwrap();
    assert_eq!(outline(&[first.subject]), ["subject by (room): "]);
    let late = subject(&mut laptop).await;
    assert_eq!(outline(&[late.subject]), ["subject by (room): "]);

    for text in ["Tea &amp; cake", "Milk", ""] {
        let set = format!(
            "<message type='groupchat' id='s-1' to='{room}'><subject>{text}</subject></message>"
        );
        bob.send_raw(set).await.unwrap();
        let live = phone
            .wait_for("the subject", Stanza::is_subject)
            .await
            .unwrap();
        let expected = [format!("subject by bob: {}", text.replace("&amp;", "&"))];
        assert_eq!(outline(&[live]), expected);
        let late = subject(&mut laptop).await;
        assert_eq!(outline([&late.subject]), expected);
        assert!(stamp(&late.subject).ends_with('Z'));
        assert_eq!(outline(&late.history), [""; 0]);
    }

    // XEP-0045 8.1: with a body it is a message that has a subject, and not the room's subject.
    bob.send_raw(format!(
        "<message type='groupchat' id='s-2' to='{room}'><subject>no</subject>\
         <body>by the way</body></message>"
    ))
    .await
    .unwrap();
    phone.hear("by the way").await.unwrap();
    let late = subject(&mut laptop).await;
    assert_eq!(late.bodies(), ["by the way"]);
    assert_eq!(outline(&[late.subject]), ["subject by bob: "]);
}
