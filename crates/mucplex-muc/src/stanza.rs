//! The stanzas mucplex writes itself, and the changes it makes to others'. No other module of
//! this crate writes XML text.

use bytes::Bytes;
use mucplex_xml::escape::{escape_attribute, escape_text};
use mucplex_xml::{Frame, FramingError, Kind, Limits, Patch};

use crate::identity::{OccupantJid, RoomJid};
use crate::ns;

/// A stanza error (RFC 6120 8.3): its type, its condition, and a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StanzaError {
    kind: &'static str,
    condition: &'static str,
    text: &'static str,
}

impl StanzaError {
    pub(crate) const NOT_ALLOWED: Self = Self {
        kind: "cancel",
        condition: "not-allowed",
        text: "This stream is bound already",
    };
    pub(crate) const RESOURCE_CONSTRAINT: Self = Self {
        kind: "wait",
        condition: "resource-constraint",
        text: "This session has asked for too many rooms",
    };
    pub(crate) const TOO_MANY_REQUESTS: Self = Self {
        kind: "wait",
        condition: "resource-constraint",
        text: "Too many requests in this room are without an answer",
    };
    /// XEP-0045 7.4: a message of somebody who is not in the room.
    pub(crate) const NOT_IN_ROOM: Self = Self {
        kind: "modify",
        condition: "not-acceptable",
        text: "You are not in this room",
    };
    pub(crate) const SESSION_GONE: Self = Self {
        kind: "cancel",
        condition: "service-unavailable",
        text: "This session has ended",
    };
    pub(crate) const NOBODY_THERE: Self = Self {
        kind: "cancel",
        condition: "service-unavailable",
        text: "No session of this account is in the room",
    };
    pub(crate) const UNANSWERED: Self = Self {
        kind: "cancel",
        condition: "service-unavailable",
        text: "No session of this account has answered",
    };
    pub(crate) const NO_ANSWER: Self = Self {
        kind: "wait",
        condition: "remote-server-timeout",
        text: "The room did not answer",
    };

    fn write(&self, out: &mut String, by: Option<&str>) {
        out.push_str("<error type='");
        out.push_str(self.kind);
        if let Some(by) = by {
            out.push_str("' by='");
            out.push_str(&escape_attribute(by));
        }
        out.push_str("'><");
        out.push_str(self.condition);
        out.push_str(" xmlns='");
        out.push_str(ns::STANZAS);
        out.push_str("'/><text xmlns='");
        out.push_str(ns::STANZAS);
        out.push_str("' xml:lang='en'>");
        out.push_str(&escape_text(self.text));
        out.push_str("</text></error>");
    }
}

/// The error that answers `stanza`, which came from a client: addresses swapped, same id (RFC 6120
/// 8.3.1).
pub(crate) fn error_to_client(stanza: &Frame, error: &StanzaError) -> Bytes {
    error_reply(stanza, stanza.to().as_deref(), error)
}

/// The error that answers `stanza`, which came from the server: that writes the `from` itself, and
/// knows it better.
pub(crate) fn error_to_server(stanza: &Frame, error: &StanzaError) -> Bytes {
    error_reply(stanza, None, error)
}

fn error_reply(stanza: &Frame, from: Option<&str>, error: &StanzaError) -> Bytes {
    let mut out = open(stanza_name(stanza), "error");
    attribute(&mut out, "from", from);
    attribute(&mut out, "to", stanza.from().as_deref());
    attribute(&mut out, "id", stanza.id().as_deref());
    out.push('>');
    error.write(&mut out, None);
    close(&mut out, stanza_name(stanza));
    Bytes::from(out)
}

/// The error a room sends to a session for one of its stanzas, as if the server had sent it.
pub(crate) fn error_from_room(
    name: &str,
    from: &str,
    to: &str,
    id: Option<&str>,
    error: &StanzaError,
    room: &RoomJid,
) -> Bytes {
    let mut out = open(name, "error");
    attribute(&mut out, "from", Some(from));
    attribute(&mut out, "to", Some(to));
    attribute(&mut out, "id", id);
    out.push('>');
    error.write(&mut out, Some(&room.to_string()));
    close(&mut out, name);
    Bytes::from(out)
}

