//! Plays a script and writes down what every session receives.

use std::collections::BTreeMap;

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::{NS_MUC_ADMIN, NS_MUC_OWNER, Stanza, escape};

use super::record::Record;
use super::script::{Action, Script, Step};
use crate::stage::Stage;

/// Namespace of the barrier, a message without a body: no room keeps it as history.
const NS_MARK: &str = "urn:example:mark";
/// The session that sets the barriers, as long as it is in the room.
const MARKER: &str = "bob/desk";

/// A run of a script.
struct Play<'a> {
    stage: &'a Stage,
    accounts: BTreeMap<String, Account>,
    sessions: BTreeMap<String, Session>,
    record: Record,
}

struct Session {
    client: Client,
    /// Its nick while it is in the room.
    nick: Option<String>,
    /// What it has received during this step.
    received: Vec<Stanza>,
}

/// Runs the script on a stage, directly or through the proxy as the stage says.
pub(super) async fn play(stage: &Stage, script: &Script) -> Record {
    let mut play = Play {
        stage,
        accounts: BTreeMap::new(),
        sessions: BTreeMap::new(),
        record: Record::default(),
    };
    play.record.names.substitute(&stage.room, "room");
    if let Some((local, _)) = stage.room.split_once('@') {
        play.record.names.substitute(local, "room-name");
    }
    for session in &script.sessions {
        play.log_in(session).await;
    }
    for step in &script.steps {
        play.record.step(&step.text);
        let done = play.perform(step).await;
        done.unwrap_or_else(|error| panic!("{}: {error}", step.text));
        if step.goes_on {
            continue;
        }
        let settled = play.settle(&step.who).await;
        settled.unwrap_or_else(|error| panic!("after {}: {error}", step.text));
        play.write_down();
    }
    let Play {
        sessions,
        mut record,
        ..
    } = play;
    for session in sessions.values() {
        record.sent(session.client.log());
    }
    record
}

