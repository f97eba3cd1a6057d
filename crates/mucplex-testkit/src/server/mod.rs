//! Real servers: Prosody 0.12 and ejabberd 23, each in a temporary directory on free ports.

mod account;
mod commands;
mod ejabberd;
mod prosody;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::OnceCell;

pub use account::Account;

use crate::client::{ClientError, Connection};
use crate::process::{self, Guarded};
use crate::tls::{Certificate, Trust};
use crate::{DOMAIN, ROOMS};

/// How long a server may take until it answers: more than a minute for ejabberd, on a machine that
/// is busy and has never loaded it before.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long a server may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Which server software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Prosody, as the Debian package `prosody` installs it.
    Prosody,
    /// ejabberd, as the Debian package `ejabberd` installs it.
    Ejabberd,
}

impl Kind {
    /// Every kind, for tests that run on each.
    pub const ALL: [Self; 2] = [Self::Prosody, Self::Ejabberd];

    /// `prosody` or `ejabberd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something of a server that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// XEP-0198.
    StreamManagement,
    /// Messages for accounts without a session are kept (XEP-0160).
    OfflineStorage,
    /// The account's archive (XEP-0313).
    Archive,
}

/// Limits of stream management (XEP-0198); absent: the server's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamManagement {
    /// How long a lost stream can be resumed, in seconds: 600 on Prosody, 300 on ejabberd.
    pub resume_timeout: Option<u32>,
    /// How many stanzas may wait for their acknowledgement: 500 on Prosody, 5000 on ejabberd.
    pub max_unacked: Option<u32>,
    /// How long an `<r/>` may wait for its answer, in seconds: on Prosody 30, until push hears of
    /// it; on ejabberd 60, until the stream ends.
    pub ack_timeout: Option<u32>,
    /// What an ended stream had not acknowledged is delivered again: not on ejabberd by itself;
    /// Prosody has no such option.
    pub resend: bool,
}

/// How a server is set up. The default has no limits, no room archive, and logins without TLS.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Rooms keep a MAM archive (XEP-0313) from their creation on.
    pub room_archive: bool,
    /// Clients are slowed down as in the configuration that the packages install: Prosody
    /// `mod_limits` 10 kB/s, ejabberd shaper 3 kB/s with bursts of 20 kB.
    pub rate_limits: bool,
    /// The plain port refuses logins before STARTTLS.
    pub require_tls: bool,
    /// Passwords are stored as SCRAM-SHA-1 keys, so Prosody offers no SCRAM-SHA-256.
    pub hashed_passwords: bool,
    /// The largest stanza the server takes, in bytes; absent: 4 MiB on Prosody, none on ejabberd.
    pub stanza_bytes: Option<usize>,
    /// It takes commands of an administrator ([`Server::command`]), from anybody on this machine.
    pub commands: bool,
    /// What it does not have.
    pub without: Vec<Feature>,
    /// Limits of stream management.
    pub stream_management: StreamManagement,
    /// Push (XEP-0357) as an operator sets it up: Prosody `mod_cloud_notify`, from the Debian
    /// package `prosody-modules`; ejabberd `mod_push`, which it always has here, and
    /// `mod_push_keepalive`.
    pub push: bool,
    /// Lines in the server's own language: Prosody, before the virtual host; ejabberd, top level.
    pub extra: String,
    /// Lines in the server's own language for the room service: Prosody, in the component;
    /// ejabberd, options of `mod_muc`.
    pub extra_rooms: String,
}

/// Why a server could not be started or used.
#[derive(thiserror::Error)]
pub enum ServerError {
    /// A program is not installed.
    #[error("{program} is not in PATH; it is in the Debian package {package}")]
    NotInstalled {
        /// What was looked for.
        program: &'static str,
        /// Where it is.
        package: &'static str,
    },
    /// An operating system error, with what was being done.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error.
        source: std::io::Error,
    },
    /// The server ended, or did not answer in time.
    #[error("{kind} {what}; the last lines of {}:\n{tail}", .log.display())]
    NotReady {
        /// Which server.
        kind: Kind,
        /// What happened.
        what: String,
        /// The log file.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// An account could not be registered.
    #[error("cannot register {account}: {source}")]
    Register {
        /// The account's user name.
        account: String,
        /// What went wrong.
        source: Box<ClientError>,
    },
}

