//! What the shell does around anchors, sleeping sessions and suspended streams.

use jid::{BareJid, FullJid};
use mucplex_muc::{AccountJid, Hub, Input, RouteSettings, Routes, SessionId, UplinkId};

use crate::service::bare;
use crate::world::{END, Trace, Uplink, World};

impl World {
    pub(crate) fn new_hub(&mut self, account: &str) {
        let policy = self.policy.clone();
        self.hubs.entry(account.to_owned()).or_insert_with(|| {
            let bare: BareJid = account.parse().unwrap();
            Hub::new(AccountJid(bare), policy)
        });
    }

    /// An uplink without a session binds.
    pub(crate) fn anchor(&mut self, account: &str) -> u64 {
        self.next += 1;
        let id = self.next + 1000;
        let full = format!("{account}/anchor{id}");
        let jid: FullJid = full.parse().unwrap();
        let routes = Routes::new(jid.clone(), RouteSettings::default());
        let mut uplink = Uplink::new(full, None, routes);
        uplink.anchor = true;
        self.uplinks.insert(id, uplink);
        self.anchors.push(id);
        self.new_hub(account);
        let (uplink, lang) = (UplinkId(id), None);
        self.input(account, Input::AnchorBound { uplink, jid, lang });
        id
    }

    pub(crate) fn expect_anchor(&mut self, account: &str, expected: bool) {
        self.new_hub(account);
        self.input(account, Input::AnchorExpected { expected });
    }

    /// The newest anchor of the account.
    pub(crate) fn newest_anchor(&self, account: &str) -> Option<u64> {
        let newest = self.anchors.iter().rev();
        let mut own = newest.filter(|id| {
            let known = &self.uplinks[id];
            known.anchor && known.open && known.account == account
        });
        own.next().copied()
    }

    /// The client's connection is lost, and may be resumed.
    pub(crate) fn sleep(&mut self, id: u64) {
        let known = self.sessions.get_mut(&id).unwrap();
        if known.alive && !std::mem::replace(&mut known.asleep, true) {
            let account = bare(&known.jid).to_owned();
            let session = SessionId(id);
            self.input(&account, Input::SessionAsleep { session });
        }
    }

    /// The client resumes the session, and the proxy its stream.
    pub(crate) fn wake(&mut self, id: u64) {
        let known = self.sessions.get_mut(&id).unwrap();
        if known.alive && std::mem::take(&mut known.asleep) {
            let uplink = known.uplink;
            let account = bare(&known.jid).to_owned();
            self.uplinks.get_mut(&uplink).unwrap().cut = false;
            self.resume(uplink);
            let session = SessionId(id);
            self.input(&account, Input::SessionAwake { session });
        }
    }

    /// The connection of an uplink is gone; the server keeps the stream, and both sides what has not
    /// arrived.
    pub(crate) fn suspend(&mut self, id: u64) {
        let uplink = self.uplinks.get_mut(&id).unwrap();
        if uplink.open && !uplink.cut && !std::mem::replace(&mut uplink.suspended, true) {
            let account = uplink.account.clone();
            let uplink = UplinkId(id);
            self.input(&account, Input::UplinkSuspended { uplink });
        }
    }

    pub(crate) fn resume(&mut self, id: u64) {
        let uplink = self.uplinks.get_mut(&id).unwrap();
        if uplink.suspended && uplink.replaced {
            // The server knows no more of it.
            self.lose(id);
        } else if uplink.open && std::mem::take(&mut uplink.suspended) {
            let account = uplink.account.clone();
            let uplink = UplinkId(id);
            self.input(&account, Input::UplinkResumed { uplink });
        }
    }

    /// The shell keeps the uplink of a session that has ended as an anchor.
    pub(crate) fn retain(&mut self, id: u64) {
        let uplink = self.uplinks.get_mut(&id).unwrap();
        let session = uplink.session.take();
        uplink.anchor = true;
        self.anchors.push(id);
        let available = session.is_some_and(|session| self.sessions[&session].available);
        if available && !uplink.replaced {
            let unavailable = "<presence type='unavailable'/>".to_owned();
            uplink.sent.push(unavailable.clone());
            uplink.up.push_back(unavailable);
        }
        if let Some(trace) = self.trace.as_mut().filter(|_| available) {
            trace.push(Trace::Left(id));
        }
        self.retained.push((id, available));
    }

    /// An uplink that nobody needs: closed, or cut so that the server keeps the stream of a session
    /// that is asleep.
    pub(crate) fn let_go(&mut self, id: u64) {
        let uplink = self.uplinks.get_mut(&id).unwrap();
        let session = uplink.session.map(|session| &self.sessions[&session]);
        if session.is_some_and(|session| session.alive && session.asleep) {
            uplink.cut = true;
            return;
        }
        uplink.open = false;
        uplink.was_suspended = !uplink.flows();
        (uplink.suspended, uplink.cut) = (false, false);
        if !uplink.replaced {
            uplink.up.push_back(END.to_owned());
        }
    }
}
