//! A timer of a task that has many deadlines, most of which never come.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Set anew only when it has to ring earlier: what moves a deadline back, as nearly every stanza
/// does, costs nothing. So it may ring before anything is due.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    set: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready at `at`, or some time before.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
        let Some(at) = at else {
            return Poll::Pending;
        };
        let sleep = self.set.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.is_elapsed() || sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}
