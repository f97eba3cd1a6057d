//! The account's nick, where a session asks for another one, and where the room is silent about a
//! change of it (behaviours 9 and 36).

use mucplex_testkit::client::{Client, ClientError, Join};
use mucplex_testkit::rooms::Renaming;
use mucplex_testkit::xml::{NS_MUC_OWNER, Stanza};

use crate::stage::{
    Ending, Front, Stage, impersonal, leave, mark, marked, moderate, nick, outline, through, until,
};

crate::tests![
    b09_by_account_the_joiner_gets_the_accounts_nick,
    b09_by_rename_the_account_gets_the_joiners_nick,
    b09_by_rename_a_nick_that_is_taken,
    b09_by_separate_two_occupants_speak_for_themselves,
    b09_by_separate_one_goes_and_the_other_stays,
    b09_by_separate_the_carriers_own_session,
    b36_the_room_broadcasts_no_presence_of_the_role,
    b36_the_room_tells_a_change_of_nick_in_part,
    b36_a_message_from_the_new_nick_completes_the_change,
];

/// Bob in his room; alice's phone, which carries it, and laptop in it, her tablet not, at a proxy
/// with this policy.
struct Cast {
    front: Front,
    bob: Client,
    phone: Client,
    laptop: Client,
    tablet: Client,
    room: String,
}

impl Cast {
    async fn new(stage: &Stage, policy: &str) -> Self {
        let sections = format!("[rooms]\nnick_conflict = \"{policy}\"\n");
        let front = stage.own_front(&sections).await;
        let mut bob = stage.room_with_bob().await;
        let alice = stage.account("alice").await;
        let mut phone = front.session(&alice, "phone").await;
        let mut laptop = front.session(&alice, "laptop").await;
        let tablet = front.session(&alice, "tablet").await;
        let room = stage.room.clone();
        phone.join(&room, "alice").await.unwrap();
        laptop.join(&room, "alice").await.unwrap();
        mark(&mut laptop, &room, [&mut bob, &mut phone]).await;
        Self {
            front,
            bob,
            phone,
            laptop,
            tablet,
            room,
        }
    }

    /// How often anything has gone upstream to the occupant.
    fn upstream(&self, nick: &str) -> usize {
        self.front.tap.count_up(&format!("{}/{nick}'", self.room))
    }

    /// The account's sessions have got the same, and it is this; gives what bob has got.
    async fn account_sees(&mut self, expected: &[&str]) -> Vec<Stanza> {
        let listeners = [&mut self.bob, &mut self.phone, &mut self.laptop];
        let [on_bob, on_phone, on_laptop] = mark(&mut self.tablet, &self.room, listeners).await;
        assert_eq!(outline(&on_phone), expected);
        assert_eq!(
            impersonal(&self.phone, &on_phone),
            impersonal(&self.laptop, &on_laptop)
        );
        on_bob
    }
}

/// A groupchat message reaches everybody, next and once, from this nick.
async fn speaks(client: &mut Client, nick: &str, room: &str, listeners: [&mut Client; 3]) {
    let body = format!("from {}", client.resource());
    let id = client.say(room, &body).await.unwrap();
    let expected = [format!("{nick}: {body}")];
    for listener in std::iter::once(client).chain(listeners) {
        let heard = listener.recv_for(&body).await.unwrap();
        assert_eq!(outline([&heard]), expected);
        assert_eq!(heard.id(), Some(&*id));
    }
}

async fn b09_by_account_the_joiner_gets_the_accounts_nick(stage: Stage) {
    let mut at = Cast::new(&stage, "account").await;
    let room = at.room.clone();
    let before = at.upstream("alice");
    let joined = at.tablet.join(&room, "ally").await.unwrap();
    let welcome = [
        "presence bob owner/moderator",
        "presence alice none/participant 110 210",
        "subject by (room): ",
    ];
    assert_eq!(outline(&joined.all), welcome);
    assert_eq!(joined.self_presence.id(), Some(&*joined.id));
    assert_eq!(outline(&at.account_sees(&[]).await), [""; 0]);
    assert_eq!((at.upstream("ally"), at.upstream("alice")), (0, before));
    let others = [&mut at.bob, &mut at.phone, &mut at.laptop];
    speaks(&mut at.tablet, "alice", &room, others).await;
    // It knows itself by that nick from now on.
    assert_eq!(
        outline(&leave(&mut at.tablet, &room, "alice").await),
        ["presence alice unavailable none/none 110"]
    );
}

