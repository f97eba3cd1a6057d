//! An external component of a real server (XEP-0114): it may send from any address of its domain,
//! and gets all that is sent there.

use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use sha1::{Digest, Sha1};

use crate::client::{ClientError, Connection};
use crate::server::Server;
use crate::xml::{NS_CLIENT, NS_COMPONENT, NS_STREAM, escape};

/// The secret of every component of the kit's servers.
pub(crate) const SECRET: &str = "secret of components";

/// How many domains [`Component::new_domain`] can hand out.
const SPARE: u32 = 64;

/// The domain of the rooms of [`crate::rooms::Service::shared`].
pub(crate) const SHARED: &str = "scripted.test";

/// Every domain for which the kit's servers take a component. None is below the servers' own: there
/// it would be listed among its services from the moment it connects, in the middle of other tests.
pub(crate) fn domains() -> impl Iterator<Item = String> {
    let spare = (1..=SPARE).map(spare);
    std::iter::once(SHARED.to_owned()).chain(spare)
}

fn spare(number: u32) -> String {
    format!("component{number}.test")
}

/// A connected component.
#[derive(Debug)]
pub struct Component {
    connection: Connection,
    domain: String,
}

impl Component {
    /// A domain that no other component of this process has, on any server.
    ///
    /// # Panics
    /// When all are handed out.
    pub fn new_domain() -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        assert!(number <= SPARE, "the kit's servers have {SPARE} components");
        spare(number)
    }

    /// Connects with a server of the kit as the component `domain`, and shakes hands (XEP-0114 3).
    pub async fn connect(server: &Server, domain: &str) -> Result<Self, ClientError> {
        let mut connection = Connection::open(server.component()).await?;
        connection.of_component();
        connection
            .send_raw(format!(
                "<?xml version='1.0'?><stream:stream to='{}' xmlns='{NS_COMPONENT}' \
                 xmlns:stream='{NS_STREAM}'>",
                escape(domain)
            ))
            .await?;
        let header = connection.header().await?;
        let mut hash = Sha1::new();
        hash.update(header.id().unwrap_or_default());
        hash.update(SECRET);
        let proof = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        connection
            .send_raw(format!("<handshake>{proof}</handshake>"))
            .await?;
        connection
            .expect("<handshake/>", |it| it.is("handshake", NS_CLIENT))
            .await?;
        Ok(Self {
            connection,
            domain: domain.to_owned(),
        })
    }

    /// Its domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

/// Stanzas are sent as XML without a namespace of their own, and are received in the namespace of
/// a client's, so everything that reads a client's stanzas reads them.
impl Deref for Component {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Component {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
