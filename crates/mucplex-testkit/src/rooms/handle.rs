//! The state of a room, and how it answers what is sent to it.

use std::time::{Duration, SystemTime};

use super::rules::{Joining, Leaving, Renaming, Rules};
use super::write::{error, id_attribute, inner, stamp, type_attribute, user};
use crate::xml::{NS_CLIENT, NS_MUC, NS_MUC_USER, Stanza, escape};

/// Namespace of CAPTCHA forms (XEP-0158).
pub(super) const NS_CAPTCHA: &str = "urn:xmpp:captcha";
/// How many messages a joiner gets, at most.
const HISTORY: usize = 20;

type Hook = Box<dyn FnMut(&Stanza) -> Option<Vec<String>> + Send>;

/// Someone in the room. One that is made up has no streams.
#[derive(Debug, Clone)]
pub(super) struct Occupant {
    pub(super) nick: String,
    pub(super) affiliation: String,
    pub(super) role: String,
    /// What its presence says beside the item, as `<show>away</show>`.
    pub(super) content: String,
    /// Full JIDs, all of one account.
    pub(super) streams: Vec<String>,
}

impl Occupant {
    pub(super) fn new(nick: &str) -> Self {
        Self {
            nick: nick.to_owned(),
            affiliation: "none".to_owned(),
            role: "participant".to_owned(),
            content: String::new(),
            streams: Vec::new(),
        }
    }
}

/// One message of the history.
struct Said {
    from: String,
    id: Option<String>,
    content: String,
    at: SystemTime,
}

/// Everything a room knows.
pub(super) struct State {
    pub(super) jid: String,
    pub(super) rules: Rules,
    pub(super) hook: Option<Hook>,
    pub(super) occupants: Vec<Occupant>,
    /// Joins that wait for the test.
    pub(super) held: Vec<Stanza>,
    pub(super) received: Vec<Stanza>,
    /// Who has set it, and to what.
    pub(super) subject: Option<(String, String)>,
    history: Vec<Said>,
    last_id: u32,
}

pub(super) fn asks_to_join(presence: &Stanza) -> bool {
    presence.kind().is_none() && presence.has_child("x", NS_MUC)
}

impl State {
    pub(super) fn new(jid: &str) -> Self {
        Self {
            jid: jid.to_owned(),
            rules: Rules::default(),
            hook: None,
            occupants: Vec::new(),
            held: Vec::new(),
            received: Vec::new(),
            subject: None,
            history: Vec::new(),
            last_id: 0,
        }
    }

    /// Takes what was sent to the room, and gives what it sends.
    pub(super) fn handle(&mut self, stanza: &Stanza) -> Vec<String> {
        self.received.push(stanza.clone());
        if let Some(said) = self.hook.as_mut().and_then(|hook| hook(stanza)) {
            return said;
        }
        match stanza.name() {
            "presence" => self.presence(stanza),
            _ if !self.rules.answers => Vec::new(),
            "message" => self.message(stanza),
            "iq" => self.iq(stanza),
            name => panic!("servers send no <{name}/>"),
        }
    }

    pub(super) fn find(&mut self, nick: &str) -> Option<&mut Occupant> {
        self.occupants
            .iter_mut()
            .find(|occupant| occupant.nick == nick)
    }

    pub(super) fn new_id(&mut self, prefix: &str) -> String {
        self.last_id += 1;
        format!("{prefix}-{}", self.last_id)
    }

    /// The occupant whose stream this is.
    pub(super) fn occupant_of(&self, stream: &str) -> Option<&Occupant> {
        let mut occupants = self.occupants.iter();
        occupants.find(|occupant| occupant.streams.iter().any(|it| it == stream))
    }

    // ---- presence

