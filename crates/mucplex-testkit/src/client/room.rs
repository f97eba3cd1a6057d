//! What a client does in rooms (XEP-0045).

use std::fmt::Write as _;

use super::{Client, ClientError};
use crate::xml::{NS_DELAY, NS_MUC, NS_MUC_OWNER, Stanza, escape};

/// How much history a join asks for (XEP-0045 7.2.14); without limits the server's default.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// At most this many messages.
    pub maxstanzas: Option<u32>,
    /// At most this many characters, of whole stanzas.
    pub maxchars: Option<u32>,
    /// Messages of the last seconds.
    pub seconds: Option<u32>,
    /// Messages since this time (XEP-0082).
    pub since: Option<String>,
}

/// A join with what it may carry.
#[derive(Debug, Clone, Default)]
pub struct Join {
    /// The room's password.
    pub password: Option<String>,
    /// Limits of the history.
    pub history: Option<History>,
    /// More children of the presence, as XML.
    pub children: String,
}

impl Join {
    fn xml(&self, id: &str, occupant: &str) -> String {
        let mut x = String::new();
        if let Some(password) = &self.password {
            let _ = write!(x, "<password>{}</password>", escape(password));
        }
        if let Some(history) = &self.history {
            x.push_str("<history");
            let numbers = [
                ("maxstanzas", history.maxstanzas),
                ("maxchars", history.maxchars),
                ("seconds", history.seconds),
            ];
            for (name, value) in numbers {
                if let Some(value) = value {
                    let _ = write!(x, " {name}='{value}'");
                }
            }
            if let Some(since) = &history.since {
                let _ = write!(x, " since='{}'", escape(since));
            }
            x.push_str("/>");
        }
        let (occupant, children) = (escape(occupant), &self.children);
        format!(
            "<presence id='{id}' to='{occupant}'><x xmlns='{NS_MUC}'>{x}</x>{children}</presence>"
        )
    }
}

/// What the room sent for a join, from the first presence to the subject.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The id of the join presence.
    pub id: String,
    /// Everything, in the order of arrival.
    pub all: Vec<Stanza>,
    /// Presences of the other occupants, and of the room itself where the server sends one.
    pub presences: Vec<Stanza>,
    /// The self-presence (status 110).
    pub self_presence: Stanza,
    /// Replayed messages.
    pub history: Vec<Stanza>,
    /// The subject.
    pub subject: Stanza,
    /// What belongs to no part of a join: live messages, presences after the self-presence.
    pub other: Vec<Stanza>,
}

impl Joined {
    /// The nicks of the other occupants, in the order of their presences.
    pub fn nicks(&self) -> Vec<&str> {
        self.presences
            .iter()
            .filter_map(|presence| presence.from()?.split_once('/').map(|(_, nick)| nick))
            .collect()
    }

    /// The bodies of the history.
    pub fn bodies(&self) -> Vec<String> {
        self.history.iter().filter_map(Stanza::body).collect()
    }
}

impl Client {
    /// Joins and waits for the subject, which ends the join.
    pub async fn join(&mut self, room: &str, nick: &str) -> Result<Joined, ClientError> {
        self.join_with(room, nick, &Join::default()).await
    }

    /// Joins with a password, limits of the history, or more, and waits for the subject.
    pub async fn join_with(
        &mut self,
        room: &str,
        nick: &str,
        join: &Join,
    ) -> Result<Joined, ClientError> {
        let id = self.send_join(room, nick, join).await?;
        self.collect_join(room, &id).await
    }

    /// Sends the join presence and gives its id.
    pub async fn send_join(
        &mut self,
        room: &str,
        nick: &str,
        join: &Join,
    ) -> Result<String, ClientError> {
        let id = self.new_id("join");
        self.send_raw(join.xml(&id, &format!("{room}/{nick}")))
            .await?;
        Ok(id)
    }

