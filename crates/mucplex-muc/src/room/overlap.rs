//! What two carriers of a room both bring during a hand-over, and what neither has brought.
//!
//! A room tells all its streams the same in one order. The old carrier has brought a part of that
//! order up to some point; the next one begins at the point of its join. Where the join lies
//! within what the old one has brought since the hand-over began, nothing is missing and the rest
//! comes twice; where it lies behind, there is a gap.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use mucplex_xml::{Frame, Kind};

use crate::history::Marks;
use crate::muc_user::is_muc_user;
use crate::ns;
use crate::roster::Roster;

/// What the old carrier has brought since the hand-over began, in order.
#[derive(Debug, Default)]
pub(super) struct Brought {
    frames: VecDeque<Frame>,
    /// How each occupant stood before its first presence among these.
    before: BTreeMap<String, Option<Frame>>,
}

impl Brought {
    /// Notes a stanza, before what is known of the occupants changes by it.
    pub(super) fn note(&mut self, frame: &Frame, nick: Option<&str>, others: &Roster) {
        if frame.kind() == Kind::Presence
            && let Some(nick) = nick
            && !self.before.contains_key(nick)
        {
            self.before
                .insert(nick.to_owned(), others.get(nick).cloned());
        }
        self.frames.push_back(frame.clone());
    }

    pub(super) fn contains(&self, frame: &Frame) -> bool {
        self.frames.iter().any(|known| same_but_to(known, frame))
    }

    /// Finds the next carrier's join among the stanzas, by what it was told there: the room's
    /// occupants (`found`) and past. `shown`: the occupants after all of the stanzas.
    ///
    /// Where several places fit, the first is taken; [`Duplicates`] finds out if that was wrong.
    pub(super) fn join_point(&self, found: &Roster, shown: &Roster, past: &[Frame]) -> JoinPoint {
        let past = Marks::of(past);
        let after_past = self.frames.iter().rposition(|frame| past.has(frame));
        let first = after_past.map_or(0, |place| place + 1);
        let differs = |known: Option<&Frame>, nick: &str| match (known, found.get(nick)) {
            (None, None) => false,
            (Some(known), Some(found)) => !same_presence(known, found),
            (None, Some(_)) | (Some(_), None) => true,
        };
        let all = shown.in_order().into_iter().chain(found.in_order());
        let elsewhere = all
            .filter(|(nick, _)| !self.before.contains_key(*nick))
            .any(|(nick, _)| differs(shown.get(nick), nick));
        let mut wrong: BTreeMap<&str, bool> = BTreeMap::new();
        for (nick, known) in &self.before {
            wrong.insert(nick, differs(known.as_ref(), nick));
        }
        let mut count = wrong.values().filter(|wrong| **wrong).count();
        for (place, frame) in self.frames.iter().enumerate() {
            if place >= first && count == 0 {
                return JoinPoint::of(Some(place), first, elsewhere);
            }
            if place >= first && has_body(frame) {
                // Had the join been behind it, it would be of the past. (Where a service keeps no
                // past, it is never matched, and forgotten with the first that is new.)
                return JoinPoint::of(None, first, elsewhere);
            }
            if let Some((nick, slot)) = nick_of(frame).and_then(|nick| {
                let (nick, _) = self.before.get_key_value(&*nick)?;
                Some((nick, wrong.get_mut(nick.as_str())?))
            }) {
                let known = Some(frame).filter(|frame| frame.stanza_type().is_none());
                let now = differs(known, nick);
                count = count + usize::from(now) - usize::from(*slot);
                *slot = now;
            }
        }
        let end = (count == 0).then_some(self.frames.len());
        JoinPoint::of(end, first, elsewhere)
    }

    /// What the next carrier will bring once more if it has joined at `place`.
    pub(super) fn after(mut self, place: usize) -> Duplicates {
        self.frames.drain(..place.min(self.frames.len()));
        Duplicates::of(&self.frames)
    }

    /// Where the place is not known: the messages, which must not come twice. That presences do
    /// harms nobody.
    pub(super) fn messages_after(mut self, place: usize) -> Duplicates {
        self.frames.drain(..place.min(self.frames.len()));
        self.frames.retain(|frame| frame.kind() == Kind::Message);
        Duplicates::of(&self.frames)
    }
}

/// Where the next carrier has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JoinPoint {
    /// Its place among what the old carrier has brought, if it is there.
    pub(super) place: Option<usize>,
    /// It is not before this place.
    pub(super) first: usize,
    /// An occupant of whom the old carrier has brought nothing is not as it was.
    pub(super) elsewhere: bool,
}

impl JoinPoint {
    fn of(place: Option<usize>, first: usize, elsewhere: bool) -> Self {
        Self {
            place,
            first,
            elsewhere,
        }
    }
}

