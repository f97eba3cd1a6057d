//! Logins in scripts: two framers, what client and server say, and what must come out.

// clippy.toml allows these in test functions, but not in the functions they call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod anchor;
mod anchor_random;
mod anchor_rig;
mod binding;
mod chunks;
mod endings;
mod features;
mod greeting;
mod learning;
mod random;
mod rig;
mod sasl;
mod scram;
mod sessions;
mod sm;
mod uplink;
