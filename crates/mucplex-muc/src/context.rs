//! What a room sees of the account around it while it handles one input.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use memchr::memmem;
use mucplex_xml::escape::escape_attribute;
use mucplex_xml::{Frame, Outgoing};

use crate::apart::Apart;
use crate::history::Numbers;
use crate::hub::{Now, Output, Policy};
use crate::persist::Change;
use crate::room::JoinRequest;
use crate::{AccountJid, OccupantJid, RoomJid, SessionId, UplinkId, Urgency};

/// The account's bare JID as it stands in XML, made ready to be looked for in stanzas.
#[derive(Debug)]
pub(crate) struct AccountText {
    pub(crate) text: String,
    finder: memmem::Finder<'static>,
}

impl AccountText {
    pub(crate) fn new(account: &AccountJid) -> Self {
        let text = escape_attribute(&account.to_string()).into_owned();
        let finder = memmem::Finder::new(&text).into_owned();
        Self { text, finder }
    }

    /// A quick look at a stanza's bytes for the account in a second place: its address always has
    /// it.
    pub(crate) fn is_mentioned(&self, frame: &Frame) -> bool {
        self.finder.find_iter(frame.bytes()).nth(1).is_some()
    }
}

/// A session of the account.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its full JID as text, as it is written into every copy.
    pub(crate) address: String,
    pub(crate) uplink: UplinkId,
    /// It has enabled message carbons (XEP-0280 4).
    pub(crate) carbons: bool,
    /// Its client's connection is lost, and may be resumed (XEP-0198 5).
    pub(crate) asleep: bool,
}

/// A stream to the server that can carry rooms.
#[derive(Debug, Default)]
pub(crate) struct Uplink {
    /// The full JID by which the server knows it, as text.
    pub(crate) address: String,
    /// The session whose own uplink this is, while that lives.
    pub(crate) session: Option<SessionId>,
    /// Default language of what is sent on it (RFC 6120 4.7.4).
    pub(crate) lang: Option<String>,
    /// Its session has ended, or a newer anchor has taken its place.
    pub(crate) retired: bool,
    /// Its client's undirected unavailable is withheld.
    pub(crate) withholding: bool,
    /// Its session is asleep, and an anchor is there to carry in its place.
    pub(crate) resting: bool,
    /// It was given back to the shell because its session is asleep.
    pub(crate) cut: bool,
    /// Its connection is gone, and the server keeps what it has joined.
    pub(crate) suspended: bool,
    /// Whom its session has been in rooms that it was in on its own.
    pub(crate) apart: Vec<OccupantJid>,
    /// For the server its session's client was available when that ended.
    pub(crate) available: bool,
}

impl Uplink {
    /// On its way out, for good or for a while: no room may be brought to it.
    pub(crate) fn is_leaving(&self) -> bool {
        self.retired || self.withholding || self.resting || self.cut
    }

    /// Whether it can bring and take what is said in a room, and will.
    pub(crate) fn may_carry(&self) -> bool {
        !self.is_leaving() && !self.suspended
    }

    /// Whether the shell waits for its release.
    pub(crate) fn is_wanted_back(&self) -> bool {
        !self.cut && self.is_leaving()
    }
}

pub(crate) type Sessions = BTreeMap<SessionId, Session>;
pub(crate) type Uplinks = BTreeMap<UplinkId, Uplink>;

/// One input's surroundings: its time, the account's sessions and uplinks, and where outputs go.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) policy: &'a Policy,
    pub(crate) account: &'a AccountText,
    pub(crate) sessions: &'a Sessions,
    pub(crate) uplinks: &'a Uplinks,
    /// The newest anchor, if it can carry.
    pub(crate) anchor: Option<UplinkId>,
    /// There is none, and one may come any moment.
    pub(crate) awaits_anchor: bool,
    /// One more room may be brought from one uplink to another.
    pub(crate) may_move: bool,
    /// When the account may ping the next room of its own accord.
    pub(crate) next_ping: &'a mut Option<Instant>,
    /// Sessions that are in rooms on their own.
    pub(crate) apart: &'a Apart,
    /// Sessions that are to be in this room on their own from now on.
    pub(crate) sets_apart: &'a mut Vec<JoinRequest>,
    pub(crate) outputs: &'a mut VecDeque<Output>,
    /// Number of the next id the proxy gives to a stanza it sends upstream.
    pub(crate) next_id: &'a mut u64,
    pub(crate) numbers: &'a mut Numbers,
}

