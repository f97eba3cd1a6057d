use std::{
    collections::BTreeMap,
    path::Path,
    sync::mpsc,
    time::{Duration, SystemTime},
};

use mucplex_store::{Batch, Options, Store};
use mucplex_xml::{Event, Framer, Limits};
use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

/// What anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn tea() -> RoomJid {
    RoomJid("tea@rooms.example.org".parse().unwrap())
}

fn alice() -> BareJid {
    "alice@example.org".parse().unwrap()
}

/// A store from which nothing goes by itself.
fn open(directory: &Path) -> Store {
    let options = Options {
        history: Duration::MAX,
        room_messages: usize::MAX,
        room_bytes: usize::MAX,
        unseen: Duration::MAX,
        ..Options::default()
    };
    Store::open(&directory.join("mucplex.db"), options).unwrap()
}

/// Hands over what one input has changed, and waits until it is stored.
fn keep(store: &Store, account: &BareJid, changes: Vec<Change>) {
    let (hold, stored) = mpsc::channel::<()>();
    store.submit(Batch {
        account: account.clone(),
        ops: changes.into_iter().map(op).collect(),
        held: vec![Box::new(hold)],
    });
    let end = stored.recv_timeout(LIMIT).unwrap_err();
    assert_eq!(end, mpsc::RecvTimeoutError::Disconnected);
}

fn load(store: &Store, account: &BareJid) -> (Saved, Vec<BareJid>) {
    saved(&store.load(account, &store.bounds()).unwrap())
}

/// Stanzas as a server sends them, on a stream that binds a prefix.
fn stanza(xml: &str) -> Frame {
    let mut framer = Framer::new(Limits::default());
    framer.push(
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
          xmlns:p='urn:example:p' from='example.org' version='1.0'>",
    );
    assert!(matches!(framer.next_event(), Ok(Some(Event::Header(_)))));
    framer.push(xml.as_bytes());
    match framer.next_event() {
        Ok(Some(Event::Frame(frame))) => frame,
        other => panic!("{other:?}"),
    }
}

/// What a store has to make of changes.
#[derive(Clone, Debug, Default)]
struct Model {
    rooms: BTreeMap<RoomJid, Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    room: SavedRoom,
    occupants: BTreeMap<String, SavedOccupant>,
    messages: BTreeMap<u64, SavedMessage>,
    served: BTreeMap<String, Served>,
}

impl Model {
    fn apply(&mut self, change: Change) {
        let room = match &change {
            Change::Room(room) => &room.room,
            Change::Occupant { room, .. }
            | Change::Occupants { room, .. }
            | Change::Message { room, .. }
            | Change::Cleared { room }
            | Change::Forgotten { room }
            | Change::Served { room, .. } => room,
        }
        .clone();
        match (change, self.rooms.get_mut(&room)) {
            (Change::Room(record), Some(kept)) => kept.room = *record,
            (Change::Room(record), None) => {
                let kept = Kept {
                    room: *record,
                    occupants: BTreeMap::new(),
                    messages: BTreeMap::new(),
                    served: BTreeMap::new(),
                };
                self.rooms.insert(room, kept);
            }
            (Change::Forgotten { .. }, _) => drop(self.rooms.remove(&room)),
            (change, Some(kept)) => kept.apply(change),
            (_, None) => {}
        }
    }

    /// As it is read: each stanza with all it needs, and times to the millisecond.
    fn saved(&self) -> Vec<SavedState> {
        self.rooms.values().map(Kept::saved).collect()
    }
}

impl Kept {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Occupant {
                nick,
                order,
                presence,
                ..
            } => {
                self.occupants.remove(&nick);
                let occupant = presence.map(|presence| SavedOccupant {
                    nick: nick.clone(),
                    order,
                    presence,
                });
                self.occupants.extend(occupant.map(|it| (nick, it)));
            }
            Change::Occupants { all, .. } => {
                self.occupants = all.into_iter().map(|it| (it.nick.clone(), it)).collect();
            }
            Change::Message { message, .. } => {
                self.messages.insert(message.number, message);
            }
            Change::Cleared { .. } => self.messages.clear(),
            Change::Served {
                resource, served, ..
            } => {
                self.served.remove(&resource);
                self.served.extend(served.map(|served| (resource, served)));
            }
            Change::Room(_) | Change::Forgotten { .. } => {}
        }
    }

    fn saved(&self) -> SavedState {
        let room = &self.room;
        let optional = |frame: &Option<Frame>| frame.as_ref().map(reread);
        let mut occupants: Vec<_> = self.occupants.values().cloned().collect();
        // In their order; of one place, by nick.
        occupants.sort_by_key(|occupant| occupant.order);
        for occupant in &mut occupants {
            occupant.presence = reread(&occupant.presence);
        }
        let mut messages: Vec<_> = self.messages.values().cloned().collect();
        for message in &mut messages {
            message.at = whole_millis(message.at);
            message.frame = reread(&message.frame);
        }
        let mut served: Vec<_> = self.served.clone().into_iter().collect();
        for (_, served) in &mut served {
            served.at = whole_millis(served.at);
        }
        SavedState {
            room: SavedRoom {
                sent_presence: reread(&room.sent_presence),
                own_presence: optional(&room.own_presence),
                room_presence: optional(&room.room_presence),
                subject: optional(&room.subject),
                joined_at: whole_millis(room.joined_at),
                detached_since: room.detached_since.map(whole_millis),
                ..room.clone()
            },
            occupants,
            messages,
            served,
        }
    }
}

