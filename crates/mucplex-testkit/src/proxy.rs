//! The built `mucplex` binary as a process of the test.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::DOMAIN;
use crate::client::{Login, Security};
use crate::process::{self, Guarded};
use crate::server::{Account, Server};
use crate::tls::{Certificate, Trust};

/// How long the proxy may take until it listens, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The name of the store's file.
const STORE: &str = "mucplex.db";

/// The proxy could not be started, or not be reached.
#[derive(thiserror::Error)]
pub enum ProxyError {
    /// The binary was not built.
    #[error("no mucplex binary at {}; build it first, or set MUCPLEX_BIN", .0.display())]
    NoBinary(PathBuf),
    /// An operating system error, with what was being done.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error.
        source: std::io::Error,
    },
    /// It ended, or does not listen in time.
    #[error("mucplex {what}; its configuration:\n{config}\nits output:\n{output}")]
    NotReady {
        /// What happened.
        what: String,
        /// The configuration file.
        config: String,
        /// What it has printed.
        output: String,
    },
}

impl fmt::Debug for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ProxyError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// How the proxy reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Without TLS.
    None,
    /// With STARTTLS.
    StartTls,
    /// With TLS from the start.
    Direct,
}

impl UpstreamTls {
    fn key(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StartTls => "starttls",
            Self::Direct => "direct",
        }
    }
}

/// What the configuration file of a proxy says. It has a listener with STARTTLS and one with
/// direct TLS.
#[derive(Debug, Clone)]
pub struct Setup {
    upstream: SocketAddr,
    upstream_tls: UpstreamTls,
    upstream_ca: Option<PathBuf>,
    extra: String,
    extra_domain: String,
    starttls: Option<SocketAddr>,
    binary: Option<PathBuf>,
    environment: Vec<(String, String)>,
    store: bool,
}

/// How a proxy has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What it has returned.
    pub status: ExitStatus,
    /// How long it took from the signal on.
    pub took: Duration,
}

