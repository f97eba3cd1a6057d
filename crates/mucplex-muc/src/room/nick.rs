//! The account's nick, and changes of it (XEP-0045 7.6; behaviours 9, 34, 35, 36).
//!
//! A room answers a change with an unavailable that has 303 and the new nick, and an available
//! under that. Where it leaves out the first, or both, the sessions get them from the proxy: a
//! presence that has 110 under the new nick, the reflection of a session's message from there, or
//! the answer to a ping of that nick shows that the change was made.

use mucplex_xml::Frame;

use super::in_flight::Sent;
use super::{JoinRequest, Phase, Room, Waiting};
use crate::SessionId;
use crate::context::Context;
use crate::hub::NickConflict;
use crate::identity::OccupantJid;
use crate::muc_user::{MucUser, Status, is_muc_user};
use crate::stanza::{self, StanzaError};

impl Room {
    /// A session joins a room the account is in, maybe under another nick (behaviour 9). With
    /// nobody in the room there is nothing to be separate from.
    pub(super) fn settle_conflict(&mut self, ctx: &mut Context<'_>, request: JoinRequest) {
        // One that asks again while it waits: its last word counts.
        for earlier in self.take_out_of_nick_queues(request.session) {
            self.refuse_behind(ctx, &earlier);
        }
        let same = request.occupant == self.own;
        match ctx.policy.nick_conflict {
            NickConflict::Separate if !same && !self.attached.is_empty() => {
                self.sets_apart.push_back(request);
            }
            NickConflict::Rename | NickConflict::Separate if !same => {
                let pending = self.in_flight.nick_change(self.own.nick());
                if pending != Some(request.occupant.nick()) {
                    let presence = request.presence.clone();
                    self.change_nick(ctx, request.session, &presence, &request.occupant);
                }
                self.renaming.push_back(request);
            }
            NickConflict::Account | NickConflict::Rename | NickConflict::Separate => {
                self.attach(ctx, &request);
            }
        }
    }

    /// A session wants the account to have another nick. What goes upstream is the presence that
    /// the account is to have there (see `standing`).
    pub(super) fn change_nick(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: &OccupantJid,
    ) {
        let presence = self.standing_with(session, frame);
        let to = nick.to_string();
        let id = frame.id();
        let presence = stanza::edit(&presence, |patch, presence| {
            let root = presence.root();
            patch.remove_attr(&root, "from");
            patch.set_attr(&root, "to", &to);
            stanza::set_id(patch, presence, id.as_deref());
        });
        let way = self.send_upstream(ctx, session, &presence, true);
        self.note_in_flight(ctx, session, &presence, Some(nick.nick()), way);
    }

    /// The room says that the account's nick has changed: the sessions are told so, and its
    /// presence under the new one is still to come.
    pub(super) fn nick_changed(&mut self, ctx: &mut Context<'_>, frame: &Frame, user: &MucUser) {
        self.fan_out(ctx, frame);
        self.nick_assigned = user.has(Status::NickAssigned);
        let nick = user.nick.as_deref();
        if let Some(own) = nick.and_then(|nick| self.jid.occupant(nick)) {
            self.take_nick(own);
        }
    }

    fn take_nick(&mut self, own: OccupantJid) {
        self.renamed = true;
        self.vanished = false;
        if let Some(change) = self.in_flight.nick_changed(own.nick()) {
            self.standing.agreed(change.session);
            self.sent_presence = change.frame.unwrap_or_else(|| self.sent_presence.clone());
        }
        // Who joins before the new presence has come knows itself by the new nick.
        let from = own.to_string();
        self.view.own = self.view.own.as_ref().map(|presence| {
            stanza::edit(presence, |patch, presence| {
                patch.set_attr(&presence.root(), "from", &from);
            })
        });
        self.own = own;
    }

    /// Whether the account has asked for another nick, and has not been told its presence under it.
    pub(super) fn is_being_renamed(&self) -> bool {
        self.renamed || self.in_flight.changes_nick(self.own.nick())
    }

    /// Whether this nick is the one the account has asked for and not got yet.
    pub(super) fn awaits_nick(&self, nick: Option<&str>) -> bool {
        nick.is_some() && self.in_flight.nick_change(self.own.nick()) == nick
    }

    /// Behaviour 36: the account has the nick it asked for, and the room has not said so, or has
    /// just said it by `presence`.
    pub(super) fn complete_nick_change(&mut self, ctx: &mut Context<'_>, presence: Option<&Frame>) {
        let nick = self.in_flight.nick_change(self.own.nick());
        let Some(own) = nick.and_then(|nick| self.jid.occupant(nick)) else {
            return;
        };
        if let Some(gone) = self
            .view
            .own
            .as_ref()
            .map(|own_now| renamed_to(own_now, own.nick()))
        {
            self.fan_out(ctx, &gone);
        }
        self.view.others.remove(own.nick());
        self.take_nick(own);
        let made = || self.own_presence_saying(&self.sent_presence);
        if let Some(presence) = presence.cloned().or_else(made) {
            self.own_available(ctx, &presence);
        }
    }

