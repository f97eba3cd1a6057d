//! A stream to a server, with everything that was sent and received.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use minidom::Element;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::management::{Management, Taken};
use super::transport::Transport;
use super::{ClientError, Security};
use crate::tls::Trust;
use crate::xml::{Incoming, NS_STREAM, NS_TLS, Stanza, StreamReader, escape, shorten};

/// The namespaces and version with which the kit's stream headers end.
pub const STREAM_HEADER_END: &str =
    "version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// How long to wait for the next thing unless told otherwise: the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(10);

const MANAGED: &str = "a device gives its connections their management";

/// Who sent a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This side.
    Sent,
    /// The peer.
    Received,
}

/// One thing that was sent or received.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who sent it.
    pub direction: Direction,
    /// Its bytes, as text.
    pub text: String,
}

/// A stream without a login.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    reader: StreamReader,
    received: Vec<u8>,
    log: Vec<Entry>,
    timeout: Duration,
    ended: bool,
    /// Stream management, on the connections of a [`Device`](super::Device).
    management: Option<Box<Management>>,
}

/// What the reader has given.
enum Step {
    Item(Incoming),
    /// An `<a/>`, if `true`, or an `<r/>`, which has been dealt with.
    Nonza(bool),
}

impl Connection {
    fn new(transport: Transport) -> Self {
        Self {
            transport,
            reader: StreamReader::new(),
            received: Vec::new(),
            log: Vec::new(),
            timeout: TIMEOUT,
            ended: false,
            management: None,
        }
    }

    /// Takes over a connected socket: for servers of the kit, or unusual ways to connect.
    pub fn from_tcp(tcp: TcpStream) -> Self {
        // A script sends small pieces and waits for answers.
        let _ = tcp.set_nodelay(true);
        Self::new(Transport::Tcp(tcp))
    }

    /// What is read from now on is the stream of a component (XEP-0114): its stanzas are given in
    /// the namespace of a client's.
    pub(crate) fn of_component(&mut self) {
        self.reader.of_component();
    }

    /// Opens a TCP connection and sends nothing.
    pub async fn open(address: SocketAddr) -> Result<Self, ClientError> {
        let what = format!("connect to {address}");
        let connect = TcpStream::connect(address);
        match tokio::time::timeout(TIMEOUT, connect).await {
            Ok(tcp) => Ok(Self::from_tcp(tcp.map_err(ClientError::io(what))?)),
            Err(_) => Err(ClientError::Timeout {
                waiting_for: what,
                log: String::new(),
            }),
        }
    }

    /// Opens a connection with TLS from the start (XEP-0368) for `domain`.
    pub async fn open_tls(
        address: SocketAddr,
        domain: &str,
        trust: &Trust,
    ) -> Result<Self, ClientError> {
        Self::open(address)
            .await?
            .upgrade(domain, trust, &["xmpp-client"])
            .await
    }

    /// Opens a connection in the given way, up to and including the stream features that a login
    /// follows.
    pub async fn secured(
        address: SocketAddr,
        domain: &str,
        security: &Security,
    ) -> Result<(Self, Stanza), ClientError> {
        let mut connection = match security {
            Security::Plain => Self::open(address).await?,
            Security::DirectTls(trust) => Self::open_tls(address, domain, trust).await?,
            Security::StartTls(trust) => {
                let mut connection = Self::open(address).await?;
                connection.open_stream(domain).await?;
                connection.features().await?;
                connection.starttls(domain, trust).await?
            }
        };
        connection.open_stream(domain).await?;
        let features = connection.features().await?;
        Ok((connection, features))
    }

    /// Asks for TLS (RFC 6120 5.4.2) after the features were read, and runs the handshake.
    pub async fn starttls(mut self, domain: &str, trust: &Trust) -> Result<Self, ClientError> {
        self.send_raw(format!("<starttls xmlns='{NS_TLS}'/>"))
            .await?;
        self.expect("<proceed/>", |stanza| stanza.is("proceed", NS_TLS))
            .await?;
        self.upgrade(domain, trust, &[]).await
    }

