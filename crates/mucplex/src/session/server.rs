//! What comes from the server.

use mucplex_muc::ServerRoute;
use mucplex_xml::{Event, Frame, Kind, StreamErrorCondition};
use tracing::{debug, info};

use super::{
    bounce::{Undelivered, undelivered},
    steady::{FRAMES_PER_TURN, Farewell, Flow, Phase, Steady},
};
use crate::account::AccountInput;

/// How a client learns of it.
pub(super) const CONNECTION_LOST: Farewell = Farewell::Error(
    StreamErrorCondition::RemoteConnectionFailed,
    "the connection to the server was lost",
);

impl Steady {
    /// Takes the frames that were read, as long as there is room for them.
    pub(super) async fn uplink_frames(&mut self) -> Flow {
        for _ in 0..FRAMES_PER_TURN {
            self.uplink_has_more = true;
            if !self.uplink_may_go_on() {
                return Flow::Continue(());
            }
            match self.uplink.framer_mut().next_event() {
                Ok(Some(Event::Frame(frame))) => self.server_frame(frame).await?,
                Ok(Some(Event::Whitespace(space))) => self.keepalive(space),
                Ok(Some(Event::End)) => {
                    debug!("the server ends its stream");
                    return Flow::Break(Farewell::End);
                }
                Ok(Some(Event::Header(_))) => return self.garbled(StreamErrorCondition::BadFormat),
                Ok(None) => {
                    self.uplink_has_more = false;
                    return Flow::Continue(());
                }
                Err(error) => return self.garbled(error.condition()),
            }
        }
        Flow::Continue(())
    }

    async fn server_frame(&mut self, frame: Frame) -> Flow {
        let route = self.routes.from_server(&frame);
        if let ServerRoute::Carbons(enabled) = route {
            let session = self.session;
            self.tell(AccountInput::Carbons { session, enabled })
                .await?;
        }
        match route {
            ServerRoute::Hub => {
                let (uplink, frame) = (self.uplink_id, frame.portable());
                return self.tell(AccountInput::FromServer { uplink, frame }).await;
            }
            ServerRoute::Direct | ServerRoute::Carbons(_) | ServerRoute::Bookmarks(_)
                if self.client.is_none() =>
            {
                self.no_reader(&frame);
            }
            ServerRoute::Direct | ServerRoute::Carbons(_) | ServerRoute::Bookmarks(_) => {
                let urgency = self.csi.urgency_of(&frame);
                self.queue_for_client(&frame, urgency);
            }
        }
        if frame.kind() == Kind::StreamError {
            // RFC 6120 4.9.1.1: it ends the stream, whatever follows.
            info!("the server ends the stream with an error");
            return Flow::Break(Farewell::End);
        }
        self.within_bound().await
    }

    fn no_reader(&mut self, frame: &Frame) {
        match (undelivered(frame, &self.own_bare), &self.phase) {
            // RFC 6120 4.4: behind the end of the stream there are no stanzas.
            (Undelivered::Count, _) | (Undelivered::Answer(_), Phase::Ending) => {
                self.undelivered += 1;
            }
            (Undelivered::Answer(answer), _) => self.queue_for_server(answer, None),
        }
    }

    /// The server's bytes are no stream any more.
    fn garbled(&mut self, condition: StreamErrorCondition) -> Flow {
        info!(
            condition = condition.name(),
            "the server's stream cannot be read on"
        );
        self.uplink.outbox_mut().push(condition.to_xml(None));
        Flow::Break(CONNECTION_LOST)
    }

    /// The uplink's connection is gone.
    pub(super) fn uplink_lost(&mut self, reason: &str) -> Flow {
        match self.phase {
            Phase::Open | Phase::Withholding(_) => {
                info!(reason, "uplink lost");
                Flow::Break(CONNECTION_LOST)
            }
            // Its client has already ended.
            Phase::Releasing(_) | Phase::Ending => Flow::Break(Farewell::End),
        }
    }
}
