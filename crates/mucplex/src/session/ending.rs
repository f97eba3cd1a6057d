//! How a session ends: its rooms are handed over before its uplink may go, or the uplink stays as
//! the account's anchor.

use std::time::Duration;

use bytes::Bytes;
use mucplex_net::Freight;
use mucplex_xml::Frame;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, debug, info, warn};

use super::{
    CLOSING, SessionInput,
    bounce::{Undelivered, undelivered},
    server::{CONNECTION_LOST, REPLACED},
    steady::{Farewell, Flow, Phase, Steady},
};
use crate::{
    account::AccountInput,
    anchor::{Anchor, Home},
};

/// How long the hub may keep an uplink whose client has gone, or a client's unavailable.
const RELEASE: Duration = Duration::from_secs(15);
/// How long the news of a session's replacement may take, behind the loss of its uplink.
const WORD_OF_REPLACEMENT: Duration = Duration::from_millis(200);
/// How long the server may take to answer `</stream:stream>`.
const SERVER_END: Duration = Duration::from_secs(3);

impl Steady {
    /// Enters a phase that must not last for ever.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.deadline = match phase {
            Phase::Open => None,
            Phase::Withholding(_) | Phase::Releasing(_) => Some(Instant::now() + RELEASE),
            Phase::Ending => Some(Instant::now() + SERVER_END),
        };
        self.phase = phase;
    }

    /// The client is done or gone: its rooms are handed over before the uplink may end.
    pub(super) async fn release(&mut self) -> Flow {
        let withheld = match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Open => None,
            Phase::Withholding(frame) => Some(frame),
            phase @ (Phase::Releasing(_) | Phase::Ending) => {
                self.phase = phase;
                return Flow::Continue(());
            }
        };
        self.enter(Phase::Releasing(withheld));
        self.resumption = None;
        self.asleep = None;
        self.claimed = None;
        self.claims.clear();
        self.tell(AccountInput::Ended {
            session: self.session,
            available: self.available,
            served: self.served,
        })
        .await?;
        if self.uplink.stream.is_cut() {
            // The server has what was left, and ends the stream in its own time.
            return Flow::Break(Farewell::End);
        }
        Flow::Continue(())
    }

    /// The uplink is free: what was withheld goes out, and the end of a client that is done.
    pub(super) fn released(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Open => {}
            Phase::Withholding(frame) => {
                self.uplink.stream.push_frame(&frame, Freight::default());
                self.available = false;
                self.enter(Phase::Open);
            }
            Phase::Releasing(withheld) => {
                if let Some(frame) = withheld {
                    self.uplink.stream.push_frame(&frame, Freight::default());
                }
                self.uplink.stream.end(None);
                self.enter(Phase::Ending);
            }
            Phase::Ending => self.phase = Phase::Ending,
        }
    }

    /// The uplink goes on without the client: its presence ends here.
    pub(super) fn retained(&mut self, home: Home) -> Flow {
        self.retained = Some(home);
        self.return_to_senders();
        let phase = std::mem::replace(&mut self.phase, Phase::Ending);
        let withheld = match phase {
            Phase::Releasing(withheld) => withheld,
            Phase::Open | Phase::Withholding(_) | Phase::Ending => None,
        };
        match withheld {
            Some(frame) => self.uplink.stream.push_frame(&frame, Freight::default()),
            None if self.available => {
                let unavailable = Bytes::from_static(b"<presence type='unavailable'/>");
                self.queue_for_server(unavailable, Freight::default());
            }
            None => {}
        }
        Flow::Break(Farewell::End)
    }

    /// The uplink stays, and with it its count: the server will not do anything about these, so who
    /// has sent them has to be told. What came by way of the hub has no custody, and a room is told
    /// nothing (behaviour 58).
    fn return_to_senders(&mut self) {
        let limits = self.shared.server_limits;
        let departed = self.departed.take().into_iter();
        let departed: Vec<_> = departed.flat_map(|it| it.into_undelivered()).collect();
        let unread = std::mem::take(&mut self.unread);
        let departed = departed
            .iter()
            .filter(|(_, freight)| freight.custody.is_some())
            .filter_map(|(stanza, _)| Frame::parse(stanza.clone().to_bytes(), &limits).ok());
        for frame in departed.chain(unread.iter().map(|(frame, _)| frame.clone())) {
            if let Undelivered::Answer(answer) = undelivered(&frame, &self.own_bare) {
                self.queue_for_server(answer, Freight::default());
            }
        }
    }

    pub(super) fn too_late(&mut self) -> Flow {
        match self.phase {
            Phase::Open => self.enter(Phase::Open),
            Phase::Withholding(_) | Phase::Releasing(_) => {
                warn!("the uplink was not released in time");
                self.released();
            }
            Phase::Ending => {
                debug!("the server does not end its stream");
                return Flow::Break(Farewell::End);
            }
        }
        Flow::Continue(())
    }

    /// Lets a client that is still there go with what it is owed, on its own time.
    pub(super) fn dismiss_client(&mut self, farewell: Farewell) {
        self.flush_held();
        self.note_served();
        let Some(mut client) = self.client.take() else {
            return;
        };
        client.end(match farewell {
            Farewell::End => None,
            Farewell::Error(condition, text) => {
                info!(condition = condition.name(), text, "client ended");
                Some(condition.to_xml(Some(text)))
            }
        });
        let over = self.over.clone();
        let closing = async move {
            let departed = client.close(CLOSING).await;
            if departed.queued() > 0 {
                let unsent = departed.queued();
                debug!(unsent, "the client did not take its last bytes");
            }
            // As long as the server may ask, it is not told that this is handled.
            over.cancelled().await;
        };
        self.shared.tasks.spawn(closing.in_current_span());
    }

    /// The client is gone without a word, and does not come back.
    pub(super) fn depart(&mut self) {
        self.note_served();
        if let Some(client) = self.client.take() {
            self.departed = Some(Box::new(client.into_outbox()));
        }
    }

    /// Whether the uplink was lost because another session has bound the same full JID: the server's
    /// words about that may be lost with the connection, and come from here at the same time.
    async fn is_replaced(&mut self) -> bool {
        let told = async {
            while let Some(input) = self.mailbox.recv().await {
                if matches!(input, SessionInput::Replaced) {
                    return;
                }
            }
        };
        self.replaced || timeout(WORD_OF_REPLACEMENT, told).await.is_ok()
    }

    /// The end of the session, whatever it came from.
    pub(super) async fn finish(mut self, farewell: Farewell) {
        if let Some(home) = self.retained.take() {
            self.dismiss_client(farewell);
            info!("session ended, and its uplink stays");
            let mailbox = (self.own_mailbox, self.mailbox);
            self.over.cancel();
            Anchor::retained(&home, self.uplink_id, self.uplink, mailbox).spawn(true);
            return;
        }
        self.note_served();
        if matches!(self.phase, Phase::Open | Phase::Withholding(_)) {
            // The client was not the one to end it: it may want to know what it has missed.
            let ended = AccountInput::Ended {
                session: self.session,
                available: self.available,
                served: self.served,
            };
            let _ = self.tell(ended).await;
        }
        // An owner that is gone needs no telling.
        let uplink = self.uplink_id;
        let _ = self.tell(AccountInput::UplinkLost { uplink }).await;
        let replaced = farewell == CONNECTION_LOST && self.is_replaced().await;
        self.dismiss_client(if replaced { REPLACED } else { farewell });
        if !matches!(self.phase, Phase::Ending) {
            self.uplink.stream.end(None);
        }
        let undelivered = self.undelivered + self.unread.len();
        let unsent = self.uplink.stream.close(CLOSING).await.queued();
        info!(unsent, undelivered, "session ended");
    }
}
