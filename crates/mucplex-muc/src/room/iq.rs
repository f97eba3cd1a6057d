//! Requests between sessions, the room, and its occupants (XEP-0045 17.4: a service passes what
//! is for an occupant on to a stream of that occupant).
//!
//! A request to the room itself goes on the session's own uplink, where its answer can only be
//! its own. A request to an occupant, or one that takes a moderator's role, counts only from a
//! stream that is in the room: it goes on the carrier, under an id of the proxy's.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mucplex_xml::{Frame, Kind};

use super::ping::{Question, is_ping};
use super::{Nature, Room};
use crate::context::Context;
use crate::identity::RoomAddress;
use crate::stanza::StanzaError;
use crate::{SessionId, UplinkId, ns, stanza};

/// How long an answer may take before its entry is given free.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests of others that may wait for a session's answer in one room, and their bytes: they are
/// kept so that another session can be asked.
const MOST_ASKED: usize = 256;
const MOST_ASKED_BYTES: usize = 512 * 1024;

/// Requests of sessions that may be under way in one room.
const MOST_SENT: usize = 1_024;

/// Requests under way, in both directions.
#[derive(Debug, Default)]
pub(super) struct PendingIqs {
    /// Requests of sessions on the carrier, by the number of the id they have there: the oldest
    /// first, which also expires first.
    sent: BTreeMap<u64, SentIq>,
    /// Requests of the room or of occupants that were given to a session, the oldest first.
    asked: VecDeque<AskedIq>,
}

#[derive(Debug)]
struct SentIq {
    asker: Asker,
    /// The nick it went to; an answer counts only from there (behaviour 72).
    nick: Option<String>,
    expires: Instant,
}

/// For whom a request went.
#[derive(Debug)]
pub(super) enum Asker {
    /// A session, which gave it this id.
    Session { session: SessionId, id: String },
    /// The proxy, for its own reasons.
    Proxy(Question),
}

#[derive(Debug)]
struct AskedIq {
    session: SessionId,
    uplink: UplinkId,
    request: Frame,
    expires: Instant,
}

impl PendingIqs {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let sent = self.sent.values().next().map(|sent| sent.expires);
        let asked = self.asked.front().map(|asked| asked.expires);
        sent.into_iter().chain(asked).min()
    }

    /// Whether another request of somebody can be kept.
    fn can_keep(&self, request: &Frame) -> bool {
        let kept: usize = self
            .asked
            .iter()
            .map(|asked| asked.request.bytes().len())
            .sum();
        self.asked.len() < MOST_ASKED && kept + request.bytes().len() <= MOST_ASKED_BYTES
    }
}

pub(crate) const ID_PREFIX: &str = "mucplex-";

impl Room {
    pub(super) fn iq_from_client(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match frame.stanza_type().as_deref() {
            Some("result" | "error") => self.answer_from_client(ctx, session, frame, nick),
            _ if is_ping(frame) && nick == Some(self.own.nick()) => {
                self.self_ping(ctx, session, frame);
            }
            _ if !needs_occupancy(frame, nick) => self.ask_the_room_itself(ctx, session, frame),
            _ if self.attached.contains(&session) => self.ask(ctx, session, frame, nick),
            _ => self.ask_from_outside(ctx, session, frame, nick),
        }
    }

    /// A request to the room itself keeps its id, unless that looks like one of the proxy's: on a
    /// carrier its answer would be taken for another session's.
    fn ask_the_room_itself(&mut self, ctx: &mut Context<'_>, session: SessionId, frame: &Frame) {
        let Some(own) = ctx.uplink_of(session) else {
            return;
        };
        if number_of(frame).is_none() {
            ctx.send(own, frame);
        } else if let Some(request) = self.renumbered(ctx, session, frame, None) {
            ctx.send(own, &request);
        }
    }

    /// A request of a session that is not in the room: the same.
    fn ask_from_outside(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match ctx.uplink_of(session).filter(|own| !self.uses(*own)) {
            Some(own) if number_of(frame).is_some() => {
                if let Some(request) = self.renumbered(ctx, session, frame, nick) {
                    ctx.send(own, &request);
                }
            }
            Some(_) | None => self.pass_on_own_uplink(ctx, session, frame),
        }
    }

