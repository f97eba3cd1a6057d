//! What those who run a room do to it (behaviours 31 and 50).

use mucplex_testkit::client::{Client, Join};
use mucplex_testkit::proxy::{Proxy, Setup};
use mucplex_testkit::scripted::{Peer, ScriptedServer};
use mucplex_testkit::server::{Account, Kind};
use mucplex_testkit::xml::{NS_MUC_ADMIN, NS_MUC_OWNER, NS_MUC_USER, Stanza};

use crate::raw::WITHOUT_ANCHORS;
use crate::stage::{Stage, impersonal, leave, mark, moderate, outline, through};

crate::tests![
    b31_changes_of_the_configuration,
    b31_the_room_is_logged_or_not,
    b31_codes_that_no_server_here_sends,
    b50_roles_and_affiliations_from_each_session,
    b50_the_configuration_from_each_session,
    b50_registration_from_each_session,
    b50_each_session_destroys_a_room,
    b50_a_refused_request_is_told_to_the_one_who_asked,
];

/// A server that the test plays, with two sessions of one account on it.
struct Scripted {
    phone: Client,
    laptop: Client,
    on_phone: Peer,
    /// The stream stays open.
    _on_laptop: Peer,
    _proxy: Proxy,
}

impl Scripted {
    async fn new(stage: &Stage) -> Self {
        let server = ScriptedServer::start().await.unwrap();
        let setup = Setup::new(server.address()).section(WITHOUT_ANCHORS);
        let proxy = setup.start().await.unwrap();
        let alice = Account::new(stage.server, "alice", "secret");
        let login = |resource| proxy.login(&alice).resource(resource);
        let (phone, laptop) = (login("phone"), login("laptop"));
        let (phone, on_phone) = tokio::join!(phone.connect(), server.accept());
        let (laptop, on_laptop) = tokio::join!(laptop.connect(), server.accept());
        Self {
            phone: phone.unwrap(),
            laptop: laptop.unwrap(),
            on_phone: on_phone.unwrap(),
            _on_laptop: on_laptop.unwrap(),
            _proxy: proxy,
        }
    }
}

/// All that a room says to the first who joins it.
fn welcome(request: &Stanza, to: &str) -> String {
    let (from, id) = (request.to().unwrap(), request.id().unwrap());
    let room = from.split('/').next().unwrap();
    format!(
        "<presence from='{from}' to='{to}' id='{id}'>\
         <x xmlns='http://jabber.org/protocol/muc#user'>\
         <item affiliation='none' role='participant'/><status code='110'/></x></presence>\
         <message type='groupchat' from='{room}' to='{to}'><subject/></message>"
    )
}

/// Two sessions of alice in bob's room, the first one's uplink carrying it, and one more to join
/// late.
struct Run {
    bob: Client,
    carol: Client,
    sessions: [Client; 2],
    late: Client,
    room: String,
}

impl Run {
    /// `affiliation` is alice's.
    async fn new(stage: &Stage, affiliation: &str) -> Self {
        let mut bob = stage.room_with_bob().await;
        let carol = stage.guest("carol").await;
        let alice = stage.account("alice").await;
        let room = stage.room.clone();
        let item = format!("<item jid='{}' affiliation='{affiliation}'/>", alice.jid());
        moderate(&mut bob, &room, &item).await;
        let mut sessions = [
            stage.session(&alice, "phone").await,
            stage.session(&alice, "laptop").await,
        ];
        for client in &mut sessions {
            client.join(&room, "alice").await.unwrap();
        }
        mark(&mut bob, &room, sessions.each_mut()).await;
        let late = stage.session(&alice, "late").await;
        Self {
            bob,
            carol,
            sessions,
            late,
            room,
        }
    }

    /// What bob and each session get of all that has happened; each session the same.
    async fn told(&mut self) -> (Vec<Stanza>, Vec<Stanza>) {
        let [phone, laptop] = &mut self.sessions;
        let listeners = [&mut self.bob, phone, laptop];
        let [on_bob, on_phone, on_laptop] = mark(&mut self.carol, &self.room, listeners).await;
        let [phone, laptop] = &self.sessions;
        assert_eq!(impersonal(phone, &on_phone), impersonal(laptop, &on_laptop));
        (on_bob, on_phone)
    }

