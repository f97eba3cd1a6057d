//! Answers of who was not asked, and to ids that were guessed (behaviours 71 and 72).

use mucplex_testkit::client::Client;
use mucplex_testkit::xml::Stanza;

use super::{Played, last_word};
use crate::stage::{Stage, leave, marked, outline};

crate::tests![
    b72_answers_of_who_was_not_asked,
    b72_answers_of_a_session_that_was_not_asked,
    b71_answers_to_one_account_do_not_reach_another,
    b52_an_id_of_a_client_like_the_proxys_own,
    b52_a_refusal_of_a_session_that_is_not_in_the_room,
];

const QUESTION: &str = "<q xmlns='urn:q'/>";

fn is_question(stanza: &Stanza) -> bool {
    stanza.name() == "iq" && stanza.has_child("q", "urn:q")
}

/// A session asks `c1`, who is slow to answer; gives its id, and the one `c1` sees.
async fn ask(at: &mut Played) -> (String, String) {
    at.room.forget_received();
    let to = at.room.occupant("c1");
    let id = at.laptop.send_iq("get", Some(&to), QUESTION).await.unwrap();
    let seen = at.room.wait_for("the question", is_question).await;
    (id, seen.id().unwrap().to_owned())
}

/// Ids near the one that is waited for: a liar sees those of his own questions, and can count.
fn guesses(id: &str) -> Vec<String> {
    let number: u64 = id
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap();
    let near = number.saturating_sub(3)..number + 10;
    near.flat_map(|number| [format!("mucplex-{number}"), format!("mucplex-0{number}")])
        .collect()
}

async fn b72_answers_of_who_was_not_asked(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let (id, upstream) = ask(&mut at).await;
    let room = at.room.jid().to_owned();
    let carrier = at.phone.jid().to_owned();
    let mut ids = guesses(&upstream);
    assert!(ids.contains(&upstream), "{upstream}");
    ids.push(id.clone());
    let liars = [
        room.clone(),
        format!("{room}/c2"),
        format!("{room}/dora"),
        format!("{room}/alice"),
        format!("{room}/C1"),
        format!("{room}/c1/c1"),
        room.replacen("played", "Played", 1) + "/c2",
        "stranger@scripted.test/c1".to_owned(),
        "scripted.test".to_owned(),
        "scripted.test/c1".to_owned(),
    ];
    let mut told = 0;
    for from in &liars {
        for id in &ids {
            for kind in ["result", "error"] {
                at.room.send(format!(
                    "<iq type='{kind}' from='{from}' to='{carrier}' id='{id}'/>"
                ));
                told += 1;
            }
        }
    }
    // They go to the stream they were sent to, for its client to think what it likes, but for those
    // from the room with an id of the proxy's, for which nobody waits.
    // What comes from the room's addresses and what does not take two ways through the proxy.
    let mut seen = last_word(&at.room, "stranger@scripted.test", &mut at.phone).await;
    let [rest, on_laptop] = marked(&at.room, "alice", [&mut at.phone, &mut at.laptop]).await;
    seen.extend(rest);
    let own = seen.iter().filter(|it| it.id() == Some(&*id));
    assert_eq!(own.count(), 2 * liars.len());
    let strange = seen.iter().filter(|it| !it.from().unwrap().contains('@'));
    assert_eq!(strange.count(), 2 * 2 * ids.len());
    assert!(seen.len() < told);
    assert_eq!(outline(&on_laptop), [""; 0]);

    at.room.send(format!(
        "<iq type='result' from='{room}/c1' to='{carrier}' id='{upstream}'>{QUESTION}</iq>"
    ));
    let answer = at.laptop.recv_for("the answer").await.unwrap();
    assert_eq!(
        (answer.id(), answer.to()),
        (Some(&*id), Some(at.laptop.jid()))
    );
    assert!(is_question(&answer));
    // It is answered once.
    at.room.send(format!(
        "<iq type='result' from='{room}/c1' to='{carrier}' id='{upstream}'>{QUESTION}</iq>"
    ));
    let [_, seen] = marked(&at.room, "alice", [&mut at.phone, &mut at.laptop]).await;
    assert_eq!(outline(&seen), [""; 0]);
    at.unchanged(&stage).await;
}

/// The phone is asked. What the laptop answers to it, and what either answers to what nobody has
/// asked, goes no further; nor does a second answer of the phone.
async fn b72_answers_of_a_session_that_was_not_asked(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let id = at.room.ask("c1", "alice", "get", QUESTION);
    let asked = at.phone.recv_for("the question").await.unwrap();
    assert_eq!(asked.id(), Some(&*id));
    at.room.forget_received();
    let (c1, c2) = (at.room.occupant("c1"), at.room.occupant("c2"));
    let room = at.room.jid().to_owned();
    for kind in ["result", "error"] {
        for to in [&c1, &c2, &room] {
            let answers = [&*id, "nobody-has-asked"]
                .map(|id| format!("<iq type='{kind}' id='{id}' to='{to}'/>"));
            at.laptop.send_raw(&answers.concat()).await.unwrap();
            at.phone.send_raw(&answers[1]).await.unwrap();
            if *to != c1 {
                at.phone.send_raw(&answers[0]).await.unwrap();
            }
        }
    }
    let answer = format!("<iq type='result' id='{id}' to='{c1}'><true xmlns='urn:q'/></iq>");
    at.phone.send_raw(answer.repeat(2)).await.unwrap();
    for client in [&mut at.phone, &mut at.laptop] {
        client.settle(&room).await.unwrap();
    }
    let is_answer = |it: &Stanza| matches!(it.kind(), Some("result" | "error"));
    let received = at.room.received();
    let answers: Vec<_> = received.iter().filter(|it| is_answer(it)).collect();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(answers[0].has_child("true", "urn:q"), "{answers:#?}");
    assert_eq!(answers[0].from(), Some(at.phone.jid()));
}

