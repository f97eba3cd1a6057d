//! Joins that the room refuses (behaviours 10 and 11).

use mucplex_testkit::client::{Client, ClientError, Join, Security};
use mucplex_testkit::rooms::Joining;
use mucplex_testkit::server::{Account, Kind, Options, Server};
use mucplex_testkit::xml::Stanza;

use crate::stage::{Front, Stage, leave, mark, marked, moderate, outline};

crate::tests![
    b10_a_password_is_missing_or_wrong,
    b10_banned,
    b10_members_only,
    b10_the_nick_is_taken,
    b10_the_room_is_full on Ejabberd,
    b10_the_room_is_locked on Prosody,
    b10_nobody_may_create_rooms,
    b10_the_nick_is_not_allowed,
    b10_every_condition,
    b10_of_two_that_ask_at_once_each_gets_its_own_error,
    b11_one_password_serves_all_sessions_and_no_other_account,
];

/// Two sessions of alice, who are both in another room, so that one sees what the other causes.
struct Refused {
    phone: Client,
    laptop: Client,
    bob: Client,
    lounge: String,
    room: String,
}

impl Refused {
    async fn new(stage: &Stage) -> Self {
        let alice = stage.account("alice").await;
        let mut phone = stage.session(&alice, "phone").await;
        let mut laptop = stage.session(&alice, "laptop").await;
        let mut bob = stage.room_with_bob().await;
        let lounge = stage.server.new_room("lounge");
        bob.create_room(&lounge, "bob").await.unwrap();
        phone.join(&lounge, "alice").await.unwrap();
        laptop.join(&lounge, "alice").await.unwrap();
        let mut both = Self {
            phone,
            laptop,
            bob,
            lounge,
            room: stage.room.clone(),
        };
        both.quiet().await;
        both
    }

    fn alice(&self) -> String {
        self.phone.bare_jid().to_owned()
    }

    /// The one asks, and gets the error; nobody gets anything else.
    async fn refuse(&mut self, nick: &str, join: &Join, condition: &str) {
        for _ in 0..2 {
            let id = self.phone.send_join(&self.room, nick, join).await.unwrap();
            let error = self.phone.recv_for("the error").await.unwrap();
            assert_refusal(&error, &self.phone, (&self.room, nick, &id), condition);
            self.quiet().await;
            std::mem::swap(&mut self.phone, &mut self.laptop);
        }
    }

    async fn quiet(&mut self) {
        let listeners = [&mut self.phone, &mut self.laptop];
        for seen in mark(&mut self.bob, &self.lounge, listeners).await {
            assert_eq!(outline(&seen), [""; 0]);
        }
    }

    /// Nothing has stayed: both join, one as the first, the other as a late joiner.
    async fn join(&mut self, nick: &str, join: &Join) {
        let first = self.phone.join_with(&self.room, nick, join).await.unwrap();
        let second = self.laptop.join_with(&self.room, nick, join).await.unwrap();
        assert_eq!(outline(&first.all), outline(&second.all));
        assert_eq!(first.id, first.self_presence.id().unwrap_or_default());
    }
}

fn assert_refusal(
    error: &Stanza,
    asking: &Client,
    (room, nick, id): (&str, &str, &str),
    condition: &str,
) {
    assert_eq!(
        outline([error]),
        [format!("presence error {nick} {condition}")]
    );
    assert_eq!(error.id(), Some(id));
    assert_eq!(error.from(), Some(&*format!("{room}/{nick}")));
    assert_eq!(error.to(), Some(asking.jid()));
}

fn with_password(password: &str) -> Join {
    Join {
        password: Some(password.into()),
        ..Join::default()
    }
}

/// Makes the room's password `tea`.
async fn protect(bob: &mut Client, room: &str) {
    let fields = [
        ("muc#roomconfig_passwordprotectedroom", "1"),
        ("muc#roomconfig_roomsecret", "tea"),
    ];
    bob.configure_room(room, &fields).await.unwrap();
}

async fn b10_a_password_is_missing_or_wrong(stage: Stage) {
    let mut at = Refused::new(&stage).await;
    protect(&mut at.bob, &stage.room).await;
    at.refuse("alice", &Join::default(), "not-authorized").await;
    at.refuse("alice", &with_password("milk"), "not-authorized")
        .await;
    at.join("alice", &with_password("tea")).await;
}

async fn b10_banned(stage: Stage) {
    let mut at = Refused::new(&stage).await;
    let alice = at.alice();
    let item = format!("<item jid='{alice}' affiliation='outcast'/>");
    moderate(&mut at.bob, &stage.room, &item).await;
    at.refuse("alice", &Join::default(), "forbidden").await;
    let item = format!("<item jid='{alice}' affiliation='none'/>");
    moderate(&mut at.bob, &stage.room, &item).await;
    at.join("alice", &Join::default()).await;
}

