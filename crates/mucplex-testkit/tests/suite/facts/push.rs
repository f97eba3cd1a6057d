//! What makes a server push (XEP-0357), and what else becomes of such a message.

use std::time::{Duration, Instant};

use mucplex_testkit::client::{Answers, Client, Device, Loss};
use mucplex_testkit::push::{Push, PushService};
use mucplex_testkit::server::{Account, Kind, Options, Server, StreamManagement};
use mucplex_testkit::xml::Stanza;

use super::sm_ends::archive;
use crate::stage::Record;

crate::on_each_server!(
    asleep,
    offline,
    gone_beside_another,
    not_acknowledged,
    longer_sleep
);

/// How long to wait for a push that does not come: Prosody collects for a second.
const NO_PUSH: Duration = Duration::from_millis(1500);

/// What may keep a message out of stores and copies.
const MARK: &str = "<push xmlns='urn:example:mark' id='1'/>";
const NO_STORE: &str = "<no-store xmlns='urn:xmpp:hints'/>";
const NO_PERMANENT_STORE: &str = "<no-permanent-store xmlns='urn:xmpp:hints'/>";
const NO_COPY: &str = "<no-copy xmlns='urn:xmpp:hints'/>";
const PRIVATE: &str = "<private xmlns='urn:xmpp:carbons:2'/>";

fn children() -> Vec<(&'static str, String)> {
    vec![
        ("body", "<body>B</body>".to_owned()),
        ("body, mark", format!("<body>B</body>{MARK}")),
        ("body, no-store", format!("<body>B</body>{MARK}{NO_STORE}")),
        (
            "body, no-permanent-store",
            format!("<body>B</body>{MARK}{NO_PERMANENT_STORE}"),
        ),
        ("body, no-copy", format!("<body>B</body>{MARK}{NO_COPY}")),
        ("body, private", format!("<body>B</body>{MARK}{PRIVATE}")),
        (
            "body, no-store, private, no-copy",
            format!("<body>B</body>{MARK}{NO_STORE}{PRIVATE}{NO_COPY}"),
        ),
        (
            "body, no-permanent-store, private, no-copy",
            format!("<body>B</body>{MARK}{NO_PERMANENT_STORE}{PRIVATE}{NO_COPY}"),
        ),
        ("no body", MARK.to_owned()),
    ]
}

/// A server that pushes, and the people on it.
struct Scene {
    kind: Kind,
    server: Server,
    service: PushService,
    alice: Account,
    desk: Client,
    /// Another session of the account, without presence.
    anchor: Client,
    room: String,
    record: Record,
}

impl Scene {
    async fn new(kind: Kind, name: &'static str, management: StreamManagement) -> Self {
        let options = Options {
            push: true,
            stream_management: management,
            ..Options::default()
        };
        let server = Server::start_with(kind, options).await.unwrap();
        let service = PushService::start(&server).await.unwrap();
        let alice = server.account("alice").await.unwrap();
        let bob = server.account("bob").await.unwrap();
        let mut desk = bob.direct().resource("desk").connect().await.unwrap();
        let room = server.new_room(name);
        desk.create_room(&room, "bob").await.unwrap();
        let anchor = alice.direct().resource("anchor").connect().await.unwrap();
        Self {
            kind,
            server,
            service,
            alice,
            desk,
            anchor,
            room,
            record: Record::new(kind, name),
        }
    }

    /// A phone in the room, for which the server pushes.
    async fn phone(&mut self) -> Device {
        let login = self.alice.direct().resource("phone");
        let mut phone = Device::connect(login).await.unwrap();
        phone.available().await.unwrap();
        let service = self.service.jid();
        phone
            .enable_push(service, "node", Some("secret"))
            .await
            .unwrap();
        phone.join(&self.room, "alice").await.unwrap();
        self.settle(&mut phone).await;
        phone
    }

