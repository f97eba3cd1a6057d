//! Archives of rooms (XEP-0313): how a gap is filled from them, and what `<history since/>` gives.

use std::time::{Duration, SystemTime};

use mucplex_testkit::Element;
use mucplex_testkit::client::{Client, History, Join};
use mucplex_testkit::server::{Kind, Options};
use mucplex_testkit::xml::{NS_DELAY, Stanza};

use crate::stage::Stage;

crate::on_each_server!(pages, since);

const NS_MAM: &str = "urn:xmpp:mam:2";
const NS_RSM: &str = "http://jabber.org/protocol/rsm";

async fn stage(kind: Kind, name: &'static str) -> Stage {
    let options = Options {
        room_archive: true,
        ..Options::default()
    };
    Stage::with(kind, name, options).await
}

/// One page: its results, and the `<fin/>`.
async fn page(client: &mut Client, room: &str, form: &str, set: &str) -> (Vec<Stanza>, Stanza) {
    let form = if form.is_empty() {
        String::new()
    } else {
        format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
             <value>{NS_MAM}</value></field>{form}</x>"
        )
    };
    let set = if set.is_empty() {
        String::new()
    } else {
        format!("<set xmlns='{NS_RSM}'>{set}</set>")
    };
    let query = format!("<query xmlns='{NS_MAM}' queryid='q'>{form}{set}</query>");
    let id = client.send_iq("set", Some(room), &query).await.unwrap();
    let mut results = Vec::new();
    loop {
        let stanza = client.recv_for("a page of the archive").await.unwrap();
        if stanza.name() == "iq" && stanza.id() == Some(&id) {
            return (results, stanza);
        }
        if stanza.has_child("result", NS_MAM) {
            results.push(stanza);
        }
    }
}

fn result_id(stanza: &Stanza) -> String {
    let result = stanza.get_child("result", NS_MAM).unwrap();
    result.attr("id").unwrap().to_owned()
}

fn forwarded(stanza: &Stanza) -> &Element {
    let result = stanza.get_child("result", NS_MAM).unwrap();
    result.get_child("forwarded", "urn:xmpp:forward:0").unwrap()
}

/// When it was said.
fn stamp_of(stanza: &Stanza) -> String {
    let delay = forwarded(stanza).get_child("delay", NS_DELAY).unwrap();
    delay.attr("stamp").unwrap().to_owned()
}

fn body(stanza: &Stanza) -> Option<String> {
    let message = forwarded(stanza).get_child("message", "jabber:client")?;
    message
        .get_child("body", "jabber:client")
        .map(Element::text)
}

fn bodies(results: &[Stanza]) -> Vec<String> {
    results.iter().filter_map(body).collect()
}

const COUNT: usize = 300;

async fn pages(kind: Kind) {
    let mut stage = stage(kind, "mam-pages").await;
    let room = stage.room.clone();
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    let mut desk = stage.session(&bob, "desk").await;
    desk.create_room(&room, "bob").await.unwrap();
    let mut phone = stage.session(&alice, "phone").await;
    phone.join(&room, "alice").await.unwrap();
    offered(&mut stage, &mut phone).await;
    for number in 0..COUNT {
        desk.say(&room, &number.to_string()).await.unwrap();
    }
    desk.settle(&room).await.unwrap();
    let seen = phone.settle(&room).await.unwrap();
    let live: Vec<_> = seen.into_iter().filter(|it| it.body().is_some()).collect();
    assert_eq!(live.len(), COUNT);

    // The largest page, and the one without a wish.
    for set in ["", "<max>1000</max>", "<max>10</max>"] {
        let (results, fin) = page(&mut phone, &room, "", set).await;
        stage.note(&format!("{set:?}: {} results, then", results.len()));
        stage.show("alice", [&fin]);
        assert_eq!(body(&results[0]).as_deref(), Some("0"), "the oldest first");
        let limit = match (kind, set) {
            (_, "<max>10</max>") => 10,
            (Kind::Prosody, "") => 20,
            (Kind::Prosody, _) | (Kind::Ejabberd, "") => 50,
            (Kind::Ejabberd, _) => 250,
        };
        assert_eq!(results.len(), limit, "{set}");
    }
    one_after_another(&mut stage, &mut phone, &live).await;
    odd_starts(&mut stage, &mut phone, &live).await;
    // Somebody who is not in the room.
    let mut outside = stage.session(&alice, "outside").await;
    let (results, fin) = page(&mut outside, &room, "", "<max>1</max>").await;
    stage.show("alice, not in the room", results.iter().chain([&fin]));
}

