//! The owner of one account's room state: a task around a [`Hub`].
//!
//! It waits for its mailbox and its timer and for nothing else. What it puts out goes into the
//! unbounded mailboxes of sessions, and is charged to the receiving session's budget until it is
//! written. A session whose budget is over its bound is told to end and gets nothing more, so a
//! slow one costs its siblings neither time nor memory.

use std::{
    collections::HashMap,
    future::pending,
    sync::Arc,
    time::{Instant, SystemTime},
};

use jid::FullJid;
use mucplex_muc::{AccountJid, Hub, Input, Now, Output, Policy, SessionId, UplinkId, Urgency};
use mucplex_net::{Budget, Charge};
use mucplex_xml::{Frame, Outgoing, StreamErrorCondition};
use tokio::{
    sync::mpsc::{Receiver, UnboundedSender},
    task::yield_now,
};
use tracing::{debug, warn};

use crate::session::{PER_STANZA, SessionInput};

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
    },
    /// A room stanza of the client. The charge is on the session until the server has what the
    /// stanza caused.
    FromClient {
        session: SessionId,
        frame: Frame,
        charge: Charge,
    },
    /// The server has granted message carbons to the session, or taken them back.
    Carbons { session: SessionId, enabled: bool },
    /// The client's undirected unavailable is withheld.
    Unavailable { session: SessionId },
    /// The client is gone for good.
    Ended { session: SessionId },
    /// A room stanza of the server.
    FromServer { uplink: UplinkId, frame: Frame },
    /// The uplink is gone.
    UplinkLost { uplink: UplinkId },
}

/// The task's state.
pub(crate) struct Owner {
    account: AccountJid,
    hub: Hub,
    inputs: Receiver<AccountInput>,
    sessions: HashMap<SessionId, Client>,
    uplinks: HashMap<UplinkId, UnboundedSender<SessionInput>>,
    /// Much waits for some session.
    ahead: bool,
}

/// The client side of a session.
struct Client {
    uplink: UplinkId,
    mailbox: UnboundedSender<SessionInput>,
    owed: Arc<Budget>,
    /// It was told to end; what comes after that has no reader.
    told_to_end: bool,
}

impl Owner {
    pub(crate) fn new(account: AccountJid, policy: Policy, inputs: Receiver<AccountInput>) -> Self {
        Self {
            hub: Hub::new(account.clone(), policy),
            account,
            inputs,
            sessions: HashMap::new(),
            uplinks: HashMap::new(),
            ahead: false,
        }
    }

    /// Runs until no session holds a handle any more.
    pub(crate) async fn run(mut self) {
        loop {
            let timeout = self.hub.next_timeout();
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.input(input),
                    None => break,
                },
                () = until(timeout) => self.drive(Input::Timeout, None),
            }
            // A flood must not run ahead of sessions that only want for a processor: they write
            // before it goes on.
            if std::mem::take(&mut self.ahead) {
                yield_now().await;
            }
        }
        if !self.hub.is_idle() {
            warn!(account = %self.account, "the account's owner ends though its hub is not idle");
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
            } => {
                self.uplinks.insert(uplink, mailbox.clone());
                self.sessions.insert(
                    session,
                    Client {
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
                    None,
                );
            }
            AccountInput::FromClient {
                session,
                frame,
                charge,
            } => {
                self.drive(Input::FromClient { session, frame }, Some(charge));
            }
            AccountInput::Carbons { session, enabled } => {
                self.drive(Input::SessionCarbons { session, enabled }, None);
            }
            AccountInput::Unavailable { session } => {
                self.drive(Input::SessionUnavailable { session }, None);
            }
            AccountInput::Ended { session } => {
                self.sessions.remove(&session);
                self.tell_siblings();
                let available = false;
                self.drive(Input::SessionEnded { session, available }, None);
            }
            AccountInput::FromServer { uplink, frame } => {
                self.drive(Input::FromServer { uplink, frame }, None);
            }
            AccountInput::UplinkLost { uplink } => {
                self.uplinks.remove(&uplink);
                // A session does not outlive its uplink.
                self.sessions.retain(|_, client| client.uplink != uplink);
                self.tell_siblings();
                self.drive(Input::UplinkLost { uplink }, None);
            }
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

    /// Gives the hub one input and carries out what comes of it. The charge goes with the first
    /// stanza to the server; without one it ends here.
    fn drive(&mut self, input: Input, mut charge: Option<Charge>) {
        let now = Now {
            instant: Instant::now(),
            wall: SystemTime::now(),
        };
        self.hub.handle(now, input);
        let mut not_retained = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::ToClient {
                    session,
                    stanza,
                    owned,
                    urgency,
                } => self.deliver(session, stanza, owned, urgency),
                Output::ToServer { uplink, stanza } => {
                    self.send_to_uplink(
                        uplink,
                        SessionInput::ToServer {
                            stanza,
                            charge: charge.take(),
                        },
                    );
                }
                Output::Carry { uplink, room } => {
                    self.send_to_uplink(uplink, SessionInput::Carry(room));
                }
                Output::Release { uplink } => self.send_to_uplink(uplink, SessionInput::Release),
                // An uplink ends with its session: there is nobody to hold it as an anchor yet.
                Output::Retain { uplink } => {
                    self.send_to_uplink(uplink, SessionInput::Release);
                    not_retained.push(uplink);
                }
            }
        }
        for uplink in not_retained {
            self.drive(Input::UplinkLost { uplink }, None);
        }
    }

    fn deliver(&mut self, session: SessionId, stanza: Outgoing, owned: usize, urgency: Urgency) {
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
            charge,
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
            Some(mailbox) => drop(mailbox.send(input)),
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

async fn until(timeout: Option<Instant>) {
    match timeout {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}
