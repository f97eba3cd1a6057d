//! A socket with the framer of what comes in and the queue of what goes out.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use mucplex_xml::{Framer, Limits};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Outbox, Transport};

/// Room made for a read of a quiet connection; every idle connection keeps about this much.
const QUIET_READ: usize = 2 * 1024;
/// Room made for a read of a connection that fills what it is given.
const BUSY_READ: usize = 64 * 1024;
/// How long a closing connection waits for the peer's own end after everything is written: to close
/// a socket with unread bytes resets it, and a reset may overtake the last stanzas.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are read and thrown away meanwhile.
const LINGER_BYTES: usize = 256 * 1024;

/// One peer. It has no task: its owner polls it, reading while it has use for more, writing when
/// reads ran dry.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    framer: Framer,
    limits: Limits,
    outbox: Outbox,
    /// Room for the next read.
    read_size: usize,
    /// Something was written since the last flush.
    unflushed: bool,
}

impl Connection {
    /// A connection at the beginning of its first stream.
    pub fn new(transport: Transport, limits: Limits) -> Self {
        Self {
            transport,
            framer: Framer::new(limits),
            limits,
            outbox: Outbox::new(),
            read_size: QUIET_READ,
            unflushed: false,
        }
    }

    /// What has been read.
    pub fn framer_mut(&mut self) -> &mut Framer {
        &mut self.framer
    }

    /// Bytes that have been read and that no event has given out.
    pub fn buffered(&self) -> usize {
        self.framer.buffered()
    }

    /// What is to be written.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What is to be written, to add to it.
    pub fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Drops the connection without a word; what was to be written stays.
    pub fn cut(self) -> Outbox {
        self.outbox
    }

    /// The same, and the connection, to be ended with a word; `None` if it was in the middle of a
    /// stanza, behind which no word can stand.
    pub fn displace(mut self) -> (Outbox, Option<Self>) {
        let outbox = std::mem::take(&mut self.outbox);
        let connection = outbox.is_between_stanzas().then_some(self);
        (outbox, connection)
    }

    /// A stream goes on here whose connection was cut: what is queued here comes first, then what
    /// that one's peer does not have.
    pub fn resume(&mut self, mut cut: Outbox) {
        cut.resume_behind(std::mem::take(&mut self.outbox));
        self.outbox = cut;
    }

    /// There is TLS on it.
    pub fn is_secured(&self) -> bool {
        self.transport.is_secured()
    }

    /// Reads once into the framer's buffer and gives the number of bytes, 0 at the end. A
    /// connection that is cut under TLS, without the alert that ends TLS, has ended too: XMPP has
    /// its own closing tag.
    ///
    /// # Errors
    /// Those of the socket and of TLS.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffer = self.framer.buffer();
        if buffer.capacity() - buffer.len() < self.read_size / 4 {
            buffer.reserve(self.read_size);
        }
        let room = buffer.capacity() - buffer.len();
        let read = match pin!(self.transport.read_buf(buffer)).poll(cx) {
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                self.give_memory_back();
                return Poll::Pending;
            }
        };
        if read == room {
            self.read_size = BUSY_READ.min(self.read_size * 4);
        } else if read < self.read_size / 4 {
            self.read_size = QUIET_READ.max(self.read_size / 4);
        }
        Poll::Ready(Ok(read))
    }

    /// A connection that has gone quiet does not keep the buffer of a burst.
    fn give_memory_back(&mut self) {
        let buffer = self.framer.buffer();
        if buffer.is_empty() && buffer.capacity() > 2 * QUIET_READ {
            *buffer = BytesMut::new();
            self.read_size = QUIET_READ;
        }
    }

    /// Writes what is queued as far as the socket takes it; ready when all of it is written and
    /// flushed.
    ///
    /// # Errors
    /// Those of the socket and of TLS.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = &mut self.transport;
        while let Some(written) = self
            .outbox
            .with_slices(|slices| Pin::new(&mut *transport).poll_write_vectored(cx, slices))
        {
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.outbox.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is queued, nothing lies unflushed in TLS.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Reads once; as [`poll_read`](Self::poll_read). Nothing is lost when it is dropped.
    ///
    /// # Errors
    /// Those of the socket and of TLS.
    pub async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Writes all that is queued. Nothing is lost or written twice when it is dropped.
    ///
    /// # Errors
    /// Those of the socket and of TLS.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Writes what is queued and puts TLS on a plain connection, this end as the server. The framer
    /// begins anew.
    ///
    /// # Errors
    /// Those of the socket and the handshake, and `InvalidInput` when there is TLS on it already.
    pub async fn secure_as_server(mut self, config: Arc<ServerConfig>) -> io::Result<Self> {
        self.flush().await?;
        let stream = TlsAcceptor::from(config)
            .accept(self.transport.into_plain()?)
            .await?;
        // Nothing of the stream before belongs to this one (RFC 6120 5.4.3.3).
        self.framer = Framer::new(self.limits);
        Ok(Self {
            transport: Transport::ServerTls(Box::new(stream)),
            ..self
        })
    }

    /// Writes what is queued and puts TLS on a plain connection, this end as the client that
    /// verifies `name`. The framer begins anew.
    ///
    /// # Errors
    /// Those of the socket and the handshake, and `InvalidInput` when there is TLS on it already.
    pub async fn secure_as_client(
        mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        self.flush().await?;
        let stream = TlsConnector::from(config)
            .connect(name, self.transport.into_plain()?)
            .await?;
        // Nothing of the stream before belongs to this one (RFC 6120 5.4.3.3).
        self.framer = Framer::new(self.limits);
        Ok(Self {
            transport: Transport::ClientTls(Box::new(stream)),
            ..self
        })
    }

    /// Writes what is queued, ends TLS and TCP, and waits a moment for the peer to do the same; all
    /// within `patience`. Gives what could not be written, or was not acknowledged.
    pub async fn close(mut self, patience: Duration) -> Outbox {
        // Whoever ends does not wait for acknowledgements.
        self.outbox.set_window(None);
        let orderly = async {
            self.flush().await?;
            self.transport.shutdown().await?;
            // An error here is no news: everything is written.
            let _ = timeout(LINGER, linger(&mut self.transport)).await;
            io::Result::Ok(())
        };
        // Too late or failed: dropping the socket is all that is left, and the outbox says what was
        // lost.
        let _ = timeout(patience, orderly).await;
        self.outbox
    }
}

/// Reads and forgets until the peer ends.
async fn linger(transport: &mut Transport) {
    let mut sink = [0; 2048];
    let mut read = 0;
    while read < LINGER_BYTES {
        match transport.read(&mut sink).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read += count,
        }
    }
}

/// What every connection of the proxy gets: no delay of small stanzas, and a probe after a long
/// silence, so that a peer that vanished without a word is found one day.
pub(crate) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probe = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(900))
        .with_interval(Duration::from_secs(60))
        .with_retries(5);
    socket2::SockRef::from(stream).set_tcp_keepalive(&probe)
}
