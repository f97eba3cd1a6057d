//! A range of bytes in a frame, in half the space.

use std::ops::Range;

/// Offsets of a part of a frame. Offsets have 32 bits: no frame is longer than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// Offsets beyond 32 bits do not occur: [`Scanner`](crate::scan::Scanner) stops before.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: offset(start),
            end: offset(end),
        }
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    #[inline]
    pub(crate) fn of(self, data: &[u8]) -> &[u8] {
        data.get(self.range()).unwrap_or_default()
    }

    /// The same part after `by` bytes were put in before it.
    pub(crate) fn shifted(self, by: usize) -> Self {
        Self::new(
            (self.start as usize).saturating_add(by),
            (self.end as usize).saturating_add(by),
        )
    }
}

#[inline]
pub(crate) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
