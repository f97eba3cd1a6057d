//! What is acknowledged is kept by somebody (behaviours 56, 64 and 75; decision 0003).

use std::time::Duration;

use mucplex_testkit::client::{Answers, Client, Device, Loss};
use mucplex_testkit::server::{Account, Kind};
use mucplex_testkit::tap::Recording;
use mucplex_testkit::xml::{Incoming, NS_SM, Stanza, StreamReader};

use crate::raw::{end_of, ends_with};
use crate::stage::{Front, Stage};

crate::tests![
    b56_the_server_is_told_what_the_client_has,
    b56_the_server_is_told_what_was_written_for_a_client_that_does_not_count,
    b56_the_client_is_told_what_the_server_has,
    b63_what_the_client_has_not_survives_the_proxy,
    b64_what_the_client_has_not_survives_an_ordered_end,
    b64_all_clients_are_told_of_the_end_in_time,
    b56_what_the_client_has_not_when_its_window_is_over,
    b56_what_the_client_has_not_when_it_cannot_resume,
    b56_what_the_client_has_not_when_it_was_slow,
    b56_what_the_client_has_is_not_sent_again,
    b61_a_client_that_cannot_resume_is_told_that_its_uplink_is_lost,
];

/// A proxy of the test's own, bob at his desk, and alice's phone, whose acknowledgements are the
/// test's.
struct Scene {
    front: Front,
    alice: Account,
    bob: Client,
    phone: Device,
    uplink: usize,
    said: usize,
}

impl Scene {
    async fn new(stage: &Stage, sections: &str, resume: bool) -> Self {
        let front = stage.own_front(sections).await;
        let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
        let bob = stage.outsider(&bob, "desk").await;
        let mut phone = Device::new(front.login(&alice).resource("phone"));
        phone.bind().await.unwrap();
        phone.enable(resume).await.unwrap();
        phone.available().await.unwrap();
        phone.drain_until_pong().await.unwrap();
        phone.answer(Answers::Never);
        let uplink = front.uplink(&phone);
        let said = 0;
        Self {
            front,
            alice,
            bob,
            phone,
            uplink,
            said,
        }
    }

    /// Bob says something to the phone, as to an account or as to a session.
    async fn say(&mut self, body: &str, size: usize) {
        self.said += 1;
        let jid = self.phone.jid().to_owned();
        let bare = self.phone.bare_jid();
        let to = if self.said.is_multiple_of(2) {
            bare
        } else {
            &jid
        };
        let filler = "x".repeat(size);
        let message = format!(
            "<message type='chat' to='{to}' id='{body}'><body>{body}</body><f>{filler}</f></message>"
        );
        self.bob.send_raw(message).await.unwrap();
    }

    /// Bob says this and the phone reads it.
    async fn hear(&mut self, body: &str) {
        self.say(body, 0).await;
        let is_it = |it: &Stanza| it.body().as_deref() == Some(body);
        self.phone.wait_for(body, is_it).await.unwrap();
    }

    /// The last `h` that the server was told.
    fn told(&self) -> usize {
        last_h(&self.front.tap.recordings()[self.uplink].up)
    }

    /// Waits until the server is told `h`.
    async fn is_told(&self, h: usize) {
        let uplink = self.uplink;
        let told = self
            .front
            .tap
            .wait_until(|all| last_h(&all[uplink].up) == h)
            .await;
        assert!(told, "{} instead of {h}", self.told());
    }

    /// Waits until the server is told something more.
    async fn is_told_again(&self) {
        let uplink = self.uplink;
        let before = self.front.tap.recordings()[uplink].count_up("<a ");
        let told = self
            .front
            .tap
            .wait_until(|all| all[uplink].count_up("<a ") > before)
            .await;
        assert!(told, "the server gets no answer");
    }

    /// The server knows everything that the phone has.
    async fn acknowledge(&mut self) {
        self.phone.ack().await.unwrap();
        self.phone.drain_until_pong().await.unwrap();
        self.phone.ack().await.unwrap();
        self.hear("now").await;
        let received = self.front.tap.recordings()[self.uplink].down.clone();
        self.phone.ack().await.unwrap();
        self.is_told(stanzas_since_enabled(&received)).await;
    }

    /// What becomes of three messages that the phone has not acknowledged, behind two that it has:
    /// offline storage on Prosody, where the next session gets them; the archive on ejabberd.
    async fn has_left(&self, kind: Kind, left: &[&str]) {
        let login = self.alice.direct().resource("laptop");
        let mut laptop = login.connect().await.unwrap();
        match kind {
            Kind::Prosody => {
                laptop.available().await.unwrap();
                let seen = laptop.drain_until_pong().await.unwrap();
                let bodies: Vec<_> = seen.iter().filter_map(Stanza::body).collect();
                assert_eq!(bodies, left);
            }
            Kind::Ejabberd => {
                let bodies = archive(&mut laptop).await;
                let end = bodies.len() - left.len();
                assert_eq!(bodies[end..], *left);
            }
        }
    }
}

