//! mucplex, a transparent XMPP proxy that holds one occupancy per account and group chat.

mod account;
mod alarm;
mod anchor;
mod config;
mod logging;
mod management;
mod pace;
mod registry;
mod server;
mod session;
mod stream;
mod uplink;
mod upstream;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::config::Config;

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
}

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
    let Command::Run { config } = arguments.command;
    let config = match Config::load(&config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mucplex: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match run(config) {
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
        log,
    } = config;
    logging::start(log);
    let server = server::Server::new(domains, rooms, passthrough, session)
        .context("TLS cannot be set up")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let served = runtime.block_on(server.run(&listeners));
    // Whatever has not ended by now will not.
    runtime.shutdown_timeout(Duration::from_millis(200));
    served.context("cannot serve")
}
