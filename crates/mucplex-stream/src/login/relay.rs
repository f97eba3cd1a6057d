//! What passes between client and server from the first features to the last.

use mucplex_xml::{Event, Frame, Kind};

use super::{Authenticated, Login, MAX_REFUSALS, Phase, Subject};
use crate::{
    ContentNamespace,
    credentials::Learnt,
    error::LoginError,
    features, ns,
    refusal::{ClientFrame, Refusal, starttls_failure},
    sasl_relay::{self, Exchange, SaslElement, Verdict},
    server_role::{ClientFault, stream_error_name},
};

/// From the client.
impl Login {
    pub(super) fn relay_before_login(
        &mut self,
        exchange: Exchange,
        learnt: &mut Option<Learnt>,
        frame: &Frame,
    ) -> Result<Exchange, LoginError> {
        match ClientFrame::of(frame) {
            ClientFrame::Sasl(element) => {
                learn(learnt, element, frame);
                self.streams.send_server(frame.bytes().clone());
                Ok(exchange.client(element, frame))
            }
            ClientFrame::Plain => {
                self.streams.send_server(frame.bytes().clone());
                Ok(exchange)
            }
            ClientFrame::Bind => {
                self.refuse(Refusal::BindBeforeLogin, frame)?;
                Ok(exchange)
            }
            ClientFrame::Resume => {
                self.refuse(Refusal::StreamManagement, frame)?;
                Ok(exchange)
            }
            ClientFrame::Refuse(refusal) => {
                self.refuse(refusal, frame)?;
                Ok(exchange)
            }
            ClientFrame::StartTls => Err(self.starttls_again()),
            ClientFrame::StreamError => {
                Err(ClientFault::StreamError(stream_error_name(frame)).into())
            }
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, frame: &Frame) -> Result<(), LoginError> {
        self.count_refusal()?;
        self.streams.send_client(refusal.answer(frame));
        Ok(())
    }

    pub(super) fn count_refusal(&mut self) -> Result<(), LoginError> {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > MAX_REFUSALS {
            return Err(ClientFault::TooManyRefusals.into());
        }
        Ok(())
    }

    pub(super) fn starttls_again(&mut self) -> LoginError {
        self.streams.send_client(starttls_failure());
        ClientFault::AlreadySecured.into()
    }
}

/// From the server.
impl Login {
    pub(super) fn answer_before_login(
        &mut self,
        subject: Subject,
        exchange: Exchange,
        learnt: Option<Learnt>,
        frame: &Frame,
    ) -> Result<Phase, LoginError> {
        let verdict = match SaslElement::of(frame) {
            Some(element) => exchange.server(element)?,
            None => Verdict::Pending(exchange),
        };
        match verdict {
            Verdict::Pending(exchange) => {
                self.relay_to_client(frame);
                Ok(Phase::Authenticating {
                    subject,
                    exchange,
                    learnt,
                })
            }
            Verdict::Authenticated { mechanism } => {
                self.streams.restart_server();
                self.relay_to_client(frame);
                self.streams.restart_client();
                let login = authenticated(subject.domain, mechanism, learnt);
                Ok(Phase::Restarting { subject, login })
            }
        }
    }

    /// The features before login, if that is what the event is.
    pub(super) fn offer_login(&mut self, event: &Event) {
        if let Event::Frame(features) = event {
            self.relay_to_client(features);
        }
    }

    /// The features after login, if that is what the event is.
    pub(super) fn offer_session(
        &mut self,
        mut login: Authenticated,
        event: &Event,
    ) -> Authenticated {
        if let Event::Frame(features) = event {
            login.server_csi = features::offers_csi(features);
            login.server_sm = features::offers_sm(features);
            let bytes = features::for_client_after_login(features);
            self.streams.send_client(bytes);
        }
        login
    }

    /// Features as the client may see them, everything else as it is, but for the server's stream
    /// management: it is between the two of them, as the client's is between it and the proxy.
    pub(super) fn relay_to_client(&mut self, frame: &Frame) {
        let bytes = match frame.kind() {
            Kind::StreamFeatures => features::for_client(frame),
            Kind::Nonza if frame.ns().starts_with(ns::STREAM_MANAGEMENT_ANY) => return,
            Kind::Message | Kind::Presence | Kind::Iq | Kind::StreamError | Kind::Nonza => {
                frame.bytes().clone()
            }
        };
        self.streams.send_client(bytes);
    }

    /// The server's own words, behind a header of ours if the client has none.
    pub(super) fn relay_stream_error(&mut self, error: &Frame) -> LoginError {
        if self.streams.client_has_header() {
            self.streams.send_client(error.bytes().clone());
        } else {
            self.streams.own_header();
            self.streams.send_client(error.portable().bytes().clone());
        }
        LoginError::ServerStreamError(stream_error_name(error))
    }
}

/// Looks at the client's part of an exchange, for what the login can tell of it at its end.
fn learn(learnt: &mut Option<Learnt>, element: SaslElement, frame: &Frame) {
    match element {
        SaslElement::Auth => *learnt = Some(Learnt::begin(sasl_relay::mechanism(frame), frame)),
        SaslElement::Response => {
            if let Some(learnt) = learnt {
                learnt.message(frame);
            }
        }
        SaslElement::Abort => *learnt = None,
        SaslElement::Challenge | SaslElement::Success | SaslElement::Failure => {}
    }
}

/// What is known at the end of SASL; the rest is told by the header and the features that follow.
fn authenticated(domain: usize, mechanism: String, learnt: Option<Learnt>) -> Authenticated {
    let learnt = learnt.filter(|learnt| learnt.mechanism == mechanism);
    let (credentials, username_hint) = learnt.map_or((None, None), Learnt::into_parts);
    Authenticated {
        domain,
        mechanism,
        credentials,
        username_hint,
        client_lang: None,
        content: ContentNamespace::Default,
        server_csi: false,
        server_sm: false,
    }
}
