//! One room of one account: the occupancy, and what every session of the account is shown of it.
//!
//! The life of a room is split by concern; each module implements a part of [`Room`]:
//!
//! | module | concern | behaviours |
//! |---|---|---|
//! | `join` | the account's join, and those of sessions that come meanwhile | 1, 3, 7, 8, 10, 11, 15, 17, 18 |
//! | `nature` | whether it is a room at all | 68 |
//! | `behind` | what a session sends behind its join | 19, 20 |
//! | `replay` | what a session gets that joins later | 2, 4-6, 12-14 |
//! | `served` | what a session has had that comes back | 57 |
//! | `saved` | what outlives the process | 63 |
//! | `message` | groupchat, subject, private messages, their errors | 14, 20-24, 26 |
//! | `private` | private messages, and the copies other sessions get | 27, 28 |
//! | `voice` | requests for voice, and who answers them | 30 |
//! | `in_flight` | what waits for its reflection or error | 24, 25, 29, 35 |
//! | `presence` | the presences of others and the account's own | 32, 33, 39, 47, 49 |
//! | `standing` | the account's one presence out of those of its sessions | 37, 38, 40 |
//! | `nick` | the account's nick, and sessions that want another | 9, 34-36 |
//! | `leave` | sessions that leave, and the account's leaving | 41-43 |
//! | `carrier` | which uplink carries the room, and what goes on it | 20, 43, 59 |
//! | `handover` | another uplink takes the room over | 43, 59 |
//! | `setback` | hand-overs that are refused or not answered | 43, 59 |
//! | `overlap` | what two carriers both bring, and what neither does | 23, 43, 59 |
//! | `takeover` | what the sessions are told when it has | 43, 59 |
//! | `dormant` | no uplink can carry the room, or none yet | 43, 44, 60 |
//! | `comeback` | the room has let go of the account unasked | 25, 43, 48 |
//! | `iq` | requests to and from occupants | 50, 52, 53, 55 |
//! | `ping` | whether the account is in the room | 36, 51 |
//! | `silence` | a room of which nothing is heard any more | 62 |

mod behind;
mod carrier;
mod comeback;
mod dormant;
mod handover;
mod in_flight;
mod iq;
mod join;
mod leave;
mod message;
mod nature;
mod nick;
mod overlap;
mod ping;
mod presence;
mod private;
mod replay;
mod saved;
mod served;
mod setback;
mod silence;
mod standing;
mod takeover;
mod voice;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use mucplex_xml::{Frame, Kind};

use crate::context::Context;
use crate::history::Backlog;
use crate::identity::{OccupantJid, RoomAddress};
use crate::roster::Roster;
use crate::{RoomJid, SessionId, UplinkId, Urgency};

pub(crate) use iq::{ID_PREFIX, is_late_answer, needs_occupancy, number_of};
pub(crate) use join::JoinRequest;
pub(crate) use ping::answer_for_nobody;
pub(crate) use private::Carbon;

use comeback::Comeback;
use handover::Handover;
use in_flight::InFlight;
use iq::PendingIqs;
use join::Joining;
use leave::{Farewells, Leaving};
use nature::Nature;
use overlap::Duplicates;
use saved::Record;
use served::Devices;
use silence::Silence;
use standing::Standing;
use takeover::Past;
use voice::VoiceRequests;

/// How long a room may take to answer a join; remote services are slow at times.
const JOIN_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a room may take to tell its subject, which comes right behind the self-presence. XEP-0045
/// 7.2.15 wants one even where it is empty; some services leave it out.
const SUBJECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a room may take to confirm a leave, before a new join is sent all the same.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the account stands with a room.
#[derive(Debug)]
enum Phase {
    /// The account's join is upstream and not complete.
    Joining(Box<Joining>),
    /// The account is in the room.
    Joined,
    /// The account's leave is upstream and not confirmed.
    Leaving(Leaving),
    /// The room is no longer the account's. It stays for the answers it still owes to sessions.
    Gone,
}

