//! Tests of `mucplex-xml` from the outside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops where something is wrong; clippy.toml allows it in test functions alone"
)]

mod chunks;
mod compare;
mod differential;
mod frames;
mod generate;
mod hostile;
mod splice;
