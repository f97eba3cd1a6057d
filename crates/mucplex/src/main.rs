//! mucplex, a transparent XMPP proxy that holds one occupancy per account and group chat.

mod account;
mod alarm;
mod anchor;
mod config;
mod keeping;
mod logging;
mod management;
mod pace;
mod registry;
mod server;
mod session;
mod stream;
mod uplink;
mod upstream;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mucplex_muc::{BACKLOG_BYTES, BACKLOG_STANZAS, Policy};
use mucplex_store::{Journal, SealKey, Store};
use tracing::{info, warn};

use crate::{config::Config, server::Kept};

/// Memory is wiped when it is given back. What a client logs in with passes through buffers of TLS,
/// of the framer and of an outbox, as every byte of it does; none of them knows of secrets.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// EX_USAGE of sysexits: the command line or the configuration is at fault, and a restart will not
/// help.
const BAD_CONFIGURATION: u8 = 64;

#[derive(Debug, Parser)]
#[command(name = "mucplex", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Run {
        /// The configuration (TOML); MUCPLEX_… in the environment overrides it.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make the key that seals accounts' keys in the store.
    SealKey {
        /// The file to make; one that is there is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What the store may take to end, within the 10 seconds that a shutdown has.
const CLOSE_STORE: Duration = Duration::from_millis(700);
/// An account that nobody has seen for so long is forgotten, if nothing of it is kept longer.
const UNSEEN: Duration = Duration::from_secs(90 * 24 * 3600);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // The terminal that cannot be written to cannot be told so.
            let _ = error.print();
            let asked_for = !error.use_stderr();
            return if asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(BAD_CONFIGURATION)
            };
        }
    };
    let done = match arguments.command {
        Command::Run { config } => match Config::load(&config) {
            Ok(config) => run(config),
            Err(error) => {
                eprintln!("mucplex: {error}");
                return ExitCode::from(BAD_CONFIGURATION);
            }
        },
        Command::SealKey { out } => make_seal_key(&out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mucplex: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let Config {
        domains,
        listeners,
        rooms,
        passthrough,
        session,
        anchor,
        store,
        log,
    } = config;
    logging::start(log);
    let kept = open_store(store.as_deref(), &rooms)?;
    let store = kept.as_ref().map(|kept| kept.store.clone());
    let server = server::Server::new(domains, rooms, passthrough, session, anchor, kept)
        .context("TLS cannot be set up")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let served = runtime.block_on(server.run(&listeners));
    // Whatever has not ended by now will not.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if let Some(Err(error)) = store.map(|store| store.close(CLOSE_STORE)) {
        warn!(%error, "the store has not ended in time");
    }
    served.context("cannot serve")
}

fn open_store(path: Option<&Path>, rooms: &Policy) -> anyhow::Result<Option<Kept>> {
    let Some(path) = path else {
        info!("no [store] in the configuration: nothing outlives this process");
        return Ok(None);
    };
    let options = mucplex_store::Options {
        history: rooms.history,
        room_messages: BACKLOG_STANZAS,
        room_bytes: BACKLOG_BYTES,
        unseen: UNSEEN.max(rooms.stay).max(rooms.history),
        ..mucplex_store::Options::default()
    };
    let store = Store::open(path, options).context("cannot open the store")?;
    let beside = path.with_added_extension("sent");
    let (journal, before) =
        Journal::open(&beside).with_context(|| format!("cannot keep {}", beside.display()))?;
    info!(path = %path.display(), sessions_lost = before.lost.len(), "store opened");
    Ok(Some(Kept {
        store,
        journal,
        before,
    }))
}

fn make_seal_key(out: &Path) -> anyhow::Result<()> {
    SealKey::create(out)?;
    // Where it is found from any directory.
    let path = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    println!("anchor.seal_key_file = {:?}", path.display().to_string());
    Ok(())
}