/// The number in the last `<a/>`.
fn last_h(up: &[u8]) -> usize {
    let text = String::from_utf8_lossy(up);
    let Some((_, rest)) = text.rsplit_once("<a xmlns='urn:xmpp:sm:3' h='") else {
        return 0;
    };
    rest.split('\'').next().unwrap().parse().unwrap()
}

/// How many stanzas have come down behind `<enabled/>`.
fn stanzas_since_enabled(down: &[u8]) -> usize {
    let text = String::from_utf8_lossy(down);
    let (_, counted) = text.split_once("<enabled").unwrap();
    let mut reader = StreamReader::new();
    reader.feed(b"<s:s xmlns:s='urn:kit' xmlns='jabber:client'>");
    let (_, counted) = counted.split_once('>').unwrap();
    reader.feed(counted.as_bytes());
    let mut count = 0;
    while let Ok(Some(item)) = reader.next_item() {
        if let Incoming::Stanza(stanza) = item {
            count += usize::from(["message", "presence", "iq"].contains(&stanza.name()));
        }
    }
    count
}

/// The bodies in the account's own archive.
async fn archive(client: &mut Client) -> Vec<String> {
    let query = "<query xmlns='urn:xmpp:mam:2' queryid='q'/>";
    let id = client.send_iq("set", None, query).await.unwrap();
    let mut bodies = Vec::new();
    loop {
        let stanza = client.recv_for("the archive").await.unwrap();
        if stanza.name() == "iq" && stanza.id() == Some(&id) {
            return bodies;
        }
        let raw = stanza.raw_str().to_owned();
        let body = raw.split_once("<body>").map(|(_, rest)| rest);
        bodies.extend(body.and_then(|rest| Some(rest.split_once("</body>")?.0.to_owned())));
    }
}

async fn b56_the_server_is_told_what_the_client_has(stage: Stage) {
    let mut at = Scene::new(&stage, "", true).await;
    at.acknowledge().await;
    let known = at.told();
    for body in ["1", "2", "3"] {
        at.hear(body).await;
    }
    // It asks, and gets the answer that it had, in the end.
    at.is_told_again().await;
    assert_eq!(at.told(), known);
    at.phone.ack_with(at.phone.told() + 2).await.unwrap();
    at.is_told(known + 2).await;
    at.phone.ack().await.unwrap();
    at.is_told(known + 3).await;
}

async fn b56_the_server_is_told_what_was_written_for_a_client_that_does_not_count(stage: Stage) {
    let front = stage.own_front("").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut bob = stage.outsider(&bob, "desk").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.drain_until_pong().await.unwrap();
    let uplink = front.uplink(&phone);
    for number in 1..=5 {
        let to = phone.jid();
        let message = format!("<message type='chat' to='{to}'><body>{number}</body></message>");
        bob.send_raw(message).await.unwrap();
    }
    let all = |it: &Recording| {
        it.count_down("<body>5</body>") > 0 && last_h(&it.up) == stanzas_since_enabled(&it.down)
    };
    assert!(front.tap.wait_until(|taps| all(&taps[uplink])).await);
}

async fn b56_the_client_is_told_what_the_server_has(stage: Stage) {
    let mut at = Scene::new(&stage, "", true).await;
    at.phone.request_ack().await.unwrap();
    let known = at.phone.acked();
    at.front.tap.hold(at.uplink);
    let bob = at.bob.jid().to_owned();
    for number in 1..=3 {
        let message = format!("<message type='chat' to='{bob}'><body>{number}</body></message>");
        at.phone.send_raw(message).await.unwrap();
    }
    at.phone.request_ack().await.unwrap();
    assert_eq!(at.phone.acked(), known);
    at.front.tap.forward(at.uplink);
    // The rest follows when it is true, without another request.
    assert_eq!(next_ack(&mut at.phone).await, known + 3);
}

/// Waits for one more `<a/>`.
async fn next_ack(device: &mut Device) -> u32 {
    let before = device.acked();
    while device.acked() == before {
        assert!(device.is_connected());
        device.listen(Duration::from_millis(50)).await;
    }
    device.acked()
}

/// Two messages that the phone has acknowledged and three that it has not, of which it has read one.
async fn leave_three(at: &mut Scene) {
    at.hear("1").await;
    at.acknowledge().await;
    at.hear("3").await;
    at.say("4", 0).await;
    at.say("5", 0).await;
    at.bob.drain_until_pong().await.unwrap();
    let uplink = at.uplink;
    let arrived = at
        .front
        .tap
        .wait_until(|all| all[uplink].count_down("<body>5</body>") > 0);
    assert!(arrived.await);
}

const LEFT: [&str; 3] = ["3", "4", "5"];

async fn b63_what_the_client_has_not_survives_the_proxy(stage: Stage) {
    let mut at = Scene::new(&stage, "", true).await;
    leave_three(&mut at).await;
    at.front.proxy.kill().await.unwrap();
    // The server keeps the stream, until the same resource is bound.
    let login = at.alice.direct().resource("phone");
    let again = login.connect().await.unwrap();
    again.close().await.unwrap();
    at.has_left(stage.kind, &LEFT).await;
}

