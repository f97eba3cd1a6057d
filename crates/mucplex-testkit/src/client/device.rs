//! A client with stream management (XEP-0198) that loses its connections and comes back.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::management::{self, Management};
use super::{Answers, Client, ClientError, Connection, Login, Received};
use crate::xml::{NS_SM, Stanza, escape};

/// How a connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is closed without an end of the stream (FIN).
    Fin,
    /// It is reset (RST).
    Reset,
    /// Nobody reads it and nobody closes it, as long as the device lives: it is half open. What
    /// is sent there gets lost; a [`Tap`](crate::tap::Tap) can keep it from arriving at all.
    Silence,
}

/// What a device asks for when it comes back; at first what it has itself.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// Another stream's id.
    pub previd: Option<String>,
    /// Another number of handled stanzas.
    pub h: Option<u32>,
}

/// What came of it.
#[derive(Debug)]
pub enum Resumption {
    /// `<resumed/>`; what the peer had not handled has been sent again.
    Resumed(Stanza),
    /// `<failed/>`; the stream goes on, and [`Device::bind`] binds a resource on it.
    Failed(Stanza),
}

impl Resumption {
    /// The `<resumed/>`.
    ///
    /// # Panics
    /// When it failed.
    pub fn resumed(self) -> Stanza {
        match self {
            Self::Resumed(stanza) => stanza,
            Self::Failed(stanza) => panic!("not resumed: {stanza:?}"),
        }
    }

    /// The `<failed/>`.
    ///
    /// # Panics
    /// When it was resumed.
    pub fn failed(self) -> Stanza {
        match self {
            Self::Failed(stanza) => stanza,
            Self::Resumed(stanza) => panic!("resumed: {stanza:?}"),
        }
    }
}

/// A client that outlives its connections. While it is connected it is a [`Client`], whose reading
/// methods give stanzas alone: `<r/>` and `<a/>` are dealt with as [`Answers`] says.
///
/// It counts as handled what the script has read.
#[derive(Debug)]
pub struct Device {
    login: Login,
    state: State,
    /// The connections that nobody reads any more.
    silent: Vec<Connection>,
    id: Option<String>,
    jid: String,
    connections: usize,
}

#[derive(Debug)]
enum State {
    Away(Box<Management>),
    /// Logged in, nothing bound.
    Unbound(Box<Connection>),
    Bound(Box<Client>),
}

impl Device {
    /// A device that has not connected yet.
    pub fn new(login: Login) -> Self {
        Self {
            login,
            state: State::Away(Box::new(Management::new())),
            silent: Vec::new(),
            id: None,
            jid: String::new(),
            connections: 0,
        }
    }

    /// Connects, binds, and enables stream management with resumption.
    pub async fn connect(login: Login) -> Result<Self, ClientError> {
        let mut device = Self::new(login);
        device.bind().await?;
        device.enable(true).await?;
        Ok(device)
    }

    /// Logs in, from where the login says.
    pub fn set_login(&mut self, login: Login) {
        self.login = login;
    }

    /// The stream on which a resumption failed, or else a new connection.
    async fn authenticate(&mut self) -> Result<&mut Connection, ClientError> {
        if !matches!(self.state, State::Unbound(_)) {
            self.lose(Loss::Fin);
            let (mut connection, _features) = self.login.authenticate().await?;
            if let State::Away(management) = &mut self.state {
                let mut management = std::mem::replace(management, Box::new(Management::new()));
                management.connection = self.connections;
                connection.manage(management);
            }
            self.connections += 1;
            self.state = State::Unbound(Box::new(connection));
        }
        match &mut self.state {
            State::Unbound(connection) => Ok(connection),
            other => panic!("not logged in: {other:?}"),
        }
    }

    /// The stream is bound, or the connection of no use any more.
    fn settle(&mut self, jid: Result<String, ClientError>) -> Result<(), ClientError> {
        match (jid, &self.state) {
            (Ok(jid), State::Unbound(_)) => {
                let away = State::Away(Box::new(Management::new()));
                if let State::Unbound(connection) = std::mem::replace(&mut self.state, away) {
                    self.jid.clone_from(&jid);
                    self.state = State::Bound(Box::new(Client::new(*connection, jid)));
                }
                Ok(())
            }
            (Ok(_), _) => Ok(()),
            (Err(error), _) => {
                self.lose(Loss::Fin);
                Err(error)
            }
        }
    }

