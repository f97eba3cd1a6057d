//! From the features after login to a session: a new one, or one the client had.
//!
//! ```text
//! Open --bind--> Deciding --Pass---> Open, the server's turn --result--> Output::Bound
//!  |                  +-----Proxy--> Own --result--> Output::Attach
//!  +-<resume/>-> Finding --Unknown-> Open
//!                     +----Held----> Own --result--> Output::Resumed, with a spare uplink
//!                     +----Cut-----> Resuming --<resumed/>--> Output::Resumed
//! ```
//! What the server refuses leads back to Open: with `<failed/>` for a `<resume/>`, and with the
//! client's own request passed on for a bind, as the stream is still unbound then.
//!
//! Who is it that resumes, or asks for a resource that is held? SASL tells the proxy no account
//! for certain; the JID does that the server binds a request of the proxy's as. Where that is
//! another account than the shell has named, it is too late for the client's own request:
//! - a client that has resumed knew the id of somebody else's session. Its stream ends with
//!   `not-authorized`.
//! - a client that binds has said nothing wrong; the hint about it was. It gets the session that
//!   is bound, under the proxy's resource: RFC 6120 7.7.2.2 lets a server choose another than was
//!   asked for. (An error would meet it again at each try.)

use std::fmt;

use jid::{BareJid, FullJid};
use mucplex_xml::Frame;

use super::{
    Attach, Authenticated, BindDecision, Bound, Found, Login, Output, Phase, Resumed, Spare,
    Subject,
};
use crate::{
    bind::{self, Answer, Bind},
    error::LoginError,
    refusal::{ClientFrame, Refusal},
    sasl_relay::{SaslElement, Unasked},
    server_role::{ClientFault, stream_error_name},
    sm::{Count, Nonza},
};

/// Where binding and resumption are.
pub(super) enum Negotiation {
    /// The client's turn, or the server's if it has been asked to bind.
    Open(Bind),
    /// The shell looks for a session.
    Finding,
    /// The shell decides about this request to bind.
    Deciding(Frame),
    /// The proxy has asked to bind.
    Own(OwnBind),
    /// The server has been asked to resume.
    Resuming {
        /// For the client, should that fail.
        client_h: Option<Count>,
    },
}

/// A request of the proxy's to bind.
pub(super) struct OwnBind {
    bind: Bind,
    /// Who the client has to be.
    account: BareJid,
    purpose: Purpose,
}

enum Purpose {
    /// The client resumes.
    Resume,
    /// The client asks for a resource that is held, by this request.
    Attach(Frame),
}

impl fmt::Debug for Negotiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Finding => "Finding",
            Self::Deciding(_) => "Deciding",
            Self::Own(_) => "Own",
            Self::Resuming { .. } => "Resuming",
        })
    }
}

impl Default for Negotiation {
    fn default() -> Self {
        Self::Open(Bind::Idle)
    }
}

impl Negotiation {
    pub(super) const fn wants_client(&self) -> bool {
        match self {
            Self::Open(bind) => !bind.awaits_server(),
            Self::Finding | Self::Deciding(_) | Self::Own(_) | Self::Resuming { .. } => false,
        }
    }
}

/// The client.
impl Login {
    pub(super) fn client_negotiates(
        &mut self,
        login: &Authenticated,
        negotiation: Negotiation,
        frame: &Frame,
    ) -> Result<Negotiation, LoginError> {
        match ClientFrame::of(frame) {
            ClientFrame::Bind => {
                self.streams.push(Output::BindRequested {
                    resource: bind::requested_resource(frame),
                    username_hint: login.username_hint.clone(),
                });
                Ok(Negotiation::Deciding(frame.clone()))
            }
            ClientFrame::Resume => self.resume_asked(frame),
            ClientFrame::Plain => {
                self.streams.send_server(frame.bytes().clone());
                Ok(negotiation)
            }
            ClientFrame::Sasl(_) | ClientFrame::Refuse(Refusal::ChannelBinding) => {
                Err(ClientFault::Reauthentication.into())
            }
            ClientFrame::Refuse(refusal) => {
                self.refuse(refusal, frame)?;
                Ok(negotiation)
            }
            ClientFrame::StartTls => Err(self.starttls_again()),
            ClientFrame::StreamError => {
                Err(ClientFault::StreamError(stream_error_name(frame)).into())
            }
        }
    }

    fn resume_asked(&mut self, frame: &Frame) -> Result<Negotiation, LoginError> {
        if let Some(Ok(Nonza::Resume { previd, h })) = Nonza::read(frame) {
            self.streams.push(Output::FindSession { previd, h });
            Ok(Negotiation::Finding)
        } else {
            self.refuse(Refusal::BadResume, frame)?;
            Ok(Negotiation::default())
        }
    }

    /// XEP-0198 5: the client may bind after that.
    fn fail_resumption(&mut self, h: Option<Count>) -> Result<Negotiation, LoginError> {
        self.count_refusal()?;
        let condition = Some("item-not-found");
        let failed = Nonza::Failed { h, condition };
        self.streams.send_client(failed.to_bytes());
        Ok(Negotiation::default())
    }
}