impl Options {
    fn has(&self, feature: Feature) -> bool {
        !self.without.contains(&feature)
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ServerError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// The addresses of one server.
#[derive(Debug, Clone, Copy)]
struct Ports {
    plain: SocketAddr,
    starttls: SocketAddr,
    direct: SocketAddr,
    component: SocketAddr,
    commands: Option<SocketAddr>,
}

/// How the server is started: program, arguments and environment.
struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A running server for [`DOMAIN`] with rooms at [`ROOMS`]. It ends when dropped, and also when
/// the test process dies.
pub struct Server {
    kind: Kind,
    options: Options,
    ports: Ports,
    certificate: Certificate,
    launch: Launch,
    process: Option<Guarded>,
    /// Those that were registered, see [`Self::restart`].
    accounts: Mutex<Vec<Account>>,
    /// It was killed and not started since.
    killed: bool,
    dir: TempDir,
}

impl Server {
    /// Starts a server with the default options.
    pub async fn start(kind: Kind) -> Result<Self, ServerError> {
        Self::start_with(kind, Options::default()).await
    }

    /// Starts a server and waits until it answers.
    pub async fn start_with(kind: Kind, options: Options) -> Result<Self, ServerError> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("mucplex-{kind}-"))
            .tempdir()
            .map_err(ServerError::io("temporary directory"))?;
        let certificate = Certificate::generate(dir.path(), &[DOMAIN, ROOMS])
            .map_err(ServerError::io("certificate"))?;
        let address = || process::free_address().map_err(ServerError::io("free port"));
        let (plain, direct, component) = (address()?, address()?, address()?);
        let starttls = match kind {
            // Prosody asks for TLS per host, not per port.
            Kind::Prosody => plain,
            Kind::Ejabberd => address()?,
        };
        let commands = options.commands.then(address).transpose()?;
        let ports = Ports {
            plain,
            starttls,
            direct,
            component,
            commands,
        };
        let launch = match kind {
            Kind::Prosody => prosody::prepare(dir.path(), ports, &certificate, &options)?,
            Kind::Ejabberd => ejabberd::prepare(dir.path(), ports, &certificate, &options)?,
        };
        let mut server = Self {
            kind,
            options,
            ports,
            certificate,
            launch,
            process: None,
            accounts: Mutex::default(),
            killed: false,
            dir,
        };
        server.launch().await?;
        Ok(server)
    }

