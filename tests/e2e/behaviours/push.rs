//! A client that is gone looks gone to the server (behaviour 75): each scene is played once without
//! the proxy and once through it, and the push service, the contact and the client that returns
//! get the same.

use std::time::{Duration, Instant};

use mucplex_testkit::client::{Client, Device, Login, Loss};
use mucplex_testkit::push::{Push, PushService};
use mucplex_testkit::server::Account;
use mucplex_testkit::tap::Recording;
use mucplex_testkit::xml::Stanza;

use crate::stage::{Front, Stage};

crate::tests![
    b75_a_client_that_does_not_count_is_lost,
    b75_a_client_ends_its_stream,
    b75_a_client_that_counts_is_lost_and_its_uplink_cut,
    b75_a_client_that_counts_but_cannot_resume_is_lost,
    b75_a_client_that_counts_is_lost_beside_an_anchor,
    b75_a_client_that_counts_is_lost_without_an_anchor,
];

/// How long an uplink may be held for the client to come back with another one.
const HOLD: Duration = Duration::from_secs(60);

/// How the phone goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    /// Without stream management its connection is reset.
    Plain,
    /// It ends its stream.
    Ends,
    /// With stream management its connection is reset.
    Counting,
    /// The same, and it cannot resume.
    CountingOnly,
}

impl Going {
    fn can_resume(self) -> bool {
        self == Self::Counting
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The phone's node was pushed to for the message, by whom, and with what.
    pushed: Option<(String, String, Option<String>, Option<String>)>,
    /// What the contact has seen: types of presences, and errors for its message.
    contact: Vec<String>,
    /// What the phone has got when it was back.
    back: Vec<String>,
}

/// Alice and bob, who sees her presence.
struct Scene {
    alice: Account,
    bob: Client,
    service: PushService,
}

impl Scene {
    async fn new(stage: &Stage) -> Self {
        let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
        let mut bob = stage.outsider(&bob, "desk").await;
        let mut friend = stage.outsider(&alice, "setup").await;
        friend.available().await.unwrap();
        bob.available().await.unwrap();
        // RFC 6121 2.2: who has asked for the roster hears of subscriptions.
        for client in [&mut friend, &mut bob] {
            let roster = client.iq("get", None, "<query xmlns='jabber:iq:roster'/>");
            roster.await.unwrap();
        }
        let (to_alice, to_bob) = (alice.jid(), bob.bare_jid().to_owned());
        let subscribe = format!("<presence type='subscribe' to='{to_alice}'/>");
        bob.send_raw(subscribe).await.unwrap();
        let asked = |it: &Stanza| it.kind() == Some("subscribe");
        friend.wait_for("the request", asked).await.unwrap();
        let granted = format!("<presence type='subscribed' to='{to_bob}'/>");
        friend.send_raw(granted).await.unwrap();
        let granted = |it: &Stanza| it.kind() == Some("subscribed");
        bob.wait_for("the grant", granted).await.unwrap();
        friend.close().await.unwrap();
        let gone = |it: &Stanza| it.kind() == Some("unavailable");
        bob.wait_for("the setup's end", gone).await.unwrap();
        let service = PushService::start(stage.server).await.unwrap();
        Self {
            alice,
            bob,
            service,
        }
    }

    /// The phone is there, may be pushed to, and bob sees it.
    async fn phone(&mut self, login: Login, going: Going) -> Device {
        let mut phone = Device::new(login.resource("phone"));
        phone.bind().await.unwrap();
        if matches!(going, Going::Counting | Going::CountingOnly) {
            phone.enable(going.can_resume()).await.unwrap();
        }
        phone.available().await.unwrap();
        let jid = phone.jid().to_owned();
        let here = |it: &Stanza| it.from() == Some(&jid) && it.kind().is_none();
        self.bob.wait_for("the phone", here).await.unwrap();
        let service = self.service.jid();
        let enabled = phone.enable_push(service, "phone & 1", Some("secret"));
        enabled.await.unwrap();
        phone.drain_until_pong().await.unwrap();
        phone
    }

