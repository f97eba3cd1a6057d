//! Hand-overs that do not go as they should: refused, not answered, or not wanted any more.

use mucplex_xml::{Frame, Outgoing};

use super::Room;
use super::handover::{
    CONFLICT_PAUSE, Handover, JOIN_TIMEOUT, MARK_TIMEOUT, MOST_CONFLICTS, Old, Stage,
};
use super::overlap::Brought;
use crate::context::Context;
use crate::muc_user::MucUser;
use crate::roster::Roster;
use crate::stanza;

impl Room {
    /// The room does not let the next carrier in beside the old one: leave, then join.
    pub(super) fn next_refused(&mut self, ctx: &mut Context<'_>, refusal: Option<&Frame>) {
        let conflict = refusal.is_some_and(is_temporary);
        let tries = self.may_try_again(ctx, refusal);
        if refusal.is_some() && !conflict && self.cancel_move(ctx) {
            return;
        }
        if conflict && self.waits_for_suspended(ctx) {
            return;
        }
        let Some(handover) = &mut self.handover else {
            return;
        };
        handover.others = Roster::default();
        handover.stage = Stage::Breaking;
        handover.deadline = ctx.now.instant + MARK_TIMEOUT;
        match handover.old {
            Old::Serving => {
                handover.old = Old::Leaving;
                ctx.send(self.carrier, stanza::leave(&self.own));
            }
            // It has not had the time to leave: once more when it has.
            Old::Leaving => {}
            Old::Ended if handover.beside => self.rejoin(ctx),
            // The server has not noticed yet that the streams of before are gone.
            Old::Ended if tries || (conflict && handover.conflicts < MOST_CONFLICTS) => {
                handover.conflicts += 1;
                handover.deadline = ctx.now.instant + CONFLICT_PAUSE;
            }
            Old::Ended => self.shut_out(ctx, refusal),
        }
    }

    /// The room does not let the account come to an uplink to which it need not go, for another
    /// reason than that it is there already: it stays where it is. `false` if it has to go.
    fn cancel_move(&mut self, ctx: &mut Context<'_>) -> bool {
        let stays = self.carrier_stays(ctx);
        let Some(handover) = self
            .handover
            .take_if(|it| stays && it.old == Old::Serving && it.to != self.carrier)
        else {
            return false;
        };
        self.keeps_off = Some(handover.to);
        self.send_held(ctx, handover.held);
        true
    }

    /// A room that allows one stream under a nick takes the suspended carrier for the account: what
    /// sessions send waits there. `false` if there is none.
    fn waits_for_suspended(&mut self, ctx: &mut Context<'_>) -> bool {
        let suspended = ctx.is_suspended(self.carrier) && self.farewells.is_owed(self.carrier);
        let Some(handover) = self
            .handover
            .take_if(|it| suspended && it.to != self.carrier)
        else {
            return false;
        };
        self.farewells.pay(self.carrier);
        self.keeps_off = Some(handover.to);
        self.send_held(ctx, handover.held);
        true
    }

    /// The old carrier has ended, and the next one tries once more.
    pub(super) fn rejoin(&mut self, ctx: &mut Context<'_>) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        handover.stage = Stage::Presences;
        handover.old = Old::Ended;
        handover.beside = false;
        handover.probes += 1;
        // All that was before this join.
        handover.brought = Brought::default();
        handover.deadline = ctx.now.instant + JOIN_TIMEOUT;
        let to = handover.to;
        self.limit_comeback(ctx);
        self.send_join(ctx, to);
    }

    /// The next carrier is not in the room, and a join it has sent is lost: services that restart
    /// take one without a word (ejabberd 23.01).
    pub(super) fn join_was_lost(&mut self, ctx: &mut Context<'_>, probe: u32) {
        let lost = |it: &Handover| it.stage == Stage::Presences && it.probes == probe;
        if self.handover.as_ref().is_some_and(lost) {
            self.rejoin(ctx);
        }
    }

    pub(super) fn handover_timeout(&mut self, ctx: &mut Context<'_>) {
        let over = self.is_comeback_over(ctx);
        let tries = self.comeback.is_some() && !over;
        let Some(handover) = &mut self.handover else {
            return;
        };
        match handover.stage {
            Stage::Waiting { .. } => handover.stage = Stage::Waiting { tries_at: None },
            Stage::Presences if handover.id.is_some() => {
                // The room may have let the account in without telling the id.
                self.reflects_join_id = false;
                self.rejoin(ctx);
            }
            // A room that never confirms a leave: what the old carrier brings from here on is
            // passed over, and the next one has it all.
            Stage::Settling | Stage::Breaking if !over => {
                if handover.old == Old::Leaving {
                    self.let_old_go(ctx, Old::Leaving);
                }
                self.old_has_ended(ctx, false);
            }
            // A service that tells no subject where there is none.
            Stage::History => self.next_is_in(ctx),
            Stage::Presences if tries => {
                handover.probes += 1;
                let (to, number) = (handover.to, handover.probes);
                self.probe_join(ctx, to, number);
                self.limit_comeback(ctx);
            }
            Stage::Answering => {
                self.give_up_answers(ctx);
                self.next_is_in(ctx);
            }
            Stage::Presences | Stage::Settling | Stage::Breaking => self.give_up_handover(ctx),
        }
    }

    /// The room has not answered the next carrier. Both leave, unless the old one stays anyway.
    fn give_up_handover(&mut self, ctx: &mut Context<'_>) {
        let Some(handover) = &self.handover else {
            return;
        };
        let (to, joined) = (handover.to, handover.stage != Stage::Breaking);
        if self.cancel_move(ctx) {
            self.say_farewell(ctx, to, stanza::leave(&self.own).into());
            return;
        }
        if joined {
            self.say_farewell(ctx, to, stanza::leave(&self.own).into());
        }
        let old = self.handover.as_ref().map_or(Old::Ended, |it| it.old);
        self.let_old_go(ctx, old);
        self.shut_out(ctx, None);
    }

    /// Ends a hand-over that nobody wants any more, or that has come to nothing: both carriers
    /// leave, but for the one that has left or never came, with `words` or without. What sessions
    /// have sent goes before that.
    pub(super) fn abandon_handover(&mut self, ctx: &mut Context<'_>, words: Option<&Outgoing>) {
        let Some(handover) = self.handover.take() else {
            return;
        };
        let next = handover.has_joined().then_some(handover.to);
        let takes = match handover.old {
            Old::Serving => Some(self.carrier),
            Old::Leaving | Old::Ended => next,
        };
        match takes {
            Some(uplink) => {
                self.in_flight.flushed(ctx.now.instant, uplink);
                for (session, frame) in &handover.held {
                    ctx.send_for(*session, uplink, frame);
                }
            }
            None => self.refuse_held(ctx, handover.held),
        }
        if let Some(next) = next {
            let words = words.cloned();
            let leave = words.unwrap_or_else(|| stanza::leave(&self.own).into());
            self.say_farewell(ctx, next, leave);
        }
        if handover.old == Old::Leaving {
            self.let_old_go(ctx, Old::Leaving);
        }
    }
}

/// The nick is taken by a stream of the account of which the room does not know yet that it has
/// ended, or that stream has taken the next carrier along.
fn is_temporary(refusal: &Frame) -> bool {
    if refusal.stanza_type().as_deref() == Some("unavailable") {
        return !MucUser::read(refusal).removed();
    }
    stanza::error_is(refusal, &["conflict"])
}
