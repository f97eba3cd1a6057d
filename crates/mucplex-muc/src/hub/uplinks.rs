//! How sessions and uplinks come, sleep, and go.
//!
//! An uplink that is to be free of rooms says why in its own state
//! ([`Uplink`](crate::context::Uplink)); the rooms look at that, and when none needs the uplink any
//! more it is released.

use std::time::Instant;

use jid::FullJid;

use super::{ANCHOR_WAIT, Hub, Now, Output};
use crate::context::{Session, Uplink};
use crate::room::Room;
use crate::{OccupantJid, SessionId, UplinkId};

impl Hub {
    pub(super) fn session_bound(
        &mut self,
        now: Now,
        session: SessionId,
        uplink: UplinkId,
        jid: &FullJid,
        lang: Option<String>,
    ) {
        let address = jid.to_string();
        let known = self.uplinks.insert(
            uplink,
            Uplink {
                address: address.clone(),
                session: Some(session),
                lang,
                ..Uplink::default()
            },
        );
        self.sessions.insert(
            session,
            Session {
                address,
                uplink,
                carbons: false,
                asleep: false,
            },
        );
        self.anchors.retain(|anchor| *anchor != uplink);
        if known.is_some() {
            // The session's routes are new, and the uplink is not.
            let carried = self.rooms.iter().filter(|(_, room)| room.hears(uplink));
            for (room, _) in carried {
                let room = room.clone();
                self.outputs.push_back(Output::Carry { uplink, room });
            }
        }
        self.settle_all(now);
    }

    /// The newest anchor, if it can carry.
    pub(super) fn anchor(&self) -> Option<UplinkId> {
        let newest = self.anchors.last().copied()?;
        let known = self.uplinks.get(&newest)?;
        known.may_carry().then_some(newest)
    }

    /// Whether joins wait for an anchor at this moment.
    pub(super) fn awaits_anchor(&self, now: Instant) -> bool {
        self.anchor().is_none() && self.awaited_until.is_some_and(|until| now < until)
    }

    pub(super) fn anchor_expected(&mut self, now: Now, expected: bool) {
        if !expected {
            self.awaited_until = None;
            self.waited_enough(now);
        } else if self.awaited_until.is_none() {
            self.awaited_until = now.instant.checked_add(ANCHOR_WAIT);
        }
    }

    /// No anchor has come: everything that has waited for one goes its way without.
    pub(super) fn waited_enough(&mut self, now: Now) {
        self.open_all_doors(now);
        let retained = self.retain_one(now);
        self.with_all_rooms(now, |room, ctx| {
            if let Some(uplink) = retained {
                room.stream_left(ctx, uplink);
            }
        });
    }

    pub(super) fn anchor_bound(
        &mut self,
        now: Now,
        uplink: UplinkId,
        jid: &FullJid,
        lang: Option<String>,
    ) {
        self.add_anchor(uplink, jid, lang);
        self.forget_ghosts(now);
        self.open_all_doors(now);
        self.settle_all(now);
    }

    pub(super) fn add_anchor(&mut self, uplink: UplinkId, jid: &FullJid, lang: Option<String>) {
        self.awaited_until = None;
        self.succeed_anchors(uplink);
        self.uplinks.insert(
            uplink,
            Uplink {
                address: jid.to_string(),
                lang,
                ..Uplink::default()
            },
        );
    }

    /// This one is the anchor now, and all before it are on their way out.
    fn succeed_anchors(&mut self, newest: UplinkId) {
        for older in &self.anchors {
            if let Some(older) = self.uplinks.get_mut(older) {
                older.retired = true;
            }
        }
        self.anchors.push(newest);
    }

    pub(super) fn session_asleep(&mut self, now: Now, session: SessionId, asleep: bool) {
        let Some(known) = self.sessions.get_mut(&session) else {
            return;
        };
        known.asleep = asleep;
        if !asleep && let Some(uplink) = self.uplinks.get_mut(&known.uplink) {
            uplink.cut = false;
            uplink.resting = false;
        }
        self.settle_all(now);
    }

    /// The uplinks of sessions that are asleep need carry nothing while there is an anchor.
    pub(super) fn settle_sleepers(&mut self) {
        let anchored = self.anchor().is_some();
        for session in self.sessions.values().filter(|session| session.asleep) {
            if let Some(uplink) = self.uplinks.get_mut(&session.uplink) {
                uplink.resting = anchored && !uplink.cut;
            }
        }
    }

    /// A session is in no room any more; its uplink is to be free of rooms.
    pub(super) fn session_away(&mut self, now: Now, session: SessionId) {
        self.open_doors_of(now, session);
        let uplink = self.sessions.get(&session).map(|known| known.uplink);
        if let Some(uplink) = uplink.and_then(|uplink| self.uplinks.get_mut(&uplink)) {
            uplink.withholding = true;
        }
        self.apart.unavailable(session);
        self.settle_sleepers();
        self.with_all_rooms(now, |room, ctx| room.detach(ctx, session));
    }

