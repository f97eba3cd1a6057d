use std::path::PathBuf;

use mucplex_muc::NickConflict;
use rcgen::generate_simple_self_signed;
use tempfile::TempDir;

use super::*;

/// PEM files of a domain.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            let pair = generate_simple_self_signed(["example.org".to_owned()]).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), pair.cert.pem()).unwrap();
            std::fs::write(
                dir.path().join(format!("{name}.key")),
                pair.signing_key.serialize_pem(),
            )
            .unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A domain that works, and what else it says.
    fn domain(&self, more: &str) -> String {
        let (certificate, key) = (self.path("one.pem"), self.path("one.key"));
        format!(
            "[[domain]]\nname = 'example.org'\nupstream = '127.0.0.1:5222'\nupstream_tls = 'none'\n\
             certificate = {certificate:?}\nkey = {key:?}\n{more}\n"
        )
    }

    fn complete(&self, more: &str) -> String {
        format!(
            "{}[[listen]]\naddress = '127.0.0.1:0'\n{more}\n",
            self.domain("")
        )
    }
}

fn load(toml: &str) -> Result<Config, ConfigError> {
    Config::from_parts(toml, environment("MUCPLEX_UNIT_TESTS_SET_NONE_"))
}

/// The one line the operator sees.
fn complaint(toml: &str) -> String {
    load(toml)
        .expect_err("this configuration must not stand")
        .to_string()
}

#[test]
fn defaults() {
    let files = Files::new();
    let config = load(&files.complete("")).unwrap();
    assert_eq!(config.rooms.stay.as_secs(), 7 * 24 * 3600);
    assert_eq!(config.rooms.history.as_secs(), 30 * 24 * 3600);
    assert_eq!(config.session.outbox_bytes, 4 << 20);
    assert_eq!(config.session.stanza_bytes, 256 << 10);
    assert_eq!(config.session.resume_timeout.as_secs(), 600);
    assert!(config.anchor.enabled && config.anchor.replay_login);
    assert!(config.anchor.seal_key.is_none());
    assert_eq!(config.anchor.reconnect_per_second.get(), 10);
    assert_eq!(config.store, None);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.listeners[0].tls, ListenerTls::StartTls);
    assert_eq!(
        config.domains[0].upstream,
        Target::Host {
            host: "127.0.0.1".into(),
            port: 5222
        }
    );
}

#[test]
fn values() {
    let files = Files::new();
    let toml = files.complete(
        "tls = 'direct'\n[rooms]\nstay = '0s'\nhistory = '12h'\nnick_conflict = 'rename'\npassthrough = []\n\
         [session]\noutbox_bytes = '1MiB'\nstanza_bytes = 65536\n[log]\nformat = 'json'\nlevel = 'warn,mucplex=trace'",
    );
    let config = load(&toml).unwrap();
    assert!(config.rooms.stay.is_zero());
    assert_eq!(config.rooms.nick_conflict, NickConflict::Rename);
    assert_eq!(config.session.outbox_bytes, 1 << 20);
    assert_eq!(config.session.stanza_bytes, 65536);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.listeners[0].tls, ListenerTls::Direct);
}

#[test]
fn what_outlives_the_process() {
    let files = Files::new();
    let (store, key) = (files.path("mucplex.db"), files.path("seal.key"));
    SealKey::create(&key).unwrap();
    let toml = files.complete(&format!(
        "[session]\nresume_timeout = '0s'\n[store]\npath = {store:?}\n[anchor]\nenabled = false\n\
         replay_login = false\nseal_key_file = {key:?}\nreconnect_per_second = 1"
    ));
    let config = load(&toml).unwrap();
    assert!(config.session.resume_timeout.is_zero());
    assert_eq!(config.store, Some(store.clone()));
    assert!(!config.anchor.enabled && !config.anchor.replay_login);
    assert!(config.anchor.seal_key.is_some());
    assert_eq!(config.anchor.reconnect_per_second.get(), 1);

    let with_key = |file: &Path| {
        complaint(&files.complete(&format!(
            "[store]\npath = {store:?}\n[anchor]\nseal_key_file = {file:?}"
        )))
    };
    let told = with_key(&files.path("one.pem"));
    assert!(told.starts_with("anchor.seal_key_file = "), "{told}");
    assert!(told.contains("mode 0644; allowed is 0600"), "{told}");
    let told = with_key(&files.path("no.key"));
    assert!(told.contains("no.key: No such file"), "{told}");
    let told = complaint(&files.complete(&format!("[anchor]\nseal_key_file = {key:?}")));
    assert!(told.contains("set store.path"), "{told}");
    let told = complaint(&files.complete(&format!("[store]\npath = {:?}", files.dir.path())));
    assert!(
        told.starts_with("store.path = ") && told.contains("allowed is a file"),
        "{told}"
    );
}

