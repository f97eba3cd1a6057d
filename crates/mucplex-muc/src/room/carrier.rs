//! Which uplink carries the room, and what the sessions send on it.

use std::collections::VecDeque;

use mucplex_xml::{Frame, Kind};

use super::handover::{Handover, Old};
use super::in_flight::Way;
use super::{JoinRequest, Phase, Room};
use crate::context::{Context, Uplink};
use crate::{RoomJid, SessionId, UplinkId};

/// Stanzas of sessions that may wait for the room to have a carrier again.
const MOST_HELD: usize = 256;
const MOST_HELD_BYTES: usize = 1024 * 1024;

/// What has become of the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stays,
    /// It serves, and is to be free of the room.
    Leaving,
    /// Its connection is gone, and the room does not know.
    Suspended,
    Lost,
}

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
        self.waits_for_turn = false;
        if self.handover.is_some() {
            self.wake(ctx);
            return;
        }
        match &self.phase {
            Phase::Joined => self.settle_carrier(ctx),
            Phase::Joining(_) => self.settle_joining_carrier(ctx),
            Phase::Leaving(_) | Phase::Gone => {}
        }
    }

    /// The account is in the room: its carrier may have to be another one.
    pub(super) fn settle_carrier(&mut self, ctx: &mut Context<'_>) {
        // The next carrier joins under the nick the account will have.
        let changes_nick = self.in_flight.nick_change(self.own.nick()).is_some();
        let target = self.choose_carrier(ctx);
        match (
            self.carrier_state(ctx),
            target.filter(|_| !ctx.awaits_anchor),
        ) {
            (State::Stays, Some(to)) => {
                let moves = to != self.carrier && !changes_nick && self.keeps_off != Some(to);
                if moves && ctx.anchor == Some(to) {
                    self.move_to_anchor(ctx, to);
                }
            }
            (State::Stays, None) => {}
            (State::Leaving | State::Suspended, Some(_)) if changes_nick => {}
            (State::Leaving, Some(to)) => {
                self.begin_handover(ctx, Handover::new(to, Old::Serving, ctx.now.instant));
            }
            (State::Leaving, None) if ctx.awaits_anchor => {}
            (State::Leaving, None) => {
                self.let_old_go(ctx, Old::Serving);
                self.rest(ctx, VecDeque::new());
            }
            (State::Suspended, Some(to)) => {
                let ends = ctx.anchor == Some(to) || self.is_looked_at(ctx);
                let may = self.keeps_off != Some(to);
                if may && (ends || self.carrier_is_leaving(ctx)) {
                    self.farewells.owe(self.carrier);
                    self.begin_handover(ctx, Handover::new(to, Old::Ended, ctx.now.instant));
                }
            }
            (State::Suspended, None) if self.carrier_is_leaving(ctx) && !ctx.awaits_anchor => {
                self.farewells.owe(self.carrier);
                self.rest(ctx, VecDeque::new());
            }
            (State::Suspended, None) => {}
            (State::Lost, Some(to)) => {
                self.begin_handover(ctx, Handover::new(to, Old::Ended, ctx.now.instant));
            }
            (State::Lost, None) => self.rest(ctx, VecDeque::new()),
        }
    }

    /// A carrier that could stay gives the room to the anchor, in its turn.
    fn move_to_anchor(&mut self, ctx: &mut Context<'_>, to: UplinkId) {
        if ctx.may_move {
            self.begin_handover(ctx, Handover::new(to, Old::Serving, ctx.now.instant));
        } else {
            self.waits_for_turn = true;
        }
    }

    /// The account's join is under way: it ends on the uplink on which it has begun, if it can.
    fn settle_joining_carrier(&mut self, ctx: &mut Context<'_>) {
        let Phase::Joining(joining) = &mut self.phase else {
            return;
        };
        let wanted = joining.has_waiting();
        let looked_at = joining.sessions().any(|session| ctx.is_awake(session));
        let state = self.carrier_state(ctx);
        let target = self.choose_carrier(ctx);
        match (state, target) {
            (State::Stays, _) | (State::Leaving, Some(_)) => {}
            (State::Leaving, None) if ctx.awaits_anchor || wanted => {}
            (State::Leaving, None) => {
                self.let_old_go(ctx, Old::Serving);
                self.lost(ctx);
            }
            (State::Suspended, Some(_)) if looked_at => self.join_elsewhere(ctx),
            (State::Lost, Some(_)) => self.join_elsewhere(ctx),
            (State::Lost, None) if !wanted => self.lost(ctx),
            (State::Lost, None) => self.join_later(ctx),
            (State::Suspended, _) => {}
        }
    }

    /// The anchor before all others; then the uplink of a session that is in the room, or else any,
    /// those first whose sessions' clients are there.
    pub(super) fn choose_carrier(&self, ctx: &Context<'_>) -> Option<UplinkId> {
        let stays = |uplink: &UplinkId| self.may_carry(ctx, *uplink);
        let attached = |awake| {
            let sessions = self.attached.iter().copied();
            let sessions = sessions.filter(move |session| ctx.is_awake(*session) == awake);
            sessions.filter_map(|session| ctx.uplink_of(session))
        };
        let anchor = ctx.anchor.into_iter();
        let all = ctx.uplinks.keys().copied();
        let mut all = anchor
            .chain(attached(true))
            .chain(attached(false))
            .chain(all);
        all.find(stays)
    }

    /// The uplink on which a session's first join of a room goes out: its own, unless there is a
    /// better one.
    pub(crate) fn entrance(
        ctx: &Context<'_>,
        room: &RoomJid,
        session: SessionId,
    ) -> Option<UplinkId> {
        let own = ctx.uplink_of(session)?;
        let may = |uplink: &UplinkId| {
            let known = ctx.uplinks.get(uplink);
            known.is_some_and(Uplink::may_carry) && !ctx.apart.has(room, *uplink)
        };
        let all = ctx.uplinks.keys().copied();
        let mut all = ctx.anchor.into_iter().chain([own]).chain(all);
        Some(all.find(may).unwrap_or(own))
    }

    fn carrier_state(&self, ctx: &Context<'_>) -> State {
        match ctx.uplinks.get(&self.carrier) {
            None => State::Lost,
            Some(carrier) if carrier.suspended => State::Suspended,
            Some(_) if self.carrier_stays(ctx) => State::Stays,
            Some(_) => State::Leaving,
        }
    }

    fn carrier_is_leaving(&self, ctx: &Context<'_>) -> bool {
        let carrier = ctx.uplinks.get(&self.carrier);
        carrier.is_some_and(Uplink::is_leaving)
    }

    /// Whether the carrier is there and will be.
    pub(super) fn carrier_stays(&self, ctx: &Context<'_>) -> bool {
        self.may_carry(ctx, self.carrier)
    }

    /// An uplink that ends carries nothing more, and one on which a session is, or is to be, in the
    /// room on its own can carry no second occupancy there.
    pub(super) fn may_carry(&self, ctx: &Context<'_>, uplink: UplinkId) -> bool {
        let known = ctx.uplinks.get(&uplink);
        known.is_some_and(Uplink::may_carry) && !self.is_apart(ctx, uplink)
    }

    pub(super) fn is_apart(&self, ctx: &Context<'_>, uplink: UplinkId) -> bool {
        let session = ctx.uplinks.get(&uplink).and_then(|it| it.session);
        let own = |session| self.sets_apart.iter().any(|it| it.session == session);
        ctx.apart.has(&self.jid, uplink) || session.is_some_and(own)
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
        // What was on a suspended stream that another uplink took over from, or on its way with the
        // last leave, may have reached nobody.
        let over = matches!(self.phase, Phase::Leaving(_) | Phase::Gone);
        let unsure = self.farewells.is_owed(uplink) || over && self.farewells.expects(uplink);
        let unsure = unsure && uplink != self.carrier;
        self.farewells_lost(ctx, uplink);
        if unsure {
            self.in_flight.lost(uplink);
            if self.handover.is_none() {
                self.refuse_lost(ctx);
            }
        }
        if uplink != self.carrier {
            return;
        }
        self.lost_carrier = Some(address.to_owned());
        self.give_up_iqs(ctx);
        self.in_flight.lost(uplink);
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
