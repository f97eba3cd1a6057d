//! What waits for one socket, and, with stream management, for the peer's acknowledgement.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;
use mucplex_xml::Outgoing;

use crate::{Charge, Custody};

/// Most slices one vectored write takes: two for each stanza.
const SLICES: usize = 64;

/// The queue of stanzas for one socket, counted in bytes and written many at a time.
///
/// The outbox itself has no bound and refuses nothing: a stanza that is turned away is a stanza
/// lost. Two rules bound it from outside. Who reads from one peer for another stops reading while
/// [`queued`](Self::queued) is over a mark. What cannot be held back, room traffic, is charged to a
/// [`Budget`](crate::Budget) until the peer has it; when that is over its bound, the session ends
/// and [`abandon`](Self::abandon) says what was lost.
///
/// The peer has a stanza when its last byte is written; or, from
/// [`keep_until_acknowledged`](Self::keep_until_acknowledged) on, when it has acknowledged it
/// (XEP-0198 4). Until then the outbox keeps it, with what hangs on it, and a resumed stream sends
/// it again ([`rewind`](Self::rewind)).
#[derive(Debug, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    queued: usize,
    /// Bytes of the first entry that are written already.
    begun: usize,
    keeping: bool,
    /// So many bytes may be written and not acknowledged.
    window: Option<usize>,
    /// Urgent pieces at the front.
    urgent: usize,
    /// Stanzas among the entries that will be kept.
    to_keep: usize,
    /// Written and not acknowledged, in order.
    kept: VecDeque<Entry>,
    kept_bytes: usize,
    /// Thrown away: nobody else has it, so what hangs on it stays as long as the outbox.
    abandoned: Vec<Entry>,
    /// The latest mark among what the peer has, and the place of the stanza that had it.
    mark: u64,
    mark_place: u64,
    /// Stanzas that were queued, since they count.
    placed: u64,
    /// Places and marks of those that were queued since somebody asked.
    marks: Vec<(u64, u64)>,
}

/// What hangs on a stanza until the peer has it.
#[derive(Debug, Default)]
pub struct Freight {
    /// Bytes of somebody's budget.
    pub charge: Option<Charge>,
    /// Of the stream on which the stanza came.
    pub custody: Option<Custody>,
    /// A number that tells how far the peer was served; those of one outbox only grow. 0: none.
    pub mark: u64,
}

#[derive(Debug)]
struct Entry {
    stanza: Outgoing,
    /// It counts in stream management.
    counts: bool,
    /// It has overtaken others.
    urgent: bool,
    /// Its place among the stanzas; 0 for what is none.
    place: u64,
    freight: Freight,
}

/// What [`Outbox::abandon`] threw away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// Stanzas and other pieces that were queued.
    pub stanzas: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl From<Charge> for Freight {
    fn from(charge: Charge) -> Self {
        Self {
            charge: Some(charge),
            ..Self::default()
        }
    }
}

impl From<Custody> for Freight {
    fn from(custody: Custody) -> Self {
        Self {
            custody: Some(custody),
            ..Self::default()
        }
    }
}

impl Outbox {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues what is no stanza: white space, a nonza, the pieces of a stream.
    pub fn push(&mut self, piece: impl Into<Outgoing>) {
        self.push_entry(piece.into(), 0, Freight::default());
    }

    /// The same with what is given back once it is written.
    pub fn push_with(&mut self, piece: impl Into<Outgoing>, freight: Freight) {
        self.push_entry(piece.into(), 0, freight);
    }

    /// Queues what may overtake all that no byte of is written yet, but what is as urgent; without a
    /// [window](Self::set_window) nothing waits for long, and it is not overtaken.
    pub fn push_urgent(&mut self, piece: Bytes) {
        if self.window.is_none() {
            self.push(piece);
            return;
        }
        self.queued += piece.len();
        let entry = Entry {
            stanza: piece.into(),
            counts: false,
            urgent: true,
            place: 0,
            freight: Freight::default(),
        };
        // One that is begun may be urgent itself.
        let begun = self.entries.front().filter(|_| self.begun > 0);
        let before = begun.map_or(0, |begun| usize::from(!begun.urgent));
        self.entries.insert(before + self.urgent, entry);
        self.urgent += 1;
    }

