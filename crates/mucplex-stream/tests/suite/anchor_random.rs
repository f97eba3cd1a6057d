//! Inputs of an anchor's login in any order.

use jid::FullJid;
use mucplex_stream::{
    Credentials, DialFailure, DomainSettings, UpstreamTls,
    anchor_login::{AnchorLogin, Goal, Input, Output},
    scram::ScramKeys,
    sm::{Count, SmState},
};
use mucplex_xml::{Framer, Limits, StreamErrorCondition};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::rig::{BIND_FEATURES, END, OWN_FEATURES, PROCEED, SERVER_HEADER, SUCCESS, TLS_FEATURES};

/// Stands for what may not be shown; in base64, `secret`.
const SECRET: &str = "c2VjcmV0";

#[derive(Clone, Debug)]
enum Say {
    Server(&'static str),
    Open,
    Secured,
    Derived,
    Failed,
    Closed,
    Abort,
}

fn server_says() -> impl Strategy<Value = Say> {
    select(vec![
        SERVER_HEADER,
        TLS_FEATURES,
        OWN_FEATURES,
        BIND_FEATURES,
        PROCEED,
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>SCRAM-SHA-1</mechanism><mechanism>X-TOKEN</mechanism></mechanisms>\
         <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/>\
         </stream:features>",
        // The first message of the nonce below, one iteration.
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         cj1Cd2NIQndjSEJ3Y0hCd2NIQndjSEJ3Y0hCd2NIQndjSHgscz1jMkZzZEE9PSxpPTE=</challenge>",
        SUCCESS,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
        "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>juliet@example.org/anchor</jid></bind></iq>",
        "<iq type='error' id='bind'/>",
        "<enabled xmlns='urn:xmpp:sm:3' id='c2VjcmV0' resume='true'/>",
        "<resumed xmlns='urn:xmpp:sm:3' previd='c2VjcmV0' h='1'/>",
        "<failed xmlns='urn:xmpp:sm:3' h='1'/>",
        "<message><body>c2VjcmV0</body></message>",
        "\n",
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "</broken>",
        END,
    ])
    .prop_map(Say::Server)
}

fn says() -> impl Strategy<Value = Say> {
    let signals = select(vec![
        Say::Open,
        Say::Secured,
        Say::Derived,
        Say::Open,
        Say::Secured,
        Say::Derived,
        Say::Failed,
        Say::Closed,
        Say::Abort,
    ]);
    prop_oneof![8 => server_says(), 3 => signals]
}

fn keys() -> ScramKeys {
    let mut bytes = vec![1, 1, 0, 0, 0, 1, 0, 4];
    bytes.extend(b"salt");
    bytes.extend([0; 40]);
    ScramKeys::from_bytes(&bytes).unwrap()
}

fn credentials() -> impl Strategy<Value = Credentials> {
    let username = || "juliet".to_owned();
    select(vec![
        Credentials::Password {
            username: username(),
            authzid: None,
            password: SECRET.to_owned().into(),
        },
        Credentials::Keys {
            username: username(),
            authzid: None,
            keys: keys(),
        },
        Credentials::Token {
            mechanism: "X-TOKEN".into(),
            initial_response: SECRET.to_owned().into(),
        },
    ])
}

fn goals() -> impl Strategy<Value = Goal> {
    select(vec![
        Goal::Bind {
            resource: "anchor".into(),
        },
        Goal::Resume {
            sm: SmState {
                id: SECRET.into(),
                location: None,
                max: None,
            },
            h: Count::ZERO,
            jid: FullJid::new("juliet@example.org/anchor").unwrap(),
        },
    ])
}

/// A login that goes well as far as its server says what it should.
const GOOD: [Say; 5] = [
    Say::Open,
    Say::Server(SERVER_HEADER),
    Say::Server(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>SCRAM-SHA-1</mechanism><mechanism>X-TOKEN</mechanism></mechanisms>\
         </stream:features>",
    ),
    Say::Server(SUCCESS),
    Say::Server(SERVER_HEADER),
];

fn run(mut login: AnchorLogin, says: &[Say], rude: bool) -> usize {
    let mut framer = Framer::new(Limits::default());
    let mut ends = 0;
    feed(&mut login, None, &mut framer, &mut ends);
    for say in says {
        let input = match say {
            Say::Server(xml) => {
                framer.push(xml.as_bytes());
                None
            }
            Say::Open => Some(Input::UplinkOpen),
            Say::Secured => Some(Input::UplinkSecured),
            Say::Derived => Some(Input::Derived(keys())),
            Say::Failed => Some(Input::UplinkFailed(DialFailure("refused".into()))),
            Say::Closed => Some(Input::ServerClosed),
            Say::Abort => Some(Input::Abort(StreamErrorCondition::Reset, "reset")),
        };
        feed(&mut login, input, &mut framer, &mut ends);
        while rude || login.wants_server() {
            let (input, again) = match framer.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    let buffered = framer.buffered();
                    (Input::Server { event, buffered }, true)
                }
                Err(error) => (Input::ServerFraming(error), false),
            };
            feed(&mut login, Some(input), &mut framer, &mut ends);
            if !again {
                break;
            }
        }
    }
    feed(
        &mut login,
        Some(Input::ServerClosed),
        &mut framer,
        &mut ends,
    );
    assert!(!login.wants_server());
    ends
}

fn feed(login: &mut AnchorLogin, input: Option<Input>, framer: &mut Framer, ends: &mut usize) {
    if let Some(input) = input {
        let shown = format!("{input:?}");
        assert!(!shown.contains(SECRET), "{shown}");
        login.handle(input);
    }
    while let Some(output) = login.poll_output() {
        assert_eq!(*ends, 0, "an output after the end: {output:?}");
        let shown = format!("{login:?} {output:?}");
        assert!(!shown.contains(SECRET), "{shown}");
        match output {
            Output::SecureUplink | Output::RestartServer => framer.restart(),
            Output::Established(_) => *ends += 1,
            Output::Failed(error) => {
                *ends += 1;
                assert!(!error.to_string().contains(SECRET));
            }
            Output::Dial | Output::ToServer(_) | Output::Derive(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_ends_once(
        credentials in credentials(),
        goal in goals(),
        tls in select(vec![UpstreamTls::None, UpstreamTls::StartTls, UpstreamTls::Direct]),
        good in 0..=GOOD.len(),
        says in vec(says(), 0..24),
        rude: bool,
    ) {
        let settings = DomainSettings { name: "example.org".into(), upstream_tls: tls };
        let login = AnchorLogin::new(settings, credentials, goal, [7; 24]);
        let says: Vec<Say> = GOOD[..good].iter().cloned().chain(says).collect();
        prop_assert_eq!(run(login, &says, rude), 1);
    }
}
