//! Requests to occupants and to the room (behaviours 52, 53, 55).

use mucplex_testkit::client::Client;
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::{NS_MUC_OWNER, Stanza};

use crate::stage::{Front, Stage, mark, mark_each, moderate, outline, through};

crate::tests![
    b52_two_sessions_ask_another_occupant_with_one_id,
    b52_an_answer_from_the_wrong_place,
    b52_an_answer_that_is_lost_with_the_carrier,
    b52_a_request_to_nobody,
    b53_one_session_answers_once,
    b53_a_session_that_goes_is_replaced,
    b55_the_room_answers_the_one_who_asked,
    b55_the_archive_answers_the_one_who_asked,
];

/// Three sessions of alice in bob's room, whose first one's uplink carries it. Carol is there too.
struct Asked {
    front: Front,
    bob: Client,
    carol: Client,
    sessions: Vec<Client>,
    room: String,
}

impl Asked {
    async fn new(stage: &Stage) -> Self {
        let front = stage.own_front("").await;
        let mut bob = stage.room_with_bob().await;
        let mut carol = stage.guest("carol").await;
        let alice = stage.account("alice").await;
        let room = stage.room.clone();
        let mut sessions = Vec::new();
        for resource in ["phone", "laptop", "tablet"] {
            let mut client = front.session(&alice, resource).await;
            client.join(&room, "alice").await.unwrap();
            sessions.push(client);
        }
        let [phone, laptop, tablet] = &mut sessions[..] else {
            panic!("three")
        };
        mark(&mut bob, &room, [phone, laptop, tablet, &mut carol]).await;
        Self {
            front,
            bob,
            carol,
            sessions,
            room,
        }
    }

    /// Everything that has happened so far has arrived, and it is nothing that anybody was to be
    /// told.
    async fn nothing_else(&mut self) {
        let listeners = self.sessions.iter_mut().chain([&mut self.bob]).collect();
        for seen in mark_each(&mut self.carol, &self.room, listeners).await {
            assert_eq!(outline(&seen), [""; 0]);
        }
    }

    /// Bob asks for something of alice's nick; gives the id.
    async fn bob_asks(&mut self, payload: &str) -> String {
        let occupant = format!("{}/alice", self.room);
        let sent = self.bob.send_iq("get", Some(&occupant), payload).await;
        sent.unwrap()
    }

    /// Which session is asked, and what. The others get nothing. A session that has just been
    /// cut may still have been asked before.
    async fn asked(&mut self) -> (usize, Stanza) {
        let mut asked = Vec::new();
        while asked.is_empty() {
            let listeners = self.sessions.iter_mut().collect();
            let heard = mark_each(&mut self.bob, &self.room, listeners).await;
            for (number, seen) in heard.into_iter().enumerate() {
                let requests = seen.into_iter().filter(|it| it.name() == "iq");
                asked.extend(requests.map(|it| (number, it)));
            }
        }
        assert_eq!(asked.len(), 1, "{asked:?}");
        let (number, request) = asked.remove(0);
        assert_eq!(request.from(), Some(&*format!("{}/bob", self.room)));
        assert_eq!(request.to(), Some(self.sessions[number].jid()));
        (number, request)
    }

    /// The result that bob gets, and nothing before it but marks.
    async fn bob_is_answered(&mut self, id: &str) -> Stanza {
        let is_iq = |it: &Stanza| it.name() == "iq";
        let mut seen = through(&mut self.bob, "the answer", is_iq).await;
        let answer = seen.pop().unwrap();
        assert_eq!(answer.id(), Some(id));
        assert_eq!(answer.from(), Some(&*format!("{}/alice", self.room)));
        answer
    }
}

/// An answer to `request`.
fn result(request: &Stanza, payload: &str) -> String {
    let (id, to) = (request.id().unwrap(), request.from().unwrap());
    format!("<iq type='result' id='{id}' to='{to}'>{payload}</iq>")
}

