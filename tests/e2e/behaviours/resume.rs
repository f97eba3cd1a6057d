//! A client that has lost its connection resumes its session (behaviour 56).

use std::collections::BTreeSet;

use mucplex_testkit::client::{Answers, Client, Device, Loss, Resume, Resumption, Security};
use mucplex_testkit::server::Account;
use mucplex_testkit::tap::{Recording, Tap};
use mucplex_testkit::xml::{NS_SM, Stanza};

use super::resume_requests::condition;
use crate::stage::{Front, Stage, nick, outline};

crate::tests![
    b56_lost_in_every_way_and_resumed,
    b56_lost_in_every_way_beside_an_anchor,
    b56_lost_while_its_unavailable_waits,
    b56_resumed_though_the_uplink_is_lost,
    b56_only_what_was_not_acknowledged_comes_again,
    b56_lost_again_and_again_in_a_burst,
    b56_lost_again_and_again_in_a_burst_beside_an_anchor,
    b56_what_the_client_has_sent_arrives_once,
    b56_b57_the_window_is_over,
    b56_two_logins_resume_at_once,
    b56_lost_while_it_resumes,
    b56_b65_a_client_that_resumes_is_active,
];

/// Bob is in the room, directly; alice's phone has joined it through a proxy of the test's own.
pub(super) struct Scene {
    pub(super) front: Front,
    pub(super) alice: Account,
    bob: Client,
    pub(super) phone: Device,
    /// The phone's full JID.
    jid: String,
    pub(super) room: String,
    said: usize,
    /// What bob has got.
    seen: Vec<Stanza>,
}

impl Scene {
    pub(super) async fn new(stage: &Stage, sections: &str) -> Self {
        Self::before(stage, stage.own_front(sections).await).await
    }

    /// The same with an anchor, on which the room is: the uplink of a phone that is away is cut.
    async fn beside_an_anchor(stage: &Stage) -> Self {
        let front = Front::with_anchors(stage.server, "").await;
        Self::before(stage, front).await
    }

    async fn before(stage: &Stage, front: Front) -> Self {
        let bob = stage.room_with_bob().await;
        let alice = stage.account("alice").await;
        let mut phone = Device::connect(front.login(&alice).resource("phone"))
            .await
            .unwrap();
        phone.available().await.unwrap();
        phone.join(&stage.room, "alice").await.unwrap();
        let mut scene = Self {
            front,
            alice,
            bob,
            jid: phone.jid().to_owned(),
            phone,
            room: stage.room.clone(),
            said: 0,
            seen: Vec::new(),
        };
        scene.phone.settle(&scene.room).await.unwrap();
        scene.bob.settle(&scene.room).await.unwrap();
        scene
    }

    /// Bob says things to the phone and to the room, and the server has handled them.
    pub(super) async fn talk(&mut self, words: usize) {
        let to = self.jid.clone();
        for _ in 0..words {
            self.said += 1;
            let body = format!("to you {}", self.said);
            chat(&mut self.bob, &to, &body).await;
            let body = format!("to all {}", self.said);
            self.bob.say(&self.room, &body).await.unwrap();
        }
        self.seen.extend(self.bob.settle(&self.room).await.unwrap());
    }

    /// The phone has got every word once and in order, on all its connections together.
    pub(super) async fn phone_has_all(&mut self) {
        self.bob.settle(&self.room).await.unwrap();
        self.phone.settle(&self.room).await.unwrap();
        let expected = |what: &str| -> Vec<_> {
            let numbers = 1..=self.said;
            numbers.map(|number| format!("{what} {number}")).collect()
        };
        let direct = self.phone.bodies_from(self.bob.bare_jid());
        assert_eq!(direct, expected("to you"));
        assert_eq!(self.phone.bodies_from(&self.room), expected("to all"));
    }

    /// The phone's uplink, once those that were not needed are closed.
    pub(super) async fn uplink(&self) -> usize {
        let tap = &self.front.tap;
        let one = |all: &[Recording]| all.iter().filter(|it| !it.closed).count() == 1;
        assert!(tap.wait_until(one).await, "one uplink");
        tap.open_connections()[0]
    }

    /// The room has seen nothing of alice but her words.
    pub(super) async fn room_saw_nothing(&mut self) {
        self.seen.extend(self.bob.settle(&self.room).await.unwrap());
        let presences = self.seen.iter().filter(|it| it.name() == "presence");
        assert_eq!(outline(presences), [""; 0]);
    }
}

async fn chat(from: &mut Client, to: &str, body: &str) {
    let message = format!("<message type='chat' to='{to}'><body>{body}</body></message>");
    from.send_raw(message).await.unwrap();
}

