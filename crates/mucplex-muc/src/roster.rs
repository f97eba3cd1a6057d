//! The other occupants of a room, as their last presences.

use std::collections::HashMap;

use mucplex_xml::Frame;

/// The occupants of a room but the account itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    occupants: HashMap<String, Occupant>,
    entered: u64,
}

#[derive(Clone, Debug)]
struct Occupant {
    /// Place in the order in which occupants became known.
    order: u64,
    presence: Frame,
}

impl Roster {
    /// Notes the presence of the occupant `nick`.
    pub(crate) fn set(&mut self, nick: &str, presence: Frame) {
        if let Some(occupant) = self.occupants.get_mut(nick) {
            occupant.presence = presence;
            return;
        }
        self.entered += 1;
        let occupant = Occupant {
            order: self.entered,
            presence,
        };
        self.occupants.insert(nick.to_owned(), occupant);
    }

    pub(crate) fn remove(&mut self, nick: &str) -> Option<Frame> {
        self.occupants
            .remove(nick)
            .map(|occupant| occupant.presence)
    }

    pub(crate) fn get(&self, nick: &str) -> Option<&Frame> {
        self.occupants.get(nick).map(|occupant| &occupant.presence)
    }

    /// Nicks and last presences, in the order in which the occupants became known.
    pub(crate) fn in_order(&self) -> Vec<(&str, &Frame)> {
        let mut all: Vec<_> = self.occupants.iter().collect();
        all.sort_unstable_by_key(|(_, occupant)| occupant.order);
        all.into_iter()
            .map(|(nick, occupant)| (nick.as_str(), &occupant.presence))
            .collect()
    }
}
