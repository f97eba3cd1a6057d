//! Addresses that look like those of rooms and are none (behaviour 68): a bot, a gateway, somebody's
//! account, to which a client has sent a presence that asks to enter.
//!
//! A room finds out by what is answered (see `room::nature`). From then on each session speaks with
//! the address on its own uplink, as with the server alone. The routes go on giving its stanzas to
//! the hub: a way that changed while a stanza is under way would let a later one overtake it.

use std::collections::{BTreeSet, HashMap};

use mucplex_xml::{Frame, Kind};

use crate::{RoomJid, SessionId};

/// The addresses known to be no rooms, each with the sessions for which that has to be known. With
/// the last of them it is forgotten, so that there are no more than sessions have asked for.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    addresses: HashMap<RoomJid, BTreeSet<SessionId>>,
}

impl Plain {
    /// `sessions`: those of the account at this moment. Any of them may have asked to enter.
    pub(crate) fn found(&mut self, address: RoomJid, sessions: BTreeSet<SessionId>) {
        if !sessions.is_empty() {
            self.addresses.insert(address, sessions);
        }
    }

    pub(crate) fn has(&self, address: &RoomJid) -> bool {
        self.addresses.contains_key(address)
    }

    /// Notes that a session speaks with the address. `false` if that is a room for all we know.
    pub(crate) fn speaks(&mut self, address: &RoomJid, session: SessionId) -> bool {
        match self.addresses.get_mut(address) {
            Some(sessions) => {
                sessions.insert(session);
                true
            }
            None => false,
        }
    }

    /// The session is gone.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.addresses.retain(|_, sessions| {
            sessions.remove(&session);
            !sessions.is_empty()
        });
    }
}

/// Whether the sender has to learn that a stanza found no reader (RFC 6121 8.5.3.2).
pub(crate) fn wants_answer(frame: &Frame) -> bool {
    let kind = frame.stanza_type();
    match frame.kind() {
        Kind::Message => matches!(kind.as_deref(), None | Some("chat" | "normal")),
        Kind::Iq => matches!(kind.as_deref(), Some("get" | "set")),
        Kind::Presence | Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => false,
    }
}
