//! What goes through a room of the simulated service: messages and requests.

use mucplex_xml::{Element, Frame};

use crate::ledger::What;
use crate::service::{MUC_USER, Past, Service, parse};

const ADMIN: &str = "http://jabber.org/protocol/muc#admin";

impl Service {
    pub(crate) fn message(
        &mut self,
        stream: &str,
        room: &str,
        nick: Option<String>,
        frame: &Frame,
    ) {
        let inside = self.room(room).of(stream);
        let kind = frame.stanza_type();
        let answer_from = nick
            .as_ref()
            .map_or(room.to_owned(), |nick| format!("{room}/{nick}"));
        match (kind.as_deref(), inside, nick) {
            (Some("error"), Some(_), _) => {
                let nick = self.rooms[room].occupants[inside.unwrap()].nick.clone();
                self.remove(room, &nick, 307);
            }
            (Some("error"), None, _) => {}
            (_, None, _) => self.error(stream, &answer_from, frame, "not-acceptable"),
            (Some("groupchat"), Some(at), None) => self.groupchat(room, at, frame),
            (_, Some(at), Some(nick)) => self.private(stream, room, at, &nick, frame),
            (_, Some(_), None) => {}
        }
    }

    fn groupchat(&mut self, room: &str, at: usize, frame: &Frame) {
        let now = self.now;
        let with_id = self.dialect.stanza_id;
        let known = self.room(room);
        known.stanza_ids += 1;
        let from = format!("{room}/{}", known.occupants[at].nick);
        let root = frame.root();
        let mut patch = frame.patch();
        patch.set_attr(&root, "from", &from);
        patch.set_attr(&root, "to", "{to}");
        if with_id {
            let id = known.stanza_ids;
            patch.append(
                &root,
                &format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{room}' id='s{id}'/>"),
            );
        }
        let template = String::from_utf8(patch.finish().to_vec()).unwrap();
        let told = parse(&template);
        let body = root.child("body", "jabber:client");
        let what = if root.child("subject", "jabber:client").is_some() && body.is_none() {
            known.subject = Some(told);
            known.subject_at = Some(now);
            What::Subject
        } else if let Some(body) = body {
            known.said.push(body.text());
            known.past.push(Past {
                frame: told,
                at: now,
            });
            What::Said
        } else {
            What::Notice
        };
        self.note(room, what, "", false, &template);
        self.broadcast(room, None, &template);
    }

    fn private(&mut self, stream: &str, room: &str, at: usize, nick: &str, frame: &Frame) {
        let Some(to) = self.rooms[room].nick(nick) else {
            self.error(stream, &format!("{room}/{nick}"), frame, "item-not-found");
            return;
        };
        if let Some(body) = frame.root().child("body", "jabber:client") {
            let bare = self.rooms[room].occupants[to].bare.clone();
            self.privates.push((room.to_owned(), bare, body.text()));
        }
        let from = format!("{room}/{}", self.rooms[room].occupants[at].nick);
        let mut streams = self.rooms[room].occupants[to].streams.clone();
        if !self.dialect.pm_to_all {
            streams.truncate(1);
        }
        for stream in streams {
            let xml = readdressed(frame, &from, &stream, None);
            self.send(
                &stream,
                xml.replace("</message>", &format!("<x xmlns='{MUC_USER}'/></message>")),
            );
        }
    }

    pub(crate) fn iq(&mut self, stream: &str, room: &str, nick: Option<String>, frame: &Frame) {
        let id = frame.id().unwrap_or_default().into_owned();
        let request = matches!(frame.stanza_type().as_deref(), Some("get" | "set"));
        match nick {
            Some(_) if !request => {
                if let Some((asker, asker_id, from)) = self.relayed.remove(&id) {
                    let xml = readdressed(frame, &from, &asker, Some(&asker_id));
                    self.send(&asker, xml);
                }
            }
            Some(nick) => {
                let inside = self.room(room).of(stream);
                let target = self.rooms[room].nick(&nick);
                let (Some(inside), Some(target)) = (inside, target) else {
                    self.error(stream, &format!("{room}/{nick}"), frame, "not-acceptable");
                    return;
                };
                self.relays += 1;
                let relay = format!("relay-{}", self.relays);
                let to = self.rooms[room].occupants[target].streams[0].clone();
                let from = format!("{room}/{}", self.rooms[room].occupants[inside].nick);
                self.relayed.insert(
                    relay.clone(),
                    (stream.to_owned(), id, format!("{room}/{nick}")),
                );
                let xml = readdressed(frame, &from, &to, Some(&relay));
                self.send(&to, xml);
            }
            None if request => self.iq_to_room(stream, room, &id, frame),
            None => {}
        }
    }

    fn iq_to_room(&mut self, stream: &str, room: &str, id: &str, frame: &Frame) {
        if let Some(query) = frame.root().child("query", ADMIN) {
            let moderator = self
                .room(room)
                .of(stream)
                .is_some_and(|at| self.rooms[room].occupants[at].role == "moderator");
            if !moderator {
                self.error(stream, room, frame, "not-allowed");
                return;
            }
            let kicked = query
                .child("item", ADMIN)
                .and_then(|it: Element<'_>| it.attr("nick").map(String::from));
            self.remove(room, &kicked.unwrap(), 307);
        } else if frame.root().child("query", "urn:xmpp:mam:2").is_some() {
            for n in 0..2 {
                self.send(stream, format!(
                    "<message from='{room}' to='{stream}'><result xmlns='urn:xmpp:mam:2' id='{n}'/></message>"
                ));
            }
        }
        // What it asked with comes back, so that an answer can be told from another.
        let question = frame.root().child("q", "urn:test:q");
        let echo = question.map_or(String::new(), |q| {
            String::from_utf8(frame.bytes()[q.span()].to_vec()).unwrap()
        });
        self.send(
            stream,
            format!("<iq type='result' from='{room}' to='{stream}' id='{id}'>{echo}</iq>"),
        );
    }
}

fn readdressed(frame: &Frame, from: &str, to: &str, id: Option<&str>) -> String {
    let mut patch = frame.patch();
    patch.set_attr(&frame.root(), "from", from);
    patch.set_attr(&frame.root(), "to", to);
    if let Some(id) = id {
        patch.set_attr(&frame.root(), "id", id);
    }
    String::from_utf8(patch.finish().to_vec()).unwrap()
}
