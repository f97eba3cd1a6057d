//! What of a room outlives the process: what has changed of that by an input, and the room as it
//! goes on in the next process (behaviour 63).
//!
//! Nothing is compared that is large: occupants, messages and resources note themselves what has
//! become of them, and the frames of the record are the same bytes as before where nothing was
//! changed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use mucplex_xml::Frame;

use super::handover::{Handover, Old, Stage};
use super::served::Devices;
use super::{Nature, Phase, Room, View, Waiting};
use crate::context::Context;
use crate::history::Backlog;
use crate::hub::{Now, Policy};
use crate::identity::OccupantJid;
use crate::persist::{Change, SavedRoom, SavedState};
use crate::roster::Roster;
use crate::{UplinkId, stanza};

/// How long nobody may be there after a restart before the room is told: clients have to notice, and
/// to come back.
pub(super) const RETURN_TIME: Duration = Duration::from_secs(60);

/// What is known of the room for the sake of what outlives the process.
#[derive(Debug)]
pub(super) struct Record {
    /// When the account's join was complete.
    pub(super) joined_at: SystemTime,
    /// Since when no session has joined.
    pub(super) detached_since: Option<SystemTime>,
    /// The full JID of a stream of the process before, on which the account is in the room if that
    /// stream is resumed.
    resumes_on: Option<String>,
    /// What the store has of the room.
    stored: Option<Stored>,
    /// What the store has under this address is of a stay before this one.
    stale: bool,
    /// The process before has asked the room something that may be answered yet.
    pub(super) asked_before: bool,
}

#[derive(Debug)]
struct Stored {
    room: Box<SavedRoom>,
    carrier: UplinkId,
    /// The occupants, messages and resources, too, up to this message.
    complete: bool,
    number: u64,
}

impl Record {
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            joined_at: now,
            detached_since: None,
            resumes_on: None,
            stored: None,
            stale: false,
            asked_before: false,
        }
    }

    /// Goes on for a stay before this one.
    pub(super) fn inherit(&mut self, before: &mut Self) {
        self.asked_before |= before.asked_before;
        self.stale |= before.stale || before.stored.take().is_some();
    }
}

impl Room {
    /// What the store has under the address of this room is not of this stay, but of one that the
    /// process before has begun or ended.
    pub(crate) fn replaces_stored(&mut self) {
        self.record.stale = true;
        self.record.asked_before = true;
    }

    /// Says what has changed of what outlives the process. Called at the end of whatever has touched
    /// the room.
    pub(crate) fn save(&mut self, ctx: &mut Context<'_>) {
        if std::mem::take(&mut self.record.stale) {
            self.forget_stored(ctx);
        }
        if self.is_gone() {
            if self.record.stored.is_some() {
                self.forget_stored(ctx);
            }
            return;
        }
        let complete = matches!(&self.record.stored, Some(stored) if stored.complete);
        let differs = match &self.record.stored {
            Some(stored) => self.differs(stored),
            None => true,
        };
        if differs {
            let room = Box::new(self.saved(ctx));
            let number = self.record.stored.as_ref().map_or(0, |it| it.number);
            ctx.persist(Change::Room(room.clone()));
            self.record.stored = Some(Stored {
                room,
                carrier: self.carrier,
                complete,
                number,
            });
        }
        if matches!(self.phase, Phase::Joined) {
            self.save_rest(ctx, complete);
        }
    }

    /// The same; `forgotten`: the hub has no use for the room any more.
    pub(crate) fn save_or_forget(&mut self, ctx: &mut Context<'_>, forgotten: bool) {
        if !forgotten {
            self.save(ctx);
        } else if self.record.stale || self.record.stored.is_some() {
            self.forget_stored(ctx);
        }
    }

    /// The room is no more.
    fn forget_stored(&mut self, ctx: &mut Context<'_>) {
        self.record.stored = None;
        ctx.persist(Change::Forgotten {
            room: self.jid.clone(),
        });
    }

    /// Occupants, messages and resources; only what has become of them if the store has them.
    fn save_rest(&mut self, ctx: &mut Context<'_>, complete: bool) {
        let Some(stored) = &mut self.record.stored else {
            return;
        };
        let room = &self.jid;
        if complete {
            for (nick, order, presence) in self.view.others.take_touched() {
                ctx.persist(Change::Occupant {
                    room: room.clone(),
                    nick,
                    order,
                    presence,
                });
            }
        } else {
            let all = self.view.others.watch();
            let room = room.clone();
            ctx.persist(Change::Occupants { room, all });
            stored.complete = true;
        }
        if self.backlog.take_cleared() && stored.number > 0 {
            let room = room.clone();
            ctx.persist(Change::Cleared { room });
        }
        for message in self.backlog.behind(stored.number) {
            ctx.persist(Change::Message {
                room: room.clone(),
                message: message.clone(),
            });
        }
        stored.number = self.backlog.last_number().unwrap_or(stored.number);
        self.devices.save(ctx, room);
    }

