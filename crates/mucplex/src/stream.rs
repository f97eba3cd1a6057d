//! One stream of a session or an anchor: its connection, while it has one, what waits for the
//! peer, and stream management.

use std::{
    future::{pending, poll_fn},
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use mucplex_net::{Connection, Custody, Freight, Ledger, Outbox};
use mucplex_stream::{
    sm::{Count, Nonza, is_counted},
    stream_end,
};
use mucplex_xml::{Event, Frame, FramingError, Outgoing};
use tokio::time::Instant;

use crate::management::{Management, TooHigh};

/// A stream, which may outlive its connection (XEP-0198 5).
#[derive(Debug)]
pub(crate) struct Stream {
    line: Line,
    management: Option<Management>,
}

#[derive(Debug)]
enum Line {
    Open(Connection),
    /// The connection is gone; what the peer does not have waits for the next one.
    Cut(Outbox),
}

impl Stream {
    /// A stream without stream management so far.
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            line: Line::Open(connection),
            management: None,
        }
    }

    /// A stream of an earlier process, cut: so many of the peer's stanzas were handled. What that
    /// process had queued is gone with it.
    pub(crate) fn of_earlier_process(handled: u32) -> Self {
        let mut outbox = Outbox::new();
        outbox.keep_until_acknowledged();
        Self {
            line: Line::Cut(outbox),
            management: Some(Management::of_earlier_process(handled)),
        }
    }

    /// Begins to count. In the client's role the peer counts what is queued from now on, and is
    /// counted when it has agreed ([`counts_peer`](Self::counts_peer)).
    pub(crate) fn keep_until_acknowledged(&mut self) {
        self.outbox_mut().keep_until_acknowledged();
    }

    /// The peer's stanzas count from now on.
    pub(crate) fn counts_peer(&mut self, management: Management) {
        self.management = Some(management);
    }

    /// The peer does not count after all.
    pub(crate) fn stop_keeping(&mut self) {
        self.outbox_mut().stop_keeping();
    }

    pub(crate) fn management(&self) -> Option<&Management> {
        self.management.as_ref()
    }

    /// What may be told to the peer as handled.
    pub(crate) fn handled(&self) -> Count {
        self.management
            .as_ref()
            .map_or(Count::ZERO, Management::handled)
    }

    /// What has come from the peer.
    pub(crate) fn received(&self) -> Count {
        self.management
            .as_ref()
            .map_or(Count::ZERO, Management::received)
    }

    /// What is told to the peer so that it resumes the stream ([`Management::offer`]).
    pub(crate) fn offer(&self) -> Count {
        self.management
            .as_ref()
            .map_or(Count::ZERO, Management::offer)
    }

    /// What is told to the peer that resumes it ([`Management::grant`]).
    pub(crate) fn grant(&mut self) -> Count {
        self.management
            .as_mut()
            .map_or(Count::ZERO, Management::grant)
    }

    pub(crate) fn is_cut(&self) -> bool {
        matches!(self.line, Line::Cut(_))
    }

    /// Drops the connection without a word.
    pub(crate) fn cut(&mut self) {
        drop(self.displace());
    }

    /// The same, and gives the connection if there is one and a last word can be said on it.
    pub(crate) fn displace(&mut self) -> Option<Connection> {
        if let Some(management) = &mut self.management {
            management.disconnected();
        }
        match std::mem::replace(&mut self.line, Line::Cut(Outbox::new())) {
            Line::Open(connection) => {
                let (outbox, connection) = connection.displace();
                self.line = Line::Cut(outbox);
                connection
            }
            cut @ Line::Cut(_) => {
                self.line = cut;
                None
            }
        }
    }

    /// The stream goes on on another connection, whose peer has handled `h`. What is queued there
    /// goes first.
    ///
    /// # Errors
    /// [`TooHigh`]: so much was not sent. Nothing has changed but that the stream is cut.
    pub(crate) fn resume(&mut self, mut connection: Connection, h: Count) -> Result<(), TooHigh> {
        self.cut();
        if let (Some(management), Line::Cut(outbox)) = (&mut self.management, &mut self.line) {
            management.acknowledged(h, outbox)?;
            management.go_on();
        }
        if let Line::Cut(outbox) = &mut self.line {
            connection.resume(std::mem::take(outbox));
        }
        self.line = Line::Open(connection);
        Ok(())
    }

    /// Whether a peer that has handled `h` can be served on.
    pub(crate) fn can_resume(&self, h: Count) -> bool {
        self.management
            .as_ref()
            .is_some_and(|management| management.accepts(h, self.outbox()))
    }

    /// Queues the end of the stream: what is handled, `error` if there is one, and the closing tag.
    pub(crate) fn end(&mut self, error: Option<Bytes>) {
        let Line::Open(connection) = &mut self.line else {
            return;
        };
        let outbox = connection.outbox_mut();
        if let Some(management) = &mut self.management {
            management.end(outbox);
        }
        if let Some(error) = error {
            outbox.push(error);
        }
        outbox.push(stream_end());
    }

    /// Drops the connection without a word; gives what the peer does not have.
    pub(crate) fn into_outbox(mut self) -> Outbox {
        self.cut();
        std::mem::take(self.outbox_mut())
    }

    /// Ends the connection within `patience`; gives what the peer does not have, or has not
    /// acknowledged.
    pub(crate) async fn close(self, patience: Duration) -> Outbox {
        match self.line {
            Line::Open(connection) => connection.close(patience).await,
            Line::Cut(outbox) => outbox,
        }
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        match &self.line {
            Line::Open(connection) => connection.outbox(),
            Line::Cut(outbox) => outbox,
        }
    }

    pub(crate) fn outbox_mut(&mut self) -> &mut Outbox {
        match &mut self.line {
            Line::Open(connection) => connection.outbox_mut(),
            Line::Cut(outbox) => outbox,
        }
    }

    /// Queues what does not count. Meant for this connection, it is lost with it.
    pub(crate) fn push(&mut self, piece: impl Into<Outgoing>) {
        if let Line::Open(connection) = &mut self.line {
            connection.outbox_mut().push(piece);
        }
    }

    /// Queues a frame as it came, whether it counts or not.
    pub(crate) fn push_frame(&mut self, frame: &Frame, freight: Freight) {
        if is_counted(frame) {
            self.outbox_mut().push_stanza(frame, freight);
        } else {
            self.outbox_mut().push_with(frame, freight);
        }
    }

    /// The next thing that was read. Nonzas of stream management that belong to a stream which
    /// counts are dealt with here.
    ///
    /// A stanza that the peer sends again behind a resumption, though it has come before, is not
    /// given again.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, FramingError> {
        let Line::Open(connection) = &mut self.line else {
            return Ok(None);
        };
        loop {
            let event = connection.framer_mut().next_event()?;
            match (&event, &self.management) {
                (Some(Event::Frame(frame)), Some(management))
                    if is_counted(frame) && management.is_repeated() => {}
                _ => return Ok(event),
            }
        }
    }

    /// A stanza of the peer, if those count.
    pub(crate) fn receive(&self, frame: &Frame) -> Option<Custody> {
        let management = self.management.as_ref()?;
        is_counted(frame).then(|| management.receive())
    }

    /// The peer asks what is handled, or tells it. `None` if that has no meaning here.
    pub(crate) fn count(&mut self, nonza: &Nonza, now: Instant) -> Option<Result<(), TooHigh>> {
        let management = self.management.as_mut()?;
        let outbox = match &mut self.line {
            Line::Open(connection) => connection.outbox_mut(),
            Line::Cut(outbox) => outbox,
        };
        match nonza {
            Nonza::Request => {
                management.requested(now);
                Some(Ok(()))
            }
            Nonza::Ack { h } => Some(management.acknowledged(*h, outbox)),
            Nonza::Enable { .. }
            | Nonza::Enabled { .. }
            | Nonza::Resume { .. }
            | Nonza::Resumed { .. }
            | Nonza::Failed { .. } => None,
        }
    }

    /// Somebody waits for what the peer has.
    pub(crate) fn want_ack(&mut self) {
        if let Some(management) = &mut self.management {
            management.want_ack();
        }
    }

    /// Queues the answers and requests that are due.
    pub(crate) fn flush_counts(&mut self, now: Instant) {
        if let (Some(management), Line::Open(connection)) = (&mut self.management, &mut self.line) {
            management.flush(connection.outbox_mut(), now);
        }
    }

    /// When [`flush_counts`](Self::flush_counts) has more, or the peer [is silent](Self::is_silent).
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (&self.management, &self.line) {
            (Some(management), Line::Open(_)) => management.deadline(),
            (Some(_), Line::Cut(_)) | (None, _) => None,
        }
    }

    /// The peer does not answer.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        let silent = |management: &Management| management.is_silent(now);
        !self.is_cut() && self.management.as_ref().is_some_and(silent)
    }

    /// The peer was not listened to, whatever it may have answered.
    pub(crate) fn excuse(&mut self, now: Instant) {
        if let Some(management) = &mut self.management {
            management.excuse(now);
        }
    }

    /// What has to be settled, maybe elsewhere, before the peer gets an answer that it waits for.
    pub(crate) fn awaited(&self) -> Option<(Arc<Ledger>, u64)> {
        self.management.as_ref()?.awaited()
    }

    /// Asks the peer, whether there is anything to ask for or not: a silent one is to show that it
    /// is there.
    pub(crate) fn ask_now(&mut self, now: Instant) {
        if let (Some(management), Line::Open(connection)) = (&mut self.management, &mut self.line) {
            management.ask(connection.outbox_mut(), now);
        }
    }

    /// Writes all that is queued.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// As [`Connection::poll_read`]; a stream that is cut reads nothing.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.line {
            Line::Open(connection) => connection.poll_read(cx),
            Line::Cut(_) => Poll::Pending,
        }
    }

    /// As [`Connection::poll_write`]; for a stream that is cut everything waits.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.line {
            Line::Open(connection) => connection.poll_write(cx),
            Line::Cut(_) => Poll::Pending,
        }
    }
}

/// Waits for what a peer is to be told as handled, if it waits for anything.
pub(crate) async fn settled(awaited: Option<(Arc<Ledger>, u64)>) {
    match awaited {
        Some((ledger, count)) => ledger.settles(count).await,
        None => pending().await,
    }
}
