//! The streams between proxy and server: what is on its way, and how they end.

use std::collections::VecDeque;

use mucplex_muc::{Input, ServerRoute, SessionId, UplinkId};

use crate::service::parse;
use crate::world::{END, Trace, World};

/// On an uplink's way down: the stream ends here.
const CUT: &str = "stream cut";

impl World {
    /// The uplink breaks, and with it what was on its way. The server notices in its own time.
    pub(crate) fn lose(&mut self, id: u64) {
        let uplink = self.uplinks.get_mut(&id).unwrap();
        if !std::mem::take(&mut uplink.open) {
            return;
        }
        self.losses.push(id);
        uplink.down.clear();
        (uplink.suspended, uplink.cut) = (false, false);
        if !uplink.replaced {
            uplink.up = VecDeque::from([END.to_owned()]);
        }
        let account = uplink.account.clone();
        if let Some(session) = uplink.session {
            self.sessions.get_mut(&session).unwrap().alive = false;
        }
        let uplink = UplinkId(id);
        self.input(&account, Input::UplinkLost { uplink });
    }

    /// The service sends a session's stream a stanza, `{to}` standing for its address.
    pub(crate) fn service_sends(&mut self, session: u64, xml: &str) {
        let stream = self.sessions[&session].jid.clone();
        self.service.send(&stream, xml.replace("{to}", &stream));
        self.sort_out();
    }

    /// The server binds a resource anew: the older stream ends (RFC 6120 7.7.2.2), and what was on
    /// its way up is not handled. The proxy learns of it in its own time.
    pub(crate) fn replace(&mut self, jid: &str) {
        let late = self.service.dialect.ends_older_late;
        let older = self.uplinks.values_mut().filter(|it| it.jid == jid);
        let mut ended = false;
        for uplink in older.filter(|it| !it.over && !it.replaced) {
            uplink.replaced = true;
            uplink.up.clear();
            if late {
                uplink.up.push_back(END.to_owned());
            } else {
                uplink.over = true;
                ended = true;
            }
            if uplink.open {
                uplink.down.push_back(CUT.to_owned());
            }
        }
        if ended {
            self.service.stream_ends(jid);
            self.sort_out();
        }
    }

    /// One stanza of an uplink reaches the server.
    pub(crate) fn step_up(&mut self, id: u64) -> bool {
        let flowing = self.uplinks.get_mut(&id).filter(|it| it.flows());
        let Some(xml) = flowing.and_then(|it| it.up.pop_front()) else {
            return false;
        };
        let jid = self.uplinks[&id].jid.clone();
        self.service.now = self.wall();
        if xml == END {
            self.service.stream_ends(&jid);
            self.uplinks.get_mut(&id).unwrap().over = true;
        } else {
            self.service.handle(&jid, &xml);
        }
        self.sort_out();
        true
    }

    /// One stanza of the server reaches the proxy.
    pub(crate) fn step_down(&mut self, id: u64) -> bool {
        let Some(uplink) = self.uplinks.get_mut(&id).filter(|it| it.flows()) else {
            return false;
        };
        let Some(xml) = uplink.down.pop_front() else {
            return false;
        };
        if !uplink.open {
            return true;
        }
        if xml == CUT {
            self.lose(id);
            return true;
        }
        let frame = parse(&xml);
        if let Some(story) = &mut self.story {
            story.push(format!("        {} <<- server  {xml}", uplink.jid));
        }
        if let Some(trace) = &mut self.trace {
            trace.push(Trace::Down(id, frame.clone()));
        }
        let account = uplink.account.clone();
        let route = match uplink.anchor {
            true => ServerRoute::Hub,
            false => uplink.routes.from_server(&frame),
        };
        if let (ServerRoute::Carbons(enabled), Some(session)) = (&route, uplink.session) {
            let (session, enabled) = (SessionId(session), *enabled);
            self.input(&account, Input::SessionCarbons { session, enabled });
        }
        for room in match &route {
            ServerRoute::Bookmarks(rooms) => rooms.clone(),
            _ => Vec::new(),
        } {
            self.input(&account, Input::BookmarkRetracted { room });
        }
        let uplink = &self.uplinks[&id];
        match route {
            ServerRoute::Direct | ServerRoute::Carbons(_) | ServerRoute::Bookmarks(_) => {
                if let Some(session) = uplink.session {
                    let urgency = self.sessions[&session].csi.urgency_of(&frame);
                    self.deliver(session, xml, urgency);
                    self.end_slow();
                }
            }
            ServerRoute::Hub => {
                let uplink = UplinkId(id);
                self.input(&account, Input::FromServer { uplink, frame });
            }
        }
        true
    }

    /// What the service has sent goes onto the uplinks, or to people past the proxy.
    pub(crate) fn sort_out(&mut self) {
        for (to, xml) in std::mem::take(&mut self.service.out) {
            let uplink = self
                .uplinks
                .values_mut()
                .rfind(|it| it.jid == to && !it.over);
            match uplink {
                Some(uplink) => uplink.down.push_back(xml),
                None => self.outside.entry(to).or_default().push(xml),
            }
        }
    }

    /// Delivers everything, in turns.
    pub(crate) fn run(&mut self) {
        self.sort_out();
        loop {
            let mut moved = false;
            let ids: Vec<u64> = self.uplinks.keys().copied().collect();
            for id in ids {
                moved |= self.step_up(id);
                moved |= self.step_down(id);
            }
            if !moved {
                return;
            }
        }
    }

    /// All that is on its way up on one uplink reaches the server.
    pub(crate) fn all_up(&mut self, uplink: u64) {
        while self.step_up(uplink) {}
    }

    pub(crate) fn all_down(&mut self, uplink: u64) {
        while self.step_down(uplink) {}
    }
}