    fn differs(&self, stored: &Stored) -> bool {
        let room = &*stored.room;
        stored.carrier != self.carrier
            || room.wanted != self.is_wanted()
            || room.unsettled != self.is_unsettled()
            || room.detached_since != self.record.detached_since
            || room.spoken != self.standing.is_spoken()
            || room.non_anonymous != self.view.non_anonymous
            || room.logged != self.view.logged
            || room.reflects_join_id != self.reflects_join_id
            || room.nick_assigned != self.nick_assigned
            || room.joined_at != self.record.joined_at
            || room.nick != self.own.nick()
            || room.password != self.password
            || !is_same(&room.sent_presence, &self.sent_presence)
            || !are_same(&room.own_presence, &self.view.own)
            || !are_same(&room.room_presence, &self.view.room)
            || !are_same(&room.subject, &self.view.subject)
    }

    fn saved(&self, ctx: &Context<'_>) -> SavedRoom {
        let carrier = ctx.uplinks.get(&self.carrier);
        SavedRoom {
            room: self.jid.clone(),
            nick: self.own.nick().to_owned(),
            sent_presence: self.sent_presence.portable(),
            own_presence: self.view.own.clone(),
            room_presence: self.view.room.clone(),
            subject: self.view.subject.clone(),
            password: self.password.clone(),
            carrier: carrier
                .map(|carrier| carrier.address.clone())
                .or_else(|| self.record.resumes_on.clone()),
            non_anonymous: self.view.non_anonymous,
            logged: self.view.logged,
            reflects_join_id: self.reflects_join_id,
            nick_assigned: self.nick_assigned,
            spoken: self.standing.is_spoken(),
            wanted: self.is_wanted(),
            unsettled: self.is_unsettled(),
            joined_at: self.record.joined_at,
            detached_since: self.record.detached_since,
        }
    }

    fn is_wanted(&self) -> bool {
        matches!(self.phase, Phase::Joined)
    }

    /// Whether more is under way than the carrier's stream itself would bring to its end.
    fn is_unsettled(&self) -> bool {
        let moves = match &self.handover {
            Some(_) => !self.may_be_resumed(),
            None => false,
        };
        moves
            || !self.is_wanted()
            || self.is_being_renamed()
            || self.vanished
            || !self.farewells.are_done()
            || self.duplicates.have_messages()
    }

    /// Nothing has touched the room since the last process, and its stream may be resumed.
    fn may_be_resumed(&self) -> bool {
        self.carrier == UplinkId::NONE && self.is_dormant() && self.record.resumes_on.is_some()
    }

    /// The room as the last process knew it: dormant. `None` if its nick is none.
    pub(crate) fn restored(now: Now, policy: &Policy, saved: SavedState) -> Option<Self> {
        let SavedState {
            room,
            occupants,
            messages,
            served,
        } = saved;
        let own = room.room.occupant(&room.nick)?;
        let mut backlog = Backlog::default();
        for message in messages {
            backlog.push(message);
        }
        let heard_at = backlog.last_heard().unwrap_or(room.joined_at);
        let away = room.detached_since.map_or(Duration::ZERO, |since| {
            now.wall.duration_since(since).unwrap_or_default()
        });
        let resumes_on = room.carrier.clone().filter(|_| !room.unsettled);
        let number = backlog.last_number().unwrap_or_default();
        let mut view = View {
            others: Roster::restored(occupants),
            own: room.own_presence.clone(),
            room: room.room_presence.clone(),
            subject: room.subject.clone(),
            non_anonymous: room.non_anonymous,
            logged: room.logged,
        };
        view.others.watch();
        let record = Record {
            joined_at: room.joined_at,
            detached_since: room.detached_since,
            resumes_on,
            stored: None,
            stale: false,
            asked_before: room.unsettled,
        };
        let mut restored = Self::idle(own, room.sent_presence.clone(), now);
        restored.view = view;
        restored.backlog = backlog;
        restored.devices = Devices::restored(served, policy.persist);
        restored.standing = super::Standing::restored(room.spoken);
        restored.password = room.password.clone();
        restored.reflects_join_id = room.reflects_join_id;
        restored.nick_assigned = room.nick_assigned;
        restored.heard = None;
        restored.heard_at = heard_at;
        restored.stay_until = room
            .detached_since
            .and_then(|_| now.instant.checked_add(policy.stay.saturating_sub(away)));
        restored.record = record;
        let mut dormant = Handover::new(UplinkId::NONE, Old::Ended, now.instant);
        dormant.stage = Stage::Waiting { tries_at: None };
        restored.handover = Some(dormant);
        restored.record.stored = Some(Stored {
            room: Box::new(room),
            carrier: UplinkId::NONE,
            complete: true,
            number,
        });
        Some(restored)
    }

