//! From a TCP connection to a bound resource.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sasl::client::Mechanism as _;
use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::scram::{Sha1, Sha256};
use sasl::common::{ChannelBinding, Credentials};

use super::{Client, ClientError, Connection};
use crate::tls::Trust;
use crate::xml::{NS_BIND, NS_SASL, Stanza, escape};

/// How the stream is protected.
#[derive(Debug, Clone)]
pub enum Security {
    /// Not at all.
    Plain,
    /// STARTTLS, with trust in these authorities.
    StartTls(Trust),
    /// TLS from the start, with trust in these authorities.
    DirectTls(Trust),
}

/// A SASL mechanism of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN.
    Plain,
    /// SCRAM-SHA-1 with the gs2 header `n,,`: no channel binding here.
    ScramSha1,
    /// SCRAM-SHA-1 with `y,,`: the client could bind, and saw no offer to.
    ScramSha1Binding,
    /// SCRAM-SHA-256 with `n,,`.
    ScramSha256,
    /// SCRAM-SHA-256 with `y,,`.
    ScramSha256Binding,
}

impl Mechanism {
    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha1 | Self::ScramSha1Binding => "SCRAM-SHA-1",
            Self::ScramSha256 | Self::ScramSha256Binding => "SCRAM-SHA-256",
        }
    }

    fn start(
        self,
        credentials: Credentials,
    ) -> Result<Box<dyn sasl::client::Mechanism + Send>, ClientError> {
        let binding = match self {
            Self::Plain | Self::ScramSha1 | Self::ScramSha256 => ChannelBinding::None,
            Self::ScramSha1Binding | Self::ScramSha256Binding => ChannelBinding::Unsupported,
        };
        let credentials = credentials.with_channel_binding(binding);
        Ok(match self {
            Self::Plain => Box::new(Plain::from_credentials(credentials).map_err(sasl)?),
            Self::ScramSha1 | Self::ScramSha1Binding => {
                Box::new(Scram::<Sha1>::from_credentials(credentials).map_err(sasl)?)
            }
            Self::ScramSha256 | Self::ScramSha256Binding => {
                Box::new(Scram::<Sha256>::from_credentials(credentials).map_err(sasl)?)
            }
        })
    }
}

fn sasl(error: impl std::fmt::Display) -> ClientError {
    ClientError::Sasl(error.to_string())
}

/// What is needed to log in. At first: no TLS, PLAIN, a resource of the server's choice.
#[derive(Debug, Clone)]
pub struct Login {
    address: SocketAddr,
    domain: String,
    user: String,
    password: String,
    resource: Option<String>,
    mechanism: Mechanism,
    security: Security,
}

impl Login {
    /// A login of `user` at `domain` over `address`.
    pub fn new(address: SocketAddr, domain: &str, user: &str, password: &str) -> Self {
        Self {
            address,
            domain: domain.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            resource: None,
            mechanism: Mechanism::Plain,
            security: Security::Plain,
        }
    }

    /// Asks for this resource.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Uses this SASL mechanism.
    #[must_use]
    pub fn mechanism(mut self, mechanism: Mechanism) -> Self {
        self.mechanism = mechanism;
        self
    }

    /// Protects the stream in this way.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Uses this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = password.to_owned();
        self
    }

    /// Connects, logs in, binds.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let (connection, _features) = self.authenticate().await?;
        self.bind(connection).await
    }

    /// Connects and logs in, and gives the connection with the features after the login; no
    /// resource is bound.
    pub async fn authenticate(&self) -> Result<(Connection, Stanza), ClientError> {
        let (mut connection, _features) =
            Connection::secured(self.address, &self.domain, &self.security).await?;
        self.sasl(&mut connection).await?;
        connection.open_stream(&self.domain).await?;
        let features = connection.features().await?;
        Ok((connection, features))
    }

    /// Runs the SASL exchange (RFC 6120 6.4) on a stream whose features were read, up to the
    /// success, and checks the server's signature where there is one.
    pub async fn sasl(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let credentials = Credentials::default()
            .with_username(self.user.as_str())
            .with_password(self.password.as_str());
        let mut mechanism = self.mechanism.start(credentials)?;
        let name = self.mechanism.name();
        let initial = BASE64.encode(mechanism.initial());
        connection
            .send_raw(format!(
                "<auth xmlns='{NS_SASL}' mechanism='{name}'>{initial}</auth>"
            ))
            .await?;
        loop {
            let answer = connection.recv_for("the answer to SASL").await?;
            let data = BASE64.decode(answer.text()).map_err(sasl)?;
            match answer.name() {
                "challenge" => {
                    let response = mechanism.response(&data).map_err(sasl)?;
                    let response = BASE64.encode(response);
                    connection
                        .send_raw(format!("<response xmlns='{NS_SASL}'>{response}</response>"))
                        .await?;
                }
                "success" => return mechanism.success(&data).map_err(sasl),
                "failure" => return Err(ClientError::Login(Box::new(answer))),
                _ => return Err(ClientError::unexpected("a SASL element", &answer)),
            }
        }
    }

    /// Binds the resource (RFC 6120 7).
    pub async fn bind(&self, mut connection: Connection) -> Result<Client, ClientError> {
        let jid = self.bind_on(&mut connection).await?;
        Ok(Client::new(connection, jid))
    }

    /// Binds the resource and gives the full JID.
    pub(super) async fn bind_on(&self, connection: &mut Connection) -> Result<String, ClientError> {
        let resource = match &self.resource {
            Some(resource) => format!("<resource>{}</resource>", escape(resource)),
            None => String::new(),
        };
        connection
            .send_raw(format!(
                "<iq type='set' id='bind'><bind xmlns='{NS_BIND}'>{resource}</bind></iq>"
            ))
            .await?;
        let answer = connection.recv_for("the answer to bind").await?;
        answer
            .get_child("bind", NS_BIND)
            .and_then(|bind| bind.get_child("jid", NS_BIND))
            .map(minidom::Element::text)
            .filter(|_| answer.kind() == Some("result"))
            .ok_or_else(|| ClientError::unexpected("the bound JID", &answer))
    }
}
