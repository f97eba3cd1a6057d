//! How much one peer may make the framer hold, and how strict it is with it.

/// Bounds on what one peer may make the framer hold. Passing one is
/// [`policy-violation`](crate::StreamErrorCondition::PolicyViolation), at the byte that passes it.
///
/// They bound memory and, with it, time: names in scope and attributes are looked up in a way
/// that stays close to linear in the bytes sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one stanza, nonza or stream header, tags included. A stream header has at most
    /// 16 KiB whatever is set here: its declarations are repeated in frames that leave the stream
    /// (see [`Frame::portable`](crate::Frame::portable)).
    pub stanza_bytes: usize,
    /// Nesting of elements in one stanza; the stanza itself is 1.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Bytes of one element or attribute name, prefix included.
    pub name_bytes: usize,
    /// Lets names stand whose prefix nothing declares; they are of no namespace. It is not
    /// well-formed ("Namespaces in XML" 5), yet ejabberd 23.01 passes a stanza of one user on to
    /// others without the declarations that its prefixes need: whoever is strict with a server lets
    /// that user end the streams of the others.
    pub unbound_prefixes: bool,
}

impl Limits {
    /// Nothing but what an offset can hold: for bytes that a limited framer has let through once.
    pub(crate) const NONE: Self = Self {
        stanza_bytes: usize::MAX,
        depth: usize::MAX,
        attributes: usize::MAX,
        name_bytes: usize::MAX,
        unbound_prefixes: true,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stanza_bytes: 256 * 1024,
            depth: 64,
            attributes: 64,
            name_bytes: 1024,
            unbound_prefixes: false,
        }
    }
}
