//! A program that plays its part in a test and ends by itself.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::process::Guarded;

/// What a program has done.
#[derive(Debug)]
pub struct Finished {
    /// It ended with exit code 0.
    pub success: bool,
    /// What it printed, both streams together, and how it ended if not with 0.
    pub output: String,
}

/// Runs a program to its end. If that takes longer than `limit`, or the test ends before, the
/// program and what it has started are killed.
pub async fn run(program: &Path, arguments: &[OsString], limit: Duration) -> io::Result<Finished> {
    let dir = tempfile::Builder::new()
        .prefix("mucplex-program-")
        .tempdir()?;
    let log = dir.path().join("output.log");
    let configure = |command: &mut Command| {
        command.args(arguments);
    };
    let mut process = Guarded::spawn(program, configure, &log, Some(dir.path()))?;
    let end = process.wait(limit).await;
    drop(process);
    let mut output = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let success = end.as_ref().is_ok_and(ExitStatus::success);
    match end {
        Ok(status) if status.success() => {}
        Ok(status) => output.push_str(&format!("(ended with {status})\n")),
        Err(error) => output.push_str(&format!("(killed: {error})\n")),
    }
    Ok(Finished { success, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Finished {
        let arguments = ["-c", script].map(OsString::from);
        run(Path::new("/bin/sh"), &arguments, limit).await.unwrap()
    }

    #[tokio::test]
    async fn what_it_prints_and_how_it_ends_is_known() {
        let limit = Duration::from_secs(30);
        let good = shell("echo fine", limit).await;
        assert!(good.success);
        assert_eq!(good.output, "fine\n");
        let bad = shell("echo out; echo err >&2; exit 3", limit).await;
        assert!(!bad.success);
        assert!(bad.output.starts_with("out\nerr\n(ended with "), "{bad:?}");
        assert!(bad.output.contains('3'), "{bad:?}");
    }

    #[tokio::test]
    async fn it_is_killed_when_it_takes_too_long() {
        let stuck = shell("echo begun; exec sleep 600", Duration::from_millis(300)).await;
        assert!(!stuck.success);
        assert!(stuck.output.contains("killed"), "{stuck:?}");
    }
}
