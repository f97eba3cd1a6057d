//! Stream management (XEP-0198) on one stream, in either role: what was received and is settled,
//! what the peer has acknowledged, and who has asked whom.

use std::{sync::Arc, time::Duration};

use mucplex_net::{Custody, Ledger, Outbox};
use mucplex_stream::sm::{Count, Nonza, handled_count_too_high};
use tokio::time::Instant;

/// The peer is asked when so much of what it was sent is not acknowledged.
const ASK_STANZAS: usize = 16;
const ASK_BYTES: usize = 16 * 1024;
/// It is asked this long after the first stanza that is not.
const ASK_DELAY: Duration = Duration::from_secs(5);
/// A peer that does not answer for so long is gone.
const UNANSWERED: Duration = Duration::from_secs(60);
/// How long an answer to the peer waits for what is not settled; it is told the truth then, and
/// the rest when it is true.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state of one stream; it outlives the connection.
#[derive(Debug)]
pub(crate) struct Management {
    ledger: Arc<Ledger>,
    acknowledged: Count,
    /// What it has acknowledged only an earlier process knew: it tells it first.
    unknown: bool,
    /// The peer was asked, and has not answered since.
    asked: Option<Instant>,
    /// It is to be asked as soon as there is anything to ask for.
    wants_ack: bool,
    /// The first of what it was sent and not asked about.
    unasked: Option<Instant>,
    owed: Option<Owed>,
    /// What the peer was told last. It is never told less.
    told: u64,
    /// The end of the stream is queued, behind which nothing comes.
    ended: bool,
}

/// An answer that the peer waits for.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// All that had come when it asked.
    count: u64,
    until: Instant,
}

/// The peer acknowledges what it was not sent: this goes to it before its stream ends.
#[derive(Debug)]
pub(crate) struct TooHigh(pub(crate) bytes::Bytes);

impl Management {
    /// Of a stream that begins to count now.
    pub(crate) fn new() -> Self {
        Self::behind(0)
    }

    /// Of a stream that goes on behind the death of a process.
    pub(crate) fn of_earlier_process(handled: u32) -> Self {
        Self {
            unknown: true,
            ..Self::behind(u64::from(handled))
        }
    }

    fn behind(handled: u64) -> Self {
        Self {
            ledger: Ledger::resumed(handled),
            acknowledged: Count::ZERO,
            unknown: false,
            asked: None,
            wants_ack: false,
            unasked: None,
            owed: None,
            told: handled,
            ended: false,
        }
    }

    /// A stanza has come.
    pub(crate) fn receive(&self) -> Custody {
        self.ledger.receive()
    }

    /// What may be told to the peer as handled, modulo 2^32.
    pub(crate) fn handled(&self) -> Count {
        count(self.ledger.settled())
    }

    /// What has come at all.
    pub(crate) fn received(&self) -> Count {
        count(self.ledger.received())
    }

    /// What this side tells when it asks the peer to resume: what is settled. What else has come the
    /// peer sends again, and is known here ([`is_repeated`](Self::is_repeated)).
    pub(crate) fn offer(&self) -> Count {
        count(self.ledger.offer_settled())
    }

    /// What is told to a peer that asks to resume, while the proxy lives to deliver it: all that
    /// has come.
    pub(crate) fn grant(&mut self) -> Count {
        self.told = self.ledger.offer_received();
        count(self.told)
    }

    /// The next stanza has come before, on an earlier connection.
    pub(crate) fn is_repeated(&self) -> bool {
        self.ledger.is_repeated()
    }

    /// The peer asks.
    pub(crate) fn requested(&mut self, now: Instant) {
        // One that asks again before it is answered does not wait any longer for that.
        let patience = now + PATIENCE;
        self.owed = Some(Owed {
            count: self.ledger.received(),
            until: self.owed.map_or(patience, |owed| owed.until.min(patience)),
        });
    }

    /// The peer answers.
    ///
    /// # Errors
    /// [`TooHigh`]: its stream is to be ended.
    pub(crate) fn acknowledged(&mut self, h: Count, outbox: &mut Outbox) -> Result<(), TooHigh> {
        if std::mem::take(&mut self.unknown) {
            self.acknowledged = h;
            return Ok(());
        }
        let (written, _) = outbox.unacknowledged();
        let limit = u32::try_from(written).unwrap_or(u32::MAX);
        let Some(anew) = h.since(self.acknowledged, limit) else {
            let sent = self.acknowledged.advance(limit);
            return Err(TooHigh(handled_count_too_high(h, sent)));
        };
        self.acknowledged = h;
        self.asked = None;
        self.unasked = None;
        // Not more than is kept, as was just seen.
        let _ = outbox.acknowledged(anew as usize);
        Ok(())
    }

