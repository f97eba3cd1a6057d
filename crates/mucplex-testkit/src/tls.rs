//! Certificates made for one test, and the client's side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Files of a certificate that a fresh authority has signed.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The authority's certificate, PEM: what a peer must trust.
    pub ca: PathBuf,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Certificate and key in one file, as ejabberd wants it.
    pub bundle: PathBuf,
}

impl Certificate {
    /// Makes an authority and a certificate for `names`, and writes both into `dir`.
    pub fn generate(dir: &Path, names: &[&str]) -> std::io::Result<Self> {
        let other = std::io::Error::other::<rcgen::Error>;
        // ejabberd sets a timer for the end of a certificate, and Erlang's timers reach no further
        // than some centuries.
        let end = rcgen::date_time_ymd(2100, 1, 1);
        let mut authority = CertificateParams::new(Vec::new()).map_err(other)?;
        authority.not_after = end;
        // OpenSSL takes a certificate whose subject is its issuer's for self-signed, and rcgen gives
        // all the same name.
        let name = "mucplex test authority";
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().map_err(other)?;
        let authority = CertifiedIssuer::self_signed(authority, authority_key).map_err(other)?;

        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().map_err(other)?;
        let mut params = CertificateParams::new(names).map_err(other)?;
        params.not_after = end;
        let leaf = params.signed_by(&key, &authority).map_err(other)?;

        let files = Self {
            ca: dir.join("ca.pem"),
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            bundle: dir.join("bundle.pem"),
        };
        std::fs::write(&files.ca, authority.pem())?;
        std::fs::write(&files.certificate, leaf.pem())?;
        std::fs::write(&files.key, key.serialize_pem())?;
        std::fs::write(
            &files.bundle,
            format!("{}{}", leaf.pem(), key.serialize_pem()),
        )?;
        Ok(files)
    }
}

/// What a client trusts.
#[derive(Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// Trusts what the authorities in the PEM file have signed.
    pub fn ca_file(path: &Path) -> std::io::Result<Self> {
        let other = std::io::Error::other::<rustls::pki_types::pem::Error>;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(other)? {
            roots
                .add(certificate.map_err(other)?)
                .map_err(std::io::Error::other)?;
        }
        Ok(Self {
            roots: Arc::new(roots),
        })
    }

    /// Runs the TLS handshake for `domain` and offers `alpn`.
    pub async fn connect(
        &self,
        tcp: TcpStream,
        domain: &str,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(domain.to_owned()).map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({} roots)", self.roots.len())
    }
}
