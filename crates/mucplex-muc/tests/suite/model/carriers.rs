//! Sessions and uplinks that go, and how much of the ideal still holds then.

use super::life::{Keep, Life, Setting};
use super::script::{Op, ROOMS};
use super::view::Grade;
use super::watch::Way;
use crate::ledger::{self, ACCOUNTS};

impl Life {
    /// Anchors come, clients sleep, streams are suspended. `false` if it is another step.
    pub(crate) fn stands_by(&mut self, op: Op) -> bool {
        match op {
            Op::Sleep(slot) => self.session(slot, |life, id| {
                if !life.world.withholds(id) {
                    life.world.sleep(id);
                }
            }),
            Op::Wake(slot) => {
                if let Some(id) = self.slots[slot] {
                    self.world.wake(id);
                }
            }
            Op::Anchor(account) => {
                self.world.anchor(ACCOUNTS[account]);
            }
            Op::Expect(account, expected) => self.world.expect_anchor(ACCOUNTS[account], expected),
            // A change of nick that hangs on a suspended stream splits the account for a while; so does
            // a join, where the room knows one stream under a nick.
            Op::Suspend(uplink)
                if !self.destroyed
                    && !self.setting.renames
                    && self.setting.dialect.second_stream =>
            {
                if let Some(uplink) = self.uplink(uplink) {
                    self.is_suspended(uplink);
                    self.world.suspend(uplink);
                }
            }
            Op::Resume(uplink) => {
                if let Some(uplink) = self.uplink(uplink) {
                    self.world.resume(uplink);
                }
            }
            Op::Available(slot) => self.session(slot, |life, id| {
                life.world.sessions.get_mut(&id).unwrap().available = true;
            }),
            Op::Suspend(_) => {}
            _ => return false,
        }
        true
    }

    /// A session is no longer there, or is about to be: it has left no room.
    pub(crate) fn goes(&mut self, id: u64) {
        let account = self.accounts[&id];
        self.ends(self.world.up(id));
        for room in 0..ROOMS.len() {
            let view = self.views.remove(&(id, room));
            if view.is_some() && !self.anybody_in(account, room) && self.setting.stays {
                if !view.is_some_and(|view| view.is_live()) {
                    self.keep[account][room] = Keep::Unknown;
                }
            } else if view.is_some() && !self.anybody_in(account, room) {
                self.is_out(account, room);
            } else if view.is_some() && !self.is_attached(account, room) {
                self.keep[account][room] = Keep::Unknown;
            }
        }
    }

    /// Without an uplink that stays, the account is in no room.
    pub(crate) fn without_carrier(&mut self, gone: u64) {
        let account = self.accounts[&gone];
        self.usable.remove(&gone);
        let own = Some(self.world.up(gone));
        if self.has_anchor(account) && self.world.newest_anchor(ACCOUNTS[account]) != own {
            return;
        }
        let sleeps = |room| self.anybody_in(account, room);
        if self.setting.stays || (0..ROOMS.len()).any(sleeps) {
            // It comes back with the next uplink, if that is not there at once.
            if !self.usable.iter().any(|id| self.accounts[id] == account) {
                for room in 0..ROOMS.len() {
                    self.broken[account][room] = true;
                    self.mark(account, room, Grade::Gap);
                }
            }
            return;
        }
        if !self.usable.iter().any(|id| self.accounts[id] == account) {
            for room in 0..ROOMS.len() {
                if self.suspended {
                    self.keep[account][room] = Keep::Unknown;
                } else if self.keep[account][room] == Keep::In {
                    self.is_out(account, room);
                    // One may have become free in the same step.
                    let mut all = self.slots.iter().flatten();
                    if all.any(|id| {
                        *id != gone
                            && self.accounts[id] == account
                            && self.stays(self.world.up(*id))
                    }) {
                        self.keep[account][room] = Keep::Unknown;
                    }
                }
            }
        }
    }