fn reread(frame: &Frame) -> Frame {
    stored_stanza(frame.portable().bytes().clone()).unwrap()
}

fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(since.as_secs())
        + Duration::from_millis(since.subsec_millis().into())
}

/// Frames cannot be compared; what is printed of them is all there is of them.
fn printed(rooms: &[SavedState]) -> String {
    format!("{rooms:#?}")
}

fn rooms() -> impl Strategy<Value = RoomJid> {
    prop::sample::select(vec!["tea", "coffee", "\u{fc}ber"])
        .prop_map(|name| RoomJid(format!("{name}@rooms.example.org").parse().unwrap()))
}

fn names() -> impl Strategy<Value = String> {
    let names = vec!["a", "b", "B", "Zo\u{eb} \u{1f375}", "o'<&>\"", " "];
    prop::sample::select(names).prop_map(str::to_owned)
}

/// With foreign attributes and prefixes, some of them of the stream header.
fn frames() -> impl Strategy<Value = Frame> {
    let stanzas = vec![
        "<presence/>",
        "<presence from='tea@rooms.example.org/b' xml:lang='de'><p:mood/></presence>",
        "<message type=\"groupchat\"  p:mark='1'><body>T\u{e4}&amp;&#x1f375;</body>\n</message>",
        "<q:message xmlns:q='jabber:client' id='1'><q:body>x</q:body></q:message>",
        "<message><subject/></message>",
    ];
    prop::sample::select(stanzas).prop_map(stanza)
}

fn times() -> impl Strategy<Value = SystemTime> {
    // Up to a time after this, and finer than what is kept.
    (0..4_000_000_000_u64, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..20, 1_700_000_000_000_000_u64..1_900_000_000_000_000]
}

fn records() -> impl Strategy<Value = SavedRoom> {
    let stanzas = (
        frames(),
        prop::option::of(frames()),
        prop::option::of(frames()),
        prop::option::of(frames()),
    );
    let texts = (
        names(),
        prop::option::of(names()),
        prop::option::of(names()),
    );
    let flags = any::<[bool; 7]>();
    let since = (times(), prop::option::of(times()));
    (rooms(), stanzas, texts, flags, since).prop_map(|(room, stanzas, texts, flags, since)| {
        let (sent_presence, own_presence, room_presence, subject) = stanzas;
        let (nick, password, carrier) = texts;
        let [non_anonymous, logged, reflects_join_id, ..] = flags;
        let [.., nick_assigned, spoken, wanted, unsettled] = flags;
        SavedRoom {
            room,
            nick,
            sent_presence,
            own_presence,
            room_presence,
            subject,
            password,
            carrier,
            non_anonymous,
            logged,
            reflects_join_id,
            nick_assigned,
            spoken,
            wanted,
            unsettled,
            joined_at: since.0,
            detached_since: since.1,
        }
    })
}

fn occupants() -> impl Strategy<Value = SavedOccupant> {
    (names(), numbers(), frames()).prop_map(|(nick, order, presence)| SavedOccupant {
        nick,
        order,
        presence,
    })
}

fn messages() -> impl Strategy<Value = SavedMessage> {
    (numbers(), times(), any::<bool>(), frames()).prop_map(|(number, at, stamped, frame)| {
        SavedMessage {
            number,
            at,
            stamped,
            frame,
        }
    })
}

fn marks() -> impl Strategy<Value = Served> {
    let some = || prop::option::of(numbers());
    (some(), numbers(), numbers(), some(), times()).prop_map(
        |(number, joined, replay, before, at)| Served {
            number,
            joined,
            replay,
            before,
            at,
        },
    )
}

