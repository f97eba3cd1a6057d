//! Joins that are refused.

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::NS_MUC_ADMIN;

use crate::stage::Stage;

crate::on_each_server!(refused_joins);

/// Joins, writes the error presence down, and gives its condition.
async fn refuse(stage: &mut Stage, client: &mut Client, room: &str, join: &Join) -> String {
    match client.join_with(room, "alice", join).await {
        Err(ClientError::Refused(presence)) => {
            stage.show("alice/phone", [&*presence]);
            presence.error_condition().unwrap_or_default().to_owned()
        }
        Ok(joined) => {
            stage.show("alice/phone", &joined.all);
            "joined".to_owned()
        }
        Err(error) => panic!("{error}"),
    }
}

async fn refused_joins(kind: Kind) {
    let mut stage = Stage::new(kind, "refused-joins").await;
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    let mut phone = stage.session(&alice, "phone").await;
    let plain = Join::default();

    let room = stage.server.new_room("password");
    desk.create_room(&room, "bob").await.unwrap();
    let fields = [
        ("muc#roomconfig_passwordprotectedroom", "1"),
        ("muc#roomconfig_roomsecret", "tea"),
    ];
    desk.configure_room(&room, &fields).await.unwrap();
    stage.note("no password, a wrong one, the right one");
    assert_eq!(
        refuse(&mut stage, &mut phone, &room, &plain).await,
        "not-authorized"
    );
    let wrong = Join {
        password: Some("milk".into()),
        ..Join::default()
    };
    assert_eq!(
        refuse(&mut stage, &mut phone, &room, &wrong).await,
        "not-authorized"
    );
    let right = Join {
        password: Some("tea".into()),
        ..Join::default()
    };
    assert_eq!(
        refuse(&mut stage, &mut phone, &room, &right).await,
        "joined"
    );
    let mut laptop = stage.session(&alice, "laptop").await;
    stage.note("a second session under the same nick, without the password");
    assert_eq!(
        refuse(&mut stage, &mut laptop, &room, &plain).await,
        "not-authorized"
    );

    let room = stage.server.new_room("banned");
    desk.create_room(&room, "bob").await.unwrap();
    let item = format!("<item jid='{}' affiliation='outcast'/>", alice.jid());
    let query = format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>");
    desk.iq("set", Some(&room), &query).await.unwrap();
    stage.note("banned");
    assert_eq!(
        refuse(&mut stage, &mut phone, &room, &plain).await,
        "forbidden"
    );

    let room = stage.server.new_room("members");
    desk.create_room(&room, "bob").await.unwrap();
    desk.configure_room(&room, &[("muc#roomconfig_membersonly", "1")])
        .await
        .unwrap();
    stage.note("members only");
    assert_eq!(
        refuse(&mut stage, &mut phone, &room, &plain).await,
        "registration-required"
    );

    let room = stage.server.new_room("nick");
    desk.create_room(&room, "alice").await.unwrap();
    stage.note("the nick is taken");
    assert_eq!(
        refuse(&mut stage, &mut phone, &room, &plain).await,
        "conflict"
    );

    stage.note("no nick");
    let no_nick = format!(
        "<presence id='j-1' to='{room}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
    );
    phone.send_raw(no_nick).await.unwrap();
    stage.room.clone_from(&room);
    stage.settle("alice/phone", &mut phone).await;

    let room = stage.server.new_room("full");
    desk.create_room(&room, "bob").await.unwrap();
    let fields = [
        ("muc#roomconfig_maxusers", "1"),
        ("{http://prosody.im/protocol/muc}x", ""),
    ];
    stage.note("full (where the form knows a limit)");
    match desk.configure_room(&room, &fields[..1]).await {
        Ok(()) => drop(refuse(&mut stage, &mut phone, &room, &plain).await),
        Err(error) => stage.note(&error.to_string()),
    }
    stage.note("a nick that is not allowed, and a room name that is not");
    phone
        .send_raw(format!(
            "<presence id='j-2' to='{room}/ '><x xmlns='http://jabber.org/protocol/muc'/>\
             </presence>"
        ))
        .await
        .unwrap();
    stage.room.clone_from(&room);
    stage.settle("alice/phone", &mut phone).await;
}