    /// Whether the hub may bring a room to this uplink.
    pub(crate) fn stays(&self, uplink: u64) -> bool {
        let uplink = &self.world.uplinks[&uplink];
        let alive = |id| self.world.sessions[&id].alive && !self.world.withholds(id);
        uplink.open && uplink.flows() && uplink.session.is_some_and(alive)
    }

    /// Whether the account has an anchor that can carry.
    pub(crate) fn has_anchor(&self, account: usize) -> bool {
        let newest = self.world.newest_anchor(ACCOUNTS[account]);
        newest.is_some_and(|id| self.world.uplinks[&id].flows())
    }

    /// Whether any uplink of the account can carry a room.
    pub(crate) fn has_carrier(&self, account: usize) -> bool {
        let sessions = self.slots.iter().flatten();
        let mut own = sessions.filter(|id| self.accounts[id] == account);
        self.has_anchor(account) || own.any(|id| self.stays(self.world.up(*id)))
    }

    /// A session's last uplink is the anchor now.
    pub(crate) fn note_retained(&mut self) {
        for (uplink, left) in std::mem::take(&mut self.world.retained) {
            let account = ledger::account(&self.world.uplinks[&uplink].account).unwrap();
            for room in 0..ROOMS.len() {
                if left {
                    self.broken[account][room] = true;
                    self.mark(account, room, Grade::Gap);
                }
            }
        }
    }

    /// The connection of an uplink is about to be lost: what its rooms say comes later, or by way of
    /// another one.
    pub(crate) fn is_suspended(&mut self, uplink: u64) {
        self.suspended = true;
        let account = ledger::account(&self.world.uplinks[&uplink].account).unwrap();
        for room in 0..ROOMS.len() {
            self.mark(account, room, Grade::Gap);
        }
    }

    pub(crate) fn mark(&mut self, account: usize, room: usize, grade: Grade) {
        let known = &mut self.grades[account][room];
        *known = grade.max(*known);
    }

    /// The session of an uplink goes; what the uplink carries is handed over.
    pub(crate) fn ends(&mut self, uplink: u64) {
        let grade = self.grade_of_handover();
        self.mark_rooms_of(uplink, grade);
    }

    pub(crate) fn grade_of_handover(&self) -> Grade {
        match self.setting {
            Setting { dialect, .. } if !dialect.second_stream => Grade::Gap,
            Setting { numbered: true, .. } => Grade::Moved,
            Setting { .. } => Grade::Alike,
        }
    }

    pub(crate) fn mark_rooms_of(&mut self, uplink: u64, grade: Grade) {
        let account = ledger::account(&self.world.uplinks[&uplink].account).unwrap();
        for room in 0..ROOMS.len() {
            if self.watch.way(uplink, room) != Way::Out {
                self.mark(account, room, grade);
            }
        }
    }

    /// A newer stream is about to take a full JID; whether there is an older one.
    pub(crate) fn replaced(&mut self, jid: &str) -> bool {
        let older = self.world.uplinks.iter();
        let older = older.filter(|(_, it)| it.jid == jid && !it.over);
        let older: Vec<u64> = older.map(|(id, _)| *id).collect();
        for uplink in &older {
            let uplink = *uplink;
            self.mark_rooms_of(uplink, Grade::Gap);
            // The newer stream may lose what it has joined.
            let account = ledger::account(&self.world.uplinks[&uplink].account).unwrap();
            if self.setting.dialect.ends_older_late {
                for room in 0..ROOMS.len() {
                    self.mark(account, room, Grade::Gap);
                }
            }
        }
        !older.is_empty()
    }

    pub(crate) fn forget_troubles(&mut self) {
        (self.lost, self.destroyed) = (false, false);
        self.suspended = false;
        // Without an uplink there is more to come.
        for account in 0..ACCOUNTS.len() {
            if self.has_carrier(account) {
                self.grades[account] = [Grade::Exact; 3];
                self.broken[account] = [false; 3];
                self.put[account] = [false; 3];
            }
        }
    }
}
