//! Streams without comfort: a proxy and a tap of one test's own, and how a stream ends.

use std::net::SocketAddr;

use mucplex_testkit::DOMAIN;
use mucplex_testkit::client::{Client, Connection, Security};
use mucplex_testkit::proxy::{Proxy, Setup};
use mucplex_testkit::tap::Tap;
use mucplex_testkit::xml::{Incoming, NS_STREAM, Stanza};

/// Namespace of the conditions in a stream error (RFC 6120 4.9.2).
pub(crate) const NS_STREAMS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

/// What a session's own uplink does is seen where no other one takes part.
pub(crate) const WITHOUT_ANCHORS: &str = "[anchor]\nenabled = false";

/// A proxy of one test's own, with a tap between it and the server.
pub(crate) struct Line {
    pub(crate) proxy: Proxy,
    pub(crate) tap: Tap,
}

impl Line {
    /// Before the server at `upstream`, without TLS on that side.
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        Self::start_with(upstream, |setup| setup).await
    }

    pub(crate) async fn start_with(
        upstream: SocketAddr,
        configure: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let tap = Tap::start(upstream).await.unwrap();
        let setup = Setup::new(tap.address()).section(WITHOUT_ANCHORS);
        let proxy = configure(setup).start().await.unwrap();
        Self { proxy, tap }
    }

    pub(crate) fn starttls(&self) -> (SocketAddr, Security) {
        (
            self.proxy.starttls(),
            Security::StartTls(self.proxy.trust()),
        )
    }

    pub(crate) fn direct_tls(&self) -> (SocketAddr, Security) {
        (
            self.proxy.direct_tls(),
            Security::DirectTls(self.proxy.trust()),
        )
    }

    /// A stream over TLS whose features have been read.
    pub(crate) async fn secured(&self) -> (Connection, Stanza) {
        let (address, security) = self.direct_tls();
        Connection::secured(address, DOMAIN, &security)
            .await
            .unwrap()
    }

    /// The number of the uplink that was opened last.
    pub(crate) fn uplink_of_last(&self) -> usize {
        self.tap.recordings().len() - 1
    }

    /// The number of a session's uplink at the tap.
    pub(crate) fn uplink(&self, session: &Client) -> usize {
        let recordings = self.tap.recordings();
        let is_its = |down: &[u8]| String::from_utf8_lossy(down).contains(session.jid());
        recordings
            .iter()
            .position(|link| is_its(&link.down))
            .expect("its JID was bound there")
    }
}

/// How a stream has ended.
#[derive(Debug)]
pub(crate) struct End {
    /// The condition of its stream error.
    pub(crate) condition: Option<String>,
    /// What came before that.
    pub(crate) before: Vec<Stanza>,
}

/// Reads a stream to its end tag, behind which only the end of the connection may follow.
pub(crate) async fn end_of(connection: &mut Connection) -> End {
    let (mut condition, mut before) = (None, Vec::new());
    loop {
        match connection.next("the end of the stream").await.unwrap() {
            Incoming::Close => break,
            Incoming::Open(_) => {}
            Incoming::Stanza(stanza) if stanza.is("error", NS_STREAM) => {
                assert_eq!(condition, None, "one stream error");
                condition = Some(condition_of(&stanza));
            }
            Incoming::Stanza(stanza) => {
                assert_eq!(condition, None, "{stanza:?} behind a stream error");
                before.push(stanza);
            }
        }
    }
    let rest = connection.read_to_end().await.unwrap();
    assert!(
        rest.is_empty(),
        "behind the end tag: {}",
        String::from_utf8_lossy(&rest)
    );
    End { condition, before }
}

/// The stream ends with this error, and nothing comes before it.
pub(crate) async fn ends_with(connection: &mut Connection, condition: &str) {
    let end = end_of(connection).await;
    assert_eq!(
        end.condition.as_deref(),
        Some(condition),
        "{}",
        connection.transcript()
    );
    assert!(end.before.is_empty(), "{:?}", end.before);
}

fn condition_of(error: &Stanza) -> String {
    let condition = error
        .children()
        .find(|child| child.has_ns(NS_STREAMS) && child.name() != "text");
    condition
        .map(|condition| condition.name().to_owned())
        .expect("a stream error has a condition")
}

/// Bytes of a stream without the nonzas of XEP-0198, which the proxy exchanges with each side on
/// its own.
pub(crate) fn uncounted(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut kept = Vec::new();
    while let Some(at) = find(rest, b"urn:xmpp:sm:3") {
        let start = rest[..at].iter().rposition(|byte| *byte == b'<').unwrap();
        let end = at + rest[at..].iter().position(|byte| *byte == b'>').unwrap();
        kept.extend_from_slice(&rest[..start]);
        rest = &rest[end + 1..];
    }
    kept.extend_from_slice(rest);
    kept
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}
