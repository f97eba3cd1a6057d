//! The account's join, and the sessions that ask while it is under way (XEP-0045 7.2).

use std::borrow::Cow;
use std::time::Instant;

use mucplex_xml::{Frame, Kind};

use super::handover::Handover;
use super::takeover::gone;
use super::{JOIN_TIMEOUT, Nature, Phase, Room, SUBJECT_TIMEOUT, View, Waiting};
use crate::context::Context;
use crate::history::{self, HistoryLimits};
use crate::identity::OccupantJid;
use crate::muc_user::{MucUser, Status};
use crate::routes::muc_element;
use crate::stanza::StanzaError;
use crate::{RoomJid, SessionId, ns, stanza};

/// A session's wish to be in a room.
#[derive(Debug)]
pub(crate) struct JoinRequest {
    pub(crate) session: SessionId,
    /// The occupant it asks to be.
    pub(crate) occupant: OccupantJid,
    pub(crate) id: Option<String>,
    pub(crate) history: HistoryLimits,
    /// The presence as the client sent it.
    pub(crate) presence: Frame,
    /// What it sent behind it: with the server alone all of that comes after the join.
    pub(crate) behind: Vec<Frame>,
}

impl JoinRequest {
    pub(crate) fn read(session: SessionId, occupant: OccupantJid, presence: &Frame) -> Self {
        Self {
            session,
            occupant,
            id: presence.id().map(Cow::into_owned),
            history: HistoryLimits::read(presence),
            presence: presence.compact(),
            behind: Vec::new(),
        }
    }

    fn password(&self) -> Option<String> {
        let muc = muc_element(&self.presence)?;
        muc.child("password", ns::MUC)
            .map(|password| password.text())
    }

    /// The join as it goes upstream: asking for the account's history and not for this session's.
    fn upstream(&self) -> Frame {
        stanza::edit(&self.presence, |patch, presence| {
            let Some(muc) = muc_element(presence) else {
                return;
            };
            let Some(history) = muc.child("history", ns::MUC) else {
                return;
            };
            patch.replace(&history, &self.history.upstream());
        })
    }
}

/// A join under way.
#[derive(Debug)]
pub(super) struct Joining {
    /// The session whose join went upstream; it sees the answers as they come. `None` once it is
    /// gone, and the join goes on for those that wait.
    pub(super) asking: Option<JoinRequest>,
    /// The id under which it went.
    id: Option<String>,
    /// Sessions that asked meanwhile; they are served from the room's state when it is complete.
    pub(super) waiting: Waiting,
    /// The leave of the session whose join went upstream, while the join goes on for others: a
    /// room needs none, anybody else does.
    pub(super) left: Option<(SessionId, Frame)>,
    /// Something has come that may be of a room or not.
    pub(super) heard: bool,
    /// Its uplink is lost.
    stranded: bool,
    stage: Stage,
    pub(super) deadline: Instant,
}

/// How far the room's answer has come; the order is fixed (XEP-0045 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Presences of others, ended by the self-presence.
    Presences,
    /// Messages of the past, ended by the subject.
    History,
}

impl Joining {
    fn begin_again(&mut self, deadline: Instant) {
        self.stage = Stage::Presences;
        self.deadline = deadline;
    }

    /// Those that are to come in.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.asking.iter().chain(&self.waiting).map(|it| it.session)
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.asking.is_some() || !self.waiting.is_empty()
    }
}

impl Room {
    /// Sends the account's join on the asking session's own uplink. `None` if the session is not
    /// known any more.
    pub(crate) fn enter(
        ctx: &mut Context<'_>,
        room: &RoomJid,
        request: JoinRequest,
        waiting: Waiting,
    ) -> Option<Self> {
        let carrier = Self::entrance(ctx, room, request.session)?;
        let presence = ctx.for_carrier(request.session, carrier, &request.upstream());
        ctx.carry(carrier, room);
        ctx.send(carrier, &presence);
        let mut entering = Self::idle(request.occupant.clone(), presence, ctx.now);
        entering.carrier = carrier;
        entering.password = request.password();
        entering.standing = super::Standing::of(request.session);
        entering.nature = Nature::Unknown;
        entering.phase = Phase::Joining(Box::new(Joining {
            id: request.id.clone(),
            asking: Some(request),
            waiting,
            left: None,
            heard: false,
            stranded: false,
            stage: Stage::Presences,
            deadline: ctx.now.instant + JOIN_TIMEOUT,
        }));
        Some(entering)
    }

