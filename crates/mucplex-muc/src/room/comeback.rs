//! The room has let go of the account without a word of why, and the proxy comes back.
//!
//! ```text
//!   older stream   ── ended: conflict ──────────────────┐
//!   this one          [bind, same resource] [join] ── in │
//!   ejabberd 23.01                            handles the older one's leave: this one is out
//! ```

use std::time::Duration;

use super::Room;
use super::handover::{Handover, Old};
use crate::context::Context;

/// How long the proxy does not come back to a room that has let go of it once more.
const COME_BACK_PAUSE: Duration = Duration::from_secs(30);

impl Room {
    /// Whether the proxy may join anew where the room has let go of the account without a word of
    /// why. Once in a while: a room that does it again and again means it.
    pub(super) fn may_come_back(&mut self, ctx: &Context<'_>) -> bool {
        let now = ctx.now.instant;
        let may = self.came_back.is_none_or(|at| now >= at + COME_BACK_PAUSE);
        if may {
            self.came_back = Some(now);
        }
        may
    }

    /// The occupancy is gone and the carrier is not: an older stream of the same full JID has taken
    /// it along as it left (ejabberd 23.01).
    pub(super) fn come_back(&mut self, ctx: &mut Context<'_>) {
        self.begin_handover(
            ctx,
            Handover::new(self.carrier, Old::Ended, ctx.now.instant),
        );
    }
}
