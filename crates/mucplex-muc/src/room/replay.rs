//! What a session gets that joins a room the account is in already: the room's present state in
//! the order of XEP-0045 7.1, from what the proxy knows, with nothing in between.

use mucplex_xml::{Element, Frame};

use super::{JoinRequest, Room};
use crate::context::Context;
use crate::history;
use crate::identity::RoomAddress;
use crate::muc_user::{Status, is_muc_user};
use crate::{SessionId, stanza};

impl Room {
    /// Brings a session into the room. The whole replay goes out in one go, before any other
    /// input is handled, so a live stanza can only come behind it (behaviour 5).
    pub(super) fn attach(&mut self, ctx: &mut Context<'_>, request: &JoinRequest) {
        let session = request.session;
        if let Some(room) = &self.view.room {
            ctx.replay(session, room);
        }
        for (_, presence) in self.view.others.in_order() {
            ctx.replay(session, presence);
        }
        if let Some(own) = self.self_presence_for(ctx, request) {
            ctx.replay(session, &own);
        }
        self.tell_past(ctx, request, true);
        self.attached.insert(session);
        self.left = false;
        self.standing.join(session, &request.presence);
        self.note_attachment(ctx);
        self.follow_up(ctx, request);
    }

    /// The self-presence of a late joiner: what the room last said of the account, with the codes
    /// that describe the room and this join, and never 201 (behaviours 6, 8, 9, 18).
    fn self_presence_for(&self, ctx: &Context<'_>, request: &JoinRequest) -> Option<Frame> {
        let mut codes = vec![Status::OwnPresence];
        if self.view.non_anonymous {
            codes.push(Status::NonAnonymous);
        }
        if self.view.logged {
            codes.push(Status::Logged);
        }
        if self.nick_assigned || request.occupant != self.own {
            codes.push(Status::NickAssigned);
        }
        let presence = self.own_presence(&codes, request.id.as_deref())?;
        let personal = self.for_session(ctx, request.session, &presence);
        Some(personal.unwrap_or(presence))
    }

    /// A frame with the receiving session's full JID where the room shows the one that carries the
    /// room, or carried it when the frame was kept (behaviour 39); `None` if it shows none.
    pub(super) fn for_session(
        &self,
        ctx: &Context<'_>,
        session: SessionId,
        frame: &Frame,
    ) -> Option<Frame> {
        let address = ctx.address(session);
        if !ctx.account.is_mentioned(frame) {
            return None;
        }
        let from_other = self.is_from_other(frame);
        let ours = |jid: &str| ctx.uplinks.values().any(|uplink| uplink.address == jid);
        let shown: Vec<_> = elements_with_jid_of(frame, &ctx.account.text)
            .into_iter()
            .filter(|element| {
                let jid = element.attr("jid").unwrap_or_default();
                jid != address && (!from_other || ours(&jid))
            })
            .collect();
        if shown.is_empty() {
            return None;
        }
        Some(stanza::edit(frame, |patch, _| {
            for element in &shown {
                patch.set_attr(element, "jid", address);
            }
        }))
    }

    /// The account may have another stream in the room that goes past the proxy, under a nick of
    /// its own: what the room says of that one is left as it is.
    fn is_from_other(&self, frame: &Frame) -> bool {
        let from = frame.from().and_then(|from| RoomAddress::parse(&from));
        let nick = from.and_then(|from| from.nick);
        nick.is_some_and(|nick| nick != self.own.nick() && self.view.others.get(&nick).is_some())
    }

    /// The subject as a late joiner gets it: with the time it was set (behaviour 14).
    pub(super) fn set_subject(&mut self, ctx: &Context<'_>, frame: &Frame) {
        let stamped = history::room_stamp(frame, &self.jid).is_some();
        self.view.subject = Some(if stamped {
            frame.compact()
        } else {
            history::stamp(frame, &self.jid, ctx.now.wall)
        });
    }
}

/// Where rooms show a full JID of the account: in `<item/>` and its `<actor/>` (muc#user), and in
/// the `<address/>` (XEP-0033) that rooms which show real JIDs add to messages.
fn elements_with_jid_of<'f>(frame: &'f Frame, account: &str) -> Vec<Element<'f>> {
    const ADDRESS: &str = "http://jabber.org/protocol/address";
    let mut found = Vec::new();
    for holder in frame.root().children() {
        if !is_muc_user(&holder) && !holder.is("addresses", ADDRESS) {
            continue;
        }
        for shown in holder.children() {
            found.extend(shown.children());
            found.push(shown);
        }
    }
    found.retain(|shown| {
        let jid = shown.attr("jid");
        jid.as_deref()
            .and_then(|jid| jid.split_once('/'))
            .is_some_and(|(bare, _)| bare == account)
    });
    found
}
