//! What a session begins with: a client, an uplink, and how both came to be.

use std::time::Duration;

use mucplex_net::Connection;
use mucplex_stream::{Attach, Authenticated, Bound, bind, stream_end};
use mucplex_xml::StreamErrorCondition;
use tokio::{
    sync::{mpsc::Sender, oneshot},
    time::timeout,
};
use tracing::{info, warn};

use super::CLOSING;
use crate::{account::AccountInput, uplink::Uplink};

/// How long an anchor may take to hand its rooms over to the next one.
const RECLAIM: Duration = Duration::from_secs(12);

/// Two connections that are one session from here on.
pub(super) struct Begun {
    pub(super) client: Connection,
    pub(super) uplink: Uplink,
    pub(super) login: Authenticated,
    /// Both streams began together, so that the header of one declares what stanzas of the other
    /// may use.
    pub(super) streams_match: bool,
}

/// A login that has bound.
pub(super) struct BoundLogin {
    pub(super) client: Connection,
    pub(super) uplink: Connection,
    pub(super) bound: Bound,
}

/// A login that has asked for the resource of the account's anchor: its session is to get that
/// uplink, and its own becomes the anchor.
pub(super) struct AttachedLogin {
    pub(super) client: Connection,
    pub(super) uplink: Connection,
    pub(super) attach: Attach,
    pub(super) owner: Sender<AccountInput>,
}

impl Begun {
    pub(super) fn bound(login: BoundLogin) -> Self {
        let BoundLogin {
            client,
            uplink,
            bound: Bound { jid, login },
        } = login;
        Self {
            client,
            uplink: Uplink::bound(uplink, jid, &login),
            login,
            streams_match: true,
        }
    }
}

impl AttachedLogin {
    /// Makes the fresh uplink the anchor, and gets the older one when it is free.
    pub(super) async fn attach(self) -> Option<Begun> {
        let Self {
            mut client,
            uplink,
            attach,
            owner,
        } = self;
        let Attach {
            login,
            request_id,
            spare,
        } = attach;
        let (answer, answered) = oneshot::channel();
        let spare = Box::new(Uplink::bound(uplink, spare.jid, &login));
        // An owner that has ended has no anchor.
        let _ = owner.send(AccountInput::Reclaim { spare, answer }).await;
        let Ok(Ok(uplink)) = timeout(RECLAIM, answered).await else {
            warn!("an anchor was not released for the session that has its resource");
            let condition = StreamErrorCondition::RemoteConnectionFailed;
            let text = Some("the resource could not be freed");
            client.outbox_mut().push(condition.to_xml(text));
            client.outbox_mut().push(stream_end());
            client.close(CLOSING).await;
            return None;
        };
        info!(jid = %uplink.jid, mechanism = login.mechanism, "session attached to the anchor's uplink");
        let result = bind::result(request_id.as_deref(), &uplink.jid);
        client.outbox_mut().push(result);
        Some(Begun {
            client,
            uplink,
            login,
            streams_match: false,
        })
    }
}

/// Asks an account's owner whether this resource is that of the account's anchor.
pub(super) async fn is_held(owner: &Sender<AccountInput>, resource: &str) -> bool {
    let (answer, answered) = oneshot::channel();
    let question = AccountInput::IsHeld {
        resource: resource.to_owned(),
        answer,
    };
    owner.send(question).await.is_ok() && answered.await.unwrap_or_default()
}
