//! Which path a stanza of one session takes: straight through, or by way of the account's hub.
//!
//! A session's task owns its [`Routes`]; nothing here is shared, so the plain path asks nobody.
//! The table only grows while the session lives. That is what keeps it free of races: a room the
//! session has once asked to join is the hub's business for good, and the hub, which alone knows
//! whether the session is in it at this moment, decides stanza by stanza.

use std::collections::HashSet;

use bytes::Bytes;
use jid::{FullJid, Jid};
use mucplex_xml::{Element, Frame, Kind, StreamErrorCondition};

use crate::identity::{RoomAddress, bare_part, normal_bare};
use crate::room::{Carbon, number_of};
use crate::{Passthrough, RoomJid, bookmarks, ns, stanza};

/// Requests for carbons that may be under way on one stream; and for changes of bookmarks.
const CARBONS_REQUESTS: usize = 16;
const BOOKMARK_REQUESTS: usize = 64;
/// Requests of a client under way whose ids look like the proxy's.
const LOOKALIKES: usize = 64;
/// How many different rooms one session may ask for; a bound on memory, far above any use.
const ROOMS_PER_SESSION: usize = 10_000;

/// The path of a frame from the client.
#[derive(Debug)]
pub enum ClientRoute {
    /// To the server as the bytes that arrived.
    Direct,
    /// To the account's hub.
    Hub,
    /// Undirected unavailable of a session that has to do with rooms: the hub is told
    /// ([`Input::SessionUnavailable`](crate::Input::SessionUnavailable)), and this frame and all
    /// later input of the client wait for [`Output::Release`](crate::Output::Release).
    Withhold,
    /// Not passed on; this goes back to the client.
    Answer(Bytes),
    /// The client says whether somebody looks at it (XEP-0352): for [`Csi`](crate::Csi).
    ClientState {
        /// `<active/>`, not `<inactive/>`.
        active: bool,
        /// The server is told as well, with the bytes that arrived.
        upstream: bool,
    },
    /// Not passed on, and the protocol knows no answer to it (XEP-0352).
    Consumed,
    /// The client's stream ends with this error.
    Refuse(StreamErrorCondition, &'static str),
}

/// The path of a frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerRoute {
    /// To the client as the bytes that arrived.
    Direct,
    /// To the account's hub.
    Hub,
    /// As `Direct`, and the hub is told that the session gets carbons from now on, or none
    /// ([`Input::SessionCarbons`](crate::Input::SessionCarbons)).
    Carbons(bool),
    /// As `Direct`, and the hub is told of each of these rooms that its bookmark is gone
    /// ([`Input::BookmarkRetracted`](crate::Input::BookmarkRetracted)).
    Bookmarks(Vec<RoomJid>),
}

/// What routes depend on beside the session itself.
#[derive(Clone, Debug, Default)]
pub struct RouteSettings {
    /// The server of the uplink offers XEP-0352. The proxy offers it to the client in any case.
    pub server_csi: bool,
    /// Rooms that are none of the hub's business.
    pub passthrough: Passthrough,
}

/// The rooms that one session and its uplink have to do with.
#[derive(Debug)]
pub struct Routes {
    settings: RouteSettings,
    own: Jid,
    own_full: String,
    own_bare: String,
    /// Rooms the client has asked to join, normalised.
    asked: HashSet<String>,
    /// Rooms whose traffic on the uplink is the hub's, normalised.
    carried: HashSet<String>,
    /// The client has told that nobody looks (XEP-0352), and the server knows.
    server_thinks_inactive: bool,
    /// Ids of the client's own requests that look like the proxy's.
    lookalikes: Vec<String>,
    /// Requests for carbons, or for none, that the server has not answered: ids.
    carbons_asked: Vec<(String, bool)>,
    /// Requests that give up bookmarks, and that the server has not answered: ids and rooms.
    bookmarks_asked: Vec<(String, Vec<RoomJid>)>,
}

impl Routes {
    /// The table of a session that has just bound as `own`.
    pub fn new(own: FullJid, settings: RouteSettings) -> Self {
        Self {
            settings,
            own_full: own.to_string(),
            own_bare: own.to_bare().to_string(),
            own: own.into(),
            asked: HashSet::new(),
            carried: HashSet::new(),
            server_thinks_inactive: false,
            lookalikes: Vec::new(),
            carbons_asked: Vec::new(),
            bookmarks_asked: Vec::new(),
        }
    }

