//! Stream management (XEP-0198) on the client's side of one stream, and the record of what a
//! device has received on all of its connections.

use std::collections::VecDeque;

use crate::xml::{Incoming, NS_CLIENT, NS_SM, Stanza, StreamReader};

/// What a client does with `<r/>` (XEP-0198 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    /// Answers with the number of stanzas it has read.
    #[default]
    Always,
    /// Answers with the `h` it has told last: it is there, and has handled nothing more.
    Unchanged,
    /// Says nothing, except what [`Device::ack`](super::Device::ack) says.
    Never,
}

/// A stanza that a device has received.
#[derive(Debug, Clone)]
pub struct Received {
    /// On which of its connections, from 0.
    pub connection: usize,
    /// The stanza.
    pub stanza: Stanza,
}

/// The counters and queues of one client, which go from one connection to the next.
#[derive(Debug)]
pub(super) struct Management {
    /// Everything received since the first connection, stanzas only.
    pub(super) received: Vec<Received>,
    /// The connection that is being read.
    pub(super) connection: usize,
    pub(super) answers: Answers,
    /// Stanzas read since `<enabled/>`, modulo 2^32; `None` while it is not enabled.
    inbound: Option<u32>,
    /// The last `h` that was sent.
    told: u32,
    /// How many of this side's stanzas the peer has handled.
    acked: u32,
    /// This side's stanzas that the peer has not acknowledged, oldest first.
    unacked: VecDeque<Stanza>,
    /// Finds the stanzas in what is sent; `None` before `<enable/>`.
    sent: Option<StreamReader>,
    /// `<r/>` that have come and were not answered.
    pub(super) unanswered: u32,
}

/// What management does with an element of the stream.
pub(super) enum Taken {
    /// It belongs to the script.
    Given,
    /// It was an `<a/>` or an `<r/>`.
    Nonza {
        /// What to send now, if anything.
        answer: Option<String>,
        /// Whether it was an `<a/>`.
        ack: bool,
    },
}

impl Management {
    pub(super) fn new() -> Self {
        Self {
            received: Vec::new(),
            connection: 0,
            answers: Answers::Always,
            inbound: None,
            told: 0,
            acked: 0,
            unacked: VecDeque::new(),
            sent: None,
            unanswered: 0,
        }
    }

    /// `<enable/>` is about to be sent: what is sent behind it counts (XEP-0198 4).
    pub(super) fn enable(&mut self) {
        self.acked = 0;
        self.unacked.clear();
        self.unanswered = 0;
        self.begin_sending();
    }

    /// `<enabled/>` has come: what comes behind it counts.
    pub(super) fn enabled(&mut self) {
        (self.inbound, self.told) = (Some(0), 0);
    }

    /// The stream is over and not resumed: what is sent from now on does not count.
    pub(super) fn disable(&mut self) {
        (self.inbound, self.sent) = (None, None);
    }

    /// `<resumed h/>` has come for a `<resume/>` with `told`; gives what has to be sent again.
    pub(super) fn resumed(&mut self, told: u32, h: Option<u32>) -> Vec<Stanza> {
        (self.inbound, self.told) = (Some(told), told);
        self.unanswered = 0;
        self.take_ack(h);
        // What was cut off in the middle of a stanza belongs to the old connection.
        self.begin_sending();
        self.unacked.iter().cloned().collect()
    }

    fn begin_sending(&mut self) {
        let mut reader = StreamReader::new();
        reader.feed(format!("<s:s xmlns:s='urn:kit' xmlns='{NS_CLIENT}'>").as_bytes());
        self.sent = Some(reader);
    }

    /// Notes what is sent.
    pub(super) fn sending(&mut self, data: &[u8]) {
        let Some(reader) = &mut self.sent else { return };
        reader.feed(data);
        loop {
            match reader.next_item() {
                Ok(Some(Incoming::Stanza(stanza))) if is_stanza(&stanza) => {
                    self.unacked.push_back(stanza);
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                // A script may send what is not well-formed; nothing counts behind it.
                Err(_) => {
                    self.sent = None;
                    return;
                }
            }
        }
    }

    /// Notes an element that has been read.
    pub(super) fn take(&mut self, element: &Stanza) -> Taken {
        if is_stanza(element) {
            self.inbound = self.inbound.map(|count| count.wrapping_add(1));
            self.received.push(Received {
                connection: self.connection,
                stanza: element.clone(),
            });
            return Taken::Given;
        }
        if element.is("a", NS_SM) {
            self.take_ack(element.attr("h").and_then(|h| h.parse().ok()));
            return Taken::Nonza {
                answer: None,
                ack: true,
            };
        }
        if element.is("r", NS_SM) {
            let answer = match self.answers {
                Answers::Always => Some(self.ack()),
                Answers::Unchanged => Some(ack(self.told)),
                Answers::Never => {
                    self.unanswered += 1;
                    None
                }
            };
            return Taken::Nonza { answer, ack: false };
        }
        Taken::Given
    }

    /// The `<a/>` that acknowledges all that was read.
    pub(super) fn ack(&mut self) -> String {
        self.told = self.inbound();
        self.unanswered = 0;
        ack(self.told)
    }

    fn take_ack(&mut self, h: Option<u32>) {
        let Some(h) = h else { return };
        let count = h.wrapping_sub(self.acked) as usize;
        self.acked = h;
        // Whoever acknowledges more than was sent is found by the script, in `acked`.
        self.unacked.drain(..count.min(self.unacked.len()));
    }

    /// Stanzas read since `<enabled/>`.
    pub(super) fn inbound(&self) -> u32 {
        self.inbound.unwrap_or_default()
    }

    /// The last `h` that was told.
    pub(super) fn told(&self) -> u32 {
        self.told
    }

    /// The last `h` of the peer.
    pub(super) fn acked(&self) -> u32 {
        self.acked
    }

    pub(super) fn unacked(&self) -> impl ExactSizeIterator<Item = &Stanza> {
        self.unacked.iter()
    }
}

/// What is sent to acknowledge `h` stanzas.
pub(super) fn ack(h: u32) -> String {
    format!("<a xmlns='{NS_SM}' h='{h}'/>")
}

/// Whether it is one of the three that XEP-0198 counts.
fn is_stanza(element: &Stanza) -> bool {
    ["message", "presence", "iq"]
        .iter()
        .any(|name| element.is(*name, NS_CLIENT))
}
