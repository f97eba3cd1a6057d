//! Another uplink takes over a room that the sessions are in (behaviours 43, 59 and 60).

use std::collections::VecDeque;

use mucplex_testkit::client::{Client, Join};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::{Incoming, NS_STREAM, Stanza};

use crate::stage::{
    Ending, Front, Stage, Talk, bodies, impersonal, mark, nick, outline, through, until,
};

crate::tests![
    b43_b59_carriers_end_while_bob_talks,
    b43_b59_carriers_end_while_sessions_talk,
    b43_b59_two_carriers_end_at_once,
    b43_b59_what_the_account_is_in_the_room_stays,
    b60_the_carriers_connection_to_the_server_is_cut,
    b60_the_only_carrier_is_cut_and_another_session_is_connected,
];

/// A session that is in the room while bob talks, and all it has got since it is there.
pub(super) struct Listener {
    pub(super) client: Client,
    heard: Vec<Stanza>,
    /// The first of bob's messages that it has to hear.
    from: usize,
}

impl Listener {
    async fn join(front: &Front, account: &Account, resource: &str, room: &str) -> Self {
        Self::enter(front.session(account, resource).await, room).await
    }

    pub(super) async fn enter(mut client: Client, room: &str) -> Self {
        let joined = client.join(room, "alice").await.unwrap();
        assert_eq!(joined.nicks(), ["bob"], "{}", client.transcript());
        assert_eq!(outline(&joined.other), [""; 0]);
        let last = joined
            .bodies()
            .pop()
            .expect("bob has said something before");
        let last: usize = last.strip_prefix("bob ").unwrap().parse().unwrap();
        Self {
            client,
            heard: Vec::new(),
            from: last + 1,
        }
    }

    /// A session that had to take its name from an older stream. ejabberd sends it what is for
    /// that one, its leave at last; none of it must come behind the answer to the join.
    pub(super) async fn enter_again(mut client: Client, room: &str) -> Self {
        client
            .send_join(room, "alice", &Join::default())
            .await
            .unwrap();
        let mut seen = through(&mut client, "the subject", Stanza::is_subject).await;
        let first = |it: &Stanza| it.name() == "presence" && nick(it) == "bob";
        let welcome = seen.iter().position(first).unwrap();
        let seen = outline(&seen.split_off(welcome));
        let lines = [
            "presence bob owner/moderator",
            "presence alice none/participant 110",
        ];
        assert_eq!(seen[..2], lines, "{}", client.transcript());
        let last = seen[2..seen.len() - 1].last();
        let last = last.and_then(|line| line.strip_prefix("bob, earlier: bob "));
        let last: usize = last.expect("bob has said something").parse().unwrap();
        Self {
            client,
            heard: Vec::new(),
            from: last + 1,
        }
    }

    /// Everything up to bob's message `last` has come: once, in order, and nothing else.
    pub(super) async fn complete(&mut self, last: usize, case: &str) {
        let body = format!("bob {last}");
        let is_last = |it: &Stanza| it.body().as_ref() == Some(&body);
        if !self.heard.iter().any(is_last) {
            self.heard
                .extend(through(&mut self.client, &format!("{case}: {body}"), is_last).await);
        }
        // What came while nobody was in the room is told with the time it was said.
        let lines: Vec<String> = outline(&self.heard)
            .iter()
            .map(|line| line.replace(", earlier", ""))
            .collect();
        let expected = (self.from..=last).map(|number| format!("bob: bob {number}"));
        let expected: Vec<String> = expected.collect();
        if !lines.starts_with(&expected) {
            let wrong = lines
                .iter()
                .zip(&expected)
                .position(|(got, expected)| got != expected);
            let at = wrong.unwrap_or(lines.len().min(expected.len()));
            let around = &self.heard[at.saturating_sub(2)..lines.len().min(at + 6)];
            panic!("{case}: {} got {around:#?} at {at}", self.client.jid());
        }
    }
}

/// Bob, who began to talk, and alice's first sessions.
pub(super) async fn audience(
    stage: &Stage,
    front: &Front,
    alice: &Account,
) -> (Talk, VecDeque<Listener>) {
    let bob = stage.room_with_bob().await;
    let mut talk = Talk::start(bob, &stage.room, "bob");
    talk.more(1).await;
    let mut listeners = VecDeque::new();
    for number in 0..2 {
        let resource = format!("first-{number}");
        listeners.push_back(Listener::join(front, alice, &resource, &stage.room).await);
    }
    (talk, listeners)
}

