//! The stanzas that sessions have sent into the room and that are not answered yet.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mucplex_xml::{Frame, Kind};

use crate::{SessionId, UplinkId, ns};

/// How many stanzas may wait for their reflection or error in one room. Private messages are
/// never reflected, so entries also leave by age of arrival.
const MOST_IN_FLIGHT: usize = 256;
/// How many bytes of them are kept whole.
const MOST_KEPT_BYTES: usize = 256 * 1024;
/// How long a room that the account is no longer in may take to answer what came before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
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
    /// The stream it went on: an error counts only from there.
    uplink: UplinkId,
    /// The stanza itself, while there is space to keep it: what may have to be sent once more.
    pub(super) frame: Option<Frame>,
    /// It was sent once more already.
    pub(super) repeated: bool,
    /// A change of nick of which the room has been silent, and was asked for the new one.
    probed: bool,
    /// The session does not wait for the answer any more.
    pub(super) disowned: bool,
    /// The carrier of a room that is over, on which the answer is to come.
    over_on: Option<UplinkId>,
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
    /// To a room that the account is no longer in, or is leaving: no presence can answer it.
    Over,
}

impl Sent {
    /// Whether it asks the room for another nick than `own`, the one at present.
    fn asks_for_nick(&self, own: &str) -> bool {
        self.kind == Kind::Presence && self.nick.as_deref().is_some_and(|nick| nick != own)
    }

    /// The room may still answer it, or is to get it.
    fn is_open(&self) -> bool {
        matches!(self.way, Way::Held | Way::Sent)
    }

    /// A change of nick that the room has yet to answer.
    fn changes_nick(&self, own: &str) -> bool {
        self.way == Way::Sent && self.asks_for_nick(own)
    }

    fn bodies(&self) -> Option<Vec<String>> {
        self.frame.as_ref().map(bodies)
    }

    /// A message to everybody.
    pub(super) fn is_groupchat(&self) -> bool {
        let kind = self.frame.as_ref().and_then(Frame::stanza_type);
        kind.as_deref() == Some("groupchat")
    }

    pub(super) fn is_presence(&self) -> bool {
        self.kind == Kind::Presence
    }

    fn bytes(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.bytes().len())
    }
}

impl InFlight {
    /// Notes what a session has sent to the occupant `nick`, or to the room. Of the oldest ones no
    /// more is kept than by whom they were sent, where the space is needed.
    pub(super) fn note(
        &mut self,
        now: Instant,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
        way: Way,
        uplink: UplinkId,
    ) {
        if self.sent.len() >= MOST_IN_FLIGHT {
            self.take(0);
        }
        let size = frame.bytes().len();
        let keeps = size <= MOST_KEPT_BYTES;
        if keeps {
            self.make_space(size);
            self.kept += size;
        }
        self.sent.push_back(Sent {
            kind: frame.kind(),
            nick: nick.map(str::to_owned),
            id: frame.id().map(Cow::into_owned),
            session,
            at: now,
            way,
            uplink,
            frame: keeps.then(|| frame.compact()),
            repeated: false,
            probed: false,
            disowned: false,
            over_on: None,
        });
    }

    fn make_space(&mut self, size: usize) {
        for sent in &mut self.sent {
            if self.kept + size <= MOST_KEPT_BYTES {
                return;
            }
            self.kept -= sent.bytes();
            sent.frame = None;
        }
    }

    /// The latest one was sent before.
    pub(super) fn mark_repeated(&mut self) {
        if let Some(last) = self.sent.back_mut() {
            last.repeated = true;
        }
    }

