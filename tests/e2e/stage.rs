//! A server, the proxy in front of it, and a tap between the two that counts.

use std::time::Duration;

use mucplex_testkit::Element;
use mucplex_testkit::client::{Client, Login, Security};
use mucplex_testkit::proxy::{Proxy, Setup};
use mucplex_testkit::rooms::{Room, Service};
use mucplex_testkit::server::{Account, Kind, Options, Server};
use mucplex_testkit::tap::Tap;
use mucplex_testkit::tls::Trust;
use mucplex_testkit::xml::{NS_CLIENT, NS_DELAY, NS_MUC_ADMIN, Stanza, escape};
use tokio::sync::{OnceCell, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::raw::{WITHOUT_ANCHORS, uncounted};

/// A running proxy and the tap by which it reaches its server.
pub(crate) struct Front {
    pub(crate) proxy: Proxy,
    pub(crate) tap: Tap,
    trust: Trust,
}

impl Front {
    /// A proxy of one test's own, with more sections in its configuration.
    ///
    /// It has no anchors, so that sessions' own uplinks are what carries rooms.
    pub(crate) async fn start(server: &Server, sections: &str) -> Self {
        Self::start_with(server, &format!("{WITHOUT_ANCHORS}\n{sections}")).await
    }

    /// The same with anchors.
    pub(crate) async fn with_anchors(server: &Server, sections: &str) -> Self {
        Self::start_with(server, sections).await
    }

    async fn start_with(server: &Server, sections: &str) -> Self {
        let tap = Tap::start(server.plain()).await.unwrap();
        let proxy = Setup::new(tap.address())
            .section(sections)
            .start()
            .await
            .unwrap();
        let trust = proxy.trust();
        Self { proxy, tap, trust }
    }

    async fn shared(server: &Server) -> &'static Self {
        static PROSODY: OnceCell<Front> = OnceCell::const_new();
        static EJABBERD: OnceCell<Front> = OnceCell::const_new();
        let cell = match server.kind() {
            Kind::Prosody => &PROSODY,
            Kind::Ejabberd => &EJABBERD,
        };
        cell.get_or_init(|| Self::start(server, "")).await
    }

    /// A login through this proxy.
    pub(crate) fn login(&self, account: &Account) -> Login {
        let security = Security::StartTls(self.trust.clone());
        account.login(self.proxy.starttls()).security(security)
    }

    /// A session through this proxy.
    pub(crate) async fn session(&self, account: &Account, resource: &str) -> Client {
        self.login(account)
            .resource(resource)
            .connect()
            .await
            .unwrap()
    }

    /// The connection of the tap that is the session's own uplink; of two with one full JID, the
    /// newer one.
    pub(crate) fn uplink(&self, session: &Client) -> usize {
        let bound = format!("<jid>{}</jid>", session.jid());
        let recordings = self.tap.recordings();
        let newest = recordings
            .iter()
            .rposition(|recording| recording.count_down(&bound) > 0);
        newest.expect("a session has an uplink")
    }

    /// Waits until the proxy has logged this, at most 10 s.
    pub(crate) async fn logged(&self, text: &str) {
        let said = async {
            while !self.proxy.output().contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(10), said).await;
        assert!(said.is_ok(), "not logged: {text}");
    }

    /// Bytes that have gone to the server so far, on all uplinks, but for those of stream
    /// management.
    pub(crate) fn sent_upstream(&self) -> usize {
        let recordings = self.tap.recordings();
        recordings.iter().map(|it| uncounted(&it.up).len()).sum()
    }

    /// Waits until the proxy has no more use for this uplink: what a session's end causes has been
    /// sent by then.
    pub(crate) async fn released(&self, uplink: usize) {
        let closed = self
            .tap
            .wait_until(|recordings| recordings[uplink].closed)
            .await;
        assert!(closed, "the uplink is still open");
    }
}