/// Reads what is there and its end.
pub(super) async fn read_to_end(device: &mut Device) {
    while device.recv().await.is_ok() {}
    device.lose(Loss::Fin);
}

/// With the uplink held.
async fn b56_lost_in_every_way_and_resumed(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    lost_in_every_way(&mut at).await;
}

async fn b56_lost_in_every_way_beside_an_anchor(stage: Stage) {
    let mut at = Scene::beside_an_anchor(&stage).await;
    lost_in_every_way(&mut at).await;
    let output = at.front.proxy.output();
    assert!(output.contains("no room needs it"), "never cut");
}

async fn lost_in_every_way(at: &mut Scene) {
    at.phone.answer(Answers::Never);
    for how in [
        Loss::Fin,
        Loss::Reset,
        Loss::Silence,
        Loss::Reset,
        Loss::Fin,
    ] {
        at.talk(3).await;
        // Some of it has been read, some not; none of it is acknowledged.
        at.phone.recv().await.unwrap();
        at.phone.recv().await.unwrap();
        at.phone.lose(how);
        at.talk(3).await;
        let resumed = at.phone.resume().await.unwrap().resumed();
        assert!(resumed.attr("previd").is_some());
        at.talk(1).await;
    }
    at.phone_has_all().await;
    at.room_saw_nothing().await;
    // One uplink all the time; those of the logins served nobody.
    let bound = format!("<jid>{}</jid>", at.phone.jid());
    assert_eq!(at.front.tap.count_down(&bound), 1);
}

/// What leaves every room waits until they are handed over, and its client may be lost meanwhile.
async fn b56_lost_while_its_unavailable_waits(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    for how in [Loss::Reset, Loss::Fin, Loss::Silence] {
        let unavailable = "<presence type='unavailable'/>";
        at.phone.send_raw(unavailable).await.unwrap();
        at.phone.lose(how);
        let to = at.jid.clone();
        at.said += 1;
        chat(&mut at.bob, &to, &format!("to you {}", at.said)).await;
        at.bob.drain_until_pong().await.unwrap();
        at.phone.resume().await.unwrap().resumed();
        at.phone.drain_until_pong().await.unwrap();
        let bodies = at.phone.bodies_from(at.bob.bare_jid());
        assert_eq!(bodies.len(), at.said, "{bodies:?}");
        at.phone.available().await.unwrap();
        at.phone.join(&at.room, "alice").await.unwrap();
    }
}

/// The client is made to come back, and the server's stream goes on on the uplink that it brings.
async fn b56_resumed_though_the_uplink_is_lost(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    at.phone.answer(Answers::Never);
    let mut uplink = at.uplink().await;
    for reset in [true, false, true] {
        at.talk(2).await;
        at.phone.recv().await.unwrap();
        if reset {
            at.front.tap.reset(uplink);
        } else {
            at.front.tap.cut(uplink);
        }
        read_to_end(&mut at.phone).await;
        at.talk(3).await;
        at.phone.resume().await.unwrap().resumed();
        uplink = at.uplink().await;
        at.talk(1).await;
        // It can speak, too.
        let id = at.phone.say(&at.room, "back").await.unwrap();
        let heard = at.bob.hear("back").await.unwrap();
        assert_eq!(heard.id(), Some(&*id));
        at.phone.hear("back").await.unwrap();
    }
    at.phone.settle(&at.room).await.unwrap();
    let words = at.phone.bodies_from(&at.room);
    assert_eq!(words.iter().filter(|body| *body == "back").count(), 3);
    let direct = at.phone.bodies_from(at.bob.bare_jid());
    let numbers: Vec<_> = (1..=at.said).map(|it| format!("to you {it}")).collect();
    assert_eq!(direct, numbers);
    at.room_saw_nothing().await;
}

/// XEP-0198 5: the number that the client gives says what it has, whatever it has read.
async fn b56_only_what_was_not_acknowledged_comes_again(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    let to = at.phone.jid().to_owned();
    for number in 0..6 {
        chat(&mut at.bob, &to, &format!("{number}")).await;
    }
    at.bob.drain_until_pong().await.unwrap();
    at.phone.answer(Answers::Never);
    for _ in 0..3 {
        at.phone.recv().await.unwrap();
    }
    at.phone.ack().await.unwrap();
    for _ in 0..3 {
        at.phone.recv().await.unwrap();
    }
    let before = at.phone.received().len();
    for round in 0..2 {
        at.phone.lose(Loss::Reset);
        let with = Resume {
            h: Some(at.phone.told()),
            ..Resume::default()
        };
        at.phone.resume_with(&with).await.unwrap().resumed();
        at.phone.drain_until_pong().await.unwrap();
        let again = at.phone.received()[before..].iter();
        let bodies: Vec<_> = again.filter_map(|it| it.stanza.body()).collect();
        assert_eq!(bodies, ["3", "4", "5"].repeat(round + 1));
    }
}