/// The name of a stanza's element.
pub(crate) fn stanza_name(stanza: &Frame) -> &'static str {
    match stanza.kind() {
        Kind::Message => "message",
        Kind::Presence => "presence",
        Kind::Iq | Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => "iq",
    }
}

/// `<active/>` (XEP-0352 4).
pub(crate) fn csi_active() -> Bytes {
    Bytes::from(format!("<active xmlns='{}'/>", ns::CSI))
}

/// The answer to an attempt to enable XEP-0198 where it was not offered (XEP-0198 3).
pub(crate) fn sm_failed() -> Bytes {
    let (sm, stanzas) = (ns::SM, ns::STANZAS);
    Bytes::from(format!(
        "<failed xmlns='{sm}'><unexpected-request xmlns='{stanzas}'/></failed>"
    ))
}

/// The answer to an attempt to compress (XEP-0138 3) where it was not offered.
pub(crate) fn compression_failed() -> Bytes {
    Bytes::from(format!(
        "<failure xmlns='{}'><setup-failed/></failure>",
        ns::COMPRESS
    ))
}

/// An occupant's leaving as the server would tell it.
pub(crate) struct Unavailable<'a> {
    pub(crate) from: &'a OccupantJid,
    pub(crate) to: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) lang: Option<&'a str>,
    /// What the presence has beside the muc#user element, as XML.
    pub(crate) payload: &'a str,
    pub(crate) affiliation: &'a str,
    pub(crate) jid: Option<&'a str>,
    /// The room is no more.
    pub(crate) destroyed: bool,
    pub(crate) codes: &'a [u16],
}

impl Unavailable<'_> {
    /// XEP-0045 7.14: role none, and 110 among the codes for the one who leaves.
    pub(crate) fn write(&self) -> Bytes {
        let mut out = open("presence", "unavailable");
        attribute(&mut out, "from", Some(&self.from.to_string()));
        attribute(&mut out, "to", Some(self.to));
        attribute(&mut out, "id", self.id);
        attribute(&mut out, "xml:lang", self.lang);
        out.push('>');
        out.push_str(self.payload);
        out.push_str("<x xmlns='");
        out.push_str(ns::MUC_USER);
        out.push_str("'><item role='none'");
        attribute(&mut out, "affiliation", Some(self.affiliation));
        attribute(&mut out, "jid", self.jid);
        out.push_str("/>");
        if self.destroyed {
            out.push_str("<destroy/>");
        }
        for code in self.codes {
            out.push_str(&status(*code));
        }
        out.push_str("</x></presence>");
        Bytes::from(out)
    }
}

/// A status code of muc#user (XEP-0045 16.6.2), to stand inside the `<x/>`.
pub(crate) fn status(code: u16) -> String {
    format!("<status code='{code}'/>")
}

/// The account leaves a room: sent upstream by the proxy itself.
pub(crate) fn leave(occupant: &OccupantJid) -> Bytes {
    let mut out = open("presence", "unavailable");
    attribute(&mut out, "to", Some(&occupant.to_string()));
    out.push_str("/>");
    Bytes::from(out)
}

/// The account is in the room, and nobody of it is there.
pub(crate) fn away(occupant: &OccupantJid) -> Option<Frame> {
    let mut out = String::from("<presence");
    attribute(&mut out, "to", Some(&occupant.to_string()));
    out.push_str("><show>xa</show></presence>");
    read(Bytes::from(out)).ok()
}

/// A ping of an occupant (XEP-0199 4.3), without an id.
pub(crate) fn ping(occupant: &OccupantJid) -> Option<Frame> {
    let mut out = open("iq", "get");
    attribute(&mut out, "to", Some(&occupant.to_string()));
    out.push_str("><ping xmlns='");
    out.push_str(ns::PING);
    out.push_str("'/></iq>");
    read(Bytes::from(out)).ok()
}

