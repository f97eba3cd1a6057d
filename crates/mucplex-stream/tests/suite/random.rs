//! Inputs in any order.

use jid::BareJid;
use mucplex_stream::{
    BindDecision, DialFailure, Found, Input, ListenerTls, Login, Output, UpstreamTls, sm::Count,
};
use mucplex_xml::{Event, Framer, Limits, StreamErrorCondition};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{endings::script, rig::*};

/// Stands for a password in what the client says.
const SECRET: &str = "c2VjcmV0";

#[derive(Clone, Debug)]
enum Say {
    Client(&'static str),
    Server(&'static str),
    Signal(Signal),
}

#[derive(Clone, Copy, Debug)]
enum Signal {
    ClientSecured,
    ClientClosed,
    UplinkOpen,
    UplinkFailed,
    UplinkSecured,
    ServerClosed,
    Unknown,
    Held,
    Cut,
    Pass,
    Proxy,
    Abort,
}

impl Signal {
    fn input(self) -> Input {
        match self {
            Self::ClientSecured => Input::ClientSecured,
            Self::ClientClosed => Input::ClientClosed,
            Self::UplinkOpen => Input::UplinkOpen,
            Self::UplinkFailed => Input::UplinkFailed(DialFailure("refused".into())),
            Self::UplinkSecured => Input::UplinkSecured,
            Self::ServerClosed => Input::ServerClosed,
            Self::Unknown => Input::SessionFound(Found::Unknown { h: None }),
            Self::Held => Input::SessionFound(Found::Held {
                account: juliet(),
                resource: "spare".into(),
            }),
            Self::Cut => Input::SessionFound(Found::Cut {
                previd: SECRET.into(),
                h: Count::ZERO,
                client_h: None,
            }),
            Self::Pass => Input::BindDecision(BindDecision::Pass),
            Self::Proxy => Input::BindDecision(BindDecision::Proxy {
                resource: "spare".into(),
                account: juliet(),
            }),
            Self::Abort => Input::Abort(StreamErrorCondition::SystemShutdown, "shutdown"),
        }
    }
}

fn juliet() -> BareJid {
    BareJid::new("juliet@example.org").unwrap()
}

fn client_says() -> impl Strategy<Value = Say> {
    select(vec![
        CLIENT_HEADER,
        "<stream:stream to='example.com' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
        STARTTLS,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>c2VjcmV0</auth>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='X-PLUS'>c2VjcmV0</auth>",
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>c2VjcmV0</response>",
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>c2VjcmV0\
         </initial-response></authenticate>",
        "<iq type='set' id='a'><query xmlns='jabber:iq:auth'><password>c2VjcmV0</password></query>\
         </iq>",
        "<resume xmlns='urn:xmpp:sm:3' previd='c2VjcmV0' h='1'/>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        BIND,
        "<presence/>",
        " ",
        "<stream:error><c2VjcmV0 xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<?c2VjcmV0?>",
        "<c2VjcmV0></x>",
        "c2VjcmV0",
        END,
    ])
    .prop_map(Say::Client)
}

fn server_says() -> impl Strategy<Value = Say> {
    select(vec![
        SERVER_HEADER,
        TLS_FEATURES,
        SASL_FEATURES,
        BIND_FEATURES,
        OWN_FEATURES,
        PROCEED,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>cj1h</challenge>",
        SUCCESS,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
        BIND_RESULT,
        "<iq type='error' id='b1'/>",
        "<iq type='result' id='p1-bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>juliet@example.org/spare</jid></bind></iq>",
        "<iq type='error' id='p1-bind'/>",
        "<resumed xmlns='urn:xmpp:sm:3' previd='c2VjcmV0' h='1'/>",
        "<failed xmlns='urn:xmpp:sm:3'/>",
        "<message/>",
        "\n",
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<broken",
        "</broken>",
        END,
    ])
    .prop_map(Say::Server)
}

fn signals() -> impl Strategy<Value = Say> {
    use Signal::*;
    select(vec![
        ClientSecured,
        UplinkOpen,
        UplinkSecured,
        ClientSecured,
        UplinkOpen,
        UplinkSecured,
        UplinkFailed,
        ServerClosed,
        ClientClosed,
        Abort,
        Unknown,
        Held,
        Cut,
        Pass,
        Pass,
        Proxy,
    ])
    .prop_map(Say::Signal)
}

fn says() -> impl Strategy<Value = Say> {
    prop_oneof![4 => client_says(), 4 => server_says(), 2 => signals()]
}

/// Part of a login that goes well, with what does not belong there put in between.
fn disturbed_script() -> impl Strategy<Value = Vec<Say>> {
    let script: Vec<Say> = script()
        .into_iter()
        .map(|step| match step {
            crate::endings::Step::Client(xml) if xml == AUTH => Say::Client(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>c2VjcmV0</auth>",
            ),
            crate::endings::Step::Client(xml) => Say::Client(xml),
            crate::endings::Step::Server(xml) => Say::Server(xml),
            crate::endings::Step::ClientSecured => Say::Signal(Signal::ClientSecured),
            crate::endings::Step::UplinkOpen => Say::Signal(Signal::UplinkOpen),
            crate::endings::Step::UplinkSecured => Say::Signal(Signal::UplinkSecured),
        })
        .collect();
    let length = script.len();
    (0..=length, vec(says(), 0..8), 0..=length).prop_map(move |(until, between, from)| {
        let before = script[..until].iter().cloned();
        let after = script[from.max(until)..].iter().cloned();
        before.chain(between).chain(after).collect()
    })
}

/// Nothing of what the client keeps secret is in what a log could show.
fn check_secrecy(login: &Login, output: &Output) {
    assert!(
        !format!("{login:?}{output:?}").contains(SECRET),
        "{login:?} {output:?}"
    );
    match output {
        Output::Close { reason } => assert!(!reason.contains(SECRET), "{reason}"),
        Output::ToClient(bytes) => {
            let xml = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(!xml.contains(SECRET), "{xml}");
        }
        _ => {}
    }
}

/// Feeds a login with all that is said, whether it is wanted or not if `rude`, and gives how
/// often it ended.
fn run(says: &[Say], listener: ListenerTls, upstream: UpstreamTls, rude: bool) -> usize {
    let mut login = Login::new(domains(upstream), listener, "p1".into());
    let mut framers = [
        Framer::new(Limits::default()),
        Framer::new(Limits::default()),
    ];
    let mut ends = 0;
    for say in says {
        match say {
            Say::Client(xml) => framers[0].push(xml.as_bytes()),
            Say::Server(xml) => framers[1].push(xml.as_bytes()),
            Say::Signal(signal) => {
                feed(&mut login, signal.input(), &mut framers, &mut ends);
            }
        }
        loop {
            let client =
                (rude || login.wants_client()) && step(&mut login, &mut framers, 0, &mut ends);
            let server =
                (rude || login.wants_server()) && step(&mut login, &mut framers, 1, &mut ends);
            if !client && !server {
                break;
            }
        }
    }
    feed(&mut login, Input::ClientClosed, &mut framers, &mut ends);
    assert!(!login.wants_client() && !login.wants_server());
    ends
}

fn step(login: &mut Login, framers: &mut [Framer; 2], side: usize, ends: &mut usize) -> bool {
    let input = |event: Event, buffered: usize| match side {
        0 => Input::Client { event, buffered },
        _ => Input::Server { event, buffered },
    };
    let (input, again) = match framers[side].next_event() {
        Ok(None) => return false,
        Ok(Some(event)) => (input(event, framers[side].buffered()), true),
        // It would say so for ever.
        Err(error) if side == 0 => (Input::ClientFraming(error), false),
        Err(error) => (Input::ServerFraming(error), false),
    };
    assert!(!format!("{input:?}").contains(SECRET), "{input:?}");
    feed(login, input, framers, ends);
    again
}

fn feed(login: &mut Login, input: Input, framers: &mut [Framer; 2], ends: &mut usize) {
    login.handle(input);
    while let Some(output) = login.poll_output() {
        assert_eq!(*ends, 0, "an output after the end: {output:?}");
        check_secrecy(login, &output);
        match output {
            Output::SecureClient { .. } | Output::RestartClient => framers[0].restart(),
            Output::SecureUplink | Output::RestartServer => framers[1].restart(),
            Output::Bound(_) | Output::Resumed(_) | Output::Attach(_) | Output::Close { .. } => {
                *ends += 1;
            }
            Output::ToClient(_)
            | Output::ToServer(_)
            | Output::Dial { .. }
            | Output::FindSession { .. }
            | Output::SessionGone { .. }
            | Output::BindRequested { .. } => {}
        }
    }
}

fn listeners() -> impl Strategy<Value = ListenerTls> {
    select(vec![ListenerTls::StartTls, ListenerTls::Direct])
}

fn upstreams() -> impl Strategy<Value = UpstreamTls> {
    select(vec![
        UpstreamTls::None,
        UpstreamTls::StartTls,
        UpstreamTls::Direct,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_ends_once(
        says in vec(says(), 0..40), listener in listeners(), upstream in upstreams(), rude: bool,
    ) {
        prop_assert_eq!(run(&says, listener, upstream, rude), 1);
    }

    #[test]
    fn disturbed_logins_end_once(says in disturbed_script(), rude: bool) {
        prop_assert_eq!(run(&says, ListenerTls::StartTls, UpstreamTls::StartTls, rude), 1);
    }
}

/// The script itself gets through the same machinery.
#[test]
fn an_undisturbed_login_ends_in_a_session() {
    let mut rig = Rig::new(ListenerTls::StartTls, UpstreamTls::StartTls);
    for step in script() {
        step.run(&mut rig);
    }
    assert!(matches!(rig.take().last(), Some(Line::Bound(_))));
}
