//! The account's one presence in the room, out of those of its sessions (behaviours 37, 38, 40).
//!
//! The room sees the presence of the session that is most available, as that session sent it, with
//! its status text, its capabilities and its avatar hash: what an occupant asks the account is then
//! answered by the session it sees. `chat` and no `<show/>` at all are equally available, then
//! come `away`, `xa`, `dnd` (RFC 6121 4.7.2.1). Among equals the one counts that has spoken last;
//! a session that only joins takes nothing over from an equal. Nobody there is `xa`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mucplex_xml::Frame;

use super::overlap::payload;
use super::{Phase, Room};
use crate::context::Context;
use crate::muc_user::{Status, is_muc_user};
use crate::routes::muc_element;
use crate::stanza::{self, StanzaError};
use crate::{SessionId, ns};

/// How long nobody may be there before the room is told: a device that only changes networks is
/// back by then.
const AWAY_AFTER: Duration = Duration::from_secs(5);

/// How long after the leave of another stream the room may tell what that one said.
const DOUBT: Duration = Duration::from_secs(10);

/// Presences that may wait for the answer to a change of nick.
const MOST_BEHIND: usize = 64;

/// What the sessions in the room have said of themselves.
#[derive(Debug, Default)]
pub(super) struct Standing {
    said: BTreeMap<SessionId, Said>,
    /// Whose presence the room sees.
    speaker: Option<SessionId>,
    /// It sees that of a session of the process before this one.
    inherited: bool,
    spoken: u64,
    /// What sessions want to be under a nick that the room has not granted yet.
    proposed: BTreeMap<SessionId, Said>,
    /// What sessions say under a nick that the account is about to lose: to the room that would be
    /// a change back to it.
    behind: VecDeque<(SessionId, Frame)>,
    /// When the room is told that nobody is there.
    away_at: Option<Instant>,
    /// Until when a join that another uplink sent before it was given up may tell the room something
    /// older.
    doubted_until: Option<Instant>,
    /// Somebody has come, gone or spoken since it was last looked whether the room is to be told.
    changed: bool,
}

#[derive(Debug)]
struct Said {
    /// The last presence, without the muc element.
    presence: Frame,
    /// When, in the order of the presences; 0 for one that came with a join.
    order: u64,
}

impl Standing {
    /// The account is about to join with the presence of this session.
    pub(super) fn of(session: SessionId) -> Self {
        Self {
            speaker: Some(session),
            ..Self::default()
        }
    }

    /// As it was in the process before this one; `spoken`: the room sees what a session has said.
    pub(super) fn restored(spoken: bool) -> Self {
        Self {
            inherited: spoken,
            ..Self::default()
        }
    }

    /// Whether the room sees what a session has said, and not that nobody is there.
    pub(super) fn is_spoken(&self) -> bool {
        self.speaker.is_some() || self.inherited
    }

    /// Nobody is there, but for so long they may come back before the room is told.
    pub(super) fn await_return(&mut self, now: Instant, time: Duration) {
        self.away_at = self.is_spoken().then(|| now.checked_add(time)).flatten();
    }

    /// A session has joined with this presence.
    pub(super) fn join(&mut self, session: SessionId, join: &Frame) {
        // Its last word, and its answer is the join's.
        self.behind.retain(|(of, _)| *of != session);
        let order = self.said.get(&session).map_or(0, |said| said.order);
        self.put(session, join, order);
    }

    /// A session says this of itself now.
    pub(super) fn say(&mut self, session: SessionId, presence: &Frame) {
        self.spoken += 1;
        self.put(session, presence, self.spoken);
    }

    /// The room has granted the nick with which the session has proposed a presence.
    pub(super) fn agreed(&mut self, session: SessionId) {
        // If that session is gone, the room knows the account by what nobody says.
        self.changed = true;
        let Some(proposed) = self.proposed.remove(&session) else {
            return;
        };
        // It may have said something else since.
        let known = self.said.get(&session);
        if known.is_none_or(|said| said.order < proposed.order) {
            self.said.insert(session, proposed);
        }
    }

    fn propose(&mut self, session: SessionId, presence: &Frame) {
        self.spoken += 1;
        let (presence, order) = (presence.compact(), self.spoken);
        self.proposed.insert(session, Said { presence, order });
    }

