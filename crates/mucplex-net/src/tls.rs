//! TLS for both sides: whose certificate a client sees, and whom an uplink trusts.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
};
use tracing::warn;

/// ALPN protocol of client-to-server streams (XEP-0368).
const ALPN: &[u8] = b"xmpp-client";

/// Why TLS cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind that is asked for.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The private key is not that of the certificate.
    #[error("{}: the key does not belong to the certificate", path.display())]
    Mismatch {
        /// The key's file.
        path: PathBuf,
    },
    /// The name is none that a certificate can be for.
    #[error("{0:?} is no name a certificate can be verified against")]
    Name(String),
    /// The system has no root certificates.
    #[error("no root certificates were found on this system")]
    NoRoots,
    /// TLS itself refuses the settings.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

fn unreadable(path: &Path, reason: &impl fmt::Display) -> TlsError {
    TlsError::Unreadable {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The form of a domain that DNS and certificates know: lower case, labels of other scripts encoded
/// (RFC 5890).
///
/// # Errors
/// [`TlsError::Name`] when there is none.
pub fn ascii_name(domain: &str) -> Result<String, TlsError> {
    let name =
        idna::domain_to_ascii_strict(domain).map_err(|_| TlsError::Name(domain.to_owned()))?;
    Ok(name.trim_end_matches('.').to_owned())
}

/// A domain's certificate chain and private key, checked against each other.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads PEM files: the chain with the domain's own certificate first, and its key.
    ///
    /// # Errors
    /// When a file cannot be used or the two do not belong together.
    pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .map_err(|error| unreadable(certificate, &error))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(certificate, &error))?;
        if chain.is_empty() {
            return Err(unreadable(certificate, &"no certificate in it"));
        }
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
        match CertifiedKey::from_der(chain, secret, &provider()) {
            Ok(pair) => Ok(Self {
                key: Arc::new(pair),
            }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                path: key.to_owned(),
            }),
            Err(error) => Err(unreadable(certificate, &error)),
        }
    }

    /// Whether a client that looks for `domain` would accept the certificate's names.
    pub fn is_for(&self, domain: &str) -> bool {
        let name = ascii_name(domain)
            .ok()
            .and_then(|name| ServerName::try_from(name).ok());
        let certificate = self
            .key
            .end_entity_cert()
            .ok()
            .and_then(|der| ParsedCertificate::try_from(der).ok());
        match (name, certificate) {
            (Some(name), Some(certificate)) => {
                rustls::client::verify_server_name(&certificate, &name).is_ok()
            }
            _ => false,
        }
    }
}

/// Server side: one identity for each domain, told apart by SNI.
#[derive(Debug)]
pub struct ServerTls {
    /// By domain index: its own identity for a client that names no known domain in SNI.
    starttls: Vec<Arc<ServerConfig>>,
    direct: Arc<ServerConfig>,
}

impl ServerTls {
    /// `domains`: names with their identities, in the order of their indices. The first serves
    /// clients on direct-TLS listeners that send no SNI.
    ///
    /// # Errors
    /// When a name has no form DNS knows, when there is no domain, or when TLS refuses the
    /// settings.
    pub fn new(domains: &[(String, Identity)]) -> Result<Self, TlsError> {
        let mut by_name = HashMap::new();
        for (name, identity) in domains {
            by_name.insert(ascii_name(name)?, Arc::clone(&identity.key));
        }
        let by_name = Arc::new(by_name);
        let ticketer = rustls::crypto::ring::Ticketer::new()?;
        let config = |identity: &Identity, alpn: bool| {
            let resolver = BySni {
                by_name: Arc::clone(&by_name),
                fallback: Arc::clone(&identity.key),
            };
            server_config(resolver, Arc::clone(&ticketer), alpn).map(Arc::new)
        };
        let (_, first) = domains
            .first()
            .ok_or_else(|| TlsError::Name(String::new()))?;
        Ok(Self {
            direct: config(first, true)?,
            starttls: domains
                .iter()
                .map(|(_, identity)| config(identity, false))
                .collect::<Result<_, _>>()?,
        })
    }

    /// For a client that has named the domain of this index in its stream header (RFC 6120 5).
    pub fn starttls(&self, domain: usize) -> Option<Arc<ServerConfig>> {
        self.starttls.get(domain).map(Arc::clone)
    }

    /// For a client of a direct-TLS listener (XEP-0368). One that offers other ALPN protocols only
    /// is refused, one that offers none is served.
    pub fn direct(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.direct)
    }
}

fn server_config(
    resolver: BySni,
    ticketer: Arc<dyn ProducesTickets>,
    alpn: bool,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    // Tickets let a phone come back with one round trip less and cost no memory here.
    config.ticketer = ticketer;
    if alpn {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

/// The certificate of the domain a client names in SNI, else the fallback.
#[derive(Debug)]
struct BySni {
    by_name: Arc<HashMap<String, Arc<CertifiedKey>>>,
    fallback: Arc<CertifiedKey>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        let named = hello.server_name().and_then(|name| self.by_name.get(name));
        Some(Arc::clone(named.unwrap_or(&self.fallback)))
    }
}

/// Client side, for the uplinks of one domain: the server has to prove that it is the domain.
#[derive(Clone, Debug)]
pub struct ClientTls {
    starttls: Arc<ClientConfig>,
    direct: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTls {
    /// Trusts the certificates of `ca` (PEM), or those of the system, for the name `domain`.
    ///
    /// # Errors
    /// When there are no roots to trust or the name is none a certificate can be for.
    pub fn new(domain: &str, ca: Option<&Path>) -> Result<Self, TlsError> {
        let name = ServerName::try_from(ascii_name(domain)?)
            .map_err(|_| TlsError::Name(domain.to_owned()))?;
        let roots = match ca {
            Some(path) => roots_of_file(path)?,
            None => roots_of_system()?,
        };
        let starttls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut direct = starttls.clone();
        direct.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            starttls: Arc::new(starttls),
            direct: Arc::new(direct),
            name,
        })
    }

    /// For STARTTLS.
    pub fn starttls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.starttls)
    }

    /// For TLS from the first byte (XEP-0368).
    pub fn direct(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.direct)
    }

    /// The name that is verified: the domain's, whatever host it is reached at (RFC 6120 13.7.2).
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, &error))?
    {
        let certificate = certificate.map_err(|error| unreadable(path, &error))?;
        roots
            .add(certificate)
            .map_err(|error| unreadable(path, &error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(path, &"no certificate in it"));
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!(%error, "some root certificates of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        Err(TlsError::NoRoots)
    } else {
        Ok(roots)
    }
}