#[test]
fn a_domain_without_an_upstream_is_looked_up() {
    let files = Files::new();
    let srv = |tls: &str| {
        let toml = files
            .complete("")
            .replace("upstream = '127.0.0.1:5222'\n", "")
            .replace(
                "upstream_tls = 'none'",
                &format!(
                    "upstream_tls = '{tls}'\nupstream_ca = {:?}",
                    files.path("one.pem")
                ),
            )
            .replace("example.org", "Bücher.example");
        let config = load(&toml).unwrap();
        assert_eq!(config.domains[0].name, "bücher.example");
        config.domains[0].upstream.clone()
    };
    let domain = "xn--bcher-kva.example".to_owned();
    assert_eq!(
        srv("starttls"),
        Target::Srv {
            domain: domain.clone(),
            service: mucplex_net::Service::Client
        }
    );
    assert_eq!(
        srv("direct"),
        Target::Srv {
            domain,
            service: mucplex_net::Service::DirectTlsClient
        }
    );
}

#[test]
fn what_is_not_there_yet_is_refused() {
    let files = Files::new();
    for (more, key) in [
        (
            "proxy_protocol_from = ['10.0.0.0/8']",
            "listen[0].proxy_protocol_from = [\"10.0.0.0/8\"]: the PROXY",
        ),
        (
            "[admin]\naddress = '127.0.0.1:9090'",
            "[admin] = …: the admin interface",
        ),
    ] {
        let complaint = complaint(&files.complete(more));
        assert!(complaint.starts_with(key), "{complaint}");
        assert!(
            complaint.contains("not available in this version"),
            "{complaint}"
        );
    }
    let toml = format!(
        "{}[[listen]]\naddress = '[::1]:0'\n",
        files.domain("proxy_protocol = 'v2'")
    );
    assert!(
        complaint(&toml)
            .starts_with("domain[0].proxy_protocol = \"v2\": the PROXY protocol is not available")
    );
    let toml = format!(
        "{}[[listen]]\naddress = '[::1]:0'\n",
        files.domain("proxy_protocol = 'off'")
    );
    assert!(load(&toml).is_ok());
}

#[test]
fn a_mistake_is_told_with_key_value_and_what_is_allowed() {
    let files = Files::new();
    for (more, told) in [
        (
            "[rooms]\nstay = '7 moons'",
            "rooms.stay = \"7 moons\": allowed is a duration from \"0s\"",
        ),
        (
            "[rooms]\nstay = '4000d'",
            "rooms.stay = \"4000d\": allowed is a duration",
        ),
        (
            "[rooms]\npassthrough = ['*@irc.example.org', 'irc.example.org']",
            "rooms.passthrough[1] = \"irc.example.org\": allowed is a glob over the bare JIDs",
        ),
        (
            "[rooms]\npassthrough = ['Tea@muc.example.org']",
            "rooms.passthrough[0] = \"Tea@muc.example.org\": allowed is a glob",
        ),
        (
            "[rooms]\npassthrough = '*@irc.example.org'",
            "rooms.passthrough = string \"*@irc.example.org\": allowed is a sequence",
        ),
        (
            "[rooms]\nstay = 7",
            "rooms.stay = \"7\": allowed is a duration",
        ),
        (
            "[rooms]\nstay = true",
            "rooms.stay = bool true: allowed is a number with a unit",
        ),
        (
            "[rooms]\nstays = '7d'",
            "rooms.stays: no such key here; allowed is one of `stay`, `nick_conflict`",
        ),
        (
            "[rooms]\nnick_conflict = 'fight'",
            "rooms.nick_conflict = \"fight\": allowed is \"account\", \"rename\", \"separate\"",
        ),
        (
            "[session]\nstanza_bytes = '9kB'",
            "session.stanza_bytes = \"9kB\": allowed is a size from \"10000B\"",
        ),
        (
            "[session]\noutbox_bytes = '1000KiB'",
            "session.outbox_bytes = \"1000KiB\": allowed is a size from four",
        ),
        (
            "[session]\nresume_timeout = 'ever'",
            "session.resume_timeout = \"ever\": allowed is a duration from \"0s\"",
        ),
        (
            "[anchor]\nreconnect_per_second = 0",
            "anchor.reconnect_per_second = 0: allowed is a whole number from 1",
        ),
        (
            "[anchor]\nreconnect_per_second = -1",
            "anchor.reconnect_per_second = -1: allowed is a whole number from 1",
        ),
        (
            "[anchor]\nenabled = 'sometimes'",
            "anchor.enabled = string \"sometimes\": allowed is a boolean",
        ),
        (
            "[anchor]\nseal_key = 'x'",
            "anchor.seal_key: no such key here; allowed is one of `enabled`",
        ),
        ("[store]", "store.path: missing; allowed is a file, such as"),
        (
            "[store]\npath = ''",
            "store.path = \"\": allowed is a file, such as",
        ),
        (
            "[store]\npath = '/no/such/mucplex.db'",
            "store.path = \"/no/such/mucplex.db\": its directory is not there",
        ),
        (
            "[log]\nformat = 'xml'",
            "log.format = \"xml\": allowed is \"text\"",
        ),
        (
            "[log]\nlevel = 'mucplex=loud'",
            "log.level = \"mucplex=loud\": allowed is a level",
        ),
        (
            "[[listen]]\naddress = 'localhost:5222'",
            "listen[1].address = \"localhost:5222\": allowed is an IP address",
        ),
        (
            "[[listen]]\naddress = '[::]:5222'\ntls = 'maybe'",
            "listen[1].tls = \"maybe\": allowed is \"starttls\"",
        ),
        (
            "[[listen]]\ntls = 'direct'",
            "listen[1].address: missing; allowed is an IP address",
        ),
        (
            "[muc]",
            "muc: no such key here; allowed is one of `domain`, `listen`",
        ),
    ] {
        let complaint = complaint(&files.complete(more));
        assert!(complaint.starts_with(told), "{complaint}");
    }
    let twice = "[[listen]]\naddress = '127.0.0.1:5222'\n[[listen]]\naddress = '127.0.0.1:5222'";
    assert!(
        complaint(&files.complete(twice))
            .starts_with("listen[2].address = \"127.0.0.1:5222\": another")
    );
    assert!(
        complaint("[[domain").contains("TOML parse error"),
        "{}",
        complaint("[[domain")
    );
}

