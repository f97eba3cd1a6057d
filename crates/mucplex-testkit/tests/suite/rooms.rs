//! The kit's own room service, seen by clients of each server.

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::component::Component;
use mucplex_testkit::rooms::{Joining, Leaving, Renaming, Room, Service};
use mucplex_testkit::server::{Kind, Server};
use mucplex_testkit::xml::Stanza;

crate::on_each_server!(
    a_component_speaks_from_any_address,
    a_room_behaves,
    a_large_room_is_joined,
    joins_end_as_the_test_says,
    a_challenge_is_answered,
    nicks_and_leaves_go_as_the_test_says,
    an_occupant_is_forgotten_or_removed,
    a_hook_comes_first,
);

async fn room(kind: Kind, name: &str) -> Room {
    Service::shared(kind).await.new_room(name)
}

async fn session(kind: Kind, name: &str, resource: &str) -> Client {
    let account = Server::shared(kind).await.account(name).await.unwrap();
    account.direct().resource(resource).connect().await.unwrap()
}

/// What a client has got from the room until a mark.
async fn heard(room: &Room, nick: &str, client: &mut Client) -> Vec<String> {
    let id = room.mark(nick);
    let mut seen = Vec::new();
    loop {
        let stanza = client.recv_for("the mark").await.unwrap();
        if stanza.id() == Some(&id) {
            return seen;
        }
        seen.push(line(&stanza));
    }
}

fn line(stanza: &Stanza) -> String {
    let nick = stanza.from().and_then(|from| from.split_once('/'));
    let nick = nick.map_or("(room)", |(_, nick)| nick);
    let kind = stanza.kind().unwrap_or_default();
    let rest = match stanza.name() {
        "message" => stanza.body().unwrap_or_default(),
        _ => format!("{:?}", stanza.statuses()),
    };
    format!("{} {kind} {nick} {rest}", stanza.name())
}

async fn a_component_speaks_from_any_address(kind: Kind) {
    let server = Server::shared(kind).await;
    let mut component = Component::connect(server, &Component::new_domain())
        .await
        .unwrap();
    let mut alice = session(kind, "alice", "phone").await;
    let domain = component.domain().to_owned();
    for from in [
        domain.clone(),
        format!("any.one@{domain}"),
        format!("any@{domain}/x y"),
    ] {
        let message = format!(
            "<message from='{from}' to='{}' id='a&amp;b'><body>&lt;hi&gt;</body></message>",
            alice.jid()
        );
        component.send_raw(message).await.unwrap();
        let got = alice.recv().await.unwrap();
        assert_eq!(got.from(), Some(&*from));
        assert_eq!(
            (got.id(), got.body().as_deref()),
            (Some("a&b"), Some("<hi>"))
        );
        let answer = format!("<message to='{from}'><body>yes</body></message>");
        alice.send_raw(answer).await.unwrap();
        let got = component.recv().await.unwrap();
        assert_eq!((got.from(), got.to()), (Some(alice.jid()), Some(&*from)));
        assert_eq!(got.body().as_deref(), Some("yes"));
    }
}

