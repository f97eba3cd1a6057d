//! The built binary: its configuration, and the life of a session between a scripted client and a
//! scripted server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is a failed test"
)]

mod command;
mod logging;
mod rooms;
mod session;
mod shutdown;
mod stage;