impl Context<'_> {
    /// The full JID of a session, as text; empty for one that is not known.
    pub(crate) fn address(&self, session: SessionId) -> &str {
        self.sessions
            .get(&session)
            .map_or("", |session| session.address.as_str())
    }

    /// The default language of what a session sends (RFC 6120 4.7.4).
    pub(crate) fn lang_of(&self, session: SessionId) -> Option<&str> {
        self.lang_on(self.uplink_of(session)?)
    }

    /// The default language of what is sent on an uplink.
    pub(crate) fn lang_on(&self, uplink: UplinkId) -> Option<&str> {
        self.uplinks.get(&uplink)?.lang.as_deref()
    }

    /// The uplink of a session.
    pub(crate) fn uplink_of(&self, session: SessionId) -> Option<UplinkId> {
        self.sessions.get(&session).map(|session| session.uplink)
    }

    /// Whether the session's client is there to answer.
    pub(crate) fn is_awake(&self, session: SessionId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|session| !session.asleep)
    }

    /// Whether the connection of this uplink is gone and may come back.
    pub(crate) fn is_suspended(&self, uplink: UplinkId) -> bool {
        self.uplinks
            .get(&uplink)
            .is_some_and(|uplink| uplink.suspended)
    }

    /// Whether the session gets copies of what its siblings say (XEP-0280 4).
    pub(crate) fn wants_carbons(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|it| it.carbons)
    }

    /// A live stanza for a session, addressed to it. One without an address is for whoever gets it
    /// (RFC 6120 8.1.1.1), as servers answer what they cannot read.
    pub(crate) fn deliver(&mut self, session: SessionId, frame: &Frame) {
        self.deliver_as(session, frame, Urgency::Now);
    }

    /// The same for a stanza that may be able to wait.
    pub(crate) fn deliver_as(&mut self, session: SessionId, frame: &Frame, urgency: Urgency) {
        self.deliver_marked(session, frame, urgency, 0);
    }

    /// The same for one that a session can be served up to; 0: for any other.
    pub(crate) fn deliver_marked(
        &mut self,
        session: SessionId,
        frame: &Frame,
        urgency: Urgency,
        mark: u64,
    ) {
        let Some(known) = self.sessions.get(&session) else {
            return;
        };
        let stanza = match frame.to() {
            Some(_) => frame.with_to(&known.address),
            None => Outgoing::from(frame),
        };
        let owned = stanza.len();
        self.outputs.push_back(Output::ToClient {
            session,
            stanza,
            owned,
            urgency,
            mark,
        });
    }

    /// A stanza for a session as it came on that session's own uplink.
    pub(crate) fn pass(&mut self, session: SessionId, frame: &Frame) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        let stanza = Outgoing::from(frame);
        let owned = stanza.len();
        self.outputs.push_back(Output::ToClient {
            session,
            stanza,
            owned,
            urgency: Urgency::Now,
            mark: 0,
        });
    }

    /// A stanza for a session out of what the room keeps: only the part written for this session
    /// is its own.
    pub(crate) fn replay(&mut self, session: SessionId, frame: &Frame) {
        self.replay_marked(session, frame, 0);
    }

    /// The same for a stanza that a session can be served up to.
    pub(crate) fn replay_marked(&mut self, session: SessionId, frame: &Frame, mark: u64) {
        let Some(known) = self.sessions.get(&session) else {
            return;
        };
        let stanza = frame.with_to(&known.address);
        let owned = stanza.head.len();
        self.outputs.push_back(Output::ToClient {
            session,
            stanza,
            owned,
            urgency: Urgency::Now,
            mark,
        });
    }

    /// Bytes of our own for a session.
    pub(crate) fn tell(&mut self, session: SessionId, bytes: Bytes) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        let owned = bytes.len();
        self.outputs.push_back(Output::ToClient {
            session,
            stanza: Outgoing::from(bytes),
            owned,
            urgency: Urgency::Now,
            mark: 0,
        });
    }

    /// Bytes for the server.
    pub(crate) fn send(&mut self, uplink: UplinkId, stanza: impl Into<Outgoing>) {
        self.outputs.push_back(Output::ToServer {
            uplink,
            stanza: stanza.into(),
        });
    }

    /// A session's stanza for the server on the uplink that carries its room.
    pub(crate) fn send_for(&mut self, session: SessionId, carrier: UplinkId, frame: &Frame) {
        let stanza = self.for_carrier(session, carrier, frame);
        self.send(carrier, &stanza);
    }

    /// A session's stanza as it goes on the uplink `carrier`.
    pub(crate) fn for_carrier(
        &self,
        session: SessionId,
        carrier: UplinkId,
        frame: &Frame,
    ) -> Frame {
        let own = self.uplink_of(session);
        if own == Some(carrier) {
            return frame.clone();
        }
        crate::stanza::for_carrier(frame, self.lang_of(session), self.lang_on(carrier))
    }

    /// The uplink begins to carry the room.
    pub(crate) fn carry(&mut self, uplink: UplinkId, room: &RoomJid) {
        self.outputs.push_back(Output::Carry {
            uplink,
            room: room.clone(),
        });
    }

    /// A fresh number for a message or a mark.
    pub(crate) fn number_of(&mut self, message: &Frame) -> (u64, u64) {
        self.numbers.of_message(message, self.now.wall)
    }

    /// A number for what is no message.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers.next(self.now.wall)
    }

    /// The resource by which a session is bound; empty for one that is not known.
    pub(crate) fn resource(&self, session: SessionId) -> &str {
        let address = self.address(session).split_once('/');
        address.map_or("", |(_, resource)| resource)
    }

    /// A change of what outlives the process.
    pub(crate) fn persist(&mut self, change: Change) {
        self.outputs.push_back(Output::Persist(Box::new(change)));
    }

    /// The number of an id for a stanza the proxy sends in a session's name. Answers count only
    /// from where the stanza went, so the ids need to be distinct, not secret.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        *self.next_id += 1;
        *self.next_id
    }
}
