//! What the room shows of its occupants anew, because it shows more than before (XEP-0045 10.2.1;
//! behaviour 31).
//!
//! A room that becomes non-anonymous (172) tells nobody who is there already whom it shows from now
//! on, but those who join. The proxy asks for what a joiner gets, on the carrier, where a join of
//! an occupant is a resync for it alone. Late joiners get what that brings; to the sessions goes
//! only what is news to them.

use mucplex_xml::{Frame, Kind};

use super::overlap::same_presence;
use super::{Phase, Room};
use crate::context::Context;
use crate::muc_user::{MucUser, Status};
use crate::stanza;

/// A resync of the room's occupants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Resync {
    #[default]
    None,
    /// To be asked for as soon as the carrier is sure to stay.
    Wanted,
    /// Presences come, ended by the self-presence.
    Presences,
    /// The subject is still to come.
    Subject,
}

impl Room {
    pub(super) fn settle_resync(&mut self, ctx: &mut Context<'_>) {
        let settled = matches!(self.phase, Phase::Joined) && self.handover.is_none();
        if self.resync == Resync::Wanted && settled && self.carrier_stays(ctx) {
            self.resync = Resync::Presences;
            let join = self.join_again(&stanza::history_maxstanzas(0));
            ctx.send(self.carrier, join);
        } else if !settled && self.resync != Resync::None {
            // The next carrier's join is a look at the room, too, but of what has changed only.
            self.resync = Resync::Wanted;
        }
    }

    /// Takes what answers a resync and is no news. `false` if the stanza is to be handled as live.
    pub(super) fn resync_stanza(&mut self, frame: &Frame, nick: Option<&str>) -> bool {
        match self.resync {
            Resync::None | Resync::Wanted => false,
            Resync::Presences => {
                frame.kind() == Kind::Presence && self.resync_presence(frame, nick)
            }
            Resync::Subject => {
                // It comes right behind the self-presence, or not at all.
                self.resync = Resync::None;
                super::message::is_subject(frame) && self.is_known_subject(frame)
            }
        }
    }

    fn resync_presence(&mut self, frame: &Frame, nick: Option<&str>) -> bool {
        let kind = frame.stanza_type();
        let own = nick == Some(self.own.nick());
        if own && kind.as_deref() == Some("error") && frame.id().is_none() {
            self.resync = Resync::None;
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
        let is_known = known.is_some_and(|known| same_presence(known, frame));
        match nick {
            Some(_) if own => {
                if MucUser::read(frame).has(Status::OwnPresence) {
                    self.resync = Resync::Subject;
                }
            }
            Some(nick) if is_known => self.view.others.set(nick, frame.compact()),
            Some(_) | None => {}
        }
        is_known
    }
}
