//! The owner of one account's room state: a task around a [`Hub`].
//!
//! It waits for its mailbox and its timer and for nothing else. What it puts out goes into the
//! unbounded mailboxes of sessions, and is charged to the receiving session's budget until it is
//! written. A session whose budget is over its bound is told to end and gets nothing more, so a
//! slow one costs its siblings neither time nor memory.

mod anchors;
mod store;

use std::{
    collections::HashMap,
    future::pending,
    sync::Arc,
    time::{Instant, SystemTime},
};

use jid::FullJid;
use mucplex_muc::{
    AccountJid, Hub, Input, Now, Output, Policy, RoomJid, SessionId, UplinkId, Urgency,
};
use mucplex_net::{Budget, Custody, Freight};
use mucplex_store::AnchorState;
use mucplex_stream::Credentials;
use mucplex_xml::{Frame, Outgoing, StreamErrorCondition};
use tokio::{
    sync::{
        mpsc::{self, Receiver, Sender, UnboundedSender, WeakSender},
        oneshot,
    },
    task::yield_now,
};
use tracing::{debug, warn};

use crate::{
    anchor::Keyring,
    server::Shared,
    session::{PER_STANZA, SessionInput},
    uplink::Uplink,
};

use store::Keeper;

/// Inputs that wait for an owner before a session that brings more has to wait. An owner waits for
/// nobody, so a session waits for computation only.
const MAILBOX: usize = 32;

/// What sessions tell their account's owner.
#[derive(Debug)]
pub(crate) enum AccountInput {
    /// A session has bound.
    Bound {
        session: SessionId,
        uplink: UplinkId,
        jid: FullJid,
        client_lang: Option<String>,
        mailbox: UnboundedSender<SessionInput>,
        /// What waits for this session's client.
        owed: Arc<Budget>,
        domain: usize,
        /// What the client has logged in with, if it could be seen.
        credentials: Option<Credentials>,
    },
    /// A room stanza of the client. Its freight hangs on it until the server has what the stanza
    /// caused.
    FromClient {
        session: SessionId,
        frame: Frame,
        freight: Freight,
    },
    /// The server has granted message carbons to the session, or taken them back.
    Carbons { session: SessionId, enabled: bool },
    /// The account has no bookmarks of these rooms any more, or is not to be in them by itself.
    BookmarksRetracted(Vec<RoomJid>),
    /// The client's undirected unavailable is withheld.
    Unavailable { session: SessionId },
    /// The client is away and may come back.
    Asleep { session: SessionId },
    /// It is back.
    Awake { session: SessionId },
    /// The client is gone for good.
    Ended {
        session: SessionId,
        /// For the server it is not.
        available: bool,
        /// If it was lost: the latest mark of what it has.
        served: Option<u64>,
    },
    /// A room stanza of the server; on an anchor, any stanza.
    FromServer {
        uplink: UplinkId,
        frame: Frame,
        custody: Option<Custody>,
    },
    /// The uplink's connection is gone, and its stream may go on.
    Suspended { uplink: UplinkId },
    /// It does.
    Resumed { uplink: UplinkId },
    /// The uplink is gone.
    UplinkLost { uplink: UplinkId },
    /// An uplink that nobody needed: it can be the anchor.
    Spare(Box<Uplink>),
    /// Whether the anchor has this resource.
    IsHeld {
        resource: String,
        answer: oneshot::Sender<bool>,
    },
    /// A session is to get the anchor's uplink, and the account this one as its anchor.
    Reclaim {
        spare: Box<Uplink>,
        answer: oneshot::Sender<Uplink>,
    },
    /// No anchor has come of a login that was replayed.
    NoAnchor,
    /// An anchor.
    AnchorBound {
        uplink: UplinkId,
        jid: FullJid,
        lang: Option<String>,
        mailbox: UnboundedSender<SessionInput>,
        /// Its stream is that of an earlier process.
        restored: bool,
    },
    /// How the anchor's stream can be resumed, or that it cannot any more.
    AnchorStream {
        uplink: UplinkId,
        stream: Option<Box<AnchorState>>,
    },
    /// What a resource has had of a session that is no more.
    Served { resource: String, number: u64 },
}

