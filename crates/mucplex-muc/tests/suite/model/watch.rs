//! What the hub sends to the server, and what it may not.

use std::collections::BTreeMap;

use mucplex_xml::{Frame, Kind};

use super::life::{Keep, Life};
use super::script::{NICKS, ROOMS};
use super::view::Grade;
use crate::ledger::{ACCOUNTS, account, nick_of};
use crate::scribe;
use crate::service::MUC;
use crate::world::{Trace, World};

/// How one uplink stands with one room, by what was sent and told on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    /// A join was sent.
    In,
    /// A leave was sent, and is not confirmed.
    Leaving,
    /// Put out by the room, or refused.
    Put,
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    ways: BTreeMap<(u64, usize), Way>,
    /// How often something was sent that is to be sent once: messages, answers.
    sent: BTreeMap<String, usize>,
}

impl Watch {
    pub(crate) fn way(&self, uplink: u64, room: usize) -> Way {
        *self.ways.get(&(uplink, room)).unwrap_or(&Way::Out)
    }

    /// Whether more than one uplink of the account has to do with the room.
    pub(crate) fn is_handed_over(&self, of: usize, room: usize, world: &World) -> bool {
        let own = self.ways.iter().filter(|((uplink, r), way)| {
            let account = &world.uplinks[uplink].account;
            *r == room && matches!(way, Way::In | Way::Leaving) && account == ACCOUNTS[of]
        });
        own.count() > 1
    }

    fn once(&mut self, what: &str) {
        let times = self.sent.entry(what.to_owned()).or_default();
        *times += 1;
        assert_eq!(*times, 1, "sent to the room twice: {what}");
    }

    /// Undirected unavailable has gone out.
    fn left(&mut self, uplink: u64) {
        let ways = self.ways.iter_mut();
        for (_, way) in ways.filter(|((of, _), way)| *of == uplink && **way == Way::In) {
            *way = Way::Leaving;
        }
    }

    /// Gives the room that the stanza asks to enter.
    fn sent(&mut self, uplink: u64, frame: &Frame) -> Option<usize> {
        let to = frame.to().unwrap_or_default();
        let room = ROOMS.iter().position(|room| to.starts_with(room))?;
        let way = self.way(uplink, room);
        let kind = frame.stanza_type();
        match (frame.kind(), kind.as_deref()) {
            (Kind::Presence, Some("unavailable")) => {
                assert!(
                    matches!(way, Way::In | Way::Put),
                    "a leave for {to} on uplink {uplink}, which is {way:?}"
                );
                self.ways.insert((uplink, room), Way::Leaving);
            }
            (Kind::Presence, None) if frame.root().child("x", MUC).is_some() => {
                assert_ne!(way, Way::In, "uplink {uplink} joins {to} once more");
                self.ways.insert((uplink, room), Way::In);
                return Some(room);
            }
            (Kind::Presence, None) => {
                let id = frame.id().unwrap_or_default();
                if id.starts_with("show") || id.starts_with("nick") {
                    self.once(&id);
                }
            }
            (Kind::Message, _) => {
                let body = frame.root().child("body", "jabber:client");
                if let Some(body) = body {
                    self.once(&body.text());
                }
            }
            (Kind::Iq, Some("result" | "error")) => {
                self.once(&format!("answer {}", frame.id().unwrap_or_default()));
            }
            _ => {}
        }
        None
    }

    fn told(&mut self, uplink: u64, of: usize, frame: &Frame) {
        let from = frame.from().unwrap_or_default();
        let room = ROOMS.iter().position(|room| from.starts_with(room));
        if frame.kind() == Kind::Message && frame.stanza_type().as_deref() == Some("error") {
            // It may be sent once more (behaviour 25).
            self.sent.remove(&*frame.id().unwrap_or_default());
        }
        let (Some(room), Kind::Presence) = (room, frame.kind()) else {
            return;
        };
        let id = frame.id().unwrap_or_default();
        match frame.stanza_type().as_deref() {
            Some("error") if !id.starts_with("nick") && !id.starts_with("show") => {
                self.ways.insert((uplink, room), Way::Put);
            }
            Some("unavailable") => {
                let codes = scribe::codes(frame);
                let own = nick_of(frame).is_some_and(|nick| NICKS[of].contains(&&*nick));
                let removed = codes.contains(&307) || codes.contains(&301);
                if codes.contains(&110) && !codes.contains(&303) || own && removed {
                    let out = self.way(uplink, room) == Way::Leaving;
                    let way = if out { Way::Out } else { Way::Put };
                    self.ways.insert((uplink, room), way);
                }
            }
            _ => {}
        }
    }
}