async fn a_room_behaves(kind: Kind) {
    let room = room(kind, "behaves").await;
    let mut alice = session(kind, "alice", "phone").await;
    let mut bob = session(kind, "bob", "desk").await;
    room.crowd(2);
    room.say("c1", "before");
    room.set_subject("c1", "tea");

    let joined = alice.join(room.jid(), "alice").await.unwrap();
    assert_eq!(joined.nicks(), ["c1", "c2"]);
    assert_eq!(joined.bodies(), ["before"]);
    assert_eq!(joined.self_presence.id(), Some(&*joined.id));
    bob.join(room.jid(), "bob").await.unwrap();
    let taken = bob.join(room.jid(), "alice").await;
    assert!(matches!(taken, Err(ClientError::Refused(_))), "{taken:?}");
    assert_eq!(
        heard(&room, "alice", &mut alice).await,
        ["presence  bob []"]
    );

    alice.say(room.jid(), "hello <bob>").await.unwrap();
    bob.hear("hello <bob>").await.unwrap();
    alice.hear("hello <bob>").await.unwrap();
    room.whisper("c1", "bob", "psst");
    assert_eq!(
        heard(&room, "bob", &mut bob).await,
        ["message chat c1 psst"]
    );
    room.grant("bob", "admin", "moderator");
    assert_eq!(heard(&room, "bob", &mut bob).await, ["presence  bob [110]"]);

    assert_eq!(
        heard(&room, "alice", &mut alice).await,
        ["presence  bob []"]
    );

    // One occupant asks another, who is asked once and answers.
    let to = room.occupant("bob");
    let id = alice
        .send_iq("get", Some(&to), "<q xmlns='urn:q'/>")
        .await
        .unwrap();
    let asked = bob.recv().await.unwrap();
    assert_eq!(asked.from(), Some(&*room.occupant("alice")));
    let answer = format!(
        "<iq type='result' id='{id}' to='{}'><a xmlns='urn:q'/></iq>",
        room.occupant("alice")
    );
    bob.send_raw(answer).await.unwrap();
    let answer = alice.recv().await.unwrap();
    assert_eq!((answer.id(), answer.from()), (Some(&*id), Some(&*to)));
    assert!(answer.has_child("a", "urn:q"));

    // A stream that is gone is gone from the room.
    alice.reset_connection().unwrap();
    bob.wait_for("alice's end", |it| it.kind() == Some("unavailable"))
        .await
        .unwrap();
    assert_eq!(room.nicks(), ["c1", "c2", "bob"]);
}

async fn a_large_room_is_joined(kind: Kind) {
    let room = room(kind, "large").await;
    let mut alice = session(kind, "alice", "phone").await;
    room.crowd(5_000);
    let joined = alice.join(room.jid(), "alice").await.unwrap();
    assert_eq!(joined.presences.len(), 5_000);
}

async fn joins_end_as_the_test_says(kind: Kind) {
    let room = room(kind, "joins").await;
    let mut alice = session(kind, "alice", "phone").await;

    room.rules(|rules| rules.joining = Joining::Refuse("forbidden"));
    let refused = alice.join(room.jid(), "alice").await.unwrap_err();
    let ClientError::Refused(error) = refused else {
        panic!("{refused}")
    };
    assert_eq!(error.error_condition(), Some("forbidden"));

    room.rules(|rules| rules.joining = Joining::Hold);
    let id = alice
        .send_join(room.jid(), "alice", &Join::default())
        .await
        .unwrap();
    room.wait_for("the join", |it| it.id() == Some(&id)).await;
    assert!(alice.drain_until_pong().await.unwrap().is_empty());
    room.admit();
    alice.collect_join(room.jid(), &id).await.unwrap();
    room.forget("alice");

    room.rules(|rules| {
        rules.joining = Joining::Assign("somebody".into());
        rules.reflects_ids = false;
    });
    let joined = alice.join(room.jid(), "alice").await.unwrap();
    assert_eq!(line(&joined.self_presence), "presence  somebody [110, 210]");
    assert_eq!(joined.self_presence.id(), None);
    room.forget("somebody");

    let answer = "<presence from='{room}/{nick}' to='{to}' id='{id}'/>";
    room.rules(|rules| rules.joining = Joining::Say(vec![answer.to_owned()]));
    let id = alice
        .send_join(room.jid(), "al'ice", &Join::default())
        .await
        .unwrap();
    let said = alice.recv().await.unwrap();
    assert_eq!(
        (said.id(), said.from()),
        (Some(&*id), Some(&*room.occupant("al'ice")))
    );
    assert_eq!(room.nicks(), ["al'ice"]);
}

async fn a_challenge_is_answered(kind: Kind) {
    let room = room(kind, "challenge").await;
    room.rules(|rules| rules.joining = Joining::Challenge("who".into()));
    let mut alice = session(kind, "alice", "phone").await;
    let id = alice
        .send_join(room.jid(), "alice", &Join::default())
        .await
        .unwrap();
    let challenge = alice.recv().await.unwrap();
    assert_eq!(
        (challenge.id(), challenge.from()),
        (Some("who"), Some(room.jid()))
    );
    for (guess, kind) in [("15", "error"), ("14", "result")] {
        let form = format!(
            "<captcha xmlns='urn:xmpp:captcha'><x xmlns='jabber:x:data' type='submit'>\
             <field var='qa'><value>{guess}</value></field></x></captcha>"
        );
        let answer = alice.iq("set", Some(room.jid()), &form).await.unwrap();
        assert_eq!(answer.kind(), Some(kind));
    }
    alice.collect_join(room.jid(), &id).await.unwrap();
}

