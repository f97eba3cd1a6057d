//! Private messages and requests: each reaches whom it is for, once, and each request is answered.

use std::collections::{BTreeMap, BTreeSet};

use mucplex_xml::Frame;

use super::life::Life;
use super::script::{NICKS, OTHERS, ROOMS};
use super::seen::{Seen, token};
use super::view::View;
use crate::ledger::{ACCOUNTS, account};
use crate::service::parse;

/// A private message of a session.
#[derive(Debug)]
struct Whisper {
    session: u64,
    body: String,
    refused: bool,
    /// It was for one past the proxy, and has reached that one.
    arrived: bool,
}

/// A request of a session.
#[derive(Debug)]
struct Asked {
    session: u64,
    id: String,
    token: String,
    answered: bool,
}

/// A request of one past the proxy to an account.
#[derive(Debug)]
struct AskedByOther {
    token: String,
    of: usize,
    room: usize,
    answered: bool,
    /// The account has been out of the room meanwhile: it may have no answer.
    excused: bool,
}

/// A request that somebody has been given and has not answered.
#[derive(Debug)]
struct Open {
    from: String,
    id: String,
    token: String,
}

#[derive(Debug, Default)]
pub(crate) struct Asks {
    whispers: Vec<Whisper>,
    asked: Vec<Asked>,
    asked_by_others: Vec<AskedByOther>,
    /// By session and room, and by the stream of an other.
    open: BTreeMap<(u64, usize), Vec<Open>>,
    open_to_others: BTreeMap<String, Vec<Open>>,
    /// Which session has been given a request.
    given: BTreeMap<String, (u64, usize)>,
    /// The account and room a private message is for.
    meant: BTreeMap<String, (usize, usize)>,
    /// How often a session, or a stream of an other, was given a private message.
    times: BTreeMap<(String, String), usize>,
    pub(crate) wants_carbons: BTreeSet<u64>,
    /// Sessions that have the full JID of an older stream, and may get its answers.
    pub(crate) returned: BTreeSet<u64>,
    /// Copies that sessions are to be given, at once.
    copies: BTreeSet<(u64, String)>,
}

impl Asks {
    fn once(&mut self, who: &str, body: &str) {
        let times = self
            .times
            .entry((who.to_owned(), body.to_owned()))
            .or_default();
        *times += 1;
        assert_eq!(*times, 1, "{who} was given {body} twice");
    }
}

impl Life {
    /// The address of an other, of the other account, of nobody, of the room.
    fn address(&self, id: u64, room: usize, whom: usize) -> String {
        let nick = match whom {
            9 => {
                let own = self
                    .views
                    .get(&(id, room))
                    .and_then(|view| view.own.clone());
                own.map_or(NICKS[self.accounts[&id]][0].to_owned(), |(nick, _)| nick)
            }
            8 => return ROOMS[room].to_owned(),
            7 => "ghost".to_owned(),
            6 => {
                let other = 1 - self.accounts[&id];
                let nick = self.account_nick(other, room);
                nick.unwrap_or_else(|| NICKS[other][0].to_owned())
            }
            other => self
                .other_nick(other, room)
                .unwrap_or_else(|| OTHERS[other].to_owned()),
        };
        format!("{}/{nick}", ROOMS[room])
    }

    pub(crate) fn whisper(&mut self, id: u64, room: usize, whom: usize) {
        let body = self.new_name("w");
        let to = self.address(id, room, whom);
        self.expect_copies(id, room, &body);
        self.asks.whispers.push(Whisper {
            session: id,
            body: body.clone(),
            refused: false,
            arrived: false,
        });
        self.world.send(
            id,
            &format!("<message to='{to}' type='chat' id='{body}'><body>{body}</body></message>"),
        );
    }

    /// Behaviour 28: the others that are in the room get a copy.
    fn expect_copies(&mut self, id: u64, room: usize, body: &str) {
        let of = self.accounts[&id];
        for ((other, r), view) in &self.views {
            let wants = self.asks.wants_carbons.contains(other) && *other != id;
            if *r == room && wants && view.is_live() && self.accounts[other] == of {
                self.asks.copies.insert((*other, body.to_owned()));
            }
        }
    }

    pub(crate) fn read_carbon(&mut self, id: u64, frame: &Frame, xml: &str) {
        const CARBONS: &str = "urn:xmpp:carbons:2";
        let sent = frame.root().child("sent", CARBONS);
        let forwarded = sent.and_then(|it| it.child("forwarded", "urn:xmpp:forward:0"));
        let message = forwarded.and_then(|it| it.child("message", "jabber:client"));
        let body = message.and_then(|it| it.child("body", "jabber:client"));
        let body = body.map(|it| it.text()).unwrap_or_default();
        let expected = self.asks.copies.remove(&(id, body.clone()));
        // The carrier's session is the sender for the server, wherever it is.
        let mut sent = self.asks.whispers.iter();
        let sent = sent.any(|it| it.body == body && it.session != id);
        assert!(
            expected || sent && self.asks.wants_carbons.contains(&id),
            "session {id}: a copy of what? {xml}"
        );
        self.asks.once(&format!("session {id}, a copy of"), &body);
    }

