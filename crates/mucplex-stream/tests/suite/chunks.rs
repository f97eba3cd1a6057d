//! The same login, however what both sides say is cut on its way and whoever is faster.

use std::{collections::VecDeque, sync::Arc};

use mucplex_stream::{
    BindDecision, Found, Input, ListenerTls, Login, Output, UpstreamTls, sm::Count,
};
use mucplex_xml::{Framer, Limits};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::rig::*;

/// What a client comes back to.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Bound,
    Attached,
    ResumedHeld,
    ResumedCut,
    Forgotten,
    Unknown,
    NotTheirs,
}

const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='s-1' h='4'/>";
const REST_OF_CLIENT: &str = "<r xmlns='urn:xmpp:sm:3'/><message id='c'/>";
const REST_OF_SERVER: &str = "<message id='s'/><r xmlns='urn:xmpp:sm:3'/>";

impl Ending {
    fn resumes(self) -> bool {
        !matches!(self, Self::Bound | Self::Attached)
    }

    fn binds(self) -> bool {
        matches!(
            self,
            Self::Bound | Self::Attached | Self::Forgotten | Self::Unknown
        )
    }

    /// All that the client ever says: some of it long before its turn.
    fn client(self) -> String {
        let resume = if self.resumes() { RESUME } else { "" };
        let bind = if self.binds() { BIND } else { "" };
        format!("{CLIENT_HEADER}{AUTH}{CLIENT_HEADER}{resume}{bind}{REST_OF_CLIENT}")
    }

    /// What the server answers to each thing it gets, in turn.
    fn server(self) -> VecDeque<String> {
        let own = |jid: &str| {
            BIND_RESULT
                .replace("id='b1'", "id='p1-bind'")
                .replace("juliet@example.org/balcony", jid)
        };
        let resumed = "<resumed xmlns='urn:xmpp:sm:3' previd='up-1' h='3'/>".to_owned();
        let failed = "<failed xmlns='urn:xmpp:sm:3' h='2'/>".to_owned();
        let mut last = match self {
            Self::Bound | Self::Unknown => vec![BIND_RESULT.to_owned()],
            Self::Attached | Self::ResumedHeld => vec![own("juliet@example.org/spare")],
            Self::NotTheirs => vec![own("romeo@example.org/spare")],
            Self::ResumedCut => vec![resumed],
            Self::Forgotten => vec![failed, BIND_RESULT.to_owned()],
        };
        if let Some(last) = last.last_mut() {
            last.push_str(REST_OF_SERVER);
        }
        let first = [
            format!("{SERVER_HEADER}{SASL_FEATURES}"),
            SUCCESS.to_owned(),
            format!("{SERVER_HEADER}{BIND_FEATURES}"),
        ];
        first.into_iter().chain(last).collect()
    }

    fn found(self) -> Found {
        match self {
            Self::ResumedHeld | Self::NotTheirs => Found::Held {
                account: "juliet@example.org".parse().unwrap(),
                resource: "spare".into(),
            },
            Self::ResumedCut | Self::Forgotten => Found::Cut {
                previd: "up-1".into(),
                h: Count::new(9),
                client_h: None,
            },
            Self::Bound | Self::Attached | Self::Unknown => Found::Unknown { h: None },
        }
    }

    fn decision(self) -> BindDecision {
        match self {
            Self::Attached => BindDecision::Proxy {
                resource: "spare".into(),
                account: "juliet@example.org".parse().unwrap(),
            },
            _ => BindDecision::Pass,
        }
    }
}

/// Both pipes, both framers and the shell.
struct World {
    ending: Ending,
    login: Login,
    framers: [Framer; 2],
    pipes: [VecDeque<u8>; 2],
    answers: VecDeque<String>,
    server_sees: Framer,
    seen: Seen,
}

/// What must not depend on the chunks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    client: String,
    server: String,
    shell: Vec<String>,
    left: [String; 2],
}

