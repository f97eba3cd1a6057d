//! The stanzas that sessions have sent into the room and that are not answered yet.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mucplex_xml::{Frame, Kind};

use crate::SessionId;

/// How many stanzas may wait for their reflection or error in one room. Private messages are
/// never reflected, so entries also leave by age of arrival.
const MOST_IN_FLIGHT: usize = 256;
/// How many bytes of them are kept whole.
const MOST_KEPT_BYTES: usize = 256 * 1024;
/// How long a room may be silent about a change of nick before it is asked for the new one.
const NICK_SILENCE: Duration = Duration::from_secs(3);
/// How long a room may take to answer a change of nick.
const NICK_TIMEOUT: Duration = Duration::from_secs(10);

/// The stanzas that sessions have sent into the room, by which an error finds the one it is for.
///
/// Ids are the clients' own and may collide between sessions. A room handles what comes on one
/// stream in order, so of two stanzas with one id the first answer belongs to the first.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: VecDeque<Sent>,
    kept: usize,
}

#[derive(Debug)]
pub(super) struct Sent {
    kind: Kind,
    /// The nick it went to; `None` for the room.
    pub(super) nick: Option<String>,
    pub(super) id: Option<String>,
    pub(super) session: SessionId,
    at: Instant,
    way: Way,
    /// The stanza itself, while there is space to keep it: what may have to be sent once more.
    pub(super) frame: Option<Frame>,
    /// It was sent once more already.
    pub(super) repeated: bool,
    /// A change of nick of which the room has been silent, and was asked for the new one.
    probed: bool,
}

/// How far a stanza has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Kept until a hand-over is through.
    Held,
    /// On the carrier.
    Sent,
    /// On a carrier that has been lost since.
    Uncertain,
}

impl Sent {
    /// A change of nick that the room has yet to answer; `own` is the nick at present.
    fn changes_nick(&self, own: &str) -> bool {
        let changes = self.nick.as_deref().is_some_and(|nick| nick != own);
        self.kind == Kind::Presence && self.way == Way::Sent && changes
    }

    /// A message to everybody.
    pub(super) fn is_groupchat(&self) -> bool {
        let kind = self.frame.as_ref().and_then(Frame::stanza_type);
        kind.as_deref() == Some("groupchat")
    }

    fn bytes(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.bytes().len())
    }
}

impl InFlight {
    /// Notes what a session has sent to the occupant `nick`, or to the room.
    pub(super) fn note(
        &mut self,
        now: Instant,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
        way: Way,
    ) {
        if self.sent.len() >= MOST_IN_FLIGHT {
            self.take(0);
        }
        let size = frame.bytes().len();
        let keeps = self.kept + size <= MOST_KEPT_BYTES;
        self.kept += if keeps { size } else { 0 };
        self.sent.push_back(Sent {
            kind: frame.kind(),
            nick: nick.map(str::to_owned),
            id: frame.id().map(Cow::into_owned),
            session,
            at: now,
            way,
            frame: keeps.then(|| frame.compact()),
            repeated: false,
            probed: false,
        });
    }

    /// The latest one was sent before.
    pub(super) fn mark_repeated(&mut self) {
        if let Some(last) = self.sent.back_mut() {
            last.repeated = true;
        }
    }

    fn take(&mut self, place: usize) -> Option<Sent> {
        let sent = self.sent.remove(place)?;
        self.kept -= sent.bytes();
        Some(sent)
    }

    fn take_all(&mut self, wanted: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let all = std::mem::take(&mut self.sent);
        let (taken, rest): (VecDeque<Sent>, _) = all.into_iter().partition(wanted);
        self.sent = rest;
        self.kept -= taken.iter().map(Sent::bytes).sum::<usize>();
        taken.into()
    }

    /// What was held has gone out.
    pub(super) fn flushed(&mut self, now: Instant) {
        for held in self.sent.iter_mut().filter(|sent| sent.way == Way::Held) {
            (held.way, held.at) = (Way::Sent, now);
        }
    }

    /// The carrier is lost; nobody knows what of this has reached the room.
    pub(super) fn lost(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.way == Way::Sent) {
            sent.way = Way::Uncertain;
        }
    }

    /// Takes out the messages to the room that were lost with a carrier.
    pub(super) fn take_lost(&mut self) -> Vec<Sent> {
        let mut lost = self.take_all(|sent| sent.way == Way::Uncertain);
        lost.retain(|lost| lost.kind == Kind::Message && lost.nick.is_none());
        lost
    }

    /// The nick that the room has been asked for first and has not given yet.
    pub(super) fn nick_change(&self, own: &str) -> Option<&str> {
        let mut changes = self.sent.iter().filter(|sent| sent.changes_nick(own));
        changes.next()?.nick.as_deref()
    }

    /// When something is to be done about that.
    pub(super) fn nick_deadline(&self, own: &str) -> Option<Instant> {
        let mut changes = self.sent.iter().filter(|sent| sent.changes_nick(own));
        let change = changes.next()?;
        let patience = if change.probed {
            NICK_TIMEOUT
        } else {
            NICK_SILENCE
        };
        Some(change.at + patience)
    }

    /// The room has been silent about the first change of nick. Gives the nick if the room is to
    /// be asked for it, once.
    pub(super) fn probe_nick(&mut self, own: &str, now: Instant) -> Option<&str> {
        let silent = |sent: &&mut Sent| {
            sent.changes_nick(own) && !sent.probed && sent.at + NICK_SILENCE <= now
        };
        let change = self.sent.iter_mut().find(silent)?;
        change.probed = true;
        change.nick.as_deref()
    }

    /// The account is `nick` now: the change was answered, whatever id the answer has.
    pub(super) fn nick_changed(&mut self, nick: &str) -> Option<Sent> {
        let change = |sent: &Sent| {
            sent.kind == Kind::Presence
                && sent.nick.as_deref() == Some(nick)
                && sent.way == Way::Sent
        };
        let place = self.sent.iter().position(change)?;
        self.take(place)
    }

    /// Gives up what was to be answered by a presence and was not.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Sent> {
        self.take_all(|sent| {
            let presence = sent.kind == Kind::Presence && sent.way == Way::Sent;
            presence && sent.at + NICK_TIMEOUT <= now
        })
    }

    /// Whether a session's message to the room may be what the room reflects here.
    pub(super) fn may_be_reflected(&self, reflection: &Frame) -> bool {
        let id = reflection.id();
        let is_it = |sent: &Sent| {
            sent.kind == Kind::Message && sent.nick.is_none() && sent.id.as_deref() == id.as_deref()
        };
        id.is_some() && self.sent.iter().any(is_it)
    }

    /// The stanza of a session that this one answers; the entry is used up. Not every service
    /// gives the id of a presence back: without one, it answers the first.
    pub(super) fn answered(&mut self, answer: &Frame, nick: Option<&str>) -> Option<Sent> {
        let id = answer.id();
        let any_id = answer.kind() == Kind::Presence && id.is_none();
        let place = self.sent.iter().position(|sent| {
            sent.kind == answer.kind()
                && sent.nick.as_deref() == nick
                && (any_id || sent.id.as_deref() == id.as_deref())
        })?;
        self.take(place)
    }
}
