//! A room's recent messages, and which of them a joining session has asked for (XEP-0045 7.2.14) or
//! has not been served (behaviour 57).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use mucplex_xml::{Frame, Kind};

use crate::identity::RoomJid;
use crate::persist::SavedMessage;
use crate::{ns, stanza};

/// What a late joiner gets that names no limit: what Prosody and ejabberd give by default
/// (`default_history_messages`, `history_size`).
pub(crate) const DEFAULT_STANZAS: usize = 20;
/// The most messages of one room that a hub remembers: a store has no use for more. The retention
/// time of the operator's policy is another bound.
pub const BACKLOG_STANZAS: usize = 1_000;
/// The most bytes of the same.
pub const BACKLOG_BYTES: usize = 1024 * 1024;

/// The limits a session gave in `<history/>`; together they all hold, so the smallest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistoryLimits {
    pub(crate) maxstanzas: Option<usize>,
    /// Characters of complete stanzas.
    pub(crate) maxchars: Option<usize>,
    pub(crate) seconds: Option<u64>,
    pub(crate) since: Option<SystemTime>,
}

impl HistoryLimits {
    /// Reads them off a join. What is no number or no time is no limit, as servers take it.
    pub(crate) fn read(join: &Frame) -> Self {
        let Some(history) =
            crate::routes::muc_element(join).and_then(|muc| muc.child("history", ns::MUC))
        else {
            return Self::default();
        };
        let number = |name| {
            history
                .attr(name)
                .and_then(|value| value.trim().parse::<u64>().ok())
        };
        let count = |name| number(name).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        Self {
            maxstanzas: count("maxstanzas"),
            maxchars: count("maxchars"),
            seconds: number("seconds"),
            since: history.attr("since").and_then(|stamp| parse_stamp(&stamp)),
        }
    }

    pub(crate) fn none_given(&self) -> bool {
        *self == Self::default()
    }

    /// What to ask the server for in the account's name: its default, or more where the session
    /// wants more; the session's own limits are applied to what comes, because the next session
    /// may want what this one does not.
    pub(crate) fn upstream(&self) -> String {
        match self.maxstanzas {
            Some(count) if count > DEFAULT_STANZAS => {
                stanza::history_maxstanzas(count.min(BACKLOG_STANZAS))
            }
            // All since a time, however many that are.
            None if self.seconds.is_some() || self.since.is_some() => {
                stanza::history_maxstanzas(BACKLOG_STANZAS)
            }
            Some(_) | None => String::new(),
        }
    }

    fn oldest(&self, now: SystemTime) -> Option<SystemTime> {
        let by_seconds = self.seconds.map(|seconds| {
            now.checked_sub(Duration::from_secs(seconds))
                .unwrap_or(SystemTime::UNIX_EPOCH)
        });
        by_seconds.max(self.since.map(whole_second))
    }
}

/// Numbers of room messages and of what else a session can be served up to: each is larger than
/// all before it, over all rooms of the account, also those of a process before this one, as long
/// as the clock is not set back by more than there was silence.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    last: u64,
    last_message: u64,
    /// Messages that a process before this one has numbered and not stored, by fingerprint: sessions
    /// may have them, and they come again.
    known: HashMap<u64, u64>,
}

impl Numbers {
    /// The next number. Several within one input follow each other without a gap.
    pub(crate) fn next(&mut self, now: SystemTime) -> u64 {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
        let micros = since_epoch.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(0));
        self.last = (self.last + 1).max(micros);
        self.last
    }

    /// The number of a message, and what sessions are marked with that are sent it now.
    pub(crate) fn of_message(&mut self, frame: &Frame, now: SystemTime) -> (u64, u64) {
        let known = match self.known.is_empty() {
            true => None,
            false => self.known.remove(&fingerprint(frame)),
        };
        // Behind a message that is new, an old number would be out of order.
        if let Some(number) = known.filter(|number| *number > self.last_message) {
            self.last_message = number;
            if number > self.last {
                self.last = number;
                return (number, number);
            }
            return (number, self.next(now));
        }
        let number = self.next(now);
        self.last_message = number;
        (number, number)
    }

    /// Numbers that a process before this one has given to messages it has not stored.
    pub(crate) fn know(&mut self, said: impl IntoIterator<Item = (u64, u64)>) {
        let said = said
            .into_iter()
            .map(|(number, fingerprint)| (fingerprint, number));
        self.known.extend(said);
    }

    /// A message that is stored.
    pub(crate) fn note_message(&mut self, number: u64) {
        self.last_message = self.last_message.max(number);
        self.note(number);
    }

    /// This number was given before.
    pub(crate) fn note(&mut self, number: u64) {
        self.last = self.last.max(number);
    }
}

