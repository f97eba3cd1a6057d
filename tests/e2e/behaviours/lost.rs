//! The room has lost the account, and the proxy comes back (behaviours 25 and 48).

use std::time::Duration;

use mucplex_testkit::client::{Client, ClientError};
use mucplex_testkit::rooms::{Joining, Room};
use mucplex_testkit::xml::Stanza;
use tokio::time::Instant;

use crate::stage::{Front, Stage, impersonal, mark, marked, outline, through, until};

crate::tests![
    b25_a_forgotten_occupancy_is_made_anew_and_the_message_sent_again,
    b25_a_private_message_from_a_forgotten_occupancy,
    b25_the_room_does_not_take_the_account_back,
    b48_what_the_room_has_lost_comes_back_unseen,
    b48_what_does_not_come_back_in_time_is_told,
    b25_b48_the_servers_room_service_is_restarted,
];

/// A scripted room in which carol is, directly, and both sessions of alice, of which the phone
/// carries it; `c1` and `c2` are made up.
struct Cast {
    _front: Front,
    room: Room,
    carol: Client,
    phone: Client,
    laptop: Client,
}

impl Cast {
    async fn new(stage: &Stage) -> Self {
        let front = stage.own_front("").await;
        let alice = stage.account("alice").await;
        let mut phone = front.session(&alice, "phone").await;
        let mut laptop = front.session(&alice, "laptop").await;
        let carol = stage.account("carol").await;
        let mut carol = stage.outsider(&carol, "desk").await;
        let room = stage.scripted("lost").await;
        room.crowd(2);
        carol.join(room.jid(), "carol").await.unwrap();
        room.say("c1", "before");
        for client in [&mut phone, &mut laptop] {
            let joined = client.join(room.jid(), "alice").await.unwrap();
            assert_eq!(joined.bodies(), ["before"]);
        }
        marked(&room, "alice", [&mut phone, &mut laptop]).await;
        marked(&room, "carol", [&mut carol]).await;
        Self {
            _front: front,
            room,
            carol,
            phone,
            laptop,
        }
    }

    /// Both sessions have got the same until a mark, and it is this.
    async fn both_see(&mut self, expected: &[&str]) {
        let listeners = [&mut self.phone, &mut self.laptop];
        let [on_phone, on_laptop] = marked(&self.room, "alice", listeners).await;
        assert_eq!(outline(&on_phone), expected);
        let views = [
            impersonal(&self.phone, &on_phone),
            impersonal(&self.laptop, &on_laptop),
        ];
        assert_eq!(views[0], views[1]);
    }

    /// What carol has got of alice and her words, beside presences that say what she knows.
    async fn carol_hears(&mut self, expected: &[&str]) {
        let [seen] = marked(&self.room, "carol", [&mut self.carol]).await;
        let mut lines = outline(&seen);
        lines.retain(|line| !line.starts_with('c') && !line.starts_with("presence c"));
        assert_eq!(lines, expected);
    }
}

const BACK: &str = "presence alice none/participant";

async fn b25_a_forgotten_occupancy_is_made_anew_and_the_message_sent_again(stage: Stage) {
    let mut at = Cast::new(&stage).await;
    at.room.forget("alice");
    at.room.say("c1", "missed");
    let id = at.laptop.say(at.room.jid(), "hello").await.unwrap();
    at.room
        .wait_for("the second try", |it| it.id() == Some(&id))
        .await;
    let mut views = Vec::new();
    for client in [&mut at.phone, &mut at.laptop] {
        let mut seen = until_is(client, "hello").await;
        assert_eq!(seen.pop().unwrap().id(), Some(&*id));
        assert_eq!(outline(&seen), ["c1, earlier: missed"]);
        views.push(impersonal(client, &seen));
    }
    assert_eq!(views[0], views[1]);
    at.both_see(&[]).await;
    at.carol_hears(&[BACK, "alice: hello"]).await;
    assert_eq!(at.room.count(|it| it.id() == Some(&id)), 2);
    assert_eq!(at.room.nicks(), ["c1", "c2", "carol", "alice"]);
}

