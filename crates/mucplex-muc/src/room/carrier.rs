//! Which uplink carries the room, and what the sessions send on it.

use std::collections::VecDeque;

use mucplex_xml::{Frame, Kind};

use super::handover::{Handover, Old};
use super::in_flight::Way;
use super::{JoinRequest, Phase, Room};
use crate::context::Context;
use crate::{SessionId, UplinkId};

/// Stanzas of sessions that may wait for the room to have a carrier again.
const MOST_HELD: usize = 256;
const MOST_HELD_BYTES: usize = 1024 * 1024;

impl Room {
    /// Sees to it that the room has an uplink that stays, and somebody who wants it. Called after
    /// every change of sessions, uplinks or of the room itself.
    pub(crate) fn settle(&mut self, ctx: &mut Context<'_>) {
        self.drop_lost_target(ctx);
        self.note_attachment(ctx);
        let waits = self
            .handover
            .as_ref()
            .is_some_and(Handover::waits_for_answers);
        if waits && !self.awaits_answers() {
            self.next_is_in(ctx);
        }
        if matches!(self.phase, Phase::Joined)
            && self.is_detached()
            && (self.left || ctx.policy.stay.is_zero())
        {
            self.leave_upstream(ctx, None);
        }
        self.ask_again_for_nicks(ctx);
        self.settle_standing(ctx);
        self.set_apart(ctx);
        if self.carrier_stays(ctx) || self.handover.is_some() || self.is_gone() {
            return;
        }
        let alive = ctx.uplinks.contains_key(&self.carrier);
        let target = self.choose_carrier(ctx);
        let changes_nick = self.in_flight.nick_change(self.own.nick()).is_some();
        match (&mut self.phase, target) {
            // The next carrier joins under the nick the account will have.
            (Phase::Joined, Some(_)) if alive && changes_nick => {}
            (Phase::Joined, Some(to)) => {
                let old = if alive { Old::Serving } else { Old::Ended };
                self.begin_handover(ctx, Handover::new(to, old, ctx.now.instant));
            }
            // The join ends on the old carrier first.
            (Phase::Joining(_), Some(_)) if alive => {}
            (Phase::Joining(joining), Some(_)) => {
                let waiting = std::mem::take(&mut joining.waiting);
                self.restart(ctx, waiting);
            }
            (Phase::Joined | Phase::Joining(_), None) => {
                self.let_old_go(ctx, Old::Serving);
                self.lost(ctx);
            }
            (Phase::Leaving(_) | Phase::Gone, _) => {}
        }
    }

    /// The uplink of a session that is in the room, or else of any: the seam where an anchor is
    /// chosen before all of these.
    pub(super) fn choose_carrier(&self, ctx: &Context<'_>) -> Option<UplinkId> {
        let stays = |uplink: &UplinkId| self.may_carry(ctx, *uplink);
        let attached = self
            .attached
            .iter()
            .filter_map(|session| ctx.uplink_of(*session));
        attached.chain(ctx.uplinks.keys().copied()).find(stays)
    }

    /// Whether the carrier is there and will be.
    pub(super) fn carrier_stays(&self, ctx: &Context<'_>) -> bool {
        self.may_carry(ctx, self.carrier)
    }

    /// An uplink that ends carries nothing more, and one on which a session is, or is to be, in the
    /// room on its own can carry no second occupancy there.
    pub(super) fn may_carry(&self, ctx: &Context<'_>, uplink: UplinkId) -> bool {
        let Some(known) = ctx.uplinks.get(&uplink) else {
            return false;
        };
        let own = |session| self.sets_apart.iter().any(|it| it.session == session);
        let apart = ctx.apart.has(&self.jid, uplink) || known.session.is_some_and(own);
        !known.leaving && !apart
    }

    /// Sessions that are to be in the room on their own go, as soon as the room needs their uplinks
    /// no more.
    fn set_apart(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Joined) && self.attached.is_empty() {
            for request in std::mem::take(&mut self.sets_apart) {
                self.settle_conflict(ctx, request);
            }
        }
        for request in std::mem::take(&mut self.sets_apart) {
            match ctx.uplink_of(request.session) {
                Some(own) if self.uses(own) || self.farewells.expects(own) => {
                    self.sets_apart.push_back(request);
                }
                Some(_) => ctx.sets_apart.push(request),
                None => {}
            }
        }
    }

    /// An uplink is gone, and what it carried with it.
    pub(crate) fn uplink_lost(&mut self, ctx: &mut Context<'_>, uplink: UplinkId, address: &str) {
        self.farewells_lost(ctx, uplink);
        if uplink != self.carrier {
            return;
        }
        self.lost_carrier = Some(address.to_owned());
        self.give_up_iqs(ctx);
        self.in_flight.lost();
        if matches!(self.phase, Phase::Leaving(_) | Phase::Gone) {
            self.refuse_lost(ctx);
        }
        self.old_has_ended(ctx, false);
    }

    /// Whether the carrier has been told to leave for a hand-over, or is lost.
    pub(super) fn carrier_is_ending(&self) -> bool {
        self.handover
            .as_ref()
            .is_some_and(|handover| handover.old != Old::Serving)
    }

    /// Sends a session's stanza into the room on its carrier, or keeps it while one carrier has
    /// been told to end and the other has not surely begun: on two streams the later one could
    /// overtake the earlier. A change of nick waits for the whole hand-over, whose join is under
    /// the old one. `None` if it could be neither, and the session has been told.
    pub(super) fn send_upstream(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        changes_nick: bool,
    ) -> Option<Way> {
        let Some(handover) = self
            .handover
            .as_mut()
            .filter(|it| it.old != Old::Serving || changes_nick || !it.held.is_empty())
        else {
            ctx.send_for(session, self.carrier, frame);
            return Some(Way::Sent);
        };
        let bytes: usize = handover
            .held
            .iter()
            .map(|(_, held)| held.bytes().len())
            .sum();
        let fits = bytes + frame.bytes().len() <= MOST_HELD_BYTES;
        if fits && handover.held.len() < MOST_HELD {
            handover.held.push_back((session, frame.compact()));
            Some(Way::Held)
        } else {
            self.refuse_unsent(ctx, session, frame);
            None
        }
    }

    pub(super) fn refuse_held(
        &mut self,
        ctx: &mut Context<'_>,
        held: VecDeque<(SessionId, Frame)>,
    ) {
        for (session, frame) in held {
            let to = frame.to();
            let joins = |it: &JoinRequest| {
                it.session == session && to.as_deref() == Some(&*it.occupant.to_string())
            };
            // One that has asked for a nick in order to join asks once more.
            if frame.kind() != Kind::Presence || !self.renaming.iter().any(joins) {
                self.refuse_unsent(ctx, session, &frame);
            }
        }
    }
}
