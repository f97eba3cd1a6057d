//! Accounts behind the proxy as a shell drives them, a room service, and people past the proxy.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use jid::FullJid;
use mucplex_muc::{
    ClientRoute, Csi, Hub, Input, NickConflict, Now, Output, Policy, RouteSettings, Routes,
    SessionId, UplinkId, Urgency,
};
use mucplex_xml::{Frame, Outgoing};

use crate::dialect::{Dialect, PROSODY};
use crate::service::{Service, bare, parse};
use crate::store::Store;

pub(crate) const TEA: &str = "tea@rooms.test";
pub(crate) const ALICE: &str = "alice@test";
pub(crate) const BEA: &str = "bea@test";
/// On an uplink's way up: the stream ends here.
pub(crate) const END: &str = "end of stream";

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) jid: String,
    pub(crate) uplink: u64,
    /// What it has been sent since it was last asked.
    pub(crate) inbox: Vec<String>,
    /// Everything it has been sent.
    pub(crate) all: Vec<String>,
    pub(crate) owned: usize,
    pub(crate) alive: bool,
    /// Undirected unavailable, and what came behind it, until the release.
    withheld: Option<VecDeque<String>>,
    pub(crate) refused: bool,
    pub(crate) csi: Csi<()>,
    /// It has stopped reading, and so many bytes may still wait for it.
    pub(crate) room_left: Option<usize>,
    /// Its connection is lost, and may be resumed; what it is sent waits for it.
    pub(crate) asleep: bool,
    /// It has sent undirected available presence.
    pub(crate) available: bool,
    /// Of what it was sent: how many stanzas that made, and the mark.
    pub(crate) marks: Vec<(usize, u64)>,
}

/// What has passed between the hub and the server.
#[derive(Clone, Debug)]
pub(crate) enum Trace {
    /// A stanza of the hub's on an uplink.
    Up(u64, Frame),
    Down(u64, Frame),
    Release(u64),
    /// It has left all rooms.
    Left(u64),
}

#[derive(Debug)]
pub(crate) struct Uplink {
    pub(crate) jid: String,
    pub(crate) account: String,
    pub(crate) session: Option<u64>,
    pub(crate) routes: Routes,
    pub(crate) up: VecDeque<String>,
    pub(crate) down: VecDeque<String>,
    pub(crate) open: bool,
    /// The server knows no more of it.
    pub(crate) over: bool,
    /// A newer stream has its full JID.
    pub(crate) replaced: bool,
    pub(crate) sent: Vec<String>,
    /// It is no session's.
    pub(crate) anchor: bool,
    /// Its connection is gone, and both sides keep what is to go on it.
    pub(crate) suspended: bool,
    /// It was, when it was let go.
    pub(crate) was_suspended: bool,
    /// The same because its session is asleep.
    pub(crate) cut: bool,
}

impl Uplink {
    pub(crate) fn new(jid: String, session: Option<u64>, routes: Routes) -> Self {
        Self {
            account: bare(&jid).to_owned(),
            jid,
            session,
            routes,
            up: VecDeque::new(),
            down: VecDeque::new(),
            open: true,
            over: false,
            replaced: false,
            sent: Vec::new(),
            anchor: false,
            suspended: false,
            was_suspended: false,
            cut: false,
        }
    }

    /// Whether stanzas get through.
    pub(crate) fn flows(&self) -> bool {
        !self.suspended && !self.cut
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hubs: BTreeMap<String, Hub>,
    pub(crate) stores: BTreeMap<String, Store>,
    pub(crate) service: Service,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) uplinks: BTreeMap<u64, Uplink>,
    /// What people past the proxy have been sent.
    pub(crate) outside: BTreeMap<String, Vec<String>>,
    start: Instant,
    wall: SystemTime,
    pub(crate) elapsed: Duration,
    /// Of the hubs that are still to come.
    pub(crate) policy: Policy,
    pub(crate) next: u64,
    /// Sessions whose outbox has just run over.
    overrun: Vec<u64>,
    /// Uplinks that have been lost since this was last asked.
    pub(crate) losses: Vec<u64>,
    /// Uplinks that have become anchors since, and whether they have left all rooms.
    pub(crate) retained: Vec<(u64, bool)>,
    /// In the order in which they came.
    pub(crate) anchors: Vec<u64>,
    /// Kept if asked for.
    pub(crate) trace: Option<Vec<Trace>>,
    pub(crate) story: Option<Vec<String>>,
}

