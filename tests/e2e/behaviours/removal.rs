//! The account is put out of the room, or the room ends (behaviours 47 and 49).

use mucplex_testkit::Element;
use mucplex_testkit::client::{Client, ClientError};
use mucplex_testkit::server::Kind;
use mucplex_testkit::xml::{NS_MUC_ADMIN, NS_MUC_OWNER, NS_MUC_USER, Stanza};

use crate::stage::{Front, Stage, impersonal, leave, mark, moderate, outline, through};

crate::tests![
    b47_kicked,
    b47_banned,
    b47_no_member_any_more,
    b47_the_room_is_for_members_now,
    b47_kicked_while_another_room_goes_on,
    b49_the_room_is_destroyed,
];

/// Two sessions of alice in bob's room, and one that has not joined.
struct Removal {
    front: Front,
    bob: Client,
    phone: Client,
    laptop: Client,
    tablet: Client,
    room: String,
}

impl Removal {
    async fn new(stage: &Stage) -> Self {
        let front = stage.own_front("").await;
        let mut bob = stage.room_with_bob().await;
        let alice = stage.account("alice").await;
        let mut phone = front.session(&alice, "phone").await;
        let mut laptop = front.session(&alice, "laptop").await;
        let tablet = front.session(&alice, "tablet").await;
        let room = stage.room.clone();
        phone.join(&room, "alice").await.unwrap();
        laptop.join(&room, "alice").await.unwrap();
        mark(&mut bob, &room, [&mut phone, &mut laptop]).await;
        Self {
            front,
            bob,
            phone,
            laptop,
            tablet,
            room,
        }
    }

    fn jid(&self) -> String {
        self.phone.bare_jid().to_owned()
    }

    /// Bob sends a request; gives what he gets until all that it causes is done.
    async fn bob_sends(&mut self, query: &str) -> Vec<Stanza> {
        let id = self
            .bob
            .send_iq("set", Some(&self.room), query)
            .await
            .unwrap();
        let answer = |it: &Stanza| it.id() == Some(&id) && it.name() == "iq";
        let mut seen = through(&mut self.bob, "the answer", answer).await;
        assert_eq!(seen.pop().unwrap().kind(), Some("result"));
        seen.extend(self.bob.drain_until_pong().await.unwrap());
        seen
    }

    /// What each session gets until it is out, and no more. Whatever a room tells its occupants
    /// by presences of its own is left out.
    async fn out(&mut self) -> Vec<Stanza> {
        let mut views = Vec::new();
        for client in [&mut self.phone, &mut self.laptop] {
            let out = |it: &Stanza| it.kind() == Some("unavailable") && it.item().is_some();
            let mut seen = through(client, "the end of the occupancy", out).await;
            seen.extend(client.drain_until_pong().await.unwrap());
            seen.retain(|it| it.name() != "presence" || it.item().is_some());
            let jid = seen
                .last()
                .and_then(|it| it.item())
                .and_then(|item| item.attr("jid"));
            assert!(jid.is_none_or(|jid| jid == client.jid()), "{seen:?}");
            views.push(impersonal(client, &seen));
            if views.len() == 2 {
                assert_eq!(views[0], views[1]);
                let quiet = self.tablet.drain_until_pong().await.unwrap();
                assert_eq!(outline(&quiet), [""; 0]);
                return seen;
            }
        }
        unreachable!("two sessions")
    }

