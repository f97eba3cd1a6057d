//! Before the login: headers, STARTTLS, and what is refused there.

use mucplex_testkit::DOMAIN;
use mucplex_testkit::client::{Connection, STREAM_HEADER_END};
use mucplex_testkit::proxy::UpstreamTls;
use mucplex_testkit::server::Server;
use mucplex_testkit::tls::{Certificate, Trust};
use mucplex_testkit::xml::{NS_SASL, NS_STREAM, NS_TLS, Stanza};

use crate::raw::{Line, end_of, ends_with};
use crate::stage::Stage;

crate::tests![
    greeting_with_a_header_that_is_refused,
    greeting_needs_tls_before_all_else,
    greeting_refuses_bytes_behind_starttls,
    greeting_refuses_starttls_over_tls,
    greeting_refuses_another_domain_after_starttls,
    greeting_refuses_what_ends_at_the_proxy,
    greeting_of_two_domains_one_with_a_wrong_certificate,
    greeting_without_a_word_holds_nobody_up,
];

/// An unencrypted stream whose features have been read.
async fn unencrypted(line: &Line) -> Connection {
    let mut connection = Connection::open(line.proxy.starttls()).await.unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    connection.features().await.unwrap();
    connection
}

async fn greeting_with_a_header_that_is_refused(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let namespaces = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";
    let headers = [
        (
            format!("<stream:stream to='unknown.test' {STREAM_HEADER_END}"),
            "host-unknown",
        ),
        (
            format!("<stream:stream {STREAM_HEADER_END}"),
            "host-unknown",
        ),
        (
            format!("<stream:stream to='alice@{DOMAIN}' {STREAM_HEADER_END}"),
            "host-unknown",
        ),
        (
            format!("<stream:stream to='{DOMAIN}' {namespaces}>"),
            "unsupported-version",
        ),
        (
            format!("<stream:stream to='{DOMAIN}' version='0.9' {namespaces}>"),
            "unsupported-version",
        ),
        (
            format!("<stream:stream to='{DOMAIN}' version='2.0' {namespaces}>"),
            "unsupported-version",
        ),
        (
            format!("<stream:stream to='{DOMAIN}' version='one' {namespaces}>"),
            "unsupported-version",
        ),
        (
            format!(
                "<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:server' xmlns:stream='{NS_STREAM}'>"
            ),
            "invalid-namespace",
        ),
        (
            format!(
                "<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' xmlns:stream='urn:other'>"
            ),
            "invalid-namespace",
        ),
    ];
    for (header, condition) in &headers {
        let mut plain = Connection::open(line.proxy.starttls()).await.unwrap();
        let trust = line.proxy.trust();
        let mut secured = Connection::open_tls(line.proxy.direct_tls(), DOMAIN, &trust)
            .await
            .unwrap();
        for connection in [&mut plain, &mut secured] {
            connection.send_raw(header).await.unwrap();
            let answer = connection.header().await.unwrap();
            assert!(answer.id().is_some(), "{answer:?}");
            ends_with(connection, condition).await;
        }
    }
    assert!(
        line.tap.recordings().is_empty(),
        "no uplink is opened for any of them"
    );
}

async fn greeting_needs_tls_before_all_else(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let mut connection = unencrypted(&line).await;
    connection
        .send_raw(format!(
            "<auth xmlns='{NS_SASL}' mechanism='PLAIN'>AGEAYg==</auth>"
        ))
        .await
        .unwrap();
    let failure = connection.recv().await.unwrap();
    assert!(
        failure.has_child("encryption-required", NS_SASL),
        "{failure:?}"
    );
    // The stream goes on, and TLS is still possible.
    let mut connection = connection
        .starttls(DOMAIN, &line.proxy.trust())
        .await
        .unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    connection.features().await.unwrap();

    for stanza in [
        "<message to='bob@example.test'><body>a</body></message>",
        "<presence/>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
    ] {
        let mut connection = unencrypted(&line).await;
        connection.send_raw(stanza).await.unwrap();
        ends_with(&mut connection, "not-authorized").await;
    }
    assert_eq!(line.tap.recordings().len(), 1);
}

async fn greeting_refuses_bytes_behind_starttls(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let header = format!("<stream:stream to='{DOMAIN}' {STREAM_HEADER_END}");
    for behind in [header.as_str(), " ", "\u{16}\u{3}\u{1}", "<auth/>"] {
        let mut connection = unencrypted(&line).await;
        connection
            .send_raw(format!("<starttls xmlns='{NS_TLS}'/>{behind}"))
            .await
            .unwrap();
        let end = end_of(&mut connection).await;
        let [failure] = end.before.as_slice() else {
            panic!("{behind:?}: {end:?}")
        };
        assert!(failure.is("failure", NS_TLS), "{behind:?}: {failure:?}");
    }
    assert!(line.tap.recordings().is_empty());
}