/// A room of the account.
#[derive(Debug)]
pub(crate) struct Room {
    jid: RoomJid,
    /// The account in this room; its nick is the one the room knows.
    own: OccupantJid,
    carrier: UplinkId,
    phase: Phase,
    nature: Nature,
    attached: BTreeSet<SessionId>,
    view: View,
    backlog: Backlog,
    /// What the account's resources were served of it.
    devices: Devices,
    record: Record,
    in_flight: InFlight,
    iqs: PendingIqs,
    /// The account's last available presence as it went upstream: what a hand-over repeats.
    sent_presence: Frame,
    password: Option<String>,
    /// The room gives the id of a join back on the self-presence (behaviour 18).
    reflects_join_id: bool,
    /// The service gave the account another nick than it asked for (behaviour 8).
    nick_assigned: bool,
    /// The account's nick has changed, and its presence under the new one is still to come.
    renamed: bool,
    /// The room has let go of the old nick in a change, and has not said 303.
    vanished: bool,
    /// Sessions that join when the account has their nick.
    renaming: Waiting,
    /// Sessions that are to be in the room on their own, when it needs their uplinks no more.
    sets_apart: Waiting,
    /// Sessions that join while the account is on its way back after nobody has carried the room.
    arriving: Waiting,
    standing: Standing,
    voice: VoiceRequests,
    /// The proxy is on its way back into the room.
    comeback: Option<Comeback>,
    /// When the carrier last brought what only an occupant gets; `None` if the room has denied since
    /// that the account is one.
    heard: Option<Instant>,
    /// When that was, for the room: what it said later was not heard.
    heard_at: SystemTime,
    silence: Silence,
    handover: Option<Handover>,
    /// The full JID of the last carrier that was lost: copies of what it has sent may be on their way.
    lost_carrier: Option<String>,
    /// When the last hand-over was through: for a while, echoes of it may still come.
    handed_over: Option<Instant>,
    /// When the proxy last came back to a room that had let go of the account unasked.
    came_back: Option<Instant>,
    duplicates: Duplicates,
    past: Past,
    farewells: Farewells,
    /// The last session in the room has left it, and not just gone: the account is to leave, too, if
    /// nobody comes of those that wait for their nick.
    left: bool,
    /// When a detached occupancy ends.
    stay_until: Option<Instant>,
    /// It is to go to another uplink, and too many rooms are on such a way.
    waits_for_turn: bool,
    /// An anchor to which the room has not let the account go while another uplink carried it.
    keeps_off: Option<UplinkId>,
}

/// What a joining session is told of the room's present state.
#[derive(Clone, Debug, Default)]
struct View {
    others: Roster,
    own: Option<Frame>,
    /// A presence of the room itself (its vCard hash, XEP-0486), as some services send it.
    room: Option<Frame>,
    subject: Option<Frame>,
    non_anonymous: bool,
    logged: bool,
}

impl Room {
    /// Handles a stanza of a session for this room. `address` is its `to`.
    pub(crate) fn client_stanza(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        address: &RoomAddress,
    ) {
        let nick = address.nick.as_deref();
        if self.waits_behind_join(ctx, session, frame, nick) {
            return;
        }
        match frame.kind() {
            Kind::Presence => self.presence_from_client(ctx, session, frame, nick),
            Kind::Message => self.message_from_client(ctx, session, frame, nick),
            Kind::Iq => self.iq_from_client(ctx, session, frame, nick),
            Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => {}
        }
    }

    /// Handles a stanza of the room. `address` is its `from`.
    pub(crate) fn server_stanza(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        address: &RoomAddress,
    ) {
        let nick = address.nick.as_deref();
        if self.learn_nature(ctx, uplink, frame, nick) {
            return;
        }
        if self.is_gone() && !self.farewells.expects(uplink) {
            self.stanza_afterwards(ctx, uplink, frame, nick);
            return;
        }
        if frame.kind() == Kind::Iq {
            self.iq_from_server(ctx, uplink, frame, nick);
            return;
        }
        if self.is_for_one_stream(frame, nick) {
            self.deliver_to_own(ctx, uplink, frame);
        } else if self.farewells.expects(uplink) {
            self.farewell_stanza(ctx, uplink, frame, nick);
        } else if self
            .handover
            .as_ref()
            .is_some_and(|handover| handover.is_for(uplink, self.carrier))
        {
            self.next_carrier_stanza(ctx, frame, nick);
        } else if uplink == self.carrier {
            self.carrier_stanza(ctx, frame, nick);
        } else {
            self.stanza_beside(ctx, uplink, frame, nick);
        }
    }