    /// Finds the path of a frame from the client, and notes the rooms it asks to join.
    pub fn from_client(&mut self, frame: &Frame) -> ClientRoute {
        match frame.kind() {
            Kind::Message | Kind::Presence | Kind::Iq => {
                if !self.is_own(frame) {
                    // RFC 6120 8.1.2.1: a `from` that is not the session's own ends the stream.
                    return ClientRoute::Refuse(
                        StreamErrorCondition::InvalidFrom,
                        "from is not the JID of this session",
                    );
                }
                self.note_lookalike(frame);
                self.route_stanza(frame)
            }
            Kind::StreamError | Kind::StreamFeatures => ClientRoute::Direct,
            Kind::Nonza => self.route_nonza(frame),
        }
    }

    /// Finds the path of a frame from the server.
    pub fn from_server(&mut self, frame: &Frame) -> ServerRoute {
        if let Some(enabled) = self.grants_carbons(frame) {
            return ServerRoute::Carbons(enabled);
        }
        let unmarked = self.gives_up_bookmarks(frame);
        if !unmarked.is_empty() {
            return ServerRoute::Bookmarks(unmarked);
        }
        if self.answers_older_stream(frame) {
            return ServerRoute::Hub;
        }
        if self.carried.is_empty() && self.asked.is_empty() {
            return ServerRoute::Direct;
        }
        match frame.kind() {
            Kind::Message | Kind::Presence | Kind::Iq => match frame.from() {
                Some(from) if contains(&self.carried, &from) => ServerRoute::Hub,
                // A room that another uplink carries has nothing to say on this one, unless the
                // server takes it for an older stream of the same full JID (ejabberd 23.01): what
                // that one was owed, and its leave, are not for this session.
                Some(from) if contains(&self.asked, &from) => ServerRoute::Hub,
                Some(from) if *from == self.own_bare && self.copies_room_message(frame) => {
                    ServerRoute::Hub
                }
                Some(_) | None => ServerRoute::Direct,
            },
            Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => ServerRoute::Direct,
        }
    }

    /// Whether this answers what the proxy has asked on an older stream of the same full JID, which
    /// the server takes this one for. The hub knows that it is too late.
    fn answers_older_stream(&mut self, frame: &Frame) -> bool {
        let answers = || matches!(frame.stanza_type().as_deref(), Some("result" | "error"));
        if frame.kind() != Kind::Iq || number_of(frame).is_none() || !answers() {
            return false;
        }
        let id = frame.id().unwrap_or_default();
        match self.lookalikes.iter().position(|own| *own == *id) {
            Some(own) => {
                self.lookalikes.swap_remove(own);
                false
            }
            None => frame.from().is_some_and(|from| from.contains('/')),
        }
    }

    /// The uplink begins to carry `room`. Gives what the server must get before the join, if
    /// anything: a server holds back traffic of an uplink it takes for inactive (XEP-0352), and
    /// what a carrier gets is wanted by sessions that are not.
    pub fn carry(&mut self, room: &RoomJid) -> Option<Bytes> {
        self.carried.insert(room.to_string());
        std::mem::take(&mut self.server_thinks_inactive).then(stanza::csi_active)
    }

    /// Whether the uplink carries, or has carried, any room. Such an uplink never stops being
    /// read: its frames belong to other sessions too.
    pub fn carries(&self) -> bool {
        !self.carried.is_empty()
    }

    /// RFC 6120 8.1.2.1: a client may leave `from` out, or give its full or bare JID.
    fn is_own(&self, frame: &Frame) -> bool {
        let Some(from) = frame.from() else {
            return true;
        };
        if *from == self.own_full || *from == self.own_bare {
            return true;
        }
        let Ok(from) = Jid::new(&from) else {
            return false;
        };
        match from.resource() {
            Some(_) => from == self.own,
            None => from.to_bare() == self.own.to_bare(),
        }
    }