    fn ask(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        if let Some(request) = self.renumbered(ctx, session, frame, nick) {
            self.send_upstream(ctx, session, &request, false);
        }
    }

    /// A session's request under an id of the proxy's; refused, and `None`, if too many are under
    /// way.
    fn renumbered(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) -> Option<Frame> {
        if !self.may_ask(ctx, session, frame) {
            return None;
        }
        let id = frame.id().unwrap_or_default().into_owned();
        Some(self.note_request(ctx, Asker::Session { session, id }, frame, nick))
    }

    /// Whether there is space for one more request; if not, the session is told.
    pub(super) fn may_ask(
        &self,
        ctx: &mut Context<'_>,
        session: SessionId,
        request: &Frame,
    ) -> bool {
        let may = self.iqs.sent.len() < MOST_SENT;
        if !may {
            self.refuse(ctx, session, request, &StanzaError::TOO_MANY_REQUESTS);
        }
        may
    }

    /// Notes a request that goes upstream; gives it with the id it has there.
    pub(super) fn note_request(
        &mut self,
        ctx: &mut Context<'_>,
        asker: Asker,
        request: &Frame,
        nick: Option<&str>,
    ) -> Frame {
        let number = ctx.fresh_id();
        let sent = SentIq {
            asker,
            nick: nick.map(str::to_owned),
            expires: ctx.now.instant + ANSWER_TIMEOUT,
        };
        self.iqs.sent.insert(number, sent);
        stanza::with_id(request, &format!("{ID_PREFIX}{number}"))
    }

    /// Answers the requests that get no answer any more (RFC 6120 8.2.3 wants one).
    fn give_up(&mut self, ctx: &mut Context<'_>, due: impl Fn(&SentIq) -> bool) {
        while let Some(sent) = self.iqs.sent.first_entry().filter(|entry| due(entry.get())) {
            let sent = sent.remove();
            self.answer_given_up(ctx, sent);
        }
    }

    fn answer_given_up(&mut self, ctx: &mut Context<'_>, sent: SentIq) {
        let (session, id) = match sent.asker {
            Asker::Session { session, id } => (session, id),
            Asker::Proxy(question) => return self.unanswered(ctx, question),
        };
        let occupant = sent
            .nick
            .as_deref()
            .and_then(|nick| self.jid.occupant(nick));
        let from = occupant.map_or_else(|| self.jid.to_string(), |it| it.to_string());
        self.tell_error(
            ctx,
            session,
            "iq",
            &from,
            Some(&id),
            &StanzaError::NO_ANSWER,
        );
    }

    /// A stanza of a session does not go out after all: an error answers it, but for one that is
    /// an answer itself (RFC 6120 8.2.3).
    pub(super) fn refuse_unsent(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
    ) {
        if frame.kind() != Kind::Iq {
            if self.in_flight.not_sent(session, frame) {
                self.refuse(ctx, session, frame, &StanzaError::NO_ANSWER);
            }
        } else if let Some(sent) = number_of(frame).and_then(|it| self.iqs.sent.remove(&it)) {
            self.answer_given_up(ctx, sent);
        }
    }

    pub(super) fn expire_iqs(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        self.give_up(ctx, |sent| sent.expires <= now);
        let due = |asked: &mut AskedIq| asked.expires <= now;
        while let Some(asked) = self.iqs.asked.pop_front_if(due) {
            let error = stanza::error_to_server(&asked.request, &StanzaError::UNANSWERED);
            if self.uses(asked.uplink) || self.farewells.expects(asked.uplink) {
                ctx.send(asked.uplink, error);
            } else if self.uses(self.carrier) {
                // The stream that was asked is not in the room any more; some services take the
                // answer from another one (ejabberd 23.01).
                ctx.send(self.carrier, error);
            }
        }
    }