/// The shell. An answer that nobody waits for changes nothing.
impl Login {
    pub(super) fn session_found(
        &mut self,
        phase: Phase,
        found: Found,
    ) -> Result<Phase, LoginError> {
        let Phase::Binding {
            subject,
            login,
            negotiation: Negotiation::Finding,
        } = phase
        else {
            return Ok(phase);
        };
        let negotiation = match found {
            Found::Unknown { h } => self.fail_resumption(h)?,
            Found::Held { account, resource } => {
                self.bind_ourselves(&resource, account, Purpose::Resume)
            }
            Found::Cut {
                previd,
                h,
                client_h,
            } => {
                let resume = Nonza::Resume { previd, h };
                self.streams.send_server(resume.to_bytes());
                Negotiation::Resuming { client_h }
            }
        };
        Ok(Phase::Binding {
            subject,
            login,
            negotiation,
        })
    }

    pub(super) fn bind_decided(&mut self, phase: Phase, decision: BindDecision) -> Phase {
        let Phase::Binding {
            subject,
            login,
            negotiation: Negotiation::Deciding(request),
        } = phase
        else {
            return phase;
        };
        let negotiation = match decision {
            BindDecision::Pass => self.pass_request(&request),
            BindDecision::Proxy { resource, account } => {
                self.bind_ourselves(&resource, account, Purpose::Attach(request))
            }
        };
        Phase::Binding {
            subject,
            login,
            negotiation,
        }
    }

    fn pass_request(&mut self, request: &Frame) -> Negotiation {
        self.streams.send_server(request.bytes().clone());
        Negotiation::Open(Bind::requested(request))
    }

    fn bind_ourselves(
        &mut self,
        resource: &str,
        account: BareJid,
        purpose: Purpose,
    ) -> Negotiation {
        let id = self.streams.request_id();
        self.streams.send_server(bind::request(&id, Some(resource)));
        Negotiation::Own(OwnBind {
            bind: Bind::requested_as(&id),
            account,
            purpose,
        })
    }
}

/// The server.
impl Login {
    pub(super) fn server_negotiates(
        &mut self,
        subject: Subject,
        login: Authenticated,
        negotiation: Negotiation,
        frame: &Frame,
    ) -> Result<Phase, LoginError> {
        if SaslElement::of(frame).is_some() {
            return Err(Unasked.into());
        }
        let negotiation = match negotiation {
            Negotiation::Open(bind) => match bind.server(frame, &subject.name)? {
                Answer::Bound(jid) => {
                    self.relay_to_client(frame);
                    return Ok(self.over(Output::Bound(Bound { jid, login })));
                }
                Answer::Unbound(bind) => {
                    self.relay_to_client(frame);
                    Negotiation::Open(bind)
                }
            },
            waiting @ (Negotiation::Finding | Negotiation::Deciding(_)) => {
                self.relay_unbound(&subject, frame)?;
                waiting
            }
            Negotiation::Own(own) => match own.bind.server(frame, &subject.name)? {
                Answer::Bound(jid) => {
                    return self.own_bound(login, &own.account, own.purpose, jid);
                }
                Answer::Unbound(bind @ Bind::Outstanding { .. }) => {
                    self.relay_to_client(frame);
                    Negotiation::Own(OwnBind { bind, ..own })
                }
                Answer::Unbound(Bind::Idle) => match own.purpose {
                    Purpose::Resume => self.fail_resumption(None)?,
                    Purpose::Attach(request) => self.pass_request(&request),
                },
            },
            Negotiation::Resuming { client_h } => match Nonza::read(frame).transpose()? {
                Some(Nonza::Resumed { h, .. }) => return Ok(self.resumed(login, Some(h), None)),
                Some(Nonza::Failed { h: server_h, .. }) => {
                    self.streams.push(Output::SessionGone { server_h });
                    self.fail_resumption(client_h)?
                }
                // Before <resumed/> it can mean nothing.
                Some(_) => Negotiation::Resuming { client_h },
                None => {
                    self.relay_unbound(&subject, frame)?;
                    Negotiation::Resuming { client_h }
                }
            },
        };
        Ok(Phase::Binding {
            subject,
            login,
            negotiation,
        })
    }

    /// A frame that answers no request to bind.
    fn relay_unbound(&mut self, subject: &Subject, frame: &Frame) -> Result<(), LoginError> {
        Bind::Idle.server(frame, &subject.name)?;
        self.relay_to_client(frame);
        Ok(())
    }

    fn own_bound(
        &mut self,
        login: Authenticated,
        account: &BareJid,
        purpose: Purpose,
        jid: FullJid,
    ) -> Result<Phase, LoginError> {
        let is_theirs = jid.to_bare() == *account;
        let output = match (purpose, is_theirs) {
            (Purpose::Resume, false) => return Err(LoginError::NotTheirs),
            (Purpose::Resume, true) => return Ok(self.resumed(login, None, Some(Spare { jid }))),
            (Purpose::Attach(request), true) => Output::Attach(Attach {
                login,
                request_id: request.id().map(Into::into),
                spare: Spare { jid },
            }),
            (Purpose::Attach(request), false) => {
                let result = bind::result(request.id().as_deref(), &jid);
                self.streams.send_client(result);
                Output::Bound(Bound { jid, login })
            }
        };
        Ok(self.over(output))
    }

    fn resumed(
        &mut self,
        login: Authenticated,
        server_h: Option<Count>,
        spare: Option<Spare>,
    ) -> Phase {
        self.over(Output::Resumed(Resumed {
            login,
            server_h,
            spare,
        }))
    }

    fn over(&mut self, output: Output) -> Phase {
        self.streams.push(output);
        Phase::Done
    }
}
