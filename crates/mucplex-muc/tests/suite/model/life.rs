//! A random life: what is done, and what every session was to see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mucplex_muc::{Input, NickConflict, SessionId};

use super::asks::Asks;
use super::script::{CARBONS, MOST, NICKS, OTHERS, Op, ROOMS, SHOWS, SLOTS};
use super::seen::{self, Seen};
use super::view::{Grade, Outcome, Rules, View};
use super::watch::Watch;
use crate::dialect::Dialect;
use crate::ledger::ACCOUNTS;
use crate::service::parse;
use crate::world::World;

/// What one life differs in from another, beside its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) dialect: Dialect,
    /// The service numbers presences: no two look alike, so each can be waited for.
    pub(crate) numbered: bool,
    /// The account stays in rooms that no session of it has joined.
    pub(crate) stays: bool,
    /// A session that asks for another nick renames the account.
    pub(crate) renames: bool,
}

/// Whether the account is to be in a room, as far as that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Out,
    In,
    Unknown,
}

/// A message to a room.
#[derive(Debug)]
pub(crate) struct Spoken {
    pub(crate) session: u64,
    pub(crate) room: usize,
    pub(crate) body: String,
    /// The session had asked to be in the room, or was in it.
    pub(crate) inside: bool,
    pub(crate) refused: bool,
}

pub(crate) struct Life {
    pub(crate) world: World,
    pub(crate) setting: Setting,
    pub(crate) slots: [Option<u64>; 5],
    resources: [Option<String>; 5],
    /// The account of each session there has been.
    pub(crate) accounts: BTreeMap<u64, usize>,
    pub(crate) views: BTreeMap<(u64, usize), View>,
    pub(crate) grades: [[Grade; 3]; 2],
    /// What any session of the account has been told up to.
    told: [[usize; 3]; 2],
    pub(crate) keep: [[Keep; 3]; 2],
    /// The account was out of the room at some time since all was at rest.
    pub(crate) broken: [[bool; 3]; 2],
    /// The room has put it out, and the proxy may not know.
    pub(crate) put: [[bool; 3]; 2],
    pub(crate) spoken: Vec<Spoken>,
    pub(crate) asks: Asks,
    pub(crate) watch: Watch,
    /// Leaves that are not answered, which must be at once.
    farewells: BTreeSet<(u64, usize)>,
    /// Changes of nick that sessions have asked for.
    changes: BTreeSet<(u64, String)>,
    /// Messages without a body, and changes of subject.
    hints: BTreeSet<(u64, String)>,
    /// Sessions that were unavailable once: their own streams have left rooms.
    away: BTreeSet<u64>,
    /// Sessions whose uplinks could carry rooms when this was last looked at.
    pub(crate) usable: BTreeSet<u64>,
    /// Sessions that get what the older stream of their full JID was owed.
    heirs: BTreeSet<u64>,
    /// Since all was at rest: an uplink was lost; a room destroyed.
    pub(crate) lost: bool,
    /// An uplink was suspended: what went there may come late.
    pub(crate) suspended: bool,
    pub(crate) destroyed: bool,
    pub(crate) count: usize,
    /// Seconds since everything was delivered.
    waited: u64,
}

impl Life {
    pub(crate) fn new(setting: Setting) -> Self {
        let stay = if setting.stays { 30 * 86_400 } else { 0 };
        let mut world = World::with(setting.dialect, Duration::from_secs(stay));
        if setting.renames {
            world.policy.nick_conflict = NickConflict::Rename;
        }
        world.service.numbered = setting.numbered;
        world.trace = Some(Vec::new());
        Self {
            world,
            setting,
            slots: [None; 5],
            resources: Default::default(),
            accounts: BTreeMap::new(),
            views: BTreeMap::new(),
            grades: [[Grade::Exact; 3]; 2],
            told: [[0; 3]; 2],
            keep: [[Keep::Out; 3]; 2],
            broken: [[false; 3]; 2],
            put: [[false; 3]; 2],
            spoken: Vec::new(),
            asks: Asks::default(),
            watch: Watch::default(),
            farewells: BTreeSet::new(),
            changes: BTreeSet::new(),
            hints: BTreeSet::new(),
            away: BTreeSet::new(),
            usable: BTreeSet::new(),
            heirs: BTreeSet::new(),
            lost: false,
            suspended: false,
            destroyed: false,
            count: 0,
            waited: 0,
        }
    }

