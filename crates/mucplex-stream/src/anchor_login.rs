//! The login of an uplink that has no client: an account's anchor. Sans-io, and driven as
//! [`Login`](crate::Login) is.
//!
//! ```text
//! Dialing --> Opening --features--> Authenticating --<success/>--> Opening --features--+
//!                                                                                      |
//!     Established <--<resumed/>-- Resuming <--------- Goal::Resume --------------------+
//!                                    | <failed/>                                       |
//!     Established <-- Enabling <-- Binding <--------- Goal::Bind ----------------------+
//! ```
//! From each of them an error leads to [`Output::Failed`]; [`AnchorError::failure`] says whether
//! the credentials are of any use after that.

mod error;
mod interface;
mod sasl;

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use jid::FullJid;
use mucplex_xml::{Event, Frame, Kind};

use self::sasl::{Exchange, Step};
pub use self::{
    error::{AnchorError, Failure},
    interface::{Established, Goal, Input, Output},
};
use crate::{
    Credentials, DialFailure, DomainSettings, StreamRequest,
    bind::{self, Answer, Bind},
    client_role::{self, ClientRole, UplinkFault},
    conditions,
    error::Farewell,
    features,
    header::stream_end,
    ns,
    sasl_relay::SaslElement,
    scram::ScramKeys,
    server_role::stream_error_name,
    sm::{Count, Nonza, SmState, is_counted},
};

/// Stanzas a server may send before stream management is on. An uplink that is not available gets
/// few, and this login takes no longer than a round trip.
const MAX_EARLY: usize = 256;

/// Id of the request to bind: the only one on its stream.
const BIND_ID: &str = "bind";

/// Sans-io state machine: [`handle`](Self::handle) inputs, then
/// [`poll_output`](Self::poll_output) until `None`. Before each event of the framer the shell asks
/// [`wants_server`](Self::wants_server).
pub struct AnchorLogin {
    settings: DomainSettings,
    goal: Goal,
    nonce: [u8; 24],
    outputs: VecDeque<Output>,
    phase: Phase,
    /// Whether our stream header is out, and no end.
    is_open: bool,
    early: Vec<Frame>,
}

#[derive(Debug)]
enum Phase {
    Dialing(Credentials),
    /// The server's header and features are awaited.
    Opening(ClientRole, Then),
    Authenticating(Exchange),
    Resuming(Session),
    Binding(Session, Bind),
    /// The answer to `<enable/>` is awaited.
    Enabling(Session, FullJid),
    Done,
}

/// What the features are for.
#[derive(Debug)]
enum Then {
    LogIn(Credentials),
    Begin(Option<ScramKeys>),
}

/// What is known after SASL.
#[derive(Debug)]
struct Session {
    keys: Option<ScramKeys>,
    server_sm: bool,
    former_h: Option<Count>,
}

