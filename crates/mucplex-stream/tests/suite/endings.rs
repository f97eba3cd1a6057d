//! How a login ends in each of its states: after each step of one whole login, and while the
//! client's end tag waits for the server's.

use mucplex_stream::{Input, ListenerTls, UpstreamTls};
use mucplex_xml::{Framer, Limits, StreamErrorCondition};

use crate::rig::*;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Client(&'static str),
    Server(&'static str),
    ClientSecured,
    UplinkOpen,
    UplinkSecured,
}

impl Step {
    pub(crate) fn run(self, rig: &mut Rig) {
        match self {
            Self::Client(xml) => rig.client(xml),
            Self::Server(xml) => rig.server(xml),
            Self::ClientSecured => rig.input(Input::ClientSecured),
            Self::UplinkOpen => rig.input(Input::UplinkOpen),
            Self::UplinkSecured => rig.input(Input::UplinkSecured),
        }
    }
}

const CHALLENGE: &str = "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
const RESPONSE: &str = "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

/// A login with STARTTLS on both sides and a challenge.
pub(crate) fn script() -> [Step; 20] {
    [
        Step::Client(CLIENT_HEADER),
        Step::Client(STARTTLS),
        Step::ClientSecured,
        Step::Client(CLIENT_HEADER),
        Step::UplinkOpen,
        Step::Server(SERVER_HEADER),
        Step::Server(TLS_FEATURES),
        Step::Server(PROCEED),
        Step::UplinkSecured,
        Step::Server(SERVER_HEADER),
        Step::Server(SASL_FEATURES),
        Step::Client(AUTH),
        Step::Server(CHALLENGE),
        Step::Client(RESPONSE),
        Step::Server(SUCCESS),
        Step::Client(CLIENT_HEADER),
        Step::Server(SERVER_HEADER),
        Step::Server(BIND_FEATURES),
        Step::Client(BIND),
        Step::Server(BIND_RESULT),
    ]
}

/// A login in one of its states, and which streams are open in it.
struct State {
    rig: Rig,
    steps: usize,
    ending: bool,
}

impl State {
    /// Whether the client has got a header on its current stream.
    fn client_open(&self) -> bool {
        matches!(self.steps, 1 | 10..=14 | 17..)
    }

    /// Whether the server has got one on its.
    fn server_open(&self) -> bool {
        !self.ending && matches!(self.steps, 5..=7 | 9..=14 | 16..)
    }

    /// Whether the server has answered with its header.
    fn server_header(&self) -> bool {
        matches!(self.steps, 6 | 7 | 10..=14 | 17..)
    }
}

fn states() -> Vec<State> {
    let steps = script();
    let at = |count: usize| {
        let mut rig = Rig::new(ListenerTls::StartTls, UpstreamTls::StartTls);
        for step in &steps[..count] {
            step.run(&mut rig);
        }
        assert!(!rig.is_over());
        rig.take();
        rig
    };
    let plain = (0..steps.len()).map(|steps| State {
        rig: at(steps),
        steps,
        ending: false,
    });
    let ending = [11, 13, 18].map(|steps| {
        let mut rig = at(steps);
        rig.client(END);
        rig.expect(&[to_server(END)]);
        State {
            rig,
            steps,
            ending: true,
        }
    });
    plain.chain(ending).collect()
}

/// The client's last words: a header if it had none, what is said, the end.
#[track_caller]
fn check_client(state: &State, client: &str, last: &str) {
    let steps = state.steps;
    assert!(client.ends_with(last), "after {steps} steps: {client}");
    assert_eq!(
        client.starts_with("<?xml"),
        !state.client_open(),
        "after {steps} steps: {client}"
    );
}

#[track_caller]
fn check_server(state: &State, server: &str) {
    let expected = if state.server_open() { END } else { "" };
    assert_eq!(server, expected, "after {} steps", state.steps);
}

#[test]
fn the_shell_ends_it() {
    for mut state in states() {
        let condition = StreamErrorCondition::ConnectionTimeout;
        state
            .rig
            .input(Input::Abort(condition, "login took too long"));
        let lines = state.rig.take();
        let (client, server) = Rig::sides(&lines);
        let error = String::from_utf8(condition.to_xml(Some("login took too long")).to_vec());
        check_client(&state, &client, &format!("{}{END}", error.unwrap()));
        check_server(&state, &server);
        assert!(Rig::close_reason(&lines).contains("connection-timeout: login took too long"));
    }
}

#[test]
fn the_client_is_gone() {
    for mut state in states() {
        state.rig.input(Input::ClientClosed);
        let lines = state.rig.take();
        let (client, server) = Rig::sides(&lines);
        assert_eq!(client, "");
        check_server(&state, &server);
        assert_eq!(Rig::close_reason(&lines), "the client's connection is gone");
    }
}

#[test]
fn the_uplink_is_lost() {
    for failed in [false, true] {
        for mut state in states() {
            if failed {
                state.rig.dial_fails();
            } else {
                state.rig.input(Input::ServerClosed);
            }
            let lines = state.rig.take();
            let (client, server) = Rig::sides(&lines);
            match (state.ending, failed) {
                (true, false) => assert_eq!(client, END),
                _ => check_client(&state, &client, &stream_error("remote-connection-failed")),
            }
            assert_eq!(server, "");
            Rig::close_reason(&lines);
        }
    }
}

#[test]
fn the_clients_bytes_are_no_stream() {
    for mut state in states() {
        let mut framer = Framer::new(Limits::default());
        framer.push(format!("{CLIENT_HEADER}<!-- secret -->").as_bytes());
        framer.next_event().unwrap();
        state
            .rig
            .input_only(Input::ClientFraming(framer.next_event().unwrap_err()));
        let lines = state.rig.take();
        let (client, server) = Rig::sides(&lines);
        check_client(&state, &client, &stream_error("restricted-xml"));
        check_server(&state, &server);
        assert!(!Rig::close_reason(&lines).contains("secret"));
    }
}

#[test]
fn the_servers_bytes_are_no_stream() {
    for mut state in states().into_iter().filter(State::server_header) {
        state.rig.server("<a></b>");
        let lines = state.rig.take();
        let (client, server) = Rig::sides(&lines);
        check_client(&state, &client, &stream_error("internal-server-error"));
        let expected = if state.ending {
            String::new()
        } else {
            stream_error("not-well-formed")
        };
        assert_eq!(server, expected, "after {} steps", state.steps);
        Rig::close_reason(&lines);
    }
}

#[test]
fn the_servers_stream_error_passes() {
    let error = "<stream:error ><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>h\
        </see-other-host><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>t</text></stream:error>";
    for mut state in states().into_iter().filter(State::server_header) {
        state.rig.server(&format!("{error}{END}"));
        let lines = state.rig.take();
        let (client, server) = Rig::sides(&lines);
        check_client(&state, &client, &format!("{error}{END}"));
        check_server(&state, &server);
        let reason = Rig::close_reason(&lines);
        assert_eq!(
            reason,
            "the server ended its stream with the error see-other-host"
        );
    }
}

/// A prefix of the server's header is written into the error where the client has another header.
#[test]
fn the_servers_stream_error_stands_alone_behind_our_header() {
    let mut rig = Rig::new(ListenerTls::Direct, UpstreamTls::StartTls);
    rig.client(CLIENT_HEADER);
    rig.input(Input::UplinkOpen);
    rig.server(&SERVER_HEADER.replace("xmlns=", "xmlns:x='urn:x' xmlns="));
    rig.take();
    rig.server(
        "<stream:error><host-gone xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><x:y/></stream:error>",
    );
    let (client, _) = Rig::sides(&rig.take());
    assert!(client.contains("xmlns:x='urn:x'"), "{client}");
}

#[test]
fn the_server_ends_its_stream() {
    for mut state in states().into_iter().filter(State::server_header) {
        state.rig.server(END);
        let lines = state.rig.take();
        let (client, server) = Rig::sides(&lines);
        // Before it was usable it is a server that cannot be reached.
        match state.steps {
            6 | 7 | 10 | 17 => {
                check_client(&state, &client, &stream_error("remote-connection-failed"));
            }
            _ => assert_eq!(client, END, "after {} steps", state.steps),
        }
        check_server(&state, &server);
        Rig::close_reason(&lines);
    }
}

#[test]
fn the_clients_end_waits_for_the_servers() {
    for steps in [11, 13, 18] {
        let mut state = states().swap_remove(steps);
        state.rig.client(&format!("{END}\n"));
        state.rig.expect(&[to_server(END)]);
        assert!(!state.rig.login.wants_client());
        state.rig.server("<message/>");
        state.rig.expect(&[to_client("<message/>")]);
        state.rig.server(END);
        state.rig.expect(&[
            to_client(END),
            Line::Close("the client ended its stream".into()),
        ]);
    }
}

#[test]
fn the_clients_stream_error() {
    for steps in [11, 13, 18] {
        let mut state = states().swap_remove(steps);
        state.rig.client(
            "<stream:error><SECRET xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        );
        let lines = state.rig.take();
        let (client, server) = Rig::sides(&lines);
        assert_eq!((&*client, &*server), (END, END));
        let reason = Rig::close_reason(&lines);
        assert_eq!(
            reason,
            "the client ended its stream with the error undefined-condition"
        );
    }
}

/// What a shell says out of place changes nothing.
#[test]
fn signals_that_belong_elsewhere_are_ignored() {
    for mut state in states() {
        for (at, input) in [
            (2, Input::ClientSecured),
            (4, Input::UplinkOpen),
            (8, Input::UplinkSecured),
        ] {
            if state.steps != at {
                state.rig.input_only(input);
                state.rig.expect(&[]);
            }
        }
    }
}
