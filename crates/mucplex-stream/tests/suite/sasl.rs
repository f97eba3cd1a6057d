//! Login through the relay.

use crate::rig::*;

const SASL: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";

/// A transcript of which every element has to pass as it is, and then a success.
fn transcript(auth: &str, exchange: &[(&str, &str)], success: &str, mechanism: &str) {
    let mut rig = Rig::at_sasl();
    rig.client(auth);
    rig.expect(&[to_server(auth)]);
    for (challenge, response) in exchange {
        assert!(!rig.login.wants_client());
        rig.server(challenge);
        rig.expect(&[to_client(*challenge)]);
        assert!(rig.login.wants_client());
        rig.client(response);
        rig.expect(&[to_server(*response)]);
    }
    rig.server(success);
    rig.expect(&[Line::RestartServer, to_client(success), Line::RestartClient]);
    rig.client(CLIENT_HEADER);
    rig.expect(&[to_server(UPLINK_HEADER)]);
    rig.server(SERVER_HEADER);
    rig.server(BIND_FEATURES);
    rig.expect(&[to_client(format!(
        "{}{SESSION_FEATURES}",
        relayed(SERVER_HEADER)
    ))]);
    rig.client(BIND);
    rig.server(BIND_RESULT);
    let lines = rig.take();
    let Some(Line::Bound(bound)) = lines.last() else {
        panic!("not bound: {lines:?}")
    };
    assert_eq!(bound.login.mechanism, mechanism);
}

#[test]
fn plain() {
    transcript(AUTH, &[], SUCCESS, "PLAIN");
    // Without an initial response.
    transcript(
        &format!("<auth {SASL} mechanism='PLAIN'/>"),
        &[(
            &format!("<challenge {SASL}/>"),
            &format!("<response {SASL}>AGp1bGlldAByMG0zMG15cjBtMzA=</response>"),
        )],
        SUCCESS,
        "PLAIN",
    );
}

/// The exchange of RFC 5802 5.
#[test]
fn scram_sha_1() {
    transcript(
        &format!(
            "<auth {SASL} mechanism=\"SCRAM-SHA-1\" >biwsbj11c2VyLHI9ZnlrbytkMmxiYkZnT05Sdjlxa3hkYXdM</auth >"
        ),
        &[(
            &format!(
                "<challenge {SASL}>cj1meWtvK2QybGJiRmdPTlJ2OXFreGRhd0wzcmZjTkhZSlkxWlZ2V1ZzN2oscz1RU1hDUitRNnNlazhiZjkyLGk9NDA5Ng==</challenge>"
            ),
            &format!(
                "<response {SASL}>\nYz1iaXdzLHI9ZnlrbytkMmxiYkZnT05Sdjlxa3hkYXdMM3JmY05IWUpZMVpWdldWczdqLHA9djBYOHYzQnoyVDBDSkdiSlF5RjBYK0hJNFRzPQ==</response>"
            ),
        )],
        &format!("<success {SASL}>dj1ybUY5cHFWOFM3c3VBb1pXamE0ZEpSa0ZzS1E9</success>"),
        "SCRAM-SHA-1",
    );
}

/// The exchange of RFC 7677 3, with the server's last message as a challenge.
#[test]
fn scram_sha_256_in_three_steps() {
    transcript(
        &format!(
            "<auth {SASL} mechanism='SCRAM-SHA-256'>biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=</auth>"
        ),
        &[
            (
                &format!(
                    "<challenge {SASL}>cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=</challenge>"
                ),
                &format!(
                    "<response {SASL}>Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==</response>"
                ),
            ),
            (
                &format!(
                    "<challenge {SASL}>dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==</challenge>"
                ),
                &format!("<response {SASL}/>"),
            ),
        ],
        SUCCESS,
        "SCRAM-SHA-256",
    );
}

#[test]
fn a_wrong_password_and_then_the_right_one() {
    let failure = format!(
        "<failure {SASL}><not-authorized/><text xml:lang='en'>Unable to authorize you.</text>\
         </failure>"
    );
    let mut rig = Rig::at_sasl();
    rig.client(AUTH);
    rig.server(&failure);
    rig.expect(&[to_server(AUTH), to_client(failure)]);
    let again = AUTH.replace("PLAIN", "LOGIN");
    rig.client(&again);
    rig.server(SUCCESS);
    rig.client(CLIENT_HEADER);
    rig.server(SERVER_HEADER);
    rig.server(BIND_FEATURES);
    rig.client(BIND);
    rig.server(BIND_RESULT);
    let lines = rig.take();
    let Some(Line::Bound(bound)) = lines.last() else {
        panic!("not bound: {lines:?}")
    };
    assert_eq!(bound.login.mechanism, "LOGIN", "the one that succeeded");
}

