//! A room service in virtual time: XEP-0045 as far as the tests need it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use mucplex_xml::escape::escape_attribute;
use mucplex_xml::{Frame, Kind, Limits};

use crate::dialect::Dialect;

pub(crate) const MUC: &str = "http://jabber.org/protocol/muc";
pub(crate) const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

pub(crate) fn parse(xml: &str) -> Frame {
    Frame::parse(xml.to_owned().into(), &Limits::default())
        .unwrap_or_else(|error| panic!("{error}: {xml}"))
}

pub(crate) fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap()
}

/// Somebody in a room: one nick, one account, one or several streams.
#[derive(Clone, Debug)]
pub(crate) struct Occupant {
    pub(crate) nick: String,
    pub(crate) bare: String,
    pub(crate) streams: Vec<String>,
    pub(crate) payload: String,
    pub(crate) role: &'static str,
    pub(crate) affiliation: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) frame: Frame,
    pub(crate) at: SystemTime,
}

/// How much of a change of nick a room keeps from the one who makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Silence {
    #[default]
    Nothing,
    /// The unavailable with 303.
    Gone,
    /// That the unavailable is one with 303.
    Code,
    Everything,
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) occupants: Vec<Occupant>,
    pub(crate) past: Vec<Past>,
    pub(crate) subject: Option<Frame>,
    pub(crate) subject_at: Option<SystemTime>,
    pub(crate) non_anonymous: bool,
    pub(crate) logged: bool,
    pub(crate) created: bool,
    pub(crate) password: Option<String>,
    /// The nick everybody gets who asks for the first.
    pub(crate) assigns: Option<(String, String)>,
    /// What every join is answered with.
    pub(crate) refuses: Option<&'static str>,
    /// A message that stands before the door.
    pub(crate) challenge: Option<String>,
    /// What the room does not tell the one who changes its nick.
    pub(crate) nick_silence: Silence,
    /// Bodies of the messages, in the room's order.
    pub(crate) said: Vec<String>,
    pub(crate) stanza_ids: usize,
}

impl Room {
    pub(crate) fn of(&self, stream: &str) -> Option<usize> {
        let has = |occupant: &Occupant| occupant.streams.iter().any(|known| known == stream);
        self.occupants.iter().position(has)
    }

    pub(crate) fn nick(&self, nick: &str) -> Option<usize> {
        self.occupants.iter().position(|it| it.nick == nick)
    }
}

/// An account is no longer in a room, by a leave or the end of its last stream.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    pub(crate) room: String,
    pub(crate) account: String,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) dialect: Dialect,
    pub(crate) rooms: BTreeMap<String, Room>,
    /// What the service sends, in order: recipient and stanza.
    pub(crate) out: Vec<(String, String)>,
    pub(crate) now: SystemTime,
    pub(crate) departures: Vec<Departure>,
    pub(crate) relayed: BTreeMap<String, (String, String, String)>,
    pub(crate) relays: usize,
    /// Rooms that do not answer.
    pub(crate) dead: BTreeSet<String>,
}

impl Service {
    pub(crate) fn new(dialect: Dialect, now: SystemTime) -> Self {
        Self {
            dialect,
            rooms: BTreeMap::new(),
            out: Vec::new(),
            now,
            departures: Vec::new(),
            relayed: BTreeMap::new(),
            relays: 0,
            dead: BTreeSet::new(),
        }
    }

    pub(crate) fn room(&mut self, jid: &str) -> &mut Room {
        self.rooms.entry(jid.to_owned()).or_default()
    }

    /// The room as it is, without making one.
    pub(crate) fn known(&self, jid: &str) -> &Room {
        static NONE: std::sync::LazyLock<Room> = std::sync::LazyLock::new(Room::default);
        self.rooms.get(jid).unwrap_or(&NONE)
    }

