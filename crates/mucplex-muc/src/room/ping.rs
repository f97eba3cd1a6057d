//! Whether the account is in the room, and what the proxy answers in its name (XEP-0410, XEP-0199;
//! behaviours 25, 36, 51, 53).

use std::time::Duration;

use bytes::Bytes;
use mucplex_xml::Frame;

use super::in_flight::Sent;
use super::iq::Asker;
use super::{Phase, Room};
use crate::context::Context;
use crate::identity::{OccupantJid, RoomAddress};
use crate::stanza::{self, StanzaError};
use crate::{SessionId, UplinkId, ns};

/// How long the account is known to be in the room after the room has last sent it something.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// What the proxy wants to know of the room.
#[derive(Debug)]
pub(super) enum Question {
    /// Is the account in the room? A session has asked with this id. `again`: the proxy has joined
    /// anew since.
    SelfPing {
        session: SessionId,
        id: String,
        again: bool,
    },
    /// Is the account in the room? A private message was answered as if it were not, by the room
    /// or by the one it went to.
    Doubt { sent: Box<Sent>, error: Frame },
    /// Has the account the nick it asked for?
    Nick,
    /// Is the account in the room by a join that the room has not answered? With the number of
    /// the question: the answer to an earlier one says nothing of a later join.
    Join(u32),
    /// Is the account in a room that has said nothing for long?
    Silence,
    /// A room that the proxy has made anew is opened; nobody waits for the answer.
    Open,
}

/// What the answer to a self-ping says (XEP-0410 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    In,
    Out,
    Unknown,
}

impl Room {
    /// Behaviour 51: a session asks whether it is in the room.
    pub(super) fn self_ping(&mut self, ctx: &mut Context<'_>, session: SessionId, frame: &Frame) {
        if !matches!(self.phase, Phase::Joined) || !self.attached.contains(&session) {
            self.refuse(ctx, session, frame, &StanzaError::NOT_IN_ROOM);
            return;
        }
        let id = frame.id().unwrap_or_default().into_owned();
        let now = ctx.now.instant;
        let lately = self.heard.is_some_and(|at| now < at + KNOWN_FOR);
        if lately && !self.carrier_is_ending() {
            self.answer_ping(ctx, session, &id);
        } else {
            let again = false;
            let question = Question::SelfPing { session, id, again };
            if self.may_ask(ctx, session, frame) {
                self.ask_room(ctx, question, session);
            }
        }
    }

    fn answer_ping(&self, ctx: &mut Context<'_>, session: SessionId, id: &str) {
        let result = stanza::result_from(&self.own, ctx.address(session), id);
        ctx.tell(session, result);
    }

    /// Pings the account's own nick, for the sake of a session.
    fn ask_room(&mut self, ctx: &mut Context<'_>, question: Question, session: SessionId) {
        let nick = self.own.nick().to_owned();
        if let Some(ping) = stanza::ping(&self.own) {
            let ping = self.note_request(ctx, Asker::Proxy(question), &ping, Some(&nick));
            self.send_upstream(ctx, session, &ping, false);
        }
    }

    /// Asks on the carrier whether the account is in the room.
    pub(super) fn ask_own(&mut self, ctx: &mut Context<'_>, question: Question) {
        if let Some(ping) = stanza::ping(&self.own) {
            let nick = self.own.nick().to_owned();
            let ping = self.note_request(ctx, Asker::Proxy(question), &ping, Some(&nick));
            ctx.send(self.carrier, &ping);
        }
    }

    /// Asks whether the account is this occupant.
    pub(super) fn probe_nick(&mut self, ctx: &mut Context<'_>, occupant: &OccupantJid) {
        if let Some(ping) = stanza::ping(occupant) {
            let asker = Asker::Proxy(Question::Nick);
            let ping = self.note_request(ctx, asker, &ping, Some(occupant.nick()));
            ctx.send(self.carrier, &ping);
        }
    }

    /// Asks whether the account is in the room by the join that has gone out on this uplink before.
    pub(super) fn probe_join(&mut self, ctx: &mut Context<'_>, uplink: UplinkId, number: u32) {
        if let Some(ping) = stanza::ping(&self.own) {
            let nick = self.own.nick().to_owned();
            let asker = Asker::Proxy(Question::Join(number));
            let ping = self.note_request(ctx, asker, &ping, Some(&nick));
            ctx.send(uplink, &ping);
        }
    }

    /// A message that is not to everybody came back as from one who is not in the room: the room
    /// knows.
    pub(super) fn doubt(&mut self, ctx: &mut Context<'_>, sent: Sent, error: &Frame) {
        let session = sent.session;
        let question = Question::Doubt {
            sent: Box::new(sent),
            error: error.compact(),
        };
        self.ask_room(ctx, question, session);
    }

    /// A room that the proxy came back to was not there any more and is locked until its owner
    /// has configured it (XEP-0045 10.1.2): the others could not come back.
    pub(super) fn open_room(&mut self, ctx: &mut Context<'_>) {
        if let Some(submit) = stanza::instant_room(&self.jid) {
            let asker = Asker::Proxy(Question::Open);
            let submit = self.note_request(ctx, asker, &submit, None);
            ctx.send(self.carrier, &submit);
        }
    }

