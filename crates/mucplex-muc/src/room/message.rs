//! Messages of the room and of the account's sessions (XEP-0045 7.3, 7.4, 7.5).

use mucplex_xml::{Frame, Kind};

use super::comeback::says_not_in_room;
use super::in_flight::Way;
use super::{Past, Phase, Room};
use crate::context::Context;
use crate::muc_user::{MucUser, Status};
use crate::stanza::StanzaError;
use crate::{SessionId, UplinkId, ns, stanza};

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
            _ if self.attached.contains(&session) && self.is_second_answer(session, frame) => {}
            _ if self.attached.contains(&session) => {
                let way = self.send_upstream(ctx, session, frame, false);
                if way.is_some() {
                    self.copy_to_others(ctx, session, frame);
                }
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
            let now = ctx.now.instant;
            self.in_flight
                .note(now, session, frame, nick, way, self.carrier);
        }
    }

    /// Nothing is lost in silence: messages that were on a carrier when it was lost, and that the
    /// room does not know, go back to their senders as errors, and so do changes of nick.
    pub(super) fn refuse_lost(&mut self, ctx: &mut Context<'_>) {
        for lost in self.in_flight.take_lost() {
            if lost.is_presence() {
                self.nick_lost(ctx, &lost);
                continue;
            }
            self.tell_error(
                ctx,
                lost.session,
                "message",
                &self.jid.to_string(),
                lost.id.as_deref(),
                &StanzaError::NO_ANSWER,
            );
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
        self.tell_error(
            ctx,
            session,
            stanza::stanza_name(frame),
            to.as_deref().unwrap_or_default(),
            frame.id().as_deref(),
            error,
        );
    }

    /// An error for a session, as the room or an occupant (`from`) would send it.
    pub(super) fn tell_error(
        &self,
        ctx: &mut Context<'_>,
        session: SessionId,
        name: &str,
        from: &str,
        id: Option<&str>,
        error: &StanzaError,
    ) {
        let to = ctx.address(session);
        let error = stanza::error_from_room(name, from, to, id, error, &self.jid);
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
            Some(own) if !self.uses(own) && !self.farewells.is_owed(own) => ctx.send(own, frame),
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
            _ => {
                if nick.is_none() {
                    self.note_voice_request(frame);
                }
                self.other_message(ctx, frame);
            }
        }
    }

    fn groupchat(&mut self, ctx: &mut Context<'_>, frame: &Frame, nick: Option<&str>) {
        if self.past != Past::Over && self.is_of_past(ctx, frame) {
            return;
        }
        let taken = nick.is_some_and(|nick| self.view.others.get(nick).is_some());
        if !taken && self.awaits_nick(nick) && self.in_flight.may_be_reflected(frame) {
            self.complete_nick_change(ctx, None);
        }
        if nick == Some(self.own.nick()) {
            // The reflection of a session's message: it was accepted.
            self.in_flight.reflected(frame);
        }
        if nick.is_none() {
            self.note_room_config(frame);
        }
        if is_subject(frame) {
            self.fan_out(ctx, frame);
            self.set_subject(ctx, frame);
        } else if has_body(frame) {
            let (number, mark) = ctx.number_of(frame);
            self.fan_out_marked(ctx, frame, mark);
            let now = ctx.now.wall;
            self.backlog.push_live(frame.compact(), now, number);
        } else {
            self.fan_out(ctx, frame);
        }
    }

    /// A message of a session that the room has taken is answered, also where nobody is left to be
    /// shown it.
    pub(super) fn note_reflection(&mut self, frame: &Frame, nick: Option<&str>) {
        if nick == Some(self.own.nick()) {
            self.in_flight.answered(frame, None);
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
        let Some(sent) = self.in_flight.refused(frame, nick, uplink) else {
            self.deliver_to_own(ctx, uplink, frame);
            return;
        };
        let forgotten = says_not_in_room(frame);
        // Other messages are refused so for other reasons too: by the occupant, and by a room that
        // takes none of their type (ejabberd 23.01).
        let spoken = nick.is_none() && sent.is_groupchat();
        if forgotten && spoken && self.repeat(ctx, uplink, &sent) {
            return;
        }
        if forgotten && !spoken && !sent.repeated && self.attached.contains(&sent.session) {
            self.doubt(ctx, sent, frame);
            return;
        }
        if forgotten && spoken {
            self.heard = None;
        }
        ctx.deliver(sent.session, frame);
    }

    /// A private message, or one of the room itself that is not to everybody.
    fn other_message(&self, ctx: &mut Context<'_>, frame: &Frame) {
        if self.attached.is_empty() {
            self.deliver_to_own(ctx, self.carrier, frame);
        } else {
            self.fan_out(ctx, frame);
        }
    }

    /// What is for one stream alone: the messages of an archive query (XEP-0313 4.2) that its
    /// session has sent on its own uplink; and what the room says to the account itself, as an
    /// invitation or a decline (XEP-0045 7.8.2), of which the server gives each available
    /// resource its own copy (RFC 6121 8.5.2.1.1).
    pub(super) fn is_for_one_stream(&self, frame: &Frame, nick: Option<&str>) -> bool {
        let to_account = || frame.to().is_some_and(|to| !to.contains('/'));
        nick.is_none()
            && frame.kind() == Kind::Message
            && frame.stanza_type().as_deref() != Some("groupchat")
            && (frame.root().child("result", ns::MAM).is_some() || to_account())
    }

    /// XEP-0045 10.2.1: what the room says of its configuration changes what late joiners are
    /// told.
    pub(super) fn note_room_config(&mut self, frame: &Frame) {
        let user = MucUser::read(frame);
        if user.has(Status::NowNonAnonymous) || user.has(Status::NonAnonymous) {
            self.view.non_anonymous = true;
        }
        if user.has(Status::NowSemiAnonymous) || user.has(Status::NowFullyAnonymous) {
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
