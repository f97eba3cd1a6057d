//! A real Prosody with mucplex in front of it: shows in a few lines what the proxy does, and
//! stays up to be logged in to. `deploy/try.sh` builds and runs it.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use mucplex_testkit::client::{Client, Security};
use mucplex_testkit::proxy::{Proxy, Setup};
use mucplex_testkit::server::{Account, Kind, Server};
use mucplex_testkit::tap::Tap;
use mucplex_testkit::xml::Stanza;
use mucplex_testkit::{DOMAIN, ROOMS};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The port clients expect (RFC 6120 3.2), if nothing else has it.
const XMPP_PORT: u16 = 5222;

#[tokio::main]
async fn main() -> ExitCode {
    let once = std::env::args().any(|argument| argument == "--once");
    match run(once).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("\nNot everything was as it should be: see the lines with '!'.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("\n{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(once: bool) -> Outcome<bool> {
    let server = Server::start(Kind::Prosody).await?;
    let tap = Tap::start(server.plain()).await?;
    let proxy = Setup::new(tap.address())
        .listen(listen_address())
        .start()
        .await?;
    let accounts = register(&server).await?;
    println!(
        "\nclients -> mucplex {} -> Prosody {}\n",
        proxy.starttls(),
        server.plain()
    );

    let good = Demonstration::new(&server, &tap, &proxy, &accounts)
        .play()
        .await?;
    if once || !good {
        return Ok(good);
    }
    print_how_to_connect(&server, &proxy, &accounts);
    tokio::signal::ctrl_c().await?;
    println!("\nEnding mucplex and Prosody; their files are removed.");
    Ok(true)
}

fn listen_address() -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, XMPP_PORT));
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => free().unwrap_or(wanted),
    }
}

/// alice, bob and carol.
async fn register(server: &Server) -> Outcome<[Account; 3]> {
    let accounts = ["alice", "bob", "carol"].map(|name| Account::new(server, name, name));
    for account in &accounts {
        account.submit(server.plain(), &Security::Plain).await?;
    }
    Ok(accounts)
}

/// Two sessions of alice come through the proxy; bob goes past it and sees the room as it is.
struct Demonstration<'a> {
    server: &'a Server,
    tap: &'a Tap,
    proxy: &'a Proxy,
    accounts: &'a [Account; 3],
    room: String,
    good: bool,
}

impl<'a> Demonstration<'a> {
    fn new(server: &'a Server, tap: &'a Tap, proxy: &'a Proxy, accounts: &'a [Account; 3]) -> Self {
        Self {
            server,
            tap,
            proxy,
            accounts,
            room: format!("tea@{ROOMS}"),
            good: true,
        }
    }

    async fn play(mut self) -> Outcome<bool> {
        let room = self.room.clone();
        let [alice, bob, _] = self.accounts;
        let mut bob = bob
            .login(self.server.plain())
            .resource("desk")
            .connect()
            .await?;
        bob.create_room(&room, "bob").await?;
        println!("  bob is in {room}; he goes past the proxy and sees what the room sees.");

        let mut phone = self.proxy.login(alice).resource("phone").connect().await?;
        phone.join(&room, "alice").await?;
        let seen = self.presences_seen_by(&mut bob, &mut phone).await?.len();
        self.show(
            "alice/phone joins",
            seen == 1,
            &format!("the room sees {seen} presence"),
        );

        let mut laptop = self.proxy.login(alice).resource("laptop").connect().await?;
        let joined = laptop.join(&room, "alice").await?;
        let seen = self.presences_seen_by(&mut bob, &mut laptop).await?.len();
        let finds = format!(
            "it finds {:?} and {} earlier message",
            joined.nicks(),
            joined.history.len()
        );
        self.show(
            "alice/laptop joins",
            seen == 0 && joined.nicks() == ["bob"],
            &format!("{finds}; the room sees {seen} presences"),
        );

        let body = "Tea is ready";
        bob.say(&room, body).await?;
        phone.hear(body).await?;
        laptop.hear(body).await?;
        let copies = self.tap.count_down(body);
        self.show(
            &format!("bob: {body}"),
            copies == 1,
            &format!("both sessions have it; the server sent alice {copies} copy"),
        );

        let body = "On my way";
        let id = laptop.say(&room, body).await?;
        let reflections = [
            phone.hear(body).await?,
            laptop.hear(body).await?,
            bob.hear(body).await?,
        ];
        let same = reflections
            .iter()
            .all(|message| message.id() == Some(id.as_str()));
        self.show(
            &format!("alice/laptop: {body}"),
            same,
            "all three see it once, with one id",
        );

        phone.reset_connection()?;
        let body = "Is alice still here?";
        bob.say(&room, body).await?;
        laptop.hear(body).await?;
        // Another uplink takes the room over while the first still holds it; a room shows that as
        // an update of alice's presence at most.
        let seen = self.presences_seen_by(&mut bob, &mut laptop).await?;
        let leaves = seen
            .iter()
            .filter(|stanza| stanza.kind() == Some("unavailable"))
            .count();
        self.show(
            "alice/phone loses its network",
            leaves == 0,
            &format!("alice/laptop misses nothing; the room sees {leaves} leaves"),
        );

        laptop.leave(&room, "alice", Some("bye")).await?;
        bob.wait_for("alice's leave", |stanza| {
            stanza.kind() == Some("unavailable")
        })
        .await?;
        self.show(
            "alice/laptop leaves",
            true,
            "it was the last: now the room sees alice leave",
        );
        Ok(self.good)
    }

    /// The presences that bob gets until something that `speaker` says now.
    async fn presences_seen_by(
        &self,
        bob: &mut Client,
        speaker: &mut Client,
    ) -> Outcome<Vec<Stanza>> {
        let body = speaker.new_id("mark");
        speaker.say(&self.room, &body).await?;
        speaker.hear(&body).await?;
        let mut presences = Vec::new();
        loop {
            let stanza: Stanza = bob.recv().await?;
            if stanza.body().as_deref() == Some(&body) {
                return Ok(presences);
            }
            if stanza.name() == "presence" {
                presences.push(stanza);
            }
        }
    }

    fn show(&mut self, what: &str, good: bool, outcome: &str) {
        self.good &= good;
        let mark = if good { ' ' } else { '!' };
        println!("{mark} {what:<32}{outcome}.");
    }
}

fn print_how_to_connect(server: &Server, proxy: &Proxy, accounts: &[Account; 3]) {
    let address = proxy.starttls();
    println!("\nIt is yours now: log in with any XMPP client.");
    println!(
        "  host      {}   port {}   (STARTTLS, a certificate of this run)",
        address.ip(),
        address.port()
    );
    for account in accounts {
        println!(
            "  account   {}@{DOMAIN}   password {}",
            account.user, account.password
        );
    }
    println!("  rooms     any name @{}", server.rooms_domain());
    println!("  authority {}", proxy.ca_pem().display());
    println!("  log       {}", proxy.log_path().display());
    println!(
        "For example: profanity, then  /connect alice@{DOMAIN} server {} port {} tls trust",
        address.ip(),
        address.port()
    );
    println!(
        "Past the proxy: port {}, authority {}",
        server.starttls().port(),
        server.ca_pem().display()
    );
    println!("Ctrl-C ends it and leaves nothing behind.");
}