    /// The phone goes, bob writes to it, it is pushed to, and comes back. `cut` does what else is
    /// to happen before bob writes.
    async fn play(mut self, login: Login, going: Going, cut: impl AsyncFnOnce()) -> Outcome {
        let mut phone = self.phone(login, going).await;
        if going.can_resume() {
            phone.ack().await.unwrap();
            phone.request_ack().await.unwrap();
        }
        match going {
            Going::Ends => phone.end().await.unwrap(),
            Going::Plain | Going::Counting | Going::CountingOnly => phone.lose(Loss::Reset),
        }
        cut().await;
        let mut contact = Vec::new();
        if !going.can_resume() {
            let gone = |it: &Stanza| it.kind() == Some("unavailable");
            let gone = self.bob.wait_for("the phone's end", gone).await.unwrap();
            contact.push(line(&gone));
        }
        let to = self.alice.jid();
        let message =
            format!("<message type='chat' to='{to}' id='m'><body>wake up</body></message>");
        self.bob.send_raw(message).await.unwrap();
        let wakes = |pushes: &[Push]| pushes.iter().any(is_for_a_text);
        self.service.wait_within(HOLD + HOLD / 2, wakes).await;
        let pushed = self.service.take().into_iter().find(is_for_a_text);
        let pushed = pushed.map(|push| {
            let body = push.field("last-message-body").map(str::to_owned);
            (push.from, push.node, push.secret, body)
        });
        let meanwhile = self.bob.drain_until_pong().await.unwrap();
        contact.extend(meanwhile.iter().map(line));
        if going.can_resume() {
            phone.resume().await.unwrap().resumed();
        } else {
            phone.bind().await.unwrap();
            phone.available().await.unwrap();
        }
        phone.drain_until_pong().await.unwrap();
        let seen = self.bob.drain_until_pong().await.unwrap();
        contact.extend(seen.iter().map(line));
        let back = phone.bodies_from(self.bob.bare_jid());
        Outcome {
            pushed,
            contact,
            back,
        }
    }
}

fn is_for_a_text(push: &Push) -> bool {
    push.field("last-message-body")
        .is_some_and(|body| !body.is_empty())
}

fn line(stanza: &Stanza) -> String {
    let kind = stanza.kind().unwrap_or("available");
    format!("{} {kind}", stanza.name())
}

/// The same scene twice; gives what both have led to.
async fn same(stage: &Stage, front: &Front, going: Going) -> Outcome {
    same_with(stage, front, going, false).await
}

async fn same_with(stage: &Stage, front: &Front, going: Going, cut: bool) -> Outcome {
    let scene = Scene::new(stage).await;
    let login = scene.alice.direct();
    let direct = scene.play(login, going, async || {}).await;
    let scene = Scene::new(stage).await;
    let login = front.login(&scene.alice);
    let jid = format!("<jid>{}/phone</jid>", scene.alice.jid());
    let reset = async || {
        if cut {
            front.logged("client lost").await;
            let is_its = |it: &Recording| it.count_down(&jid) > 0;
            let uplink = front.tap.recordings().iter().position(is_its);
            front.tap.reset(uplink.unwrap());
        }
    };
    let proxied = scene.play(login, going, reset).await;
    assert_eq!(proxied, direct);
    assert!(direct.pushed.is_some(), "the server does not push");
    direct
}

async fn b75_a_client_that_does_not_count_is_lost(stage: Stage) {
    let stage = stage.pushing().await;
    let outcome = same(&stage, stage.front, Going::Plain).await;
    assert_eq!(outcome.back, ["wake up"]);
    let anchored = Front::with_anchors(stage.server, "").await;
    assert_eq!(same(&stage, &anchored, Going::Plain).await, outcome);
}

async fn b75_a_client_ends_its_stream(stage: Stage) {
    let stage = stage.pushing().await;
    let outcome = same(&stage, stage.front, Going::Ends).await;
    assert_eq!(outcome.back, ["wake up"]);
}

async fn b75_a_client_that_counts_is_lost_and_its_uplink_cut(stage: Stage) {
    let stage = stage.pushing().await;
    let front = stage.own_front("").await;
    let outcome = same_with(&stage, &front, Going::Counting, true).await;
    assert_eq!(outcome.contact, [""; 0]);
    assert_eq!(outcome.back, ["wake up"]);
}

async fn b75_a_client_that_counts_but_cannot_resume_is_lost(stage: Stage) {
    let stage = stage.pushing().await;
    let outcome = same(&stage, stage.front, Going::CountingOnly).await;
    assert_eq!(outcome.back, ["wake up"]);
}

/// The uplink is not needed, and cut at once.
async fn b75_a_client_that_counts_is_lost_beside_an_anchor(stage: Stage) {
    let stage = stage.pushing().await;
    let front = Front::with_anchors(stage.server, "").await;
    let start = Instant::now();
    let outcome = same(&stage, &front, Going::Counting).await;
    assert_eq!(outcome.back, ["wake up"]);
    assert!(start.elapsed() < HOLD, "the uplink was held");
}

/// Whoever comes back in time brings a spare uplink, for which its own is held; after that it is cut.
async fn b75_a_client_that_counts_is_lost_without_an_anchor(stage: Stage) {
    let stage = stage.pushing().await;
    let start = Instant::now();
    let outcome = same(&stage, stage.front, Going::Counting).await;
    assert_eq!(outcome.back, ["wake up"]);
    assert!(start.elapsed() < HOLD + HOLD / 4, "pushed too late");
}
