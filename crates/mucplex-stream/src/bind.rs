//! Resource binding as the proxy sees it pass (RFC 6120 7).

use bytes::Bytes;
use jid::FullJid;
use mucplex_xml::{
    Frame, Kind,
    escape::{escape_attribute, escape_text},
};

use crate::ns;

/// Whether a client's frame asks for a resource.
#[must_use]
pub fn is_request(frame: &Frame) -> bool {
    frame.kind() == Kind::Iq
        && frame.stanza_type().as_deref() == Some("set")
        && frame.root().child("bind", ns::BIND).is_some()
}

/// The resource a client's request asks for, as it is written; `None` leaves it to the server.
#[must_use]
pub fn requested_resource(request: &Frame) -> Option<String> {
    let bind = request.root().child("bind", ns::BIND)?;
    let resource = bind.child("resource", ns::BIND)?.text();
    (!resource.is_empty()).then_some(resource)
}

/// The answer to a client's request, as servers write it (RFC 6120 7.6.1). For a stream whose
/// default namespace is `jabber:client`.
#[must_use]
pub fn result(id: Option<&str>, jid: &FullJid) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!(" id='{}'", escape_attribute(id)));
    Bytes::from(format!(
        "<iq type='result'{id}><bind xmlns='{}'><jid>{}</jid></bind></iq>",
        ns::BIND,
        escape_text(jid.as_str())
    ))
}

/// A request of our own; without `resource` the server chooses (RFC 6120 7.6, 7.7). It says its
/// namespace itself, so it can stand on any stream.
#[must_use]
pub fn request(id: &str, resource: Option<&str>) -> Bytes {
    let id = escape_attribute(id);
    let resource = resource.map_or_else(String::new, |resource| {
        format!("<resource>{}</resource>", escape_text(resource))
    });
    Bytes::from(format!(
        "<iq xmlns='{}' type='set' id='{id}'><bind xmlns='{}'>{resource}</bind></iq>",
        ns::CLIENT,
        ns::BIND
    ))
}

/// Where binding is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// Not asked for, or refused by the server.
    #[default]
    Idle,
    /// Asked for under this id. Ids are the client's free text, and may be missing.
    Outstanding {
        /// The request's `id`, decoded.
        id: Option<String>,
    },
}

/// What a server's frame means for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No session yet: another stanza, or a refusal.
    Unbound(Bind),
    /// The stream is bound to this JID.
    Bound(FullJid),
}

/// The server bound a session the proxy cannot go on with. Fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindFault {
    /// A bind result nobody asked for.
    #[error("the server's bind result answers nothing")]
    Unasked,
    /// The result holds no full JID (RFC 6120 7.6.1).
    #[error("the server's bind result holds no full JID")]
    NoJid,
    /// The JID is of another domain than the stream.
    #[error("the server bound a JID of another domain")]
    Domain,
}

impl Bind {
    /// After the request `frame` was passed on.
    #[must_use]
    pub fn requested(frame: &Frame) -> Self {
        Self::Outstanding {
            id: frame.id().map(Into::into),
        }
    }

    /// After our own [`request`] under `id`.
    #[must_use]
    pub fn requested_as(id: &str) -> Self {
        Self::Outstanding {
            id: Some(id.to_owned()),
        }
    }

    /// Whether the server has to answer first: what the client sent behind the request belongs
    /// to the session.
    #[must_use]
    pub const fn awaits_server(&self) -> bool {
        match self {
            Self::Outstanding { .. } => true,
            Self::Idle => false,
        }
    }

    /// Looks at a server's frame, which passes to the client unless there is a fault.
    ///
    /// # Errors
    /// [`BindFault`] when the stream is bound in a way it must not be.
    pub fn server(self, frame: &Frame, domain: &str) -> Result<Answer, BindFault> {
        if frame.kind() != Kind::Iq {
            return Ok(Answer::Unbound(self));
        }
        let stanza_type = frame.stanza_type();
        let binds = || frame.root().child("bind", ns::BIND).is_some();
        match (self, stanza_type.as_deref()) {
            (Self::Outstanding { id }, Some("result"))
                if id.as_deref() == frame.id().as_deref() =>
            {
                bound_jid(frame, domain).map(Answer::Bound)
            }
            (Self::Outstanding { id }, Some("error")) if id.as_deref() == frame.id().as_deref() => {
                Ok(Answer::Unbound(Self::Idle))
            }
            (Self::Idle | Self::Outstanding { .. }, Some("result")) if binds() => {
                Err(BindFault::Unasked)
            }
            (state, _) => Ok(Answer::Unbound(state)),
        }
    }
}

fn bound_jid(result: &Frame, domain: &str) -> Result<FullJid, BindFault> {
    let bind = result
        .root()
        .child("bind", ns::BIND)
        .ok_or(BindFault::NoJid)?;
    let jid = bind.child("jid", ns::BIND).ok_or(BindFault::NoJid)?;
    let jid = FullJid::new(jid.text().trim()).map_err(|_| BindFault::NoJid)?;
    if jid.domain().as_str() == domain {
        Ok(jid)
    } else {
        Err(BindFault::Domain)
    }
}