    /// The account is no longer in the room. What sessions had sent before is answered all the
    /// same (behaviours 24 and 52); the rest is the business of the stream it came on.
    fn stanza_afterwards(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let kind = frame.stanza_type();
        match (frame.kind(), kind.as_deref()) {
            (Kind::Iq, Some("result" | "error")) => {
                self.iq_from_server(ctx, uplink, frame, nick);
            }
            (Kind::Message, Some("error")) => self.message_error(ctx, uplink, frame, nick),
            (Kind::Presence, Some("error")) => self.presence_error(ctx, uplink, frame, nick),
            (
                Kind::Message
                | Kind::Presence
                | Kind::Iq
                | Kind::StreamError
                | Kind::StreamFeatures
                | Kind::Nonza,
                _,
            ) => self.deliver_to_own(ctx, uplink, frame),
        }
    }

    /// A stanza on an uplink that has no part in the room: the answer to what its session has
    /// sent there itself, or the echo of a time when it carried the room.
    fn stanza_beside(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let kind = frame.stanza_type();
        match (frame.kind(), kind.as_deref()) {
            (Kind::Message, Some("error")) => self.message_error(ctx, uplink, frame, nick),
            (Kind::Presence, Some("error")) => self.presence_error(ctx, uplink, frame, nick),
            (Kind::Message, Some("groupchat")) => self.note_reflection(frame, nick),
            (Kind::Message, _) if nick.is_none() => {
                self.deliver_to_own(ctx, uplink, frame);
            }
            (
                Kind::Message
                | Kind::Presence
                | Kind::Iq
                | Kind::StreamError
                | Kind::StreamFeatures
                | Kind::Nonza,
                _,
            ) => {}
        }
    }

    fn carrier_stanza(&mut self, ctx: &mut Context<'_>, frame: &Frame, nick: Option<&str>) {
        if self.handover.is_some() && self.ends_old_carrier(ctx, frame, nick) {
            return;
        }
        match &self.phase {
            Phase::Joining(_) => self.joining_from_server(ctx, frame, nick),
            Phase::Joined => {
                if frame.stanza_type().as_deref() != Some("error") {
                    self.note_heard(ctx);
                }
                self.live_from_server(ctx, frame, nick);
            }
            Phase::Leaving(_) | Phase::Gone => self.stanza_beside(ctx, self.carrier, frame, nick),
        }
    }

    /// The account is in the room for certain.
    fn note_heard(&mut self, ctx: &Context<'_>) {
        self.heard = Some(ctx.now.instant);
        self.heard_at = ctx.now.wall;
        self.silence = Silence::default();
    }

    /// A live stanza of the room: presences and messages in the room's order.
    fn live_from_server(&mut self, ctx: &mut Context<'_>, frame: &Frame, nick: Option<&str>) {
        match frame.kind() {
            Kind::Presence => self.presence_from_server(ctx, frame, nick),
            Kind::Message => self.message_from_server(ctx, frame, nick),
            Kind::Iq | Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => {}
        }
    }

    /// A copy of a live stanza for every attached session.
    fn fan_out(&self, ctx: &mut Context<'_>, frame: &Frame) {
        self.fan_out_marked(ctx, frame, 0);
    }

    /// The same of one that sessions can be served up to; 0: of any other.
    fn fan_out_marked(&self, ctx: &mut Context<'_>, frame: &Frame, mark: u64) {
        let urgency = self.urgency(frame);
        let personal = ctx.account.is_mentioned(frame);
        for session in &self.attached {
            let own = personal
                .then(|| self.for_session(ctx, *session, frame))
                .flatten();
            let frame = own.as_ref().unwrap_or(frame);
            ctx.deliver_marked(*session, frame, urgency.clone(), mark);
        }
    }

    /// What becomes of the account itself in the room no session waits for, marked as such or not.
    fn urgency(&self, frame: &Frame) -> Urgency {
        let from = frame.from();
        let nick = from.as_deref().and_then(|from| from.split_once('/'));
        match nick {
            Some((_, nick)) if frame.kind() == Kind::Presence && nick == self.own.nick() => {
                Urgency::Now
            }
            Some(_) | None => Urgency::of(frame),
        }
    }

    /// The session whose own uplink this is gets a stanza that is for it alone.
    fn deliver_to_own(&self, ctx: &mut Context<'_>, uplink: UplinkId, frame: &Frame) {
        let own = ctx.uplinks.get(&uplink).and_then(|uplink| uplink.session);
        if let Some(session) = own {
            ctx.pass(session, frame);
        }
    }

