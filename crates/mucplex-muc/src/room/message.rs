//! Messages of the room and of the account's sessions (XEP-0045 7.3, 7.4, 7.5).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mucplex_xml::{Frame, Kind};

use super::{Phase, Room};
use crate::context::Context;
use crate::muc_user::{MucUser, Status};
use crate::stanza::StanzaError;
use crate::{SessionId, UplinkId, ns, stanza};

/// How many stanzas may wait for their reflection or error in one room. Private messages are
/// never reflected, so entries also leave by age of arrival.
const MOST_IN_FLIGHT: usize = 256;

/// How long a room may take to answer a change of nick.
const NICK_TIMEOUT: Duration = Duration::from_secs(10);

/// The stanzas that sessions have sent into the room, by which an error finds the one it is for.
///
/// Ids are the clients' own and may collide between sessions. A room handles what comes on one
/// stream in order, so of two stanzas with one id the first answer belongs to the first.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: VecDeque<Sent>,
}

#[derive(Debug, PartialEq, Eq)]
struct Sent {
    kind: Kind,
    /// The nick it went to; `None` for the room.
    nick: Option<String>,
    id: Option<String>,
    session: SessionId,
    at: Instant,
    way: Way,
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

impl InFlight {
    pub(super) fn note(
        &mut self,
        now: Instant,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
        way: Way,
    ) {
        if self.sent.len() >= MOST_IN_FLIGHT {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            kind: frame.kind(),
            nick: nick.map(str::to_owned),
            id: frame.id().map(Cow::into_owned),
            session,
            at: now,
            way,
        });
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

    /// Takes out the messages to the room that were lost with a carrier: sessions and ids.
    fn take_lost(&mut self) -> Vec<(SessionId, Option<String>)> {
        let (lost, rest): (VecDeque<Sent>, _) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|sent| sent.way == Way::Uncertain);
        self.sent = rest;
        lost.into_iter()
            .filter(|lost| lost.kind == Kind::Message && lost.nick.is_none())
            .map(|lost| (lost.session, lost.id))
            .collect()
    }

    /// Until when an unanswered change of nick may be waited for; `own` is the nick at present.
    pub(super) fn nick_change(&self, own: &str) -> Option<Instant> {
        let mut changes = self.sent.iter().filter(|sent| {
            let changes = sent.nick.as_deref().is_some_and(|nick| nick != own);
            sent.kind == Kind::Presence && sent.way == Way::Sent && changes
        });
        changes.next().map(|change| change.at + NICK_TIMEOUT)
    }

    /// The account is `nick` now: the change was answered, whatever id the answer has.
    pub(super) fn nick_changed(&mut self, nick: &str) {
        let change = |sent: &Sent| {
            sent.kind == Kind::Presence
                && sent.nick.as_deref() == Some(nick)
                && sent.way == Way::Sent
        };
        if let Some(place) = self.sent.iter().position(change) {
            self.sent.remove(place);
        }
    }

    /// Gives up what was to be answered by a presence and was not.
    pub(super) fn expire(&mut self, now: Instant) {
        self.sent.retain(|sent| {
            let presence = sent.kind == Kind::Presence && sent.way == Way::Sent;
            !presence || sent.at + NICK_TIMEOUT > now
        });
    }

    /// The session whose stanza this one answers; the entry is used up. Not every service gives
    /// the id of a presence back: without one, it answers the first.
    pub(super) fn answered(&mut self, answer: &Frame, nick: Option<&str>) -> Option<SessionId> {
        let id = answer.id();
        let any_id = answer.kind() == Kind::Presence && id.is_none();
        let place = self.sent.iter().position(|sent| {
            sent.kind == answer.kind()
                && sent.nick.as_deref() == nick
                && (any_id || sent.id.as_deref() == id.as_deref())
        })?;
        self.sent.remove(place).map(|sent| sent.session)
    }
}

impl Room {
    pub(super) fn message_from_client(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match frame.stanza_type().as_deref() {
            // An error from one session would make the room put the whole account out
            // (XEP-0045 11.1, behaviour 58).
            Some("error") => {}
            Some("groupchat") => self.speak(ctx, session, frame, nick),
            _ if self.attached.contains(&session) => {
                let way = self.send_upstream(ctx, session, frame, false);
                self.note_in_flight(ctx, session, frame, nick, way);
            }
            _ => self.pass_on_own_uplink(ctx, session, frame),
        }
    }

    fn speak(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        if matches!(self.phase, Phase::Joined) && self.attached.contains(&session) {
            let way = self.send_upstream(ctx, session, frame, false);
            self.note_in_flight(ctx, session, frame, nick, way);
            return;
        }
        // Behaviour 26: the account may be in the room, this session is not.
        self.refuse(ctx, session, frame, &StanzaError::NOT_IN_ROOM);
    }

