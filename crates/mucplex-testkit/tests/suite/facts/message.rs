//! Groupchat messages: copies, ids, errors, size.

use mucplex_testkit::client::{Client, ClientError};
use mucplex_testkit::server::{Kind, Options};
use mucplex_testkit::xml::Stanza;

use crate::stage::Stage;

crate::on_each_server!(copies, non_anonymous, refused, large, private);

/// The bytes without the value of the first `to` attribute.
fn without_to(stanza: &Stanza) -> String {
    let to = stanza.to().unwrap();
    stanza.raw_str().replacen(to, "", 1)
}

async fn copies(kind: Kind) {
    let mut stage = Stage::new(kind, "copies").await;
    let room = stage.room.clone();
    let alice = stage.account("alice").await;
    let (bob, carol) = (stage.account("bob").await, stage.account("carol").await);
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let mut tablet = stage.session(&carol, "tablet").await;
    phone.join(&room, "alice").await.unwrap();
    laptop.join(&room, "alice").await.unwrap();
    tablet.join(&room, "carol").await.unwrap();

    let message = format!(
        "<message xmlns:f='urn:f' f:a=\"1\" xml:lang='de' type='groupchat' id='m-1' to='{room}'>\
         <body>h&#xe4;llo &amp; \"quotes\" &lt;</body><f:x>\n </f:x>\
         <stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='{room}'/>\
         <occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/>\
         <delay xmlns='urn:xmpp:delay' from='{room}' stamp='2001-01-01T00:00:00Z'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='o-1'/></message>"
    );
    phone.send_raw(message).await.unwrap();
    phone
        .send_raw(format!(
            "<message type='groupchat' to='{room}'><body>no id</body></message>"
        ))
        .await
        .unwrap();
    let mut first: Vec<Stanza> = Vec::new();
    for client in [&mut phone, &mut laptop, &mut desk, &mut tablet] {
        let who = client.jid().to_owned();
        let copy = client
            .wait_for("m-1", |s| s.id() == Some("m-1"))
            .await
            .unwrap();
        stage.show(&who, [&copy]);
        first.push(copy);
    }
    for copy in &first {
        assert_eq!(without_to(copy), without_to(&first[0]));
    }
    let full = phone.jid().to_owned();
    for copy in &first[1..] {
        stage.note(&format!(
            "the sender's full JID stands in the copy of {}: {}",
            copy.to().unwrap(),
            copy.raw_str().contains(&full)
        ));
    }
    stage.settle("alice/phone", &mut phone).await;
    stage.note("the history form of the same message");
    tablet.leave(&room, "carol", None).await.unwrap();
    tablet.settle(&room).await.unwrap();
    let joined = tablet.join(&room, "carol").await.unwrap();
    stage.show("carol/tablet", &joined.history);
    for stanza in &joined.history {
        let shown = stanza.raw_str().contains(&full);
        stage.note(&format!(
            "the sender's full JID stands in the history: {shown}"
        ));
    }
}

async fn non_anonymous(kind: Kind) {
    let options = Options {
        room_archive: true,
        ..Options::default()
    };
    let mut stage = Stage::with(kind, "non-anonymous", options).await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    stage.note("the room becomes non-anonymous");
    desk.configure_room(&room, &[("muc#roomconfig_whois", "anyone")])
        .await
        .unwrap();
    stage.settle("bob/desk", &mut desk).await;
    stage.settle("alice/phone", &mut phone).await;
    desk.say(&room, "hello").await.unwrap();
    let heard = phone.hear("hello").await.unwrap();
    stage.show("alice/phone", [&heard]);
    phone.leave(&room, "alice", None).await.unwrap();
    phone.settle(&room).await.unwrap();
    stage.note("a join");
    let joined = phone.join(&room, "alice").await.unwrap();
    stage.show("alice/phone", &joined.all);
    assert!(joined.self_presence.has_status(100));
    stage.note("a query to the archive of the room");
    phone
        .send_iq("set", Some(&room), "<query xmlns='urn:xmpp:mam:2'/>")
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
}

