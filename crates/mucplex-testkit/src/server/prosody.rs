//! Configuration and start of Prosody.

use std::path::Path;

use super::{Feature, Launch, Options, Ports, ServerError, mkdir, write};
use crate::component::{self, SECRET};
use crate::process::find_program;
use crate::tls::Certificate;
use crate::{DOMAIN, ROOMS};

const MODULES: &str = r#""blocklist", "bookmarks", "c2s", "carbons", "csi", "disco", "iq",
    "message", "pep", "ping", "presence", "private", "register", "roster", "saslauth", "time", "tls", "vcard4", "vcard_legacy", "version""#;

/// Where the package `prosody-modules` puts its modules.
const MODULES_OF_OTHERS: &str = "/usr/lib/prosody/modules";

/// 10 kB/s with bursts of 2 s, as in the configuration file of the package.
const LIMITS: &str = r#"limits = { c2s = { rate = "10kb/s", burst = "2s" } }"#;

pub(super) fn prepare(
    dir: &Path,
    ports: Ports,
    certificate: &Certificate,
    options: &Options,
) -> Result<Launch, ServerError> {
    let program = find_program("prosody").ok_or(ServerError::NotInstalled {
        program: "prosody",
        package: "prosody",
    })?;
    let push_module = Path::new(MODULES_OF_OTHERS).join("mod_cloud_notify");
    if options.push && !push_module.is_dir() {
        return Err(ServerError::NotInstalled {
            program: "mod_cloud_notify",
            package: "prosody-modules",
        });
    }
    mkdir(&dir.join("data"))?;
    mkdir(&dir.join("certs"))?;
    let config = dir.join("prosody.cfg.lua");
    write(&config, &configuration(dir, ports, certificate, options))?;
    Ok(Launch {
        program,
        arguments: vec!["-F".into(), "--config".into(), config.display().to_string()],
        environment: Vec::new(),
    })
}

/// The modules that the options ask for, each with a comma before it.
fn modules(options: &Options) -> String {
    let modules = [
        (options.has(Feature::Archive), "mam"),
        (options.has(Feature::OfflineStorage), "offline"),
        (options.has(Feature::StreamManagement), "smacks"),
        (options.push, "cloud_notify"),
        (options.rate_limits, "limits"),
    ];
    let wanted = modules.iter().filter(|(wanted, _)| *wanted);
    wanted.map(|(_, name)| format!(", \"{name}\"")).collect()
}

/// The limits of stream management, those that are set.
fn stream_management(options: &Options) -> String {
    let limits = &options.stream_management;
    let lines = [
        ("smacks_hibernation_time", limits.resume_timeout),
        ("smacks_max_queue_size", limits.max_unacked),
        ("smacks_max_ack_delay", limits.ack_timeout),
    ];
    let set = lines
        .iter()
        .filter_map(|(key, value)| Some((key, (*value)?)));
    set.map(|(key, value)| format!("{key} = {value}\n"))
        .collect()
}

fn configuration(dir: &Path, ports: Ports, files: &Certificate, options: &Options) -> String {
    let dir = dir.display();
    let plain = ports.plain.port();
    let direct = ports.direct.port();
    let component = ports.component.port();
    let components: String = component::domains()
        .map(|domain| format!("Component \"{domain}\"\n    component_secret = \"{SECRET}\"\n"))
        .collect();
    let certificate = files.certificate.display();
    let key = files.key.display();
    let require_tls = options.require_tls;
    let authentication = if options.hashed_passwords {
        "internal_hashed"
    } else {
        "internal_plain"
    };
    let stanza_bytes = options.stanza_bytes.unwrap_or(4 << 20);
    let limits = if options.rate_limits { LIMITS } else { "" };
    let (modules, stream_management) = (modules(options), stream_management(options));
    let archive = if options.room_archive {
        "muc_log_by_default = true"
    } else {
        ""
    };
    // The console stands on the module of the socket.
    let (disabled, console) = match ports.commands {
        Some(address) => (
            "",
            format!(
                "console_ports = {{ {} }}\nconsole_banner = \"\"",
                address.port()
            ),
        ),
        None => (r#", "admin_socket""#, String::new()),
    };
    let room_modules = [
        options.room_archive.then_some("\"muc_mam\", "),
        options.commands.then_some("\"admin_telnet\", "),
    ];
    let room_modules: String = room_modules.into_iter().flatten().collect();
    let Options {
        extra, extra_rooms, ..
    } = options;
    format!(
        r#"run_as_root = true
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
certificates = "{dir}/certs"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {plain} }}
c2s_direct_tls_ports = {{ {direct} }}
component_ports = {{ {component} }}
modules_enabled = {{ {MODULES}{modules} }}
modules_disabled = {{ "s2s"{disabled} }}
c2s_require_encryption = {require_tls}
allow_unencrypted_plain_auth = true
allow_registration = true
authentication = "{authentication}"
storage = "internal"
c2s_stanza_size_limit = {stanza_bytes}
log = {{ info = "*console" }}
ssl = {{ certificate = "{certificate}"; key = "{key}" }}
{limits}
{stream_management}{console}
{extra}

VirtualHost "{DOMAIN}"

Component "{ROOMS}" "muc"
    modules_enabled = {{ {room_modules}}}
    {archive}
    {extra_rooms}

{components}"#
    )
}
