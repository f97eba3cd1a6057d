//! A server that does what the test says: for answers that no real server can be brought to give.

mod sasl;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpListener;

pub use sasl::Credentials;

use crate::DOMAIN;
use crate::client::{ClientError, Connection, STREAM_HEADER_END};
use crate::xml::{NS_BIND, NS_STREAM, Stanza, escape};

/// A listener for streams that the test serves.
#[derive(Debug)]
pub struct ScriptedServer {
    listener: TcpListener,
    address: SocketAddr,
    features: String,
    password: Option<String>,
}

impl ScriptedServer {
    /// Listens on a free loopback port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            features: String::new(),
            password: None,
        })
    }

    /// Offers `features`, as XML, beside resource binding after the login; as
    /// `<sm xmlns='urn:xmpp:sm:3'/>`.
    pub fn offer(&mut self, features: &str) {
        features.clone_into(&mut self.features);
    }

    /// Offers SCRAM-SHA-1 beside PLAIN, for this password; PLAIN still passes with any.
    pub fn offer_scram(&mut self, password: &str) {
        self.password = Some(password.to_owned());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the next TCP connection and sends nothing.
    pub async fn accept_raw(&self) -> Result<Connection, ClientError> {
        let accepted = self.listener.accept().await;
        let (tcp, _) = accepted.map_err(ClientError::io("accept"))?;
        Ok(Connection::from_tcp(tcp))
    }

    /// Takes the next connection up to the features after the login.
    pub async fn accept_login(&self) -> Result<Peer, ClientError> {
        let mut connection = self.accept_raw().await?;
        answer_header(&mut connection).await?;
        let mechanisms = sasl::mechanisms(self.password.is_some());
        send_features(&mut connection, &mechanisms).await?;
        let credentials = sasl::authenticate(&mut connection, self.password.as_deref()).await?;
        connection.restart_reader();
        answer_header(&mut connection).await?;
        let bind = format!("<bind xmlns='{NS_BIND}'/>{}", self.features);
        send_features(&mut connection, &bind).await?;
        Ok(Peer {
            connection,
            credentials,
            resource: String::new(),
            early: VecDeque::new(),
        })
    }

    /// Takes the next connection up to and including the binding of the resource it asks for.
    pub async fn accept(&self) -> Result<Peer, ClientError> {
        let mut peer = self.accept_login().await?;
        peer.bind().await?;
        Ok(peer)
    }
}

/// One stream at the scripted server; what [`Connection`] can do, it can.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    credentials: Credentials,
    resource: String,
    early: VecDeque<Stanza>,
}

impl Peer {
    /// Who has logged in, and how.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The bare JID.
    pub fn bare_jid(&self) -> String {
        format!("{}@{DOMAIN}", self.credentials.user)
    }

    /// The full JID; its resource is empty before the binding.
    pub fn jid(&self) -> String {
        format!("{}@{DOMAIN}/{}", self.credentials.user, self.resource)
    }

    /// Answers the binding of a resource. Nonzas that come before it, as `<resume/>`, are kept for
    /// [`Self::early`].
    pub async fn bind(&mut self) -> Result<(), ClientError> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        loop {
            let request = self
                .connection
                .recv_for("the binding of a resource")
                .await?;
            let Some(bind) = request.get_child("bind", NS_BIND) else {
                self.early.push_back(request);
                continue;
            };
            self.resource = match bind.get_child("resource", NS_BIND) {
                Some(resource) => resource.text(),
                None => format!("r{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            };
            let id = escape(request.id().unwrap_or_default());
            let jid = escape(&self.jid());
            let answer = format!(
                "<iq type='result' id='{id}'><bind xmlns='{NS_BIND}'><jid>{jid}</jid></bind></iq>"
            );
            return self.connection.send_raw(answer).await;
        }
    }

    /// What came before the binding.
    pub fn early(&mut self) -> Option<Stanza> {
        self.early.pop_front()
    }

    /// Reads an IQ and answers it with a result that carries `payload`; gives the request.
    pub async fn answer_iq(&mut self, payload: &str) -> Result<Stanza, ClientError> {
        let request = self.connection.recv_for("an iq").await?;
        let id = escape(request.id().unwrap_or_default());
        let from = request
            .to()
            .map(|to| format!(" from='{}'", escape(to)))
            .unwrap_or_default();
        let to = escape(&self.jid());
        let answer = format!("<iq type='result' id='{id}' to='{to}'{from}>{payload}</iq>");
        self.connection.send_raw(answer).await?;
        Ok(request)
    }

    /// Ends the TCP connection without ending the stream (FIN).
    pub async fn drop_connection(self) -> Result<(), ClientError> {
        self.connection.drop_connection().await
    }
}

impl Deref for Peer {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Reads a stream header and answers it with one.
pub async fn answer_header(connection: &mut Connection) -> Result<Stanza, ClientError> {
    let header = connection.header().await?;
    connection
        .send_raw(format!(
            "<?xml version='1.0'?><stream:stream from='{DOMAIN}' id='scripted' {STREAM_HEADER_END}"
        ))
        .await?;
    Ok(header)
}

/// Sends stream features with the given children.
pub async fn send_features(connection: &mut Connection, xml: &str) -> Result<(), ClientError> {
    debug_assert!(!xml.contains(NS_STREAM), "the children alone");
    connection
        .send_raw(format!("<stream:features>{xml}</stream:features>"))
        .await
}