    /// A server with the default options that all tests of this process share; it is started at
    /// the first call and ends with the process. Tests keep apart by accounts and rooms of their
    /// own ([`Self::account`], [`Self::new_room`]), and do not stop it.
    pub async fn shared(kind: Kind) -> &'static Self {
        static PROSODY: OnceCell<Server> = OnceCell::const_new();
        static EJABBERD: OnceCell<Server> = OnceCell::const_new();
        let cell = match kind {
            Kind::Prosody => &PROSODY,
            Kind::Ejabberd => &EJABBERD,
        };
        let start = async || {
            Self::start(kind)
                .await
                .unwrap_or_else(|error| panic!("{error}"))
        };
        cell.get_or_init(start).await
    }

    /// Which software it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its domain.
    pub fn domain(&self) -> &'static str {
        DOMAIN
    }

    /// The domain of its rooms.
    pub fn rooms_domain(&self) -> &'static str {
        ROOMS
    }

    /// The JID of the room `name`.
    pub fn room(&self, name: &str) -> String {
        format!("{name}@{ROOMS}")
    }

    /// The JID of a room whose name begins with `name` and that no other test of this process uses.
    pub fn new_room(&self, name: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        self.room(&format!(
            "{name}-{}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// Where it takes connections without TLS; STARTTLS is offered.
    pub fn plain(&self) -> SocketAddr {
        self.ports.plain
    }

    /// Where STARTTLS works: on ejabberd a port on which it is required, on Prosody the plain port
    /// (see [`Options::require_tls`]).
    pub fn starttls(&self) -> SocketAddr {
        self.ports.starttls
    }

    /// Where it takes direct TLS (XEP-0368).
    pub fn direct_tls(&self) -> SocketAddr {
        self.ports.direct
    }

    /// Where it takes components (XEP-0114).
    pub fn component(&self) -> SocketAddr {
        self.ports.component
    }

    /// The authority that has signed its certificate.
    pub fn ca_pem(&self) -> &Path {
        &self.certificate.ca
    }

    /// A client's trust in its certificate.
    pub fn trust(&self) -> Trust {
        Trust::ca_file(&self.certificate.ca).expect("the authority was written at the start")
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    /// The file that it logs to.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        process::tail(&self.log_path(), lines)
    }

    /// Ends it with SIGTERM and waits for it; its data stays.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        if let Some(mut process) = self.process.take() {
            process.terminate().map_err(ServerError::io("SIGTERM"))?;
            process
                .wait(STOP_LIMIT)
                .await
                .map_err(ServerError::io("end after SIGTERM"))?;
        }
        Ok(())
    }

    /// Ends it with SIGKILL; its data stays as it is. ejabberd writes its tables every three minutes,
    /// and loses what is newer.
    pub fn kill(&mut self) {
        self.process = None;
        self.killed = true;
    }

    /// Stops it where it stands (SIGSTOP), or lets it go on: its connections stay, and nobody
    /// answers.
    pub fn freeze(&self, freeze: bool) -> Result<(), ServerError> {
        self.process
            .as_ref()
            .map_or(Ok(()), |process| process.freeze(freeze))
            .map_err(ServerError::io("SIGSTOP or SIGCONT"))
    }

    /// Starts it again at the same addresses with the same data, after [`Self::stop`] or
    /// [`Self::kill`]; a server that runs is stopped first. Accounts that ejabberd has lost by a
    /// kill are there again, without what was theirs.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await?;
        self.launch().await?;
        if std::mem::take(&mut self.killed) && self.kind == Kind::Ejabberd {
            let accounts = self.accounts().clone();
            for account in accounts {
                account.register_again(self).await?;
            }
        }
        Ok(())
    }

    /// Registers a new account (XEP-0077) whose name begins with `name`.
    pub async fn account(&self, name: &str) -> Result<Account, ServerError> {
        let account = Account::register(self, name).await?;
        self.accounts().push(account.clone());
        Ok(account)
    }

    fn accounts(&self) -> MutexGuard<'_, Vec<Account>> {
        self.accounts
            .lock()
            .expect("no panic happens under this lock")
    }

    async fn launch(&mut self) -> Result<(), ServerError> {
        let launch = &self.launch;
        let configure = |command: &mut Command| {
            command.args(&launch.arguments).current_dir(self.dir.path());
            command.envs(launch.environment.iter().map(|(key, value)| (key, value)));
        };
        let log = self.log_path();
        let process =
            Guarded::spawn(&launch.program, configure, &log, Some(self.dir.path())).map_err(
                ServerError::io(format!("start {}", launch.program.display())),
            )?;
        self.process = Some(process);
        self.ready().await
    }

    /// Waits until the server answers a stream header with features on its plain port and takes
    /// connections for TLS.
    async fn ready(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let attempt = self.probe().await;
            let Err(error) = attempt else { return Ok(()) };
            let ended = match self.process.as_mut().map(Guarded::try_wait) {
                Some(Ok(None)) => None,
                Some(Ok(Some(status))) => Some(format!("ended at once with {status}")),
                Some(Err(error)) => Some(format!("cannot be waited for: {error}")),
                None => Some("is not running".to_owned()),
            };
            let late = (Instant::now() > deadline)
                .then(|| format!("does not answer after {START_LIMIT:?}: {error}"));
            if let Some(what) = ended.or(late) {
                let (log, tail) = (self.log_path(), self.log_tail(40));
                return Err(ServerError::NotReady {
                    kind: self.kind,
                    what,
                    log,
                    tail,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn probe(&self) -> Result<(), ClientError> {
        Connection::open(self.ports.direct).await?;
        let mut connection = Connection::open(self.ports.plain).await?;
        connection.set_timeout(Duration::from_secs(5));
        connection.open_stream(DOMAIN).await?;
        connection.recv().await?;
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {} in {}",
            self.kind,
            self.ports.plain,
            self.dir.path().display()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = self.log_path();
            eprintln!(
                "--- {} ({})\n{}\n---",
                self.kind,
                path.display(),
                self.log_tail(40)
            );
        }
    }
}

/// Writes one of the server's files.
fn write(path: &Path, content: &str) -> Result<(), ServerError> {
    std::fs::write(path, content).map_err(ServerError::io(format!("write {}", path.display())))
}

/// Makes one of the server's directories.
fn mkdir(path: &Path) -> Result<(), ServerError> {
    std::fs::create_dir_all(path).map_err(ServerError::io(format!("make {}", path.display())))
}
