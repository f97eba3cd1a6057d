//! What a hub knows and outlives the process, and how it tells what has changed of it.
//!
//! With [`Policy::persist`](crate::Policy) each input ends in the [`Change`]s it has made, as
//! [`Output::Persist`](crate::Output::Persist). Applied in order they give what
//! [`Hub::restore`](crate::Hub::restore) takes; those of one input belong together, and after any
//! number of whole inputs what is stored can be restored. A store has to keep exactly this:
//!
//! - [`Change::Room`] replaces the record of a room, and makes one where there is none;
//! - [`Change::Forgotten`] drops a room and all that belongs to it;
//! - all others are of a room that has a record.
//!
//! Numbers of messages and marks grow over all rooms of an account, and over restarts: they are
//! the microseconds since 1970, or one more than the last.

use std::time::SystemTime;

use bytes::Bytes;
use mucplex_xml::{Frame, FramingError, Limits};

use crate::RoomJid;

/// One change of what is to outlive the process.
#[derive(Clone, Debug)]
pub enum Change {
    /// A room is new, or its record has changed.
    Room(Box<SavedRoom>),
    /// Another occupant has come, has changed or is gone.
    Occupant {
        /// The room.
        room: RoomJid,
        /// The occupant's nick, one of a kind within the room.
        nick: String,
        /// As in [`SavedOccupant::order`].
        order: u64,
        /// The last presence; `None`: gone.
        presence: Option<Frame>,
    },
    /// These are all the occupants but the account.
    Occupants {
        /// The room.
        room: RoomJid,
        /// In their order.
        all: Vec<SavedOccupant>,
    },
    /// The room has said something.
    Message {
        /// The room.
        room: RoomJid,
        /// The message; no other of the account has its number.
        message: SavedMessage,
    },
    /// The messages of the room are those of another one that is no more.
    Cleared {
        /// The room.
        room: RoomJid,
    },
    /// The account has nothing to do with the room any more.
    Forgotten {
        /// The room.
        room: RoomJid,
    },
    /// What a resource was served in a room.
    Served {
        /// The room.
        room: RoomJid,
        /// The resource, one of a kind within the room.
        resource: String,
        /// `None`: it is a stranger when it comes again.
        served: Option<Served>,
    },
}

/// The record of a room.
#[derive(Clone, Debug)]
pub struct SavedRoom {
    /// The room.
    pub room: RoomJid,
    /// The account's nick.
    pub nick: String,
    /// The account's presence as it went to the room.
    pub sent_presence: Frame,
    /// The account's presence as the room shows it.
    pub own_presence: Option<Frame>,
    /// A presence of the room itself.
    pub room_presence: Option<Frame>,
    /// The message with the subject.
    pub subject: Option<Frame>,
    /// What the account joins with.
    pub password: Option<String>,
    /// The full JID of the uplink that carries the room.
    pub carrier: Option<String>,
    /// Occupants' real JIDs are shown (status 100).
    pub non_anonymous: bool,
    /// What is said is logged (status 170).
    pub logged: bool,
    /// The room gives the id of a join back.
    pub reflects_join_id: bool,
    /// The service gave the account another nick than it asked for (status 210).
    pub nick_assigned: bool,
    /// The room sees what a session has said of itself, and not that nobody is there.
    pub spoken: bool,
    /// The account is to be in the room: its join is complete, and it is not leaving.
    pub wanted: bool,
    /// A join, a leave, a change of nick or a hand-over is under way, or the carrier is still to bring
    /// what one before it has brought: to resume the carrier's stream is not enough to know the room.
    pub unsettled: bool,
    /// When the account's join was complete.
    pub joined_at: SystemTime,
    /// Since when no session has joined; `None` while one has.
    pub detached_since: Option<SystemTime>,
}

/// Another occupant.
#[derive(Clone, Debug)]
pub struct SavedOccupant {
    /// The nick.
    pub nick: String,
    /// The place in the order in which joiners are shown the occupants.
    pub order: u64,
    /// The last presence.
    pub presence: Frame,
}

/// A message of a room.
#[derive(Clone, Debug)]
pub struct SavedMessage {
    /// Its number.
    pub number: u64,
    /// When it was said.
    pub at: SystemTime,
    /// The room's delay stamp is in the stanza: it came as history.
    pub stamped: bool,
    /// The stanza.
    pub frame: Frame,
}

/// What a resource was served in a room.
///
/// While a session is in the room nobody can say for certain what it has. When it was lost,
/// `number` says it; where that is missing, the process has ended before it was known, or the
/// uplink was lost with the session, and [`Input::Served`](crate::Input::Served) may tell later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// It has all messages up to this number, if that is known.
    pub number: Option<u64>,
    /// The mark of the last stanza of its join: who has not got that far has not joined.
    pub joined: u64,
    /// The mark of the first message of its join, where the join brought it all it had missed;
    /// otherwise that of the last stanza. Each message had the mark behind that of the one before.
    pub replay: u64,
    /// What it had before that join.
    pub before: Option<u64>,
    /// When this was noted.
    pub at: SystemTime,
}

/// All that was stored of an account's rooms.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// In any order.
    pub rooms: Vec<SavedState>,
    /// Numbers and [fingerprints](crate::fingerprint) of messages that were given to sessions before
    /// they were stored, and may not be: they keep their numbers when they come again.
    pub said: Vec<(u64, u64)>,
}

/// All that was stored of a room.
#[derive(Clone, Debug)]
pub struct SavedState {
    /// The record.
    pub room: SavedRoom,
    /// In any order.
    pub occupants: Vec<SavedOccupant>,
    /// By number.
    pub messages: Vec<SavedMessage>,
    /// By resource, in any order.
    pub served: Vec<(String, Served)>,
}

/// Reads a stanza that was stored: one whose bytes were let through once.
///
/// # Errors
/// Where the bytes are not what was stored.
pub fn stored_stanza(bytes: Bytes) -> Result<Frame, FramingError> {
    let limits = Limits {
        stanza_bytes: usize::MAX,
        depth: usize::MAX,
        attributes: usize::MAX,
        name_bytes: usize::MAX,
        unbound_prefixes: true,
    };
    Frame::parse(bytes, &limits)
}
