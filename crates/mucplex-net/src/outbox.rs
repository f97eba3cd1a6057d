//! What waits for one socket.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;
use mucplex_xml::Outgoing;

use crate::Charge;

/// Most slices one vectored write takes: two for each stanza.
const SLICES: usize = 64;

/// The queue of stanzas for one socket, counted in bytes and written many at a time.
///
/// The outbox itself has no bound and refuses nothing: a stanza that is turned away is a stanza
/// lost. Two rules bound it from outside. Who reads from one peer for another stops reading while
/// [`queued`](Self::queued) is over a mark. What cannot be held back, room traffic, is charged to a
/// [`Budget`](crate::Budget) until it is written; when that is over its bound, the session ends and
/// [`abandon`](Self::abandon) says what was lost.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    queued: usize,
    /// Bytes of the first entry that are written already.
    begun: usize,
}

#[derive(Debug)]
struct Entry {
    stanza: Outgoing,
    /// Given back when the last byte is written, or with the queue.
    _charge: Option<Charge>,
}

/// What [`Outbox::abandon`] threw away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// Stanzas and other pieces that were queued.
    pub stanzas: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Outbox {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues one piece.
    pub fn push(&mut self, stanza: impl Into<Outgoing>) {
        self.push_charged(stanza, None);
    }

    /// Queues one piece with the charge that is given back once it is written.
    pub fn push_charged(&mut self, stanza: impl Into<Outgoing>, charge: Option<Charge>) {
        let stanza = stanza.into();
        if stanza.is_empty() {
            return;
        }
        self.queued += stanza.len();
        self.entries.push_back(Entry {
            stanza,
            _charge: charge,
        });
    }

    /// Bytes that are not written yet.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Throws away what no byte of is written, so that what follows is read by the peer without
    /// waiting for it. A piece that is begun stays: the stream has to stay well-formed.
    pub fn abandon(&mut self) -> Abandoned {
        let keep = usize::from(self.begun > 0);
        let mut abandoned = Abandoned::default();
        for entry in self.entries.drain(keep.min(self.entries.len())..) {
            abandoned.stanzas += 1;
            abandoned.bytes += entry.stanza.len();
        }
        self.queued -= abandoned.bytes;
        abandoned
    }

    /// Calls `write` with the slices to write next; `None` when nothing waits.
    pub(crate) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> Option<R> {
        if self.entries.is_empty() {
            return None;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut skip = self.begun;
        let pieces = self
            .entries
            .iter()
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
            self.entries.pop_front();
        }
        // A queue that was long once does not keep its room for ever.
        if self.entries.capacity() > 4 * SLICES {
            self.entries.shrink_to(SLICES);
        }
    }
}

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
        outbox.push_charged(Bytes::from_static(b"abc"), Some(budget.charge(3)));
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
        fresh.push(Bytes::from_static(b"<a/>"));
        assert_eq!(
            fresh.abandon(),
            Abandoned {
                stanzas: 1,
                bytes: 4
            }
        );
        assert_eq!(fresh.queued(), 0);
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
}
