//! A room service behind a real server, whose rooms do what the test says.
//!
//! A [`Room`] behaves until it is told not to: a join is answered with the other occupants, the
//! self-presence, the history and the subject; what an occupant says goes to all streams; private
//! messages and IQs are relayed; several streams of one account share a nick. Its occupants are
//! those who join through the server, and as many others as the test makes up.
//!
//! What it does otherwise is in its [`Rules`]; what happens to its occupants, in methods of
//! [`Room`]; and [`Room::send`] sends anything at all from an address of the service.
//!
//! ```no_run
//! use mucplex_testkit::rooms::{Joining, Service};
//! use mucplex_testkit::server::{Kind, Server};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let server = Server::shared(Kind::Prosody).await;
//! let room = Service::shared(Kind::Prosody).await.new_room("tea");
//! let alice = server.account("alice").await.unwrap();
//! let mut alice = alice.direct().connect().await.unwrap();
//!
//! room.crowd(3);
//! room.rules(|rules| rules.joining = Joining::Assign("alice2".into()));
//! let joined = alice.join(room.jid(), "alice").await.unwrap();
//! assert_eq!(joined.nicks(), ["c1", "c2", "c3"]);
//! assert!(joined.self_presence.has_status(210));
//!
//! room.say("c1", "hello");
//! alice.hear("hello").await.unwrap();
//! room.remove("alice", &[332]);
//! # });
//! ```

mod handle;
mod iq;
mod occupants;
mod rules;
mod write;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, mpsc, watch};

use crate::client::{ClientError, Connection};
use crate::component::{self, Component};
use crate::server::{Kind, Server};
use crate::xml::Stanza;

use handle::State;
pub use rules::{Joining, Leaving, Renaming, Rules};

/// How long the test waits for what a room is to receive.
const LIMIT: Duration = Duration::from_secs(10);

/// A room service: a component, and the task that serves its rooms.
pub struct Service {
    domain: String,
    rooms: Arc<Mutex<HashMap<String, Room>>>,
    output: mpsc::UnboundedSender<String>,
    ended: watch::Receiver<Option<String>>,
}

impl Service {
    /// Serves rooms at the domain of a component. It ends when dropped; the rooms are silent then.
    pub fn start(component: Component) -> Self {
        let rooms = Arc::new(Mutex::new(HashMap::new()));
        let (output, outgoing) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(None);
        let domain = component.domain().to_owned();
        tokio::spawn(serve(component, Arc::clone(&rooms), outgoing, end));
        Self {
            domain,
            rooms,
            output,
            ended,
        }
    }

    /// A service of the test's own, on a domain of its own.
    pub async fn connect(server: &Server) -> Result<Self, ClientError> {
        let component = Component::connect(server, &Component::new_domain()).await?;
        Ok(Self::start(component))
    }

    /// The service on the server that [`Server::shared`] gives, for all tests of this process; they
    /// keep apart by rooms of their own ([`Self::new_room`]).
    pub async fn shared(kind: Kind) -> &'static Self {
        static PROSODY: OnceCell<Service> = OnceCell::const_new();
        static EJABBERD: OnceCell<Service> = OnceCell::const_new();
        let cell = match kind {
            Kind::Prosody => &PROSODY,
            Kind::Ejabberd => &EJABBERD,
        };
        // Each test may have a runtime of its own, which ends with it; this service outlives it.
        static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).enable_all();
            builder.build().expect("a runtime")
        });
        let start = async || {
            let server = Server::shared(kind).await;
            let service = RUNTIME.spawn(async move {
                let component = Component::connect(server, component::SHARED).await;
                Self::start(component.unwrap_or_else(|error| panic!("{error}")))
            });
            service.await.expect("the service has started")
        };
        cell.get_or_init(start).await
    }

    /// Its domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// A room whose name begins with `name` and that no other test of this process uses.
    pub fn new_room(&self, name: &str) -> Room {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.room(&format!("{name}-{number}"))
    }

    /// The room `name`, which must be as servers write it: in lower case, and no longer than they
    /// take.
    pub fn room(&self, name: &str) -> Room {
        let jid = format!("{name}@{}", self.domain);
        let mut rooms = lock(&self.rooms);
        let room = rooms.entry(jid.clone()).or_insert_with(|| {
            let (changed, _) = watch::channel(());
            Room(Arc::new(Inner {
                state: Mutex::new(State::new(&jid)),
                jid,
                output: self.output.clone(),
                changed,
            }))
        });
        room.clone()
    }

    /// Why it serves no longer: what the server said, or how the connection ended.
    pub fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }
}

/// A room of a [`Service`]; clones are the same room.
#[derive(Clone)]
pub struct Room(Arc<Inner>);

struct Inner {
    jid: String,
    state: Mutex<State>,
    output: mpsc::UnboundedSender<String>,
    changed: watch::Sender<()>,
}

