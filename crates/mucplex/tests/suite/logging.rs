//! What must never stand in the log.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mucplex_testkit::{
    DOMAIN,
    client::{Login, Security},
};

use crate::stage::Stage;

#[tokio::test]
async fn no_secret_and_no_body_at_any_level() {
    let stage = Stage::with("[log]\nlevel = 'trace'\nformat = 'json'").await;
    let login = Login::new(stage.proxy.starttls(), DOMAIN, "alice", "hunter2-password")
        .security(Security::StartTls(stage.proxy.trust()));
    let (client, peer) = tokio::join!(login.connect(), stage.server.accept());
    let (mut client, mut peer) = (client.unwrap(), peer.unwrap());
    client
        .send_raw("<message to='b@example.test'><body>a-private-word</body></message>")
        .await
        .unwrap();
    peer.recv().await.unwrap();
    peer.send_raw("<message><body>another-private-word</body></message>")
        .await
        .unwrap();
    client.recv().await.unwrap();
    client
        .send_raw("<message to='b@example.test'><body>a-broken-word</message>")
        .await
        .unwrap();
    client.recv().await.unwrap();

    let output = stage.proxy.output();
    assert!(output.contains("session bound"), "{output}");
    assert!(
        output.contains("\"account\":\"alice@example.test\""),
        "{output}"
    );
    let payload = BASE64_STANDARD.encode("\0alice\0hunter2-password");
    for secret in ["hunter2", payload.as_str(), "private-word", "broken-word"] {
        assert!(!output.contains(secret), "{secret} is in the log");
    }
    for line in output.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
}
