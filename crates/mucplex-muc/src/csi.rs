//! What a session gets while nobody looks at it (XEP-0352).
//!
//! A client that has said `<inactive/>` is sent only what it cannot do without. Presences, and
//! messages that say nothing but a chat state, are held: the last of each sender, in the order in
//! which these came. Anything else sends out all that is held before it goes out itself, so an
//! inactive client sees fewer steps than an active one and otherwise the same (behaviour 65).
//!
//! ```text
//! in    ── bob away ── carol in ── bob xa ── dave composing ── "lunch?" ──
//! out   ───────────────────────── carol in, bob xa, dave composing, "lunch?" ──
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use jid::FullJid;
use memchr::memmem;
use mucplex_xml::{Element, Frame, Kind, Outgoing};

use crate::muc_user::{Status, is_muc_user};
use crate::ns;

/// Counted for each held stanza beside its bytes: its places in the tables.
const PER_STANZA: usize = 256;

/// Whether a stanza can wait while its reader is inactive. Cheap to clone: a fan-out finds it out
/// once for all sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// It cannot, and what is held goes out before it.
    Now,
    /// The presence of this sender, a full JID: only the last one counts.
    Presence(Arc<str>),
    /// A message that has nothing but a chat state (XEP-0085): only the last one of a conversation
    /// counts.
    ChatState(Arc<Conversation>),
}

/// Who says something, and as part of what.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Conversation {
    sender: String,
    /// The type of the message: an occupant speaks to the room and in private.
    kind: Option<String>,
    thread: Option<String>,
}

impl Urgency {
    /// Looks at a stanza as it comes from the server.
    pub fn of(frame: &Frame) -> Self {
        match frame.kind() {
            Kind::Presence => Self::of_presence(frame),
            Kind::Message => Self::of_message(frame),
            Kind::Iq | Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => Self::Now,
        }
    }

    /// Errors answer the session, subscriptions (RFC 6121 3) want an answer of it, and what a room
    /// says of its receiver (XEP-0045 7.2.2) tells it where it stands.
    fn of_presence(frame: &Frame) -> Self {
        let tells_of_somebody =
            matches!(frame.stanza_type().as_deref(), None | Some("unavailable"))
                && !frame.root().children().any(|child| is_of_receiver(&child));
        match frame.from() {
            Some(from) if tells_of_somebody => Self::Presence(from.into()),
            Some(_) | None => Self::Now,
        }
    }

    fn of_message(frame: &Frame) -> Self {
        // Nearly all messages are known by this not to be of that kind.
        static CHAT_STATES: LazyLock<memmem::Finder<'static>> =
            LazyLock::new(|| memmem::Finder::new(ns::CHAT_STATES));
        if CHAT_STATES.find(frame.bytes()).is_none() {
            return Self::Now;
        }
        match Conversation::of_chat_state(frame) {
            Some(conversation) => Self::ChatState(Arc::new(conversation)),
            None => Self::Now,
        }
    }
}

impl Conversation {
    /// The conversation of a message that has a chat state, what servers add to every message, and
    /// nothing else. `None` for any other message.
    fn of_chat_state(frame: &Frame) -> Option<Self> {
        let kind = frame.stanza_type();
        if matches!(kind.as_deref(), Some("error" | "headline")) {
            return None;
        }
        let (mut states, mut thread) = (0, None);
        for child in frame.root().children() {
            match (child.name(), &*child.ns()) {
                (_, ns::CHAT_STATES) => states += 1,
                ("thread", ns::CLIENT) => thread = Some(child.text()),
                ("no-store" | "no-permanent-store" | "no-copy", ns::HINTS)
                | ("stanza-id" | "origin-id", ns::STANZA_ID)
                | ("occupant-id", ns::OCCUPANT_ID) => {}
                // XEP-0045 7.5: the mark of a private message.
                ("x", ns::MUC_USER) if child.children().next().is_none() => {}
                _ => return None,
            }
        }
        let sender = frame.from()?.into_owned();
        let kind = kind.map(Cow::into_owned);
        (states == 1).then_some(Self {
            sender,
            kind,
            thread,
        })
    }
}