#[test]
fn an_abort_passes() {
    let (challenge, abort) = (format!("<challenge {SASL}/>"), format!("<abort {SASL}/>"));
    let failure = format!("<failure {SASL}><aborted/></failure>");
    let mut rig = Rig::at_sasl();
    rig.client(AUTH);
    rig.server(&challenge);
    rig.client(&abort);
    rig.server(&failure);
    rig.expect(&[
        to_server(AUTH),
        to_client(challenge),
        to_server(abort),
        to_client(failure),
    ]);
    assert!(rig.login.wants_client());
}

/// ```text
/// client              proxy               server
///   |                   |<----- failure ----|   the server has waited long enough
///   |----- response --->|                   |
///   |<---- failure -----|                   |
/// ```
#[test]
fn a_response_that_crosses_a_failure() {
    let challenge = format!("<challenge {SASL}/>");
    let failure = format!("<failure {SASL}><temporary-auth-failure/></failure>");
    let response = format!("<response {SASL}/>");
    let mut rig = Rig::at_sasl();
    rig.client(AUTH);
    rig.server(&challenge);
    rig.server(&failure);
    rig.client(&response);
    rig.server(&failure);
    assert!(!rig.is_over());
    rig.server(SUCCESS);
    assert!(Rig::close_reason(&rig.take()).contains("answers nothing"));
}

/// XEP-0305: the stream behind `<auth/>` waits until there is one.
#[test]
fn a_client_that_does_not_wait() {
    let mut rig = Rig::at_sasl();
    rig.client(&format!(
        "{AUTH}<?xml version='1.0'?>{CLIENT_HEADER}{BIND}<presence/>"
    ));
    rig.expect(&[to_server(AUTH)]);
    rig.server(SUCCESS);
    rig.expect(&[
        Line::RestartServer,
        to_client(SUCCESS),
        Line::RestartClient,
        to_server(UPLINK_HEADER),
    ]);
    rig.server(&format!("{SERVER_HEADER}{BIND_FEATURES}"));
    let greeting = format!("{}{SESSION_FEATURES}", relayed(SERVER_HEADER));
    rig.expect(&[to_client(greeting), to_server(BIND)]);
    rig.server(BIND_RESULT);
    let lines = rig.take();
    assert!(
        matches!(lines[..], [Line::Client(_), Line::Bound(_)]),
        "{lines:?}"
    );
    assert_eq!(rig.client_waits(), "<presence/>".len());
}

#[test]
fn a_success_or_challenge_nobody_asked_for() {
    for element in [
        SUCCESS,
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    ] {
        for mut rig in [Rig::at_sasl(), Rig::at_bind()] {
            rig.server(element);
            let lines = rig.take();
            let (client, server) = Rig::sides(&lines);
            assert_eq!(client, stream_error("internal-server-error"));
            assert_eq!(server, END);
            assert!(Rig::close_reason(&lines).contains("answers nothing"));
        }
    }
    // Twice, the second while it is the client's turn.
    let mut rig = Rig::at_sasl();
    rig.client(AUTH);
    rig.server(&format!("<challenge {SASL}/>{SUCCESS}"));
    assert!(rig.is_over());
}

#[test]
fn refused_by_the_proxy_itself() {
    let stanza =
        |condition: &str| format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>");
    let table = [
        (
            format!("<auth {SASL} mechanism='SCRAM-SHA-1-PLUS'>cD10bHM=</auth>"),
            format!("<failure {SASL}><invalid-mechanism/></failure>"),
        ),
        (
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>AGE=\
             </initial-response></authenticate>"
                .into(),
            format!("<failure xmlns='urn:xmpp:sasl:2'><invalid-mechanism {SASL}/></failure>"),
        ),
        (
            "<enable xmlns='urn:xmpp:sm:3' resume='true'/>".into(),
            format!(
                "<failed xmlns='urn:xmpp:sm:3'>{}</failed>",
                stanza("unexpected-request")
            ),
        ),
        (
            "<resume xmlns='urn:xmpp:sm:2' h='0' previd='x'/>".into(),
            format!(
                "<failed xmlns='urn:xmpp:sm:2'>{}</failed>",
                stanza("unexpected-request")
            ),
        ),
        (
            "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method>\
             </compress>"
                .into(),
            "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>".into(),
        ),
        (
            "<iq type='get' id=\"a'b\" to='example.org'><query xmlns='jabber:iq:auth'/></iq>"
                .into(),
            format!(
                "<iq type='error' id='a&apos;b' from='example.org'><error type='cancel'>{}\
                 </error></iq>",
                stanza("service-unavailable")
            ),
        ),
        (
            "<iq type='set' id='x'><query xmlns='jabber:iq:auth'><username>a</username></query>\
             </iq>"
                .into(),
            format!(
                "<iq type='error' id='x'><error type='cancel'>{}</error></iq>",
                stanza("service-unavailable")
            ),
        ),
    ];
    for (request, answer) in &table {
        let mut rig = Rig::at_sasl();
        rig.client(request);
        let lines = rig.take();
        let [Line::Client(xml)] = &lines[..] else {
            panic!("{request}: {lines:?}")
        };
        assert_eq!(&xml.replace("&#39;", "&apos;"), answer);
        rig.client(AUTH);
        rig.expect(&[to_server(AUTH)]);
    }
    // After login as well, but for SASL.
    for (request, answer) in &table[2..5] {
        let mut rig = Rig::at_bind();
        rig.client(request);
        rig.expect(&[to_client(answer.clone())]);
    }
}

