//! A room of which nothing is heard any more (XEP-0410; behaviour 62).
//!
//! A remote service that restarts, or a link between servers that breaks, tells nobody. So after
//! some time of silence the account pings its own occupancy; one such ping goes out in a second over
//! all rooms. A room that denies the account is joined again (see `comeback`), one that is not to be
//! reached is asked again, at growing intervals.

use std::time::{Duration, Instant};

use super::ping::Question;
use super::{Phase, Room};
use crate::context::Context;

/// How long a room may be silent before it is asked.
const SILENCE: Duration = Duration::from_secs(600);
/// Between two rooms that are asked.
const PACE: Duration = Duration::from_secs(1);
/// Before a room that gave no answer is asked again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = SILENCE;

/// How often the room has given no answer, and what is to be done about it.
#[derive(Debug, Default)]
pub(super) struct Silence {
    pub(super) failures: u32,
    /// The account has asked and waits.
    asked: bool,
    /// When it is to ask next, where that is not simply after the usual time.
    next: Option<Instant>,
    /// It is this room's turn then.
    its_turn: bool,
}

impl Room {
    /// When the room is to be asked.
    pub(super) fn silence_deadline(&self) -> Option<Instant> {
        let in_room = matches!(self.phase, Phase::Joined) && self.handover.is_none();
        if !in_room || self.silence.asked {
            return None;
        }
        self.silence
            .next
            .or_else(|| self.heard?.checked_add(SILENCE))
    }

    pub(super) fn break_silence(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        if !self.carrier_stays(ctx) {
            // A suspended carrier brings no answer.
            self.silence.next = now.checked_add(SILENCE);
            return;
        }
        let turn = ctx
            .next_ping
            .filter(|at| *at > now && !self.silence.its_turn);
        *ctx.next_ping = turn.unwrap_or(now).max(now).checked_add(PACE);
        match turn {
            Some(_) => (self.silence.next, self.silence.its_turn) = (turn, true),
            None => {
                self.silence.asked = true;
                self.ask_own(ctx, Question::Silence);
            }
        }
    }

    /// The room is not to be reached, or has not answered.
    pub(super) fn stays_silent(&mut self, ctx: &Context<'_>) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.silence.failures.min(8));
        let pause = doubled.min(LONGEST_PAUSE);
        self.silence = Silence {
            failures: self.silence.failures + 1,
            next: ctx.now.instant.checked_add(pause),
            ..Silence::default()
        };
    }

    /// The room says that the account is not in it.
    pub(super) fn silence_says_out(&mut self, ctx: &mut Context<'_>) {
        self.silence = Silence::default();
        if self.handover.is_some() || self.comeback.is_some() {
            return;
        }
        if self.may_come_back(ctx) {
            self.come_back(ctx, None);
        } else {
            self.stays_silent(ctx);
        }
    }
}