    /// An available session of the account that gets carbons.
    async fn laptop(&self) -> Client {
        let login = self.alice.direct().resource("laptop");
        let mut laptop = login.connect().await.unwrap();
        laptop.available().await.unwrap();
        let enable = "<enable xmlns='urn:xmpp:carbons:2'/>";
        laptop.iq("set", None, enable).await.unwrap();
        laptop
    }

    /// Everything has been read and acknowledged.
    async fn settle(&mut self, phone: &mut Device) {
        self.desk.settle(&self.room).await.unwrap();
        phone.settle(&self.room).await.unwrap();
        phone.ack().await.unwrap();
        phone.request_ack().await.unwrap();
    }

    /// How many pushes there are for something that a person has written, and how many others.
    async fn pushed(&self) -> (usize, usize) {
        let important = |pushes: &[Push]| pushes.iter().any(is_important);
        if self.service.wait_within(NO_PUSH, important).await {
            // There may be more for the same message; Prosody collects for a second.
            tokio::time::sleep(NO_PUSH).await;
        }
        let pushes = self.service.take();
        let count = pushes.iter().filter(|push| is_important(push)).count();
        (count, pushes.len() - count)
    }
}

fn is_important(push: &Push) -> bool {
    push.field("last-message-body")
        .is_some_and(|body| !body.is_empty())
}

fn carbons(stanzas: &[Stanza]) -> usize {
    let carbon = |it: &&Stanza| it.raw_str().contains("urn:xmpp:forward:0");
    stanzas.iter().filter(carbon).count()
}

/// Sends a message and gives its id.
async fn send(from: &mut Client, kind: &str, to: &str, children: &str) -> String {
    let id = from.new_id("push");
    let kind = if kind.is_empty() {
        String::new()
    } else {
        format!(" type='{kind}'")
    };
    let children = children.replace(">B<", &format!(">{id}<"));
    from.send_raw(format!(
        "<message{kind} to='{to}' id='{id}'>{children}</message>"
    ))
    .await
    .unwrap();
    id
}

/// A phone whose connection was cut, and another session of the account that gets carbons.
async fn asleep(kind: Kind) {
    let mut scene = Scene::new(kind, "push-asleep", StreamManagement::default()).await;
    let mut phone = scene.phone().await;
    let mut laptop = scene.laptop().await;
    let (full, bare) = (phone.jid().to_owned(), phone.bare_jid().to_owned());
    let room = scene.room.clone();

    let mut cases = vec![
        ("bob", "chat", full.clone(), children().remove(0)),
        ("bob", "chat", bare.clone(), children().remove(0)),
        ("bob", "groupchat", room.clone(), children().remove(0)),
        ("bob", "chat", format!("{room}/alice"), children().remove(0)),
        ("bob", "headline", full.clone(), children().remove(0)),
        ("anchor", "", full.clone(), children().remove(0)),
        ("anchor", "chat", bare, children().remove(0)),
    ];
    cases.extend(
        children()
            .into_iter()
            .map(|it| ("anchor", "chat", full.clone(), it)),
    );
    for (sender, kind_of_message, to, (name, children)) in cases {
        phone.available().await.unwrap();
        scene.settle(&mut phone).await;
        laptop.drain_until_pong().await.unwrap();
        phone.lose(Loss::Reset);
        // What hibernation itself pushes for is not of interest.
        scene.service.take();
        let from = if sender == "bob" {
            &mut scene.desk
        } else {
            &mut scene.anchor
        };
        let id = send(from, kind_of_message, &to, &children).await;
        from.drain_until_pong().await.unwrap();
        let (pushed, others) = scene.pushed().await;
        phone.resume().await.unwrap().resumed();
        let seen = phone.drain_until_pong().await.unwrap();
        let delivered = seen.iter().filter(|it| it.id() == Some(&id)).count();
        let copies = carbons(&laptop.drain_until_pong().await.unwrap());
        let archived = archive(&mut phone, None).await.contains(&id);
        let to = to.replace(scene.alice.user.as_str(), "alice");
        scene.record.note(&format!(
            "{sender} {kind_of_message:9} to {to:40} {name:42}: pushed {pushed}, others {others}, \
             delivered {delivered}, carbons {copies}, archived {archived}"
        ));
        // ejabberd takes a headline for a message like others.
        let headline = kind_of_message == "headline" && kind == Kind::Prosody;
        if to.ends_with("/phone") || kind_of_message == "groupchat" {
            let expected = usize::from(name != "no body" && !headline);
            assert_eq!(pushed, expected, "{sender} {kind_of_message} {name}");
            assert_eq!(delivered, 1, "{sender} {kind_of_message} {name}");
        }
        if name == "body, no-permanent-store, private, no-copy" {
            assert_eq!((copies, archived), (0, false));
        }
    }
}