/// All that bob may see: alice's joins, presence updates, and words; never a leave.
pub(super) fn assert_no_leave(on_bob: &[Stanza]) {
    for line in outline(on_bob) {
        let update = line.starts_with("presence alice none/participant");
        assert!(update || line.starts_with("alice: "), "bob sees {line}");
    }
}

/// ```text
/// sessions   0 ──────────┤        each in turn carries the room, as the oldest one in it,
///            1 ───────────────────┤                       until it ends
///                2 ────────────────────────┤
/// ```
async fn b43_b59_carriers_end_while_bob_talks(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let (mut talk, mut listeners) = audience(&stage, &front, &alice).await;
    // Those who have left, and are still connected.
    let mut away = Vec::new();
    for round in 0..12 {
        let ending = Ending::ALL[round % 4];
        let case = format!("round {round}, {ending:?}");
        let resource = format!("session-{round}");
        listeners.push_back(Listener::join(&front, &alice, &resource, &stage.room).await);
        let said = talk.more(3).await;
        let mut carrier = listeners.pop_front().unwrap();
        carrier.complete(said, &case).await;
        let uplink = front.uplink(&carrier.client);
        let carried = front.tap.recordings()[uplink].count_down(&format!("bob {said}<"));
        assert_eq!(carried, 1, "{case}: this session is not the carrier");

        away.extend(ending.end(&front, carrier.client).await);

        let said = talk.more(3).await;
        for listener in &mut listeners {
            listener.complete(said, &case).await;
        }
    }
    let (mut bob, on_bob, said) = talk.stop().await;
    assert_no_leave(&on_bob);
    for listener in &mut listeners {
        listener.complete(said, "at last").await;
    }
    let [first, second] = listeners.make_contiguous() else {
        panic!("two")
    };
    let rest = mark(
        &mut bob,
        &stage.room,
        [&mut first.client, &mut second.client],
    )
    .await;
    for seen in rest {
        assert_eq!(outline(&seen), [""; 0]);
    }
    for (mut client, _) in away {
        let quiet = client.drain_until_pong().await.unwrap();
        assert_eq!(outline(&quiet), [""; 0]);
    }
}

/// What sessions say during a hand-over is said once, in each one's order, and they all hear it.
async fn b43_b59_carriers_end_while_sessions_talk(stage: Stage) {
    const WORDS: usize = 20;
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut sessions = VecDeque::new();
    for number in 0..3 {
        let mut client = front.session(&alice, &format!("first-{number}")).await;
        client.join(&stage.room, "alice").await.unwrap();
        sessions.push_back(client);
    }
    for round in 0..8 {
        let ending = Ending::ALL[round % 3];
        let case = format!("round {round}, {ending:?}");
        let [_, first, second] = sessions.make_contiguous() else {
            panic!("three")
        };
        mark(&mut bob, &stage.room, [&mut *first, &mut *second]).await;
        let mut carrier = sessions.pop_front();
        let [first, second] = sessions.make_contiguous() else {
            panic!("two")
        };
        let uplink = front.uplink(carrier.as_ref().unwrap());
        let mut said = Vec::new();
        for number in 0..WORDS {
            for (who, client) in [("first", &mut *first), ("second", &mut *second)] {
                let body = format!("{round}: {who} {number}");
                let id = client.say(&stage.room, &body).await.unwrap();
                said.push((who, body, id));
            }
            if number == WORDS / 2
                && let Some(mut carrier) = carrier.take()
            {
                match ending {
                    Ending::Reset => carrier.reset_connection().unwrap(),
                    Ending::Fin => carrier.drop_connection().await.unwrap(),
                    _ => carrier.send_raw("</stream:stream>").await.unwrap(),
                }
            }
        }
        let mut views = Vec::new();
        for client in [&mut bob, &mut *first, &mut *second] {
            let mut seen = Vec::new();
            let words = |seen: &[Stanza]| seen.iter().filter(|it| it.name() == "message").count();
            while words(&seen) < said.len() {
                seen.push(
                    client
                        .recv_for(&format!("{case}: the rest of the talk"))
                        .await
                        .unwrap(),
                );
            }
            views.push(seen);
        }
        front.released(uplink).await;
        let rest = mark(&mut bob, &stage.room, [&mut *first, &mut *second]).await;
        for (view, rest) in views[1..].iter_mut().zip(rest) {
            view.extend(rest);
        }
        views[0].extend(bob.settle(&stage.room).await.unwrap());

        assert_no_leave(&views[0]);
        assert_eq!(
            impersonal(first, &views[1]),
            impersonal(second, &views[2]),
            "{case}"
        );
        for view in &views {
            let words: Vec<&Stanza> = view.iter().filter(|it| it.name() == "message").collect();
            assert_eq!(words.len(), said.len(), "{case}");
            for who in ["first", "second"] {
                let expected = said.iter().filter(|(by, ..)| *by == who);
                let expected: Vec<_> = expected
                    .map(|(_, body, id)| (body.clone(), id.clone()))
                    .collect();
                let got = words.iter().filter(|it| it.body().unwrap().contains(who));
                let got: Vec<_> = got
                    .map(|it| (it.body().unwrap(), it.id().unwrap().to_owned()))
                    .collect();
                assert_eq!(got, expected, "{case}");
            }
        }
        let strange = views[1].iter().find(|it| it.name() != "message");
        assert!(strange.is_none(), "{case}: {strange:?}");
        let mut next = front.session(&alice, &format!("session-{round}")).await;
        next.join(&stage.room, "alice").await.unwrap();
        sessions.push_back(next);
    }
}