impl fmt::Debug for AnchorLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnchorLogin")
            .field("domain", &self.settings.name)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl AnchorLogin {
    /// `nonce`: unpredictable, used once.
    #[must_use]
    pub fn new(
        settings: DomainSettings,
        credentials: Credentials,
        goal: Goal,
        nonce: [u8; 24],
    ) -> Self {
        Self {
            settings,
            goal,
            nonce,
            outputs: VecDeque::from([Output::Dial]),
            phase: Phase::Dialing(credentials),
            is_open: false,
            early: Vec::new(),
        }
    }

    /// Whether the next event of the framer is to be given now. An event given regardless, other
    /// than whitespace, ends the login.
    #[must_use]
    pub const fn wants_server(&self) -> bool {
        match &self.phase {
            Phase::Opening(role, _) => role.wants_server(),
            Phase::Authenticating(exchange) => exchange.awaits_server(),
            Phase::Resuming(_) | Phase::Binding(..) | Phase::Enabling(..) => true,
            Phase::Dialing(_) | Phase::Done => false,
        }
    }

    /// Takes one input. After [`Output::Established`] or [`Output::Failed`] inputs are ignored.
    pub fn handle(&mut self, input: Input) {
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        if matches!(phase, Phase::Done) {
            return;
        }
        let authenticating = matches!(phase, Phase::Authenticating(_));
        match self.step(phase, input) {
            Ok(next) => self.phase = next,
            Err(error) => self.fail(error, authenticating),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn step(&mut self, phase: Phase, input: Input) -> Result<Phase, AnchorError> {
        match input {
            Input::UplinkOpen => Ok(self.uplink_open(phase)),
            Input::UplinkSecured => Ok(self.uplink_secured(phase)),
            Input::Derived(keys) => match phase {
                Phase::Authenticating(exchange) => self.derived(exchange, keys),
                other => Ok(other),
            },
            Input::Server { event, buffered } => self.server(phase, &event, buffered),
            Input::UplinkFailed(DialFailure(reason)) => Err(AnchorError::Dial(reason)),
            Input::ServerFraming(error) => Err(AnchorError::ServerFraming(error)),
            Input::ServerClosed => Err(AnchorError::ServerGone),
            Input::Abort(condition, text) => Err(AnchorError::Aborted(condition, text)),
        }
    }

    fn fail(&mut self, error: AnchorError, authenticating: bool) {
        if self.is_open {
            // RFC 6120 6.4.4: the server need not wait for what will not come.
            if authenticating && matches!(error, AnchorError::Scram(_) | AnchorError::Challenged) {
                self.send(sasl::abort());
            }
            match error.to_server() {
                Farewell::Silence => {}
                Farewell::End => self.send(stream_end()),
                Farewell::Error(condition, text) => {
                    self.send(condition.to_xml(text));
                    self.send(stream_end());
                }
            }
        }
        self.is_open = false;
        self.outputs.push_back(Output::Failed(error));
    }

    fn send(&mut self, bytes: Bytes) {
        self.outputs.push_back(Output::ToServer(bytes));
    }

    /// A stream header of ours.
    fn open(&mut self, header: Bytes) {
        self.is_open = true;
        self.send(header);
    }

    fn uplink_open(&mut self, phase: Phase) -> Phase {
        let Phase::Dialing(credentials) = phase else {
            return phase;
        };
        let request = StreamRequest::new(&self.settings.name);
        let (role, header) = ClientRole::begin(request, self.settings.upstream_tls);
        self.open(header);
        Phase::Opening(role, Then::LogIn(credentials))
    }

    fn uplink_secured(&mut self, phase: Phase) -> Phase {
        let Phase::Opening(role, then) = phase else {
            return phase;
        };
        let (role, header) = role.secured();
        if let Some(header) = header {
            self.open(header);
        }
        Phase::Opening(role, then)
    }

    fn server(
        &mut self,
        phase: Phase,
        event: &Event,
        buffered: usize,
    ) -> Result<Phase, AnchorError> {
        let frame = match (&phase, event) {
            (_, Event::Whitespace(_)) => return Ok(phase),
            (Phase::Opening(..), Event::Header(_)) => None,
            (_, Event::Header(_)) => return Err(UplinkFault::OutOfTurn.into()),
            (_, Event::End) => return Err(AnchorError::ServerEnded),
            (_, Event::Frame(frame)) if frame.kind() == Kind::StreamError => {
                return Err(AnchorError::ServerStreamError(stream_error_name(frame)));
            }
            (_, Event::Frame(frame)) => Some(frame),
        };
        match (phase, frame) {
            (Phase::Opening(role, then), _) => {
                let progress = role.event(event, buffered)?;
                self.opening(progress, then, event)
            }
            (Phase::Authenticating(exchange), Some(frame)) if exchange.awaits_server() => {
                match SaslElement::of(frame) {
                    Some(element) => {
                        let step = exchange.server(element, frame)?;
                        Ok(self.authenticating(step))
                    }
                    None => Ok(Phase::Authenticating(exchange)),
                }
            }
            (Phase::Resuming(session), Some(frame)) => self.resuming(session, frame),
            (Phase::Binding(session, bind), Some(frame)) => self.binding(session, bind, frame),
            (Phase::Enabling(session, jid), Some(frame)) => self.enabling(session, jid, frame),
            (Phase::Dialing(_) | Phase::Authenticating(_) | Phase::Done, _)
            | (Phase::Resuming(_) | Phase::Binding(..) | Phase::Enabling(..), None) => {
                Err(UplinkFault::OutOfTurn.into())
            }
        }
    }

    fn opening(
        &mut self,
        progress: client_role::Progress,
        then: Then,
        event: &Event,
    ) -> Result<Phase, AnchorError> {
        let role = match progress {
            client_role::Progress::Wait(role) | client_role::Progress::Opened(role) => role,
            client_role::Progress::Send(role, bytes) => {
                self.send(bytes);
                role
            }
            client_role::Progress::Secure(role) => {
                self.is_open = false;
                self.outputs.push_back(Output::SecureUplink);
                role
            }
            client_role::Progress::Ready => {
                let Event::Frame(features) = event else {
                    return Err(UplinkFault::Unexpected.into());
                };
                return match then {
                    Then::LogIn(credentials) => self.log_in(credentials, features),
                    Then::Begin(keys) => Ok(self.begin(keys, features)),
                };
            }
        };
        Ok(Phase::Opening(role, then))
    }

    fn log_in(&mut self, credentials: Credentials, features: &Frame) -> Result<Phase, AnchorError> {
        let offered = features::mechanisms(features);
        let (exchange, auth) = Exchange::begin(credentials, &offered, &self.nonce)?;
        self.send(auth);
        Ok(Phase::Authenticating(exchange))
    }

    fn derived(&mut self, exchange: Exchange, keys: ScramKeys) -> Result<Phase, AnchorError> {
        if exchange.awaits_server() {
            return Ok(Phase::Authenticating(exchange));
        }
        let step = exchange.derived(keys)?;
        Ok(self.authenticating(step))
    }

    fn authenticating(&mut self, step: Step) -> Phase {
        match step {
            Step::Send(exchange, bytes) => {
                self.send(bytes);
                Phase::Authenticating(exchange)
            }
            Step::Derive(exchange, derivation) => {
                self.outputs.push_back(Output::Derive(derivation));
                Phase::Authenticating(exchange)
            }
            Step::Done(keys) => {
                self.outputs.push_back(Output::RestartServer);
                let request = StreamRequest::new(&self.settings.name);
                let (role, header) = ClientRole::begin_again(request);
                self.open(header);
                Phase::Opening(role, Then::Begin(keys))
            }
        }
    }

    fn begin(&mut self, keys: Option<ScramKeys>, features: &Frame) -> Phase {
        let session = Session {
            keys,
            server_sm: features::offers_sm(features),
            former_h: None,
        };
        match &self.goal {
            Goal::Resume { sm, h, .. } if session.server_sm => {
                let resume = Nonza::Resume {
                    previd: sm.id.clone(),
                    h: *h,
                };
                self.send(resume.to_bytes());
                Phase::Resuming(session)
            }
            Goal::Resume { .. } | Goal::Bind { .. } => self.bind(session),
        }
    }

    fn resuming(&mut self, session: Session, frame: &Frame) -> Result<Phase, AnchorError> {
        match Nonza::read(frame).transpose()? {
            Some(Nonza::Resumed { h, .. }) => match &self.goal {
                Goal::Resume { sm, jid, .. } => {
                    let (sm, jid) = (sm.clone(), jid.clone());
                    Ok(self.established(session, jid, Some(h), true, Some(sm)))
                }
                Goal::Bind { .. } => Err(UplinkFault::Unexpected.into()),
            },
            Some(Nonza::Failed { h, .. }) => Ok(self.bind(Session {
                former_h: h,
                ..session
            })),
            Some(_) | None => {
                self.keep(frame)?;
                Ok(Phase::Resuming(session))
            }
        }
    }

    fn bind(&mut self, session: Session) -> Phase {
        let resource = match &self.goal {
            Goal::Bind { resource } => resource,
            Goal::Resume { jid, .. } => jid.resource().as_str(),
        };
        self.send(bind::request(BIND_ID, Some(resource)));
        Phase::Binding(session, Bind::requested_as(BIND_ID))
    }

    fn binding(
        &mut self,
        session: Session,
        bind: Bind,
        frame: &Frame,
    ) -> Result<Phase, AnchorError> {
        match bind.server(frame, &self.settings.name)? {
            Answer::Unbound(Bind::Idle) => {
                let error = frame.root().child("error", ns::CLIENT);
                let condition = error.as_ref().and_then(conditions::of_stanza);
                Err(AnchorError::NotBound(condition.unwrap_or("no condition")))
            }
            Answer::Unbound(bind) => {
                self.keep(frame)?;
                Ok(Phase::Binding(session, bind))
            }
            Answer::Bound(jid) if session.server_sm => {
                let enable = Nonza::Enable {
                    resume: true,
                    max: None,
                };
                self.send(enable.to_bytes());
                Ok(Phase::Enabling(session, jid))
            }
            Answer::Bound(jid) => Ok(self.established(session, jid, None, false, None)),
        }
    }

    fn enabling(
        &mut self,
        session: Session,
        jid: FullJid,
        frame: &Frame,
    ) -> Result<Phase, AnchorError> {
        match Nonza::read(frame).transpose()? {
            Some(enabled @ Nonza::Enabled { .. }) => {
                let sm = enabled.into_state();
                Ok(self.established(session, jid, None, true, sm))
            }
            // Without it, then.
            Some(Nonza::Failed { .. }) => Ok(self.established(session, jid, None, false, None)),
            Some(_) | None => {
                self.keep(frame)?;
                Ok(Phase::Enabling(session, jid))
            }
        }
    }

    /// What is no answer, but may not be lost.
    fn keep(&mut self, frame: &Frame) -> Result<(), AnchorError> {
        if !is_counted(frame) {
            return Ok(());
        }
        if self.early.len() == MAX_EARLY {
            return Err(AnchorError::Flooded);
        }
        self.early.push(frame.clone());
        Ok(())
    }

    fn established(
        &mut self,
        session: Session,
        jid: FullJid,
        resumed: Option<Count>,
        sm_enabled: bool,
        sm: Option<SmState>,
    ) -> Phase {
        self.outputs.push_back(Output::Established(Established {
            jid,
            resumed,
            former_h: session.former_h,
            sm_enabled,
            sm,
            keys: session.keys,
            early: std::mem::take(&mut self.early),
        }));
        Phase::Done
    }
}
