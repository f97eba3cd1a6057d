//! Joins: order, second sessions, history.

use mucplex_testkit::client::{History, Join};
use mucplex_testkit::server::{Kind, Options};
use mucplex_testkit::xml::Stanza;

use crate::stage::Stage;

crate::on_each_server!(order, history, history_archive);

async fn order(kind: Kind) {
    let mut stage = Stage::new(kind, "order").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let mut desk = stage.session(&bob, "desk").await;

    stage.note("the first join creates the room");
    let created = phone.join(&room, "alice").await.unwrap();
    stage.show("alice/phone", &created.all);
    assert!(created.self_presence.has_status(201));

    stage.note("bob joins before the owner has configured the room");
    desk.send_join(&room, "bob", &Join::default())
        .await
        .unwrap();
    stage.settle("bob/desk", &mut desk).await;
    desk.leave(&room, "bob", None).await.unwrap();
    desk.settle(&room).await.unwrap();
    stage.note("the owner accepts the default configuration");
    phone.configure_room(&room, &[]).await.unwrap();
    stage.settle("alice/phone", &mut phone).await;

    stage.note("bob joins");
    let joined = desk.join(&room, "bob").await.unwrap();
    stage.show("bob/desk", &joined.all);
    stage.settle("alice/phone", &mut phone).await;

    stage.note("the subject is set, alice/laptop joins under the same nick");
    let subject = format!(
        "<message type='groupchat' id='subject1' to='{room}'><subject>Tea</subject></message>"
    );
    phone.send_raw(subject).await.unwrap();
    stage.settle("alice/phone", &mut phone).await;
    stage.settle("bob/desk", &mut desk).await;
    let joined = laptop.join(&room, "alice").await.unwrap();
    stage.show("alice/laptop", &joined.all);
    assert_eq!(joined.nicks().last(), Some(&"bob"));
    stage.settle("alice/laptop", &mut laptop).await;
    stage.settle("alice/phone", &mut phone).await;
    let seen = stage.settle("bob/desk", &mut desk).await;
    assert!(
        seen.iter()
            .all(|stanza| stanza.kind() != Some("unavailable"))
    );

    stage.note("alice/phone, in the room, joins again");
    let joined = phone.join(&room, "alice").await.unwrap();
    stage.show("alice/phone", &joined.all);
    laptop.settle(&room).await.unwrap();
    stage.note("the others see of it");
    stage.settle("bob/desk", &mut desk).await;
}

async fn history(kind: Kind) {
    let stage = Stage::new(kind, "history").await;
    history_in(stage).await;
}

async fn history_archive(kind: Kind) {
    let options = Options {
        room_archive: true,
        ..Options::default()
    };
    let stage = Stage::with(kind, "history-archive", options).await;
    history_in(stage).await;
}

async fn history_in(mut stage: Stage) {
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut phone = stage.session(&alice, "phone").await;
    phone.create_room(&room, "alice").await.unwrap();
    for number in 1..=30 {
        phone
            .say(&room, &format!("message {number}"))
            .await
            .unwrap();
    }
    let reflected = phone.settle(&room).await.unwrap();
    stage.note("the last live reflection");
    stage.show("alice/phone", reflected.last());

    let mut desk = stage.session(&bob, "desk").await;
    let joined = desk.join(&room, "bob").await.unwrap();
    stage.note(&format!(
        "a join that asks for nothing gets {}",
        joined.history.len()
    ));
    stage.show("bob/desk", joined.history.last());
    let default = joined.bodies();
    assert_eq!(default.last().map(String::as_str), Some("message 30"));

    let one = joined
        .history
        .last()
        .map_or(0, |stanza: &Stanza| stanza.raw.len());
    let stamp = |stanza: &Stanza| {
        let delay = stanza
            .get_child("delay", mucplex_testkit::xml::NS_DELAY)
            .unwrap();
        delay.attr("stamp").unwrap().to_owned()
    };
    let newest = stamp(joined.history.last().unwrap());
    let limits = [
        (
            "maxstanzas=0",
            History {
                maxstanzas: Some(0),
                ..History::default()
            },
        ),
        (
            "maxstanzas=3",
            History {
                maxstanzas: Some(3),
                ..History::default()
            },
        ),
        (
            "maxstanzas=100",
            History {
                maxstanzas: Some(100),
                ..History::default()
            },
        ),
        (
            "maxchars=0",
            History {
                maxchars: Some(0),
                ..History::default()
            },
        ),
        (
            "maxchars=1000",
            History {
                maxchars: Some(1000),
                ..History::default()
            },
        ),
        (
            "seconds=0",
            History {
                seconds: Some(0),
                ..History::default()
            },
        ),
        (
            "seconds=3600",
            History {
                seconds: Some(3600),
                ..History::default()
            },
        ),
        (
            "since=the newest",
            History {
                since: Some(newest),
                ..History::default()
            },
        ),
        (
            "since=1970",
            History {
                since: Some("1970-01-01T00:00:00Z".into()),
                ..History::default()
            },
        ),
        (
            "seconds=3600 maxstanzas=2 maxchars=100000",
            History {
                seconds: Some(3600),
                maxstanzas: Some(2),
                maxchars: Some(100_000),
                ..History::default()
            },
        ),
    ];
    stage.note(&format!("one replayed stanza has {one} bytes"));
    for (name, history) in limits {
        desk.leave(&room, "bob", None).await.unwrap();
        desk.settle(&room).await.unwrap();
        let join = Join {
            history: Some(history),
            ..Join::default()
        };
        let joined = desk.join_with(&room, "bob", &join).await.unwrap();
        let bodies = joined.bodies();
        stage.note(&format!(
            "{name}: {} messages, {:?} to {:?}",
            bodies.len(),
            bodies.first(),
            bodies.last()
        ));
        if name == "maxstanzas=0" {
            assert!(bodies.is_empty());
            stage.show("bob/desk", [&joined.subject]);
        }
    }
}