    /// No session waits for the answer to the latest one.
    pub(super) fn mark_disowned(&mut self) {
        if let Some(last) = self.sent.back_mut() {
            last.disowned = true;
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

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether the answer to any is to come on this uplink.
    pub(super) fn waits_on(&self, uplink: UplinkId) -> bool {
        self.sent.iter().any(|sent| sent.uplink == uplink)
    }

    /// When the oldest is to be forgotten, if the account is no longer in the room.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.iter().map(|sent| sent.at + ANSWER_TIMEOUT).min()
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.take_all(|sent| sent.at + ANSWER_TIMEOUT <= now);
    }

    /// What was held has gone out.
    pub(super) fn flushed(&mut self, now: Instant, uplink: UplinkId) {
        for held in self.sent.iter_mut().filter(|sent| sent.way == Way::Held) {
            (held.way, held.at, held.uplink) = (Way::Sent, now, uplink);
        }
    }

    /// What was held for this session is not sent after all, and the session is told.
    /// Gives whether it still waits for an answer.
    pub(super) fn not_sent(&mut self, session: SessionId, frame: &Frame) -> bool {
        let id = frame.id();
        let place = self.sent.iter().position(|sent| {
            let same = sent.kind == frame.kind() && sent.id.as_deref() == id.as_deref();
            sent.way == Way::Held && sent.session == session && same
        });
        let held = place.and_then(|place| self.take(place));
        held.is_none_or(|held| !held.disowned)
    }

    /// The uplink is lost; nobody knows what of this has reached the room.
    pub(super) fn lost(&mut self, uplink: UplinkId) {
        let on_it =
            |sent: &&mut Sent| sent.uplink == uplink && matches!(sent.way, Way::Sent | Way::Over);
        for sent in self.sent.iter_mut().filter(on_it) {
            sent.way = Way::Uncertain;
        }
    }

    /// The account is not in the room any more. Sessions that have asked for a nick in order to join
    /// are `joining` anew, and do not wait for that one.
    pub(super) fn over(&mut self, carrier: UplinkId, joining: impl Fn(SessionId, &str) -> bool) {
        for sent in &mut self.sent {
            sent.way = Way::Over;
            sent.over_on.get_or_insert(carrier);
            let nick = sent.nick.as_deref().filter(|_| sent.kind == Kind::Presence);
            sent.disowned |= nick.is_some_and(|nick| joining(sent.session, nick));
        }
    }

    /// Whether this error answers what was sent on the same uplink before the account was out.
    pub(super) fn is_of_before(&self, error: &Frame, nick: Option<&str>, uplink: UplinkId) -> bool {
        let id = error.id();
        self.sent.iter().any(|sent| {
            sent.over_on == Some(uplink)
                && sent.kind == error.kind()
                && sent.nick.as_deref() == nick
                && sent.id.as_deref() == id.as_deref()
        })
    }

    /// A session has asked for this nick in order to join, and wants to join no more.
    pub(super) fn disown(&mut self, session: SessionId, nick: &str) {
        for sent in &mut self.sent {
            let asked = sent.session == session && sent.nick.as_deref() == Some(nick);
            sent.disowned |= asked && sent.kind == Kind::Presence;
        }
    }

    /// Takes out the messages to the room, and the presences, that were lost with a carrier.
    pub(super) fn take_lost(&mut self) -> Vec<Sent> {
        let mut lost = self.take_all(|sent| sent.way == Way::Uncertain);
        lost.retain(|lost| match lost.kind {
            Kind::Message => lost.nick.is_none(),
            kind => kind == Kind::Presence,
        });
        lost
    }

    /// Whether a change of nick is under way, or is to go out.
    pub(super) fn changes_nick(&self, own: &str) -> bool {
        let mut open = self.sent.iter().filter(|sent| sent.is_open());
        open.any(|sent| sent.asks_for_nick(own))
    }

    /// The nick that the room has been asked for first and has not given yet.
    pub(super) fn nick_change(&self, own: &str) -> Option<&str> {
        let mut changes = self.sent.iter().filter(|sent| sent.changes_nick(own));
        changes.next()?.nick.as_deref()
    }

    /// Whether the room has been, or is to be, asked for this nick and has not answered.
    pub(super) fn asks_for(&self, nick: &str) -> bool {
        let mut open = self.sent.iter().filter(|sent| sent.is_open());
        open.any(|sent| sent.kind == Kind::Presence && sent.nick.as_deref() == Some(nick))
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
        let place = self.place_of(answer, nick, |_| true)?;
        self.take(place)
    }

    /// The same for an error that has come on this uplink.
    pub(super) fn refused(
        &mut self,
        error: &Frame,
        nick: Option<&str>,
        uplink: UplinkId,
    ) -> Option<Sent> {
        let place = self.place_of(error, nick, |sent| sent.uplink == uplink)?;
        self.take(place)
    }

    fn place_of(
        &self,
        answer: &Frame,
        nick: Option<&str>,
        may: impl Fn(&Sent) -> bool,
    ) -> Option<usize> {
        let id = answer.id();
        let any_id = answer.kind() == Kind::Presence && id.is_none();
        let error = answer.stanza_type().as_deref() == Some("error");
        self.sent.iter().position(|sent| {
            sent.kind == answer.kind()
                && (error || sent.way != Way::Over || sent.kind == Kind::Message)
                && sent.nick.as_deref() == nick
                && (any_id || sent.id.as_deref() == id.as_deref())
                && may(sent)
        })
    }

    /// The room has reflected a message of a session. Not every service gives its id back: then
    /// it is the first that says the same.
    pub(super) fn reflected(&mut self, reflection: &Frame) {
        if self.answered(reflection, None).is_some() {
            return;
        }
        let said = bodies(reflection);
        let place = self.sent.iter().position(|sent| {
            let to_room = sent.kind == Kind::Message && sent.nick.is_none();
            to_room && sent.way != Way::Held && sent.bodies().as_ref() == Some(&said)
        });
        if let Some(place) = place {
            self.take(place);
        }
    }
}

fn bodies(message: &Frame) -> Vec<String> {
    let root = message.root();
    let bodies = root.children().filter(|child| child.is("body", ns::CLIENT));
    bodies.map(|body| body.text()).collect()
}
