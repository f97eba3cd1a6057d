//! Another uplink takes a room over from the one that carried it: make before break.
//!
//! The next carrier joins under the same nick while the old one is still in the room; the others
//! see at most a presence update. Then the old one leaves, and the room's answer to that leave is
//! a mark in its stream: what it brought before the mark is all it will ever bring.
//!
//! ```text
//!          hand-over begins                  next is in        mark on old
//!   old  ──┬── a ── b ── c ──────────── d ── [leave sent] ── e ──┤
//!   next   └─[join]── presences, self, history(a b), subject ── d ── e ── f ── …
//!   sessions   a    b    c              d                    e     f
//! ```
//!
//! Until the mark the sessions are served from the old carrier and the next one's live stanzas
//! are kept. A room tells all its streams the same in the same order, so those are first the ones
//! the old carrier has brought as well (`d e`), and then, from the first one it has not brought,
//! all new (`f`): see [`overlap`](super::overlap).
//!
//! Between `next is in` and the leave, the old carrier stays for the answers to requests that are
//! under way on it, if there are any (behaviours 52 and 53).
//!
//! If the old carrier dies without a mark, the next one's view is compared with what the sessions
//! know, and they are told the difference (see `takeover`).

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use mucplex_xml::{Frame, Kind, Outgoing};

use super::iq::number_of;
use super::overlap::{Brought, is_ordered};
use super::{Room, SUBJECT_TIMEOUT};
use crate::context::Context;
use crate::history;
use crate::muc_user::{MucUser, Status};
use crate::roster::Roster;
use crate::routes::muc_element;
use crate::{SessionId, UplinkId, stanza};

/// How long the next carrier's join may take.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the room may take to confirm the old carrier's leave.
pub(super) const MARK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the old carrier stays for the answers to requests that are under way on it.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(5);
/// How far back the next carrier asks for messages: the time a loss may go unnoticed, and the
/// difference between two clocks.
pub(super) const HISTORY_MARGIN: Duration = Duration::from_secs(120);
/// Where the nick is taken by a stream that has ended, and the room does not know yet: how long to
/// wait before another try, and how many tries.
pub(super) const CONFLICT_PAUSE: Duration = Duration::from_secs(2);
pub(super) const MOST_CONFLICTS: u32 = 10;

/// A hand-over under way.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) to: UplinkId,
    pub(super) stage: Stage,
    pub(super) deadline: Instant,
    pub(super) old: Old,
    /// The id of the join, where only the answer that has it counts.
    pub(super) id: Option<String>,
    /// Since when the next carrier asks for what has been said.
    pub(super) since: SystemTime,
    /// Nobody has carried the room for a while.
    pub(super) revives: bool,
    /// Both carriers are in the room at once: the old one was told to leave when the next was in.
    pub(super) overlaps: bool,
    /// The next carrier's join was sent before the old one was known to have ended, and may be
    /// refused for that alone.
    pub(super) beside: bool,
    /// How often the nick was found taken by a stream of the account that has ended.
    pub(super) conflicts: u32,
    /// How often the room was asked about a join it has not answered; each join counts as well.
    pub(super) probes: u32,
    /// The room as the next carrier found it.
    pub(super) others: Roster,
    pub(super) own: Option<Frame>,
    pub(super) past: Vec<Frame>,
    pub(super) subject: Option<Frame>,
    /// Live stanzas of the next carrier that the sessions have not been given from it.
    pub(super) early: VecDeque<Frame>,
    pub(super) brought: Brought,
    /// Stanzas of sessions that wait until one carrier has surely ended and the other begun.
    pub(super) held: VecDeque<(SessionId, Frame)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No uplink can carry the room, or none yet: the room is dormant. The deadline is that of the
    /// next try, if one has failed.
    Waiting { tries_at: Option<Instant> },
    /// The room allows no second stream under the nick: the old carrier has been told to leave,
    /// and the next one joins when the room has said so.
    Breaking,
    /// The next carrier's join: presences until its self-presence.
    Presences,
    /// The next carrier's join: messages of the past until the subject.
    History,
    /// The next carrier is in; the old one serves on until the requests that are under way on it
    /// are answered, since an answer counts only from the stream that was asked.
    Answering,
    /// The next carrier is in; the old one's leave is on its way.
    Settling,
}

/// How far the old carrier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// In the room; it takes what sessions send.
    Serving,
    /// Told to leave; it brings the room's traffic up to the mark.
    Leaving,
    /// It will bring nothing more: its mark has come, or its uplink is lost.
    Ended,
}

