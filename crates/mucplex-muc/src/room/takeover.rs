//! The end of a hand-over: the next carrier becomes the carrier, and the sessions are told what
//! they would else miss. Occupants first, then messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mucplex_xml::Frame;

use super::handover::{HISTORY_MARGIN, Handover};
use super::overlap::{missed, same_presence};
use super::{Phase, Room};
use crate::context::Context;
use crate::history;
use crate::identity::RoomAddress;
use crate::muc_user::{MucUser, Status, is_muc_user};
use crate::{SessionId, ns, stanza};

/// How long after a hand-over the room may still echo the proxy's own joins and leaves.
const ECHO_TIME: Duration = Duration::from_secs(10);

/// How long after a join that was not the first on its stream the carrier may bring the answer to an
/// earlier one.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// What a carrier may bring of the past behind the answer to its join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Past {
    #[default]
    Over,
    /// Another answer: the room was asked more than once, maybe by the process before this one.
    MayRepeat { until: Instant },
    /// The answer itself: it was taken for complete before the subject came.
    Late { until: Instant },
}

impl Past {
    /// Behind a join that is taken for complete.
    pub(super) fn behind(with_subject: bool, asked_again: bool, now: Instant) -> Self {
        let until = now + ANSWER_TIME;
        match (with_subject, asked_again) {
            (false, _) => Self::Late { until },
            (true, true) => Self::MayRepeat { until },
            (true, false) => Self::Over,
        }
    }
}

impl Room {
    /// The next carrier is the carrier.
    pub(super) fn complete(&mut self, ctx: &mut Context<'_>) {
        let Some(mut handover) = self.handover.take() else {
            return;
        };
        let asked_again = handover.probes > 0 || self.record.asked_before;
        let now = ctx.now.instant;
        self.past = Past::behind(handover.subject.is_some(), asked_again, now);
        self.carrier = handover.to;
        self.handed_over = Some(ctx.now.instant);
        self.note_heard(ctx);
        self.comeback = None;
        self.keeps_off = None;
        self.vanished = false;
        let others = &self.view.others;
        let join = handover
            .brought
            .join_point(&handover.others, others, &handover.past);
        let brought = std::mem::take(&mut handover.brought);
        self.duplicates = match join.place {
            Some(place) if handover.overlaps || !join.elsewhere => brought.after(place),
            _ if handover.overlaps => brought.after(join.first),
            _ => {
                self.tell_difference(ctx, &handover);
                brought.messages_after(join.first)
            }
        };
        if !handover.overlaps {
            // What was on its way before may reach the room behind this join.
            self.standing.doubt(ctx.now.instant);
            self.tell_own(ctx, &handover);
            self.tell_missed(ctx, &handover);
            self.tell_subject(ctx, &handover);
        }
        for frame in handover.early {
            let address = frame.from().and_then(|from| RoomAddress::parse(&from));
            let nick = address.and_then(|address| address.nick);
            // What is told last may have ended the occupancy.
            if matches!(self.phase, Phase::Joined) {
                self.live_from_server(ctx, &frame, nick.as_deref());
            }
        }
        self.refuse_lost(ctx);
        self.send_held(ctx, handover.held);
        for request in std::mem::take(&mut self.arriving) {
            self.join(ctx, request);
        }
    }

    /// What has waited for the hand-over goes out; or, where the last the next carrier has brought
    /// is that the account is put out, waits on or is refused.
    pub(super) fn send_held(&mut self, ctx: &mut Context<'_>, held: VecDeque<(SessionId, Frame)>) {
        if let Some(next) = &mut self.handover {
            next.held.extend(held);
        } else if matches!(self.phase, Phase::Joined) {
            self.in_flight.flushed(ctx.now.instant, self.carrier);
            for (session, frame) in held {
                ctx.send_for(session, self.carrier, &frame);
            }
        } else {
            self.refuse_held(ctx, held);
        }
    }

    /// Whether own presences may come that answer no session, but the proxy's own joins and leaves.
    pub(super) fn expects_echo(&self, ctx: &Context<'_>) -> bool {
        let now = ctx.now.instant;
        self.handover.is_some() || self.handed_over.is_some_and(|at| now < at + ECHO_TIME)
    }

    /// When it is certain which presences the carriers have both brought.
    pub(super) fn overlap_deadline(&self) -> Option<Instant> {
        let at = self.handed_over.filter(|_| self.duplicates.are_open())?;
        at.checked_add(ECHO_TIME)
    }

    pub(super) fn close_overlap(&mut self, ctx: &mut Context<'_>) {
        let owed = self.duplicates.close();
        self.tell_owed(ctx, owed);
    }

