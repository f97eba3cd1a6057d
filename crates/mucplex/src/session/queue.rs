//! What is queued for the client: all of it goes through [`Csi`](mucplex_muc::Csi), in the order in
//! which it comes to the session, whether straight from the server or by way of the hub.

use bytes::Bytes;
use mucplex_muc::Urgency;
use mucplex_net::{Custody, Freight};
use mucplex_stream::sm::is_counted;
use mucplex_xml::{Frame, Outgoing};
use tracing::debug;

use super::{PER_STANZA, steady::Steady};

impl Steady {
    /// Queues what comes by way of the hub, with what has hung on it since.
    pub(super) fn room_stanza(&mut self, stanza: Outgoing, freight: Freight, urgency: Urgency) {
        let Some(client) = &mut self.client else {
            let bytes = stanza.len();
            debug!(bytes, "a room stanza for a client that has just gone");
            return;
        };
        let outbox = client.outbox_mut();
        self.csi.pass(urgency, stanza, freight, |stanza, freight| {
            outbox.push_stanza(stanza, freight);
        });
    }

    /// Queues a stanza that does not come by way of the hub.
    pub(super) fn queue_for_client(
        &mut self,
        stanza: impl Into<Outgoing>,
        custody: Option<Custody>,
        urgency: Urgency,
    ) {
        if self.client.is_some() {
            let stanza = stanza.into();
            let charge = Some(self.owed.charge(stanza.len() + PER_STANZA));
            let freight = Freight {
                charge,
                custody,
                mark: 0,
            };
            self.room_stanza(stanza, freight, urgency);
        }
    }

    /// Queues what the server has sent, whether it is a stanza or not.
    pub(super) fn queue_frame(&mut self, frame: &Frame, custody: Option<Custody>) {
        if is_counted(frame) {
            let urgency = self.csi.urgency_of(frame);
            self.queue_for_client(frame, custody, urgency);
        } else {
            self.flush_held();
            self.queue_nonza(frame);
        }
    }

    /// Queues what is no stanza and waits for nothing.
    pub(super) fn queue_nonza(&mut self, nonza: impl Into<Outgoing>) {
        if let Some(client) = &mut self.client {
            let nonza = nonza.into();
            let charge = self.owed.charge(nonza.len() + PER_STANZA);
            client.outbox_mut().push_with(nonza, charge.into());
        }
    }

    /// White space between stanzas has no place in their order, and nothing held goes out for it.
    pub(super) fn keepalive(&mut self, space: Bytes) {
        if self.asleep.is_none() {
            self.queue_nonza(space);
        }
    }

    /// The client says whether somebody looks at it.
    pub(super) fn client_state(&mut self, active: bool) {
        self.inactive = !active;
        if !active {
            self.csi.inactive();
        } else if let Some(client) = &mut self.client {
            let outbox = client.outbox_mut();
            self.csi
                .active(|stanza, freight| outbox.push_stanza(stanza, freight));
        }
    }

    /// What is held for the client goes out, since its stream ends: by then it is to have had all
    /// that an active one would have had.
    pub(super) fn flush_held(&mut self) {
        if let Some(client) = &mut self.client {
            let outbox = client.outbox_mut();
            self.csi
                .flush(|stanza, freight| outbox.push_stanza(stanza, freight));
        }
    }
}
