//! Bytes to frames and back: the security boundary of mucplex.
//!
//! A [`Framer`] cuts one direction of an XMPP stream (RFC 6120) into [`Frame`]s: the bytes that
//! arrived, and where the parts of their head lie in them. It checks every byte once and refuses
//! what is not well-formed, not allowed in XMPP, or over the [`Limits`]; what it lets through may
//! be passed on as it is. An [`Element`] looks into a frame without building a tree,
//! [`Frame::with_to`] and [`Patch`] change it by splicing.
//!
//! The crate is sans-io: it knows no socket, clock or randomness.
//!
//! ```
//! use mucplex_xml::{Event, Framer, Kind, Limits};
//!
//! let mut framer = Framer::new(Limits::default());
//! framer.push(b"<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
//!     xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
//! let Some(Event::Header(header)) = framer.next_event()? else { panic!() };
//! assert_eq!(header.to().as_deref(), Some("example.org"));
//!
//! // Bytes come as they come.
//! framer.push(b"<message type='groupchat' to='room@muc.example.org'><body>Tom &am");
//! assert!(framer.next_event()?.is_none());
//! framer.push(b"p; Jerry</body></message>");
//! let Some(Event::Frame(frame)) = framer.next_event()? else { panic!() };
//! assert_eq!(frame.kind(), Kind::Message);
//! assert_eq!(frame.root().child("body", "jabber:client").unwrap().text(), "Tom & Jerry");
//!
//! // A copy for another recipient shares the bytes behind `to`.
//! let copy = frame.with_to("juliet@example.org/balcony");
//! assert_eq!(copy.tail, "'><body>Tom &amp; Jerry</body></message>");
//!
//! framer.push(b"<!-- not here -->");
//! let error = framer.next_event().unwrap_err();
//! assert_eq!(error.condition().name(), "restricted-xml");
//! # Ok::<(), mucplex_xml::FramingError>(())
//! ```
#![forbid(unsafe_code)]

mod chars;
pub mod element;
pub mod error;
pub mod escape;
pub mod frame;
pub mod framer;
mod header;
pub mod limits;
mod names;
mod outgoing;
pub mod patch;
mod prolog;
mod scan;
mod scope;
mod span;

pub use element::Element;
pub use error::{FramingError, StreamErrorCondition};
pub use frame::{Frame, Kind, Namespace};
pub use framer::{Event, Framer};
pub use header::StreamHeader;
pub use limits::Limits;
pub use outgoing::Outgoing;
pub use patch::Patch;
