//! The account's own nick and presence (behaviours 34, 35, 38).

use mucplex_testkit::client::Client;
use mucplex_testkit::xml::Stanza;

use crate::stage::{Front, Stage, impersonal, leave, mark, nick, outline, through};

crate::tests![
    b34_each_session_changes_the_nick,
    b34_a_change_of_nick_and_messages_at_once,
    b35_a_refused_nick_is_told_to_the_one_who_asked,
    b38_a_presence_of_each_session_is_answered,
];

/// Three sessions of alice in bob's room, and one that joins late; the phone's uplink carries it.
struct Named {
    front: Front,
    bob: Client,
    sessions: [Client; 3],
    late: Client,
    room: String,
}

impl Named {
    async fn new(stage: &Stage) -> Self {
        let front = stage.own_front("").await;
        let mut bob = stage.room_with_bob().await;
        let alice = stage.account("alice").await;
        let mut sessions = Vec::new();
        for resource in ["phone", "laptop", "tablet"] {
            let mut client = front.session(&alice, resource).await;
            client.join(&stage.room, "alice").await.unwrap();
            sessions.push(client);
        }
        let mut sessions: [Client; 3] = sessions.try_into().unwrap();
        let late = front.session(&alice, "late").await;
        mark(&mut bob, &stage.room, sessions.each_mut()).await;
        let room = stage.room.clone();
        Self {
            front,
            bob,
            sessions,
            late,
            room,
        }
    }

    /// One session sends a presence for this nick, with the id `change`.
    async fn asks_for(&mut self, session: usize, wanted: &str) {
        let presence = format!("<presence id='change' to='{}/{wanted}'/>", self.room);
        self.sessions[session].send_raw(presence).await.unwrap();
    }

    /// Each session says something, and everybody hears it from `nick`.
    async fn speak_as(&mut self, nick: &str) {
        for speaker in 0..self.sessions.len() {
            let body = format!("{nick}, session {speaker}");
            self.sessions[speaker].say(&self.room, &body).await.unwrap();
            for client in self.sessions.iter_mut().chain([&mut self.bob]) {
                let message = client.recv_for("the message").await.unwrap();
                assert_eq!(outline([&message]), [format!("{nick}: {body}")]);
            }
        }
    }

    /// A late joiner that asks for `asked` is told the account's nick.
    async fn late_joiner(&mut self, asked: &str, own: &str, codes: &str) {
        let joined = self.late.join(&self.room, asked).await.unwrap();
        assert_eq!(joined.nicks().last(), Some(&"bob"), "{joined:?}");
        let line = format!("presence {own} none/participant{codes}");
        assert_eq!(outline([&joined.self_presence]), [line]);
        leave(&mut self.late, &self.room, own).await;
    }
}

async fn b34_each_session_changes_the_nick(stage: Stage) {
    let mut at = Named::new(&stage).await;
    let mut old = "alice";
    // One that is not the carrier, then the carrier, then another one.
    for (session, new) in [(1, "ally"), (0, "Alice the 3rd"), (2, "al")] {
        at.asks_for(session, new).await;
        let changed = |it: &Stanza| it.kind().is_none() && nick(it) == new;
        let asking = &mut at.sessions[session];
        let mut seen = through(asking, "the new nick", changed).await;
        let listeners = at.sessions.each_mut();
        let mut heard = mark(&mut at.bob, &at.room, listeners).await;
        seen.append(&mut heard[session]);
        heard[session] = seen;

        let lines = [
            format!("presence {old} unavailable none/participant 110 303"),
            format!("presence {new} none/participant 110"),
        ];
        let first = impersonal(&at.sessions[0], &heard[0]);
        for (client, seen) in at.sessions.iter().zip(&heard) {
            assert_eq!(outline(seen), lines);
            assert_eq!(seen[0].item().unwrap().attr("nick"), Some(new));
            assert_eq!(impersonal(client, seen), first);
        }
        let upstream = at.front.tap.count_up(&format!("{}/{new}'", at.room));
        assert_eq!(upstream, 1);
        at.speak_as(new).await;
        at.late_joiner(new, new, " 110").await;
        // The old nick is free, and the account is known by the new one alone.
        at.late_joiner(old, new, " 110 210").await;
        old = new;
    }
    let mut carol = stage.outsider(&stage.account("carol").await, "desk").await;
    let joined = carol.join(&at.room, "alice").await.unwrap();
    let mut nicks = joined.nicks();
    nicks.retain(|nick| *nick != "alice");
    nicks.sort_unstable();
    assert_eq!(nicks, ["al", "bob"]);
}

