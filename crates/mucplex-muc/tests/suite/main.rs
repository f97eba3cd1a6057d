//! The multiplexer in virtual time: a simulated room service on one side, sessions on the other.
//!
//! Tests are named after the numbers of `behaviours.md`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops where something is not as it should be"
)]

mod anchor;
mod bookmarks;
mod comeback;
mod csi;
mod dialect;
mod dormant;
mod handover;
mod handover_races;
mod history;
mod iq;
mod join;
mod leave;
mod ledger;
mod message;
mod model;
mod never;
mod nick;
mod occupants;
mod others;
mod people;
mod persist;
mod ping;
mod plain;
mod presence;
mod private;
mod restarts;
mod restore;
mod routes;
mod scribe;
mod service;
mod silence;
mod sleep;
mod standby;
mod standing;
mod store;
mod streams;
mod traffic;
mod world;