/// What comes until a groupchat message, and that.
async fn until_is(client: &mut Client, body: &str) -> Vec<Stanza> {
    through(client, body, |it| it.body().as_deref() == Some(body)).await
}

/// Where the account is out of the room, a message to an occupant comes back from that one's
/// address: whose word it is, the room is asked.
async fn b25_a_private_message_from_a_forgotten_occupancy(stage: Stage) {
    let mut at = Cast::new(&stage).await;
    at.room.forget("alice");
    at.room.say("c1", "missed");
    let whisper = format!(
        "<message type='chat' id='psst' to='{}'><body>psst</body></message>",
        at.room.occupant("carol")
    );
    at.laptop.send_raw(whisper).await.unwrap();
    let seen = until_is(&mut at.carol, "psst").await;
    assert_eq!(outline(&seen), ["c1: missed", BACK, "(chat) alice: psst"]);
    at.both_see(&["c1, earlier: missed"]).await;
    at.carol_hears(&[]).await;
}

async fn b25_the_room_does_not_take_the_account_back(stage: Stage) {
    let mut at = Cast::new(&stage).await;
    at.room.forget("alice");
    at.room
        .rules(|rules| rules.joining = Joining::Refuse("forbidden"));
    let id = at.laptop.say(at.room.jid(), "hello").await.unwrap();
    let error = at.laptop.recv_for("the error").await.unwrap();
    assert_eq!((error.name(), error.kind()), ("message", Some("error")));
    assert_eq!(
        (error.id(), error.from()),
        (Some(&*id), Some(at.room.jid()))
    );
    let out = ["presence alice unavailable none/none 110 333"];
    for client in [&mut at.laptop, &mut at.phone] {
        let gone = client.recv_for("the end").await.unwrap();
        assert_eq!(outline([&gone]), out);
        assert_eq!(gone.to(), Some(client.jid()));
        assert_eq!(outline(&client.drain_until_pong().await.unwrap()), [""; 0]);
    }
    // It is over for good; a join goes upstream.
    let joins = at.room.joins();
    let refused = at.phone.join(at.room.jid(), "alice").await;
    assert!(
        matches!(refused, Err(ClientError::Refused(_))),
        "{refused:?}"
    );
    at.room.rules(|rules| rules.joining = Joining::Admit);
    let joined = at.phone.join(at.room.jid(), "alice").await.unwrap();
    assert_eq!(joined.nicks(), ["c1", "c2", "carol"]);
    assert_eq!(at.room.joins(), joins + 2);
    assert_eq!(at.room.count(|it| it.id() == Some(&id)), 1);
}

async fn b48_what_the_room_has_lost_comes_back_unseen(stage: Stage) {
    for code in [332, 333] {
        let mut at = Cast::new(&stage).await;
        at.room.forget_received();
        at.room.rules(|rules| rules.joining = Joining::Hold);
        at.room.remove("alice", &[code]);
        at.room.wait_for("the proxy's join", joins).await;
        // What happens without her, and what she says meanwhile.
        at.room.remove("c2", &[]);
        at.room.arrive("c3");
        at.room.show("c1", "<show>away</show>");
        at.room.say("c1", "missed");
        let id = at.laptop.say(at.room.jid(), "hello").await.unwrap();
        for client in [&mut at.phone, &mut at.laptop] {
            assert_eq!(outline(&client.drain_until_pong().await.unwrap()), [""; 0]);
        }
        at.room.rules(|rules| rules.joining = Joining::Admit);
        at.room.admit();
        let mut views = Vec::new();
        for client in [&mut at.phone, &mut at.laptop] {
            let mut seen = until_is(client, "hello").await;
            assert_eq!(seen.pop().unwrap().id(), Some(&*id));
            let mut lines = outline(&seen);
            assert_eq!(lines.pop().unwrap(), "c1, earlier: missed");
            lines.sort_unstable();
            let difference = [
                "presence c1 none/participant away",
                "presence c2 unavailable none/none",
                "presence c3 none/participant",
            ];
            assert_eq!(lines, difference, "{code}");
            views.push(impersonal(client, &seen));
        }
        assert_eq!(views[0], views[1]);
        at.both_see(&[]).await;
        let gone = format!("presence alice unavailable none/none {code}");
        at.carol_hears(&[&gone, BACK, "alice: hello"]).await;
        assert_eq!(at.room.joins(), 1);
    }
}