    fn presence(&mut self, stanza: &Stanza) -> Vec<String> {
        let from = stanza.from().unwrap_or_default();
        let current = self.occupant_of(from).map(|occupant| occupant.nick.clone());
        let asked = stanza.to().and_then(|to| to.split_once('/'));
        let asked = asked.map(|(_, nick)| nick.to_owned());
        match (stanza.kind(), current, asked) {
            (Some("unavailable"), Some(nick), _) => self.leave(&nick, stanza),
            // RFC 6120 8.3.1: an error for what the room has sent; servers take the stream out.
            (Some("error"), Some(nick), _) => self.gone(&nick, from, ""),
            (Some(_), ..) => Vec::new(),
            (None, _, None) => vec![error(stanza, "jid-malformed")],
            (None, Some(nick), Some(asked)) if nick != asked => self.rename(&nick, &asked, stanza),
            (None, Some(_), Some(_)) if !asks_to_join(stanza) => self.update(stanza),
            (None, None, Some(_)) if !asks_to_join(stanza) => vec![error(stanza, "item-not-found")],
            (None, _, Some(asked)) => self.join(&asked, stanza),
        }
    }

    fn join(&mut self, asked: &str, join: &Stanza) -> Vec<String> {
        let from = join.from().unwrap_or_default();
        match self.rules.joining.clone() {
            Joining::Admit => self.admit(asked, &[], join),
            Joining::Assign(nick) => self.admit(&nick, &[210], join),
            Joining::Refuse(condition) => vec![error(join, condition)],
            Joining::Hold => {
                self.held.push(join.clone());
                Vec::new()
            }
            Joining::Challenge(id) => {
                self.held.push(join.clone());
                vec![self.challenge(from, &id)]
            }
            Joining::Say(stanzas) => {
                self.add_stream(asked, from);
                let id = escape(join.id().unwrap_or_default());
                let stanzas = stanzas.iter().map(|it| self.filled(it, from, asked));
                stanzas.map(|it| it.replace("{id}", &id)).collect()
            }
        }
    }

    /// XEP-0158 4: the form, which a client shows, and whose answer comes as an IQ.
    fn challenge(&self, to: &str, id: &str) -> String {
        let (from, to, id) = (escape(&self.jid), escape(to), escape(id));
        format!(
            "<message from='{from}' to='{to}' id='{id}'><body>Who are you?</body>\
             <captcha xmlns='{NS_CAPTCHA}'><x xmlns='jabber:x:data' type='form'>\
             <field type='hidden' var='FORM_TYPE'><value>{NS_CAPTCHA}</value></field>\
             <field type='hidden' var='from'><value>{from}</value></field>\
             <field type='hidden' var='challenge'><value>{id}</value></field>\
             <field label='7 and 7' type='text-single' var='qa'><required/></field>\
             </x></captcha></message>"
        )
    }

    /// Puts a stream into the room under a nick; whether the nick was not there.
    fn add_stream(&mut self, nick: &str, stream: &str) -> bool {
        let new = self.find(nick).is_none();
        if new {
            self.occupants.push(Occupant::new(nick));
        }
        let occupant = self.find(nick).expect("there is one");
        if !occupant.streams.iter().any(|it| it == stream) {
            occupant.streams.push(stream.to_owned());
        }
        new
    }

    /// Lets a stream in (XEP-0045 7.2): the others, itself with these codes, history, subject.
    pub(super) fn admit(&mut self, nick: &str, codes: &[u16], join: &Stanza) -> Vec<String> {
        let from = join.from().unwrap_or_default();
        let bare = |jid: &str| jid.split('/').next().unwrap_or_default().to_owned();
        let taken = self.find(nick).is_some_and(|occupant| {
            let own = |stream: &String| bare(stream) == bare(from);
            !occupant.streams.iter().any(own)
        });
        if taken {
            return vec![error(join, "conflict")];
        }
        let new = self.add_stream(nick, from);
        let mut out = Vec::new();
        for other in self.occupants.iter().filter(|other| other.nick != nick) {
            out.push(self.available(other, from, None, &[]));
        }
        let own = self.occupants.iter().find(|occupant| occupant.nick == nick);
        let own = own.expect("it was added").clone();
        if new {
            out.extend(self.for_others(nick, |to| self.available(&own, to, None, &[])));
        }
        let mut all = vec![110];
        all.extend(if self.rules.shows_jids {
            Some(100)
        } else {
            None
        });
        all.extend(codes.iter().chain(&self.rules.codes));
        let id = join.id().filter(|_| self.rules.reflects_ids);
        out.push(self.available(&own, from, id, &all));
        out.extend(self.history_for(from, join));
        out.push(self.subject_for(from));
        out
    }

