//! What becomes of an account that nobody is there for (behaviours 44, 45, 61, 76).

use mucplex_testkit::client::{Client, Device};
use mucplex_testkit::server::{Account, Options, Server};
use mucplex_testkit::xml::Stanza;

use crate::stage::{Front, Stage, leave, mark, outline, through, until};

crate::tests![
    b44_the_time_to_stay_is_over,
    b45_a_bookmark_is_retracted,
    b61_the_server_is_restarted,
    b76_what_is_sent_to_the_anchor_reaches_sessions,
];

/// Alice's phone in bob's room by way of an anchor.
async fn anchored(stage: &mut Stage, sections: &str) -> (Front, Account, Client, Client) {
    *stage = stage.hashed().await;
    let front = Front::with_anchors(stage.server, sections).await;
    let bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&stage.room, "alice").await.unwrap();
    (front, alice, bob, phone)
}

fn is_gone(stanza: &Stanza) -> bool {
    stanza.kind() == Some("unavailable")
}

async fn b44_the_time_to_stay_is_over(mut stage: Stage) {
    let (_front, _, mut bob, phone) = anchored(&mut stage, "[rooms]\nstay = '2s'").await;
    phone.reset_connection().unwrap();
    let seen = through(&mut bob, "alice's leave", is_gone).await;
    let last = outline(&seen).pop();
    assert_eq!(
        last.as_deref(),
        Some("presence alice unavailable none/none")
    );
}

async fn b45_a_bookmark_is_retracted(mut stage: Stage) {
    let (front, alice, mut bob, mut phone) = anchored(&mut stage, "").await;
    let mut carol = stage.guest("carol").await;
    mark(&mut carol, &stage.room, [&mut bob, &mut phone]).await;
    let room = stage.room.clone();
    let pubsub =
        |what: &str| format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'>{what}</pubsub>");
    let bookmark = pubsub(&format!(
        "<publish node='urn:xmpp:bookmarks:1'><item id='{room}'>\
         <conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'><nick>alice</nick></conference>\
         </item></publish>"
    ));
    let retract = pubsub(&format!(
        "<retract node='urn:xmpp:bookmarks:1' notify='true'><item id='{room}'/></retract>"
    ));
    for request in [&bookmark, &retract, &bookmark] {
        let id = phone.send_iq("set", None, request).await.unwrap();
        let answer = |it: &Stanza| it.id() == Some(&id);
        let answered = phone.wait_for("the answer", answer).await.unwrap();
        assert_eq!(answered.kind(), Some("result"), "{answered:?}");
    }
    // While a session is in the room, a bookmark is only that.
    let [seen] = mark(&mut carol, &room, [&mut bob]).await;
    assert_eq!(outline(&seen), [""; 0]);
    let mut desk = front.session(&alice, "desk").await;
    phone.reset_connection().unwrap();
    desk.send_iq("set", None, &retract).await.unwrap();
    through(&mut bob, "alice's leave", is_gone).await;
}

/// Everything is back in its rooms, and sessions have been told once.
async fn b61_the_server_is_restarted(stage: Stage) {
    let options = Options {
        hashed_passwords: true,
        room_archive: true,
        ..Options::default()
    };
    let mut server = Server::start_with(stage.kind, options).await.unwrap();
    let front = Front::with_anchors(&server, "").await;
    let alice = server.account("alice").await.unwrap();
    let room = server.new_room("restarted");
    let mut phone = front.session(&alice, "phone").await;
    phone.create_room(&room, "alice").await.unwrap();
    let mut laptop = Device::connect(front.login(&alice).resource("laptop"))
        .await
        .unwrap();
    laptop.join(&room, "alice").await.unwrap();

    let joins = || {
        front
            .tap
            .count_up("<x xmlns='http://jabber.org/protocol/muc'")
    };
    let before = joins();
    server.restart().await.unwrap();
    let mut errors = 0;
    while let Ok(next) = phone.recv().await {
        errors += usize::from(next.name() == "error");
    }
    assert_eq!(errors, 1, "one clean end");
    // The account comes back without any session, and before anybody else.
    let back = front.tap.wait_until(|_| joins() > before).await;
    assert!(back, "no join");
    let bob = server.account("bob").await.unwrap();
    let mut bob = bob.direct().resource("desk").connect().await.unwrap();
    let joined = bob.join(&room, "bob").await.unwrap();
    assert_eq!(joined.nicks(), ["alice"]);
    let mut phone = front.session(&alice, "phone").await;
    phone.join(&room, "alice").await.unwrap();
    bob.say(&room, "all here").await.unwrap();
    until(&mut phone, "all here").await;
}

async fn b76_what_is_sent_to_the_anchor_reaches_sessions(mut stage: Stage) {
    let (front, alice, mut bob, mut phone) = anchored(&mut stage, "").await;
    let mut laptop = front.session(&alice, "laptop").await;
    laptop.join(&stage.room, "alice").await.unwrap();
    // Bob, who moderates, is shown whose stream it is.
    let shown = |it: &Stanza| it.raw_str().contains("/mucplex-");
    leave(&mut bob, &stage.room, "bob").await;
    let joined = bob.join(&stage.room, "bob").await.unwrap();
    let presence = joined.presences.iter().find(|it| shown(it));
    let presence = presence.unwrap_or_else(|| panic!("{joined:?}"));
    let text = presence.raw_str();
    let resource = text.split("/mucplex-").nth(1).unwrap();
    let anchor = format!("{}/mucplex-{}", phone.bare_jid(), &resource[..16]);

    bob.send_raw(format!(
        "<message to='{anchor}' type='chat' id='m1'><body>psst</body></message>"
    ))
    .await
    .unwrap();
    for session in [&mut phone, &mut laptop] {
        let got = session
            .wait_for("the message", |it| it.id() == Some("m1"))
            .await
            .unwrap();
        assert_eq!(
            (got.body().as_deref(), got.to()),
            (Some("psst"), Some(session.jid()))
        );
    }
    let query = "<query xmlns='jabber:iq:version'/>";
    let id = bob.send_iq("get", Some(&anchor), query).await.unwrap();
    let is_asked = |it: &Stanza| it.raw_str().contains("jabber:iq:version");
    let asked = phone.wait_for("the request", is_asked).await;
    let (session, request) = match asked {
        Ok(request) => (&mut phone, request),
        Err(_) => {
            let request = laptop.wait_for("the request", is_asked).await.unwrap();
            (&mut laptop, request)
        }
    };
    let (to, request_id) = (request.from().unwrap(), request.id().unwrap());
    session
        .send_raw(format!(
            "<iq type='result' to='{to}' id='{request_id}'>\
             <query xmlns='jabber:iq:version'><name>phone</name></query></iq>"
        ))
        .await
        .unwrap();
    let answer = bob
        .wait_for("the answer", |it| it.id() == Some(&id))
        .await
        .unwrap();
    assert_eq!(
        (answer.kind(), answer.from()),
        (Some("result"), Some(&*anchor))
    );
}
