//! A room that no uplink can carry, or none yet, and what suspended and retained streams mean for it
//! (behaviours 43, 44, 59, 60).
//!
//! Such a room is *dormant*: a hand-over that waits for its next carrier. All that is known of the
//! room is kept, sessions whose clients are away stay in it, and what sessions say is held. The next
//! uplink of the account joins again, and the sessions are told what they have missed as after any
//! other loss (see `takeover`). A session that joins meanwhile waits for the account to be back.
//!
//! A carrier whose stream is suspended is still in the room and can be told nothing. Where somebody
//! is there to look at the room and another uplink can carry it, that one takes over at once; the
//! suspended one owes the room a leave, which is the first it sends when it is resumed.
//!
//! ```text
//!   suspended carrier  ── a ┤                        ├ [leave] ─ b ─ mark ┤
//!   the next one               [join] ─ a b ─ c ─ d ─ …
//!   sessions             a                 b ─ c ─ d
//! ```
//!
//! Where nobody looks, or no other uplink is there, the suspended carrier keeps the room: the server
//! brings later what is said now. What sessions send, first joins too, goes to it as before, and the
//! shell keeps that; a join is given up after its usual time.

use std::time::Duration;

use mucplex_xml::{Frame, Kind};

use super::handover::{Handover, Old, Stage};
use super::{Phase, Room};
use crate::context::Context;
use crate::muc_user::Status;
use crate::stanza::StanzaError;
use crate::{SessionId, UplinkId, stanza};

/// How long to wait before another try to come back to a room that did not answer: at first, and at
/// most.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How a session is told that the account is out of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) code: Option<u16>,
    pub(super) affiliation: &'static str,
    pub(super) destroyed: bool,
}

impl Removal {
    /// Removed for technical reasons (XEP-0045 16.6.2).
    pub(super) const LOST: Self = Self {
        code: Some(Status::Lost.code()),
        affiliation: "none",
        destroyed: false,
    };

    /// What it means that the room does not let the account in that was in it (XEP-0045 7.2).
    fn by(refusal: &Frame) -> Self {
        if stanza::error_is(refusal, &["forbidden"]) {
            let (code, affiliation) = (Some(301), "outcast");
            return Self {
                code,
                affiliation,
                ..Self::LOST
            };
        }
        if stanza::error_is(refusal, &["registration-required"]) {
            let code = Some(322);
            return Self { code, ..Self::LOST };
        }
        if stanza::error_is(refusal, &["gone"]) {
            let (code, destroyed) = (None, true);
            return Self {
                code,
                destroyed,
                ..Self::LOST
            };
        }
        Self::LOST
    }
}

impl Room {
    pub(super) fn is_dormant(&self) -> bool {
        self.handover.as_ref().is_some_and(Handover::is_waiting)
    }

    /// Whether the account is in the room and is to stay, as far as the sessions want.
    pub(crate) fn is_to_stay(&self) -> bool {
        matches!(self.phase, Phase::Joined) && !self.left
    }

    /// Whether what the room says on this uplink is the account's business.
    pub(crate) fn hears(&self, uplink: UplinkId) -> bool {
        self.uses(uplink) || self.is_served_by(uplink)
    }