/// Two sessions of alice in the room, the first one's uplink carrying it, and bob.
pub(crate) fn two_of(dialect: Dialect) -> (World, u64, u64) {
    two_in(World::of(dialect))
}

/// Both have been sent this and nothing else.
pub(crate) fn both(w: &mut World, a: u64, b: u64, expected: &[&str]) {
    assert_eq!(w.seen(a), expected);
    assert_eq!(w.seen(b), expected);
}

pub(crate) fn two_in(mut w: World) -> (World, u64, u64) {
    w.other_joins("bob", TEA);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.joined(b, "alice");
    w.seen_by_other("bob");
    (w, a, b)
}

/// Notes what goes out to a client.
fn written<'a>(
    inbox: &'a mut Vec<String>,
    all: &'a mut Vec<String>,
) -> impl FnMut(Outgoing, ()) + 'a {
    |stanza, ()| {
        let xml = String::from_utf8(stanza.to_bytes().to_vec()).unwrap();
        inbox.push(xml.clone());
        all.push(xml);
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(PROSODY)
    }

    pub(crate) fn of(dialect: Dialect) -> Self {
        Self::with(dialect, Duration::from_secs(3600))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "an instant to count from; it never counts on"
    )]
    pub(crate) fn with(dialect: Dialect, stay: Duration) -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Self {
            hubs: BTreeMap::new(),
            stores: BTreeMap::new(),
            service: Service::new(dialect, wall),
            sessions: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            outside: BTreeMap::new(),
            start: Instant::now(),
            wall,
            elapsed: Duration::ZERO,
            policy: Policy {
                nick_conflict: NickConflict::Account,
                stay,
                history: Duration::from_secs(30 * 86_400),
                persist: true,
                anchors: true,
            },
            next: 0,
            overrun: Vec::new(),
            losses: Vec::new(),
            retained: Vec::new(),
            anchors: Vec::new(),
            trace: None,
            story: None,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            wall: self.wall + self.elapsed,
        }
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.wall + self.elapsed
    }

    /// A session of alice's binds.
    pub(crate) fn bind(&mut self, resource: &str) -> u64 {
        self.bind_as(ALICE, resource, None)
    }

    pub(crate) fn bind_as(&mut self, account: &str, resource: &str, lang: Option<&str>) -> u64 {
        self.next += 1;
        let id = self.next;
        let uplink = id + 1000;
        let full = format!("{account}/{resource}");
        let jid: FullJid = full.parse().unwrap();
        self.replace(&full);
        self.uplinks.insert(
            uplink,
            Uplink::new(
                full.clone(),
                Some(id),
                Routes::new(
                    jid.clone(),
                    RouteSettings {
                        server_csi: true,
                        ..RouteSettings::default()
                    },
                ),
            ),
        );
        self.sessions.insert(
            id,
            Session {
                jid: full,
                uplink,
                inbox: Vec::new(),
                all: Vec::new(),
                owned: 0,
                alive: true,
                withheld: None,
                refused: false,
                csi: Csi::new(&jid, 1 << 16),
                room_left: None,
                asleep: false,
                available: false,
                marks: Vec::new(),
            },
        );
        self.new_hub(account);
        let input = Input::SessionBound {
            session: SessionId(id),
            uplink: UplinkId(uplink),
            jid,
            client_lang: lang.map(str::to_owned),
        };
        self.input(account, input);
        id
    }

    /// One input of a hub, and all that comes of it.
    pub(crate) fn input(&mut self, account: &str, input: Input) {
        let now = self.now();
        self.service.now = now.wall;
        let hub = self.hubs.get_mut(account).unwrap();
        hub.handle(now, input);
        self.outputs(account);
        self.end_slow();
    }

    /// Carries out what a hub wants done.
    pub(crate) fn outputs(&mut self, account: &str) {
        let hub = self.hubs.get_mut(account).unwrap();
        let mut outputs = Vec::new();
        while let Some(output) = hub.poll_output() {
            outputs.push(output);
        }
        for output in outputs {
            self.output(account, output);
        }
    }

    /// The shell ends a session that does not keep up (resource-constraint), and that one alone.
    pub(crate) fn end_slow(&mut self) {
        for id in std::mem::take(&mut self.overrun) {
            let account = bare(&self.sessions[&id].jid).to_owned();
            let available = self.sessions[&id].available;
            self.ended(&account, id, available, None);
        }
    }

    fn ended(&mut self, account: &str, id: u64, available: bool, served: Option<u64>) {
        let session = SessionId(id);
        let ended = Input::SessionEnded {
            session,
            available,
            served,
        };
        self.input(account, ended);
    }

    fn output(&mut self, account: &str, output: Output) {
        match output {
            Output::ToClient {
                session,
                stanza,
                owned,
                urgency,
                mark,
            } => {
                let bytes = stanza.to_bytes();
                let xml = String::from_utf8(bytes.to_vec()).unwrap();
                self.deliver(session.0, xml, urgency);
                if let Some(session) = self.sessions.get_mut(&session.0) {
                    session.owned += owned;
                    if mark != 0 {
                        let last = session.marks.last().map_or(0, |(_, mark)| *mark);
                        assert!(mark > last, "a mark that does not grow");
                        session.marks.push((session.all.len(), mark));
                    }
                }
            }
            Output::ToServer { uplink, stanza } => {
                let xml = String::from_utf8(stanza.to_bytes().to_vec()).unwrap();
                self.check_upstream(account, uplink.0, &xml);
                if let Some(trace) = &mut self.trace {
                    trace.push(Trace::Up(uplink.0, parse(&xml)));
                }
                self.push_up(uplink.0, xml);
            }
            Output::Carry { uplink, room } => {
                let known = self.uplinks.get_mut(&uplink.0).unwrap();
                assert!(known.open, "a closed uplink is to carry {room}");
                if let Some(bytes) = known.routes.carry(&room) {
                    known
                        .up
                        .push_back(String::from_utf8(bytes.to_vec()).unwrap());
                }
            }
            Output::Persist(change) => {
                let store = self.stores.entry(account.to_owned()).or_default();
                store.apply(*change);
            }
            Output::Retain { uplink } => self.retain(uplink.0),
            Output::Release { uplink } => {
                if let Some(trace) = &mut self.trace {
                    trace.push(Trace::Release(uplink.0));
                }
                self.release(uplink.0);
            }
        }
    }

    fn check_upstream(&self, account: &str, uplink: u64, xml: &str) {
        let uplink = &self.uplinks[&uplink];
        assert!(uplink.open, "to a closed uplink: {xml}");
        assert!(!uplink.cut, "to an uplink that was cut: {xml}");
        assert_eq!(uplink.account, account, "on a foreign uplink: {xml}");
        if let Some(from) = parse(xml).from() {
            assert_eq!(bare(&from), account, "{xml}");
            assert!(
                !from.contains('/') || *from == uplink.jid,
                "in another session's name: {xml}"
            );
        }
    }

    pub(crate) fn deliver(&mut self, id: u64, xml: String, urgency: Urgency) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        if !session.alive {
            return;
        }
        let frame = parse(&xml);
        if let Some(to) = frame.to() {
            let own = *to == session.jid || &*to == bare(&session.jid);
            assert!(
                own,
                "addressed to somebody else than {}: {xml}",
                session.jid
            );
        }
        // A carbon names the session that has sent what it is a copy of (XEP-0280 7).
        let copy = xml.contains("urn:xmpp:carbons:2");
        let sessions = self.sessions.values().map(|other| &other.jid);
        let streams = self.uplinks.values().map(|other| &other.jid);
        for other in sessions.chain(streams).filter(|_| !copy) {
            let shows = xml.contains(&format!("'{other}'"));
            assert!(
                !shows || *other == session.jid || bare(other) != bare(&session.jid),
                "{} sees {other}: {xml}",
                session.jid,
            );
        }
        if let Some(story) = &mut self.story {
            story.push(format!("    {}  <-  {xml}", self.sessions[&id].jid));
        }
        let Session {
            csi,
            inbox,
            all,
            room_left,
            alive,
            withheld,
            ..
        } = self.sessions.get_mut(&id).unwrap();
        if let Some(left) = room_left {
            if *left < xml.len() {
                *alive = false;
                *withheld = None;
                self.overrun.push(id);
                return;
            }
            *left -= xml.len();
        }
        csi.pass(urgency, Bytes::from(xml).into(), (), written(inbox, all));
    }

    fn push_up(&mut self, uplink: u64, xml: String) {
        let uplink = self.uplinks.get_mut(&uplink).unwrap();
        if uplink.replaced {
            return;
        }
        if let Some(story) = &mut self.story {
            story.push(format!("        {} ->> server  {xml}", uplink.jid));
        }
        uplink.sent.push(xml.clone());
        uplink.up.push_back(xml);
    }

    fn release(&mut self, id: u64) {
        let uplink = self.uplinks.get_mut(&id).unwrap();
        let session = uplink.session.filter(|id| self.sessions[id].alive);
        match session.filter(|id| !self.sessions[id].asleep) {
            Some(session) => {
                let session = self.sessions.get_mut(&session).unwrap();
                let mut held = session.withheld.take().unwrap_or_default();
                if let Some(first) = held.pop_front() {
                    self.push_up(id, first);
                }
                let id = self.uplinks[&id].session.unwrap();
                for xml in held {
                    self.send(id, &xml);
                }
            }
            None => self.let_go(id),
        }
    }

    /// A client sends a stanza.
    pub(crate) fn send(&mut self, id: u64, xml: &str) {
        let session = self.sessions.get_mut(&id).unwrap();
        if !session.alive || session.asleep {
            return;
        }
        if let Some(held) = &mut session.withheld {
            held.push_back(xml.to_owned());
            return;
        }
        let uplink = session.uplink;
        let account = bare(&session.jid).to_owned();
        if let Some(story) = &mut self.story {
            story.push(format!("    {}  ->  {xml}", session.jid));
        }
        let frame = parse(xml);
        match self
            .uplinks
            .get_mut(&uplink)
            .unwrap()
            .routes
            .from_client(&frame)
        {
            ClientRoute::Direct => self.push_up(uplink, xml.to_owned()),
            ClientRoute::Hub => {
                let session = SessionId(id);
                self.input(&account, Input::FromClient { session, frame });
            }
            ClientRoute::Withhold => {
                session.withheld = Some(VecDeque::from([xml.to_owned()]));
                let session = SessionId(id);
                self.input(&account, Input::SessionUnavailable { session });
            }
            ClientRoute::Answer(bytes) => {
                let xml = String::from_utf8(bytes.to_vec()).unwrap();
                session.inbox.push(xml);
            }
            ClientRoute::ClientState { active, upstream } => {
                if upstream {
                    self.push_up(uplink, xml.to_owned());
                }
                let Session {
                    csi, inbox, all, ..
                } = self.sessions.get_mut(&id).unwrap();
                if active {
                    csi.active(written(inbox, all));
                } else {
                    csi.inactive();
                }
            }
            ClientRoute::Consumed => {}
            ClientRoute::Refuse(..) => session.refused = true,
        }
    }

    /// The client is gone: closed its stream, or was cut.
    pub(crate) fn cut(&mut self, id: u64) {
        self.end_session(id, None);
    }

    /// The session is lost for good: its client has surely had so many of the stanzas it was sent.
    pub(crate) fn lose_client(&mut self, id: u64, had: usize) {
        let served = self.mark_of(id, had);
        self.end_session(id, Some(served));
    }

    /// The mark of a client that has had so many of the stanzas it was sent.
    pub(crate) fn mark_of(&self, id: u64, had: usize) -> u64 {
        let marks = self.sessions[&id].marks.iter();
        let had = marks.take_while(|(count, _)| *count <= had);
        had.last().map_or(0, |(_, mark)| *mark)
    }

    fn end_session(&mut self, id: u64, served: Option<u64>) {
        let session = self.sessions.get_mut(&id).unwrap();
        if !std::mem::take(&mut session.alive) {
            return;
        }
        session.withheld = None;
        let (account, available) = (bare(&session.jid).to_owned(), session.available);
        self.ended(&account, id, available, served);
    }

    /// When something is due next, counted from the beginning.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let due = self.hubs.values().filter_map(Hub::next_timeout).min()?;
        Some(due - self.start)
    }

    /// Time passes; nothing is delivered.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.elapsed + time;
        loop {
            let due = self
                .hubs
                .iter()
                .filter_map(|(account, hub)| Some((hub.next_timeout()?, account.clone())))
                .min();
            match due {
                Some((at, account)) if at <= self.start + end => {
                    let before = self.elapsed;
                    self.elapsed = before.max(at - self.start);
                    self.input(&account, Input::Timeout);
                    let next = self.hubs[&account].next_timeout();
                    assert!(
                        next.is_none_or(|next| next > at),
                        "a timeout that stays due"
                    );
                }
                _ => break,
            }
        }
        self.elapsed = end;
        self.service.now = self.wall();
    }

    pub(crate) fn withholds(&self, session: u64) -> bool {
        self.sessions[&session].withheld.is_some()
    }

    pub(crate) fn up(&self, session: u64) -> u64 {
        self.sessions[&session].uplink
    }

    /// Nothing is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.uplinks
            .values()
            .all(|it| !it.flows() || it.up.is_empty() && it.down.is_empty())
    }
}
