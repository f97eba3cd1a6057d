//! What each resource of the account was served in a room, so that a session that was lost and comes
//! back gets what is behind that (behaviour 57).
//!
//! A session is served what is written to it, or what its client has acknowledged; the shell knows
//! that in [marks](crate::Output::ToClient) and tells it when the session is lost. A join whose answer
//! the client has not had to its end does not count, but what it has brought of what was missed does.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Room;
use crate::context::Context;
use crate::history::Backlog;
use crate::persist::{Change, Served};
use crate::{RoomJid, SessionId};

/// Resources that are not in the room and remembered; clients may take another one each time.
const MOST_ABSENT: usize = 64;

/// What is known of the account's resources in a room.
#[derive(Debug, Default)]
pub(super) struct Devices {
    by_resource: BTreeMap<String, Device>,
    /// Resources of which something else is known since it was last asked.
    touched: Vec<String>,
    /// Somebody does ask.
    watched: bool,
}

#[derive(Debug)]
struct Device {
    /// The session that is in the room.
    session: Option<SessionId>,
    served: Served,
}

impl Devices {
    /// The resources as they were stored.
    pub(super) fn restored(served: Vec<(String, Served)>, watched: bool) -> Self {
        let device = |served| Device {
            session: None,
            served,
        };
        let all = served.into_iter();
        Self {
            by_resource: all.map(|(resource, it)| (resource, device(it))).collect(),
            touched: Vec::new(),
            watched,
        }
    }

    /// The largest mark that any resource is known by.
    pub(super) fn largest(&self) -> u64 {
        let all = self.by_resource.values().map(|device| device.served);
        let all = all.flat_map(|it| [it.joined, it.number.unwrap_or_default()]);
        all.max().unwrap_or_default()
    }

    /// Up to where a session that joins now was served when it was here before; `None` for one that
    /// was not, and for one that is in the room.
    fn returns(&self, resource: &str) -> Option<u64> {
        let device = self.by_resource.get(resource)?;
        device.served.number.filter(|_| device.session.is_none())
    }

    /// A session has come into the room by an answer that ends with the mark `joined`.
    fn came(&mut self, session: SessionId, resource: &str, served: Served) {
        if let Some(known) = self.by_resource.get(resource)
            && known.session == Some(session)
        {
            return;
        }
        let device = Device {
            session: Some(session),
            served,
        };
        self.by_resource.insert(resource.to_owned(), device);
        self.touch(resource);
    }

    fn resource_of(&self, session: SessionId) -> Option<String> {
        let mut all = self.by_resource.iter();
        let found = all.find(|(_, device)| device.session == Some(session));
        found.map(|(resource, _)| resource.clone())
    }

    fn touch(&mut self, resource: &str) {
        if self.watched && !self.touched.iter().any(|known| known == resource) {
            self.touched.push(resource.to_owned());
        }
    }

    /// A session has left, or its client has ended it: it is a stranger when it comes again.
    pub(super) fn left(&mut self, session: SessionId) {
        if let Some(resource) = self.resource_of(session) {
            self.by_resource.remove(&resource);
            self.touch(&resource);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets whom nobody will ask for: those that have been away for longer than messages are kept,
    /// and the longest away where there are too many.
    fn forget_old(&mut self, now: SystemTime, kept: Duration) {
        let mut absent: Vec<_> = self
            .by_resource
            .iter()
            .filter(|(_, device)| device.session.is_none())
            .map(|(resource, device)| (device.served.at, resource.clone()))
            .collect();
        absent.sort_unstable();
        let over = absent.len().saturating_sub(MOST_ABSENT);
        let oldest = now.checked_sub(kept);
        for (place, (at, resource)) in absent.into_iter().enumerate() {
            if place < over || oldest.is_some_and(|oldest| at < oldest) {
                self.by_resource.remove(&resource);
                self.touch(&resource);
            }
        }
    }

    /// What has become of which resource since this was last asked.
    pub(super) fn save(&mut self, ctx: &mut Context<'_>, room: &RoomJid) {
        for resource in std::mem::take(&mut self.touched) {
            let served = self.by_resource.get(&resource).map(|device| device.served);
            ctx.persist(Change::Served {
                room: room.clone(),
                resource,
                served,
            });
        }
    }
}

impl Room {
    /// What was said, as far as the session has asked for it or has not been served it, and the
    /// subject, which ends what a joiner is told. `late`: as in [`Backlog::select`].
    pub(super) fn tell_past(
        &mut self,
        ctx: &mut Context<'_>,
        request: &super::JoinRequest,
        late: bool,
    ) {
        let session = request.session;
        let resource = ctx.resource(session).to_owned();
        self.backlog.expire(ctx.now.wall, ctx.policy.history);
        self.devices.forget_old(ctx.now.wall, ctx.policy.history);
        self.devices.watched = ctx.policy.persist;
        let before = self.devices.returns(&resource);
        let (limits, now) = (&request.history, ctx.now.wall);
        let past = self.backlog.select(&self.jid, limits, before, now, late);
        let mut first = None;
        for message in &past {
            let mark = ctx.number();
            first = first.or(Some(mark));
            ctx.replay_marked(session, message, mark);
        }
        let joined = ctx.number();
        if let Some(subject) = &self.view.subject {
            ctx.replay_marked(session, subject, joined);
        }
        let served = Served {
            number: None,
            joined,
            replay: first.filter(|_| limits.none_given()).unwrap_or(joined),
            before,
            at: now,
        };
        self.devices.came(session, &resource, served);
    }

    /// A session is lost that was served up to this mark, or nobody knows up to where.
    pub(crate) fn session_lost(
        &mut self,
        ctx: &Context<'_>,
        session: SessionId,
        mark: Option<u64>,
    ) {
        let Some(resource) = self.devices.resource_of(session) else {
            return;
        };
        if let Some(device) = self.devices.by_resource.get_mut(&resource) {
            device.session = None;
            device.served.at = ctx.now.wall;
        }
        self.devices.touch(&resource);
        if let Some(mark) = mark {
            self.note_served(&resource, mark);
        }
        self.devices.forget_old(ctx.now.wall, ctx.policy.history);
    }

    /// A session of this resource that has been lost was served up to this mark.
    pub(crate) fn note_served(&mut self, resource: &str, mark: u64) {
        let Some(device) = self.devices.by_resource.get_mut(resource) else {
            return;
        };
        // Of a session that is in the room, its end will tell.
        if device.session.is_some() {
            return;
        }
        let known = device.served;
        let number = if mark >= known.joined {
            Some(mark)
        } else {
            brought(&self.backlog, &known, mark)
        };
        if number > known.number {
            device.served.number = number;
            self.devices.touch(resource);
        }
    }
}

/// Up to where a session has been served that was lost amid the answer to its join, if it was here
/// before: that answer has begun with what it had missed.
fn brought(backlog: &Backlog, served: &Served, mark: u64) -> Option<u64> {
    let before = served.before?;
    let missed = usize::try_from(served.joined - served.replay).ok()?;
    let behind = usize::try_from(mark.saturating_sub(served.replay - 1)).ok()?;
    // Some of the oldest may have expired since, so they are counted from the last one.
    let left = missed.checked_sub(behind)?;
    let mut brought = backlog.behind(before).rev();
    let last = brought.by_ref().skip_while(|it| it.number >= served.replay);
    let number = last.skip(left).map(|message| message.number).next();
    Some(number.filter(|_| behind > 0).unwrap_or(before))
}
