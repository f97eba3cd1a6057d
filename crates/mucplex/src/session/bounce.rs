//! What the server sends to a session whose client has gone, while its uplink still waits for the
//! hub.

use bytes::Bytes;
use mucplex_xml::{Frame, Kind, escape::escape_attribute};

/// What becomes of a frame that has no reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// Its sender learns that it was not delivered.
    Answer(Bytes),
    /// Nobody waits for an answer, or must not get one.
    Count,
}

/// RFC 6121 8.5.3.2: a message or an IQ request for a resource that is not there comes back with
/// `service-unavailable`; presences, headlines, groupchat messages, IQ answers and errors do not.
///
/// `account`: the bare JID of the session.
pub(super) fn undelivered(frame: &Frame, account: &str) -> Undelivered {
    let stanza_type = frame.stanza_type();
    let stanza_type = stanza_type.as_deref();
    let expects_answer = match frame.kind() {
        Kind::Message => !matches!(stanza_type, Some("error" | "groupchat" | "headline")),
        Kind::Iq => matches!(stanza_type, Some("get" | "set")),
        Kind::Presence | Kind::StreamError | Kind::StreamFeatures | Kind::Nonza => false,
    };
    if !expects_answer {
        return Undelivered::Count;
    }
    let sender = frame.from();
    // What a server sends in the account's own name (carbons, archive results) nobody has written
    // to this session.
    let own = sender.as_deref().is_none_or(|sender| sender == account);
    if own && frame.kind() == Kind::Message {
        return Undelivered::Count;
    }
    answer(frame, sender.as_deref())
}

fn answer(frame: &Frame, to: Option<&str>) -> Undelivered {
    let name = frame.name();
    let attribute = |name: &str, value: Option<&str>| {
        value
            .map(|value| format!(" {name}='{}'", escape_attribute(value)))
            .unwrap_or_default()
    };
    let to = attribute("to", to);
    let id = attribute("id", frame.id().as_deref());
    Undelivered::Answer(Bytes::from(format!(
        "<{name} type='error'{to}{id}><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></{name}>"
    )))
}

#[cfg(test)]
mod tests {
    use mucplex_xml::Limits;

    use super::*;

    fn of(xml: &'static str) -> Undelivered {
        let frame = Frame::parse(Bytes::from_static(xml.as_bytes()), &Limits::default()).unwrap();
        undelivered(&frame, "me@example.org")
    }

    #[test]
    fn requests_and_messages_come_back() {
        let Undelivered::Answer(answer) =
            of("<iq type='get' id='a&amp;b' from='x@y/z'><q xmlns='q'/></iq>")
        else {
            panic!("no answer")
        };
        assert_eq!(
            answer,
            "<iq type='error' to='x@y/z' id='a&amp;b'><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
        assert!(matches!(
            of("<message from='x@y/z'/>"),
            Undelivered::Answer(_)
        ));
        assert!(matches!(
            of("<iq type='set' id='1'><q xmlns='q'/></iq>"),
            Undelivered::Answer(_)
        ));
    }

    #[test]
    fn nothing_else_does() {
        for xml in [
            "<presence from='x@y/z'/>",
            "<message type='error' from='x@y/z'/>",
            "<message type='headline' from='x@y/z'/>",
            "<message type='groupchat' from='r@y/z'/>",
            "<message type='chat' from='me@example.org'/>",
            "<iq type='result' id='1' from='x@y/z'/>",
        ] {
            assert_eq!(of(xml), Undelivered::Count, "{xml}");
        }
    }
}
