//! Changes that are not in the file yet, over what was read from it. The same as
//! [`write`](crate::write) does to the file; a property test holds the two together.

use std::collections::BTreeMap;

use crate::{
    read::Bounds,
    record::{Op, Served, Snapshot, StoredRoom},
    time::as_stored,
};

impl Snapshot {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::PutRoom(record) => self.put_room(record),
            Op::ForgetRoom(room) => drop(self.rooms.remove(room)),
            Op::PutOccupant { room, .. }
            | Op::RemoveOccupant { room, .. }
            | Op::ReplaceOccupants { room, .. }
            | Op::AddMessage { room, .. }
            | Op::DropMessages(room)
            | Op::PutServed(Served { room, .. })
            | Op::RemoveServed { room, .. } => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.apply(op);
                }
            }
            Op::PutAnchor(anchor) => {
                let mut anchor = anchor.clone();
                anchor.at = as_stored(anchor.at);
                self.anchor = Some(anchor);
            }
            Op::AnchorHandled { h_in } => {
                if let Some(anchor) = &mut self.anchor {
                    anchor.h_in = *h_in;
                }
            }
            Op::RemoveAnchor => self.anchor = None,
            Op::PutKey(key) => self.key = Some(key.clone()),
            Op::RemoveKey => self.key = None,
            Op::PutPush(push) => put(&mut self.push, push.clone(), |push| {
                (
                    push.resource.clone(),
                    push.service.clone(),
                    push.node.clone(),
                )
            }),
            Op::RemovePush {
                resource,
                service,
                node,
            } => self.push.retain(|push| {
                push.resource != *resource
                    || push.service != *service
                    || node.as_ref().is_some_and(|node| push.node != *node)
            }),
            Op::ForgetAccount => *self = Self::default(),
        }
    }

    fn put_room(&mut self, record: &crate::RoomRecord) {
        let mut record = record.clone();
        record.joined_at = as_stored(record.joined_at);
        record.detached_since = record.detached_since.map(as_stored);
        match self.rooms.get_mut(&record.room) {
            Some(stored) => stored.record = record,
            None => {
                let stored = StoredRoom {
                    record,
                    occupants: Vec::new(),
                    messages: Vec::new(),
                    served: Vec::new(),
                };
                self.rooms.insert(stored.record.room.clone(), stored);
            }
        }
    }

    /// Drops what is beyond the bounds.
    pub(crate) fn keep_within(&mut self, bounds: &Bounds) {
        for room in self.rooms.values_mut() {
            let since = as_stored(bounds.since);
            room.messages.retain(|message| message.at >= since);
            let sizes = room
                .messages
                .iter()
                .rev()
                .map(|message| message.stanza.len());
            let beyond = room.messages.len() - bounds.fitting(sizes);
            room.messages.drain(..beyond);
        }
    }
}

impl StoredRoom {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::PutOccupant { occupant, .. } => {
                self.occupants.retain(|other| other.nick != occupant.nick);
                self.occupants.push(occupant.clone());
                self.order_occupants();
            }
            Op::RemoveOccupant { nick, .. } => self.occupants.retain(|other| other.nick != *nick),
            Op::ReplaceOccupants { occupants, .. } => {
                // Of two with one nick the last stands.
                let by_nick: BTreeMap<_, _> = occupants
                    .iter()
                    .map(|occupant| (occupant.nick.as_str(), occupant))
                    .collect();
                self.occupants = by_nick.into_values().cloned().collect();
                self.order_occupants();
            }
            Op::AddMessage { message, .. } => {
                let mut message = message.clone();
                message.at = as_stored(message.at);
                put(&mut self.messages, message, |message| message.number);
            }
            Op::DropMessages(_) => self.messages.clear(),
            Op::PutServed(served) => {
                let mut served = served.clone();
                served.at = as_stored(served.at);
                put(&mut self.served, served, |served| served.resource.clone());
            }
            Op::RemoveServed { resource, .. } => {
                self.served.retain(|served| served.resource != *resource);
            }
            Op::PutRoom(_)
            | Op::ForgetRoom(_)
            | Op::PutAnchor(_)
            | Op::AnchorHandled { .. }
            | Op::RemoveAnchor
            | Op::PutKey(_)
            | Op::RemoveKey
            | Op::PutPush(_)
            | Op::RemovePush { .. }
            | Op::ForgetAccount => {}
        }
    }

    fn order_occupants(&mut self) {
        self.occupants.sort_by(|one, other| {
            (one.order, one.nick.as_str()).cmp(&(other.order, other.nick.as_str()))
        });
    }
}

/// Puts an entry where it belongs in a list that is sorted by a key.
fn put<T, K: Ord>(list: &mut Vec<T>, entry: T, key: impl Fn(&T) -> K) {
    match list.binary_search_by(|other| key(other).cmp(&key(&entry))) {
        Ok(at) => {
            if let Some(there) = list.get_mut(at) {
                *there = entry;
            }
        }
        Err(at) => list.insert(at, entry),
    }
}