    /// A session asks; the answer comes to it alone. Gives the answer, and what all were told.
    async fn ask(&mut self, asking: usize, kind: &str, payload: &str) -> (Stanza, Vec<Stanza>) {
        let room = self.room.clone();
        let sessions = &mut self.sessions;
        let id = sessions[asking].send_iq(kind, Some(&room), payload).await;
        let id = id.unwrap();
        let is_answer = |it: &Stanza| it.name() == "iq";
        let mut seen = through(&mut sessions[asking], "the answer", is_answer).await;
        let answer = seen.pop().unwrap();
        assert_eq!(answer.id(), Some(&*id));
        assert_eq!(answer.from(), Some(&*room));
        assert_eq!(answer.to(), Some(sessions[asking].jid()));
        let mut heard = mark(&mut self.carol, &room, sessions.each_mut()).await;
        seen.append(&mut heard[asking]);
        heard[asking] = seen;
        let [phone, laptop] = &self.sessions;
        assert_eq!(impersonal(phone, &heard[0]), impersonal(laptop, &heard[1]));
        let [told, _] = heard;
        (answer, told)
    }

    /// The codes that a late joiner is told of itself.
    async fn late_codes(&mut self) -> Vec<u16> {
        let joined = self.late.join(&self.room, "alice").await.unwrap();
        leave(&mut self.late, &self.room, "alice").await;
        let mut codes = joined.self_presence.statuses();
        codes.sort_unstable();
        codes
    }
}

fn admin(item: &str) -> String {
    format!("<query xmlns='{NS_MUC_ADMIN}'>{item}</query>")
}

fn configuration(field: &str, value: &str) -> String {
    format!(
        "<query xmlns='{NS_MUC_OWNER}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='{field}'><value>{value}</value></field></x></query>"
    )
}

/// The codes of the room's messages, in their order.
fn codes(stanzas: &[Stanza]) -> Vec<u16> {
    let messages = stanzas.iter().filter(|it| it.kind() == Some("groupchat"));
    messages.flat_map(Stanza::statuses).collect()
}

/// What the owner can change on both servers, and what late joiners are told afterwards; in the
/// end all is as before but for the name, and it can be done again.
const CHANGES: [(&str, &str, u16, &[u16]); 4] = [
    ("muc#roomconfig_roomname", "Tea", 104, &[110]),
    ("muc#roomconfig_whois", "anyone", 172, &[100, 110]),
    ("muc#roomconfig_roomname", "Green tea", 104, &[100, 110]),
    ("muc#roomconfig_whois", "moderators", 173, &[110]),
];

async fn b31_changes_of_the_configuration(stage: Stage) {
    let mut at = Run::new(&stage, "none").await;
    for (field, value, code, late) in CHANGES {
        let fields = [(field, value)];
        at.bob.configure_room(&at.room, &fields).await.unwrap();
        let (on_bob, told) = at.told().await;
        assert!(codes(&told).contains(&code), "{field}: {told:?}");
        assert!(
            told.iter().all(|it| it.from() == Some(&*at.room)),
            "{told:?}"
        );
        // Bob's result may come on either side of what he is told.
        if !on_bob.is_empty() {
            assert_eq!(outline(&on_bob), outline(&told));
        }
        assert_eq!(at.late_codes().await, late);
    }
}

/// Prosody begins and ends it; ejabberd cannot be told to end it.
async fn b31_the_room_is_logged_or_not(stage: Stage) {
    let stage = stage.archived().await;
    let mut at = Run::new(&stage, "none").await;
    let (field, values) = match stage.kind {
        Kind::Prosody => ("muc#roomconfig_enablearchiving", &["0", "1", "0"][..]),
        Kind::Ejabberd => ("muc#roomconfig_enablelogging", &["1"][..]),
    };
    for value in values {
        let fields = [(field, *value)];
        at.bob.configure_room(&at.room, &fields).await.unwrap();
        let (_, told) = at.told().await;
        let (code, late) = match *value {
            "1" => (170, &[110, 170][..]),
            _ => (171, &[110][..]),
        };
        assert!(codes(&told).contains(&code), "{told:?}");
        assert_eq!(at.late_codes().await, late);
    }
}