    /// Whether any session is in the room or on its way into it.
    fn is_detached(&self) -> bool {
        match &self.phase {
            Phase::Joining(joining) => !joining.has_waiting(),
            Phase::Joined => {
                let mut waiting = [&self.renaming, &self.sets_apart, &self.arriving].into_iter();
                self.attached.is_empty() && waiting.all(Waiting::is_empty)
            }
            Phase::Leaving(leaving) => !leaving.has_waiting(),
            Phase::Gone => true,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// Whether this uplink is the account's way into the room, is to be, or was a moment ago.
    fn is_served_by(&self, uplink: UplinkId) -> bool {
        let next = self.handover.as_ref().map(Handover::to);
        uplink == self.carrier || next == Some(uplink) || self.farewells.expects(uplink)
    }

    /// Whether the hub may forget the room.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_gone()
            && self.in_flight.is_empty()
            && self.iqs.is_empty()
            && self.farewells.are_done()
    }

    /// Goes on for a room that the account was in before: what that one owes is still to come.
    pub(crate) fn inherit(&mut self, before: &mut Self) {
        self.nature = before.nature;
        self.record.inherit(&mut before.record);
        self.farewells = std::mem::take(&mut before.farewells);
        self.in_flight = std::mem::take(&mut before.in_flight);
        self.iqs = std::mem::take(&mut before.iqs);
    }

    /// Whether the room needs this uplink.
    pub(crate) fn uses(&self, uplink: UplinkId) -> bool {
        let next = self
            .handover
            .as_ref()
            .is_some_and(|handover| handover.to() == uplink);
        match &self.phase {
            // The carrier has been told to leave, and nothing follows it yet.
            _ if self.is_dormant() => self.farewells.expects(uplink),
            Phase::Joining(_) | Phase::Joined => self.carrier == uplink || next,
            // Closed before the room has let go, it would leave behind who joins on another.
            Phase::Leaving(leaving) => {
                leaving.needs_carrier() && self.carrier == uplink || self.farewells.expects(uplink)
            }
            Phase::Gone => false,
        }
    }

    /// When [`timeout`](Self::timeout) is to be called.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Joining(joining) => Some(joining.deadline),
            Phase::Leaving(_) | Phase::Joined => None,
            Phase::Gone => self.in_flight.deadline(),
        };
        let handover = self.handover.as_ref().and_then(Handover::deadline);
        let [silence, overlap] = [self.silence_deadline(), self.overlap_deadline()];
        let [stay, iqs] = [self.stay_until, self.iqs.deadline()];
        let nick = self.in_flight.nick_deadline(self.own.nick());
        let [standing, farewells] = [self.standing.deadline(), self.farewells.deadline()];
        [
            phase, handover, stay, iqs, nick, standing, farewells, silence, overlap,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A deadline of the room has come.
    pub(crate) fn timeout(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        self.expire_iqs(ctx);
        if due(self.in_flight.nick_deadline(self.own.nick())) {
            self.nick_timeout(ctx);
        }
        if due(self.farewells.deadline()) {
            self.farewell_timeout(ctx);
        }
        if due(self.handover.as_ref().and_then(Handover::deadline)) {
            self.handover_timeout(ctx);
        }
        if due(self.overlap_deadline()) {
            self.close_overlap(ctx);
        }
        if due(self.silence_deadline()) {
            self.break_silence(ctx);
        }
        if due(self.stay_until) {
            self.leave_upstream(ctx, None);
        }
        if let Phase::Joining(joining) = &self.phase
            && joining.deadline <= now
        {
            self.join_timeout(ctx);
        }
        if self.is_gone() && due(self.in_flight.deadline()) {
            self.in_flight.forget(now);
        }
    }

    /// Nobody is in the room any more, or somebody is again: starts or stops the time to stay.
    fn note_attachment(&mut self, ctx: &Context<'_>) {
        let detached = matches!(self.phase, Phase::Joined) && self.is_detached();
        match (detached, self.stay_until) {
            (true, None) => {
                self.stay_until = ctx.now.instant.checked_add(ctx.policy.stay);
                self.record.detached_since = Some(ctx.now.wall);
            }
            (true, Some(_)) => {}
            (false, _) => (self.stay_until, self.record.detached_since) = (None, None),
        }
    }
}

/// Joins that wait for something, in the order in which they came.
type Waiting = VecDeque<JoinRequest>;
