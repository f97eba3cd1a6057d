//! Sessions that leave a room, and the account's own leaving (XEP-0045 7.14).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use mucplex_xml::{Element, Frame, Kind, Outgoing};

use super::standing::Standing;
use super::{LEAVE_TIMEOUT, Phase, Room, Waiting};
use crate::context::Context;
use crate::identity::OccupantJid;
use crate::muc_user::{MucUser, Status};
use crate::{SessionId, UplinkId, ns, stanza};

/// A leave under way: it is over when no [farewell](Farewells) is outstanding.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Sessions that asked to join meanwhile: they join anew when the room has let go.
    pub(super) waiting: Waiting,
    /// The carrier's leave, while another uplink's is to be confirmed first: else the room could
    /// see the account leave, enter and leave.
    pub(super) last: Option<Outgoing>,
}

impl Leaving {
    pub(super) fn needs_carrier(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// Leaves that have gone upstream on uplinks the room does not need any more, and until when each
/// may take to be confirmed.
///
/// What comes on such an uplink before the confirmation is of a stay that is over. Without this, a
/// join that follows a leave on one uplink would take the answers of the stay before for its own.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    until: BTreeMap<UplinkId, VecDeque<Instant>>,
    /// Uplinks that are suspended: how many leaves have gone there, and where one is to follow when
    /// the stream is resumed. Nobody waits for these.
    suspended: BTreeMap<UplinkId, usize>,
    owed: BTreeSet<UplinkId>,
}

impl Farewells {
    pub(super) fn expects(&self, uplink: UplinkId) -> bool {
        self.until.contains_key(&uplink) || self.is_owed(uplink)
    }

    /// Whether a leave on this uplink waits for the stream to be resumed.
    pub(super) fn is_owed(&self, uplink: UplinkId) -> bool {
        self.suspended.contains_key(&uplink) || self.owed.contains(&uplink)
    }

    pub(super) fn are_done(&self) -> bool {
        self.until.is_empty() && self.suspended.is_empty() && self.owed.is_empty()
    }

    /// The room is to be left on this uplink when that is resumed.
    pub(super) fn owe(&mut self, uplink: UplinkId) {
        self.owed.insert(uplink);
    }

    /// The uplink is resumed: whether a leave was owed on it.
    pub(super) fn pay(&mut self, uplink: UplinkId) -> bool {
        self.owed.remove(&uplink)
    }

    /// The uplink is suspended.
    pub(super) fn suspend(&mut self, uplink: UplinkId) {
        if let Some(until) = self.until.remove(&uplink) {
            *self.suspended.entry(uplink).or_default() += until.len();
        }
    }

    /// It is resumed: how many leaves are on their way on it.
    pub(super) fn resume(&mut self, uplink: UplinkId) -> usize {
        self.suspended.remove(&uplink).unwrap_or_default()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
            .values()
            .filter_map(VecDeque::front)
            .min()
            .copied()
    }

    fn confirmed(&mut self, uplink: UplinkId) {
        if let Some(until) = self.until.get_mut(&uplink) {
            until.pop_front();
        }
        self.until.retain(|_, until| !until.is_empty());
    }

    fn expire(&mut self, now: Instant) {
        for until in self.until.values_mut() {
            until.retain(|until| *until > now);
        }
        self.until.retain(|_, until| !until.is_empty());
    }
}

impl Room {
    /// A session leaves. It is answered at once, from what the proxy knows, so that the answer is
    /// the same for the last session and for any other (behaviours 41, 42, 46).
    pub(super) fn leave(&mut self, ctx: &mut Context<'_>, session: SessionId, frame: &Frame) {
        let asking = self.is_asking(session);
        self.devices.left(session);
        let Some(occupant) = self.take_out(ctx, session) else {
            // XEP-0045 knows no answer for one who leaves and was not there.
            return;
        };
        let answer = self.farewell(ctx, session, frame, &occupant);
        ctx.tell(session, answer);
        self.ask_others(ctx, session);
        self.left = matches!(self.phase, Phase::Joined) && self.attached.is_empty();
        if self.is_detached() {
            self.leave_upstream(ctx, Some((session, frame)));
        } else if asking && let Phase::Joining(joining) = &mut self.phase {
            joining.left = Some((session, frame.compact()));
        }
    }