/// Two accounts ask the same occupant with the same id, and each gets its own answer.
async fn b71_answers_to_one_account_do_not_reach_another(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let mallory = stage.account("mallory").await;
    let mut other = stage.session(&mallory, "phone").await;
    let mut second = stage.session(&mallory, "laptop").await;
    for client in [&mut other, &mut second] {
        client.join(at.room.jid(), "mallory").await.unwrap();
    }
    let c1 = at.room.occupant("c1");
    let question = format!("<iq type='get' id='same' to='{c1}'>{QUESTION}</iq>");
    let sessions: [&mut Client; 4] = [&mut at.phone, &mut at.laptop, &mut other, &mut second];
    let mut expected = Vec::new();
    for client in sessions {
        at.room.forget_received();
        client.send_raw(&question).await.unwrap();
        let asked = at.room.wait_for("the question", is_question).await;
        expected.push((
            asked.from().unwrap().to_owned(),
            asked.id().unwrap().to_owned(),
        ));
    }
    // In the opposite order; each tells which it is the answer of.
    for (number, (to, id)) in expected.iter().enumerate().rev() {
        at.room.send(format!(
            "<iq type='result' from='{c1}' to='{to}' id='{id}'><n xmlns='urn:q'>{number}</n></iq>"
        ));
    }
    let sessions: [&mut Client; 4] = [&mut at.phone, &mut at.laptop, &mut other, &mut second];
    for (number, client) in sessions.into_iter().enumerate() {
        let is_answer = |it: &Stanza| it.name() == "iq";
        let answer = client.wait_for("the answer", is_answer).await.unwrap();
        assert_eq!(
            (answer.id(), answer.to()),
            (Some("same"), Some(client.jid()))
        );
        assert_eq!(
            answer.get_child("n", "urn:q").unwrap().text(),
            number.to_string()
        );
    }
}

/// What the phone asks the room itself keeps its id upstream; what the laptop asks as a moderator
/// gets one of the proxy's own. Where the phone's looks like that, they stay apart.
async fn b52_an_id_of_a_client_like_the_proxys_own(stage: Stage) {
    let mut at = Played::new(&stage).await;
    let (_, upstream) = ask(&mut at).await;
    at.room
        .hook(|stanza| (stanza.name() == "iq").then(Vec::new));
    at.room.forget_received();
    let room = at.room.jid().to_owned();
    let list = "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='visitor'/></query>";
    let of_laptop = at.laptop.send_iq("get", Some(&room), list).await.unwrap();
    let is_list = |it: &Stanza| it.has_child("query", "http://jabber.org/protocol/muc#admin");
    let asked = at.room.wait_for("the list's request", is_list).await;
    let id = asked.id().unwrap().to_owned();
    assert_ne!(id, upstream);
    let question = format!("<iq type='get' id='{id}' to='{room}'>{QUESTION}</iq>");
    at.phone.send_raw(question).await.unwrap();
    let question = at.room.wait_for("the question", is_question).await;

    let answer = |asked: &Stanza, payload: &str| {
        let (to, id) = (asked.from().unwrap(), asked.id().unwrap());
        format!("<iq type='result' from='{room}' to='{to}' id='{id}'>{payload}</iq>")
    };
    at.room.send(answer(&question, QUESTION));
    at.room.send(answer(&asked, list));
    let got = at.phone.recv_for("the answer").await.unwrap();
    assert_eq!(got.id(), Some(&*id));
    assert!(is_question(&got), "{got:?}");
    let got = at.laptop.recv_for("the list").await.unwrap();
    assert_eq!(got.id(), Some(&*of_laptop));
    assert!(is_list(&got), "{got:?}");
}

/// The laptop has left, and asks an occupant all the same, under the id of what the phone has
/// asked: the room's refusal is the laptop's.
async fn b52_a_refusal_of_a_session_that_is_not_in_the_room(stage: Stage) {
    let mut at = Played::new(&stage).await;
    std::mem::swap(&mut at.phone, &mut at.laptop);
    let (of_carrier, upstream) = ask(&mut at).await;
    std::mem::swap(&mut at.phone, &mut at.laptop);
    leave(&mut at.laptop, at.room.jid(), "alice").await;
    let c1 = at.room.occupant("c1");
    let question = format!("<iq type='get' id='{upstream}' to='{c1}'>{QUESTION}</iq>");
    at.laptop.send_raw(question).await.unwrap();
    let refusal = at.laptop.recv_for("the refusal").await.unwrap();
    assert_eq!(refusal.id(), Some(&*upstream));
    assert_eq!(refusal.error_condition(), Some("not-acceptable"));
    let to = at.phone.jid();
    at.room.send(format!(
        "<iq type='result' from='{c1}' to='{to}' id='{upstream}'>{QUESTION}</iq>"
    ));
    let answer = at.phone.recv_for("the answer").await.unwrap();
    assert_eq!(
        (answer.kind(), answer.id()),
        (Some("result"), Some(&*of_carrier))
    );
}
