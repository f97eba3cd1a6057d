//! A TCP forwarder that records what passes and is a bad network on command: it cuts, resets,
//! swallows, holds up, delays and throttles connections, and refuses new ones.
//!
//! It stands between a client and a server, or between the proxy and the server: a test counts
//! there what the server has really sent. It does nothing by chance.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long [`Tap::wait_until`] waits.
const LIMIT: Duration = Duration::from_secs(10);

/// How many pieces of one direction may be on their way.
const PIECES: usize = 1024;
/// Into how many parts a throttled connection divides a second.
const SLICES: usize = 20;

/// What a connection does with what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flow {
    /// Passes it on.
    #[default]
    Forward,
    /// Reads it, records it, and passes nothing on: the network has lost the peer.
    Swallow,
    /// Does not read: the peer's buffers fill.
    Hold,
    /// Both sides are closed, in order or with a reset.
    Cut { reset: bool },
}

/// How slow a connection is, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// How long each byte is on its way. What is on its way when this changes arrives as it was
    /// to, and nothing overtakes it.
    pub delay: Duration,
    /// How many bytes pass in a second; absent: as many as come.
    pub bytes_per_second: Option<u32>,
}

/// What becomes of those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrival {
    /// They are connected with the target.
    #[default]
    Serve,
    /// Their connections are reset at once.
    Refuse,
    /// They are accepted, and then there is silence.
    BlackHole,
}

/// What a test has commanded for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Command {
    flow: Flow,
    pace: Pace,
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
    command: watch::Sender<Command>,
}

struct Shared {
    target: SocketAddr,
    arrival: Arrival,
    /// For connections to come.
    pace: Pace,
    keep_bytes: bool,
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
            arrival: Arrival::Serve,
            pace: Pace::default(),
            keep_bytes: true,
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

    /// Does this with new connections from now on.
    pub fn arrivals(&self, arrival: Arrival) {
        lock(&self.shared).arrival = arrival;
    }

    /// Refuses new connections, or serves them again.
    pub fn refuse(&self, refuse: bool) {
        self.arrivals(if refuse {
            Arrival::Refuse
        } else {
            Arrival::Serve
        });
    }

    /// Records bytes from now on, or only which connections there are: for runs that are long.
    pub fn keep_bytes(&self, keep: bool) {
        lock(&self.shared).keep_bytes = keep;
    }

    /// How many connections there were so far; the newest has this number less one.
    pub fn connections(&self) -> usize {
        lock(&self.shared).links.len()
    }

    /// The connections that neither side has ended.
    pub fn open_connections(&self) -> Vec<usize> {
        let shared = lock(&self.shared);
        let links = shared.links.iter().enumerate();
        let open = links.filter(|(_, link)| !lock(&link.recording).closed);
        open.map(|(connection, _)| connection).collect()
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
        self.set_all_flows(Flow::Cut { reset: false });
    }

    /// Resets every connection there is.
    pub fn reset_all(&self) {
        self.set_all_flows(Flow::Cut { reset: true });
    }

    /// Passes nothing on from now on, though everything is read: a network that has gone away
    /// without a word.
    pub fn black_hole(&self, connection: usize) {
        self.set_flow(connection, Flow::Swallow);
    }

    /// The same for every connection there is.
    pub fn black_hole_all(&self) {
        self.set_all_flows(Flow::Swallow);
    }

    /// Reads nothing from now on, so that both senders are held up, until [`Self::forward`].
    pub fn hold(&self, connection: usize) {
        self.set_flow(connection, Flow::Hold);
    }

    /// The same for every connection there is.
    pub fn hold_all(&self) {
        self.set_all_flows(Flow::Hold);
    }

    /// Passes everything on again.
    pub fn forward(&self, connection: usize) {
        self.set_flow(connection, Flow::Forward);
    }

    /// The same for every connection that is held; what was swallowed is lost, so a connection in
    /// a black hole stays there.
    pub fn forward_all(&self) {
        for link in &lock(&self.shared).links {
            link.command.send_if_modified(|command| {
                let held = command.flow == Flow::Hold;
                if held {
                    command.flow = Flow::Forward;
                }
                held
            });
        }
    }

    /// Delays or throttles a connection.
    pub fn pace(&self, connection: usize, pace: Pace) {
        let shared = lock(&self.shared);
        shared.links[connection]
            .command
            .send_modify(|command| command.pace = pace);
    }

    /// Delays or throttles all connections, also those to come.
    pub fn pace_all(&self, pace: Pace) {
        let mut shared = lock(&self.shared);
        shared.pace = pace;
        for link in &shared.links {
            link.command.send_modify(|command| command.pace = pace);
        }
    }

    fn set_flow(&self, connection: usize, flow: Flow) {
        let shared = lock(&self.shared);
        shared.links[connection].set(flow);
    }

    fn set_all_flows(&self, flow: Flow) {
        for link in &lock(&self.shared).links {
            link.set(flow);
        }
    }
}

impl Link {
    fn set(&self, flow: Flow) {
        self.command.send_modify(|command| {
            // A connection that was cut stays so.
            if !matches!(command.flow, Flow::Cut { .. }) {
                command.flow = flow;
            }
        });
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
        let recording = Arc::new(Mutex::new(Recording::default()));
        let (target, arrival, commands) = {
            let mut shared = lock(&shared);
            if shared.arrival == Arrival::Refuse {
                let _ = near.set_zero_linger();
                continue;
            }
            let (command, commands) = watch::channel(Command {
                flow: Flow::Forward,
                pace: shared.pace,
            });
            shared.links.push(Link {
                recording: Arc::clone(&recording),
                command,
            });
            (shared.target, shared.arrival, commands)
        };
        let served = Served {
            recording,
            commands,
            shared: Arc::clone(&shared),
            notify: Arc::clone(&notify),
        };
        tokio::spawn(async move {
            if arrival == Arrival::BlackHole {
                served.stay_silent(near).await;
            } else if let Ok(far) = TcpStream::connect(target).await {
                served.serve(near, far).await;
            }
            lock(&served.recording).closed = true;
            served.notify.send_replace(());
        });
    }
}

