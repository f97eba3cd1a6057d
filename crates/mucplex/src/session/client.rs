//! What comes from the client.

use mucplex_muc::{ClientRoute, Urgency};
use mucplex_net::Freight;
use mucplex_stream::sm::{Nonza, SmFault, is_counted};
use mucplex_xml::{Event, Frame, FramingError, Kind, StreamErrorCondition};
use tokio::time::Instant;
use tracing::{debug, info};

use super::steady::{FRAMES_PER_TURN, Farewell, Flow, Phase, Steady};
use crate::{account::AccountInput, management::TooHigh};

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
            match client.next_event() {
                Ok(Some(Event::Frame(frame))) => self.client_frame(frame).await?,
                // RFC 6120 4.6.1: a keepalive keeps the whole way alive.
                Ok(Some(Event::Whitespace(space))) => self.uplink.stream.push(space),
                Ok(Some(Event::End)) => {
                    debug!("the client ends its stream");
                    self.client_ended = true;
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
        if let Some(nonza) = Nonza::read(&frame) {
            return self.client_counts(nonza).await;
        }
        let frame = self.passable(frame);
        let custody = self.client.as_ref().and_then(|it| it.receive(&frame));
        let route = self.routes.from_client(&frame);
        match route {
            ClientRoute::Direct => {
                self.note_availability(&frame);
                let freight = Freight {
                    custody,
                    ..Freight::default()
                };
                self.uplink.stream.push_frame(&frame, freight);
            }
            ClientRoute::Hub => {
                let freight = Freight {
                    charge: Some(self.in_flight.charge(frame.bytes().len())),
                    custody,
                    mark: 0,
                };
                let (session, frame) = (self.session, frame.portable());
                return self
                    .tell(AccountInput::FromClient {
                        session,
                        frame,
                        freight,
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
            ClientRoute::Answer(answer) if is_counted(&frame) => {
                self.queue_for_client(answer, None, Urgency::Now);
            }
            ClientRoute::Answer(answer) => self.queue_nonza(answer),
            ClientRoute::ClientState { active, upstream } => {
                if upstream {
                    self.uplink.stream.push(&frame);
                }
                self.client_state(active);
            }
            ClientRoute::Consumed => {}
            ClientRoute::Refuse(condition, text) => return self.refuse(condition, text).await,
        }
        Flow::Continue(())
    }

    /// Stream management of the client (XEP-0198).
    async fn client_counts(&mut self, nonza: Result<Nonza, SmFault>) -> Flow {
        let Ok(nonza) = nonza else {
            self.queue_nonza(Nonza::failed("bad-request").to_bytes());
            return Flow::Continue(());
        };
        match nonza {
            Nonza::Enable { resume, max } => {
                self.enable_management(resume, max);
                return Flow::Continue(());
            }
            // XEP-0198 5: only before a resource is bound.
            Nonza::Resume { .. } => {
                self.queue_nonza(Nonza::failed("unexpected-request").to_bytes());
                return Flow::Continue(());
            }
            // Whether the server has what the client asks about, the server has to say.
            Nonza::Request => self.uplink.stream.want_ack(),
            Nonza::Ack { .. }
            | Nonza::Enabled { .. }
            | Nonza::Resumed { .. }
            | Nonza::Failed { .. } => {}
        }
        let counted = self
            .client
            .as_mut()
            .and_then(|client| client.count(&nonza, Instant::now()));
        match counted {
            Some(Ok(())) => Flow::Continue(()),
            Some(Err(TooHigh(error))) => {
                if let Some(client) = &mut self.client {
                    client.push(error);
                }
                info!("a client acknowledges what it was not sent");
                self.dismiss_client(Farewell::End);
                self.release().await
            }
            None => {
                let condition = StreamErrorCondition::UnsupportedStanzaType;
                self.refuse(condition, "stream management is not enabled")
                    .await
            }
        }
    }

    /// A frame of one stream as it can stand on the other.
    pub(super) fn passable(&self, frame: Frame) -> Frame {
        if self.streams_match {
            frame
        } else {
            frame.portable()
        }
    }

    /// RFC 6121 4.2, 4.5: what contacts and the server take the session for.
    fn note_availability(&mut self, frame: &Frame) {
        if frame.kind() == Kind::Presence && frame.to().is_none() {
            match frame.stanza_type().as_deref() {
                None => self.available = true,
                Some("unavailable") => self.available = false,
                Some(_) => {}
            }
        }
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
}