    /// The room has been silent about a change of nick for a while: it is asked, once, and in the
    /// end the change is given up.
    pub(super) fn nick_timeout(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        if let Some(nick) = self.in_flight.probe_nick(self.own.nick(), now)
            && let Some(occupant) = self.jid.occupant(nick)
        {
            self.probe_nick(ctx, &occupant);
        }
        for given_up in self.in_flight.expire(now) {
            self.give_up_nick(ctx, &given_up);
        }
        self.return_if_vanished(ctx);
    }

    /// A change of nick was lost with a carrier: a session that waits for it asks anew, and any other
    /// is told.
    pub(super) fn nick_lost(&mut self, ctx: &mut Context<'_>, lost: &Sent) {
        self.standing.refused(lost.session);
        let waits = lost.disowned || self.renaming.iter().any(|it| it.session == lost.session);
        let nick = lost.nick.as_deref().filter(|nick| *nick != self.own.nick());
        if let (false, Some(occupant)) = (waits, nick.and_then(|nick| self.jid.occupant(nick))) {
            self.tell_error(
                ctx,
                lost.session,
                "presence",
                &occupant.to_string(),
                lost.id.as_deref(),
                &StanzaError::NO_ANSWER,
            );
        }
    }

    /// The change of nick for which a session waits was lost with a carrier: the session asks anew.
    pub(super) fn ask_again_for_nicks(&mut self, ctx: &mut Context<'_>) {
        let settled = matches!(self.phase, Phase::Joined) && self.handover.is_none();
        if self.renaming.is_empty() || self.renamed || !settled || !self.carrier_stays(ctx) {
            return;
        }
        for request in self.take_renaming(|_| true) {
            if self.in_flight.asks_for(request.occupant.nick()) {
                self.renaming.push_back(request);
            } else {
                self.settle_conflict(ctx, request);
            }
        }
    }

    /// The room has let go of the old nick and gives no other one: the account is out of it.
    fn return_if_vanished(&mut self, ctx: &mut Context<'_>) {
        let waits = self.in_flight.nick_change(self.own.nick()).is_some();
        if waits || !std::mem::take(&mut self.vanished) {
            return;
        }
        if self.may_come_back(ctx) {
            self.come_back(ctx, None);
        } else {
            self.give_up_room(ctx);
        }
    }

    /// A change of nick is not answered any more: those that cannot join without it are told.
    pub(super) fn give_up_nick(&mut self, ctx: &mut Context<'_>, given_up: &Sent) {
        self.standing.refused(given_up.session);
        let joins =
            |request: &JoinRequest| given_up.nick.as_deref() == Some(request.occupant.nick());
        for request in self.take_renaming(joins) {
            self.refuse(
                ctx,
                request.session,
                &request.presence,
                &StanzaError::NO_ANSWER,
            );
            self.refuse_behind(ctx, &request);
        }
    }

    /// Behaviour 35: the room refuses a nick. It is told to the session that asked, and to those
    /// that cannot join without it.
    pub(super) fn nick_refused(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        error: &Frame,
        nick: Option<&str>,
    ) {
        self.standing.refused(session);
        let joins = |request: &JoinRequest| nick == Some(request.occupant.nick());
        for request in self.take_renaming(joins) {
            if request.session != session {
                let id = request.id.as_deref();
                let own = stanza::edit(error, |patch, error| {
                    stanza::set_id(patch, error, id);
                });
                ctx.deliver(request.session, &own);
            }
            self.refuse_behind(ctx, &request);
        }
        self.return_if_vanished(ctx);
    }

    /// The sessions that waited for the account's new nick join now.
    pub(super) fn admit_renamed(&mut self, ctx: &mut Context<'_>) {
        let own = self.own.clone();
        for request in self.take_renaming(|request| request.occupant == own) {
            if matches!(self.phase, Phase::Joined) {
                self.attach(ctx, &request);
            }
        }
    }

    /// A session does not wait for a nick any more.
    pub(super) fn take_out_of_nick_queues(&mut self, session: SessionId) -> Vec<JoinRequest> {
        let mut taken = Vec::new();
        for waiting in [&mut self.renaming, &mut self.sets_apart] {
            let place = waiting.iter().position(|it| it.session == session);
            taken.extend(place.and_then(|place| waiting.remove(place)));
        }
        for request in &taken {
            self.in_flight.disown(session, request.occupant.nick());
        }
        taken
    }

    fn take_renaming(&mut self, wanted: impl Fn(&JoinRequest) -> bool) -> Vec<JoinRequest> {
        let all = std::mem::take(&mut self.renaming);
        let (taken, rest): (Waiting, Waiting) = all.into_iter().partition(wanted);
        self.renaming = rest;
        taken.into()
    }
}

/// The first half of a change of nick, made from the last self-presence under the old one.
fn renamed_to(own: &Frame, nick: &str) -> Frame {
    stanza::edit(own, |patch, own| {
        let root = own.root();
        patch.set_attr(&root, "type", "unavailable");
        for child in root.children().filter(|child| !is_muc_user(child)) {
            patch.remove(&child);
        }
        let Some(x) = root.children().find(is_muc_user) else {
            return;
        };
        if let Some(item) = x.child("item", crate::ns::MUC_USER) {
            patch.set_attr(&item, "nick", nick);
        }
        for status in x
            .children()
            .filter(|child| child.is("status", crate::ns::MUC_USER))
        {
            patch.remove(&status);
        }
        for code in [Status::NickChanged, Status::OwnPresence] {
            patch.append(&x, &stanza::status(code.code()));
        }
    })
}
