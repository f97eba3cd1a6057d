//! What sessions have been sent, noted before it is written to their sockets: so that after the
//! death of the process a device that tells how much it has received is served from exactly there.
//!
//! A file beside the store, only appended to: one small `write` for a batch of room messages of one
//! session. It is not synced: it survives the death of the process, and the death of the machine ends
//! every stream anyway. When it has grown, a new one is begun, into which the sessions of that time
//! note anew what they need.
//!
//! ```text
//! record   kind (1), session (8), two numbers (8 each), little endian; behind OPENED a text
//! OPENED   length of the text        -          account NUL resource NUL stream id, or nothing
//! SENT     place in the stream       mark       a room message, or the end of a join
//! HAS      place in the stream       mark       the device surely has everything up to there
//! ENDED    -                         -          the session is over, and all of it is known elsewhere
//! SAID     number                    fingerprint    a message of the account, about to be given out
//! ```

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jid::BareJid;

const OPENED: u8 = 1;
const SENT: u8 = 2;
const HAS: u8 = 3;
const ENDED: u8 = 4;
const SAID: u8 = 5;
/// Of the latest messages of an account: more than can be on their way to the store.
const MOST_SAID: usize = 512;
const RECORD: usize = 25;
/// A file that has grown to this is followed by a new one.
const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// The journal of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    sessions: AtomicU64,
}

#[derive(Debug)]
struct State {
    file: File,
    bytes: u64,
    /// Number of the file; the first is 1.
    generation: u64,
}

/// Which device a session is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The account.
    pub account: BareJid,
    /// The resource.
    pub resource: String,
    /// The id by which its stream can be resumed (XEP-0198 5), if it can.
    pub stream: Option<String>,
}

/// What the process before had sent to a session that was there when it died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub device: Device,
    /// What the device surely has: the mark.
    pub has: u64,
    /// What it may have: places in its stream and marks, in order.
    pub sent: Vec<(u64, u64)>,
}

/// What a journal says of the process before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Its sessions.
    pub lost: Vec<Lost>,
    /// The latest messages of its accounts: numbers and fingerprints. They may not be stored.
    pub said: HashMap<BareJid, Vec<(u64, u64)>>,
}

impl Lost {
    /// The mark of the last of what a device has that has received so many stanzas of its stream,
    /// modulo 2^32.
    #[must_use]
    pub fn mark_at(&self, h: u32) -> u64 {
        let counts = |place: u64| (place & u64::from(u32::MAX)) as u32;
        // Those behind `h` are within half a turn.
        let has = |place: u64| h.wrapping_sub(counts(place)) < u32::MAX / 2;
        let received = self.sent.iter().filter(|(place, _)| has(*place));
        received
            .map(|(_, mark)| *mark)
            .max()
            .unwrap_or(self.has)
            .max(self.has)
    }
}

/// The part of one account.
#[derive(Debug)]
pub struct AccountJournal {
    inner: SessionJournal,
}

/// The part of one session.
#[derive(Debug)]
pub struct SessionJournal {
    shared: Arc<Shared>,
    number: u64,
    device: Device,
    /// The file in which the device is named.
    generation: u64,
    /// What is not known to have arrived.
    sent: Vec<(u64, u64)>,
    has: (u64, u64),
}

impl Journal {
    /// Begins a journal at `path`, and gives what the one of the process before says.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<(Self, Before)> {
        let mut bytes = Vec::new();
        for file in [older(path), path.to_owned()] {
            match File::open(&file) {
                Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let before = read(&bytes);
        let journal = Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                state: Mutex::new(State {
                    file: begin(path)?,
                    bytes: 0,
                    generation: 1,
                }),
                sessions: AtomicU64::new(0),
            }),
        };
        match std::fs::remove_file(older(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok((journal, before)),
        }
    }

    /// The part of an account.
    #[must_use]
    pub fn account(&self, account: BareJid) -> AccountJournal {
        let device = Device {
            account,
            resource: String::new(),
            stream: None,
        };
        let inner = self.session(device);
        AccountJournal { inner }
    }

    /// The part of a new session.
    #[must_use]
    pub fn session(&self, device: Device) -> SessionJournal {
        SessionJournal {
            number: self.shared.sessions.fetch_add(1, Ordering::Relaxed),
            shared: Arc::clone(&self.shared),
            device,
            generation: 0,
            sent: Vec::new(),
            has: (0, 0),
        }
    }
}

