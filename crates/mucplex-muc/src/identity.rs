//! Who is who: accounts, sessions, uplinks, rooms and occupants as types of their own.
//!
//! JIDs are held in the form the `jid` crate normalises them to (RFC 7622), and this is the one
//! place that compares them: two spellings of one room are one [`RoomJid`].

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jid::{BareJid, ResourcePart};

/// A bare JID that has logged in. All room state belongs to one of these and to no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountJid(pub BareJid);

/// One client stream, numbered by the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// One stream to the server, numbered by the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UplinkId(pub u64);

impl UplinkId {
    /// No uplink: the last number there is, which no process gets to.
    pub(crate) const NONE: Self = Self(u64::MAX);
}

/// The bare JID of a room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomJid(pub BareJid);

/// A room's JID with a nick as its resource (the occupant JID of XEP-0045 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OccupantJid {
    room: RoomJid,
    nick: String,
}

impl RoomJid {
    /// The JID of the occupant `nick`; `None` if that is no nick (RFC 7622 3.4).
    pub fn occupant(&self, nick: &str) -> Option<OccupantJid> {
        Some(OccupantJid {
            room: self.clone(),
            nick: normal_nick(nick)?,
        })
    }
}

impl OccupantJid {
    /// The room.
    pub fn room(&self) -> RoomJid {
        self.room.clone()
    }

    /// The nick.
    pub fn nick(&self) -> &str {
        &self.nick
    }
}

impl fmt::Display for OccupantJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.room, self.nick)
    }
}

/// A nick in the form to compare it by. The `jid` crate knows the characters of Unicode 3.2, as
/// Stringprep does; servers go by PRECIS or let through what is newer, such as emoji, and then a
/// nick stands as it is written.
fn normal_nick(nick: &str) -> Option<String> {
    if nick.is_empty() || nick.len() > MOST_NICK_BYTES {
        return None;
    }
    let normal = ResourcePart::new(nick).map(|normal| normal.as_str().to_owned());
    Some(normal.unwrap_or_else(|_| nick.to_owned()))
}

/// RFC 7622 3.4.
const MOST_NICK_BYTES: usize = 1_023;

macro_rules! display_as_inner {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}
display_as_inner!(AccountJid, SessionId, UplinkId, RoomJid);

/// An address of a stanza that names a room: the room itself, or one of its occupants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomAddress {
    /// The room.
    pub room: RoomJid,
    /// The nick, when the address is an occupant's.
    pub nick: Option<String>,
}

impl RoomAddress {
    /// Reads the `to` or `from` of a stanza. `None` for what is no JID, or has no local part (a
    /// service itself, which is never a room).
    pub fn parse(address: &str) -> Option<Self> {
        let (bare, nick) = match address.split_once('/') {
            Some((bare, nick)) => (bare, Some(normal_nick(nick)?)),
            None => (address, None),
        };
        let room = BareJid::from_str(bare).ok()?;
        room.node()?;
        Some(Self {
            room: RoomJid(room),
            nick,
        })
    }
}

/// The part of an address before its resource, in the spelling given.
pub(crate) fn bare_part(address: &str) -> &str {
    address.split_once('/').map_or(address, |(bare, _)| bare)
}

/// Brings a bare JID to its normal form, without work for the ones that are in it already:
/// those of lower-case ASCII, which nearly all are.
pub(crate) fn normal_bare(bare: &str) -> Option<Cow<'_, str>> {
    let plain =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'@' | b'+');
    if bare.bytes().all(plain) {
        return Some(Cow::Borrowed(bare));
    }
    BareJid::from_str(bare)
        .ok()
        .map(|jid| Cow::Owned(jid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_a_room_are_one_room() {
        let written = RoomAddress::parse("Tea@Rooms.Example.Test/Alice").unwrap();
        let normal = RoomAddress::parse("tea@rooms.example.test/Alice").unwrap();
        assert_eq!(written, normal);
        assert_eq!(
            normal_bare("Tea@Rooms.Example.Test").as_deref(),
            normal_bare("tea@rooms.example.test").as_deref(),
        );
    }

    #[test]
    fn a_nick_may_have_characters_that_stringprep_does_not_know() {
        let address = RoomAddress::parse("tea@rooms.example.test/\u{1f600}/x").unwrap();
        assert_eq!(address.nick.as_deref(), Some("\u{1f600}/x"));
        let wide = RoomAddress::parse("tea@rooms.example.test/\u{ff21}").unwrap();
        assert_eq!(wide.nick.as_deref(), Some("A"));
        assert_eq!(RoomAddress::parse("tea@rooms.example.test/"), None);
    }

    #[test]
    fn a_service_is_no_room() {
        assert_eq!(RoomAddress::parse("rooms.example.test"), None);
        assert_eq!(RoomAddress::parse("rooms.example.test/x"), None);
        assert_eq!(RoomAddress::parse("@rooms"), None);
    }
}
