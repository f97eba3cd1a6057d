//! What is kept, as the rest of the process knows it: plain records, and the changes to them.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jid::BareJid;

/// The occupancy of an account in one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// The room.
    pub room: BareJid,
    /// The account's nick there.
    pub nick: String,
    /// The presence the account last sent to the room.
    pub sent_presence: Bytes,
    /// The account's own presence as the room last showed it.
    pub own_presence: Option<Bytes>,
    /// The presence of the room itself, from its bare JID.
    pub room_presence: Option<Bytes>,
    /// The message that set the subject.
    pub subject: Option<Bytes>,
    /// The password the account gave, to join again with.
    pub password: Option<String>,
    /// The full JID of the uplink on which the account is in the room.
    pub carrier: Option<String>,
    /// Status 100: occupants' full JIDs are shown.
    pub non_anonymous: bool,
    /// Status 170: the room's talk is logged.
    pub logged: bool,
    /// The service puts the id of a join on the self-presence.
    pub reflects_join_id: bool,
    /// Status 210: the service chose the nick.
    pub nick_assigned: bool,
    /// The room has been shown what a session says of itself.
    pub spoken: bool,
    /// The account is to be in the room.
    pub wanted: bool,
    /// A join, a leave or a hand-over was under way: only the room knows how it ended.
    pub unsettled: bool,
    /// Since when the account is in the room.
    pub joined_at: SystemTime,
    /// Since when no session has joined; `None` while one has.
    pub detached_since: Option<SystemTime>,
}

/// Another occupant of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// Their nick, the key within the room.
    pub nick: String,
    /// Their place in the order in which a joiner is shown the occupants.
    pub order: u64,
    /// Their last presence.
    pub presence: Bytes,
}

/// A message of a room, kept once for the account, however many devices it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number, the key within the room; a later message has a larger one.
    pub number: u64,
    /// When it was said, to the millisecond.
    pub at: SystemTime,
    /// The room's own delay stamp is in the stanza: it came as history.
    pub stamped: bool,
    /// The stanza as the room sent it.
    pub stanza: Bytes,
}

/// How far a device has been served in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The room.
    pub room: BareJid,
    /// The device, by its resource.
    pub resource: String,
    /// The last message it has for certain, if that is known.
    pub number: Option<u64>,
    /// Where its last join was complete.
    pub joined: u64,
    /// Where what its last join brought began.
    pub replay: u64,
    /// What it had before that join.
    pub before: Option<u64>,
    /// When this was noted.
    pub at: SystemTime,
}

/// The stream of the account's anchor, as XEP-0198 needs it to resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorState {
    /// The domain that was logged in to.
    pub domain: String,
    /// The full JID of the anchor.
    pub jid: String,
    /// The stream id for `previd` (XEP-0198 5).
    pub previd: String,
    /// Where the server wants to be asked first.
    pub location: Option<String>,
    /// The server's stanzas that have been handled, modulo 2^32.
    pub h_in: u32,
    /// How long the server said it waits; `None` if it did not say.
    pub max: Option<Duration>,
    /// When the stream was last known to be good, to the millisecond.
    pub at: SystemTime,
}

/// An account's SCRAM keys, sealed by [`SealKey::seal`](crate::SealKey::seal).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// Opaque to the store.
    pub bytes: Bytes,
}

/// Where a device wants to be woken (XEP-0357 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRegistration {
    /// The device, by its resource.
    pub resource: String,
    /// The push service.
    pub service: String,
    /// The node; empty where the client named none.
    pub node: String,
    /// The publish options of the client, as it sent them; empty where there were none.
    pub form: Bytes,
}