impl AccountJournal {
    /// This message is about to be given to sessions under this number.
    ///
    /// # Errors
    /// As [`SessionJournal::sent`].
    pub fn said(&mut self, number: u64, fingerprint: u64) -> io::Result<()> {
        if self.inner.sent.len() == MOST_SAID {
            self.inner.sent.drain(..MOST_SAID / 2);
        }
        self.inner.sent.push((number, fingerprint));
        self.inner.note(SAID, &[(number, fingerprint)])
    }
}

impl SessionJournal {
    /// The device's stream can be resumed by this id from now on.
    pub fn set_stream(&mut self, stream: Option<String>) {
        self.device.stream = stream;
        self.generation = 0;
    }

    /// These are about to be written: places in the stream, and marks.
    ///
    /// # Errors
    /// Those of the file system. What is noted then is too little: the device may get something a
    /// second time after the death of the process.
    pub fn sent(&mut self, sent: &[(u64, u64)]) -> io::Result<()> {
        self.sent.extend_from_slice(sent);
        self.note(SENT, sent)
    }

    /// The device has everything up to this place.
    ///
    /// # Errors
    /// As [`sent`](Self::sent).
    pub fn has(&mut self, place: u64) -> io::Result<()> {
        let arrived = self.sent.partition_point(|(sent, _)| *sent <= place);
        let Some(last) = self.sent.drain(..arrived).next_back() else {
            return Ok(());
        };
        self.has = last;
        self.note(HAS, &[last])
    }

    fn note(&mut self, kind: u8, entries: &[(u64, u64)]) -> io::Result<()> {
        let mut state = self.shared.lock();
        let mut bytes = Vec::with_capacity(RECORD * entries.len());
        if self.generation == state.generation {
            for (place, mark) in entries {
                put(&mut bytes, kind, self.number, *place, *mark);
            }
        } else {
            // All of it, as it stands with this.
            self.generation = state.generation;
            self.write_all(&mut bytes);
        }
        state.append(&bytes)?;
        if state.bytes > MOST_BYTES {
            state.turn(&self.shared.path)?;
        }
        Ok(())
    }

    fn write_all(&self, bytes: &mut Vec<u8>) {
        let Device {
            account,
            resource,
            stream,
        } = &self.device;
        let stream = stream.as_deref().unwrap_or_default();
        let text = format!("{account}\0{resource}\0{stream}");
        put(bytes, OPENED, self.number, text.len() as u64, 0);
        bytes.extend_from_slice(text.as_bytes());
        put(bytes, HAS, self.number, self.has.0, self.has.1);
        let of_account = self.device.resource.is_empty();
        let kind = if of_account { SAID } else { SENT };
        for (one, two) in &self.sent {
            put(bytes, kind, self.number, *one, *two);
        }
    }
}