    /// Whether it is this session's join that has gone upstream.
    fn is_asking(&self, session: SessionId) -> bool {
        let Phase::Joining(joining) = &self.phase else {
            return false;
        };
        let asking = joining.asking.as_ref();
        asking.is_some_and(|asking| asking.session == session)
    }

    /// A session is gone without having left (behaviour 43): the room sees nothing of it.
    pub(crate) fn detach(&mut self, ctx: &mut Context<'_>, session: SessionId) {
        self.devices.left(session);
        self.take_out(ctx, session);
        self.ask_others(ctx, session);
    }

    /// Takes a session out of the room, or out of the join it is waiting in. Gives the occupant
    /// it was, or wanted to be.
    fn take_out(&mut self, ctx: &mut Context<'_>, session: SessionId) -> Option<OccupantJid> {
        self.standing.remove(session);
        // One that is in the room may have asked once more.
        let withdrawn = self.withdraw(ctx, session);
        if self.attached.remove(&session) {
            return Some(self.own.clone());
        }
        withdrawn
    }

    /// The session's leave as the room would reflect it.
    fn farewell(
        &self,
        ctx: &Context<'_>,
        session: SessionId,
        frame: &Frame,
        occupant: &OccupantJid,
    ) -> bytes::Bytes {
        let own = self.view.own.as_ref();
        let user = own.map(MucUser::read).unwrap_or_default();
        let address = ctx.address(session);
        let mut payload = children(frame, |child| !child.is("x", ns::MUC));
        if let Some(own) = own {
            payload += &children(own, |child| child.is("occupant-id", ns::OCCUPANT_ID));
        }
        let stream_lang = self.written_lang(ctx, session);
        stanza::Unavailable {
            from: occupant,
            to: address,
            id: frame.id().as_deref(),
            lang: frame.lang().as_deref().or(stream_lang.as_deref()),
            payload: &payload,
            affiliation: user.affiliation.as_deref().unwrap_or("none"),
            jid: user.shows_jid.then_some(address),
            destroyed: false,
            codes: &[Status::OwnPresence.code()],
        }
        .write()
    }

    /// The `xml:lang` of what answers a session. A server that writes it down takes the language
    /// that a stanza has by its stream (RFC 6120 8.1.5), and for one that has told none its own.
    pub(super) fn written_lang(&self, ctx: &Context<'_>, session: SessionId) -> Option<String> {
        let written = self.view.own.as_ref().and_then(Frame::lang)?;
        let by_stream = ctx.lang_of(session).map(str::to_owned);
        let default = ctx.lang_on(self.carrier).is_none();
        by_stream.or_else(|| default.then(|| written.into_owned()))
    }

    /// The account leaves: with the last session's own words, or because its time is over.
    pub(super) fn leave_upstream(
        &mut self,
        ctx: &mut Context<'_>,
        words: Option<(SessionId, &Frame)>,
    ) {
        if matches!(self.phase, Phase::Leaving(_) | Phase::Gone) {
            return;
        }
        let own = self.own.to_string();
        let presence = match words {
            Some((session, frame)) => ctx.for_carrier(session, self.carrier, frame).with_to(&own),
            None => Outgoing::from(stanza::leave(&self.own)),
        };
        let last = (!self.carrier_is_ending()).then(|| presence.clone());
        self.abandon_handover(ctx, Some(&presence));
        self.part_with(ctx, last);
    }

    /// The account is out of the room but for what is still to be confirmed.
    pub(super) fn part(&mut self, ctx: &mut Context<'_>) {
        self.part_with(ctx, None);
    }

    fn part_with(&mut self, ctx: &mut Context<'_>, last: Option<Outgoing>) {
        self.stay_until = None;
        self.attached.clear();
        self.devices.clear();
        self.standing = Standing::default();
        self.comeback = None;
        self.refuse_lost(ctx);
        self.give_up_questions(ctx);
        let mut waiting = std::mem::take(&mut self.renaming);
        self.in_flight.over(self.carrier, |session, nick| {
            let mut joins = waiting.iter();
            joins.any(|it| it.session == session && it.occupant.nick() == nick)
        });
        waiting.append(&mut self.sets_apart);
        waiting.append(&mut self.arriving);
        self.phase = Phase::Leaving(Leaving { waiting, last });
        self.left_upstream(ctx);
    }

