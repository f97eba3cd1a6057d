//! Where occupants of the simulated service stand: what is told of them, and how they go.

use std::fmt::Write as _;

use mucplex_xml::Frame;
use mucplex_xml::escape::escape_attribute;

use crate::ledger::What;
use crate::service::{Departure, MUC, MUC_USER, Occupant, Service, Silence, parse, payload};

impl Service {
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

    pub(crate) fn update(&mut self, room: &str, at: usize, frame: &Frame) {
        let payload = self.numbered(payload(frame));
        let known = self.room(room);
        known.occupants[at].payload = payload;
        let occupant = known.occupants[at].clone();
        let id = frame.id().filter(|_| self.dialect.reflects_id);
        self.tell(room, What::Here, &occupant, id.as_deref(), &[]);
    }

    /// A moderator gives an occupant another role.
    pub(crate) fn give_role(&mut self, room: &str, nick: &str, role: &'static str) {
        if let Some(at) = self.known(room).nick(nick) {
            let known = self.room(room);
            known.occupants[at].role = role;
            let occupant = known.occupants[at].clone();
            self.tell(room, What::Here, &occupant, None, &[]);
        }
    }

    /// Notes what is told of an occupant, and tells it.
    pub(crate) fn tell(
        &mut self,
        room: &str,
        what: What,
        occupant: &Occupant,
        id: Option<&str>,
        codes: &[u16],
    ) {
        let kind = if what == What::Here {
            ""
        } else {
            "unavailable"
        };
        let xml = self.presence_of(room, occupant, kind, codes, None);
        self.note(room, what, &occupant.bare, false, &xml);
        self.announce(room, occupant, kind, id, codes);
    }

    pub(crate) fn change_nick(
        &mut self,
        stream: &str,
        room: &str,
        at: usize,
        nick: &str,
        frame: &Frame,
    ) {
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
        self.note(room, What::Renamed, &occupant.bare, false, &named);
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
        occupant.payload = self.numbered(payload(frame));
        self.room(room).occupants[at] = occupant.clone();
        if silence == Silence::Everything {
            let xml = self.presence_of(room, &occupant, "", &[], None);
            self.note(room, What::Here, &occupant.bare, false, &xml);
            self.broadcast(room, Some(&occupant.nick), &xml);
            return;
        }
        let id = frame.id().filter(|_| self.dialect.reflects_id);
        self.tell(room, What::Here, &occupant, id.as_deref(), &[]);
    }

    pub(crate) fn leave(&mut self, stream: &str, room: &str, payload: &str) {
        let at = self.rooms[room].of(stream).unwrap();
        let mut occupant = self.rooms[room].occupants[at].clone();
        occupant.payload = self.numbered(payload.to_owned());
        if occupant.streams.len() > 1 {
            let shows = self.dialect.stream_updates;
            let known = self.room(room);
            known.occupants[at].streams.retain(|it| it != stream);
            if shows {
                let rest = known.occupants[at].clone();
                let xml = self.presence_of(room, &rest, "", &[], None);
                self.note(room, What::Here, &rest.bare, true, &xml);
                self.announce(room, &rest, "", None, &[]);
            }
        } else {
            self.room(room).occupants.remove(at);
            let xml = self.presence_of(room, &occupant, "unavailable", &[], None);
            self.note(room, What::Gone, &occupant.bare, false, &xml);
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
        let mut occupant = self.room(room).occupants.remove(at);
        occupant.payload = self.numbered(String::new());
        self.tell(room, What::Gone, &occupant, None, &[code]);
    }

    /// XEP-0045 10.9.
    pub(crate) fn destroy(&mut self, room: &str) {
        let Some(known) = self.rooms.get_mut(room) else {
            return;
        };
        let occupants = std::mem::take(&mut known.occupants);
        let xml = format!("<presence type='unavailable' from='{room}'/>");
        self.note(room, What::Destroyed, "", false, &xml);
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
        self.note(room, What::Notice, "", false, &xml);
        self.broadcast(room, None, &xml);
    }
}
