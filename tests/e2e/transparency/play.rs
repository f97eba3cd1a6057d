//! Plays a script and writes down what every session receives.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mucplex_testkit::client::{ClientError, Join};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::{NS_MUC_ADMIN, NS_MUC_OWNER, Stanza, escape};

use super::record::Record;
use super::script::{Action, Place, Script, Step};
use super::session::{NS_MARK, Session};
use crate::stage::Stage;

/// The session that sets the barriers, as long as it is in the room.
const MARKER: &str = "bob/desk";
/// The length of `{long}`.
const LONG: usize = 40_000;

/// A run of a script.
struct Play<'a> {
    stage: &'a Stage,
    /// A second room.
    other: String,
    accounts: BTreeMap<String, Account>,
    sessions: BTreeMap<String, Session>,
    record: Record,
}

/// Runs the script on a stage, directly or through the proxy as the stage says.
pub(super) async fn play(stage: &Stage, script: &Script) -> Record {
    let mut play = Play {
        stage,
        other: stage.server.new_room("other"),
        accounts: BTreeMap::new(),
        sessions: BTreeMap::new(),
        record: Record::default(),
    };
    let names = &mut play.record.names;
    for (room, name) in [(&stage.room, "room"), (&play.other, "other")] {
        names.substitute(room, name);
        if let Some((local, _)) = room.split_once('@') {
            names.substitute(local, &format!("{name}-name"));
        }
    }
    names.substitute(&"x".repeat(LONG), "long");
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
        self.sessions
            .insert(session.to_owned(), Session::new(client));
    }

    /// `text` of a line of `who` with what stands for its names.
    fn fill(&self, who: &str, text: &str) -> String {
        let mut text = text
            .replace("{room}", &self.stage.room)
            .replace("{other}", &self.other)
            .replace("{long}", &"x".repeat(LONG));
        for (name, account) in &self.accounts {
            text = text.replace(&format!("{{{name}}}"), &account.jid());
        }
        for (name, session) in &self.sessions {
            text = text.replace(&format!("{{{name}}}"), session.client.jid());
        }
        if let Some(last) = self.sessions.get(who).and_then(|it| it.last.as_deref()) {
            text = text.replace("{last}", &escape(last));
        }
        text
    }

    fn actor(&mut self, who: &str) -> &mut Session {
        self.sessions
            .get_mut(who)
            .unwrap_or_else(|| panic!("{who} has gone"))
    }

    fn room_of(&self, step: &Step) -> String {
        match step.place {
            Place::Room => self.stage.room.clone(),
            Place::Other => self.other.clone(),
        }
    }

    /// Does what the line says and waits until the server has done it.
    async fn perform(&mut self, step: &Step) -> Result<(), ClientError> {
        let room = self.room_of(step);
        let who = step.who.as_str();
        match &step.action {
            Action::Create { nick } => {
                self.actor(who).join(&room, nick, &Join::default()).await?;
                self.configure(who, &room, &[]).await
            }
            Action::Join { nick, join } => self.actor(who).join(&room, nick, join).await,
            Action::Say(text) => self.actor(who).speak(&room, "body", text).await,
            Action::Subject(text) => self.actor(who).speak(&room, "subject", text).await,
            Action::Whisper { text, nick } => self.actor(who).whisper(&room, nick, text).await,
            Action::Rename(nick) => self.actor(who).rename(&room, nick).await,
            Action::Leave(status) => self.actor(who).leave(&room, status.as_deref()).await,
            Action::Disconnect => {
                let session = self.sessions.remove(who).expect("it is connected");
                self.record.sent(session.client.log());
                session.client.close().await
            }
            Action::Kick { nick, reason } => {
                let whom = format!("nick='{}'", escape(nick));
                self.moderate(who, &room, &whom, "role='none'", reason)
                    .await
            }
            Action::Ban { account, reason } => {
                let whom = format!("jid='{}'", escape(&self.accounts[account].jid()));
                self.moderate(who, &room, &whom, "affiliation='outcast'", reason)
                    .await
            }
            Action::Give {
                whom,
                what,
                value,
                reason,
            } => {
                let by = if whom.starts_with('{') { "jid" } else { "nick" };
                let whom = format!("{by}='{}'", escape(&self.fill(who, whom)));
                self.moderate(who, &room, &whom, &format!("{what}='{value}'"), reason)
                    .await
            }
            Action::Configure(fields) => self.configure(who, &room, fields).await,
            Action::Destroy { venue, reason } => {
                self.destroy(who, &room, venue.as_deref(), reason).await
            }
            Action::Ask(xml) => {
                let xml = self.fill(who, xml);
                self.actor(who).ask(&xml).await
            }
            Action::Answer { kind, payload } => {
                let payload = self.fill(who, payload);
                self.actor(who).answer(kind, &payload).await
            }
            Action::Send(xml) => {
                let xml = self.fill(who, xml);
                let rooms = [self.stage.room.clone(), self.other.clone()];
                let rooms = rooms.into_iter().filter(|room| xml.contains(room));
                let actor = self.actor(who);
                actor.tried.extend(rooms);
                actor.client.send_raw(xml).await
            }
            Action::Await { name, kind, from } => {
                let from = from
                    .as_ref()
                    .map(|from| self.fill(who, &format!("{{{from}}}")));
                let is_it = |stanza: &Stanza| {
                    stanza.name() == name
                        && stanza.kind() == kind.as_deref()
                        && (from.is_none() || stanza.from() == from.as_deref())
                };
                self.actor(who).gather(&step.text, is_it).await.map(drop)
            }
        }
    }

    /// An item of an admin request (XEP-0045 8 and 9).
    async fn moderate(
        &mut self,
        who: &str,
        room: &str,
        whom: &str,
        what: &str,
        reason: &Option<String>,
    ) -> Result<(), ClientError> {
        let item = format!("<item {whom} {what}>{}</item>", because(reason));
        let query = format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>");
        self.actor(who).ask_room(room, "set", &query).await
    }

    /// The owner's form with some fields, or with the defaults (XEP-0045 10.1).
    async fn configure(
        &mut self,
        who: &str,
        room: &str,
        fields: &[(String, String)],
    ) -> Result<(), ClientError> {
        let mut form = String::new();
        if !fields.is_empty() {
            form.push_str(
                "<field var='FORM_TYPE'>\
                 <value>http://jabber.org/protocol/muc#roomconfig</value></field>",
            );
        }
        for (name, value) in fields {
            let (name, value) = (escape(name), escape(value));
            let _ = write!(form, "<field var='{name}'><value>{value}</value></field>");
        }
        let form = format!("<x xmlns='jabber:x:data' type='submit'>{form}</x>");
        let query = format!("<query xmlns='{NS_MUC_OWNER}'>{form}</query>");
        self.actor(who).ask_room(room, "set", &query).await
    }

    async fn destroy(
        &mut self,
        who: &str,
        room: &str,
        venue: Option<&str>,
        reason: &Option<String>,
    ) -> Result<(), ClientError> {
        let venue = venue.map(|jid| format!(" jid='{}'", escape(&self.fill(who, jid))));
        let venue = venue.unwrap_or_default();
        let destroy = format!("<destroy{venue}>{}</destroy>", because(reason));
        let query = format!("<query xmlns='{NS_MUC_OWNER}'>{destroy}</query>");
        // One answer, and one presence to each: which the actor gets first is the server's choice.
        self.actor(who).ask_room(room, "set", &query).await?;
        for session in self.sessions.values_mut() {
            session.out_of(room).await?;
        }
        self.actor(who).gone(room).await
    }

    /// The barrier behind a step. What the actor has sent was handled when its pings are answered;
    /// the mark comes behind all that a room has said of it, and to each session pongs come
    /// behind the rest.
    async fn settle(&mut self, who: &str) -> Result<(), ClientError> {
        let rooms = [self.stage.room.clone(), self.other.clone()];
        if let Some(actor) = self.sessions.get_mut(who) {
            for room in &rooms {
                if actor.is_in(room) {
                    actor.pong_from(Some(room)).await?;
                }
            }
            actor.pong_from(None).await?;
        }
        if let Some(marker) = self.sessions.get_mut(MARKER) {
            // It may have been taken out.
            marker.pong_from(None).await?;
        }
        for room in &rooms {
            self.mark(who, room).await?;
        }
        let open = |room: &&String| self.sessions.values().any(|session| session.is_in(room));
        let open: Vec<&String> = rooms.iter().filter(open).collect();
        for session in self.sessions.values_mut() {
            // What a room says to one who is outside may take another way through the proxy than
            // what others say, if that one has to do with the room.
            for room in &open {
                if session.tried.contains(*room) && !session.is_in(room) {
                    session.pong_from(Some(room)).await?;
                }
            }
            session.pong_from(None).await?;
        }
        Ok(())
    }

    async fn mark(&mut self, who: &str, room: &str) -> Result<(), ClientError> {
        let others = self.sessions.keys().map(String::as_str);
        let marker = [MARKER, who].into_iter().chain(others).find(|name| {
            self.sessions
                .get(*name)
                .is_some_and(|session| session.may_speak_in(room))
        });
        let Some(marker) = marker.map(str::to_owned) else {
            return Ok(());
        };
        let client = &mut self.actor(&marker).client;
        let id = client.new_id("mark");
        let mark = format!(
            "<message type='groupchat' id='{id}' to='{room}'><mark xmlns='{NS_MARK}' id='{id}'/></message>"
        );
        client.send_raw(mark).await?;
        for session in self.sessions.values_mut() {
            session.mark(room, &id).await?;
        }
        Ok(())
    }

    fn write_down(&mut self) {
        for (name, session) in &mut self.sessions {
            for stanza in session.take_received() {
                self.record.received(name, &stanza.element);
            }
        }
    }
}

fn because(reason: &Option<String>) -> String {
    reason
        .as_ref()
        .map(|text| format!("<reason>{}</reason>", escape(text)))
        .unwrap_or_default()
}
