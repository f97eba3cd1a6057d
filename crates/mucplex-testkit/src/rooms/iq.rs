//! The requests that a room answers, or relays to an occupant.

use super::handle::{NS_CAPTCHA, State};
use super::write::{error, id_attribute, inner, result, type_attribute};
use crate::xml::{Stanza, escape};

impl State {
    pub(super) fn iq(&mut self, stanza: &Stanza) -> Vec<String> {
        let from = stanza.from().unwrap_or_default();
        if let Some(joined) = self.answer_of_challenge(stanza) {
            return joined;
        }
        let speaker = self.occupant_of(from).map(|it| it.nick.clone());
        let nick = stanza
            .to()
            .and_then(|to| to.split_once('/'))
            .map(|(_, nick)| nick.to_owned());
        let asks = matches!(stanza.kind(), Some("get" | "set"));
        match (nick, speaker) {
            (None, _) if asks => vec![self.answer(stanza)],
            (None, _) => Vec::new(),
            (Some(_), None) if asks => vec![error(stanza, "not-acceptable")],
            (Some(_), None) => Vec::new(),
            // XEP-0410 2: a ping of oneself is answered by the room.
            (Some(nick), Some(own)) if asks && nick == own => vec![result(stanza, "")],
            (Some(nick), Some(own)) => self.relay_iq(&own, &nick, stanza),
        }
    }

    /// To the first stream of an occupant. What one that is made up is asked has no answer but the
    /// test's ([`super::Room::send`], [`super::Room::hook`]).
    fn relay_iq(&mut self, own: &str, nick: &str, stanza: &Stanza) -> Vec<String> {
        let asks = matches!(stanza.kind(), Some("get" | "set"));
        let Some(addressee) = self.find(nick) else {
            let refused = asks.then(|| error(stanza, "item-not-found"));
            return refused.into_iter().collect();
        };
        let Some(to) = addressee.streams.first().map(|it| escape(it)) else {
            return Vec::new();
        };
        let from = escape(&format!("{}/{own}", self.jid));
        let (kind, id) = (type_attribute(stanza.kind()), id_attribute(stanza.id()));
        let content = inner(stanza);
        vec![format!(
            "<iq{kind} from='{from}' to='{to}'{id}>{content}</iq>"
        )]
    }

    fn answer(&self, stanza: &Stanza) -> String {
        let asked = stanza.children().next();
        match asked.map(|it| (it.name(), it.ns())) {
            Some(("ping", ns)) if ns == "urn:xmpp:ping" => result(stanza, ""),
            Some(("query", ns)) if ns == "http://jabber.org/protocol/disco#info" => result(
                stanza,
                "<query xmlns='http://jabber.org/protocol/disco#info'>\
                 <identity category='conference' type='text'/>\
                 <feature var='http://jabber.org/protocol/muc'/></query>",
            ),
            _ => error(stanza, "service-unavailable"),
        }
    }

    /// XEP-0158 5: a form that was filled in lets its sender in.
    pub(super) fn answer_of_challenge(&mut self, stanza: &Stanza) -> Option<Vec<String>> {
        let form = stanza.get_child("captcha", NS_CAPTCHA)?;
        let form = form.get_child("x", "jabber:x:data")?;
        if form.attr("type") != Some("submit") {
            return None;
        }
        let from = stanza.from().unwrap_or_default();
        let index = self.held.iter().position(|join| join.from() == Some(from));
        let Some(index) = index else {
            return Some(vec![error(stanza, "service-unavailable")]);
        };
        let right = form.children().any(|field| {
            field.attr("var") == Some("qa") && field.children().any(|value| value.text() == "14")
        });
        if !right {
            return Some(vec![error(stanza, "not-acceptable")]);
        }
        let join = self.held.remove(index);
        let mut out = Vec::new();
        if stanza.name() == "iq" {
            out.push(result(stanza, ""));
        }
        out.extend(self.admit_as_asked(&join));
        Some(out)
    }

    /// Lets a held joiner in under the nick it has asked for.
    pub(super) fn admit_as_asked(&mut self, join: &Stanza) -> Vec<String> {
        let nick = join
            .to()
            .and_then(|to| to.split_once('/'))
            .map(|(_, nick)| nick);
        self.admit(nick.unwrap_or_default(), &[], join)
    }
}