    fn history_for(&self, to: &str, join: &Stanza) -> Vec<String> {
        let limits = join
            .get_child("x", NS_MUC)
            .and_then(|x| x.get_child("history", NS_MUC));
        let limit = |name| limits.and_then(|it| it.attr(name));
        let most = limit("maxstanzas")
            .and_then(|it| it.parse().ok())
            .unwrap_or(HISTORY);
        let most = if limit("maxchars") == Some("0") {
            0
        } else {
            most
        };
        // Stamps in UTC to the second or finer compare as text.
        let since = limit("since").unwrap_or_default().trim_end_matches('Z');
        let seconds = limit("seconds").and_then(|it| it.parse().ok());
        let oldest = seconds.map(|it| SystemTime::now() - Duration::from_secs(it));
        let recent = |said: &&Said| {
            stamp(said.at).as_str() >= since && oldest.is_none_or(|oldest| said.at >= oldest)
        };
        let said: Vec<_> = self.history.iter().filter(recent).collect();
        let said = &said[said.len().saturating_sub(most)..];
        said.iter().map(|said| self.replayed(said, to)).collect()
    }

    fn replayed(&self, said: &Said, to: &str) -> String {
        let (from, to, room) = (escape(&said.from), escape(to), escape(&self.jid));
        let (id, content, at) = (
            id_attribute(said.id.as_deref()),
            &said.content,
            stamp(said.at),
        );
        format!(
            "<message type='groupchat' from='{from}' to='{to}'{id}>{content}\
             <delay xmlns='urn:xmpp:delay' from='{room}' stamp='{at}'/></message>"
        )
    }

    fn subject_for(&self, to: &str) -> String {
        let (from, text) = match &self.subject {
            Some((from, text)) => (escape(from), escape(text)),
            None => (escape(&self.jid), String::new()),
        };
        format!(
            "<message type='groupchat' from='{from}' to='{}'><subject>{text}</subject></message>",
            escape(to)
        )
    }

    fn leave(&mut self, nick: &str, stanza: &Stanza) -> Vec<String> {
        let from = stanza.from().unwrap_or_default();
        let mut out = Vec::new();
        match self.rules.leaving {
            Leaving::Ignore => return out,
            Leaving::Silent => {}
            Leaving::Confirm => {
                let occupant = Occupant {
                    role: "none".to_owned(),
                    content: inner(stanza).to_owned(),
                    ..self.find(nick).expect("it is in the room").clone()
                };
                let x = user(&self.item(&occupant, None), &[110]);
                out.push(self.unavailable(nick, from, stanza.id(), inner(stanza), &x));
            }
        }
        out.extend(self.gone(nick, from, inner(stanza)));
        out
    }

    /// Takes a stream out; with the last one the occupant goes, and the others are told.
    fn gone(&mut self, nick: &str, stream: &str, content: &str) -> Vec<String> {
        let Some(occupant) = self.find(nick) else {
            return Vec::new();
        };
        occupant.streams.retain(|it| it != stream);
        if !occupant.streams.is_empty() {
            return Vec::new();
        }
        self.drop_occupant(nick, &[], content)
    }

    /// The occupant is in the room no longer, and everybody else is told, with these codes.
    pub(super) fn drop_occupant(
        &mut self,
        nick: &str,
        codes: &[u16],
        content: &str,
    ) -> Vec<String> {
        let Some(index) = self.occupants.iter().position(|it| it.nick == nick) else {
            return Vec::new();
        };
        let mut occupant = self.occupants.remove(index);
        "none".clone_into(&mut occupant.role);
        let x = user(&self.item(&occupant, None), codes);
        self.for_others(nick, |to| self.unavailable(nick, to, None, content, &x))
    }

