//! Behaviours 57 and 63 by chance: clients are cut, the proxy is killed, streams are resumed or not,
//! at any moment; in the end each client has each message of the room exactly once, in order.
//!
//! The clients have stream management: each says how much it has had when it comes back, and before
//! that the proxy knows what was acknowledged.

use std::time::Duration;

use mucplex_muc::Input;

use crate::dialect::{Dialect, EJABBERD, PROSODY, SINGLE};
use crate::model::Rng;
use crate::scribe::line;
use crate::world::{ALICE, TEA, World};

/// Not a service that gives so little that two carriers of a room cannot be told apart for certain;
/// nor one that tells a new stream of a full JID what it has for the older one.
const SERVICES: [Dialect; 3] = [
    PROSODY,
    Dialect {
        ends_older_late: false,
        ..EJABBERD
    },
    SINGLE,
];
const RESOURCES: [&str; 3] = ["phone", "desk", "tablet"];

/// A client over all of its sessions.
#[derive(Debug, Default)]
struct Client {
    session: Option<u64>,
    /// Of what its session was sent: how much it has had, and acknowledged.
    had: usize,
    acked: usize,
    /// The session of before, with what the client had of it.
    before: Option<(u64, usize)>,
    /// Its session has been told the subject, and so is in the room.
    joined: bool,
    /// It has been in the room before.
    knows: bool,
    /// The messages it knows.
    messages: Vec<usize>,
}

impl Client {
    /// It reads what it was sent, up to so many stanzas.
    fn reads(&mut self, w: &World, most: usize) {
        let all = &w.sessions[&self.session.unwrap()].all;
        for xml in all.iter().take(most).skip(self.had) {
            let told = line(xml);
            if told.starts_with("gone alice") {
                panic!("it was put out: {told}");
            }
            self.joined |= told.starts_with("subject");
            let said = told.split_once(": m").filter(|_| told.contains(" bob: "));
            if let Some((_, number)) = said {
                self.messages.push(number.parse().unwrap());
            }
        }
        self.had = self.had.max(most.min(all.len()));
    }

    fn is_gone(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.before = Some((session, self.had));
        self.knows |= self.joined;
        if !self.knows {
            // Half of a first join is none.
            self.messages.clear();
        }
        (self.had, self.acked, self.joined) = (0, 0, false);
    }
}

struct Story {
    w: World,
    rng: Rng,
    clients: [Client; 3],
    anchor: Option<u64>,
    said: usize,
}

impl Story {
    fn new(dialect: Dialect, seed: u64) -> Self {
        let mut w = World::with(dialect, Duration::from_secs(30 * 86_400));
        w.other_joins("bob", TEA);
        Self {
            w,
            rng: Rng(seed),
            clients: Default::default(),
            anchor: None,
            said: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=4 => self.say(),
            5..=8 => self.deliver(),
            9..=10 => self.client(Self::reads),
            11..=12 => self.client(Self::goes),
            13..=16 => self.client(Self::comes),
            17 => self.wait(),
            18 if self.anchor.is_none() => self.anchor = Some(self.w.anchor(ALICE)),
            18 => self.w.run(),
            _ if self.rng.below(3) == 0 => self.kill(),
            _ => {}
        }
    }

    fn say(&mut self) {
        let body = format!("m{}", self.said);
        self.said += 1;
        self.w.other_says("bob", TEA, &body);
    }

    /// What is on its way is not held up for longer than a room may take to answer.
    fn wait(&mut self) {
        if self.rng.below(3) != 0 {
            self.w.wait(Duration::from_secs(1));
            return;
        }
        for _ in 0..40 {
            self.w.run();
            self.w.wait(Duration::from_secs(1));
        }
    }

    /// Something of what is on its way arrives.
    fn deliver(&mut self) {
        let uplinks: Vec<u64> = self.w.uplinks.keys().copied().collect();
        if !uplinks.is_empty() {
            let uplink = uplinks[self.rng.below(uplinks.len())];
            for _ in 0..self.rng.below(8) {
                match self.rng.below(2) {
                    0 => self.w.step_up(uplink),
                    _ => self.w.step_down(uplink),
                };
            }
        }
    }

