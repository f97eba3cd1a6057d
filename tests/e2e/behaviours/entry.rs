//! Presences that do not join, and the ids of those that do (behaviours 16 and 18).

use mucplex_testkit::server::Kind;
use mucplex_testkit::tap::Recording;
use mucplex_testkit::xml::{NS_MUC, escape};

use crate::stage::{Stage, bodies, leave, mark, outline, until};

crate::tests![
    b16_a_presence_without_the_muc_element,
    b18_the_id_of_a_join_comes_back,
    b18_a_join_without_an_id,
];

/// What a session that has not joined sees of its own presence, and what bob sees of it: with the
/// account out of the room, in it by another session, and under another nick. Then of a message,
/// and of its end.
async fn stray_presences(stage: &Stage) -> Vec<Vec<String>> {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let room = &stage.room;
    let mut seen = Vec::new();
    for step in ["alone", "beside", "another"] {
        if step == "beside" {
            // The session that joins gets what the first one of the account gets.
            let joined = laptop.join(room, "alice").await.unwrap();
            seen.push(outline(&joined.all));
            laptop.settle(room).await.unwrap();
            seen.push(outline(&phone.settle(room).await.unwrap()));
            bob.settle(room).await.unwrap();
        }
        let nick = if step == "another" { "ally" } else { "alice" };
        let presence = format!("<presence id='{step}' to='{room}/{nick}'/>");
        phone.send_raw(presence).await.unwrap();
        let answer = phone.settle(room).await.unwrap();
        let with_id = answer.iter().any(|it| it.id() == Some(step));
        seen.push(outline(&answer));
        seen.push(vec![format!("answered with its id: {with_id}")]);
        // How often the server tells it depends on how many streams it knows.
        let mut told = outline(&bob.settle(room).await.unwrap());
        told.dedup();
        seen.push(told);
        phone.say(room, "am I in?").await.unwrap();
        seen.push(outline(&phone.settle(room).await.unwrap()));
        seen.push(outline(&bob.settle(room).await.unwrap()));
        laptop.settle(room).await.unwrap();
    }
    // Whatever the phone's stream is to the server, the other session is in the room.
    bob.say(room, "all here?").await.unwrap();
    let [on_laptop] = mark(&mut bob, room, [&mut laptop]).await;
    assert_eq!(bodies(&on_laptop), ["all here?"]);
    phone.close().await.unwrap();
    laptop.say(room, "I am").await.unwrap();
    until(&mut laptop, "I am").await;
    bob.hear("I am").await.unwrap();
    seen
}

/// Prosody refuses it; for ejabberd it is a join of that stream (groupchat 1.0), which the proxy
/// leaves alone.
async fn b16_a_presence_without_the_muc_element(mut stage: Stage) {
    let through_proxy = stray_presences(&stage).await;
    let first = match stage.kind {
        Kind::Prosody => "presence error alice item-not-found",
        Kind::Ejabberd => "presence bob owner/moderator",
    };
    assert_eq!(through_proxy[0][0], first);
    stage.direct = true;
    stage.room = stage.server.new_room("direct");
    assert_eq!(through_proxy, stray_presences(&stage).await);

    // It attaches nothing: the join of another session goes upstream, and neither that nor what
    // the room says is the first one's.
    stage.direct = false;
    stage.room = stage.server.new_room("upstream");
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let room = &stage.room;
    let presence = format!("<presence to='{room}/alice'/>");
    phone.send_raw(&presence).await.unwrap();
    phone.settle(room).await.unwrap();
    laptop.join(room, "alice").await.unwrap();
    assert_eq!(front.tap.count_up(NS_MUC), 1);
    phone.send_raw(&presence).await.unwrap();
    phone.settle(room).await.unwrap();
    bob.say(room, "hello").await.unwrap();
    mark(&mut bob, room, [&mut laptop]).await;
    let heard = bodies(&phone.settle(room).await.unwrap());
    let on_its_own = front.tap.recordings()[front.uplink(&phone)].count_down("hello");
    assert_eq!(heard.len(), on_its_own);
    leave(&mut laptop, room, "alice").await;
    let left = |all: &[Recording]| all.iter().any(|one| one.count_up("unavailable") == 1);
    assert!(front.tap.wait_until(left).await);
}

async fn b18_the_id_of_a_join_comes_back(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let room = &stage.room;
    // The first join, those of late joiners, and joins once more; ids that need care.
    for id in ["j", "j", "a&b<c>'d'\"e\"", "\u{1f600} \u{e4}"] {
        for client in [&mut phone, &mut laptop] {
            let to = format!("{room}/alice");
            let join = format!(
                "<presence id='{}' to='{to}'><x xmlns='{NS_MUC}'/></presence>",
                escape(id)
            );
            client.send_raw(join).await.unwrap();
            let joined = client.collect_join(room, id).await.unwrap();
            assert_eq!(joined.self_presence.id(), Some(id));
            let others = joined.presences.iter();
            assert_eq!(others.filter(|it| it.id() == Some(id)).count(), 0);
        }
    }
    mark(&mut bob, room, [&mut phone, &mut laptop]).await;

    // An error has it too: in a room that does not let alice in, for either session.
    let closed = stage.server.new_room("closed");
    bob.create_room(&closed, "bob").await.unwrap();
    let fields = [("muc#roomconfig_membersonly", "1")];
    bob.configure_room(&closed, &fields).await.unwrap();
    for client in [&mut phone, &mut laptop] {
        let id = "a&b<c>'d'";
        let join = format!(
            "<presence id='{}' to='{closed}/alice'><x xmlns='{NS_MUC}'/></presence>",
            escape(id)
        );
        client.send_raw(join).await.unwrap();
        let error = client.recv_for("the error").await.unwrap();
        assert_eq!(
            outline([&error]),
            ["presence error alice registration-required"]
        );
        assert_eq!(error.id(), Some(id));
    }
}

/// It gets none, or what the server makes up; not that of another session's join.
async fn b18_a_join_without_an_id(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let mut tablet = stage.session(&alice, "tablet").await;
    let mut direct = stage.outsider(&stage.account("direct").await, "desk").await;
    let room = &stage.room;
    let join =
        |nick: &str| format!("<presence to='{room}/{nick}'><x xmlns='{NS_MUC}'/></presence>");
    direct.send_raw(join("direct")).await.unwrap();
    let expected = direct.collect_join(room, "").await.unwrap();
    for client in [&mut phone, &mut laptop] {
        client.send_raw(join("alice")).await.unwrap();
        let joined = client.collect_join(room, "").await.unwrap();
        let (own, expected) = (joined.self_presence, &expected.self_presence);
        assert_eq!(own.id().is_some(), expected.id().is_some(), "{own:?}");
    }
    let joined = tablet.join(room, "alice").await.unwrap();
    assert_eq!(joined.self_presence.id(), Some(&*joined.id));
    phone.send_raw(join("alice")).await.unwrap();
    let joined = phone.collect_join(room, "").await.unwrap();
    assert_eq!(
        joined.self_presence.id().is_some(),
        expected.self_presence.id().is_some()
    );
    mark(&mut bob, room, [&mut laptop, &mut tablet]).await;
}