    fn update(&mut self, stanza: &Stanza) -> Vec<String> {
        let from = stanza.from().unwrap_or_default().to_owned();
        let nick = self
            .occupant_of(&from)
            .map(|it| it.nick.clone())
            .unwrap_or_default();
        let own = self.find(&nick).expect("it is in the room");
        inner(stanza).clone_into(&mut own.content);
        let own = own.clone();
        let mut out = self.for_others(&nick, |to| self.available(&own, to, None, &[]));
        for stream in &own.streams {
            let id = stanza
                .id()
                .filter(|_| *stream == from && self.rules.reflects_ids);
            out.push(self.available(&own, stream, id, &[110]));
        }
        out
    }

    fn rename(&mut self, old: &str, new: &str, stanza: &Stanza) -> Vec<String> {
        if let Renaming::Refuse(condition) = self.rules.renaming {
            return vec![error(stanza, condition)];
        }
        if self.find(new).is_some() {
            return vec![error(stanza, "conflict")];
        }
        let id = stanza.id().filter(|_| self.rules.reflects_ids);
        let from = stanza.from().unwrap_or_default();
        self.change_nick(old, new, id.map(|id| (from, id)))
    }

    /// Renames an occupant, and tells everybody by the rule; `request` is the stream that has asked
    /// for it, and the id to answer with.
    pub(super) fn change_nick(
        &mut self,
        old: &str,
        new: &str,
        request: Option<(&str, &str)>,
    ) -> Vec<String> {
        let Some(occupant) = self.find(old) else {
            return Vec::new();
        };
        let before = occupant.clone();
        new.clone_into(&mut occupant.nick);
        let after = occupant.clone();
        let mut out = Vec::new();
        if self.rules.renaming == Renaming::Silent {
            return out;
        }
        let everybody = self.occupants.iter().flat_map(|it| &it.streams);
        let (code, told): (&[u16], _) = match self.rules.renaming {
            Renaming::WithoutCode => (&[], None),
            _ => (&[303], Some(new)),
        };
        let gone = self.rules.renaming != Renaming::WithoutUnavailable;
        for to in everybody.clone().filter(|_| gone) {
            let own: &[u16] = if before.streams.contains(to) {
                &[110]
            } else {
                &[]
            };
            let x = user(&self.item(&before, told), &[code, own].concat());
            out.push(self.unavailable(old, to, None, "", &x));
        }
        for to in everybody {
            let own = before.streams.contains(to);
            let id = request.and_then(|(stream, id)| (stream == to).then_some(id));
            out.push(self.available(&after, to, id, if own { &[110] } else { &[] }));
        }
        out
    }

    // ---- messages

    fn message(&mut self, stanza: &Stanza) -> Vec<String> {
        let from = stanza.from().unwrap_or_default();
        if stanza.kind() == Some("error") {
            return Vec::new();
        }
        if let Some(joined) = self.answer_of_challenge(stanza) {
            return joined;
        }
        let Some(speaker) = self.occupant_of(from) else {
            return vec![error(stanza, "not-acceptable")];
        };
        let author = format!("{}/{}", self.jid, speaker.nick);
        match stanza.to().and_then(|to| to.split_once('/')) {
            None if stanza.kind() == Some("groupchat") => {
                if let (true, Some(subject)) =
                    (stanza.is_subject(), stanza.get_child("subject", NS_CLIENT))
                {
                    self.subject = Some((author.clone(), subject.text()));
                }
                self.reflect(&author, stanza.id(), inner(stanza), stanza.is_subject())
            }
            Some((_, nick)) if stanza.kind() != Some("groupchat") => {
                let nick = nick.to_owned();
                self.relay_message(&author, &nick, stanza)
            }
            _ => vec![error(stanza, "bad-request")],
        }
    }

