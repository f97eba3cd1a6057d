//! What the servers do, as far as the proxy relies on it. Each test prints the stanzas
//! (`cargo test -p mucplex-testkit --test suite -- --nocapture`) and asserts the facts.

mod carbons;
mod errors;
mod forget;
mod invite;
mod iq;
mod join;
mod leave;
mod limits;
mod mam;
mod message;
mod nick;
mod presence;
mod push;
mod removal;
mod sm;
mod sm_ends;
mod stream;
mod voice;