/// A request with an id of the test's own, which says who asks.
fn question(room: &str, nick: &str, id: &str, who: &str) -> String {
    format!("<iq type='get' id='{id}' to='{room}/{nick}'><q xmlns='urn:q' by='{who}'/></iq>")
}

/// By whom a [`question`] is, or for whom an answer.
fn by(stanza: &Stanza) -> &str {
    let payload = stanza.get_child("q", "urn:q");
    payload.and_then(|it| it.attr("by")).unwrap_or_default()
}

async fn b52_two_sessions_ask_another_occupant_with_one_id(stage: Stage) {
    let mut at = Asked::new(&stage).await;
    let room = at.room.clone();
    for round in 0..10 {
        let [phone, laptop, _] = &mut at.sessions[..] else {
            panic!("three")
        };
        let (of_phone, of_laptop) = (
            question(&room, "bob", "same", "phone"),
            question(&room, "bob", "same", "laptop"),
        );
        let (first, second) = tokio::join!(phone.send_raw(of_phone), laptop.send_raw(of_laptop));
        first.unwrap();
        second.unwrap();
        let mut requests = Vec::new();
        for _ in 0..2 {
            let is_iq = |it: &Stanza| it.name() == "iq";
            requests.extend(through(&mut at.bob, "a request", is_iq).await.pop());
        }
        assert_ne!(requests[0].id(), requests[1].id());
        // In the order in which they came, and in the other.
        if round % 2 == 1 {
            requests.reverse();
        }
        for (number, request) in requests.iter().enumerate() {
            let who = by(request).to_owned();
            let payload = format!("<q xmlns='urn:q' by='{who}'/>");
            // The second time, an error.
            let answer = if number == 0 {
                result(request, &payload)
            } else {
                let (id, to) = (request.id().unwrap(), request.from().unwrap());
                format!(
                    "<iq type='error' id='{id}' to='{to}'>{payload}<error type='cancel'>\
                     <not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
                )
            };
            at.bob.send_raw(answer).await.unwrap();
            let asking = at.sessions.iter_mut().find(|it| it.resource() == who);
            let asking = asking.unwrap();
            let answer = asking.recv_for("the answer").await.unwrap();
            assert_eq!(by(&answer), who);
            assert_eq!(answer.kind(), Some(["result", "error"][number]));
            assert_eq!(
                (answer.id(), answer.to()),
                (Some("same"), Some(asking.jid()))
            );
            assert_eq!(answer.from(), Some(&*format!("{room}/bob")));
        }
        at.nothing_else().await;
    }
}

/// Carol answers in bob's place, to the occupant and to the carrier's full JID.
async fn b52_an_answer_from_the_wrong_place(stage: Stage) {
    let mut at = Asked::new(&stage).await;
    let room = at.room.clone();
    let carrier = at.sessions[0].jid().to_owned();
    for asking in [1, 2] {
        let asked = question(&room, "bob", "asked", "alice");
        at.sessions[asking].send_raw(asked).await.unwrap();
        let is_iq = |it: &Stanza| it.name() == "iq";
        let request = through(&mut at.bob, "the request", is_iq)
            .await
            .pop()
            .unwrap();
        for to in [format!("{room}/alice"), carrier.clone()] {
            for number in 0..10 {
                // The id that bob has seen (which ejabberd would believe, whoever brings it), and
                // those that the proxy may have given it.
                let seen = match stage.kind {
                    Kind::Prosody => request.id().unwrap(),
                    Kind::Ejabberd => "1",
                };
                for id in [seen, "asked", &format!("mucplex-{number}")] {
                    let lie = format!(
                        "<iq type='result' id='{id}' to='{to}'><q xmlns='urn:q' by='carol'/></iq>"
                    );
                    at.carol.send_raw(lie).await.unwrap();
                }
            }
        }
        let listeners = at.sessions.iter_mut().collect();
        let heard = mark_each(&mut at.carol, &room, listeners).await;
        assert_eq!(outline(&heard[asking]), [""; 0]);
        at.bob
            .send_raw(result(&request, "<q xmlns='urn:q' by='bob'/>"))
            .await
            .unwrap();
        let answer = at.sessions[asking].recv_for("the answer").await.unwrap();
        assert_eq!((by(&answer), answer.id()), ("bob", Some("asked")));
        let listeners = at.sessions.iter_mut().chain([&mut at.bob]).collect();
        mark_each(&mut at.carol, &room, listeners).await;
    }
}