impl Room {
    /// Its JID.
    pub fn jid(&self) -> &str {
        &self.0.jid
    }

    /// The JID of an occupant.
    pub fn occupant(&self, nick: &str) -> String {
        format!("{}/{nick}", self.0.jid)
    }

    /// Changes how it answers from now on.
    pub fn rules(&self, change: impl FnOnce(&mut Rules)) {
        self.act(|state| {
            change(&mut state.rules);
            Vec::new()
        });
    }

    /// Looks at each stanza before the room does; where the hook gives stanzas, the room sends
    /// these instead of an answer of its own. For what no rule says.
    pub fn hook(&self, hook: impl FnMut(&Stanza) -> Option<Vec<String>> + Send + 'static) {
        self.act(|state| {
            state.hook = Some(Box::new(hook));
            Vec::new()
        });
    }

    /// Sends XML as it is: one or more stanzas with `from`, an address of the service's domain,
    /// and `to`. What a room has sent comes in this order.
    pub fn send(&self, xml: impl Into<String>) {
        let xml = xml.into();
        self.act(|_| vec![xml]);
    }

    /// Sends each stream of the occupant `nick` a stanza in which `{to}` stands for its full JID,
    /// `{room}` for the room's and `{nick}` for the nick.
    pub fn send_each(&self, nick: &str, stanza: &str) {
        self.act(|state| state.for_each_stream(nick, stanza));
    }

    /// What has been sent to the room or its occupants so far.
    pub fn received(&self) -> Vec<Stanza> {
        lock(&self.0.state).received.clone()
    }

    /// What has been received and satisfies the condition.
    pub fn count(&self, condition: impl Fn(&Stanza) -> bool) -> usize {
        let state = lock(&self.0.state);
        let matching = state.received.iter().filter(|stanza| condition(stanza));
        matching.count()
    }

    /// How many presences with the muc `<x/>` it has received.
    pub fn joins(&self) -> usize {
        self.count(|stanza| stanza.name() == "presence" && handle::asks_to_join(stanza))
    }

    /// The first stanza received so far, or from now on, that satisfies the condition.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Stanza) -> bool) -> Stanza {
        let mut changed = self.0.changed.subscribe();
        let wait = async {
            loop {
                let found = lock(&self.0.state)
                    .received
                    .iter()
                    .find(|it| condition(it))
                    .cloned();
                if let Some(found) = found {
                    return found;
                }
                changed.changed().await.expect("the room is still there");
            }
        };
        let found = tokio::time::timeout(LIMIT, wait).await;
        found.unwrap_or_else(|_| {
            panic!(
                "{} waited for {what}; it received {:#?}",
                self.jid(),
                self.received()
            )
        })
    }

    /// What has been received is forgotten: [`Self::wait_for`] and [`Self::count`] begin anew.
    pub fn forget_received(&self) {
        lock(&self.0.state).received.clear();
    }

    /// Does something to the state, and sends what comes of it before anything else happens.
    fn act(&self, act: impl FnOnce(&mut State) -> Vec<String>) {
        let mut state = lock(&self.0.state);
        let stanzas = act(&mut state);
        if !stanzas.is_empty() {
            // The service may have ended; the test sees that nothing comes.
            let _ = self.0.output.send(stanzas.concat());
        }
    }

    fn handle(&self, stanza: &Stanza) {
        self.act(|state| state.handle(stanza));
        self.0.changed.send_replace(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic happens under this lock")
}

/// Passes stanzas between the component's connection and the rooms until one side ends.
async fn serve(
    mut component: Component,
    rooms: Arc<Mutex<HashMap<String, Room>>>,
    mut outgoing: mpsc::UnboundedReceiver<String>,
    end: watch::Sender<Option<String>>,
) {
    const FOR_EVER: Duration = Duration::from_secs(1 << 32);
    component.set_timeout(FOR_EVER);
    let connection: &mut Connection = &mut component;
    let why = loop {
        tokio::select! {
            xml = outgoing.recv() => {
                let Some(xml) = xml else { break "nobody uses it any more".to_owned() };
                if let Err(error) = connection.send_raw(xml).await {
                    break error.to_string();
                }
            }
            stanza = connection.recv() => match stanza {
                Ok(stanza) => dispatch(stanza, &rooms, connection).await,
                Err(error) => break error.to_string(),
            },
        }
    };
    end.send_replace(Some(why));
}

async fn dispatch(
    stanza: Stanza,
    rooms: &Mutex<HashMap<String, Room>>,
    connection: &mut Connection,
) {
    let bare = stanza.to().and_then(|to| to.split('/').next());
    let room = bare.and_then(|bare| lock(rooms).get(bare).cloned());
    if let Some(room) = room {
        room.handle(&stanza);
    } else if let Some(answer) = write::no_such_room(&stanza) {
        // A failure to send shows at the next read.
        let _ = connection.send_raw(answer).await;
    }
}
