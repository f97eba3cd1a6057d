//! What the server sends to a session whose client has gone, while its uplink still waits for the
//! hub.

use bytes::Bytes;
use mucplex_xml::{Frame, Kind, escape::escape_attribute};

const NS_PING: &str = "urn:xmpp:ping";
const UNAVAILABLE: &str = "<error type='cancel'>\
    <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";

/// What becomes of a frame that has no reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// Its sender learns that it was not delivered.
    Answer(Bytes),
    /// Nobody waits for an answer, or must not get one.
    Count,
}

/// A ping of the server is about the stream, which is there (XEP-0199 4.1): it is answered, lest
/// the server give the uplink up, and what it still carries. To everybody else the client is gone:
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
    let domain = account.split_once('@').map(|(_, domain)| domain);
    let of_server = own || sender.as_deref() == domain;
    let pings = frame.kind() == Kind::Iq && frame.root().child("ping", NS_PING).is_some();
    if of_server && pings && stanza_type == Some("get") {
        return answer(frame, sender.as_deref(), "result", "");
    }
    answer(frame, sender.as_deref(), "error", UNAVAILABLE)
}

fn answer(frame: &Frame, to: Option<&str>, kind: &str, payload: &str) -> Undelivered {
    let name = frame.name();
    let attribute = |name: &str, value: Option<&str>| {
        value
            .map(|value| format!(" {name}='{}'", escape_attribute(value)))
            .unwrap_or_default()
    };
    let to = attribute("to", to);
    let id = attribute("id", frame.id().as_deref());
    Undelivered::Answer(Bytes::from(format!(
        "<{name} type='{kind}'{to}{id}>{payload}</{name}>"
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

    /// Behaviour 54.
    #[test]
    fn the_servers_pings_are_answered() {
        let ping = "><ping xmlns='urn:xmpp:ping'/></iq>";
        for (from, to) in [
            ("", ""),
            (" from='example.org'", " to='example.org'"),
            (" from='me@example.org'", " to='me@example.org'"),
        ] {
            let ping = format!("<iq type='get' id='p'{from}{ping}");
            let answer = format!("<iq type='result'{to} id='p'></iq>");
            assert_eq!(of(ping.leak()), Undelivered::Answer(answer.into()));
        }
        // To others the client is gone; and a set is no ping.
        for start in [
            "<iq type='get' id='p' from='x@example.org/y'",
            "<iq type='get' id='p' from='other.example.org'",
            "<iq type='set' id='p' from='example.org'",
        ] {
            let Undelivered::Answer(answer) = of(format!("{start}{ping}").leak()) else {
                panic!("no answer")
            };
            assert!(answer.starts_with(b"<iq type='error'"), "{answer:?}");
        }
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
