//! From the keys as written to settings that work.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use jid::DomainPart;
use mucplex_muc::{JidGlob, NickConflict, Passthrough, Policy};
use mucplex_net::{ClientTls, Identity, Service, Target, tls};
use mucplex_store::SealKey;
use mucplex_stream::{ListenerTls, UpstreamTls};
use tracing_subscriber::EnvFilter;

use super::{
    AnchorConfig, Config, ConfigError, Domain, ListenerConfig, LogConfig, LogFormat, SessionLimits,
    error::quoted,
    raw::{Raw, RawAnchor, RawDomain, RawListener, RawLog, RawRooms, RawSession, RawStore, Scalar},
    units::parse_bytes,
};

const DAY: u64 = 24 * 3600;
/// Ten years: long enough for ever, short enough to be added to any point in time.
const LONGEST: Duration = Duration::from_secs(3650 * DAY);

pub(super) fn validate(raw: Raw) -> Result<Config, ConfigError> {
    if raw.admin.is_some() {
        return Err(not_available(
            "[admin]".to_owned(),
            "…".to_owned(),
            "the admin interface is",
            "leave the section out",
        ));
    }
    Ok(Config {
        session: session(&raw.session)?,
        anchor: anchor(&raw.anchor, raw.store.as_ref())?,
        store: raw.store.as_ref().map(store).transpose()?,
        rooms: rooms(&raw.rooms)?,
        passthrough: passthrough(&raw.rooms.passthrough)?,
        log: log(raw.log)?,
        listeners: listeners(&raw.listen)?,
        domains: domains(&raw.domain)?,
    })
}

fn invalid(key: impl Into<String>, value: &str, allowed: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        key: key.into(),
        value: quoted(value),
        allowed: allowed.into(),
    }
}

fn unusable(key: impl Into<String>, value: &str, reason: &impl ToString) -> ConfigError {
    ConfigError::Unusable {
        key: key.into(),
        value: quoted(value),
        reason: reason.to_string(),
    }
}

fn not_available(
    key: String,
    value: String,
    missing: &'static str,
    allowed: &'static str,
) -> ConfigError {
    ConfigError::NotAvailable {
        key,
        value,
        missing,
        allowed,
    }
}

fn domains(raw: &[RawDomain]) -> Result<Vec<Domain>, ConfigError> {
    if raw.is_empty() {
        return Err(ConfigError::Missing {
            key: "domain".to_owned(),
            allowed: "at least one [[domain]]".to_owned(),
        });
    }
    let mut names = HashSet::new();
    let mut domains = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let domain = domain(&format!("domain[{index}]"), raw)?;
        if !names.insert(domain.name.clone()) {
            let key = format!("domain[{index}].name");
            return Err(unusable(
                key,
                &raw.name,
                &"another [[domain]] has this name",
            ));
        }
        domains.push(domain);
    }
    Ok(domains)
}

fn domain(key: &str, raw: &RawDomain) -> Result<Domain, ConfigError> {
    match raw.proxy_protocol.as_deref() {
        None | Some("off") => {}
        Some(value @ ("v1" | "v2")) => {
            return Err(not_available(
                format!("{key}.proxy_protocol"),
                quoted(value),
                "the PROXY protocol is",
                "allowed is \"off\"",
            ));
        }
        Some(other) => return Err(invalid(format!("{key}.proxy_protocol"), other, "\"off\"")),
    }
    let allowed = "a domain name, such as \"example.org\"";
    let name = DomainPart::new(&raw.name)
        .map_err(|_| invalid(format!("{key}.name"), &raw.name, allowed))?
        .as_str()
        .to_owned();
    let dns_name =
        tls::ascii_name(&name).map_err(|_| invalid(format!("{key}.name"), &raw.name, allowed))?;
    let upstream_tls = match raw.upstream_tls.as_deref() {
        None | Some("starttls") => UpstreamTls::StartTls,
        Some("none") => UpstreamTls::None,
        Some("direct") => UpstreamTls::Direct,
        Some(other) => {
            return Err(invalid(
                format!("{key}.upstream_tls"),
                other,
                "\"none\", \"starttls\" (the default) or \"direct\"",
            ));
        }
    };
    let upstream = match &raw.upstream {
        Some(text) => host_and_port(text).ok_or_else(|| {
            invalid(
                format!("{key}.upstream"),
                text,
                "a host and port, such as \"127.0.0.1:5222\"",
            )
        })?,
        None => Target::Srv {
            domain: dns_name,
            service: match upstream_tls {
                UpstreamTls::Direct => Service::DirectTlsClient,
                UpstreamTls::None | UpstreamTls::StartTls => Service::Client,
            },
        },
    };
    let client_tls = client_tls(key, &name, upstream_tls, raw.upstream_ca.as_deref())?;
    let identity = Identity::from_pem_files(Path::new(&raw.certificate), Path::new(&raw.key))
        .map_err(|error| identity_error(key, raw, &error))?;
    Ok(Domain {
        name,
        upstream,
        upstream_tls,
        client_tls,
        identity,
    })
}

