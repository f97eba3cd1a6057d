//! One client's way from an accepted connection to a bound session, with its uplink beside it.
//!
//! ```text
//! Greeting --header--> Dialing --UplinkOpen--> Opening --features--> Authenticating
//!                                                                          | <success/>
//!                     Binding <--features-- Opening <--header-- Restarting-+
//!                        | bind result           | the client resumes, or binds what is held
//!                        +--> Output::Bound      +--> Output::Resumed, Output::Attach
//! ```
//! What is possible from Binding on is told in `login/session.rs`.
//!
//! From each of them an error leads to `Output::Close`; from Authenticating and Binding the
//! client's end tag leads to Ending, which waits for the server's.

mod relay;
mod session;

use std::sync::Arc;

use mucplex_xml::{Event, Kind, StreamHeader};

pub use crate::interface::{
    Attach, Authenticated, BindDecision, Bound, DialFailure, DomainSettings, Found, Input,
    ListenerTls, Output, Resumed, Spare, UpstreamTls,
};
use crate::{
    client_role::{self, ClientRole, UplinkFault},
    credentials::Learnt,
    error::{Farewell, LoginError},
    header::StreamRequest,
    refusal::starttls_failure,
    sasl_relay::Exchange,
    server_role::{
        self, Accepted, AwaitSecuredHeader, ClientFault, ServerRole, starttls_features,
        starttls_proceed,
    },
    streams::Streams,
};
use session::Negotiation;

/// Requests of one client that the proxy refuses before it ends the stream. RFC 6120 6.4.5 asks
/// for two to five attempts.
const MAX_REFUSALS: u8 = 5;

/// Sans-io state machine: [`handle`](Self::handle) inputs, then
/// [`poll_output`](Self::poll_output) until `None`.
///
/// # Whose turn it is
/// What a client sends ahead (XEP-0305; session, roster and presence behind the bind request) has
/// to stay in its framer until the login can take it: before each event the shell asks
/// [`wants_client`](Self::wants_client), and [`wants_server`](Self::wants_server) for the other
/// side. While the answer is no, it takes no event from that framer. It may go on reading the
/// socket into the framer's buffer up to a bound of its own, so as to see EOF. The answers
/// change only by `handle`. When the login is over ([`Output::Bound`], [`Output::Resumed`],
/// [`Output::Attach`], [`Output::Close`]) both are no, and what is in the framers belongs to the
/// steady state.
#[derive(Debug)]
pub struct Login {
    domains: Arc<[DomainSettings]>,
    streams: Streams,
    phase: Phase,
    refusals: u8,
}

/// What a login and the session it leads to have in common.
#[derive(Debug)]
struct Subject {
    domain: usize,
    name: String,
}

#[derive(Debug)]
enum Phase {
    /// The client has no uplink yet.
    Greeting(ServerRole),
    /// The connection to the server is awaited.
    Dialing(Accepted),
    /// The server's header and features are awaited; before login, or after it.
    Opening {
        subject: Subject,
        uplink: ClientRole,
        login: Option<Authenticated>,
    },
    /// SASL, registration and whatever else a server allows before login.
    Authenticating {
        subject: Subject,
        exchange: Exchange,
        learnt: Option<Learnt>,
    },
    /// The client's header after login is awaited.
    Restarting {
        subject: Subject,
        login: Authenticated,
    },
    /// The client may bind, or resume.
    Binding {
        subject: Subject,
        login: Authenticated,
        negotiation: Negotiation,
    },
    /// The client has ended its stream; the server's end is awaited.
    Ending,
    /// Nothing more.
    Done,
}

impl Login {
    /// `stream_id`: unpredictable; ids of the streams that the proxy answers by itself (before
    /// STARTTLS, or to refuse) are made from it.
    #[must_use]
    pub fn new(domains: Arc<[DomainSettings]>, listener: ListenerTls, stream_id: String) -> Self {
        Self {
            domains,
            streams: Streams::new(stream_id),
            phase: Phase::Greeting(ServerRole::new(listener)),
            refusals: 0,
        }
    }