/// The carrier's session goes, and the answer with it: who asked is told, and may ask again.
async fn b52_an_answer_that_is_lost_with_the_carrier(stage: Stage) {
    let mut at = Asked::new(&stage).await;
    let room = at.room.clone();
    let asked = question(&room, "bob", "asked", "laptop");
    at.sessions[1].send_raw(&asked).await.unwrap();
    let is_iq = |it: &Stanza| it.name() == "iq";
    through(&mut at.bob, "the request", is_iq).await;
    let uplink = at.front.uplink(&at.sessions[0]);
    at.front.tap.cut(uplink);
    let mut seen = through(&mut at.sessions[1], "the error", is_iq).await;
    let error = seen.pop().unwrap();
    assert_eq!(outline([&error]), ["iq error bob remote-server-timeout"]);
    assert_eq!(error.id(), Some("asked"));
    assert_eq!(error.to(), Some(at.sessions[1].jid()));

    at.sessions[1].send_raw(&asked).await.unwrap();
    let request = through(&mut at.bob, "the request", is_iq)
        .await
        .pop()
        .unwrap();
    at.bob.send_raw(result(&request, "")).await.unwrap();
    let seen = through(&mut at.sessions[1], "the answer", is_iq).await;
    let answer = seen.last().unwrap();
    assert_eq!(
        (answer.kind(), answer.id()),
        (Some("result"), Some("asked"))
    );
    let [on_tablet] = mark(&mut at.carol, &room, [&mut at.sessions[2]]).await;
    assert!(
        on_tablet.iter().all(|it| it.name() != "iq"),
        "{on_tablet:?}"
    );
}

async fn b52_a_request_to_nobody(stage: Stage) {
    let mut at = Asked::new(&stage).await;
    let room = at.room.clone();
    let question = question(&room, "nobody", "same", "alice");
    at.carol.send_raw(&question).await.unwrap();
    let is_error = |it: &Stanza| it.kind() == Some("error");
    let expected = at.carol.wait_for("the error", is_error).await.unwrap();
    for _ in 0..2 {
        for client in &mut at.sessions {
            client.send_raw(&question).await.unwrap();
        }
        for client in &mut at.sessions {
            let error = client.recv_for("the error").await.unwrap();
            assert_eq!(outline([&error]), outline([&expected]));
            assert_eq!((error.id(), error.to()), (Some("same"), Some(client.jid())));
        }
        at.nothing_else().await;
    }
}

/// What people and their clients ask of an occupant, and an answer to it.
const REQUESTS: [(&str, &str); 3] = [
    ("<ping xmlns='urn:xmpp:ping'/>", ""),
    (
        "<query xmlns='jabber:iq:version'/>",
        "<query xmlns='jabber:iq:version'><name>test</name><version>1</version></query>",
    ),
    (
        "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info' node='n'><feature var='f'/></query>",
    ),
];

