//! A TCP forwarder that records what passes, cuts connections, and swallows bytes.
//!
//! It stands between a client and a server, or between the proxy and the server: a test counts
//! there what the server has really sent.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long [`Tap::wait_until`] waits.
const LIMIT: Duration = Duration::from_secs(10);

/// What a connection does with what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Passes it on.
    Forward,
    /// Reads it, records it, and passes nothing on: the network has lost the peer.
    Swallow,
    /// Does not read: the peer's buffers fill.
    Hold,
    /// Both sides are closed, in order or with a reset.
    Cut { reset: bool },
}

/// What has passed through one connection.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// From the side that has connected, as a client.
    pub up: Vec<u8>,
    /// From the side that was connected to, as a server.
    pub down: Vec<u8>,
    /// Whether one side has ended it, or the test has.
    pub closed: bool,
}

impl Recording {
    /// How many times `needle` stands in what came down.
    pub fn count_down(&self, needle: &str) -> usize {
        count(&self.down, needle)
    }

    /// How many times `needle` stands in what went up.
    pub fn count_up(&self, needle: &str) -> usize {
        count(&self.up, needle)
    }
}

fn count(haystack: &[u8], needle: &str) -> usize {
    String::from_utf8_lossy(haystack).matches(needle).count()
}

struct Link {
    recording: Arc<Mutex<Recording>>,
    flow: watch::Sender<Flow>,
}

struct Shared {
    target: SocketAddr,
    refuse: bool,
    links: Vec<Link>,
}

/// A listener that connects everything it takes with a target.
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    changed: watch::Receiver<()>,
    listener: AbortHandle,
}

impl Tap {
    /// Listens on a free loopback port and forwards to `target`.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared {
            target,
            refuse: false,
            links: Vec::new(),
        }));
        let (notify, changed) = watch::channel(());
        let task = tokio::spawn(listen(listener, Arc::clone(&shared), Arc::new(notify)));
        Ok(Self {
            address,
            shared,
            changed,
            listener: task.abort_handle(),
        })
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects from now on with another target.
    pub fn set_target(&self, target: SocketAddr) {
        lock(&self.shared).target = target;
    }

    /// Ends new connections at once, or no longer.
    pub fn refuse(&self, refuse: bool) {
        lock(&self.shared).refuse = refuse;
    }

    /// What has passed so far, one recording for each connection, oldest first.
    pub fn recordings(&self) -> Vec<Recording> {
        let shared = lock(&self.shared);
        shared
            .links
            .iter()
            .map(|link| lock(&link.recording).clone())
            .collect()
    }

    /// How many times `needle` has come down on all connections together.
    pub fn count_down(&self, needle: &str) -> usize {
        self.recordings()
            .iter()
            .map(|recording| recording.count_down(needle))
            .sum()
    }

    /// How many times `needle` has gone up on all connections together.
    pub fn count_up(&self, needle: &str) -> usize {
        self.recordings()
            .iter()
            .map(|recording| recording.count_up(needle))
            .sum()
    }

    /// Waits until the recordings satisfy `condition`, at most 10 s; whether they do.
    pub async fn wait_until(&self, condition: impl Fn(&[Recording]) -> bool) -> bool {
        let mut changed = self.changed.clone();
        let wait = async {
            while !condition(&self.recordings()) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LIMIT, wait).await;
        condition(&self.recordings())
    }

    /// Closes both sides of a connection (FIN).
    pub fn cut(&self, connection: usize) {
        self.set_flow(connection, Flow::Cut { reset: false });
    }

    /// Resets both sides of a connection (RST).
    pub fn reset(&self, connection: usize) {
        self.set_flow(connection, Flow::Cut { reset: true });
    }

    /// Closes every connection there is.
    pub fn cut_all(&self) {
        for connection in 0..self.recordings().len() {
            self.cut(connection);
        }
    }

    /// Passes nothing on from now on, though everything is read: a network that has gone away
    /// without a word.
    pub fn black_hole(&self, connection: usize) {
        self.set_flow(connection, Flow::Swallow);
    }

    /// Reads nothing from now on, so that both senders are held up, until [`Self::forward`].
    pub fn hold(&self, connection: usize) {
        self.set_flow(connection, Flow::Hold);
    }

    /// Passes everything on again.
    pub fn forward(&self, connection: usize) {
        self.set_flow(connection, Flow::Forward);
    }

    fn set_flow(&self, connection: usize, flow: Flow) {
        lock(&self.shared).links[connection].flow.send_replace(flow);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic happens under this lock")
}

async fn listen(listener: TcpListener, shared: Arc<Mutex<Shared>>, notify: Arc<watch::Sender<()>>) {
    while let Ok((near, _)) = listener.accept().await {
        let (target, refuse) = {
            let shared = lock(&shared);
            (shared.target, shared.refuse)
        };
        if refuse {
            continue;
        }
        let recording = Arc::new(Mutex::new(Recording::default()));
        let (flow, commands) = watch::channel(Flow::Forward);
        lock(&shared).links.push(Link {
            recording: Arc::clone(&recording),
            flow,
        });
        let notify = Arc::clone(&notify);
        tokio::spawn(async move {
            if let Ok(far) = TcpStream::connect(target).await {
                link(near, far, &recording, commands, &notify).await;
            }
            lock(&recording).closed = true;
            notify.send_replace(());
        });
    }
}

/// Serves one connection until both directions have ended or it is cut.
async fn link(
    mut near: TcpStream,
    mut far: TcpStream,
    recording: &Mutex<Recording>,
    commands: watch::Receiver<Flow>,
    notify: &watch::Sender<()>,
) {
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let reset = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let up = pump(near_read, far_write, commands.clone(), |data| {
            lock(recording).up.extend_from_slice(data);
            notify.send_replace(());
        });
        let down = pump(far_read, near_write, commands.clone(), |data| {
            lock(recording).down.extend_from_slice(data);
            notify.send_replace(());
        });
        tokio::select! {
            _ = async { tokio::join!(up, down) } => false,
            reset = cut(commands) => reset,
        }
    };
    if reset {
        let _ = near.set_zero_linger();
        let _ = far.set_zero_linger();
    }
}

/// Waits until the connection is to be cut; whether with a reset.
async fn cut(mut commands: watch::Receiver<Flow>) -> bool {
    match commands
        .wait_for(|flow| matches!(flow, Flow::Cut { .. }))
        .await
        .as_deref()
    {
        Ok(Flow::Cut { reset }) => *reset,
        _ => false,
    }
}

/// Passes one direction on until its sender ends it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut commands: watch::Receiver<Flow>,
    mut record: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let _ = commands.wait_for(|flow| *flow != Flow::Hold).await;
        let count = tokio::select! {
            biased;
            Ok(()) = commands.changed() => continue,
            count = from.read(&mut buffer) => count.unwrap_or(0),
        };
        if count == 0 {
            break;
        }
        record(&buffer[..count]);
        let swallow = *commands.borrow() == Flow::Swallow;
        if !swallow && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // The half-close is passed on, but not through a black hole; the other direction goes on.
    let _ = commands.wait_for(|flow| *flow != Flow::Swallow).await;
    let _ = to.shutdown().await;
}
