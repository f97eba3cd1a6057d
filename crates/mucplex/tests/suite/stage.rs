//! A proxy in front of a scripted server.

use std::path::Path;

use mucplex_testkit::{
    DOMAIN,
    client::{Client, Login, Security},
    proxy::{Proxy, Setup},
    scripted::{Peer, ScriptedServer},
    xml::Incoming,
};

pub(crate) struct Stage {
    pub(crate) server: ScriptedServer,
    pub(crate) proxy: Proxy,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With further sections of the configuration.
    pub(crate) async fn with(sections: &str) -> Self {
        let server = ScriptedServer::start().await.unwrap();
        let proxy = Setup::new(server.address())
            .binary(Path::new(env!("CARGO_BIN_EXE_mucplex")))
            // What a session does alone is seen where no anchor takes part.
            .section("[anchor]\nenabled = false")
            .section(sections)
            .start()
            .await
            .unwrap();
        Self { server, proxy }
    }

    pub(crate) fn login(&self, user: &str) -> Login {
        Login::new(self.proxy.starttls(), DOMAIN, user, "secret")
            .security(Security::StartTls(self.proxy.trust()))
    }

    /// A session of `user`: its client, and its uplink as the server sees it.
    pub(crate) async fn session(&self, user: &str) -> (Client, Peer) {
        let login = self.login(user);
        let (client, peer) = tokio::join!(login.connect(), self.server.accept());
        (client.unwrap(), peer.unwrap())
    }
}

/// The next thing must be the end of the stream.
pub(crate) async fn expect_end(peer: &mut mucplex_testkit::client::Connection) {
    let next = peer.next("the end of the stream").await.unwrap();
    assert!(matches!(next, Incoming::Close), "{}", peer.transcript());
}

/// A stream error of this condition, and the end.
pub(crate) async fn expect_stream_error(
    peer: &mut mucplex_testkit::client::Connection,
    condition: &str,
) {
    let error = peer.recv_for("a stream error").await.unwrap();
    assert_eq!(error.name(), "error", "{}", peer.transcript());
    assert!(error.raw_str().contains(condition), "{}", error.raw_str());
    expect_end(peer).await;
}