    /// The carrier is lost, and with it the answers that were to come on it, or to go there.
    pub(super) fn give_up_iqs(&mut self, ctx: &mut Context<'_>) {
        let carrier = self.carrier;
        self.iqs.asked.retain(|asked| asked.uplink != carrier);
        self.give_up_sent(ctx);
    }

    /// What the proxy wanted to know of the room it need not know any more: were it told now that
    /// the account is not in it, it would go back.
    pub(super) fn give_up_questions(&mut self, ctx: &mut Context<'_>) {
        let sent = std::mem::take(&mut self.iqs.sent);
        let by_proxy = |sent: &SentIq| matches!(sent.asker, Asker::Proxy(_));
        let (questions, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            sent.into_iter().partition(|(_, sent)| by_proxy(sent));
        self.iqs.sent = rest;
        for question in questions.into_values() {
            self.answer_given_up(ctx, question);
        }
    }

    /// Of the requests of sessions, those that have gone out get no answer any more.
    fn give_up_sent(&mut self, ctx: &mut Context<'_>) {
        let held = self.held_requests();
        let sent = std::mem::take(&mut self.iqs.sent);
        let (held, lost): (BTreeMap<_, _>, BTreeMap<_, _>) = sent
            .into_iter()
            .partition(|(number, _)| held.contains(number));
        self.iqs.sent = held;
        for sent in lost.into_values() {
            self.answer_given_up(ctx, sent);
        }
    }

    /// Whether requests are under way on the carrier, in either direction.
    pub(super) fn awaits_answers(&self) -> bool {
        let held = self.held_requests();
        let mut asked = self.iqs.asked.iter();
        asked.any(|asked| asked.uplink == self.carrier)
            || self.iqs.sent.keys().any(|number| !held.contains(number))
    }

    /// The carrier is to leave, and nobody has answered in time: whoever asked is told.
    pub(super) fn give_up_answers(&mut self, ctx: &mut Context<'_>) {
        let carrier = self.carrier;
        let nobody = self.attached.is_empty();
        self.iqs.asked.retain(|asked| {
            let owed = asked.uplink == carrier;
            if owed && nobody {
                ctx.send(carrier, super::ping::answer_for_nobody(&asked.request));
            } else if owed {
                // A session that is there might have said otherwise.
                let error = &StanzaError::UNANSWERED;
                ctx.send(carrier, stanza::error_to_server(&asked.request, error));
            }
            !owed
        });
        self.give_up_sent(ctx);
    }

    /// The requests that have not gone out because a hand-over keeps them.
    fn held_requests(&self) -> BTreeSet<u64> {
        let held = self.handover.iter().flat_map(|handover| &handover.held);
        held.filter(|(_, frame)| frame.kind() == Kind::Iq)
            .filter_map(|(_, frame)| number_of(frame))
            .collect()
    }

    /// A session is gone: what it was asked is for another one to answer (behaviour 53).
    pub(super) fn ask_others(&mut self, ctx: &mut Context<'_>, gone: SessionId) {
        let asked = std::mem::take(&mut self.iqs.asked);
        let (again, rest) = asked.into_iter().partition(|asked| asked.session == gone);
        self.iqs.asked = rest;
        let again: VecDeque<AskedIq> = again;
        for asked in again {
            if ctx.uplinks.contains_key(&asked.uplink) {
                self.asked_by_server(ctx, asked.uplink, &asked.request);
            }
        }
    }

    /// An answer goes into the room only if the session was asked: an error that answers nothing
    /// could put the account out of the room (behaviour 58).
    fn answer_from_client(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let place = self.iqs.asked.iter().position(|asked| {
            let from = asked.request.from();
            let asker = from.and_then(|from| RoomAddress::parse(&from));
            asked.session == session
                && asked.request.id() == frame.id()
                && asker.is_some_and(|asker| asker.nick.as_deref() == nick)
        });
        if let Some(place) = place {
            let asked = self.iqs.asked.remove(place);
            match asked.filter(|_| self.nature == Nature::Unknown) {
                Some(asked) => ctx.send(asked.uplink, frame),
                None => {
                    self.send_upstream(ctx, session, frame, false);
                }
            }
        }
    }

    pub(super) fn iq_from_server(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match frame.stanza_type().as_deref() {
            Some("result" | "error") => self.answer_from_server(ctx, uplink, frame, nick),
            _ if is_ping(frame) && (nick == Some(self.own.nick()) || self.awaits_nick(nick)) => {
                // The account asks itself, by way of a room that passes that on (XEP-0410 3).
                ctx.send(uplink, stanza::result_to_server(frame, ""));
            }
            _ => self.asked_by_server(ctx, uplink, frame),
        }
    }

    fn answer_from_server(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        // On an uplink that has no part in the room only its own session can have been answered.
        let in_room = self.is_served_by(uplink);
        let may_be_for = |asker: &Asker| match asker {
            Asker::Session { session, .. } => in_room || ctx.uplink_of(*session) == Some(uplink),
            Asker::Proxy(_) => in_room,
        };
        let sent = number_of(frame).and_then(|number| match self.iqs.sent.entry(number) {
            Entry::Occupied(sent)
                if sent.get().nick.as_deref() == nick && may_be_for(&sent.get().asker) =>
            {
                Some(sent.remove())
            }
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        });
        match sent {
            Some(SentIq { asker, .. }) => match asker {
                Asker::Session { session, id } => {
                    ctx.deliver(session, &stanza::with_id(frame, &id));
                }
                Asker::Proxy(question) => self.answered_to_proxy(ctx, question, frame),
            },
            // Too late: who asked has been told that there is none.
            None if is_late_answer(frame, nick) => {}
            None => self.deliver_to_own(ctx, uplink, frame),
        }
    }

    /// A request to the account in the room: one session answers it, if possible one whose client is
    /// there, and of these the one whose presence and capabilities the room sees (behaviour 40). With
    /// all clients away it waits for one of them, as a server lets it wait in the queue of a stream
    /// that may be resumed (XEP-0198 5), and as long as any answer may take.
    fn asked_by_server(&mut self, ctx: &mut Context<'_>, uplink: UplinkId, frame: &Frame) {
        let own = ctx.uplinks.get(&uplink).and_then(|uplink| uplink.session);
        // Nobody knows yet whether this is a room that speaks to the account (behaviour 68).
        let alone = own.filter(|_| self.nature == Nature::Unknown);
        let inside = own.filter(|session| self.attached.contains(session));
        let attached = self.attached.iter().copied();
        let candidates = self.standing.speaker().into_iter().chain(inside);
        let candidates: Vec<_> = candidates.chain(attached).chain(self.asking()).collect();
        let awake = candidates.iter().find(|session| ctx.is_awake(**session));
        let answering = alone.or_else(|| awake.or(candidates.first()).copied());
        let Some(session) = answering else {
            ctx.send(uplink, super::ping::answer_for_nobody(frame));
            return;
        };
        if !self.iqs.can_keep(frame) {
            let error = &StanzaError::TOO_MANY_REQUESTS;
            ctx.send(uplink, stanza::error_to_server(frame, error));
            return;
        }
        self.iqs.asked.push_back(AskedIq {
            session,
            uplink,
            request: frame.compact(),
            expires: ctx.now.instant + ANSWER_TIMEOUT,
        });
        ctx.deliver(session, frame);
    }
}

/// Whether a request counts only from a stream that is in the room: one to an occupant, and one
/// of a moderator, whose right goes by the role (XEP-0045 8 and 9).
pub(crate) fn needs_occupancy(frame: &Frame, nick: Option<&str>) -> bool {
    nick.is_some() || frame.root().child("query", ns::MUC_ADMIN).is_some()
}

/// An answer to a request that the proxy has sent on to an occupant and does not wait for any more.
pub(crate) fn is_late_answer(frame: &Frame, nick: Option<&str>) -> bool {
    let answers = matches!(frame.stanza_type().as_deref(), Some("result" | "error"));
    frame.kind() == Kind::Iq && answers && nick.is_some() && number_of(frame).is_some()
}

/// The number of an id of ours.
pub(crate) fn number_of(frame: &Frame) -> Option<u64> {
    frame.id()?.strip_prefix(ID_PREFIX)?.parse().ok()
}
