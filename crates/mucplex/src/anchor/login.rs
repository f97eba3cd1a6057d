//! An anchor's login: carries out what [`AnchorLogin`] decides.

use std::time::Duration;

use mucplex_net::Connection;
use mucplex_stream::{
    Credentials, DialFailure,
    anchor_login::{AnchorError, AnchorLogin, Established, Goal, Input, Output},
};
use mucplex_xml::StreamErrorCondition;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::{server::Shared, upstream};

/// How long a login may take, from the first byte to the bound stream.
const LOGIN: Duration = Duration::from_secs(30);
/// How long the connection's last bytes may take.
const CLOSING: Duration = Duration::from_secs(5);

/// Logs an uplink in.
///
/// # Errors
/// [`AnchorError`], which says what is to become of the credentials.
pub(super) async fn log_in(
    shared: &Shared,
    domain: usize,
    credentials: Credentials,
    goal: Goal,
) -> Result<(Connection, Established), AnchorError> {
    let settings = shared
        .domains
        .get(domain)
        .cloned()
        .ok_or_else(|| AnchorError::Dial("no such domain".into()))?;
    let login = LoginTask {
        shared,
        domain,
        login: AnchorLogin::new(settings, credentials, goal, rand::random()),
        uplink: None,
        deadline: Instant::now() + LOGIN,
    };
    login.run().await
}

struct LoginTask<'a> {
    shared: &'a Shared,
    domain: usize,
    login: AnchorLogin,
    uplink: Option<Connection>,
    deadline: Instant,
}

impl LoginTask<'_> {
    async fn run(mut self) -> Result<(Connection, Established), AnchorError> {
        loop {
            while let Some(output) = self.login.poll_output() {
                match output {
                    Output::Established(established) => {
                        let uplink = self.uplink.take().ok_or(AnchorError::ServerGone)?;
                        return Ok((uplink, established));
                    }
                    Output::Failed(error) => {
                        if let Some(uplink) = self.uplink.take() {
                            uplink.close(CLOSING).await;
                        }
                        return Err(error);
                    }
                    output => self.perform(output).await,
                }
            }
            let input = self.next_input().await;
            self.login.handle(input);
        }
    }

    async fn perform(&mut self, output: Output) {
        match output {
            Output::Dial => {
                let opened = timeout_at(self.deadline, upstream::open(self.shared, self.domain));
                let opened = opened.await.unwrap_or_else(|late| Err(late.into()));
                self.got(opened, Input::UplinkOpen);
            }
            Output::SecureUplink => {
                let Some(uplink) = self.uplink.take() else {
                    return;
                };
                let securing = upstream::secure(self.shared, self.domain, uplink);
                let secured = timeout_at(self.deadline, securing).await;
                self.got(
                    secured.unwrap_or_else(|late| Err(late.into())),
                    Input::UplinkSecured,
                );
            }
            Output::ToServer(bytes) => {
                if let Some(uplink) = &mut self.uplink {
                    uplink.outbox_mut().push(bytes);
                }
            }
            Output::RestartServer => {
                if let Some(uplink) = &mut self.uplink {
                    uplink.framer_mut().restart();
                }
            }
            Output::Derive(derivation) => {
                // Thousands of rounds of a hash: not beside what has to be quick.
                let input = match spawn_blocking(move || derivation.run()).await {
                    Ok(keys) => Input::Derived(keys),
                    Err(_) => Input::Abort(StreamErrorCondition::Reset, "no keys"),
                };
                self.login.handle(input);
            }
            Output::Established(_) | Output::Failed(_) => {}
        }
    }

    fn got(&mut self, uplink: std::io::Result<Connection>, then: Input) {
        let input = match uplink {
            Ok(uplink) => {
                self.uplink = Some(uplink);
                then
            }
            Err(error) => Input::UplinkFailed(DialFailure(error.to_string())),
        };
        self.login.handle(input);
    }

    async fn next_input(&mut self) -> Input {
        let wanted = self.login.wants_server();
        let Some(uplink) = &mut self.uplink else {
            return Input::ServerClosed;
        };
        loop {
            if wanted {
                match uplink.framer_mut().next_event() {
                    Ok(Some(event)) => {
                        let buffered = uplink.buffered();
                        return Input::Server { event, buffered };
                    }
                    Ok(None) => {}
                    Err(error) => return Input::ServerFraming(error),
                }
            }
            let io = async {
                uplink.flush().await?;
                uplink.read().await
            };
            match timeout_at(self.deadline, io).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Input::ServerClosed,
                Err(_) => {
                    let text = "the login took too long";
                    return Input::Abort(StreamErrorCondition::ConnectionTimeout, text);
                }
            }
        }
    }
}
