//! Requests between sessions, the room, and its occupants (XEP-0045 17.4: a service passes what
//! is for an occupant on to a stream of that occupant).
//!
//! A request to the room itself goes on the session's own uplink, where its answer can only be
//! its own. A request to an occupant, or one that takes a moderator's role, counts only from a
//! stream that is in the room: it goes on the carrier, under an id of the proxy's.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mucplex_xml::{Frame, Kind};

use super::Room;
use crate::context::Context;
use crate::identity::RoomAddress;
use crate::stanza::StanzaError;
use crate::{SessionId, UplinkId, ns, stanza};

/// How long an answer may take before its entry is given free.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests of others that sessions may leave unanswered.
const MOST_ASKED: usize = 256;

/// Requests of sessions that may be under way in one room.
const MOST_SENT: usize = 1_024;

/// Requests under way, in both directions.
#[derive(Debug, Default)]
pub(super) struct PendingIqs {
    /// Requests of sessions on the carrier, by the number of the id they have there: the oldest
    /// first, which also expires first.
    sent: BTreeMap<u64, SentIq>,
    /// Requests of the room or of occupants that were given to a session.
    asked: VecDeque<AskedIq>,
}

#[derive(Debug)]
struct SentIq {
    session: SessionId,
    /// The id the session gave it.
    id: String,
    /// The nick it went to; an answer counts only from there (behaviour 72).
    nick: Option<String>,
    expires: Instant,
}

#[derive(Debug)]
struct AskedIq {
    session: SessionId,
    uplink: UplinkId,
    request: Frame,
}

impl PendingIqs {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.values().next().map(|sent| sent.expires)
    }
}

const ID_PREFIX: &str = "mucplex-";

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
            _ if !needs_occupancy(frame, nick) => {
                if let Some(own) = ctx.uplink_of(session) {
                    ctx.send(own, frame);
                }
            }
            _ if self.attached.contains(&session) => self.ask(ctx, session, frame, nick),
            _ => self.pass_on_own_uplink(ctx, session, frame),
        }
    }

    fn ask(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        if self.iqs.sent.len() >= MOST_SENT {
            self.refuse(ctx, session, frame, &StanzaError::TOO_MANY_REQUESTS);
            return;
        }
        let sent = SentIq {
            session,
            id: frame.id().unwrap_or_default().into_owned(),
            nick: nick.map(str::to_owned),
            expires: ctx.now.instant + ANSWER_TIMEOUT,
        };
        let number = ctx.fresh_id();
        let request = with_id(frame, &format!("{ID_PREFIX}{number}"));
        self.iqs.sent.insert(number, sent);
        self.send_upstream(ctx, session, &request, false);
    }

    /// Answers the requests that get no answer any more (RFC 6120 8.2.3 wants one).
    fn give_up(&mut self, ctx: &mut Context<'_>, due: impl Fn(&SentIq) -> bool) {
        while let Some(sent) = self.iqs.sent.first_entry().filter(|entry| due(entry.get())) {
            let sent = sent.remove();
            self.answer_given_up(ctx, &sent);
        }
    }

    fn answer_given_up(&self, ctx: &mut Context<'_>, sent: &SentIq) {
        let occupant = sent
            .nick
            .as_deref()
            .and_then(|nick| self.jid.occupant(nick));
        let from = occupant.map_or_else(|| self.jid.to_string(), |it| it.to_string());
        let error = stanza::error_from_room(
            "iq",
            &from,
            ctx.address(sent.session),
            Some(&sent.id),
            &StanzaError::NO_ANSWER,
            &self.jid,
        );
        ctx.tell(sent.session, error);
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
            self.refuse(ctx, session, frame, &StanzaError::NO_ANSWER);
        } else if let Some(sent) = number_of(frame).and_then(|it| self.iqs.sent.remove(&it)) {
            self.answer_given_up(ctx, &sent);
        }
    }

    pub(super) fn expire_iqs(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        self.give_up(ctx, |sent| sent.expires <= now);
    }

    /// The carrier is lost, and with it the answers that were to come on it.
    pub(super) fn give_up_iqs(&mut self, ctx: &mut Context<'_>) {
        self.iqs.asked.clear();
        self.give_up(ctx, |_| true);
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
            self.iqs.asked.remove(place);
            self.send_upstream(ctx, session, frame, false);
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
        let sent = number_of(frame).and_then(|number| match self.iqs.sent.entry(number) {
            Entry::Occupied(sent) if sent.get().nick.as_deref() == nick => Some(sent.remove()),
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        });
        match sent {
            Some(sent) => ctx.deliver(sent.session, &with_id(frame, &sent.id)),
            None => self.deliver_to_own(ctx, uplink, frame),
        }
    }

    /// A request to the account in the room: one session answers it.
    fn asked_by_server(&mut self, ctx: &mut Context<'_>, uplink: UplinkId, frame: &Frame) {
        let own = ctx.uplinks.get(&uplink).and_then(|uplink| uplink.session);
        let answering = own
            .filter(|session| self.attached.contains(session))
            .or_else(|| self.attached.first().copied());
        let Some(session) = answering else {
            ctx.send(
                uplink,
                stanza::error_to_server(frame, &StanzaError::NOBODY_THERE),
            );
            return;
        };
        if self.iqs.asked.len() >= MOST_ASKED {
            self.iqs.asked.pop_front();
        }
        self.iqs.asked.push_back(AskedIq {
            session,
            uplink,
            request: frame.compact(),
        });
        ctx.deliver(session, frame);
    }
}

/// Whether a request counts only from a stream that is in the room: one to an occupant, and one
/// of a moderator, whose right goes by the role (XEP-0045 8 and 9).
pub(super) fn needs_occupancy(frame: &Frame, nick: Option<&str>) -> bool {
    nick.is_some() || frame.root().child("query", ns::MUC_ADMIN).is_some()
}

/// The number of an id of ours.
fn number_of(frame: &Frame) -> Option<u64> {
    frame.id()?.strip_prefix(ID_PREFIX)?.parse().ok()
}

fn with_id(frame: &Frame, id: &str) -> Frame {
    stanza::edit(frame, |patch, frame| {
        patch.set_attr(&frame.root(), "id", id);
    })
}
