//! What others send to the full JID of an anchor, which rooms that show JIDs tell them (behaviours
//! 54, 76).
//!
//! A message goes to every session that is in a room. A request goes to one of them, if possible to
//! one whose client is there, under an id of the proxy's, by which its answer is known; it goes back
//! on the anchor under the asker's id. With nobody in any room the proxy answers for itself, as
//! rooms are answered then.
//!
//! The server's own requests are the proxy's to answer. Presences and subscriptions are ignored: who
//! sends them means a contact that can be available, which an anchor never is, and the account's own
//! sessions get theirs by the bare JID. So are errors and answers to what nobody has asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mucplex_xml::{Frame, Kind};

use super::{Hub, Now, Output};
use crate::muc_user::is_muc_user;
use crate::plain::wants_answer;
use crate::room::{ID_PREFIX, answer_for_nobody, number_of};
use crate::stanza::{self, StanzaError, error_to_server};
use crate::{SessionId, UplinkId, Urgency};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests that may wait for an answer, and their bytes: they are kept so that another session can
/// be asked.
const MOST_ASKED: usize = 256;
const MOST_ASKED_BYTES: usize = 512 * 1024;

/// Requests of others that sessions have been given, by the number of their id there.
#[derive(Debug, Default)]
pub(super) struct Others {
    asked: BTreeMap<u64, Asked>,
    /// Whom sessions that have gone were asked by: to be given to others.
    orphans: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    session: SessionId,
    uplink: UplinkId,
    request: Frame,
    expires: Instant,
}

impl Others {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.values().next().map(|asked| asked.expires)
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        let gone = |_: &u64, asked: &mut Asked| asked.session == session;
        let gone = self.asked.extract_if(.., gone).map(|(_, asked)| asked);
        self.orphans.extend(gone);
    }

    /// The anchor is gone, and who has asked there with it.
    pub(super) fn lost(&mut self, uplink: UplinkId) {
        self.asked.retain(|_, asked| asked.uplink != uplink);
        self.orphans.retain(|asked| asked.uplink != uplink);
    }

    fn has_space(&self, request: &Frame) -> bool {
        let kept = self.asked.values().map(|it| it.request.bytes().len());
        let bytes = kept.sum::<usize>() + request.bytes().len();
        self.asked.len() < MOST_ASKED && bytes <= MOST_ASKED_BYTES
    }
}

impl Hub {
    /// A stanza on an anchor that is of no room.
    pub(super) fn stanza_of_other(&mut self, now: Now, uplink: UplinkId, frame: &Frame) {
        match (frame.kind(), frame.stanza_type().as_deref()) {
            (Kind::Message, None | Some("chat" | "normal" | "headline")) => {
                self.message_of_other(uplink, frame);
            }
            (Kind::Iq, Some("get" | "set")) if self.is_of_own_server(frame) => {
                self.tell_server(uplink, answer_for_nobody(frame));
            }
            (Kind::Iq, Some("get" | "set")) => self.request_of_other(now, uplink, frame),
            (
                Kind::Message
                | Kind::Iq
                | Kind::Presence
                | Kind::StreamError
                | Kind::StreamFeatures
                | Kind::Nonza,
                _,
            ) => {}
        }
    }

    /// Whether the account's own server says this (RFC 6120 8.1.2.1, 10.3.3).
    fn is_of_own_server(&self, frame: &Frame) -> bool {
        let domain = self.account.0.domain();
        frame
            .from()
            .is_none_or(|from| *from == *domain.as_str() || *from == self.account_bare)
    }

    fn message_of_other(&mut self, uplink: UplinkId, frame: &Frame) {
        let sessions = self.sessions_in_rooms();
        // A room that the account has left may be the one to speak: an error could put the account
        // out of a room (behaviour 58).
        let of_room = frame.root().children().any(|child| is_muc_user(&child));
        if sessions.is_empty() && wants_answer(frame) && !of_room {
            let error = error_to_server(frame, &StanzaError::NOBODY_THERE);
            self.tell_server(uplink, error);
        }
        for session in sessions {
            self.tell_session(session, frame);
        }
    }

    fn request_of_other(&mut self, now: Now, uplink: UplinkId, frame: &Frame) {
        let sessions = self.sessions_in_rooms();
        let is_awake = |session: &&SessionId| self.sessions.get(session).is_some_and(|s| !s.asleep);
        let awake = sessions.iter().find(is_awake);
        let Some(session) = awake.or(sessions.first()).copied() else {
            return self.tell_server(uplink, answer_for_nobody(frame));
        };
        if !self.others.has_space(frame) {
            let error = error_to_server(frame, &StanzaError::TOO_MANY_REQUESTS);
            return self.tell_server(uplink, error);
        }
        self.next_id += 1;
        let number = self.next_id;
        let asked = Asked {
            session,
            uplink,
            request: frame.compact(),
            expires: now.instant + ANSWER_TIMEOUT,
        };
        self.others.asked.insert(number, asked);
        let request = stanza::with_id(frame, &format!("{ID_PREFIX}{number}"));
        self.tell_session(session, &request);
    }

    /// A session's answer to such a request. `false` if it is none.
    pub(super) fn answers_other(&mut self, session: SessionId, frame: &Frame) -> bool {
        let is_answer = frame.kind() == Kind::Iq
            && matches!(frame.stanza_type().as_deref(), Some("result" | "error"));
        let Some(number) = number_of(frame).filter(|_| is_answer) else {
            return false;
        };
        let is_it = |asked: &Asked| asked.session == session && asked.request.from() == frame.to();
        if !self.others.asked.get(&number).is_some_and(is_it) {
            return false;
        }
        if let Some(asked) = self.others.asked.remove(&number) {
            let id = asked.request.id();
            let answer = stanza::edit(frame, |patch, frame| {
                patch.remove_attr(&frame.root(), "from");
                stanza::set_id(patch, frame, id.as_deref());
            });
            self.outputs.push_back(Output::ToServer {
                uplink: asked.uplink,
                stanza: (&answer).into(),
            });
        }
        true
    }

    /// Answers what has got no answer in time, and asks others what was asked of sessions that have
    /// gone.
    pub(super) fn settle_others(&mut self, now: Now) {
        for asked in std::mem::take(&mut self.others.orphans) {
            self.request_of_other(now, asked.uplink, &asked.request);
        }
        while let Some(asked) = self.others.asked.first_entry() {
            if asked.get().expires > now.instant {
                return;
            }
            let asked = asked.remove();
            let error = error_to_server(&asked.request, &StanzaError::UNANSWERED);
            self.tell_server(asked.uplink, error);
        }
    }

    /// Every session that is in any room.
    fn sessions_in_rooms(&self) -> Vec<SessionId> {
        let in_rooms = |session: &&SessionId| self.rooms.values().any(|room| room.has(**session));
        self.sessions.keys().filter(in_rooms).copied().collect()
    }

    fn tell_server(&mut self, uplink: UplinkId, stanza: bytes::Bytes) {
        let stanza = stanza.into();
        self.outputs.push_back(Output::ToServer { uplink, stanza });
    }

    fn tell_session(&mut self, session: SessionId, frame: &Frame) {
        let Some(known) = self.sessions.get(&session) else {
            return;
        };
        let stanza = frame.with_to(&known.address);
        let owned = stanza.len();
        self.outputs.push_back(Output::ToClient {
            session,
            stanza,
            owned,
            urgency: Urgency::of(frame),
            mark: 0,
        });
    }
}