/// Status 110, or the end of the room, which not every service marks with it.
fn is_of_receiver(child: &Element<'_>) -> bool {
    let own = Ok(Status::OwnPresence.code());
    is_muc_user(child)
        && child.children().any(|said| {
            let code = said.attr("code").map(|code| code.parse());
            said.is("destroy", ns::MUC_USER)
                || (said.is("status", ns::MUC_USER) && code.as_ref() == Some(&own))
        })
}

/// The client state of one session, and what is held for it. Sans-io: every stanza for the client
/// passes through [`pass`](Self::pass), with a charge that is held and given on with it.
///
/// What is held is bounded in bytes; at the bound it goes out, as by `<active/>`. The state is one
/// of the stream (XEP-0352 5): a stream that is resumed begins active, with nothing held.
#[derive(Debug)]
pub struct Csi<C> {
    own: String,
    inactive: bool,
    /// By place in the order of arrival.
    held: BTreeMap<u64, Held<C>>,
    places: HashMap<Urgency, u64>,
    /// What is held, in bytes.
    size: usize,
    bound: usize,
    next: u64,
}

#[derive(Debug)]
struct Held<C> {
    stanza: Outgoing,
    charge: C,
}

impl<C> Held<C> {
    fn size(&self) -> usize {
        self.stanza.len() + PER_STANZA
    }
}

impl<C> Csi<C> {
    /// A stream of `own` that begins active (XEP-0352 4). `bound`: bytes that may be held.
    pub fn new(own: &FullJid, bound: usize) -> Self {
        Self {
            own: own.to_string(),
            inactive: false,
            held: BTreeMap::new(),
            places: HashMap::new(),
            size: 0,
            bound,
            next: 0,
        }
    }

    /// The urgency of what comes straight from the server. An active client gets everything at
    /// once, so for one nothing is looked at.
    pub fn urgency_of(&self, frame: &Frame) -> Urgency {
        if !self.inactive {
            return Urgency::Now;
        }
        match Urgency::of(frame) {
            // RFC 6121 4.2.2: the server reflects the session's own presence, which answers it.
            Urgency::Presence(from) if *from == *self.own => Urgency::Now,
            urgency => urgency,
        }
    }

    /// A stanza for the client: gives to `write` what goes out now, in order.
    pub fn pass(
        &mut self,
        urgency: Urgency,
        stanza: Outgoing,
        charge: C,
        mut write: impl FnMut(Outgoing, C),
    ) {
        if !self.inactive {
            write(stanza, charge);
            return;
        }
        if urgency == Urgency::Now {
            self.flush(&mut write);
            write(stanza, charge);
            return;
        }
        self.hold(urgency, &stanza, charge);
        if self.size > self.bound {
            self.flush(write);
        }
    }

    /// `<inactive/>`.
    pub fn inactive(&mut self) {
        self.inactive = true;
    }

    /// `<active/>`: what is held goes out.
    pub fn active(&mut self, write: impl FnMut(Outgoing, C)) {
        self.inactive = false;
        self.flush(write);
    }

    /// All that is held goes out, and the client stays as active as it is.
    pub fn flush(&mut self, mut write: impl FnMut(Outgoing, C)) {
        for (_, held) in std::mem::take(&mut self.held) {
            write(held.stanza, held.charge);
        }
        self.forget();
    }

    /// Throws away what is held, for a client that does not read; gives how many stanzas.
    pub fn abandon(&mut self) -> usize {
        let lost = self.held.len();
        self.forget();
        lost
    }

    fn forget(&mut self) {
        self.held.clear();
        self.places.clear();
        self.size = 0;
    }

    /// The last of each sender stands where it came in, and not where the first one did: else it
    /// would overtake what came between.
    fn hold(&mut self, urgency: Urgency, stanza: &Outgoing, charge: C) {
        let place = self.next;
        self.next += 1;
        if let Some(earlier) = self.places.insert(urgency, place)
            && let Some(earlier) = self.held.remove(&earlier)
        {
            self.size -= earlier.size();
        }
        let held = Held {
            stanza: compact(stanza),
            charge,
        };
        self.size += held.size();
        self.held.insert(place, held);
    }
}

/// In memory of its own: a stanza may be held for hours, and the buffer it was read into is large.
fn compact(stanza: &Outgoing) -> Outgoing {
    let mut whole = Vec::with_capacity(stanza.len());
    whole.extend_from_slice(&stanza.head);
    whole.extend_from_slice(&stanza.tail);
    Outgoing::from(Bytes::from(whole))
}
