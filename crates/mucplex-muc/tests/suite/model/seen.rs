//! What a stanza from a room says to the session that is given it.

use mucplex_xml::{Frame, Kind};

use crate::ledger::{canon, nick_of};
use crate::scribe;
use crate::service::MUC_USER;

#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// `nick` of the bare room: `None`.
    Here {
        nick: Option<String>,
        own: bool,
        canon: u64,
    },
    Gone {
        nick: Option<String>,
        own: bool,
        canon: u64,
        renamed: bool,
        destroyed: bool,
        id: Option<String>,
    },
    Said {
        canon: u64,
        /// The room's delay is on it.
        past: bool,
    },
    Subject {
        canon: u64,
        empty: bool,
    },
    Notice {
        canon: u64,
    },
    Private {
        body: String,
    },
    /// An error for a message or a presence.
    Refused {
        message: bool,
        id: String,
    },
    Request {
        from: String,
        id: String,
        token: String,
    },
    Answer {
        id: String,
        token: Option<String>,
    },
}

/// The number a request carries, or an answer gives back.
pub(crate) fn token(frame: &Frame) -> Option<String> {
    let q = frame.root().child("q", "urn:test:q")?;
    q.attr("n").map(String::from)
}

pub(crate) fn read(frame: &Frame) -> Seen {
    let kind = frame.stanza_type();
    let id = || frame.id().unwrap_or_default().into_owned();
    match (frame.kind(), kind.as_deref()) {
        (Kind::Iq, Some("get" | "set")) => Seen::Request {
            from: frame.from().unwrap_or_default().into_owned(),
            id: id(),
            token: token(frame).unwrap_or_default(),
        },
        (Kind::Iq, _) => Seen::Answer {
            id: id(),
            token: token(frame),
        },
        (stanza, Some("error")) => Seen::Refused {
            message: stanza == Kind::Message,
            id: id(),
        },
        (Kind::Presence, kind) => presence(frame, kind == Some("unavailable")),
        (_, Some("groupchat")) => message(frame),
        _ => Seen::Private {
            body: text(frame, "body").unwrap_or_default(),
        },
    }
}

fn presence(frame: &Frame, gone: bool) -> Seen {
    let codes = scribe::codes(frame);
    let (nick, own, canon) = (nick_of(frame), codes.contains(&110), canon(frame));
    if !gone {
        return Seen::Here { nick, own, canon };
    }
    let x = frame.root().child("x", MUC_USER);
    Seen::Gone {
        nick,
        own,
        canon,
        renamed: codes.contains(&303),
        destroyed: x.is_some_and(|x| x.child("destroy", MUC_USER).is_some()),
        id: frame.id().map(std::borrow::Cow::into_owned),
    }
}

fn message(frame: &Frame) -> Seen {
    let canon = canon(frame);
    let body = text(frame, "body");
    match text(frame, "subject") {
        Some(subject) if body.is_none() => Seen::Subject {
            canon,
            empty: subject.is_empty(),
        },
        _ if body.is_none() => Seen::Notice { canon },
        _ => Seen::Said {
            canon,
            past: frame.root().child("delay", "urn:xmpp:delay").is_some(),
        },
    }
}

fn text(frame: &Frame, name: &str) -> Option<String> {
    let child = frame.root().child(name, "jabber:client");
    child.map(|child| child.text())
}