/// What one test plays on: a shared server and proxy, and a room and accounts of its own.
pub(crate) struct Stage {
    pub(crate) kind: Kind,
    pub(crate) server: &'static Server,
    pub(crate) front: &'static Front,
    /// A room that no other test uses. It does not exist until somebody joins it.
    pub(crate) room: String,
    /// Sessions are connected past the proxy: the run that a transparent proxy must equal.
    pub(crate) direct: bool,
}

impl Stage {
    pub(crate) async fn new(kind: Kind, name: &str) -> Self {
        let server = Server::shared(kind).await;
        let front = Front::shared(server).await;
        let room = server.new_room(&name.replace('_', "-"));
        Self {
            kind,
            server,
            front,
            room,
            direct: false,
        }
    }

    /// The same on a server whose rooms keep an archive, and which may log rooms.
    pub(crate) async fn archived(&self) -> Self {
        static PROSODY: OnceCell<(Server, Front)> = OnceCell::const_new();
        static EJABBERD: OnceCell<(Server, Front)> = OnceCell::const_new();
        let (cell, extra) = match self.kind {
            Kind::Prosody => (&PROSODY, ""),
            Kind::Ejabberd => (&EJABBERD, "  mod_muc_log:\n    access_log: anyone"),
        };
        let options = Options {
            room_archive: true,
            extra: extra.to_owned(),
            ..Options::default()
        };
        self.with(cell, options).await
    }

    /// The same on a server that pushes (XEP-0357).
    pub(crate) async fn pushing(&self) -> Self {
        static PROSODY: OnceCell<(Server, Front)> = OnceCell::const_new();
        static EJABBERD: OnceCell<(Server, Front)> = OnceCell::const_new();
        let cell = match self.kind {
            Kind::Prosody => &PROSODY,
            Kind::Ejabberd => &EJABBERD,
        };
        let options = Options {
            push: true,
            ..Options::default()
        };
        self.with(cell, options).await
    }

    /// The same on a server that takes commands. Its rooms may lose their occupants at any time.
    pub(crate) async fn administered(&self) -> Self {
        static PROSODY: OnceCell<(Server, Front)> = OnceCell::const_new();
        static EJABBERD: OnceCell<(Server, Front)> = OnceCell::const_new();
        let cell = match self.kind {
            Kind::Prosody => &PROSODY,
            Kind::Ejabberd => &EJABBERD,
        };
        let options = Options {
            commands: true,
            ..Options::default()
        };
        self.with(cell, options).await
    }

    /// The same on a server that keeps SCRAM keys instead of passwords.
    pub(crate) async fn hashed(&self) -> Self {
        static PROSODY: OnceCell<(Server, Front)> = OnceCell::const_new();
        static EJABBERD: OnceCell<(Server, Front)> = OnceCell::const_new();
        let cell = match self.kind {
            Kind::Prosody => &PROSODY,
            Kind::Ejabberd => &EJABBERD,
        };
        let options = Options {
            hashed_passwords: true,
            ..Options::default()
        };
        self.with(cell, options).await
    }

    /// The same on the server of this cell, which is started with these options.
    async fn with(&self, cell: &'static OnceCell<(Server, Front)>, options: Options) -> Self {
        let start = async || {
            let server = Server::start_with(self.kind, options).await.unwrap();
            let front = Front::start(&server, "").await;
            (server, front)
        };
        let (server, front) = cell.get_or_init(start).await;
        let (kind, direct) = (self.kind, self.direct);
        Self {
            kind,
            server,
            front,
            room: server.new_room("other"),
            direct,
        }
    }

    /// A proxy of the test's own in front of the same server: for what is counted or cut on its
    /// tap, or needs other settings.
    pub(crate) async fn own_front(&self, sections: &str) -> Front {
        Front::start(self.server, sections).await
    }

    /// A room that does what the test says, on the same server, and that no other test uses.
    pub(crate) async fn scripted(&self, name: &str) -> Room {
        Service::shared(self.kind).await.new_room(name)
    }

