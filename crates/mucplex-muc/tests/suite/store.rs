//! What a store has to keep, in memory: the changes as they come, and what is restored from them.

use std::collections::BTreeMap;

use mucplex_muc::{
    Change, RoomJid, Saved, SavedMessage, SavedOccupant, SavedRoom, SavedState, Served,
    stored_stanza,
};
use mucplex_xml::Frame;

#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) rooms: BTreeMap<RoomJid, Stored>,
    /// How many changes there were.
    pub(crate) changes: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) room: SavedRoom,
    pub(crate) occupants: BTreeMap<String, SavedOccupant>,
    pub(crate) messages: BTreeMap<u64, SavedMessage>,
    pub(crate) served: BTreeMap<String, Served>,
}

impl Store {
    pub(crate) fn apply(&mut self, change: Change) {
        self.changes += 1;
        match change {
            Change::Room(room) => match self.rooms.get_mut(&room.room) {
                Some(stored) => stored.room = *room,
                None => {
                    let stored = Stored {
                        room: (*room).clone(),
                        occupants: BTreeMap::new(),
                        messages: BTreeMap::new(),
                        served: BTreeMap::new(),
                    };
                    self.rooms.insert(room.room.clone(), stored);
                }
            },
            Change::Occupant {
                room,
                nick,
                order,
                presence,
            } => {
                let occupants = &mut self.of(&room).occupants;
                match presence {
                    Some(presence) => {
                        let occupant = SavedOccupant {
                            nick: nick.clone(),
                            order,
                            presence,
                        };
                        occupants.insert(nick, occupant);
                    }
                    None => drop(occupants.remove(&nick)),
                }
            }
            Change::Occupants { room, all } => {
                let all = all.into_iter().map(|it| (it.nick.clone(), it));
                self.of(&room).occupants = all.collect();
            }
            Change::Message { room, message } => {
                let number = message.number;
                let mut all = self.rooms.values();
                let taken = all.any(|stored| stored.messages.contains_key(&number));
                assert!(!taken, "a number that is taken: {message:?}");
                let messages = &mut self.of(&room).messages;
                let last = messages.last_key_value();
                assert!(last.is_none_or(|(last, _)| *last < number), "{message:?}");
                messages.insert(number, message);
            }
            Change::Cleared { room } => self.of(&room).messages.clear(),
            Change::Forgotten { room } => {
                assert!(self.rooms.remove(&room).is_some(), "{room} was not stored");
            }
            Change::Served {
                room,
                resource,
                served,
            } => {
                let known = &mut self.of(&room).served;
                match served {
                    Some(served) => drop(known.insert(resource, served)),
                    None => drop(known.remove(&resource)),
                }
            }
        }
    }

    fn of(&mut self, room: &RoomJid) -> &mut Stored {
        let stored = self.rooms.get_mut(room);
        stored.unwrap_or_else(|| panic!("{room} has no record"))
    }

    /// What the next process gets, read from bytes.
    pub(crate) fn saved(&self) -> Saved {
        let rooms = self.rooms.values().map(|stored| SavedState {
            room: SavedRoom {
                sent_presence: reread(&stored.room.sent_presence),
                own_presence: stored.room.own_presence.as_ref().map(reread),
                room_presence: stored.room.room_presence.as_ref().map(reread),
                subject: stored.room.subject.as_ref().map(reread),
                ..stored.room.clone()
            },
            occupants: stored.occupants.values().rev().cloned().collect(),
            messages: stored.messages.values().cloned().collect(),
            served: stored.served.clone().into_iter().collect(),
        });
        Saved {
            rooms: rooms.collect(),
            ..Saved::default()
        }
    }
}

fn reread(frame: &Frame) -> Frame {
    stored_stanza(frame.bytes().clone()).unwrap()
}