    /// Whether this `h` can be true.
    pub(crate) fn accepts(&self, h: Count, outbox: &Outbox) -> bool {
        let written = u32::try_from(outbox.unacknowledged().0).unwrap_or(u32::MAX);
        h.since(self.acknowledged, written).is_some()
    }

    /// Somebody waits for what the peer has.
    pub(crate) fn want_ack(&mut self) {
        self.wants_ack = true;
    }

    /// Queues what is due: an answer, a request.
    pub(crate) fn flush(&mut self, outbox: &mut Outbox, now: Instant) {
        if self.ended {
            return;
        }
        self.answer(outbox, now);
        if outbox.outstanding() == 0 {
            self.unasked = None;
            return;
        }
        if self.asked.is_some() {
            return;
        }
        let since = *self.unasked.get_or_insert(now);
        let much = outbox.is_blocked()
            || outbox.outstanding() >= ASK_STANZAS
            || outbox.unacknowledged().1 + outbox.queued() >= ASK_BYTES;
        if self.wants_ack || much || now >= since + ASK_DELAY {
            self.ask(outbox, now);
        }
    }

    /// Asks the peer.
    pub(crate) fn ask(&mut self, outbox: &mut Outbox, now: Instant) {
        self.wants_ack = false;
        self.asked.get_or_insert(now);
        outbox.push_within_window(Nonza::Request.to_bytes());
    }

    fn answer(&mut self, outbox: &mut Outbox, now: Instant) {
        let Some(owed) = &mut self.owed else { return };
        let settled = self.ledger.settled();
        let complete = settled >= owed.count;
        if !complete && now < owed.until {
            return;
        }
        // Told once what is true so far, it is told the rest when that is true.
        if complete {
            self.owed = None;
        } else {
            owed.until = now + UNANSWERED / 2;
        }
        self.tell(outbox);
    }

    fn tell(&mut self, outbox: &mut Outbox) {
        self.told = self.told.max(self.ledger.settled());
        let h = count(self.told);
        outbox.push_urgent(Nonza::Ack { h }.to_bytes());
    }

    /// The stream is about to end (XEP-0198 4): the peer is not to keep for this side what is
    /// settled. Nothing is told of it any more.
    pub(crate) fn end(&mut self, outbox: &mut Outbox) {
        if !self.ended && self.ledger.settled() > self.told {
            self.tell(outbox);
        }
        self.ended = true;
    }

    /// When [`flush`](Self::flush) or [`is_silent`](Self::is_silent) may have something new.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let owed = self.owed.map(|owed| owed.until);
        let asked = self.asked.map(|at| at + UNANSWERED);
        let unasked = self.unasked.filter(|_| self.asked.is_none());
        let ask = unasked.map(|since| since + ASK_DELAY);
        [owed, asked, ask].into_iter().flatten().min()
    }

    /// The peer was asked and does not answer.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        !self.ended && self.asked.is_some_and(|at| now >= at + UNANSWERED)
    }

    /// The peer was not listened to so far.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.asked = self.asked.map(|_| now);
    }

    /// Waits for what an answer is owed for to be settled elsewhere.
    pub(crate) fn awaited(&self) -> Option<(Arc<Ledger>, u64)> {
        let owed = self.owed.filter(|_| !self.ended);
        owed.map(|owed| (Arc::clone(&self.ledger), owed.count))
    }

    /// The connection is gone: what was asked on it is not answered.
    pub(crate) fn disconnected(&mut self) {
        self.asked = None;
        self.unasked = None;
        self.owed = None;
    }

    /// The stream goes on on another connection, from what was offered or granted last.
    pub(crate) fn go_on(&self) {
        self.ledger.go_on();
    }
}

