//! The process: listeners, sessions, and their end.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::DashMap;
use jid::BareJid;
use mucplex_muc::{AccountJid, Passthrough, Policy};
use mucplex_net::{ClientTls, Dialer, Listener, ServerTls, Target, TlsError};
use mucplex_store::{Before, Journal, Lost, Store};
use mucplex_stream::{DomainSettings, ListenerTls, UpstreamTls};
use mucplex_xml::Limits;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    config::{AnchorConfig, Domain, ListenerConfig, SessionLimits},
    pace::Pace,
    registry::{Accounts, Sessions},
    session,
};

/// What a shutdown may take, whatever the peers do. Each part of a session's end has shorter limits
/// of its own.
const SHUTDOWN: Duration = Duration::from_secs(9);

/// What every session needs to know.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) domains: Arc<[DomainSettings]>,
    pub(crate) uplinks: Vec<UplinkSettings>,
    pub(crate) tls: ServerTls,
    pub(crate) dialer: Dialer,
    pub(crate) client_limits: Limits,
    pub(crate) server_limits: Limits,
    pub(crate) outbox_bytes: usize,
    /// For how long a client that is lost may resume its session.
    pub(crate) resume_timeout: Duration,
    pub(crate) anchors: AnchorConfig,
    /// Of anchors that come back.
    pub(crate) reconnects: Pace,
    pub(crate) rooms: Policy,
    /// What outlives the process, if anything does.
    pub(crate) store: Option<Store>,
    /// What sessions are sent, and what those of the process before were sent, until their accounts'
    /// owners have asked.
    pub(crate) journal: Option<Journal>,
    pub(crate) lost: DashMap<BareJid, Vec<Lost>>,
    pub(crate) said: DashMap<BareJid, Vec<(u64, u64)>>,
    pub(crate) passthrough: Passthrough,
    pub(crate) accounts: Accounts,
    pub(crate) sessions: Arc<Sessions>,
    /// Cancelled when the process ends.
    pub(crate) stop: CancellationToken,
    /// Everything that has to end before the process does.
    pub(crate) tasks: TaskTracker,
}

/// What outlives the process.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    /// What was going on when the process before died.
    pub(crate) before: Before,
}

/// How a domain's server is reached.
#[derive(Debug)]
pub(crate) struct UplinkSettings {
    pub(crate) target: Target,
    pub(crate) tls: UpstreamTls,
    pub(crate) client_tls: Option<ClientTls>,
}

/// The server before it has bound a port.
pub(crate) struct Server {
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn new(
        domains: Vec<Domain>,
        rooms: Policy,
        passthrough: Passthrough,
        session: SessionLimits,
        anchors: AnchorConfig,
        kept: Option<Kept>,
    ) -> Result<Self, TlsError> {
        let identities: Vec<_> = domains
            .iter()
            .map(|domain| (domain.name.clone(), domain.identity.clone()))
            .collect();
        let tls = ServerTls::new(&identities)?;
        let (store, journal, before) = match kept {
            Some(Kept {
                store,
                journal,
                before,
            }) => (Some(store), Some(journal), before),
            None => (None, None, Before::default()),
        };
        let sessions = Arc::new(Sessions::default());
        let by_account = DashMap::<BareJid, Vec<Lost>>::new();
        for lost in before.lost {
            sessions.remember(lost.clone(), Instant::now());
            let account = lost.device.account.clone();
            by_account.entry(account).or_default().push(lost);
        }
        let settings = domains
            .iter()
            .map(|domain| DomainSettings {
                name: domain.name.clone(),
                upstream_tls: domain.upstream_tls,
            })
            .collect();
        for domain in &domains {
            look_at(domain);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                domains: settings,
                tls,
                uplinks: domains.into_iter().map(uplink_settings).collect(),
                dialer: Dialer::system(),
                client_limits: Limits {
                    stanza_bytes: session.stanza_bytes,
                    ..Limits::default()
                },
                // A server's answers (a roster, a page of an archive) are larger than what it takes
                // from clients. A quarter of the outbox still leaves room for others. The shape of a
                // stanza is limited by its size alone: whatever the server lets one of its users
                // send to another must not end the other's uplink.
                server_limits: Limits {
                    stanza_bytes: session.outbox_bytes / 4,
                    depth: usize::MAX,
                    attributes: usize::MAX,
                    name_bytes: usize::MAX,
                    unbound_prefixes: true,
                },
                outbox_bytes: session.outbox_bytes,
                passthrough,
                resume_timeout: session.resume_timeout,
                reconnects: Pace::new(anchors.reconnect_per_second),
                anchors,
                rooms,
                store,
                journal,
                lost: by_account,
                said: before.said.into_iter().collect(),
                accounts: Accounts::default(),
                sessions,
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When a port cannot be bound or signals cannot be received.
    pub(crate) async fn run(self, listeners: &[ListenerConfig]) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut bound = Vec::with_capacity(listeners.len());
        for config in listeners {
            let listener = Listener::bind(config.address).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", config.address))
            })?;
            bound.push((listener, config.tls));
        }
        self.call_accounts();
        let stop = self.shared.stop.clone();
        for (listener, tls) in bound {
            info!(address = %listener.local_addr()?, tls = name(tls), "listening");
            self.shared.tasks.spawn(accept(
                Arc::clone(&self.shared),
                listener,
                tls,
                stop.clone(),
            ));
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
        let sessions = self.shared.sessions.shut_down();
        info!(sessions, "shutting down");
        self.shared.tasks.close();
        if timeout(SHUTDOWN, self.shared.tasks.wait()).await.is_err() {
            warn!(
                tasks = self.shared.tasks.len(),
                "not everything has ended in time"
            );
        }
        info!("ended");
        Ok(())
    }
}

