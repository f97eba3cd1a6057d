//! The kit against real servers, without a proxy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

/// Runs an async function of a [`mucplex_testkit::server::Kind`] as one test on each server.
macro_rules! on_each_server {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use mucplex_testkit::server::Kind;

            #[tokio::test]
            async fn prosody() {
                super::$name(Kind::Prosody).await;
            }

            #[tokio::test]
            async fn ejabberd() {
                super::$name(Kind::Ejabberd).await;
            }
        }
    )+ };
}
use on_each_server;

mod device;
mod facts;
mod kit;
mod push;
mod rooms;
mod smoke;
mod stage;
mod tap;