async fn b56_lost_again_and_again_in_a_burst(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    lost_in_a_burst(&stage, &mut at, true).await;
}

async fn b56_lost_again_and_again_in_a_burst_beside_an_anchor(stage: Stage) {
    let mut at = Scene::beside_an_anchor(&stage).await;
    lost_in_a_burst(&stage, &mut at, false).await;
}

/// `uplink_too`: now and then its uplink is lost.
async fn lost_in_a_burst(stage: &Stage, at: &mut Scene, uplink_too: bool) {
    let to = at.phone.jid().to_owned();
    const WORDS: usize = 400;
    let mut bob = stage.guest("carl").await;
    at.phone.settle(&at.room).await.unwrap();
    let (bob_jid, room) = (bob.bare_jid().to_owned(), at.room.clone());
    let burst = tokio::spawn(async move {
        let filler = "x".repeat(500);
        for number in 1..=WORDS {
            chat(&mut bob, &to, &format!("to you {number} {filler}")).await;
            let body = format!("to all {number} {filler}");
            bob.say(&room, &body).await.unwrap();
        }
        bob.settle(&room).await.unwrap();
    });
    let mut losses = [Loss::Reset, Loss::Fin, Loss::Silence].into_iter().cycle();
    let mut round = 0;
    // A client that loses its uplink reads more than it has asked for.
    while at.phone.received().len() < 2 * WORDS - 40 {
        round += 1;
        for _ in 0..40 {
            at.phone.recv().await.unwrap();
        }
        if uplink_too && round % 4 == 3 {
            at.front.tap.reset(at.uplink().await);
            read_to_end(&mut at.phone).await;
        } else {
            at.phone.lose(losses.next().unwrap());
        }
        at.phone.resume().await.unwrap().resumed();
    }
    assert!(round > 4, "lost {round} times");
    burst.await.unwrap();
    at.bob.settle(&at.room).await.unwrap();
    at.phone.settle(&at.room).await.unwrap();
    for (from, what) in [(bob_jid, "to you"), (at.room.clone(), "to all")] {
        let bodies = at.phone.bodies_from(&from);
        let numbers: Vec<usize> = bodies
            .iter()
            .map(|body| body.split(' ').nth(2).unwrap().parse().unwrap())
            .collect();
        // ejabberd 23.01: what comes while a stream is resumed overtakes what has waited for that.
        assert_eq!(numbers, in_order_of_server(&at.front.tap, what), "{what}");
        let all: BTreeSet<_> = numbers.into_iter().collect();
        assert_eq!(all, (1..=WORDS).collect(), "{what}");
    }
    let seen = at.bob.settle(&at.room).await.unwrap();
    assert!(seen.iter().all(|it| nick(it) != "alice"), "{seen:?}");
}

/// The numbers behind `what` as they have come from the server, each where it has come first.
fn in_order_of_server(tap: &Tap, what: &str) -> Vec<usize> {
    let start = format!("<body>{what} ");
    let mut known = BTreeSet::new();
    let mut order = Vec::new();
    for recording in tap.recordings() {
        let text = String::from_utf8_lossy(&recording.down).into_owned();
        let bodies = text.split(&start).skip(1);
        let numbers = bodies.filter_map(|body| body.split(' ').next()?.parse::<usize>().ok());
        order.extend(numbers.filter(|number| known.insert(*number)));
    }
    order
}

/// The client keeps what the proxy has not acknowledged, and the proxy what the server has not.
async fn b56_what_the_client_has_sent_arrives_once(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    let network = Tap::start(at.front.proxy.starttls()).await.unwrap();
    let security = Security::StartTls(at.front.proxy.trust());
    let login = at.alice.login(network.address()).security(security);
    let mut laptop = Device::connect(login.resource("laptop")).await.unwrap();
    laptop.join(&at.room, "alice").await.unwrap();
    let bob = at.bob.jid().to_owned();
    let mut said = 0;
    let mut words = async |laptop: &mut Device, room: &str| {
        for _ in 0..5 {
            said += 1;
            chat(laptop, &bob, &format!("word {said}")).await;
            laptop.say(room, &format!("word {said}")).await.unwrap();
        }
    };
    for round in 0..3 {
        words(&mut laptop, &at.room).await;
        // On its way to the proxy, it is lost.
        network.black_hole(network.connections() - 1);
        words(&mut laptop, &at.room).await;
        if round > 0 {
            let uplink = at.front.uplink(&laptop);
            at.front.tap.reset(uplink);
        }
        network.reset(network.connections() - 1);
        laptop.lose(Loss::Reset);
        let resumed = laptop.resume().await.unwrap();
        assert!(matches!(resumed, Resumption::Resumed(_)));
        laptop.settle(&at.room).await.unwrap();
    }
    let mut seen = at.bob.settle(&at.room).await.unwrap();
    seen.retain(|it| it.body().is_some_and(|body| body.starts_with("word")));
    let expected: Vec<_> = (1..=30).map(|it| format!("word {it}")).collect();
    for kind in ["chat", "groupchat"] {
        let heard = seen.iter().filter(|it| it.kind() == Some(kind));
        let heard: Vec<_> = heard.filter_map(Stanza::body).collect();
        assert_eq!(heard, expected, "{kind}");
    }
}

