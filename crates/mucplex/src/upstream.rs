//! Connections to the servers of the domains.

use std::io;

use mucplex_net::{Connection, Transport};
use mucplex_stream::UpstreamTls;

use crate::server::Shared;

/// Opens a connection to a domain's server; with direct TLS, secured.
pub(crate) async fn open(shared: &Shared, domain: usize) -> io::Result<Connection> {
    let settings = shared
        .uplinks
        .get(domain)
        .ok_or_else(|| io::Error::other("no such domain"))?;
    let stream = shared
        .dialer
        .dial(&settings.target)
        .await
        .map_err(io::Error::other)?;
    let uplink = Connection::new(Transport::Plain(stream), shared.server_limits);
    match (settings.tls, &settings.client_tls) {
        (UpstreamTls::Direct, Some(tls)) => uplink.secure_as_client(tls.direct(), tls.name()).await,
        (UpstreamTls::Direct, None) => Err(io::Error::other("no TLS settings for the server")),
        (UpstreamTls::None | UpstreamTls::StartTls, _) => Ok(uplink),
    }
}

/// Puts TLS on a connection to a domain's server, as STARTTLS has it.
pub(crate) async fn secure(
    shared: &Shared,
    domain: usize,
    uplink: Connection,
) -> io::Result<Connection> {
    let settings = shared.uplinks.get(domain);
    let tls = settings
        .and_then(|settings| settings.client_tls.as_ref())
        .ok_or_else(|| io::Error::other("no TLS settings for the server"))?;
    uplink.secure_as_client(tls.starttls(), tls.name()).await
}
