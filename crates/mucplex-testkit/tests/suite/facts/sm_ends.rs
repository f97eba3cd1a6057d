//! What becomes of the stanzas that a hibernated session was owed (XEP-0198), when it ends in one
//! way or another, and when they become too many.

use std::time::Duration;

use mucplex_testkit::client::{Answers, Client, Device, Login, Loss};
use mucplex_testkit::server::{Account, Feature, Kind, Options, Server, StreamManagement};
use mucplex_testkit::xml::Stanza;

use crate::stage::{Record, Stage};

crate::on_each_server!(
    timed_out,
    timed_out_beside_another,
    timed_out_and_sent_again,
    timed_out_without_an_archive,
    replaced,
    server_restarted,
    server_killed,
    too_many,
);

/// How a hibernated session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    TimeOut,
    Replaced,
    Restarted,
    Killed,
}

/// One way for a session to end.
#[derive(Debug, Clone, Copy)]
struct Case {
    end: End,
    /// Another session of the account is available.
    beside: bool,
    /// What is left is delivered again, where the server knows that.
    resend: bool,
    /// The account has an archive.
    archive: bool,
}

impl Case {
    fn new(end: End) -> Self {
        Self {
            end,
            beside: false,
            resend: false,
            archive: true,
        }
    }

    fn options(self) -> Options {
        Options {
            stream_management: StreamManagement {
                resume_timeout: Some(2),
                resend: self.resend,
                ..StreamManagement::default()
            },
            without: if self.archive {
                Vec::new()
            } else {
                vec![Feature::Archive]
            },
            ..Options::default()
        }
    }
}

/// Everything that was sent to the phone and is kept by what keeps messages.
const ALL: usize = 8;

async fn timed_out(kind: Kind) {
    let found = leftovers(kind, "sm-timed-out", Case::new(End::TimeOut)).await;
    // ejabberd leaves it to the archive.
    let offline = if kind == Kind::Prosody { ALL } else { 0 };
    assert_eq!(found.phone.len(), offline, "{found:?}");
    assert_eq!(found.sender, 0, "{found:?}");
}

async fn timed_out_beside_another(kind: Kind) {
    let case = Case {
        beside: true,
        ..Case::new(End::TimeOut)
    };
    let found = leftovers(kind, "sm-timed-out-beside", case).await;
    assert_eq!(found.phone.len(), 0, "{found:?}");
    // Prosody tells the senders that nobody has got it.
    assert_eq!(found.sender > 0, kind == Kind::Prosody, "{found:?}");
}

async fn timed_out_and_sent_again(kind: Kind) {
    let case = Case {
        beside: true,
        resend: true,
        ..Case::new(End::TimeOut)
    };
    let found = leftovers(kind, "sm-timed-out-resend", case).await;
    let bare = 2;
    let again = if kind == Kind::Ejabberd { ALL } else { 0 };
    assert!(found.laptop.len() >= bare + again, "{found:?}");
}

async fn timed_out_without_an_archive(kind: Kind) {
    let case = Case {
        archive: false,
        ..Case::new(End::TimeOut)
    };
    leftovers(kind, "sm-timed-out-no-archive", case).await;
}

async fn replaced(kind: Kind) {
    let found = leftovers(kind, "sm-replaced", Case::new(End::Replaced)).await;
    let offline = if kind == Kind::Prosody { ALL } else { 0 };
    assert_eq!(found.other.len(), offline, "{found:?}");
    let case = Case {
        beside: true,
        ..Case::new(End::Replaced)
    };
    let found = leftovers(kind, "sm-replaced-beside", case).await;
    assert_eq!(found.other.len(), 0, "{found:?}");
}

async fn server_restarted(kind: Kind) {
    let found = leftovers(kind, "sm-restarted", Case::new(End::Restarted)).await;
    let offline = if kind == Kind::Prosody { ALL } else { 0 };
    assert_eq!(found.phone.len(), offline, "{found:?}");
}

async fn server_killed(kind: Kind) {
    let found = leftovers(kind, "sm-killed", Case::new(End::Killed)).await;
    assert_eq!(found.phone.len(), 0, "{found:?}");
}