    /// A client may give its own requests ids like the proxy's.
    fn note_lookalike(&mut self, frame: &Frame) {
        let asks = || matches!(frame.stanza_type().as_deref(), Some("get" | "set"));
        if frame.kind() == Kind::Iq && number_of(frame).is_some() && asks() {
            if self.lookalikes.len() == LOOKALIKES {
                self.lookalikes.remove(0);
            }
            self.lookalikes
                .push(frame.id().unwrap_or_default().into_owned());
        }
    }

    fn route_stanza(&mut self, frame: &Frame) -> ClientRoute {
        let Some(to) = frame.to() else {
            return self.route_undirected(frame);
        };
        if contains(&self.asked, &to) || contains(&self.carried, &to) {
            return ClientRoute::Hub;
        }
        // What somebody has asked an anchor of the account goes back there (behaviour 76).
        if frame.kind() == Kind::Iq
            && matches!(frame.stanza_type().as_deref(), Some("result" | "error"))
            && number_of(frame).is_some()
        {
            return ClientRoute::Hub;
        }
        if frame.kind() == Kind::Iq && *to == *self.own_bare {
            return self.route_undirected_iq(frame);
        }
        if !asks_to_join(frame) {
            return ClientRoute::Direct;
        }
        match RoomAddress::parse(&to) {
            Some(RoomAddress {
                room,
                nick: Some(_),
            }) => {
                if self.settings.passthrough.has(&room) {
                    return ClientRoute::Direct;
                }
                if self.asked.len() >= ROOMS_PER_SESSION {
                    return ClientRoute::Answer(stanza::error_to_client(
                        frame,
                        &stanza::StanzaError::RESOURCE_CONSTRAINT,
                    ));
                }
                self.asked.insert(room.to_string());
                ClientRoute::Hub
            }
            // XEP-0045 7.2.1: without a nick it is no join; the server says so itself.
            Some(RoomAddress { nick: None, .. }) | None => ClientRoute::Direct,
        }
    }

    fn route_undirected(&mut self, frame: &Frame) -> ClientRoute {
        match frame.kind() {
            Kind::Presence
                if frame.stanza_type().as_deref() == Some("unavailable")
                    && !(self.asked.is_empty() && self.carried.is_empty()) =>
            {
                ClientRoute::Withhold
            }
            Kind::Iq => self.route_undirected_iq(frame),
            Kind::Message
            | Kind::Presence
            | Kind::StreamError
            | Kind::StreamFeatures
            | Kind::Nonza => ClientRoute::Direct,
        }
    }

    fn route_undirected_iq(&mut self, frame: &Frame) -> ClientRoute {
        let root = frame.root();
        if frame.stanza_type().as_deref() != Some("set") {
            return ClientRoute::Direct;
        }
        // A second resource on the same stream would make stanzas whose `to` the proxy takes for
        // somebody else's (RFC 6120 7.1 leaves it to the server to allow only one).
        if root.child("bind", ns::BIND).is_some() {
            return ClientRoute::Answer(stanza::error_to_client(
                frame,
                &stanza::StanzaError::NOT_ALLOWED,
            ));
        }
        self.note_carbons_request(frame);
        self.note_bookmark_request(frame);
        ClientRoute::Direct
    }

    /// XEP-0402 5: a client changes its own bookmarks.
    fn note_bookmark_request(&mut self, frame: &Frame) {
        let rooms = bookmarks::given_up(frame);
        if !rooms.is_empty()
            && self.bookmarks_asked.len() < BOOKMARK_REQUESTS
            && let Some(id) = frame.id()
        {
            self.bookmarks_asked.push((id.into_owned(), rooms));
        }
    }

    /// The rooms that are bookmarked no more by what the server says here: by its answer to such a
    /// request, or of itself.
    fn gives_up_bookmarks(&mut self, frame: &Frame) -> Vec<RoomJid> {
        match frame.kind() {
            Kind::Message if frame.from().as_deref() == Some(&*self.own_bare) => {
                bookmarks::told(frame)
            }
            Kind::Iq if !self.bookmarks_asked.is_empty() && self.is_of_account(frame) => {
                let asked = self.bookmarks_asked.iter();
                let id = frame.id();
                let mut asked = asked.map(|(asked, _)| Some(&**asked) == id.as_deref());
                let Some(place) = asked.position(|it| it) else {
                    return Vec::new();
                };
                let (_, rooms) = self.bookmarks_asked.swap_remove(place);
                let accepted = frame.stanza_type().as_deref() == Some("result");
                if accepted { rooms } else { Vec::new() }
            }
            Kind::Message
            | Kind::Presence
            | Kind::Iq
            | Kind::StreamError
            | Kind::StreamFeatures
            | Kind::Nonza => Vec::new(),
        }
    }