    /// The session whose join is under way. Others see it before it is told that it is in.
    pub(super) fn asking(&self) -> Option<SessionId> {
        match &self.phase {
            Phase::Joining(joining) => joining.asking.as_ref().map(|asking| asking.session),
            Phase::Joined | Phase::Leaving(_) | Phase::Gone => None,
        }
    }

    /// The join cannot come to its end on the uplink on which it has begun, and there is another. The
    /// session that asks has been told of occupants at most; these go, and it is told who is there
    /// once more.
    pub(super) fn join_elsewhere(&mut self, ctx: &mut Context<'_>) {
        let Phase::Joining(joining) = &mut self.phase else {
            return;
        };
        let mut waiting = std::mem::take(&mut joining.waiting);
        if let Some(asking) = joining.asking.take() {
            for (_, presence) in self.view.others.in_order() {
                ctx.deliver(asking.session, &gone(presence));
            }
            let again = |it: &JoinRequest| it.session == asking.session;
            if !waiting.iter().any(again) {
                waiting.push_front(asking);
            }
        }
        if ctx.is_suspended(self.carrier) {
            self.farewells.owe(self.carrier);
        }
        self.restart(ctx, waiting);
    }

    /// The join has lost its uplink, and there is no other yet: those that sleep wait for one.
    pub(super) fn join_later(&mut self, ctx: &Context<'_>) {
        let patience = ctx.policy.stay.max(JOIN_TIMEOUT);
        let until = ctx.now.instant.checked_add(patience);
        if let (Phase::Joining(joining), Some(until)) = (&mut self.phase, until)
            && !std::mem::replace(&mut joining.stranded, true)
        {
            joining.begin_again(until);
        }
    }

    /// Starts over for sessions that asked while the room was being left or refused another.
    pub(super) fn restart(&mut self, ctx: &mut Context<'_>, mut waiting: Waiting) {
        self.phase = Phase::Gone;
        while let Some(request) = waiting.pop_front() {
            if ctx.sessions.contains_key(&request.session) {
                if let Some(to) = Self::entrance(ctx, &self.jid, request.session) {
                    self.pay_farewell(ctx, to);
                }
                if let Some(mut room) = Self::enter(ctx, &self.jid, request, waiting) {
                    room.inherit(self);
                    *self = room;
                }
                return;
            }
        }
    }

    /// A session asks to be in the room.
    pub(crate) fn join(&mut self, ctx: &mut Context<'_>, request: JoinRequest) {
        let waiting = match &mut self.phase {
            Phase::Joining(joining) => &mut joining.waiting,
            Phase::Leaving(leaving) => &mut leaving.waiting,
            Phase::Joined if self.handover.as_ref().is_some_and(Handover::comes_back) => {
                // One that is in the room is told from the beginning, and not before that what is new.
                self.attached.remove(&request.session);
                &mut self.arriving
            }
            Phase::Joined => return self.settle_conflict(ctx, request),
            Phase::Gone => return,
        };
        // One that asks again while it waits: its last word counts.
        match waiting.iter_mut().find(|it| it.session == request.session) {
            Some(earlier) => {
                let behind = std::mem::replace(earlier, request).behind;
                earlier.behind = behind;
            }
            None => waiting.push_back(request),
        }
    }

    pub(super) fn joining_from_server(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let is_error = frame.stanza_type().as_deref() == Some("error");
        match frame.kind() {
            Kind::Presence if is_error && self.refuses_join(frame, nick) => {
                self.join_refused(ctx, frame);
            }
            Kind::Presence if is_error => self.presence_error(ctx, self.carrier, frame, nick),
            Kind::Presence => self.presence_while_joining(ctx, frame, nick),
            Kind::Message if is_error => self.message_error(ctx, self.carrier, frame, nick),
            Kind::Message => self.message_while_joining(ctx, frame, nick),
            Kind::Iq | Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => {}
        }
    }

    /// Whether an error answers the join, and not another presence of the session.
    fn refuses_join(&self, error: &Frame, nick: Option<&str>) -> bool {
        let Phase::Joining(joining) = &self.phase else {
            return false;
        };
        let answers = match error.id() {
            Some(id) => joining.id.as_deref() == Some(&*id),
            None => nick.is_none() || nick == Some(self.own.nick()),
        };
        // A change of nick under the same id may have gone before it.
        let before = self.in_flight.is_of_before(error, nick, self.carrier);
        joining.stage == Stage::Presences && answers && !before
    }

