//! Random life of an account in two rooms, against what each session must have seen of it.
//!
//! A session's view is computed from what it was sent, as a client would, and held against the
//! service: messages without a gap, a double or a change of order from the history of the join to
//! the end; the roster; the place of the self-presence. `PROPTEST_CASES` sets the number of lives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};

use crate::dialect::{self, Dialect};
use crate::scribe;
use crate::script::{NICKS, OTHERS, Op, ROOMS, SHOWS, Script, op};
use crate::service::parse;
use crate::world::{ALICE, World};

/// One room as one session sees it.
#[derive(Debug, Default)]
struct View {
    joining: bool,
    attached: bool,
    /// The self-presence of the join under way has come.
    own: bool,
    roster: BTreeMap<String, String>,
    /// The last message, by its place in the room.
    last: Option<usize>,
}

struct Life {
    world: World,
    slots: [Option<u64>; 4],
    views: BTreeMap<(u64, usize), View>,
    /// Messages said: session, room, body.
    sent: Vec<(u64, usize, String)>,
    refused: BTreeSet<String>,
    whispers: BTreeMap<(u64, String), usize>,
    said: [Vec<String>; 2],
    /// An uplink was lost, or the account put out: what follows from it may show.
    rough: bool,
    lossless: bool,
    /// Since all was at rest: an uplink was lost, a room destroyed.
    lost: bool,
    destroyed: bool,
    count: usize,
    /// Seconds since everything was delivered.
    waited: u64,
}