impl Handover {
    pub(super) fn new(to: UplinkId, old: Old, now: Instant) -> Self {
        Self {
            to,
            stage: Stage::Presences,
            deadline: now + JOIN_TIMEOUT,
            old,
            id: None,
            since: SystemTime::UNIX_EPOCH,
            revives: false,
            overlaps: false,
            beside: old != Old::Ended,
            conflicts: 0,
            probes: 0,
            others: Roster::default(),
            own: None,
            past: Vec::new(),
            subject: None,
            early: VecDeque::new(),
            brought: Brought::default(),
            held: VecDeque::new(),
        }
    }

    pub(super) fn to(&self) -> UplinkId {
        self.to
    }

    /// Whether what comes on this uplink is for the next carrier to be judged: one that leaves in
    /// order to join again brings the room's traffic until then.
    pub(super) fn is_for(&self, uplink: UplinkId, carrier: UplinkId) -> bool {
        let serves = self.stage == Stage::Breaking && self.old != Old::Ended && uplink == carrier;
        self.to == uplink && !serves
    }

    /// Whether the room is, or was, dormant: what is known of it may be long past.
    pub(super) fn comes_back(&self) -> bool {
        self.revives || self.is_waiting()
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. })
    }

    /// Whether this self-presence answers something else than the join.
    fn is_other(&self, frame: &Frame) -> bool {
        self.id.is_some() && frame.id().as_deref() != self.id.as_deref()
    }

    /// Whether a join has gone out on the next carrier.
    pub(super) fn has_joined(&self) -> bool {
        self.stage != Stage::Breaking && !self.is_waiting()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting { tries_at } => tries_at,
            Stage::Breaking
            | Stage::Presences
            | Stage::History
            | Stage::Answering
            | Stage::Settling => Some(self.deadline),
        }
    }

    /// Whether the old carrier stays only for answers.
    pub(super) fn waits_for_answers(&self) -> bool {
        self.stage == Stage::Answering
    }

    /// Private messages that came on the next carrier alone.
    fn private(&self) -> Vec<Frame> {
        let private = self.early.iter().filter(|frame| !is_ordered(frame));
        private
            .filter(|frame| !self.brought.contains(frame))
            .cloned()
            .collect()
    }
}

impl Room {
    /// The old carrier brings nothing more, by its mark or by its loss.
    pub(super) fn old_has_ended(&mut self, ctx: &mut Context<'_>, marked: bool) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        handover.old = Old::Ended;
        handover.overlaps &= marked;
        let (stage, to) = (handover.stage, handover.to);
        match stage {
            Stage::Answering | Stage::Settling => self.complete(ctx),
            Stage::Breaking if self.may_carry(ctx, to) => self.rejoin(ctx),
            Stage::Breaking | Stage::Presences | Stage::History | Stage::Waiting { .. } => {}
        }
    }

    /// The next carrier cannot carry the room any more.
    pub(super) fn drop_lost_target(&mut self, ctx: &mut Context<'_>) {
        let next = self.handover.as_ref().filter(|it| !it.is_waiting());
        let Some(next) = next.filter(|it| !self.may_carry(ctx, it.to)) else {
            return;
        };
        // Where nobody else is in the room, or nothing is in a hurry, what it has begun it ends:
        // another one follows it then.
        let serves = ctx.uplinks.get(&next.to).is_some_and(|it| !it.suspended);
        let ends = next.old != Old::Serving || self.carrier_stays(ctx);
        if serves && ends && next.stage != Stage::Breaking && !self.is_apart(ctx, next.to) {
            return;
        }
        let Some(lost) = self.handover.take() else {
            return;
        };
        if lost.stage != Stage::Breaking {
            let leave = stanza::leave(&self.own);
            self.say_farewell(ctx, lost.to, leave.into());
        }
        for private in lost.private() {
            self.fan_out(ctx, &private);
        }
        let stays = lost.old == Old::Serving && self.carrier_stays(ctx);
        match self.choose_carrier(ctx).filter(|_| !ctx.awaits_anchor) {
            _ if stays => self.send_held(ctx, lost.held),
            Some(to) => {
                let mut next = Handover::new(to, lost.old, ctx.now.instant);
                (next.held, next.revives) = (lost.held, lost.revives);
                if to == self.carrier && lost.old == Old::Leaving {
                    // It was told to leave, and joins again behind that.
                    self.wait_for_leave(ctx, next);
                } else {
                    self.begin_handover(ctx, next);
                }
            }
            None => {
                self.let_old_go(ctx, lost.old);
                self.rest(ctx, lost.held);
            }
        }
    }

    /// A hand-over whose next carrier joins when the old one has surely left.
    pub(super) fn wait_for_leave(&mut self, ctx: &Context<'_>, mut handover: Handover) {
        handover.stage = Stage::Breaking;
        handover.old = Old::Leaving;
        handover.deadline = ctx.now.instant + MARK_TIMEOUT;
        self.handover = Some(handover);
    }

