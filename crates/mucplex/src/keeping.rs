//! What the hub and the store call the same things: the hub's changes as the store's, and what was
//! stored as the hub takes it. And what of the account's keys may lie on a disk: sealed.

use bytes::Bytes;
use jid::BareJid;
use mucplex_muc::{
    Change, RoomJid, Saved, SavedMessage, SavedOccupant, SavedRoom, SavedState, Served,
    stored_stanza,
};
use mucplex_store::{
    Occupant, Op, RoomRecord, SealError, SealKey, SealedKey, Snapshot, StoredMessage, StoredRoom,
};
use mucplex_stream::{Credentials, scram::ScramKeys};
use mucplex_xml::{Frame, FramingError};
use tracing::{error, warn};
use zeroize::Zeroizing;

/// Version of the form in which keys are sealed.
const KEYS: u8 = 1;

/// A change of the hub, as the store takes it.
pub(crate) fn op(change: Change) -> Op {
    match change {
        Change::Room(room) => Op::PutRoom(record(*room)),
        Change::Occupant {
            room,
            nick,
            order,
            presence: Some(presence),
        } => Op::PutOccupant {
            room: room.0,
            occupant: Occupant {
                nick,
                order,
                presence: bytes(&presence),
            },
        },
        Change::Occupant { room, nick, .. } => Op::RemoveOccupant { room: room.0, nick },
        Change::Occupants { room, all } => Op::ReplaceOccupants {
            room: room.0,
            occupants: all.into_iter().map(occupant).collect(),
        },
        Change::Message { room, message } => Op::AddMessage {
            room: room.0,
            message: StoredMessage {
                number: message.number,
                at: message.at,
                stamped: message.stamped,
                stanza: bytes(&message.frame),
            },
        },
        Change::Cleared { room } => Op::DropMessages(room.0),
        Change::Forgotten { room } => Op::ForgetRoom(room.0),
        Change::Served {
            room,
            resource,
            served: Some(served),
        } => Op::PutServed(mucplex_store::Served {
            room: room.0,
            resource,
            number: served.number,
            joined: served.joined,
            replay: served.replay,
            before: served.before,
            at: served.at,
        }),
        Change::Served { room, resource, .. } => Op::RemoveServed {
            room: room.0,
            resource,
        },
    }
}

fn record(room: SavedRoom) -> RoomRecord {
    RoomRecord {
        room: room.room.0,
        nick: room.nick,
        sent_presence: bytes(&room.sent_presence),
        own_presence: room.own_presence.as_ref().map(bytes),
        room_presence: room.room_presence.as_ref().map(bytes),
        subject: room.subject.as_ref().map(bytes),
        password: room.password,
        carrier: room.carrier,
        non_anonymous: room.non_anonymous,
        logged: room.logged,
        reflects_join_id: room.reflects_join_id,
        nick_assigned: room.nick_assigned,
        spoken: room.spoken,
        wanted: room.wanted,
        unsettled: room.unsettled,
        joined_at: room.joined_at,
        detached_since: room.detached_since,
    }
}

fn occupant(occupant: SavedOccupant) -> Occupant {
    Occupant {
        nick: occupant.nick,
        order: occupant.order,
        presence: bytes(&occupant.presence),
    }
}

/// A stanza with all it needs to be read by itself.
fn bytes(frame: &Frame) -> Bytes {
    frame.portable().bytes().clone()
}

/// What was stored, as the hub takes it, and the rooms that cannot be read. A message or an occupant
/// that cannot be read is left out alone.
pub(crate) fn saved(snapshot: &Snapshot) -> (Saved, Vec<BareJid>) {
    let mut saved = Saved::default();
    let mut unreadable = Vec::new();
    for (jid, stored) in &snapshot.rooms {
        match state(stored) {
            Ok(state) => saved.rooms.push(state),
            Err(fault) => {
                error!(room = %jid, %fault, "a room that was kept cannot be read");
                unreadable.push(jid.clone());
            }
        }
    }
    (saved, unreadable)
}