    /// A new account.
    pub(crate) async fn account(&self, name: &str) -> Account {
        self.server.account(name).await.unwrap()
    }

    /// A session of the account: through the proxy, or directly where the stage says so.
    pub(crate) async fn session(&self, account: &Account, resource: &str) -> Client {
        let login = if self.direct {
            account.direct()
        } else {
            self.front.login(account)
        };
        login.resource(resource).connect().await.unwrap()
    }

    /// A session that goes past the proxy: the others in the room.
    pub(crate) async fn outsider(&self, account: &Account, resource: &str) -> Client {
        account.direct().resource(resource).connect().await.unwrap()
    }

    /// A room with `bob`, connected directly, who has created it and owns it.
    pub(crate) async fn room_with_bob(&self) -> Client {
        let mut bob = self.outsider(&self.account("bob").await, "desk").await;
        bob.create_room(&self.room, "bob").await.unwrap();
        bob
    }

    /// One more direct occupant of the room, under its account's name.
    pub(crate) async fn guest(&self, name: &str) -> Client {
        let mut guest = self.outsider(&self.account(name).await, "desk").await;
        guest.join(&self.room, name).await.unwrap();
        guest
    }

    /// Direct occupants `c1`, `c2`, … of `room`, all of one account. They read nothing.
    pub(crate) async fn crowd(&self, room: &str, size: usize) -> Vec<Client> {
        let account = self.account("crowd").await;
        let mut joins = JoinSet::new();
        for number in 1..=size {
            let (account, room) = (account.clone(), room.to_owned());
            joins.spawn(async move {
                let login = account.direct().resource(&format!("r{number}"));
                let mut client = login.connect().await.unwrap();
                client.join(&room, &format!("c{number}")).await.unwrap();
                client
            });
        }
        joins.join_all().await
    }
}

/// A barrier in the room: `speaker` sends a mark that nobody else sends, and each listener gives
/// what it has received up to it. A room tells everybody everything in one order, so after the
/// mark nothing can come that happened before it. It has no body, so rooms do not keep it.
pub(crate) async fn mark<const N: usize>(
    speaker: &mut Client,
    room: &str,
    listeners: [&mut Client; N],
) -> [Vec<Stanza>; N] {
    let heard = mark_each(speaker, room, listeners.into()).await;
    heard.try_into().unwrap()
}

/// The same for any number of listeners.
pub(crate) async fn mark_each(
    speaker: &mut Client,
    room: &str,
    listeners: Vec<&mut Client>,
) -> Vec<Vec<Stanza>> {
    let id = speaker.new_id("mark");
    let id = format!("{id} of {}", speaker.jid());
    let room = escape(room);
    let mark = format!(
        "<message type='groupchat' id='{}' to='{room}'><mark xmlns='urn:mark'/></message>",
        escape(&id)
    );
    speaker.send_raw(mark).await.unwrap();
    let is_it = |stanza: &Stanza| stanza.kind() == Some("groupchat") && stanza.id() == Some(&id);
    speaker.wait_for("its own mark", is_it).await.unwrap();
    let mut heard = Vec::new();
    for listener in listeners {
        let mut seen = through(listener, &id, is_it).await;
        seen.pop();
        heard.push(seen);
    }
    heard
}

/// The same barrier in a scripted room, where the room sends the mark, to one occupant: what its
/// sessions have received up to it.
pub(crate) async fn marked<const N: usize>(
    room: &Room,
    nick: &str,
    listeners: [&mut Client; N],
) -> [Vec<Stanza>; N] {
    let id = room.mark(nick);
    let mut heard = Vec::with_capacity(N);
    for listener in listeners {
        let mut seen = through(listener, "the mark", |it| it.id() == Some(&id)).await;
        seen.pop();
        heard.push(seen);
    }
    heard.try_into().unwrap()
}