/// One change. What names a room that is not stored does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A room, new or changed.
    PutRoom(RoomRecord),
    /// Everything of a room goes: its record, occupants, messages and served marks.
    ForgetRoom(BareJid),
    /// An occupant, new or changed.
    PutOccupant {
        /// The room.
        room: BareJid,
        /// The occupant.
        occupant: Occupant,
    },
    /// An occupant has gone.
    RemoveOccupant {
        /// The room.
        room: BareJid,
        /// Their nick.
        nick: String,
    },
    /// These are all the occupants.
    ReplaceOccupants {
        /// The room.
        room: BareJid,
        /// All but the account.
        occupants: Vec<Occupant>,
    },
    /// A message; one with its number is replaced.
    AddMessage {
        /// The room.
        room: BareJid,
        /// The message.
        message: StoredMessage,
    },
    /// All messages of a room go, its record stays.
    DropMessages(BareJid),
    /// How far a device has been served.
    PutServed(Served),
    /// The device is a stranger when it comes again.
    RemoveServed {
        /// The room.
        room: BareJid,
        /// The device, by its resource.
        resource: String,
    },
    /// The stream of the anchor, new or changed.
    PutAnchor(AnchorState),
    /// The count of handled stanzas alone; without an anchor it does nothing.
    AnchorHandled {
        /// The new count.
        h_in: u32,
    },
    /// The anchor's stream is no more.
    RemoveAnchor,
    /// The account's sealed keys.
    PutKey(SealedKey),
    /// The keys are of no use any more.
    RemoveKey,
    /// A device wants to be woken.
    PutPush(PushRegistration),
    /// A device does not want to be woken any more (XEP-0357 6).
    RemovePush {
        /// The device, by its resource.
        resource: String,
        /// The push service.
        service: String,
        /// `None`: every node of the service.
        node: Option<String>,
    },
    /// Everything of the account goes.
    ForgetAccount,
}

/// Changes of one account that are stored together or not at all.
///
/// Each batch is a sign of life of the account, one without changes too. Whoever keeps an account for
/// longer than [`Options::unseen`](crate::Options::unseen) without one has to say so by
/// [`Store::in_use`](crate::Store::in_use).
pub struct Batch {
    /// The account.
    pub account: BareJid,
    /// The changes, in order.
    pub ops: Vec<Op>,
    /// What is dropped once the changes are stored, in order, on the writer's thread: so the drop
    /// must be quick. It is a promise that the store keeps. What is never stored is never dropped,
    /// and forgotten when the process ends.
    pub held: Vec<Box<dyn Send>>,
}

impl Batch {
    /// Without a change: a sign of life, or the beginning of more.
    pub fn new(account: BareJid) -> Self {
        Self {
            account,
            ops: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the changes: stanzas and passwords are never told.
        f.debug_struct("Batch")
            .field("account", &self.account)
            .field("ops", &self.ops.len())
            .field("held", &self.held.len())
            .finish()
    }
}

/// All that is stored of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By room.
    pub rooms: BTreeMap<BareJid, StoredRoom>,
    /// The anchor's stream.
    pub anchor: Option<AnchorState>,
    /// The sealed keys.
    pub key: Option<SealedKey>,
    /// By resource, service and node.
    pub push: Vec<PushRegistration>,
}

/// All that is stored of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRoom {
    /// The occupancy.
    pub record: RoomRecord,
    /// In their order.
    pub occupants: Vec<Occupant>,
    /// Oldest first.
    pub messages: Vec<StoredMessage>,
    /// By resource.
    pub served: Vec<Served>,
}

/// An account of which something is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSummary {
    /// The account.
    pub account: BareJid,
    /// In how many rooms it is.
    pub rooms: usize,
    /// Whether there are sealed keys.
    pub has_key: bool,
    /// Whether there is a stream to resume.
    pub has_anchor: bool,
}

impl Op {
    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let payload = match self {
            Self::PutRoom(record) => {
                let optional = [&record.own_presence, &record.room_presence, &record.subject];
                let optional = optional.into_iter().flatten().map(Bytes::len);
                record.sent_presence.len() + record.nick.len() + optional.sum::<usize>()
            }
            Self::PutOccupant { occupant, .. } => occupant.bytes(),
            Self::ReplaceOccupants { occupants, .. } => occupants.iter().map(Occupant::bytes).sum(),
            Self::AddMessage { message, .. } => message.stanza.len(),
            Self::PutKey(key) => key.bytes.len(),
            Self::PutPush(push) => push.form.len(),
            Self::RemoveOccupant { .. }
            | Self::ForgetRoom(_)
            | Self::DropMessages(_)
            | Self::PutServed(_)
            | Self::RemoveServed { .. }
            | Self::PutAnchor(_)
            | Self::AnchorHandled { .. }
            | Self::RemoveAnchor
            | Self::RemoveKey
            | Self::RemovePush { .. }
            | Self::ForgetAccount => 0,
        };
        payload + size_of::<Self>()
    }
}

impl Occupant {
    fn bytes(&self) -> usize {
        self.presence.len() + self.nick.len() + size_of::<Self>()
    }
}