    /// Whether an answer is the account's own server's: only that sends from its bare JID.
    fn is_of_account(&self, answer: &Frame) -> bool {
        let own = |from| from == self.own_bare || from == self.own_full;
        answer.from().as_deref().is_none_or(own)
    }

    /// XEP-0280 4 and 5: a client asks its own account for copies, or for none any more.
    fn note_carbons_request(&mut self, frame: &Frame) {
        let root = frame.root();
        let enables = root.child("enable", ns::CARBONS).is_some();
        if !enables && root.child("disable", ns::CARBONS).is_none() {
            return;
        }
        if self.carbons_asked.len() < CARBONS_REQUESTS
            && let Some(id) = frame.id()
        {
            self.carbons_asked.push((id.into_owned(), enables));
        }
    }

    /// The answer to such a request; only the account's own server sends from its bare JID.
    fn grants_carbons(&mut self, frame: &Frame) -> Option<bool> {
        if self.carbons_asked.is_empty() || frame.kind() != Kind::Iq {
            return None;
        }
        if !self.is_of_account(frame) {
            return None;
        }
        let id = frame.id()?;
        let place = self
            .carbons_asked
            .iter()
            .position(|(asked, _)| *asked == *id)?;
        let (_, enabled) = self.carbons_asked.swap_remove(place);
        (frame.stanza_type().as_deref() == Some("result")).then_some(enabled)
    }

    /// Whether the server's copy of a message (XEP-0280 7) is of one between the account and a room
    /// it is in by way of the hub.
    fn copies_room_message(&self, frame: &Frame) -> bool {
        let carbon = Carbon::read(frame);
        carbon.is_some_and(|carbon| {
            contains(&self.asked, &carbon.peer) || contains(&self.carried, &carbon.peer)
        })
    }

    fn route_nonza(&mut self, frame: &Frame) -> ClientRoute {
        match (frame.ns(), frame.name()) {
            // XEP-0198 counts stanzas of one stream; the proxy adds and takes out some, so the
            // server's counters must never meet the client's.
            (ns::SM, "enable" | "resume") => ClientRoute::Answer(stanza::sm_failed()),
            (ns::SM, _) => ClientRoute::Refuse(
                StreamErrorCondition::UnsupportedStanzaType,
                "stream management is not enabled",
            ),
            (ns::COMPRESS, _) => ClientRoute::Answer(stanza::compression_failed()),
            (ns::CSI, "active") => self.route_client_state(true),
            (ns::CSI, "inactive") => self.route_client_state(false),
            (ns::CSI, _) => ClientRoute::Consumed,
            _ => ClientRoute::Direct,
        }
    }

    /// An uplink that carries rooms is active for the server: others live by it, too.
    fn route_client_state(&mut self, active: bool) -> ClientRoute {
        let upstream = self.settings.server_csi && !self.carries();
        if upstream {
            self.server_thinks_inactive = !active;
        }
        ClientRoute::ClientState { active, upstream }
    }
}

/// XEP-0045 7.2.1: a presence to an occupant JID with the muc element asks to enter.
pub(crate) fn asks_to_join(frame: &Frame) -> bool {
    frame.kind() == Kind::Presence && frame.stanza_type().is_none() && muc_element(frame).is_some()
}

/// The `<x xmlns='http://jabber.org/protocol/muc'/>` of a presence.
pub(crate) fn muc_element(frame: &Frame) -> Option<Element<'_>> {
    frame.root().child("x", ns::MUC)
}

fn contains(rooms: &HashSet<String>, address: &str) -> bool {
    if rooms.is_empty() {
        return false;
    }
    let bare = bare_part(address);
    rooms.contains(bare) || normal_bare(bare).is_some_and(|normal| rooms.contains(&*normal))
}
