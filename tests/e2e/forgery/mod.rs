//! What must never happen (behaviours 71 to 74): hostile occupants, strangers, rooms and clients.
//!
//! | module | who lies |
//! |---|---|
//! | `codes` | occupants and strangers, on the servers' own rooms, about what a room says of others |
//! | `addresses` | who sends from an address like the room's, or to a stream that is not in it |
//! | `rooms` | the room itself, to one account about another |
//! | `wrappers` | who forwards what was never said (carbons, archives), or marks it as the room does |
//! | `requests` | who answers what was not asked of him |
//! | `accounts` | nobody: two accounts that are easily taken for one another |
//! | `clients` | a client, about who it is |

mod accounts;
mod addresses;
mod clients;
mod codes;
mod requests;
mod rooms;
mod wrappers;

use mucplex_testkit::client::Client;
use mucplex_testkit::rooms::Room;
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::{NS_MUC_USER, Stanza};

use crate::Test;
use crate::stage::{Stage, leave, mark, marked, outline, through, until};

pub(crate) fn tests() -> Vec<Test> {
    [
        codes::tests(),
        addresses::tests(),
        rooms::tests(),
        wrappers::tests(),
        requests::tests(),
        accounts::tests(),
        clients::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Codes that would throw alice out, rename her, make her somebody else, or change the room.
pub(super) fn forgeries() -> Vec<String> {
    let item = "<item affiliation='outcast' role='none' nick='mallory'/>";
    let codes = [
        &[110][..],
        &[110, 303],
        &[110, 307],
        &[301, 110],
        &[321, 110],
        &[332],
        &[333, 110],
    ];
    let with_codes = codes.iter().map(|codes| {
        let codes: String = codes
            .iter()
            .map(|code| format!("<status code='{code}'/>"))
            .collect();
        format!("<x xmlns='{NS_MUC_USER}'>{item}{codes}</x>")
    });
    let destroyed =
        format!("<x xmlns='{NS_MUC_USER}'>{item}<destroy jid='evil@rooms.example.test'/></x>");
    let config = ["100", "170", "172", "201", "210"];
    let config: String = config
        .iter()
        .map(|code| format!("<status code='{code}'/>"))
        .collect();
    let config = format!("<x xmlns='{NS_MUC_USER}'>{config}</x>");
    with_codes.chain([destroyed, config]).collect()
}

/// Alice has two sessions in the room, and mallory is the one who lies.
pub(super) struct Forged {
    pub(super) bob: Client,
    pub(super) mallory: Client,
    pub(super) phone: Client,
    pub(super) laptop: Client,
    pub(super) alice: Account,
    pub(super) room: String,
}

impl Forged {
    pub(super) async fn new(stage: &Stage) -> Self {
        let mut bob = stage.room_with_bob().await;
        let mut mallory = stage.guest("mallory").await;
        let alice = stage.account("alice").await;
        let mut phone = stage.session(&alice, "phone").await;
        let mut laptop = stage.session(&alice, "laptop").await;
        let room = stage.room.clone();
        for client in [&mut phone, &mut laptop] {
            client.join(&room, "alice").await.unwrap();
        }
        mark(&mut bob, &room, [&mut phone, &mut laptop, &mut mallory]).await;
        Self {
            bob,
            mallory,
            phone,
            laptop,
            alice,
            room,
        }
    }

    /// Nothing of it is true: alice is who she was, where she was, and so is the room.
    pub(super) async fn unchanged(mut self, stage: &Stage) {
        let room = &self.room;
        for client in [&mut self.phone, &mut self.laptop] {
            client.say(room, "still here").await.unwrap();
            until(client, "still here").await;
            let on_bob = until(&mut self.bob, "still here").await;
            assert!(
                on_bob
                    .iter()
                    .all(|it| it.from() != Some(&*format!("{room}/alice"))),
                "{on_bob:?}"
            );
        }
        mark(&mut self.bob, room, [&mut self.phone, &mut self.laptop]).await;
        let mut late = stage.session(&self.alice, "late").await;
        let joined = late.join(room, "alice").await.unwrap();
        assert_eq!(
            outline([&joined.self_presence]),
            ["presence alice none/participant 110"]
        );
        assert_eq!(
            joined
                .nicks()
                .iter()
                .filter(|nick| **nick == "alice")
                .count(),
            0
        );
        self.mallory.leave(room, "mallory", None).await.unwrap();
        self.mallory.settle(room).await.unwrap();
        // The room has handled it; by the mark the proxy knows it, too.
        mark(&mut self.bob, room, [&mut self.phone, &mut self.laptop]).await;
        let gone = leave(&mut late, room, "alice").await;
        assert_eq!(
            outline(&gone[gone.len() - 1..]),
            ["presence alice unavailable none/none 110"]
        );
        let again = late.join(room, "alice").await.unwrap();
        assert_eq!(again.nicks(), ["bob"]);
    }
}

/// Alice has two sessions in a room that the test plays, the phone carries it, and dora is there
/// without the proxy: what one stream sees with the server alone.
pub(super) struct Played {
    pub(super) room: Room,
    pub(super) phone: Client,
    pub(super) laptop: Client,
    pub(super) dora: Client,
    pub(super) alice: Account,
}

impl Played {
    pub(super) async fn new(stage: &Stage) -> Self {
        let room = stage.scripted("played").await;
        room.crowd(2);
        let alice = stage.account("alice").await;
        let mut phone = stage.session(&alice, "phone").await;
        let mut laptop = stage.session(&alice, "laptop").await;
        let mut dora = stage.outsider(&stage.account("dora").await, "desk").await;
        dora.join(room.jid(), "dora").await.unwrap();
        for client in [&mut phone, &mut laptop] {
            client.join(room.jid(), "alice").await.unwrap();
        }
        marked(&room, "dora", [&mut dora]).await;
        Self {
            room,
            phone,
            laptop,
            dora,
            alice,
        }
    }

    /// The room sends the same to alice's stream and to dora's: `{to}` is the full JID, `{nick}`
    /// the nick. Nobody else is told.
    pub(super) fn both_are_told(&self, stanza: &str) {
        self.room.send_each("alice", stanza);
        self.room.send_each("dora", stanza);
    }

    /// Each session of alice has seen what dora has; gives it.
    pub(super) async fn same_for_all(&mut self) -> Vec<String> {
        let sessions = [&mut self.phone, &mut self.laptop];
        let [phone, laptop] = marked(&self.room, "alice", sessions).await;
        let [dora] = marked(&self.room, "dora", [&mut self.dora]).await;
        let expected = as_alice(&dora);
        assert_eq!(outline(&phone), expected);
        assert_eq!(outline(&laptop), expected);
        expected
    }

    /// Alice is who she was, and so are the others; the room has not seen anything of her.
    pub(super) async fn unchanged(mut self, stage: &Stage) {
        let (room, sent) = (self.room.jid().to_owned(), self.room.received().len());
        assert_eq!(self.room.nicks(), ["c1", "c2", "dora", "alice"]);
        let mut late = stage.session(&self.alice, "late").await;
        let joined = late.join(&room, "alice").await.unwrap();
        let own = "presence alice none/participant 110";
        assert_eq!(outline([&joined.self_presence]), [own]);
        assert_eq!(joined.nicks(), ["c1", "c2", "dora"]);
        assert_eq!(outline([&joined.subject]), ["subject by (room): "]);
        let received = self.room.received();
        assert_eq!(received.len(), sent, "{received:#?}");

        for client in [&mut self.phone, &mut self.laptop, &mut late] {
            client.say(&room, "still here").await.unwrap();
            until(client, "still here").await;
            assert_eq!(outline(&until(&mut self.dora, "still here").await), [""; 0]);
        }
        for client in [&mut self.phone, &mut self.laptop, &mut late] {
            let gone = leave(client, &room, "alice").await;
            let gone = outline(&gone[gone.len() - 1..]);
            assert_eq!(gone, ["presence alice unavailable none/none 110"]);
        }
        let is_end = |it: &Stanza| it.kind() == Some("unavailable");
        let seen = through(&mut self.dora, "alice's leave", is_end).await;
        assert_eq!(outline(&seen), ["presence alice unavailable none/none"]);
    }
}

/// What dora has seen, as if alice had.
pub(super) fn as_alice(seen: &[Stanza]) -> Vec<String> {
    let lines = outline(seen).into_iter();
    lines.map(|line| line.replace("dora", "alice")).collect()
}

/// A barrier for what the service sends to a client past the room: the client gets a message from
/// this address, behind all that was sent before.
pub(super) async fn last_word(room: &Room, from: &str, client: &mut Client) -> Vec<Stanza> {
    let to = client.jid().to_owned();
    room.send(format!(
        "<message type='chat' from='{from}' to='{to}' id='last word'><body>last</body></message>"
    ));
    let is_it = |it: &Stanza| it.id() == Some("last word");
    let mut seen = through(client, "the last word", is_it).await;
    seen.pop();
    seen
}
