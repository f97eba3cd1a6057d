//! Private messages of the account's sessions, and the copies its other sessions get (XEP-0045
//! 7.5, XEP-0280; behaviours 27, 28).
//!
//! A session's private message goes out on the carrier, so the server takes the carrier's session
//! for its sender: it would give that one no copy, and the sender one of its own message. Whether
//! it gives any of a private message depends on the server. So the proxy makes the copies itself
//! and takes the server's out, which it knows by the sender they name.

use std::borrow::Cow;

use mucplex_xml::{Element, Frame};

use super::Room;
use crate::context::Context;
use crate::{SessionId, UplinkId, ns, stanza};

impl Room {
    /// The copies of what a session has sent to an occupant, for the sessions that want some.
    pub(super) fn copy_to_others(&self, ctx: &mut Context<'_>, sender: SessionId, frame: &Frame) {
        if !is_eligible(frame) {
            return;
        }
        // The server takes the carrier's session for the sender, also if it is not in the room.
        let carrying = ctx.uplinks.get(&self.carrier).and_then(|it| it.session);
        let outside = carrying.filter(|session| !self.attached.contains(session));
        let others: Vec<SessionId> = self.attached.iter().copied().chain(outside).collect();
        for session in others {
            if session != sender && ctx.wants_carbons(session) {
                let copy = stanza::sent_carbon(
                    frame,
                    &ctx.account.text,
                    ctx.address(sender),
                    ctx.address(session),
                );
                ctx.tell(session, copy);
            }
        }
    }

    /// The server's copy of a message between the account and this room, on the uplink of one of
    /// the sessions.
    pub(crate) fn carbon(&self, ctx: &mut Context<'_>, uplink: UplinkId, carbon: &Carbon<'_>) {
        let own = ctx.uplinks.get(&uplink).and_then(|uplink| uplink.session);
        let Some(session) = own else {
            return;
        };
        // What went by way of the room's state here the session has itself, or from the proxy; not
        // what a client past the proxy, or a session that is in the room on its own, has said.
        let shared = ctx.uplinks.iter().any(|(uplink, known)| {
            known.address == carbon.stream && !ctx.apart.has(&self.jid, *uplink)
        }) || self.lost_carrier.as_ref() == Some(&carbon.stream);
        if !(shared && self.attached.contains(&session)) {
            ctx.deliver(session, carbon.frame);
        }
    }
}

/// A copy that the server has made of a message of the account (XEP-0280 7).
pub(crate) struct Carbon<'f> {
    frame: &'f Frame,
    /// The full JID of the account's stream that has sent or got the message.
    stream: String,
    /// The address of the other side.
    pub(crate) peer: String,
}

impl<'f> Carbon<'f> {
    /// Reads a message that came from the account's own bare JID, from which only the server sends
    /// copies (XEP-0280 11).
    pub(crate) fn read(frame: &'f Frame) -> Option<Self> {
        let root = frame.root();
        let is_copy = |child: &Element<'_>| child.ns() == ns::CARBONS;
        let wrapper = root.children().find(is_copy)?;
        let message = wrapper
            .child("forwarded", ns::FORWARD)?
            .child("message", ns::CLIENT)?;
        let address = |name| message.attr(name).map(Cow::into_owned);
        let (stream, peer) = match wrapper.name() {
            "sent" => (address("from")?, address("to")?),
            "received" => (address("to")?, address("from")?),
            _ => return None,
        };
        Some(Self {
            frame,
            stream,
            peer,
        })
    }
}

/// XEP-0280 6.1: what a server copies, and what the sender does not want to be.
fn is_eligible(frame: &Frame) -> bool {
    let root = frame.root();
    let kept_back =
        root.child("private", ns::CARBONS).is_some() || root.child("no-copy", ns::HINTS).is_some();
    let talks = match frame.stanza_type().as_deref() {
        Some("chat") => true,
        None | Some("normal") => root.child("body", ns::CLIENT).is_some(),
        Some(_) => false,
    };
    talks && !kept_back
}
