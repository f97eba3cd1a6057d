//! Child processes that do not outlive the test, and ports for them.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Runs the program as the leader of a process group, next to a subshell that holds the read end
/// of a pipe from the test. When the test is gone, however it ended, the pipe ends, and the
/// subshell kills the program, removes its directory and kills the group. The group keeps the
/// process id from being used again for as long as the subshell is in it.
const GUARD: &str = r#"
group=$$ directory=$1; shift
exec 3<&0
( read -r _ <&3
  kill -KILL "$group"
  [ -n "$directory" ] && rm -rf -- "$directory"
  kill -KILL "-$group" ) </dev/null >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"#;

/// A child process with its process group; both end when it is dropped.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
}

impl Guarded {
    /// Starts `program`; what it prints is appended to the file `log`. `remove` is the directory
    /// to be removed if the test process dies without dropping the child.
    pub(crate) fn spawn(
        program: &Path,
        configure: impl FnOnce(&mut Command),
        log: &Path,
        remove: Option<&Path>,
    ) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "guard"])
            .arg(remove.unwrap_or(Path::new("")))
            .arg(program);
        configure(&mut command);
        let child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The exit status, once the program has ended.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends SIGTERM to the program alone.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(self.raw_pid(), Signal::TERM)?)
    }

    /// Sends SIGKILL to the program alone.
    pub(crate) fn kill(&self) -> io::Result<()> {
        Ok(kill_process(self.raw_pid(), Signal::KILL)?)
    }

    /// Sends SIGSTOP or SIGCONT to the program alone: the subshell has to see the test's end.
    pub(crate) fn freeze(&self, freeze: bool) -> io::Result<()> {
        let signal = if freeze { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(self.raw_pid(), signal)?)
    }

    /// Waits until the program has ended, at most `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let message = format!("process {} has not ended in {limit:?}", self.pid());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The group has a member until now, the subshell, so the id is still ours.
        let _ = kill_process_group(self.raw_pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The last `lines` lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        return format!("(cannot read {}: {error})", path.display());
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// An executable in `PATH` or one of the directories for system programs.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// A loopback address on which nobody listens. It lies below the ephemeral range, so that no
/// outgoing connection takes it before the server does, or while the server restarts.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time start at different places.
    let offset = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + ((offset + u32::from(step)) % u32::from(COUNT)) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no free loopback port",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: &str) -> bool {
        // A zombie that nobody has reaped yet is dead as well.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            !stat
                .rsplit(')')
                .next()
                .unwrap()
                .trim_start()
                .starts_with('Z')
        })
    }

    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_whole_group_ends_with_the_guard_or_with_its_pipe() {
        for by_pipe in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let gone = dir.path().join("gone");
            std::fs::create_dir(&gone).unwrap();
            let log = dir.path().join("log");
            let script = "sleep 600 & echo $!; wait";
            let mut guarded = Guarded::spawn(
                Path::new("sh"),
                |command| {
                    command.args(["-c", script]);
                },
                &log,
                Some(&gone),
            )
            .unwrap();
            wait_for("the program prints", || {
                tail(&log, 1).parse::<u32>().is_ok()
            });
            let sleeper = tail(&log, 1);
            assert!(alive(&sleeper));
            if by_pipe {
                drop(guarded.child.stdin.take());
                wait_for("directory is removed", || !gone.exists());
                wait_for("group has ended", || !alive(&sleeper));
            } else {
                drop(guarded);
                wait_for("group has ended", || !alive(&sleeper));
            }
        }
    }
}
