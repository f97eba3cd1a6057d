//! What a room says in `<x xmlns='http://jabber.org/protocol/muc#user'/>` (XEP-0045 16.1).

use mucplex_xml::{Element, Frame};
use std::borrow::Cow;

use crate::ns;

/// The parts of a room's presence or message that change room state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MucUser {
    codes: Vec<u16>,
    /// `nick` of the item: the new nick in a change of nick.
    pub(crate) nick: Option<String>,
    pub(crate) affiliation: Option<String>,
    /// The item shows the occupant's real JID.
    pub(crate) shows_jid: bool,
    /// The room is being destroyed (XEP-0045 10.9).
    pub(crate) destroyed: bool,
}

impl MucUser {
    /// Reads the muc#user elements that are direct children. A room adds one, and takes out what
    /// an occupant wrote itself; where it does not, there are two, and nobody can tell which is
    /// the room's: then only what both say counts (behaviour 72).
    pub(crate) fn read(frame: &Frame) -> Self {
        let mut read: Option<Self> = None;
        for x in frame.root().children().filter(is_muc_user) {
            let mut user = Self::default();
            for child in x.children() {
                user.read_child(&child);
            }
            match &mut read {
                None => read = Some(user),
                Some(read) => read.keep_common(&user),
            }
        }
        read.unwrap_or_default()
    }

    fn keep_common(&mut self, other: &Self) {
        self.codes.retain(|code| other.codes.contains(code));
        self.destroyed &= other.destroyed;
        self.shows_jid &= other.shows_jid;
        for (own, other) in [
            (&mut self.nick, &other.nick),
            (&mut self.affiliation, &other.affiliation),
        ] {
            if own != other {
                *own = None;
            }
        }
    }

    fn read_child(&mut self, child: &Element<'_>) {
        if child.ns() != ns::MUC_USER {
            return;
        }
        match child.name() {
            "status" => {
                self.codes
                    .extend(child.attr("code").and_then(|code| code.parse::<u16>().ok()));
            }
            "item" => {
                self.nick = child.attr("nick").map(Cow::into_owned);
                self.affiliation = child.attr("affiliation").map(Cow::into_owned);
                self.shows_jid = child.attr("jid").is_some();
            }
            "destroy" => self.destroyed = true,
            _ => {}
        }
    }

    pub(crate) fn has(&self, code: Status) -> bool {
        self.codes.contains(&code.code())
    }

    /// The codes that say somebody was put out of the room or lost it (XEP-0045 16.6.2).
    pub(crate) fn removed(&self) -> bool {
        const REMOVED: [u16; 6] = [301, 307, 321, 322, 332, 333];
        self.destroyed || self.codes.iter().any(|code| REMOVED.contains(code))
    }

    /// The room or its service has lost the account, and nobody has meant it (332, 333).
    pub(crate) fn lost(&self) -> bool {
        let has = |codes: &[u16]| self.codes.iter().any(|code| codes.contains(code));
        has(&[332, 333]) && !has(&[301, 321, 322]) && !self.destroyed
    }
}

pub(crate) fn is_muc_user(element: &Element<'_>) -> bool {
    element.is("x", ns::MUC_USER)
}

/// The status codes whose meaning the proxy acts on (XEP-0045 16.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// 100: the room shows real JIDs to everybody.
    NonAnonymous,
    /// 110: this presence is the receiver's own.
    OwnPresence,
    /// 170: the room is logged.
    Logged,
    /// 171: the room is no longer logged.
    NotLogged,
    /// 172: the room now shows real JIDs to everybody.
    NowNonAnonymous,
    /// 173: the room now shows real JIDs to moderators only.
    NowSemiAnonymous,
    /// 174: the room now shows real JIDs to nobody, as it was in earlier versions of XEP-0045.
    NowFullyAnonymous,
    /// 201: this join has created the room.
    Created,
    /// 210: the nick was assigned or changed by the service.
    NickAssigned,
    /// 303: the occupant changes its nick.
    NickChanged,
    /// 333: removed because of an error reply; here, when the proxy has lost the room.
    Lost,
}

impl Status {
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::NonAnonymous => 100,
            Self::OwnPresence => 110,
            Self::Logged => 170,
            Self::NotLogged => 171,
            Self::NowNonAnonymous => 172,
            Self::NowSemiAnonymous => 173,
            Self::NowFullyAnonymous => 174,
            Self::Created => 201,
            Self::NickAssigned => 210,
            Self::NickChanged => 303,
            Self::Lost => 333,
        }
    }

    /// Codes of a self-presence that belong to one join alone, and are no state of the room.
    pub(crate) fn is_of_one_join(code: &str) -> bool {
        matches!(code, "110" | "201" | "210" | "303")
    }
}