    /// A room in which the account is as `own`, with nobody in it and nothing under way, and nothing
    /// known of it.
    pub(super) fn idle(own: OccupantJid, sent_presence: Frame, now: Now) -> Self {
        Self {
            jid: own.room(),
            own,
            carrier: UplinkId::NONE,
            phase: Phase::Joined,
            nature: Nature::Room,
            attached: BTreeSet::new(),
            view: View::default(),
            backlog: Backlog::default(),
            devices: Devices::default(),
            record: Record::new(now.wall),
            in_flight: super::InFlight::default(),
            iqs: super::PendingIqs::default(),
            sent_presence,
            password: None,
            reflects_join_id: false,
            nick_assigned: false,
            renamed: false,
            vanished: false,
            renaming: Waiting::new(),
            sets_apart: Waiting::new(),
            arriving: Waiting::new(),
            standing: super::Standing::default(),
            voice: super::VoiceRequests::default(),
            comeback: None,
            heard: Some(now.instant),
            heard_at: now.wall,
            silence: super::Silence::default(),
            handover: None,
            lost_carrier: None,
            handed_over: None,
            came_back: None,
            duplicates: super::Duplicates::default(),
            past: super::Past::default(),
            farewells: super::Farewells::default(),
            left: false,
            stay_until: None,
            waits_for_turn: false,
            keeps_off: None,
        }
    }

    /// The largest number or mark that is stored of the room.
    pub(crate) fn largest_number(&self) -> u64 {
        let last = self.backlog.last_number().unwrap_or_default();
        last.max(self.devices.largest())
    }

    /// The stream of the process before is resumed: the account is in the room as it was, if it was
    /// there by this one. Another uplink that is about to join again is not needed.
    pub(crate) fn resume_on(&mut self, ctx: &mut Context<'_>, uplink: UplinkId, address: &str) {
        let here = self.record.resumes_on.as_deref() == Some(address);
        if self.carrier != UplinkId::NONE || !here {
            return;
        }
        let handover = self.handover.take();
        if let Some(handover) = handover.as_ref().filter(|it| it.has_joined()) {
            let leave = stanza::leave(&self.own);
            self.say_farewell(ctx, handover.to, leave.into());
        }
        let held = handover.map(|handover| handover.held);
        self.carrier = uplink;
        self.note_heard(ctx);
        self.standing.await_return(ctx.now.instant, RETURN_TIME);
        self.send_held(ctx, held.unwrap_or_default());
        for request in std::mem::take(&mut self.arriving) {
            self.join(ctx, request);
        }
    }

    /// A join or a leave was under way when the last process ended, on a stream that is resumed:
    /// nobody waits for the room, so the account leaves it.
    pub(crate) fn ghost(
        ctx: &mut Context<'_>,
        saved: Box<SavedRoom>,
        uplink: UplinkId,
    ) -> Option<Self> {
        let own = saved.room.occupant(&saved.nick)?;
        let mut room = Self::idle(own, saved.sent_presence.clone(), ctx.now);
        room.carrier = uplink;
        room.record.stored = Some(Stored {
            room: saved,
            carrier: uplink,
            complete: false,
            number: 0,
        });
        let leave = stanza::leave(&room.own);
        room.say_farewell(ctx, uplink, leave.into());
        room.part(ctx);
        Some(room)
    }
}

/// Whether two frames have the same bytes; most often those are in the same place.
fn is_same(a: &Frame, b: &Frame) -> bool {
    let (a, b) = (a.bytes(), b.bytes());
    a.len() == b.len() && (a.as_ptr() == b.as_ptr() || a == b)
}

fn are_same(a: &Option<Frame>, b: &Option<Frame>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => is_same(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
