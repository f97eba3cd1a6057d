//! Presences in the room: those of others, and the account's own (XEP-0045 7.7, 9, 10.9).

use std::collections::BTreeMap;

use mucplex_xml::Frame;

use super::dormant::Removal;
use super::overlap::{Verdict, same_presence};
use super::{JoinRequest, Phase, Room};
use crate::context::Context;
use crate::muc_user::{MucUser, Status, is_muc_user};
use crate::routes::asks_to_join;
use crate::{SessionId, UplinkId, ns, stanza};

impl Room {
    pub(super) fn presence_from_client(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match frame.stanza_type().as_deref() {
            None => self.available_from_client(ctx, session, frame, nick),
            Some("unavailable") => self.leave(ctx, session, frame),
            // Behaviour 58, as for messages.
            Some("error") => {}
            // Who else is here is asked in the name of the occupant.
            Some("probe") if self.attached.contains(&session) => {
                self.send_upstream(ctx, session, frame, false);
            }
            Some("probe") => self.pass_on_own_uplink(ctx, session, frame),
            // Subscriptions are between accounts (RFC 6121 3), whoever is in the room; and what is
            // of no known type the server refuses.
            Some(_) => {
                if let Some(own) = ctx.uplink_of(session) {
                    ctx.send(own, frame);
                }
            }
        }
    }

    fn available_from_client(
        &mut self,
        ctx: &mut Context<'_>,
        session: SessionId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let Some(occupant) = nick.and_then(|nick| self.jid.occupant(nick)) else {
            // XEP-0045 7.2.1: a room cannot be entered without a nick; the server says so.
            if let Some(own) = ctx.uplink_of(session) {
                ctx.send(own, frame);
            }
            return;
        };
        let joins = asks_to_join(frame);
        let inside = matches!(self.phase, Phase::Joined) && self.attached.contains(&session);
        if joins && (!inside || occupant == self.own) {
            self.join(ctx, JoinRequest::read(session, occupant, frame));
        } else if inside && occupant == self.own {
            self.change_standing(ctx, session, frame);
        } else if inside {
            self.change_nick(ctx, session, frame, &occupant);
        } else {
            self.pass_on_own_uplink(ctx, session, frame);
        }
    }

    pub(super) fn presence_from_server(
        &mut self,
        ctx: &mut Context<'_>,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        let kind = frame.stanza_type();
        if kind.as_deref() == Some("error") {
            self.presence_error(ctx, self.carrier, frame, nick);
        } else if nick.is_none() && kind.as_deref() == Some("unavailable") {
            // ejabberd takes back the room's own presence from each stream that leaves: that is
            // between the two of them.
        } else if nick.is_none() && kind.is_some() {
            // What becomes of a subscription is for the account, and on each stream of it.
            self.deliver_to_own(ctx, self.carrier, frame);
        } else if nick == Some(self.own.nick()) {
            match kind.as_deref() {
                Some("unavailable") => self.own_unavailable(ctx, frame),
                _ => self.own_available(ctx, frame),
            }
        } else if kind.is_none() && self.awaits_nick(nick) && is_own(frame) {
            self.complete_nick_change(ctx, Some(frame));
        } else if !self.is_duplicate(ctx, frame) {
            self.note_occupant(frame, nick);
            self.fan_out(ctx, frame);
        }
    }

    /// Whether the sessions have been given this live stanza already, by the carrier before.
    pub(super) fn is_duplicate(&mut self, ctx: &mut Context<'_>, frame: &Frame) -> bool {
        let owed = match self.duplicates.judge(frame) {
            Verdict::Duplicate => return true,
            Verdict::New(owed) => owed,
        };
        self.tell_owed(ctx, owed);
        false
    }

    /// Presences that were taken for duplicates, and are told if they say what is not known.
    pub(super) fn tell_owed(&mut self, ctx: &mut Context<'_>, owed: BTreeMap<String, Frame>) {
        for (nick, presence) in owed {
            let known = match self.view.others.get(&nick) {
                Some(known) => same_presence(known, &presence),
                None => presence.stanza_type().is_some(),
            };
            if !known {
                self.note_occupant(&presence, Some(&nick));
                self.fan_out(ctx, &presence);
            }
        }
    }

    /// Keeps what late joiners are to be told. A change of nick is an unavailable with 303 and
    /// then an available under the new nick (XEP-0045 7.6): nothing is kept of the old one.
    fn note_occupant(&mut self, frame: &Frame, nick: Option<&str>) {
        match (nick, frame.stanza_type().as_deref()) {
            (None, None) => self.view.room = Some(frame.compact()),
            (Some(nick), None) => self.view.others.set(nick, settled(frame)),
            (Some(nick), Some("unavailable")) => {
                self.view.others.remove(nick);
            }
            // A probe or a subscription says nothing of who is here.
            (None | Some(_), Some(_)) => {}
        }
    }

    /// Behaviour 35: what the room refuses is for the asking session alone.
    pub(super) fn presence_error(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) {
        match self.in_flight.refused(frame, nick, uplink) {
            Some(sent) if sent.disowned => {}
            Some(sent) => {
                ctx.deliver(sent.session, frame);
                self.nick_refused(ctx, sent.session, frame, nick);
            }
            None if super::iq::number_of(frame).is_some() => {}
            None => self.deliver_to_own(ctx, uplink, frame),
        }
    }

