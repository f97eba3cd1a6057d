//! When which room is to be called.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::RoomJid;

/// When which room wants to be called.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, RoomJid)>,
    by_room: BTreeMap<RoomJid, Instant>,
}

impl Timers {
    pub(super) fn set(&mut self, room: &RoomJid, at: Option<Instant>) {
        if self.by_room.get(room).copied() == at {
            return;
        }
        if let Some(old) = self.by_room.remove(room) {
            self.by_time.remove(&(old, room.clone()));
        }
        if let Some(at) = at {
            self.by_room.insert(room.clone(), at);
            self.by_time.insert((at, room.clone()));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The rooms that are due at `now`.
    pub(super) fn due(&self, now: Instant) -> Vec<RoomJid> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, room)| room.clone()).collect()
    }
}