/// Accepts the default configuration of a new room (XEP-0045 10.1.2), without an id.
pub(crate) fn instant_room(room: &RoomJid) -> Option<Frame> {
    let mut out = open("iq", "set");
    attribute(&mut out, "to", Some(&room.to_string()));
    out.push_str("><query xmlns='");
    out.push_str(ns::MUC_OWNER);
    out.push_str("'><x xmlns='");
    out.push_str(ns::DATA);
    out.push_str("' type='submit'/></query></iq>");
    read(Bytes::from(out)).ok()
}

/// An occupant's empty result for a session.
pub(crate) fn result_from(occupant: &OccupantJid, to: &str, id: &str) -> Bytes {
    let mut out = open("iq", "result");
    attribute(&mut out, "from", Some(&occupant.to_string()));
    attribute(&mut out, "to", Some(to));
    attribute(&mut out, "id", Some(id));
    out.push_str("/>");
    Bytes::from(out)
}

/// The result that answers a request which came from the server.
pub(crate) fn result_to_server(request: &Frame, payload: &str) -> Bytes {
    let mut out = open("iq", "result");
    attribute(&mut out, "to", request.from().as_deref());
    attribute(&mut out, "id", request.id().as_deref());
    out.push('>');
    out.push_str(payload);
    close(&mut out, "iq");
    Bytes::from(out)
}

/// What the proxy is, for those who ask while no client is there (XEP-0092).
pub(crate) fn version() -> String {
    let (version, namespace) = (env!("CARGO_PKG_VERSION"), ns::VERSION);
    format!("<query xmlns='{namespace}'><name>mucplex</name><version>{version}</version></query>")
}

/// What the proxy can do while no client is there (XEP-0030 3.1).
pub(crate) fn disco_info() -> String {
    let mut out = format!(
        "<query xmlns='{}'><identity category='client' type='bot' name='mucplex'/>",
        ns::DISCO_INFO
    );
    for feature in [ns::DISCO_INFO, ns::PING, ns::VERSION] {
        out.push_str("<feature");
        attribute(&mut out, "var", Some(feature));
        out.push_str("/>");
    }
    out.push_str("</query>");
    out
}

/// A copy of what the session `sender` has sent, for the session `to` of the same `account`
/// (XEP-0280 7). The account's JID is given as it stands in XML.
pub(crate) fn sent_carbon(sent: &Frame, account: &str, sender: &str, to: &str) -> Bytes {
    let sent = edit(sent, |patch, sent| {
        patch.set_attr(&sent.root(), "from", sender);
    });
    let mut out = String::from("<message from='");
    out.push_str(account);
    out.push('\'');
    attribute(&mut out, "to", Some(to));
    attribute(&mut out, "type", sent.stanza_type().as_deref());
    out.push_str("><sent xmlns='");
    out.push_str(ns::CARBONS);
    out.push_str("'><forwarded xmlns='");
    out.push_str(ns::FORWARD);
    out.push_str("'>");
    out.push_str(&String::from_utf8_lossy(
        &sent.declaring_client().to_bytes(),
    ));
    out.push_str("</forwarded></sent></message>");
    Bytes::from(out)
}

/// The empty subject that ends a join where the room has told none (XEP-0045 7.2.15).
pub(crate) fn empty_subject(room: &RoomJid) -> Option<Frame> {
    let mut out = open("message", "groupchat");
    attribute(&mut out, "from", Some(&room.to_string()));
    out.push_str("><subject/></message>");
    read(Bytes::from(out)).ok()
}

/// `<delay/>` of a replayed message (XEP-0203 4, XEP-0045 7.2.14).
pub(crate) fn delay(room: &RoomJid, stamp: &str) -> String {
    let mut out = String::from("<delay xmlns='");
    out.push_str(ns::DELAY);
    out.push('\'');
    attribute(&mut out, "from", Some(&room.to_string()));
    attribute(&mut out, "stamp", Some(stamp));
    out.push_str("/>");
    out
}