async fn b10_members_only(stage: Stage) {
    let mut at = Refused::new(&stage).await;
    let fields = [("muc#roomconfig_membersonly", "1")];
    at.bob.configure_room(&stage.room, &fields).await.unwrap();
    at.refuse("alice", &Join::default(), "registration-required")
        .await;
    let item = format!("<item jid='{}' affiliation='member'/>", at.alice());
    moderate(&mut at.bob, &stage.room, &item).await;
    at.join("alice", &Join::default()).await;
}

async fn b10_the_nick_is_taken(stage: Stage) {
    let mut at = Refused::new(&stage).await;
    at.refuse("bob", &Join::default(), "conflict").await;
    at.join("alice", &Join::default()).await;
}

/// Prosody limits the number of occupants by a community module only; the condition is in
/// `b10_every_condition`.
async fn b10_the_room_is_full(stage: Stage) {
    let mut at = Refused::new(&stage).await;
    at.bob
        .configure_room(&stage.room, &[("muc#roomconfig_maxusers", "1")])
        .await
        .unwrap();
    // ejabberd says resource-constraint where XEP-0045 7.2.9 has service-unavailable.
    at.refuse("alice", &Join::default(), "resource-constraint")
        .await;
    at.bob
        .configure_room(&stage.room, &[("muc#roomconfig_maxusers", "20")])
        .await
        .unwrap();
    at.join("alice", &Join::default()).await;
}

/// The rooms of ejabberd are open at once.
async fn b10_the_room_is_locked(mut stage: Stage) {
    let locked = stage.server.new_room("locked");
    let mut at = Refused::new(&stage).await;
    stage.room.clone_from(&locked);
    at.room.clone_from(&locked);
    at.bob.join(&locked, "bob").await.unwrap();
    at.refuse("alice", &Join::default(), "item-not-found").await;
    at.bob.configure_room(&locked, &[]).await.unwrap();
    at.join("alice", &Join::default()).await;
}

async fn b10_nobody_may_create_rooms(stage: Stage) {
    let extra_rooms = match stage.kind {
        Kind::Prosody => "restrict_room_creation = true\n    admins = { \"bob@example.test\" }",
        Kind::Ejabberd => "access_create: creators",
    };
    // ejabberd reads two sections of one name as one.
    let extra = match stage.kind {
        Kind::Prosody => String::new(),
        Kind::Ejabberd => "acl:\n  creators:\n    user: bob@example.test\n\
                           access_rules:\n  creators: {allow: creators}"
            .to_owned(),
    };
    let options = Options {
        extra,
        extra_rooms: extra_rooms.into(),
        ..Options::default()
    };
    let server = Server::start_with(stage.kind, options).await.unwrap();
    let front = Front::start(&server, "").await;
    let alice = server.account("alice").await.unwrap();
    let bob = Account::new(&server, "bob", "secret");
    bob.submit(server.plain(), &Security::Plain).await.unwrap();
    let mut bob = bob.direct().connect().await.unwrap();
    let room = server.new_room("forbidden");
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    for client in [&mut phone, &mut laptop] {
        let id = client
            .send_join(&room, "alice", &Join::default())
            .await
            .unwrap();
        let error = client.recv_for("the error").await.unwrap();
        // XEP-0045 7.2.13 has not-allowed, ejabberd forbidden.
        let condition = match stage.kind {
            Kind::Prosody => "not-allowed",
            Kind::Ejabberd => "forbidden",
        };
        assert_refusal(&error, client, (&room, "alice", &id), condition);
    }
    assert_eq!(outline(&phone.drain_until_pong().await.unwrap()), [""; 0]);
    bob.create_room(&room, "bob").await.unwrap();
    for client in [&mut phone, &mut laptop] {
        let joined = client.join(&room, "alice").await.unwrap();
        assert_eq!(joined.nicks(), ["bob"]);
    }
}

async fn b10_the_nick_is_not_allowed(stage: Stage) {
    let mut at = Refused::new(&stage).await;
    let mut direct = stage.outsider(&stage.account("direct").await, "desk").await;
    // White space alone: RFC 7622 allows it, Prosody does not. What is no resourcepart at all
    // (too long, or a control character) the server refuses as the address of a stanza.
    let long = "x".repeat(1024);
    for nick in [" ", &long] {
        let refused = direct.join(&stage.room, nick).await;
        let Err(ClientError::Refused(error)) = refused else {
            refused.unwrap();
            leave(&mut direct, &stage.room, nick).await;
            continue;
        };
        let id = at
            .phone
            .send_join(&stage.room, nick, &Join::default())
            .await
            .unwrap();
        let got = at.phone.recv_for("the error").await.unwrap();
        assert_eq!(outline([&got]), outline([&*error]));
        assert_eq!((got.id(), got.from()), (Some(&*id), error.from()));
        at.quiet().await;
    }
    at.join("alice", &Join::default()).await;
}

