//! Until the client is secured and has named a domain.

use mucplex_stream::{Input, ListenerTls, UpstreamTls};

use crate::rig::*;

const TLS_FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

fn header(attributes: &str) -> String {
    format!("<stream:stream {attributes} xmlns:stream='http://etherx.jabber.org/streams'>")
}

fn starttls() -> Rig {
    Rig::new(ListenerTls::StartTls, UpstreamTls::None)
}

fn direct() -> Rig {
    Rig::new(ListenerTls::Direct, UpstreamTls::None)
}

/// After the client's header and our features.
fn offered() -> Rig {
    let mut rig = starttls();
    rig.client(CLIENT_HEADER);
    rig.take();
    rig
}

#[test]
fn starttls_listener_up_to_the_dial() {
    let mut rig = starttls();
    rig.client(&format!("<?xml version='1.0'?>{CLIENT_HEADER}"));
    rig.expect(&[to_client(format!("{OWN_HEADER}{OWN_FEATURES}"))]);
    rig.client(&format!(" \n{STARTTLS}"));
    rig.expect(&[to_client(PROCEED), Line::SecureClient(0)]);
    assert!(!rig.login.wants_client());
    rig.input(Input::ClientSecured);
    assert!(rig.login.wants_client());
    rig.client(CLIENT_HEADER);
    rig.expect(&[Line::Dial(0)]);
    assert!(!rig.login.wants_client());
}

#[test]
fn direct_listener_dials_at_the_first_header() {
    let mut rig = direct();
    rig.client(CLIENT_HEADER);
    rig.expect(&[Line::Dial(0)]);
}

#[test]
fn the_domain_is_compared_as_a_domain() {
    for to in ["EXAMPLE.NET", "example.net", "Example.Net"] {
        let mut rig = direct();
        rig.client(&header(&format!(
            "to='{to}' version='1.0' xmlns='jabber:client'"
        )));
        rig.expect(&[Line::Dial(1)]);
    }
}

/// RFC 6120 4.7.2: `to` of the answer is the bare JID that the client says it is.
#[test]
fn the_own_header_names_the_client_if_it_did() {
    let mut rig = starttls();
    rig.client(&header(
        "from='juliet@example.org/x' to='example.org' version='1.0' xmlns='jabber:client'",
    ));
    let lines = rig.take();
    let (client, _) = Rig::sides(&lines);
    assert!(
        client.contains(" from='example.org' to='juliet@example.org' id='p1' "),
        "{client}"
    );
}

#[test]
fn headers_that_are_refused() {
    let unknown = OWN_HEADER.replace("from='example.org'", "from=''");
    let table = [
        (
            "to='example.org' version='1.0' xmlns='jabber:server'",
            OWN_HEADER,
            "invalid-namespace",
        ),
        (
            "to='example.org' version='1.0'",
            OWN_HEADER,
            "invalid-namespace",
        ),
        (
            "to='example.org' xmlns='jabber:client'",
            OWN_HEADER,
            "unsupported-version",
        ),
        (
            "to='example.org' version='' xmlns='jabber:client'",
            OWN_HEADER,
            "unsupported-version",
        ),
        (
            "to='example.org' version='1' xmlns='jabber:client'",
            OWN_HEADER,
            "unsupported-version",
        ),
        (
            "to='example.org' version='0.9' xmlns='jabber:client'",
            OWN_HEADER,
            "unsupported-version",
        ),
        (
            "to='example.org' version='2.0' xmlns='jabber:client'",
            OWN_HEADER,
            "unsupported-version",
        ),
        (
            "to='example.org' version='+1.0' xmlns='jabber:client'",
            OWN_HEADER,
            "unsupported-version",
        ),
        (
            "version='1.0' xmlns='jabber:client'",
            &unknown,
            "host-unknown",
        ),
        (
            "to='' version='1.0' xmlns='jabber:client'",
            &unknown,
            "host-unknown",
        ),
        (
            "to='example.com' version='1.0' xmlns='jabber:client'",
            &unknown,
            "host-unknown",
        ),
        (
            "to='juliet@example.org' version='1.0' xmlns='jabber:client'",
            &unknown,
            "host-unknown",
        ),
    ];
    for (attributes, own_header, condition) in table {
        for mut rig in [starttls(), direct()] {
            rig.client(&header(attributes));
            let lines = rig.take();
            let expected = format!("{own_header}{}", stream_error(condition));
            assert_eq!(lines[0], to_client(expected), "{attributes}");
            assert!(
                matches!(lines[1..], [Line::Close(_)]),
                "{attributes}: {lines:?}"
            );
        }
    }
}

