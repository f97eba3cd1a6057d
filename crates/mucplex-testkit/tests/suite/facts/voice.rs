//! Voice requests (XEP-0045 7.13 and 8.6).

use mucplex_testkit::server::Kind;

use crate::stage::Stage;

crate::on_each_server!(request);

fn form(nick: &str, jid: &str, allow: &str) -> String {
    let field =
        |name: &str, value: &str| format!("<field var='{name}'><value>{value}</value></field>");
    [
        "<x xmlns='jabber:x:data' type='submit'>".to_owned(),
        field("FORM_TYPE", "http://jabber.org/protocol/muc#request"),
        field("muc#role", "participant"),
        field("muc#jid", jid),
        field("muc#roomnick", nick),
        field("muc#request_allow", allow),
        "</x>".to_owned(),
    ]
    .concat()
}

async fn request(kind: Kind) {
    let mut stage = Stage::new(kind, "voice-request").await;
    let room = stage.room.clone();
    let alice = stage.account("alice").await;
    let (bob, carol) = (stage.account("bob").await, stage.account("carol").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut lap = stage.session(&bob, "lap").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut tablet = stage.session(&carol, "tablet").await;
    desk.create_room(&room, "bob").await.unwrap();
    let fields = [
        ("muc#roomconfig_moderatedroom", "1"),
        ("members_by_default", "0"),
    ];
    desk.configure_room(&room, &fields[..1]).await.unwrap();
    stage.note(&format!(
        "members_by_default: {:?}",
        desk.configure_room(&room, &fields[1..]).await.is_ok()
    ));
    lap.join(&room, "bob").await.unwrap();
    phone.join(&room, "alice").await.unwrap();
    tablet.join(&room, "carol").await.unwrap();
    for nick in ["alice", "carol"] {
        let query = format!(
            "<query xmlns='http://jabber.org/protocol/muc#admin'>\
             <item nick='{nick}' role='visitor'/></query>"
        );
        desk.iq("set", Some(&room), &query).await.unwrap();
    }
    let clients = &mut [&mut phone, &mut desk, &mut lap, &mut tablet];
    stage.round("alice and carol are visitors", clients).await;
    let ask = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
               <value>http://jabber.org/protocol/muc#request</value></field><field var='muc#role' \
               type='list-single' label='Requested role'><value>participant</value></field></x>";
    clients[0]
        .send_raw(format!("<message id='v-1' to='{room}'>{ask}</message>"))
        .await
        .unwrap();
    let seen = stage.round("alice asks for voice", clients).await;
    for moderator in [1, 2] {
        assert_eq!(seen[moderator][0].from(), Some(room.as_str()));
        assert_eq!(seen[moderator][0].to(), Some(clients[moderator].jid()));
    }
    clients[0]
        .send_raw(format!("<message id='v-2' to='{room}'>{ask}</message>"))
        .await
        .unwrap();
    stage.round("and again", clients).await;
    let yes = form("alice", &format!("{}/phone", alice.jid()), "true");
    for (moderator, id) in [(1, "v-3"), (2, "v-4")] {
        clients[moderator]
            .send_raw(format!("<message id='{id}' to='{room}'>{yes}</message>"))
            .await
            .unwrap();
        let seen = stage.round(&format!("bob answers: {id}"), clients).await;
        let silent = seen.iter().all(Vec::is_empty);
        assert_eq!(silent, id == "v-4", "the second answer changes nothing");
    }
    let no = form("alice", &format!("{}/phone", alice.jid()), "false");
    clients[2]
        .send_raw(format!("<message id='v-5' to='{room}'>{no}</message>"))
        .await
        .unwrap();
    stage
        .round("bob's other stream says no, behind the yes", clients)
        .await;
    let yes = form("carol", &format!("{}/tablet", carol.jid()), "true");
    clients[1]
        .send_raw(format!("<message id='v-6' to='{room}'>{yes}</message>"))
        .await
        .unwrap();
    stage
        .round("bob grants what carol has not asked for", clients)
        .await;
    clients[0]
        .send_raw(format!("<message id='v-7' to='{room}'>{yes}</message>"))
        .await
        .unwrap();
    stage.round("alice, no moderator, grants", clients).await;
}