impl Play<'_> {
    async fn log_in(&mut self, session: &str) {
        let (name, resource) = session.split_once('/').expect("account/resource");
        if !self.accounts.contains_key(name) {
            let account = self.stage.account(name).await;
            let names = &mut self.record.names;
            names.substitute(&account.jid(), name);
            names.substitute(&account.user, name);
            self.accounts.insert(name.to_owned(), account);
        }
        let account = &self.accounts[name];
        let client = match name {
            "bob" => self.stage.outsider(account, resource).await,
            _ => self.stage.session(account, resource).await,
        };
        let session = session.to_owned();
        self.sessions.insert(
            session,
            Session {
                client,
                nick: None,
                received: Vec::new(),
            },
        );
    }

    /// `text` with JIDs in place of their names.
    fn fill(&self, text: &str) -> String {
        let mut text = text.replace("{room}", &self.stage.room);
        for (name, account) in &self.accounts {
            text = text.replace(&format!("{{{name}}}"), &account.jid());
        }
        for (name, session) in &self.sessions {
            text = text.replace(&format!("{{{name}}}"), session.client.jid());
        }
        text
    }

    fn actor(&mut self, who: &str) -> &mut Session {
        self.sessions
            .get_mut(who)
            .unwrap_or_else(|| panic!("{who} has gone"))
    }

    /// Does what the line says and waits until the server has done it.
    async fn perform(&mut self, step: &Step) -> Result<(), ClientError> {
        let room = self.stage.room.clone();
        match &step.action {
            Action::Create { nick } => {
                self.actor(&step.who)
                    .join(&room, nick, &Join::default())
                    .await?;
                let form = format!(
                    "<query xmlns='{NS_MUC_OWNER}'><x xmlns='jabber:x:data' type='submit'/></query>"
                );
                self.actor(&step.who).ask_room(&room, "set", &form).await
            }
            Action::Join { nick, join } => self.actor(&step.who).join(&room, nick, join).await,
            Action::Say(text) => self.actor(&step.who).speak(&room, "body", text).await,
            Action::Subject(text) => self.actor(&step.who).speak(&room, "subject", text).await,
            Action::Whisper { text, nick } => {
                let (to, text) = (escape(&format!("{room}/{nick}")), escape(text));
                let client = &mut self.actor(&step.who).client;
                let id = client.new_id("pm");
                let xml = format!(
                    "<message type='chat' id='{id}' to='{to}'><body>{text}</body>\
                     <x xmlns='http://jabber.org/protocol/muc#user'/></message>"
                );
                client.send_raw(xml).await
            }
            Action::Rename(nick) => self.rename(&step.who, nick).await,
            Action::Leave(status) => self.actor(&step.who).leave(&room, status.as_deref()).await,
            Action::Disconnect => {
                let session = self.sessions.remove(&step.who).expect("it is connected");
                self.record.sent(session.client.log());
                session.client.close().await
            }
            Action::Kick { .. } | Action::Ban { .. } | Action::Destroy { .. } => {
                self.remove(&step.who, &step.action).await
            }
            Action::Ask(xml) => {
                let xml = self.fill(xml);
                self.actor(&step.who).ask(&xml).await
            }
            Action::Send(xml) => {
                let xml = self.fill(xml);
                self.actor(&step.who).client.send_raw(xml).await
            }
            Action::Await { name, kind, from } => {
                let from = from.as_ref().map(|from| self.fill(&format!("{{{from}}}")));
                let is_it = |stanza: &Stanza| {
                    stanza.name() == name
                        && stanza.kind() == kind.as_deref()
                        && (from.is_none() || stanza.from() == from.as_deref())
                };
                self.actor(&step.who)
                    .gather(&step.text, is_it)
                    .await
                    .map(drop)
            }
        }
    }

    /// Asks for another nick and waits for the presence under it, or an error. The sessions of an
    /// account have one nick.
    async fn rename(&mut self, who: &str, nick: &str) -> Result<(), ClientError> {
        let room = self.stage.room.clone();
        let occupant = format!("{room}/{nick}");
        let actor = self.actor(who);
        let id = actor.client.new_id("nick");
        let to = escape(&occupant);
        actor
            .client
            .send_raw(format!("<presence id='{id}' to='{to}'/>"))
            .await?;
        let is_it = |stanza: &Stanza| match stanza.kind() {
            Some("error") => is_from(stanza, &room),
            None => stanza.name() == "presence" && stanza.from() == Some(&occupant),
            Some(_) => false,
        };
        if actor
            .gather("the nick change", is_it)
            .await?
            .kind()
            .is_none()
        {
            let account = who.split('/').next().unwrap_or_default();
            let own = self
                .sessions
                .iter_mut()
                .filter(|(name, _)| name.split('/').next() == Some(account));
            for (_, session) in own {
                session.nick = session.nick.take().map(|_| nick.to_owned());
            }
        }
        Ok(())
    }

    /// An owner's or moderator's act that takes others out of the room.
    async fn remove(&mut self, who: &str, action: &Action) -> Result<(), ClientError> {
        let room = self.stage.room.clone();
        let reason = |reason: &Option<String>| match reason {
            Some(text) => format!("<reason>{}</reason>", escape(text)),
            None => String::new(),
        };
        let (payload, victims) = match action {
            Action::Kick { nick, reason: why } => {
                let item = format!(
                    "<item nick='{}' role='none'>{}</item>",
                    escape(nick),
                    reason(why)
                );
                let victims = self.those(|_, session| session.nick.as_deref() == Some(nick));
                (
                    format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>"),
                    victims,
                )
            }
            Action::Ban {
                account,
                reason: why,
            } => {
                let jid = escape(&self.accounts[account].jid());
                let item = format!(
                    "<item jid='{jid}' affiliation='outcast'>{}</item>",
                    reason(why)
                );
                let prefix = format!("{account}/");
                let victims =
                    self.those(|name, session| name.starts_with(&prefix) && session.nick.is_some());
                (
                    format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>"),
                    victims,
                )
            }
            Action::Destroy { venue, reason: why } => {
                let victims = self.those(|_, session| session.nick.is_some());
                let venue = venue.as_ref().map(|jid| format!(" jid='{}'", escape(jid)));
                let (venue, reason) = (venue.unwrap_or_default(), reason(why));
                let destroy = format!("<destroy{venue}>{reason}</destroy>");
                (
                    format!("<query xmlns='{NS_MUC_OWNER}'>{destroy}</query>"),
                    victims,
                )
            }
            other => panic!("{other:?} takes nobody out"),
        };
        // One answer, and one presence to each: which the actor gets first is the server's choice.
        self.actor(who).ask_room(&room, "set", &payload).await?;
        for victim in victims {
            self.actor(&victim).out_of(&room).await?;
        }
        match action {
            Action::Destroy { .. } => self.actor(who).gone(&room).await,
            _ => Ok(()),
        }
    }

    fn those(&self, condition: impl Fn(&str, &Session) -> bool) -> Vec<String> {
        let chosen = self
            .sessions
            .iter()
            .filter(|(name, session)| condition(name, session));
        chosen.map(|(name, _)| name.clone()).collect()
    }

    /// The barrier behind a step. What the actor has sent was handled when its pings are answered;
    /// the mark comes behind all that the room has said of it, and to each session a pong comes
    /// behind the rest.
    async fn settle(&mut self, who: &str) -> Result<(), ClientError> {
        let room = self.stage.room.clone();
        if let Some(actor) = self.sessions.get_mut(who) {
            if actor.nick.is_some() {
                actor.pong_from(Some(&room)).await?;
            }
            actor.pong_from(None).await?;
        }
        if self
            .sessions
            .get(MARKER)
            .is_some_and(|marker| marker.nick.is_some())
        {
            let marker = &mut self.actor(MARKER).client;
            let id = marker.new_id("mark");
            let mark = format!(
                "<message type='groupchat' id='{id}' to='{room}'><mark xmlns='{NS_MARK}' id='{id}'/></message>"
            );
            marker.send_raw(mark).await?;
            for session in self
                .sessions
                .values_mut()
                .filter(|session| session.nick.is_some())
            {
                session.mark(&id).await?;
            }
        }
        for session in self.sessions.values_mut() {
            session.pong_from(None).await?;
        }
        Ok(())
    }

    fn write_down(&mut self) {
        for (name, session) in &mut self.sessions {
            for stanza in session.received.drain(..) {
                self.record.received(name, &stanza.element);
            }
        }
    }
}

