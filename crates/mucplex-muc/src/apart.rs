//! Sessions that are in a room on their own, under another nick than the account's (behaviour 9,
//! `separate`).
//!
//! Such a session is in the room by its own uplink as it would be with the server alone: whatever
//! it and the room say to each other passes as it is. An uplink is in a room under one nick only,
//! so it carries no room in which its session is apart.

use std::collections::BTreeMap;

use mucplex_xml::{Frame, Kind};

use crate::muc_user::{MucUser, Status};
use crate::routes::asks_to_join;
use crate::{OccupantJid, RoomJid, SessionId, UplinkId};

/// Who is in which room on its own.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    members: BTreeMap<(RoomJid, SessionId), Member>,
}

#[derive(Debug)]
struct Member {
    uplink: UplinkId,
    /// Who it has asked to be there.
    occupant: OccupantJid,
    /// Its latest word is that it wants to be in the room.
    wants: bool,
    /// The room has let it in.
    inside: bool,
    /// Leaves that the room has not confirmed.
    leaves: usize,
}

impl Apart {
    /// Whether this uplink's session is in the room on its own.
    pub(crate) fn has(&self, room: &RoomJid, uplink: UplinkId) -> bool {
        let mut members = self.members.iter();
        members.any(|((in_room, _), member)| in_room == room && member.uplink == uplink)
    }

    /// Whether this session is in the room on its own.
    pub(crate) fn has_session(&self, room: &RoomJid, session: SessionId) -> bool {
        self.members.contains_key(&(room.clone(), session))
    }

    /// The session's join goes out on its own uplink.
    pub(crate) fn enter(&mut self, occupant: OccupantJid, session: SessionId, uplink: UplinkId) {
        let room = occupant.room();
        let member = Member {
            uplink,
            occupant,
            wants: true,
            inside: false,
            leaves: 0,
        };
        self.members.insert((room, session), member);
    }

    /// The session sends undirected unavailable, by which it leaves all rooms (RFC 6121 4.6.3).
    pub(crate) fn unavailable(&mut self, session: SessionId) {
        for ((_, member), state) in &mut self.members {
            if *member == session {
                state.leaves();
            }
        }
    }

    /// The session is gone. Gives whom it has been: its uplink, if that stays, is to leave these
    /// rooms.
    pub(crate) fn forget(&mut self, session: SessionId) -> Vec<OccupantJid> {
        let gone = self.members.extract_if(.., |(_, of), _| *of == session);
        gone.map(|(_, member)| member.occupant).collect()
    }

    /// Sees what a session sends to a room. `false` if it is not there on its own.
    pub(crate) fn client_stanza(
        &mut self,
        room: &RoomJid,
        session: SessionId,
        frame: &Frame,
    ) -> bool {
        if self.members.is_empty() {
            return false;
        }
        let Some(member) = self.members.get_mut(&(room.clone(), session)) else {
            return false;
        };
        let kind = frame.stanza_type();
        if frame.kind() == Kind::Presence && kind.as_deref() == Some("unavailable") {
            member.leaves();
        } else if asks_to_join(frame) {
            member.wants = true;
        }
        true
    }

    /// Sees what a room sends on an uplink. `false` if that uplink's session is not there on its
    /// own.
    pub(crate) fn server_stanza(
        &mut self,
        room: &RoomJid,
        uplink: UplinkId,
        frame: &Frame,
    ) -> bool {
        let mut members = self.members.iter_mut();
        let Some((place, member)) =
            members.find(|((in_room, _), member)| in_room == room && member.uplink == uplink)
        else {
            return false;
        };
        if frame.kind() == Kind::Presence && member.is_out(frame) {
            let place = place.clone();
            self.members.remove(&place);
        }
        true
    }
}

impl Member {
    /// The session leaves. A room answers only one who is there.
    fn leaves(&mut self) {
        self.leaves += usize::from(std::mem::take(&mut self.wants));
    }

    /// Whether a presence from the room says that the session is out of it for good.
    fn is_out(&mut self, frame: &Frame) -> bool {
        let user = MucUser::read(frame);
        let own = user.has(Status::OwnPresence) && !user.has(Status::NickChanged);
        match frame.stanza_type().as_deref() {
            None => {
                self.inside |= own;
                false
            }
            Some("error") => !self.inside,
            Some("unavailable") if own || user.destroyed => {
                self.inside = false;
                let asked = self.leaves > 0;
                self.leaves = self.leaves.saturating_sub(1);
                !(asked && self.wants) && self.leaves == 0
            }
            Some(_) => false,
        }
    }
}