fn identity_error(key: &str, raw: &RawDomain, error: &tls::TlsError) -> ConfigError {
    let about_key = match error {
        tls::TlsError::Mismatch { .. } => true,
        tls::TlsError::Unreadable { path, .. } => path == Path::new(&raw.key),
        tls::TlsError::Name(_) | tls::TlsError::NoRoots | tls::TlsError::Tls(_) => false,
    };
    if about_key {
        unusable(format!("{key}.key"), &raw.key, error)
    } else {
        unusable(format!("{key}.certificate"), &raw.certificate, error)
    }
}

fn client_tls(
    key: &str,
    name: &str,
    upstream_tls: UpstreamTls,
    ca: Option<&str>,
) -> Result<Option<ClientTls>, ConfigError> {
    let ca_key = format!("{key}.upstream_ca");
    match (upstream_tls, ca) {
        (UpstreamTls::None, None) => Ok(None),
        (UpstreamTls::None, Some(ca)) => Err(unusable(
            ca_key,
            ca,
            &"without TLS to the server nothing is verified; leave it out",
        )),
        (UpstreamTls::StartTls | UpstreamTls::Direct, Some(ca)) => {
            let tls = ClientTls::new(name, Some(Path::new(ca)));
            Ok(Some(tls.map_err(|error| unusable(ca_key, ca, &error))?))
        }
        (UpstreamTls::StartTls | UpstreamTls::Direct, None) => {
            let tls = ClientTls::new(name, None);
            Ok(Some(tls.map_err(|error| {
                unusable(format!("{key}.name"), name, &error)
            })?))
        }
    }
}

/// `host:port` or `[address]:port`.
fn host_and_port(text: &str) -> Option<Target> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv4()) =>
        {
            host.to_owned()
        }
        None if host.is_empty() || host.contains([':', '/', '@']) => return None,
        None => tls::ascii_name(host).ok()?,
    };
    Some(Target::Host { host, port })
}

fn listeners(raw: &[RawListener]) -> Result<Vec<ListenerConfig>, ConfigError> {
    if raw.is_empty() {
        return Err(ConfigError::Missing {
            key: "listen".to_owned(),
            allowed: "at least one [[listen]]".to_owned(),
        });
    }
    let mut seen = HashSet::new();
    let mut listeners = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let key = format!("listen[{index}]");
        if let Some(from) = &raw.proxy_protocol_from {
            return Err(not_available(
                format!("{key}.proxy_protocol_from"),
                format!("{from:?}"),
                "the PROXY protocol is",
                "leave the key out",
            ));
        }
        let address: SocketAddr = raw.address.parse().map_err(|_| {
            let allowed = "an IP address and port, such as \"0.0.0.0:5222\" or \"[::]:5222\"";
            invalid(format!("{key}.address"), &raw.address, allowed)
        })?;
        // Port 0 is another port each time.
        if address.port() != 0 && !seen.insert(address) {
            let reason = "another [[listen]] has this address";
            return Err(unusable(format!("{key}.address"), &raw.address, &reason));
        }
        let tls = match raw.tls.as_deref() {
            None | Some("starttls") => ListenerTls::StartTls,
            Some("direct") => ListenerTls::Direct,
            Some(other) => {
                let allowed = "\"starttls\" (the default) or \"direct\"";
                return Err(invalid(format!("{key}.tls"), other, allowed));
            }
        };
        listeners.push(ListenerConfig { address, tls });
    }
    Ok(listeners)
}

fn rooms(raw: &RawRooms) -> Result<Policy, ConfigError> {
    let nick_conflict = match raw.nick_conflict.as_deref() {
        None | Some("account") => NickConflict::Account,
        Some("rename") => NickConflict::Rename,
        Some("separate") => NickConflict::Separate,
        Some(other) => {
            let allowed = "\"account\", \"rename\", \"separate\"";
            return Err(invalid("rooms.nick_conflict", other, allowed));
        }
    };
    Ok(Policy {
        // Known when the store and the anchors are.
        persist: false,
        anchors: false,
        nick_conflict,
        stay: duration(
            "rooms.stay",
            raw.stay.as_ref(),
            Duration::from_secs(7 * DAY),
        )?,
        history: duration(
            "rooms.history",
            raw.history.as_ref(),
            Duration::from_secs(30 * DAY),
        )?,
    })
}

