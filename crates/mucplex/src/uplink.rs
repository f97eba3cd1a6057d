//! A stream to the server, whoever it is for: a session, or the account as its anchor.

use std::time::Duration;

use jid::FullJid;
use mucplex_net::{Connection, Freight};
use mucplex_stream::{
    Authenticated, ContentNamespace,
    anchor_login::Established,
    sm::{Count, Nonza, SmFault, SmState},
};
use mucplex_xml::{Frame, Limits, Outgoing, StreamErrorCondition};
use tokio::time::Instant;

use crate::{
    management::{Management, TooHigh},
    stream::Stream,
};

/// What may be on its way to a server at once. A server that slows its clients down (behaviour 67)
/// stops reading, and some megabytes fit into the buffers on the way: an `<a/>` that it waits for
/// would come behind all of that.
const WINDOW: usize = 32 * 1024;
/// How long the connection's last bytes may take.
const CLOSING: Duration = Duration::from_secs(5);

/// A bound stream to the server, with what was agreed on it.
#[derive(Debug)]
pub(crate) struct Uplink {
    pub(crate) stream: Stream,
    /// The JID the server has bound.
    pub(crate) jid: FullJid,
    /// Index of its domain.
    pub(crate) domain: usize,
    /// Default language of what is sent on it (RFC 6120 4.7.4).
    pub(crate) lang: Option<String>,
    /// How the stream declares `jabber:client`.
    content: ContentNamespace,
    /// The server was asked to count.
    asked_to_count: bool,
    /// How the server's stream can be resumed.
    resumable: Option<SmState>,
}

/// The server's stream cannot be read on; it gets these bytes.
#[derive(Debug)]
pub(crate) struct Garbled(pub(crate) bytes::Bytes);

impl Uplink {
    /// An uplink that was bound just now to `jid`, by a login or behind one, before anything else
    /// is sent on it. The server is asked to count if it can (XEP-0198 3).
    pub(crate) fn bound(connection: Connection, jid: FullJid, login: &Authenticated) -> Self {
        let mut stream = Stream::new(connection);
        if login.server_sm {
            let (resume, max) = (true, None);
            stream.push(Nonza::Enable { resume, max }.to_bytes());
            stream.keep_until_acknowledged();
            stream.outbox_mut().set_window(Some(WINDOW));
        }
        Self {
            stream,
            jid,
            domain: login.domain,
            lang: login.client_lang.clone(),
            content: login.content,
            asked_to_count: login.server_sm,
            resumable: None,
        }
    }

    /// An uplink that the proxy has logged in itself, and what came on it too early to count.
    pub(crate) fn established(
        connection: Connection,
        established: Established,
        domain: usize,
    ) -> (Self, Vec<Frame>) {
        let mut stream = Stream::new(connection);
        if established.sm_enabled {
            stream.keep_until_acknowledged();
            stream.outbox_mut().set_window(Some(WINDOW));
            stream.counts_peer(Management::new());
        }
        let uplink = Self {
            stream,
            jid: established.jid,
            domain,
            lang: None,
            content: ContentNamespace::Default,
            asked_to_count: established.sm_enabled,
            resumable: established.sm,
        };
        (uplink, established.early)
    }

    /// The uplink of an earlier process, cut: with the stream that the server may still keep, and
    /// how much of it was handled.
    pub(crate) fn of_earlier_process(
        jid: FullJid,
        domain: usize,
        stream: Option<(SmState, u32)>,
    ) -> Self {
        let (resumable, handled) = stream.unzip();
        Self {
            stream: Stream::of_earlier_process(handled.unwrap_or_default()),
            jid,
            domain,
            lang: None,
            content: ContentNamespace::Default,
            asked_to_count: true,
            resumable,
        }
    }

    /// How the server's stream goes on now that its connection is cut, and what the server is told
    /// as handled.
    pub(crate) fn resumption(&self) -> Option<(&SmState, Count)> {
        let state = self.resumable.as_ref()?;
        Some((state, self.stream.offer()))
    }

    /// The server's stream goes on on another connection, which came of this login.
    ///
    /// # Errors
    /// [`TooHigh`]: the server has what it was not sent.
    pub(crate) fn resume(
        &mut self,
        connection: Connection,
        h: Count,
        login: &Authenticated,
    ) -> Result<(), TooHigh> {
        self.lang.clone_from(&login.client_lang);
        self.content = login.content;
        self.stream.resume(connection, h)
    }

    pub(crate) fn is_resumable(&self) -> bool {
        self.resumable.is_some()
    }

    /// The server has ended its stream: it does not go on anywhere.
    pub(crate) fn has_ended(&mut self) {
        self.resumable = None;
    }

    /// Ends the stream and the connection.
    pub(crate) async fn close(mut self) {
        self.stream.end(None);
        self.stream.close(CLOSING).await;
    }

    /// Queues what the proxy or another session has written: it takes `jabber:client` for the
    /// default namespace, which it is on nearly every stream.
    pub(crate) fn queue(&mut self, stanza: impl Into<Outgoing>, freight: Freight, limits: &Limits) {
        let mut stanza = stanza.into();
        if self.content != ContentNamespace::Default
            && let Ok(frame) = Frame::parse(stanza.to_bytes(), limits)
        {
            stanza = frame.declaring_client();
        }
        if freight.custody.is_some() {
            // A client may be waiting for it, on another stream than this.
            self.stream.want_ack();
        }
        self.stream.outbox_mut().push_stanza(stanza, freight);
    }

    /// Stream management of the server, if that is what the frame is; `None` if it is not.
    pub(crate) fn counts(&mut self, frame: &Frame) -> Option<Result<Counted, Garbled>> {
        let nonza = Nonza::read(frame).filter(|_| self.asked_to_count)?;
        Some(self.counted(nonza))
    }

    fn counted(&mut self, nonza: Result<Nonza, SmFault>) -> Result<Counted, Garbled> {
        let garbled = |condition: StreamErrorCondition| Garbled(condition.to_xml(None));
        let nonza = nonza.map_err(|_| garbled(StreamErrorCondition::BadFormat))?;
        match nonza {
            Nonza::Enabled {
                id,
                resume,
                location,
                max,
            } => {
                self.stream.counts_peer(Management::new());
                // A client may have asked before that.
                self.stream.want_ack();
                let id = id.filter(|_| resume);
                self.resumable = id.map(|id| SmState { id, location, max });
                return Ok(Counted::Begun);
            }
            Nonza::Failed { .. } => {
                self.stream.stop_keeping();
                return Ok(Counted::Done);
            }
            Nonza::Request
            | Nonza::Ack { .. }
            | Nonza::Enable { .. }
            | Nonza::Resume { .. }
            | Nonza::Resumed { .. } => {}
        }
        match self.stream.count(&nonza, Instant::now()) {
            Some(Ok(())) if nonza == Nonza::Request => Ok(Counted::Asks),
            Some(Ok(())) => Ok(Counted::Done),
            Some(Err(TooHigh(error))) => Err(Garbled(error)),
            None => Err(garbled(StreamErrorCondition::UnsupportedStanzaType)),
        }
    }
}

/// What a nonza of stream management was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// The server counts from now on.
    Begun,
    /// Dealt with.
    Done,
    /// The server asks what is handled.
    Asks,
}