async fn b09_by_rename_the_account_gets_the_joiners_nick(stage: Stage) {
    let mut at = Cast::new(&stage, "rename").await;
    let room = at.room.clone();
    let before = at.upstream("alice");
    let joined = at.tablet.join(&room, "ally").await.unwrap();
    let welcome = [
        "presence bob owner/moderator",
        "presence ally none/participant 110",
        "subject by (room): ",
    ];
    assert_eq!(outline(&joined.all), welcome);
    let changed = [
        "presence alice unavailable none/participant 110 303",
        "presence ally none/participant 110",
    ];
    let on_bob = at.account_sees(&changed).await;
    let changed = [
        "presence alice unavailable none/participant 303",
        "presence ally none/participant",
    ];
    assert_eq!(outline(&on_bob), changed);
    assert_eq!((at.upstream("ally"), at.upstream("alice")), (1, before));
    // Whose word it was makes no difference: all are that occupant.
    let others = [&mut at.bob, &mut at.tablet, &mut at.laptop];
    speaks(&mut at.phone, "ally", &room, others).await;
    let others = [&mut at.bob, &mut at.phone, &mut at.laptop];
    speaks(&mut at.tablet, "ally", &room, others).await;
    let left = leave(&mut at.laptop, &room, "ally").await;
    assert_eq!(outline(&left), ["presence ally unavailable none/none 110"]);
    let joined = at.laptop.join(&room, "ally").await.unwrap();
    assert_eq!(
        outline([&joined.self_presence]),
        ["presence ally none/participant 110"]
    );
    for seen in mark(&mut at.tablet, &room, [&mut at.bob, &mut at.phone]).await {
        assert_eq!(outline(&seen), [""; 0]);
    }
}

