//! What has come to pass in the rooms, in each room's order: the truth to hold views against.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use mucplex_xml::{Element, Frame, Kind};

use crate::service::{MUC_USER, parse};
use crate::world::{ALICE, BEA};

/// The accounts behind the proxy.
pub(crate) const ACCOUNTS: [&str; 2] = [ALICE, BEA];

pub(crate) fn account(bare: &str) -> Option<usize> {
    ACCOUNTS.iter().position(|known| *known == bare)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Somebody is in the room: has come, or has another standing, or another nick.
    Here,
    Gone,
    /// The old nick of a change (303).
    Renamed,
    Said,
    Subject,
    /// A message without a body: of an occupant, or of the room.
    Notice,
    Destroyed,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) what: What,
    /// The account behind the proxy that it is about.
    pub(crate) about: Option<usize>,
    pub(crate) canon: u64,
    /// It tells the account nothing new of itself: another stream of its own has come or gone.
    pub(crate) echo: bool,
    pub(crate) xml: String,
}

/// The room behind so many events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// Of all who are here.
    pub(crate) roster: u64,
    /// How many messages have been said, and how many before the room was made (anew).
    pub(crate) said: usize,
    pub(crate) born: usize,
    pub(crate) subject: Option<usize>,
    /// The event that last told each account's standing, while it is here.
    pub(crate) own: [Option<usize>; 2],
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) events: Vec<Event>,
    /// One more than there are events.
    pub(crate) states: Vec<State>,
    /// The events that are messages.
    pub(crate) said: Vec<usize>,
    pub(crate) present: BTreeMap<String, u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            states: vec![State::default()],
            said: Vec::new(),
            present: BTreeMap::new(),
        }
    }
}

impl Ledger {
    pub(crate) fn note(&mut self, what: What, bare: &str, echo: bool, xml: &str) {
        let frame = parse(xml);
        let canon = canon(&frame);
        let nick = nick_of(&frame).unwrap_or_default();
        let about = account(bare);
        let place = self.events.len();
        let mut state = self.states[place];
        let own = about.and_then(|about| state.own[about]);
        let again = own.is_some_and(|event| self.events[event].canon == canon);
        match what {
            What::Here => {
                let old = self.present.insert(nick, canon).unwrap_or_default();
                state.roster ^= old ^ canon;
                if let Some(about) = about {
                    state.own[about] = Some(place);
                }
            }
            What::Gone | What::Renamed => {
                state.roster ^= self.present.remove(&nick).unwrap_or_default();
                if let Some(about) = about {
                    let known = state.own[about].map(|event| parse(&self.events[event].xml));
                    let other = known.is_some_and(|known| known.from() != frame.from());
                    state.own[about] = state.own[about].filter(|_| other);
                }
            }
            What::Said => {
                self.said.push(place);
                state.said += 1;
            }
            What::Subject => state.subject = Some(place),
            What::Notice => {}
            What::Destroyed => {
                self.present.clear();
                state = State {
                    said: state.said,
                    born: state.said,
                    ..State::default()
                };
            }
        }
        self.states.push(state);
        self.events.push(Event {
            what,
            about,
            canon,
            echo: echo || again,
            xml: xml.to_owned(),
        });
    }

    pub(crate) fn end(&self) -> usize {
        self.events.len()
    }

    /// The messages that one who enters at `place` gets of the past.
    pub(crate) fn past(&self, place: usize, most: usize) -> impl Iterator<Item = u64> + use<'_> {
        let state = self.states[place];
        let from = state.said.saturating_sub(most).max(state.born);
        self.said[from..state.said]
            .iter()
            .map(|place| self.events[*place].canon)
    }
}

pub(crate) fn nick_of(frame: &Frame) -> Option<String> {
    let from = frame.from()?;
    from.split_once('/').map(|(_, nick)| nick.to_owned())
}

/// A stanza without what differs from receiver to receiver: address, join id, 110 and the codes of
/// the join, real JIDs, the delay of a message that is told again.
pub(crate) fn canon(frame: &Frame) -> u64 {
    let mut hash = DefaultHasher::new();
    let presence = frame.kind() == Kind::Presence;
    frame.name().hash(&mut hash);
    frame.from().hash(&mut hash);
    frame.stanza_type().hash(&mut hash);
    if !presence {
        frame.id().hash(&mut hash);
    }
    for child in frame.root().children() {
        if presence && child.is("x", MUC_USER) {
            standing(&child, &mut hash);
        } else if !child.is("delay", "urn:xmpp:delay") {
            frame.bytes()[child.span()].hash(&mut hash);
        }
    }
    hash.finish()
}

fn standing(x: &Element<'_>, hash: &mut DefaultHasher) {
    for child in x.children() {
        match child.name() {
            "item" => {
                for name in ["affiliation", "role", "nick"] {
                    child.attr(name).hash(hash);
                }
                child.text().hash(hash);
            }
            "status" => {
                let code = child.attr("code").unwrap();
                if !["100", "110", "170", "201", "210"].contains(&&*code) {
                    code.hash(hash);
                }
            }
            name => name.hash(hash),
        }
    }
}
