//! The scripted counterpart of an [`AnchorLogin`], and what both sides say.

use base64::{Engine, prelude::BASE64_STANDARD};
use jid::FullJid;
use mucplex_stream::{
    Credentials, DomainSettings, UpstreamTls,
    anchor_login::{AnchorError, AnchorLogin, Established, Goal, Input, Output},
    scram::ScramKeys,
    sm::{Count, SmState},
};
use mucplex_xml::{Framer, Limits};
use sasl::{
    common::{ChannelBinding, Identity as Account, scram as theirs},
    impl_validator_using_provider,
    secret::Pbkdf2Sha256,
    server::{Mechanism, Provider, ProviderError, Response, mechanisms::Scram as Server},
};

use crate::rig::{SERVER_HEADER, SUCCESS, UPLINK_HEADER};

pub(crate) const SASL: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
pub(crate) const FEATURES: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
    <sm xmlns='urn:xmpp:sm:2'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
pub(crate) const FEATURES_WITHOUT_SM: &str = "<stream:features>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:2'/></stream:features>";
pub(crate) const BIND: &str = "<iq xmlns='jabber:client' type='set' id='bind'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>anchor</resource></bind></iq>";
pub(crate) const BIND_RESULT: &str = "<iq type='result' id='bind'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>juliet@example.org/anchor</jid></bind></iq>";
pub(crate) const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
pub(crate) const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3' id='up-2' resume='true' max='600' \
    location='198.51.100.1'/>";
pub(crate) const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='up-1' h='9'/>";
pub(crate) const FAILED: &str = "<failed xmlns='urn:xmpp:sm:3' h='5'>\
    <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
pub(crate) const ABORT: &str = "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

pub(crate) fn offer(mechanisms: &[&str]) -> String {
    let list: String = mechanisms
        .iter()
        .map(|name| format!("<mechanism>{name}</mechanism>"))
        .collect();
    format!("<stream:features><mechanisms {SASL}>{list}</mechanisms></stream:features>")
}

pub(crate) fn password() -> Credentials {
    Credentials::Password {
        username: "juliet".into(),
        authzid: None,
        password: "sekret".to_owned().into(),
    }
}

pub(crate) fn token() -> Credentials {
    Credentials::Token {
        mechanism: "X-TOKEN".into(),
        initial_response: "AGp1bGlldAB0".to_owned().into(),
    }
}

pub(crate) fn keys(keys: ScramKeys) -> Credentials {
    Credentials::Keys {
        username: "juliet".into(),
        authzid: None,
        keys,
    }
}

pub(crate) fn to_bind() -> Goal {
    Goal::Bind {
        resource: "anchor".into(),
    }
}

pub(crate) fn jid() -> FullJid {
    FullJid::new("juliet@example.org/anchor").unwrap()
}

pub(crate) fn state(id: &str) -> SmState {
    SmState {
        id: id.into(),
        location: Some("198.51.100.1".into()),
        max: Some(600),
    }
}

pub(crate) fn to_resume() -> Goal {
    Goal::Resume {
        sm: state("up-1"),
        h: Count::new(9),
        jid: jid(),
    }
}

/// A login, its server's framer, and what came out.
pub(crate) struct Rig {
    pub(crate) login: AnchorLogin,
    pub(crate) framer: Framer,
    sees: Framer,
    sent: String,
    signals: Vec<&'static str>,
    pub(crate) keys: Option<ScramKeys>,
    pub(crate) end: Option<Result<Established, AnchorError>>,
}

impl Rig {
    pub(crate) fn new(tls: UpstreamTls, credentials: Credentials, goal: Goal) -> Self {
        let settings = DomainSettings {
            name: "example.org".into(),
            upstream_tls: tls,
        };
        let mut rig = Self {
            login: AnchorLogin::new(settings, credentials, goal, [7; 24]),
            framer: Framer::new(Limits::default()),
            sees: Framer::new(Limits::default()),
            sent: String::new(),
            signals: Vec::new(),
            keys: None,
            end: None,
        };
        rig.drain();
        assert_eq!(rig.signals(), ["dial"]);
        rig
    }

    /// At the features that offer these mechanisms.
    pub(crate) fn offered(credentials: Credentials, goal: Goal, mechanisms: &[&str]) -> Self {
        let mut rig = Self::new(UpstreamTls::None, credentials, goal);
        rig.input(Input::UplinkOpen);
        assert_eq!(rig.sent(), UPLINK_HEADER);
        rig.server(SERVER_HEADER);
        rig.server(&offer(mechanisms));
        rig
    }

    /// Logged in by a token, at the features after that.
    pub(crate) fn logged_in(goal: Goal, features: &str) -> Self {
        let mut rig = Self::offered(token(), goal, &["X-TOKEN"]);
        rig.server(SUCCESS);
        rig.sent();
        assert_eq!(rig.signals(), ["restart"]);
        rig.server(SERVER_HEADER);
        rig.server(features);
        rig
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.login.handle(input);
        self.drain();
    }

