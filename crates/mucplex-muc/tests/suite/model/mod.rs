//! Random lives of two accounts in three rooms, against what independent occupants would see.
//!
//! A life is a list of steps ([`script`]): what sessions, people past the proxy and the network do.
//! Stanzas of different uplinks arrive in any order, those of one uplink in theirs. The service
//! keeps a [ledger](crate::ledger) of what came to pass in each room; each session's [`view`] of a
//! room is held against it as that of an occupant of its own. What goes to the server is
//! [watched](watch), and whenever all has come to [`rest`], both sides must know the same.
//!
//! `MUCPLEX_LIVES` is the number of lives, `MUCPLEX_SEED` where to begin. One that fails is made
//! short, and printed as it has to stand in [`retold`].

#![allow(
    clippy::needless_range_loop,
    clippy::collapsible_match,
    reason = "rooms and accounts go by number here, and steps read best one an arm"
)]

mod asks;
mod carriers;
mod life;
mod people;
mod rest;
mod restored;
mod retold;
mod runner;
mod script;
mod seen;
mod view;
mod watch;

pub(crate) use script::Rng;