async fn b10_every_condition(stage: Stage) {
    const CONDITIONS: [&str; 10] = [
        "not-authorized",
        "forbidden",
        "registration-required",
        "conflict",
        "item-not-found",
        "not-allowed",
        "not-acceptable",
        "service-unavailable",
        "resource-constraint",
        "jid-malformed",
    ];
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let lounge = stage.scripted("lounge").await;
    for client in [&mut phone, &mut laptop] {
        client.join(lounge.jid(), "alice").await.unwrap();
    }
    for condition in CONDITIONS {
        let room = stage.scripted(condition).await;
        for _ in 0..2 {
            room.rules(|rules| rules.joining = Joining::Refuse(condition));
            let id = phone
                .send_join(room.jid(), "alice", &Join::default())
                .await
                .unwrap();
            let error = phone.recv_for("the error").await.unwrap();
            assert_eq!(
                outline([&error]),
                [format!("presence error alice {condition}")]
            );
            assert_eq!(error.id(), Some(&*id));
            assert_eq!(error.to(), Some(phone.jid()));
            for seen in marked(&lounge, "alice", [&mut phone, &mut laptop]).await {
                assert_eq!(outline(&seen), [""; 0]);
            }
            std::mem::swap(&mut phone, &mut laptop);
        }
        assert_eq!(room.joins(), 2, "each asked for itself");
        // No state has stayed.
        room.rules(|rules| rules.joining = Joining::Admit);
        for client in [&mut laptop, &mut phone] {
            let joined = client.join(room.jid(), "alice2").await.unwrap();
            let own = "presence alice2 none/participant 110";
            assert_eq!(outline(&joined.all), [own, "subject by (room): "]);
        }
        assert_eq!(room.joins(), 3);
    }
}

/// The second waits for the first one's answer, and then asks for itself.
async fn b10_of_two_that_ask_at_once_each_gets_its_own_error(stage: Stage) {
    let mut bob = stage.room_with_bob().await;
    protect(&mut bob, &stage.room).await;
    let alice = stage.account("alice").await;
    let mut phone = stage.session(&alice, "phone").await;
    let mut laptop = stage.session(&alice, "laptop").await;
    let (wrong, right) = (with_password("milk"), with_password("tea"));
    for _ in 0..10 {
        let (first, second) = tokio::join!(
            phone.send_join(&stage.room, "alice", &wrong),
            laptop.send_join(&stage.room, "alice", &wrong)
        );
        for (client, id) in [(&mut phone, first.unwrap()), (&mut laptop, second.unwrap())] {
            let error = client.recv_for("the error").await.unwrap();
            assert_refusal(
                &error,
                client,
                (&stage.room, "alice", &id),
                "not-authorized",
            );
        }
    }
    let (wrong, right) = tokio::join!(
        phone.send_join(&stage.room, "alice", &wrong),
        laptop.send_join(&stage.room, "alice", &right)
    );
    laptop
        .collect_join(&stage.room, &right.unwrap())
        .await
        .unwrap();
    // Whether the wrong one was refused or found the account in the room already is a race.
    match phone.collect_join(&stage.room, &wrong.unwrap()).await {
        Ok(_) => leave(&mut phone, &stage.room, "alice").await,
        Err(ClientError::Refused(error)) => vec![*error],
        Err(error) => panic!("{error}"),
    };
    let [seen] = mark(&mut bob, &stage.room, [&mut laptop]).await;
    assert_eq!(outline(&seen), [""; 0]);
}

async fn b11_one_password_serves_all_sessions_and_no_other_account(stage: Stage) {
    let front = stage.own_front("").await;
    let mut bob = stage.room_with_bob().await;
    protect(&mut bob, &stage.room).await;
    let (alice, carol) = (stage.account("alice").await, stage.account("carol").await);
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let mut other = front.session(&carol, "phone").await;
    phone
        .join_with(&stage.room, "alice", &with_password("tea"))
        .await
        .unwrap();
    laptop.join(&stage.room, "alice").await.unwrap();

    let refused = other.join(&stage.room, "carol").await;
    assert!(
        matches!(refused, Err(ClientError::Refused(_))),
        "{refused:?}"
    );

    // The proxy itself needs it for a hand-over.
    let uplink = front.uplink(&phone);
    phone.close().await.unwrap();
    front.released(uplink).await;
    laptop.say(&stage.room, "still here").await.unwrap();
    laptop.hear("still here").await.unwrap();
    let mut tablet = front.session(&alice, "tablet").await;
    let joined = tablet.join(&stage.room, "alice").await.unwrap();
    assert_eq!(joined.bodies(), ["still here"]);

    // The account has left: the password is forgotten.
    leave(&mut tablet, &stage.room, "alice").await;
    leave(&mut laptop, &stage.room, "alice").await;
    let refused = tablet.join(&stage.room, "alice").await;
    assert!(
        matches!(refused, Err(ClientError::Refused(_))),
        "{refused:?}"
    );
}
