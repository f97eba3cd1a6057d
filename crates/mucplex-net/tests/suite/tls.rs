use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use mucplex_net::{ClientTls, Connection, Identity, ServerTls, TlsError, Transport, tls};
use mucplex_xml::{Event, Limits};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

const NAMES: [&str; 2] = ["one.example", "bücher.example"];

/// Two domains with a certificate each.
struct Domains {
    dir: TempDir,
    tls: ServerTls,
}

impl Domains {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut domains = Vec::new();
        for (index, name) in NAMES.iter().enumerate() {
            let CertifiedKey::<KeyPair> { cert, signing_key } =
                generate_simple_self_signed([tls::ascii_name(name).unwrap()]).unwrap();
            let (certificate, key) = (
                dir.path().join(format!("{index}.pem")),
                dir.path().join(format!("{index}.key")),
            );
            std::fs::write(&certificate, cert.pem()).unwrap();
            std::fs::write(&key, signing_key.serialize_pem()).unwrap();
            domains.push((
                (*name).to_owned(),
                Identity::from_pem_files(&certificate, &key).unwrap(),
            ));
        }
        Self {
            tls: ServerTls::new(&domains).unwrap(),
            dir,
        }
    }

    fn certificate(&self, domain: usize) -> PathBuf {
        self.dir.path().join(format!("{domain}.pem"))
    }

    fn der(&self, domain: usize) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.certificate(domain)).unwrap()
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialed = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    (listener.accept().await.unwrap().0, dialed)
}

/// Which certificate a client gets that trusts both.
async fn shown(
    domains: &Domains,
    config: Arc<rustls::ServerConfig>,
    sni: Option<&str>,
) -> CertificateDer<'static> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(domains.der(0)).unwrap();
    roots.add(domains.der(1)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_sni = sni.is_some();
    let (accepted, dialed) = pair().await;
    let server = tokio::spawn(
        Connection::new(Transport::Plain(accepted), Limits::default()).secure_as_server(config),
    );
    // Without SNI the certificate of the fallback is expected; with an unknown one, verification
    // fails later.
    let name = ServerName::try_from(sni.unwrap_or("one.example").to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(client))
        .connect(name, dialed)
        .await
        .unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned();
    assert!(server.await.unwrap().unwrap().is_secured());
    shown
}

#[tokio::test]
async fn sni_chooses_the_certificate() {
    let domains = Domains::new();
    let direct = domains.tls.direct();
    assert_eq!(
        shown(&domains, direct.clone(), Some("one.example")).await,
        domains.der(0)
    );
    assert_eq!(
        shown(&domains, direct.clone(), Some("xn--bcher-kva.example")).await,
        domains.der(1)
    );
    // The stream header of STARTTLS named the first domain, SNI the other: SNI is what the client
    // verifies.
    let starttls = domains.tls.starttls(0).unwrap();
    assert_eq!(
        shown(&domains, starttls, Some("xn--bcher-kva.example")).await,
        domains.der(1)
    );
}

#[tokio::test]
async fn without_sni_the_stream_header_chooses() {
    let domains = Domains::new();
    assert_eq!(
        shown(&domains, domains.tls.direct(), None).await,
        domains.der(0)
    );
    assert_eq!(
        shown(&domains, domains.tls.starttls(0).unwrap(), None).await,
        domains.der(0)
    );
    assert!(domains.tls.starttls(2).is_none());
}

/// Whether a direct-TLS listener takes a client that offers these protocols.
async fn alpn_accepted(offered: &[&str]) -> bool {
    let domains = Domains::new();
    let client_tls = ClientTls::new("one.example", Some(&domains.certificate(0))).unwrap();
    let mut config = ClientConfig::clone(&client_tls.direct());
    config.alpn_protocols = offered
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    let (accepted, dialed) = pair().await;
    let server = Connection::new(Transport::Plain(accepted), Limits::default());
    let server = tokio::spawn(server.secure_as_server(domains.tls.direct()));
    // The client's own handshake may be done before the server's refusal reaches it.
    let _client = TlsConnector::from(Arc::new(config))
        .connect(client_tls.name(), dialed)
        .await;
    server.await.unwrap().is_ok()
}