/// The one that takes over ends while it does.
async fn b43_b59_two_carriers_end_at_once(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let (mut talk, mut listeners) = audience(&stage, &front, &alice).await;
    for round in 0..10 {
        let case = format!("round {round}");
        while listeners.len() < 3 {
            let resource = format!("session-{round}-{}", listeners.len());
            listeners.push_back(Listener::join(&front, &alice, &resource, &stage.room).await);
        }
        talk.more(2).await;
        let (first, second) = (
            listeners.pop_front().unwrap(),
            listeners.pop_front().unwrap(),
        );
        let uplinks = [&first, &second].map(|listener| front.uplink(&listener.client));
        let (first, second) = (first.client, second.client);
        // In either order, and with a reset or a FIN.
        match round % 3 {
            0 => {
                first.reset_connection().unwrap();
                second.reset_connection().unwrap();
            }
            1 => {
                second.drop_connection().await.unwrap();
                first.drop_connection().await.unwrap();
            }
            _ => {
                first.reset_connection().unwrap();
                tokio::task::yield_now().await;
                second.drop_connection().await.unwrap();
            }
        }
        for uplink in uplinks {
            front.released(uplink).await;
        }
        let said = talk.more(3).await;
        for listener in &mut listeners {
            listener.complete(said, &case).await;
        }
    }
    let (_, on_bob, said) = talk.stop().await;
    assert_no_leave(&on_bob);
    for listener in &mut listeners {
        listener.complete(said, "at last").await;
    }
}

/// Nick, status and role are the account's, whichever uplink it is there by.
async fn b43_b59_what_the_account_is_in_the_room_stays(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    phone.join(room, "alice").await.unwrap();
    laptop.join(room, "alice").await.unwrap();
    let own = |it: &Stanza| it.kind().is_none() && it.has_status(110);
    // Both say the same: the room sees no difference when one of them goes (behaviour 37).
    let away = "<show>away</show><status>tea</status>";
    laptop
        .send_raw(format!("<presence to='{room}/ally'>{away}</presence>"))
        .await
        .unwrap();
    laptop.wait_for("the new nick", own).await.unwrap();
    phone
        .send_raw(format!("<presence to='{room}/ally'>{away}</presence>"))
        .await
        .unwrap();
    through(&mut phone, "the answer", |it| {
        own(it) && it.has_child("show", "jabber:client")
    })
    .await;
    mark(&mut phone, room, [&mut bob, &mut laptop]).await;

    Ending::Reset.end(&front, phone).await;

    laptop.say(room, "still here").await.unwrap();
    let on_bob = until(&mut bob, "still here").await;
    assert!(on_bob.len() <= 2, "{on_bob:?}");
    for line in outline(&on_bob) {
        assert_eq!(line, "presence ally none/participant away");
    }
    let on_laptop = until(&mut laptop, "still here").await;
    assert!(on_laptop.is_empty(), "{on_laptop:?}");
    let mut carol = stage.outsider(&stage.account("carol").await, "desk").await;
    let joined = carol.join(room, "carol").await.unwrap();
    let mut lines = outline(&joined.presences);
    lines.sort_unstable();
    let away = "presence ally none/participant away";
    assert_eq!(lines, [away, "presence bob owner/moderator"]);
    let mut tablet = front.session(&alice, "tablet").await;
    let joined = tablet.join(room, "ally").await.unwrap();
    assert_eq!(outline(&[joined.self_presence]), [format!("{away} 110")]);
}

