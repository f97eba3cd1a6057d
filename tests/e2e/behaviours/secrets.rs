//! What the proxy keeps of a password: nothing, once the login is over.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mucplex_testkit::client::Mechanism;

use crate::stage::{Front, Stage, until};

crate::tests![no_password_stays_behind];

/// The forms in which a password may lie in memory: as it is, and as part of what base64 makes of
/// it, wherever it begins in a group of three bytes.
fn forms(password: &str) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("as it is".to_owned(), password.as_bytes().to_vec())];
    for before in 0..3 {
        let text = format!("{}{password}", "\0".repeat(before));
        let encoded = BASE64_STANDARD.encode(&text);
        // Without the characters that depend on what is around it.
        let start = (before * 8).div_ceil(6);
        let end = text.len() * 8 / 6;
        forms.push((format!("base64, {before}"), encoded[start..end].into()));
    }
    forms
}

/// The forms of the password that are in the file.
fn found(file: &Path, password: &str) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap();
    let found = forms(password)
        .into_iter()
        .filter(|(_, form)| memchr::memmem::find(&bytes, form).is_some());
    found
        .map(|(name, _)| format!("{}: {name}", file.display()))
        .collect()
}

async fn no_password_stays_behind(stage: Stage) {
    let stage = stage.hashed().await;
    let store = tempfile::tempdir().unwrap();
    let key = store.path().join("seal.key");
    let mut seal = std::process::Command::new(mucplex_testkit::proxy::binary_path());
    let sealed = seal.args(["seal-key", "--out"]).arg(&key).status().unwrap();
    assert!(sealed.success());
    let sections = format!(
        "[store]\npath = '{}'\n[anchor]\nseal_key_file = '{}'",
        store.path().join("mucplex.db").display(),
        key.display(),
    );
    let front = Front::with_anchors(stage.server, &sections).await;
    let mut bob = stage.room_with_bob().await;
    let alice = stage.account("alice").await;
    let mut phone = front
        .login(&alice)
        .mechanism(Mechanism::Plain)
        .resource("phone")
        .connect()
        .await
        .unwrap();
    phone.join(&stage.room, "alice").await.unwrap();
    let bound = front
        .tap
        .wait_until(|all| all.iter().any(|it| it.count_down("/mucplex-") > 0))
        .await;
    assert!(bound, "no anchor");
    // The login is over, and some traffic has passed.
    bob.say(&stage.room, "hello").await.unwrap();
    until(&mut phone, "hello").await;
    phone.drain_until_pong().await.unwrap();

    let pid = front.proxy.pid().unwrap();
    let core = store.path().join("core");
    let mut gcore = tokio::process::Command::new("gcore");
    gcore.arg("-o").arg(&core).arg(pid.to_string());
    let output = tokio::time::timeout(Duration::from_secs(60), gcore.output())
        .await
        .unwrap();
    let output = output.expect("gcore, of the Debian package gdb");
    assert!(output.status.success(), "{output:?}");
    let core = store.path().join(format!("core.{pid}"));
    // What is surely there is found.
    assert!(memchr::memmem::find(&std::fs::read(&core).unwrap(), alice.user.as_bytes()).is_some());

    let mut files: Vec<_> = std::fs::read_dir(store.path())
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    files.push(front.proxy.log_path());
    let all: Vec<_> = files
        .iter()
        .flat_map(|file| found(file, &alice.password))
        .collect();
    assert_eq!(all, [""; 0]);
}