    /// A stream that was given up has left the room: what it said last may be what the room knows.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted_until = now.checked_add(DOUBT);
    }

    /// Nobody is in the room, and it is about to be told so.
    pub(super) fn nobody_speaks(&mut self) {
        self.speaker = None;
        self.inherited = false;
        self.away_at = None;
    }

    /// The room has refused it.
    pub(super) fn refused(&mut self, session: SessionId) {
        self.proposed.remove(&session);
    }

    fn put(&mut self, session: SessionId, presence: &Frame, order: u64) {
        let presence = without_muc(presence).compact();
        self.said.insert(session, Said { presence, order });
        self.changed = true;
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        self.changed |= self.said.remove(&session).is_some();
        self.proposed.remove(&session);
        self.behind.retain(|(of, _)| *of != session);
    }

    /// Whose presence the room sees, if that session is still in the room.
    pub(super) fn speaker(&self) -> Option<SessionId> {
        self.speaker
            .filter(|speaker| self.said.contains_key(speaker))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.away_at
    }

    /// The session whose presence is the account's, and that presence.
    fn most_available(&self) -> Option<(SessionId, &Frame)> {
        let rank = |(session, said): &(&SessionId, &Said)| {
            let speaks = self.speaker == Some(**session);
            (availability(&said.presence), said.order, speaks)
        };
        let (session, said) = self.said.iter().max_by_key(rank)?;
        Some((*session, &said.presence))
    }
}

impl Room {
    /// A session in the room says something of itself under the account's nick (XEP-0045 7.7). It
    /// is answered in any case (behaviour 38): by the room, or by the proxy where the room is told
    /// nothing.
    pub(super) fn change_standing(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
    ) {
        if self.is_being_renamed() {
            if self.standing.behind.len() < MOST_BEHIND {
                self.standing.behind.push_back((session, frame.compact()));
            } else {
                self.refuse(ctx, session, frame, &StanzaError::NO_ANSWER);
            }
            return;
        }
        self.standing.say(session, frame);
        match self.new_standing() {
            Some((speaker, presence)) => {
                let id = frame.id();
                let presence = id.map_or(presence.clone(), |id| stanza::with_id(&presence, &id));
                self.send_standing(ctx, speaker, session, presence);
            }
            None => self.answer_presence(ctx, session, frame.id().as_deref()),
        }
    }

    /// Tells the room if the account's presence has become another one by who came and went. While
    /// no carrier is sure to stay this waits: the next one's join repeats what the room knows.
    pub(super) fn settle_standing(&mut self, ctx: &mut Context<'_>) {
        if !matches!(self.phase, Phase::Joined) {
            return;
        }
        let news = self.standing.changed
            || !self.standing.behind.is_empty()
            || self.standing.doubted_until.is_some();
        if !news && !self.attached.is_empty() {
            self.standing.away_at = None;
            return;
        }
        let changes_nick = self.is_being_renamed();
        if !changes_nick {
            for (session, said) in std::mem::take(&mut self.standing.behind) {
                self.change_standing(ctx, session, &said);
            }
        }
        let settled = self.handover.is_none() && self.carrier_stays(ctx) && !changes_nick;
        if settled {
            self.repeat_standing(ctx);
        }
        if self.attached.is_empty() {
            self.settle_absence(ctx, settled);
            return;
        }
        self.standing.away_at = None;
        if !settled || !std::mem::take(&mut self.standing.changed) {
            return;
        }
        if let Some((speaker, presence)) = self.new_standing() {
            self.send_standing(ctx, speaker, speaker, presence);
            self.in_flight.mark_disowned();
        }
    }

    /// The account's new presence, that of `speaker`, goes to the room, whose answer is for the
    /// session `asking`.
    fn send_standing(
        &mut self,
        ctx: &mut Context<'_>,
        speaker: SessionId,
        asking: SessionId,
        presence: Frame,
    ) {
        let way = self.send_upstream(ctx, speaker, &presence, true);
        let nick = self.own.nick().to_owned();
        self.note_in_flight(ctx, asking, &presence, Some(&nick), way);
        self.sent_presence = presence;
    }

    /// The room knows something older of the account than what it was told last.
    fn repeat_standing(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        if self
            .standing
            .doubted_until
            .take_if(|until| *until <= now)
            .is_some()
        {
            return;
        }
        let open = self.in_flight.asks_for(self.own.nick());
        let Some(own) = self.view.own.as_ref().filter(|_| !open) else {
            return;
        };
        let shows = |presence| availability(presence) == availability(&self.sent_presence);
        if self.standing.doubted_until.is_none() || shows(own) {
            return;
        }
        self.standing.doubted_until = None;
        let to = self.own.to_string();
        let id = format!("{}{}", super::iq::ID_PREFIX, ctx.fresh_id());
        let again = stanza::edit(&without_muc(&self.sent_presence), |patch, presence| {
            let root = presence.root();
            patch.remove_attr(&root, "from");
            patch.set_attr(&root, "id", &id);
            patch.set_attr(&root, "to", &to);
        });
        ctx.send(self.carrier, &again);
    }

    /// Nobody is in the room: it is told so after a while.
    fn settle_absence(&mut self, ctx: &mut Context<'_>, settled: bool) {
        if !self.standing.is_spoken() {
            return;
        }
        let now = ctx.now.instant;
        match self.standing.away_at {
            Some(at) if now < at => {}
            Some(_) if settled => {
                self.standing.nobody_speaks();
                if let Some(away) = stanza::away(&self.own) {
                    // Without an id, an error that answers it could be taken for a join's.
                    let id = format!("{}{}", super::iq::ID_PREFIX, ctx.fresh_id());
                    let away = stanza::with_id(&away, &id);
                    ctx.send(self.carrier, &away);
                    self.sent_presence = away;
                }
            }
            // Until a carrier can tell the room, nobody needs to look at the clock.
            Some(_) => self.standing.away_at = None,
            None if settled => self.standing.away_at = now.checked_add(AWAY_AFTER),
            None => {}
        }
    }

