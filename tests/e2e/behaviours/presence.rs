//! Presences and nicks of others, and what stands in the account's own (behaviours 32, 33, 39).

use mucplex_testkit::client::Client;
use mucplex_testkit::xml::Stanza;

use crate::stage::{Ending, Stage, impersonal, leave, mark, moderate, outline, until};

crate::tests![
    b32_what_others_do_is_seen_once,
    b33_the_nick_change_of_another,
    b39_no_session_sees_the_full_jid_of_another,
];

/// Both sessions of alice see the same, and it is this.
async fn both_see(
    (bob, room): (&mut Client, &str),
    [phone, laptop]: [&mut Client; 2],
    expected: &[&str],
) -> Vec<Stanza> {
    let [on_phone, on_laptop] = mark(bob, room, [&mut *phone, &mut *laptop]).await;
    assert_eq!(outline(&on_phone), expected);
    assert_eq!(impersonal(phone, &on_phone), impersonal(laptop, &on_laptop));
    on_phone
}

async fn b32_what_others_do_is_seen_once(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    let room = &stage.room;
    let bob = &mut bob;
    let all = |expected: &'static [&'static str]| expected;
    macro_rules! both_see {
        ($($line:expr),+) => {
            both_see((&mut *bob, room), [&mut phone, &mut laptop], all(&[$($line),+])).await
        };
    }

    let carol = stage.account("carol").await;
    let mut tablet = stage.outsider(&carol, "tablet").await;
    tablet.join(room, "carol").await.unwrap();
    both_see!("presence carol none/participant");

    for (show, line) in [
        ("<show>away</show>", "presence carol none/participant away"),
        (
            "<show>dnd</show><status>work</status>",
            "presence carol none/participant dnd",
        ),
        ("", "presence carol none/participant"),
    ] {
        tablet
            .send_raw(format!("<presence to='{room}/carol'>{show}</presence>"))
            .await
            .unwrap();
        tablet.settle(room).await.unwrap();
        let expected = [line];
        let [on_phone, on_laptop] = mark(bob, room, [&mut phone, &mut laptop]).await;
        assert_eq!(outline(&on_phone), expected);
        assert_eq!(
            impersonal(&phone, &on_phone),
            impersonal(&laptop, &on_laptop)
        );
    }

    moderate(
        bob,
        room,
        &format!("<item jid='{}' affiliation='member'/>", carol.jid()),
    )
    .await;
    both_see!("presence carol member/participant");
    moderate(bob, room, "<item nick='carol' role='moderator'/>").await;
    both_see!("presence carol member/moderator");
    moderate(bob, room, "<item nick='carol' role='visitor'/>").await;
    both_see!("presence carol member/visitor");

    // A late joiner is told how it is now.
    let mut late = stage.session(&alice, "late").await;
    let joined = late.join(room, "alice").await.unwrap();
    assert!(outline(&joined.presences).contains(&"presence carol member/visitor".to_owned()));

    moderate(bob, room, "<item nick='carol' role='participant'/>").await;
    both_see!("presence carol member/participant");
    tablet.leave(room, "carol", Some("bye")).await.unwrap();
    tablet.settle(room).await.unwrap();
    let seen = both_see!("presence carol unavailable member/none");
    assert!(
        seen[0].raw_str().contains("<status>bye</status>"),
        "{seen:?}"
    );
    let joined = leave_and_join(&mut late, room).await;
    assert_eq!(joined, ["bob"]);

    // One who is thrown out, and one who is cut off.
    tablet.join(room, "carol").await.unwrap();
    both_see!("presence carol member/participant");
    moderate(bob, room, "<item nick='carol' role='none'/>").await;
    both_see!("presence carol unavailable member/none 307");
    tablet.join(room, "carol").await.unwrap();
    both_see!("presence carol member/participant");
    tablet.close().await.unwrap();
    bob.wait_for("the end of carol", |it| it.kind() == Some("unavailable"))
        .await
        .unwrap();
    both_see!("presence carol unavailable member/none");
}

/// The nicks of the others.
async fn leave_and_join(client: &mut Client, room: &str) -> Vec<String> {
    leave(client, room, "alice").await;
    let joined = client.join(room, "alice").await.unwrap();
    joined.nicks().into_iter().map(str::to_owned).collect()
}

async fn b33_the_nick_change_of_another(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        client.join(&stage.room, "alice").await.unwrap();
    }
    let mut carol = stage.guest("carol").await;
    let room = &stage.room;
    let at = (&mut bob, &**room);
    both_see(
        at,
        [&mut phone, &mut laptop],
        &["presence carol none/participant"],
    )
    .await;

    carol
        .send_raw(format!("<presence to='{room}/caroline'/>"))
        .await
        .unwrap();
    carol.settle(room).await.unwrap();
    let at = (&mut bob, &**room);
    let lines = [
        "presence carol unavailable none/participant 303",
        "presence caroline none/participant",
    ];
    let seen = both_see(at, [&mut phone, &mut laptop], &lines).await;
    assert_eq!(seen[0].item().unwrap().attr("nick"), Some("caroline"));

    // The old nick is free, and somebody else takes it.
    let mut late = stage.session(&alice, "late").await;
    late.join(room, "alice").await.unwrap();
    let mut nicks = leave_and_join(&mut late, room).await;
    nicks.sort_unstable();
    assert_eq!(nicks, ["bob", "caroline"]);
    let _dave = {
        let mut dave = stage.outsider(&stage.account("dave").await, "desk").await;
        dave.join(room, "carol").await.unwrap();
        dave
    };
    let at = (&mut bob, &**room);
    both_see(
        at,
        [&mut phone, &mut laptop],
        &["presence carol none/participant"],
    )
    .await;
    let mut nicks = leave_and_join(&mut late, room).await;
    nicks.sort_unstable();
    assert_eq!(nicks, ["bob", "carol", "caroline"]);
}

