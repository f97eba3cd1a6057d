//! One session of a play: what it does in a room, and what it knows of its own place there.

use std::collections::{BTreeMap, BTreeSet};

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::xml::{NS_MUC_USER, Stanza, escape};

/// Namespace of the barrier, a message without a body: no room keeps it as history.
pub(super) const NS_MARK: &str = "urn:example:mark";
const NS_RSM: &str = "http://jabber.org/protocol/rsm";

pub(super) struct Session {
    pub(super) client: Client,
    /// The rooms it is in.
    places: BTreeMap<String, Occupancy>,
    /// The rooms it has ever tried to join, or sent something to.
    pub(super) tried: BTreeSet<String>,
    /// What it has received during this step.
    received: Vec<Stanza>,
    /// The last IQ request it got.
    asked: Option<Stanza>,
    /// The end of the last page of a result set that it was told of.
    pub(super) last: Option<String>,
}

/// What a room has told the session of itself.
struct Occupancy {
    nick: String,
    /// A visitor of a moderated room may not speak.
    visitor: bool,
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            places: BTreeMap::new(),
            tried: BTreeSet::new(),
            received: Vec::new(),
            asked: None,
            last: None,
        }
    }

    pub(super) fn is_in(&self, room: &str) -> bool {
        self.places.contains_key(room)
    }

    pub(super) fn may_speak_in(&self, room: &str) -> bool {
        self.places.get(room).is_some_and(|place| !place.visitor)
    }

    fn nick(&self, room: &str) -> Option<&str> {
        self.places.get(room).map(|place| place.nick.as_str())
    }

    /// Keeps a stanza for the record, and notes what it says of this session.
    fn take(&mut self, stanza: Stanza) {
        match (stanza.name(), stanza.kind()) {
            ("presence", None | Some("unavailable")) => self.note_presence(&stanza),
            ("iq", Some("get" | "set")) => self.asked = Some(stanza.clone()),
            _ => {}
        }
        if let Some(last) = find(&stanza.element, "last", NS_RSM) {
            self.last = Some(last);
        }
        self.received.push(stanza);
    }

    fn note_presence(&mut self, stanza: &Stanza) {
        let Some((room, nick)) = stanza.from().and_then(|from| from.split_once('/')) else {
            return;
        };
        let own = stanza.has_status(110) || self.nick(room) == Some(nick);
        if !own || !stanza.has_child("x", NS_MUC_USER) {
            return;
        }
        if stanza.kind().is_none() {
            let place = Occupancy {
                nick: nick.to_owned(),
                visitor: stanza.item().and_then(|item| item.attr("role")) == Some("visitor"),
            };
            self.places.insert(room.to_owned(), place);
        } else if !stanza.has_status(303) {
            self.places.remove(room);
        }
    }

    /// Takes what comes until a stanza satisfies the condition, which is taken too.
    pub(super) async fn gather(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&Stanza) -> bool,
    ) -> Result<Stanza, ClientError> {
        if let Some(stanza) = self.received.iter().find(|stanza| is_it(stanza)) {
            return Ok(stanza.clone());
        }
        loop {
            let stanza = self.client.recv_for(what).await?;
            self.take(stanza.clone());
            if is_it(&stanza) {
                return Ok(stanza);
            }
        }
    }

    pub(super) async fn join(
        &mut self,
        room: &str,
        nick: &str,
        join: &Join,
    ) -> Result<(), ClientError> {
        self.tried.insert(room.to_owned());
        self.client.send_join(room, nick, join).await?;
        self.gather("the end of the join", |stanza| {
            is_from(stanza, room)
                && (stanza.is_subject()
                    || (stanza.name() == "presence" && stanza.kind() == Some("error")))
        })
        .await
        .map(drop)
    }

    /// What it has received during this step. A server lists the occupants in an order of its own,
    /// another one each time: to who joins, and to who may see their JIDs from now on.
    pub(super) fn take_received(&mut self) -> Vec<Stanza> {
        let mut received = std::mem::take(&mut self.received);
        let is_occupant = |stanza: &Stanza| {
            let available = stanza.name() == "presence" && stanza.kind().is_none();
            available && !stanza.has_status(110) && stanza.has_child("x", NS_MUC_USER)
        };
        for presences in received.chunk_by_mut(|a, b| is_occupant(a) && is_occupant(b)) {
            presences.sort_by(|a, b| a.from().cmp(&b.from()));
        }
        received
    }

    /// A body or a subject for the room; waits for the reflection, or an error.
    pub(super) async fn speak(
        &mut self,
        room: &str,
        what: &str,
        text: &str,
    ) -> Result<(), ClientError> {
        let id = self.client.new_id("msg");
        let (to, text) = (escape(room), escape(text));
        let xml = format!(
            "<message type='groupchat' id='{id}' to='{to}'><{what}>{text}</{what}></message>"
        );
        self.client.send_raw(xml).await?;
        let occupant = self.nick(room).map(|nick| format!("{room}/{nick}"));
        let is_it = |stanza: &Stanza| {
            // Prosody takes the id from a subject.
            let subject = what == "subject" && stanza.is_subject();
            (stanza.name() == "message" && stanza.id() == Some(&id))
                || (subject && stanza.from() == occupant.as_deref())
        };
        self.gather("the reflection", is_it).await.map(drop)
    }

    pub(super) async fn whisper(
        &mut self,
        room: &str,
        nick: &str,
        text: &str,
    ) -> Result<(), ClientError> {
        let (to, text) = (escape(&format!("{room}/{nick}")), escape(text));
        let id = self.client.new_id("pm");
        let xml = format!(
            "<message type='chat' id='{id}' to='{to}'><body>{text}</body>\
             <x xmlns='http://jabber.org/protocol/muc#user'/></message>"
        );
        self.client.send_raw(xml).await
    }

    /// Asks for another nick and waits for the presence under it, or an error.
    pub(super) async fn rename(&mut self, room: &str, nick: &str) -> Result<(), ClientError> {
        let occupant = format!("{room}/{nick}");
        let id = self.client.new_id("nick");
        let to = escape(&occupant);
        self.client
            .send_raw(format!("<presence id='{id}' to='{to}'/>"))
            .await?;
        let is_it = |stanza: &Stanza| match stanza.kind() {
            Some("error") => is_from(stanza, room),
            // The server may write it in another way (RFC 7622 3.4).
            None => {
                stanza.name() == "presence"
                    && (stanza.has_status(110) || stanza.from() == Some(&occupant))
            }
            Some(_) => false,
        };
        self.gather("the nick change", is_it).await.map(drop)
    }

    /// Leaves with a status text or, where it begins with a tag, with these children.
    pub(super) async fn leave(
        &mut self,
        room: &str,
        status: Option<&str>,
    ) -> Result<(), ClientError> {
        let nick = self.nick(room).unwrap_or("nobody");
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
    pub(super) async fn out_of(&mut self, room: &str) -> Result<(), ClientError> {
        while self.is_in(room) {
            let stanza = self.client.recv_for("the end of the occupancy").await?;
            self.take(stanza);
        }
        Ok(())
    }

    pub(super) async fn ask(&mut self, xml: &str) -> Result<(), ClientError> {
        let id = self.client.new_id("iq");
        let xml = xml.replacen("<iq ", &format!("<iq id='{id}' "), 1);
        self.client.send_raw(xml).await?;
        self.gather("the answer", |stanza| {
            stanza.name() == "iq" && stanza.id() == Some(&id)
        })
        .await
        .map(drop)
    }

    pub(super) async fn ask_room(
        &mut self,
        room: &str,
        kind: &str,
        payload: &str,
    ) -> Result<(), ClientError> {
        self.ask(&format!(
            "<iq type='{kind}' to='{}'>{payload}</iq>",
            escape(room)
        ))
        .await
    }

    /// Answers the last request it got.
    pub(super) async fn answer(&mut self, kind: &str, payload: &str) -> Result<(), ClientError> {
        let request = self.asked.take().expect("it was asked something");
        let (id, to) = (request.id().unwrap_or_default(), request.from());
        let (id, to) = (escape(id), escape(to.unwrap_or_default()));
        let xml = format!("<iq type='{kind}' id='{id}' to='{to}'>{payload}</iq>");
        self.client.send_raw(xml).await
    }

    /// Waits until the service has forgotten the room: ejabberd tells the occupants first, and what
    /// arrives meanwhile is lost.
    pub(super) async fn gone(&mut self, room: &str) -> Result<(), ClientError> {
        let (_, service) = room.split_once('@').expect("a room's JID");
        // One id for all: how often it asks must not show in the ids behind it.
        let request = format!(
            "<iq type='get' id='gone' to='{service}'>\
             <query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
        );
        loop {
            self.client.send_raw(&request).await?;
            let is_answer = |stanza: &Stanza| stanza.name() == "iq" && stanza.id() == Some("gone");
            let listed = self.client.wait_for("the rooms", is_answer).await?;
            if !listed.raw_str().contains(room) {
                return Ok(());
            }
        }
    }

    pub(super) async fn pong_from(&mut self, to: Option<&str>) -> Result<(), ClientError> {
        let seen = match to {
            Some(to) => self.client.drain_until_pong_from(to).await?,
            None => self.client.drain_until_pong().await?,
        };
        seen.into_iter().for_each(|stanza| self.take(stanza));
        Ok(())
    }

    /// Waits for a mark in a room, or to be told that it is no longer there.
    pub(super) async fn mark(&mut self, room: &str, id: &str) -> Result<(), ClientError> {
        while self.is_in(room) {
            let stanza = self.client.recv_for("the mark").await?;
            let mark = stanza
                .get_child("mark", NS_MARK)
                .and_then(|mark| mark.attr("id"));
            match mark {
                Some(mark) if mark == id => return Ok(()),
                Some(_) | None => self.take(stanza),
            }
        }
        Ok(())
    }
}

/// The text of the first element of this name, at any depth.
fn find(element: &mucplex_testkit::Element, name: &str, ns: &str) -> Option<String> {
    if element.is(name, ns) {
        return Some(element.text());
    }
    element.children().find_map(|child| find(child, name, ns))
}

fn is_from(stanza: &Stanza, room: &str) -> bool {
    stanza
        .from()
        .is_some_and(|from| from.split('/').next() == Some(room))
}