    /// Nothing follows the old carrier: what it still brings is of no interest.
    pub(super) fn let_old_go(&mut self, ctx: &mut Context<'_>, old: Old) {
        match old {
            Old::Serving => {
                let leave = stanza::leave(&self.own);
                self.say_farewell(ctx, self.carrier, leave.into());
            }
            Old::Leaving => self.await_farewell(ctx, self.carrier),
            Old::Ended => {}
        }
    }

    pub(super) fn begin_handover(&mut self, ctx: &mut Context<'_>, handover: Handover) {
        let to = handover.to;
        self.handover = Some(handover);
        self.limit_comeback(ctx);
        self.pay_farewell(ctx, to);
        ctx.carry(to, &self.jid);
        self.send_join(ctx, to);
    }

    /// The account's presence once more, as a join: nothing in it is new to the others. A carrier
    /// that serves brings what is said up to this moment; of one that has ended it counts when it was
    /// last heard.
    pub(super) fn send_join(&mut self, ctx: &mut Context<'_>, to: UplinkId) {
        if self
            .handover
            .as_ref()
            .is_some_and(|it| it.old == Old::Ended)
        {
            self.come_as_away();
        }
        let Some(handover) = &mut self.handover else {
            return;
        };
        let known = match handover.old {
            Old::Serving | Old::Leaving => ctx.now.wall,
            Old::Ended => self.heard_at.min(ctx.now.wall),
        };
        let since = known.checked_sub(HISTORY_MARGIN).unwrap_or(known);
        handover.since = since;
        // What the process before has asked may be answered before this is.
        let told_apart = self.record.asked_before && self.reflects_join_id;
        handover.id = told_apart.then(|| format!("{}{}", super::ID_PREFIX, ctx.number()));
        let id = handover.id.clone();
        let history = stanza::history_since(&history::format_stamp(since));
        let join = self.join_again(&history, id.as_deref());
        ctx.send(to, join);
    }

    /// The account's presence as a join that asks for this history.
    pub(super) fn join_again(&self, history: &str, id: Option<&str>) -> Outgoing {
        let entry = stanza::muc_entry(self.password.as_deref(), history);
        let presence = stanza::edit(&self.sent_presence, |patch, presence| {
            let root = presence.root();
            patch.remove_attr(&root, "from");
            stanza::set_id(patch, presence, id);
            match muc_element(presence) {
                Some(muc) => patch.replace(&muc, &entry),
                None => patch.append(&root, &entry),
            };
        });
        presence.with_to(&self.own.to_string())
    }

    /// The next carrier's stanzas, while the hand-over is under way.
    pub(super) fn next_carrier_stanza(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let is_error = frame.stanza_type().as_deref() == Some("error");
        let own = nick == Some(self.own.nick());
        let Some(handover) = &mut self.handover else {
            return;
        };
        let uplink = handover.to;
        match (handover.stage, frame.kind()) {
            (_, Kind::Message) if is_error => self.message_error(ctx, uplink, frame, nick),
            (Stage::Breaking | Stage::Waiting { .. }, _) => {}
            (Stage::Presences, Kind::Presence) => self.presence_of_next(ctx, frame, nick, is_error),
            // A private message has no place in the room's order, and must not be lost.
            (Stage::Presences, Kind::Message) if !is_ordered(frame) => {
                handover.early.push_back(frame.clone());
            }
            (Stage::Presences, _) => {}
            (Stage::History, Kind::Message) if super::message::is_subject(frame) => {
                handover.subject = Some(frame.clone());
                self.next_is_in(ctx);
            }
            (Stage::History, Kind::Message) if history::room_stamp(frame, &self.jid).is_some() => {
                handover.past.push(frame.clone());
            }
            (Stage::History, Kind::Message) if is_ordered(frame) && nick.is_some() => {
                handover.early.push_back(frame.clone());
                self.next_is_in(ctx);
            }
            (Stage::History | Stage::Answering | Stage::Settling, Kind::Presence) if is_error => {
                self.presence_error(ctx, uplink, frame, nick);
            }
            (Stage::History | Stage::Answering | Stage::Settling, Kind::Presence) if own => {
                self.own_presence_of_next(ctx, frame);
            }
            (Stage::History | Stage::Answering | Stage::Settling, _) => {
                handover.early.push_back(frame.clone());
            }
        }
    }

