//! The scripted pair: a [`Login`] between a client and a server that say what a test has them say.

use std::sync::Arc;

use bytes::Bytes;
use mucplex_stream::{
    Attach, Authenticated, BindDecision, Bound, ContentNamespace, Credentials, DialFailure,
    DomainSettings, Input, ListenerTls, Login, Output, Resumed, UpstreamTls, sm::Count,
};
use mucplex_xml::{Event, Framer, Limits};

pub(crate) const CLIENT_HEADER: &str = "<stream:stream to='example.org' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
pub(crate) const SERVER_HEADER: &str = "<stream:stream from='example.org' id='s1' version='1.0' \
    xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/// What the proxy sends upstream for [`CLIENT_HEADER`].
pub(crate) const UPLINK_HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' \
    version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/// What the proxy answers by itself, to a client that asked for example.org.
pub(crate) const OWN_HEADER: &str = "<?xml version='1.0'?><stream:stream from='example.org' \
    id='p1' version='1.0' xml:lang='en' xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'>";
pub(crate) const OWN_FEATURES: &str = "<stream:features>\
    <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
pub(crate) const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(crate) const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(crate) const TLS_FEATURES: &str = "<stream:features>\
    <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
pub(crate) const SASL_FEATURES: &str = "<stream:features>\
    <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";
pub(crate) const BIND_FEATURES: &str = "<stream:features>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";
/// What the client sees of [`BIND_FEATURES`].
pub(crate) const SESSION_FEATURES: &str = "<stream:features>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><csi xmlns='urn:xmpp:csi:0'/>\
    <sm xmlns='urn:xmpp:sm:3'/></stream:features>";
/// `\0juliet\0r0m30myr0m30`
pub(crate) const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' \
    mechanism='PLAIN'>AGp1bGlldAByMG0zMG15cjBtMzA=</auth>";
pub(crate) const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
pub(crate) const BIND: &str = "<iq type='set' id='b1'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>balcony</resource></bind></iq>";
pub(crate) const BIND_RESULT: &str = "<iq type='result' id='b1'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>juliet@example.org/balcony</jid></bind>\
    </iq>";
pub(crate) const END: &str = "</stream:stream>";

/// One line of what comes out; adjacent bytes for one side are one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Client(String),
    Server(String),
    SecureClient(usize),
    Dial(usize),
    SecureUplink,
    RestartClient,
    RestartServer,
    FindSession(String, Count),
    SessionGone(Option<Count>),
    Resumed(Resumed),
    BindRequested(Option<String>, Option<String>),
    Attach(Attach),
    Bound(Bound),
    Close(String),
}

/// What [`AUTH`] and [`BIND_FEATURES`] make known.
pub(crate) fn authenticated() -> Authenticated {
    Authenticated {
        domain: 0,
        mechanism: "PLAIN".into(),
        credentials: Some(Credentials::Password {
            username: "juliet".into(),
            authzid: None,
            password: "r0m30myr0m30".to_owned().into(),
        }),
        username_hint: Some("juliet".into()),
        client_lang: None,
        content: ContentNamespace::Default,
        server_csi: false,
        server_sm: false,
    }
}

pub(crate) fn to_client(xml: impl Into<String>) -> Line {
    Line::Client(xml.into())
}

pub(crate) fn to_server(xml: impl Into<String>) -> Line {
    Line::Server(xml.into())
}

pub(crate) fn relayed(header: &str) -> String {
    format!("<?xml version='1.0'?>{header}")
}

pub(crate) fn stream_error(condition: &str) -> String {
    format!(
        "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>\
         </stream:stream>"
    )
}

pub(crate) struct Rig {
    pub(crate) login: Login,
    client: Framer,
    server: Framer,
    /// What the peers see has to be a stream, too.
    client_sees: Framer,
    server_sees: Framer,
    lines: Vec<Line>,
    over: bool,
    /// Whether the test answers [`Output::BindRequested`]; else requests pass, and are no line.
    pub(crate) decides: bool,
}

pub(crate) fn domains(upstream_tls: UpstreamTls) -> Arc<[DomainSettings]> {
    let domain = |name: &str| DomainSettings {
        name: name.into(),
        upstream_tls,
    };
    Arc::new([domain("example.org"), domain("example.net")])
}

impl Rig {
    pub(crate) fn new(listener: ListenerTls, upstream: UpstreamTls) -> Self {
        let framer = || Framer::new(Limits::default());
        Self {
            login: Login::new(domains(upstream), listener, "p1".into()),
            client: framer(),
            server: framer(),
            client_sees: framer(),
            server_sees: framer(),
            lines: Vec::new(),
            over: false,
            decides: false,
        }
    }

    /// At the server's first features, over direct TLS and a plain uplink; what came out is taken.
    pub(crate) fn at_sasl() -> Self {
        let mut rig = Self::new(ListenerTls::Direct, UpstreamTls::None);
        rig.client(CLIENT_HEADER);
        rig.input(Input::UplinkOpen);
        rig.server(SERVER_HEADER);
        rig.server(SASL_FEATURES);
        rig.take();
        rig
    }

    /// At the features that offer binding.
    pub(crate) fn at_bind() -> Self {
        let mut rig = Self::at_sasl();
        rig.client(AUTH);
        rig.server(SUCCESS);
        rig.client(CLIENT_HEADER);
        rig.server(SERVER_HEADER);
        rig.server(BIND_FEATURES);
        rig.take();
        rig
    }