/// What bob sees of it is what all sessions see: one order, and no word under a nick that is not
/// the account's at that place.
async fn b34_a_change_of_nick_and_messages_at_once(stage: Stage) {
    let mut at = Named::new(&stage).await;
    for round in 0..10 {
        let new = format!("alice-{round}");
        at.asks_for(round % 3, &new).await;
        for (number, client) in at.sessions.iter_mut().enumerate() {
            let body = format!("{round}, session {number}");
            client.say(&at.room, &body).await.unwrap();
        }
    }
    // Two presences and three messages a round.
    let mut views = Vec::new();
    for client in at.sessions.iter_mut().chain([&mut at.bob]) {
        let mut seen = Vec::new();
        while seen.len() < 10 * 5 {
            seen.push(client.recv_for("the rest").await.unwrap());
        }
        views.push(seen);
    }
    let listeners = at.sessions.each_mut();
    for (seen, rest) in views
        .iter_mut()
        .zip(mark(&mut at.bob, &at.room, listeners).await)
    {
        seen.extend(rest);
    }
    let on_bob = views.pop().unwrap();
    let order = outline(&on_bob);
    assert_eq!(order.len(), 10 * 5, "{order:?}");
    let last = nick(on_bob.last().unwrap()).to_owned();
    for seen in &views {
        let mut own = "alice".to_owned();
        for stanza in seen {
            if stanza.has_status(303) {
                assert_eq!(nick(stanza), own);
                stanza
                    .item()
                    .unwrap()
                    .attr("nick")
                    .unwrap()
                    .clone_into(&mut own);
            } else {
                assert_eq!(nick(stanza), own, "{stanza:?}");
            }
        }
        let seen: Vec<String> = outline(seen)
            .iter()
            .map(|line| line.replace(" 110", ""))
            .collect();
        assert_eq!(seen, order);
    }
    at.late_joiner(&last, &last, " 110").await;
}

async fn b35_a_refused_nick_is_told_to_the_one_who_asked(stage: Stage) {
    let mut at = Named::new(&stage).await;
    for session in 0..3 {
        at.asks_for(session, "bob").await;
        let asking = &mut at.sessions[session];
        let error = asking.recv_for("the error").await.unwrap();
        assert_eq!(outline([&error]), ["presence error bob conflict"]);
        assert_eq!(error.from(), Some(&*format!("{}/bob", at.room)));
        assert_eq!(
            (error.id(), error.to()),
            (Some("change"), Some(asking.jid()))
        );
        for seen in mark(&mut at.bob, &at.room, at.sessions.each_mut()).await {
            assert_eq!(outline(&seen), [""; 0]);
        }
        at.speak_as("alice").await;
        at.late_joiner("alice", "alice", " 110").await;
    }
    // The room has given nobody another nick, and a free one is still to be had.
    at.asks_for(1, "ally").await;
    for client in &mut at.sessions {
        let is_new = |it: &Stanza| it.kind().is_none() && nick(it) == "ally";
        through(client, "the new nick", is_new).await;
    }
    let renamed = |it: &Stanza| nick(it) == "ally";
    at.bob.wait_for("the new nick", renamed).await.unwrap();
    at.speak_as("ally").await;
}

async fn b38_a_presence_of_each_session_is_answered(stage: Stage) {
    let mut at = Named::new(&stage).await;
    let away = "<show>away</show>";
    // Also one that says nothing new.
    for (number, show) in [away, away, "", ""].into_iter().enumerate() {
        for session in 0..3 {
            let client = &mut at.sessions[session];
            let id = format!("presence-{number}");
            let presence = format!(
                "<presence id='{id}' to='{}/alice'>{show}</presence>",
                at.room
            );
            client.send_raw(presence).await.unwrap();
            let answer = client.recv_for("the answer").await.unwrap();
            let occupant = format!("{}/alice", at.room);
            assert_eq!((answer.name(), answer.kind()), ("presence", None));
            assert_eq!(answer.from(), Some(&*occupant));
            assert!(answer.has_status(110), "{answer:?}");
            assert_eq!((answer.id(), answer.to()), (Some(&*id), Some(client.jid())));
            // It is one.
            let heard = mark(&mut at.bob, &at.room, at.sessions.each_mut()).await;
            assert_eq!(outline(&heard[session]), [""; 0]);
            let rest = at.sessions[session].drain_until_pong().await.unwrap();
            assert_eq!(outline(&rest), [""; 0]);
        }
    }
}