    pub(super) fn note_in_flight(
        &mut self,
        ctx: &Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
        way: Option<Way>,
    ) {
        if let Some(way) = way {
            self.in_flight
                .note(ctx.now.instant, session, frame, nick, way);
        }
    }

    /// No message is lost in silence: those that were on a carrier when it was lost, and that the
    /// room does not know, go back to their senders as errors.
    pub(super) fn refuse_lost(&mut self, ctx: &mut Context<'_>) {
        for (session, id) in self.in_flight.take_lost() {
            let error = stanza::error_from_room(
                "message",
                &self.jid.to_string(),
                ctx.address(session),
                id.as_deref(),
                &StanzaError::NO_ANSWER,
                &self.jid,
            );
            ctx.tell(session, error);
        }
    }

    /// Answers a session's stanza as the room would.
    pub(super) fn refuse(
        &self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        error: &StanzaError,
    ) {
        let to = frame.to();
        let error = stanza::error_from_room(
            stanza::stanza_name(frame),
            to.as_deref().unwrap_or_default(),
            ctx.address(session),
            frame.id().as_deref(),
            error,
            &self.jid,
        );
        ctx.tell(session, error);
    }

    /// A session that is not in the room says something to it: as with the server alone, unless
    /// its stream is the one by which the room knows the account.
    pub(super) fn pass_on_own_uplink(
        &self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
    ) {
        match ctx.uplink_of(session) {
            Some(own) if !self.uses(own) => ctx.send(own, frame),
            Some(_) | None => self.refuse(ctx, session, frame, &StanzaError::NOT_IN_ROOM),
        }
    }

    pub(super) fn message_from_server(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match frame.stanza_type().as_deref() {
            Some("error") => self.message_error(ctx, self.carrier, frame, nick),
            _ if self.is_duplicate(ctx, frame) => {}
            Some("groupchat") => self.groupchat(ctx, frame, nick),
            _ => self.other_message(ctx, frame),
        }
    }

    fn groupchat(&mut self, ctx: &mut Context<'_>, frame: &Frame, nick: Option<&str>) {
        if nick == Some(self.own.nick()) {
            // The reflection of a session's message: it was accepted.
            self.in_flight.answered(frame, None);
        }
        if nick.is_none() {
            self.note_room_config(frame);
        }
        self.fan_out(ctx, frame);
        if is_subject(frame) {
            self.set_subject(ctx, frame);
        } else if has_body(frame) {
            self.backlog.push_live(frame.compact(), ctx.now.wall);
        }
    }

    /// Behaviour 24: an error is for the sender alone. One that answers nothing that is known
    /// goes to the session whose stream it came on, as with the server alone.
    pub(super) fn message_error(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match self.in_flight.answered(frame, nick) {
            Some(session) => ctx.deliver(session, frame),
            None => self.deliver_to_own(ctx, uplink, frame),
        }
    }

    /// A private message, or one of the room itself that is not to everybody.
    fn other_message(&self, ctx: &mut Context<'_>, frame: &Frame) {
        if self.attached.is_empty() {
            self.deliver_to_own(ctx, self.carrier, frame);
        } else {
            self.fan_out(ctx, frame);
        }
    }

    /// What a room answers to one stream is that stream's alone: the messages of an archive query
    /// (XEP-0313 4.2) that its session has sent on its own uplink.
    pub(super) fn is_for_one_stream(&self, frame: &Frame, nick: Option<&str>) -> bool {
        nick.is_none()
            && frame.kind() == Kind::Message
            && frame.stanza_type().as_deref() != Some("groupchat")
            && frame.root().child("result", ns::MAM).is_some()
    }

    /// XEP-0045 10.2.1: what the room says of its configuration changes what late joiners are
    /// told.
    pub(super) fn note_room_config(&mut self, frame: &Frame) {
        let user = MucUser::read(frame);
        if user.has(Status::NowNonAnonymous) || user.has(Status::NonAnonymous) {
            self.view.non_anonymous = true;
        }
        if user.has(Status::NowSemiAnonymous) {
            self.view.non_anonymous = false;
        }
        if user.has(Status::Logged) {
            self.view.logged = true;
        }
        if user.has(Status::NotLogged) {
            self.view.logged = false;
        }
    }
}

/// XEP-0045 7.2.15 and 8.1: a message with a subject, and with neither body nor thread, changes
/// the subject.
pub(super) fn is_subject(frame: &Frame) -> bool {
    let has = |name| frame.root().child(name, ns::CLIENT).is_some();
    frame.kind() == Kind::Message && has("subject") && !has("body") && !has("thread")
}

fn has_body(frame: &Frame) -> bool {
    frame.root().child("body", ns::CLIENT).is_some()
}