/// What the old carrier has brought and the new one will bring once more.
///
/// What the new one brings is compared with what is left here from the front: a match uses up
/// everything before it too, and the first stanza that matches nothing shows that the new carrier
/// is past the old one's end.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    brought: VecDeque<Frame>,
    /// The last presence of each occupant that was taken for a duplicate. Presences may look
    /// alike (away, back, away): if something is left in the end, one of these was new.
    taken: BTreeMap<String, Frame>,
}

/// What [`Duplicates`] says of a stanza.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The sessions have been given it already.
    Duplicate,
    /// It is new, and so are these presences that came before it and were taken for duplicates,
    /// unless they say what is known.
    New(BTreeMap<String, Frame>),
}

impl Duplicates {
    fn of(brought: &VecDeque<Frame>) -> Self {
        Self {
            brought: brought.iter().map(Frame::compact).collect(),
            taken: BTreeMap::new(),
        }
    }

    /// Whether the new carrier is still to bring messages that are known.
    pub(super) fn have_messages(&self) -> bool {
        self.brought.iter().any(has_body)
    }

    /// Whether the new carrier is still to bring a change of subject that is known.
    pub(super) fn have_subject(&self) -> bool {
        self.brought.iter().any(super::message::is_subject)
    }

    /// Whether a presence was taken for a duplicate, and it is not certain that it was one.
    pub(super) fn are_open(&self) -> bool {
        !self.taken.is_empty()
    }

    /// No more has come for a while: what was taken and is not known was new. Messages are still not
    /// to come twice.
    pub(super) fn close(&mut self) -> BTreeMap<String, Frame> {
        self.brought.retain(|frame| frame.kind() == Kind::Message);
        std::mem::take(&mut self.taken)
    }

    /// Judges a live stanza of the new carrier.
    pub(super) fn judge(&mut self, frame: &Frame) -> Verdict {
        if self.brought.is_empty() {
            return Verdict::New(BTreeMap::new());
        }
        let place = self
            .brought
            .iter()
            .position(|brought| same_but_to(brought, frame));
        // Private messages go to one or to all streams of a nick, as the server likes: they have
        // no place in the common order.
        let Some(place) = place else {
            if is_ordered(frame) {
                self.brought.clear();
                return Verdict::New(std::mem::take(&mut self.taken));
            }
            return Verdict::New(BTreeMap::new());
        };
        if is_ordered(frame) {
            self.brought.drain(..=place);
        } else {
            self.brought.remove(place);
        }
        if let Some(nick) = nick_of(frame) {
            self.taken.insert(nick, frame.compact());
        }
        if self.brought.is_empty() {
            self.taken.clear();
        }
        Verdict::Duplicate
    }
}

/// The messages of the past that are not among those the sessions know. What is before the first of
/// these is not missed: the account had not asked for it when it came.
pub(super) fn missed(mut known: Marks, past: &[Frame]) -> Vec<&Frame> {
    let mut missed = Vec::new();
    let mut met = false;
    for message in past.iter().filter(|message| has_body(message)) {
        if !known.take(message) {
            missed.push(message);
        } else if !std::mem::replace(&mut met, true) {
            missed.clear();
        }
    }
    missed
}

fn nick_of(frame: &Frame) -> Option<String> {
    if frame.kind() != Kind::Presence {
        return None;
    }
    crate::RoomAddress::parse(&frame.from()?)?.nick
}

fn has_body(frame: &Frame) -> bool {
    frame.kind() == Kind::Message
        && frame.stanza_type().as_deref() == Some("groupchat")
        && frame.root().child("body", ns::CLIENT).is_some()
}

/// Presences and groupchat messages reach every stream in the room in one order.
pub(super) fn is_ordered(frame: &Frame) -> bool {
    frame.kind() == Kind::Presence || frame.stanza_type().as_deref() == Some("groupchat")
}

/// Two copies of one stanza for two streams: the same bytes but for `to`.
fn same_but_to(a: &Frame, b: &Frame) -> bool {
    fn around(frame: &Frame) -> Option<(&[u8], &[u8])> {
        let to = frame.root().attr_value_span("to")?;
        Some((frame.bytes().get(..to.start)?, frame.bytes().get(to.end..)?))
    }
    around(a).is_some() && around(a) == around(b)
}

/// What an occupant says of itself in a presence.
pub(super) fn payload(frame: &Frame) -> Vec<&[u8]> {
    let own = frame.root().children().filter(|child| !is_muc_user(child));
    own.map(|child| frame.bytes().get(child.span()).unwrap_or_default())
        .collect()
}

/// Whether two presences say the same of an occupant: same payload, same standing in the room.
/// Ids and real JIDs differ from stream to stream, and the codes from join to join.
pub(super) fn same_presence(a: &Frame, b: &Frame) -> bool {
    fn standing(frame: &Frame) -> Option<(Option<String>, Option<String>)> {
        let x = frame.root().children().find(is_muc_user)?;
        let item = x.child("item", ns::MUC_USER)?;
        let value = |name| item.attr(name).map(Cow::into_owned);
        Some((value("affiliation"), value("role")))
    }
    a.stanza_type() == b.stanza_type() && payload(a) == payload(b) && standing(a) == standing(b)
}