async fn refused(kind: Kind) {
    let mut stage = Stage::new(kind, "refused").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();

    let message = format!(
        "<message type='groupchat' id='m-2' to='{room}'><body>hello</body>\
         <x xmlns='urn:payload'/></message>"
    );
    stage.note("a message of someone who is not in the room");
    phone.send_raw(&message).await.unwrap();
    let seen = stage.settle("alice/phone", &mut phone).await;
    assert_eq!(seen[0].error_condition(), Some("not-acceptable"));
    assert_eq!(seen[0].id(), Some("m-2"));

    stage.note("a message of a visitor in a moderated room");
    let fields = [
        ("muc#roomconfig_moderatedroom", "1"),
        ("members_by_default", "0"),
    ];
    desk.configure_room(&room, &fields).await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    let query = "<query xmlns='http://jabber.org/protocol/muc#admin'>\
                 <item nick='alice' role='visitor'/></query>";
    desk.iq("set", Some(&room), query).await.unwrap();
    phone.settle(&room).await.unwrap();
    phone.send_raw(&message).await.unwrap();
    let seen = stage.settle("alice/phone", &mut phone).await;
    assert_eq!(seen[0].error_condition(), Some("forbidden"));
    assert_eq!(seen[0].id(), Some("m-2"));

    stage.note("a subject of a visitor");
    phone
        .send_raw(format!(
            "<message type='groupchat' id='m-3' to='{room}'><subject>x</subject></message>"
        ))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;

    stage.note("a message and a ping to a room that does not exist");
    let nowhere = stage.server.new_room("nowhere");
    phone.say(&nowhere, "hello").await.unwrap();
    let own = format!("{nowhere}/alice");
    phone
        .send_iq("get", Some(&own), "<ping xmlns='urn:xmpp:ping'/>")
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;

    stage.note("self-ping in the room, and by a session that is not in it");
    let own = format!("{room}/alice");
    phone
        .send_iq("get", Some(&own), "<ping xmlns='urn:xmpp:ping'/>")
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    let mut laptop = stage.session(&alice, "laptop").await;
    laptop
        .send_iq("get", Some(&own), "<ping xmlns='urn:xmpp:ping'/>")
        .await
        .unwrap();
    stage.settle("alice/laptop", &mut laptop).await;
}

async fn private(kind: Kind) {
    let mut stage = Stage::new(kind, "private").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    laptop.join(&room, "alice").await.unwrap();
    for client in [&mut phone, &mut laptop, &mut desk] {
        client.settle(&room).await.unwrap();
    }
    stage.note("bob sends a PM and a ping to alice, who has two sessions; then a PM to nobody");
    desk.send_raw(format!(
        "<message type='chat' id='pm-1' to='{room}/alice'><body>psst</body></message>\
         <iq type='get' id='ping-1' to='{room}/alice'><ping xmlns='urn:xmpp:ping'/></iq>\
         <message type='chat' id='pm-2' to='{room}/nobody'><body>psst</body></message>"
    ))
    .await
    .unwrap();
    stage.settle("bob/desk", &mut desk).await;
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("alice/laptop", &mut laptop).await;
    stage.note("alice/phone sends a PM to bob");
    phone
        .send_raw(format!(
            "<message type='chat' id='pm-3' to='{room}/bob'><body>yes?</body>\
             <x xmlns='http://jabber.org/protocol/muc#user'/></message>"
        ))
        .await
        .unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("bob/desk", &mut desk).await;
}

async fn large(kind: Kind) {
    let mut stage = Stage::new(kind, "large").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    desk.create_room(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    for size in [200 << 10, 1 << 20] {
        let body = "x".repeat(size);
        let heard = exchange(&mut phone, &mut desk, &room, &body).await;
        stage.note(&format!("{size} bytes: {}", heard.is_ok()));
        heard.unwrap();
    }
}

async fn exchange(
    from: &mut Client,
    to: &mut Client,
    room: &str,
    body: &str,
) -> Result<(), ClientError> {
    from.say(room, body).await?;
    from.hear(body).await?;
    to.hear(body).await?;
    Ok(())
}