    fn presence_of_next(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
        is_error: bool,
    ) {
        if is_error {
            // A carrier that joins anew may get the answers to what it has said before.
            let of_before = nick.is_some_and(|nick| nick != self.own.nick());
            let to = self.handover.as_ref().map(Handover::to);
            match to.filter(|_| of_before || number_of(frame).is_some()) {
                Some(to) => self.presence_error(ctx, to, frame, nick),
                None => self.next_refused(ctx, Some(frame)),
            }
            return;
        }
        let user = MucUser::read(frame);
        let unavailable = frame.stanza_type().as_deref() == Some("unavailable");
        let Some(handover) = &mut self.handover else {
            return;
        };
        match nick {
            None => {}
            Some(_)
                if user.has(Status::OwnPresence) && !unavailable && handover.is_other(frame) => {}
            Some(nick) if user.has(Status::OwnPresence) => {
                if nick != self.own.nick() {
                    // A room that gives the account's second stream another nick makes an
                    // occupant of its own of it.
                    let leave = stanza::leave(&self.own);
                    let to = handover.to;
                    self.say_farewell(ctx, to, leave.into());
                    self.next_refused(ctx, None);
                } else if unavailable && !user.removed() {
                    // The late echo of a time when this uplink carried the room before.
                } else if unavailable {
                    self.next_refused(ctx, Some(frame));
                } else {
                    handover.own = Some(frame.clone());
                    handover.stage = Stage::History;
                    handover.deadline = ctx.now.instant + SUBJECT_TIMEOUT;
                }
            }
            Some(nick) if unavailable => {
                handover.others.remove(nick);
            }
            Some(nick) => handover.others.set(nick, frame.clone()),
        }
    }

    /// The account's own presence as the next carrier sees it: the old carrier's leave shows as
    /// an update at most, but being put out of the room counts on either.
    fn own_presence_of_next(&mut self, ctx: &mut Context<'_>, frame: &Frame) {
        let unavailable = frame.stanza_type().as_deref() == Some("unavailable");
        let user = MucUser::read(frame);
        let Some(handover) = &mut self.handover else {
            return;
        };
        // Being put out comes on the old carrier as well, if that lives to bring it.
        let waits = user.removed() && handover.old == Old::Serving;
        if !unavailable || user.has(Status::NickChanged) || waits {
            handover.early.push_back(frame.clone());
        } else if user.removed() {
            let (to, old) = (handover.to, handover.old);
            let held = std::mem::take(&mut handover.held);
            self.let_old_go(ctx, old);
            self.handover = None;
            self.carrier = to;
            self.refuse_held(ctx, held);
            let nick = self.own.nick().to_owned();
            self.live_from_server(ctx, frame, Some(&nick));
        } else if handover.old == Old::Ended {
            // Not a word of why: the leave of an older stream of the same full JID, which the
            // server has handled behind this join (ejabberd 23.01).
            handover.early.retain(|frame| !is_ordered(frame));
            handover.past.clear();
            self.next_refused(ctx, Some(frame));
        }
    }

    pub(super) fn next_is_in(&mut self, ctx: &mut Context<'_>) {
        let awaits_answers = self.awaits_answers();
        let Some(handover) = &mut self.handover else {
            return;
        };
        if awaits_answers && handover.old == Old::Serving {
            handover.stage = Stage::Answering;
            handover.deadline = ctx.now.instant + ANSWERS_TIMEOUT;
            return;
        }
        handover.stage = Stage::Settling;
        handover.deadline = ctx.now.instant + MARK_TIMEOUT;
        match handover.old {
            Old::Serving => {
                handover.old = Old::Leaving;
                handover.overlaps = true;
                ctx.send(self.carrier, stanza::leave(&self.own));
            }
            // For a target that has been lost since: the mark is still to come.
            Old::Leaving => {}
            Old::Ended => self.complete(ctx),
        }
    }

    /// Sees what the old carrier brings. `true` if that was the mark of its end, which is for the
    /// proxy alone.
    pub(super) fn ends_old_carrier(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
    ) -> bool {
        let own = nick == Some(self.own.nick());
        let kind = frame.stanza_type();
        let Some(handover) = &mut self.handover else {
            return false;
        };
        if frame.kind() != Kind::Presence || !own {
            if kind.as_deref() != Some("error") {
                handover.brought.note(frame, nick, &self.view.others);
            }
            return false;
        }
        let user = MucUser::read(frame);
        if user.has(Status::NickChanged) {
            handover.brought.note(frame, nick, &self.view.others);
            return false;
        }
        // Without having been told to leave, an unavailable is another stream's.
        let unavailable = kind.as_deref() == Some("unavailable");
        if !unavailable || handover.old != Old::Leaving || user.removed() {
            return false;
        }
        self.old_has_ended(ctx, true);
        true
    }
}
