//! What comes from the server.

use mucplex_muc::ServerRoute;
use mucplex_net::{Custody, Freight};
use mucplex_xml::{Event, Frame, Kind, StreamErrorCondition};
use tracing::{debug, info};

use super::{
    PER_STANZA,
    bounce::{Undelivered, undelivered},
    steady::{FRAMES_PER_TURN, Farewell, Flow, Phase, Steady},
};
use crate::{
    account::AccountInput,
    uplink::{Counted, Garbled},
};

/// How a client learns of it.
pub(super) const CONNECTION_LOST: Farewell = Farewell::Error(
    StreamErrorCondition::RemoteConnectionFailed,
    "the connection to the server was lost",
);

/// The same where the server may have said this, and its words got lost with the connection: a
/// client that is replaced must not come back by itself.
pub(super) const REPLACED: Farewell = Farewell::Error(
    StreamErrorCondition::Conflict,
    "replaced by another session of this resource",
);

impl Steady {
    /// Takes the frames that were read, as long as there is room for them.
    pub(super) async fn uplink_frames(&mut self) -> Flow {
        for _ in 0..FRAMES_PER_TURN {
            self.uplink_has_more = true;
            if !self.uplink_may_go_on() {
                return Flow::Continue(());
            }
            match self.uplink.stream.next_event() {
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
        match self.uplink.counts(&frame) {
            Some(Ok(Counted::Begun | Counted::Done)) => return Flow::Continue(()),
            // What the client has, the client has to say.
            Some(Ok(Counted::Asks)) => {
                if let Some(client) = &mut self.client {
                    client.want_ack();
                }
                return Flow::Continue(());
            }
            Some(Err(Garbled(error))) => {
                info!("the server's stream management cannot be followed");
                self.uplink.stream.push(error);
                return Flow::Break(CONNECTION_LOST);
            }
            None => {}
        }
        let frame = self.passable(frame);
        let custody = self.uplink.stream.receive(&frame);
        match self.routes.from_server(&frame) {
            ServerRoute::Hub => {
                let (uplink, frame) = (self.uplink_id, frame.portable());
                return self
                    .tell(AccountInput::FromServer {
                        uplink,
                        frame,
                        custody,
                    })
                    .await;
            }
            ServerRoute::Direct => {}
            ServerRoute::Carbons(enabled) => {
                let session = self.session;
                self.tell(AccountInput::Carbons { session, enabled })
                    .await?;
            }
            ServerRoute::Bookmarks(rooms) => {
                self.tell(AccountInput::BookmarksRetracted(rooms)).await?;
            }
        }
        if self.client.is_some() {
            self.queue_frame(&frame, custody);
        } else {
            self.no_reader(&frame, custody);
        }
        if frame.kind() == Kind::StreamError {
            // RFC 6120 4.9.1.1: it ends the stream, whatever follows.
            info!("the server ends the stream with an error");
            return Flow::Break(Farewell::End);
        }
        self.within_bound().await
    }

    fn no_reader(&mut self, frame: &Frame, custody: Option<Custody>) {
        let expects_answer = undelivered(frame, &self.own_bare);
        let is_message = frame.kind() == Kind::Message;
        match (expects_answer, &self.phase, custody) {
            // RFC 6120 4.4: behind the end of the stream there are no stanzas.
            (Undelivered::Count, ..) | (Undelivered::Answer(_), Phase::Ending, None) => {
                self.undelivered += 1;
            }
            // The server knows that nobody has it, and what to do with it.
            (Undelivered::Answer(_), _, Some(custody)) if is_message && !self.owed.is_over() => {
                let freight = Freight {
                    charge: Some(self.owed.charge(frame.bytes().len() + PER_STANZA)),
                    custody: Some(custody),
                    mark: 0,
                };
                self.unread.push((frame.compact(), freight));
            }
            (Undelivered::Answer(_), Phase::Ending, Some(_)) => self.undelivered += 1,
            (Undelivered::Answer(answer), ..) => {
                self.queue_for_server(answer, Freight::default());
            }
        }
    }

    /// The server's bytes are no stream any more.
    fn garbled(&mut self, condition: StreamErrorCondition) -> Flow {
        info!(
            condition = condition.name(),
            "the server's stream cannot be read on"
        );
        self.uplink.stream.push(condition.to_xml(None));
        Flow::Break(CONNECTION_LOST)
    }

    /// The uplink's connection is gone. A client that can resume its session brings another one if
    /// it is made to come back, and the server's stream goes on there; to any other it is the end.
    pub(super) async fn uplink_lost(&mut self, reason: &str) -> Flow {
        match self.phase {
            Phase::Open | Phase::Withholding(_) if self.replaced => Flow::Break(REPLACED),
            Phase::Open | Phase::Withholding(_)
                if self.uplink.is_resumable() && self.resumption.is_some() =>
            {
                if matches!(self.phase, Phase::Withholding(_)) {
                    // There is nothing to hand over from.
                    self.released();
                }
                if self.asleep.is_none() {
                    let reason = "it is to come back with another uplink";
                    self.client_lost(reason).await?;
                }
                if self.asleep.is_none() {
                    return Flow::Break(Farewell::End);
                }
                self.suspend_uplink(reason).await
            }
            Phase::Open | Phase::Withholding(_) => {
                info!(reason, "uplink lost");
                Flow::Break(CONNECTION_LOST)
            }
            // Its client has already ended.
            Phase::Releasing(_) | Phase::Ending => Flow::Break(Farewell::End),
        }
    }
}