/// No session of the account is available; the one that has asked for push has ended.
async fn offline(kind: Kind) {
    let mut scene = Scene::new(kind, "push-offline", StreamManagement::default()).await;
    let mut phone = scene.phone().await;
    let (full, bare) = (phone.jid().to_owned(), phone.bare_jid().to_owned());
    phone.end().await.unwrap();
    let mut cases = vec![
        ("bob", "chat", full.clone(), children().remove(0)),
        ("bob", "chat", bare.clone(), children().remove(0)),
        ("anchor", "chat", full.clone(), children().remove(0)),
        ("anchor", "", full, children().remove(0)),
        ("anchor", "", bare.clone(), children().remove(0)),
    ];
    cases.extend(
        children()
            .into_iter()
            .map(|it| ("anchor", "chat", bare.clone(), it)),
    );
    for (sender, kind_of_message, to, (name, children)) in cases {
        scene.service.take();
        let from = if sender == "bob" {
            &mut scene.desk
        } else {
            &mut scene.anchor
        };
        let id = send(from, kind_of_message, &to, &children).await;
        let answers = from.drain_until_pong().await.unwrap();
        let errors = answers.iter().filter_map(Stanza::error_condition);
        let errors: Vec<_> = errors.map(str::to_owned).collect();
        let (pushed, others) = scene.pushed().await;
        let login = scene.alice.direct().resource("other");
        let mut other = login.connect().await.unwrap();
        other.available().await.unwrap();
        let seen = other.drain_until_pong().await.unwrap();
        let delivered = seen.iter().filter(|it| it.id() == Some(&id)).count();
        let archived = archive(&mut other, None).await.contains(&id);
        other.close().await.unwrap();
        let to = to.replace(scene.alice.user.as_str(), "alice");
        scene.record.note(&format!(
            "{sender} {kind_of_message:9} to {to:40} {name:42}: pushed {pushed}, others {others}, \
             delivered {delivered}, errors {errors:?}, archived {archived}"
        ));
        if name == "body" && !to.contains('/') {
            assert!(pushed > 0, "{sender} {kind_of_message} {name}");
            assert_eq!(delivered, 1);
        }
        if name == "body, no-permanent-store, private, no-copy" {
            assert_eq!((pushed, delivered, archived), (1, 1, false));
        }
    }
    drop(scene.server);
}