impl World {
    fn new(ending: Ending) -> Self {
        let framer = || Framer::new(Limits::default());
        Self {
            ending,
            login: Login::new(
                Arc::clone(&domains(UpstreamTls::None)),
                ListenerTls::Direct,
                "p1".into(),
            ),
            framers: [framer(), framer()],
            pipes: [ending.client().into_bytes().into(), VecDeque::new()],
            answers: ending.server(),
            server_sees: framer(),
            seen: Seen::default(),
        }
    }

    /// Some bytes of one side arrive.
    fn deliver(&mut self, side: usize, size: usize) {
        let size = size.min(self.pipes[side].len());
        let chunk: Vec<u8> = self.pipes[side].drain(..size).collect();
        self.framers[side].push(&chunk);
        while self.step(0) || self.step(1) {}
    }

    fn step(&mut self, side: usize) -> bool {
        let wanted = [self.login.wants_client(), self.login.wants_server()];
        if !wanted[side] {
            return false;
        }
        let Some(event) = self.framers[side].next_event().unwrap() else {
            return false;
        };
        let buffered = self.framers[side].buffered();
        self.login.handle(match side {
            0 => Input::Client { event, buffered },
            _ => Input::Server { event, buffered },
        });
        self.drain();
        true
    }

    fn drain(&mut self) {
        while let Some(output) = self.login.poll_output() {
            match output {
                Output::ToClient(bytes) => {
                    self.seen
                        .client
                        .push_str(std::str::from_utf8(&bytes).unwrap());
                }
                Output::ToServer(bytes) => self.server_gets(&bytes),
                Output::Dial { .. } => self.login.handle(Input::UplinkOpen),
                Output::RestartClient => self.framers[0].restart(),
                Output::RestartServer => {
                    self.framers[1].restart();
                    self.server_sees.restart();
                }
                Output::FindSession { .. } => {
                    self.login.handle(Input::SessionFound(self.ending.found()));
                }
                Output::BindRequested { .. } => {
                    let decision = self.ending.decision();
                    self.login.handle(Input::BindDecision(decision));
                }
                told => self.seen.shell.push(format!("{told:?}")),
            }
        }
    }

    fn server_gets(&mut self, bytes: &[u8]) {
        self.seen
            .server
            .push_str(std::str::from_utf8(bytes).unwrap());
        self.server_sees.push(bytes);
        while self.server_sees.next_event().unwrap().is_some() {
            let answer = self.answers.pop_front().unwrap_or_default();
            self.pipes[1].extend(answer.into_bytes());
        }
    }

    fn finish(mut self, chunks: &[(usize, usize)]) -> Seen {
        let mut chunks = chunks
            .iter()
            .copied()
            .chain([(0, 1), (1, 1)].into_iter().cycle());
        while self.pipes.iter().any(|pipe| !pipe.is_empty()) {
            let (side, size) = chunks.next().unwrap();
            self.deliver(side, size);
        }
        self.seen.left = self.framers.each_mut().map(|framer| {
            let buffer = framer.buffer();
            String::from_utf8(buffer.to_vec()).unwrap()
        });
        self.seen
    }
}

fn endings() -> impl Strategy<Value = Ending> {
    use Ending::*;
    select(vec![
        Bound,
        Attached,
        ResumedHeld,
        ResumedCut,
        Forgotten,
        Unknown,
        NotTheirs,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn b56_chunks_and_haste_make_no_difference(
        ending in endings(), chunks in vec((0_usize..2, 1_usize..200), 0..60),
    ) {
        // Each side at once, as soon as it has something.
        let whole = World::new(ending).finish(&[(0, 4096), (1, 4096)].repeat(16));
        prop_assert_eq!(&World::new(ending).finish(&chunks), &whole);
        if !matches!(ending, Ending::NotTheirs) {
            prop_assert_eq!(&whole.left, &[REST_OF_CLIENT, REST_OF_SERVER].map(str::to_owned));
        }
        let told = whole.shell.last().cloned().unwrap_or_default();
        let expected = match ending {
            Ending::Bound | Ending::Forgotten | Ending::Unknown => "Bound",
            Ending::Attached => "Attach",
            Ending::ResumedHeld | Ending::ResumedCut => "Resumed",
            Ending::NotTheirs => "Close",
        };
        prop_assert!(told.starts_with(expected), "{told}");
    }
}
