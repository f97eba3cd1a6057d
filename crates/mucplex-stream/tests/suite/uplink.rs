//! From the dial to the server's features.

use mucplex_stream::{
    Input, ListenerTls, StreamRequest, UpstreamTls,
    client_role::{ClientRole, Progress, UplinkFault},
    features,
};
use mucplex_xml::{Framer, Limits};

use crate::rig::*;

fn dialing(upstream: UpstreamTls) -> Rig {
    let mut rig = Rig::new(ListenerTls::Direct, upstream);
    rig.client(CLIENT_HEADER);
    rig.expect(&[Line::Dial(0)]);
    rig
}

fn opened(upstream: UpstreamTls) -> Rig {
    let mut rig = dialing(upstream);
    rig.input(Input::UplinkOpen);
    rig.expect(&[to_server(UPLINK_HEADER)]);
    rig
}

#[test]
fn plain_and_direct_pass_the_servers_header_and_features() {
    for upstream in [UpstreamTls::None, UpstreamTls::Direct] {
        let mut rig = opened(upstream);
        rig.server(&format!("<?xml version='1.0'?>{SERVER_HEADER}"));
        rig.expect(&[to_client(relayed(SERVER_HEADER))]);
        assert!(!rig.login.wants_client());
        rig.server(SASL_FEATURES);
        rig.expect(&[to_client(SASL_FEATURES)]);
        assert!(rig.login.wants_client());
    }
}

#[test]
fn starttls_comes_first_where_it_is_asked_for() {
    let mut rig = opened(UpstreamTls::StartTls);
    rig.server(SERVER_HEADER);
    rig.server(TLS_FEATURES);
    rig.expect(&[to_server(STARTTLS)]);
    rig.server(PROCEED);
    rig.expect(&[Line::SecureUplink]);
    assert!(!rig.login.wants_server());
    rig.input(Input::UplinkSecured);
    rig.expect(&[to_server(UPLINK_HEADER)]);
    assert!(rig.login.wants_server());
    rig.server(SERVER_HEADER);
    rig.server(SASL_FEATURES);
    rig.expect(&[to_client(format!(
        "{}{SASL_FEATURES}",
        relayed(SERVER_HEADER)
    ))]);
}

#[test]
fn there_is_no_way_from_starttls_to_plain_text() {
    let table = [
        (SASL_FEATURES, "", END, "does not offer STARTTLS"),
        (
            TLS_FEATURES,
            "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            END,
            "refused STARTTLS",
        ),
        // Behind <proceed/> nothing can be said in plain text.
        (
            TLS_FEATURES,
            "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:features/>",
            "",
            "behind <proceed/>",
        ),
    ];
    for (features, answer, to_the_server, reason) in table {
        let mut rig = opened(UpstreamTls::StartTls);
        rig.server(SERVER_HEADER);
        rig.server(features);
        rig.server(answer);
        let lines = rig.take();
        let (client, server) = Rig::sides(&lines);
        assert_eq!(
            client,
            format!("{OWN_HEADER}{}", stream_error("remote-connection-failed"))
        );
        assert_eq!(
            server.trim_start_matches(STARTTLS),
            to_the_server,
            "{reason}"
        );
        assert!(Rig::close_reason(&lines).contains(reason), "{lines:?}");
    }
}

#[test]
fn a_server_that_requires_tls_is_a_matter_of_configuration() {
    let mut rig = opened(UpstreamTls::None);
    rig.server(SERVER_HEADER);
    rig.server(OWN_FEATURES);
    let lines = rig.take();
    let (client, server) = Rig::sides(&lines);
    assert!(
        client.ends_with(&stream_error("remote-connection-failed")),
        "{client}"
    );
    assert_eq!(server, END);
    assert!(Rig::close_reason(&lines).starts_with("configuration: "));
}

/// A server that does not know of the TLS in front of it.
#[test]
fn over_direct_tls_starttls_means_nothing() {
    let mut rig = opened(UpstreamTls::Direct);
    rig.server(SERVER_HEADER);
    rig.server(&OWN_FEATURES.replace("</stream", "<x xmlns='urn:x'/></stream"));
    let (client, _) = Rig::sides(&rig.take());
    assert!(
        client.ends_with("<stream:features><x xmlns='urn:x'/></stream:features>"),
        "{client}"
    );
}

