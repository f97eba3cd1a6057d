//! The contract of mucplex on real servers: each test runs on Prosody and on ejabberd, and its
//! name begins with the numbers of the behaviours it shows.
//!
//! The binary under test is the one `cargo build -p mucplex` has made last in this target
//! directory, or the one `MUCPLEX_BIN` names; `tests/run.sh` builds it first.
//!
//! ```text
//! cargo test -p mucplex-e2e -- b20            one behaviour
//! cargo test -p mucplex-e2e -- ejabberd       one server
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::large_futures,
    reason = "in a test a panic is a failure with a message"
)]

mod behaviours;
mod clients;
mod forgery;
mod plain;
mod raw;
mod stage;
mod streams;
mod transparency;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use mucplex_testkit::server::Kind;
use tokio::runtime::Runtime;

use stage::Stage;

/// What one test may take on a busy machine, before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(180);

/// Servers, proxies and taps are shared by all tests of a run, so one runtime carries them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// A test, before it is known on which server it runs.
pub(crate) struct Test {
    /// Begins with `b` and the numbers of its behaviours, as `b06_b07_…`.
    name: &'static str,
    run: fn(Stage) -> Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The servers that can show it; none named: all.
    on: &'static [Kind],
}

/// Lists the tests of a module: `tests![b01_…, b02_…]`, each an `async fn(Stage)`; `b03_… on Prosody`
/// is for that server alone.
macro_rules! tests {
    ($($name:ident $(on $kind:ident)?),+ $(,)?) => {
        pub(crate) fn tests() -> Vec<$crate::Test> {
            vec![$($crate::Test {
                name: stringify!($name),
                run: |stage| Box::pin($name(stage)),
                on: &[$(mucplex_testkit::server::Kind::$kind)?],
            }),+]
        }
    };
}
pub(crate) use tests;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of a test is waiting for servers; they have more to do than the tests.
    arguments.test_threads.get_or_insert(4);
    let all = behaviours::tests()
        .into_iter()
        .chain(clients::tests())
        .chain(forgery::tests())
        .chain(plain::tests())
        .chain(streams::tests())
        .chain(transparency::tests());
    let trials = all.flat_map(|test| {
        let kinds = Kind::ALL.into_iter();
        let kinds = kinds.filter(|kind| test.on.is_empty() || test.on.contains(kind));
        kinds.map(|kind| trial(&test, kind)).collect::<Vec<_>>()
    });
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(test: &Test, kind: Kind) -> Trial {
    let (name, run) = (test.name, test.run);
    Trial::test(format!("{name}::{kind}"), move || {
        let finished = RUNTIME.block_on(async {
            let stage = Stage::new(kind, name).await;
            tokio::time::timeout(LIMIT, run(stage)).await
        });
        finished.map_err(|_| Failed::from(format!("not finished after {LIMIT:?}")))
    })
}
