//! Logins: each listener, each way to the server, each mechanism; and what the features offer.

use std::net::SocketAddr;
use std::time::Duration;

use mucplex_testkit::DOMAIN;
use mucplex_testkit::Element;
use mucplex_testkit::client::{Client, ClientError, Connection, Mechanism, Security};
use mucplex_testkit::proxy::{Proxy, Setup, UpstreamTls};
use mucplex_testkit::server::{Account, Options, Server};
use mucplex_testkit::transcript::{Names, diff};
use mucplex_testkit::xml::{NS_SASL, NS_TLS, Stanza};
use tokio::task::JoinSet;

use crate::raw::{Line, ends_with};
use crate::stage::Stage;

crate::tests![
    login_in_each_way,
    login_with_stored_keys_over_starttls_alone,
    login_with_a_wrong_password_and_then_the_right_one,
    login_is_refused_by_a_server_with_another_certificate,
    login_of_a_hundred_at_once,
    features_are_the_servers_but_for_what_ends_here,
    registration_before_login,
];

/// What a step of one login of many may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const UPSTREAMS: [UpstreamTls; 3] = [
    UpstreamTls::None,
    UpstreamTls::StartTls,
    UpstreamTls::Direct,
];

/// Both listeners of a proxy.
fn listeners(proxy: &Proxy) -> [(SocketAddr, Security); 2] {
    [
        (proxy.starttls(), Security::StartTls(proxy.trust())),
        (proxy.direct_tls(), Security::DirectTls(proxy.trust())),
    ]
}

async fn login_in_each_way(stage: Stage) {
    let alice = stage.account("alice").await;
    for upstream in UPSTREAMS {
        let proxy = Setup::server(stage.server, upstream).start().await.unwrap();
        for (address, security) in listeners(&proxy) {
            let mut mechanisms = vec![
                Mechanism::Plain,
                Mechanism::ScramSha1,
                Mechanism::ScramSha256,
            ];
            if upstream == UpstreamTls::None {
                // Over TLS the server may know better than to believe that the client saw no offer
                // to bind.
                mechanisms.extend([Mechanism::ScramSha1Binding, Mechanism::ScramSha256Binding]);
            }
            for mechanism in mechanisms {
                let login = alice
                    .login(address)
                    .security(security.clone())
                    .mechanism(mechanism);
                let mut client = login.resource("phone").connect().await.unwrap();
                assert_eq!(client.jid(), format!("{}/phone", alice.jid()));
                assert!(client.drain_until_pong().await.unwrap().is_empty());
                let alpn =
                    matches!(security, Security::DirectTls(_)).then_some(&b"xmpp-client"[..]);
                assert_eq!(client.alpn(), alpn);
                client.close().await.unwrap();
            }
        }
    }
}

/// A server that keeps no passwords and refuses logins without TLS.
async fn login_with_stored_keys_over_starttls_alone(stage: Stage) {
    let options = Options {
        require_tls: true,
        hashed_passwords: true,
        ..Options::default()
    };
    let server = Server::start_with(stage.kind, options).await.unwrap();
    let alice = server.account("alice").await.unwrap();
    let proxy = Setup::server(&server, UpstreamTls::StartTls)
        .start()
        .await
        .unwrap();
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha1] {
        let mut client = proxy
            .login(&alice)
            .mechanism(mechanism)
            .connect()
            .await
            .unwrap();
        client.drain_until_pong().await.unwrap();
    }
    // Without TLS to the server no login is possible, and the client is told before it shows its
    // password.
    let line = Line::start(server.plain()).await;
    let (address, security) = line.starttls();
    let mut connection = Connection::open(address).await.unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    connection.features().await.unwrap();
    let Security::StartTls(trust) = security else {
        unreachable!("it is the listener with STARTTLS")
    };
    let mut connection = connection.starttls(DOMAIN, &trust).await.unwrap();
    connection.open_stream(DOMAIN).await.unwrap();
    ends_with(&mut connection, "remote-connection-failed").await;
}