fn passthrough(raw: &[String]) -> Result<Passthrough, ConfigError> {
    let allowed = "a glob over the bare JIDs of rooms, in lower case, with * for any characters and ? \
                   for one, such as \"*@irc.example.org\"";
    let globs = raw.iter().enumerate();
    globs
        .map(|(index, glob)| {
            JidGlob::parse(glob)
                .ok_or_else(|| invalid(format!("rooms.passthrough[{index}]"), glob, allowed))
        })
        .collect()
}

fn session(raw: &RawSession) -> Result<SessionLimits, ConfigError> {
    // RFC 6120 13.12: no less than 10000 bytes.
    let stanza_bytes = bytes(
        "session.stanza_bytes",
        raw.stanza_bytes.as_ref(),
        256 << 10,
        10_000..=64 << 20,
        "a size from \"10000B\" to \"64MiB\"",
    )?;
    // A single stanza must never be what ends a session.
    let outbox_bytes = bytes(
        "session.outbox_bytes",
        raw.outbox_bytes.as_ref(),
        (4 << 20).max(4 * stanza_bytes),
        4 * stanza_bytes..=1 << 30,
        "a size from four times session.stanza_bytes to \"1GiB\"",
    )?;
    Ok(SessionLimits {
        outbox_bytes,
        stanza_bytes,
        resume_timeout: duration(
            "session.resume_timeout",
            raw.resume_timeout.as_ref(),
            Duration::from_secs(600),
        )?,
    })
}

fn anchor(raw: &RawAnchor, store: Option<&RawStore>) -> Result<AnchorConfig, ConfigError> {
    let rate = raw.reconnect_per_second.unwrap_or(10);
    let reconnect_per_second = u32::try_from(rate).ok().and_then(NonZeroU32::new);
    let reconnect_per_second = reconnect_per_second.ok_or_else(|| ConfigError::Invalid {
        key: "anchor.reconnect_per_second".to_owned(),
        value: rate.to_string(),
        allowed: "a whole number from 1".to_owned(),
    })?;
    let seal_key = raw.seal_key_file.as_deref().map(|file| {
        let key = "anchor.seal_key_file";
        if store.is_none() {
            let reason = "what is sealed is kept in the store; set store.path, or leave this out";
            return Err(unusable(key, file, &reason));
        }
        SealKey::load(Path::new(file)).map_err(|error| unusable(key, file, &error))
    });
    Ok(AnchorConfig {
        enabled: raw.enabled.unwrap_or(true),
        replay_login: raw.replay_login.unwrap_or(true),
        seal_key: seal_key.transpose()?,
        reconnect_per_second,
    })
}

fn store(raw: &RawStore) -> Result<PathBuf, ConfigError> {
    let key = "store.path";
    let path = PathBuf::from(&raw.path);
    if path.file_name().is_none() || path.is_dir() {
        return Err(invalid(key, &raw.path, super::raw::allowed_for(key)));
    }
    // That of a bare name is the current one.
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    if directory.is_some_and(|directory| !directory.is_dir()) {
        return Err(unusable(key, &raw.path, &"its directory is not there"));
    }
    Ok(path)
}

fn log(raw: RawLog) -> Result<LogConfig, ConfigError> {
    let format = match raw.format.as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            return Err(invalid(
                "log.format",
                other,
                "\"text\" (the default) or \"json\"",
            ));
        }
    };
    let level = raw.level.unwrap_or_else(|| "info".to_owned());
    let allowed =
        "a level (error, warn, info, debug, trace) or directives such as \"info,mucplex=debug\"";
    let level = EnvFilter::builder()
        .parse(&level)
        .map_err(|_| invalid("log.level", &level, allowed))?;
    Ok(LogConfig { format, level })
}

fn duration(key: &str, raw: Option<&Scalar>, default: Duration) -> Result<Duration, ConfigError> {
    let Some(Scalar(text)) = raw else {
        return Ok(default);
    };
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| {
            invalid(
                key,
                text,
                "a duration from \"0s\" to \"3650d\", such as \"12h\" or \"7d\"",
            )
        })
}

fn bytes(
    key: &str,
    raw: Option<&Scalar>,
    default: usize,
    range: RangeInclusive<usize>,
    allowed: &str,
) -> Result<usize, ConfigError> {
    let Some(Scalar(text)) = raw else {
        return Ok(default);
    };
    parse_bytes(text)
        .filter(|size| range.contains(size))
        .ok_or_else(|| invalid(key, text, allowed))
}