    /// Binds its resource: on the stream on which a resumption failed, or else on a new connection.
    /// Stream management is off until [`Self::enable`]; what was not acknowledged is still known.
    pub async fn bind(&mut self) -> Result<(), ClientError> {
        let login = self.login.clone();
        let connection = self.authenticate().await?;
        connection.management_mut().disable();
        let jid = login.bind_on(connection).await;
        if jid.is_ok() {
            self.id = None;
        }
        self.settle(jid)
    }

    /// Enables stream management (XEP-0198 3) and gives the `<enabled/>`, or the `<failed/>`. What
    /// was not acknowledged on an earlier stream is forgotten.
    pub async fn enable(&mut self, resume: bool) -> Result<Stanza, ClientError> {
        let resume_attribute = if resume { " resume='true'" } else { "" };
        self.send_raw(format!("<enable xmlns='{NS_SM}'{resume_attribute}/>"))
            .await?;
        self.management_mut().enable();
        let answer = self
            .wait_for("<enabled/>", |stanza| stanza.ns() == NS_SM)
            .await?;
        self.id = None;
        if answer.name() == "enabled" {
            self.management_mut().enabled();
            self.id = answer.attr("id").map(str::to_owned);
        }
        Ok(answer)
    }

    /// Comes back on a new connection and resumes its stream (XEP-0198 5).
    pub async fn resume(&mut self) -> Result<Resumption, ClientError> {
        self.resume_with(&Resume::default()).await
    }

    /// The same, with another id or number than its own.
    pub async fn resume_with(&mut self, with: &Resume) -> Result<Resumption, ClientError> {
        let own = self.id.clone().unwrap_or_default();
        let previd = with.previd.clone().unwrap_or(own);
        let connection = self.authenticate().await?;
        let h = with.h.unwrap_or(connection.management().inbound());
        match resume(connection, &previd, h).await {
            Ok(Resumption::Failed(answer)) => Ok(Resumption::Failed(answer)),
            Ok(Resumption::Resumed(answer)) => {
                let jid = self.jid.clone();
                self.settle(Ok(jid))?;
                Ok(Resumption::Resumed(answer))
            }
            Err(error) => {
                self.lose(Loss::Fin);
                Err(error)
            }
        }
    }

    /// Comes back as a client does: resumes, or else binds and enables; whether it has resumed.
    pub async fn come_back(&mut self) -> Result<bool, ClientError> {
        if self.id.is_some()
            && let Resumption::Resumed(_) = self.resume().await?
        {
            return Ok(true);
        }
        self.bind().await?;
        self.enable(true).await?;
        Ok(false)
    }

    /// Loses the connection; a device that is away stays so.
    pub fn lose(&mut self, how: Loss) {
        match (self.depart(), how) {
            (Some(connection), Loss::Reset) => drop(connection.reset_connection()),
            (Some(connection), Loss::Silence) => self.silent.push(connection),
            (Some(_) | None, _) => {}
        }
    }

    /// Ends the stream in order: nothing can be resumed.
    pub async fn end(&mut self) -> Result<(), ClientError> {
        self.id = None;
        match self.depart() {
            Some(connection) => connection.close().await,
            None => Ok(()),
        }
    }

    /// Takes the counters back from the connection.
    fn depart(&mut self) -> Option<Connection> {
        let away = State::Away(Box::new(Management::new()));
        let mut connection = match std::mem::replace(&mut self.state, away) {
            State::Bound(client) => client.into_connection(),
            State::Unbound(connection) => *connection,
            away @ State::Away(_) => {
                self.state = away;
                return None;
            }
        };
        self.state = State::Away(connection.take_management());
        Some(connection)
    }

    /// Acknowledges what it has read.
    pub async fn ack(&mut self) -> Result<(), ClientError> {
        let ack = self.management_mut().ack();
        self.send_raw(ack).await
    }

    /// Acknowledges a number of its own, right or wrong.
    pub async fn ack_with(&mut self, h: u32) -> Result<(), ClientError> {
        self.send_raw(management::ack(h)).await
    }