    pub(crate) fn act(&mut self, op: Op) {
        match op {
            Op::Bind(slot) if self.slots[slot].is_none() => {
                self.count += 1;
                self.bind(slot, format!("r{}", self.count));
            }
            // A room destroyed and made anew while no carrier looked cannot be told from the old.
            Op::Return(slot) if self.slots[slot].is_none() && !self.destroyed => {
                if let Some(resource) = self.resources[slot].clone() {
                    self.lost = true;
                    self.bind(slot, resource);
                }
            }
            Op::Cut(slot) => {
                if let Some(id) = self.slots[slot] {
                    self.goes(id);
                    self.world.cut(id);
                }
            }
            Op::Stall(slot, bytes) => self.session(slot, |life, id| {
                let session = life.world.sessions.get_mut(&id).unwrap();
                session.room_left.get_or_insert(bytes);
            }),
            Op::Away(slot) => self.session(slot, |life, id| {
                if !life.world.withholds(id) {
                    life.goes(id);
                    life.away.insert(id);
                    life.world.unavailable(id);
                    life.without_carrier(id);
                }
            }),
            Op::Lose(uplink) if !self.destroyed => {
                if let Some(uplink) = self.uplink(uplink) {
                    self.lost = true;
                    self.world.lose(uplink);
                }
            }
            Op::Up(uplink, n) => {
                if let Some(uplink) = self.uplink(uplink) {
                    for _ in 0..n {
                        self.world.step_up(uplink);
                        self.look();
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
            Op::Wait(seconds) => self.wait(seconds),
            op if self.stands_by(op) => {}
            op => self.act_in_room(op),
        }
        self.look();
        self.check_copies();
        let sessions = &self.world.sessions;
        self.farewells.retain(|(id, _)| sessions[id].alive);
        assert!(
            self.farewells.is_empty(),
            "a leave was not answered at once"
        );
    }

    fn bind(&mut self, slot: usize, resource: String) {
        let account = SLOTS[slot];
        let jid = format!("{}/{resource}", ACCOUNTS[account]);
        let replaces = self.replaced(&jid);
        let id = self.world.bind_as(ACCOUNTS[account], &resource, None);
        if replaces {
            self.asks.returned.insert(id);
        }
        if replaces && self.setting.dialect.ends_older_late {
            self.heirs.insert(id);
        }
        self.resources[slot] = Some(resource);
        self.slots[slot] = Some(id);
        self.accounts.insert(id, account);
        if CARBONS[slot] {
            let session = SessionId(id);
            let enabled = true;
            let input = Input::SessionCarbons { session, enabled };
            self.world.input(ACCOUNTS[account], input);
            self.asks.wants_carbons.insert(id);
        }
    }

    fn act_in_room(&mut self, op: Op) {
        match op {
            Op::Join(slot, room, nick, most) => {
                self.session(slot, |life, id| life.join(id, room, nick, MOST[most]));
            }
            Op::Leave(slot, room) => self.session(slot, |life, id| life.leave(id, room)),
            Op::Say(slot, room) => self.session(slot, |life, id| {
                let body = life.new_name("m");
                life.spoken.push(Spoken {
                    session: id,
                    room,
                    body: body.clone(),
                    inside: life.views.contains_key(&(id, room)),
                    refused: false,
                });
                life.world.say(id, ROOMS[room], &body, &body);
            }),
            Op::Hint(slot, room) => self.inside(slot, room, |life, id, _| {
                let (to, hint) = (ROOMS[room], life.new_name("h"));
                life.hints.insert((id, hint.clone()));
                life.world.send(id, &format!(
                    "<message to='{to}' type='groupchat' id='{hint}'><composing xmlns='urn:test:h'/></message>"
                ));
            }),
            Op::Topic(slot, room) => self.inside(slot, room, |life, id, _| {
                let (to, topic) = (ROOMS[room], life.new_name("t"));
                life.hints.insert((id, topic.clone()));
                life.world.send(id, &format!(
                    "<message to='{to}' type='groupchat' id='{topic}'><subject>{topic}</subject></message>"
                ));
            }),
            Op::Show(slot, room, show) => self.inside(slot, room, |life, id, nick| {
                life.count += 1;
                let order = life.count;
                let view = life.views.get_mut(&(id, room)).unwrap();
                view.said = Some((show, order));
                view.answerable += 1;
                view.unanswered = true;
                let (to, show) = (ROOMS[room], SHOWS[show]);
                let name = life.new_name("show");
                life.world
                    .send(id, &format!("<presence to='{to}/{nick}' id='{name}'>{show}</presence>"));
            }),
            Op::Nick(slot, room, nick) => self.inside(slot, room, |life, id, _| {
                let to = format!("{}/{}", ROOMS[room], NICKS[life.accounts[&id]][nick]);
                let name = life.new_name("nick");
                let view = life.views.get_mut(&(id, room)).unwrap();
                (view.said, view.answerable) = (None, view.answerable + 1);
                life.changes.insert((id, name.clone()));
                life.world
                    .send(id, &format!("<presence to='{to}' id='{name}'/>"));
            }),
            Op::Whisper(slot, room, whom) => {
                self.inside(slot, room, |life, id, _| life.whisper(id, room, whom));
            }
            Op::Ask(slot, room, whom) => self.session(slot, |life, id| life.ask(id, room, whom)),
            Op::Answer(slot) => self.session(slot, Self::answer),
            Op::Destroy(_) if self.lost || self.suspended => {}
            Op::Destroy(room) => {
                self.destroyed = true;
                for account in 0..ACCOUNTS.len() {
                    self.is_put_out(account, room);
                }
                self.world.service.destroy(ROOMS[room]);
                self.world.sort_out();
            }
            op => self.act_past_the_proxy(op),
        }
    }

    fn join(&mut self, id: u64, room: usize, nick: usize, most: usize) {
        let account = self.accounts[&id];
        let nick = NICKS[account][nick];
        let known = self.views.get(&(id, room));
        let again = known.is_some_and(|view| {
            // Under another nick the account has to be renamed first.
            !self.setting.renames
                && view.is_live()
                && view.own.as_ref().is_some_and(|(own, _)| own == nick)
        });
        if known.is_some() && !again {
            return;
        }
        let mut view = View::asked(self.told[account][room], most);
        if let Some(known) = self.views.remove(&(id, room)) {
            view.owed = known.owed;
            view.said = known.said.map(|(_, order)| (0, order));
        } else if self.keep[account][room] == Keep::Out {
            self.keep[account][room] = Keep::Unknown;
        }
        self.views.insert((id, room), view);
        let asks = match most {
            20 => String::new(),
            most => format!("<history maxstanzas='{most}'/>"),
        };
        self.world.join_with(id, ROOMS[room], nick, &asks);
    }

    fn leave(&mut self, id: u64, room: usize) {
        if self.world.withholds(id) || self.views.remove(&(id, room)).is_none() {
            return;
        }
        let account = self.accounts[&id];
        if !self.anybody_in(account, room) {
            self.is_out(account, room);
        } else if !self.is_attached(account, room) {
            self.keep[account][room] = Keep::Unknown;
        }
        self.farewells.insert((id, room));
        self.world.leave(id, ROOMS[room], NICKS[account][0]);
    }

    pub(crate) fn is_out(&mut self, account: usize, room: usize) {
        self.keep[account][room] = Keep::Out;
        self.broken[account][room] = true;
    }

    /// By the room. What comes of it depends on who is told first.
    pub(crate) fn is_put_out(&mut self, account: usize, room: usize) {
        if self.account_nick(account, room).is_some() {
            self.is_out(account, room);
            if self.watch.is_handed_over(account, room, &self.world) {
                // Which of the two carriers is told first is open.
                self.mark(account, room, Grade::Gap);
            }
            self.keep[account][room] = Keep::Unknown;
            self.put[account][room] = true;
        }
    }

    /// Whether the account has been in the room since all was at rest, as far as anybody can tell.
    pub(crate) fn is_unbroken(&self, account: usize, room: usize) -> bool {
        !self.broken[account][room]
            && self.grades[account][room] != Grade::Gap
            && self.keep[account][room] == Keep::In
    }

    pub(crate) fn was_destroyed(&self) -> bool {
        self.destroyed
    }

    /// Whether a session has come into the room.
    pub(crate) fn is_attached(&self, account: usize, room: usize) -> bool {
        let mut all = self.views.iter();
        all.any(|((id, r), view)| *r == room && view.is_live() && self.accounts[id] == account)
    }

    pub(crate) fn anybody_in(&self, account: usize, room: usize) -> bool {
        let mut all = self.views.keys();
        all.any(|(id, r)| *r == room && self.accounts[id] == account)
    }

    pub(crate) fn new_name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    pub(crate) fn session(&mut self, slot: usize, act: impl FnOnce(&mut Self, u64)) {
        if let Some(id) = self.slots[slot].filter(|id| !self.world.sessions[id].asleep) {
            act(self, id);
        }
    }

    /// For one that knows itself to be in the room, and by what nick.
    fn inside(&mut self, slot: usize, room: usize, act: impl FnOnce(&mut Self, u64, String)) {
        let asleep = |id: &u64| self.world.sessions[id].asleep;
        let id = self.slots[slot].filter(|id| !self.world.withholds(*id) && !asleep(id));
        let Some(id) = id else {
            return;
        };
        let view = self.views.get(&(id, room)).filter(|view| view.is_live());
        let own = view.and_then(|view| view.own.clone());
        if let Some((nick, _)) = own {
            act(self, id, nick);
        }
    }

    pub(crate) fn uplink(&self, n: usize) -> Option<u64> {
        let busy = |uplink: &crate::world::Uplink| uplink.open || !uplink.up.is_empty();
        let all = self.world.uplinks.iter().filter(|(_, it)| busy(it));
        let count = all.clone().count().max(1);
        all.map(|(id, _)| *id).nth(n % count)
    }

    pub(crate) fn run(&mut self) {
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

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.waited += 1;
            // No service takes longer than ten seconds to answer.
            if self.waited > 9 {
                self.run();
            }
            if self.waited > 4 {
                self.impatience();
            }
            self.world.wait(Duration::from_secs(1));
            self.look();
        }
    }

    /// Takes in what has happened, and checks it.
    pub(crate) fn look(&mut self) {
        self.check_upstream();
        self.note_losses();
        self.note_retained();
        for slot in 0..SLOTS.len() {
            let dead = self.slots[slot].filter(|id| !self.world.sessions[id].alive);
            if let Some(id) = dead {
                self.goes(id);
                self.slots[slot] = None;
                self.without_carrier(id);
            }
        }
        let ids: Vec<u64> = self.slots.iter().flatten().copied().collect();
        for id in ids {
            if !self.world.sessions[&id].inbox.is_empty() {
                for xml in self.world.raw(id) {
                    self.read(id, &xml);
                }
            }
        }
        self.note_privates();
        self.check_departures();
        self.hear_others();
        let all = self.slots.iter().flatten().copied();
        self.usable = all.filter(|id| self.stays(self.world.up(*id))).collect();
    }

    fn read(&mut self, id: u64, xml: &str) {
        let frame = parse(xml);
        let from = frame.from().unwrap_or_default();
        if from == ACCOUNTS[self.accounts[&id]] {
            return self.read_carbon(id, &frame, xml);
        }
        let Some(room) = ROOMS.iter().position(|room| from.starts_with(room)) else {
            panic!("session {id}: from nowhere: {xml}");
        };
        let seen = seen::read(&frame);
        match seen {
            Seen::Refused { message, id: of } => self.refused(id, room, message, &of, xml),
            Seen::Request { .. } | Seen::Answer { .. } | Seen::Private { .. } => {
                self.read_apart(id, room, seen, xml);
            }
            seen if self.views.contains_key(&(id, room)) => self.read_view(id, room, &seen, xml),
            Seen::Gone {
                own: true, id: of, ..
            } if of.as_deref() == Some("leave") && self.farewells.remove(&(id, room)) => {}
            // RFC 6121 4.6.3: as with the server alone.
            Seen::Gone { own: true, .. } if self.away.contains(&id) => {}
            _ if self.heirs.contains(&id) => {}
            // Before the first occupant has spoken nobody knows that this is a room (behaviour 68).
            Seen::Here { nick: None, .. } => {}
            _ => panic!("session {id} is not in the room: {xml}"),
        }
    }

    fn read_view(&mut self, id: u64, room: usize, seen: &Seen, xml: &str) {
        let account = self.accounts[&id];
        let rules = self.rules(account, room);
        let ledger = self.world.service.ledger(ROOMS[room]);
        let view = self.views.get_mut(&(id, room)).unwrap();
        let was_live = view.is_live();
        match view.take(seen, ledger, rules) {
            Err(why) => panic!(
                "session {id} in {}: {why}\n    it was told: {xml}",
                ROOMS[room]
            ),
            Ok(Outcome::Ends) => {
                self.views.remove(&(id, room));
                if !self.anybody_in(account, room) {
                    self.is_out(account, room);
                }
            }
            Ok(Outcome::Stays) => {
                let told = &mut self.told[account][room];
                *told = view.told().max(*told);
                if view.is_live() && !was_live {
                    let put = self.put[account][room];
                    self.keep[account][room] = if put { Keep::Unknown } else { Keep::In };
                }
            }
        }
    }

    pub(crate) fn rules(&self, account: usize, room: usize) -> Rules {
        Rules {
            account,
            grade: self.grades[account][room],
            subject: self.setting.dialect.subject,
        }
    }

    fn refused(&mut self, id: u64, room: usize, message: bool, of: &str, xml: &str) {
        if message {
            let mut all = self.spoken.iter_mut();
            match all.find(|spoken| spoken.session == id && spoken.body == of) {
                Some(spoken) => {
                    assert!(!spoken.refused, "session {id}: refused twice: {xml}");
                    spoken.refused = true;
                }
                None if self.hints.remove(&(id, of.to_owned())) => {}
                None => self.whisper_refused(id, of, xml),
            }
            return;
        }
        if of == "join" {
            let view = self.views.remove(&(id, room));
            assert!(
                view.is_some_and(|view| !view.is_live()),
                "session {id} has not asked: {xml}"
            );
            let account = self.accounts[&id];
            if !self.anybody_in(account, room) {
                self.keep[account][room] = Keep::Unknown;
            }
        } else if of.starts_with("nick") {
            let asked = self.changes.remove(&(id, of.to_owned()));
            assert!(asked, "session {id} has not asked for a nick: {xml}");
        }
    }

    pub(crate) fn other_nick(&self, other: usize, room: usize) -> Option<String> {
        let stream = format!("{}@test/pc", OTHERS[other]);
        let known = self.world.service.known(ROOMS[room]);
        Some(known.occupants[known.of(&stream)?].nick.clone())
    }

    pub(crate) fn account_nick(&self, account: usize, room: usize) -> Option<String> {
        let known = self.world.service.known(ROOMS[room]);
        let mut all = known.occupants.iter();
        let own = all.find(|it| it.bare == ACCOUNTS[account])?;
        Some(own.nick.clone())
    }
}
