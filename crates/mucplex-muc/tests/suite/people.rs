//! What sessions and people past the proxy do, and what they have been sent.

use std::time::Duration;

use crate::scribe;
use crate::service::MUC;
use crate::world::{TEA, World};

impl World {
    pub(crate) fn join(&mut self, id: u64, room: &str, nick: &str) {
        self.join_with(id, room, nick, "");
    }

    /// `asks`: what stands in the muc element.
    pub(crate) fn join_with(&mut self, id: u64, room: &str, nick: &str, asks: &str) {
        let xml = format!(
            "<presence to='{room}/{nick}' id='join'><x xmlns='{MUC}'>{asks}</x></presence>"
        );
        self.send(id, &xml);
    }

    /// Joins, and forgets what came of it.
    pub(crate) fn joined(&mut self, id: u64, nick: &str) {
        self.join(id, TEA, nick);
        self.run();
        self.wait(Duration::from_secs(11));
        self.sessions.get_mut(&id).unwrap().inbox.clear();
        self.uplinks
            .get_mut(&self.sessions[&id].uplink)
            .unwrap()
            .sent
            .clear();
    }

    pub(crate) fn say(&mut self, id: u64, room: &str, mid: &str, body: &str) {
        self.send(
            id,
            &format!(
                "<message to='{room}' type='groupchat' id='{mid}'><body>{body}</body></message>"
            ),
        );
    }

    pub(crate) fn leave(&mut self, id: u64, room: &str, nick: &str) {
        self.send(id, &format!("<presence to='{room}/{nick}' type='unavailable' id='leave'><status>bye</status></presence>"));
    }

    pub(crate) fn unavailable(&mut self, id: u64) {
        self.send(id, "<presence type='unavailable'/>");
    }

    /// Somebody past the proxy sends a stanza; `who/pc` is the stream.
    pub(crate) fn other(&mut self, who: &str, xml: &str) {
        self.service.now = self.wall();
        self.service.handle(&format!("{who}@test/pc"), xml);
        self.sort_out();
    }

    pub(crate) fn other_joins(&mut self, who: &str, room: &str) {
        self.other(who, &format!("<presence to='{room}/{who}'><x xmlns='{MUC}'><history maxstanzas='0'/></x></presence>"));
    }

    pub(crate) fn other_says(&mut self, who: &str, room: &str, body: &str) {
        self.other(who, &format!("<message to='{room}' type='groupchat' id='{who}-{body}'><body>{body}</body></message>"));
    }

    /// What a session has been sent since the last time.
    pub(crate) fn seen(&mut self, id: u64) -> Vec<String> {
        scribe::lines(&self.raw(id))
    }

    pub(crate) fn raw(&mut self, id: u64) -> Vec<String> {
        std::mem::take(&mut self.sessions.get_mut(&id).unwrap().inbox)
    }

    pub(crate) fn seen_by_other(&mut self, who: &str) -> Vec<String> {
        let stanzas = self.outside.remove(&format!("{who}@test/pc"));
        scribe::lines(&stanzas.unwrap_or_default())
    }

    /// What has gone to the server on an uplink since the last time.
    pub(crate) fn sent(&mut self, uplink: u64) -> Vec<String> {
        std::mem::take(&mut self.uplinks.get_mut(&uplink).unwrap().sent)
    }
}
