//! Client libraries of others, through the proxy: each plays the scene of `tests/clients`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mucplex_testkit::program;

use crate::stage::{Front, Stage};

crate::tests![
    b01_b02_b07_b09_b14_b20_b21_b27_b34_b39_b41_b42_b47_b50_aioxmpp,
    b01_b02_b07_b09_b14_b20_b21_b27_b34_b39_b41_b42_b47_b50_slixmpp,
];

/// What one run of a scene may take; the scene itself gives up a little earlier.
const LIMIT: Duration = Duration::from_secs(85);

async fn b01_b02_b07_b09_b14_b20_b21_b27_b34_b39_b41_b42_b47_b50_aioxmpp(stage: Stage) {
    play("aioxmpp_scene.py", &stage).await;
}

async fn b01_b02_b07_b09_b14_b20_b21_b27_b34_b39_b41_b42_b47_b50_slixmpp(stage: Stage) {
    play("slixmpp_scene.py", &stage).await;
}

/// The scene with one device and no proxy shows that it asks for what the library does with this
/// server; then two devices come through the proxy.
async fn play(script: &str, stage: &Stage) {
    let front = stage.own_front("").await;
    run(script, stage, &front, &["--direct", "--one-device"]).await;
    assert!(front.tap.recordings().is_empty(), "a direct run is direct");
    run(script, stage, &front, &[]).await;

    // What a device says, and each hears, crosses to the server and back once.
    let text = "it is still me";
    let recordings = front.tap.recordings();
    let up: usize = recordings.iter().map(|one| one.count_up(text)).sum();
    let down: usize = recordings.iter().map(|one| one.count_down(text)).sum();
    assert_eq!((up, down), (1, 1));
}

/// One run, with accounts and a room of its own.
async fn run(script: &str, stage: &Stage, front: &Front, more: &[&str]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("clients");
    let room = stage.server.new_room("scene");
    let mut arguments: Vec<OsString> = vec!["-B".into(), directory.join(script).into()];
    let mut add = |name: &str, value: &str| arguments.extend([name.into(), value.into()]);
    add("--room", &room);
    add("--proxy", &front.proxy.starttls().port().to_string());
    add("--proxy-ca", &front.proxy.ca_pem().to_string_lossy());
    add("--server", &stage.server.starttls().port().to_string());
    add("--server-ca", &stage.server.ca_pem().to_string_lossy());
    for name in ["alice", "bob", "carol"] {
        let account = stage.account(name).await;
        arguments.extend([format!("--{name}"), account.jid(), account.password].map(Into::into));
    }
    arguments.extend(more.iter().map(Into::into));

    let finished = program::run(&interpreter(), &arguments, LIMIT)
        .await
        .unwrap();
    let (success, output) = (finished.success, finished.output);
    assert!(
        success,
        "{script} {} on {}:\n{output}",
        more.join(" "),
        stage.kind
    );
}

/// The Python of the environment that `tests/clients/install.sh` makes in the target directory,
/// or the one that `MUCPLEX_CLIENTS_PYTHON` names.
fn interpreter() -> PathBuf {
    if let Some(path) = std::env::var_os("MUCPLEX_CLIENTS_PYTHON") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let found = test
        .ancestors()
        .map(|dir| dir.join("clients-venv/bin/python"))
        .find(|path| path.is_file());
    found.expect("the client libraries are not installed: run tests/clients/install.sh")
}
