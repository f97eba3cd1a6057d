//! Sessions that nobody looks at (behaviour 65).

use mucplex_testkit::client::Client;
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::{NS_MUC_OWNER, NS_MUC_USER, Stanza};

use crate::stage::{Stage, impersonal, mark, moderate, nick, outline, through, until};

crate::tests![
    b65_in_a_busy_room_an_inactive_session_gets_the_last_presences,
    b65_a_session_that_becomes_active_gets_what_was_held,
    b65_an_inactive_session_joins_as_any_other,
    b65_presences_of_contacts_are_combined,
    b65_a_kick_reaches_an_inactive_session_at_once,
    b65_a_destroyed_room_reaches_an_inactive_session_at_once,
];

const ACTIVE: &str = "<active xmlns='urn:xmpp:csi:0'/>";
const INACTIVE: &str = "<inactive xmlns='urn:xmpp:csi:0'/>";

const STATES: &str = "http://jabber.org/protocol/chatstates";
/// Affiliation and role of the two who flap.
const STANDING: [&str; 2] = ["none/participant", "owner/moderator"];

/// Two sessions of alice in a room with bob and carol; nobody looks at the phone.
struct Busy {
    alice: Account,
    bob: Client,
    carol: Client,
    phone: Client,
    desk: Client,
    room: String,
}

impl Busy {
    /// `carrier`: the session that joins first, whose uplink carries the room.
    async fn new(stage: &Stage, carrier: &str) -> Self {
        let mut bob = stage.room_with_bob().await;
        let carol = stage.guest("carol").await;
        let alice = stage.account("alice").await;
        let mut phone = stage.session(&alice, "phone").await;
        let mut desk = stage.session(&alice, "desk").await;
        let room = stage.room.clone();
        let order = match carrier {
            "phone" => [&mut phone, &mut desk],
            _ => [&mut desk, &mut phone],
        };
        for session in order {
            session.join(&room, "alice").await.unwrap();
        }
        mark(&mut bob, &room, [&mut phone, &mut desk]).await;
        inactive(&mut phone).await;
        Self {
            alice,
            bob,
            carol,
            phone,
            desk,
            room,
        }
    }

    /// Carol and bob flap; gives what the desk sees of it.
    async fn flap(&mut self) -> Vec<Stanza> {
        let room = &self.room;
        for show in ["away", "xa", "dnd"] {
            for (who, nick) in [(&mut self.carol, "carol"), (&mut self.bob, "bob")] {
                who.send_raw(format!(
                    "<presence to='{room}/{nick}'><show>{show}</show></presence>\
                     <message to='{room}' type='groupchat'>\
                     <composing xmlns='{STATES}'/></message>"
                ))
                .await
                .unwrap();
                who.settle(room).await.unwrap();
            }
        }
        let mut live = Vec::new();
        for _ in 0..12 {
            live.push(self.desk.recv_for("what the others do").await.unwrap());
        }
        let shows = |show| {
            let line = |nick| {
                format!(
                    "presence {nick} {} {show}",
                    STANDING[usize::from(nick == "bob")]
                )
            };
            [
                line("carol"),
                "carol: (no body)".into(),
                line("bob"),
                "bob: (no body)".into(),
            ]
        };
        let expected: Vec<String> = ["away", "xa", "dnd"].into_iter().flat_map(shows).collect();
        assert_eq!(outline(&live), expected);
        live
    }
}

/// Nobody looks at this session any more, and the proxy knows.
async fn inactive(client: &mut Client) {
    client.send_raw(INACTIVE).await.unwrap();
    client.drain_until_pong().await.unwrap();
}

/// The last presence and the last chat state of each of two occupants.
fn last(live: &[Stanza]) -> &[Stanza] {
    &live[live.len() - 4..]
}

async fn b65_in_a_busy_room_an_inactive_session_gets_the_last_presences(stage: Stage) {
    for carrier in ["phone", "desk"] {
        let stage = Stage::new(stage.kind, &format!("busy-{carrier}")).await;
        let mut at = Busy::new(&stage, carrier).await;
        for body in ["lunch?", "anybody?"] {
            let live = at.flap().await;
            at.bob.say(&at.room, body).await.unwrap();
            let on_desk = until(&mut at.desk, body).await;
            assert_eq!(outline(&on_desk), [""; 0]);
            let on_phone = until(&mut at.phone, body).await;
            assert_eq!(
                impersonal(&at.phone, &on_phone),
                impersonal(&at.desk, last(&live))
            );
        }
    }
}

