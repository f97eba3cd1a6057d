//! What the room shows of its occupants anew, because it shows more than before (XEP-0045 10.2.1;
//! behaviour 31).
//!
//! A room that becomes non-anonymous (172) tells those who join whom it shows from now on, and
//! nobody who is there already. So when a session joins after that, the proxy asks for what a joiner
//! gets, on the carrier, where a join of an occupant is a resync. Not before: the others see an
//! update of the account's presence by it. What it brings goes to the sessions that have joined, and
//! to the others only what is news to them.

use std::collections::BTreeSet;

use mucplex_xml::{Frame, Kind};

use super::overlap::same_presence;
use super::{Phase, Room};
use crate::SessionId;
use crate::context::Context;
use crate::muc_user::{MucUser, Status};
use crate::stanza;

/// A resync of the room's occupants.
#[derive(Debug, Default)]
pub(super) struct Resync {
    stage: Stage,
    /// Sessions that have been told less than the room tells a joiner by now.
    joiners: BTreeSet<SessionId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    /// What is kept of the occupants is not what a joiner would be shown.
    Wanted,
    /// A session has joined: to be asked for as soon as the carrier is sure to stay.
    Due,
    /// Presences come, ended by the self-presence.
    Presences,
    /// The subject is still to come.
    Subject,
}

impl Resync {
    /// The room shows more of its occupants from now on.
    pub(super) fn want(&mut self) {
        self.stage = Stage::Wanted;
    }

    /// A session has been told what is kept of the occupants.
    pub(super) fn joined(&mut self, session: SessionId) {
        match self.stage {
            Stage::None | Stage::Subject => return,
            Stage::Wanted => self.stage = Stage::Due,
            Stage::Due | Stage::Presences => {}
        }
        self.joiners.insert(session);
    }

    fn end(&mut self) {
        *self = Self::default();
    }
}

impl Room {
    pub(super) fn settle_resync(&mut self, ctx: &mut Context<'_>) {
        let settled = matches!(self.phase, Phase::Joined) && self.handover.is_none();
        match self.resync.stage {
            Stage::Due if settled && self.carrier_stays(ctx) => {
                self.resync.stage = Stage::Presences;
                let join = self.join_again(&stanza::history_maxstanzas(0));
                ctx.send(self.carrier, join);
            }
            // The carrier of it is no more; the next one's join tells only what has changed.
            Stage::Presences | Stage::Subject if !settled => self.resync.stage = Stage::Due,
            Stage::None | Stage::Wanted | Stage::Due | Stage::Presences | Stage::Subject => {}
        }
    }

    /// Takes what answers a resync and is no news. `false` if the stanza is to be handled as live.
    pub(super) fn resync_stanza(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
    ) -> bool {
        match self.resync.stage {
            Stage::None | Stage::Wanted | Stage::Due => false,
            Stage::Presences => {
                frame.kind() == Kind::Presence && self.resync_presence(ctx, frame, nick)
            }
            Stage::Subject => {
                // It comes right behind the self-presence, or not at all.
                self.resync.end();
                super::message::is_subject(frame) && self.is_known_subject(frame)
            }
        }
    }

    fn resync_presence(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
    ) -> bool {
        let kind = frame.stanza_type();
        let own = nick == Some(self.own.nick());
        if own && kind.as_deref() == Some("error") && frame.id().is_none() {
            self.resync.end();
            return true;
        }
        if kind.is_some() {
            return false;
        }
        let known = match nick {
            None => self.view.room.as_ref(),
            Some(_) if own => self.view.own.as_ref(),
            Some(nick) => self.view.others.get(nick),
        };
        let shows = |presence: &Frame| MucUser::read(presence).shows_jid;
        let shown_anew = !own && known.is_some_and(|known| shows(frame) && !shows(known));
        let is_known = known.is_some_and(|known| same_presence(known, frame));
        if own && MucUser::read(frame).has(Status::OwnPresence) {
            self.resync.stage = Stage::Subject;
        }
        if let (true, true, Some(nick)) = (is_known, shown_anew, nick) {
            for session in self.resync.joiners.intersection(&self.attached) {
                ctx.deliver(*session, frame);
            }
            self.view.others.set(nick, frame.compact());
        }
        is_known
    }
}