#[test]
fn refusals_have_an_end() {
    let mut rig = Rig::at_sasl();
    for _ in 0..6 {
        rig.client("<enable xmlns='urn:xmpp:sm:3'/>");
    }
    let lines = rig.take();
    let (client, server) = Rig::sides(&lines);
    assert_eq!(client.matches("<failed").count(), 5);
    assert!(client.ends_with(&stream_error("policy-violation")));
    assert_eq!(server, END);
}

#[test]
fn binding_before_login_does_not_reach_the_server() {
    let mut rig = Rig::at_sasl();
    rig.client(BIND);
    rig.expect(&[to_client(
        "<iq type='error' id='b1'><error type='cancel'>\
         <not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
    )]);
}

/// STARTTLS of the client's stream has nothing to do with the uplink's.
#[test]
fn starttls_over_tls_does_not_reach_the_server() {
    for mut rig in [Rig::at_sasl(), Rig::at_bind()] {
        rig.client(STARTTLS);
        let (client, server) = Rig::sides(&rig.take());
        assert_eq!(
            client,
            format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{END}")
        );
        assert_eq!(server, END);
    }
}

/// XEP-0077, and stanzas whose spelling must not change (behaviours.md 69, 70).
#[test]
fn registration_and_the_unknown_pass_both_ways() {
    let exchange = [
        "<iq type='get' id='reg1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type=\"set\"\n id='reg2' x:y='&#x7A;' xmlns:x='urn:x'><query xmlns='jabber:iq:register'>\
         <username><![CDATA[bill]]></username><password>C&amp;lliope</password></query></iq>",
        "<unknown xmlns='urn:example'/>",
        "<message to='example.org'><body/></message>",
    ];
    let mut rig = Rig::at_sasl();
    for xml in exchange {
        rig.client(xml);
        rig.expect(&[to_server(xml)]);
        rig.server(xml);
        rig.expect(&[to_client(xml)]);
    }
    let features = SASL_FEATURES.replace("</stream", "<sm xmlns='urn:xmpp:sm:3'/></stream");
    rig.server(&features);
    rig.expect(&[to_client(SASL_FEATURES)]);
}

#[test]
fn authenticating_again_is_refused() {
    for auth in [AUTH.to_owned(), AUTH.replace("PLAIN", "SCRAM-SHA-1-PLUS")] {
        let mut rig = Rig::at_bind();
        rig.client(&auth);
        let (client, server) = Rig::sides(&rig.take());
        assert_eq!(client, stream_error("policy-violation"));
        assert_eq!(server, END);
    }
}

#[test]
fn the_header_after_login_is_checked_and_passed_on() {
    let after_success = || {
        let mut rig = Rig::at_sasl();
        rig.client(AUTH);
        rig.server(SUCCESS);
        rig.take();
        rig
    };
    let mut rig = after_success();
    rig.client(&CLIENT_HEADER.replace("xmlns=", "from='juliet@example.org' xml:lang='it' xmlns="));
    let (_, server) = Rig::sides(&rig.take());
    assert!(
        server.contains(" from='juliet@example.org' to='example.org' version='1.0' xml:lang='it' ")
    );

    let table = [
        (
            CLIENT_HEADER.replace("example.org", "example.net"),
            "host-unknown",
        ),
        (
            CLIENT_HEADER.replace("example.org", "example.com"),
            "host-unknown",
        ),
        (
            CLIENT_HEADER.replace("version='1.0'", ""),
            "unsupported-version",
        ),
        (
            CLIENT_HEADER.replace("jabber:client", "jabber:server"),
            "invalid-namespace",
        ),
    ];
    for (header, condition) in table {
        let mut rig = after_success();
        rig.client(&header);
        let (client, server) = Rig::sides(&rig.take());
        assert!(client.starts_with("<?xml"), "{client}");
        assert!(client.ends_with(&stream_error(condition)), "{client}");
        assert_eq!(server, "", "its next stream has not begun");
    }
}
