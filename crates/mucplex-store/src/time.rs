//! Times as they are stored: milliseconds since 1970.

use std::time::{Duration, SystemTime};

const DAY: i64 = 24 * 3600 * 1000;

pub(crate) fn millis(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, whole_millis)
}

pub(crate) fn whole_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

pub(crate) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + duration(millis)
}

/// The time as it will be read again.
pub(crate) fn as_stored(at: SystemTime) -> SystemTime {
    time(millis(at))
}

pub(crate) fn day(at: SystemTime) -> i64 {
    millis(at) / DAY
}

/// A point in the past; 1970 where that is too long ago.
pub(crate) fn before(now: SystemTime, time: Duration) -> SystemTime {
    now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// SQLite's integers have a sign.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
