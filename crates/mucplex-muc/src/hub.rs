//! One account's sessions, uplinks and rooms: the one owner of its room state.
//!
//! `uplinks` has how sessions and uplinks come and go, `doorstep` the first joins that wait for an
//! anchor, `others` what is sent to an anchor's full JID.
//!
//! The hub takes inputs and gives outputs; it knows no socket and no clock. Every input is handled
//! to its end before the next, so what one stanza causes is never mixed with what another does.

mod doorstep;
mod interface;
mod others;
mod restore;
mod timers;
mod uplinks;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use mucplex_xml::Frame;

use crate::apart::Apart;
use crate::context::{AccountText, Context, Sessions, Uplinks};
use crate::history::Numbers;
use crate::identity::RoomAddress;
use crate::persist::SavedRoom;
use crate::plain::{Plain, wants_answer};
use crate::room::{Carbon, JoinRequest, Room, is_late_answer};
use crate::routes::asks_to_join;
use crate::stanza::{StanzaError, error_to_server};
use crate::{AccountJid, RoomJid, SessionId, UplinkId, Urgency};

use doorstep::Doorsteps;
pub use interface::{ANCHOR_WAIT, Input, NickConflict, Now, Output, Policy};
use others::Others;
use timers::Timers;

/// How many rooms of an account may be on their way from one uplink to another at a time, where
/// nothing is lost by waiting.
const MOST_MOVING: usize = 8;

/// Borrows the parts of a hub that a room sees, and leaves the rooms themselves free.
macro_rules! context {
    ($hub:expr, $now:expr) => {{
        let (anchor, awaits_anchor) = ($hub.anchor(), $hub.awaits_anchor($now.instant));
        Context {
            now: $now,
            anchor,
            awaits_anchor,
            may_move: $hub.moving.len() < MOST_MOVING,
            next_ping: &mut $hub.next_ping,
            policy: &$hub.policy,
            account: &$hub.account_text,
            sessions: &$hub.sessions,
            uplinks: &$hub.uplinks,
            apart: &$hub.apart,
            sets_apart: &mut $hub.sets_apart,
            outputs: &mut $hub.outputs,
            next_id: &mut $hub.next_id,
            numbers: &mut $hub.numbers,
        }
    }};
}
use context;

/// The one owner of an account's room state.
///
/// Feed it with [`handle`](Self::handle), then take outputs with
/// [`poll_output`](Self::poll_output) until there are none, and come back at
/// [`next_timeout`](Self::next_timeout) at the latest.
#[derive(Debug)]
pub struct Hub {
    account: AccountJid,
    account_bare: String,
    account_text: AccountText,
    policy: Policy,
    sessions: Sessions,
    uplinks: Uplinks,
    rooms: HashMap<RoomJid, Room>,
    apart: Apart,
    plain: Plain,
    /// Joins of sessions that are to be in a room on their own.
    sets_apart: Vec<JoinRequest>,
    timers: Timers,
    outputs: VecDeque<Output>,
    next_id: u64,
    numbers: Numbers,
    /// Rooms that a process before this one was about to enter or to leave when it ended.
    ghosts: BTreeMap<RoomJid, Box<SavedRoom>>,
    /// The account's anchors, the newest last; all others are on their way out.
    anchors: Vec<UplinkId>,
    /// Until when joins wait for an anchor.
    awaited_until: Option<Instant>,
    doorsteps: Doorsteps,
    others: Others,
    /// Rooms that go from one uplink to another just now, and those that are to follow.
    moving: BTreeSet<RoomJid>,
    to_move: BTreeSet<RoomJid>,
    /// When the account may ping the next room of its own accord.
    next_ping: Option<Instant>,
}

