//! What no client may send: `hostile.txt` of mucplex-xml, each of it over a stream of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mucplex_testkit::DOMAIN;
use mucplex_testkit::client::{Client, ClientError, Connection};
use mucplex_testkit::server::Account;
use mucplex_testkit::xml::Incoming;
use tokio::task::JoinSet;

use crate::raw::{Line, end_of};
use crate::stage::Stage;

crate::tests![
    hostile_beginnings_end_their_own_stream,
    hostile_stanzas_end_their_own_session,
    hostile_stanza_without_end_costs_no_memory,
];

const TABLE: &str = include_str!("../../../crates/mucplex-xml/tests/hostile.txt");
/// Streams that are attacked at the same time.
const WORKERS: usize = 6;
/// What the process may take, its code and all its sessions included.
const MEMORY: u64 = 150 << 20;

/// A line of the table.
#[derive(Clone)]
struct Case {
    name: &'static str,
    condition: &'static str,
    in_stream: bool,
    input: Vec<u8>,
}

fn cases(in_stream: bool) -> Vec<Case> {
    let lines = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<Case> = lines
        .map(case)
        .filter(|case| case.in_stream == in_stream)
        .collect();
    assert!(cases.len() > 20, "{}", cases.len());
    cases
}

fn case(line: &'static str) -> Case {
    let mut columns = line.splitn(4, " | ");
    let mut column = || columns.next().unwrap_or_else(|| panic!("no case: {line}"));
    let (name, condition, place) = (column(), column(), column());
    Case {
        name,
        condition,
        in_stream: place == "stream",
        input: bytes(column().as_bytes(), 0),
    }
}

/// What the last column stands for; `number` is written for `\i`.
fn bytes(text: &[u8], number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'{' => {
                let end = rest
                    .iter()
                    .position(|byte| *byte == b'}')
                    .expect("a repetition ends");
                let what = std::str::from_utf8(&rest[..end]).unwrap();
                let (what, times) = what.rsplit_once('*').unwrap();
                (0..times.parse().unwrap())
                    .for_each(|time| out.extend(bytes(what.as_bytes(), time)));
                rest = &rest[end + 1..];
            }
            b'\\' => {
                let (escaped, after) = rest.split_first().expect("something is escaped");
                rest = after;
                match escaped {
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b's' => out.push(b' '),
                    b'i' => out.extend(number.to_string().bytes()),
                    b'x' => {
                        let digits = std::str::from_utf8(&rest[..2]).unwrap();
                        out.push(u8::from_str_radix(digits, 16).unwrap());
                        rest = &rest[2..];
                    }
                    other => out.push(*other),
                }
            }
            other => out.push(*other),
        }
    }
    out
}

/// Attacks with each case in turn; beside each attacker stands a session that has nothing to do
/// with it.
async fn attack<F, Fut>(line: Arc<Line>, bystanders: &Account, cases: Vec<Case>, attacker: F)
where
    F: Fn(Arc<Line>, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Connection> + Send,
{
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (line, attacker) = (Arc::clone(&line), attacker.clone());
        let mine: Vec<Case> = cases
            .iter()
            .skip(worker)
            .step_by(WORKERS)
            .cloned()
            .collect();
        let bystander = line
            .proxy
            .login(bystanders)
            .resource(&format!("bystander{worker}"));
        workers.spawn(async move {
            let mut bystander: Client = bystander.connect().await.unwrap();
            let mut wrong = Vec::new();
            for case in mine {
                let connection = attacker(Arc::clone(&line), worker).await;
                wrong.extend(outcome(&case, connection).await);
                assert!(bystander.drain_until_pong().await.unwrap().is_empty());
            }
            wrong
        });
    }
    let wrong: Vec<String> = workers.join_all().await.concat();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let peak = line
        .proxy
        .peak_resident_bytes()
        .expect("the proxy still runs");
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
}

/// What is wrong with the end of a stream on which a case was sent.
async fn outcome(case: &Case, mut connection: Connection) -> Option<String> {
    // The proxy may end the stream before it has read all.
    let _ = connection.send_raw(&case.input).await;
    let mut condition = None;
    loop {
        match connection.next("the end of the stream").await {
            Ok(Incoming::Close) => break,
            Ok(Incoming::Open(_)) => {}
            Ok(Incoming::Stanza(stanza)) if stanza.name() == "error" => {
                let first = stanza
                    .children()
                    .next()
                    .map(|child| child.name().to_owned());
                condition = condition.or(first);
            }
            Ok(Incoming::Stanza(_)) => {}
            Err(error) => return Some(format!("{}: {error}", case.name)),
        }
    }
    if let Err(error) = connection.read_to_end().await {
        return Some(format!(
            "{}: the connection is not closed: {error}",
            case.name
        ));
    }
    // What follows the end of a stream is nobody's any more.
    let ended = case.name.contains("behind the end") || case.name == "second end";
    let expected = (!ended).then(|| case.condition.to_owned());
    (condition != expected).then(|| format!("{}: {condition:?} instead of {expected:?}", case.name))
}

async fn hostile_beginnings_end_their_own_stream(stage: Stage) {
    let line = Arc::new(Line::start(stage.server.plain()).await);
    let bob = stage.account("bob").await;
    attack(
        Arc::clone(&line),
        &bob,
        cases(false),
        |line, _| async move { Connection::open(line.proxy.starttls()).await.unwrap() },
    )
    .await;
    attack(line, &bob, cases(false), |line, _| async move {
        let trust = line.proxy.trust();
        Connection::open_tls(line.proxy.direct_tls(), DOMAIN, &trust)
            .await
            .unwrap()
    })
    .await;
}

async fn hostile_stanzas_end_their_own_session(stage: Stage) {
    let line = Arc::new(Line::start(stage.server.plain()).await);
    let (alice, bob) = (stage.account("alice").await, stage.account("bob").await);
    attack(Arc::clone(&line), &bob, cases(true), move |line, worker| {
        let login = line
            .proxy
            .login(&alice)
            .resource(&format!("attacker{worker}"));
        async move { login.connect().await.unwrap().into_connection() }
    })
    .await;
}

async fn hostile_stanza_without_end_costs_no_memory(stage: Stage) {
    let line = Line::start(stage.server.plain()).await;
    let alice = stage.account("alice").await;
    let (before_login, _) = line.secured().await;
    let session = line
        .proxy
        .login(&alice)
        .resource("phone")
        .connect()
        .await
        .unwrap();
    let mut other = line
        .proxy
        .login(&alice)
        .resource("laptop")
        .connect()
        .await
        .unwrap();
    for mut connection in [before_login, session.into_connection()] {
        let began = Instant::now();
        let filling = vec![b'a'; 64 << 10];
        let mut sent = connection.send_raw("<message><body>").await;
        for _ in 0..(30 << 20) / filling.len() {
            if sent.is_err() {
                break;
            }
            sent = connection.send_raw(&filling).await;
        }
        assert!(
            matches!(sent, Ok(()) | Err(ClientError::Io { .. })),
            "{sent:?}"
        );
        let end = end_of(&mut connection).await;
        assert_eq!(end.condition.as_deref(), Some("policy-violation"));
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        assert!(other.drain_until_pong().await.unwrap().is_empty());
    }
    let peak = line.proxy.peak_resident_bytes().unwrap();
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
    assert_eq!(line.tap.count_up("aaaa"), 0);
}