    /// A stanza of a stream.
    pub(crate) fn handle(&mut self, stream: &str, xml: &str) {
        let frame = parse(xml);
        let Some(to) = frame.to().map(std::borrow::Cow::into_owned) else {
            if frame.kind() == Kind::Presence
                && frame.stanza_type().as_deref() == Some("unavailable")
            {
                self.stream_ends(stream);
            }
            return;
        };
        if !to.to_lowercase().contains("@rooms.") {
            return;
        }
        let (room, nick) = match to.split_once('/') {
            Some((room, nick)) => (room.to_lowercase(), Some(nick.to_owned())),
            None => (to.to_lowercase(), None),
        };
        if self.dead.contains(&room) {
            return;
        }
        match frame.kind() {
            Kind::Presence => self.presence(stream, &room, nick, &frame),
            Kind::Message => self.message(stream, &room, nick, &frame),
            Kind::Iq => self.iq(stream, &room, nick, &frame),
            _ => {}
        }
    }

    /// A stream is closed, or unavailable: it leaves every room (RFC 6121 4.6.3).
    pub(crate) fn stream_ends(&mut self, stream: &str) {
        let rooms: Vec<String> = self.rooms.keys().cloned().collect();
        for room in rooms {
            if self.rooms[&room].of(stream).is_some() {
                self.leave(stream, &room, "");
            }
        }
    }

    pub(crate) fn send(&mut self, to: &str, xml: String) {
        self.out.push((to.to_owned(), xml));
    }

    /// One stanza for every stream in the room, `{to}` standing for its address.
    pub(crate) fn broadcast(&mut self, room: &str, but: Option<&str>, template: &str) {
        let streams: Vec<String> = self.rooms[room]
            .occupants
            .iter()
            .filter(|it| Some(it.nick.as_str()) != but)
            .flat_map(|it| it.streams.clone())
            .collect();
        for stream in streams {
            self.send(&stream, template.replace("{to}", &stream));
        }
    }

    pub(crate) fn error(&mut self, stream: &str, from: &str, frame: &Frame, condition: &str) {
        let id = frame.id().map_or(String::new(), |id| format!(" id='{id}'"));
        let name = frame.name();
        let from = escape_attribute(from);
        self.send(
            stream,
            format!(
                "<{name} type='error' from='{from}' to='{stream}'{id}><error type='cancel'>\
                 <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></{name}>"
            ),
        );
    }

    fn presence(&mut self, stream: &str, room: &str, nick: Option<String>, frame: &Frame) {
        let fresh = !self.rooms.contains_key(room);
        self.room(room).created |= fresh;
        let inside = self.room(room).of(stream);
        match (frame.stanza_type().as_deref(), inside, nick) {
            (Some("unavailable"), Some(_), _) => {
                self.leave(stream, room, &payload(frame));
            }
            (None, _, None) => self.error(stream, room, frame, "jid-malformed"),
            (None, None, Some(nick)) if frame.root().child("x", MUC).is_some() => {
                self.join(stream, room, nick, frame);
            }
            (None, None, Some(nick)) => {
                self.error(stream, &format!("{room}/{nick}"), frame, "not-acceptable");
            }
            (None, Some(at), Some(nick)) => {
                let occupant = self.rooms[room].occupants[at].clone();
                if occupant.nick == nick {
                    if frame.root().child("x", MUC).is_some() {
                        self.welcome(stream, room, &nick, frame, &[]);
                    } else {
                        self.update(room, at, frame);
                    }
                } else {
                    self.change_nick(stream, room, at, &nick, frame);
                }
            }
            _ => {}
        }
    }

