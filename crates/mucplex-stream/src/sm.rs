//! Stream management (XEP-0198): its nonzas, and the arithmetic of `h`.
//!
//! Both roles use it: towards clients the proxy is the server of these, towards servers the
//! client. Who counts, and what is acknowledged when, is the shell's.

use std::fmt;

use bytes::Bytes;
use mucplex_xml::{
    Frame, Kind,
    escape::{escape_attribute, escape_text},
};

use crate::{conditions, ns};

/// Whether a frame is one that both sides count: a stanza, and nothing else (XEP-0198 4).
#[must_use]
pub fn is_counted(frame: &Frame) -> bool {
    match frame.kind() {
        Kind::Message | Kind::Presence | Kind::Iq => true,
        Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => false,
    }
}

/// A number of stanzas since stream management began, modulo 2^32 (XEP-0198 4): `h`, or what was
/// sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Count(u32);

impl Count {
    /// Where both sides begin.
    pub const ZERO: Self = Self(0);

    /// A count as it was sent or kept.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The value of `h`.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The count `stanzas` later: behind 2^32 - 1 comes zero.
    #[must_use]
    pub const fn advance(self, stanzas: u32) -> Self {
        Self(self.0.wrapping_add(stanzas))
    }

    /// How many stanzas this `h` of a peer acknowledges anew, where it acknowledged `acked` before
    /// and `outstanding` were sent since. `None`: more than were sent, or less than before, which
    /// is the same modulo 2^32; the stream ends by [`handled_count_too_high`].
    ///
    /// ```
    /// use mucplex_stream::sm::Count;
    /// let acked = Count::new(u32::MAX);
    /// assert_eq!(Count::new(1).since(acked, 3), Some(2));
    /// assert_eq!(Count::new(3).since(acked, 3), None);
    /// ```
    #[must_use]
    pub const fn since(self, acked: Self, outstanding: u32) -> Option<u32> {
        let stanzas = self.0.wrapping_sub(acked.0);
        if stanzas <= outstanding {
            Some(stanzas)
        } else {
            None
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a stream that can be resumed (XEP-0198 5, "SM-ID"). It is as good as the session to
/// whoever can log in, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SmId(Box<str>);

impl SmId {
    /// The id as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for SmId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<&str> for SmId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Debug for SmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmId")
    }
}

/// What is needed to resume a server's stream (XEP-0198 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmState {
    /// What [`Nonza::Resume`] has to name.
    pub id: SmId,
    /// Where the server wants to be reconnected to: `host`, `host:port`, `[IPv6]:port`. Free text
    /// of the server.
    pub location: Option<String>,
    /// For how many seconds after its connection the server keeps the stream, if it says so.
    pub max: Option<u32>,
}

/// An element of stream management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nonza {
    /// `<enable/>` of a client.
    Enable {
        /// Whether it wants to be able to resume.
        resume: bool,
        /// For how many seconds, if it prefers a time.
        max: Option<u32>,
    },
    /// `<enabled/>` of a server.
    Enabled {
        /// The stream's id; missing where it cannot be resumed.
        id: Option<SmId>,
        /// Whether it can be resumed.
        resume: bool,
        /// Where to. Read, but not written: clients come back to the proxy.
        location: Option<String>,
        /// For how many seconds.
        max: Option<u32>,
    },
    /// `<resume/>` of a client.
    Resume {
        /// The stream it wants back.
        previd: SmId,
        /// What it has handled of it.
        h: Count,
    },
    /// `<resumed/>` of a server.
    Resumed {
        /// The stream that goes on.
        previd: SmId,
        /// What the server has handled of it.
        h: Count,
    },
    /// `<failed/>` of a server.
    Failed {
        /// What it has handled of a stream that it knows but cannot resume any more.
        h: Option<Count>,
        /// Why: a condition of RFC 6120 8.3.3.
        condition: Option<&'static str>,
    },
    /// `<r/>`
    Request,
    /// `<a/>`
    Ack {
        /// What the sender has handled.
        h: Count,
    },
}

/// An element of the namespace that is none of those above. Harmless as such: who gets it from a
/// client may answer with [`Nonza::failed`] and `bad-request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmFault {
    /// Its name is not known.
    #[error("an unknown element of stream management")]
    Unknown,
    /// `h` is missing, or no number below 2^32.
    #[error("an element of stream management without a valid h")]
    Count,
    /// `previd` is missing.
    #[error("an element of stream management without previd")]
    PrevId,
}

impl Nonza {
    /// Reads a frame; `None` when it is not in the namespace `urn:xmpp:sm:3`. A `resume` or `max`
    /// that cannot be understood counts as not given: neither is more than a wish.
    #[must_use]
    pub fn read(frame: &Frame) -> Option<Result<Self, SmFault>> {
        (frame.ns() == ns::STREAM_MANAGEMENT).then(|| Self::of(frame))
    }

