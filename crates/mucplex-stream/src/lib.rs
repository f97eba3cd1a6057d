//! The stream layer: RFC 6120 from the first stream header to a bound session, between a client
//! and its server. Sans-io: no socket, clock or randomness; inputs go in, outputs come out.
//!
//! [`Login`] pairs the two streams. Towards the client the proxy speaks for itself only until the
//! stream is secured ([`server_role`]); then it opens an uplink ([`client_role`]), and header,
//! features, SASL and binding are the server's own, relayed as the bytes that arrived. What the
//! proxy does itself, or cannot let pass, is taken out of the features ([`features`]) and refused
//! when it is asked for all the same ([`refusal`]).
//!
//! [`sm`] has the elements of stream management and how they count, [`scram`] the one mechanism
//! that the proxy speaks itself.
//!
//! Behind the features after login a client binds, resumes a session it had, or gets an uplink
//! that is held. Which it is, the shell says, which knows the sessions; whose it is, the server.
//! What SASL has shown of the client's [`credentials`] is handed over at the end.
//!
//! [`AnchorLogin`](anchor_login::AnchorLogin) logs in an uplink that has no client. [`header`]
//! writes the headers and the end of a stream for the steady state.
//!
//! # Example
//! A login over direct TLS, up to the server's features:
//! ```
//! use std::sync::Arc;
//! use mucplex_stream::{DomainSettings, Input, ListenerTls, Login, Output, UpstreamTls};
//! use mucplex_xml::{Framer, Limits};
//!
//! let domains = Arc::new([DomainSettings {
//!     name: "example.org".into(),
//!     upstream_tls: UpstreamTls::None,
//! }]);
//! let mut login = Login::new(domains, ListenerTls::Direct, "b7c9".into());
//! let mut client = Framer::new(Limits::default());
//! let mut server = Framer::new(Limits::default());
//!
//! client.push(
//!     b"<stream:stream to='example.org' version='1.0' xmlns='jabber:client' \
//!       xmlns:stream='http://etherx.jabber.org/streams'>",
//! );
//! let event = client.next_event()?.ok_or("no header")?;
//! login.handle(Input::Client { event, buffered: client.buffered() });
//! assert!(matches!(login.poll_output(), Some(Output::Dial { domain: 0 })));
//! // What the client sends ahead waits in its framer.
//! assert!(!login.wants_client());
//!
//! login.handle(Input::UplinkOpen);
//! assert!(matches!(login.poll_output(), Some(Output::ToServer(header)) if header.starts_with(b"<?xml")));
//!
//! server.push(
//!     b"<stream:stream from='example.org' id='s1' version='1.0' xmlns='jabber:client' \
//!       xmlns:stream='http://etherx.jabber.org/streams'>\
//!       <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
//!       <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
//!       </mechanisms></stream:features>",
//! );
//! while let Some(event) = server.next_event()? {
//!     login.handle(Input::Server { event, buffered: server.buffered() });
//! }
//! assert!(matches!(login.poll_output(), Some(Output::ToClient(header)) if header.starts_with(b"<?xml")));
//! let Some(Output::ToClient(features)) = login.poll_output() else { panic!("no features") };
//! assert_eq!(
//!     features,
//!     "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
//!      <mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>",
//! );
//! assert!(login.wants_client());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod anchor_login;
pub mod bind;
pub mod client_role;
mod conditions;
pub mod credentials;
pub mod error;
pub mod features;
pub mod header;
mod interface;
pub mod login;
pub mod ns;
pub mod refusal;
pub mod sasl_relay;
pub mod scram;
pub mod server_role;
pub mod sm;
mod streams;

pub use credentials::Credentials;
pub use header::{ContentNamespace, HeaderFields, StreamRequest, opening, stream_end};
pub use login::{
    Attach, Authenticated, BindDecision, Bound, DialFailure, DomainSettings, Found, Input,
    ListenerTls, Login, Output, Resumed, Spare, UpstreamTls,
};
