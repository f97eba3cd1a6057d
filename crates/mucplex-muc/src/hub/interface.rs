//! What the shell tells a hub, and what a hub tells the shell.

use std::time::{Duration, Instant, SystemTime};

use jid::FullJid;
use mucplex_xml::{Frame, Outgoing};

use crate::persist::Change;
use crate::{RoomJid, SessionId, UplinkId, Urgency};

/// How long joins wait for an anchor that is expected.
pub const ANCHOR_WAIT: Duration = Duration::from_secs(2);

/// The time of an input, given by the shell.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what is due.
    pub instant: Instant,
    /// For the stamps of messages.
    pub wall: SystemTime,
}

/// The operator's settings for rooms.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long an occupancy lives that no session has joined; zero: it leaves with the last.
    pub stay: Duration,
    /// Age of the oldest message that a late joiner may get.
    pub history: Duration,
    /// What becomes of a session that asks for another nick than the account has in the room.
    pub nick_conflict: NickConflict,
    /// Whether the hub tells what is to outlive the process ([`Output::Persist`]).
    pub persist: bool,
    /// Whether the account may have uplinks without sessions ([anchors](Input::AnchorBound)). If
    /// not, it is in its rooms as long as it has sessions.
    pub anchors: bool,
}

impl Policy {
    /// Whether rooms are kept for which there is neither a session nor an uplink.
    pub(crate) fn keeps_rooms(&self) -> bool {
        self.anchors && !self.stay.is_zero()
    }
}