#[tokio::test]
async fn alpn_of_direct_tls() {
    assert!(alpn_accepted(&["xmpp-client"]).await);
    assert!(alpn_accepted(&["h2", "xmpp-client"]).await);
    assert!(alpn_accepted(&[]).await);
    assert!(!alpn_accepted(&["h2", "http/1.1"]).await);
    assert!(!alpn_accepted(&["xmpp-server"]).await);
}

#[tokio::test]
async fn an_uplink_verifies_the_domain() {
    let domains = Domains::new();
    for (domain, ca, accepted) in [(1, 1, true), (0, 0, true), (0, 1, false)] {
        let client = ClientTls::new(NAMES[domain], Some(&domains.certificate(ca))).unwrap();
        let (there, here) = pair().await;
        let config = domains.tls.starttls(domain).unwrap();
        tokio::spawn(
            Connection::new(Transport::Plain(there), Limits::default()).secure_as_server(config),
        );
        let here = Connection::new(Transport::Plain(here), Limits::default());
        let secured = here
            .secure_as_client(client.starttls(), client.name())
            .await;
        assert_eq!(secured.is_ok(), accepted, "{domain} {ca}");
    }
}

#[tokio::test]
async fn stanzas_pass_under_tls_and_a_cut_is_an_end() {
    let domains = Domains::new();
    let client = ClientTls::new(NAMES[0], Some(&domains.certificate(0))).unwrap();
    let (there, here) = pair().await;
    let there = Connection::new(Transport::Plain(there), Limits::default());
    let server = tokio::spawn(there.secure_as_server(domains.tls.direct()));
    let here = Connection::new(Transport::Plain(here), Limits::default());
    let mut here = here
        .secure_as_client(client.direct(), client.name())
        .await
        .unwrap();
    let mut there = server.await.unwrap().unwrap();
    here.outbox_mut().push(Bytes::from_static(
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    ));
    for _ in 0..3_000 {
        here.outbox_mut().push(Bytes::from_static(
            b"<message><body>0123456789</body></message>",
        ));
    }
    let (all_read, wait) = tokio::sync::oneshot::channel::<()>();
    let client = tokio::spawn(async move {
        here.flush().await.unwrap();
        // Reads the session tickets: a socket closed with unread bytes is reset.
        tokio::select! {
            read = here.read() => panic!("{read:?}"),
            _ = wait => {}
        }
        // No close_notify: dropped as a process dies.
        drop(here);
    });
    let mut frames = 0;
    while frames < 3_000 {
        assert_ne!(there.read().await.unwrap(), 0);
        while let Some(event) = there.framer_mut().next_event().unwrap() {
            frames += usize::from(matches!(event, Event::Frame(_)));
        }
    }
    all_read.send(()).unwrap();
    assert_eq!(there.read().await.unwrap(), 0);
    client.await.unwrap();
    // Securing twice is refused, not undefined.
    let again = there.secure_as_server(domains.tls.direct());
    assert!(
        tokio::time::timeout(Duration::from_secs(5), again)
            .await
            .unwrap()
            .is_err()
    );
}

#[test]
fn identities() {
    let domains = Domains::new();
    let key = |domain: usize| domains.dir.path().join(format!("{domain}.key"));
    let identity = Identity::from_pem_files(&domains.certificate(1), &key(1)).unwrap();
    assert!(identity.is_for("bücher.example") && identity.is_for("xn--bcher-kva.example"));
    assert!(!identity.is_for("one.example"));
    let mixed = Identity::from_pem_files(&domains.certificate(1), &key(0));
    assert!(matches!(mixed, Err(TlsError::Mismatch { .. })));
    let absent = Identity::from_pem_files(&domains.dir.path().join("none"), &key(0));
    assert!(matches!(absent, Err(TlsError::Unreadable { .. })));
    assert!(matches!(
        ClientTls::new("no name", None),
        Err(TlsError::Name(_))
    ));
}