    pub(crate) fn server(&mut self, xml: &str) {
        self.framer.push(xml.as_bytes());
        self.pump();
    }

    pub(crate) fn pump(&mut self) {
        while self.login.wants_server() {
            let input = match self.framer.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => Input::Server {
                    event,
                    buffered: self.framer.buffered(),
                },
                Err(error) => Input::ServerFraming(error),
            };
            self.input(input);
        }
    }

    /// The blocking thread.
    pub(crate) fn derive(&mut self) {
        assert!(!self.login.wants_server());
        let keys = self.keys.take().expect("a derivation");
        self.input(Input::Derived(keys));
    }

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.login.poll_output() {
            assert!(self.end.is_none(), "an output after the end: {output:?}");
            let shown = format!("{output:?} {:?}", self.login);
            assert!(
                !shown.contains("sekret") && !shown.contains("AGp1"),
                "{shown}"
            );
            match output {
                Output::Dial => self.signals.push("dial"),
                Output::ToServer(bytes) => {
                    self.sees.push(&bytes);
                    while self.sees.next_event().expect("a stream").is_some() {}
                    self.sent.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                Output::SecureUplink => {
                    self.framer.restart();
                    self.sees.restart();
                    self.signals.push("secure");
                }
                Output::RestartServer => {
                    self.framer.restart();
                    self.sees.restart();
                    self.signals.push("restart");
                }
                Output::Derive(derivation) => self.keys = Some(derivation.run()),
                Output::Established(established) => self.end = Some(Ok(established)),
                Output::Failed(error) => self.end = Some(Err(error)),
            }
        }
    }

    pub(crate) fn sent(&mut self) -> String {
        std::mem::take(&mut self.sent)
    }

    pub(crate) fn signals(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.signals)
    }

    #[track_caller]
    pub(crate) fn established(self) -> Established {
        assert!(!self.login.wants_server());
        self.end.expect("an end").expect("established")
    }

    #[track_caller]
    pub(crate) fn failed(self) -> AnchorError {
        assert!(!self.login.wants_server());
        self.end.expect("an end").expect_err("a failure")
    }
}

/// What an element of the client's holds.
pub(crate) fn message(sent: &str) -> Vec<u8> {
    let text = sent.split(['>', '<']).nth(2).unwrap();
    BASE64_STANDARD.decode(text).unwrap()
}

pub(crate) fn sasl_element(name: &str, message: &[u8]) -> String {
    let message = BASE64_STANDARD.encode(message);
    format!("<{name} {SASL}>{message}</{name}>")
}

/// One account of another implementation of SCRAM.
pub(crate) struct Juliet {
    password: &'static str,
    salt: &'static [u8],
}

impl Provider<Pbkdf2Sha256> for Juliet {
    fn provide(&self, account: &Account) -> Result<Pbkdf2Sha256, ProviderError> {
        assert_eq!(*account, Account::Username("juliet".to_owned()));
        Ok(Pbkdf2Sha256::derive(self.password, self.salt, 4096).unwrap())
    }
}

impl_validator_using_provider!(Juliet, Pbkdf2Sha256);

impl Juliet {
    pub(crate) const fn new(password: &'static str, salt: &'static [u8]) -> Self {
        Self { password, salt }
    }

    pub(crate) fn server(self) -> Server<theirs::Sha256, Self> {
        Server::new(self, ChannelBinding::TlsUnique(Vec::new()))
    }
}

/// Lets the login talk to that; `in_challenge`: the last message comes before the success.
pub(crate) fn scram(rig: &mut Rig, juliet: Juliet, in_challenge: bool) {
    let mut server = juliet.server();
    let auth = rig.sent();
    assert!(
        auth.starts_with(&format!("<auth {SASL} mechanism='SCRAM-SHA-256'>")),
        "{auth}"
    );
    let Ok(Response::Proceed(challenge)) = server.respond(&message(&auth)) else {
        panic!("no challenge")
    };
    rig.server(&sasl_element("challenge", &challenge));
    if rig.keys.is_some() {
        rig.derive();
    }
    if rig.end.is_some() {
        return;
    }
    match server.respond(&message(&rig.sent())) {
        Ok(Response::Success(_, last)) if in_challenge => {
            rig.server(&sasl_element("challenge", &last));
            assert_eq!(rig.sent(), format!("<response {SASL}/>"));
            rig.server(SUCCESS);
        }
        Ok(Response::Success(_, last)) => rig.server(&sasl_element("success", &last)),
        _ => rig.server(&format!("<failure {SASL}><not-authorized/></failure>")),
    }
}

/// From the features after login to the end.
pub(crate) fn bind(rig: &mut Rig) {
    assert_eq!(rig.sent(), UPLINK_HEADER);
    assert_eq!(rig.signals(), ["restart"]);
    rig.server(SERVER_HEADER);
    rig.server(FEATURES);
    assert_eq!(rig.sent(), BIND);
    rig.server(BIND_RESULT);
    assert_eq!(rig.sent(), ENABLE);
    rig.server(ENABLED);
}
