//! All has come to rest: what is known on both sides is the same, and nothing is left over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::life::{Keep, Life};
use super::script::{NICKS, RANKS, ROOMS, SHOWS};
use super::view::Grade;
use crate::ledger::ACCOUNTS;

impl Life {
    pub(crate) fn rest(&mut self) {
        let all: Vec<u64> = self.world.uplinks.keys().copied().collect();
        for uplink in all {
            self.world.resume(uplink);
        }
        self.drain();
        for _ in 0..6 {
            self.run();
            self.answer_all();
            self.run();
            let end = self.world.elapsed + Duration::from_secs(31);
            while self.world.elapsed < end {
                let due = self.world.next_due().unwrap_or(end).min(end);
                let second = self.world.elapsed + Duration::from_secs(1);
                let quiet = self.world.is_quiet();
                let next = if quiet { due.max(second) } else { second };
                self.world.wait(next.min(end) - self.world.elapsed);
                self.look();
                if !self.world.is_quiet() {
                    self.run();
                }
            }
        }
        self.drain();
        for room in 0..ROOMS.len() {
            for account in 0..ACCOUNTS.len() {
                self.check_occupancy(account, room);
                // A joiner that goes before it is granted its nick leaves its presence behind.
                // What a suspended stream was to say may come late.
                if !self.setting.renames && !self.suspended {
                    self.check_standing(account, room);
                }
            }
        }
        let keys: Vec<_> = self.views.keys().copied().collect();
        for (id, room) in keys {
            if self.has_carrier(self.accounts[&id]) {
                self.check_view(id, room);
            }
        }
        self.check_spoken();
        self.check_asks();
        for (account, jid) in ACCOUNTS.iter().enumerate() {
            let withheld = self.slots.iter().flatten();
            let mut withheld = withheld.filter(|id| self.accounts[id] == account);
            assert!(
                withheld.all(|id| !self.world.withholds(*id)),
                "{jid}: a session is held back"
            );
        }
        for (id, uplink) in &self.world.uplinks {
            let alive = uplink
                .session
                .is_some_and(|id| self.world.sessions[&id].alive);
            let anchor = self.world.newest_anchor(&uplink.account) == Some(*id);
            assert!(
                alive || anchor || !uplink.open,
                "uplink {id} was never let go"
            );
        }
        self.forget_troubles();
    }

    /// What was on its way on uplinks that are cut comes when they are resumed.
    fn drain(&mut self) {
        let cut = self.world.uplinks.iter().filter(|(_, it)| it.cut);
        let cut: Vec<u64> = cut.map(|(id, _)| *id).collect();
        for value in [false, true] {
            for id in &cut {
                let uplink = self.world.uplinks.get_mut(id).unwrap();
                uplink.cut = value && uplink.open;
            }
            if !value {
                self.run();
                self.answer_all();
                self.run();
            }
        }
    }

    /// One occupancy, or none, as it has to be, by one stream.
    fn check_occupancy(&mut self, account: usize, room: usize) {
        let jid = ROOMS[room];
        let own: Vec<_> = self
            .world
            .service
            .known(jid)
            .occupants
            .iter()
            .filter(|it| it.bare == ACCOUNTS[account])
            .map(|it| it.streams.len())
            .collect();
        assert!(
            own.is_empty() || own == [1],
            "{jid}: occupancies of {}, and their streams: {own:?}",
            ACCOUNTS[account]
        );
        let inside = !own.is_empty();
        match self.keep[account][room] {
            Keep::In => assert!(
                inside
                    || !self.has_carrier(account)
                    || self.nick_is_taken(account, room)
                    || self.grades[account][room] == Grade::Gap && !self.anybody_in(account, room),
                "{jid}: {} is not in it any more",
                ACCOUNTS[account]
            ),
            Keep::Out => assert!(!inside, "{jid}: {} is still in it", ACCOUNTS[account]),
            Keep::Unknown => {}
        }
        if self.has_carrier(account) {
            self.keep[account][room] = if inside { Keep::In } else { Keep::Out };
        } else if self.keep[account][room] == Keep::Out {
            // Nobody knows what the proxy means to do.
        } else if !self.setting.stays {
            self.keep[account][room] = Keep::Out;
        }
    }

    /// Somebody else has a nick the account may have had when nobody carried the room.
    fn nick_is_taken(&self, account: usize, room: usize) -> bool {
        let mut all = self.world.service.known(ROOMS[room]).occupants.iter();
        let own = NICKS[account];
        self.grades[account][room] == Grade::Gap
            && all.any(|it| own.contains(&&*it.nick) && it.bare != ACCOUNTS[account])
    }

