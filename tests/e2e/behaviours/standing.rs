//! The account's one presence in the room, out of those of its sessions (behaviours 37, 38, 40).

use std::time::Duration;

use mucplex_testkit::client::{Client, Join};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::Stanza;
use tokio::time::Instant;

use crate::stage::{Ending, Front, Stage, leave, mark, outline, through};

crate::tests![
    b37_the_room_sees_the_most_available_session,
    b37_the_status_follows_those_who_come_and_go,
    b37_nobody_there_is_xa_after_a_while,
    b38_a_presence_that_changes_nothing_is_answered,
    b40_capabilities_and_answers_are_of_one_session,
    b40_the_speaker_is_cut_off,
    b40_nobody_is_there,
];

/// Bob in his room, and two sessions of alice, of which the phone carries it.
struct Cast {
    front: Front,
    alice: Account,
    bob: Client,
    phone: Client,
    laptop: Client,
    room: String,
}

impl Cast {
    async fn new(stage: &Stage, [on_phone, on_laptop]: [&str; 2]) -> Self {
        let front = stage.own_front("").await;
        let mut bob = stage.room_with_bob().await;
        let alice = stage.account("alice").await;
        let mut phone = front.session(&alice, "phone").await;
        let mut laptop = front.session(&alice, "laptop").await;
        let room = stage.room.clone();
        join_with(&mut phone, &room, on_phone).await;
        join_with(&mut laptop, &room, on_laptop).await;
        let [on_bob] = mark(&mut laptop, &room, [&mut bob]).await;
        // The room was told of one join, of the first.
        assert_eq!(outline(&on_bob), ["presence alice none/participant"]);
        mark(&mut bob, &room, [&mut phone, &mut laptop]).await;
        Self {
            front,
            alice,
            bob,
            phone,
            laptop,
            room,
        }
    }
}

/// Joins with more children in the presence.
async fn join_with(client: &mut Client, room: &str, children: &str) {
    let join = Join {
        children: children.to_owned(),
        ..Join::default()
    };
    client.join_with(room, "alice", &join).await.unwrap();
}

/// A session says this of itself; gives the answer, which is for it.
async fn says(client: &mut Client, room: &str, children: &str) -> Stanza {
    client.drain_until_pong().await.unwrap();
    let id = client.new_id("says");
    client
        .send_raw(format!(
            "<presence id='{id}' to='{room}/alice'>{children}</presence>"
        ))
        .await
        .unwrap();
    let own = |it: &Stanza| it.name() == "presence" && it.has_status(110);
    client.wait_for("the answer", own).await.unwrap()
}

fn show(show: &str) -> String {
    if show.is_empty() {
        return String::new();
    }
    format!("<show>{show}</show>")
}

fn alice(show: &str) -> String {
    format!("presence alice none/participant {show}")
        .trim_end()
        .to_owned()
}

/// `chat` and none are the same, then `away`, `xa`, `dnd`; among equals the last word counts.
async fn b37_the_room_sees_the_most_available_session(stage: Stage) {
    let mut at = Cast::new(&stage, ["", ""]).await;
    // Who says what, and what the room is told of it.
    let steps = [
        ("phone", "dnd", None),
        ("laptop", "dnd", Some("dnd")),
        ("phone", "xa", Some("xa")),
        ("laptop", "away", Some("away")),
        ("phone", "dnd", None),
        ("laptop", "", Some("")),
        ("phone", "chat", Some("chat")),
        ("laptop", "", Some("")),
        ("laptop", "xa", Some("chat")),
        ("phone", "away", Some("away")),
        ("laptop", "away", None),
        ("phone", "xa", None),
        ("laptop", "xa", Some("xa")),
    ];
    for (who, what, told) in steps {
        let client = match who {
            "phone" => &mut at.phone,
            _ => &mut at.laptop,
        };
        says(client, &at.room, &show(what)).await;
        let [on_bob] = mark(client, &at.room, [&mut at.bob]).await;
        let told: Vec<String> = told.into_iter().map(alice).collect();
        assert_eq!(outline(&on_bob), told, "{who} says {what:?}");
    }
}

async fn b37_the_status_follows_those_who_come_and_go(stage: Stage) {
    let mut at = Cast::new(&stage, ["", ""]).await;
    let room = &at.room.clone();
    let away = "<show>away</show><status>tea</status>";
    says(&mut at.phone, room, away).await;
    let [on_bob] = mark(&mut at.phone, room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob), [""; 0]);
    leave(&mut at.laptop, room, "alice").await;
    let [on_bob] = mark(&mut at.phone, room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob), [alice("away")]);
    assert!(on_bob[0].raw_str().contains("<status>tea</status>"));
    // Whoever joins is available.
    join_with(&mut at.laptop, room, "").await;
    let [on_bob] = mark(&mut at.phone, room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob), [alice("")]);
    assert!(!on_bob[0].raw_str().contains("<status>tea</status>"));
    // It is cut off, which is no leave.
    Ending::Reset.end(&at.front, at.laptop).await;
    let [on_bob] = mark(&mut at.phone, room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob), [alice("away")]);
}