    pub(super) fn own_available(&mut self, ctx: &mut Context<'_>, frame: &Frame) {
        let asked = self.in_flight.answered(frame, Some(self.own.nick()));
        let renamed = std::mem::take(&mut self.renamed);
        let unasked = asked.is_none_or(|sent| sent.disowned) && !renamed;
        if unasked && self.expects_echo(ctx) && self.is_known_self_presence(frame) {
            // Of the hand-over's own join or leave: the sessions know it already.
            return;
        }
        let told = as_own(frame);
        self.view.own = Some(settled(&told));
        self.fan_out(ctx, &told);
        if renamed {
            self.admit_renamed(ctx);
        }
    }

    fn own_unavailable(&mut self, ctx: &mut Context<'_>, frame: &Frame) {
        let user = MucUser::read(frame);
        if user.has(Status::NickChanged) {
            self.nick_changed(ctx, frame, &user);
            return;
        }
        if !user.removed() && !user.has(Status::OwnPresence) {
            // Another stream of the account under this nick, past the proxy, has left.
            self.fan_out(ctx, frame);
            return;
        }
        let changes_nick = self.in_flight.nick_change(self.own.nick()).is_some();
        if !user.removed() && changes_nick {
            // XEP-0045 7.6 wants 303 here; what follows shows what this was.
            self.vanished = true;
        } else if user.removed() && !user.lost() || !self.may_come_back(ctx) {
            self.removed(ctx, frame, &user);
        } else {
            self.come_back(ctx, user.lost().then(|| as_own(frame)));
        }
    }

    /// Behaviours 47 and 49: kicked, banned, or the room is no more. Each session is told once,
    /// also where the server leaves 110 out, and the room's state goes.
    pub(super) fn removed(&mut self, ctx: &mut Context<'_>, frame: &Frame, user: &MucUser) {
        // A destroyed room says so itself; not every service adds 110 to that.
        let told = if user.destroyed {
            frame.clone()
        } else {
            as_own(frame)
        };
        self.fan_out(ctx, &told);
        // The next carrier's join may come behind the removal.
        self.abandon_handover(ctx, None);
        self.farewell_confirmed(ctx, self.carrier);
        self.part(ctx);
    }

    /// The proxy has lost the room and cannot come back: the sessions are told what the room has
    /// said of it, or 333, removed for technical reasons (XEP-0045 16.6.2).
    pub(super) fn lost(&mut self, ctx: &mut Context<'_>) {
        self.lost_by(ctx, Removal::LOST);
    }

    /// The same with another reason, if the room has said nothing itself.
    pub(super) fn lost_by(&mut self, ctx: &mut Context<'_>, removal: Removal) {
        if let Some(told) = self.comeback.take().and_then(|comeback| comeback.told) {
            self.fan_out(ctx, &told);
            self.attached.clear();
        }
        let own = Some(Status::OwnPresence.code());
        let codes: Vec<u16> = own.into_iter().chain(removal.code).collect();
        for session in std::mem::take(&mut self.attached) {
            let gone = stanza::Unavailable {
                from: &self.own,
                to: ctx.address(session),
                id: None,
                lang: None,
                payload: "",
                affiliation: removal.affiliation,
                jid: None,
                destroyed: removal.destroyed,
                codes: &codes,
            };
            let bytes = gone.write();
            ctx.tell(session, bytes);
        }
        self.part(ctx);
    }

    /// Whether a self-presence says nothing that [`View::own`](super::View) does not.
    pub(super) fn is_known_self_presence(&self, frame: &Frame) -> bool {
        self.view
            .own
            .as_ref()
            .is_some_and(|own| own.from() == frame.from() && same_presence(own, frame))
    }
}

fn is_own(frame: &Frame) -> bool {
    MucUser::read(frame).has(Status::OwnPresence)
}

/// An own presence marked as such: a service may leave 110 out towards one of several streams
/// (ejabberd 23.01), and for a session there is but one.
fn as_own(frame: &Frame) -> Frame {
    if is_own(frame) {
        return frame.clone();
    }
    stanza::edit(frame, |patch, frame| {
        if let Some(x) = frame.root().children().find(is_muc_user) {
            patch.append(&x, &stanza::status(Status::OwnPresence.code()));
        }
    })
}

/// A presence as late joiners are told it: who has brought the occupant's standing about, and why
/// (XEP-0045 8 and 9), belongs to that moment.
fn settled(frame: &Frame) -> Frame {
    let items = frame.root().children().filter(is_muc_user);
    let items = items.flat_map(|x| x.children());
    let told_once: Vec<_> = items
        .filter(|item| item.is("item", ns::MUC_USER))
        .flat_map(|item| item.children())
        .filter(|it| it.is("actor", ns::MUC_USER) || it.is("reason", ns::MUC_USER))
        .collect();
    if told_once.is_empty() {
        return frame.compact();
    }
    stanza::edit(frame, |patch, _| {
        for element in &told_once {
            patch.remove(element);
        }
    })
}