impl Hub {
    /// The hub of an account without sessions.
    pub fn new(account: AccountJid, policy: Policy) -> Self {
        Self {
            account_text: AccountText::new(&account),
            account_bare: account.to_string(),
            account,
            policy,
            sessions: Sessions::new(),
            uplinks: Uplinks::new(),
            rooms: HashMap::new(),
            apart: Apart::default(),
            plain: Plain::default(),
            sets_apart: Vec::new(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            next_id: 0,
            numbers: Numbers::default(),
            ghosts: BTreeMap::new(),
            anchors: Vec::new(),
            awaited_until: None,
            doorsteps: Doorsteps::default(),
            others: Others::default(),
            moving: BTreeSet::new(),
            to_move: BTreeSet::new(),
            next_ping: None,
        }
    }

    /// The account.
    pub fn account(&self) -> &AccountJid {
        &self.account
    }

    /// Takes one input; what it causes is then taken with [`poll_output`](Self::poll_output).
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::SessionBound {
                session,
                uplink,
                jid,
                client_lang,
            } => {
                self.session_bound(now, session, uplink, &jid, client_lang);
            }
            Input::FromClient { session, frame } => self.client_stanza(now, session, &frame),
            Input::FromServer { uplink, frame } => self.server_stanza(now, uplink, &frame),
            Input::SessionCarbons { session, enabled } => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.carbons = enabled;
                }
            }
            Input::SessionUnavailable { session } => self.session_away(now, session),
            Input::SessionEnded {
                session,
                available,
                served,
            } => {
                self.session_ended(now, session, available, served);
            }
            Input::Served { resource, number } => self.served(now, &resource, number),
            Input::SessionAsleep { session } => self.session_asleep(now, session, true),
            Input::SessionAwake { session } => self.session_asleep(now, session, false),
            Input::AnchorExpected { expected } => self.anchor_expected(now, expected),
            Input::AnchorBound { uplink, jid, lang } => self.anchor_bound(now, uplink, &jid, lang),
            Input::AnchorRestored { uplink, jid, lang } => {
                self.anchor_restored(now, uplink, &jid, lang);
            }
            Input::UplinkSuspended { uplink } => self.uplink_suspended(now, uplink, true),
            Input::UplinkResumed { uplink } => self.uplink_suspended(now, uplink, false),
            Input::UplinkLost { uplink } => self.uplink_lost(now, uplink),
            Input::BookmarkRetracted { room } => self.with_room(now, &room, Room::unbookmarked),
            Input::Timeout => self.timeout(now),
        }
        self.settle_others(now);
        self.release_what_is_free(now);
        self.move_what_waits(now);
    }

    fn timeout(&mut self, now: Now) {
        if self.awaited_until.is_some_and(|until| until <= now.instant) {
            self.awaited_until = None;
            self.waited_enough(now);
        }
        for room in self.timers.due(now.instant) {
            self.with_room(now, &room, Room::timeout);
        }
    }

    /// The next thing to do; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due, if at all.
    pub fn next_timeout(&self) -> Option<Instant> {
        [
            self.timers.next(),
            self.awaited_until,
            self.others.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// No session and no uplink is left. The owner may end, if the hub keeps nothing either.
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.uplinks.is_empty()
    }

    /// Whether rooms are kept for sessions that may come: an owner that ends would forget them.
    pub fn keeps_state(&self) -> bool {
        self.rooms.values().any(Room::is_to_stay)
    }

    fn client_stanza(&mut self, now: Now, session: SessionId, frame: &Frame) {
        if self.answers_other(session, frame) {
            return;
        }
        let may_wait = !self.doorsteps.is_empty() || self.awaits_anchor(now.instant);
        let to = frame.to().filter(|_| may_wait);
        if let Some(RoomAddress { room, nick }) = to.and_then(|to| RoomAddress::parse(&to)) {
            let begins = !self.is_in(&room)
                && !self.plain.has(&room)
                && !self.apart.has_session(&room, session)
                && nick.is_some()
                && asks_to_join(frame);
            if self.waits_at_door(now, &room, session, frame, begins) {
                return;
            }
        }
        self.handle_client_stanza(now, session, frame);
    }

    fn handle_client_stanza(&mut self, now: Now, session: SessionId, frame: &Frame) {
        let Some(known) = self.sessions.get(&session) else {
            return;
        };
        let own = known.uplink;
        let Some(address) = frame.to().and_then(|to| RoomAddress::parse(&to)) else {
            // Routed here for a room, it has a room's address; anything else is the server's.
            self.outputs.push_back(Output::ToServer {
                uplink: own,
                stanza: frame.into(),
            });
            return;
        };
        if self.plain.speaks(&address.room, session)
            || self.apart.client_stanza(&address.room, session, frame)
        {
            self.outputs.push_back(Output::ToServer {
                uplink: own,
                stanza: frame.into(),
            });
        } else if self.is_in(&address.room) {
            self.with_room(now, &address.room.clone(), |room, ctx| {
                room.client_stanza(ctx, session, frame, &address);
            });
        } else if let (true, Some(nick)) = (asks_to_join(frame), &address.nick) {
            if let Some(occupant) = address.room.occupant(nick) {
                self.first_join(
                    now,
                    &address.room,
                    JoinRequest::read(session, occupant, frame),
                );
            }
        } else if !is_stanza_error(frame)
            && !self.is_refused_afterwards(now, &address.room, session, frame)
        {
            // The account is not in this room: what the server alone would do.
            self.outputs.push_back(Output::ToServer {
                uplink: own,
                stanza: frame.into(),
            });
        }
    }

    fn is_refused_afterwards(
        &mut self,
        now: Now,
        room: &RoomJid,
        session: SessionId,
        frame: &Frame,
    ) -> bool {
        let mut ctx = context!(self, now);
        let room = self.rooms.get(room);
        room.is_some_and(|room| room.refuses_afterwards(&mut ctx, session, frame))
    }

    /// Whether the account is in the room, or on its way in or out.
    fn is_in(&self, room: &RoomJid) -> bool {
        self.rooms.get(room).is_some_and(|room| !room.is_gone())
    }

    fn first_join(&mut self, now: Now, jid: &RoomJid, request: JoinRequest) {
        let mut ctx = context!(self, now);
        if let Some(before) = self.rooms.get_mut(jid)
            && let Some(to) = Room::entrance(&ctx, jid, request.session)
        {
            before.pay_farewell(&mut ctx, to);
        }
        if let Some(mut room) = Room::enter(&mut ctx, jid, request, VecDeque::new()) {
            if let Some(before) = self.rooms.get_mut(jid) {
                room.inherit(before);
            }
            if self.ghosts.remove(jid).is_some() {
                room.replaces_stored();
            }
            if self.policy.persist {
                room.save(&mut ctx);
            }
            self.timers.set(jid, room.next_timeout());
            self.rooms.insert(jid.clone(), room);
        }
    }

    fn server_stanza(&mut self, now: Now, uplink: UplinkId, frame: &Frame) {
        let from = frame.from();
        if from.as_deref() == Some(&*self.account_bare)
            && let Some(carbon) = Carbon::read(frame)
        {
            self.carbon(now, uplink, frame, &carbon);
            return;
        }
        let address = from.and_then(|from| RoomAddress::parse(&from));
        match &address {
            Some(address) if self.plain.has(&address.room) => {
                self.plain_stanza(now, uplink, frame);
            }
            Some(address) if self.apart.server_stanza(&address.room, uplink, frame) => {
                self.for_own_session(now, uplink, frame);
            }
            Some(address) if self.rooms.contains_key(&address.room) => {
                self.with_room(now, &address.room, |room, ctx| {
                    room.server_stanza(ctx, uplink, frame, address);
                });
            }
            Some(address) if is_late_answer(frame, address.nick.as_deref()) => {}
            Some(_) | None => self.for_own_session(now, uplink, frame),
        }
    }

    /// The server's copy of a message between the account and, maybe, one of its rooms.
    fn carbon(&mut self, now: Now, uplink: UplinkId, frame: &Frame, carbon: &Carbon<'_>) {
        let peer = RoomAddress::parse(&carbon.peer);
        match peer.filter(|peer| self.rooms.contains_key(&peer.room)) {
            Some(peer) => self.with_room(now, &peer.room, |room, ctx| {
                room.carbon(ctx, uplink, carbon);
            }),
            None => self.for_own_session(now, uplink, frame),
        }
    }

    /// A stanza of an address that is no room's.
    fn plain_stanza(&mut self, now: Now, uplink: UplinkId, frame: &Frame) {
        match self.uplinks.get(&uplink).map(|uplink| uplink.session) {
            Some(None) if !self.anchors.contains(&uplink) && wants_answer(frame) => {
                let stanza = error_to_server(frame, &StanzaError::SESSION_GONE).into();
                self.outputs.push_back(Output::ToServer { uplink, stanza });
            }
            Some(_) | None => self.for_own_session(now, uplink, frame),
        }
    }

    /// What comes from a room the account is not in is the business of the stream it came on.
    fn for_own_session(&mut self, now: Now, uplink: UplinkId, frame: &Frame) {
        if self.anchors.contains(&uplink) {
            self.stanza_of_other(now, uplink, frame);
        } else if let Some(session) = self.uplinks.get(&uplink).and_then(|uplink| uplink.session) {
            let owned = frame.bytes().len();
            self.outputs.push_back(Output::ToClient {
                session,
                stanza: frame.into(),
                owned,
                urgency: Urgency::of(frame),
                mark: 0,
            });
        }
    }

    /// Lets a room act, and sees to what follows from it.
    fn with_room(
        &mut self,
        now: Now,
        jid: &RoomJid,
        act: impl FnOnce(&mut Room, &mut Context<'_>),
    ) {
        let mut ctx = context!(self, now);
        let Some(room) = self.rooms.get_mut(jid) else {
            return;
        };
        act(room, &mut ctx);
        room.settle(&mut ctx);
        let forgotten = room.is_plain() || room.is_settled();
        if self.policy.persist {
            room.save_or_forget(&mut ctx, forgotten);
        }
        if room.is_plain() {
            let sessions = self.sessions.keys().copied().collect();
            self.plain.found(jid.clone(), sessions);
        }
        if room.is_moving() {
            self.moving.insert(jid.clone());
        } else {
            self.moving.remove(jid);
        }
        if room.waits_for_turn() {
            self.to_move.insert(jid.clone());
        } else {
            self.to_move.remove(jid);
        }
        if forgotten {
            self.rooms.remove(jid);
            self.timers.set(jid, None);
            self.moving.remove(jid);
        } else {
            self.timers.set(jid, room.next_timeout());
        }
        for request in std::mem::take(&mut self.sets_apart) {
            self.set_apart(&request);
        }
    }

    /// A session joins a room on its own.
    fn set_apart(&mut self, request: &JoinRequest) {
        let Some(own) = self
            .sessions
            .get(&request.session)
            .map(|known| known.uplink)
        else {
            return;
        };
        self.apart
            .enter(request.occupant.clone(), request.session, own);
        for frame in std::iter::once(&request.presence).chain(&request.behind) {
            self.outputs.push_back(Output::ToServer {
                uplink: own,
                stanza: frame.into(),
            });
        }
    }

    fn with_all_rooms(&mut self, now: Now, mut act: impl FnMut(&mut Room, &mut Context<'_>)) {
        let rooms: BTreeSet<RoomJid> = self.rooms.keys().cloned().collect();
        for jid in &rooms {
            self.with_room(now, jid, &mut act);
        }
    }

    /// Rooms that have waited for their turn go to the uplink that is to carry them.
    fn move_what_waits(&mut self, now: Now) {
        while self.moving.len() < MOST_MOVING
            && let Some(room) = self.to_move.pop_first()
        {
            self.with_room(now, &room, |_, _| {});
        }
    }
}

fn is_stanza_error(frame: &Frame) -> bool {
    frame.stanza_type().as_deref() == Some("error")
}