    /// The room has answered the proxy.
    pub(super) fn answered_to_proxy(
        &mut self,
        ctx: &mut Context<'_>,
        question: Question,
        answer: &Frame,
    ) {
        let verdict = verdict(answer);
        match question {
            Question::SelfPing { session, id, again } => match verdict {
                Verdict::In => {
                    self.note_heard(ctx);
                    self.answer_ping(ctx, session, &id);
                }
                Verdict::Out => self.ping_says_out(ctx, session, id, again),
                Verdict::Unknown => ctx.deliver(session, &stanza::with_id(answer, &id)),
            },
            Question::Doubt { sent, error } => {
                if verdict != Verdict::Out || !self.repeat(ctx, self.carrier, &sent) {
                    ctx.deliver(sent.session, &error);
                }
            }
            Question::Nick => {
                let address = answer.from().and_then(|from| RoomAddress::parse(&from));
                let nick = address.and_then(|address| address.nick);
                // Somebody else who has the nick may have answered it.
                let has = |nick: &str| self.view.others.get(nick).is_some();
                let taken = nick.as_deref().is_some_and(has);
                if verdict == Verdict::In && !taken && self.awaits_nick(nick.as_deref()) {
                    self.complete_nick_change(ctx, None);
                }
            }
            // Then the answer to the join has come before this one.
            Question::Join(_) if verdict == Verdict::In => {}
            Question::Join(number) => self.join_was_lost(ctx, number),
            Question::Silence => match verdict {
                Verdict::In => self.note_heard(ctx),
                Verdict::Out => self.silence_says_out(ctx),
                Verdict::Unknown => self.stays_silent(ctx),
            },
            Question::Open => {}
        }
    }

    /// The account is not in the room: the proxy joins anew and asks once more. A room that lets it
    /// in and still says so does not mean that.
    fn ping_says_out(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        id: String,
        again: bool,
    ) {
        let on_the_way = self.comeback.is_some();
        if !again && (on_the_way || self.may_come_back(ctx)) {
            if !on_the_way {
                self.come_back(ctx, None);
            }
            let again = true;
            let question = Question::SelfPing { session, id, again };
            self.ask_room(ctx, question, session);
            return;
        }
        self.answer_ping_with(ctx, session, &id, &StanzaError::NOT_IN_ROOM);
        if !again {
            self.give_up_room(ctx);
        }
    }

    /// The proxy gets no answer.
    pub(super) fn unanswered(&mut self, ctx: &mut Context<'_>, question: Question) {
        match question {
            Question::SelfPing { session, id, .. } => {
                self.answer_ping_with(ctx, session, &id, &StanzaError::NO_ANSWER);
            }
            Question::Doubt { sent, error } => ctx.deliver(sent.session, &error),
            Question::Silence => self.stays_silent(ctx),
            Question::Nick | Question::Join(_) | Question::Open => {}
        }
    }

    fn answer_ping_with(
        &self,
        ctx: &mut Context<'_>,
        session: SessionId,
        id: &str,
        error: &StanzaError,
    ) {
        let from = self.own.to_string();
        self.tell_error(ctx, session, "iq", &from, Some(id), error);
    }
}

/// XEP-0410 3: a client that knows no pings is in the room all the same; a server that is not to
/// be reached says nothing of the room, and a nick that is not found was changed just now; any
/// other error says that the account is not in the room.
fn verdict(answer: &Frame) -> Verdict {
    const IN: [&str; 2] = ["service-unavailable", "feature-not-implemented"];
    const UNKNOWN: [&str; 3] = [
        "item-not-found",
        "remote-server-not-found",
        "remote-server-timeout",
    ];
    if answer.stanza_type().as_deref() != Some("error") {
        return Verdict::In;
    }
    if stanza::error_is(answer, &IN) {
        Verdict::In
    } else if stanza::error_is(answer, &UNKNOWN) {
        Verdict::Unknown
    } else {
        Verdict::Out
    }
}

pub(super) fn is_ping(frame: &Frame) -> bool {
    let asks = frame.stanza_type().as_deref() == Some("get");
    asks && frame.root().child("ping", ns::PING).is_some()
}

/// What the proxy answers itself while no session is in the room (behaviour 53).
pub(crate) fn answer_for_nobody(request: &Frame) -> Bytes {
    let root = request.root();
    let asks = request.stanza_type().as_deref() == Some("get");
    let query = |namespace| root.child("query", namespace).filter(|_| asks);
    if is_ping(request) {
        stanza::result_to_server(request, "")
    } else if query(ns::VERSION).is_some() {
        stanza::result_to_server(request, &stanza::version())
    } else if query(ns::DISCO_INFO).is_some_and(|query| query.attr("node").is_none()) {
        stanza::result_to_server(request, &stanza::disco_info())
    } else {
        stanza::error_to_server(request, &StanzaError::NOBODY_THERE)
    }
}