    fn join(&mut self, stream: &str, room: &str, mut nick: String, frame: &Frame) {
        let dialect = self.dialect;
        let known = self.room(room);
        if let Some(condition) = known.refuses {
            self.error(stream, &format!("{room}/{nick}"), frame, condition);
            return;
        }
        let muc = frame.root().child("x", MUC).unwrap();
        let given = muc.child("password", MUC).map(|it| it.text());
        if known.password.is_some() && known.password != given {
            self.error(stream, &format!("{room}/{nick}"), frame, "not-authorized");
            return;
        }
        if let Some(text) = known.challenge.take() {
            let xml = format!(
                "<message from='{room}' to='{stream}' id='challenge'><body>{text}</body></message>"
            );
            self.send(stream, xml);
            return;
        }
        let mut codes = Vec::new();
        if let Some((asked, assigned)) = &known.assigns
            && *asked == nick
        {
            nick.clone_from(assigned);
            codes.push(210);
        }
        if std::mem::take(&mut known.created) {
            codes.push(201);
        }
        let same = known.nick(&nick);
        match same {
            Some(at) if known.occupants[at].bare == bare(stream) && dialect.second_stream => {
                known.occupants[at].streams.push(stream.to_owned());
                if dialect.stream_updates {
                    let occupant = known.occupants[at].clone();
                    let xml = self.presence_of(room, &occupant, "", &[], None);
                    self.broadcast(room, Some(&nick), &xml);
                }
            }
            Some(_) => {
                self.error(stream, &format!("{room}/{nick}"), frame, "conflict");
                return;
            }
            None => {
                let owner = known.occupants.is_empty();
                let occupant = Occupant {
                    nick: nick.clone(),
                    bare: bare(stream).to_owned(),
                    streams: vec![stream.to_owned()],
                    payload: payload(frame),
                    role: if owner { "moderator" } else { "participant" },
                    affiliation: if owner { "owner" } else { "none" },
                };
                known.occupants.push(occupant.clone());
                let xml = self.presence_of(room, &occupant, "", &[], None);
                self.broadcast(room, Some(&nick), &xml);
            }
        }
        self.welcome(stream, room, &nick, frame, &codes);
    }

    /// XEP-0045 7.1: presences of others, the self-presence, history, subject.
    fn welcome(&mut self, stream: &str, room: &str, nick: &str, frame: &Frame, codes: &[u16]) {
        let dialect = self.dialect;
        if dialect.room_presence {
            let xml = format!(
                "<presence from='{room}' to='{stream}'><x xmlns='vcard-temp:x:update'><photo/></x></presence>"
            );
            self.send(stream, xml);
        }
        let occupants = self.rooms[room].occupants.clone();
        for occupant in occupants.iter().filter(|it| it.nick != nick) {
            let xml = self.presence_of(room, occupant, "", &[], None);
            self.send(stream, xml.replace("{to}", stream));
        }
        let mut own: Vec<u16> = vec![110];
        own.extend(codes);
        if self.rooms[room].non_anonymous {
            own.push(100);
        }
        if self.rooms[room].logged {
            own.push(170);
        }
        let id = frame.id().filter(|_| dialect.reflects_id);
        let me = occupants.iter().find(|it| it.nick == nick).unwrap().clone();
        let xml = self.presence_of(room, &me, "", &own, id.as_deref());
        self.send(stream, xml.replace("{to}", stream));
        for past in self.selected(room, frame) {
            let delay = format!(
                "<delay xmlns='urn:xmpp:delay' from='{room}' stamp='{}'/>",
                stamp(past.at)
            );
            let mut patch = past.frame.patch();
            patch.set_attr(&past.frame.root(), "to", stream);
            patch.append(&past.frame.root(), &delay);
            let xml = String::from_utf8(patch.finish().to_vec()).unwrap();
            self.send(stream, xml);
        }
        if dialect.subject {
            let xml = self.subject_for(room, stream);
            self.send(stream, xml);
        }
    }

    fn subject_for(&self, room: &str, stream: &str) -> String {
        let known = &self.rooms[room];
        let Some(subject) = &known.subject else {
            return format!(
                "<message type='groupchat' from='{room}' to='{stream}'><subject/></message>"
            );
        };
        let at = stamp(known.subject_at.unwrap());
        let delay = format!("<delay xmlns='urn:xmpp:delay' from='{room}' stamp='{at}'/>");
        let mut patch = subject.patch();
        patch.set_attr(&subject.root(), "to", stream);
        patch.append(&subject.root(), &delay);
        String::from_utf8(patch.finish().to_vec()).unwrap()
    }