/// The session that has asked for push has ended, and another one is available.
async fn gone_beside_another(kind: Kind) {
    let mut scene = Scene::new(kind, "push-gone-beside", StreamManagement::default()).await;
    let mut phone = scene.phone().await;
    let (full, bare) = (phone.jid().to_owned(), phone.bare_jid().to_owned());
    phone.end().await.unwrap();
    let mut laptop = scene.laptop().await;
    let mut cases = vec![("bob", bare.clone(), children().remove(0))];
    let marked = children().into_iter();
    cases.extend(marked.map(|it| ("anchor", bare.clone(), it)));
    cases.push(("anchor", full, children().remove(7)));
    for (sender, to, (name, children)) in cases {
        laptop.drain_until_pong().await.unwrap();
        scene.service.take();
        let from = if sender == "bob" {
            &mut scene.desk
        } else {
            &mut scene.anchor
        };
        let id = send(from, "chat", &to, &children).await;
        let answers = from.drain_until_pong().await.unwrap();
        let errors = answers.iter().filter_map(Stanza::error_condition);
        let errors: Vec<_> = errors.map(str::to_owned).collect();
        let (pushed, others) = scene.pushed().await;
        let seen = laptop.drain_until_pong().await.unwrap();
        let delivered = seen.iter().filter(|it| it.id() == Some(&id)).count();
        let copies = carbons(&seen);
        let archived = archive(&mut laptop, None).await.contains(&id);
        let to = to.replace(scene.alice.user.as_str(), "alice");
        scene.record.note(&format!(
            "{sender} to {to:26} {name:42}: pushed {pushed}, others {others}, laptop \
             {delivered} and {copies} carbons, errors {errors:?}, archived {archived}"
        ));
        // Only the archive makes it push here, and the other session gets it.
        assert_eq!((pushed > 0, delivered), (archived, 1), "{sender} {name}");
    }
}

/// A phone that is connected and acknowledges nothing.
async fn not_acknowledged(kind: Kind) {
    let management = StreamManagement {
        ack_timeout: Some(3),
        ..StreamManagement::default()
    };
    let mut scene = Scene::new(kind, "push-not-acknowledged", management).await;
    for answers in [Answers::Unchanged, Answers::Never] {
        let mut phone = scene.phone().await;
        phone.answer(answers);
        let full = phone.jid().to_owned();
        scene.service.take();
        for number in 0..2 {
            let id = send(&mut scene.desk, "chat", &full, "<body>B</body>").await;
            scene.desk.drain_until_pong().await.unwrap();
            scene
                .record
                .note(&format!("{answers:?}, message {number}: {id}"));
            let seen = phone.listen(Duration::from_secs(6)).await;
            scene.record.show("alice/phone", &seen);
            let pushes: Vec<_> = scene
                .service
                .take()
                .iter()
                .map(|it| it.summary.clone())
                .collect();
            scene
                .record
                .note(&format!("connected, after 6 s: {pushes:?}"));
        }
        let unanswered = phone.unanswered();
        phone.lose(Loss::Reset);
        let (pushed, others) = scene.pushed().await;
        scene.record.note(&format!(
            "cut with {unanswered} unanswered <r/>: pushed {pushed}, others {others}"
        ));
        if answers == Answers::Unchanged {
            assert_eq!(pushed, 1, "what waits is pushed when the connection is cut");
        }
        let resumed = phone.resume().await.unwrap();
        scene.record.note(&format!("{resumed:?}"));
        phone.end().await.unwrap();
    }
    assert_eq!(scene.kind, kind);
}

/// Push lets a session be resumed for longer: until when is it in its rooms?
async fn longer_sleep(kind: Kind) {
    let management = StreamManagement {
        resume_timeout: Some(2),
        ..StreamManagement::default()
    };
    let mut scene = Scene::new(kind, "push-longer-sleep", management).await;
    scene.desk.set_timeout(Duration::from_secs(6));
    let occupant = format!("{}/alice", scene.room);
    for message in [false, true] {
        let mut phone = scene.phone().await;
        let full = phone.jid().to_owned();
        phone.lose(Loss::Reset);
        if message {
            send(&mut scene.desk, "chat", &full, "<body>B</body>").await;
        }
        let start = Instant::now();
        let gone = scene.desk.wait_for("the end of the session", |it| {
            it.from() == Some(&occupant) && it.kind() == Some("unavailable")
        });
        let gone = gone.await.ok();
        scene.record.note(&format!(
            "resume_timeout 2 s, a message: {message}; gone: {} after {:?}",
            gone.is_some(),
            start.elapsed()
        ));
        scene.record.show("bob", &gone);
        let resumed = phone.come_back().await.unwrap();
        scene.record.note(&format!("resumed: {resumed}"));
        assert_eq!(resumed, gone.is_none());
        phone.end().await.unwrap();
        scene.desk.drain_until_pong().await.unwrap();
    }
}