    /// Queues what is about the stanzas before it: behind all that may be written now.
    pub fn push_within_window(&mut self, piece: Bytes) {
        let mut unacknowledged = self.kept_bytes;
        let mut fits = |entry: &Entry| {
            let fits = !entry.counts || self.window.is_none_or(|window| unacknowledged < window);
            unacknowledged += usize::from(entry.counts) * entry.stanza.len();
            fits
        };
        let begun = usize::from(self.begun > 0);
        let at = self.entries.iter().take_while(|entry| fits(entry)).count();
        self.queued += piece.len();
        let entry = Entry {
            stanza: piece.into(),
            counts: false,
            urgent: false,
            place: 0,
            freight: Freight::default(),
        };
        self.entries.insert(at.max(begun).max(self.urgent), entry);
    }

    /// Queues a message, a presence or an IQ, with what hangs on it.
    pub fn push_stanza(&mut self, stanza: impl Into<Outgoing>, freight: Freight) {
        self.placed += 1;
        if freight.mark != 0 {
            self.marks.push((self.placed, freight.mark));
        }
        self.push_entry(stanza.into(), self.placed, freight);
    }

    fn push_entry(&mut self, stanza: Outgoing, place: u64, freight: Freight) {
        if stanza.is_empty() {
            return;
        }
        let counts = self.keeping && place > 0;
        self.queued += stanza.len();
        self.to_keep += usize::from(counts);
        self.entries.push_back(Entry {
            stanza,
            counts,
            urgent: false,
            place,
            freight,
        });
    }

    /// Stanzas that are queued from now on are kept until the peer has acknowledged them.
    pub fn keep_until_acknowledged(&mut self) {
        self.keeping = true;
        self.placed = 0;
    }

    /// Lets no more than about so many bytes be on their way at once: what the peer has not
    /// acknowledged fills its buffers and those of the network, and every answer waits behind it.
    /// `None`: no limit.
    pub fn set_window(&mut self, bytes: Option<usize>) {
        self.window = bytes;
    }

    /// The next stanza waits for the peer to acknowledge others.
    pub fn is_blocked(&self) -> bool {
        let full = self.window.is_some_and(|window| self.kept_bytes >= window);
        full && self.begun == 0 && self.entries.front().is_some_and(|entry| entry.counts)
    }

    /// The peer does not acknowledge after all: it has what is written.
    pub fn stop_keeping(&mut self) {
        self.keeping = false;
        self.to_keep = 0;
        for entry in &mut self.entries {
            entry.counts = false;
        }
        for entry in std::mem::take(&mut self.kept) {
            self.has(&entry);
        }
        self.kept_bytes = 0;
    }

    /// The peer has the next `count` stanzas.
    ///
    /// # Errors
    /// [`NotSent`] if so many were not written.
    pub fn acknowledged(&mut self, count: usize) -> Result<(), NotSent> {
        if count > self.kept.len() {
            return Err(NotSent);
        }
        for _ in 0..count {
            if let Some(entry) = self.kept.pop_front() {
                self.kept_bytes -= entry.stanza.len();
                self.has(&entry);
            }
        }
        Ok(())
    }

    /// Stanzas that are written and not acknowledged, and their bytes.
    pub fn unacknowledged(&self) -> (usize, usize) {
        (self.kept.len(), self.kept_bytes)
    }

    /// Stanzas that the peer has still to acknowledge, written or not.
    pub fn outstanding(&self) -> usize {
        self.to_keep + self.kept.len()
    }