async fn login_with_a_wrong_password_and_then_the_right_one(stage: Stage) {
    let alice = stage.account("alice").await;
    for mechanism in [
        Mechanism::Plain,
        Mechanism::ScramSha1,
        Mechanism::ScramSha256,
    ] {
        let line = Line::start(stage.server.plain()).await;
        let login = line.proxy.login(&alice).mechanism(mechanism);
        let (mut connection, _) = line.secured().await;
        let wrong = login.clone().password("wrong").sasl(&mut connection).await;
        let Err(ClientError::Login(failure)) = wrong else {
            panic!("{wrong:?}")
        };
        assert!(failure.has_child("not-authorized", NS_SASL), "{failure:?}");
        assert_eq!(
            line.tap.count_down(failure.raw_str()),
            1,
            "the server's own words"
        );

        login.sasl(&mut connection).await.unwrap();
        connection.open_stream(DOMAIN).await.unwrap();
        connection.features().await.unwrap();
        login
            .bind(connection)
            .await
            .unwrap()
            .drain_until_pong()
            .await
            .unwrap();
    }
}

async fn login_is_refused_by_a_server_with_another_certificate(stage: Stage) {
    // Another proxy's authority, which has signed a certificate for the same name.
    let other = stage.front.proxy.dir().join("ca.pem");
    for upstream in [UpstreamTls::StartTls, UpstreamTls::Direct] {
        let address = match upstream {
            UpstreamTls::Direct => stage.server.direct_tls(),
            UpstreamTls::StartTls | UpstreamTls::None => stage.server.starttls(),
        };
        let line = Line::start_with(address, |setup| setup.tls(upstream, &other)).await;
        for (address, security) in listeners(&line.proxy) {
            let trust = line.proxy.trust();
            let mut connection = match security {
                Security::StartTls(_) => {
                    let mut connection = Connection::open(address).await.unwrap();
                    connection.open_stream(DOMAIN).await.unwrap();
                    connection.features().await.unwrap();
                    connection.starttls(DOMAIN, &trust).await.unwrap()
                }
                Security::DirectTls(_) | Security::Plain => {
                    Connection::open_tls(address, DOMAIN, &trust).await.unwrap()
                }
            };
            connection.open_stream(DOMAIN).await.unwrap();
            ends_with(&mut connection, "remote-connection-failed").await;
        }
        assert_eq!(line.tap.count_up("<auth"), 0);
    }
}

async fn login_of_a_hundred_at_once(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let accounts = [
        stage.account("alice").await,
        stage.account("bob").await,
        stage.account("carol").await,
    ];
    let mut logins = JoinSet::new();
    for number in 0..100 {
        let account: &Account = &accounts[number % accounts.len()];
        // Many derivations of keys at once would measure this machine.
        let mechanism = if number % 10 == 0 {
            Mechanism::ScramSha1
        } else {
            Mechanism::Plain
        };
        let resource = format!("r{number}");
        let login = line
            .proxy
            .login(account)
            .mechanism(mechanism)
            .resource(&resource);
        // ejabberd keeps five connections waiting and no more, so they are opened one by one.
        let (mut connection, _) = line.secured().await;
        logins.spawn(async move {
            connection.set_timeout(PATIENCE);
            login.sasl(&mut connection).await.unwrap();
            connection.open_stream(DOMAIN).await.unwrap();
            connection.features().await.unwrap();
            let mut client = login.bind(connection).await.unwrap();
            client.drain_until_pong().await.unwrap();
            client
        });
    }
    let clients = logins.join_all().await;
    assert_eq!(line.tap.recordings().len(), 100);
    let mut resources: Vec<&str> = clients.iter().map(Client::resource).collect();
    resources.sort_unstable();
    resources.dedup();
    assert_eq!(resources.len(), 100);
}