    /// Whether the room is still to say something on this uplink that nobody else will.
    pub(crate) fn has_words_for(&self, uplink: UplinkId) -> bool {
        let over = matches!(self.phase, Phase::Leaving(_) | Phase::Gone);
        self.farewells.expects(uplink) || over && self.in_flight.waits_on(uplink)
    }

    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.attached.contains(&session)
    }

    /// Whether the room is on its way to another uplink.
    pub(crate) fn is_moving(&self) -> bool {
        self.handover.as_ref().is_some_and(|it| !it.is_waiting())
    }

    /// Whether it is to go to another uplink when fewer rooms are on such a way.
    pub(crate) fn waits_for_turn(&self) -> bool {
        self.waits_for_turn
    }

    /// Somebody who can look at the room is in it, or wants to be.
    pub(super) fn is_looked_at(&self, ctx: &Context<'_>) -> bool {
        let mut attached = self.attached.iter();
        !self.arriving.is_empty() || attached.any(|session| ctx.is_awake(*session))
    }

    /// Whether the account is to come back: where it does not stay for itself, it does for those who
    /// are in the room and whose uplinks are suspended or cut.
    fn may_rest(&self, ctx: &Context<'_>) -> bool {
        ctx.policy.keeps_rooms() || ctx.awaits_anchor || !self.is_detached()
    }

    /// No uplink can carry the room now. With `held`: what sessions have sent and has to wait.
    pub(super) fn rest(
        &mut self,
        ctx: &mut Context<'_>,
        held: std::collections::VecDeque<(SessionId, Frame)>,
    ) {
        if !self.may_rest(ctx) || self.left {
            self.refuse_held(ctx, held);
            self.lost(ctx);
            return;
        }
        self.comeback = None;
        let mut handover = Handover::new(self.carrier, Old::Ended, ctx.now.instant);
        handover.stage = Stage::Waiting { tries_at: None };
        handover.held = held;
        self.handover = Some(handover);
    }

    /// The room is dormant: whether an uplink has come for it.
    pub(super) fn wake(&mut self, ctx: &mut Context<'_>) {
        let Some(handover) = &self.handover else {
            return;
        };
        let Stage::Waiting { tries_at } = handover.stage else {
            return;
        };
        let looked_at = self.is_looked_at(ctx);
        let target = self.choose_carrier(ctx).filter(|_| !ctx.awaits_anchor);
        let Some(to) = target.filter(|_| tries_at.is_none() || looked_at) else {
            if !self.may_rest(ctx)
                && let Some(handover) = self.handover.take()
            {
                self.refuse_held(ctx, handover.held);
                self.lost(ctx);
            }
            return;
        };
        if !ctx.may_move && self.arriving.is_empty() {
            self.waits_for_turn = true;
            return;
        }
        let Some(before) = self.handover.take() else {
            return;
        };
        let mut next = Handover::new(to, Old::Ended, ctx.now.instant);
        next.held = before.held;
        next.revives = true;
        self.begin_handover(ctx, next);
    }

    /// The room has not let the account in on its next carrier, by this error or without a word; no
    /// other carrier is in it.
    pub(super) fn shut_out(&mut self, ctx: &mut Context<'_>, refusal: Option<&Frame>) {
        let Some(handover) = self.handover.take() else {
            return;
        };
        let passes = refusal.is_none_or(is_passing);
        let patient = !self.is_looked_at(ctx) && ctx.policy.keeps_rooms();
        if passes && patient && !self.left {
            self.rest(ctx, handover.held);
            self.try_later(ctx);
            return;
        }
        if refusal.is_some_and(|it| it.stanza_type().as_deref() != Some("error")) {
            // Put out; of its join it is not known whether it came before that.
            self.say_farewell(ctx, handover.to, stanza::leave(&self.own).into());
        }
        self.refuse_held(ctx, handover.held);
        let by = refusal.filter(|_| handover.revives && self.comeback.is_none());
        self.lost_by(ctx, by.map_or(Removal::LOST, Removal::by));
    }

    fn try_later(&mut self, ctx: &Context<'_>) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.silence.failures.min(8));
        let pause = doubled.min(LONGEST_PAUSE);
        self.silence.failures += 1;
        if let Some(handover) = &mut self.handover {
            let tries_at = ctx.now.instant.checked_add(pause);
            handover.stage = Stage::Waiting { tries_at };
        }
    }

    /// This stream leaves all rooms at this moment, by an undirected unavailable of the shell's (RFC
    /// 6121 4.6.3), and is to be in them.
    pub(crate) fn stream_left(&mut self, ctx: &mut Context<'_>, uplink: UplinkId) {
        if let Phase::Joining(_) = self.phase
            && self.carrier == uplink
        {
            self.await_farewell(ctx, uplink);
            self.part(ctx);
        }
        if !matches!(self.phase, Phase::Joined) || self.is_dormant() {
            return;
        }
        let Some(handover) = self.handover.take() else {
            if self.carrier == uplink {
                let next = Handover::new(uplink, Old::Leaving, ctx.now.instant);
                self.wait_for_leave(ctx, next);
            }
            return;
        };
        if handover.to != uplink || handover.stage == Stage::Breaking {
            let serves = uplink == self.carrier && handover.old == Old::Serving;
            let answers = handover.waits_for_answers();
            let handover = self.handover.insert(handover);
            if serves {
                handover.old = Old::Leaving;
            }
            if serves && answers {
                self.next_is_in(ctx);
            }
            return;
        }
        // Its join is answered before that, and does not count any more.
        self.await_farewell(ctx, uplink);
        let mut next = Handover::new(uplink, handover.old, ctx.now.instant);
        (next.held, next.revives) = (handover.held, handover.revives);
        self.begin_handover(ctx, next);
    }

    /// With nobody in the room the account comes back as one who is away (behaviour 37).
    pub(super) fn come_as_away(&mut self) {
        if self.is_detached()
            && let Some(away) = stanza::away(&self.own)
        {
            self.standing.nobody_speaks();
            self.sent_presence = away;
        }
    }

    /// The connection of an uplink is gone, and the server keeps its stream.
    pub(crate) fn uplink_suspended(&mut self, ctx: &mut Context<'_>, uplink: UplinkId) {
        self.farewells.suspend(uplink);
        self.left_upstream(ctx);
        let old = self.handover.as_ref().map(|it| (it.to, it.old));
        if uplink != self.carrier || self.is_dormant() {
            return;
        }
        match old {
            // The next carrier will say what the old one cannot any more.
            Some((to, Old::Serving)) if to != uplink => {
                self.farewells.owe(uplink);
                self.old_has_ended(ctx, false);
            }
            Some((_, Old::Leaving)) => {
                self.await_farewell(ctx, uplink);
                self.old_has_ended(ctx, false);
            }
            Some((_, Old::Serving | Old::Ended)) | None => {}
        }
    }

    /// The stream goes on: a leave that is owed goes before anything else.
    pub(crate) fn uplink_resumed(&mut self, ctx: &mut Context<'_>, uplink: UplinkId) {
        if uplink == self.carrier {
            self.keeps_off = None;
        }
        for _ in 0..self.farewells.resume(uplink) {
            self.await_farewell(ctx, uplink);
        }
        self.pay_farewell(ctx, uplink);
    }

    /// A leave that is owed on this uplink goes before a join.
    pub(crate) fn pay_farewell(&mut self, ctx: &mut Context<'_>, uplink: UplinkId) {
        if self.farewells.pay(uplink) {
            let leave = stanza::leave(&self.own);
            self.say_farewell(ctx, uplink, leave.into());
        }
    }

    /// The account is in the room no more, but for a leave that this uplink still owes: what is sent
    /// there on it now would be said in the room. Gives whether the stanza is dealt with.
    pub(crate) fn refuses_afterwards(
        &self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
    ) -> bool {
        let owed = ctx
            .uplink_of(session)
            .is_some_and(|own| self.farewells.is_owed(own));
        let bare = frame.to().is_some_and(|to| !to.contains('/'));
        let is_request = frame.kind() == Kind::Iq;
        if !owed || is_request && bare {
            return false;
        }
        if matches!(frame.kind(), Kind::Message | Kind::Iq) {
            self.refuse(ctx, session, frame, &StanzaError::NOT_IN_ROOM);
        }
        true
    }

    /// Behaviour 45: the room is not to be joined by itself any more. Where sessions are in it that
    /// changes nothing now.
    pub(crate) fn unbookmarked(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Joined) && self.is_detached() {
            self.leave_upstream(ctx, None);
        }
    }
}

/// The service is not there, or not yet.
fn is_passing(refusal: &Frame) -> bool {
    const PASSING: [&str; 6] = [
        "remote-server-not-found",
        "remote-server-timeout",
        "service-unavailable",
        "internal-server-error",
        "resource-constraint",
        "recipient-unavailable",
    ];
    stanza::error_is(refusal, &PASSING)
}
