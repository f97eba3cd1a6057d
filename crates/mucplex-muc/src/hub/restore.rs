//! How the rooms of a process before this one go on (behaviour 63).
//!
//! They are dormant at first. If the stream of the anchor is resumed, the account is in its rooms as
//! it was, and nobody has noticed anything. Any other uplink joins them again.

use jid::FullJid;

use super::{Context, Hub, MOST_MOVING, Now, Policy, Room, context};
use crate::persist::{Change, Saved};
use crate::{AccountJid, UplinkId};

impl Hub {
    /// The hub of an account as the process before this one knew it; what that has changed again is
    /// among its outputs. The shell then says whether an anchor is on its way
    /// ([`Input::AnchorExpected`](super::Input::AnchorExpected)), lest the first session's own uplink
    /// joins all rooms again.
    #[must_use]
    pub fn restore(account: AccountJid, policy: Policy, saved: Saved, now: Now) -> Self {
        let mut hub = Self::new(account, policy);
        for state in saved.rooms {
            let jid = state.room.room.clone();
            // A room that is not to be stayed in is left where nobody is in it.
            if !state.room.wanted || hub.policy.stay.is_zero() {
                hub.ghosts.insert(jid, Box::new(state.room));
            } else if let Some(room) = Room::restored(now, &hub.policy, state) {
                hub.numbers.note_message(room.largest_number());
                hub.rooms.insert(jid, room);
            }
        }
        hub.numbers.know(saved.said);
        // Answers to what the process before has asked are not for this one.
        hub.next_id = hub.numbers.next(now.wall);
        hub.with_all_rooms(now, |_, _| {});
        hub
    }

    /// What a lost session was served is known now.
    pub(super) fn served(&mut self, now: Now, resource: &str, number: u64) {
        self.numbers.note(number);
        self.with_all_rooms(now, |room, _| room.note_served(resource, number));
    }

    /// The anchor of the process before is there again.
    pub(super) fn anchor_restored(
        &mut self,
        now: Now,
        uplink: UplinkId,
        jid: &FullJid,
        lang: Option<String>,
    ) {
        let address = jid.to_string();
        self.add_anchor(uplink, jid, lang);
        self.with_all_rooms(now, |room, ctx| room.resume_on(ctx, uplink, &address));
        self.leave_ghosts(now, uplink, &address);
        self.forget_ghosts(now);
        self.open_all_doors(now);
        self.settle_all(now);
    }

    /// Rooms that nobody wants any more, and that may take the account to be in them by this stream.
    fn leave_ghosts(&mut self, now: Now, uplink: UplinkId, address: &str) {
        let here = |saved: &crate::SavedRoom| saved.carrier.as_deref() == Some(address);
        let ghosts = std::mem::take(&mut self.ghosts);
        for (jid, saved) in ghosts {
            if !here(&saved) {
                self.ghosts.insert(jid, saved);
                continue;
            }
            let mut ctx = context!(self, now);
            if let Some(room) = Room::ghost(&mut ctx, saved, uplink) {
                self.timers.set(&jid, room.next_timeout());
                self.rooms.insert(jid, room);
            }
        }
    }

    /// The streams by which these rooms knew the account are no more.
    pub(super) fn forget_ghosts(&mut self, now: Now) {
        for room in std::mem::take(&mut self.ghosts).into_keys() {
            if self.policy.persist {
                context!(self, now).persist(Change::Forgotten { room });
            }
        }
    }
}