    /// Whether the next event of the client's framer is to be given now. No while TLS is set up,
    /// the uplink is dialed and opened, and the server owes an answer to SASL or to a bind
    /// request, or the shell one of its own. An event other than whitespace that is given regardless ends the login with
    /// `policy-violation`.
    #[must_use]
    pub const fn wants_client(&self) -> bool {
        match &self.phase {
            Phase::Greeting(role) => role.wants_client(),
            Phase::Authenticating { exchange, .. } => !exchange.awaits_server(),
            Phase::Binding { negotiation, .. } => negotiation.wants_client(),
            Phase::Restarting { .. } => true,
            Phase::Dialing(_) | Phase::Opening { .. } | Phase::Ending | Phase::Done => false,
        }
    }

    /// Whether the next event of the uplink's framer is to be given now. No before there is an
    /// uplink and during its TLS handshake. An event given regardless ends the login.
    #[must_use]
    pub const fn wants_server(&self) -> bool {
        match &self.phase {
            Phase::Opening { uplink, .. } => uplink.wants_server(),
            Phase::Authenticating { .. }
            | Phase::Restarting { .. }
            | Phase::Binding { .. }
            | Phase::Ending => true,
            Phase::Greeting(_) | Phase::Dialing(_) | Phase::Done => false,
        }
    }

    /// Takes one input. After [`Output::Bound`], [`Output::Resumed`], [`Output::Attach`] or
    /// [`Output::Close`] inputs are ignored.
    pub fn handle(&mut self, input: Input) {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Done => {}
            phase => match self.step(phase, input) {
                Ok(next) => self.phase = next,
                Err(error) => self.end(&error),
            },
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.streams.poll()
    }

    fn step(&mut self, phase: Phase, input: Input) -> Result<Phase, LoginError> {
        match input {
            Input::Client { event, buffered } => self.client_event(phase, &event, buffered),
            Input::Server { event, buffered } => self.server_event(phase, &event, buffered),
            Input::ClientSecured => Ok(match phase {
                Phase::Greeting(role) => Phase::Greeting(role.secured()),
                other => other,
            }),
            Input::UplinkOpen => Ok(self.uplink_open(phase)),
            Input::UplinkSecured => Ok(self.uplink_secured(phase)),
            Input::ClientFraming(error) => Err(LoginError::ClientFraming(error)),
            Input::ClientClosed => Err(LoginError::ClientGone),
            Input::ServerFraming(error) => Err(LoginError::ServerFraming(error)),
            Input::ServerClosed => match phase {
                Phase::Ending => Err(ClientFault::Ended.into()),
                _ => Err(LoginError::ServerGone),
            },
            Input::SessionFound(found) => self.session_found(phase, found),
            Input::BindDecision(decision) => Ok(self.bind_decided(phase, decision)),
            Input::UplinkFailed(DialFailure(reason)) => Err(LoginError::Dial(reason)),
            Input::Abort(condition, text) => Err(LoginError::Aborted(condition, text)),
        }
    }

    fn end(&mut self, error: &LoginError) {
        self.streams.end_client(error.to_client());
        self.streams.end_server(error.to_server());
        self.streams.push(Output::Close {
            reason: error.to_string(),
        });
    }

    // The client's side.

