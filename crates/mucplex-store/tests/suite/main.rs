//! The store from outside: what it keeps, what it promises, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a panic is a failed test"
)]

mod child;
mod custody;
mod full;
mod keeps;
mod killed;
mod pending;
mod refusals;
mod retention;
mod seal;
mod stage;