fn state(stored: &StoredRoom) -> Result<SavedState, FramingError> {
    let record = &stored.record;
    let optional = |stanza: &Option<Bytes>| stanza.clone().map(stored_stanza).transpose();
    let room = SavedRoom {
        room: RoomJid(record.room.clone()),
        nick: record.nick.clone(),
        sent_presence: stored_stanza(record.sent_presence.clone())?,
        own_presence: optional(&record.own_presence)?,
        room_presence: optional(&record.room_presence)?,
        subject: optional(&record.subject)?,
        password: record.password.clone(),
        carrier: record.carrier.clone(),
        non_anonymous: record.non_anonymous,
        logged: record.logged,
        reflects_join_id: record.reflects_join_id,
        nick_assigned: record.nick_assigned,
        spoken: record.spoken,
        wanted: record.wanted,
        unsettled: record.unsettled,
        joined_at: record.joined_at,
        detached_since: record.detached_since,
    };
    let occupants = stored.occupants.iter().filter_map(|stored| {
        Some(SavedOccupant {
            nick: stored.nick.clone(),
            order: stored.order,
            presence: readable(&record.room, &stored.presence)?,
        })
    });
    let messages = stored.messages.iter().filter_map(|stored| {
        Some(SavedMessage {
            number: stored.number,
            at: stored.at,
            stamped: stored.stamped,
            frame: readable(&record.room, &stored.stanza)?,
        })
    });
    let served = stored.served.iter().map(|stored| {
        let served = Served {
            number: stored.number,
            joined: stored.joined,
            replay: stored.replay,
            before: stored.before,
            at: stored.at,
        };
        (stored.resource.clone(), served)
    });
    Ok(SavedState {
        room,
        occupants: occupants.collect(),
        messages: messages.collect(),
        served: served.collect(),
    })
}

fn readable(room: &BareJid, stanza: &Bytes) -> Option<Frame> {
    match stored_stanza(stanza.clone()) {
        Ok(frame) => Some(frame),
        Err(fault) => {
            warn!(%room, %fault, "a stanza that was kept cannot be read");
            None
        }
    }
}

/// Why kept keys are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnsealError {
    /// They were sealed with another key, for another account, or are damaged.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// What was sealed is none of ours.
    #[error("what was sealed cannot be read")]
    Content,
}

/// An account's keys, sealed. `None` for what is never kept, or where randomness fails.
pub(crate) fn sealed(
    key: &SealKey,
    account: &BareJid,
    domain: &str,
    credentials: &Credentials,
) -> Option<SealedKey> {
    let Credentials::Keys {
        username,
        authzid,
        keys,
    } = credentials
    else {
        return None;
    };
    let keys = keys.to_bytes();
    let fields = [
        username.as_bytes(),
        authzid.as_deref().unwrap_or_default().as_bytes(),
        &keys,
    ];
    let size: usize = fields.iter().map(|field| field.len() + 4).sum();
    // As large as it gets: growing would leave a copy behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(1 + size));
    plain.push(KEYS);
    for field in fields {
        plain.extend_from_slice(&u32::try_from(field.len()).ok()?.to_be_bytes());
        plain.extend_from_slice(field);
    }
    match key.seal(account, domain, &plain) {
        Ok(sealed) => Some(SealedKey {
            bytes: sealed.into(),
        }),
        Err(error) => {
            error!(%account, %error, "the account's keys cannot be sealed");
            None
        }
    }
}

/// Keys that were [`sealed`].
pub(crate) fn unsealed(
    key: &SealKey,
    account: &BareJid,
    domain: &str,
    sealed: &SealedKey,
) -> Result<Credentials, UnsealError> {
    let plain = key.open(account, domain, &sealed.bytes)?;
    fields(&plain).ok_or(UnsealError::Content)
}

fn fields(plain: &[u8]) -> Option<Credentials> {
    let (&KEYS, mut rest) = plain.split_first()? else {
        return None;
    };
    let mut field = || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(field)
    };
    let [username, authzid, keys] = [field()?, field()?, field()?];
    if !rest.is_empty() {
        return None;
    }
    let text = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
    Some(Credentials::Keys {
        username: text(username)?,
        authzid: Some(text(authzid)?).filter(|authzid| !authzid.is_empty()),
        keys: ScramKeys::from_bytes(keys).ok()?,
    })
}

#[cfg(test)]
mod tests;