    fn presence_while_joining(&mut self, ctx: &mut Context<'_>, frame: &Frame, nick: Option<&str>) {
        let unavailable = frame.stanza_type().as_deref() == Some("unavailable");
        let Some(nick) = nick else {
            if !unavailable {
                self.view.room = Some(frame.compact());
                self.deliver_to_asking(ctx, frame);
            }
            return;
        };
        let user = MucUser::read(frame);
        if user.has(Status::OwnPresence) {
            if unavailable && !user.removed() && self.is_not_in_yet() {
                // The late echo of a stay before this one.
            } else if unavailable {
                self.unavailable_while_joining(ctx, frame, &user);
            } else {
                self.entered(ctx, frame, nick, &user);
            }
            return;
        }
        if unavailable {
            self.view.others.remove(nick);
            self.deliver_to_asking(ctx, frame);
            return;
        }
        // The room keeps it anyway: a list of thousands is not what makes a session slow.
        let kept = frame.compact();
        if let Phase::Joining(joining) = &self.phase
            && let Some(asking) = &joining.asking
        {
            let own = self.for_session(ctx, asking.session, &kept);
            ctx.replay(asking.session, own.as_ref().unwrap_or(&kept));
        }
        self.view.others.set(nick, kept);
    }

    fn is_not_in_yet(&self) -> bool {
        matches!(&self.phase, Phase::Joining(joining) if joining.stage == Stage::Presences)
    }

    /// XEP-0045 7.2.2: the self-presence ends the list of occupants, and names the nick.
    fn entered(&mut self, ctx: &mut Context<'_>, frame: &Frame, nick: &str, user: &MucUser) {
        let Phase::Joining(joining) = &mut self.phase else {
            return;
        };
        joining.stage = Stage::History;
        joining.deadline = ctx.now.instant + SUBJECT_TIMEOUT;
        if let Some(asking) = &joining.asking {
            // A join without an id does not tell; who gives one hopes to see it again.
            let id = asking.id.as_deref();
            self.reflects_join_id = id.is_none_or(|id| frame.id().as_deref() == Some(id));
        }
        if let Some(own) = self.jid.occupant(nick) {
            self.nick_assigned = user.has(Status::NickAssigned) || own != self.own;
            self.own = own;
        }
        self.view.others.remove(nick);
        self.view.non_anonymous = user.has(Status::NonAnonymous);
        self.view.logged = user.has(Status::Logged);
        self.view.own = Some(frame.compact());
        self.deliver_to_asking(ctx, frame);
    }

    fn message_while_joining(&mut self, ctx: &mut Context<'_>, frame: &Frame, nick: Option<&str>) {
        let Phase::Joining(joining) = &self.phase else {
            return;
        };
        let stage = joining.stage;
        if frame.stanza_type().as_deref() != Some("groupchat") {
            // A form or challenge that stands before the door (XEP-0158).
            self.deliver_to_asking(ctx, frame);
            return;
        }
        if super::message::is_subject(frame) {
            self.finish_join(ctx, Some(frame.compact()));
            return;
        }
        if let Some(stamp) = history::room_stamp(frame, &self.jid) {
            let (number, _) = ctx.number_of(frame);
            self.backlog.push_replayed(frame.compact(), stamp, number);
            return;
        }
        match (stage, nick) {
            // Some services comment on the room before they tell the subject.
            (_, None) | (Stage::Presences, Some(_)) => {
                self.note_room_config(frame);
                self.deliver_to_asking(ctx, frame);
            }
            // An occupant speaks: the service tells no subject, and the past is over.
            (Stage::History, Some(_)) => {
                self.finish_join(ctx, None);
                self.live_from_server(ctx, frame, nick);
            }
        }
    }

    fn finish_join(&mut self, ctx: &mut Context<'_>, subject: Option<Frame>) {
        let Phase::Joining(joining) = std::mem::replace(&mut self.phase, Phase::Joined) else {
            return;
        };
        let with_subject = subject.is_some();
        self.view.subject = subject.or_else(|| stanza::empty_subject(&self.jid));
        self.record.joined_at = ctx.now.wall;
        let asked_before = self.record.asked_before;
        self.past = super::Past::behind(with_subject, asked_before, ctx.now.instant);
        if let Some(asking) = &joining.asking {
            self.tell_past(ctx, asking, false);
            self.attached.insert(asking.session);
            self.standing.join(asking.session, &asking.presence);
            self.follow_up(ctx, asking);
        }
        for request in joining.waiting {
            self.settle_conflict(ctx, request);
        }
    }