fn changes() -> impl Strategy<Value = Change> {
    let occupant = (rooms(), occupants(), any::<bool>()).prop_map(|(room, occupant, there)| {
        Change::Occupant {
            room,
            nick: occupant.nick,
            order: occupant.order,
            presence: there.then_some(occupant.presence),
        }
    });
    let all = (rooms(), prop::collection::vec(occupants(), 0..4));
    let served = (rooms(), names(), prop::option::of(marks()));
    prop_oneof![
        4 => records().prop_map(|room| Change::Room(Box::new(room))),
        4 => occupant,
        1 => all.prop_map(|(room, all)| Change::Occupants { room, all }),
        6 => (rooms(), messages()).prop_map(|(room, message)| Change::Message { room, message }),
        3 => served.prop_map(|(room, resource, served)| Change::Served { room, resource, served }),
        1 => rooms().prop_map(|room| Change::Cleared { room }),
        1 => rooms().prop_map(|room| Change::Forgotten { room }),
    ]
}

#[test]
fn what_the_hub_tells_comes_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let lives = std::cell::RefCell::new(Vec::new());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let inputs = prop::collection::vec(prop::collection::vec(changes(), 0..8), 0..6);
    let result = runner.run(&inputs, |inputs| {
        let account = format!("account-{}@example.org", lives.borrow().len());
        let account: BareJid = account.parse().unwrap();
        let mut model = Model::default();
        for changes in inputs {
            changes
                .iter()
                .for_each(|change| model.apply(change.clone()));
            keep(&store, &account, changes);
        }
        let (saved, unreadable) = load(&store, &account);
        let expected = printed(&model.saved());
        lives.borrow_mut().push((account, expected.clone()));
        prop_assert!(unreadable.is_empty());
        prop_assert_eq!(printed(&saved.rooms), expected);
        Ok(())
    });
    result.unwrap();
    // And in the next process.
    store.close(LIMIT).unwrap();
    let store = open(directory.path());
    for (account, expected) in lives.take() {
        assert_eq!(printed(&load(&store, &account).0.rooms), expected);
    }
}

/// A room with all that there can be of one.
fn stored() -> StoredRoom {
    let record = SavedRoom {
        room: tea(),
        nick: "alice".into(),
        sent_presence: stanza("<presence id='sent'/>"),
        own_presence: Some(stanza("<presence id='own'/>")),
        room_presence: Some(stanza("<presence id='room'/>")),
        subject: Some(stanza("<message><subject/></message>")),
        password: None,
        carrier: None,
        non_anonymous: false,
        logged: false,
        reflects_join_id: false,
        nick_assigned: false,
        spoken: false,
        wanted: true,
        unsettled: false,
        joined_at: SystemTime::UNIX_EPOCH,
        detached_since: None,
    };
    let occupants = ["bob", "carol"].map(|nick| Occupant {
        nick: nick.into(),
        order: 0,
        presence: "<presence/>".into(),
    });
    let messages = [1, 2, 3].map(|number| StoredMessage {
        number,
        at: SystemTime::UNIX_EPOCH,
        stamped: false,
        stanza: "<message><body>secret</body></message>".into(),
    });
    StoredRoom {
        record: super::record(record),
        occupants: occupants.into(),
        messages: messages.into(),
        served: Vec::new(),
    }
}

fn snapshot(room: StoredRoom) -> Snapshot {
    Snapshot {
        rooms: [(tea().0, room)].into(),
        ..Snapshot::default()
    }
}

#[test]
fn what_cannot_be_read_takes_no_more_with_it_than_it_must() {
    let mut room = stored();
    room.occupants[0].presence = "<presence".into();
    room.messages[1].stanza = "<message><body>secret</message>".into();
    room.messages[2].stanza = Bytes::new();
    let (saved, unreadable) = saved(&snapshot(room));
    assert!(unreadable.is_empty());
    let [room] = saved.rooms.as_slice() else {
        panic!("{saved:?}")
    };
    let nicks: Vec<_> = room.occupants.iter().map(|it| it.nick.as_str()).collect();
    assert_eq!(nicks, ["carol"]);
    let numbers: Vec<_> = room.messages.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [1]);
}

#[test]
fn a_room_whose_record_cannot_be_read_is_left_out_alone() {
    let damages: [fn(&mut RoomRecord); 4] = [
        |record| record.sent_presence = "<presence".into(),
        |record| record.own_presence = Some("</presence>".into()),
        |record| record.room_presence = Some("<presence/><presence/>".into()),
        |record| record.subject = Some(Bytes::from_static(b"\xff")),
    ];
    for damage in damages {
        let coffee: BareJid = "coffee@rooms.example.org".parse().unwrap();
        let mut other = stored();
        other.record.room = coffee.clone();
        let mut room = stored();
        damage(&mut room.record);
        let mut snapshot = snapshot(room);
        snapshot.rooms.insert(coffee.clone(), other);
        let (saved, unreadable) = saved(&snapshot);
        assert_eq!(unreadable, [tea().0]);
        let rooms: Vec<_> = saved.rooms.iter().map(|it| &it.room.room.0).collect();
        assert_eq!(rooms, [&coffee]);
    }
}