fn count(stanzas: u64) -> Count {
    // XEP-0198 4: modulo 2^32.
    Count::new((stanzas & u64::from(u32::MAX)) as u32)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mucplex_net::Freight;

    use super::*;

    fn queued(outbox: &Outbox) -> usize {
        outbox.queued()
    }

    /// Decision 0003: an `h` is a promise.
    #[test]
    fn an_answer_waits_for_what_is_not_settled() {
        let mut management = Management::new();
        let mut outbox = Outbox::new();
        let custody = management.receive();
        let now = Instant::now();
        management.requested(now);
        management.flush(&mut outbox, now);
        assert_eq!(queued(&outbox), 0);
        // Told the truth after a while, and the rest when it is true.
        management.flush(&mut outbox, now + PATIENCE);
        assert_eq!(queued(&outbox), "<a xmlns='urn:xmpp:sm:3' h='0'/>".len());
        drop(custody);
        management.flush(&mut outbox, now + PATIENCE);
        assert_eq!(
            queued(&outbox),
            2 * "<a xmlns='urn:xmpp:sm:3' h='0'/>".len()
        );
        management.flush(&mut outbox, now + 10 * PATIENCE);
        assert_eq!(
            queued(&outbox),
            2 * "<a xmlns='urn:xmpp:sm:3' h='0'/>".len()
        );
    }

    /// XEP-0198 4: less than before could be read as more, by 2^32.
    #[test]
    fn nobody_is_told_less_than_before() {
        let mut management = Management::new();
        let mut outbox = Outbox::new();
        let custody = [management.receive(), management.receive()];
        // The client has resumed: the proxy has both, and delivers them.
        assert_eq!(management.grant(), Count::new(2));
        management.go_on();
        assert!(!management.is_repeated());
        let now = Instant::now();
        management.requested(now);
        management.flush(&mut outbox, now + PATIENCE);
        assert_eq!(queued(&outbox), "<a xmlns='urn:xmpp:sm:3' h='2'/>".len());
        drop(custody);
        // It is not told twice at the end, behind which nothing comes.
        management.end(&mut outbox);
        management.requested(now);
        management.flush(&mut outbox, now + PATIENCE);
        assert_eq!(queued(&outbox), "<a xmlns='urn:xmpp:sm:3' h='2'/>".len());
        assert!(management.deadline().is_none() && management.awaited().is_none());
    }

    /// The server may keep nothing for a client that has it.
    #[test]
    fn what_is_settled_is_told_at_the_end() {
        let mut management = Management::new();
        let mut outbox = Outbox::new();
        let [first, _second] = [management.receive(), management.receive()];
        drop(first);
        management.end(&mut outbox);
        management.end(&mut outbox);
        assert_eq!(queued(&outbox), "<a xmlns='urn:xmpp:sm:3' h='1'/>".len());
    }

    #[test]
    fn who_asks_again_does_not_wait_longer() {
        let mut management = Management::new();
        let mut outbox = Outbox::new();
        let _custody = management.receive();
        let now = Instant::now();
        management.requested(now);
        management.requested(now + PATIENCE / 2);
        management.flush(&mut outbox, now + PATIENCE);
        assert_eq!(queued(&outbox), "<a xmlns='urn:xmpp:sm:3' h='0'/>".len());
    }

    #[test]
    fn who_is_not_listened_to_is_not_silent() {
        let mut management = Management::new();
        let mut outbox = Outbox::new();
        outbox.keep_until_acknowledged();
        outbox.push_stanza(Bytes::from_static(b"<message/>"), Freight::default());
        let now = Instant::now();
        management.want_ack();
        management.flush(&mut outbox, now);
        let later = now + UNANSWERED;
        assert!(management.is_silent(later));
        management.excuse(later);
        assert!(!management.is_silent(later));
        assert_eq!(management.deadline(), Some(later + UNANSWERED));
        assert!(management.is_silent(later + UNANSWERED));
    }

    #[test]
    fn a_peer_is_asked_in_time_and_found_silent() {
        let mut management = Management::new();
        let mut outbox = Outbox::new();
        outbox.keep_until_acknowledged();
        let now = Instant::now();
        management.flush(&mut outbox, now);
        assert_eq!(management.deadline(), None);
        outbox.push_stanza(Bytes::from_static(b"<message/>"), Freight::default());
        management.flush(&mut outbox, now);
        assert_eq!(
            (queued(&outbox), management.deadline()),
            (10, Some(now + ASK_DELAY))
        );
        management.flush(&mut outbox, now + ASK_DELAY);
        assert_eq!(queued(&outbox), 10 + "<r xmlns='urn:xmpp:sm:3'/>".len());
        assert!(!management.is_silent(now + UNANSWERED));
        assert!(management.is_silent(now + ASK_DELAY + UNANSWERED));
        // More than was written cannot be acknowledged.
        assert!(management.acknowledged(Count::new(1), &mut outbox).is_err());
    }
}
