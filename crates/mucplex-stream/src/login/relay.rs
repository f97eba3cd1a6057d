//! What passes between client and server from the first features to the bound session.

use mucplex_xml::{Event, Frame, Kind};

use super::{Authenticated, Bound, Login, MAX_REFUSALS, Output, Phase, Subject};
use crate::{
    bind::{Answer, Bind},
    error::LoginError,
    features,
    refusal::{ClientFrame, Refusal, starttls_failure},
    sasl_relay::{Exchange, SaslElement, Unasked, Verdict},
    server_role::{ClientFault, stream_error_name},
};

/// From the client.
impl Login {
    pub(super) fn relay_before_login(
        &mut self,
        exchange: Exchange,
        frame: &Frame,
    ) -> Result<Exchange, LoginError> {
        match ClientFrame::of(frame) {
            ClientFrame::Sasl(element) => {
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

    pub(super) fn relay_before_session(
        &mut self,
        bind: Bind,
        frame: &Frame,
    ) -> Result<Bind, LoginError> {
        match ClientFrame::of(frame) {
            ClientFrame::Bind => {
                self.streams.send_server(frame.bytes().clone());
                Ok(Bind::requested(frame))
            }
            ClientFrame::Plain => {
                self.streams.send_server(frame.bytes().clone());
                Ok(bind)
            }
            ClientFrame::Sasl(_) | ClientFrame::Refuse(Refusal::ChannelBinding) => {
                Err(ClientFault::Reauthentication.into())
            }
            ClientFrame::Refuse(refusal) => {
                self.refuse(refusal, frame)?;
                Ok(bind)
            }
            ClientFrame::StartTls => Err(self.starttls_again()),
            ClientFrame::StreamError => {
                Err(ClientFault::StreamError(stream_error_name(frame)).into())
            }
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, frame: &Frame) -> Result<(), LoginError> {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > MAX_REFUSALS {
            return Err(ClientFault::TooManyRefusals.into());
        }
        self.streams.send_client(refusal.answer(frame));
        Ok(())
    }

    fn starttls_again(&mut self) -> LoginError {
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
        frame: &Frame,
    ) -> Result<Phase, LoginError> {
        let Some(element) = SaslElement::of(frame) else {
            self.relay_to_client(frame);
            return Ok(Phase::Authenticating { subject, exchange });
        };
        match exchange.server(element)? {
            Verdict::Pending(exchange) => {
                self.relay_to_client(frame);
                Ok(Phase::Authenticating { subject, exchange })
            }
            Verdict::Authenticated { mechanism } => {
                self.streams.restart_server();
                self.relay_to_client(frame);
                self.streams.restart_client();
                Ok(Phase::Restarting { subject, mechanism })
            }
        }
    }

    pub(super) fn answer_before_session(
        &mut self,
        subject: Subject,
        login: Authenticated,
        bind: Bind,
        frame: &Frame,
    ) -> Result<Phase, LoginError> {
        if SaslElement::of(frame).is_some() {
            return Err(Unasked.into());
        }
        match bind.server(frame, &subject.name)? {
            Answer::Unbound(bind) => {
                self.relay_to_client(frame);
                Ok(Phase::Binding {
                    subject,
                    login,
                    bind,
                })
            }
            Answer::Bound(jid) => {
                self.relay_to_client(frame);
                let Authenticated {
                    mechanism,
                    client_lang,
                    content,
                    server_csi,
                } = login;
                let domain = subject.domain;
                let bound = Bound {
                    jid,
                    domain,
                    mechanism,
                    client_lang,
                    content,
                    server_csi,
                };
                self.streams.push(Output::Bound(bound));
                Ok(Phase::Done)
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
            let bytes = features::for_client_after_login(features);
            self.streams.send_client(bytes);
        }
        login
    }

    /// Features as the client may see them, everything else as it is.
    pub(super) fn relay_to_client(&mut self, frame: &Frame) {
        let bytes = match frame.kind() {
            Kind::StreamFeatures => features::for_client(frame),
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