/// What a client receives until the groupchat message with this body, which is left out.
pub(crate) async fn until(client: &mut Client, body: &str) -> Vec<Stanza> {
    let mut seen = Vec::new();
    loop {
        let stanza = client
            .recv_for(&format!("the message {body:?}"))
            .await
            .unwrap();
        let is_it = stanza.kind() == Some("groupchat") && stanza.body().as_deref() == Some(body);
        if is_it {
            return seen;
        }
        seen.push(stanza);
    }
}

/// The item of an admin request (XEP-0045 9 and 10), sent by one who may, and its result.
pub(crate) async fn moderate(client: &mut Client, room: &str, item: &str) {
    let query = format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>");
    let answer = client.iq("set", Some(room), &query).await.unwrap();
    assert_eq!(answer.kind(), Some("result"), "{answer:?}");
}

/// What a client gets next, until and including the first stanza that satisfies `last`.
pub(crate) async fn through(
    client: &mut Client,
    what: &str,
    last: impl Fn(&Stanza) -> bool,
) -> Vec<Stanza> {
    let mut seen = Vec::new();
    loop {
        seen.push(client.recv_for(what).await.unwrap());
        if seen.last().is_some_and(&last) {
            return seen;
        }
    }
}

/// Leaves, and gives what the session gets until and including the answer.
pub(crate) async fn leave(client: &mut Client, room: &str, nick: &str) -> Vec<Stanza> {
    client.leave(room, nick, None).await.unwrap();
    let from = format!("{room}/{nick}");
    let answer =
        |stanza: &Stanza| stanza.from() == Some(&from) && stanza.kind() == Some("unavailable");
    through(client, "the answer to the leave", answer).await
}

/// The nick a stanza comes from, or `(room)`.
pub(crate) fn nick(stanza: &Stanza) -> &str {
    let from = stanza.from().unwrap_or_default();
    from.split_once('/').map_or("(room)", |(_, nick)| nick)
}

/// Bodies of the groupchat messages among stanzas.
pub(crate) fn bodies(stanzas: &[Stanza]) -> Vec<String> {
    let groupchat = stanzas
        .iter()
        .filter(|stanza| stanza.kind() == Some("groupchat"));
    groupchat.filter_map(Stanza::body).collect()
}

/// Stanzas as lines that are the same on each server and for each receiver: who, what, and the
/// status codes. Presences by which ejabberd's rooms tell their own capabilities are left out.
pub(crate) fn outline<'a>(stanzas: impl IntoIterator<Item = &'a Stanza>) -> Vec<String> {
    let about_room = |stanza: &Stanza| {
        stanza.name() == "presence" && stanza.kind().is_none() && nick(stanza) == "(room)"
    };
    let stanzas = stanzas.into_iter();
    stanzas
        .filter(|stanza| !about_room(stanza))
        .map(line)
        .collect()
}

fn line(stanza: &Stanza) -> String {
    let nick = nick(stanza);
    let mut codes = stanza.statuses();
    codes.sort_unstable();
    let codes: String = codes.iter().map(|code| format!(" {code}")).collect();
    if stanza.kind() == Some("error") {
        let condition = stanza.error_condition().unwrap_or("?");
        return format!("{} error {nick} {condition}", stanza.name());
    }
    match stanza.name() {
        "presence" => {
            let kind = stanza
                .kind()
                .map(|kind| format!(" {kind}"))
                .unwrap_or_default();
            let standing = stanza.item().map(|item| {
                let value = |name| item.attr(name).unwrap_or_default();
                format!(" {}/{}", value("affiliation"), value("role"))
            });
            let show = stanza
                .get_child("show", NS_CLIENT)
                .map(|show| format!(" {}", show.text()));
            let (standing, show) = (standing.unwrap_or_default(), show.unwrap_or_default());
            format!("presence {nick}{kind}{standing}{show}{codes}")
        }
        "message" if stanza.is_subject() => {
            let subject = stanza.get_child("subject", NS_CLIENT).map(Element::text);
            format!("subject by {nick}: {}", subject.unwrap_or_default())
        }
        "message" => {
            let earlier = if stanza.has_child("delay", NS_DELAY) {
                ", earlier"
            } else {
                ""
            };
            let kind = stanza.kind().filter(|kind| *kind != "groupchat");
            let kind = kind.map(|kind| format!("({kind}) ")).unwrap_or_default();
            let body = stanza.body().unwrap_or("(no body)".to_owned());
            format!("{kind}{nick}{earlier}: {body}{codes}")
        }
        name => format!("{name} {} {nick}", stanza.kind().unwrap_or_default()),
    }
}

