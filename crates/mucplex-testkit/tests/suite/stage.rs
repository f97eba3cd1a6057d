//! A room with people in it.

use std::fmt::Write as _;

use mucplex_testkit::client::Client;
use mucplex_testkit::server::{Account, Kind, Options, Server};
use mucplex_testkit::xml::Stanza;

/// What happens in a test, printed at its end.
pub(crate) struct Record {
    kind: Kind,
    name: &'static str,
    text: String,
}

impl Record {
    pub(crate) fn new(kind: Kind, name: &'static str) -> Self {
        let text = String::new();
        Self { kind, name, text }
    }

    /// Writes a heading.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.text, "## {text}");
    }

    /// Writes down what someone has received.
    pub(crate) fn show<'a>(&mut self, who: &str, stanzas: impl IntoIterator<Item = &'a Stanza>) {
        let mut empty = true;
        for stanza in stanzas {
            let _ = writeln!(self.text, "{who} <- {stanza:?}");
            empty = false;
        }
        if empty {
            let _ = writeln!(self.text, "{who} <- (nothing)");
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        println!("===== {} {}\n{}", self.kind, self.name, self.text);
    }
}

/// A room on a shared server; what happens is written down and printed at the end.
pub(crate) struct Stage {
    pub(crate) kind: Kind,
    pub(crate) server: &'static Server,
    pub(crate) room: String,
    record: Record,
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
            record: Record::new(kind, name),
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
        self.record.note(text);
    }

    /// Writes down what someone has received.
    pub(crate) fn show<'a>(&mut self, who: &str, stanzas: impl IntoIterator<Item = &'a Stanza>) {
        self.record.show(who, stanzas);
    }

    /// Settles a client in the room and writes down what it has received.
    pub(crate) async fn settle(&mut self, who: &str, client: &mut Client) -> Vec<Stanza> {
        let room = self.room.clone();
        let stanzas = client.settle(&room).await.unwrap();
        self.show(who, &stanzas);
        stanzas
    }

    /// Settles clients twice over, as what one receives can cause something for the one before
    /// it (a carbon), and writes down under a heading what each has received, in their order.
    pub(crate) async fn round(
        &mut self,
        text: &str,
        clients: &mut [&mut Client],
    ) -> Vec<Vec<Stanza>> {
        self.note(text);
        let mut seen = vec![Vec::new(); clients.len()];
        for _ in 0..2 {
            for (client, seen) in clients.iter_mut().zip(&mut seen) {
                seen.extend(client.settle(&self.room).await.unwrap());
            }
        }
        for (client, seen) in clients.iter().zip(&seen) {
            self.show(client.jid(), seen);
        }
        seen
    }
}