    fn client_event(
        &mut self,
        phase: Phase,
        event: &Event,
        buffered: usize,
    ) -> Result<Phase, LoginError> {
        match (phase, event) {
            // RFC 6120 4.6.1 has keepalives only where negotiation is over, 6.3.5 has none in
            // SASL: whitespace does not pass.
            (phase, Event::Whitespace(_)) => Ok(phase),
            (Phase::Greeting(role), event) => self.greet(role, event, buffered),
            (
                Phase::Authenticating {
                    subject,
                    exchange,
                    mut learnt,
                },
                Event::Frame(frame),
            ) if !exchange.awaits_server() => {
                let exchange = self.relay_before_login(exchange, &mut learnt, frame)?;
                Ok(Phase::Authenticating {
                    subject,
                    exchange,
                    learnt,
                })
            }
            (
                Phase::Binding {
                    subject,
                    login,
                    negotiation,
                },
                Event::Frame(frame),
            ) if negotiation.wants_client() => {
                let negotiation = self.client_negotiates(&login, negotiation, frame)?;
                Ok(Phase::Binding {
                    subject,
                    login,
                    negotiation,
                })
            }
            (Phase::Authenticating { .. } | Phase::Binding { .. }, Event::End) => {
                self.streams.end_server(Farewell::End);
                Ok(Phase::Ending)
            }
            (Phase::Restarting { subject, login }, Event::Header(header)) => {
                self.reopen(&subject, login, header)
            }
            (
                Phase::Authenticating { .. }
                | Phase::Binding { .. }
                | Phase::Restarting { .. }
                | Phase::Dialing(_)
                | Phase::Opening { .. }
                | Phase::Ending
                | Phase::Done,
                Event::Header(_) | Event::Frame(_) | Event::End,
            ) => Err(ClientFault::OutOfTurn.into()),
        }
    }

    fn greet(
        &mut self,
        role: ServerRole,
        event: &Event,
        buffered: usize,
    ) -> Result<Phase, LoginError> {
        if let Event::Header(header) = event {
            self.streams.client_asked(header, &self.domains);
        }
        let progress = match role.event(event, buffered, &self.domains) {
            Ok(progress) => progress,
            Err(fault) => {
                if fault == ClientFault::Injection {
                    self.streams.send_client(starttls_failure());
                }
                return Err(fault.into());
            }
        };
        match (progress, event) {
            (server_role::Progress::Wait(role), _) => Ok(Phase::Greeting(role)),
            (server_role::Progress::Offer(role), _) => {
                self.streams.own_header();
                self.streams.send_client(starttls_features());
                Ok(Phase::Greeting(role))
            }
            (server_role::Progress::Refuse(role, refusal), Event::Frame(frame)) => {
                self.refuse(refusal, frame)?;
                Ok(Phase::Greeting(role))
            }
            (server_role::Progress::Refuse(role, _), _) => Ok(Phase::Greeting(role)),
            (server_role::Progress::Secure(role, domain), _) => {
                self.streams.send_client(starttls_proceed());
                self.streams.secure_client(domain);
                Ok(Phase::Greeting(role))
            }
            (server_role::Progress::Accepted(accepted), _) => {
                self.streams.push(Output::Dial {
                    domain: accepted.domain,
                });
                Ok(Phase::Dialing(accepted))
            }
        }
    }

    /// RFC 6120 6.4.6: after login both streams begin anew.
    fn reopen(
        &mut self,
        subject: &Subject,
        mut login: Authenticated,
        header: &StreamHeader,
    ) -> Result<Phase, LoginError> {
        self.streams.client_asked(header, &self.domains);
        let accepted = AwaitSecuredHeader::again(subject.domain).header(header, &self.domains)?;
        let subject = Subject::of(accepted.domain, &accepted.request);
        login.domain = accepted.domain;
        login.client_lang.clone_from(&accepted.request.lang);
        login.content = accepted.request.content;
        let (uplink, header) = ClientRole::begin_again(accepted.request);
        self.streams.open_server(header);
        Ok(Phase::Opening {
            subject,
            uplink,
            login: Some(login),
        })
    }

    // The server's side.

    fn uplink_open(&mut self, phase: Phase) -> Phase {
        match phase {
            Phase::Dialing(Accepted { domain, request }) => {
                let settings = self.domains.get(domain);
                let tls = settings.map_or(UpstreamTls::StartTls, |settings| settings.upstream_tls);
                let subject = Subject::of(domain, &request);
                let (uplink, header) = ClientRole::begin(request, tls);
                self.streams.open_server(header);
                Phase::Opening {
                    subject,
                    uplink,
                    login: None,
                }
            }
            other => other,
        }
    }