    /// A session has ended; its uplink is to be free of rooms, or stays as the account's anchor.
    pub(super) fn session_ended(
        &mut self,
        now: Now,
        session: SessionId,
        available: bool,
        served: Option<u64>,
    ) {
        let Some(ended) = self.sessions.remove(&session) else {
            return;
        };
        let apart = self.forget_session(session);
        let own = self.uplinks.get_mut(&ended.uplink);
        // Another session may have taken the uplink over.
        if let Some(uplink) = own.filter(|uplink| uplink.session == Some(session)) {
            uplink.session = None;
            uplink.retired = true;
            uplink.withholding = false;
            uplink.available = available;
            uplink.apart = apart;
            // Cut, it has no connection to be kept for.
            uplink.suspended |= std::mem::take(&mut uplink.cut);
        }
        let retained = self.retain_one(now);
        self.with_all_rooms(now, |room, ctx| {
            if served.is_some() {
                room.session_lost(ctx, session, served);
            }
            room.detach(ctx, session);
            if let Some(uplink) = retained {
                room.stream_left(ctx, uplink);
            }
        });
    }

    /// Gives whom the session has been in rooms that it was in on its own.
    fn forget_session(&mut self, session: SessionId) -> Vec<OccupantJid> {
        self.close_doors_of(session);
        self.plain.forget(session);
        self.others.forget(session);
        self.apart.forget(session)
    }

    /// Rooms are to stay, and nothing is left to carry them but the uplink of a session that has
    /// ended: that becomes the anchor. Gives it if it leaves all rooms now.
    fn retain_one(&mut self, now: Now) -> Option<UplinkId> {
        let carried = self.uplinks.values().any(Uplink::may_carry);
        if carried || !self.policy.anchors || self.awaits_anchor(now.instant) {
            return None;
        }
        let stays = !self.policy.stay.is_zero();
        let wanted = |room: &Room| stays || self.sessions.keys().any(|it| room.has(*it));
        let mut rooms = self.rooms.values();
        if !rooms.any(|room| room.is_to_stay() && wanted(room)) {
            return None;
        }
        let is_free = |uplink: &Uplink| uplink.session.is_none() && !uplink.suspended;
        let (id, uplink) = self.uplinks.iter_mut().rfind(|(_, it)| is_free(it))?;
        let id = *id;
        uplink.retired = false;
        let left = std::mem::take(&mut uplink.available);
        let apart = std::mem::take(&mut uplink.apart);
        self.succeed_anchors(id);
        self.outputs.push_back(Output::Retain { uplink: id });
        for occupant in apart.iter().filter(|_| !left) {
            let stanza = crate::stanza::leave(occupant).into();
            self.outputs
                .push_back(Output::ToServer { uplink: id, stanza });
        }
        left.then_some(id)
    }

    pub(super) fn uplink_lost(&mut self, now: Now, uplink: UplinkId) {
        let Some(lost) = self.uplinks.remove(&uplink) else {
            return;
        };
        self.anchors.retain(|anchor| *anchor != uplink);
        self.others.lost(uplink);
        // The one before takes its place again.
        if let Some(newest) = self.anchors.last()
            && let Some(newest) = self.uplinks.get_mut(newest)
        {
            newest.retired = false;
        }
        let ended = lost
            .session
            .filter(|session| self.sessions.remove(session).is_some());
        if let Some(session) = ended {
            self.forget_session(session);
        }
        let retained = self.retain_one(now);
        self.settle_sleepers();
        self.with_all_rooms(now, |room, ctx| {
            if let Some(session) = ended {
                room.session_lost(ctx, session, None);
                room.detach(ctx, session);
            }
            if let Some(retained) = retained {
                room.stream_left(ctx, retained);
            }
            room.uplink_lost(ctx, uplink, &lost.address);
        });
    }

    pub(super) fn uplink_suspended(&mut self, now: Now, uplink: UplinkId, suspended: bool) {
        let Some(known) = self.uplinks.get_mut(&uplink) else {
            return;
        };
        if std::mem::replace(&mut known.suspended, suspended) == suspended {
            return;
        }
        self.settle_sleepers();
        self.with_all_rooms(now, |room, ctx| {
            if suspended {
                room.uplink_suspended(ctx, uplink);
            } else {
                room.uplink_resumed(ctx, uplink);
            }
        });
    }

    /// What has changed concerns every room.
    pub(super) fn settle_all(&mut self, now: Now) {
        self.settle_sleepers();
        self.with_all_rooms(now, |_, _| {});
    }

    /// Gives back the uplinks that no room needs any more.
    pub(super) fn release_what_is_free(&mut self, now: Now) {
        loop {
            let mut wanted = self.uplinks.iter().filter(|(_, it)| it.is_wanted_back());
            let free = wanted.find(|(id, uplink)| {
                // Closed, a stream leaves its rooms by itself; cut, it would not.
                let stays = !uplink.retired || self.anchors.contains(id);
                let mut rooms = self.rooms.values();
                !rooms.any(|room| room.uses(**id) || stays && room.has_words_for(**id))
            });
            let Some(uplink) = free.map(|(id, _)| *id) else {
                return;
            };
            self.release(now, uplink);
        }
    }

    fn release(&mut self, now: Now, uplink: UplinkId) {
        self.outputs.push_back(Output::Release { uplink });
        let Some(known) = self.uplinks.get_mut(&uplink) else {
            return;
        };
        if known.retired {
            let address = std::mem::take(&mut known.address);
            self.uplinks.remove(&uplink);
            self.anchors.retain(|anchor| *anchor != uplink);
            self.others.lost(uplink);
            self.with_all_rooms(now, |room, ctx| room.uplink_lost(ctx, uplink, &address));
            return;
        }
        known.withholding = false;
        known.cut = std::mem::take(&mut known.resting);
        // It may carry again, if it is not cut.
        self.settle_all(now);
    }
}