#[test]
fn headers_of_a_server_that_are_refused() {
    let table = [
        (
            SERVER_HEADER.replace("jabber:client", "jabber:server"),
            "invalid-namespace",
        ),
        (
            SERVER_HEADER.replace(" xmlns='jabber:client'", ""),
            "invalid-namespace",
        ),
        (
            SERVER_HEADER.replace("version='1.0'", ""),
            "unsupported-version",
        ),
        (
            SERVER_HEADER
                .replace("stream:stream", "s:stream")
                .replace("xmlns:stream", "xmlns:s"),
            "bad-namespace-prefix",
        ),
    ];
    for (header, condition) in table {
        for upstream in [UpstreamTls::None, UpstreamTls::StartTls] {
            let mut rig = opened(upstream);
            rig.server(&header);
            let (client, server) = Rig::sides(&rig.take());
            assert_eq!(server, stream_error(condition));
            assert_eq!(
                client,
                format!("{OWN_HEADER}{}", stream_error("internal-server-error"))
            );
        }
    }
}

#[test]
fn a_stanza_before_the_features_is_none_of_a_server() {
    let mut rig = opened(UpstreamTls::None);
    rig.server(SERVER_HEADER);
    rig.server("<message/>");
    let (client, server) = Rig::sides(&rig.take());
    assert_eq!(server, stream_error("unsupported-stanza-type"));
    assert!(client.ends_with(&stream_error("internal-server-error")));
}

#[test]
fn a_dial_that_fails_is_told_without_detail() {
    let mut rig = dialing(UpstreamTls::None);
    rig.dial_fails();
    rig.expect(&[
        to_client(format!(
            "{OWN_HEADER}{}",
            stream_error("remote-connection-failed")
        )),
        Line::Close("no uplink: connection refused".into()),
    ]);
}

#[test]
fn a_second_answer_of_our_own_has_another_id() {
    let mut rig = Rig::new(ListenerTls::StartTls, UpstreamTls::None);
    rig.client(CLIENT_HEADER);
    rig.client(STARTTLS);
    rig.input(Input::ClientSecured);
    rig.client(CLIENT_HEADER);
    rig.take();
    rig.dial_fails();
    let own = OWN_HEADER.replace("id='p1'", "id='p1-2'");
    let (client, _) = Rig::sides(&rig.take());
    assert_eq!(
        client,
        format!("{own}{}", stream_error("remote-connection-failed"))
    );
}

#[test]
fn the_uplinks_header_says_what_the_clients_said() {
    let streams = "xmlns:stream='http://etherx.jabber.org/streams'";
    let table = [
        (
            format!(
                "<stream:stream xmlns='jabber:client' {streams} to='EXAMPLE.org' version='1.1' \
                 from='juliet@example.org' xml:lang='de-CH'>"
            ),
            format!(
                "<stream:stream from='juliet@example.org' to='example.org' version='1.0' \
                 xml:lang='de-CH' xmlns='jabber:client' {streams}>"
            ),
        ),
        (
            format!(
                "<stream:stream xmlns='jabber:client' {streams} xmlns:db='urn:a&amp;b' \
                 to='example.org' version='1.0'>"
            ),
            format!(
                "<stream:stream to='example.org' version='1.0' xmlns='jabber:client' {streams} \
                 xmlns:db='urn:a&amp;b'>"
            ),
        ),
        // RFC 6120 4.8.2: no default namespace. An element without a prefix is nothing to the
        // proxy, so it must not become a stanza to the server.
        (
            format!(
                "<stream:stream {streams} xmlns:c='jabber:client' to='example.org' version='1.0'>"
            ),
            format!(
                "<stream:stream to='example.org' version='1.0' {streams} xmlns:c='jabber:client'>"
            ),
        ),
        (
            "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client' \
             to='example.org' version='1.0'>"
                .to_owned(),
            format!(
                "<stream:stream to='example.org' version='1.0' \
                 xmlns='http://etherx.jabber.org/streams' {streams} xmlns:c='jabber:client'>"
            ),
        ),
        (
            "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' \
             to='example.org' version='1.0'>"
                .to_owned(),
            format!(
                "<stream:stream to='example.org' version='1.0' xmlns='jabber:client' {streams} \
                 xmlns:s='http://etherx.jabber.org/streams'>"
            ),
        ),
    ];
    for (client, uplink) in table {
        let mut rig = Rig::new(ListenerTls::Direct, UpstreamTls::None);
        rig.client(&client);
        rig.input(Input::UplinkOpen);
        rig.expect(&[
            Line::Dial(0),
            to_server(format!("<?xml version='1.0'?>{uplink}")),
        ]);
    }
}