    fn of(frame: &Frame) -> Result<Self, SmFault> {
        let root = frame.root();
        let text = |name| root.attr(name).map(String::from);
        let number = |name| {
            let value = root.attr(name)?;
            let digits = value.trim();
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()).flatten()
        };
        let resume = || matches!(root.attr("resume").as_deref(), Some("true" | "1"));
        let h = || number("h").map(Count).ok_or(SmFault::Count);
        let previd = || text("previd").map(SmId::from).ok_or(SmFault::PrevId);
        Ok(match frame.name() {
            "enable" => Self::Enable {
                resume: resume(),
                max: number("max"),
            },
            "enabled" => Self::Enabled {
                id: text("id").map(SmId::from),
                resume: resume(),
                location: text("location"),
                max: number("max"),
            },
            "resume" => Self::Resume {
                previd: previd()?,
                h: h()?,
            },
            "resumed" => Self::Resumed {
                previd: previd()?,
                h: h()?,
            },
            "failed" => Self::Failed {
                h: number("h").map(Count),
                condition: conditions::of_stanza(&root),
            },
            "r" => Self::Request,
            "a" => Self::Ack { h: h()? },
            _ => return Err(SmFault::Unknown),
        })
    }

    /// What is needed to resume the stream that this `<enabled/>` tells of, if it can be.
    #[must_use]
    pub fn into_state(self) -> Option<SmState> {
        match self {
            Self::Enabled {
                id: Some(id),
                resume: true,
                location,
                max,
            } => Some(SmState { id, location, max }),
            _ => None,
        }
    }

    /// `<failed/>` with a condition of RFC 6120 8.3.3.
    #[must_use]
    pub const fn failed(condition: &'static str) -> Self {
        Self::Failed {
            h: None,
            condition: Some(condition),
        }
    }

    /// As it is written, with its namespace: it can stand on a stream of any content namespace.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request => Bytes::from_static(b"<r xmlns='urn:xmpp:sm:3'/>"),
            Self::Ack { h } => nonza("a", &[("h", Some(&h.to_string()))]),
            Self::Enable { resume, max } => nonza(
                "enable",
                &[
                    ("resume", resume.then_some("true")),
                    ("max", max.map(|max| max.to_string()).as_deref()),
                ],
            ),
            Self::Enabled {
                id,
                resume,
                location: _,
                max,
            } => nonza(
                "enabled",
                &[
                    ("id", id.as_ref().map(SmId::as_str)),
                    ("resume", resume.then_some("true")),
                    ("max", max.map(|max| max.to_string()).as_deref()),
                ],
            ),
            Self::Resume { previd, h } => nonza(
                "resume",
                &[
                    ("previd", Some(previd.as_str())),
                    ("h", Some(&h.to_string())),
                ],
            ),
            Self::Resumed { previd, h } => nonza(
                "resumed",
                &[
                    ("previd", Some(previd.as_str())),
                    ("h", Some(&h.to_string())),
                ],
            ),
            Self::Failed { h, condition } => {
                let h = attribute("h", h.map(|h| h.to_string()).as_deref());
                let condition = condition.map_or_else(String::new, |condition| {
                    format!("<{condition} xmlns='{}'/>", ns::STANZAS)
                });
                Bytes::from(format!(
                    "<failed xmlns='{}'{h}>{condition}</failed>",
                    ns::STREAM_MANAGEMENT
                ))
            }
        }
    }
}

/// The stream error for a peer that acknowledges stanzas it was not sent (XEP-0198 6), without
/// the end of the stream. The stream must bind the prefix `stream`.
#[must_use]
pub fn handled_count_too_high(h: Count, sent: Count) -> Bytes {
    const NS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
    let text = format!("You acknowledged {h} stanzas, but I only sent you {sent} so far.");
    let text = escape_text(&text);
    Bytes::from(format!(
        "<stream:error><undefined-condition xmlns='{NS}'/>\
         <handled-count-too-high xmlns='{}' h='{h}' send-count='{sent}'/>\
         <text xmlns='{NS}' xml:lang='en'>{text}</text></stream:error>",
        ns::STREAM_MANAGEMENT
    ))
}

fn nonza(name: &str, attributes: &[(&str, Option<&str>)]) -> Bytes {
    let attributes: String = attributes
        .iter()
        .map(|(name, value)| attribute(name, *value))
        .collect();
    Bytes::from(format!(
        "<{name} xmlns='{}'{attributes}/>",
        ns::STREAM_MANAGEMENT
    ))
}

fn attribute(name: &str, value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| {
        format!(" {name}='{}'", escape_attribute(value))
    })
}