async fn b65_a_session_that_becomes_active_gets_what_was_held(stage: Stage) {
    let mut at = Busy::new(&stage, "desk").await;
    let live = at.flap().await;
    at.phone.send_raw(ACTIVE).await.unwrap();
    let on_phone = at.phone.drain_until_pong().await.unwrap();
    assert_eq!(
        impersonal(&at.phone, &on_phone),
        impersonal(&at.desk, last(&live))
    );
    // From now on it sees every step.
    let live = at.flap().await;
    let [on_phone] = mark(&mut at.bob, &at.room, [&mut at.phone]).await;
    assert_eq!(
        impersonal(&at.phone, &on_phone),
        impersonal(&at.desk, &live)
    );
}

async fn b65_an_inactive_session_joins_as_any_other(stage: Stage) {
    let mut at = Busy::new(&stage, "desk").await;
    at.flap().await;
    at.bob.say(&at.room, "hi").await.unwrap();
    until(&mut at.desk, "hi").await;
    let mut joins = Vec::new();
    for resource in ["tablet", "watch"] {
        let mut session = stage.session(&at.alice, resource).await;
        if resource == "watch" {
            inactive(&mut session).await;
        }
        let joined = session.join(&at.room, "alice").await.unwrap();
        joins.push(impersonal(&session, &joined.all));
    }
    assert_eq!(joins[0].len(), joins[1].len());
    // The first join of an account is one that the room answers.
    let dora = stage.account("dora").await;
    let mut session = stage.session(&dora, "phone").await;
    inactive(&mut session).await;
    let joined = session.join(&at.room, "dora").await.unwrap();
    assert_eq!(outline(&joined.presences).len(), 3);
    assert_eq!(joined.history.len(), 1);
}

async fn b65_presences_of_contacts_are_combined(stage: Stage) {
    let mut at = Busy::new(&stage, "phone").await;
    let to = at.phone.jid().to_owned();
    for show in ["away", "xa", "dnd"] {
        let presence = format!("<presence to='{to}'><show>{show}</show></presence>");
        at.carol.send_raw(presence).await.unwrap();
    }
    at.carol
        .send_raw(format!(
            "<message to='{to}' type='chat'><composing xmlns='{STATES}'/></message>\
             <message to='{to}' type='chat'><body>hi</body></message>"
        ))
        .await
        .unwrap();
    let is_it = |stanza: &Stanza| stanza.body().as_deref() == Some("hi");
    let seen = through(&mut at.phone, "the message", is_it).await;
    let shown: Vec<_> = seen.iter().map(|stanza| stanza.name()).collect();
    assert_eq!(shown, ["presence", "message", "message"], "{seen:?}");
    assert!(seen[0].raw_str().contains("<show>dnd</show>"), "{seen:?}");
    assert!(seen[1].has_child("composing", STATES), "{seen:?}");
}

/// What the phone gets until it is out of the room.
async fn out(phone: &mut Client) -> Vec<Stanza> {
    let out = |stanza: &Stanza| nick(stanza) == "alice" && stanza.kind() == Some("unavailable");
    through(phone, "the end of the occupancy", out).await
}

async fn b65_a_kick_reaches_an_inactive_session_at_once(stage: Stage) {
    let mut at = Busy::new(&stage, "desk").await;
    let live = at.flap().await;
    moderate(&mut at.bob, &at.room, "<item nick='alice' role='none'/>").await;
    let mut seen = out(&mut at.phone).await;
    let kick = seen.pop().unwrap();
    assert_eq!(
        outline([&kick]),
        ["presence alice unavailable none/none 110 307"]
    );
    // ejabberd precedes it with one of the room itself.
    seen.retain(|stanza| nick(stanza) != "(room)");
    assert_eq!(
        impersonal(&at.phone, &seen),
        impersonal(&at.desk, last(&live))
    );
}

async fn b65_a_destroyed_room_reaches_an_inactive_session_at_once(stage: Stage) {
    let mut at = Busy::new(&stage, "phone").await;
    let query = format!("<query xmlns='{NS_MUC_OWNER}'><destroy><reason/></destroy></query>");
    let answer = at.bob.iq("set", Some(&at.room), &query).await.unwrap();
    assert_eq!(answer.kind(), Some("result"), "{answer:?}");
    let seen = out(&mut at.phone).await;
    let user = seen.last().unwrap().get_child("x", NS_MUC_USER).unwrap();
    assert!(user.has_child("destroy", NS_MUC_USER), "{seen:?}");
}