async fn b37_nobody_there_is_xa_after_a_while(stage: Stage) {
    let mut at = Cast::new(&stage, ["", ""]).await;
    let room = &at.room.clone();
    let mut tablet = at.front.session(&at.alice, "tablet").await;
    let began = Instant::now();
    Ending::Reset.end(&at.front, at.laptop).await;
    Ending::Reset.end(&at.front, at.phone).await;
    // A hand-over to the tablet's uplink is an update at most.
    let away = |it: &Stanza| outline([it]) == [alice("xa")];
    let seen = through(&mut at.bob, "xa", away).await;
    assert!(began.elapsed() >= Duration::from_secs(5));
    for line in &outline(&seen)[..seen.len() - 1] {
        assert_eq!(*line, alice(""));
    }
    join_with(&mut tablet, room, "").await;
    let [on_bob] = mark(&mut tablet, room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob), [alice("")]);
}

async fn b38_a_presence_that_changes_nothing_is_answered(stage: Stage) {
    let mut at = Cast::new(&stage, ["", ""]).await;
    let room = &at.room.clone();
    let changes = [
        // The phone is available still.
        ("laptop", "<show>away</show>", alice("110")),
        (
            "laptop",
            "<show>xa</show><status>tea</status>",
            alice("110"),
        ),
        // Nothing is new.
        ("phone", "", alice("110")),
    ];
    for (who, what, expected) in changes {
        let (client, other) = match who {
            "phone" => (&mut at.phone, &mut at.laptop),
            _ => (&mut at.laptop, &mut at.phone),
        };
        for client in [&mut *client, &mut *other] {
            client.drain_until_pong().await.unwrap();
        }
        let before = at.front.sent_upstream();
        let id = client.new_id("says");
        client
            .send_raw(format!(
                "<presence id='{id}' to='{room}/alice'>{what}</presence>"
            ))
            .await
            .unwrap();
        let answer = client.recv_for("the answer").await.unwrap();
        assert_eq!(at.front.sent_upstream(), before, "{who} says {what}");
        assert_eq!(outline([&answer]), [expected], "{who} says {what}");
        assert_eq!((answer.id(), answer.to()), (Some(&*id), Some(client.jid())));
        let [on_bob, on_other] = mark(client, room, [&mut at.bob, other]).await;
        assert_eq!(outline(&on_bob), [""; 0], "{who} says {what}");
        assert_eq!(outline(&on_other), [""; 0], "{who} says {what}");
    }
    // One that changes something is answered by the room, to all.
    let answer = says(&mut at.phone, room, "<show>dnd</show>").await;
    assert_eq!(outline([&answer]), [alice("xa 110")]);
    let [on_bob, on_laptop] = mark(&mut at.phone, room, [&mut at.bob, &mut at.laptop]).await;
    assert_eq!(outline(&on_bob), [alice("xa")]);
    assert_eq!(outline(&on_laptop), [alice("xa 110")]);
}

const NS_CAPS: &str = "http://jabber.org/protocol/caps";
const NS_PHOTO: &str = "vcard-temp:x:update";
const NS_DISCO: &str = "http://jabber.org/protocol/disco#info";

/// Capabilities (XEP-0115) and an avatar (XEP-0153) of the client `name`.
fn features_of(name: &str) -> String {
    format!(
        "<c xmlns='{NS_CAPS}' hash='sha-1' node='urn:{name}' ver='{name}='/>\
         <x xmlns='{NS_PHOTO}'><photo>{name}</photo></x>"
    )
}

/// Whose capabilities and avatar a presence shows.
fn features_in(presence: &Stanza) -> Option<String> {
    let caps = presence.get_child("c", NS_CAPS)?.attr("node")?;
    let photo = presence.get_child("x", NS_PHOTO)?.children().next()?.text();
    assert_eq!(caps, format!("urn:{photo}"), "of two sessions");
    Some(photo)
}

