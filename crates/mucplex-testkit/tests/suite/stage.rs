//! A room with people in it.

use std::fmt::Write as _;

use mucplex_testkit::client::Client;
use mucplex_testkit::server::{Account, Kind, Options, Server};
use mucplex_testkit::xml::Stanza;

/// A room on a shared server; what happens is written down and printed at the end.
pub(crate) struct Stage {
    pub(crate) kind: Kind,
    pub(crate) server: &'static Server,
    pub(crate) room: String,
    name: &'static str,
    record: String,
}

impl Stage {
    pub(crate) async fn new(kind: Kind, name: &'static str) -> Self {
        Self::on(kind, Server::shared(kind).await, name)
    }

    /// On a server of its own, which lives as long as the process.
    pub(crate) async fn with(kind: Kind, name: &'static str, options: Options) -> Self {
        let server = Server::start_with(kind, options).await.unwrap();
        Self::on(kind, Box::leak(Box::new(server)), name)
    }

    fn on(kind: Kind, server: &'static Server, name: &'static str) -> Self {
        let room = server.new_room(name);
        Self {
            kind,
            server,
            room,
            name,
            record: String::new(),
        }
    }

    pub(crate) async fn account(&self, name: &str) -> Account {
        self.server.account(name).await.unwrap()
    }

    pub(crate) async fn session(&self, account: &Account, resource: &str) -> Client {
        account.direct().resource(resource).connect().await.unwrap()
    }

    /// Writes a heading.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.record, "## {text}");
    }

    /// Writes down what someone has received.
    pub(crate) fn show<'a>(&mut self, who: &str, stanzas: impl IntoIterator<Item = &'a Stanza>) {
        let mut empty = true;
        for stanza in stanzas {
            let _ = writeln!(self.record, "{who} <- {stanza:?}");
            empty = false;
        }
        if empty {
            let _ = writeln!(self.record, "{who} <- (nothing)");
        }
    }

    /// Settles a client in the room and writes down what it has received.
    pub(crate) async fn settle(&mut self, who: &str, client: &mut Client) -> Vec<Stanza> {
        let room = self.room.clone();
        let stanzas = client.settle(&room).await.unwrap();
        self.show(who, &stanzas);
        stanzas
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        println!("===== {} {}\n{}", self.kind, self.name, self.record);
    }
}
