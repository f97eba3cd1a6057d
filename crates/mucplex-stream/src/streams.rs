//! The two streams of a login as far as writing goes: which one is open, what was queued for it,
//! and how each is ended.

use std::collections::VecDeque;

use bytes::Bytes;
use jid::BareJid;
use mucplex_xml::StreamHeader;

use crate::{
    DomainSettings, Output,
    error::Farewell,
    header::{self, ContentNamespace, HeaderFields, opening, stream_end},
};

/// What was written to one side of the current stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// No header yet.
    Silent,
    /// A header.
    Open,
    /// The end tag, or nobody is there.
    Ended,
}

/// Outputs on their way out, and what they add up to.
#[derive(Debug)]
pub(crate) struct Streams {
    outputs: VecDeque<Output>,
    client: Side,
    server: Side,
    stream_id: String,
    /// Headers written by the proxy itself; ids must differ (RFC 6120 4.7.3).
    own_headers: usize,
    /// `from` of the own header.
    asked: String,
    /// `to` of the own header.
    asker: Option<String>,
}

impl Streams {
    pub(crate) fn new(stream_id: String) -> Self {
        Self {
            outputs: VecDeque::new(),
            client: Side::Silent,
            server: Side::Silent,
            stream_id,
            own_headers: 0,
            asked: String::new(),
            asker: None,
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn send_client(&mut self, bytes: Bytes) {
        self.push(Output::ToClient(bytes));
    }

    pub(crate) fn send_server(&mut self, bytes: Bytes) {
        self.push(Output::ToServer(bytes));
    }

    /// The client's header came: an answer of our own is addressed by it.
    pub(crate) fn client_asked(&mut self, header: &StreamHeader, domains: &[DomainSettings]) {
        // RFC 6120 4.9.1.3: from an unknown domain there is no answer, so it comes from ''.
        let domain = header::served(header, domains).and_then(|index| domains.get(index));
        self.asked = domain.map_or_else(String::new, |domain| domain.name.clone());
        // RFC 6120 4.7.2: `to` is the bare JID the client said it is, if it did.
        let from = header.from().and_then(|from| from.parse::<jid::Jid>().ok());
        self.asker = from.map(|from| BareJid::to_string(&from.to_bare()));
    }

    /// The id of a request of ours on the uplink: no other request there has it, unless its client
    /// wants to harm itself.
    pub(crate) fn request_id(&self) -> String {
        format!("{}-bind", self.stream_id)
    }

    /// The header of our own, unless one was sent on this stream.
    pub(crate) fn own_header(&mut self) {
        match self.client {
            Side::Open | Side::Ended => {}
            Side::Silent => {
                self.own_headers += 1;
                let id = match self.own_headers {
                    1 => self.stream_id.clone(),
                    number => format!("{}-{number}", self.stream_id),
                };
                let header = opening(&HeaderFields {
                    from: Some(&self.asked),
                    to: self.asker.as_deref(),
                    id: Some(&id),
                    lang: Some("en"),
                    content: ContentNamespace::Default,
                    declarations: &[],
                });
                self.client = Side::Open;
                self.send_client(header);
            }
        }
    }

    /// Whether the client has a header, the server's or ours.
    pub(crate) fn client_has_header(&self) -> bool {
        self.client == Side::Open
    }

    /// The server's header answers the client's.
    pub(crate) fn relay_header(&mut self, header: &StreamHeader) {
        self.client = Side::Open;
        self.send_client(header::relayed(header));
    }

    /// An initial header for the server.
    pub(crate) fn open_server(&mut self, header: Bytes) {
        self.server = Side::Open;
        self.send_server(header);
    }

    pub(crate) fn secure_client(&mut self, domain: usize) {
        self.client = Side::Silent;
        self.push(Output::SecureClient { domain });
    }

    pub(crate) fn secure_uplink(&mut self) {
        self.server = Side::Silent;
        self.push(Output::SecureUplink);
    }

    pub(crate) fn restart_client(&mut self) {
        self.client = Side::Silent;
        self.push(Output::RestartClient);
    }

    pub(crate) fn restart_server(&mut self) {
        self.server = Side::Silent;
        self.push(Output::RestartServer);
    }

    /// RFC 6120 4.9.1.2: an error before there is a header comes behind one.
    pub(crate) fn end_client(&mut self, farewell: Farewell) {
        match (self.client, farewell) {
            (Side::Ended, _) | (_, Farewell::Silence) | (Side::Silent, Farewell::End) => {}
            (Side::Open, Farewell::End) => self.send_client(stream_end()),
            (Side::Silent | Side::Open, Farewell::Error(condition, text)) => {
                self.own_header();
                self.send_client(condition.to_xml(text));
                self.send_client(stream_end());
            }
        }
        self.client = Side::Ended;
    }

    /// Towards the server nothing is said on a stream that we have not opened.
    pub(crate) fn end_server(&mut self, farewell: Farewell) {
        match (self.server, farewell) {
            (Side::Ended | Side::Silent, _) | (_, Farewell::Silence) => {}
            (Side::Open, Farewell::End) => self.send_server(stream_end()),
            (Side::Open, Farewell::Error(condition, text)) => {
                self.send_server(condition.to_xml(text));
                self.send_server(stream_end());
            }
        }
        self.server = Side::Ended;
    }
}
