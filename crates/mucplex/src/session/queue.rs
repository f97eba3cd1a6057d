//! What is queued for the client: all of it goes through [`Csi`](mucplex_muc::Csi), in the order in
//! which it comes to the session, whether straight from the server or by way of the hub.

use bytes::Bytes;
use mucplex_muc::Urgency;
use mucplex_net::Charge;
use mucplex_xml::Outgoing;
use tracing::debug;

use super::{PER_STANZA, steady::Steady};

impl Steady {
    /// Queues what comes by way of the hub, with the charge it has had since.
    pub(super) fn room_stanza(&mut self, stanza: Outgoing, charge: Charge, urgency: Urgency) {
        let Some(client) = &mut self.client else {
            let bytes = stanza.len();
            debug!(bytes, "a room stanza for a client that has just gone");
            return;
        };
        let outbox = client.outbox_mut();
        self.csi.pass(urgency, stanza, charge, |stanza, charge| {
            outbox.push_charged(stanza, Some(charge));
        });
    }

    /// Queues what does not come by way of the hub.
    pub(super) fn queue_for_client(&mut self, stanza: impl Into<Outgoing>, urgency: Urgency) {
        if self.client.is_some() {
            let stanza = stanza.into();
            let charge = self.owed.charge(stanza.len() + PER_STANZA);
            self.room_stanza(stanza, charge, urgency);
        }
    }

    /// White space between stanzas has no place in their order, and nothing held goes out for it.
    pub(super) fn keepalive(&mut self, space: Bytes) {
        if let Some(client) = &mut self.client {
            let charge = self.owed.charge(space.len() + PER_STANZA);
            client.outbox_mut().push_charged(space, Some(charge));
        }
    }

    /// The client says whether somebody looks at it.
    pub(super) fn client_state(&mut self, active: bool) {
        if !active {
            self.csi.inactive();
        } else if let Some(client) = &mut self.client {
            let outbox = client.outbox_mut();
            self.csi
                .active(|stanza, charge| outbox.push_charged(stanza, Some(charge)));
        }
    }

    /// What is held for the client goes out, since its stream ends: by then it is to have had all
    /// that an active one would have had.
    pub(super) fn flush_held(&mut self) {
        if let Some(client) = &mut self.client {
            let outbox = client.outbox_mut();
            self.csi
                .flush(|stanza, charge| outbox.push_charged(stanza, Some(charge)));
        }
    }
}
