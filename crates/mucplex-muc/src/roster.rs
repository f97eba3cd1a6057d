//! The other occupants of a room, as their last presences.

use std::collections::HashMap;

use mucplex_xml::Frame;

use crate::persist::SavedOccupant;

/// The occupants of a room but the account itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    occupants: HashMap<String, Occupant>,
    entered: u64,
    /// The nicks that something has become of since it was last asked; `None` where nobody asks.
    touched: Option<Vec<String>>,
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
        self.touch(nick);
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
        let gone = self.occupants.remove(nick)?;
        self.touch(nick);
        Some(gone.presence)
    }

    fn touch(&mut self, nick: &str) {
        if let Some(touched) = &mut self.touched
            && !touched.iter().any(|known| known == nick)
        {
            touched.push(nick.to_owned());
        }
    }

    /// All occupants, in their order; from now on it is noted what becomes of whom.
    pub(crate) fn watch(&mut self) -> Vec<SavedOccupant> {
        self.touched = Some(Vec::new());
        let mut all: Vec<_> = self.occupants.iter().collect();
        all.sort_unstable_by_key(|(_, occupant)| occupant.order);
        let saved = all.into_iter().map(|(nick, occupant)| SavedOccupant {
            nick: nick.clone(),
            order: occupant.order,
            presence: occupant.presence.clone(),
        });
        saved.collect()
    }

    /// Whom something has become of since this was last asked: nick, place and presence, `None` for
    /// who is gone.
    pub(crate) fn take_touched(&mut self) -> Vec<(String, u64, Option<Frame>)> {
        let touched = self.touched.as_mut().map(std::mem::take);
        let now = |nick: String| match self.occupants.get(&nick) {
            Some(occupant) => (nick, occupant.order, Some(occupant.presence.clone())),
            None => (nick, 0, None),
        };
        touched.unwrap_or_default().into_iter().map(now).collect()
    }

    /// The occupants as they were stored.
    pub(crate) fn restored(occupants: Vec<SavedOccupant>) -> Self {
        let mut roster = Self::default();
        for SavedOccupant {
            nick,
            order,
            presence,
        } in occupants
        {
            roster.entered = roster.entered.max(order);
            roster.occupants.insert(nick, Occupant { order, presence });
        }
        roster
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