/// The bytes of stanzas as any session of the account would get them: without the session's own
/// full JID, which stands in `to` and may stand in the account's own items.
pub(crate) fn impersonal(client: &Client, stanzas: &[Stanza]) -> Vec<String> {
    let jid = client.jid();
    stanzas
        .iter()
        .map(|stanza| stanza.raw_str().replace(jid, "(session)"))
        .collect()
}

/// How fast a [`Talk`] goes: rooms keep 20 messages for those who come back, which are then those
/// of 200 ms.
const PACE: Duration = Duration::from_millis(10);

/// An occupant that talks all the time: `<nick> 1`, `<nick> 2`, …, each after the one before has
/// come back.
pub(crate) struct Talk {
    said: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
    task: JoinHandle<(Client, Vec<Stanza>)>,
}

impl Talk {
    pub(crate) fn start(mut client: Client, room: &str, nick: &'static str) -> Self {
        let room = room.to_owned();
        let (count, said) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            let mut seen = Vec::new();
            for number in 1_usize.. {
                pace.tick().await;
                let body = format!("{nick} {number}");
                client.say(&room, &body).await.unwrap();
                seen.extend(until(&mut client, &body).await);
                count.send_replace(number);
                if *stopped.borrow() {
                    break;
                }
            }
            (client, seen)
        });
        Self { said, stop, task }
    }

    /// Waits until so much more has been said; gives how much it is then.
    pub(crate) async fn more(&mut self, messages: usize) -> usize {
        let goal = *self.said.borrow() + messages;
        *self.said.wait_for(|said| *said >= goal).await.unwrap()
    }

    /// Ends it; gives the client, what it saw beside its own words, and how much it has said.
    pub(crate) async fn stop(self) -> (Client, Vec<Stanza>, usize) {
        self.stop.send_replace(true);
        let (client, seen) = self.task.await.unwrap();
        let said = *self.said.borrow();
        (client, seen, said)
    }
}

/// How a session comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its TCP connection is reset.
    Reset,
    /// Its TCP connection ends without an end of the stream.
    Fin,
    /// It ends its stream.
    StreamEnd,
    /// It sends undirected unavailable, and stays connected.
    Unavailable,
}

impl Ending {
    pub(crate) const ALL: [Self; 4] = [Self::Reset, Self::Fin, Self::StreamEnd, Self::Unavailable];

    /// Ends the session, and waits until the proxy is through with what that causes. Gives the
    /// client, if it is still there, and what it has got meanwhile.
    pub(crate) async fn end(
        self,
        front: &Front,
        mut client: Client,
    ) -> Option<(Client, Vec<Stanza>)> {
        let uplink = front.uplink(&client);
        match self {
            Self::Reset => client.reset_connection().unwrap(),
            Self::Fin => client.drop_connection().await.unwrap(),
            Self::StreamEnd => client.close().await.unwrap(),
            Self::Unavailable => {
                client
                    .send_raw("<presence type='unavailable'/>")
                    .await
                    .unwrap();
                let seen = client.drain_until_pong().await.unwrap();
                return Some((client, seen));
            }
        }
        front.released(uplink).await;
        None
    }
}
