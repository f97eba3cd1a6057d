//! Configuration and start of ejabberd, without `ejabberdctl`: that script changes to another
//! user and starts the port mapper of Erlang, which would outlive the test.

use std::fmt::Write as _;
use std::path::Path;

use super::{Feature, Launch, Options, Ports, ServerError, mkdir, write};
use crate::component::SECRET;
use crate::process::find_program;
use crate::tls::Certificate;
use crate::{DOMAIN, ROOMS};

pub(super) fn prepare(
    dir: &Path,
    ports: Ports,
    certificate: &Certificate,
    options: &Options,
) -> Result<Launch, ServerError> {
    let not_installed = |program, package| ServerError::NotInstalled { program, package };
    let script = find_program("ejabberdctl").ok_or(not_installed("ejabberdctl", "ejabberd"))?;
    let program = find_program("erl").ok_or(not_installed("erl", "erlang-base"))?;
    for name in ["database", "home"] {
        mkdir(&dir.join(name))?;
    }
    let config = dir.join("ejabberd.yml");
    write(&config, &configuration(ports, certificate, options))?;

    let path = |name: &str| dir.join(name).display().to_string();
    let arguments = ["-noinput", "-start_epmd", "false", "-mnesia", "dir"]
        .map(str::to_owned)
        .into_iter()
        .chain([
            format!("\"{}\"", path("database")),
            "-s".into(),
            "ejabberd".into(),
        ])
        .collect();
    let environment = vec![
        ("HOME".into(), path("home")),
        ("ERL_LIBS".into(), libraries(&script)?),
        ("ERL_CRASH_DUMP".into(), path("crash.dump")),
        ("EJABBERD_CONFIG_PATH".into(), config.display().to_string()),
        ("EJABBERD_LOG_PATH".into(), path("ejabberd.log")),
    ];
    Ok(Launch {
        program,
        arguments,
        environment,
    })
}

/// The directory of the Erlang applications, which depends on the architecture: the package wrote
/// it into its control script.
fn libraries(script: &Path) -> Result<String, ServerError> {
    let text = std::fs::read_to_string(script)
        .map_err(ServerError::io(format!("read {}", script.display())))?;
    let missing = std::io::Error::new(std::io::ErrorKind::InvalidData, "no ERL_LIBS line");
    text.lines()
        .find_map(|line| line.trim().strip_prefix("ERL_LIBS="))
        .map(|value| value.trim_matches(['\'', '"']).to_owned())
        .ok_or(missing)
        .map_err(ServerError::io(script.display().to_string()))
}

/// The entries of the `listen` list.
fn listeners(ports: Ports, options: &Options) -> String {
    let stanza_bytes = match options.stanza_bytes {
        Some(bytes) => bytes.to_string(),
        None => "infinity".to_owned(),
    };
    let shaper = if options.rate_limits {
        ", shaper: c2s_shaper"
    } else {
        ""
    };
    let listen = |port: u16, tls: &str| {
        format!(
            "  - {{port: {port}, ip: \"127.0.0.1\", module: ejabberd_c2s, access: all, \
             max_stanza_size: {stanza_bytes}, {tls}: true{shaper}}}\n"
        )
    };
    let plain = if options.require_tls {
        "starttls_required"
    } else {
        "starttls"
    };
    // Without a list of hosts it takes any; a component of a list would get what is for all of it.
    let components = format!(
        "  - {{port: {port}, ip: \"127.0.0.1\", module: ejabberd_service, access: all, \
         password: \"{SECRET}\"}}\n",
        port = ports.component.port(),
    );
    let commands = ports.commands.map(|address| {
        format!(
            "  - {{port: {port}, ip: \"127.0.0.1\", module: ejabberd_http, \
             request_handlers: {{/api: mod_http_api}}}}\n",
            port = address.port(),
        )
    });
    [
        listen(ports.plain.port(), plain),
        listen(ports.starttls.port(), "starttls_required"),
        listen(ports.direct.port(), "tls"),
        components,
        commands.unwrap_or_default(),
    ]
    .concat()
}

/// The modules that the options ask for.
fn optional_modules(options: &Options) -> String {
    let mut modules = String::new();
    if options.has(Feature::Archive) {
        modules.push_str("  mod_mam:\n    default: always\n    db_type: mnesia\n");
    }
    if options.has(Feature::OfflineStorage) {
        modules.push_str("  mod_offline: {}\n");
    }
    if options.push {
        modules.push_str("  mod_push_keepalive: {}\n");
    }
    if options.has(Feature::StreamManagement) {
        let limits = &options.stream_management;
        let set = [
            ("resume_timeout", limits.resume_timeout),
            ("max_ack_queue", limits.max_unacked),
            ("ack_timeout", limits.ack_timeout),
        ];
        let _ = write!(
            modules,
            "  mod_stream_mgmt:\n    resend_on_timeout: {}\n",
            limits.resend
        );
        for (key, value) in set {
            if let Some(value) = value {
                let _ = writeln!(modules, "    {key}: {value}");
            }
        }
    }
    modules
}

fn configuration(ports: Ports, files: &Certificate, options: &Options) -> String {
    let bundle = files.bundle.display();
    let ca = files.ca.display();
    let listeners = listeners(ports, options);
    let (command_modules, permissions) = if options.commands {
        (
            "  mod_admin_extra: {}\n  mod_muc_admin: {}\n",
            "api_permissions:\n  kit: {from: [mod_http_api], who: all, what: \"*\"}\n",
        )
    } else {
        ("", "")
    };
    let format = if options.hashed_passwords {
        "scram"
    } else {
        "plain"
    };
    let archive = options.room_archive;
    let optional_modules = optional_modules(options);
    let Options {
        extra, extra_rooms, ..
    } = options;
    format!(
        r#"hosts: ["{DOMAIN}"]
loglevel: info
log_rotate_count: 0
certfiles: ["{bundle}"]
ca_file: "{ca}"
acme: {{auto: false}}
auth_method: internal
auth_password_format: {format}
registration_timeout: infinity
access_rules:
  anyone: {{allow: all}}
shaper:
  slow: {{rate: 3000, burst_size: 20000}}
shaper_rules:
  c2s_shaper: {{slow: all}}
{permissions}listen:
{listeners}
modules:
  mod_adhoc: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_muc:
    host: "{ROOMS}"
    max_user_conferences: 100000
    max_users: 10000
    default_room_options:
      mam: {archive}
    {extra_rooms}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub:
    plugins: [flat, pep]
  mod_push: {{}}
  mod_register:
    access: anyone
    ip_access: all
    password_strength: 0
  mod_roster: {{}}
  mod_vcard: {{}}
  mod_version: {{}}
{optional_modules}{command_modules}{extra}
"#
    )
}
