//! What the servers do, as far as the proxy relies on it. Each test prints the stanzas
//! (`cargo test -p mucplex-testkit --test suite -- --nocapture`) and asserts the facts.

mod errors;
mod join;
mod leave;
mod message;
mod presence;
mod removal;
mod stream;