async fn b56_b57_the_window_is_over(stage: Stage) {
    let mut at = Scene::new(&stage, "[session]\nresume_timeout = \"1s\"").await;
    at.phone.settle(&at.room).await.unwrap();
    at.phone.lose(Loss::Reset);
    at.front.logged("the client has not come back").await;
    at.bob.say(&at.room, "missed").await.unwrap();
    at.bob.hear("missed").await.unwrap();
    let failed = at.phone.resume().await.unwrap().failed();
    assert_eq!(condition(&failed), "item-not-found");
    at.phone.bind().await.unwrap();
    at.phone.enable(true).await.unwrap();
    let joined = at.phone.join(&at.room, "alice").await.unwrap();
    assert_eq!(joined.bodies().last().map(String::as_str), Some("missed"));
}

/// A client that tries again has given up the earlier try. Whichever it is, there is one session,
/// and it has everything.
async fn b56_two_logins_resume_at_once(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    at.phone.answer(Answers::Never);
    for round in 0..6 {
        at.talk(1).await;
        if round % 2 == 1 {
            at.front.tap.reset(at.uplink().await);
            read_to_end(&mut at.phone).await;
        } else {
            at.phone.lose(Loss::Reset);
        }
        let mut rival = Device::new(at.front.login(&at.alice).resource("phone"));
        let with = Resume {
            previd: at.phone.stream_id().map(str::to_owned),
            h: Some(at.phone.handled()),
        };
        let (_first, _second) = tokio::join!(rival.resume_with(&with), at.phone.resume());
        // What the rival has got is lost with it; it has acknowledged nothing.
        rival.lose(Loss::Reset);
        at.phone.lose(Loss::Reset);
        at.phone.resume().await.unwrap().resumed();
        at.talk(1).await;
        at.phone_has_all().await;
    }
    at.room_saw_nothing().await;
}

/// Whether the server has heard of it or not, what comes of it is a session that can be resumed.
async fn b56_lost_while_it_resumes(stage: Stage) {
    let mut at = Scene::new(&stage, "").await;
    at.phone.answer(Answers::Never);
    for round in 0..8 {
        at.talk(1).await;
        if round % 2 == 1 {
            at.front.tap.reset(at.uplink().await);
            read_to_end(&mut at.phone).await;
        } else {
            at.phone.lose(Loss::Reset);
        }
        for _ in 0..3 {
            let login = at.front.login(&at.alice).resource("phone");
            let (mut connection, _) = login.authenticate().await.unwrap();
            let (id, h) = (at.phone.stream_id().unwrap(), at.phone.handled());
            let resume = format!("<resume xmlns='{NS_SM}' previd='{id}' h='{h}'/>");
            connection.send_raw(resume).await.unwrap();
            connection.reset_connection().unwrap();
        }
        at.talk(1).await;
        at.phone.resume().await.unwrap().resumed();
        at.talk(1).await;
        at.phone_has_all().await;
    }
    at.room_saw_nothing().await;
}

/// The state of a client does not outlive its connection (XEP-0352 5), not at the server either.
async fn b56_b65_a_client_that_resumes_is_active(stage: Stage) {
    let front = stage.own_front("").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let login = front.login(&alice).resource("phone");
    let mut phone = Device::connect(login).await.unwrap();
    let mut desk = stage.outsider(&bob, "desk").await;
    phone
        .send_raw("<inactive xmlns='urn:xmpp:csi:0'/>")
        .await
        .unwrap();
    phone.drain_until_pong().await.unwrap();
    let to = phone.jid().to_owned();
    phone.lose(Loss::Reset);
    phone.resume().await.unwrap().resumed();
    let away = format!("<presence to='{to}'><show>away</show></presence>");
    desk.send_raw(away).await.unwrap();
    desk.drain_until_pong().await.unwrap();
    let got = phone.recv_for("the presence").await.unwrap();
    assert_eq!(got.name(), "presence");
}