/// 102 and 103 (unavailable members are shown, or not), 174 (nobody sees JIDs any more), and 171
/// also where ejabberd does not say it.
async fn b31_codes_that_no_server_here_sends(stage: Stage) {
    let room = "codes@rooms.example.test";
    let mut at = Scripted::new(&stage).await;
    let to = at.on_phone.jid();
    let join = Join::default();
    let id = at.phone.send_join(room, "alice", &join).await.unwrap();
    let request = at.on_phone.recv().await.unwrap();
    at.on_phone.send_raw(welcome(&request, &to)).await.unwrap();
    at.phone.collect_join(room, &id).await.unwrap();
    at.laptop.join(room, "alice").await.unwrap();
    let changes: [(u16, &[u16]); 8] = [
        (102, &[110]),
        (103, &[110]),
        (172, &[100, 110]),
        (174, &[110]),
        (172, &[100, 110]),
        (170, &[100, 110, 170]),
        (171, &[100, 110]),
        (173, &[110]),
    ];
    for (code, late) in changes {
        let message = format!(
            "<message type='groupchat' from='{room}' to='{to}'><x xmlns='{NS_MUC_USER}'>\
             <status code='{code}'/></x></message>"
        );
        at.on_phone.send_raw(message).await.unwrap();
        for client in [&mut at.phone, &mut at.laptop] {
            let told = client.recv_for("the change").await.unwrap();
            assert_eq!(outline([&told]), [format!("(room): (no body) {code}")]);
        }
        let joined = at.laptop.join(room, "alice").await.unwrap();
        let mut codes = joined.self_presence.statuses();
        codes.sort_unstable();
        assert_eq!(codes, late, "after {code}");
    }
}

async fn b50_roles_and_affiliations_from_each_session(stage: Stage) {
    let mut at = Run::new(&stage, "admin").await;
    // The role that one is left with who is nothing else any more.
    let no_member = match stage.kind {
        Kind::Prosody => "presence dave none/participant",
        Kind::Ejabberd => "presence dave none/visitor",
    };
    for asking in 0..2 {
        let dave = stage.account("dave").await;
        let member = format!("<item jid='{}' affiliation='member'/>", dave.jid());
        let none = format!("<item jid='{}' affiliation='none'/>", dave.jid());
        let mut desk = stage.outsider(&dave, "desk").await;
        desk.join(&at.room, "dave").await.unwrap();
        let (_, told) = at.told().await;
        assert_eq!(outline(&told), ["presence dave none/participant"]);
        let steps = [
            (
                "<item nick='dave' role='visitor'/>",
                "presence dave none/visitor",
            ),
            (&*member, "presence dave member/participant"),
            (
                "<item nick='dave' role='moderator'/>",
                "presence dave member/moderator",
            ),
            (&*none, no_member),
            (
                "<item nick='dave' role='none'><reason>out</reason></item>",
                "presence dave unavailable none/none 307",
            ),
        ];
        for (item, line) in steps {
            let (answer, told) = at.ask(asking, "set", &admin(item)).await;
            assert_eq!(answer.kind(), Some("result"), "{answer:?}");
            assert_eq!(outline(&told), [line], "{item}");
        }
        let list = admin("<item affiliation='admin'/>");
        let (answer, told) = at.ask(asking, "get", &list).await;
        let query = answer.get_child("query", NS_MUC_ADMIN).unwrap();
        let item = query.get_child("item", NS_MUC_ADMIN).unwrap();
        assert_eq!(item.attr("jid"), Some(at.late.bare_jid()));
        assert_eq!(outline(&told), [""; 0]);
    }
}

async fn b50_the_configuration_from_each_session(stage: Stage) {
    let mut at = Run::new(&stage, "owner").await;
    for asking in 0..2 {
        let get = format!("<query xmlns='{NS_MUC_OWNER}'/>");
        let (answer, told) = at.ask(asking, "get", &get).await;
        let query = answer.get_child("query", NS_MUC_OWNER).unwrap();
        let form = query.get_child("x", "jabber:x:data").unwrap();
        assert_eq!(form.attr("type"), Some("form"));
        assert_eq!(outline(&told), [""; 0]);
        for (field, value, code, late) in CHANGES {
            let (answer, told) = at.ask(asking, "set", &configuration(field, value)).await;
            assert_eq!(answer.kind(), Some("result"), "{answer:?}");
            assert!(codes(&told).contains(&code), "{field}: {told:?}");
            assert_eq!(at.late_codes().await, late);
        }
        let cancel = format!(
            "<query xmlns='{NS_MUC_OWNER}'><x xmlns='jabber:x:data' type='cancel'/></query>"
        );
        let (answer, told) = at.ask(asking, "set", &cancel).await;
        assert_eq!(answer.kind(), Some("result"), "{answer:?}");
        assert_eq!(outline(&told), [""; 0]);
    }
}

/// An answer without the receiver and the id, which are each one's own.
fn anonymous(answer: &Stanza, client: &Client) -> String {
    let id = format!("'{}'", answer.id().unwrap());
    let text = answer.raw_str().replace(client.jid(), "(jid)");
    text.replace(&id, "(id)")
}

