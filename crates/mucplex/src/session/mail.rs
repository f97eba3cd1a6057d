//! What comes from the account's owner and from the process.

use mucplex_xml::StreamErrorCondition;
use tracing::warn;

use super::{
    SessionInput,
    server::CONNECTION_LOST,
    steady::{Farewell, Flow, Phase, Steady},
};

impl Steady {
    pub(super) async fn mail(&mut self, input: SessionInput) -> Flow {
        match input {
            SessionInput::ToClient {
                stanza,
                freight,
                urgency,
            } => self.room_stanza(stanza, freight, urgency),
            SessionInput::ToServer { stanza, freight } => {
                self.queue_for_server(stanza, freight);
            }
            SessionInput::Carry(room) => {
                if let Some(first) = self.routes.carry(&room) {
                    self.uplink.stream.push(first);
                }
            }
            SessionInput::Replaced => {
                self.replaced = true;
                if self.asleep.is_some() && self.uplink.stream.is_cut() && self.claimed.is_none() {
                    return self.end_sleep().await;
                }
            }
            SessionInput::Reclaim(_) => {}
            SessionInput::Siblings(has_siblings) => self.has_siblings = has_siblings,
            SessionInput::Release if self.may_cut_uplink() => self.released_asleep(),
            SessionInput::Release => self.released(),
            SessionInput::Retain(home) => return self.retained(home),
            SessionInput::Claim(claim) => self.claim(claim),
            SessionInput::Unclaim(number) => self.unclaim(number),
            SessionInput::StreamGone(number) => return self.stream_gone(number).await,
            SessionInput::Resume(resume) => return self.resume(*resume).await,
            SessionInput::End(condition, text) => return self.end_client(condition, text).await,
            SessionInput::Shutdown => return self.shut_down(),
        }
        self.within_bound().await
    }

    /// Ends a session whose peer does not read what it is sent.
    pub(super) async fn within_bound(&mut self) -> Flow {
        if self.uplink.stream.outbox().queued() > self.owed.bound() {
            warn!(
                bytes = self.uplink.stream.outbox().queued(),
                "a server that does not read is given up"
            );
            return Flow::Break(CONNECTION_LOST);
        }
        if self.client.is_none() || !self.owed.is_over() {
            return Flow::Continue(());
        }
        let text = "too much waits for this client to read it";
        self.end_client(StreamErrorCondition::ResourceConstraint, text)
            .await
    }

    /// Ends the client's stream; its rooms are handed over.
    async fn end_client(&mut self, condition: StreamErrorCondition, text: &'static str) -> Flow {
        if condition == StreamErrorCondition::ResourceConstraint
            && let Some(client) = &mut self.client
        {
            // The error has to arrive before the client would have read all that.
            let lost = client.outbox_mut().abandon();
            warn!(
                stanzas = lost.stanzas + self.csi.abandon(),
                bytes = lost.bytes,
                "a client too slow is ended"
            );
        }
        self.refuse(condition, text).await
    }

    /// The process ends, and with it every uplink that could take over a room: nothing is handed
    /// over.
    fn shut_down(&mut self) -> Flow {
        self.dismiss_client(Farewell::Error(
            StreamErrorCondition::SystemShutdown,
            "the server is shutting down",
        ));
        if self.uplink.stream.is_cut() {
            return Flow::Break(Farewell::End);
        }
        if !matches!(self.phase, Phase::Ending) {
            self.uplink.stream.end(None);
            self.enter(Phase::Ending);
        }
        Flow::Continue(())
    }
}