    /// The latest [mark](Freight::mark) among what the peer has.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// The place of the stanza that had it among those that were queued, from 1; with stream
    /// management, among those that count.
    pub fn mark_place(&self) -> u64 {
        self.mark_place
    }

    /// Places and marks of what was queued since the last call.
    pub fn take_marks(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.marks)
    }

    /// Places and marks of what the peer may have, and has not acknowledged.
    pub fn unacknowledged_marks(&self) -> impl Iterator<Item = (u64, u64)> {
        let kept = self.kept.iter().filter(|entry| entry.freight.mark != 0);
        kept.map(|entry| (entry.place, entry.freight.mark))
    }

    /// For a stream that is resumed on another connection: what was kept is to be written again,
    /// before what was not written yet. Pieces that count for nothing belonged to the old
    /// connection.
    pub fn rewind(&mut self) {
        self.begun = 0;
        self.urgent = 0;
        self.entries.retain(|entry| entry.counts);
        while let Some(entry) = self.kept.pop_back() {
            self.entries.push_front(entry);
        }
        self.to_keep = self.entries.len();
        self.kept_bytes = 0;
        self.queued = self.entries.iter().map(|entry| entry.stanza.len()).sum();
    }

    /// The same, with what is queued on the new connection before it: the end of its login.
    pub fn resume_behind(&mut self, fresh: Self) {
        self.rewind();
        self.begun = fresh.begun;
        self.queued += fresh.queued;
        for entry in fresh.entries.into_iter().rev() {
            self.entries.push_front(entry);
        }
    }

    /// Bytes that are not written yet.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Throws away what no byte of is written, so that what follows is read by the peer without
    /// waiting for it. A piece that is begun stays: the stream has to stay well-formed. What hangs on
    /// the pieces is held until the outbox is dropped.
    pub fn abandon(&mut self) -> Abandoned {
        let keep = usize::from(self.begun > 0);
        let mut abandoned = Abandoned::default();
        for entry in self.entries.drain(keep.min(self.entries.len())..) {
            abandoned.stanzas += 1;
            abandoned.bytes += entry.stanza.len();
            self.to_keep -= usize::from(entry.counts);
            self.urgent -= usize::from(entry.urgent);
            self.abandoned.push(entry);
        }
        self.queued -= abandoned.bytes;
        abandoned
    }

    /// Nothing of the stanza that was written last is still to come.
    pub fn is_between_stanzas(&self) -> bool {
        self.begun == 0
    }

    /// What the peer does not have, or has not acknowledged, in order; whether it counts or not.
    pub fn into_undelivered(self) -> impl Iterator<Item = (Outgoing, Freight)> {
        let entries = self.kept.into_iter().chain(self.entries);
        let entries = entries.chain(self.abandoned);
        entries.map(|entry| (entry.stanza, entry.freight))
    }

    /// Calls `write` with the slices to write next; `None` when nothing waits.
    pub(crate) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> Option<R> {
        if self.entries.is_empty() || self.is_blocked() {
            return None;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut skip = self.begun;
        // What is begun is written to its end.
        let (begun, rest) = (usize::from(self.begun > 0), self.entries.iter());
        let first = rest.clone().take(begun);
        let of_first: usize = first.clone().map(|entry| entry.stanza.len()).sum();
        let mut unacknowledged = self.kept_bytes + of_first;
        let within = |entry: &&Entry| {
            let fits = !entry.counts || self.window.is_none_or(|window| unacknowledged < window);
            unacknowledged += usize::from(entry.counts) * entry.stanza.len();
            fits
        };
        let pieces = first
            .chain(rest.skip(begun).take_while(within))
            .flat_map(|entry| [&entry.stanza.head, &entry.stanza.tail]);
        let mut filled = 0;
        for piece in pieces {
            let rest = rest_of(piece, &mut skip);
            if rest.is_empty() {
                continue;
            }
            let Some(slot) = slices.get_mut(filled) else {
                break;
            };
            *slot = IoSlice::new(rest);
            filled += 1;
        }
        Some(write(slices.get(..filled).unwrap_or_default()))
    }

    /// Takes off what was written.
    pub(crate) fn advance(&mut self, written: usize) {
        self.queued = self.queued.saturating_sub(written);
        self.begun += written;
        while let Some(first) = self.entries.front() {
            let length = first.stanza.len();
            if self.begun < length {
                return;
            }
            self.begun -= length;
            if let Some(entry) = self.entries.pop_front() {
                self.urgent -= usize::from(entry.urgent);
                self.written(entry);
            }
        }
        // A queue that was long once does not keep its room for ever.
        if self.entries.capacity() > 4 * SLICES {
            self.entries.shrink_to(SLICES);
        }
    }

    fn written(&mut self, entry: Entry) {
        if entry.counts {
            self.to_keep -= 1;
            self.kept_bytes += entry.stanza.len();
            self.kept.push_back(entry);
        } else {
            self.has(&entry);
        }
    }

    fn has(&mut self, entry: &Entry) {
        if entry.freight.mark > self.mark {
            self.mark = entry.freight.mark;
            self.mark_place = entry.place;
        }
    }
}