/// The task's state.
pub(crate) struct Owner {
    account: AccountJid,
    hub: Hub,
    inputs: Receiver<AccountInput>,
    sessions: HashMap<SessionId, Client>,
    uplinks: HashMap<UplinkId, Way>,
    anchor: Option<UplinkId>,
    /// An anchor is being got.
    expected: bool,
    keyring: Arc<Keyring>,
    keeper: Option<Keeper>,
    shared: Arc<Shared>,
    /// Of this task itself.
    handle: WeakSender<AccountInput>,
    /// Keeps the task alive while the hub has what outlives sessions.
    kept: Option<Sender<AccountInput>>,
    /// Much waits for some session.
    ahead: bool,
}

/// A way to the server.
struct Way {
    jid: FullJid,
    mailbox: UnboundedSender<SessionInput>,
}

/// The client side of a session.
struct Client {
    jid: FullJid,
    uplink: UplinkId,
    mailbox: UnboundedSender<SessionInput>,
    owed: Arc<Budget>,
    /// It was told to end; what comes after that has no reader.
    told_to_end: bool,
}

impl Owner {
    /// The owner of an account, and the handle by which it is told.
    pub(crate) fn new(account: AccountJid, shared: Arc<Shared>) -> (Self, Sender<AccountInput>) {
        let (sender, inputs) = mpsc::channel(MAILBOX);
        let owner = Self {
            hub: Hub::new(account.clone(), shared.rooms.clone()),
            account,
            inputs,
            sessions: HashMap::new(),
            uplinks: HashMap::new(),
            anchor: None,
            expected: false,
            keyring: Keyring::new(),
            keeper: None,
            shared,
            handle: sender.downgrade(),
            kept: Some(sender.clone()),
            ahead: false,
        };
        (owner, sender)
    }

