//! Parts that are played in processes of their own, by this same binary: their lives are what the
//! tests are about.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
};

use mucplex_store::{Batch, Options, Store};

use crate::stage::{alice, batch, join, load, next, say, served, tea};

const DIRECTORY: &str = "MUCPLEX_STORE_TEST_DIRECTORY";

/// What is waited for at most; more would be a queue without end.
const UNDER_WAY: u64 = 500;

/// The command that plays a part in this directory.
pub(crate) fn command(part: &str, directory: &Path) -> Vec<std::ffi::OsString> {
    let binary = std::env::current_exe().unwrap();
    let arguments = [part, "--exact", "--ignored", "--nocapture"];
    let mut command = vec!["env".into(), assign(directory), binary.into_os_string()];
    command.extend(arguments.map(Into::into));
    command
}

fn assign(directory: &Path) -> std::ffi::OsString {
    let mut variable = std::ffi::OsString::from(format!("{DIRECTORY}="));
    variable.push(directory);
    variable
}

pub(crate) fn spawnable(command: &[std::ffi::OsString]) -> Command {
    let mut spawnable = Command::new(&command[0]);
    spawnable.args(&command[1..]);
    spawnable
}

pub(crate) fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os(DIRECTORY).expect("played by another test"))
}

/// Nothing that is dropped too much: the store of a room that only grows.
pub(crate) fn keep_all() -> Options {
    Options {
        room_messages: usize::MAX,
        room_bytes: usize::MAX,
        ..Options::default()
    }
}

/// Prints its number when it is stored.
struct Told(u64, mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "stored {}", self.0).unwrap();
        out.flush().unwrap();
        let _ = self.1.send(());
    }
}

/// Says one thing after the other, until it is killed.
#[test]
#[ignore = "played by killed::whatever_was_acknowledged_is_there"]
fn says_without_end() {
    let store = Store::open(&directory().join("mucplex.db"), keep_all()).unwrap();
    let begun = load(&store, &alice());
    let first = match begun.rooms.get(&tea()) {
        Some(room) => next(room),
        None => {
            store.submit(batch(&alice(), vec![join(&tea())]));
            0
        }
    };
    let (told, stored) = mpsc::channel();
    for number in first.. {
        let ops = vec![say(&tea(), number), served(&tea(), "phone", number)];
        let held: Vec<Box<dyn Send>> = vec![Box::new(Told(number, told.clone()))];
        store.submit(Batch {
            held,
            ..batch(&alice(), ops)
        });
        if number - first >= UNDER_WAY {
            stored.recv().unwrap();
        }
    }
}