async fn b53_one_session_answers_once(stage: Stage) {
    let mut at = Asked::new(&stage).await;
    for (payload, answer) in REQUESTS {
        let id = at.bob_asks(payload).await;
        let (number, request) = at.asked().await;
        let name = request.children().next().unwrap().name().to_owned();
        assert!(payload.contains(&name), "{request:?}");
        // Those that were not asked answer as well, and it twice.
        let wrong = result(&request, "<q xmlns='urn:q' by='wrong'/>");
        let right = result(&request, answer);
        for other in (0..at.sessions.len()).filter(|other| *other != number) {
            at.sessions[other].send_raw(&wrong).await.unwrap();
            mark(&mut at.sessions[other], &stage.room, []).await;
        }
        for answer in [&right, &wrong] {
            at.sessions[number].send_raw(answer).await.unwrap();
        }
        let got = at.bob_is_answered(&id).await;
        assert_eq!(got.kind(), Some("result"));
        assert!(!got.has_child("q", "urn:q"), "{got:?}");
        let [rest] = mark(&mut at.sessions[number], &stage.room, [&mut at.bob]).await;
        assert!(rest.iter().all(|it| it.name() == "message"), "{rest:?}");
    }
}

/// The session that was asked is cut, or leaves the room, before it answers.
async fn b53_a_session_that_goes_is_replaced(mut stage: Stage) {
    for leaves in [false, true] {
        // A server keeps what a killed proxy has had there for a while (XEP-0198 5).
        stage.room = stage.server.new_room("b53");
        let mut at = Asked::new(&stage).await;
        let room = at.room.clone();
        let id = at.bob_asks(REQUESTS[1].0).await;
        while at.sessions.len() > 1 {
            let (number, _) = at.asked().await;
            let mut gone = at.sessions.remove(number);
            if leaves {
                gone.leave(&room, "alice", None).await.unwrap();
                let is_leave = |it: &Stanza| it.kind() == Some("unavailable");
                through(&mut gone, "the answer to the leave", is_leave).await;
                // What it answers now is nobody's answer.
                let late = format!("<iq type='result' id='{id}' to='{room}/bob'/>");
                gone.send_raw(late).await.unwrap();
            } else {
                gone.reset_connection().unwrap();
            }
        }
        let (number, request) = at.asked().await;
        let answer = result(&request, REQUESTS[1].1);
        at.sessions[number].send_raw(&answer).await.unwrap();
        at.sessions[number].send_raw(&answer).await.unwrap();
        let got = at.bob_is_answered(&id).await;
        assert!(got.has_child("query", "jabber:iq:version"), "{got:?}");
        let [rest] = mark(&mut at.sessions[number], &room, [&mut at.bob]).await;
        assert!(rest.iter().all(|it| it.name() != "iq"), "{rest:?}");
    }
}

/// An answer without what is each session's own: its JID, and the id it gave.
fn anonymous(answer: &Stanza, client: &Client) -> String {
    let id = format!("'{}'", answer.id().unwrap());
    let text = answer.raw_str().replace(client.jid(), "(jid)");
    text.replace(&id, "(id)")
}

async fn b55_the_room_answers_the_one_who_asked(stage: Stage) {
    let mut at = Asked::new(&stage).await;
    let room = at.room.clone();
    let alice = at.sessions[0].bare_jid().to_owned();
    let owner = format!("<item jid='{alice}' affiliation='owner'/>");
    moderate(&mut at.bob, &room, &owner).await;
    let listeners = at.sessions.iter_mut().chain([&mut at.bob]).collect();
    mark_each(&mut at.carol, &room, listeners).await;
    let owner = format!("<query xmlns='{NS_MUC_OWNER}'/>");
    let requests = [
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<query xmlns='jabber:iq:register'/>",
        "<vCard xmlns='vcard-temp'/>",
        "<ping xmlns='urn:xmpp:ping'/>",
        "<query xmlns='urn:example:unknown'/>",
        &owner,
    ];
    for payload in requests {
        // Bob is an owner too, past the proxy.
        let expected = at.bob.iq("get", Some(&room), payload).await.unwrap();
        let expected = anonymous(&expected, &at.bob);
        // All at once, with one id.
        let request = format!("<iq type='get' id='same' to='{room}'>{payload}</iq>");
        for client in &mut at.sessions {
            client.send_raw(&request).await.unwrap();
        }
        for client in &mut at.sessions {
            let answer = client.recv_for("the answer").await.unwrap();
            assert_eq!((answer.name(), answer.id()), ("iq", Some("same")));
            assert_eq!(answer.to(), Some(client.jid()));
            assert_eq!(anonymous(&answer, client), expected, "{payload}");
        }
        at.nothing_else().await;
        for number in 0..at.sessions.len() {
            at.sessions[number].send_raw(&request).await.unwrap();
            at.sessions[number].recv_for("the answer").await.unwrap();
            at.nothing_else().await;
        }
    }
}