    /// Runs a TLS handshake on the bare TCP connection.
    pub async fn upgrade(
        mut self,
        domain: &str,
        trust: &Trust,
        alpn: &[&str],
    ) -> Result<Self, ClientError> {
        let log = self.transcript();
        let Transport::Tcp(tcp) = self.transport else {
            return Err(ClientError::Sasl("TLS inside TLS is not supported".into()));
        };
        let handshake = trust.connect(tcp, domain, alpn);
        let waiting_for = "the TLS handshake".to_owned();
        let tls = match tokio::time::timeout(self.timeout, handshake).await {
            Ok(tls) => tls.map_err(ClientError::io("TLS handshake"))?,
            Err(_) => return Err(ClientError::Timeout { waiting_for, log }),
        };
        self.transport = Transport::Tls(Box::new(tls));
        self.reader = StreamReader::new();
        Ok(self)
    }

    /// Protocol that TLS has negotiated (ALPN), if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.transport {
            Transport::Tcp(_) => None,
            Transport::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// This side's address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.transport.tcp().local_addr().ok()
    }

    /// How long to wait for the next thing; at first 10 s.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, data: impl AsRef<[u8]>) -> Result<(), ClientError> {
        let data = data.as_ref();
        if let Some(management) = &mut self.management {
            management.sending(data);
        }
        self.write(data).await
    }

    /// Sends bytes that stream management does not count.
    async fn write(&mut self, data: &[u8]) -> Result<(), ClientError> {
        let text = String::from_utf8_lossy(data).into_owned();
        self.log.push(Entry {
            direction: Direction::Sent,
            text,
        });
        let transport = &mut self.transport;
        let write = async {
            transport.write_all(data).await?;
            transport.flush().await
        };
        match tokio::time::timeout(self.timeout, write).await {
            Ok(result) => result.map_err(ClientError::io("send")),
            Err(_) => Err(self.late("the peer to take what was sent")),
        }
    }

    /// Sends an element.
    pub async fn send(&mut self, element: &Element) -> Result<(), ClientError> {
        self.send_raw(String::from(element)).await
    }

    /// Begins a stream to `domain`, the first or one after a restart, and reads the header of the
    /// peer.
    pub async fn open_stream(&mut self, domain: &str) -> Result<Stanza, ClientError> {
        self.reader.restart();
        let domain = escape(domain);
        self.send_raw(format!(
            "<?xml version='1.0'?><stream:stream to='{domain}' {STREAM_HEADER_END}"
        ))
        .await?;
        self.header().await
    }

    /// Reads a stream header.
    pub async fn header(&mut self) -> Result<Stanza, ClientError> {
        match self.next("a stream header").await? {
            Incoming::Open(header) => Ok(header),
            Incoming::Stanza(stanza) => Err(self.wrong("a stream header", &stanza)),
            Incoming::Close => Err(self.over("end of stream", "a stream header")),
        }
    }

    /// Reads stream features.
    pub async fn features(&mut self) -> Result<Stanza, ClientError> {
        self.expect("<stream:features/>", |stanza| {
            stanza.is("features", NS_STREAM)
        })
        .await
    }

    /// Throws the parser's state away: the next bytes begin a new stream.
    pub fn restart_reader(&mut self) {
        self.reader.restart();
    }

    /// The next item of the stream; `waiting_for` stands in the error. With stream management
    /// `<r/>` and `<a/>` are not given.
    pub async fn next(&mut self, waiting_for: &str) -> Result<Incoming, ClientError> {
        self.within(waiting_for, async |this| {
            loop {
                if let Step::Item(item) = this.step(waiting_for).await? {
                    return Ok(item);
                }
            }
        })
        .await
    }

    async fn step(&mut self, waiting_for: &str) -> Result<Step, ClientError> {
        let item = loop {
            match self.reader.next_item() {
                Ok(Some(item)) => break item,
                Ok(None) => {}
                Err(source) => {
                    return Err(ClientError::Xml {
                        source,
                        log: self.transcript(),
                    });
                }
            }
            if !self.read_more().await? {
                return Err(self.over("end of connection", waiting_for));
            }
        };
        let text = match &item {
            Incoming::Open(stanza) | Incoming::Stanza(stanza) => stanza.raw_str(),
            Incoming::Close => "</stream:stream>",
        };
        self.log.push(Entry {
            direction: Direction::Received,
            text: text.to_owned(),
        });
        if let (Incoming::Stanza(stanza), Some(management)) = (&item, &mut self.management)
            && let Taken::Nonza { answer, ack } = management.take(stanza)
        {
            if let Some(answer) = answer {
                self.write(answer.as_bytes()).await?;
            }
            return Ok(Step::Nonza(ack));
        }
        Ok(Step::Item(item))
    }

    /// Reads until the peer's `<a/>`; gives the stanzas before it.
    pub(super) async fn until_ack(&mut self) -> Result<Vec<Stanza>, ClientError> {
        let mut seen = Vec::new();
        self.within("an <a/>", async |this| {
            loop {
                match this.step("an <a/>").await? {
                    Step::Nonza(true) => return Ok(()),
                    Step::Nonza(false) => {}
                    Step::Item(Incoming::Stanza(stanza)) => seen.push(stanza),
                    Step::Item(_) => return Err(this.over("end of stream", "an <a/>")),
                }
            }
        })
        .await?;
        Ok(seen)
    }

    /// Counts and records from now on with these counters.
    pub(super) fn manage(&mut self, management: Box<Management>) {
        self.management = Some(management);
    }

    pub(super) fn management(&self) -> &Management {
        self.management.as_ref().expect(MANAGED)
    }

    pub(super) fn management_mut(&mut self) -> &mut Management {
        self.management.as_mut().expect(MANAGED)
    }

    pub(super) fn take_management(&mut self) -> Box<Management> {
        self.management.take().expect(MANAGED)
    }

    /// Sends what the peer has not handled on an earlier connection, which is counted already.
    pub(super) async fn send_again(&mut self, stanza: &Stanza) -> Result<(), ClientError> {
        self.write(&stanza.raw).await
    }

    /// The next stanza; an error if the stream ends instead.
    pub async fn recv(&mut self) -> Result<Stanza, ClientError> {
        self.recv_for("a stanza").await
    }

    /// The next stanza; `waiting_for` stands in the error.
    pub async fn recv_for(&mut self, waiting_for: &str) -> Result<Stanza, ClientError> {
        match self.next(waiting_for).await? {
            Incoming::Stanza(stanza) => Ok(stanza),
            Incoming::Open(header) => Err(self.wrong(waiting_for, &header)),
            Incoming::Close => Err(self.over("end of stream", waiting_for)),
        }
    }

    /// The next stanza, which must satisfy `condition`.
    pub async fn expect(
        &mut self,
        what: &str,
        condition: impl FnOnce(&Stanza) -> bool,
    ) -> Result<Stanza, ClientError> {
        let stanza = self.recv_for(what).await?;
        if condition(&stanza) {
            Ok(stanza)
        } else {
            Err(self.wrong(what, &stanza))
        }
    }

    /// The first stanza that satisfies `condition`; those before it stay in the log only.
    pub async fn wait_for(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&Stanza) -> bool,
    ) -> Result<Stanza, ClientError> {
        loop {
            let stanza = self.recv_for(what).await?;
            if condition(&stanza) {
                return Ok(stanza);
            }
        }
    }

    /// Reads bytes until `enough` says so about all bytes received since the connection was
    /// opened. They are parsed as usual by the next call that wants a stanza.
    pub async fn read_raw_until(
        &mut self,
        what: &str,
        enough: impl Fn(&[u8]) -> bool,
    ) -> Result<(), ClientError> {
        self.within(what, async |this| {
            while !enough(&this.received) {
                if !this.read_more().await? {
                    return Err(this.over("end of connection", what));
                }
            }
            Ok(())
        })
        .await
    }

    /// Reads until the peer ends the connection, or resets it, and gives what is left of the
    /// stream, without the stanzas that were given before.
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>, ClientError> {
        self.within("the end of the connection", async |this| {
            while this.read_more().await.unwrap_or(false) {}
            Ok(this.reader.rest().to_vec())
        })
        .await
    }

    /// Every byte received, after TLS, since the connection was opened.
    pub fn received_raw(&self) -> &[u8] {
        &self.received
    }

    /// Forgets what was sent and received so far: for scripts that run long.
    pub fn forget_log(&mut self) {
        self.log.clear();
        self.received.clear();
    }

    /// What was sent and received, in the order of the script.
    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// The log as text, the last 60 entries of it.
    pub fn transcript(&self) -> String {
        const LAST: usize = 60;
        let skipped = self.log.len().saturating_sub(LAST);
        let mut text = String::new();
        if skipped > 0 {
            let _ = writeln!(text, "  ({skipped} earlier entries)");
        }
        for entry in &self.log[skipped..] {
            let arrow = match entry.direction {
                Direction::Sent => "->",
                Direction::Received => "<-",
            };
            let _ = writeln!(text, "  {arrow} {}", shorten(&entry.text));
        }
        let rest = self.reader.rest();
        if !rest.is_empty() {
            let rest = String::from_utf8_lossy(rest);
            let _ = writeln!(text, "  <- (not read, or not complete) {}", shorten(&rest));
        }
        text
    }

    /// Ends the stream in order: sends the end tag, waits for the peer's, ends the connection.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.send_raw("</stream:stream>").await?;
        loop {
            match self.next("the end of the stream").await {
                Ok(Incoming::Close) | Err(ClientError::Ended { .. } | ClientError::Io { .. }) => {
                    break;
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        // The peer may have ended the connection first.
        let _ = self.transport.shutdown().await;
        Ok(())
    }

    /// Ends the TCP connection without ending the stream or TLS (FIN).
    pub async fn drop_connection(self) -> Result<(), ClientError> {
        drop(self.transport);
        Ok(())
    }

    /// Resets the TCP connection (RST).
    pub fn reset_connection(self) -> Result<(), ClientError> {
        self.transport
            .tcp()
            .set_zero_linger()
            .map_err(ClientError::io("SO_LINGER"))
    }

    /// Reads once; `false` at the end of the connection.
    async fn read_more(&mut self) -> Result<bool, ClientError> {
        if self.ended {
            return Ok(false);
        }
        let mut buffer = vec![0; 64 << 10];
        let count = match self.transport.read(&mut buffer).await {
            // rustls calls an end without close_notify an error; for a script it is an end.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            other => other.map_err(ClientError::io("receive"))?,
        };
        self.ended = count == 0;
        self.received.extend_from_slice(&buffer[..count]);
        self.reader.feed(&buffer[..count]);
        Ok(count > 0)
    }

    async fn within<T, F>(&mut self, waiting_for: &str, step: F) -> Result<T, ClientError>
    where
        F: AsyncFnOnce(&mut Self) -> Result<T, ClientError>,
    {
        let limit = self.timeout;
        let result = tokio::time::timeout(limit, step(self)).await;
        result.unwrap_or_else(|_| Err(self.late(waiting_for)))
    }

    fn late(&self, waiting_for: &str) -> ClientError {
        ClientError::Timeout {
            waiting_for: waiting_for.to_owned(),
            log: self.transcript(),
        }
    }

    fn over(&self, how: &'static str, waiting_for: &str) -> ClientError {
        let waiting_for = waiting_for.to_owned();
        ClientError::Ended {
            how,
            waiting_for,
            log: self.transcript(),
        }
    }

    fn wrong(&self, expected: &str, got: &Stanza) -> ClientError {
        ClientError::Unexpected {
            expected: expected.to_owned(),
            got: format!("{got:?}"),
            log: self.transcript(),
        }
    }
}
