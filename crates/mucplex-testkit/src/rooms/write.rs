//! The stanzas of a room, as XML for a component's stream.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::xml::{NS_MUC_USER, NS_STANZAS, Stanza, escape};

/// ` id='…'`, or nothing.
pub(super) fn id_attribute(id: Option<&str>) -> String {
    id.map(|id| format!(" id='{}'", escape(id)))
        .unwrap_or_default()
}

/// ` type='…'`, or nothing.
pub(super) fn type_attribute(kind: Option<&str>) -> String {
    kind.map(|kind| format!(" type='{}'", escape(kind)))
        .unwrap_or_default()
}

/// The muc#user `<x/>` with an item and status codes.
pub(super) fn user(item: &str, codes: &[u16]) -> String {
    let mut x = format!("<x xmlns='{NS_MUC_USER}'>{item}");
    for code in codes {
        let _ = write!(x, "<status code='{code}'/>");
    }
    x.push_str("</x>");
    x
}

/// What stands inside the outermost element, as it arrived.
pub(super) fn inner(stanza: &Stanza) -> &str {
    let raw = stanza.raw_str();
    let mut quote = None;
    let start = raw.find(|c| match (quote, c) {
        (None, '>') => true,
        (None, '\'' | '"') => {
            quote = Some(c);
            false
        }
        (Some(open), c) if open == c => {
            quote = None;
            false
        }
        _ => false,
    });
    let start = start.map_or(raw.len(), |end| end + 1);
    let end = raw.rfind("</").filter(|end| *end >= start);
    end.map_or("", |end| &raw[start..end])
}

/// The error for a stanza (RFC 6120 8.3), from the address it was sent to.
pub(super) fn error(stanza: &Stanza, condition: &str) -> String {
    let (name, id) = (stanza.name(), id_attribute(stanza.id()));
    let from = escape(stanza.to().unwrap_or_default());
    let to = escape(stanza.from().unwrap_or_default());
    let kind = match condition {
        "not-authorized" | "forbidden" | "registration-required" => "auth",
        "not-acceptable" | "jid-malformed" => "modify",
        "resource-constraint" => "wait",
        _ => "cancel",
    };
    format!(
        "<{name} type='error' from='{from}' to='{to}'{id}><error type='{kind}'>\
         <{condition} xmlns='{NS_STANZAS}'/></error></{name}>"
    )
}

/// The result of an IQ.
pub(super) fn result(iq: &Stanza, payload: &str) -> String {
    let id = id_attribute(iq.id());
    let from = escape(iq.to().unwrap_or_default());
    let to = escape(iq.from().unwrap_or_default());
    format!("<iq type='result' from='{from}' to='{to}'{id}>{payload}</iq>")
}

/// What the service answers for a room that it does not have; errors and answers get none.
pub(super) fn no_such_room(stanza: &Stanza) -> Option<String> {
    let asks = match stanza.name() {
        "iq" => matches!(stanza.kind(), Some("get" | "set")),
        "presence" => stanza.kind().is_none(),
        _ => stanza.kind() != Some("error"),
    };
    asks.then(|| error(stanza, "item-not-found"))
}

/// A time as stamps have it (XEP-0082), to the millisecond.
pub(super) fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // The calendar begins with a March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::xml::{Incoming, StreamReader};

    #[test]
    fn stamps_are_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn what_stands_inside_is_found() {
        for (raw, expected) in [
            ("<message/>", ""),
            ("<message to='a>b'></message>", ""),
            (
                "<message to=\"a'>b\"><body>x &gt; y</body></message>",
                "<body>x &gt; y</body>",
            ),
        ] {
            let mut reader = StreamReader::new();
            reader.feed(b"<stream xmlns='jabber:client'>");
            reader.feed(raw.as_bytes());
            assert!(matches!(reader.next_item(), Ok(Some(Incoming::Open(_)))));
            let Ok(Some(Incoming::Stanza(stanza))) = reader.next_item() else {
                panic!("no stanza")
            };
            assert_eq!(inner(&stanza), expected);
        }
    }
}
