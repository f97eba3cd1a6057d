//! Which tests show which behaviour of the contract, and with what result on each server.
//!
//! A test's name says what it shows: `b20_b21_…` shows behaviours 20 and 21; `::prosody` or
//! `::ejabberd` at its end says where it ran, and one without ran in virtual time.
//!
//! Without arguments the tests are run. With arguments, those are files with what test runs have
//! printed. The exit code is 1 if a behaviour is not shown on each server, if a test that carries
//! a number has failed or was not run, or if its number is not in the contract.

mod contract;
mod listing;
mod results;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use contract::Contract;
use listing::Listing;
use results::Results;

/// The numbered behaviours.
const DOCUMENT: &str = "docs/BEHAVIOURS.md";

/// The tests of the contract: on real servers, and in virtual time.
const RUNS: [&[&str]; 2] = [
    &["--package", "mucplex-e2e", "--", "--skip", "transparent_"],
    &["--package", "mucplex-muc", "--test", "suite", "--", "::b"],
];

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    match run(&files) {
        Ok(listing) => {
            print!("{listing}");
            if listing.is_complete() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(files: &[String]) -> io::Result<Listing> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let contract = Contract::read(&fs::read_to_string(root.join(DOCUMENT))?);
    let mut results = Results::default();
    if files.is_empty() {
        cargo(&root, &["build", "--locked", "--package", "mucplex"])?;
        for arguments in RUNS {
            let arguments = [&["test", "--locked"], arguments].concat();
            results.read(&cargo(&root, &arguments)?)?;
        }
    }
    for file in files {
        results.read(&fs::read_to_string(file)?)?;
    }
    Ok(Listing::new(&contract, &results))
}

/// Runs cargo and gives what it has printed. That tests fail is a result.
fn cargo(root: &Path, arguments: &[&str]) -> io::Result<String> {
    eprintln!("cargo {}", arguments.join(" "));
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() || printed.contains("test result:") {
        return Ok(printed);
    }
    let what = format!("cargo {}: {}", arguments.join(" "), output.status);
    Err(io::Error::other(what))
}
