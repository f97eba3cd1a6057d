//! The tokio and rustls shell: sockets, TLS, names, and queues bounded in bytes. It knows nothing
//! of XML beyond handing what it reads to a [`Framer`](mucplex_xml::Framer).
//!
//! A [`Connection`] is one socket with the framer of what comes in and the [`Outbox`] of what goes
//! out. It has no task of its own: whoever owns it polls it, so that one task can own both sides of
//! a session.
//!
//! ```
//! use mucplex_net::{Connection, Transport};
//! use mucplex_xml::Limits;
//! use tokio::io::AsyncReadExt as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let dialed = tokio::net::TcpStream::connect(listener.local_addr()?).await?;
//! let (mut peer, _) = listener.accept().await?;
//!
//! let mut connection = Connection::new(Transport::Plain(dialed), Limits::default());
//! connection.outbox_mut().push(bytes::Bytes::from_static(b"<presence/>"));
//! connection.flush().await?;
//!
//! let mut read = [0; 11];
//! peer.read_exact(&mut read).await?;
//! assert_eq!(&read, b"<presence/>");
//! # Ok(())
//! # }
//! ```

pub mod budget;
pub mod connection;
pub mod custody;
pub mod dial;
pub mod listener;
pub mod outbox;
pub mod tls;
pub mod transport;

pub use budget::{Budget, Charge};
pub use connection::Connection;
pub use custody::{Custody, Ledger};
pub use dial::{DialError, Dialer, Service, Target};
pub use listener::Listener;
pub use outbox::{Abandoned, Freight, NotSent, Outbox};
pub use tls::{ClientTls, Identity, ServerTls, TlsError};
pub use transport::Transport;
