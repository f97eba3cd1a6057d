//! What the operator decides: read, checked in full, and turned into what the parts need, before a
//! port is bound.
//!
//! Defaults are overridden by the file, the file by the environment: `MUCPLEX_ROOMS__STAY=1h` is
//! `stay` of `[rooms]`, and `MUCPLEX_LISTEN='[{address="[::]:5222"}]'` all of `[[listen]]`. Unknown
//! keys are errors, and so are keys whose part of mucplex is not there yet: a setting that is
//! ignored is a promise broken.

mod error;
mod raw;
mod units;
mod validate;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format as _, Toml},
    value::UncasedStr,
};
use mucplex_muc::{Passthrough, Policy};
use mucplex_net::{ClientTls, Identity, Target};
use mucplex_store::SealKey;
use mucplex_stream::{ListenerTls, UpstreamTls};
use tracing_subscriber::EnvFilter;

pub(crate) use error::ConfigError;

/// Everything the process needs to know.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) domains: Vec<Domain>,
    pub(crate) listeners: Vec<ListenerConfig>,
    pub(crate) rooms: Policy,
    /// Rooms that are never multiplexed.
    pub(crate) passthrough: Passthrough,
    pub(crate) session: SessionLimits,
    pub(crate) anchor: AnchorConfig,
    /// The file of what outlives the process; without one nothing does. Its directory is there.
    pub(crate) store: Option<PathBuf>,
    pub(crate) log: LogConfig,
}

/// One domain that is served.
#[derive(Debug)]
pub(crate) struct Domain {
    /// Normalised (RFC 7622 3.2).
    pub(crate) name: String,
    pub(crate) upstream: Target,
    pub(crate) upstream_tls: UpstreamTls,
    /// `None` with `upstream_tls = "none"`.
    pub(crate) client_tls: Option<ClientTls>,
    pub(crate) identity: Identity,
}

/// One address clients connect to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerConfig {
    pub(crate) address: SocketAddr,
    pub(crate) tls: ListenerTls,
}

/// Bounds of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    /// Bytes of stanzas that wait for the client.
    pub(crate) outbox_bytes: usize,
    /// Bytes of one stanza of the client.
    pub(crate) stanza_bytes: usize,
    /// How long a client that was cut off may come back to its session (XEP-0198 5); zero: it may
    /// not.
    pub(crate) resume_timeout: Duration,
}

/// The uplinks that hold accounts' rooms whoever is connected.
#[derive(Debug)]
pub(crate) struct AnchorConfig {
    /// Without anchors sessions' own uplinks carry the rooms.
    pub(crate) enabled: bool,
    /// A login with PLAIN or a token is used for the anchor too.
    pub(crate) replay_login: bool,
    /// Seals the accounts' keys in the store. Without it they are kept in memory alone.
    pub(crate) seal_key: Option<SealKey>,
    /// Logins of anchors in a second, over all accounts of a domain: a server that comes back is
    /// not run down.
    pub(crate) reconnect_per_second: NonZeroU32,
}

/// How the process logs.
#[derive(Debug)]
pub(crate) struct LogConfig {
    pub(crate) format: LogFormat,
    pub(crate) level: EnvFilter,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads `file` and the environment.
    ///
    /// # Errors
    /// The first thing found that cannot stand, with its key and what is allowed.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::File {
            path: file.to_owned(),
            source,
        })?;
        Self::from_parts(&text, environment("MUCPLEX_"))
    }

    fn from_parts(toml: &str, env: Env) -> Result<Self, ConfigError> {
        validate::validate(Figment::from(Toml::string(toml)).merge(env).extract()?)
    }
}

/// Variables with `__` in their names, and those named like a section. Others are not meant for
/// here: an orchestrator that knows a service called mucplex sets `MUCPLEX_PORT` and more of the
/// kind.
fn environment(prefix: &str) -> Env {
    let is_setting = |name: &UncasedStr| {
        name.as_str().contains("__") || raw::SECTIONS.iter().any(|section| name == section)
    };
    Env::prefixed(prefix).filter(is_setting).split("__")
}

#[cfg(test)]
mod tests;