    fn uplink_secured(&mut self, phase: Phase) -> Phase {
        match phase {
            Phase::Opening {
                subject,
                uplink,
                login,
            } => {
                let (uplink, header) = uplink.secured();
                if let Some(header) = header {
                    self.streams.open_server(header);
                }
                Phase::Opening {
                    subject,
                    uplink,
                    login,
                }
            }
            other => other,
        }
    }

    fn server_event(
        &mut self,
        phase: Phase,
        event: &Event,
        buffered: usize,
    ) -> Result<Phase, LoginError> {
        match (phase, event) {
            (phase, Event::Whitespace(_)) => Ok(phase),
            (Phase::Greeting(_) | Phase::Dialing(_) | Phase::Done, _) => {
                Err(UplinkFault::OutOfTurn.into())
            }
            (_, Event::Frame(frame)) if frame.kind() == Kind::StreamError => {
                Err(self.relay_stream_error(frame))
            }
            (
                Phase::Opening {
                    subject,
                    uplink,
                    login,
                },
                event,
            ) => self.opening(subject, uplink.event(event, buffered)?, login, event),
            (
                Phase::Authenticating {
                    subject,
                    exchange,
                    learnt,
                },
                Event::Frame(frame),
            ) => self.answer_before_login(subject, exchange, learnt, frame),
            (
                Phase::Binding {
                    subject,
                    login,
                    negotiation,
                },
                Event::Frame(frame),
            ) => self.server_negotiates(subject, login, negotiation, frame),
            (Phase::Ending, Event::Frame(frame)) => {
                self.relay_to_client(frame);
                Ok(Phase::Ending)
            }
            (Phase::Ending, Event::End) => Err(ClientFault::Ended.into()),
            (Phase::Authenticating { .. } | Phase::Binding { .. }, Event::End) => {
                Err(LoginError::ServerEnded)
            }
            // The client's next stream has no header yet that an end tag could answer.
            (Phase::Restarting { .. }, Event::End) => Err(LoginError::ServerGone),
            (Phase::Restarting { .. }, Event::Frame(_))
            | (
                Phase::Authenticating { .. }
                | Phase::Restarting { .. }
                | Phase::Binding { .. }
                | Phase::Ending,
                Event::Header(_),
            ) => Err(UplinkFault::OutOfTurn.into()),
        }
    }

    fn opening(
        &mut self,
        subject: Subject,
        progress: client_role::Progress,
        login: Option<Authenticated>,
        event: &Event,
    ) -> Result<Phase, LoginError> {
        let uplink = match progress {
            client_role::Progress::Wait(uplink) => uplink,
            client_role::Progress::Send(uplink, bytes) => {
                self.streams.send_server(bytes);
                uplink
            }
            client_role::Progress::Secure(uplink) => {
                self.streams.secure_uplink();
                uplink
            }
            client_role::Progress::Opened(uplink) => {
                if let Event::Header(header) = event {
                    self.streams.relay_header(header);
                }
                uplink
            }
            client_role::Progress::Ready => {
                return Ok(match login {
                    Some(login) => Phase::Binding {
                        subject,
                        login: self.offer_session(login, event),
                        negotiation: Negotiation::default(),
                    },
                    None => {
                        self.offer_login(event);
                        Phase::Authenticating {
                            subject,
                            exchange: Exchange::Idle,
                            learnt: None,
                        }
                    }
                });
            }
        };
        Ok(Phase::Opening {
            subject,
            uplink,
            login,
        })
    }
}

impl Subject {
    fn of(domain: usize, request: &StreamRequest) -> Self {
        Self {
            domain,
            name: request.domain.clone(),
        }
    }
}
