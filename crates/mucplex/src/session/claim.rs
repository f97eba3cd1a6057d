//! A login that wants to resume a session, as seen from the login.

use std::{sync::Arc, time::Duration};

use jid::BareJid;
use mucplex_net::Connection;
use mucplex_stream::{
    Found, Resumed,
    sm::{Count, SmId},
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::timeout,
};

use super::{
    Claim, Fresh, Resume, SessionInput,
    sleep::{Claimed, Way},
};
use crate::{registry::Sessions, uplink::Uplink};

/// A session answers at once, unless it has much to do, or another login is about to resume it.
const ANSWER: Duration = Duration::from_secs(10);

/// A session that is claimed. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct PendingClaim {
    session: UnboundedSender<SessionInput>,
    number: u64,
    h: Count,
    /// Whose session it is, as the session has said.
    account: Option<BareJid>,
    /// The server has been asked to resume the session's stream.
    resumes: bool,
    settled: bool,
}

impl PendingClaim {
    /// Claims the session with this id for a client that has handled `h`, and tells how it can go
    /// on. `None` if it cannot.
    pub(super) async fn make(
        sessions: &Arc<Sessions>,
        id: &SmId,
        h: Count,
    ) -> Option<(Self, Found)> {
        let (session, number) = sessions.find(id)?;
        let (answer, answered) = oneshot::channel();
        let claim = Claim { number, h, answer };
        session.send(SessionInput::Claim(claim)).ok()?;
        let mut pending = Self {
            session,
            number,
            h,
            account: None,
            resumes: false,
            settled: false,
        };
        let Claimed { account, way } = timeout(ANSWER, answered).await.ok()?.ok()?;
        pending.account = Some(account.0.clone());
        pending.resumes = matches!(way, Way::Cut { .. });
        let found = match way {
            Way::Held => Found::Held {
                account: account.0,
                resource: crate::anchor::resource(),
            },
            Way::Cut {
                stream,
                h,
                client_h,
            } => Found::Cut {
                previd: stream.id,
                h,
                client_h: Some(client_h),
            },
        };
        Some((pending, found))
    }

    /// The server may take what it gets from the login for the session's.
    pub(super) fn resumes(&self) -> bool {
        self.resumes
    }

    /// The server does not know the session's stream any more. It says the same to another account,
    /// so this is known when the login has bound as `account`.
    pub(super) fn stream_gone(mut self, account: &BareJid) {
        if self.account.as_ref() == Some(account) {
            self.settled = true;
            // One that has just ended by itself needs no telling.
            let _ = self.session.send(SessionInput::StreamGone(self.number));
        }
    }

    /// The client is the session's: it goes on on these connections.
    pub(super) fn resume(mut self, client: Connection, uplink: Connection, resumed: Resumed) {
        self.settled = true;
        let Resumed {
            login,
            server_h,
            spare,
        } = resumed;
        let fresh = match spare {
            Some(spare) => Fresh::Spare(Box::new(Uplink::bound(uplink, spare.jid, &login))),
            None => Fresh::Uplink {
                connection: Box::new(uplink),
                h: server_h.unwrap_or_default(),
                login: Box::new(login),
            },
        };
        let resume = Box::new(Resume {
            number: self.number,
            h: self.h,
            client,
            fresh,
        });
        // If it has just ended, the client finds its connection closed, and no session next time.
        let _ = self.session.send(SessionInput::Resume(resume));
    }
}

impl Drop for PendingClaim {
    fn drop(&mut self) {
        if !self.settled {
            // As above.
            let _ = self.session.send(SessionInput::Unclaim(self.number));
        }
    }
}