    /// Behaviour 10: the error is for the asking session alone, and those that wait may have
    /// more luck: they ask for themselves.
    fn join_refused(&mut self, ctx: &mut Context<'_>, error: &Frame) {
        self.deliver_to_asking(ctx, error);
        self.start_over(ctx);
    }

    /// Put out of the room before the join was complete; or the leave of an older stream of the
    /// same full JID, which the server handled behind this join, has taken the new one with it
    /// (ejabberd 23.01): then the join is sent once more.
    fn unavailable_while_joining(&mut self, ctx: &mut Context<'_>, frame: &Frame, user: &MucUser) {
        if user.removed() || !self.may_come_back(ctx) {
            self.removed_while_joining(ctx, frame);
            return;
        }
        let Phase::Joining(joining) = &mut self.phase else {
            return;
        };
        joining.begin_again(ctx.now.instant + JOIN_TIMEOUT);
        self.view = View::default();
        self.backlog.clear();
        let presence = self.sent_presence.clone();
        ctx.send(self.carrier, &presence);
    }

    /// Put out of the room before the join was complete.
    fn removed_while_joining(&mut self, ctx: &mut Context<'_>, frame: &Frame) {
        self.deliver_to_asking(ctx, frame);
        if let Phase::Joining(joining) = &mut self.phase
            && let Some(asking) = &joining.asking
        {
            // Asked twice, it was in all the same, and the proxy does not bring it back
            // (behaviour 47).
            let session = asking.session;
            joining.waiting.retain(|it| it.session != session);
        }
        self.start_over(ctx);
    }

    fn start_over(&mut self, ctx: &mut Context<'_>) {
        let Phase::Joining(joining) = std::mem::replace(&mut self.phase, Phase::Gone) else {
            return;
        };
        if let Some(asking) = &joining.asking {
            self.refuse_behind(ctx, asking);
        }
        self.restart(ctx, joining.waiting);
    }

    fn has_heard(&self) -> bool {
        matches!(&self.phase, Phase::Joining(joining) if joining.heard)
    }

    pub(super) fn join_timeout(&mut self, ctx: &mut Context<'_>) {
        if !self.is_not_in_yet() {
            self.finish_join(ctx, None);
            return;
        }
        if self.nature == Nature::Unknown && self.has_heard() {
            self.turn_plain(ctx);
            return;
        }
        let Phase::Joining(joining) = std::mem::replace(&mut self.phase, Phase::Gone) else {
            return;
        };
        for request in joining.asking.iter().chain(&joining.waiting) {
            self.tell_error(
                ctx,
                request.session,
                "presence",
                &request.occupant.to_string(),
                request.id.as_deref(),
                &StanzaError::NO_ANSWER,
            );
            self.refuse_behind(ctx, request);
        }
        // The room may take us in all the same.
        let leave = stanza::leave(&self.own);
        self.say_farewell(ctx, self.carrier, leave.into());
        self.part(ctx);
    }

    /// A session that was asking or waiting, or both, wants no more. Gives its last wish.
    pub(super) fn withdraw(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
    ) -> Option<OccupantJid> {
        let mut withdrawn = self.take_out_of_nick_queues(session);
        let waiting = match &mut self.phase {
            Phase::Joining(joining) => {
                let asking = &mut joining.asking;
                withdrawn.extend(asking.take_if(|asking| asking.session == session));
                Some(&mut joining.waiting)
            }
            Phase::Leaving(leaving) => Some(&mut leaving.waiting),
            Phase::Joined => Some(&mut self.arriving),
            Phase::Gone => None,
        };
        if let Some(waiting) = waiting
            && let Some(place) = waiting.iter().position(|it| it.session == session)
        {
            withdrawn.extend(waiting.remove(place));
        }
        for request in &withdrawn {
            self.refuse_behind(ctx, request);
        }
        withdrawn.pop().map(|request| request.occupant)
    }

    pub(super) fn deliver_to_asking(&self, ctx: &mut Context<'_>, frame: &Frame) {
        if let Phase::Joining(joining) = &self.phase
            && let Some(asking) = &joining.asking
        {
            let own = self.for_session(ctx, asking.session, frame);
            ctx.deliver(asking.session, own.as_ref().unwrap_or(frame));
        }
    }
}