    /// XEP-0045 7.2.14.
    fn selected(&self, room: &str, frame: &Frame) -> Vec<Past> {
        let muc = frame.root().child("x", MUC);
        let history = muc.and_then(|muc| muc.child("history", MUC));
        let attr = |name: &str| {
            let history = history.as_ref()?;
            history.attr(name).map(std::borrow::Cow::into_owned)
        };
        let number = |name: &str| attr(name).and_then(|it| it.parse::<u64>().ok());
        let since = attr("since").and_then(|it| DateTime::parse_from_rfc3339(&it).ok());
        let since = since.map(|it| SystemTime::from(it.with_timezone(&Utc)));
        let seconds = number("seconds").map(|it| self.now - Duration::from_secs(it));
        let oldest = since.max(seconds);
        let default = if oldest.is_some() { 10_000 } else { 20 };
        let most = usize::try_from(number("maxstanzas").unwrap_or(default)).unwrap();
        let mut chosen: Vec<Past> = self.rooms[room]
            .past
            .iter()
            .rev()
            .filter(|past| oldest.is_none_or(|oldest| past.at >= oldest))
            .take(most)
            .cloned()
            .collect();
        chosen.reverse();
        chosen
    }

    pub(crate) fn presence_of(
        &self,
        room: &str,
        occupant: &Occupant,
        kind: &str,
        codes: &[u16],
        id: Option<&str>,
    ) -> String {
        let mut xml = format!(
            "<presence from='{room}/{}' to='{{to}}'",
            escape_attribute(&occupant.nick)
        );
        if let Some(id) = id {
            write!(xml, " id='{id}'").unwrap();
        }
        if !kind.is_empty() {
            write!(xml, " type='{kind}'").unwrap();
        }
        let role = if kind.is_empty() {
            occupant.role
        } else {
            "none"
        };
        write!(
            xml,
            ">{}<x xmlns='{MUC_USER}'><item affiliation='{}' role='{role}'",
            occupant.payload, occupant.affiliation
        )
        .unwrap();
        if self.rooms[room].non_anonymous {
            write!(xml, " jid='{}'", occupant.streams[0]).unwrap();
        }
        xml.push_str("/>");
        for code in codes {
            write!(xml, "<status code='{code}'/>").unwrap();
        }
        xml.push_str("</x></presence>");
        xml
    }

    /// To the others as it is, to the occupant's own streams with 110.
    pub(crate) fn announce(
        &mut self,
        room: &str,
        occupant: &Occupant,
        kind: &str,
        id: Option<&str>,
        codes: &[u16],
    ) {
        let xml = self.presence_of(room, occupant, kind, codes, id);
        self.broadcast(room, Some(&occupant.nick), &xml);
        let mut own = codes.to_vec();
        own.push(110);
        for (n, stream) in occupant.streams.iter().enumerate() {
            let told = if n > 0 && kind == "unavailable" && !self.dialect.removal_110_for_all {
                codes
            } else {
                &own
            };
            let xml = self.presence_of(room, occupant, kind, told, id);
            self.send(stream, xml.replace("{to}", stream));
        }
    }

    fn update(&mut self, room: &str, at: usize, frame: &Frame) {
        let known = self.room(room);
        known.occupants[at].payload = payload(frame);
        let occupant = known.occupants[at].clone();
        let id = frame.id().filter(|_| self.dialect.reflects_id);
        self.announce(room, &occupant, "", id.as_deref(), &[]);
    }

    fn change_nick(&mut self, stream: &str, room: &str, at: usize, nick: &str, frame: &Frame) {
        let mut occupant = self.rooms[room].occupants[at].clone();
        if let Some(other) = self.rooms[room].nick(nick) {
            let mergeable = self.rooms[room].occupants[other].bare == occupant.bare;
            if !mergeable || !self.dialect.second_stream {
                self.error(stream, &format!("{room}/{nick}"), frame, "conflict");
                return;
            }
            // One stream joins the nick that another of the account has.
            self.leave(stream, room, "");
            self.join(
                stream,
                room,
                nick.to_owned(),
                &parse(&format!(
                    "<presence to='{room}/{nick}'><x xmlns='{MUC}'/></presence>"
                )),
            );
            return;
        }
        let template = self.presence_of(room, &occupant, "unavailable", &[303], None);
        let named = template.replace(" role='none'", &format!(" role='none' nick='{nick}'"));
        self.broadcast(room, Some(&occupant.nick), &named);
        let silence = self.rooms[room].nick_silence;
        let told = match silence {
            Silence::Gone | Silence::Everything => &[],
            Silence::Nothing | Silence::Code => occupant.streams.as_slice(),
        };
        for stream in told {
            if silence == Silence::Code {
                let own = named
                    .replace("303", "110")
                    .replace(&format!(" nick='{nick}'"), "");
                self.send(stream, own.replace("{to}", stream));
                continue;
            }
            let own = named.replace(
                "<status code='303'/>",
                "<status code='303'/><status code='110'/>",
            );
            self.send(stream, own.replace("{to}", stream));
        }
        nick.clone_into(&mut occupant.nick);
        occupant.payload = payload(frame);
        self.room(room).occupants[at] = occupant.clone();
        if silence == Silence::Everything {
            let xml = self.presence_of(room, &occupant, "", &[], None);
            self.broadcast(room, Some(&occupant.nick), &xml);
            return;
        }
        let id = frame.id().filter(|_| self.dialect.reflects_id);
        self.announce(room, &occupant, "", id.as_deref(), &[]);
    }