async fn nicks_and_leaves_go_as_the_test_says(kind: Kind) {
    let room = room(kind, "nicks").await;
    let mut alice = session(kind, "alice", "phone").await;
    alice.join(room.jid(), "a").await.unwrap();
    for (renaming, to, expected) in [
        (
            Renaming::Announce,
            "b",
            &["presence unavailable a [303, 110]", "presence  b [110]"][..],
        ),
        (Renaming::WithoutUnavailable, "c", &["presence  c [110]"]),
        (
            Renaming::WithoutCode,
            "cc",
            &["presence unavailable c [110]", "presence  cc [110]"],
        ),
        (Renaming::Silent, "d", &[]),
        (
            Renaming::Refuse("not-acceptable"),
            "e",
            &["presence error e []"],
        ),
    ] {
        room.rules(|rules| rules.renaming = renaming);
        let presence = format!("<presence id='nick' to='{}'/>", room.occupant(to));
        alice.send_raw(presence).await.unwrap();
        alice
            .settle(room.jid())
            .await
            .map(|seen| {
                assert_eq!(seen.iter().map(line).collect::<Vec<_>>(), expected);
            })
            .unwrap();
    }
    assert_eq!(room.nicks(), ["d"]);

    room.rules(|rules| rules.leaving = Leaving::Ignore);
    alice.leave(room.jid(), "d", None).await.unwrap();
    assert!(alice.settle(room.jid()).await.unwrap().is_empty());
    assert_eq!(room.nicks(), ["d"]);
    room.rules(|rules| rules.leaving = Leaving::Silent);
    alice.leave(room.jid(), "d", None).await.unwrap();
    assert!(alice.settle(room.jid()).await.unwrap().is_empty());
    assert_eq!(room.nicks(), [""; 0]);
}

async fn an_occupant_is_forgotten_or_removed(kind: Kind) {
    let room = room(kind, "removed").await;
    let mut alice = session(kind, "alice", "phone").await;
    alice.join(room.jid(), "alice").await.unwrap();
    room.forget("alice");
    alice.say(room.jid(), "hello?").await.unwrap();
    let error = alice.recv().await.unwrap();
    assert_eq!(error.error_condition(), Some("not-acceptable"));
    alice.join(room.jid(), "alice").await.unwrap();
    room.remove("alice", &[333]);
    assert_eq!(
        line(&alice.recv().await.unwrap()),
        "presence unavailable alice [110, 333]"
    );
    alice.join(room.jid(), "alice").await.unwrap();
    room.destroy("<destroy jid='other@rooms.example.test'/>");
    let destroyed = alice.recv().await.unwrap();
    assert!(destroyed.raw_str().contains("<destroy"), "{destroyed:?}");
}

async fn a_hook_comes_first(kind: Kind) {
    let room = room(kind, "hook").await;
    let mut alice = session(kind, "alice", "phone").await;
    alice.join(room.jid(), "alice").await.unwrap();
    let from = room.jid().to_owned();
    room.hook(move |stanza| {
        (stanza.name() == "message").then(|| {
            let (to, id) = (
                stanza.from().unwrap_or_default(),
                stanza.id().unwrap_or_default(),
            );
            vec![format!(
                "<message from='{from}' to='{to}' id='{id}'><body>no</body></message>"
            )]
        })
    });
    let id = alice.say(room.jid(), "hello").await.unwrap();
    let answer = alice.recv().await.unwrap();
    assert_eq!(
        (answer.id(), answer.body().as_deref()),
        (Some(&*id), Some("no"))
    );
    assert_eq!(room.count(|it| it.body().as_deref() == Some("hello")), 1);
}