/// The session whose uplink it was gets a stream error.
async fn assert_ended(mut client: Client) {
    loop {
        match client.next("a stream error").await.unwrap() {
            Incoming::Stanza(stanza) if stanza.is("error", NS_STREAM) => break,
            Incoming::Stanza(stanza) => assert_eq!(nick(&stanza), "bob"),
            other => panic!("{other:?} instead of a stream error"),
        }
    }
    assert!(matches!(
        client.next("the end").await.unwrap(),
        Incoming::Close
    ));
}

async fn b60_the_carriers_connection_to_the_server_is_cut(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let (mut talk, mut listeners) = audience(&stage, &front, &alice).await;
    for round in 0..8 {
        let case = format!("round {round}");
        let resource = format!("session-{round}");
        listeners.push_back(Listener::join(&front, &alice, &resource, &stage.room).await);
        let said = talk.more(3).await;
        let mut carrier = listeners.pop_front().unwrap();
        carrier.complete(said, &case).await;
        let uplink = front.uplink(&carrier.client);
        if round % 2 == 0 {
            front.tap.cut(uplink);
        } else {
            front.tap.reset(uplink);
        }
        assert_ended(carrier.client).await;
        let said = talk.more(3).await;
        for listener in &mut listeners {
            listener.complete(said, &case).await;
        }
    }
    let (mut bob, _, said) = talk.stop().await;
    for listener in &mut listeners {
        listener.complete(said, "at last").await;
    }
    // They can speak, and are one occupant.
    let listener = listeners.front_mut().unwrap();
    listener
        .client
        .say(&stage.room, "still here")
        .await
        .unwrap();
    until(&mut bob, "still here").await;
    let mut carol = stage.outsider(&stage.account("carol").await, "desk").await;
    let mut nicks = carol.join(&stage.room, "carol").await.unwrap();
    nicks.presences.retain(|it| it.item().is_some());
    let mut lines = outline(&nicks.presences);
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "presence alice none/participant",
            "presence bob owner/moderator"
        ]
    );
}

/// Nobody is in the room to be told, and the account goes back all the same, for `stay`.
async fn b60_the_only_carrier_is_cut_and_another_session_is_connected(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    mark(&mut phone, &stage.room, [&mut bob]).await;
    let upstream = front.tap.count_up(&format!("{}/alice", stage.room));
    front.tap.cut(front.uplink(&phone));
    assert_ended(phone).await;
    let back = front.tap.wait_until(|recordings| {
        let occupant = format!("{}/alice", stage.room);
        recordings
            .iter()
            .map(|it| it.count_up(&occupant))
            .sum::<usize>()
            > upstream
    });
    assert!(back.await, "the account does not go back");
    bob.say(&stage.room, "anybody?").await.unwrap();
    until(&mut bob, "anybody?").await;
    let joined = laptop.join(&stage.room, "alice").await.unwrap();
    assert_eq!(joined.nicks(), ["bob"]);
    // The way back may not be at its end: then what was said comes after the subject.
    let [after] = mark(&mut bob, &stage.room, [&mut laptop]).await;
    let heard = [joined.bodies(), bodies(&after)].concat();
    assert_eq!(heard, ["anybody?"]);
    assert_eq!(
        front.tap.count_up(&format!("{}/alice", stage.room)),
        upstream + 1
    );
}