    /// Nothing has gone upstream by itself; and what the next join goes to, it says.
    async fn join_again(&mut self) -> Result<Vec<String>, String> {
        let occupant = format!("{}/alice", self.room);
        let upstream = self.front.tap.count_up(&occupant);
        assert_eq!(upstream, 1, "a join that nobody has asked for");
        let joined = self.laptop.join(&self.room, "alice").await;
        assert_eq!(self.front.tap.count_up(&occupant), 2);
        match joined {
            Ok(joined) => Ok(outline(&joined.all)),
            Err(ClientError::Refused(error)) => {
                Err(error.error_condition().unwrap_or_default().to_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn admin(item: &str) -> String {
    format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>")
}

fn members_only() -> String {
    format!(
        "<query xmlns='{NS_MUC_OWNER}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_membersonly'><value>1</value></field></x></query>"
    )
}

/// Who has done it and why: `actor` and `reason` of the item.
fn actor_and_reason(stanza: &Stanza) -> (Option<String>, Option<String>) {
    let item = stanza.item().unwrap();
    let actor = item.get_child("actor", NS_MUC_USER);
    let reason = item.get_child("reason", NS_MUC_USER);
    (
        actor.and_then(|it| it.attr("nick")).map(str::to_owned),
        reason.map(Element::text),
    )
}

async fn b47_kicked(stage: Stage) {
    let mut at = Removal::new(&stage).await;
    let query = admin("<item nick='alice' role='none'><reason>enough &lt;</reason></item>");
    let on_bob = at.bob_sends(&query).await;
    assert_eq!(
        outline(&on_bob),
        ["presence alice unavailable none/none 307"]
    );
    let out = at.out().await;
    assert_eq!(
        outline(&out),
        ["presence alice unavailable none/none 110 307"]
    );
    let expected = (Some("bob".to_owned()), Some("enough <".to_owned()));
    assert_eq!(actor_and_reason(&out[0]), expected);
    for client in [&mut at.phone, &mut at.laptop] {
        let id = client.say(&stage.room, "but").await.unwrap();
        let error = client.recv().await.unwrap();
        let refused = ["message error (room) not-acceptable"];
        assert_eq!(outline([&error]), refused);
        assert_eq!(error.id(), Some(&*id));
    }
    let welcome = [
        "presence bob owner/moderator",
        "presence alice none/participant 110",
        "subject by (room): ",
    ];
    assert_eq!(at.join_again().await.unwrap(), welcome);
    let on_bob = mark(&mut at.laptop, &stage.room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob[0]), ["presence alice none/participant"]);
}

async fn b47_banned(stage: Stage) {
    let mut at = Removal::new(&stage).await;
    let item = format!(
        "<item jid='{}' affiliation='outcast'><reason>bye</reason></item>",
        at.jid()
    );
    let on_bob = at.bob_sends(&admin(&item)).await;
    assert_eq!(
        outline(&on_bob),
        ["presence alice unavailable outcast/none 301"]
    );
    let out = at.out().await;
    assert_eq!(
        outline(&out),
        ["presence alice unavailable outcast/none 110 301"]
    );
    assert_eq!(
        actor_and_reason(&out[0]),
        (Some("bob".to_owned()), Some("bye".to_owned()))
    );
    assert_eq!(at.join_again().await.unwrap_err(), "forbidden");
}

async fn b47_no_member_any_more(stage: Stage) {
    let mut at = Removal::new(&stage).await;
    let member = format!("<item jid='{}' affiliation='member'/>", at.jid());
    moderate(&mut at.bob, &stage.room, &member).await;
    at.bob_sends(&members_only()).await;
    mark(&mut at.bob, &stage.room, [&mut at.phone, &mut at.laptop]).await;
    let none = format!("<item jid='{}' affiliation='none'/>", at.jid());
    let on_bob = at.bob_sends(&admin(&none)).await;
    assert_eq!(
        outline(&on_bob),
        ["presence alice unavailable none/none 321"]
    );
    let out = at.out().await;
    assert_eq!(
        outline(&out),
        ["presence alice unavailable none/none 110 321"]
    );
    let again = at.join_again().await;
    if stage.kind == Kind::Prosody {
        // ejabberd lets one back in who was a member.
        assert_eq!(again.unwrap_err(), "registration-required");
    }
}

async fn b47_the_room_is_for_members_now(stage: Stage) {
    let mut at = Removal::new(&stage).await;
    let on_bob = at.bob_sends(&members_only()).await;
    let leaves = on_bob
        .iter()
        .filter(|it| it.name() == "presence" && it.item().is_some());
    let leaves: Vec<Stanza> = leaves.cloned().collect();
    if stage.kind == Kind::Ejabberd {
        // Prosody 0.12 tells it only the one who is put out.
        let gone = ["presence alice unavailable none/none 322"];
        assert_eq!(outline(&leaves), gone);
    }
    let out = at.out().await;
    // ejabberd tells the new configuration first, Prosody those who stay.
    let expected = "presence alice unavailable none/none 110 322";
    assert_eq!(outline(&out).last().unwrap(), expected);
    assert!(
        out.len() == 1 || outline(&out)[0] == "(room): (no body) 104",
        "{out:?}"
    );
    assert_eq!(at.join_again().await.unwrap_err(), "registration-required");
}

async fn b47_kicked_while_another_room_goes_on(stage: Stage) {
    let mut at = Removal::new(&stage).await;
    let lounge = stage.server.new_room("lounge");
    at.bob.create_room(&lounge, "bob").await.unwrap();
    at.laptop.join(&lounge, "alice").await.unwrap();
    at.phone.join(&lounge, "alice").await.unwrap();
    mark(&mut at.bob, &lounge, [&mut at.laptop, &mut at.phone]).await;
    moderate(&mut at.bob, &stage.room, "<item nick='alice' role='none'/>").await;
    at.out().await;
    for seen in mark(&mut at.bob, &lounge, [&mut at.laptop, &mut at.phone]).await {
        assert_eq!(outline(&seen), [""; 0]);
    }
    let left = leave(&mut at.laptop, &lounge, "alice").await;
    assert_eq!(outline(&left), ["presence alice unavailable none/none 110"]);
}

async fn b49_the_room_is_destroyed(stage: Stage) {
    let mut at = Removal::new(&stage).await;
    at.bob.say(&stage.room, "the last words").await.unwrap();
    for client in [&mut at.bob, &mut at.phone, &mut at.laptop] {
        client.hear("the last words").await.unwrap();
    }
    let query = format!(
        "<query xmlns='{NS_MUC_OWNER}'><destroy jid='other@rooms.example.test'>\
         <reason>we move</reason><password>tea</password></destroy></query>"
    );
    at.bob_sends(&query).await;
    let out = at.out().await;
    // ejabberd does not mark this one as the session's own; `<destroy/>` says enough.
    let own = match stage.kind {
        Kind::Prosody => " 110",
        Kind::Ejabberd => "",
    };
    let expected = format!("presence alice unavailable none/none{own}");
    assert_eq!(outline(&out), [expected]);
    let user = out[0].get_child("x", NS_MUC_USER).unwrap();
    let destroy = user.get_child("destroy", NS_MUC_USER).unwrap();
    assert_eq!(destroy.attr("jid"), Some("other@rooms.example.test"));
    let text = |name| destroy.get_child(name, NS_MUC_USER).map(Element::text);
    assert_eq!(text("reason").as_deref(), Some("we move"));
    assert_eq!(text("password").as_deref(), Some("tea"));
    // The next one of that name is another room.
    let created = [
        "presence alice owner/moderator 110 201",
        "subject by (room): ",
    ];
    assert_eq!(at.join_again().await.unwrap(), created);
}
