//! The command line and its exit codes.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use rcgen::generate_simple_self_signed;
use tempfile::TempDir;

const BAD_CONFIGURATION: Option<i32> = Some(64);

fn mucplex() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mucplex"));
    command.env_remove("MUCPLEX_ROOMS__STAY");
    command
}

fn configuration(more: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pair = generate_simple_self_signed(["example.org".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let text = format!(
        "[[domain]]\nname = 'example.org'\nupstream = '127.0.0.1:1'\nupstream_tls = 'none'\n\
         certificate = {certificate:?}\nkey = {key:?}\n[[listen]]\naddress = '127.0.0.1:0'\n{more}\n"
    );
    std::fs::write(dir.path().join("mucplex.toml"), text).unwrap();
    dir
}

fn run(dir: &Path) -> Command {
    let mut command = mucplex();
    command
        .arg("run")
        .arg("--config")
        .arg(dir.join("mucplex.toml"));
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_bad_configuration_is_told_and_ends_with_64() {
    let dir = configuration("[rooms]\nstay = 'long'");
    let output = run(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), BAD_CONFIGURATION);
    let told = told(&output);
    assert!(
        told.starts_with("mucplex: rooms.stay = \"long\": allowed is a duration"),
        "{told}"
    );
}

#[test]
fn what_is_missing_so_far_is_told_too() {
    let dir = configuration("[admin]\naddress = '127.0.0.1:9090'");
    let output = run(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), BAD_CONFIGURATION);
    assert!(told(&output).contains("the admin interface is not available in this version"));
}

#[test]
fn the_environment_overrides_the_file() {
    let dir = configuration("[rooms]\nstay = '1h'");
    let output = run(dir.path())
        .env("MUCPLEX_ROOMS__STAY", "soon")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), BAD_CONFIGURATION);
    assert!(told(&output).contains("rooms.stay = \"soon\""));
    let output = run(dir.path())
        .env("MUCPLEX_SESSION__STANZA_BYTES", "5000")
        .output()
        .unwrap();
    assert!(told(&output).contains("session.stanza_bytes = \"5000\""));
    let output = run(dir.path())
        .env("MUCPLEX_ROOMS__STYA", "1h")
        .output()
        .unwrap();
    assert!(
        told(&output).contains("rooms.stya: no such key here"),
        "{}",
        told(&output)
    );
    let output = run(dir.path())
        .env("MUCPLEX_LISTEN", "[{address=\"nowhere\"}]")
        .output()
        .unwrap();
    assert!(
        told(&output).contains("listen[0].address = \"nowhere\""),
        "{}",
        told(&output)
    );
}

#[test]
fn no_file_and_no_sense_end_with_64() {
    let absent = run(Path::new("/nonexistent")).output().unwrap();
    assert_eq!(absent.status.code(), BAD_CONFIGURATION);
    assert!(told(&absent).starts_with("mucplex: /nonexistent/mucplex.toml: "));
    for arguments in [&["walk"][..], &["run"], &["run", "--fast"], &[]] {
        let output = mucplex().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), BAD_CONFIGURATION, "{arguments:?}");
    }
}

#[test]
fn a_seal_key_is_made_once_and_fits_the_configuration() {
    let dir = configuration("");
    let key = dir.path().join("seal.key");
    let make = || {
        mucplex()
            .arg("seal-key")
            .arg("--out")
            .arg(&key)
            .output()
            .unwrap()
    };
    let made = make();
    assert!(made.status.success(), "{}", told(&made));
    let line = String::from_utf8(made.stdout).unwrap();
    assert_eq!(line, format!("anchor.seal_key_file = {key:?}\n"));
    let text = std::fs::read_to_string(&key).unwrap();
    let secret = text.trim().strip_prefix("mucplex-seal-key-1:").unwrap();
    assert!(!line.contains(secret));

    let again = make();
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(
        told(&again),
        format!(
            "mucplex: {}: there already; a key is never overwritten\n",
            key.display()
        )
    );
    assert_eq!(std::fs::read_to_string(&key).unwrap(), text);
    let nowhere = mucplex()
        .args(["seal-key", "--out", "/no/such/key"])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(told(&nowhere).starts_with("mucplex: /no/such/key: No such file"));
    let without = mucplex().arg("seal-key").output().unwrap();
    assert_eq!(without.status.code(), BAD_CONFIGURATION);

    let store = dir.path().join("mucplex.db");
    let setting = line.strip_prefix("anchor.").unwrap();
    let more = format!("[store]\npath = {store:?}\n[log]\nformat = 'xml'\n[anchor]\n{setting}");
    let dir = configuration(&more);
    // The key is good: what is told is the next mistake.
    let output = run(dir.path()).output().unwrap();
    assert!(told(&output).contains("log.format"), "{}", told(&output));
}

#[test]
fn a_store_that_cannot_be_trusted_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("mucplex.db");
    std::fs::write(&store, "not a database").unwrap();
    let configured = configuration(&format!("[store]\npath = {store:?}"));
    let output = run(configured.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "cannot open the store: {}: not a store of mucplex",
        store.display()
    );
    assert!(told(&output).contains(&expected), "{}", told(&output));
    assert_eq!(std::fs::read(&store).unwrap(), b"not a database");
}

#[test]
fn whether_anything_is_kept_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("mucplex.db");
    for (more, line) in [
        (String::new(), "nothing outlives this process"),
        (format!("[store]\npath = {store:?}"), "store opened"),
    ] {
        let configured = configuration(&more);
        let mut proxy = run(configured.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(proxy.stderr.take().unwrap());
        let mut before = log
            .lines()
            .map_while(Result::ok)
            .take_while(|l| !l.contains("listening"));
        assert!(before.any(|told| told.contains(line)), "{line}");
        proxy.kill().unwrap();
        proxy.wait().unwrap();
    }
    assert!(store.exists());
}

#[test]
fn version() {
    let output = mucplex().arg("--version").output().unwrap();
    assert!(output.status.success());
    let expected = format!("mucplex {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = configuration(&format!("[[listen]]\naddress = '{address}'"));
    let output = run(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains(&format!("cannot serve: {address}: ")),
        "{}",
        told(&output)
    );
}

#[test]
fn the_real_port_is_logged() {
    // A variable that some orchestrators set is not taken for a setting.
    let dir = configuration("");
    let mut proxy = run(dir.path())
        .env("MUCPLEX_PORT", "tcp://10.0.0.1:5222")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(proxy.stderr.take().unwrap());
    let line = log
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("listening"))
        .unwrap();
    let port = line
        .split("address=127.0.0.1:")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    proxy.kill().unwrap();
    proxy.wait().unwrap();
}