impl Setup {
    /// A proxy in front of `upstream`, without TLS on that side.
    pub fn new(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            upstream_tls: UpstreamTls::None,
            upstream_ca: None,
            extra: String::new(),
            extra_domain: String::new(),
            starttls: None,
            binary: None,
            environment: Vec::new(),
            store: false,
        }
    }

    /// A proxy in front of `server`, which it reaches in the given way.
    pub fn server(server: &Server, tls: UpstreamTls) -> Self {
        let upstream = match tls {
            UpstreamTls::None => server.plain(),
            UpstreamTls::StartTls => server.starttls(),
            UpstreamTls::Direct => server.direct_tls(),
        };
        let setup = Self::new(upstream);
        match tls {
            UpstreamTls::None => setup,
            UpstreamTls::StartTls | UpstreamTls::Direct => setup.tls(tls, server.ca_pem()),
        }
    }

    /// Reaches the server with TLS and trusts the authorities in the file `ca`.
    #[must_use]
    pub fn tls(mut self, tls: UpstreamTls, ca: &Path) -> Self {
        self.upstream_tls = tls;
        self.upstream_ca = Some(ca.to_owned());
        self
    }

    /// Adds sections to the configuration file, as `[rooms]\nstay = "1s"`.
    #[must_use]
    pub fn section(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self.extra.push('\n');
        self
    }

    /// Adds keys to the `[[domain]]` section.
    #[must_use]
    pub fn domain_key(mut self, toml: &str) -> Self {
        self.extra_domain.push_str(toml);
        self.extra_domain.push('\n');
        self
    }

    /// Listens with STARTTLS here instead of on a free loopback port.
    #[must_use]
    pub fn listen(mut self, starttls: SocketAddr) -> Self {
        self.starttls = Some(starttls);
        self
    }

    /// Uses this binary instead of the one that [`binary_path`] finds.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// Keeps its store in a file of the proxy's directory, which outlives a restart
    /// ([`Proxy::store_path`]).
    #[must_use]
    pub fn store(mut self) -> Self {
        self.store = true;
        self
    }

    /// Sets an environment variable of the proxy, as `RUST_LOG`.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts the proxy and waits until it listens.
    pub async fn start(self) -> Result<Proxy, ProxyError> {
        let binary = self.binary.clone().unwrap_or_else(binary_path);
        if !binary.is_file() {
            return Err(ProxyError::NoBinary(binary));
        }
        let dir = tempfile::Builder::new()
            .prefix("mucplex-proxy-")
            .tempdir()
            .map_err(ProxyError::io("temporary directory"))?;
        let certificate =
            Certificate::generate(dir.path(), &[DOMAIN]).map_err(ProxyError::io("certificate"))?;
        let address = || process::free_address().map_err(ProxyError::io("free port"));
        let starttls = self.starttls.map_or_else(address, Ok)?;
        let direct = address()?;
        let mut config = self.configuration(&certificate, starttls, direct);
        if self.store {
            let path = dir.path().join(STORE);
            config.push_str(&format!("\n[store]\npath = \"{}\"\n", path.display()));
        }
        let path = dir.path().join("mucplex.toml");
        std::fs::write(&path, &config).map_err(ProxyError::io("write mucplex.toml"))?;
        let setup = self;
        let mut proxy = Proxy {
            setup,
            binary,
            config,
            certificate,
            starttls,
            direct,
            process: None,
            dir,
        };
        proxy.launch().await?;
        Ok(proxy)
    }

    fn configuration(
        &self,
        certificate: &Certificate,
        starttls: SocketAddr,
        direct: SocketAddr,
    ) -> String {
        let (upstream, tls) = (self.upstream, self.upstream_tls.key());
        let (pem, key) = (certificate.certificate.display(), certificate.key.display());
        let ca = match &self.upstream_ca {
            Some(path) => format!("upstream_ca = \"{}\"\n", path.display()),
            None => String::new(),
        };
        let Self {
            extra,
            extra_domain,
            ..
        } = self;
        format!(
            r#"[[domain]]
name = "{DOMAIN}"
upstream = "{upstream}"
upstream_tls = "{tls}"
{ca}certificate = "{pem}"
key = "{key}"
{extra_domain}
[[listen]]
address = "{starttls}"
tls = "starttls"

[[listen]]
address = "{direct}"
tls = "direct"

{extra}"#
        )
    }
}

/// Where the binary is: `MUCPLEX_BIN`, or `mucplex` in the target directory in which the running
/// test was built.
pub fn binary_path() -> PathBuf {
    if let Some(path) = std::env::var_os("MUCPLEX_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().unwrap_or_default();
    // Tests lie in target/<profile>/deps, examples and binaries one level up.
    let candidates = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("mucplex"));
    candidates
        .clone()
        .find(|path| path.is_file())
        .or(candidates.last())
        .unwrap_or_default()
}

/// A running proxy. It ends when dropped, and also when the test process dies.
pub struct Proxy {
    setup: Setup,
    binary: PathBuf,
    config: String,
    certificate: Certificate,
    starttls: SocketAddr,
    direct: SocketAddr,
    process: Option<Guarded>,
    dir: TempDir,
}

impl Proxy {
    /// Where it takes connections with STARTTLS.
    pub fn starttls(&self) -> SocketAddr {
        self.starttls
    }

    /// Where it takes direct TLS.
    pub fn direct_tls(&self) -> SocketAddr {
        self.direct
    }

    /// A login of `account` through the proxy, with STARTTLS.
    pub fn login(&self, account: &Account) -> Login {
        account
            .login(self.starttls)
            .security(Security::StartTls(self.trust()))
    }

    /// The authority that has signed its certificate.
    pub fn ca_pem(&self) -> &Path {
        &self.certificate.ca
    }

    /// A client's trust in its certificate.
    pub fn trust(&self) -> Trust {
        Trust::ca_file(&self.certificate.ca).expect("the authority was written at the start")
    }