/// `<x xmlns='…muc'/>` with what it has to ask for.
pub(crate) fn muc_entry(password: Option<&str>, history: &str) -> String {
    let mut out = String::from("<x xmlns='");
    out.push_str(ns::MUC);
    out.push_str("'>");
    out.push_str(history);
    if let Some(password) = password {
        out.push_str("<password>");
        out.push_str(&escape_text(password));
        out.push_str("</password>");
    }
    out.push_str("</x>");
    out
}

/// `<history since='…'/>` (XEP-0045 7.2.14).
pub(crate) fn history_since(stamp: &str) -> String {
    format!("<history since='{stamp}'/>")
}

/// `<history maxstanzas='…'/>` (XEP-0045 7.2.14).
pub(crate) fn history_maxstanzas(count: usize) -> String {
    format!("<history maxstanzas='{count}'/>")
}

/// A stanza on its way upstream on another stream than the one it came on: without `from`, which
/// names the wrong session there, and with the language it had by its own stream (RFC 6120
/// 4.7.4) where the carrying stream's is another.
pub(crate) fn for_carrier(
    frame: &Frame,
    own_lang: Option<&str>,
    carrier_lang: Option<&str>,
) -> Frame {
    let names_sender = frame.from().is_some();
    let lang = own_lang.filter(|own| Some(*own) != carrier_lang && frame.lang().is_none());
    if !names_sender && lang.is_none() {
        return frame.clone();
    }
    edit(frame, |patch, frame| {
        let root = frame.root();
        patch.remove_attr(&root, "from");
        if let Some(lang) = lang {
            patch.set_attr(&root, "xml:lang", lang);
        }
    })
}

/// Whether this error has one of these conditions (RFC 6120 8.3.3).
pub(crate) fn error_is(stanza: &Frame, conditions: &[&str]) -> bool {
    let error = stanza.root().child("error", ns::CLIENT);
    error.is_some_and(|error| {
        let has = |condition: &&str| error.child(condition, ns::STANZAS).is_some();
        conditions.iter().any(has)
    })
}

/// Gives a stanza this id, or none.
pub(crate) fn set_id<'f>(patch: &mut Patch<'f>, stanza: &'f Frame, id: Option<&str>) {
    let root = stanza.root();
    match id {
        Some(id) => patch.set_attr(&root, "id", id),
        None => patch.remove_attr(&root, "id"),
    };
}

/// The same stanza under another id.
pub(crate) fn with_id(frame: &Frame, id: &str) -> Frame {
    edit(frame, |patch, frame| {
        patch.set_attr(&frame.root(), "id", id);
    })
}

/// Makes changes to a frame. Splices of well-formed XML into a well-formed frame stay
/// well-formed; should one not, the frame goes on unchanged, and debug builds stop.
pub(crate) fn edit<'f>(frame: &'f Frame, change: impl FnOnce(&mut Patch<'f>, &'f Frame)) -> Frame {
    let mut patch = frame.patch();
    change(&mut patch, frame);
    match read(patch.finish()) {
        Ok(edited) => edited,
        Err(error) => {
            debug_assert!(false, "a splice broke a frame: {error}");
            frame.clone()
        }
    }
}

/// Reads a stanza of our own making, which may be longer than what a peer may send.
pub(crate) fn read(bytes: Bytes) -> Result<Frame, FramingError> {
    let limits = Limits {
        stanza_bytes: usize::MAX,
        depth: 1024,
        attributes: 1024,
        name_bytes: 65_536,
        unbound_prefixes: true,
    };
    Frame::parse(bytes, &limits)
}

fn open(name: &str, kind: &str) -> String {
    let mut out = String::with_capacity(256);
    out.push('<');
    out.push_str(name);
    attribute(&mut out, "type", Some(kind));
    out
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn attribute(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push(' ');
        out.push_str(name);
        out.push_str("='");
        out.push_str(&escape_attribute(value));
        out.push('\'');
    }
}