/// The bodies in an archive: the account's own, or a room's.
pub(super) async fn archive(client: &mut Client, of: Option<&str>) -> Vec<String> {
    let id = client
        .send_iq("set", of, "<query xmlns='urn:xmpp:mam:2' queryid='q'/>")
        .await
        .unwrap();
    let mut bodies = Vec::new();
    loop {
        let stanza = client.recv_for("the archive").await.unwrap();
        if stanza.name() == "iq" && stanza.id() == Some(&id) {
            return bodies;
        }
        let raw = stanza.raw_str();
        if let (true, Some((_, rest))) = (raw.contains("urn:xmpp:mam:2"), raw.split_once("<body>"))
        {
            bodies.extend(rest.split_once("</body>").map(|(body, _)| body.to_owned()));
        }
    }
}

fn bodies(stanzas: &[Stanza]) -> Vec<String> {
    let errors = |it: &Stanza| it.error_condition().map(str::to_owned);
    stanzas
        .iter()
        .filter(|it| it.name() == "message")
        .filter_map(|it| match errors(it) {
            Some(condition) => Some(format!(
                "{}: {condition}",
                it.body().or(it.id().map(str::to_owned))?
            )),
            None => it.body(),
        })
        .collect()
}

/// What people send while the phone is away, or before, unacknowledged.
async fn send_all(desk: &mut Client, full: &str, room: &str, when: &str) {
    let bare = full.split('/').next().unwrap();
    let messages = [
        ("chat", full, "full chat"),
        ("normal", full, "full normal"),
        ("chat", bare, "bare chat"),
        ("groupchat", room, "room"),
        ("chat", &format!("{room}/alice"), "room pm"),
    ];
    for (kind, to, body) in messages {
        let id = desk.new_id("m");
        desk.send_raw(format!(
            "<message type='{kind}' to='{to}' id='{id} {body}'><body>{when}: {body}</body></message>"
        ))
        .await
        .unwrap();
    }
    let version = "<query xmlns='jabber:iq:version'/>";
    desk.send_iq("get", Some(full), version).await.unwrap();
}

/// Who has got the bodies that were left.
#[derive(Debug, Default)]
struct Found {
    /// The session that has replaced the lost one.
    other: Vec<String>,
    laptop: Vec<String>,
    /// The phone, when it has come back.
    phone: Vec<String>,
    /// How many errors the sender has got for messages.
    sender: usize,
}

/// Loses a phone with all kinds of stanzas not acknowledged, ends its session, and writes down who
/// gets what.
async fn leftovers(kind: Kind, name: &'static str, case: Case) -> Found {
    let mut server = Server::start_with(kind, case.options()).await.unwrap();
    let mut record = Record::new(kind, name);
    let mut found = Found::default();
    record.note(&format!("{case:?}"));
    let alice = server.account("alice").await.unwrap();
    let bob = server.account("bob").await.unwrap();
    let room = server.new_room(name);
    let mut desk = bob.direct().resource("desk").connect().await.unwrap();
    desk.create_room(&room, "bob").await.unwrap();
    let login = alice.direct().resource("phone");
    let mut phone = joined(&login, &room).await;
    let mut laptop = if case.beside {
        Some(available(&alice, "laptop").await)
    } else {
        None
    };
    phone.answer(Answers::Never);
    let full = phone.jid().to_owned();
    send_all(&mut desk, &full, &room, "before").await;
    desk.settle(&room).await.unwrap();
    phone.lose(Loss::Reset);
    send_all(&mut desk, &full, &room, "away").await;
    let seen = desk.settle(&room).await.unwrap();
    record.note(&format!("meanwhile bob gets {:?}", bodies(&seen)));
    match case.end {
        End::TimeOut => {}
        End::Replaced => found.other = replace(&mut record, &login).await,
        End::Restarted => server.stop().await.unwrap(),
        End::Killed => server.kill(),
    }
    let mut seen = Vec::new();
    if matches!(case.end, End::Restarted | End::Killed) {
        while let Ok(stanza) = desk.recv().await {
            seen.push(stanza);
        }
        server.restart().await.unwrap();
        desk = bob.direct().resource("desk").connect().await.unwrap();
        let joined = desk.join(&room, "bob").await.unwrap();
        record.note(&format!("the room has {:?}", joined.nicks()));
    } else {
        desk.set_timeout(Duration::from_secs(30));
        let left = |it: &Stanza| {
            it.from() == Some(&format!("{room}/alice")) && it.kind() == Some("unavailable")
        };
        while !seen.iter().any(left) {
            seen.push(desk.recv_for("the phone to be gone").await.unwrap());
        }
    }
    seen.extend(desk.settle(&room).await.unwrap());
    let errors = |it: &&Stanza| it.name() == "message" && it.kind() == Some("error");
    found.sender = seen.iter().filter(errors).count();
    record.show("bob", &seen);
    if let Some(laptop) = &mut laptop {
        found.laptop = bodies(&laptop.settle(&room).await.unwrap());
        record.note(&format!("the laptop gets {:?}", found.laptop));
    }
    found.phone = after(&mut record, &mut phone).await;
    found
}