#[test]
fn domains_and_listeners_are_needed() {
    let files = Files::new();
    assert_eq!(
        complaint(&files.domain("")),
        "listen: missing; allowed is at least one [[listen]]"
    );
    let alone = "[[listen]]\naddress = '127.0.0.1:0'\n";
    assert_eq!(
        complaint(alone),
        "domain: missing; allowed is at least one [[domain]]"
    );
}

#[test]
fn mistakes_in_a_domain() {
    let files = Files::new();
    let listen = "[[listen]]\naddress = '127.0.0.1:0'\n";
    let changed = |from: &str, to: &str| {
        let domain = files.domain("");
        assert!(domain.contains(from));
        complaint(&format!("{}{listen}", domain.replace(from, to)))
    };
    for (from, to, told) in [
        (
            "example.org",
            "exa mple",
            "domain[0].name = \"exa mple\": allowed is a domain name",
        ),
        (
            "example.org",
            "a@b",
            "domain[0].name = \"a@b\": allowed is a domain name",
        ),
        (
            "127.0.0.1:5222",
            "127.0.0.1",
            "domain[0].upstream = \"127.0.0.1\": allowed is a host and port",
        ),
        (
            "127.0.0.1:5222",
            "::1:5222",
            "domain[0].upstream = \"::1:5222\": allowed is a host and port",
        ),
        (
            "127.0.0.1:5222",
            "host:0",
            "domain[0].upstream = \"host:0\": allowed is a host and port",
        ),
        (
            "'none'",
            "'yes'",
            "domain[0].upstream_tls = \"yes\": allowed is \"none\"",
        ),
        (
            "'none'",
            "'none'\nupstream_ca = '/ca'",
            "domain[0].upstream_ca = \"/ca\": without TLS",
        ),
        (
            "'none'",
            "'direct'\nupstream_ca = '/no/ca'",
            "domain[0].upstream_ca = \"/no/ca\": /no/ca: ",
        ),
        (
            "name = ",
            "nome = ",
            "domain[0].nome: no such key here; allowed is one of `name`",
        ),
        (
            "name = 'example.org'\n",
            "",
            "domain[0].name: missing; allowed is a domain name",
        ),
    ] {
        let complaint = changed(from, to);
        assert!(complaint.starts_with(told), "{complaint}");
    }
    assert!(changed("one.key", "two.key").contains("the key does not belong to the certificate"));
    assert!(changed("one.key", "two.key").starts_with("domain[0].key = "));
    assert!(changed("one.key", "no.key").starts_with("domain[0].key = "));
    assert!(changed("one.pem", "no.pem").starts_with("domain[0].certificate = "));
    assert!(changed("one.pem", "one.key").contains("no certificate in it"));
    let twice = format!(
        "{}{}{listen}",
        files.domain(""),
        files.domain("").replace("example.org", "Example.ORG")
    );
    let told = "domain[1].name = \"Example.ORG\": another [[domain]] has this name";
    assert_eq!(complaint(&twice), told);
}

#[test]
fn upstream_hosts() {
    let files = Files::new();
    for (text, host) in [
        ("[::1]:5222", "::1"),
        ("xmpp.Example.org:5222", "xmpp.example.org"),
        ("localhost:1", "localhost"),
    ] {
        let toml = files.complete("").replace("127.0.0.1:5222", text);
        let Target::Host { host: parsed, .. } = &load(&toml).unwrap().domains[0].upstream else {
            panic!("{text} is a host")
        };
        assert_eq!(parsed, host);
    }
}
