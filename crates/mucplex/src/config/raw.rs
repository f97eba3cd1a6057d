//! The keys as they are written. Types here are those of TOML; what the values mean is for
//! `validate`.

use std::fmt;

use figment::value::Value;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// The keys of the top level.
pub(super) const SECTIONS: [&str; 8] = [
    "domain", "listen", "rooms", "session", "log", "anchor", "store", "admin",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    pub(super) domain: Vec<RawDomain>,
    #[serde(default)]
    pub(super) listen: Vec<RawListener>,
    #[serde(default)]
    pub(super) rooms: RawRooms,
    #[serde(default)]
    pub(super) session: RawSession,
    #[serde(default)]
    pub(super) log: RawLog,
    #[serde(default)]
    pub(super) anchor: RawAnchor,
    pub(super) store: Option<RawStore>,
    pub(super) admin: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDomain {
    pub(super) name: String,
    pub(super) upstream: Option<String>,
    pub(super) upstream_tls: Option<String>,
    pub(super) upstream_ca: Option<String>,
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) proxy_protocol: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    pub(super) address: String,
    pub(super) tls: Option<String>,
    pub(super) proxy_protocol_from: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRooms {
    pub(super) stay: Option<Scalar>,
    pub(super) nick_conflict: Option<String>,
    pub(super) history: Option<Scalar>,
    #[serde(default)]
    pub(super) passthrough: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSession {
    pub(super) resume_timeout: Option<Scalar>,
    pub(super) outbox_bytes: Option<Scalar>,
    pub(super) stanza_bytes: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAnchor {
    pub(super) enabled: Option<bool>,
    pub(super) replay_login: Option<bool>,
    pub(super) seal_key_file: Option<String>,
    pub(super) reconnect_per_second: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    pub(super) path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: Option<String>,
    pub(super) level: Option<String>,
}

/// What is allowed for a key that may not be left out.
pub(super) fn allowed_for(key: &str) -> &'static str {
    match key.rsplit('.').next().unwrap_or(key) {
        "name" => "a domain name",
        "certificate" => "a PEM file with the certificate chain of the domain",
        "key" => "a PEM file with the certificate's private key",
        "path" => "a file, such as \"/var/lib/mucplex/mucplex.db\"",
        "address" => "an IP address and port, such as \"0.0.0.0:5222\"",
        _ => "described in the documentation",
    }
}

/// A duration or size. The environment makes a number of `4096`; it is meant as the text is.
#[derive(Clone, Debug)]
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;
        impl Visitor<'_> for AsText {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number with a unit, such as \"10m\" or \"256KiB\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }
        deserializer.deserialize_any(AsText)
    }
}