/// A phone in the room, which has acknowledged everything.
async fn joined(login: &Login, room: &str) -> Device {
    let mut phone = Device::connect(login.clone()).await.unwrap();
    phone.available().await.unwrap();
    phone.join(room, "alice").await.unwrap();
    phone.settle(room).await.unwrap();
    phone.ack().await.unwrap();
    phone.request_ack().await.unwrap();
    phone
}

async fn available(account: &Account, resource: &str) -> Client {
    let login = account.direct().resource(resource);
    let mut client = login.connect().await.unwrap();
    client.available().await.unwrap();
    client.drain_until_pong().await.unwrap();
    client
}

/// Binds the resource of the lost session; gives what the new one gets.
async fn replace(record: &mut Record, login: &Login) -> Vec<String> {
    let mut other = login.connect().await.unwrap();
    record.note(&format!("bound again as {}", other.jid()));
    let seen = other.drain_until_pong().await.unwrap();
    record.show("the new phone, before its presence", &seen);
    other.available().await.unwrap();
    let seen = other.drain_until_pong().await.unwrap();
    record.show("the new phone", &seen);
    bodies(&seen)
}

/// What the phone finds when it comes back.
async fn after(stage: &mut Record, phone: &mut Device) -> Vec<String> {
    let resumption = phone.resume().await.unwrap().failed();
    stage.show("the phone", [&resumption]);
    phone.bind().await.unwrap();
    phone.available().await.unwrap();
    let seen = phone.drain_until_pong().await.unwrap();
    stage.note(&format!(
        "the phone comes back and gets {:?}",
        bodies(&seen)
    ));
    stage.show("the phone", &seen);
    let archived = archive(phone, None).await;
    stage.note(&format!("in the archive: {archived:?}"));
    bodies(&seen)
}

/// More stanzas than may wait for their acknowledgement: 30, where 20 may.
async fn too_many(kind: Kind) {
    let options = Options {
        stream_management: StreamManagement {
            max_unacked: Some(20),
            ..StreamManagement::default()
        },
        ..Options::default()
    };
    let mut stage = Stage::with(kind, "sm-too-many", options).await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    for how in [Behind::Reads, Behind::DoesNotRead, Behind::IsAway] {
        let mut desk = stage.session(&bob, "desk").await;
        let mut phone = Device::connect(alice.direct().resource("phone"))
            .await
            .unwrap();
        phone.answer(Answers::Never);
        let jid = phone.jid().to_owned();
        if how == Behind::IsAway {
            phone.lose(Loss::Reset);
        }
        for number in 0..30 {
            let body = format!("<body>{how:?} {number}</body>");
            desk.send_raw(format!("<message type='chat' to='{jid}'>{body}</message>"))
                .await
                .unwrap();
        }
        let seen = stage.settle("bob", &mut desk).await;
        stage.note(&format!("{how:?}; bob gets {:?}", bodies(&seen)));
        if how == Behind::Reads {
            let seen = phone.drain_until_pong().await;
            let count = seen.as_ref().map(Vec::len);
            stage.note(&format!("read {:?}", count.map_err(ToString::to_string)));
            assert_eq!(seen.is_ok(), kind == Kind::Prosody, "the stream lives");
        }
        phone.lose(Loss::Reset);
        let resumed = phone.resume().await;
        let brief = match &resumed {
            Ok(resumption) => format!("{resumption:?}"),
            Err(error) => error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        stage.note(&format!("resumed: {brief}"));
        // Prosody counts when the stream is to be resumed, so who has read it all gets away.
        let survives = how == Behind::Reads && kind == Kind::Prosody;
        assert_eq!(phone.is_connected(), survives, "{brief}");
        if !survives {
            phone.bind().await.unwrap();
            phone.available().await.unwrap();
        }
        let seen = phone.drain_until_pong().await.unwrap();
        stage.note(&format!("then it gets {:?}", bodies(&seen)));
        let archived = archive(&mut phone, None).await.len();
        stage.note(&format!("{archived} in the first page of the archive"));
        phone.end().await.unwrap();
    }
}

/// How a client acknowledges nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Reads,
    DoesNotRead,
    IsAway,
}
