//! What a test lets happen in a room.

use super::Room;
use super::handle::Occupant;
use super::write::{error, user};
use crate::xml::escape;

impl Room {
    /// Makes up occupants `c1`, `c2`, …, who are there without a word: for a room that nobody has
    /// joined yet.
    pub fn crowd(&self, size: usize) {
        self.act(|state| {
            let crowd = (1..=size).map(|number| Occupant::new(&format!("c{number}")));
            state.occupants.extend(crowd);
            Vec::new()
        });
    }

    /// Makes up one more occupant, who comes in now.
    pub fn arrive(&self, nick: &str) {
        self.act(|state| {
            let occupant = Occupant::new(nick);
            state.occupants.push(occupant.clone());
            state.for_others(nick, |to| state.available(&occupant, to, None, &[]))
        });
    }

    /// An occupant, made up or not, changes its nick.
    pub fn rename(&self, old: &str, new: &str) {
        self.act(|state| state.change_nick(old, new, None));
    }

    /// An occupant's presence says this from now on, as `<show>away</show>`; everybody else is told.
    pub fn show(&self, nick: &str, content: &str) {
        self.act(|state| {
            let Some(occupant) = state.find(nick) else {
                return Vec::new();
            };
            content.clone_into(&mut occupant.content);
            let occupant = occupant.clone();
            state.for_others(nick, |to| state.available(&occupant, to, None, &[]))
        });
    }

    /// The affiliation and role of an occupant, from now on; everybody is told, itself with 110.
    pub fn grant(&self, nick: &str, affiliation: &str, role: &str) {
        self.act(|state| {
            let Some(occupant) = state.find(nick) else {
                return Vec::new();
            };
            affiliation.clone_into(&mut occupant.affiliation);
            role.clone_into(&mut occupant.role);
            let occupant = occupant.clone();
            let mut out = state.for_others(nick, |to| state.available(&occupant, to, None, &[]));
            let own = occupant.streams.iter();
            out.extend(own.map(|to| state.available(&occupant, to, None, &[110])));
            out
        });
    }

    /// An occupant says something to all. Gives the message's id.
    pub fn say(&self, nick: &str, body: &str) -> String {
        self.say_xml(nick, &format!("<body>{}</body>", escape(body)))
    }

    /// The same with any content of the message.
    pub fn say_xml(&self, nick: &str, content: &str) -> String {
        let author = self.occupant(nick);
        let mut id = String::new();
        self.act(|state| {
            id = state.new_id("said");
            state.reflect(&author, Some(&id), content, false)
        });
        id
    }

    /// Sets the subject, and tells everybody.
    pub fn set_subject(&self, nick: &str, text: &str) {
        let author = self.occupant(nick);
        self.act(|state| {
            state.subject = Some((author.clone(), text.to_owned()));
            let content = format!("<subject>{}</subject>", escape(text));
            state.reflect(&author, None, &content, true)
        });
    }

    /// An occupant sends another a private message (XEP-0045 7.5).
    pub fn whisper(&self, from: &str, to: &str, body: &str) {
        let (from, body, x) = (escape(&self.occupant(from)), escape(body), user("", &[]));
        self.send_each(
            to,
            &format!(
                "<message type='chat' from='{from}' to='{{to}}'><body>{body}</body>{x}</message>"
            ),
        );
    }

    /// An occupant asks another something: the IQ goes to its first stream. Gives the id; the
    /// answer is found with [`Room::wait_for`].
    pub fn ask(&self, from: &str, to: &str, kind: &str, payload: &str) -> String {
        let from = escape(&self.occupant(from));
        let mut id = String::new();
        self.act(|state| {
            id = state.new_id("asked");
            let iq =
                format!("<iq type='{kind}' from='{from}' to='{{to}}' id='{id}'>{payload}</iq>");
            state.for_each_stream(to, &iq).into_iter().take(1).collect()
        });
        id
    }

    /// Takes an occupant out, as a kick (307), a ban (301), a loss of membership (321, 322), the
    /// service's end (332) or a fault (333): itself is told with 110, everybody else without.
    pub fn remove(&self, nick: &str, codes: &[u16]) {
        self.act(|state| {
            let Some(occupant) = state.find(nick) else {
                return Vec::new();
            };
            let gone = Occupant {
                role: "none".to_owned(),
                ..occupant.clone()
            };
            let own: Vec<_> = std::iter::once(110).chain(codes.iter().copied()).collect();
            let x = user(&state.item(&gone, None), &own);
            let streams = gone.streams.iter();
            let mut out: Vec<_> = streams
                .map(|to| state.unavailable(nick, to, None, "", &x))
                .collect();
            out.extend(state.drop_occupant(nick, codes, ""));
            out
        });
    }

    /// Destroys the room (XEP-0045 10.9): each occupant is told, with this inside the muc#user
    /// element, as `<destroy jid='…'/>`. Nobody is in it any more.
    pub fn destroy(&self, destroy: &str) {
        self.act(|state| {
            let gone = std::mem::take(&mut state.occupants);
            let mut out = Vec::new();
            for occupant in gone {
                let x = user(
                    &format!("<item affiliation='none' role='none'/>{destroy}"),
                    &[],
                );
                let streams = occupant.streams.iter();
                out.extend(streams.map(|to| state.unavailable(&occupant.nick, to, None, "", &x)));
            }
            out
        });
    }

    /// The room does not know an occupant any more, and tells nobody: what it sends is refused
    /// with `not-acceptable`.
    pub fn forget(&self, nick: &str) {
        self.act(|state| {
            state.occupants.retain(|occupant| occupant.nick != nick);
            Vec::new()
        });
    }

    /// Lets in, as a room that behaves, who waits (see [`super::Joining::Hold`]).
    pub fn admit(&self) {
        self.act(|state| {
            let held = std::mem::take(&mut state.held);
            held.iter()
                .flat_map(|join| state.admit_as_asked(join))
                .collect()
        });
    }

    /// Refuses, with an error of this condition, who waits.
    pub fn refuse(&self, condition: &str) {
        self.act(|state| {
            let held = std::mem::take(&mut state.held);
            held.iter().map(|join| error(join, condition)).collect()
        });
    }

    /// The nicks of all who are in the room, in the order in which they came.
    pub fn nicks(&self) -> Vec<String> {
        let state = super::lock(&self.0.state);
        state
            .occupants
            .iter()
            .map(|occupant| occupant.nick.clone())
            .collect()
    }

    /// The full JIDs that are in the room under this nick.
    pub fn streams(&self, nick: &str) -> Vec<String> {
        let mut state = super::lock(&self.0.state);
        state
            .find(nick)
            .map(|occupant| occupant.streams.clone())
            .unwrap_or_default()
    }

    /// A barrier: the streams of an occupant get a groupchat message without a body from the room
    /// with this id, behind all that the room has sent so far.
    pub fn mark(&self, nick: &str) -> String {
        let room = escape(self.jid());
        let mut id = String::new();
        self.act(|state| {
            id = format!("{} of {}", state.new_id("mark"), state.jid);
            let mark = format!(
                "<message type='groupchat' from='{room}' to='{{to}}' id='{}'>\
                 <mark xmlns='urn:mark'/></message>",
                escape(&id)
            );
            state.for_each_stream(nick, &mark)
        });
        id
    }
}