async fn b09_by_rename_a_nick_that_is_taken(stage: Stage) {
    let mut at = Cast::new(&stage, "rename").await;
    let room = at.room.clone();
    let id = at
        .tablet
        .send_join(&room, "bob", &Join::default())
        .await
        .unwrap();
    let refused = at.tablet.collect_join(&room, &id).await;
    let Err(ClientError::Refused(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(outline([&*error]), ["presence error bob conflict"]);
    assert_eq!(error.id(), Some(&*id));
    // It is not in the room, and the account is, as before.
    at.tablet.say(&room, "anybody?").await.unwrap();
    let error = at.tablet.recv().await.unwrap();
    assert_eq!(outline([&error]), ["message error (room) not-acceptable"]);
    let listeners = [&mut at.bob, &mut at.laptop];
    for seen in mark(&mut at.phone, &room, listeners).await {
        assert_eq!(outline(&seen), [""; 0]);
    }
    let joined = at.tablet.join(&room, "alice").await.unwrap();
    assert_eq!(
        outline([&joined.self_presence]),
        ["presence alice none/participant 110"]
    );
    let others = [&mut at.bob, &mut at.phone, &mut at.laptop];
    speaks(&mut at.tablet, "alice", &room, others).await;
}

impl Cast {
    /// The tablet joins as an occupant of its own, and everybody sees one more.
    async fn set_apart(&mut self) {
        let joined = self.tablet.join(&self.room, "ally").await.unwrap();
        let mut lines = outline(&joined.presences);
        lines.sort_unstable();
        let others = [
            "presence alice none/participant",
            "presence bob owner/moderator",
        ];
        assert_eq!(lines, others);
        let own = ["presence ally none/participant 110"];
        assert_eq!(outline([&joined.self_presence]), own);
        let on_bob = self.account_sees(&["presence ally none/participant"]).await;
        assert_eq!(outline(&on_bob), ["presence ally none/participant"]);
    }

    /// Nobody but the tablet has got anything.
    async fn all_is_quiet(&mut self) {
        let on_bob = self.account_sees(&[]).await;
        assert_eq!(outline(&on_bob), [""; 0]);
    }
}

fn whisper(room: &str, to: &str, body: &str) -> String {
    format!("<message type='chat' to='{room}/{to}'><body>{body}</body></message>")
}

/// `asker` asks an occupant which program it is; `answerer`, and nobody else, gets to answer.
async fn is_answered_by(asker: &mut Client, occupant: &str, answerer: &mut Client) {
    // Two askers use the same id at the same time.
    asker
        .send_raw(format!(
            "<iq type='get' id='q' to='{occupant}'><query xmlns='jabber:iq:version'/></iq>"
        ))
        .await
        .unwrap();
    let asked = answerer.recv_for("the request").await.unwrap();
    assert_eq!((asked.name(), asked.kind()), ("iq", Some("get")));
    let (from, id) = (asked.from().unwrap(), asked.id().unwrap());
    let name = answerer.resource().to_owned();
    answerer
        .send_raw(format!(
            "<iq type='result' to='{from}' id='{id}'><query xmlns='jabber:iq:version'>\
             <name>{name}</name></query></iq>"
        ))
        .await
        .unwrap();
    let answer = asker.recv_for("the answer").await.unwrap();
    assert_eq!((answer.name(), answer.kind()), ("iq", Some("result")));
    assert_eq!((answer.id(), answer.from()), (Some("q"), Some(occupant)));
    assert!(answer.raw_str().contains(&format!("<name>{name}</name>")));
}

async fn b09_by_separate_two_occupants_speak_for_themselves(stage: Stage) {
    let mut at = Cast::new(&stage, "separate").await;
    at.set_apart().await;
    let room = at.room.clone();
    let others = [&mut at.bob, &mut at.phone, &mut at.laptop];
    speaks(&mut at.tablet, "ally", &room, others).await;
    let others = [&mut at.bob, &mut at.phone, &mut at.tablet];
    speaks(&mut at.laptop, "alice", &room, others).await;

    // To the one and the other.
    at.bob
        .send_raw(whisper(&room, "ally", "one"))
        .await
        .unwrap();
    at.bob
        .send_raw(whisper(&room, "alice", "two"))
        .await
        .unwrap();
    let listeners = [&mut at.tablet, &mut at.phone, &mut at.laptop];
    let seen = mark(&mut at.bob, &room, listeners).await;
    let expected = ["(chat) bob: one", "(chat) bob: two", "(chat) bob: two"];
    assert_eq!(seen.map(|seen| outline(&seen)), expected.map(|line| [line]));
    // From the one and the other, also among themselves.
    for (to, body) in [("bob", "three"), ("ally", "four")] {
        at.laptop.send_raw(whisper(&room, to, body)).await.unwrap();
    }
    let listeners = [&mut at.bob, &mut at.tablet, &mut at.phone];
    let seen = mark(&mut at.laptop, &room, listeners).await;
    let expected: [&[&str]; 3] = [&["(chat) alice: three"], &["(chat) alice: four"], &[]];
    assert_eq!(seen.map(|seen| outline(&seen)), expected);
    for (to, body) in [("bob", "five"), ("alice", "six")] {
        at.tablet.send_raw(whisper(&room, to, body)).await.unwrap();
    }
    let on_bob = at.account_sees(&["(chat) ally: six"]).await;
    assert_eq!(outline(&on_bob), ["(chat) ally: five"]);

    let (ally, alice) = (format!("{room}/ally"), format!("{room}/alice"));
    is_answered_by(&mut at.bob, &ally, &mut at.tablet).await;
    is_answered_by(&mut at.bob, &alice, &mut at.phone).await;
    is_answered_by(&mut at.tablet, &alice, &mut at.phone).await;
    is_answered_by(&mut at.laptop, &ally, &mut at.tablet).await;
    at.all_is_quiet().await;
}

async fn b09_by_separate_one_goes_and_the_other_stays(stage: Stage) {
    let mut at = Cast::new(&stage, "separate").await;
    let room = at.room.clone();
    let gone = ["presence ally unavailable none/none"];
    at.set_apart().await;
    // What ejabberd's rooms say of themselves to one who goes is the tablet's too: it is there on
    // its own, and the proxy is not between.
    let of_room = |it: &Stanza| nick(it) == "(room)";
    let mut left = leave(&mut at.tablet, &room, "ally").await;
    left.retain(|it| !of_room(it));
    assert_eq!(outline(&left), ["presence ally unavailable none/none 110"]);
    // The tablet is out, so others make the mark.
    let [on_bob, on_phone] = mark(&mut at.laptop, &room, [&mut at.bob, &mut at.phone]).await;
    assert_eq!(outline(&on_bob), gone);
    assert_eq!(outline(&on_phone), gone);

    // Bob puts one of them out, and then the other.
    let laptop_again = leave_and_join(&mut at.laptop, &room).await;
    assert_eq!(laptop_again, ["bob"]);
    at.set_apart().await;
    let kick = |nick: &str| format!("<item nick='{nick}' role='none'/>");
    moderate(&mut at.bob, &room, &kick("ally")).await;
    let kicked = |it: &Stanza| it.has_status(307);
    let mut out = through(&mut at.tablet, "the kick", kicked).await;
    out.retain(|it| !of_room(it));
    let lines = ["presence ally unavailable none/none 110 307"];
    assert_eq!(outline(&out), lines);
    for seen in mark(&mut at.bob, &room, [&mut at.phone, &mut at.laptop]).await {
        let lines = ["presence ally unavailable none/none 307"];
        assert_eq!(outline(&seen), lines);
    }
    at.set_apart().await;
    moderate(&mut at.bob, &room, &kick("alice")).await;
    for client in [&mut at.phone, &mut at.laptop] {
        let out = client.recv().await.unwrap();
        let lines = ["presence alice unavailable none/none 110 307"];
        assert_eq!(outline([&out]), lines);
    }
    let [on_tablet] = mark(&mut at.bob, &room, [&mut at.tablet]).await;
    let lines = ["presence alice unavailable none/none 307"];
    assert_eq!(outline(&on_tablet), lines);

    // The account comes back, beside it. Then its sessions are lost, and the tablet is not.
    at.phone.join(&room, "alice").await.unwrap();
    let [_, on_tablet] = mark(&mut at.phone, &room, [&mut at.bob, &mut at.tablet]).await;
    assert_eq!(outline(&on_tablet), ["presence alice none/participant"]);
    Ending::Reset.end(&at.front, at.laptop).await;
    Ending::Reset.end(&at.front, at.phone).await;
    let [on_bob] = mark(&mut at.tablet, &room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob), ["presence alice unavailable none/none"]);
    // And the tablet itself.
    Ending::Reset.end(&at.front, at.tablet).await;
    let end = at.bob.recv_for("the end of ally").await.unwrap();
    assert_eq!(outline([&end]), gone);
}

/// The nicks of the others.
async fn leave_and_join(client: &mut Client, room: &str) -> Vec<String> {
    leave(client, room, "alice").await;
    let joined = client.join(room, "alice").await.unwrap();
    joined.nicks().into_iter().map(str::to_owned).collect()
}

/// ```text
/// phone's uplink    carries alice ──┐   is ally ───
/// laptop's uplink                   └── carries alice ───
/// ```
async fn b09_by_separate_the_carriers_own_session(stage: Stage) {
    let mut at = Cast::new(&stage, "separate").await;
    let room = at.room.clone();
    leave(&mut at.phone, &room, "alice").await;
    let joined = at.phone.join(&room, "ally").await.unwrap();
    let mut nicks = joined.nicks();
    nicks.sort_unstable();
    assert_eq!(nicks, ["alice", "bob"]);
    assert_eq!(
        outline([&joined.self_presence]),
        ["presence ally none/participant 110"]
    );
    let others = [&mut at.bob, &mut at.laptop];
    let [on_bob, on_laptop] = mark(&mut at.phone, &room, others).await;
    assert_eq!(outline(&on_laptop), ["presence ally none/participant"]);
    // The account's occupancy was handed over: at most an update, and no leave.
    let (ally, alice): (Vec<_>, Vec<_>) = outline(&on_bob)
        .into_iter()
        .partition(|line| line.contains("ally"));
    assert_eq!(ally, ["presence ally none/participant"]);
    for line in alice {
        assert_eq!(line, "presence alice none/participant");
    }
    at.laptop.say(&room, "from alice").await.unwrap();
    at.phone.hear("from alice").await.unwrap();
    assert_eq!(outline(&until(&mut at.bob, "from alice").await), [""; 0]);
    // The phone's end is ally's end alone.
    Ending::StreamEnd.end(&at.front, at.phone).await;
    let end = at.bob.recv_for("the end of ally").await.unwrap();
    assert_eq!(outline([&end]), ["presence ally unavailable none/none"]);
    let [on_bob] = mark(&mut at.laptop, &room, [&mut at.bob]).await;
    assert_eq!(outline(&on_bob), [""; 0]);
}

/// Which roles' presences a room broadcasts (XEP-0045 10.2): only moderators'. ejabberd tells
/// nobody of alice's new nick then, not even her; Prosody tells her.
async fn b36_the_room_broadcasts_no_presence_of_the_role(stage: Stage) {
    let mut at = Cast::new(&stage, "account").await;
    let room = at.room.clone();
    let query = format!(
        "<query xmlns='{NS_MUC_OWNER}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_presencebroadcast'><value>moderator</value></field></x></query>"
    );
    let answer = at.bob.iq("set", Some(&room), &query).await.unwrap();
    assert_eq!(answer.kind(), Some("result"), "{answer:?}");
    mark(&mut at.bob, &room, [&mut at.phone, &mut at.laptop]).await;
    change_nick(&mut at.laptop, &room, "ally").await;
    let own = |it: &Stanza| it.kind().is_none() && it.has_status(110);
    let changed = [
        "presence alice unavailable none/participant 110 303",
        "presence ally none/participant 110",
    ];
    for client in [&mut at.phone, &mut at.laptop] {
        let seen = through(client, "the new nick", own).await;
        assert_eq!(outline(&seen), changed);
    }
    let others = [&mut at.bob, &mut at.laptop];
    let [on_bob, on_laptop] = mark(&mut at.phone, &room, others).await;
    assert_eq!(outline(&on_bob), [""; 0]);
    assert_eq!(outline(&on_laptop), [""; 0]);
    at.phone.say(&room, "from ally").await.unwrap();
    for client in [&mut at.bob, &mut at.phone, &mut at.laptop] {
        let heard = client.recv().await.unwrap();
        assert_eq!(outline([&heard]), ["ally: from ally"]);
    }
    let joined = at.tablet.join(&room, "ally").await.unwrap();
    assert_eq!(
        outline([&joined.self_presence]),
        ["presence ally none/participant 110"]
    );
}

async fn change_nick(client: &mut Client, room: &str, nick: &str) {
    client
        .send_raw(format!("<presence id='nick' to='{room}/{nick}'/>"))
        .await
        .unwrap();
}

async fn b36_the_room_tells_a_change_of_nick_in_part(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    for renaming in [
        Renaming::WithoutUnavailable,
        Renaming::WithoutCode,
        Renaming::Silent,
    ] {
        let room = stage.scripted("part").await;
        room.crowd(1);
        phone.join(room.jid(), "alice").await.unwrap();
        laptop.join(room.jid(), "alice").await.unwrap();
        room.rules(|rules| rules.renaming = renaming);
        change_nick(&mut laptop, room.jid(), "ally").await;
        let own = |it: &Stanza| it.kind().is_none() && it.has_status(110);
        let on_phone = through(&mut phone, "the new nick", own).await;
        let on_laptop = through(&mut laptop, "the new nick", own).await;
        let changed = [
            "presence alice unavailable none/participant 110 303",
            "presence ally none/participant 110",
        ];
        assert_eq!(outline(&on_phone), changed, "{renaming:?}");
        assert_eq!(
            impersonal(&phone, &on_phone),
            impersonal(&laptop, &on_laptop)
        );
        let new = on_phone[0].item().and_then(|item| item.attr("nick"));
        assert_eq!(new, Some("ally"), "{renaming:?}");
        for rest in marked(&room, "ally", [&mut phone, &mut laptop]).await {
            assert_eq!(outline(&rest), [""; 0], "{renaming:?}");
        }
        phone.say(room.jid(), "from ally").await.unwrap();
        for client in [&mut phone, &mut laptop] {
            let heard = client.hear("from ally").await.unwrap();
            assert_eq!(nick(&heard), "ally", "{renaming:?}");
        }
    }
}

/// No silence is waited for: the room's own reflection says who the account is.
async fn b36_a_message_from_the_new_nick_completes_the_change(stage: Stage) {
    let front = stage.own_front("").await;
    let alice = stage.account("alice").await;
    let mut phone = front.session(&alice, "phone").await;
    let mut laptop = front.session(&alice, "laptop").await;
    let room = stage.scripted("reflection").await;
    phone.join(room.jid(), "alice").await.unwrap();
    laptop.join(room.jid(), "alice").await.unwrap();
    room.rules(|rules| rules.renaming = Renaming::Silent);
    change_nick(&mut laptop, room.jid(), "ally").await;
    laptop.say(room.jid(), "from ally").await.unwrap();
    for client in [&mut phone, &mut laptop] {
        let seen = until(client, "from ally").await;
        let changed = [
            "presence alice unavailable none/participant 110 303",
            "presence ally none/participant 110",
        ];
        assert_eq!(outline(&seen), changed);
    }
    // The room was asked nothing.
    assert_eq!(room.count(|it| it.name() == "iq"), 0);
}