/// The form of kept keys: version, mechanism, iterations, salt and the keys themselves.
fn keys() -> ScramKeys {
    let mut bytes = vec![1, 2];
    bytes.extend_from_slice(&4096_u32.to_be_bytes());
    bytes.extend_from_slice(&4_u16.to_be_bytes());
    bytes.extend_from_slice(b"salt");
    bytes.extend_from_slice(&[7; 64]);
    ScramKeys::from_bytes(&bytes).unwrap()
}

fn credentials(authzid: Option<&str>) -> Credentials {
    Credentials::Keys {
        username: "alice".into(),
        authzid: authzid.map(str::to_owned),
        keys: keys(),
    }
}

fn seal_key() -> SealKey {
    let directory = tempfile::tempdir().unwrap();
    SealKey::create(&directory.path().join("seal.key")).unwrap()
}

#[test]
fn keys_open_for_their_account_and_domain_alone() {
    let key = seal_key();
    for authzid in [None, Some("other@example.org")] {
        let credentials = credentials(authzid);
        let sealed = sealed(&key, &alice(), "example.org", &credentials).unwrap();
        let opened = unsealed(&key, &alice(), "example.org", &sealed).unwrap();
        assert_eq!(opened, credentials);
        let bob = "bob@example.org".parse().unwrap();
        let refused = [
            unsealed(&key, &bob, "example.org", &sealed),
            unsealed(&key, &alice(), "example.net", &sealed),
            unsealed(&seal_key(), &alice(), "example.org", &sealed),
        ];
        for refused in refused {
            let refused = refused.unwrap_err();
            assert!(
                matches!(refused, UnsealError::Sealed(SealError::Refused)),
                "{refused}"
            );
        }
    }
}

#[test]
fn no_changed_byte_of_kept_keys_opens() {
    let key = seal_key();
    let sealed = sealed(&key, &alice(), "example.org", &credentials(None)).unwrap();
    let opens = |bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        unsealed(&key, &alice(), "example.org", &SealedKey { bytes }).is_ok()
    };
    assert!(opens(&sealed.bytes));
    for at in 0..sealed.bytes.len() {
        let mut changed = sealed.bytes.to_vec();
        changed[at] ^= 1;
        assert!(!opens(&changed), "byte {at}");
        assert!(!opens(&sealed.bytes[..at]), "{at} bytes");
    }
}

/// Sealed with the right key, but by a version that puts other things there.
#[test]
fn what_was_sealed_in_another_form_is_refused() {
    let mut plain = vec![KEYS];
    let field = |plain: &mut Vec<u8>, bytes: &[u8]| {
        plain.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        plain.extend_from_slice(bytes);
    };
    field(&mut plain, b"alice");
    field(&mut plain, b"");
    field(&mut plain, &keys().to_bytes());
    // In place of the name.
    let no_text = [&[KEYS, 0, 0, 0, 1, 0xff][..], &plain[10..]].concat();
    let key = seal_key();
    let open = |plain: &[u8]| {
        let bytes = key.seal(&alice(), "example.org", plain).unwrap().into();
        unsealed(&key, &alice(), "example.org", &SealedKey { bytes })
    };
    assert_eq!(open(&plain).unwrap(), credentials(None));
    let later = [&[KEYS + 1][..], &plain[1..]].concat();
    let longer = [&plain[..], &[0]].concat();
    let mut others = vec![later, longer, no_text];
    others.extend((0..plain.len()).map(|end| plain[..end].to_vec()));
    for other in others {
        let refused = open(&other).unwrap_err();
        assert!(
            matches!(refused, UnsealError::Content),
            "{other:?}: {refused}"
        );
    }
}

#[test]
fn passwords_and_tokens_are_never_kept() {
    let key = seal_key();
    let password = Credentials::Password {
        username: "alice".into(),
        authzid: None,
        password: Zeroizing::new("secret".into()),
    };
    let token = Credentials::Token {
        mechanism: "OAUTHBEARER".into(),
        initial_response: Zeroizing::new("secret".into()),
    };
    for credentials in [password, token] {
        assert!(sealed(&key, &alice(), "example.org", &credentials).is_none());
    }
}
