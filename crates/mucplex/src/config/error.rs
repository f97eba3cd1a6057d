//! How a mistake in the configuration is told.

use std::{fmt::Write as _, io, path::PathBuf};

use figment::error::{Kind, OneOf};

/// A configuration that cannot stand. Each names the key, the value where there is one, and what is
/// allowed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file itself.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// A value that is not allowed, whether in itself or beside others.
    #[error("{key} = {value}: allowed is {allowed}")]
    Invalid {
        key: String,
        value: String,
        allowed: String,
    },
    /// A value that would be allowed but does not work here.
    #[error("{key} = {value}: {reason}")]
    Unusable {
        key: String,
        value: String,
        reason: String,
    },
    /// A key that has to be there.
    #[error("{key}: missing; allowed is {allowed}")]
    Missing { key: String, allowed: String },
    /// A key that does not exist.
    #[error("{key}: no such key here; allowed is {allowed}")]
    Unknown { key: String, allowed: String },
    /// A key whose part of mucplex is not there yet.
    #[error("{key} = {value}: {missing} not available in this version; {allowed}")]
    NotAvailable {
        key: String,
        value: String,
        missing: &'static str,
        allowed: &'static str,
    },
    /// The file is no TOML, or something else that has no key.
    #[error("{0}")]
    Syntax(String),
}

impl From<figment::Error> for ConfigError {
    fn from(error: figment::Error) -> Self {
        // figment gathers several; the first is told, the rest will be when it is mended.
        let Some(error) = error.into_iter().next() else {
            return Self::Syntax("the configuration cannot be read".to_owned());
        };
        let key = key_of(&error.path);
        match error.kind {
            Kind::UnknownField(name, allowed) => Self::Unknown {
                // The path ends with the field itself.
                key: if key.is_empty() { name } else { key },
                allowed: OneOf(allowed).to_string(),
            },
            Kind::MissingField(name) => {
                let key = if key.is_empty() {
                    name.into_owned()
                } else {
                    format!("{key}.{name}")
                };
                let allowed = super::raw::allowed_for(&key).to_owned();
                Self::Missing { key, allowed }
            }
            Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
                Self::Invalid {
                    key,
                    value: actual.to_string(),
                    allowed: expected,
                }
            }
            Kind::UnknownVariant(value, allowed) => Self::Invalid {
                key,
                value: quoted(&value),
                allowed: OneOf(allowed).to_string(),
            },
            kind if key.is_empty() => Self::Syntax(kind.to_string()),
            kind => Self::Syntax(format!("{key}: {kind}")),
        }
    }
}

/// `domain[0].name`, as the operator would say it.
fn key_of(path: &[String]) -> String {
    let mut key = String::new();
    for part in path {
        // A String takes every write.
        let _ = match part.parse::<usize>() {
            Ok(index) => write!(key, "[{index}]"),
            Err(_) if key.is_empty() => write!(key, "{part}"),
            Err(_) => write!(key, ".{part}"),
        };
    }
    key
}

/// A text as it stands in the file.
pub(super) fn quoted(value: &str) -> String {
    format!("{value:?}")
}