    /// What an occupant says, for every stream; with a body or anything else but a subject or
    /// state it is kept for those who come later.
    pub(super) fn reflect(
        &mut self,
        author: &str,
        id: Option<&str>,
        content: &str,
        is_subject: bool,
    ) -> Vec<String> {
        let mut content = content.to_owned();
        if self.rules.stanza_ids && !is_subject {
            let (room, own) = (escape(&self.jid), self.new_id("archived"));
            content += &format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{room}' id='{own}'/>");
        }
        if content.contains("<body") {
            self.history.push(Said {
                from: author.to_owned(),
                id: id.map(str::to_owned),
                content: content.clone(),
                at: SystemTime::now(),
            });
        }
        let (author, id) = (escape(author), id_attribute(id));
        self.for_others("", |to| {
            let to = escape(to);
            format!("<message type='groupchat' from='{author}' to='{to}'{id}>{content}</message>")
        })
    }

    fn relay_message(&mut self, author: &str, nick: &str, stanza: &Stanza) -> Vec<String> {
        let Some(addressee) = self.find(nick) else {
            return vec![error(stanza, "item-not-found")];
        };
        let streams = addressee.streams.clone();
        let (author, id, content) = (escape(author), id_attribute(stanza.id()), inner(stanza));
        let kind = type_attribute(stanza.kind());
        // XEP-0045 7.5: the room adds its own, where the sender has not.
        let x = if stanza.has_child("x", NS_MUC_USER) {
            String::new()
        } else {
            user("", &[])
        };
        let relayed = streams.iter().map(|to| {
            let to = escape(to);
            format!("<message{kind} from='{author}' to='{to}'{id}>{content}{x}</message>")
        });
        relayed.collect()
    }

    // ---- writing

    /// One stanza for each stream in the room but those of `nick`.
    pub(super) fn for_others(&self, nick: &str, write: impl Fn(&str) -> String) -> Vec<String> {
        let others = self.occupants.iter().filter(|other| other.nick != nick);
        let streams = others.flat_map(|other| &other.streams);
        streams.map(|stream| write(stream)).collect()
    }

    /// One stanza for each stream of `nick`.
    pub(super) fn for_each_stream(&mut self, nick: &str, stanza: &str) -> Vec<String> {
        let streams = self
            .find(nick)
            .map(|it| it.streams.clone())
            .unwrap_or_default();
        let filled = streams
            .iter()
            .map(|stream| self.filled(stanza, stream, nick));
        filled.collect()
    }

    fn filled(&self, stanza: &str, to: &str, nick: &str) -> String {
        let stanza = stanza
            .replace("{to}", &escape(to))
            .replace("{nick}", &escape(nick));
        stanza.replace("{room}", &escape(&self.jid))
    }

    pub(super) fn item(&self, occupant: &Occupant, new_nick: Option<&str>) -> String {
        let Occupant {
            affiliation,
            role,
            streams,
            ..
        } = occupant;
        let jid = streams.first().filter(|_| self.rules.shows_jids);
        let jid = jid
            .map(|jid| format!(" jid='{}'", escape(jid)))
            .unwrap_or_default();
        let nick = new_nick
            .map(|nick| format!(" nick='{}'", escape(nick)))
            .unwrap_or_default();
        format!("<item affiliation='{affiliation}' role='{role}'{jid}{nick}/>")
    }

    pub(super) fn available(
        &self,
        occupant: &Occupant,
        to: &str,
        id: Option<&str>,
        codes: &[u16],
    ) -> String {
        let from = escape(&format!("{}/{}", self.jid, occupant.nick));
        let (to, id, content) = (escape(to), id_attribute(id), &occupant.content);
        let x = user(&self.item(occupant, None), codes);
        format!("<presence from='{from}' to='{to}'{id}>{content}{x}</presence>")
    }

    pub(super) fn unavailable(
        &self,
        nick: &str,
        to: &str,
        id: Option<&str>,
        content: &str,
        x: &str,
    ) -> String {
        let from = escape(&format!("{}/{nick}", self.jid));
        let (to, id) = (escape(to), id_attribute(id));
        format!("<presence type='unavailable' from='{from}' to='{to}'{id}>{content}{x}</presence>")
    }
}
