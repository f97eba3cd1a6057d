//! Whether the account is in the room, and what the proxy answers in its name (behaviours 51, 53
//! and 54).

use mucplex_testkit::client::Client;
use mucplex_testkit::rooms::{Joining, Room, Service};
use mucplex_testkit::xml::Stanza;

use crate::stage::{Ending, Front, Stage, leave, mark, marked, outline};

crate::tests![
    b51_a_self_ping_is_answered_from_what_is_known,
    b51_the_room_is_asked_after_a_loss,
    b51_a_self_ping_that_finds_the_room_lost_heals_it,
    b51_a_room_that_does_not_take_the_account_back,
    b53_with_nobody_attached_the_proxy_answers,
    b54_the_servers_ping_is_answered_without_a_client,
];

const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";

fn is_ping(stanza: &Stanza) -> bool {
    stanza.has_child("ping", "urn:xmpp:ping")
}

async fn b51_a_self_ping_is_answered_from_what_is_known(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let mut tablet = front.session(&alice, "tablet").await;
    for client in [&mut phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    for client in [&mut phone, &mut laptop, &mut tablet] {
        client.drain_until_pong().await.unwrap();
    }
    let occupant = format!("{}/alice", stage.room);
    let before = front.sent_upstream();
    for client in [&mut phone, &mut laptop] {
        let id = client.send_iq("get", Some(&occupant), PING).await.unwrap();
        let pong = client.recv_for("the pong").await.unwrap();
        assert_eq!((pong.name(), pong.kind()), ("iq", Some("result")));
        assert_eq!((pong.id(), pong.from()), (Some(&*id), Some(&*occupant)));
        assert_eq!(pong.to(), Some(client.jid()));
    }
    assert_eq!(front.sent_upstream(), before);

    // One that is not in the room, or no more, is told so, though the account is.
    leave(&mut laptop, &stage.room, "alice").await;
    for client in [&mut tablet, &mut laptop] {
        let refused = client.iq("get", Some(&occupant), PING).await.unwrap();
        assert_eq!(refused.error_condition(), Some("not-acceptable"));
        assert_eq!(refused.from(), Some(&*occupant));
    }
    let [on_bob] = mark(&mut phone, &stage.room, [&mut bob]).await;
    assert_eq!(outline(&on_bob), [""; 0]);
}

/// ```text
/// phone's uplink    carries ── lost
/// laptop's uplink               [join ········· in] ping
///                                    ↑ asks, and waits
/// ```
struct AfterALoss {
    _front: Front,
    room: Room,
    laptop: Client,
    /// The id of its ping.
    id: String,
}

impl AfterALoss {
    /// The connection that carries the room is cut, the next one's join waits for the room, and
    /// the laptop has asked whether it is in the room.
    async fn new(stage: &Stage) -> Self {
        let front = stage.own_front("").await;
        let alice = stage.account("alice").await;
        let mut phone = front.session(&alice, "phone").await;
        let mut laptop = front.session(&alice, "laptop").await;
        let room = stage.scripted("ping").await;
        room.crowd(1);
        for client in [&mut phone, &mut laptop] {
            client.join(room.jid(), "alice").await.unwrap();
        }
        room.rules(|rules| rules.joining = Joining::Hold);
        front.tap.cut(front.uplink(&phone));
        let next = laptop.jid().to_owned();
        room.wait_for("the next join", |it| it.from() == Some(&next))
            .await;
        let occupant = room.occupant("alice");
        let id = laptop.send_iq("get", Some(&occupant), PING).await.unwrap();
        let meanwhile = laptop.drain_until_pong().await.unwrap();
        assert_eq!(outline(&meanwhile), [""; 0]);
        assert_eq!(room.count(is_ping), 0);
        room.rules(|rules| rules.joining = Joining::Admit);
        Self {
            _front: front,
            room,
            laptop,
            id,
        }
    }

    /// The answer to its ping, which is the next thing the laptop gets.
    async fn answer(&mut self) -> Stanza {
        let answer = self.laptop.recv_for("the answer").await.unwrap();
        let expected = (Some(&*self.id), Some(self.room.occupant("alice")));
        assert_eq!((answer.id(), answer.from().map(str::to_owned)), expected);
        answer
    }
}

async fn b51_the_room_is_asked_after_a_loss(stage: Stage) {
    let mut at = AfterALoss::new(&stage).await;
    at.room.admit();
    assert_eq!(at.answer().await.kind(), Some("result"));
    assert_eq!(at.room.count(is_ping), 1);
    // From now on it is known.
    let occupant = at.room.occupant("alice");
    let pong = at.laptop.iq("get", Some(&occupant), PING).await.unwrap();
    assert_eq!(pong.kind(), Some("result"));
    assert_eq!(at.room.count(is_ping), 1);
    let [rest] = marked(&at.room, "alice", [&mut at.laptop]).await;
    assert_eq!(outline(&rest), [""; 0]);
}

/// The room takes the next carrier in and forgets it at once, before the ping comes.
async fn b51_a_self_ping_that_finds_the_room_lost_heals_it(stage: Stage) {
    let mut at = AfterALoss::new(&stage).await;
    at.room.admit();
    at.room.forget("alice");
    assert_eq!(at.answer().await.kind(), Some("result"));
    assert_eq!(at.room.count(is_ping), 2);
    // The phone's, the laptop's, and the one that has healed it.
    assert_eq!(at.room.joins(), 3);
    let [rest] = marked(&at.room, "alice", [&mut at.laptop]).await;
    assert_eq!(outline(&rest), [""; 0]);
    assert_eq!(at.room.nicks(), ["c1", "alice"]);
}

async fn b51_a_room_that_does_not_take_the_account_back(stage: Stage) {
    let mut at = AfterALoss::new(&stage).await;
    at.room.admit();
    at.room.forget("alice");
    at.room
        .rules(|rules| rules.joining = Joining::Refuse("forbidden"));
    assert_eq!(at.answer().await.kind(), Some("error"));
    let gone = at.laptop.recv_for("the end").await.unwrap();
    let out = ["presence alice unavailable none/none 110 333"];
    assert_eq!(outline([&gone]), out);
    let occupant = at.room.occupant("alice");
    let refused = at.laptop.iq("get", Some(&occupant), PING).await.unwrap();
    assert_eq!(refused.error_condition(), Some("not-acceptable"));
}

async fn b53_with_nobody_attached_the_proxy_answers(stage: Stage) {
    const DISCO: &str = "http://jabber.org/protocol/disco#info";
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let mut tablet = front.session(&alice, "tablet").await;
    for client in [&mut phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    mark(&mut bob, &stage.room, [&mut phone, &mut laptop]).await;
    Ending::Reset.end(&front, phone).await;
    Ending::StreamEnd.end(&front, laptop).await;

    let occupant = format!("{}/alice", stage.room);
    let info = format!("<query xmlns='{DISCO}'/>");
    let version = "<query xmlns='jabber:iq:version'/>";
    for (query, answer) in [
        (PING, ""),
        (&info, "<feature var='urn:xmpp:ping'/>"),
        (version, "<name>mucplex</name>"),
    ] {
        let result = bob.iq("get", Some(&occupant), query).await.unwrap();
        assert_eq!(result.kind(), Some("result"), "{result:?}");
        assert_eq!(result.from(), Some(&*occupant));
        assert!(result.raw_str().contains(answer), "{result:?}");
    }
    let unknown = format!("<query xmlns='{DISCO}' node='urn:phone#phone='/>");
    for (kind, query) in [
        ("get", "<q xmlns='urn:q'/>"),
        ("set", "<q xmlns='urn:q'/>"),
        ("set", version),
        ("get", &unknown),
    ] {
        let error = bob.iq(kind, Some(&occupant), query).await.unwrap();
        assert_eq!(error.error_condition(), Some("service-unavailable"));
        assert_eq!(error.from(), Some(&*occupant));
    }
    // The session that is not in the room was asked nothing.
    let quiet = tablet.drain_until_pong().await.unwrap();
    assert_eq!(outline(&quiet), [""; 0]);
}

/// ```text
/// phone's uplink    carries ── its client is gone ·· pinged ·· released
/// laptop's uplink                 [join ····················· in]
/// ```
async fn b54_the_servers_ping_is_answered_without_a_client(stage: Stage) {
    let stage = stage.administered().await;
    let service = Service::connect(stage.server).await.unwrap();
    let room = service.new_room("ping");
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let mut bob = stage.outsider(&stage.account("bob").await, "desk").await;
    for client in [&mut phone, &mut laptop] {
        client.join(room.jid(), "alice").await.unwrap();
    }
    let (gone, next) = (phone.jid().to_owned(), laptop.jid().to_owned());
    let uplink = front.uplink(&phone);
    room.rules(|rules| rules.joining = Joining::Hold);
    phone.reset_connection().unwrap();
    room.wait_for("the next join", |it| it.from() == Some(&next))
        .await;

    stage.server.ping(&gone, "of-the-server").await.unwrap();
    // Others are told that this client is gone.
    for query in [PING, "<query xmlns='jabber:iq:version'/>"] {
        let error = bob.iq("get", Some(&gone), query).await.unwrap();
        assert_eq!(error.error_condition(), Some("service-unavailable"));
        assert_eq!(error.from(), Some(&*gone));
    }
    let answered = front.tap.wait_until(|recordings| {
        let up = String::from_utf8_lossy(&recordings[uplink].up).into_owned();
        up.contains("id='of-the-server'")
    });
    assert!(answered.await, "the ping is not answered");
    let recording = &front.tap.recordings()[uplink];
    let answer = format!(
        "<iq type='result' to='{}' id='of-the-server'>",
        alice.domain
    );
    assert_eq!(recording.count_up(&answer), 1);
    assert!(!recording.closed);

    room.admit();
    front.released(uplink).await;
    laptop.say(room.jid(), "still here").await.unwrap();
    laptop.hear("still here").await.unwrap();
}