fn joins(stanza: &Stanza) -> bool {
    stanza.name() == "presence" && stanza.has_child("x", "http://jabber.org/protocol/muc")
}

/// How long the proxy tries to come back.
const COME_BACK: Duration = Duration::from_secs(30);

/// Both codes in one, for each takes its time.
async fn b48_what_does_not_come_back_in_time_is_told(stage: Stage) {
    let mut lost = [Cast::new(&stage).await, Cast::new(&stage).await];
    let began = Instant::now();
    for (at, code) in lost.iter_mut().zip([332, 333]) {
        at.room.forget_received();
        at.room
            .rules(|rules| rules.joining = Joining::Refuse("service-unavailable"));
        at.room.remove("alice", &[code]);
        for client in [&mut at.phone, &mut at.laptop] {
            client.set_timeout(2 * COME_BACK);
        }
    }
    for (at, code) in lost.iter_mut().zip([332, 333]) {
        let out = format!("presence alice unavailable none/none 110 {code}");
        for client in [&mut at.phone, &mut at.laptop] {
            let gone = client.recv_for("the end").await.unwrap();
            assert_eq!(outline([&gone]), [&*out]);
            assert_eq!(gone.to(), Some(client.jid()));
            assert_eq!(outline(&client.drain_until_pong().await.unwrap()), [""; 0]);
        }
        assert!(began.elapsed() >= COME_BACK, "{:?}", began.elapsed());
        // It has tried more than once, and not all the time.
        assert!((2..=31).contains(&at.room.joins()), "{}", at.room.joins());
        at.room.rules(|rules| rules.joining = Joining::Admit);
        let joined = at.laptop.join(at.room.jid(), "alice").await.unwrap();
        assert_eq!(joined.nicks(), ["c1", "c2", "carol"]);
        at.laptop.say(at.room.jid(), "hello").await.unwrap();
        assert_eq!(outline(&until(&mut at.laptop, "hello").await), [""; 0]);
    }
}

/// Real rooms, without their occupants: on Prosody nobody is told, and the next message finds out;
/// ejabberd tells everybody (332).
async fn b25_b48_the_servers_room_service_is_restarted(stage: Stage) {
    let stage = stage.administered().await;
    let room = &stage.room;
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    bob.configure_room(room, &[("muc#roomconfig_persistentroom", "1")])
        .await
        .unwrap();
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        client.join(room, "alice").await.unwrap();
    }
    mark(&mut bob, room, [&mut phone, &mut laptop]).await;
    let joins = || front.tap.count_up("http://jabber.org/protocol/muc'");
    let before = joins();

    for client in [&mut phone, &mut laptop] {
        client.set_timeout(COME_BACK);
    }
    stage.server.lose_occupants().await.unwrap();
    let id = laptop.say(room, "hello").await.unwrap();
    for client in [&mut phone, &mut laptop] {
        let mut seen = until_is(client, "hello").await;
        assert_eq!(seen.pop().unwrap().id(), Some(&*id));
        // Bob is out of the room as well, and has not come back; ejabberd may say why.
        let lines = outline(&seen).concat().replace(" 332", "");
        assert_eq!(lines, "presence bob unavailable owner/none");
    }
    // While ejabberd restarts it, the service is not there, or takes a join without a word: the
    // proxy tries again.
    assert!((1..=3).contains(&(joins() - before)));
    let joined = bob.join(room, "bob").await.unwrap();
    assert_eq!(joined.bodies(), ["hello"]);
    for seen in mark(&mut bob, room, [&mut phone, &mut laptop]).await {
        assert_eq!(outline(&seen), ["presence bob owner/moderator"]);
    }
}
