//! What a session sends behind a join of its own that is not answered yet.

use mucplex_xml::{Frame, Kind};

use super::in_flight::Way;
use super::{JoinRequest, Nature, Phase, Room};
use crate::SessionId;
use crate::context::Context;
use crate::identity::RoomAddress;
use crate::routes::asks_to_join;
use crate::stanza::StanzaError;

/// Stanzas that a session may send behind its join before that is answered.
const MOST_BEHIND: usize = 64;
const MOST_BEHIND_BYTES: usize = 512 * 1024;

impl Room {
    /// Keeps what a session sends behind a join of its own that is not answered yet. `false` if
    /// the stanza is to be handled now.
    pub(super) fn waits_behind_join(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) -> bool {
        let kind = frame.stanza_type();
        let now = match frame.kind() {
            Kind::Presence => match kind.as_deref() {
                None => nick.is_none() || asks_to_join(frame),
                Some("unavailable" | "error") => true,
                // To a room a subscription means nothing; to somebody it does.
                Some(_) => self.nature != Nature::Unknown,
            },
            Kind::Message => kind.as_deref() == Some("error"),
            Kind::Iq => {
                !super::iq::needs_occupancy(frame, nick)
                    || matches!(kind.as_deref(), Some("result" | "error"))
            }
            Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => true,
        };
        if now {
            return false;
        }
        if self.answers_at_the_door(ctx, session, frame, nick) {
            return true;
        }
        let Some(request) = self.request_of(session) else {
            return false;
        };
        let bytes: usize = request.behind.iter().map(|it| it.bytes().len()).sum();
        let fits = bytes + frame.bytes().len() <= MOST_BEHIND_BYTES;
        if fits && request.behind.len() < MOST_BEHIND {
            request.behind.push(frame.compact());
        } else {
            self.refuse(ctx, session, frame, &StanzaError::NO_ANSWER);
        }
        true
    }

    /// What a room asks before it lets in (XEP-0158) may be answered by a message, and that cannot
    /// wait for the join: it goes right behind it, on the same uplink, as with the server alone.
    fn answers_at_the_door(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) -> bool {
        let Phase::Joining(joining) = &self.phase else {
            return false;
        };
        let asks = |asking: &JoinRequest| asking.session == session;
        let answers = frame.kind() == Kind::Message
            && nick.is_none()
            && frame.stanza_type().as_deref() != Some("groupchat")
            && joining.asking.as_ref().is_some_and(asks);
        if answers {
            ctx.send_for(session, self.carrier, frame);
            self.note_in_flight(ctx, session, frame, nick, Some(Way::Sent));
        }
        answers
    }

    /// The latest join of a session that is not answered yet.
    pub(super) fn request_of(&mut self, session: SessionId) -> Option<&mut JoinRequest> {
        let (asking, waiting) = match &mut self.phase {
            Phase::Joining(joining) => (joining.asking.as_mut(), Some(&mut joining.waiting)),
            Phase::Leaving(leaving) => (None, Some(&mut leaving.waiting)),
            Phase::Joined | Phase::Gone => (None, None),
        };
        let for_nick = self.renaming.iter_mut().chain(&mut self.sets_apart);
        let for_nick = for_nick.chain(&mut self.arriving);
        let waiting = waiting.into_iter().flatten().chain(for_nick);
        let mut all: Vec<_> = asking.into_iter().chain(waiting).collect();
        let place = all.iter().rposition(|request| request.session == session)?;
        Some(all.swap_remove(place))
    }

    /// What was sent behind a join, now that the session is in the room.
    pub(super) fn follow_up(&mut self, ctx: &mut Context<'_>, request: &JoinRequest) {
        let behind = request.behind.iter().cloned();
        self.send_behind(ctx, behind.map(|frame| (request.session, frame)));
    }

    pub(super) fn send_behind(
        &mut self,
        ctx: &mut Context<'_>,
        behind: impl IntoIterator<Item = (SessionId, Frame)>,
    ) {
        for (session, frame) in behind {
            if let Some(address) = frame.to().and_then(|to| RoomAddress::parse(&to)) {
                self.client_stanza(ctx, session, &frame, &address);
            }
        }
    }

    pub(super) fn refuse_behind(&self, ctx: &mut Context<'_>, request: &JoinRequest) {
        for frame in &request.behind {
            self.refuse(ctx, request.session, frame, &StanzaError::NOT_IN_ROOM);
        }
    }
}