/// XEP-0305: what is sent ahead is not lost, and not taken too early.
#[test]
fn what_the_client_sends_ahead_waits() {
    let mut rig = dialing(UpstreamTls::None);
    let iq = "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>";
    rig.client(iq);
    assert_eq!(rig.client_waits(), iq.len());
    rig.input(Input::UplinkOpen);
    rig.server(SERVER_HEADER);
    assert_eq!(rig.client_waits(), iq.len());
    rig.take();
    rig.server(SASL_FEATURES);
    rig.expect(&[to_client(SASL_FEATURES), to_server(iq)]);
}

#[test]
fn an_event_that_is_not_wanted_ends_the_login() {
    let mut rig = dialing(UpstreamTls::None);
    let mut framer = Framer::new(Limits::default());
    framer.push(CLIENT_HEADER.as_bytes());
    let event = framer.next_event().unwrap().unwrap();
    rig.input(Input::Client {
        event: event.clone(),
        buffered: 0,
    });
    let (client, _) = Rig::sides(&rig.take());
    assert_eq!(
        client,
        format!("{OWN_HEADER}{}", stream_error("policy-violation"))
    );

    let mut rig = dialing(UpstreamTls::None);
    rig.input(Input::Server { event, buffered: 0 });
    let (client, _) = Rig::sides(&rig.take());
    assert_eq!(
        client,
        format!("{OWN_HEADER}{}", stream_error("internal-server-error"))
    );
}

/// As an anchor does it: no client, no login beside it.
#[test]
fn the_client_role_works_alone() {
    let request = StreamRequest::new("example.org");
    let (role, header) = ClientRole::begin(request, UpstreamTls::StartTls);
    assert_eq!(header, UPLINK_HEADER);
    let mut framer = Framer::new(Limits::default());
    framer.push(format!("{SERVER_HEADER}{TLS_FEATURES}").as_bytes());
    let next = |framer: &mut Framer| framer.next_event().unwrap().unwrap();

    let Ok(Progress::Wait(role)) = role.event(&next(&mut framer), 0) else {
        panic!("header")
    };
    let Ok(Progress::Send(role, starttls)) = role.event(&next(&mut framer), 0) else {
        panic!("features")
    };
    assert_eq!(starttls, STARTTLS);
    framer.push(PROCEED.as_bytes());
    let Ok(Progress::Secure(role)) = role.event(&next(&mut framer), 0) else {
        panic!("proceed")
    };
    assert!(!role.wants_server());
    framer.restart();
    let (role, header) = role.secured();
    assert_eq!(header.unwrap(), UPLINK_HEADER);
    framer.push(format!("{SERVER_HEADER}{SASL_FEATURES}").as_bytes());
    let Ok(Progress::Opened(role)) = role.event(&next(&mut framer), 0) else {
        panic!("header")
    };
    let event = next(&mut framer);
    assert!(matches!(role.event(&event, 0), Ok(Progress::Ready)));
    let mucplex_xml::Event::Frame(offer) = event else {
        panic!("features")
    };
    assert_eq!(features::mechanisms(&offer), ["SCRAM-SHA-1", "PLAIN"]);
}

#[test]
fn the_client_role_waits_to_be_asked() {
    let (role, _) = ClientRole::begin(StreamRequest::new("example.org"), UpstreamTls::None);
    let mut framer = Framer::new(Limits::default());
    framer.push(format!("{SERVER_HEADER}{SERVER_HEADER}").as_bytes());
    let event = framer.next_event().unwrap().unwrap();
    let Ok(Progress::Opened(role)) = role.event(&event, 0) else {
        panic!("header")
    };
    assert!(matches!(role.event(&event, 0), Err(UplinkFault::OutOfTurn)));
}
