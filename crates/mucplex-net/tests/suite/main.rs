//! Sockets, names and TLS as seen from outside the crate, all on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is a failed test"
)]

mod connection;
mod dial;
mod dns;
mod listener;
mod tls;
