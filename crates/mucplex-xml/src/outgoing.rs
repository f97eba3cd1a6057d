//! What goes to a socket.

use bytes::{Bytes, BytesMut};

use crate::Frame;

/// A stanza on its way to a socket: the part written for this recipient, and the rest, which it
/// shares with the other recipients.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Written first; empty where nothing was changed.
    pub head: Bytes,
    /// Written behind it.
    pub tail: Bytes,
}

impl Outgoing {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// Head and tail in one; copies unless one of them is empty.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.head.is_empty() {
            return self.tail.clone();
        }
        if self.tail.is_empty() {
            return self.head.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.tail);
        whole.freeze()
    }
}

impl From<Bytes> for Outgoing {
    fn from(tail: Bytes) -> Self {
        Self {
            head: Bytes::new(),
            tail,
        }
    }
}

impl From<Frame> for Outgoing {
    fn from(frame: Frame) -> Self {
        Self::from(&frame)
    }
}

impl From<&Frame> for Outgoing {
    fn from(frame: &Frame) -> Self {
        frame.bytes().clone().into()
    }
}