    /// The speaker and its presence, if the room has been told another one.
    fn new_standing(&mut self) -> Option<(SessionId, Frame)> {
        let (speaker, presence) = self.standing.most_available()?;
        let presence = presence.clone();
        self.standing.speaker = Some(speaker);
        if same_payload(&presence, &self.sent_presence) {
            return None;
        }
        let own = self.own.to_string();
        let presence = stanza::edit(&presence, |patch, presence| {
            let root = presence.root();
            patch.remove_attr(&root, "from");
            patch.remove_attr(&root, "id");
            patch.set_attr(&root, "to", &own);
        });
        Some((speaker, presence))
    }

    /// The account's presence under a nick that a session asks for: what that session says with
    /// it, where it is the most available one then, or what the room sees already.
    pub(super) fn standing_with(&mut self, session: SessionId, frame: &Frame) -> Frame {
        let proposed = without_muc(frame);
        let others = self
            .standing
            .said
            .iter()
            .filter(|(other, _)| **other != session);
        let best = others.map(|(_, said)| availability(&said.presence)).max();
        let joins = !self.attached.contains(&session);
        let takes = best.is_none_or(|best| {
            let own = availability(&proposed);
            own > best || (own == best && !joins)
        });
        if !joins {
            self.standing.propose(session, &proposed);
        }
        if takes {
            // Should it go before the room has answered, nobody is there again.
            if self.attached.is_empty() {
                self.standing.speaker = Some(session);
            }
            proposed
        } else {
            without_muc(&self.sent_presence)
        }
    }

    /// The account's self-presence as the room would tell it, were it to tell that it says
    /// `presence` now.
    pub(super) fn own_presence_saying(&self, presence: &Frame) -> Option<Frame> {
        let own = self.own_presence(&[Status::OwnPresence], presence.id().as_deref())?;
        let said = super::leave::children(presence, |child| !child.is("x", ns::MUC));
        Some(stanza::edit(&own, |patch, own| {
            let root = own.root();
            for child in root.children() {
                if !is_muc_user(&child) && !child.is("occupant-id", ns::OCCUPANT_ID) {
                    patch.remove(&child);
                }
            }
            patch.append(&root, &said);
        }))
    }

    /// The self-presence that answers a presence of which the room is told nothing.
    fn answer_presence(&self, ctx: &mut Context<'_>, session: SessionId, id: Option<&str>) {
        if let Some(own) = self.own_presence(&[Status::OwnPresence], id) {
            let personal = self.for_session(ctx, session, &own);
            ctx.replay(session, &personal.unwrap_or(own));
        }
    }

    /// What the room last said of the account, with an id where the service gives ids back, and
    /// with these of the codes that describe a room or a join.
    pub(super) fn own_presence(&self, codes: &[Status], id: Option<&str>) -> Option<Frame> {
        let own = self.view.own.as_ref()?;
        let id = id.filter(|_| self.reflects_join_id);
        Some(stanza::edit(own, |patch, own| {
            let root = own.root();
            stanza::set_id(patch, own, id);
            let Some(x) = root.children().find(is_muc_user) else {
                return;
            };
            let statuses = x
                .children()
                .filter(|child| child.is("status", ns::MUC_USER));
            for status in statuses {
                let code = status.attr("code").unwrap_or_default();
                if Status::is_of_one_join(&code) || matches!(&*code, "100" | "170") {
                    patch.remove(&status);
                }
            }
            for code in codes {
                patch.append(&x, &stanza::status(code.code()));
            }
        }))
    }
}

/// How available a presence is, by its `<show/>`; what RFC 6121 does not know counts as plainly
/// available.
fn availability(presence: &Frame) -> u8 {
    let show = presence.root().child("show", ns::CLIENT);
    match show.map(|show| show.text()).as_deref().map(str::trim) {
        Some("away") => 3,
        Some("xa") => 2,
        Some("dnd") => 1,
        Some(_) | None => 4,
    }
}

/// Whether two presences of the account say the same.
fn same_payload(a: &Frame, b: &Frame) -> bool {
    let [a, b] = [a, b].map(without_muc);
    payload(&a) == payload(&b) && a.lang() == b.lang()
}

/// With the muc element a server would answer a whole new join.
fn without_muc(frame: &Frame) -> Frame {
    if muc_element(frame).is_none() {
        return frame.clone();
    }
    stanza::edit(frame, |patch, frame| {
        if let Some(muc) = muc_element(frame) {
            patch.remove(&muc);
        }
    })
}