    pub(crate) fn check_copies(&mut self) {
        let sessions = &self.world.sessions;
        self.asks.copies.retain(|(id, _)| sessions[id].alive);
        let missing = self.asks.copies.first();
        assert!(missing.is_none(), "not given: a copy of {missing:?}");
    }

    pub(crate) fn whisper_refused(&mut self, id: u64, body: &str, xml: &str) {
        let mut all = self.asks.whispers.iter_mut();
        let sent = all.find(|it| it.session == id && it.body == body);
        let Some(sent) = sent else {
            panic!("session {id} has not sent this: {xml}");
        };
        assert!(!sent.refused, "session {id}: refused twice: {xml}");
        sent.refused = true;
    }

    pub(crate) fn ask(&mut self, id: u64, room: usize, whom: usize) {
        let token = self.new_name("q");
        let to = self.address(id, room, whom);
        // Two sessions may well use the same ids.
        let all = self.asks.asked.iter();
        let n = all.filter(|asked| asked.session == id).count();
        self.asks.asked.push(Asked {
            session: id,
            id: format!("ask{n}"),
            token: token.clone(),
            answered: false,
        });
        let question = match whom {
            9 => "<ping xmlns='urn:xmpp:ping'/>".to_owned(),
            _ => format!("<q xmlns='urn:test:q' n='{token}'/>"),
        };
        self.world.send(
            id,
            &format!("<iq type='get' to='{to}' id='ask{n}'>{question}</iq>"),
        );
    }

    /// A session answers what it has been asked, where it still is in the room.
    pub(crate) fn answer(&mut self, id: u64) {
        for room in 0..ROOMS.len() {
            let open = self.asks.open.remove(&(id, room)).unwrap_or_default();
            if self
                .views
                .get(&(id, room))
                .is_none_or(|view| !view.is_live())
            {
                continue;
            }
            for Open {
                from,
                id: of,
                token,
            } in open
            {
                self.world.send(
                    id,
                    &format!("<iq type='result' to='{from}' id='{of}'><q xmlns='urn:test:q' n='{token}'/></iq>"),
                );
            }
        }
    }

    /// What is no part of the room's order.
    pub(crate) fn read_apart(&mut self, id: u64, room: usize, seen: Seen, xml: &str) {
        let of = self.accounts[&id];
        let live = self.views.get(&(id, room)).is_some_and(View::is_live);
        match seen {
            Seen::Private { body } => {
                assert_eq!(
                    self.asks.meant.get(&body),
                    Some(&(of, room)),
                    "session {id}: not for this account: {xml}"
                );
                self.asks.once(&format!("session {id}"), &body);
                match self.views.get_mut(&(id, room)) {
                    Some(view) => view.owed.retain(|owed| *owed != body),
                    // The account is in the room, and nobody else is there to get it.
                    None if self.asks.returned.contains(&id) => {}
                    None => assert!(!self.is_attached(of, room), "session {id}: {xml}"),
                }
            }
            Seen::Answer { id: answer, .. }
                if answer.starts_with("mucplex-") && self.asks.returned.contains(&id) => {}
            Seen::Answer { id: answer, token } => {
                let mut all = self.asks.asked.iter_mut();
                let asked = all.find(|asked| asked.session == id && asked.id == answer);
                let Some(asked) = asked else {
                    panic!("session {id} has not asked: {xml}");
                };
                assert!(!asked.answered, "session {id}: answered twice: {xml}");
                assert!(
                    token.is_none_or(|token| token == asked.token),
                    "session {id}: another's answer: {xml}"
                );
                asked.answered = true;
            }
            Seen::Request {
                from,
                id: of,
                token,
            } => {
                // One whose join is under way is seen by others before it knows.
                let joins = self.views.contains_key(&(id, room));
                assert!(
                    live || joins,
                    "session {id} is asked and not in the room: {xml}"
                );
                if let Some(before) = self.asks.given.insert(token.clone(), (id, room)) {
                    let there = self.views.get(&before);
                    assert!(
                        before.0 != id && there.is_none_or(|view| !view.is_live()),
                        "session {id} is asked what another was asked: {xml}"
                    );
                }
                let open = self.asks.open.entry((id, room)).or_default();
                open.push(Open {
                    from,
                    id: of,
                    token,
                });
            }
            _ => {}
        }
    }

    /// Private messages that the room has passed on: who is in it is to have them.
    pub(crate) fn note_privates(&mut self) {
        for (jid, bare, body) in std::mem::take(&mut self.world.service.privates) {
            let Some(of) = account(&bare) else {
                continue;
            };
            let room = ROOMS.iter().position(|room| *room == jid).unwrap();
            self.asks.meant.insert(body.clone(), (of, room));
            for ((id, r), view) in &mut self.views {
                if *r == room && self.accounts[id] == of && view.is_live() {
                    view.owed.push(body.clone());
                }
            }
        }
    }

