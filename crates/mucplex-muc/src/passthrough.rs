//! Rooms that the operator has taken out of the multiplexing (behaviour 68).

use std::sync::Arc;

use jid::BareJid;
use wildmatch::WildMatch;

use crate::RoomJid;

/// A glob over the bare JIDs of rooms in their normal form: `*` is any number of characters, `?`
/// is one.
#[derive(Clone, Debug)]
pub struct JidGlob(WildMatch);

impl JidGlob {
    /// Reads a glob. `None` for one that matches no room's JID, or would need characters that
    /// have another normal form (RFC 7622 3): `Tea@…` is `tea@…`.
    pub fn parse(glob: &str) -> Option<Self> {
        let example = glob.replace(['*', '?'], "a");
        let is_jid = |text: &str| {
            let jid = text.parse::<BareJid>();
            jid.is_ok_and(|jid| jid.node().is_some() && jid.to_string() == text)
        };
        let reads = match glob.contains('@') {
            true => is_jid(&example),
            // The `@` is behind a `*`; the domain, or the local part, is all of the rest.
            false => {
                glob.contains('*')
                    && (is_jid(&format!("a@{example}")) || is_jid(&format!("{example}@a")))
            }
        };
        reads.then(|| Self(WildMatch::new(glob)))
    }
}

/// The rooms whose traffic passes as it is, each session for itself. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Passthrough(Arc<[JidGlob]>);

impl Passthrough {
    pub(crate) fn has(&self, room: &RoomJid) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let room = room.to_string();
        self.0.iter().any(|glob| glob.0.matches(&room))
    }
}

impl FromIterator<JidGlob> for Passthrough {
    fn from_iter<I: IntoIterator<Item = JidGlob>>(globs: I) -> Self {
        Self(globs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_that_can_match_a_room() {
        for (glob, room, matches) in [
            ("*@irc.example.org", "#rust%oftc@irc.example.org", true),
            ("*@irc.example.org", "tea@muc.example.org", false),
            ("*@irc.example.org", "tea@irc.example.org.evil", false),
            ("tea@muc.example.org", "tea@muc.example.org", true),
            ("tea@muc.example.org", "tea2@muc.example.org", false),
            ("te?@muc.example.org", "tea@muc.example.org", true),
            ("*", "tea@muc.example.org", true),
            ("*.example.org", "tea@muc.example.org", true),
            ("#*", "#tea@muc.example.org", true),
            ("private-*@*", "private-tea@muc.example.org", true),
            ("bücher-*@*.example", "bücher-tee@räume.example", true),
        ] {
            let passthrough: Passthrough = [JidGlob::parse(glob).unwrap()].into_iter().collect();
            let room = RoomJid(room.parse().unwrap());
            assert_eq!(passthrough.has(&room), matches, "{glob} {room}");
        }
        let room = RoomJid("tea@muc.example.org".parse().unwrap());
        assert!(!Passthrough::default().has(&room));
    }

    #[test]
    fn globs_that_cannot() {
        for glob in [
            "",
            " ",
            "muc.example.org",
            "???",
            "@muc.example.org",
            "tea@",
            "a@b@*",
            "tea@muc.example.org/*",
            "*/bob",
            "Tea@muc.example.org",
            "*@MUC.example.org",
            "t a*@muc.example.org",
            "<*@muc.example.org",
        ] {
            assert!(JidGlob::parse(glob).is_none(), "{glob:?}");
        }
    }
}