    /// Collects what the room sends for a join until the subject; stanzas from elsewhere stay in
    /// the log only. An error presence is [`ClientError::Refused`].
    pub async fn collect_join(&mut self, room: &str, id: &str) -> Result<Joined, ClientError> {
        let mut all = Vec::new();
        let (mut presences, mut history, mut other) = (Vec::new(), Vec::new(), Vec::new());
        let mut self_presence = None;
        loop {
            let stanza = self
                .recv_for(&format!("the rest of the join of {room}"))
                .await?;
            if stanza
                .from()
                .is_none_or(|from| from.split('/').next() != Some(room))
            {
                continue;
            }
            if stanza.name() == "presence" && stanza.kind() == Some("error") {
                return Err(ClientError::Refused(Box::new(stanza)));
            }
            all.push(stanza.clone());
            if stanza.name() == "presence" && self_presence.is_none() {
                if stanza.has_status(110) {
                    self_presence = Some(stanza);
                } else {
                    presences.push(stanza);
                }
            } else if stanza.is_subject() {
                let self_presence = self_presence.ok_or_else(|| {
                    ClientError::unexpected("the self-presence before the subject", &stanza)
                })?;
                let id = id.to_owned();
                let subject = stanza;
                return Ok(Joined {
                    id,
                    all,
                    presences,
                    self_presence,
                    history,
                    subject,
                    other,
                });
            } else if stanza.name() == "message" && stanza.has_child("delay", NS_DELAY) {
                history.push(stanza);
            } else {
                other.push(stanza);
            }
        }
    }

    /// Creates a room by joining it and accepting its default configuration (XEP-0045 10.1.2), so
    /// that others can join.
    pub async fn create_room(&mut self, room: &str, nick: &str) -> Result<Joined, ClientError> {
        let joined = self.join(room, nick).await?;
        self.configure_room(room, &[]).await?;
        Ok(joined)
    }

    /// Submits the owner form with the given fields and the defaults for all others (XEP-0045
    /// 10.1.3).
    pub async fn configure_room(
        &mut self,
        room: &str,
        fields: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let mut form = String::new();
        if !fields.is_empty() {
            form.push_str(
                "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value>\
                 </field>",
            );
        }
        for (name, value) in fields {
            let (name, value) = (escape(name), escape(value));
            let _ = write!(form, "<field var='{name}'><value>{value}</value></field>");
        }
        let query = format!(
            "<query xmlns='{NS_MUC_OWNER}'><x xmlns='jabber:x:data' type='submit'>{form}</x></query>"
        );
        let answer = self.iq("set", Some(room), &query).await?;
        if answer.kind() == Some("result") {
            return Ok(());
        }
        Err(ClientError::unexpected(
            "the result of the owner form",
            &answer,
        ))
    }

    /// Leaves, with a status text if given, and does not wait for the answer.
    pub async fn leave(
        &mut self,
        room: &str,
        nick: &str,
        status: Option<&str>,
    ) -> Result<String, ClientError> {
        let id = self.new_id("leave");
        let occupant = escape(&format!("{room}/{nick}"));
        let status = status.map(|text| format!("<status>{}</status>", escape(text)));
        let status = status.unwrap_or_default();
        self.send_raw(format!(
            "<presence type='unavailable' id='{id}' to='{occupant}'>{status}</presence>"
        ))
        .await?;
        Ok(id)
    }

    /// Sends a groupchat message and gives its id.
    pub async fn say(&mut self, room: &str, body: &str) -> Result<String, ClientError> {
        let id = self.new_id("msg");
        let (room, body) = (escape(room), escape(body));
        self.send_raw(format!(
            "<message type='groupchat' id='{id}' to='{room}'><body>{body}</body></message>"
        ))
        .await?;
        Ok(id)
    }

    /// A barrier across a room: what this client has sent there before has been handled, and what
    /// the room has sent to this client until then is given. To see what another client has
    /// caused, settle that one first, then this one.
    ///
    /// Servers may run each room and each stream on its own, so this pings the room, which answers
    /// in turn, and then the server.
    pub async fn settle(&mut self, room: &str) -> Result<Vec<Stanza>, ClientError> {
        let mut seen = self.drain_until_pong_from(room).await?;
        seen.extend(self.drain_until_pong().await?);
        Ok(seen)
    }

    /// Waits for the groupchat message with this body.
    pub async fn hear(&mut self, body: &str) -> Result<Stanza, ClientError> {
        self.wait_for(
            &format!("the groupchat message {:?}", crate::xml::shorten(body)),
            |stanza| {
                stanza.name() == "message"
                    && stanza.kind() == Some("groupchat")
                    && stanza.body().as_deref() == Some(body)
            },
        )
        .await
    }
}
