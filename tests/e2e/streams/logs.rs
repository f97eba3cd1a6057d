//! What the log may not tell: no stanza, no password, nothing of a SASL exchange.

use mucplex_testkit::client::{Entry, Mechanism};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::NS_SASL;

use super::json;
use crate::raw::{Line, ends_with};
use crate::stage::Stage;

crate::tests![log_as_json_tells_no_secrets, log_as_text_tells_no_secrets];

/// In a body, a subject, a nick's status, an attribute: whatever holds it is content.
const SECRET: &str = "correct horse battery staple";

async fn log_as_json_tells_no_secrets(stage: Stage) {
    let line = Line::start_with(stage.server.plain(), |setup| {
        setup.section("[log]\nlevel = \"debug\"\nformat = \"json\"")
    })
    .await;
    let output = lead_a_life(&stage, line).await;
    let wrong: Vec<&str> = output
        .lines()
        .filter(|line| !json::is_object(line))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        !json::is_object("{\"a\":1}}")
            && !json::is_object("{\"a\"}")
            && json::is_object("{\"a\":[1,\"\\\"\"]}")
    );
}

async fn log_as_text_tells_no_secrets(stage: Stage) {
    // Every level of every dependency.
    let line = Line::start_with(stage.server.plain(), |setup| {
        setup.section("[log]\nlevel = \"trace\"")
    })
    .await;
    lead_a_life(&stage, line).await;
}

/// Logins that succeed and fail, messages, a room, malformed bytes; then the log must not know of
/// them.
async fn lead_a_life(stage: &Stage, mut line: Line) -> String {
    let alice = stage.account("alice").await;
    let mut secrets = vec![SECRET.to_owned(), alice.password.clone()];
    for mechanism in [
        Mechanism::Plain,
        Mechanism::ScramSha1,
        Mechanism::ScramSha256,
    ] {
        let login = line.proxy.login(&alice).mechanism(mechanism);
        let (mut refused, _) = line.secured().await;
        login
            .clone()
            .password("wrong horse")
            .sasl(&mut refused)
            .await
            .unwrap_err();
        secrets.push("wrong horse".to_owned());
        secrets.extend(sasl_payloads(refused.log()));

        let mut client = login.connect().await.unwrap();
        secrets.extend(sasl_payloads(client.log()));
        talk(stage, &mut client).await;
        for broken in [
            "<message><body>{}</message>",
            "<message a='{}' a='{}'/>",
            "<!-- {} -->",
            "<message from='{}'/>",
        ] {
            let mut client = login.connect().await.unwrap();
            client.send_raw(broken.replace("{}", SECRET)).await.unwrap();
            client.read_to_end().await.unwrap();
        }
        client.close().await.unwrap();
    }
    assert!(secrets.len() > 20, "payloads of both sides were seen");
    uplink_is_lost(&line, &alice).await;
    line.proxy.terminate().unwrap();
    line.proxy
        .wait(std::time::Duration::from_secs(10))
        .await
        .unwrap();
    let output = line.proxy.output();
    assert!(
        output.contains("session bound") && output.contains(&alice.jid()),
        "{output}"
    );
    for secret in secrets {
        let told: Vec<&str> = output
            .lines()
            .filter(|line| line.contains(&secret))
            .collect();
        assert!(told.is_empty(), "{secret:?} in {told:#?}");
    }
    output
}

async fn talk(stage: &Stage, client: &mut mucplex_testkit::client::Client) {
    let (room, own) = (stage.room.clone(), client.jid().to_owned());
    client
        .send_raw(format!(
            "<message type='chat' to='{own}'><body>{SECRET}</body></message>"
        ))
        .await
        .unwrap();
    client.join(&room, "alice").await.unwrap();
    client.say(&room, SECRET).await.unwrap();
    client.leave(&room, "alice", Some(SECRET)).await.unwrap();
    client.drain_until_pong().await.unwrap();
}

async fn uplink_is_lost(line: &Line, alice: &Account) {
    let mut client = line.proxy.login(alice).connect().await.unwrap();
    line.tap.reset(line.uplink_of_last());
    ends_with(&mut client, "remote-connection-failed").await;
}

/// The texts of the SASL elements that were sent and received.
fn sasl_payloads(log: &[Entry]) -> Vec<String> {
    let elements = log
        .iter()
        .filter(|entry| entry.text.contains(NS_SASL) && !entry.text.contains("<mechanism>"));
    let texts = elements
        .filter_map(|entry| Some(entry.text.split_once('>')?.1.split_once('<')?.0.to_owned()));
    texts.filter(|text| text.len() > 4).collect()
}