impl Life {
    fn new(dialect: Dialect) -> Self {
        Self {
            world: World::of(dialect),
            slots: [None; 4],
            views: BTreeMap::new(),
            sent: Vec::new(),
            refused: BTreeSet::new(),
            whispers: BTreeMap::new(),
            said: [Vec::new(), Vec::new()],
            rough: false,
            lossless: true,
            lost: false,
            destroyed: false,
            count: 0,
            waited: 0,
        }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Bind(slot) => {
                if self.slots[slot].is_none() {
                    self.count += 1;
                    let id = self.world.bind(&format!("r{}", self.count));
                    self.slots[slot] = Some(id);
                }
            }
            Op::Cut(slot) => {
                if let Some(id) = self.slots[slot].take() {
                    self.forget(id);
                    self.world.cut(id);
                }
            }
            // A room destroyed and made anew while no carrier looked cannot be told from the old.
            Op::Lose(_) if self.destroyed => {}
            Op::Lose(slot) => {
                if let Some(id) = self.slots[slot].take() {
                    self.rough = true;
                    self.lost = true;
                    self.forget(id);
                    let uplink = self.world.up(id);
                    self.world.lose(uplink);
                }
            }
            Op::Away(slot) => {
                if let Some(id) = self.slots[slot] {
                    self.forget(id);
                    self.world.unavailable(id);
                }
            }
            Op::Up(uplink, n) => {
                if let Some(uplink) = self.uplink(uplink) {
                    for _ in 0..n {
                        self.world.step_up(uplink);
                    }
                }
            }
            Op::Down(uplink, n) => {
                if let Some(uplink) = self.uplink(uplink) {
                    for _ in 0..n {
                        self.world.step_down(uplink);
                        self.look();
                    }
                }
            }
            Op::Run => self.run(),
            Op::Rest => self.rest(),
            Op::Wait(seconds) => {
                // No service takes longer than ten seconds to answer.
                for _ in 0..seconds {
                    self.waited += 1;
                    if self.waited > 9 {
                        self.run();
                    }
                    self.world.wait(Duration::from_secs(1));
                }
            }
            op => self.act_in_room(op),
        }
        self.look();
    }

    fn act_in_room(&mut self, op: Op) {
        match op {
            Op::Join(slot, room, nick) => self.session(slot, |life, id| {
                if life.attached(id, room) && NICKS[nick] != life.nick_of(id, room) {
                    return;
                }
                let view = life.views.entry((id, room)).or_default();
                if view.joining {
                    return;
                }
                view.joining = true;
                view.own = false;
                if !view.attached {
                    view.roster.clear();
                    view.last = None;
                }
                life.world.join(id, ROOMS[room], NICKS[nick]);
            }),
            Op::Leave(slot, room) => self.session(slot, |life, id| {
                life.views.remove(&(id, room));
                life.world.leave(id, ROOMS[room], "alice");
            }),
            Op::Say(slot, room) => self.session(slot, |life, id| {
                life.count += 1;
                let body = format!("m{}", life.count);
                life.sent.push((id, room, body.clone()));
                life.world.say(id, ROOMS[room], &body, &body);
            }),
            Op::Topic(slot, room) => self.session(slot, |life, id| {
                life.count += 1;
                let topic = format!("t{}", life.count);
                let to = ROOMS[room];
                life.world.send(
                    id,
                    &format!(
                        "<message to='{to}' type='groupchat'><subject>{topic}</subject></message>"
                    ),
                );
            }),
            Op::Show(slot, room, show) => self.session(slot, |life, id| {
                if life.attached(id, room) {
                    let to = format!("{}/{}", ROOMS[room], life.nick_of(id, room));
                    life.world.send(
                        id,
                        &format!("<presence to='{to}' id='show'>{}</presence>", SHOWS[show]),
                    );
                }
            }),
            Op::Nick(slot, room, nick) => self.session(slot, |life, id| {
                if life.attached(id, room) {
                    let to = format!("{}/{}", ROOMS[room], NICKS[nick]);
                    life.world
                        .send(id, &format!("<presence to='{to}' id='nick'/>"));
                }
            }),
            Op::Kick(room) => {
                let room = ROOMS[room];
                self.lossless = false;
                let occupants = self.world.service.known(room).occupants.clone();
                if let Some(own) = occupants.iter().find(|it| it.bare == ALICE) {
                    self.rough = true;
                    self.world.service.remove(room, &own.nick, 307);
                    self.world.sort_out();
                }
            }
            Op::Destroy(_) if self.lost => {}
            Op::Destroy(room) => {
                self.destroyed = true;
                self.rough = true;
                self.lossless = false;
                self.world.service.destroy(ROOMS[room]);
                self.world.sort_out();
            }
            op => self.act_past_the_proxy(op),
        }
    }

    fn act_past_the_proxy(&mut self, op: Op) {
        match op {
            Op::OtherJoins(other, room) => self.world.other_joins(OTHERS[other], ROOMS[room]),
            Op::OtherLeaves(other, room) => {
                let to = ROOMS[room];
                self.world.other(
                    OTHERS[other],
                    &format!("<presence to='{to}/x' type='unavailable'/>"),
                );
            }
            Op::OtherShow(other, room, show) => {
                let stream = format!("{}@test/pc", OTHERS[other]);
                let known = self.world.service.known(ROOMS[room]);
                if let Some(at) = known.of(&stream) {
                    let to = format!("{}/{}", ROOMS[room], known.occupants[at].nick);
                    self.world.other(
                        OTHERS[other],
                        &format!("<presence to='{to}'>{}</presence>", SHOWS[show]),
                    );
                }
            }
            Op::OtherNick(other, room) => {
                let stream = format!("{}@test/pc", OTHERS[other]);
                let known = self.world.service.known(ROOMS[room]);
                if let Some(at) = known.of(&stream) {
                    let nick = &known.occupants[at].nick;
                    let next = match nick.strip_suffix('_') {
                        Some(short) => short.to_owned(),
                        None => format!("{nick}_"),
                    };
                    let to = format!("{}/{next}", ROOMS[room]);
                    self.world
                        .other(OTHERS[other], &format!("<presence to='{to}'/>"));
                }
            }
            Op::OtherSays(other, room) => {
                self.count += 1;
                let body = format!("o{}", self.count);
                self.world.other_says(OTHERS[other], ROOMS[room], &body);
            }
            Op::OtherWhispers(other, room) => {
                self.count += 1;
                let known = self.world.service.known(ROOMS[room]);
                let to = known
                    .occupants
                    .iter()
                    .find(|it| it.bare == ALICE)
                    .map(|it| it.nick.clone());
                if let Some(nick) = to {
                    let body = format!("w{}", self.count);
                    let to = format!("{}/{nick}", ROOMS[room]);
                    self.world.other(
                        OTHERS[other],
                        &format!("<message to='{to}' type='chat'><body>{body}</body></message>"),
                    );
                }
            }
            _ => {}
        }
    }

    fn session(&mut self, slot: usize, act: impl FnOnce(&mut Self, u64)) {
        if let Some(id) = self.slots[slot].filter(|id| !self.world.withholds(*id)) {
            act(self, id);
        }
    }

    fn uplink(&self, n: usize) -> Option<u64> {
        let ids: Vec<u64> = self
            .world
            .uplinks
            .iter()
            .filter(|(_, it)| it.open || !it.up.is_empty())
            .map(|(id, _)| *id)
            .collect();
        ids.get(n % ids.len().max(1)).copied()
    }

    fn attached(&self, id: u64, room: usize) -> bool {
        self.views
            .get(&(id, room))
            .is_some_and(|view| view.attached)
    }

    /// The nick the session knows itself by.
    fn nick_of(&self, id: u64, room: usize) -> String {
        let all = &self.world.sessions[&id].all;
        let own = all.iter().rev().map(|xml| parse(xml)).find(|frame| {
            frame.name() == "presence"
                && frame.stanza_type().is_none()
                && frame
                    .from()
                    .is_some_and(|from| from.starts_with(ROOMS[room]))
                && scribe::codes(frame).contains(&110)
        });
        own.unwrap()
            .from()
            .unwrap()
            .split_once('/')
            .unwrap()
            .1
            .to_owned()
    }

    fn forget(&mut self, id: u64) {
        self.views.retain(|(session, _), _| *session != id);
    }

    fn run(&mut self) {
        self.waited = 0;
        loop {
            let mut moved = false;
            let ids: Vec<u64> = self.world.uplinks.keys().copied().collect();
            for id in ids {
                moved |= self.world.step_up(id);
                self.look();
                moved |= self.world.step_down(id);
                self.look();
            }
            if !moved {
                return;
            }
        }
    }

    /// Takes in what has happened, and checks it.
    fn look(&mut self) {
        for (room, said) in self.said.iter_mut().enumerate() {
            let now = &self.world.service.known(ROOMS[room]).said;
            said.clone_from(now);
        }
        let ids: Vec<u64> = self.world.sessions.keys().copied().collect();
        for id in ids {
            for xml in self.world.raw(id) {
                self.read(id, &xml);
            }
        }
        for gone in std::mem::take(&mut self.world.service.departures) {
            let room = ROOMS.iter().position(|room| *room == gone.room).unwrap();
            let wanted = self
                .views
                .iter()
                .any(|((_, r), view)| *r == room && view.attached);
            assert!(
                gone.account != ALICE
                    || !wanted
                    || self.rough
                    || !self.world.service.dialect.second_stream,
                "the room saw the account leave"
            );
        }
    }

    fn read(&mut self, id: u64, xml: &str) {
        let frame = parse(xml);
        let from = frame.from().unwrap_or_default().into_owned();
        let Some(room) = ROOMS.iter().position(|room| from.starts_with(room)) else {
            return;
        };
        let line = scribe::line(xml);
        if frame.stanza_type().as_deref() == Some("error") {
            if frame.name() == "message" {
                self.refused
                    .insert(frame.id().unwrap_or_default().into_owned());
            } else if let Some(view) = self.views.get_mut(&(id, room))
                && frame.id().as_deref() == Some("join")
            {
                view.joining = false;
            }
            return;
        }
        if frame.name() == "presence" {
            self.read_presence(id, room, &frame, &line);
        } else if line.starts_with("private") {
            let times = self.whispers.entry((id, line.clone())).or_default();
            *times += 1;
            assert_eq!(*times, 1, "twice: {line}");
        } else if frame.name() == "message" {
            self.read_groupchat(id, room, &line);
        }
    }

    fn read_presence(&mut self, id: u64, room: usize, frame: &mucplex_xml::Frame, line: &str) {
        let from = frame.from().unwrap();
        let Some((_, nick)) = from.split_once('/') else {
            return;
        };
        let own = scribe::codes(frame).contains(&110);
        let Some(view) = self.views.get_mut(&(id, room)) else {
            assert!(
                own && line.starts_with("gone"),
                "session {id} is not in the room: {line}"
            );
            return;
        };
        if frame.stanza_type().is_some() {
            view.roster.remove(nick);
            if own && !scribe::codes(frame).contains(&303) {
                let again = view.joining && !view.attached;
                self.views.remove(&(id, room));
                if again {
                    // Put out on the way in: an answer to the join all the same.
                }
            }
            return;
        }
        let show = frame
            .root()
            .child("show", "jabber:client")
            .map(|it| it.text());
        view.roster
            .insert(nick.to_owned(), show.unwrap_or_default());
        if view.joining {
            assert!(
                own || !view.own || !self.world.service.dialect.subject,
                "session {id}: behind the self-presence: {line}"
            );
            if own {
                view.own = true;
                view.last = None;
            }
        }
    }

    fn read_groupchat(&mut self, id: u64, room: usize, line: &str) {
        let Some(view) = self.views.get_mut(&(id, room)) else {
            panic!("session {id} is not in the room: {line}");
        };
        if line.starts_with("subject") {
            if view.joining && view.own {
                view.joining = false;
                view.attached = true;
            }
            return;
        }
        let body = line.rsplit(' ').next().unwrap();
        let said = &self.said[room];
        let Some(place) = said.iter().position(|said| said == body) else {
            assert!(self.rough, "session {id}: nobody said {line}");
            return;
        };
        let history = view.joining && view.own;
        assert!(
            history == line.starts_with("past")
                || self.rough
                || !self.world.service.dialect.second_stream,
            "session {id}: {line}"
        );
        match view.last {
            Some(last) => assert_eq!(place, last + 1, "session {id}: {line} after {}", said[last]),
            None if history || view.attached && place == 0 => {}
            None => assert!(place == 0, "session {id}: {line} is not the first"),
        }
        view.last = Some(place);
    }

    /// Everything has come to rest: what is known on both sides is the same.
    fn rest(&mut self) {
        for _ in 0..6 {
            self.run();
            self.world.wait(Duration::from_secs(31));
            self.look();
        }
        self.run();
        for (room, jid) in ROOMS.iter().enumerate() {
            let known = self.world.service.known(jid);
            let truth: BTreeMap<String, String> = known
                .occupants
                .iter()
                .map(|it| {
                    let show = it.payload.replace("<show>", "").replace("</show>", "");
                    (it.nick.clone(), show)
                })
                .collect();
            let own = known.occupants.iter().filter(|it| it.bare == ALICE).count();
            assert!(own < 2, "two occupancies in {jid}");
            let streams = known
                .occupants
                .iter()
                .find(|it| it.bare == ALICE)
                .map_or(0, |it| it.streams.len());
            let last = known.said.len().checked_sub(1);
            assert!(streams < 2, "{jid}: {streams} streams of the account");
            for ((id, r), view) in &mut self.views {
                if *r != room {
                    continue;
                }
                assert!(!view.joining, "session {id} never came into {jid}");
                if view.attached {
                    assert_eq!(
                        streams, 1,
                        "{jid}: session {id} is in it, the account is not"
                    );
                    assert_eq!(view.roster, truth, "{jid}: roster of session {id}");
                    if self.rough && known_is_new(view.last, last) {
                        view.last = None;
                        continue;
                    }
                    assert_eq!(view.last, last, "{jid}: last message of session {id}");
                }
            }
        }
        (self.rough, self.lost, self.destroyed) = (false, false, false);
    }

    fn check_sent(&self) {
        for (id, room, body) in &self.sent {
            let known = self.said[*room].contains(body) || self.refused.contains(body);
            let gone = !self.world.sessions[id].alive;
            assert!(
                known || gone || !self.lossless,
                "{body} of session {id} is lost"
            );
        }
        for sender in self.world.sessions.keys() {
            for room in 0..ROOMS.len() {
                let own: Vec<_> = self
                    .sent
                    .iter()
                    .filter(|(id, r, _)| id == sender && *r == room)
                    .collect();
                let places: Vec<_> = own
                    .iter()
                    .filter_map(|(_, _, body)| self.said[room].iter().position(|said| said == body))
                    .collect();
                assert!(
                    places.is_sorted(),
                    "session {sender}: its messages are out of order: {places:?}"
                );
            }
        }
    }
}

fn live(dialect: Dialect, ops: &[Op]) {
    let mut life = Life::new(dialect);
    for op in ops {
        life.act(*op);
    }
    life.rest();
    life.check_sent();
}

/// Whether the room was destroyed and created again while nobody looked.
fn known_is_new(seen: Option<usize>, last: Option<usize>) -> bool {
    seen > last
}

fn lives(dialect: Dialect, seed: u8) {
    let config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        max_shrink_iters: 100_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let scripts = prop::collection::vec(op(), 1..120).prop_map(Script);
    let result = runner.run(&scripts, |script| {
        live(dialect, &script.0);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{}: {error}", dialect.name);
    }
}

#[test]
fn lives_with_a_service_like_prosody() {
    lives(dialect::PROSODY, 1);
}

#[test]
fn lives_with_a_service_like_ejabberd() {
    lives(dialect::EJABBERD, 2);
}

#[test]
fn lives_with_a_service_that_gives_little() {
    lives(dialect::SPARSE, 3);
}

#[test]
fn lives_with_a_service_that_allows_one_stream() {
    lives(dialect::SINGLE, 4);
}