async fn greeting_refuses_starttls_over_tls(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let (mut connection, _) = line.secured().await;
    connection
        .send_raw(format!("<starttls xmlns='{NS_TLS}'/>"))
        .await
        .unwrap();
    let end = end_of(&mut connection).await;
    assert!(
        matches!(end.before.as_slice(), [failure] if failure.is("failure", NS_TLS)),
        "{end:?}"
    );
    assert_eq!(line.tap.count_up("<starttls"), 0);
}

async fn greeting_refuses_another_domain_after_starttls(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let connection = unencrypted(&line).await;
    let mut connection = connection
        .starttls(DOMAIN, &line.proxy.trust())
        .await
        .unwrap();
    connection.open_stream("unknown.test").await.unwrap();
    ends_with(&mut connection, "host-unknown").await;
}

async fn greeting_refuses_what_ends_at_the_proxy(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let (mut connection, _) = line.secured().await;
    type Check = fn(&Stanza) -> bool;
    let requests: [(&str, Check); 5] = [
        (
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1-PLUS'>cD10bHM=</auth>",
            |answer| {
                answer.is("failure", NS_SASL) && answer.has_child("invalid-mechanism", NS_SASL)
            },
        ),
        (
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>AGEAYg==</initial-response></authenticate>",
            |answer| answer.is("failure", "urn:xmpp:sasl:2"),
        ),
        ("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", |answer| {
            answer.is("failed", "urn:xmpp:sm:3")
        }),
        (
            "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
            |answer| answer.is("failure", "http://jabber.org/protocol/compress"),
        ),
        (
            "<iq type='set' id='legacy'><query xmlns='jabber:iq:auth'><username>a</username><password>b</password></query></iq>",
            |answer| {
                answer.kind() == Some("error")
                    && answer.error_condition() == Some("service-unavailable")
            },
        ),
    ];
    for (request, is_refusal) in requests {
        connection.send_raw(request).await.unwrap();
        let answer = connection.recv().await.unwrap();
        assert!(is_refusal(&answer), "{request}: {answer:?}");
    }
    let alice = stage.account("alice").await;
    line.proxy
        .login(&alice)
        .sasl(&mut connection)
        .await
        .unwrap();
    for hidden in [
        "-PLUS",
        "urn:xmpp:sasl:2",
        "urn:xmpp:sm:",
        "compress",
        "iq:auth",
    ] {
        assert_eq!(line.tap.count_up(hidden), 0, "{hidden}");
    }
}

async fn greeting_of_two_domains_one_with_a_wrong_certificate(stage: Stage) {
    const OTHER: &str = "other.test";
    let server: &Server = stage.server;
    let dir = stage.front.proxy.dir().join(OTHER);
    std::fs::create_dir_all(&dir).unwrap();
    let files = Certificate::generate(&dir, &[OTHER]).unwrap();
    // The server's certificate is for example.test alone, so as other.test it proves nothing.
    let domain = |certificate: &str, key: &str| {
        format!(
            "[[domain]]\nname = \"{OTHER}\"\nupstream = \"{}\"\nupstream_tls = \"direct\"\nupstream_ca = \"{}\"\n\
             certificate = \"{certificate}\"\nkey = \"{key}\"\n",
            server.direct_tls(),
            server.ca_pem().display(),
        )
    };
    let section = domain(
        &files.certificate.display().to_string(),
        &files.key.display().to_string(),
    );
    let line = Line::start_with(server.direct_tls(), |setup| {
        setup
            .tls(UpstreamTls::Direct, server.ca_pem())
            .section(&section)
    })
    .await;
    // The certificate of each is chosen by SNI, so either authority's signature is accepted for its
    // own only.
    let trust = Trust::ca_file(&files.ca).unwrap();
    let mut wrong = Connection::open_tls(line.proxy.direct_tls(), OTHER, &trust)
        .await
        .unwrap();
    wrong.open_stream(OTHER).await.unwrap();
    ends_with(&mut wrong, "remote-connection-failed").await;
    assert!(
        Connection::open_tls(line.proxy.direct_tls(), DOMAIN, &trust)
            .await
            .is_err()
    );
    let (mut right, _) = line.secured().await;
    let alice = stage.account("alice").await;
    line.proxy.login(&alice).sasl(&mut right).await.unwrap();
}

async fn greeting_without_a_word_holds_nobody_up(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Connection::open(line.proxy.starttls()).await.unwrap());
        silent.push(Connection::open(line.proxy.direct_tls()).await.unwrap());
        silent.push(unencrypted(&line).await);
    }
    let alice = stage.account("alice").await;
    line.proxy
        .login(&alice)
        .connect()
        .await
        .unwrap()
        .drain_until_pong()
        .await
        .unwrap();
    assert_eq!(
        line.tap.recordings().len(),
        1,
        "only the one that said something has an uplink"
    );
}
