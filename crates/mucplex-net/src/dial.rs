//! From a domain to an open connection to its server.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    proto::rr::{RData, rdata::SRV},
};
use rand::RngExt as _;
use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use crate::connection::configure;

/// How long one address may take to answer before the next one is tried.
const PER_ADDRESS: Duration = Duration::from_secs(5);

/// Which of a domain's services is dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `_xmpp-client._tcp`: plain at first (RFC 6120 3.2).
    Client,
    /// `_xmpps-client._tcp`: TLS from the first byte (XEP-0368).
    DirectTlsClient,
}

impl Service {
    fn label(self) -> &'static str {
        match self {
            Self::Client => "_xmpp-client._tcp",
            Self::DirectTlsClient => "_xmpps-client._tcp",
        }
    }

    /// The port of a domain that has no SRV records (RFC 6120 14.7; XEP-0368 names 5223 by custom).
    fn port(self) -> u16 {
        match self {
            Self::Client => 5222,
            Self::DirectTlsClient => 5223,
        }
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At this host and port.
    Host {
        /// An IP address, or a name with A or AAAA records.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Where the SRV records of the domain say, or at the domain itself when it has none.
    Srv {
        /// The domain in the form DNS knows.
        domain: String,
        /// The service that is looked up.
        service: Service,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Srv { domain, service } => write!(f, "{}.{domain}", service.label()),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The system's resolver settings cannot be used.
    #[error("no resolver: {0}")]
    NoResolver(String),
    /// DNS answered with an error, or not at all.
    #[error("{name} cannot be resolved: {reason}")]
    Resolve {
        /// What was asked for.
        name: String,
        /// The resolver's words.
        reason: String,
    },
    /// The SRV records say that the domain does not offer the service (RFC 2782, target `.`).
    #[error("{0} is not offered, its SRV record says")]
    NotOffered(String),
    /// No address took the connection; the last one's error.
    #[error("{address}: {source}")]
    Connect {
        /// The address that was tried last.
        address: SocketAddr,
        /// Its error.
        source: io::Error,
    },
    /// The name has no addresses.
    #[error("{0} has no address")]
    NoAddress(String),
}

/// Opens connections to servers. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    resolver: Result<TokioResolver, String>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dialer {
    /// With the resolver settings of the system. Where these cannot be used, targets that need no
    /// names still work, and the others give [`DialError::NoResolver`].
    pub fn system() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(ResolverBuilder::build);
        Self {
            resolver: resolver.map_err(|error| error.to_string()),
        }
    }

    /// With a resolver of the caller's.
    pub fn with_resolver(resolver: TokioResolver) -> Self {
        Self {
            resolver: Ok(resolver),
        }
    }

    /// Connects: SRV targets in the order of priority and weight, the addresses of each in order,
    /// each for a limited time, until one answers.
    ///
    /// # Errors
    /// When none answers; see [`DialError`].
    pub async fn dial(&self, target: &Target) -> Result<TcpStream, DialError> {
        let hosts = match target {
            Target::Host { host, port } => vec![(host.clone(), *port)],
            Target::Srv { domain, service } => self.service_hosts(domain, *service).await?,
        };
        let mut failure = DialError::NoAddress(target.to_string());
        for (host, port) in hosts {
            match self.dial_host(&host, port).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    debug!(%target, host, port, %error, "this host cannot be reached");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    fn resolver(&self) -> Result<&TokioResolver, DialError> {
        self.resolver
            .as_ref()
            .map_err(|reason| DialError::NoResolver(reason.clone()))
    }

    /// Hosts of a domain's service in the order in which to try them.
    async fn service_hosts(
        &self,
        domain: &str,
        service: Service,
    ) -> Result<Vec<(String, u16)>, DialError> {
        let name = format!("{}.{domain}.", service.label());
        let records = match self.resolver()?.srv_lookup(name.as_str()).await {
            Ok(lookup) => lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some(srv.clone()),
                    _ => None,
                })
                .collect(),
            Err(error) if error.is_no_records_found() => Vec::new(),
            Err(error) => {
                return Err(DialError::Resolve {
                    name,
                    reason: error.to_string(),
                });
            }
        };
        match records.as_slice() {
            // RFC 6120 3.2.2
            [] => Ok(vec![(domain.to_owned(), service.port())]),
            [only] if only.target.is_root() => Err(DialError::NotOffered(name)),
            _ => Ok(in_order(records)),
        }
    }

    async fn dial_host(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.addresses(host).await?,
        };
        let mut failure = DialError::NoAddress(host.to_owned());
        for address in addresses {
            let address = SocketAddr::new(address, port);
            match connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(source) => failure = DialError::Connect { address, source },
            }
        }
        Err(failure)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DialError> {
        // The final dot keeps the resolver from trying the system's search domains.
        let name = if host.ends_with('.') {
            host.to_owned()
        } else {
            format!("{host}.")
        };
        match self.resolver()?.lookup_ip(name.as_str()).await {
            Ok(lookup) => Ok(lookup.iter().collect()),
            Err(error) => Err(DialError::Resolve {
                name: host.to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(PER_ADDRESS, TcpStream::connect(address)).await??;
    configure(&stream)?;
    Ok(stream)
}

/// RFC 2782: the lowest priority first; within one, drawn by weight, one after the other.
fn in_order(mut records: Vec<SRV>) -> Vec<(String, u16)> {
    // Weight 0 in front gives those records their "very small chance".
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let group = records
            .iter()
            .take_while(|record| record.priority == priority);
        let total: u32 = group.map(|record| u32::from(record.weight)).sum();
        let mut drawn = rand::rng().random_range(0..=total);
        let chosen = records.iter().position(|record| {
            let weight = u32::from(record.weight);
            let hit = drawn <= weight;
            drawn = drawn.saturating_sub(weight);
            hit
        });
        let record = records.remove(chosen.unwrap_or_default());
        if !record.target.is_root() {
            ordered.push((record.target.to_ascii(), record.port));
        }
    }
    ordered
}