/// What becomes of a session that joins a room under another nick than the account's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NickConflict {
    /// It is told the account's nick with status 210 (XEP-0045 7.2.2).
    #[default]
    Account,
    /// The account takes its nick (XEP-0045 7.6).
    Rename,
    /// It is in the room on its own, as it would be with the server alone.
    Separate,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A session has bound; its own uplink can carry rooms from now on. The uplink may be one that
    /// the hub knows: a former anchor, or one that another session has left. From now on it is this
    /// session's own.
    SessionBound {
        /// The session.
        session: SessionId,
        /// Its own uplink.
        uplink: UplinkId,
        /// The JID the server has bound to it.
        jid: FullJid,
        /// `xml:lang` of the client's stream header.
        client_lang: Option<String>,
    },
    /// A stanza that the session's [`Routes`](crate::Routes) gave to the hub. Portable.
    FromClient {
        /// The session that sent it.
        session: SessionId,
        /// The stanza.
        frame: Frame,
    },
    /// The server has granted or taken back message carbons (XEP-0280 4, 5).
    SessionCarbons {
        /// The session.
        session: SessionId,
        /// Whether it gets copies from now on.
        enabled: bool,
    },
    /// The session sent undirected unavailable: it is detached from its rooms. The shell withholds
    /// that stanza, and what the client sends after it, until [`Output::Release`].
    SessionUnavailable {
        /// The session.
        session: SessionId,
    },
    /// The client is gone for good: stream closed, or connection cut. The shell keeps the uplink
    /// open until [`Output::Release`].
    SessionEnded {
        /// The session.
        session: SessionId,
        /// The client has sent undirected available presence and not taken it back: should its
        /// uplink be [retained](Output::Retain), the shell takes it back.
        available: bool,
        /// If the session was lost: the largest [mark](Output::ToClient) among the stanzas that its
        /// client surely has: with stream management (XEP-0198) those that it has acknowledged,
        /// otherwise those that were written; 0 for none. `None` if the client has ended its stream:
        /// it joins as a stranger when it comes again.
        served: Option<u64>,
    },
    /// What a session was served that has been lost, where that is known only now: the session ended
    /// with its uplink or with the process, or its client tells more than it had acknowledged (the
    /// `h` with which it tries to resume, XEP-0198 5). Precedes the [`SessionBound`](Self::SessionBound)
    /// of the session that follows it.
    Served {
        /// The resource of the session.
        resource: String,
        /// The largest [mark](Output::ToClient) among the stanzas that its client surely has.
        number: u64,
    },
    /// The shell is getting the account an [anchor](Self::AnchorBound) just now, or has stopped
    /// trying. While it does and there is none, first joins of rooms, the joins of dormant rooms and
    /// hand-overs because a carrier leaves wait for it, but no longer than [`ANCHOR_WAIT`] in all;
    /// then sessions' own uplinks do what they can.
    AnchorExpected {
        /// One is on its way.
        expected: bool,
    },
    /// An uplink without a session has bound: all rooms go there, a few at a time. A newer anchor
    /// takes the place of an older one, which is [released](Output::Release) when it carries nothing
    /// and its leaves are confirmed. The shell gives the hub every stanza that comes on it
    /// ([`Input::FromServer`]).
    AnchorBound {
        /// The anchor.
        uplink: UplinkId,
        /// The JID the server has bound to it.
        jid: FullJid,
        /// `xml:lang` of its stream header.
        lang: Option<String>,
    },
    /// The stream of an anchor goes on that a process before this one has had (XEP-0198 5): rooms
    /// that were [settled](crate::SavedRoom::unsettled) on it are as they were, and the
    /// others are joined again on it. As [`AnchorBound`](Self::AnchorBound) in all else. What the
    /// server sends again comes behind this.
    AnchorRestored {
        /// The anchor.
        uplink: UplinkId,
        /// The JID by which the server has known it all the time.
        jid: FullJid,
        /// `xml:lang` of its stream header.
        lang: Option<String>,
    },
    /// The client's connection is lost and may be resumed (XEP-0198 5). The session stays in its
    /// rooms, and what is for it goes on coming: the shell keeps it. As soon as there is an anchor,
    /// the session's own uplink is freed of rooms, and then [released](Output::Release) for the shell
    /// to cut.
    SessionAsleep {
        /// The session.
        session: SessionId,
    },
    /// The client has resumed the session; its uplink may carry rooms again.
    SessionAwake {
        /// The session.
        session: SessionId,
    },
    /// A stanza from the server that the routes gave to the hub. Portable.
    FromServer {
        /// The uplink it came on.
        uplink: UplinkId,
        /// The stanza.
        frame: Frame,
    },
    /// The connection of an uplink is gone, but its stream may be resumed, and the server keeps what
    /// it has joined (XEP-0198 5). It can bring and take nothing now. The shell keeps what is sent on
    /// it, in bounds.
    UplinkSuspended {
        /// The uplink.
        uplink: UplinkId,
    },
    /// The stream goes on where it was; the server sends again what had not arrived.
    UplinkResumed {
        /// The uplink.
        uplink: UplinkId,
    },
    /// The server says that the bookmark of a room is gone, or is not to be joined by itself any more
    /// (XEP-0402; [`ServerRoute::Bookmarks`](crate::ServerRoute::Bookmarks)): an occupancy that no
    /// session has joined ends (behaviour 45).
    BookmarkRetracted {
        /// The room.
        room: RoomJid,
    },
    /// The uplink is gone for good. Its session, if it still had one, is ended by the shell.
    UplinkLost {
        /// The uplink.
        uplink: UplinkId,
    },
    /// The time of [`Hub::next_timeout`] has come.
    Timeout,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Output {
    /// A stanza for a client.
    ToClient {
        /// The session it is for.
        session: SessionId,
        /// The stanza, addressed to the session.
        stanza: Outgoing,
        /// Bytes of it that count against the session's outbox: all of a live stanza, and of a
        /// replay only what was written for this session, since the room keeps the rest anyway.
        owned: usize,
        /// Whether it can wait for a client that is inactive ([`Csi`](crate::Csi)).
        urgency: Urgency,
        /// Who was served this has had everything up to here of all rooms it was in; 0: says nothing.
        /// The marks that one session is sent only grow.
        mark: u64,
    },
    /// A stanza for the server.
    ToServer {
        /// The uplink it goes on.
        uplink: UplinkId,
        /// The stanza.
        stanza: Outgoing,
    },
    /// A change of what is to outlive the process. Those of one input are to be stored together, and
    /// a stanza of the server's is handled when those that came of it are stored.
    Persist(Box<Change>),
    /// From now on what this room sends on this uplink comes to the hub
    /// ([`Routes::carry`](crate::Routes::carry)). Precedes the join on that uplink.
    Carry {
        /// The uplink.
        uplink: UplinkId,
        /// The room.
        room: RoomJid,
    },
    /// Nothing of the hub depends on this uplink any more: what was withheld goes out; the uplink of
    /// a session that has ended, or that was an anchor once, is closed; that of a session that is
    /// asleep is cut, so that the server takes it for one whose client is gone.
    Release {
        /// The uplink.
        uplink: UplinkId,
    },
    /// The uplink of a session that has ended is the account's anchor from now on. Where the client
    /// was available, the shell first sends undirected unavailable on it, by which it leaves all
    /// rooms (RFC 6121 4.6.3); what the hub sends behind that joins them again.
    Retain {
        /// The uplink.
        uplink: UplinkId,
    },
}
