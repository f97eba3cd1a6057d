//! Whether what a session has asked to enter is a room at all (behaviour 68).
//!
//! The address does not tell, so what is answered has to. A room of XEP-0045 begins with presences
//! of its occupants, each with the muc#user element (7.2.2). Until such a one has come, these show
//! that nobody of a room speaks:
//!
//! - an available presence of a full JID without that element;
//! - a message with a body that is no groupchat message: of a full JID, since an occupant's private
//!   message would come behind the presences, too; of the bare JID with type `chat`, which rooms do
//!   not use.
//!
//! Other words of the bare JID show nothing. ejabberd's rooms begin with a presence of their own (its
//! vCard hash), and what stands before the door of a room (XEP-0158) is a `normal` message with a body.
//! Nor do requests, which rooms and occupants make as well. All these are passed to the session on whose
//! uplink they come; if nothing else has come when the join is given up, that was no room. An address that answers nothing at all stays a room that does not answer.
//!
//! In doubt it is taken for no room: a room that is taken for none is what it is with the server
//! alone, one occupancy for each session. A bot that is taken for a room would wait for messages that
//! are held behind a join.

use mucplex_xml::{Frame, Kind};

use super::{Phase, Room};
use crate::context::Context;
use crate::muc_user::is_muc_user;
use crate::{SessionId, UplinkId, ns, stanza};

/// What is known of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// Nothing yet: a join is under way, or was.
    Unknown,
    /// It has answered as a room does.
    Room,
    /// It has answered as no room does; the hub takes it out.
    Plain,
}

/// What one stanza shows of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Room,
    NoRoom,
    /// It may be either.
    None,
}

impl Room {
    /// Looks at a stanza of an address of which nothing is known yet. `true` if it has been passed
    /// on, as one that is no room's business.
    pub(super) fn learn_nature(
        &mut self,
        ctx: &mut Context<'_>,
        uplink: UplinkId,
        frame: &Frame,
        nick: Option<&str>,
    ) -> bool {
        if self.nature != Nature::Unknown {
            return false;
        }
        match sign(frame, nick) {
            Sign::Room => self.nature = Nature::Room,
            Sign::NoRoom => {
                self.pass_to_own(ctx, uplink, frame);
                self.turn_plain(ctx);
                return true;
            }
            Sign::None if self.is_beside(uplink, frame) => {
                self.pass_to_own(ctx, uplink, frame);
                return true;
            }
            Sign::None => {
                if let Phase::Joining(joining) = &mut self.phase {
                    joining.heard = true;
                }
            }
        }
        false
    }

    /// Whether a room would have no reason to say this on this uplink. Errors find their own way.
    fn is_beside(&self, uplink: UplinkId, frame: &Frame) -> bool {
        let error = frame.stanza_type().as_deref() == Some("error");
        let expected = uplink == self.carrier && !self.farewells.expects(uplink);
        matches!(frame.kind(), Kind::Message | Kind::Presence) && !expected && !error
    }

    /// What was kept for the room goes where it would have gone: each session's join on its own
    /// uplink, and what it has sent behind it.
    pub(super) fn turn_plain(&mut self, ctx: &mut Context<'_>) {
        self.nature = Nature::Plain;
        let waiting = match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Joining(joining) => {
                if let Some(asking) = &joining.asking {
                    let own = ctx.uplink_of(asking.session);
                    if own != Some(self.carrier) {
                        // It has gone out on an uplink that is nobody's own: once more, and that
                        // one takes it back.
                        ctx.send(self.carrier, stanza::leave(&self.own));
                        pass(ctx, asking.session, [&asking.presence]);
                    }
                    pass(ctx, asking.session, &asking.behind);
                }
                if let Some((session, leave)) = &joining.left {
                    pass(ctx, *session, [leave]);
                }
                joining.waiting
            }
            Phase::Leaving(leaving) => {
                if let Some(last) = leaving.last {
                    ctx.send(self.carrier, last);
                }
                leaving.waiting
            }
            Phase::Joined | Phase::Gone => return,
        };
        for request in &waiting {
            pass(ctx, request.session, [&request.presence]);
            pass(ctx, request.session, &request.behind);
        }
    }

    /// Whether the address is known to be no room's.
    pub(crate) fn is_plain(&self) -> bool {
        self.nature == Nature::Plain
    }

    /// The session whose own uplink this is gets what came on it, as it is. On another one it is for
    /// the session that has asked.
    fn pass_to_own(&self, ctx: &mut Context<'_>, uplink: UplinkId, frame: &Frame) {
        match ctx.uplinks.get(&uplink).map(|uplink| uplink.session) {
            Some(Some(session)) => ctx.tell(session, frame.bytes().clone()),
            Some(None) if uplink == self.carrier => self.deliver_to_asking(ctx, frame),
            Some(None) | None => {}
        }
    }
}

/// A session's stanzas go out on its own uplink.
fn pass<'f>(
    ctx: &mut Context<'_>,
    session: SessionId,
    frames: impl IntoIterator<Item = &'f Frame>,
) {
    if let Some(own) = ctx.uplink_of(session) {
        for frame in frames {
            ctx.send(own, frame);
        }
    }
}

fn sign(frame: &Frame, nick: Option<&str>) -> Sign {
    let kind = frame.stanza_type();
    let marked = || frame.root().children().any(|child| is_muc_user(&child));
    let has_body = || frame.root().child("body", ns::CLIENT).is_some();
    match (frame.kind(), kind.as_deref(), nick) {
        (Kind::Presence, None | Some("unavailable"), Some(_)) if marked() => Sign::Room,
        (Kind::Presence, None, Some(_)) => Sign::NoRoom,
        (Kind::Message, Some("groupchat"), _) => Sign::Room,
        (Kind::Message, Some("error"), _) => Sign::None,
        (Kind::Message, Some("chat"), _) | (Kind::Message, _, Some(_))
            if has_body() && !marked() =>
        {
            Sign::NoRoom
        }
        (
            Kind::Presence
            | Kind::Message
            | Kind::Iq
            | Kind::StreamError
            | Kind::StreamFeatures
            | Kind::Nonza,
            _,
            _,
        ) => Sign::None,
    }
}
