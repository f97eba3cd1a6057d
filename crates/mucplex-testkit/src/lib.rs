//! What the end-to-end tests of mucplex stand on.
//!
//! | module | what it gives |
//! |---|---|
//! | [`server`] | a real Prosody or ejabberd in a temporary directory, and accounts on it |
//! | [`client`] | a scripted client that sees every byte, and a device that comes back (XEP-0198) |
//! | [`component`] | an external component of a real server |
//! | [`push`] | a push service behind a real server |
//! | [`rooms`] | a room service behind a real server, whose rooms do what the test says |
//! | [`scripted`] | a server that does what the test says |
//! | [`program`] | any other program that plays a part, run to its end |
//! | [`proxy`] | the built `mucplex` binary as a process |
//! | [`tap`] | a TCP forwarder that records, and is a bad network on command |
//! | [`transcript`] | a canonical form of stanzas, to compare two runs |
//! | [`xml`] | the incremental stream reader under all of them |
//!
//! The kit is the oracle for the proxy, so it shares no code with it: XML is read with `rxml` and
//! `minidom`. Nothing here waits for a fixed time; a barrier is a ping round trip
//! ([`client::Client::drain_until_pong`]) or a condition with a deadline.
//!
//! ```
//! use mucplex_testkit::{client::Login, scripted::ScriptedServer};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let server = ScriptedServer::start().await.unwrap();
//! let login = Login::new(server.address(), "example.test", "alice", "secret").resource("phone");
//! let (client, peer) = tokio::join!(login.connect(), server.accept());
//! let (mut client, mut peer) = (client.unwrap(), peer.unwrap());
//!
//! client.say("room@rooms.example.test", "hello").await.unwrap();
//! assert_eq!(peer.recv().await.unwrap().body().as_deref(), Some("hello"));
//! # });
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "the crate exists only for tests, where a panic is a failed test"
)]

pub mod client;
pub mod component;
mod process;
pub mod program;
pub mod proxy;
pub mod push;
pub mod rooms;
pub mod scripted;
pub mod server;
pub mod tap;
pub mod tls;
pub mod transcript;
pub mod xml;

pub use minidom::Element;

/// The domain that every server and certificate of the kit is for.
pub const DOMAIN: &str = "example.test";

/// The domain of the rooms of the kit's servers.
pub const ROOMS: &str = "rooms.example.test";
