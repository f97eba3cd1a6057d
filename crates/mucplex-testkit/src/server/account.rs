//! Accounts for one test each.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Server, ServerError};
use crate::client::{ClientError, Connection, Login, Security};
use crate::xml::escape;

/// An account that exists on a server.
#[derive(Debug, Clone)]
pub struct Account {
    /// The localpart.
    pub user: String,
    /// The domain.
    pub domain: String,
    /// The password.
    pub password: String,
    server: std::net::SocketAddr,
}

impl Account {
    /// Registers `<name>-<number>`, with a number that is unique in this process.
    pub(super) async fn register(server: &Server, name: &str) -> Result<Self, ServerError> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let account = Self {
            user: format!("{name}-{number}"),
            domain: server.domain().to_owned(),
            password: format!("secret of {name} {number}"),
            server: server.plain(),
        };
        account.register_at(server).await?;
        Ok(account)
    }

    async fn register_at(&self, server: &Server) -> Result<(), ServerError> {
        let security = if server.options().require_tls {
            Security::StartTls(server.trust())
        } else {
            Security::Plain
        };
        let submitted = self.submit(server.plain(), &security).await;
        submitted.map_err(|source| ServerError::Register {
            account: self.user.clone(),
            source: Box::new(source),
        })
    }

    /// Registers the account if the server does not know it any more.
    pub(super) async fn register_again(&self, server: &Server) -> Result<(), ServerError> {
        match self.register_at(server).await {
            Err(ServerError::Register { source, .. })
                if source.to_string().contains("<conflict") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Registers the account over a connection to `address`, as a client without login
    /// (XEP-0077 3.1).
    pub async fn submit(
        &self,
        address: std::net::SocketAddr,
        security: &Security,
    ) -> Result<(), ClientError> {
        let (mut connection, _features) =
            Connection::secured(address, &self.domain, security).await?;
        let (user, password) = (escape(&self.user), escape(&self.password));
        connection
            .send_raw(format!(
                "<iq type='set' id='register'><query xmlns='jabber:iq:register'>\
                 <username>{user}</username><password>{password}</password></query></iq>"
            ))
            .await?;
        let answer = connection.recv().await?;
        if answer.kind() != Some("result") {
            return Err(ClientError::unexpected(
                "the result of the registration",
                &answer,
            ));
        }
        connection.close().await
    }

    /// An account that was not registered by the kit, or not yet.
    pub fn new(server: &Server, user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            domain: server.domain().to_owned(),
            password: password.to_owned(),
            server: server.plain(),
        }
    }

    /// The bare JID.
    pub fn jid(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }

    /// A login directly at the server, on its plain port.
    pub fn direct(&self) -> Login {
        self.login(self.server)
    }

    /// A login at `address`, which may be a proxy's.
    pub fn login(&self, address: std::net::SocketAddr) -> Login {
        Login::new(address, &self.domain, &self.user, &self.password)
    }
}