async fn b64_what_the_client_has_not_survives_an_ordered_end(stage: Stage) {
    let mut at = Scene::new(&stage, "", true).await;
    leave_three(&mut at).await;
    let ended = at.front.proxy.end(Duration::from_secs(10)).await.unwrap();
    assert!(ended.status.success());
    at.has_left(stage.kind, &LEFT).await;
}

/// Clients that can resume, are away, or do not count: each that is there gets one clean end.
async fn b64_all_clients_are_told_of_the_end_in_time(stage: Stage) {
    let mut front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let device = async |resource: &str| {
        let login = front.login(&alice).resource(resource);
        Device::connect(login).await.unwrap()
    };
    let (mut here, mut held, mut cut) = (
        device("here").await,
        device("held").await,
        device("cut").await,
    );
    let mut plain = front.session(&alice, "plain").await;
    for client in [&mut here, &mut held, &mut cut] {
        client.drain_until_pong().await.unwrap();
    }
    held.lose(Loss::Reset);
    front.tap.reset(front.uplink(&cut));
    while cut.recv().await.is_ok() {}
    front.logged("uplink cut, to be resumed").await;
    let ended = front.proxy.end(Duration::from_secs(10)).await.unwrap();
    assert!(ended.status.success());
    for client in [&mut **here, &mut *plain] {
        let end = end_of(client).await;
        assert_eq!(end.condition.as_deref(), Some("system-shutdown"));
    }
    assert!(!front.proxy.output().contains("has ended in time"));
}

async fn b56_what_the_client_has_not_when_its_window_is_over(stage: Stage) {
    let window = "[session]\nresume_timeout = \"1s\"";
    let mut at = Scene::new(&stage, window, true).await;
    leave_three(&mut at).await;
    at.phone.lose(Loss::Reset);
    at.front.released(at.uplink).await;
    at.has_left(stage.kind, &LEFT).await;
}

async fn b56_what_the_client_has_not_when_it_cannot_resume(stage: Stage) {
    let mut at = Scene::new(&stage, "", false).await;
    leave_three(&mut at).await;
    at.phone.lose(Loss::Reset);
    at.front.released(at.uplink).await;
    at.has_left(stage.kind, &LEFT).await;
}

/// Behaviour 66, of one that counts: it is ended, or made to come back; what it has not read is not
/// lost.
async fn b56_what_the_client_has_not_when_it_was_slow(stage: Stage) {
    let mut at = Scene::new(&stage, "[session]\noutbox_bytes = \"1MiB\"", true).await;
    at.hear("1").await;
    at.acknowledge().await;
    // The proxy reads no more of the server than it may keep.
    for number in 2..=40 {
        at.say(&format!("{number}"), 50_000).await;
    }
    at.bob.drain_until_pong().await.unwrap();
    at.phone.lose(Loss::Reset);
    at.phone.answer(Answers::Always);
    at.phone.resume().await.unwrap().resumed();
    at.phone.drain_until_pong().await.unwrap();
    let bob = at.bob.bare_jid().to_owned();
    let heard = at.phone.bodies_from(&bob);
    let expected: Vec<_> = ["1".to_owned(), "now".to_owned()]
        .into_iter()
        .chain((2..=40).map(|it: usize| it.to_string()))
        .collect();
    assert_eq!(heard, expected);
}

/// What the client has acknowledged, or what was written for one that does not count, is known at
/// the server when the session ends.
async fn b56_what_the_client_has_is_not_sent_again(stage: Stage) {
    let mut at = Scene::new(&stage, "", true).await;
    for body in ["1", "2", "3"] {
        at.hear(body).await;
    }
    at.phone.ack().await.unwrap();
    at.phone.end().await.unwrap();
    at.front.released(at.uplink).await;
    at.has_left(Kind::Prosody, &[]).await;

    let mut plain = at.front.session(&at.alice, "plain").await;
    plain.available().await.unwrap();
    plain.drain_until_pong().await.unwrap();
    let uplink = at.front.uplink(&plain);
    let to = plain.jid().to_owned();
    let message = format!("<message type='chat' to='{to}'><body>4</body></message>");
    at.bob.send_raw(message).await.unwrap();
    plain.wait_for("4", |it| it.body().is_some()).await.unwrap();
    plain.close().await.unwrap();
    at.front.released(uplink).await;
    at.has_left(Kind::Prosody, &[]).await;
}

async fn b61_a_client_that_cannot_resume_is_told_that_its_uplink_is_lost(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let mut plain = front.session(&alice, "plain").await;
    front.tap.reset(front.uplink(&plain));
    ends_with(&mut plain, "remote-connection-failed").await;

    let mut phone = Device::new(front.login(&alice).resource("phone"));
    phone.bind().await.unwrap();
    let enabled = phone.enable(false).await.unwrap();
    assert!(enabled.is("enabled", NS_SM) && enabled.attr("id").is_none());
    front.tap.cut(front.uplink(&phone));
    ends_with(&mut phone, "remote-connection-failed").await;
}
