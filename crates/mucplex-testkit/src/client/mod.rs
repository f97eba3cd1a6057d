//! A scripted client that sees every byte.
//!
//! [`Connection`] is a stream without a login, for tests of the negotiation; [`Login`] describes
//! a login and gives a [`Client`], a connection with a bound resource. A [`Device`] is a client that
//! speaks XEP-0198 and comes back.

mod connection;
mod device;
mod error;
mod login;
mod management;
mod room;
mod transport;

use std::ops::{Deref, DerefMut};

pub use connection::{Connection, Direction, Entry, STREAM_HEADER_END};
pub use device::{Device, Loss, Resume, Resumption};
pub use error::ClientError;
pub use login::{Login, Mechanism, Security};
pub use management::{Answers, Received};
pub use room::{History, Join, Joined};

use crate::xml::{Stanza, escape};

/// A client that has logged in and bound a resource.
///
/// It reads only when it is asked to, so a client that is not asked is a slow client.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    jid: String,
    next_id: u32,
}

impl Client {
    pub(crate) fn new(connection: Connection, jid: String) -> Self {
        Self {
            connection,
            jid,
            next_id: 1,
        }
    }

    /// The full JID that the server has bound.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// The account's bare JID.
    pub fn bare_jid(&self) -> &str {
        self.jid.split('/').next().unwrap_or(&self.jid)
    }

    /// The resource.
    pub fn resource(&self) -> &str {
        self.jid
            .split_once('/')
            .map_or("", |(_, resource)| resource)
    }

    /// A stanza id that this client has not used yet.
    pub fn new_id(&mut self, prefix: &str) -> String {
        let id = format!("{prefix}-{}-{}", self.resource(), self.next_id);
        self.next_id += 1;
        id
    }

    /// Sends an IQ whose payload is XML and gives its id back.
    pub async fn send_iq(
        &mut self,
        kind: &str,
        to: Option<&str>,
        payload: &str,
    ) -> Result<String, ClientError> {
        let id = self.new_id("iq");
        let to = to
            .map(|to| format!(" to='{}'", escape(to)))
            .unwrap_or_default();
        self.send_raw(format!("<iq type='{kind}' id='{id}'{to}>{payload}</iq>"))
            .await?;
        Ok(id)
    }

    /// Sends an IQ and waits for its answer, a result or an error. Stanzas that come before it
    /// stay in the log only.
    pub async fn iq(
        &mut self,
        kind: &str,
        to: Option<&str>,
        payload: &str,
    ) -> Result<Stanza, ClientError> {
        let id = self.send_iq(kind, to, payload).await?;
        self.wait_for(&format!("the answer to iq {id}"), |stanza| {
            is_answer(stanza, &id)
        })
        .await
    }

    /// A barrier: pings the server and gives everything that comes before the answer.
    ///
    /// The server handles what it gets from one client in order, so what this client has sent
    /// before has been handled. What rooms and other clients cause may still be on its way; for
    /// that, ping the one who causes it, as [`Self::drain_until_pong_from`].
    pub async fn drain_until_pong(&mut self) -> Result<Vec<Stanza>, ClientError> {
        let domain = self
            .bare_jid()
            .split('@')
            .next_back()
            .unwrap_or_default()
            .to_owned();
        self.drain_until_pong_from(&domain).await
    }

    /// The same with a ping to `to`: a room, or an occupant of it (an error is an answer too).
    pub async fn drain_until_pong_from(&mut self, to: &str) -> Result<Vec<Stanza>, ClientError> {
        let id = self
            .send_iq("get", Some(to), "<ping xmlns='urn:xmpp:ping'/>")
            .await?;
        let mut seen = Vec::new();
        loop {
            let stanza = self.recv_for("the pong").await?;
            if is_answer(&stanza, &id) {
                return Ok(seen);
            }
            seen.push(stanza);
        }
    }

    /// Sends undirected presence, which makes the session available.
    pub async fn available(&mut self) -> Result<(), ClientError> {
        self.send_raw("<presence/>").await
    }

    /// Ends the stream in order: sends the end tag, waits for the server's, ends the connection.
    pub async fn close(self) -> Result<(), ClientError> {
        self.connection.close().await
    }

    /// Ends the TCP connection without ending the stream (FIN).
    pub async fn drop_connection(self) -> Result<(), ClientError> {
        self.connection.drop_connection().await
    }

    /// Resets the TCP connection (RST).
    pub fn reset_connection(self) -> Result<(), ClientError> {
        self.connection.reset_connection()
    }

    /// The connection, for raw access.
    pub fn into_connection(self) -> Connection {
        self.connection
    }
}

impl Deref for Client {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

fn is_answer(stanza: &Stanza, id: &str) -> bool {
    stanza.name() == "iq"
        && stanza.id() == Some(id)
        && matches!(stanza.kind(), Some("result" | "error"))
}