/// A page of the archive, from `after` on (XEP-0313 4.3).
fn page(room: &str, number: usize, after: Option<&str>) -> String {
    let after = after.map(|id| format!("<after>{id}</after>"));
    format!(
        "<iq type='set' id='page-{number}' to='{room}'>\
         <query xmlns='urn:xmpp:mam:2' queryid='q-{number}'>\
         <set xmlns='http://jabber.org/protocol/rsm'><max>2</max>{}</set></query></iq>",
        after.unwrap_or_default()
    )
}

/// The text of a page's message, and its id in the archive.
fn archived(stanza: &Stanza) -> (String, String) {
    let result = stanza.get_child("result", "urn:xmpp:mam:2").unwrap();
    let forwarded = result.get_child("forwarded", "urn:xmpp:forward:0").unwrap();
    let message = forwarded.get_child("message", "jabber:client").unwrap();
    let body = message.get_child("body", "jabber:client").unwrap().text();
    (body, result.attr("id").unwrap().to_owned())
}

async fn b55_the_archive_answers_the_one_who_asked(stage: Stage) {
    let stage = stage.archived().await;
    let mut at = Asked::new(&stage).await;
    let room = at.room.clone();
    let said: Vec<String> = (1..=5).map(|number| format!("said {number}")).collect();
    for body in &said {
        at.bob.say(&room, body).await.unwrap();
    }
    let listeners = at.sessions.iter_mut();
    for client in listeners.chain([&mut at.bob, &mut at.carol]) {
        client.hear(&said[4]).await.unwrap();
    }
    for asking in 0..at.sessions.len() {
        let (mut bodies, mut last) = (Vec::new(), None);
        for number in 0..3 {
            let request = page(&room, number, last.as_deref());
            let client = &mut at.sessions[asking];
            client.send_raw(request).await.unwrap();
            let is_end = |it: &Stanza| it.name() == "iq";
            let mut seen = through(client, "the page", is_end).await;
            let end = seen.pop().unwrap();
            assert_eq!(end.kind(), Some("result"), "{end:?}");
            assert_eq!(end.id(), Some(&*format!("page-{number}")));
            let fin = end.get_child("fin", "urn:xmpp:mam:2").unwrap();
            assert_eq!(fin.attr("complete") == Some("true"), number == 2, "{end:?}");
            assert_eq!(seen.len(), if number == 2 { 1 } else { 2 }, "{seen:?}");
            for stanza in &seen {
                assert_eq!(stanza.from(), Some(&*room));
                assert_eq!(stanza.to(), Some(client.jid()));
                let (body, id) = archived(stanza);
                bodies.push(body);
                last = Some(id);
            }
            at.nothing_else().await;
        }
        assert_eq!(bodies, said);
    }
    // Two at once with one id: each gets a whole page.
    let request = page(&room, 7, None);
    for client in &mut at.sessions {
        client.send_raw(&request).await.unwrap();
    }
    for client in &mut at.sessions {
        let is_end = |it: &Stanza| it.name() == "iq";
        let mut seen = through(client, "the page", is_end).await;
        assert_eq!(seen.pop().unwrap().id(), Some("page-7"));
        let bodies: Vec<_> = seen.iter().map(|it| archived(it).0).collect();
        assert_eq!(bodies, said[..2]);
    }
    at.nothing_else().await;
}