    fn check_view(&mut self, id: u64, room: usize) {
        let jid = ROOMS[room];
        let account = self.accounts[&id];
        let rules = self.rules(account, room);
        let ledger = self.world.service.ledger(jid);
        let view = self.views.get_mut(&(id, room)).unwrap();
        assert!(view.is_live(), "session {id} never came into {jid}");
        if let Some(event) = view.misses(ledger, rules) {
            panic!("session {id} was not told of {jid}: {}", event.xml);
        }
        let state = ledger.states[ledger.end()];
        let nick = view.own.as_ref().map(|(nick, _)| nick.clone());
        let own = nick.as_ref().and_then(|nick| ledger.present.get(nick));
        assert_eq!(
            view.own.as_ref().map(|(_, canon)| *canon),
            own.copied(),
            "session {id} does not know how the account stands in {jid}"
        );
        let others = ledger
            .present
            .iter()
            .filter(|(it, _)| Some(*it) != nick.as_ref());
        let others: BTreeMap<_, _> = others.map(|(nick, canon)| (nick.clone(), *canon)).collect();
        let (known, there): (Vec<_>, Vec<_>) =
            (view.roster.keys().collect(), others.keys().collect());
        assert_eq!(
            known, there,
            "the others in {jid} as session {id} knows them"
        );
        for (nick, canon) in &others {
            assert_eq!(
                view.roster[nick], *canon,
                "session {id} in {jid}: {nick} is otherwise"
            );
        }
        let subject = state.subject.map(|event| ledger.events[event].canon);
        if subject.is_some() && rules.subject {
            assert_eq!(
                view.subject, subject,
                "session {id} in {jid}: another subject"
            );
        }
        assert!(
            view.owed.is_empty() || rules.grade == Grade::Gap,
            "session {id} in {jid} was not given {:?}",
            view.owed
        );
        view.owed.clear();
        assert!(
            !view.unanswered,
            "session {id} in {jid}: a presence was not answered"
        );
        view.settle(ledger);
    }

    /// The room sees the presence of the most available session (behaviour 37).
    fn check_standing(&self, account: usize, room: usize) {
        let all = self.views.iter();
        let own = all.filter(|((id, r), _)| *r == room && self.accounts[id] == account);
        let said: Option<Vec<_>> = own.map(|(_, view)| view.said).collect();
        let known = self.world.service.known(ROOMS[room]).occupants.iter();
        let mut known = known.filter(|it| it.bare == ACCOUNTS[account]);
        if let (Some(said), Some(occupant)) = (said, known.next()) {
            let best = said
                .iter()
                .max_by_key(|(show, order)| (RANKS[*show], *order));
            let show = best.map_or("<show>xa</show>", |(show, _)| SHOWS[*show]);
            let shown = if show.is_empty() {
                !occupant.payload.contains("<show>")
            } else {
                occupant.payload.contains(show)
            };
            assert!(
                shown,
                "{}: {} is {}, and not {show}",
                ROOMS[room], occupant.nick, occupant.payload
            );
        }
    }

    /// Every message is in the room once, or back with its sender.
    fn check_spoken(&mut self) {
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for room in ROOMS {
            for body in &self.world.service.known(room).said {
                *said.entry(body.clone()).or_default() += 1;
            }
        }
        let mut last: BTreeMap<(u64, usize), usize> = BTreeMap::new();
        for spoken in &self.spoken {
            let body = &spoken.body;
            let alive = self.world.sessions[&spoken.session].alive;
            let times = said.get(body).copied().unwrap_or_default();
            let who = format!("{body} of session {}", spoken.session);
            assert!(times < 2, "{who} is said twice");
            assert!(times == 0 || !spoken.refused, "{who} is said and refused");
            assert!(
                times == 1 || spoken.refused || !alive || self.was_destroyed(),
                "{who} is lost"
            );
            assert!(
                times == 0 || spoken.inside || self.asks.returned.contains(&spoken.session),
                "{who}, which is not in the room, is said"
            );
            let all = &self.world.service.known(ROOMS[spoken.room]).said;
            if let Some(place) = all.iter().position(|said| said == body) {
                let before = last.insert((spoken.session, spoken.room), place);
                assert!(
                    self.suspended || before.is_none_or(|before| before < place),
                    "{who} is out of order"
                );
            }
        }
        self.spoken.clear();
    }

    /// The end: everybody goes, and nothing is left.
    pub(crate) fn end(&mut self) {
        self.rest();
        for slot in 0..self.slots.len() {
            self.act(super::script::Op::Cut(slot));
        }
        self.rest();
        // What is left are anchors, and the rooms that wait for one.
        let anchors = self.world.uplinks.iter().filter(|(_, it)| it.open);
        let anchors: Vec<u64> = anchors.map(|(id, _)| *id).collect();
        for anchor in anchors {
            self.world.lose(anchor);
        }
        self.run();
        self.world.wait(Duration::from_secs(31 * 86_400));
        for (account, hub) in &self.world.hubs {
            assert!(hub.is_idle(), "the hub of {account} holds something");
            assert!(!hub.keeps_state(), "the hub of {account} keeps rooms");
            assert_eq!(hub.next_timeout(), None, "the hub of {account} waits");
        }
    }
}
