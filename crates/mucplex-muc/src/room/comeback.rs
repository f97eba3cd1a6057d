//! The room has let go of the account, and the proxy comes back (behaviours 25, 48).
//!
//! It does where nobody has meant the account: the room or its service has lost it (332, 333), a
//! room answers that the account is not in it, or an older stream of the same full JID has taken
//! the occupancy along. What is then done is a hand-over of the carrier to itself, at whose end
//! the sessions are told what they have missed, and nothing of the rest.
//!
//! ```text
//!   older stream   ── ended: conflict ──────────────────┐
//!   this one          [bind, same resource] [join] ── in │
//!   ejabberd 23.01                            handles the older one's leave: this one is out
//! ```

use std::time::{Duration, Instant};

use mucplex_xml::Frame;

use super::handover::{Handover, Old};
use super::in_flight::{Sent, Way};
use super::{Phase, Room};
use crate::context::Context;
use crate::{UplinkId, stanza};

/// How long the proxy does not come back to a room that has let go of it once more.
const COME_BACK_PAUSE: Duration = Duration::from_secs(30);
/// How long it tries (behaviour 48).
const COME_BACK_TIME: Duration = Duration::from_secs(30);
/// How long a room may be silent about a join on that way before it is asked.
const JOIN_SILENCE: Duration = Duration::from_secs(4);

/// The proxy's way back into a room.
#[derive(Debug)]
pub(super) struct Comeback {
    /// What the sessions are told if it comes to nothing: what the room said when it let go.
    pub(super) told: Option<Frame>,
    pub(super) until: Instant,
}

impl Room {
    /// Whether the proxy may join anew where the room has let go of the account and does not mean
    /// it. Once in a while: a room that does it again and again means it. Not where the account has
    /// left.
    pub(super) fn may_come_back(&mut self, ctx: &Context<'_>) -> bool {
        let now = ctx.now.instant;
        let wants = matches!(self.phase, Phase::Joining(_) | Phase::Joined);
        let may = wants && self.came_back.is_none_or(|at| now >= at + COME_BACK_PAUSE);
        if may {
            self.came_back = Some(now);
        }
        may
    }

    /// The occupancy is gone and the carrier is not. `told`: the room's own words about it.
    pub(super) fn come_back(&mut self, ctx: &mut Context<'_>, told: Option<Frame>) {
        let now = ctx.now.instant;
        self.comeback = Some(Comeback {
            told,
            until: now + COME_BACK_TIME,
        });
        if self.handover.is_some() {
            // The next carrier is on its way already.
            self.old_has_ended(ctx, false);
            return;
        }
        self.begin_handover(ctx, Handover::new(self.carrier, Old::Ended, now));
    }

    /// Whether the proxy is on its way back and may try again after this refusal: services that
    /// restart refuse for a while, but one that names a lack of rights means it.
    pub(super) fn may_try_again(&self, ctx: &Context<'_>, refusal: Option<&Frame>) -> bool {
        const FINAL: [&str; 5] = [
            "forbidden",
            "not-allowed",
            "not-authorized",
            "registration-required",
            "gone",
        ];
        let is_final = refusal.is_some_and(|refusal| stanza::error_is(refusal, &FINAL));
        let in_time = |comeback: &Comeback| ctx.now.instant < comeback.until;
        !is_final && self.comeback.as_ref().is_some_and(in_time)
    }

    /// The proxy was on its way back and has found none in time.
    pub(super) fn is_comeback_over(&self, ctx: &Context<'_>) -> bool {
        let over = |comeback: &Comeback| comeback.until <= ctx.now.instant;
        self.comeback.as_ref().is_some_and(over)
    }

    /// A join on the way back may not take longer than all of it, and the room is asked about one
    /// that it does not answer.
    pub(super) fn limit_comeback(&mut self, ctx: &Context<'_>) {
        if let (Some(comeback), Some(handover)) = (&self.comeback, &mut self.handover) {
            handover.deadline = comeback.until.min(ctx.now.instant + JOIN_SILENCE);
        }
    }

    /// Behaviour 25: the room says that the account is not in it. The proxy joins anew, and the
    /// message is sent once more. Refused again by a room that has let the account in, it is refused
    /// for something else. `false` if the error is for the sender.
    pub(super) fn repeat(&mut self, ctx: &mut Context<'_>, uplink: UplinkId, sent: &Sent) -> bool {
        let Some(frame) = sent.frame.clone() else {
            return false;
        };
        if sent.repeated || !matches!(self.phase, Phase::Joined) {
            return false;
        }
        if self.comeback.is_none() {
            if uplink != self.carrier || self.handover.is_some() || !self.may_come_back(ctx) {
                return false;
            }
            self.come_back(ctx, None);
        }
        let Some(way @ Way::Held) = self.send_upstream(ctx, sent.session, &frame, true) else {
            return false;
        };
        self.note_in_flight(ctx, sent.session, &frame, sent.nick.as_deref(), Some(way));
        self.in_flight.mark_repeated();
        true
    }

    /// The account is not in the room, and the proxy was back only just now: the sessions are told.
    pub(super) fn give_up_room(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Joined) && self.handover.is_none() {
            let leave = stanza::leave(&self.own);
            self.say_farewell(ctx, self.carrier, leave.into());
            self.lost(ctx);
        }
    }
}

/// XEP-0045 7.4, XEP-0410 3: the one who asked is not in the room.
pub(super) fn says_not_in_room(error: &Frame) -> bool {
    stanza::error_is(error, &["not-acceptable"])
}
