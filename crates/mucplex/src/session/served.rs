//! How far a client has been served (decision 0003), for the time after its session.

use std::time::Instant;

use mucplex_store::{Device, Lost};
use tracing::warn;

use super::steady::Steady;
use crate::stream::Stream;

impl Steady {
    /// Notes what is about to be written to the client, and what it has, where that is to be known
    /// after the death of the process.
    pub(super) fn note_marks(&mut self) {
        // What was written to a client that does not acknowledge may lie in a dead connection: it is
        // a stranger when it comes back, as with the server alone.
        let Some(client) = self.client.as_mut().filter(|it| it.management().is_some()) else {
            return;
        };
        let marks = client.outbox_mut().take_marks();
        let (mark, place) = (client.outbox().mark(), client.outbox().mark_place());
        if marks.is_empty() && mark == self.noted {
            return;
        }
        let Some(journal) = &self.shared.journal else {
            return;
        };
        if self.journal.is_none() {
            self.journal = Some(journal.session(self.device()));
        }
        let Some(journal) = &mut self.journal else {
            return;
        };
        let mut noted = if marks.is_empty() {
            Ok(())
        } else {
            journal.sent(&marks)
        };
        if mark > self.noted {
            self.noted = mark;
            noted = noted.and(journal.has(place));
        }
        if let Err(error) = noted {
            warn!(%error, "what was sent cannot be noted");
        }
    }

    pub(super) fn device(&self) -> Device {
        Device {
            account: self.uplink.jid.to_bare(),
            resource: self.uplink.jid.resource().to_string(),
            stream: self.resumption.as_ref().map(|it| it.id.as_str().to_owned()),
        }
    }

    /// A client that goes without having ended its stream was served so far. If it comes back and
    /// tells more than it had acknowledged, that counts.
    pub(super) fn note_served(&mut self) {
        let counts = |client: &&Stream| client.management().is_some() && !self.client_ended;
        let Some(client) = self.client.as_ref().filter(counts) else {
            return;
        };
        let has = client.outbox().mark();
        self.served = Some(has);
        if self.resumption.is_some() {
            let sent = client.outbox().unacknowledged_marks().collect();
            let device = self.device();
            let lost = Lost { device, has, sent };
            self.shared.sessions.remember(lost, Instant::now());
        }
    }
}