impl Session {
    /// Takes what comes until a stanza satisfies the condition, which is taken too.
    async fn gather(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&Stanza) -> bool,
    ) -> Result<Stanza, ClientError> {
        if let Some(stanza) = self.received.iter().find(|stanza| is_it(stanza)) {
            return Ok(stanza.clone());
        }
        loop {
            let stanza = self.client.recv_for(what).await?;
            self.received.push(stanza.clone());
            if is_it(&stanza) {
                return Ok(stanza);
            }
        }
    }

    async fn join(&mut self, room: &str, nick: &str, join: &Join) -> Result<(), ClientError> {
        self.client.send_join(room, nick, join).await?;
        let end = self
            .gather("the end of the join", |stanza| {
                is_from(stanza, room)
                    && (stanza.is_subject()
                        || (stanza.name() == "presence" && stanza.kind() == Some("error")))
            })
            .await?;
        if end.is_subject() {
            // The server may give another one.
            let given = self
                .received
                .iter()
                .find(|stanza| stanza.has_status(110))
                .and_then(|s| s.from());
            let given = given
                .and_then(|from| from.split_once('/'))
                .map_or(nick, |(_, nick)| nick);
            self.nick = Some(given.to_owned());
            self.sort_occupants();
        }
        Ok(())
    }

    /// A server lists the occupants in an order of its own, another one each time.
    fn sort_occupants(&mut self) {
        let is_occupant = |stanza: &Stanza| stanza.name() == "presence" && !stanza.has_status(110);
        let from = self
            .received
            .iter()
            .position(is_occupant)
            .unwrap_or_default();
        let count = self.received[from..]
            .iter()
            .take_while(|stanza| is_occupant(stanza))
            .count();
        self.received[from..from + count].sort_by(|a, b| a.from().cmp(&b.from()));
    }

    /// A body or a subject for the room; waits for the reflection, or an error.
    async fn speak(&mut self, room: &str, what: &str, text: &str) -> Result<(), ClientError> {
        let id = self.client.new_id("msg");
        let (to, text) = (escape(room), escape(text));
        let xml = format!(
            "<message type='groupchat' id='{id}' to='{to}'><{what}>{text}</{what}></message>"
        );
        self.client.send_raw(xml).await?;
        let occupant = self.nick.as_ref().map(|nick| format!("{room}/{nick}"));
        let is_it = |stanza: &Stanza| {
            // Prosody takes the id from a subject.
            let subject = what == "subject" && stanza.is_subject();
            (stanza.name() == "message" && stanza.id() == Some(&id))
                || (subject && stanza.from() == occupant.as_deref())
        };
        self.gather("the reflection", is_it).await.map(drop)
    }

    /// Leaves with a status text or, where it begins with a tag, with these children.
    async fn leave(&mut self, room: &str, status: Option<&str>) -> Result<(), ClientError> {
        let nick = self.nick.as_deref().unwrap_or("nobody");
        let to = escape(&format!("{room}/{nick}"));
        let children = match status {
            Some(xml) if xml.starts_with('<') => xml.to_owned(),
            Some(text) => format!("<status>{}</status>", escape(text)),
            None => String::new(),
        };
        let id = self.client.new_id("leave");
        let xml = format!("<presence type='unavailable' id='{id}' to='{to}'>{children}</presence>");
        self.client.send_raw(xml).await?;
        self.out_of(room).await
    }

    /// Waits until the room has said that this session is no longer in it.
    async fn out_of(&mut self, room: &str) -> Result<(), ClientError> {
        let Some(nick) = self.nick.take() else {
            return Ok(());
        };
        let occupant = format!("{room}/{nick}");
        let is_it = |stanza: &Stanza| {
            stanza.name() == "presence"
                && stanza.kind() == Some("unavailable")
                && stanza.from() == Some(&occupant)
        };
        self.gather("the end of the occupancy", is_it)
            .await
            .map(drop)
    }

    async fn ask(&mut self, xml: &str) -> Result<(), ClientError> {
        let id = self.client.new_id("iq");
        let xml = xml.replacen("<iq ", &format!("<iq id='{id}' "), 1);
        self.client.send_raw(xml).await?;
        self.gather("the answer", |stanza| {
            stanza.name() == "iq" && stanza.id() == Some(&id)
        })
        .await
        .map(drop)
    }

    /// Waits until the service has forgotten the room: ejabberd tells the occupants first, and what
    /// arrives meanwhile is lost.
    async fn gone(&mut self, room: &str) -> Result<(), ClientError> {
        let (_, service) = room.split_once('@').expect("a room's JID");
        let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
        loop {
            let listed = self.client.iq("get", Some(service), items).await?;
            if !listed.raw_str().contains(room) {
                return Ok(());
            }
        }
    }

    async fn ask_room(&mut self, room: &str, kind: &str, payload: &str) -> Result<(), ClientError> {
        self.ask(&format!(
            "<iq type='{kind}' to='{}'>{payload}</iq>",
            escape(room)
        ))
        .await
    }

    async fn pong_from(&mut self, to: Option<&str>) -> Result<(), ClientError> {
        let seen = match to {
            Some(to) => self.client.drain_until_pong_from(to).await?,
            None => self.client.drain_until_pong().await?,
        };
        self.received.extend(seen);
        Ok(())
    }

    async fn mark(&mut self, id: &str) -> Result<(), ClientError> {
        loop {
            let stanza = self.client.recv_for("the mark").await?;
            let mark = stanza
                .get_child("mark", NS_MARK)
                .and_then(|mark| mark.attr("id"));
            match mark {
                Some(mark) if mark == id => return Ok(()),
                Some(_) | None => self.received.push(stanza),
            }
        }
    }
}

fn is_from(stanza: &Stanza, room: &str) -> bool {
    stanza
        .from()
        .is_some_and(|from| from.split('/').next() == Some(room))
}