#[test]
fn versions_of_one_are_accepted() {
    for version in ["1.0", "1.1", "01.0", "1.27"] {
        let mut rig = direct();
        rig.client(&header(&format!(
            "to='example.org' version='{version}' xmlns='jabber:client'"
        )));
        rig.expect(&[Line::Dial(0)]);
    }
}

#[test]
fn a_prefix_for_another_namespace_cannot_be_stream() {
    let mut rig = direct();
    rig.client(
        "<s:stream to='example.org' version='1.0' xmlns='jabber:client' xmlns:stream='urn:other' \
         xmlns:s='http://etherx.jabber.org/streams'>",
    );
    let lines = rig.take();
    assert!(
        Rig::sides(&lines)
            .0
            .ends_with(&stream_error("bad-namespace-prefix"))
    );
}

/// Bytes that come with `<starttls/>` would be read as if TLS had protected them.
#[test]
fn bytes_behind_starttls_are_refused() {
    let mut rig = offered();
    rig.client(&format!("{STARTTLS}<message/>"));
    let lines = rig.take();
    assert_eq!(lines[0], to_client(format!("{TLS_FAILURE}{END}")));
    assert!(matches!(lines[1..], [Line::Close(_)]));
}

#[test]
fn whitespace_behind_starttls_is_refused_too() {
    let mut rig = offered();
    rig.client(&format!("{STARTTLS}\n"));
    assert!(Rig::close_reason(&rig.take()).contains("behind <starttls/>"));
}

#[test]
fn sasl_before_tls_is_refused_a_few_times() {
    let failure =
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><encryption-required/></failure>";
    let mut rig = offered();
    for _ in 0..5 {
        rig.client(AUTH);
        rig.expect(&[to_client(failure)]);
    }
    rig.client(AUTH);
    let lines = rig.take();
    assert_eq!(lines[0], to_client(stream_error("policy-violation")));
    assert!(matches!(lines[1..], [Line::Close(_)]));

    let mut rig = offered();
    rig.client("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>");
    rig.expect(&[to_client(
        "<failure xmlns='urn:xmpp:sasl:2'>\
         <encryption-required xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>",
    )]);
    rig.client(STARTTLS);
    rig.expect(&[to_client(PROCEED), Line::SecureClient(0)]);
}

#[test]
fn other_elements_before_tls_end_the_stream() {
    let table = [
        ("<message/>", "not-authorized"),
        ("<presence/>", "not-authorized"),
        (
            "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
            "not-authorized",
        ),
        (
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            "unsupported-stanza-type",
        ),
        (
            "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            "unsupported-stanza-type",
        ),
        ("<starttls xmlns='urn:other'/>", "unsupported-stanza-type"),
        ("<stream:features/>", "unsupported-stanza-type"),
        ("<x/>", "unsupported-stanza-type"),
    ];
    for (element, condition) in table {
        let mut rig = offered();
        rig.client(element);
        let lines = rig.take();
        assert_eq!(lines[0], to_client(stream_error(condition)), "{element}");
        assert!(matches!(lines[1..], [Line::Close(_)]), "{element}");
    }
}

#[test]
fn the_clients_end_is_answered() {
    let mut rig = offered();
    rig.client(END);
    rig.expect(&[
        to_client(END),
        Line::Close("the client ended its stream".into()),
    ]);

    let mut rig = offered();
    rig.client(
        "<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         </stream:error></stream:stream>",
    );
    let lines = rig.take();
    assert_eq!(lines[0], to_client(END));
    assert!(Rig::close_reason(&lines).contains("not-well-formed"));
}

#[test]
fn the_domain_stays_over_tls() {
    let mut rig = offered();
    rig.client(STARTTLS);
    rig.input(Input::ClientSecured);
    rig.take();
    rig.client(&CLIENT_HEADER.replace("example.org", "example.net"));
    let lines = rig.take();
    let own = OWN_HEADER
        .replace("example.org", "example.net")
        .replace("id='p1'", "id='p1-2'");
    assert_eq!(
        lines[0],
        to_client(format!("{own}{}", stream_error("host-unknown")))
    );
}

#[test]
fn garbage_instead_of_a_header_is_told_so() {
    let mut rig = starttls();
    rig.client("GET / HTTP/1.1\r\n\r\n");
    let lines = rig.take();
    let (client, _) = Rig::sides(&lines);
    assert!(
        client.starts_with("<?xml version='1.0'?><stream:stream from='' id='p1' "),
        "{client}"
    );
    assert!(
        client.ends_with("</stream:error></stream:stream>"),
        "{client}"
    );
    assert!(matches!(lines[1..], [Line::Close(_)]));
}