/// Prosody registers a member's nick with the room (XEP-0045 7.10), ejabberd's rooms know nothing of that:
/// the same as directly in either case.
async fn b50_registration_from_each_session(stage: Stage) {
    let mut at = Run::new(&stage, "member").await;
    let get = "<query xmlns='jabber:iq:register'/>";
    let set = |nick: &str| {
        format!(
            "<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>\
             <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>\
             <field var='muc#register_roomnick'><value>{nick}</value></field></x></query>"
        )
    };
    let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
    for asking in 0..2 {
        // Registration is for members, and who takes it back is none any more.
        for jid in [at.carol.bare_jid(), at.late.bare_jid()] {
            let item = format!("<item jid='{jid}' affiliation='member'/>");
            moderate(&mut at.bob, &at.room, &item).await;
        }
        at.told().await;
        let steps = [
            ("get", get, get),
            ("set", &*set("carol"), &*set("alice")),
            ("get", get, get),
            ("set", remove, remove),
            ("get", get, get),
        ];
        for (kind, of_carol, of_alice) in steps {
            let expected = at.carol.iq(kind, Some(&at.room), of_carol).await.unwrap();
            if stage.kind == Kind::Prosody && kind == "set" {
                assert_eq!(expected.kind(), Some("result"), "{expected:?}");
            }
            let (_, registered) = at.told().await;
            let (answer, told) = at.ask(asking, kind, of_alice).await;
            let answer = anonymous(&answer, &at.sessions[asking]).replace("alice", "carol");
            assert_eq!(answer, anonymous(&expected, &at.carol));
            // A member by registration is told to all.
            let told: Vec<String> = outline(&told)
                .iter()
                .map(|line| line.replace("alice", "carol").replace(" 110", ""))
                .collect();
            assert_eq!(told, outline(&registered));
        }
    }
}

async fn b50_each_session_destroys_a_room(stage: Stage) {
    for asking in 0..2 {
        let mut at = Run::new(&stage, "owner").await;
        let destroy = format!(
            "<query xmlns='{NS_MUC_OWNER}'><destroy jid='other@rooms.example.test'>\
             <reason>we move</reason></destroy></query>"
        );
        let sent = at.sessions[asking].send_iq("set", Some(&at.room), &destroy);
        let id = sent.await.unwrap();
        for (number, client) in at.sessions.iter_mut().enumerate() {
            let mut seen = Vec::new();
            let is_end = |it: &Stanza| it.kind() == Some("unavailable") && it.item().is_some();
            let is_answer = |it: &Stanza| it.name() == "iq" && it.id() == Some(&id);
            let complete = |seen: &[Stanza]| {
                seen.iter().any(is_end) && (number != asking || seen.iter().any(is_answer))
            };
            while !complete(&seen) {
                seen.push(client.recv_for("the end of the room").await.unwrap());
            }
            seen.extend(client.drain_until_pong().await.unwrap());
            // ejabberd also takes back the room's own presence.
            seen.retain(|it| it.name() != "presence" || it.item().is_some());
            assert_eq!(seen.len(), if number == asking { 2 } else { 1 }, "{seen:?}");
            let end = seen.iter().find(|it| is_end(it)).unwrap();
            let user = end.get_child("x", NS_MUC_USER).unwrap();
            let destroyed = user.get_child("destroy", NS_MUC_USER).unwrap();
            assert_eq!(destroyed.attr("jid"), Some("other@rooms.example.test"));
            let reason = destroyed.get_child("reason", NS_MUC_USER).unwrap();
            assert_eq!(reason.text(), "we move");
            let result = seen.iter().find(|it| is_answer(it));
            assert!(
                result.is_none_or(|it| it.kind() == Some("result")),
                "{seen:?}"
            );
        }
    }
}

async fn b50_a_refused_request_is_told_to_the_one_who_asked(stage: Stage) {
    let mut at = Run::new(&stage, "none").await;
    let owner = format!("<query xmlns='{NS_MUC_OWNER}'/>");
    let requests = [
        ("set", admin("<item nick='bob' role='none'/>")),
        ("set", admin("<item nick='carol' role='visitor'/>")),
        (
            "set",
            admin("<item jid='x@example.test' affiliation='member'/>"),
        ),
        ("get", admin("<item affiliation='outcast'/>")),
        ("get", owner.clone()),
        ("set", configuration("muc#roomconfig_roomname", "Mine")),
        ("set", owner.replace("/>", "><destroy/></query>")),
    ];
    for (kind, payload) in requests {
        let expected = at.carol.iq(kind, Some(&at.room), &payload).await.unwrap();
        assert_eq!(expected.kind(), Some("error"), "{expected:?}");
        for asking in 0..2 {
            let (answer, told) = at.ask(asking, kind, &payload).await;
            assert_eq!(outline([&answer]), outline([&expected]), "{payload}");
            assert_eq!(outline(&told), [""; 0]);
        }
    }
}