    /// Its configuration file.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Its directory, for files of its own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    /// What it has printed, both streams together.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The file that holds what it prints.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("output.log")
    }

    /// The file of its store, if it was set up with one ([`Setup::store`]).
    pub fn store_path(&self) -> Option<PathBuf> {
        self.setup.store.then(|| self.dir.path().join(STORE))
    }

    /// Sends SIGTERM and waits for the end, at most `limit`.
    ///
    /// # Errors
    /// When it does not run, or has not ended in time; then it runs on.
    pub async fn end(&mut self, limit: Duration) -> Result<Ended, ProxyError> {
        let start = Instant::now();
        self.terminate()?;
        let status = self.wait(limit).await?;
        let took = start.elapsed();
        let not_running = std::io::Error::other("mucplex does not run");
        status
            .map(|status| Ended { status, took })
            .ok_or(not_running)
            .map_err(ProxyError::io("SIGTERM"))
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) -> Result<(), ProxyError> {
        self.process
            .as_ref()
            .map_or(Ok(()), Guarded::terminate)
            .map_err(ProxyError::io("SIGTERM"))
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(&mut self) -> Result<(), ProxyError> {
        if let Some(process) = &self.process {
            process.kill().map_err(ProxyError::io("SIGKILL"))?;
        }
        self.wait(START_LIMIT).await.map(drop)
    }

    /// Waits until it has ended, at most `limit`; `None` if it was not running.
    pub async fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, ProxyError> {
        let Some(process) = &mut self.process else {
            return Ok(None);
        };
        let status = process
            .wait(limit)
            .await
            .map_err(ProxyError::io("wait for mucplex"))?;
        self.process = None;
        Ok(Some(status))
    }

    /// Starts it again with the same configuration and directory, after its end.
    pub async fn restart(&mut self) -> Result<(), ProxyError> {
        self.process = None;
        self.launch().await
    }

    /// Resident memory now (`VmRSS`), in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.status_kilobytes("VmRSS:")
            .map(|kilobytes| kilobytes * 1024)
    }

    /// The most resident memory it has had (`VmHWM`), in bytes.
    pub fn peak_resident_bytes(&self) -> Option<u64> {
        self.status_kilobytes("VmHWM:")
            .map(|kilobytes| kilobytes * 1024)
    }

    fn status_kilobytes(&self, key: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    }

    async fn launch(&mut self) -> Result<(), ProxyError> {
        let config = self.dir.path().join("mucplex.toml");
        let environment = &self.setup.environment;
        let process = Guarded::spawn(
            &self.binary,
            |command| {
                command
                    .arg("run")
                    .arg("--config")
                    .arg(&config)
                    .current_dir(self.dir.path());
                command.envs(environment.iter().map(|(key, value)| (key, value)));
            },
            &self.log_path(),
            Some(self.dir.path()),
        )
        .map_err(ProxyError::io(format!("start {}", self.binary.display())))?;
        self.process = Some(process);
        self.ready().await
    }

    async fn ready(&mut self) -> Result<(), ProxyError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let connect = async |address| tokio::net::TcpStream::connect(address).await.is_ok();
            if connect(self.starttls).await && connect(self.direct).await {
                return Ok(());
            }
            let ended = match self.process.as_mut().map(Guarded::try_wait) {
                Some(Ok(None)) => None,
                Some(Ok(Some(status))) => Some(format!("ended at once with {status}")),
                Some(Err(error)) => Some(format!("cannot be waited for: {error}")),
                None => Some("is not running".to_owned()),
            };
            let late = (Instant::now() > deadline)
                .then(|| format!("does not listen after {START_LIMIT:?}"));
            if let Some(what) = ended.or(late) {
                let (config, output) = (self.config.clone(), process::tail(&self.log_path(), 60));
                return Err(ProxyError::NotReady {
                    what,
                    config,
                    output,
                });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mucplex at {} in {}",
            self.starttls,
            self.dir.path().display()
        )
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {self:?}\n{}\n---", process::tail(&self.log_path(), 60));
        }
    }
}