impl Drop for SessionJournal {
    fn drop(&mut self) {
        let mut bytes = Vec::with_capacity(RECORD);
        put(&mut bytes, ENDED, self.number, 0, 0);
        // Without it, what is known of the session's end stands beside what is noted here.
        let _ = self.shared.lock().append(&bytes);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What may stop halfway is a write, and readers see where it ends.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The next file. The one before stays until the one after it: sessions that have nothing to
    /// note meanwhile stand in it.
    fn turn(&mut self, path: &Path) -> io::Result<()> {
        std::fs::rename(path, older(path))?;
        self.file = begin(path)?;
        self.bytes = 0;
        self.generation += 1;
        Ok(())
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

fn begin(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

fn put(bytes: &mut Vec<u8>, kind: u8, session: u64, one: u64, two: u64) {
    bytes.push(kind);
    for number in [session, one, two] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

/// The sessions of a journal, as far as it can be read: its last record may be broken off.
fn read(bytes: &[u8]) -> Before {
    let mut sessions: HashMap<u64, Lost> = HashMap::new();
    let mut rest = bytes;
    while let Some((record, behind)) = rest.split_first_chunk::<RECORD>() {
        rest = behind;
        let [kind, numbers @ ..] = record;
        let [session, one, two] = [0, 8, 16].map(|at| number(numbers, at));
        match *kind {
            OPENED => {
                let Some((text, behind)) = usize::try_from(one)
                    .ok()
                    .and_then(|length| rest.split_at_checked(length))
                else {
                    break;
                };
                rest = behind;
                if let Some(device) = device(text) {
                    let (has, sent) = (0, Vec::new());
                    sessions.insert(session, Lost { device, has, sent });
                }
            }
            SENT | SAID => {
                if let Some(session) = sessions.get_mut(&session) {
                    session.sent.push((one, two));
                }
            }
            HAS => {
                if let Some(session) = sessions.get_mut(&session) {
                    session.has = session.has.max(two);
                    session.sent.retain(|(place, _)| *place > one);
                }
            }
            ENDED => drop(sessions.remove(&session)),
            _ => break,
        }
    }
    let mut before = Before::default();
    for lost in sessions.into_values() {
        if lost.device.resource.is_empty() {
            let said = before.said.entry(lost.device.account).or_default();
            said.extend(lost.sent);
        } else {
            before.lost.push(lost);
        }
    }
    before
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let number = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    number.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn device(text: &[u8]) -> Option<Device> {
    let mut parts = std::str::from_utf8(text).ok()?.split('\0');
    let (account, resource, stream) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Device {
        account: BareJid::new(account).ok()?,
        resource: resource.to_owned(),
        stream: (!stream.is_empty()).then(|| stream.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone(stream: Option<&str>) -> Device {
        Device {
            account: "alice@example.org".parse().unwrap(),
            resource: "phone".into(),
            stream: stream.map(str::to_owned),
        }
    }

    #[test]
    fn what_a_dead_process_had_sent_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sent");
        let (journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, Before::default());
        let mut session = journal.session(phone(Some("id")));
        session.sent(&[(3, 30), (5, 50)]).unwrap();
        session.has(4).unwrap();
        session.sent(&[(9, 90)]).unwrap();
        let mut gone = journal.session(phone(None));
        gone.sent(&[(1, 10)]).unwrap();
        drop(gone);
        let mut account = journal.account(phone(None).account);
        account.said(7, 70).unwrap();
        account.said(8, 80).unwrap();
        // The death of a process drops nothing.
        std::mem::forget((session, account));

        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&[SENT, 0, 0]).unwrap();
        let (_, before) = Journal::open(&path).unwrap();
        assert_eq!(before.said[&phone(None).account], [(7, 70), (8, 80)]);
        let [lost] = before.lost.as_slice() else {
            panic!("{before:?}")
        };
        assert_eq!((&lost.device, lost.has), (&phone(Some("id")), 30));
        assert_eq!(
            [4, 5, 8, 9, 20].map(|h| lost.mark_at(h)),
            [30, 50, 50, 90, 90]
        );
        assert_eq!(Journal::open(&path).unwrap().1, Before::default());
    }

    #[test]
    fn a_new_file_holds_what_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sent");
        let (journal, _) = Journal::open(&path).unwrap();
        let [mut busy, mut quiet] =
            [Some("busy"), Some("quiet")].map(|id| journal.session(phone(id)));
        quiet.sent(&[(1, 1)]).unwrap();
        busy.sent(&[(1, 10), (2, 20)]).unwrap();
        busy.has(1).unwrap();
        journal.shared.lock().turn(&path).unwrap();
        busy.sent(&[(3, 30)]).unwrap();
        std::mem::forget((busy, quiet));
        let (_, before) = Journal::open(&path).unwrap();
        let mut lost = before.lost;
        lost.sort_by_key(|it| it.has);
        let [quiet, busy] = lost.as_slice() else {
            panic!("{lost:?}")
        };
        assert_eq!((quiet.mark_at(0), quiet.mark_at(1)), (0, 1));
        assert_eq!([1, 2, 3].map(|h| busy.mark_at(h)), [10, 20, 30]);
    }

    /// `h` turns over (XEP-0198 4).
    #[test]
    fn places_are_compared_modulo() {
        let turn = 1_u64 << 32;
        let lost = Lost {
            device: phone(None),
            has: 1,
            sent: vec![(turn - 1, 2), (turn + 1, 3)],
        };
        assert_eq!(
            [u32::MAX - 1, u32::MAX, 0, 1].map(|h| lost.mark_at(h)),
            [1, 2, 2, 3]
        );
    }
}