    pub(crate) fn other_whispers(&mut self, other: usize, room: usize, of: usize) {
        if let Some(nick) = self.account_nick(of, room) {
            let body = self.new_name("w");
            let to = format!("{}/{nick}", ROOMS[room]);
            self.world.other(
                OTHERS[other],
                &format!("<message to='{to}' type='chat'><body>{body}</body></message>"),
            );
        }
    }

    pub(crate) fn other_asks(&mut self, other: usize, room: usize, of: usize) {
        let nick = self.account_nick(of, room);
        if let (Some(nick), Some(_)) = (nick, self.other_nick(other, room)) {
            let token = self.new_name("q");
            let to = format!("{}/{nick}", ROOMS[room]);
            self.asks.asked_by_others.push(AskedByOther {
                token: token.clone(),
                of,
                room,
                answered: false,
                excused: false,
            });
            self.world.other(
                OTHERS[other],
                &format!(
                    "<iq type='get' to='{to}' id='{token}'><q xmlns='urn:test:q' n='{token}'/></iq>"
                ),
            );
        }
    }

    pub(crate) fn other_answers(&mut self, other: usize) {
        let stream = format!("{}@test/pc", OTHERS[other]);
        for Open { from, id, token } in self.asks.open_to_others.remove(&stream).unwrap_or_default()
        {
            self.world.other(
                OTHERS[other],
                &format!("<iq type='result' to='{from}' id='{id}'><q xmlns='urn:test:q' n='{token}'/></iq>"),
            );
        }
    }

    /// What people past the proxy have been sent.
    pub(crate) fn hear_others(&mut self) {
        for (stream, stanzas) in std::mem::take(&mut self.world.outside) {
            // The rest is for streams of the accounts that are over.
            for xml in stanzas.into_iter().filter(|_| stream.ends_with("@test/pc")) {
                if xml.starts_with("<iq") || xml.contains("type='chat'") {
                    self.other_hears(&stream, &xml);
                }
            }
        }
    }

    fn other_hears(&mut self, stream: &str, xml: &str) {
        let frame = parse(xml);
        let id = frame.id().unwrap_or_default().into_owned();
        if frame.name() == "message" {
            let body = frame.root().child("body", "jabber:client").unwrap().text();
            let mut all = self.asks.whispers.iter_mut();
            if let Some(sent) = all.find(|it| it.body == body) {
                sent.arrived = true;
            }
            self.asks.once(stream, &body);
        } else if frame.stanza_type().as_deref() == Some("get") {
            let open = self.asks.open_to_others.entry(stream.to_owned());
            open.or_default().push(Open {
                from: frame.from().unwrap_or_default().into_owned(),
                id,
                token: token(&frame).unwrap_or_default(),
            });
        } else {
            let mut all = self.asks.asked_by_others.iter_mut();
            let Some(asked) = all.find(|asked| asked.token == id) else {
                panic!("{stream} has not asked: {xml}");
            };
            assert!(!asked.answered, "{stream}: answered twice: {xml}");
            asked.answered = true;
        }
    }

    /// Everybody answers everything.
    pub(crate) fn answer_all(&mut self) {
        for slot in 0..self.slots.len() {
            if let Some(id) = self.slots[slot] {
                self.answer(id);
            }
        }
        for other in 0..OTHERS.len() {
            self.other_answers(other);
        }
    }

    /// All is at rest: nobody waits for anything.
    pub(crate) fn check_asks(&mut self) {
        for asked in &self.asks.asked {
            let alive = self.world.sessions[&asked.session].alive;
            assert!(
                asked.answered || !alive,
                "session {}: {} ({}) was never answered",
                asked.session,
                asked.id,
                asked.token
            );
        }
        let mut all = std::mem::take(&mut self.asks.asked_by_others);
        for asked in &mut all {
            asked.excused |= !self.is_unbroken(asked.of, asked.room);
            assert!(
                asked.answered || asked.excused,
                "{} has not answered {}",
                ACCOUNTS[asked.of],
                asked.token
            );
        }
        all.retain(|asked| !asked.answered);
        self.asks.asked_by_others = all;
        for sent in &self.asks.whispers {
            let meant = self.asks.meant.contains_key(&sent.body);
            let alive = self.world.sessions[&sent.session].alive;
            let of = self.accounts[&sent.session];
            let gap = self.grades[of].contains(&super::view::Grade::Gap);
            let sure = !gap && !self.broken[of].contains(&true);
            let known = sent.refused || sent.arrived || meant;
            assert!(known || !alive || !sure, "{} is lost", sent.body);
            assert!(
                !(sent.refused && (sent.arrived || meant)),
                "{} is refused and arrives",
                sent.body
            );
        }
        let Asks {
            whispers, asked, ..
        } = &mut self.asks;
        whispers.clear();
        // The number of its requests is the next one's id.
        asked.retain(|it| it.answered);
    }
}