    /// How the room is otherwise than the sessions know it: what came to pass while no carrier
    /// was there to see it.
    fn tell_difference(&mut self, ctx: &mut Context<'_>, handover: &Handover) {
        let found = &handover.others;
        let mut told = Vec::new();
        for (nick, presence) in self.view.others.in_order() {
            if found.get(nick).is_none() {
                told.push((nick.to_owned(), gone(presence)));
            }
        }
        for (nick, presence) in found.in_order() {
            let known = self.view.others.get(nick);
            if !known.is_some_and(|known| same_presence(known, presence)) {
                told.push((nick.to_owned(), presence.compact()));
            }
        }
        for (nick, presence) in told {
            if presence.stanza_type().is_some() {
                self.view.others.remove(&nick);
            } else {
                self.view.others.set(&nick, presence.clone());
            }
            self.fan_out(ctx, &presence);
        }
    }

    /// The account's own standing, and what its self-presence says of the room.
    fn tell_own(&mut self, ctx: &mut Context<'_>, handover: &Handover) {
        let Some(own) = &handover.own else {
            return;
        };
        let user = MucUser::read(own);
        self.view.non_anonymous = user.has(Status::NonAnonymous);
        self.view.logged = user.has(Status::Logged);
        if user.has(Status::Created) {
            // The room of that name was destroyed meanwhile, and its past is not this one's.
            self.backlog.clear();
            self.open_room(ctx);
        }
        let renamed = std::mem::take(&mut self.renamed);
        if renamed || !self.is_known_self_presence(own) {
            self.view.own = Some(own.compact());
            self.fan_out(ctx, own);
        }
        if renamed {
            self.admit_renamed(ctx);
        }
    }

    fn tell_subject(&mut self, ctx: &mut Context<'_>, handover: &Handover) {
        if let Some(subject) = &handover.subject
            && !self.is_known_subject(subject)
            && !self.duplicates.have_subject()
        {
            self.fan_out(ctx, subject);
            self.set_subject(ctx, subject);
        }
    }

    /// Whether the sessions know this subject.
    pub(super) fn is_known_subject(&self, subject: &Frame) -> bool {
        let text = |frame: &Frame| frame.root().child("subject", ns::CLIENT).map(|s| s.text());
        self.view.subject.as_ref().and_then(text) == text(subject)
    }

    fn tell_missed(&mut self, ctx: &mut Context<'_>, handover: &Handover) {
        let recent = handover.since.checked_sub(HISTORY_MARGIN);
        let known = self
            .backlog
            .marks_since(recent.unwrap_or(std::time::SystemTime::UNIX_EPOCH));
        for message in missed(known, &handover.past) {
            self.tell_past_message(ctx, message);
        }
    }

    /// A message that was said while nobody was there to hear it, and that the sessions do not know.
    fn tell_past_message(&mut self, ctx: &mut Context<'_>, message: &Frame) {
        let Some(stamp) = history::room_stamp(message, &self.jid) else {
            return;
        };
        let from = message.from().and_then(|from| RoomAddress::parse(&from));
        if from.is_some_and(|from| from.nick.as_deref() == Some(self.own.nick())) {
            self.in_flight.reflected(message);
        }
        let (number, mark) = ctx.number_of(message);
        self.fan_out_marked(ctx, message, mark);
        self.backlog.push_replayed(message.compact(), stamp, number);
    }

    /// Whether this is a message of the past, told once more or too late; where the join was taken
    /// for complete without it, what the sessions do not know of it they are told.
    pub(super) fn is_of_past(&mut self, ctx: &mut Context<'_>, frame: &Frame) -> bool {
        let (Past::MayRepeat { until } | Past::Late { until }) = self.past else {
            return false;
        };
        if until <= ctx.now.instant {
            self.past = Past::Over;
            return false;
        }
        let stamp = history::room_stamp(frame, &self.jid);
        let Some(stamp) = stamp.filter(|_| !super::message::is_subject(frame)) else {
            self.past = Past::MayRepeat { until };
            return false;
        };
        let recent = stamp.checked_sub(HISTORY_MARGIN);
        let known = self
            .backlog
            .marks_since(recent.unwrap_or(std::time::SystemTime::UNIX_EPOCH));
        let late = matches!(self.past, Past::Late { .. });
        // From before all that the account has asked for at first.
        let is_older = |first| stamp < first || !late && stamp == first;
        let before = self.backlog.first_said().is_some_and(is_older);
        let is_new = !before && !missed(known, std::slice::from_ref(frame)).is_empty();
        if is_new && late {
            self.tell_past_message(ctx, frame);
            return true;
        }
        !is_new
    }
}

/// The leaving of an occupant, made from its last presence.
pub(super) fn gone(presence: &Frame) -> Frame {
    stanza::edit(presence, |patch, presence| {
        let root = presence.root();
        patch.set_attr(&root, "type", "unavailable");
        for child in root.children() {
            if !is_muc_user(&child) {
                patch.remove(&child);
            } else if let Some(item) = child.child("item", ns::MUC_USER) {
                patch.set_attr(&item, "role", "none");
            }
        }
    })
}
