//! What comes from the client.

use mucplex_muc::{ClientRoute, Urgency};
use mucplex_xml::{Event, Frame, FramingError, StreamErrorCondition};
use tracing::{debug, info};

use super::steady::{FRAMES_PER_TURN, Farewell, Flow, Phase, Steady};
use crate::account::AccountInput;

impl Steady {
    /// Takes the frames that were read, as long as the client may go on.
    pub(super) async fn client_frames(&mut self) -> Flow {
        for _ in 0..FRAMES_PER_TURN {
            self.client_has_more = true;
            if !self.client_may_go_on() {
                return Flow::Continue(());
            }
            let Some(client) = &mut self.client else {
                return Flow::Continue(());
            };
            match client.framer_mut().next_event() {
                Ok(Some(Event::Frame(frame))) => self.client_frame(frame).await?,
                // RFC 6120 4.6.1: a keepalive keeps the whole way alive.
                Ok(Some(Event::Whitespace(space))) => self.uplink.outbox_mut().push(space),
                Ok(Some(Event::End)) => {
                    debug!("the client ends its stream");
                    return self.release().await;
                }
                Ok(Some(Event::Header(_))) => {
                    return self
                        .refuse(StreamErrorCondition::BadFormat, "a second stream header")
                        .await;
                }
                Ok(None) => {
                    self.client_has_more = false;
                    return Flow::Continue(());
                }
                Err(error) => return self.malformed(&error).await,
            }
        }
        Flow::Continue(())
    }

    async fn client_frame(&mut self, frame: Frame) -> Flow {
        match self.routes.from_client(&frame) {
            ClientRoute::Direct => self.uplink.outbox_mut().push(&frame),
            ClientRoute::Hub => {
                let charge = self.in_flight.charge(frame.bytes().len());
                let (session, frame) = (self.session, frame.portable());
                return self
                    .tell(AccountInput::FromClient {
                        session,
                        frame,
                        charge,
                    })
                    .await;
            }
            ClientRoute::Withhold => {
                self.enter(Phase::Withholding(frame));
                return self
                    .tell(AccountInput::Unavailable {
                        session: self.session,
                    })
                    .await;
            }
            ClientRoute::Answer(answer) => self.queue_for_client(answer, Urgency::Now),
            ClientRoute::ClientState { active, upstream } => {
                if upstream {
                    self.uplink.outbox_mut().push(&frame);
                }
                self.client_state(active);
            }
            ClientRoute::Consumed => {}
            ClientRoute::Refuse(condition, text) => return self.refuse(condition, text).await,
        }
        Flow::Continue(())
    }

    async fn malformed(&mut self, error: &FramingError) -> Flow {
        // The error itself is not logged: it may quote what the client has sent.
        self.refuse(error.condition(), "the stream cannot be read on")
            .await
    }

    /// The client has done what ends a stream.
    pub(super) async fn refuse(
        &mut self,
        condition: StreamErrorCondition,
        text: &'static str,
    ) -> Flow {
        self.dismiss_client(Farewell::Error(condition, text));
        self.release().await
    }

    /// The client's connection is gone.
    pub(super) async fn client_lost(&mut self, reason: &str) -> Flow {
        let unsent = self
            .client
            .take()
            .map_or(0, |client| client.outbox().queued());
        info!(reason, unsent, "client lost");
        self.release().await
    }
}