async fn features_are_the_servers_but_for_what_ends_here(stage: Stage) {
    let alice = stage.account("alice").await;
    for upstream in UPSTREAMS {
        let proxy = Setup::server(stage.server, upstream).start().await.unwrap();
        let (address, security) = match upstream {
            UpstreamTls::None => (stage.server.plain(), Security::Plain),
            UpstreamTls::StartTls => (
                stage.server.starttls(),
                Security::StartTls(stage.server.trust()),
            ),
            UpstreamTls::Direct => (
                stage.server.direct_tls(),
                Security::DirectTls(stage.server.trust()),
            ),
        };
        let (_, direct) = Connection::secured(address, DOMAIN, &security)
            .await
            .unwrap();
        let (_, direct_after) = alice
            .login(address)
            .security(security)
            .authenticate()
            .await
            .unwrap();
        for (address, security) in listeners(&proxy) {
            let (_, before) = Connection::secured(address, DOMAIN, &security)
                .await
                .unwrap();
            same_features(&direct, &before);
            let (_, after) = alice
                .login(address)
                .security(security)
                .authenticate()
                .await
                .unwrap();
            let mut after = after;
            let managed = after.element.remove_child("sm", "urn:xmpp:sm:3");
            assert!(managed.is_some(), "behaviour 56: {after:?}");
            same_features(&with_csi(direct_after.clone()), &after);
        }
        let mut connection = Connection::open(proxy.starttls()).await.unwrap();
        connection.open_stream(DOMAIN).await.unwrap();
        let only = connection.features().await.unwrap();
        let starttls = only.get_child("starttls", NS_TLS).unwrap();
        assert!(
            starttls.has_child("required", NS_TLS) && only.children().count() == 1,
            "{only:?}"
        );
    }
}

/// Behaviour 65: the proxy offers client state indication after login by itself.
fn with_csi(mut features: Stanza) -> Stanza {
    let csi = Element::bare("csi", "urn:xmpp:csi:0");
    if !features.has_child("csi", "urn:xmpp:csi:0") {
        features.element.append_child(csi);
    }
    features
}

/// What the server offers without what the proxy must not pass on, each element as it is.
#[track_caller]
fn same_features(direct: &Stanza, proxied: &Stanza) {
    let mut expected = direct.element.clone();
    let nodes = expected.take_nodes();
    for node in nodes {
        match node.as_element() {
            Some(feature) if ends_here(feature) => {}
            Some(feature) if feature.is("mechanisms", NS_SASL) => {
                expected.append_child(without_binding(feature));
            }
            _ => expected.append_node(node),
        }
    }
    let text = |element: &Element| Names::default().canonical(element);
    let difference = diff(&text(&expected), &text(&proxied.element));
    assert_eq!(
        difference,
        None,
        "- the server's, + the proxy's\n{}",
        difference.clone().unwrap_or_default()
    );
    for hidden in [
        "-PLUS",
        "sasl-channel-binding",
        "urn:xmpp:sm:2",
        "compress",
        "urn:xmpp:sasl:",
        "<starttls",
    ] {
        assert!(
            !proxied.raw_str().contains(hidden),
            "{hidden} in {proxied:?}"
        );
    }
}

fn ends_here(feature: &Element) -> bool {
    let ns = feature.ns();
    feature.is("starttls", NS_TLS)
        || (feature.name() == "sm" && ns.starts_with("urn:xmpp:sm:"))
        || (feature.name() == "authentication" && ns.starts_with("urn:xmpp:sasl:"))
        || feature.is("sasl-channel-binding", "urn:xmpp:sasl-cb:0")
        || feature.is("compression", "http://jabber.org/features/compress")
        || feature.is("auth", "http://jabber.org/features/iq-auth")
}

fn without_binding(mechanisms: &Element) -> Element {
    let mut kept = Element::bare("mechanisms", NS_SASL);
    for child in mechanisms.children() {
        if !child.text().ends_with("-PLUS")
            && !child.is("sasl-channel-binding", "urn:xmpp:sasl-cb:0")
        {
            kept.append_child(child.clone());
        }
    }
    kept
}

async fn registration_before_login(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    for (number, (address, security)) in
        [line.starttls(), line.direct_tls()].into_iter().enumerate()
    {
        let name = format!("new-{}-{number}", stage.room.split('@').next().unwrap());
        let fresh = Account::new(stage.server, &name, "a secret & more");
        fresh.submit(address, &security).await.unwrap();
        let mut client = fresh
            .login(address)
            .security(security)
            .connect()
            .await
            .unwrap();
        client.drain_until_pong().await.unwrap();
        // It exists on the server itself.
        fresh.direct().connect().await.unwrap();
    }
    let taken = stage.account("taken").await;
    let (address, security) = line.direct_tls();
    let error = taken.submit(address, &security).await.unwrap_err();
    assert!(error.to_string().contains("conflict"), "{error}");
}