    fn leave(&mut self, stream: &str, room: &str, payload: &str) {
        let at = self.rooms[room].of(stream).unwrap();
        let mut occupant = self.rooms[room].occupants[at].clone();
        payload.clone_into(&mut occupant.payload);
        if occupant.streams.len() > 1 {
            let shows = self.dialect.stream_updates;
            let known = self.room(room);
            known.occupants[at].streams.retain(|it| it != stream);
            if shows {
                let rest = known.occupants[at].clone();
                self.announce(room, &rest, "", None, &[]);
            }
        } else {
            self.room(room).occupants.remove(at);
            let xml = self.presence_of(room, &occupant, "unavailable", &[], None);
            self.broadcast(room, None, &xml);
            self.departures.push(Departure {
                room: room.to_owned(),
                account: occupant.bare.clone(),
            });
        }
        if self.dialect.confirms_leave {
            let xml = self.presence_of(room, &occupant, "unavailable", &[110], None);
            self.send(stream, xml.replace("{to}", stream));
        }
    }

    /// Puts an occupant out: kick 307, ban 301, and so on.
    pub(crate) fn remove(&mut self, room: &str, nick: &str, code: u16) {
        let Some(at) = self.rooms.get(room).and_then(|known| known.nick(nick)) else {
            return;
        };
        let occupant = self.room(room).occupants.remove(at);
        self.announce(room, &occupant, "unavailable", None, &[code]);
    }

    /// XEP-0045 10.9.
    pub(crate) fn destroy(&mut self, room: &str) {
        let Some(known) = self.rooms.get_mut(room) else {
            return;
        };
        let occupants = std::mem::take(&mut known.occupants);
        for occupant in occupants {
            for stream in &occupant.streams {
                let xml = format!(
                    "<presence type='unavailable' from='{room}/{}' to='{stream}'><x xmlns='{MUC_USER}'>\
                     <item affiliation='none' role='none'/><destroy jid='new@rooms.test'><reason>moved</reason>\
                     <password>open</password></destroy><status code='110'/></x></presence>",
                    occupant.nick
                );
                self.send(stream, xml);
            }
        }
        self.rooms.remove(room);
    }

    /// A message of the room itself, with status codes.
    pub(crate) fn config_change(&mut self, room: &str, codes: &[u16]) {
        for code in codes {
            let known = self.room(room);
            match code {
                170 => known.logged = true,
                171 => known.logged = false,
                172 => known.non_anonymous = true,
                173 | 174 => known.non_anonymous = false,
                _ => {}
            }
        }
        let codes: String = codes
            .iter()
            .map(|code| format!("<status code='{code}'/>"))
            .collect();
        let xml = format!(
            "<message type='groupchat' from='{room}' to='{{to}}'><x xmlns='{MUC_USER}'>{codes}</x></message>"
        );
        self.broadcast(room, None, &xml);
    }
}

/// What an occupant's presence says, without what asks to enter.
fn payload(frame: &Frame) -> String {
    let own = frame.root().children().filter(|child| !child.is("x", MUC));
    own.map(|child| String::from_utf8(frame.bytes()[child.span()].to_vec()).unwrap())
        .collect()
}

fn stamp(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}
