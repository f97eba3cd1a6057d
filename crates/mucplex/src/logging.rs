//! The log: to standard error, as text or JSON.
//!
//! What may stand in it: ids, JIDs, addresses, sizes, conditions. Never a stanza, a SASL payload or
//! a password; for that reason no frame and no buffer is ever a field of an event, at any level.

use std::io::{self, IsTerminal as _};

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the process.
pub(crate) fn start(config: LogConfig) {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(config.level);
    match config.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => {
            builder
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .init();
        }
    }
}