/// Every byte that each session has ever received, in a room that shows real JIDs.
async fn b39_no_session_sees_the_full_jid_of_another(stage: Stage) {
    let stage = stage.archived().await;
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    let room = &stage.room;
    bob.configure_room(room, &[("muc#roomconfig_whois", "anyone")])
        .await
        .unwrap();
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let mut tablet = front.session(&alice, "tablet").await;
    let own = |client: &Client, presence: &Stanza| {
        let jid = presence.item().and_then(|item| item.attr("jid"));
        assert_eq!(jid, Some(client.jid()), "{presence:?}");
    };
    for client in [&mut phone, &mut laptop, &mut tablet] {
        let joined = client.join(room, "alice").await.unwrap();
        own(client, &joined.self_presence);
    }
    mark(&mut bob, room, [&mut phone, &mut laptop, &mut tablet]).await;

    // Presences of the account, by itself and by a moderator; a new nick; messages.
    laptop
        .send_raw(format!(
            "<presence to='{room}/alice'><show>chat</show></presence>"
        ))
        .await
        .unwrap();
    laptop
        .wait_for("the answer", |it| it.has_status(110))
        .await
        .unwrap();
    moderate(
        &mut bob,
        room,
        &format!("<item jid='{}' affiliation='member'/>", alice.jid()),
    )
    .await;
    let listeners = [&mut phone, &mut laptop, &mut tablet];
    let [on_phone, on_laptop, on_tablet] = mark(&mut bob, room, listeners).await;
    let chat = "presence alice none/participant chat 110";
    let member = "presence alice member/participant chat 110";
    assert_eq!(outline(&on_phone), [chat, member]);
    assert_eq!(outline(&on_laptop), [member]);
    assert_eq!(outline(&on_tablet), [chat, member]);
    for (client, seen) in [
        (&phone, on_phone),
        (&laptop, on_laptop),
        (&tablet, on_tablet),
    ] {
        seen.iter().for_each(|presence| own(client, presence));
    }
    tablet
        .send_raw(format!("<presence to='{room}/ally'/>"))
        .await
        .unwrap();
    let renamed = tablet.wait_for("the new nick", |it| {
        it.kind().is_none() && it.has_status(110)
    });
    renamed.await.unwrap();
    tablet.say(room, "of the tablet").await.unwrap();
    until(&mut tablet, "of the tablet").await;
    phone.say(room, "of the phone").await.unwrap();
    for client in [&mut phone, &mut laptop, &mut tablet] {
        until(client, "of the phone").await;
    }

    // History for a late joiner, and from the room's archive; then the carrier goes.
    leave(&mut laptop, room, "ally").await;
    let joined = laptop.join(room, "ally").await.unwrap();
    assert_eq!(joined.bodies(), ["of the tablet", "of the phone"]);
    own(&laptop, &joined.self_presence);
    Ending::StreamEnd.end(&front, phone).await;
    tablet.say(room, "after the hand-over").await.unwrap();
    for client in [&mut laptop, &mut tablet] {
        until(client, "after the hand-over").await;
    }
    let mut desk = front.session(&alice, "desk").await;
    let joined = desk.join(room, "ally").await.unwrap();
    own(&desk, &joined.self_presence);
    moderate(&mut bob, room, "<item nick='ally' role='visitor'/>").await;
    mark(&mut bob, room, [&mut laptop, &mut tablet, &mut desk]).await;
    moderate(&mut bob, room, "<item nick='ally' role='none'/>").await;
    for client in [&mut laptop, &mut tablet, &mut desk] {
        let end = client
            .wait_for("the kick", |it| it.has_status(307))
            .await
            .unwrap();
        own(client, &end);
    }
    for client in [&laptop, &tablet, &desk] {
        let received = String::from_utf8_lossy(client.received_raw());
        for resource in ["phone", "laptop", "tablet", "desk"] {
            let jid = format!("{}/{resource}", alice.jid());
            let known = received.match_indices(&jid).next();
            assert!(
                jid == client.jid() || known.is_none(),
                "{} sees {jid}: …{}",
                client.jid(),
                known
                    .map(|(at, _)| context(&received, at))
                    .unwrap_or_default()
            );
        }
    }
}

fn context(text: &str, at: usize) -> String {
    let bytes = &text.as_bytes()[at.saturating_sub(500)..text.len().min(at + 200)];
    String::from_utf8_lossy(bytes).into_owned()
}