    /// Sends a leave on an uplink that the room needs no more.
    pub(super) fn say_farewell(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        leave: Outgoing,
    ) {
        if ctx.uplinks.contains_key(&uplink) {
            ctx.send(uplink, leave);
            self.await_farewell(ctx, uplink);
        }
    }

    /// What has been or is being said on this uplink is of no interest until the account is out
    /// of the room there.
    pub(super) fn await_farewell(&mut self, ctx: &Context<'_>, uplink: UplinkId) {
        if ctx.is_suspended(uplink) {
            *self.farewells.suspended.entry(uplink).or_default() += 1;
        } else if ctx.uplinks.contains_key(&uplink) {
            let until = ctx.now.instant + LEAVE_TIMEOUT;
            self.farewells
                .until
                .entry(uplink)
                .or_default()
                .push_back(until);
        }
    }

    /// A stanza on an uplink whose leave is not confirmed yet: only the confirmation counts.
    pub(super) fn farewell_stanza(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let user = MucUser::read(frame);
        let own = nick == Some(self.own.nick()) || user.has(Status::OwnPresence);
        let own = own && !user.has(Status::NickChanged);
        let is = |kind: &str| frame.stanza_type().as_deref() == Some(kind);
        let comes_back = self.is_dormant() && uplink == self.carrier;
        match frame.kind() {
            // Behaviour 47: it is not to come back.
            Kind::Presence if own && comes_back && user.removed() && !user.lost() => {
                self.removed(ctx, frame, &user);
            }
            Kind::Presence if own && (is("unavailable") || is("error")) => {
                self.farewell_confirmed(ctx, uplink);
            }
            Kind::Message if is("error") => self.message_error(ctx, uplink, frame, nick),
            Kind::Message if is("groupchat") => self.note_reflection(frame, nick),
            Kind::Presence
            | Kind::Message
            | Kind::Iq
            | Kind::StreamError
            | Kind::StreamFeatures
            | Kind::Nonza => {}
        }
    }

    pub(super) fn farewell_confirmed(&mut self, ctx: &mut Context<'_>, uplink: UplinkId) {
        self.farewells.confirmed(uplink);
        self.standing.doubt(ctx.now.instant);
        self.left_upstream(ctx);
    }

    /// An uplink is gone, and with it what was to be confirmed on it.
    pub(super) fn farewells_lost(&mut self, ctx: &mut Context<'_>, uplink: UplinkId) {
        self.farewells.until.remove(&uplink);
        self.farewells.suspended.remove(&uplink);
        self.farewells.owed.remove(&uplink);
        self.left_upstream(ctx);
    }

    /// Behaviour 46: a room that does not answer is not waited for.
    pub(super) fn farewell_timeout(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        self.farewells.expire(now);
        self.left_upstream(ctx);
    }

    /// Whether the room has let go of the account, and if so, what comes then.
    pub(super) fn left_upstream(&mut self, ctx: &mut Context<'_>) {
        let Phase::Leaving(leaving) = &mut self.phase else {
            return;
        };
        if !self.farewells.until.is_empty() {
            return;
        }
        if let Some(last) = leaving.last.take() {
            self.say_farewell(ctx, self.carrier, last);
        }
        let Phase::Leaving(leaving) = &mut self.phase else {
            return;
        };
        if self.farewells.until.is_empty() {
            let waiting = std::mem::take(&mut leaving.waiting);
            self.restart(ctx, waiting);
        }
    }
}

/// Some of a stanza's children, as they stand in it.
pub(super) fn children(frame: &Frame, wanted: impl Fn(&Element<'_>) -> bool) -> String {
    let frame = frame.portable();
    let spans = frame
        .root()
        .children()
        .filter(wanted)
        .map(|child| child.span());
    let xml = |span| String::from_utf8_lossy(frame.bytes().get(span).unwrap_or_default());
    spans
        .map(|span: std::ops::Range<usize>| xml(span).into_owned())
        .collect()
}