impl Server {
    /// Accounts that can come back by themselves do: their anchors need no session.
    fn call_accounts(&self) {
        let Some(store) = &self.shared.store else {
            return;
        };
        let accounts = match store.accounts() {
            Ok(accounts) => accounts,
            Err(error) => {
                error!(%error, "the accounts that were kept cannot be read");
                return;
            }
        };
        let back = accounts.iter().filter(|it| it.has_key && it.rooms > 0);
        for summary in back.clone() {
            // It lives by itself as long as it keeps anything.
            drop(Accounts::owner(
                &self.shared,
                &AccountJid(summary.account.clone()),
            ));
        }
        info!(
            accounts = accounts.len(),
            coming_back = back.count(),
            "accounts kept"
        );
    }
}

async fn accept(
    shared: Arc<Shared>,
    mut listener: Listener,
    tls: ListenerTls,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            (stream, peer) = listener.accept() => {
                shared.tasks.spawn(session::serve(Arc::clone(&shared), stream, peer, tls));
            }
        }
    }
}

fn uplink_settings(domain: Domain) -> UplinkSettings {
    UplinkSettings {
        target: domain.upstream,
        tls: domain.upstream_tls,
        client_tls: domain.client_tls,
    }
}

/// What works but is hardly meant.
fn look_at(domain: &Domain) {
    if !domain.identity.is_for(&domain.name) {
        warn!(
            domain = domain.name,
            "the certificate is not for this domain; clients will refuse it"
        );
    }
    if let (UpstreamTls::None, Target::Srv { .. }) = (domain.upstream_tls, &domain.upstream) {
        warn!(
            domain = domain.name,
            "uplinks without TLS to wherever the SRV records lead"
        );
    }
}

fn name(tls: ListenerTls) -> &'static str {
    match tls {
        ListenerTls::StartTls => "starttls",
        ListenerTls::Direct => "direct",
    }
}

#[cfg(test)]
impl Shared {
    /// What sessions share in a process whose one server cannot be reached.
    pub(crate) fn for_tests() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
        let [certificate_file, key_file] = ["cert", "key"].map(|name| directory.path().join(name));
        std::fs::write(&certificate_file, key.cert.pem()).unwrap();
        std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
        let domain = Domain {
            name: "example.org".into(),
            upstream: Target::Host {
                host: "127.0.0.1".into(),
                port: 1,
            },
            upstream_tls: UpstreamTls::None,
            client_tls: None,
            identity: Identity::from_pem_files(&certificate_file, &key_file).unwrap(),
        };
        let rooms = Policy {
            nick_conflict: NickConflict::Account,
            stay: Duration::ZERO,
            history: Duration::ZERO,
            persist: false,
            anchors: false,
        };
        let session = SessionLimits {
            outbox_bytes: 1 << 20,
            stanza_bytes: 1 << 16,
            resume_timeout: Duration::ZERO,
        };
        let anchors = AnchorConfig {
            enabled: false,
            replay_login: false,
            seal_key: None,
            reconnect_per_second: std::num::NonZeroU32::MIN,
        };
        let server = Server::new(
            vec![domain],
            rooms,
            Passthrough::default(),
            session,
            anchors,
            None,
        );
        server.unwrap().shared
    }
}

#[cfg(test)]
use {mucplex_muc::NickConflict, mucplex_net::Identity};