/// The recent messages of a room, oldest first, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    messages: VecDeque<SavedMessage>,
    bytes: usize,
    /// The messages before were another room's.
    cleared: bool,
}

impl Backlog {
    /// Adds a message that arrived live at `now`.
    pub(crate) fn push_live(&mut self, frame: Frame, now: SystemTime, number: u64) {
        self.push(SavedMessage {
            number,
            at: now,
            frame,
            stamped: false,
        });
    }

    /// Adds a message that the room replayed, with the room's own stamp.
    pub(crate) fn push_replayed(&mut self, frame: Frame, stamp: SystemTime, number: u64) {
        self.push(SavedMessage {
            number,
            at: stamp,
            frame,
            stamped: true,
        });
    }

    /// Drops all: they are not this room's.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            cleared: true,
            ..Self::default()
        };
    }

    /// Whether all was dropped since this was last asked.
    pub(crate) fn take_cleared(&mut self) -> bool {
        std::mem::take(&mut self.cleared)
    }

    /// Adds a message, and drops the oldest where there is no space for all.
    pub(crate) fn push(&mut self, message: SavedMessage) {
        self.bytes += message.frame.bytes().len();
        self.messages.push_back(message);
        while self.messages.len() > BACKLOG_STANZAS || self.bytes > BACKLOG_BYTES {
            self.drop_oldest();
        }
    }

    /// Drops what is older than the retention time.
    pub(crate) fn expire(&mut self, now: SystemTime, retention: Duration) {
        let Some(oldest) = now.checked_sub(retention) else {
            return;
        };
        while self
            .messages
            .front()
            .is_some_and(|message| message.at < oldest)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.frame.bytes().len();
        }
    }

    /// The messages behind this number.
    pub(crate) fn behind(&self, number: u64) -> impl DoubleEndedIterator<Item = &SavedMessage> {
        let place = match self.messages.back() {
            Some(last) if last.number > number => {
                self.messages.partition_point(|it| it.number <= number)
            }
            Some(_) | None => self.messages.len(),
        };
        self.messages.range(place..)
    }

    /// When the first message was said.
    pub(crate) fn first_said(&self) -> Option<SystemTime> {
        self.messages.front().map(|message| message.at)
    }

    /// The number of the last message.
    pub(crate) fn last_number(&self) -> Option<u64> {
        self.messages.back().map(|message| message.number)
    }

    /// When the last message came, whatever its stamp says.
    pub(crate) fn last_heard(&self) -> Option<SystemTime> {
        let micros = Duration::from_micros(self.last_number()?);
        SystemTime::UNIX_EPOCH.checked_add(micros)
    }

    /// Marks of the messages that are not older than `oldest`.
    pub(crate) fn marks_since(&self, oldest: SystemTime) -> Marks {
        let recent = self.messages.iter().filter(|message| message.at >= oldest);
        Marks::of(recent.map(|message| &message.frame))
    }

    /// The messages a session gets, oldest first, each with the room's delay. `had`: up to where it
    /// was served before, if it was. `late`: without a limit of its own a session that was not gets a
    /// server's default amount and not all there is.
    pub(crate) fn select(
        &self,
        room: &RoomJid,
        limits: &HistoryLimits,
        had: Option<u64>,
        now: SystemTime,
        late: bool,
    ) -> Vec<Frame> {
        let most = match limits.maxstanzas {
            Some(most) => most,
            None if late && had.is_none() && limits.none_given() => DEFAULT_STANZAS,
            None => usize::MAX,
        };
        let oldest = limits.oldest(now);
        let mut chars_left = limits.maxchars.unwrap_or(usize::MAX);
        let mut chosen = Vec::new();
        for message in self.behind(had.unwrap_or_default()).rev() {
            if chosen.len() >= most || oldest.is_some_and(|oldest| message.at < oldest) {
                break;
            }
            let frame = replay(message, room);
            let Some(left) = chars_left.checked_sub(characters(&frame)) else {
                break;
            };
            chars_left = left;
            chosen.push(frame);
        }
        chosen.reverse();
        chosen
    }
}