/// The peer acknowledges more than it was sent (XEP-0198 4: `handled-count-too-high`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more stanzas are acknowledged than were sent")]
pub struct NotSent;

/// What is left of `piece` behind the first `skip` bytes of the queue.
fn rest_of<'a>(piece: &'a Bytes, skip: &mut usize) -> &'a [u8] {
    let skipped = piece.len().min(*skip);
    *skip -= skipped;
    piece.get(skipped..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;

    fn outgoing(head: &'static str, tail: &'static str) -> Outgoing {
        Outgoing {
            head: Bytes::from_static(head.as_bytes()),
            tail: Bytes::from_static(tail.as_bytes()),
        }
    }

    fn next(outbox: &Outbox) -> String {
        outbox
            .with_slices(|slices| {
                slices
                    .iter()
                    .map(|s| String::from_utf8_lossy(s).into_owned())
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .unwrap_or_default()
    }

    #[test]
    fn writes_go_on_where_the_last_one_stopped() {
        let mut outbox = Outbox::new();
        outbox.push(outgoing("ab", "cd"));
        outbox.push(Bytes::from_static(b"ef"));
        assert_eq!((outbox.queued(), next(&outbox).as_str()), (6, "ab|cd|ef"));
        outbox.advance(1);
        assert_eq!((outbox.queued(), next(&outbox).as_str()), (5, "b|cd|ef"));
        outbox.advance(2);
        assert_eq!(next(&outbox), "d|ef");
        outbox.advance(2);
        assert_eq!(next(&outbox), "f");
        outbox.advance(1);
        assert!(outbox.is_empty());
        assert_eq!(outbox.queued(), 0);
    }

    #[test]
    fn a_charge_is_held_until_the_last_byte() {
        let budget = Budget::new(100);
        let mut outbox = Outbox::new();
        outbox.push_stanza(Bytes::from_static(b"abc"), budget.charge(3).into());
        outbox.advance(2);
        assert_eq!(budget.used(), 3);
        outbox.advance(1);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_begun_is_not_abandoned() {
        let mut outbox = Outbox::new();
        outbox.push(Bytes::from_static(b"<a/>"));
        outbox.push(Bytes::from_static(b"<bb/>"));
        outbox.advance(1);
        assert_eq!(
            outbox.abandon(),
            Abandoned {
                stanzas: 1,
                bytes: 5
            }
        );
        outbox.push(Bytes::from_static(b"<c/>"));
        assert_eq!((outbox.queued(), next(&outbox).as_str()), (7, "a/>|<c/>"));
        let mut fresh = Outbox::new();
        let budget = Budget::new(100);
        fresh.push_with(Bytes::from_static(b"<a/>"), budget.charge(4).into());
        assert_eq!(
            fresh.abandon(),
            Abandoned {
                stanzas: 1,
                bytes: 4
            }
        );
        assert_eq!((fresh.queued(), budget.used()), (0, 4));
        drop(fresh);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_long_queue_is_written_in_several_turns() {
        let mut outbox = Outbox::new();
        for _ in 0..200 {
            outbox.push(Bytes::from_static(b"x"));
        }
        let mut turns = 0;
        while let Some(bytes) = outbox.with_slices(|slices| slices.iter().map(|s| s.len()).sum()) {
            outbox.advance(bytes);
            turns += 1;
        }
        assert_eq!(turns, 200usize.div_ceil(SLICES));
    }

    #[test]
    fn no_more_is_on_its_way_than_the_window_lets() {
        let mut outbox = Outbox::new();
        outbox.keep_until_acknowledged();
        outbox.set_window(Some(8));
        for name in ["<a/>", "<b/>", "<c/>", "<d/>"] {
            outbox.push_stanza(Bytes::from_static(name.as_bytes()), Freight::default());
        }
        assert_eq!(next(&outbox), "<a/>|<b/>");
        outbox.advance(1);
        outbox.push_urgent(Bytes::from_static(b"<r/>"));
        outbox.push_urgent(Bytes::from_static(b"<s/>"));
        assert_eq!(next(&outbox), "a/>|<r/>|<s/>|<b/>");
        outbox.advance(3 + 12);
        assert!(outbox.is_blocked());
        assert_eq!((next(&outbox).as_str(), outbox.queued()), ("", 8));
        outbox.push_urgent(Bytes::from_static(b"<r/>"));
        assert!(!outbox.is_blocked());
        assert_eq!(next(&outbox), "<r/>");
        outbox.advance(4);
        outbox.push_within_window(Bytes::from_static(b"<r/>"));
        assert_eq!(next(&outbox), "<r/>");
        outbox.advance(4);
        assert_eq!(outbox.acknowledged(1), Ok(()));
        assert_eq!(next(&outbox), "<c/>");
        outbox.push_within_window(Bytes::from_static(b"<t/>"));
        assert_eq!(next(&outbox), "<c/>|<t/>");
        outbox.set_window(None);
        assert_eq!(next(&outbox), "<c/>|<t/>|<d/>");
    }

    #[test]
    fn what_is_written_is_kept_until_it_is_acknowledged() {
        let budget = Budget::new(100);
        let mut outbox = Outbox::new();
        outbox.push_stanza(Bytes::from_static(b"<before/>"), budget.charge(9).into());
        outbox.push(Bytes::from_static(b"<enabled/>"));
        outbox.keep_until_acknowledged();
        for (number, name) in (1..).zip(["<a/>", "<b/>", "<c/>"]) {
            let freight = Freight {
                charge: Some(budget.charge(4)),
                mark: number,
                ..Freight::default()
            };
            outbox.push_stanza(Bytes::from_static(name.as_bytes()), freight);
            outbox.push(Bytes::from_static(b"<r/>"));
        }
        // All but the last stanza, of which a byte is written.
        outbox.advance(9 + 10 + 8 + 8 + 1);
        assert_eq!((outbox.unacknowledged(), outbox.outstanding()), ((2, 8), 3));
        assert_eq!((budget.used(), outbox.mark()), (12, 0));
        assert_eq!(outbox.acknowledged(3), Err(NotSent));
        assert_eq!(outbox.acknowledged(1), Ok(()));
        assert_eq!((budget.used(), outbox.mark()), (8, 1));

        outbox.rewind();
        assert_eq!((outbox.queued(), next(&outbox).as_str()), (8, "<b/>|<c/>"));
        outbox.advance(8);
        assert_eq!(outbox.acknowledged(2), Ok(()));
        assert_eq!((budget.used(), outbox.mark()), (0, 3));
    }
}
