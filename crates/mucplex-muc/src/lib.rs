//! The multiplexer: one occupancy per account and room towards the server, and for every session
//! of the account a complete and ordered view of the room (XEP-0045). Sans-io.
//!
//! A [`Hub`] owns the rooms of one account. It is fed what its sessions and the server send, with
//! the time ([`Input`], [`Now`]), and says what is to be sent where ([`Output`]). The first session
//! that joins a room makes the account join, on that session's own uplink. Who joins later is
//! served from what the hub knows of the room, and the server hears nothing of it. When the uplink
//! that carries a room goes away, another takes the room over, and nobody notices. An anchor, an
//! uplink without a session, carries the rooms before all others, and the account stays in them
//! while its clients come, sleep and go.
//!
//! What a hub knows can outlive its process: it tells each [`Change`], and [`Hub::restore`] goes on
//! from what they add up to. Messages have numbers, and each session that was lost gets what is
//! behind the last one it was served.
//!
//! [`Routes`] is the part of it that each session's task holds itself: it tells which stanzas go to
//! the hub, so that all others can go straight through. [`Csi`] is the other part: it holds back
//! what a client can wait for while nobody looks at it.
//!
//! ```
//! use std::time::{Duration, Instant, SystemTime};
//!
//! use mucplex_muc::{AccountJid, Hub, Input, NickConflict, Now, Output, Policy, SessionId, UplinkId};
//! use mucplex_xml::{Frame, Limits};
//!
//! /// What is sent to whom, in order.
//! fn outputs(hub: &mut Hub) -> Vec<(String, String)> {
//!     let text = |stanza: mucplex_xml::Outgoing| {
//!         String::from_utf8(stanza.to_bytes().to_vec()).unwrap()
//!     };
//!     std::iter::from_fn(|| hub.poll_output())
//!         .filter_map(|output| match output {
//!             Output::ToClient { session, stanza, .. } => Some((format!("session {session}"), text(stanza))),
//!             Output::ToServer { uplink, stanza } => Some((format!("uplink {uplink}"), text(stanza))),
//!             _ => None,
//!         })
//!         .collect()
//! }
//! let frame = |xml: &'static str| Frame::parse(xml.into(), &Limits::default());
//!
//! # #[allow(clippy::disallowed_methods)]
//! let now = Now { instant: Instant::now(), wall: SystemTime::now() };
//! let policy = Policy {
//!     stay: Duration::from_secs(3600),
//!     history: Duration::from_secs(86_400),
//!     nick_conflict: NickConflict::Account,
//!     persist: false,
//!     anchors: true,
//! };
//! let mut hub = Hub::new(AccountJid("alice@example.org".parse()?), policy);
//! for (n, resource) in [(1, "phone"), (2, "desk")] {
//!     hub.handle(now, Input::SessionBound {
//!         session: SessionId(n),
//!         uplink: UplinkId(n),
//!         jid: format!("alice@example.org/{resource}").parse()?,
//!         client_lang: None,
//!     });
//! }
//!
//! // The phone joins; its join goes to the server on its own uplink.
//! let join = "<presence to='tea@muc.example.org/alice'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
//! hub.handle(now, Input::FromClient { session: SessionId(1), frame: frame(join)? });
//! assert_eq!(outputs(&mut hub), [("uplink 1".to_owned(), join.to_owned())]);
//!
//! // What the room answers goes to the phone as it comes.
//! for xml in [
//!     "<presence from='tea@muc.example.org/bob' to='alice@example.org/phone'>\
//!      <x xmlns='http://jabber.org/protocol/muc#user'/></presence>",
//!     "<presence from='tea@muc.example.org/alice' to='alice@example.org/phone'>\
//!      <x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>",
//!     "<message type='groupchat' from='tea@muc.example.org' to='alice@example.org/phone'><subject/></message>",
//! ] {
//!     hub.handle(now, Input::FromServer { uplink: UplinkId(1), frame: frame(xml)? });
//!     assert_eq!(outputs(&mut hub), [("session 1".to_owned(), xml.to_owned())]);
//! }
//!
//! // The desk joins too. It gets all that at once, and nothing goes to the server.
//! hub.handle(now, Input::FromClient { session: SessionId(2), frame: frame(join)? });
//! let told = outputs(&mut hub);
//! assert_eq!(told.len(), 3);
//! assert!(told.iter().all(|(to, _)| to == "session 2"));
//! assert!(told[0].1.starts_with("<presence from='tea@muc.example.org/bob' to='alice@example.org/desk'>"));
//!
//! // What is said from now on comes once from the server, and goes to both.
//! let said = "<message type='groupchat' from='tea@muc.example.org/bob' to='alice@example.org/phone'><body>hi</body></message>";
//! hub.handle(now, Input::FromServer { uplink: UplinkId(1), frame: frame(said)? });
//! assert_eq!(outputs(&mut hub).len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apart;
mod bookmarks;
mod context;
mod csi;
mod history;
mod hub;
mod identity;
mod muc_user;
mod ns;
mod passthrough;
mod persist;
mod plain;
mod room;
mod roster;
mod routes;
mod stanza;

pub use csi::{Conversation, Csi, Urgency};
pub use history::{BACKLOG_BYTES, BACKLOG_STANZAS, fingerprint};
pub use hub::{ANCHOR_WAIT, Hub, Input, NickConflict, Now, Output, Policy};
pub use identity::{AccountJid, OccupantJid, RoomAddress, RoomJid, SessionId, UplinkId};
pub use passthrough::{JidGlob, Passthrough};
pub use persist::{
    Change, Saved, SavedMessage, SavedOccupant, SavedRoom, SavedState, Served, stored_stanza,
};
pub use routes::{ClientRoute, RouteSettings, Routes, ServerRoute};