fn replay(message: &SavedMessage, room: &RoomJid) -> Frame {
    if message.stamped {
        message.frame.clone()
    } else {
        stamp(&message.frame, room, message.at)
    }
}

/// Gives a message the room's delay, and takes out what claims to be one already: in a live
/// message only an occupant can have written it (behaviour 74).
pub(crate) fn stamp(frame: &Frame, room: &RoomJid, at: SystemTime) -> Frame {
    let room_jid = room.to_string();
    stanza::edit(frame, |patch, frame| {
        let root = frame.root();
        for child in root.children().filter(|child| child.is("delay", ns::DELAY)) {
            if child.attr("from").as_deref() == Some(&*room_jid) {
                patch.remove(&child);
            }
        }
        patch.append(&root, &stanza::delay(room, &format_stamp(at)));
    })
}

/// The time the room itself gave a message: its `<delay/>` is from the room (XEP-0203 3), or,
/// from services that write it differently, from one of its occupants or from nobody.
pub(crate) fn room_stamp(frame: &Frame, room: &RoomJid) -> Option<SystemTime> {
    let room_jid = room.to_string();
    let delays: Vec<_> = frame
        .root()
        .children()
        .filter(|child| child.is("delay", ns::DELAY))
        .collect();
    // The room's own stands first on a server that lets an occupant's forged one through
    // (ejabberd 23.01).
    let by_room = delays
        .iter()
        .find(|delay| delay.attr("from").as_deref() == Some(&room_jid));
    by_room
        .or(delays.last())
        .and_then(|delay| parse_stamp(&delay.attr("stamp")?))
}

fn characters(frame: &Frame) -> usize {
    // Characters, not bytes: continuation bytes of UTF-8 are not counted.
    frame
        .bytes()
        .iter()
        .filter(|byte| **byte & 0xC0 != 0x80)
        .count()
}

/// What makes two copies of a message the same message, whichever way each came: sender, id,
/// the room's stanza-id and the texts. One mark alone could be forged by its sender
/// (behaviour 74), and would then hide another message.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Content {
    from: Option<String>,
    id: Option<String>,
    stanza_id: Option<String>,
    bodies: Vec<String>,
}

/// The content of a message in brief: the same for the same message, whichever way it came.
pub fn fingerprint(frame: &Frame) -> u64 {
    let mut hasher = DefaultHasher::new();
    content(frame).hash(&mut hasher);
    hasher.finish()
}

fn content(frame: &Frame) -> Content {
    let root = frame.root();
    let room = frame
        .from()
        .map(|from| crate::identity::bare_part(&from).to_owned());
    let stanza_id = root
        .children()
        .filter(|child| child.is("stanza-id", ns::STANZA_ID))
        .find(|child| child.attr("by").as_deref() == room.as_deref())
        .and_then(|child| child.attr("id").map(Cow::into_owned));
    let bodies = root
        .children()
        .filter(|child| child.is("body", ns::CLIENT))
        .map(|b| b.text())
        .collect();
    Content {
        from: frame.from().map(Cow::into_owned),
        id: frame.id().map(Cow::into_owned),
        stanza_id,
        bodies,
    }
}

/// Messages to find copies of, with how many there are of each.
#[derive(Debug, Default)]
pub(crate) struct Marks(HashMap<Content, usize>);

impl Marks {
    pub(crate) fn of<'f>(messages: impl IntoIterator<Item = &'f Frame>) -> Self {
        let mut marks = Self::default();
        for message in messages {
            *marks.0.entry(content(message)).or_default() += 1;
        }
        marks
    }

    /// Whether this is a copy of one of the messages (see [`Content`]).
    pub(crate) fn has(&self, frame: &Frame) -> bool {
        frame.kind() == Kind::Message && self.0.contains_key(&content(frame))
    }

    /// The same, and that one is used up: without ids two messages may look alike.
    pub(crate) fn take(&mut self, frame: &Frame) -> bool {
        match self.0.get_mut(&content(frame)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// Some rooms stamp to the second, cutting the rest off, and clients ask with what they were given:
/// a message of the same second must not count as older.
fn whole_second(time: SystemTime) -> SystemTime {
    let since_epoch = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs())
}

/// Reads an XEP-0082 time.
pub(crate) fn parse_stamp(stamp: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc3339(stamp.trim())
        .ok()
        .map(|time| time.with_timezone(&Utc).into())
}

/// Writes an XEP-0082 time in UTC, to the millisecond.
pub(crate) fn format_stamp(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}
