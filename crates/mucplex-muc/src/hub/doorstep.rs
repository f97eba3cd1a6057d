//! First joins of rooms that wait for an anchor which may come any moment
//! ([`Input::AnchorExpected`](super::Input::AnchorExpected)).
//!
//! What sessions send to such a room waits behind, in order. Who leaves again is answered at once, so
//! a leave ends the waiting.

use std::collections::{BTreeMap, VecDeque};

use mucplex_xml::{Frame, Kind};

use super::{Hub, Now};
use crate::room::needs_occupancy;
use crate::{RoomJid, SessionId};

/// Stanzas that may wait at one door, and their bytes.
const MOST_STANZAS: usize = 64;
const MOST_BYTES: usize = 512 * 1024;

/// What waits to go into rooms that the account has not asked to enter yet.
#[derive(Debug, Default)]
pub(super) struct Doorsteps {
    rooms: BTreeMap<RoomJid, VecDeque<(SessionId, Frame)>>,
}

impl Doorsteps {
    pub(super) fn has(&self, room: &RoomJid) -> bool {
        self.rooms.contains_key(room)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    fn push(&mut self, room: &RoomJid, session: SessionId, frame: &Frame) {
        let waiting = self.rooms.entry(room.clone()).or_default();
        waiting.push_back((session, frame.compact()));
    }

    fn has_space(&self, room: &RoomJid, frame: &Frame) -> bool {
        let waiting = self.rooms.get(room).into_iter().flatten();
        let (count, bytes) = waiting.fold((0, frame.bytes().len()), |(count, bytes), (_, it)| {
            (count + 1, bytes + it.bytes().len())
        });
        count < MOST_STANZAS && bytes <= MOST_BYTES
    }
}

impl Hub {
    /// A session's stanza for a room that waits, or is to wait, to be entered. `false` if it is to
    /// be handled now.
    pub(super) fn waits_at_door(
        &mut self,
        now: Now,
        room: &RoomJid,
        session: SessionId,
        frame: &Frame,
        begins: bool,
    ) -> bool {
        if !self.doorsteps.has(room) {
            let waits = begins && self.awaits_anchor(now.instant);
            if waits {
                self.doorsteps.push(room, session, frame);
            }
            return waits;
        }
        let to_room = frame.to().is_some_and(|to| !to.contains('/'));
        if frame.kind() == Kind::Iq && to_room && !needs_occupancy(frame, None) {
            return false;
        }
        let leaves =
            frame.kind() == Kind::Presence && frame.stanza_type().as_deref() == Some("unavailable");
        if leaves || !self.doorsteps.has_space(room, frame) {
            self.open_door(now, room);
            return false;
        }
        self.doorsteps.push(room, session, frame);
        true
    }

    fn open_door(&mut self, now: Now, room: &RoomJid) {
        for (session, frame) in self.doorsteps.rooms.remove(room).unwrap_or_default() {
            self.handle_client_stanza(now, session, &frame);
        }
    }

    pub(super) fn open_all_doors(&mut self, now: Now) {
        let rooms: Vec<RoomJid> = self.doorsteps.rooms.keys().cloned().collect();
        for room in &rooms {
            self.open_door(now, room);
        }
    }

    /// A session is about to leave all rooms: what it has sent goes before that.
    pub(super) fn open_doors_of(&mut self, now: Now, session: SessionId) {
        let all = self.doorsteps.rooms.iter();
        let waits = all.filter(|(_, waiting)| waiting.iter().any(|(of, _)| *of == session));
        let rooms: Vec<RoomJid> = waits.map(|(room, _)| room.clone()).collect();
        for room in &rooms {
            self.open_door(now, room);
        }
    }

    /// A session is gone, and what it wanted with it.
    pub(super) fn close_doors_of(&mut self, session: SessionId) {
        self.doorsteps.rooms.retain(|_, waiting| {
            waiting.retain(|(of, _)| *of != session);
            !waiting.is_empty()
        });
    }
}