    /// Runs until nobody holds a handle any more, and nothing is left that outlives sessions.
    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        self.restore().await;
        self.keep_alive();
        loop {
            let timeout = self.hub.next_timeout();
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.input(input),
                    None => break,
                },
                () = until(timeout) => self.drive(Input::Timeout, Freight::default()),
                () = stop.cancelled(), if self.kept.is_some() => {}
            }
            self.keep_alive();
            // A flood must not run ahead of sessions that only want for a processor: they write
            // before it goes on.
            if std::mem::take(&mut self.ahead) {
                yield_now().await;
            }
        }
        debug!(account = %self.account, idle = self.hub.is_idle(), "the account's owner ends");
    }

    /// Goes on where the process before this one was ended.
    async fn restore(&mut self) {
        let (keeper, restored) = Keeper::open(&self.shared, &self.account, &self.keyring).await;
        self.keeper = keeper;
        let policy = Policy {
            persist: self.keeper.is_some(),
            anchors: self.shared.anchors.enabled,
            ..self.shared.rooms.clone()
        };
        self.hub = Hub::restore(self.account.clone(), policy, restored.rooms, now());
        let lost = self.shared.lost.remove(&self.account.0);
        for lost in lost.into_iter().flat_map(|(_, lost)| lost) {
            // If its client comes back and tells what it has received, that is more.
            let number = lost.has;
            let resource = lost.device.resource;
            self.drive(Input::Served { resource, number }, Freight::default());
        }
        if !self.hub.keeps_state() || self.keyring.is_empty() || !self.shared.anchors.enabled {
            return;
        }
        let account = self.account.0.domain().as_str();
        let domain = self.shared.domains.iter().position(|it| it.name == account);
        if let (Some(home), Some(domain)) = (self.home(), domain) {
            self.expect_anchor(true);
            home.restore(self.account.clone(), domain, restored.anchor);
        }
    }

    /// An owner that has what outlives sessions is there for those to come.
    fn keep_alive(&mut self) {
        let keeps = !self.hub.is_idle() || self.hub.keeps_state();
        if !keeps || self.shared.stop.is_cancelled() {
            self.kept = None;
        } else if self.kept.is_none() {
            self.kept = self.handle.upgrade();
        }
    }

    fn input(&mut self, input: AccountInput) {
        match input {
            AccountInput::Bound {
                session,
                uplink,
                jid,
                client_lang,
                mailbox,
                owed,
                domain,
                credentials,
            } => {
                if let Some(credentials) = credentials {
                    self.replay(domain, credentials);
                }
                self.replaces(&jid);
                let way = Way {
                    jid: jid.clone(),
                    mailbox: mailbox.clone(),
                };
                self.uplinks.insert(uplink, way);
                self.sessions.insert(
                    session,
                    Client {
                        jid: jid.clone(),
                        uplink,
                        mailbox,
                        owed,
                        told_to_end: false,
                    },
                );
                self.tell_siblings();
                self.drive(
                    Input::SessionBound {
                        session,
                        uplink,
                        jid,
                        client_lang,
                    },
                    Freight::default(),
                );
            }
            AccountInput::FromClient {
                session,
                frame,
                freight,
            } => {
                self.drive(Input::FromClient { session, frame }, freight);
            }
            AccountInput::Carbons { session, enabled } => {
                self.drive(
                    Input::SessionCarbons { session, enabled },
                    Freight::default(),
                );
            }
            AccountInput::BookmarksRetracted(rooms) => {
                for room in rooms {
                    self.drive(Input::BookmarkRetracted { room }, Freight::default());
                }
            }
            AccountInput::Unavailable { session } => {
                self.drive(Input::SessionUnavailable { session }, Freight::default());
            }
            AccountInput::Asleep { session } => {
                self.drive(Input::SessionAsleep { session }, Freight::default());
            }
            AccountInput::Awake { session } => {
                self.drive(Input::SessionAwake { session }, Freight::default());
            }
            AccountInput::Ended {
                session,
                available,
                served,
            } => {
                debug!(account = %self.account, %session, ?served, "a session has ended");
                self.sessions.remove(&session);
                self.tell_siblings();
                self.drive(
                    Input::SessionEnded {
                        session,
                        available,
                        served,
                    },
                    Freight::default(),
                );
            }
            AccountInput::FromServer {
                uplink,
                frame,
                custody,
            } => {
                self.hub_input(Input::FromServer { uplink, frame }, Freight::default());
                self.commit(custody, self.anchor == Some(uplink));
            }
            AccountInput::Suspended { uplink } => {
                self.drive(Input::UplinkSuspended { uplink }, Freight::default());
            }
            AccountInput::Resumed { uplink } => {
                self.drive(Input::UplinkResumed { uplink }, Freight::default());
            }
            AccountInput::Spare(uplink) => self.spare(*uplink),
            AccountInput::IsHeld { resource, answer } => {
                let anchor = self.anchor.and_then(|anchor| self.uplinks.get(&anchor));
                let held = anchor.is_some_and(|it| it.jid.resource().as_str() == resource);
                // A login that is gone needs no answer.
                let _ = answer.send(held);
            }
            AccountInput::Reclaim { spare, answer } => self.reclaim(*spare, answer),
            AccountInput::NoAnchor => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.keys(&self.shared, &self.keyring);
                    keeper.commit(None, false);
                }
                self.expect_anchor(false);
            }
            AccountInput::AnchorBound {
                uplink,
                jid,
                lang,
                mailbox,
                restored,
            } => {
                let way = Way {
                    jid: jid.clone(),
                    mailbox,
                };
                self.uplinks.insert(uplink, way);
                self.anchor = Some(uplink);
                self.expected = false;
                if let Some(keeper) = &mut self.keeper {
                    keeper.keys(&self.shared, &self.keyring);
                }
                let bound = if restored {
                    Input::AnchorRestored { uplink, jid, lang }
                } else {
                    Input::AnchorBound { uplink, jid, lang }
                };
                self.drive(bound, Freight::default());
            }
            AccountInput::AnchorStream { uplink, stream } => {
                if self.anchor == Some(uplink)
                    && let Some(keeper) = &mut self.keeper
                {
                    keeper.anchor(stream.map(|stream| *stream));
                    keeper.commit(None, false);
                }
            }
            AccountInput::Served { resource, number } => {
                debug!(account = %self.account, resource, number, "served so far");
                self.drive(Input::Served { resource, number }, Freight::default());
            }
            AccountInput::UplinkLost { uplink } => {
                self.uplinks.remove(&uplink);
                if self.anchor == Some(uplink) {
                    self.anchor = None;
                    if let Some(keeper) = &mut self.keeper {
                        keeper.anchor(None);
                        keeper.keys(&self.shared, &self.keyring);
                    }
                    self.expect_anchor(!self.keyring.is_empty());
                }
                // A session does not outlive its uplink.
                self.sessions.retain(|_, client| client.uplink != uplink);
                self.tell_siblings();
                self.drive(Input::UplinkLost { uplink }, Freight::default());
            }
        }
    }

    /// The server ends the stream of an older session of the same full JID, and its words about that
    /// may get lost with the connection.
    fn replaces(&self, jid: &FullJid) {
        for older in self.sessions.values().filter(|it| it.jid == *jid) {
            // A closed mailbox belongs to a session whose end is on its way here.
            let _ = older.mailbox.send(SessionInput::Replaced);
        }
    }

    /// A session with siblings must read its uplink whatever its own client does.
    fn tell_siblings(&self) {
        let has_siblings = self.sessions.len() > 1;
        for client in self.sessions.values() {
            // A closed mailbox belongs to a session whose end is on its way here.
            let _ = client.mailbox.send(SessionInput::Siblings(has_siblings));
        }
    }

    /// Gives the hub one input and carries out what comes of it. The freight goes with the first
    /// stanza to the server; without one it ends here.
    fn drive(&mut self, input: Input, freight: Freight) {
        self.hub_input(input, freight);
        self.commit(None, false);
    }

    /// What the last input has changed is to be kept. `custody`: of the stanza that it was.
    fn commit(&mut self, custody: Option<Custody>, of_anchor: bool) {
        if let Some(keeper) = &mut self.keeper {
            keeper.commit(custody, of_anchor);
        }
        // Without a store, what a stanza has changed is in the hub, and that is all there is.
    }

    fn hub_input(&mut self, input: Input, freight: Freight) {
        let mut freight = Some(freight);
        self.hub.handle(now(), input);
        let mut outputs = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match (output, &mut self.keeper) {
                // Noted before anybody is told.
                (Output::Persist(change), Some(keeper)) => keeper.change(*change),
                (output, _) => outputs.push(output),
            }
        }
        for output in outputs {
            match output {
                Output::ToClient {
                    session,
                    stanza,
                    owned,
                    urgency,
                    mark,
                } => self.deliver(session, stanza, owned, urgency, mark),
                // There is nothing to keep it in.
                Output::Persist(_) => {}
                Output::ToServer { uplink, stanza } => {
                    let freight = freight.take().unwrap_or_default();
                    self.send_to_uplink(uplink, SessionInput::ToServer { stanza, freight });
                }
                Output::Carry { uplink, room } => {
                    self.send_to_uplink(uplink, SessionInput::Carry(room));
                }
                Output::Release { uplink } => self.send_to_uplink(uplink, SessionInput::Release),
                Output::Retain { uplink } => {
                    self.anchor = Some(uplink);
                    match self.home() {
                        Some(home) => self.send_to_uplink(uplink, SessionInput::Retain(home)),
                        None => {
                            debug!(account = %self.account, "nobody is left to retain an uplink");
                        }
                    }
                }
            }
        }
    }

    fn deliver(
        &mut self,
        session: SessionId,
        stanza: Outgoing,
        owned: usize,
        urgency: Urgency,
        mark: u64,
    ) {
        let Some(client) = self
            .sessions
            .get(&session)
            .filter(|client| !client.told_to_end)
        else {
            debug!(account = %self.account, %session, bytes = stanza.len(), "its reader has gone");
            return;
        };
        let charge = client.owed.charge(owned + PER_STANZA);
        // A closed mailbox belongs to a session whose end is on its way here.
        let _ = client.mailbox.send(SessionInput::ToClient {
            stanza,
            freight: Freight {
                charge: Some(charge),
                custody: None,
                mark,
            },
            urgency,
        });
        self.ahead |= client.owed.used() > client.owed.bound() / 4;
        if client.owed.is_over() {
            warn!(account = %self.account, %session, waiting = client.owed.used(), "a session is too slow");
            self.end_session(
                session,
                StreamErrorCondition::ResourceConstraint,
                "too much waits for this client to read it",
            );
        }
    }

    fn send_to_uplink(&self, uplink: UplinkId, input: SessionInput) {
        match self.uplinks.get(&uplink) {
            // A closed mailbox belongs to an uplink whose loss is on its way here.
            Some(way) => drop(way.mailbox.send(input)),
            None => debug!(account = %self.account, %uplink, "output for an uplink that is gone"),
        }
    }

    fn end_session(
        &mut self,
        session: SessionId,
        condition: StreamErrorCondition,
        text: &'static str,
    ) {
        if let Some(client) = self.sessions.get_mut(&session) {
            client.told_to_end = true;
            // As above.
            let _ = client.mailbox.send(SessionInput::End(condition, text));
        }
    }
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    }
}

async fn until(timeout: Option<Instant>) {
    match timeout {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}