    fn note(&mut self, what: &str) {
        if let Some(story) = &mut self.w.story {
            story.push(what.to_owned());
        }
    }

    fn client(&mut self, act: fn(&mut Self, usize)) {
        let which = self.rng.below(self.clients.len());
        act(self, which);
    }

    fn reads(&mut self, which: usize) {
        let client = &mut self.clients[which];
        if let Some(session) = client.session {
            let most = self.rng.below(self.w.sessions[&session].all.len() + 1);
            client.reads(&self.w, most);
            client.acked += self.rng.below(client.had - client.acked + 1);
        }
    }

    /// Its connection is cut, and its session is not resumed in time.
    fn goes(&mut self, which: usize) {
        if let Some(session) = self.clients[which].session {
            self.note(&format!(
                "{} is lost, {:?}",
                RESOURCES[which], self.clients[which]
            ));
            self.w.lose_client(session, self.clients[which].acked);
            self.clients[which].is_gone();
        }
    }

    fn comes(&mut self, which: usize) {
        let client = &mut self.clients[which];
        if client.session.is_some() {
            return;
        }
        if let Some((session, had)) = client.before.take() {
            self.note(&format!("{} comes back, with {had}", RESOURCES[which]));
            let resource = RESOURCES[which].to_owned();
            let number = self.w.mark_of(session, had);
            self.w.new_hub(ALICE);
            self.w.input(ALICE, Input::Served { resource, number });
        }
        let session = self.w.bind(RESOURCES[which]);
        self.clients[which].session = Some(session);
        self.w.join(session, TEA, "alice");
    }

    fn kill(&mut self) {
        if !self.w.hubs.contains_key(ALICE) {
            return;
        }
        self.note("the proxy is killed");
        let resumed = self.anchor.filter(|_| self.rng.below(3) != 0);
        self.anchor = self.w.kill(resumed);
        for client in &mut self.clients {
            client.is_gone();
        }
        let Some(anchor) = self.anchor else {
            return;
        };
        let expected = true;
        self.w.input(ALICE, Input::AnchorExpected { expected });
        for _ in 0..self.rng.below(6) {
            match self.rng.below(3) {
                0 => self.say(),
                1 => self.client(Self::comes),
                _ => {}
            }
        }
        self.w.anchor_returns(anchor);
    }

    /// The room may have refused a join: another stream of the account was there.
    fn ask_again(&mut self) {
        for client in &mut self.clients {
            client.reads(&self.w, usize::MAX);
            if !client.joined {
                self.w.join(client.session.unwrap(), TEA, "alice");
            }
        }
    }

    /// All come back, and all arrives.
    fn end(&mut self) {
        for which in 0..self.clients.len() {
            self.comes(which);
        }
        for second in 0..160 {
            self.w.run();
            self.w.wait(Duration::from_secs(1));
            if second % 40 == 20 {
                self.ask_again();
            }
        }
        self.say();
        self.w.run();
        for client in &mut self.clients {
            client.reads(&self.w, usize::MAX);
            assert!(client.joined, "it has not come into the room");
            let first = *client.messages.first().unwrap();
            let all: Vec<usize> = (first..self.said).collect();
            assert_eq!(client.messages, all, "twice, never, or out of order");
        }
        let inside = &self.w.service.rooms[TEA].occupants;
        let streams = inside.iter().filter(|it| it.nick == "alice");
        assert_eq!(streams.map(|it| it.streams.len()).sum::<usize>(), 1);
    }
}

/// What came to pass, if it came to a bad end.
fn tell(dialect: Dialect, seed: u64) -> Option<String> {
    let mut story = Story::new(dialect, seed);
    story.w.story = Some(Vec::new());
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..80 {
            story.step();
        }
        story.end();
    }));
    told.err()?;
    story.w.story.map(|lines| lines.join("\n"))
}

#[test]
fn b57_b63_each_client_has_each_message_once_whatever_dies() {
    for seed in 0..800 {
        let dialect = SERVICES[usize::try_from(seed).unwrap() % SERVICES.len()];
        if let Some(told) = tell(dialect, seed) {
            panic!("seed {seed}, a service like {}:\n{told}", dialect.name);
        }
    }
}