    /// Asks what the peer has handled and waits for the answer; gives what came before it.
    pub async fn request_ack(&mut self) -> Result<Vec<Stanza>, ClientError> {
        self.send_raw(format!("<r xmlns='{NS_SM}'/>")).await?;
        self.until_ack().await
    }

    /// Reads for a time, for what has no end that can be waited for; gives what came. It ends
    /// early when the connection does.
    pub async fn listen(&mut self, time: Duration) -> Vec<Stanza> {
        let mut seen = Vec::new();
        let deadline = tokio::time::Instant::now() + time;
        loop {
            match tokio::time::timeout_at(deadline, self.recv()).await {
                Ok(Ok(stanza)) => seen.push(stanza),
                // It is patient for shorter than that.
                Ok(Err(ClientError::Timeout { .. })) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        seen
    }

    /// What it does with `<r/>` from now on.
    pub fn answer(&mut self, answers: Answers) {
        self.any_management_mut().answers = answers;
    }

    /// The id of the stream that it can resume.
    pub fn stream_id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Bound(_))
    }

    /// How many connections it has had.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many stanzas it has read since `<enabled/>`.
    pub fn handled(&self) -> u32 {
        self.any_management().inbound()
    }

    /// The last `h` it has told.
    pub fn told(&self) -> u32 {
        self.any_management().told()
    }

    /// The last `h` of the peer.
    pub fn acked(&self) -> u32 {
        self.any_management().acked()
    }

    /// How many `<r/>` wait for an answer.
    pub fn unanswered(&self) -> u32 {
        self.any_management().unanswered
    }

    /// Its stanzas that the peer has not acknowledged.
    pub fn unacked(&self) -> impl ExactSizeIterator<Item = &Stanza> {
        self.any_management().unacked()
    }

    /// Every stanza it has received, on all of its connections, in order.
    pub fn received(&self) -> &[Received] {
        &self.any_management().received
    }

    /// Gives what it has received since the last call, and forgets it and the log: for scripts
    /// that run long.
    pub fn take_received(&mut self) -> Vec<Received> {
        match &mut self.state {
            State::Away(_) => {}
            State::Unbound(connection) => connection.forget_log(),
            State::Bound(client) => client.forget_log(),
        }
        std::mem::take(&mut self.any_management_mut().received)
    }

    /// The bodies of what it has received from a bare JID, in order.
    pub fn bodies_from(&self, bare: &str) -> Vec<String> {
        let received = self.received().iter().map(|received| &received.stanza);
        let from =
            received.filter(|it| it.from().and_then(|from| from.split('/').next()) == Some(bare));
        from.filter_map(Stanza::body).collect()
    }

    fn any_management(&self) -> &Management {
        match &self.state {
            State::Away(management) => management,
            State::Unbound(connection) => connection.management(),
            State::Bound(client) => client.management(),
        }
    }

    fn any_management_mut(&mut self) -> &mut Management {
        match &mut self.state {
            State::Away(management) => management,
            State::Unbound(connection) => connection.management_mut(),
            State::Bound(client) => client.management_mut(),
        }
    }
}

/// Asks to resume, and sends again what was not handled.
async fn resume(
    connection: &mut Connection,
    previd: &str,
    h: u32,
) -> Result<Resumption, ClientError> {
    let previd = escape(previd);
    connection
        .send_raw(format!(
            "<resume xmlns='{NS_SM}' previd='{previd}' h='{h}'/>"
        ))
        .await?;
    let answer = connection
        .expect("<resumed/> or <failed/>", |stanza| stanza.ns() == NS_SM)
        .await?;
    if answer.name() != "resumed" {
        return Ok(Resumption::Failed(answer));
    }
    let handled = answer.attr("h").and_then(|h| h.parse().ok());
    for stanza in connection.management_mut().resumed(h, handled) {
        connection.send_again(&stanza).await?;
    }
    Ok(Resumption::Resumed(answer))
}

/// # Panics
/// When the device has no connection.
impl Deref for Device {
    type Target = Client;

    fn deref(&self) -> &Client {
        match &self.state {
            State::Bound(client) => client,
            other => panic!("the device is not connected: {other:?}"),
        }
    }
}

impl DerefMut for Device {
    fn deref_mut(&mut self) -> &mut Client {
        match &mut self.state {
            State::Bound(client) => client,
            other => panic!("the device is not connected: {other:?}"),
        }
    }
}