/// Bob asks what alice's client can do, by the capabilities that he has seen of it last, and
/// `client` is the one that answers. ejabberd asks too, in his name (`mod_caps`).
async fn is_asked(bob: &mut Client, room: &str, client: &mut Client) {
    let name = client.resource().to_owned();
    let node = format!("urn:{name}#{name}=");
    let query = format!("<query xmlns='{NS_DISCO}' node='{node}'/>");
    let occupant = format!("{room}/alice");
    let id = bob.send_iq("get", Some(&occupant), &query).await.unwrap();
    let asks = |it: &Stanza| it.name() == "iq" && it.kind() == Some("get");
    let answers = |it: &Stanza| it.id() == Some(&id) && it.name() == "iq";
    let answer = loop {
        let asked = tokio::select! {
            answer = bob.wait_for("the answer", answers) => break answer.unwrap(),
            asked = client.wait_for("bob's request", asks) => asked.unwrap(),
        };
        let about = asked.get_child("query", NS_DISCO);
        let about = about.and_then(|it| it.attr("node"));
        assert_eq!(about, Some(&*node), "{asked:?}");
        let (from, id) = (asked.from().unwrap(), asked.id().unwrap());
        let identity = format!("<identity category='client' type='pc' name='{name}'/>");
        let answer = format!(
            "<iq type='result' to='{from}' id='{id}'>\
             <query xmlns='{NS_DISCO}' node='{node}'>{identity}</query></iq>"
        );
        client.send_raw(answer).await.unwrap();
    };
    let told = answer.get_child("query", NS_DISCO);
    let told = told.and_then(|it| it.children().next());
    let told = told.and_then(|it| it.attr("name"));
    assert_eq!(told, Some(&*name), "{answer:?}");
}

/// The last presence of alice that bob has got shows the capabilities of this session.
fn shows(on_bob: &[Stanza], expected: Option<&str>) {
    let last = on_bob.last().expect("bob is told");
    assert_eq!(features_in(last).as_deref(), expected, "{last:?}");
}

async fn b40_capabilities_and_answers_are_of_one_session(stage: Stage) {
    let features = ["phone", "laptop"].map(features_of);
    let mut at = Cast::new(&stage, [&features[0], &features[1]]).await;
    let room = &at.room.clone();
    is_asked(&mut at.bob, room, &mut at.phone).await;

    // The laptop says something, and is whom the room sees.
    says(&mut at.laptop, room, &features[1]).await;
    let [on_bob] = mark(&mut at.phone, room, [&mut at.bob]).await;
    shows(&on_bob, Some("laptop"));
    is_asked(&mut at.bob, room, &mut at.laptop).await;

    // It is less available then.
    let away = format!("<show>away</show>{}", features[1]);
    says(&mut at.laptop, room, &away).await;
    let [on_bob] = mark(&mut at.phone, room, [&mut at.bob]).await;
    shows(&on_bob, Some("phone"));
    is_asked(&mut at.bob, room, &mut at.phone).await;

    // The phone leaves, and comes back.
    leave(&mut at.phone, room, "alice").await;
    let [on_bob] = mark(&mut at.laptop, room, [&mut at.bob]).await;
    shows(&on_bob, Some("laptop"));
    is_asked(&mut at.bob, room, &mut at.laptop).await;
    join_with(&mut at.phone, room, &features[0]).await;
    let [on_bob] = mark(&mut at.laptop, room, [&mut at.bob]).await;
    shows(&on_bob, Some("phone"));
    is_asked(&mut at.bob, room, &mut at.phone).await;
    let [on_laptop] = mark(&mut at.phone, room, [&mut at.laptop]).await;
    let of_phone = |it: &Stanza| it.name() == "iq" && it.raw_str().contains("urn:phone");
    assert!(!on_laptop.iter().any(of_phone), "{on_laptop:?}");
}

/// What nobody can answer is not shown.
async fn b40_nobody_is_there(stage: Stage) {
    let features = ["phone", "laptop"].map(features_of);
    let mut at = Cast::new(&stage, [&features[0], &features[1]]).await;
    let _tablet = at.front.session(&at.alice, "tablet").await;
    Ending::Reset.end(&at.front, at.laptop).await;
    Ending::Reset.end(&at.front, at.phone).await;
    let away = |it: &Stanza| outline([it]) == [alice("xa")];
    let on_bob = through(&mut at.bob, "xa", away).await;
    shows(&on_bob, None);
}

/// The one whose capabilities the room sees carries it too, or does not.
async fn b40_the_speaker_is_cut_off(stage: Stage) {
    let features = ["phone", "laptop"].map(features_of);
    let mut at = Cast::new(&stage, [&features[0], &features[1]]).await;
    let room = &at.room.clone();
    // The carrier goes, and the next one's join shows whom the room sees from then on.
    Ending::Reset.end(&at.front, at.phone).await;
    let [on_bob] = mark(&mut at.laptop, room, [&mut at.bob]).await;
    shows(&on_bob, Some("laptop"));
    is_asked(&mut at.bob, room, &mut at.laptop).await;

    let mut tablet = at.front.session(&at.alice, "tablet").await;
    join_with(&mut tablet, room, "").await;
    says(&mut tablet, room, &features_of("tablet")).await;
    let [on_bob] = mark(&mut tablet, room, [&mut at.bob]).await;
    shows(&on_bob, Some("tablet"));
    is_asked(&mut at.bob, room, &mut tablet).await;
    Ending::Fin.end(&at.front, tablet).await;
    let [on_bob] = mark(&mut at.laptop, room, [&mut at.bob]).await;
    shows(&on_bob, Some("laptop"));
    is_asked(&mut at.bob, room, &mut at.laptop).await;
}
