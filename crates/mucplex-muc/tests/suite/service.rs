//! A room service in virtual time: XEP-0045 as far as the tests need it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use mucplex_xml::escape::escape_attribute;
use mucplex_xml::{Frame, Kind, Limits};

use crate::dialect::Dialect;
use crate::ledger::{Ledger, What};

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
    pub(crate) ledgers: BTreeMap<String, Ledger>,
    /// Private messages that were passed on: the room, the account they are for, the body.
    pub(crate) privates: Vec<(String, String, String)>,
    /// Whether presences are given numbers, so that no two look alike; and the last one.
    pub(crate) numbered: bool,
    number: usize,
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
            ledgers: BTreeMap::new(),
            privates: Vec::new(),
            numbered: false,
            number: 0,
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

    pub(crate) fn note(&mut self, room: &str, what: What, bare: &str, echo: bool, xml: &str) {
        if !self.ledgers.contains_key(room) {
            self.ledgers.insert(room.to_owned(), Ledger::default());
        }
        let ledger = self.ledgers.get_mut(room).unwrap();
        ledger.note(what, bare, echo, xml);
    }

    pub(crate) fn ledger(&self, room: &str) -> &Ledger {
        static NONE: std::sync::LazyLock<Ledger> = std::sync::LazyLock::new(Ledger::default);
        self.ledgers.get(room).unwrap_or(&NONE)
    }

    pub(crate) fn numbered(&mut self, mut payload: String) -> String {
        if self.numbered {
            self.number += 1;
            payload += &format!("<e xmlns='urn:test:n' n='{}'/>", self.number);
        }
        payload
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

    pub(crate) fn join(&mut self, stream: &str, room: &str, mut nick: String, frame: &Frame) {
        let dialect = self.dialect;
        let payload = self.numbered(payload(frame));
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
                if plain(&payload) == plain(&known.occupants[at].payload) {
                    known.occupants[at].streams.push(stream.to_owned());
                    if dialect.stream_updates {
                        let occupant = known.occupants[at].clone();
                        let xml = self.presence_of(room, &occupant, "", &[], None);
                        self.note(room, What::Here, &occupant.bare, true, &xml);
                        self.broadcast(room, Some(&nick), &xml);
                    }
                } else {
                    known.occupants[at].payload = payload;
                    let occupant = known.occupants[at].clone();
                    self.tell(room, What::Here, &occupant, None, &[]);
                    let known = self.room(room);
                    known.occupants[at].streams.push(stream.to_owned());
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
                    payload,
                    role: if owner { "moderator" } else { "participant" },
                    affiliation: if owner { "owner" } else { "none" },
                };
                known.occupants.push(occupant.clone());
                let xml = self.presence_of(room, &occupant, "", &[], None);
                self.note(room, What::Here, &occupant.bare, false, &xml);
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
}

/// What an occupant's presence says, without what asks to enter.
pub(crate) fn payload(frame: &Frame) -> String {
    let own = frame.root().children().filter(|child| !child.is("x", MUC));
    own.map(|child| String::from_utf8(frame.bytes()[child.span()].to_vec()).unwrap())
        .collect()
}

/// The same without its number.
fn plain(payload: &str) -> &str {
    payload
        .split_once("<e xmlns='urn:test:n'")
        .map_or(payload, |(plain, _)| plain)
}

fn stamp(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}
