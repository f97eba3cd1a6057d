//! Where clients arrive.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tracing::{debug, warn};

use crate::connection::configure;

/// Connections the kernel keeps until they are accepted: enough for a reconnect storm.
const BACKLOG: u32 = 4096;
/// Pause after an error that only time can heal, such as no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// A lasting error is logged this often.
const COMPLAINT: Duration = Duration::from_secs(10);

/// One bound address.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    complained: Option<Instant>,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one. An IPv6 address means IPv6 alone, so that
    /// `0.0.0.0` and `[::]` can stand side by side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv6() {
            TcpSocket::new_v6()?
        } else {
            TcpSocket::new_v4()?
        };
        if address.is_ipv6() {
            socket2::SockRef::from(&socket).set_only_v6(true)?;
        }
        // A restart must not wait for the connections of its predecessor to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self {
            socket: socket.listen(BACKLOG)?,
            complained: None,
        })
    }

    /// The address it is bound to, with the real port.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next client. An error of one connection or a lack of resources never ends a listener.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => match configure(&stream) {
                    Ok(()) => return (stream, peer),
                    Err(error) => debug!(%peer, %error, "connection lost before it was served"),
                },
                Err(error) if concerns_one_connection(&error) => {
                    debug!(%error, "connection lost before it was accepted");
                }
                Err(error) => {
                    self.complain(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            warn!(%error, "no connection can be accepted at the moment");
            self.complained = Some(Instant::now());
        }
    }
}

/// accept(2) passes on errors of the connection it was about to return.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