/// One connection, as its task sees it.
struct Served {
    recording: Arc<Mutex<Recording>>,
    commands: watch::Receiver<Command>,
    shared: Arc<Mutex<Shared>>,
    notify: Arc<watch::Sender<()>>,
}

impl Served {
    /// Serves the connection until both directions have ended or it is cut.
    async fn serve(&self, mut near: TcpStream, mut far: TcpStream) {
        let _ = near.set_nodelay(true);
        let _ = far.set_nodelay(true);
        let reset = {
            let (near_read, near_write) = near.split();
            let (far_read, far_write) = far.split();
            let up = self.pump(near_read, far_write, |recording| &mut recording.up);
            let down = self.pump(far_read, near_write, |recording| &mut recording.down);
            tokio::select! {
                _ = async { tokio::join!(up, down) } => false,
                reset = cut(self.commands.clone()) => reset,
            }
        };
        if reset {
            let _ = near.set_zero_linger();
            let _ = far.set_zero_linger();
        }
    }

    /// Reads what comes, for nobody, until it is cut.
    async fn stay_silent(&self, mut near: TcpStream) {
        let reset = {
            let (mut read, _write) = near.split();
            let drain = async {
                let mut buffer = vec![0; 4096];
                while read.read(&mut buffer).await.unwrap_or(0) > 0 {}
                // Who has gone has not told anybody; the end is the test's.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = drain => false,
                reset = cut(self.commands.clone()) => reset,
            }
        };
        if reset {
            let _ = near.set_zero_linger();
        }
    }

    fn record(&self, data: &[u8], direction: fn(&mut Recording) -> &mut Vec<u8>) {
        if lock(&self.shared).keep_bytes {
            direction(&mut lock(&self.recording)).extend_from_slice(data);
        }
        self.notify.send_replace(());
    }

    /// Passes one direction on until its sender ends it.
    async fn pump(
        &self,
        from: ReadHalf<'_>,
        to: WriteHalf<'_>,
        direction: fn(&mut Recording) -> &mut Vec<u8>,
    ) {
        let (on_the_way, arriving) = mpsc::channel(PIECES);
        let read = self.read(from, on_the_way, direction);
        let write = self.write(arriving, to);
        tokio::join!(read, write);
    }

    async fn read(
        &self,
        mut from: ReadHalf<'_>,
        on_the_way: mpsc::Sender<(Instant, Vec<u8>)>,
        direction: fn(&mut Recording) -> &mut Vec<u8>,
    ) {
        let mut commands = self.commands.clone();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let command = commands.wait_for(|command| command.flow != Flow::Hold);
            let Ok(command) = command.await.map(|command| *command) else {
                return;
            };
            // A throttled sender is to feel it: no more is read than passes in a moment.
            let limit = match command.pace.bytes_per_second {
                Some(rate) => (rate as usize / SLICES).clamp(1, buffer.len()),
                None => buffer.len(),
            };
            let count = tokio::select! {
                biased;
                Ok(()) = commands.changed() => continue,
                count = from.read(&mut buffer[..limit]) => count.unwrap_or(0),
                () = on_the_way.closed() => return,
            };
            if count == 0 {
                return;
            }
            let data = &buffer[..count];
            self.record(data, direction);
            let pace = command.pace;
            if self.commands.borrow().flow != Flow::Swallow {
                let due = Instant::now() + pace.delay;
                // Without a delay a slow receiver is to be felt by the sender.
                let free = if pace.delay.is_zero() { PIECES } else { 1 };
                let Ok(mut permits) = on_the_way.reserve_many(free).await else {
                    return;
                };
                if let Some(permit) = permits.next() {
                    permit.send((due, data.to_vec()));
                }
            }
            if let Some(rate) = pace.bytes_per_second {
                let time = Duration::from_secs_f64(count as f64 / f64::from(rate.max(1)));
                tokio::time::sleep(time).await;
            }
        }
    }

    async fn write(&self, mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: WriteHalf<'_>) {
        let swallowed = |command: &Command| command.flow == Flow::Swallow;
        while let Some((due, data)) = arriving.recv().await {
            tokio::time::sleep_until(due).await;
            // What is on its way when the black hole opens falls into it.
            if !swallowed(&self.commands.borrow()) && to.write_all(&data).await.is_err() {
                return;
            }
        }
        // The half-close is passed on, but not through a black hole; the other direction goes on.
        let mut commands = self.commands.clone();
        let lost = |command: &Command| !matches!(command.flow, Flow::Forward | Flow::Hold);
        let _ = commands.wait_for(|command| !lost(command)).await;
        let _ = to.shutdown().await;
    }
}

/// Waits until the connection is to be cut; whether with a reset.
async fn cut(mut commands: watch::Receiver<Command>) -> bool {
    let cut = commands.wait_for(|command| matches!(command.flow, Flow::Cut { .. }));
    match cut.await.as_deref() {
        Ok(Command {
            flow: Flow::Cut { reset },
            ..
        }) => *reset,
        _ => false,
    }
}