impl Life {
    pub(crate) fn check_upstream(&mut self) {
        let trace = self.world.trace.as_mut().map(std::mem::take);
        let trace = trace.unwrap_or_default();
        if trace.is_empty() {
            return;
        }
        for step in trace {
            match step {
                Trace::Up(uplink, frame) => {
                    if let Some(room) = self.watch.sent(uplink, &frame) {
                        self.is_handed_over(uplink, room);
                    }
                }
                Trace::Down(uplink, frame) => {
                    let of = account(&self.world.uplinks[&uplink].account);
                    self.watch.told(uplink, of.unwrap(), &frame);
                }
                Trace::Left(uplink) => self.watch.left(uplink),
                Trace::Release(uplink) => {
                    for room in 0..ROOMS.len() {
                        let way = self.watch.way(uplink, room);
                        assert!(
                            way != Way::In || self.world.uplinks[&uplink].was_suspended,
                            "uplink {uplink} is let go and in {}",
                            ROOMS[room]
                        );
                    }
                }
            }
        }
        for of in 0..ACCOUNTS.len() {
            for room in 0..ROOMS.len() {
                let all = self.watch.ways.iter();
                let inside = all.filter(|((uplink, r), way)| {
                    let known = &self.world.uplinks[uplink];
                    *r == room
                        && **way == Way::In
                        && known.account == ACCOUNTS[of]
                        && !known.replaced
                        && self.stays(*uplink)
                });
                let inside: Vec<_> = inside.map(|((uplink, _), _)| *uplink).collect();
                assert!(inside.len() < 2, "{}: in it by {inside:?}", ROOMS[room]);
            }
        }
    }

    /// An uplink joins a room that another one of the account may be in.
    fn is_handed_over(&mut self, uplink: u64, room: usize) {
        let of = account(&self.world.uplinks[&uplink].account).unwrap();
        let mut ways = self.watch.ways.iter();
        let others = ways.any(|((other, r), way)| {
            let own = self.world.uplinks[other].account == ACCOUNTS[of];
            own && *other != uplink && *r == room && *way != Way::Out
        });
        if others {
            let grade = self.grade_of_handover();
            self.mark(of, room, grade);
        }
    }

    /// What was on a lost uplink's way is lost with it.
    pub(crate) fn note_losses(&mut self) {
        for uplink in std::mem::take(&mut self.world.losses) {
            self.mark_rooms_of(uplink, Grade::Gap);
        }
    }

    /// A hand-over does not wait for the old carrier for ever: what that one still brings is
    /// passed over.
    pub(crate) fn impatience(&mut self) {
        let ways = self.watch.ways.iter();
        let late: Vec<(u64, usize)> = ways
            .filter(|((uplink, _), way)| {
                **way == Way::Leaving || **way == Way::In && !self.stays(*uplink)
            })
            .map(|(key, _)| *key)
            .collect();
        for (uplink, room) in late {
            let of = account(&self.world.uplinks[&uplink].account).unwrap();
            if self.world.uplinks[&uplink].open {
                self.mark(of, room, Grade::Gap);
            }
        }
    }

    pub(crate) fn check_departures(&mut self) {
        for gone in std::mem::take(&mut self.world.service.departures) {
            let Some(of) = account(&gone.account) else {
                continue;
            };
            let room = ROOMS.iter().position(|room| *room == gone.room).unwrap();
            assert!(
                self.keep[of][room] != Keep::In || self.grades[of][room] == Grade::Gap,
                "{}: the room saw {} leave",
                gone.room,
                gone.account
            );
        }
    }
}