/// What the room says about its archive.
async fn offered(stage: &mut Stage, phone: &mut Client) {
    let disco = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let info = phone.iq("get", Some(&stage.room), disco).await.unwrap();
    let features = info.children().flat_map(Element::children);
    let features: Vec<_> = features
        .filter_map(|it| it.attr("var"))
        .filter(|it| it.contains("mam") || it.contains("sid") || it.contains("rsm"))
        .collect();
    stage.note(&format!("{features:?}"));
    assert!(features.contains(&NS_MAM));
}

/// The id that a live stanza has in the room's archive.
fn archived(stanza: &Stanza) -> &str {
    let id = stanza.get_child("stanza-id", "urn:xmpp:sid:0").unwrap();
    let room = stanza.from().and_then(|from| from.split('/').next());
    assert_eq!(id.attr("by"), room);
    id.attr("id").unwrap()
}

/// From a live stanza on, page by page.
async fn one_after_another(stage: &mut Stage, phone: &mut Client, live: &[Stanza]) {
    let room = stage.room.clone();
    let mut after = archived(&live[9]).to_owned();
    let mut found = Vec::new();
    loop {
        let set = format!("<max>40</max><after>{after}</after>");
        let (results, fin) = page(phone, &room, "", &set).await;
        found.extend(bodies(&results));
        let complete = fin.get_child("fin", NS_MAM).unwrap().attr("complete");
        if complete == Some("true") {
            stage.show("alice, at the end", [&fin]);
            break;
        }
        after = result_id(results.last().unwrap());
    }
    let expected: Vec<_> = (10..COUNT).map(|number| number.to_string()).collect();
    assert_eq!(found, expected);
    let set = format!("<max>1</max><after>{}</after>", archived(&live[9]));
    let (results, _) = page(phone, &room, "", &set).await;
    stage.show("alice, live", [&live[10]]);
    stage.show("alice, archived", &results);
    assert_eq!(result_id(&results[0]), archived(&live[10]));
}

/// An id that the archive does not have, and a start by time.
async fn odd_starts(stage: &mut Stage, phone: &mut Client, live: &[Stanza]) {
    let room = stage.room.clone();
    stage.note("after an id that the archive does not have");
    let set = "<max>1</max><after>nothing-such</after>";
    let (results, fin) = page(phone, &room, "", set).await;
    stage.show("alice", results.iter().chain([&fin]));
    assert_eq!(fin.kind() == Some("error"), stage.kind == Kind::Prosody);

    let last = archived(&live[COUNT - 2]);
    let set = format!("<max>1</max><after>{last}</after>");
    let (results, _) = page(phone, &room, "", &set).await;
    let stamp = stamp_of(&results[0]);
    let start = format!("<field var='start'><value>{stamp}</value></field>");
    let (results, _) = page(phone, &room, &start, "").await;
    stage.note(&format!("start {stamp}: {:?}", bodies(&results)));
    let first = results.iter().map(stamp_of).min();
    assert_eq!(first.as_ref(), Some(&stamp));
}

/// Now, as XEP-0082 writes it.
fn now() -> String {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let (seconds, millis) = (since_epoch.as_secs(), since_epoch.subsec_millis());
    // The civil date of a count of days, by Howard Hinnant's algorithm.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// What a join with `<history since/>` gives, with an archive and without.
async fn since(kind: Kind) {
    for room_archive in [false, true] {
        let options = Options {
            room_archive,
            ..Options::default()
        };
        let mut stage = Stage::with(kind, "history-since", options).await;
        let room = stage.room.clone();
        let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
        let mut desk = stage.session(&bob, "desk").await;
        desk.create_room(&room, "bob").await.unwrap();
        let mut times = Vec::new();
        for number in 0..60 {
            times.push(now());
            desk.say(&room, &number.to_string()).await.unwrap();
            desk.settle(&room).await.unwrap();
            // Prosody's stamps are whole seconds: there have to be several.
            if number % 20 == 19 {
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
        }
        stage.note(&format!("archive: {room_archive}"));
        for (what, index, maxstanzas) in [
            ("the first", 0, None),
            ("the first", 0, Some(1000)),
            ("the 50th", 50, None),
            ("the 41st", 41, None),
        ] {
            let mut phone = stage.session(&alice, "phone").await;
            let history = History {
                since: Some(times[index].clone()),
                maxstanzas,
                ..History::default()
            };
            let join = Join {
                history: Some(history),
                ..Join::default()
            };
            let joined = phone.join_with(&room, "alice", &join).await.unwrap();
            let found = joined.bodies();
            stage.note(&format!(
                "since {what} ({}), maxstanzas {maxstanzas:?}: {} messages, {:?} to {:?}",
                times[index],
                found.len(),
                found.first(),
                found.last()
            ));
            if index == 50 {
                stage.show("alice", joined.history.first());
            }
            assert_eq!(found.last().map(String::as_str), Some("59"));
            phone.close().await.unwrap();
            desk.settle(&room).await.unwrap();
        }
    }
}