    pub(crate) fn client(&mut self, xml: &str) {
        self.client.push(xml.as_bytes());
        self.pump();
    }

    pub(crate) fn server(&mut self, xml: &str) {
        self.server.push(xml.as_bytes());
        self.pump();
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.login.handle(input);
        self.drain();
        self.pump();
    }

    /// Like [`input`](Self::input), but what is in the framers stays there.
    pub(crate) fn input_only(&mut self, input: Input) {
        self.login.handle(input);
        self.drain();
    }

    pub(crate) fn dial_fails(&mut self) {
        self.input(Input::UplinkFailed(DialFailure(
            "connection refused".into(),
        )));
    }

    /// Bytes of the server that no event has taken.
    pub(crate) fn server_waits(&self) -> usize {
        self.server.buffered()
    }

    /// Bytes of the client that no event has taken.
    pub(crate) fn client_waits(&self) -> usize {
        self.client.buffered()
    }

    pub(crate) fn take(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, lines: &[Line]) {
        assert_eq!(self.take(), lines);
    }

    /// The reason of the close, which must be the last line.
    #[track_caller]
    pub(crate) fn close_reason(lines: &[Line]) -> &str {
        match lines.last() {
            Some(Line::Close(reason)) => reason,
            other => panic!("not closed, but {other:?}"),
        }
    }

    /// All that was for the client, and all that was for the server.
    pub(crate) fn sides(lines: &[Line]) -> (String, String) {
        let mut sides = (String::new(), String::new());
        for line in lines {
            match line {
                Line::Client(xml) => sides.0.push_str(xml),
                Line::Server(xml) => sides.1.push_str(xml),
                _ => {}
            }
        }
        sides
    }

    /// Takes events as the shell does: in turn, and only while they are wanted.
    fn pump(&mut self) {
        loop {
            let client = self.login.wants_client() && self.pump_client();
            let server = self.login.wants_server() && self.pump_server();
            if !client && !server {
                break;
            }
        }
    }

    fn pump_client(&mut self) -> bool {
        let input = match self.client.next_event() {
            Ok(None) => return false,
            Ok(Some(event)) => Input::Client {
                event,
                buffered: self.client.buffered(),
            },
            Err(error) => Input::ClientFraming(error),
        };
        self.login.handle(input);
        self.drain();
        true
    }

    fn pump_server(&mut self) -> bool {
        let input = match self.server.next_event() {
            Ok(None) => return false,
            Ok(Some(event)) => Input::Server {
                event,
                buffered: self.server.buffered(),
            },
            Err(error) => Input::ServerFraming(error),
        };
        self.login.handle(input);
        self.drain();
        true
    }

    fn drain(&mut self) {
        while let Some(output) = self.login.poll_output() {
            assert!(!self.over, "an output after the end: {output:?}");
            let Some(line) = self.line(output) else {
                continue;
            };
            match (self.lines.last_mut(), line) {
                (Some(Line::Client(before)), Line::Client(xml))
                | (Some(Line::Server(before)), Line::Server(xml)) => before.push_str(&xml),
                (_, line) => self.lines.push(line),
            }
        }
    }

    /// Carries out an output.
    fn line(&mut self, output: Output) -> Option<Line> {
        self.over = matches!(
            output,
            Output::Bound(_) | Output::Resumed(_) | Output::Attach(_) | Output::Close { .. }
        );
        Some(match output {
            Output::ToClient(bytes) => Line::Client(seen(&mut self.client_sees, &bytes)),
            Output::ToServer(bytes) => Line::Server(seen(&mut self.server_sees, &bytes)),
            Output::SecureClient { domain } => {
                self.client.restart();
                self.client_sees.restart();
                Line::SecureClient(domain)
            }
            Output::SecureUplink => {
                self.server.restart();
                self.server_sees.restart();
                Line::SecureUplink
            }
            Output::Dial { domain } => Line::Dial(domain),
            Output::RestartClient => {
                self.client.restart();
                self.client_sees.restart();
                Line::RestartClient
            }
            Output::RestartServer => {
                self.server.restart();
                self.server_sees.restart();
                Line::RestartServer
            }
            Output::FindSession { previd, h } => Line::FindSession(previd.as_str().into(), h),
            Output::SessionGone { server_h } => Line::SessionGone(server_h),
            Output::BindRequested { .. } if !self.decides => {
                self.login.handle(Input::BindDecision(BindDecision::Pass));
                return None;
            }
            Output::BindRequested {
                resource,
                username_hint,
            } => Line::BindRequested(resource, username_hint),
            Output::Resumed(resumed) => Line::Resumed(resumed),
            Output::Attach(attach) => Line::Attach(attach),
            Output::Bound(bound) => Line::Bound(bound),
            Output::Close { reason } => Line::Close(reason),
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

/// Reads what a peer gets as that peer does, so that no test accepts what is no stream.
fn seen(framer: &mut Framer, bytes: &Bytes) -> String {
    framer.push(bytes);
    while let Some(event) = framer.next_event().expect("the proxy writes a stream") {
        if let Event::Frame(frame) = event {
            let _ = frame.kind();
        }
    }
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}
