//! One stanza as text that depends on nothing but its meaning.

use std::collections::HashMap;
use std::fmt::Write as _;

use minidom::{Element, Node};

use crate::xml::{NS_CLIENT, NS_MUC_USER};

const NS_XML: &str = "http://www.w3.org/XML/1998/namespace";

/// Maps what is made up in each run to names that are the same in all of them.
///
/// Ids of stanzas, archive ids, occupant ids and time stamps are numbered by first appearance, each
/// kind on its own: two places that were equal stay equal. JIDs are replaced as the test says.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Longest first, so that a full JID goes before its bare JID.
    substitutions: Vec<(String, String)>,
    numbered: HashMap<(&'static str, String), usize>,
    counts: HashMap<&'static str, usize>,
}

impl Names {
    /// Writes `name` wherever `value` stands in an attribute or a text: a bare JID, a full JID, a
    /// room.
    pub fn substitute(&mut self, value: &str, name: &str) {
        self.substitutions.push((value.to_owned(), name.to_owned()));
        self.substitutions
            .sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    }

    /// The stanza as lines; the first is its tag.
    pub fn canonical(&mut self, element: &Element) -> String {
        let mut out = String::new();
        self.element(element, NS_CLIENT, 0, &mut out);
        out
    }

    fn element(&mut self, element: &Element, parent_ns: &str, depth: usize, out: &mut String) {
        let ns = element.ns();
        let _ = write!(out, "{:1$}{2}", "", depth * 2, element.name());
        if ns != parent_ns {
            let _ = write!(out, " {{{ns}}}");
        }
        for (name, value) in self.attributes(element, depth) {
            let _ = write!(out, " {name}=\"{value}\"");
        }
        out.push('\n');
        let (rest, mut statuses): (Vec<&Node>, Vec<&Node>) = element
            .nodes()
            .partition(|node| status_code(node).is_none());
        // The order of status codes means nothing (XEP-0045 15.6).
        statuses.sort_by_key(|node| status_code(node));
        for node in rest.into_iter().chain(statuses) {
            match node {
                Node::Element(child) => self.element(child, &ns, depth + 1, out),
                Node::Text(text) => {
                    let text = quote(&self.replace(text));
                    let _ = writeln!(out, "{:1$}\"{text}\"", "", depth * 2 + 2);
                }
            }
        }
    }

    fn attributes(&mut self, element: &Element, depth: usize) -> Vec<(String, String)> {
        let mut attributes: Vec<(String, String)> = element
            .attrs()
            .iter()
            .map(|((ns, name), value)| {
                let (ns, name) = (ns.as_str(), name.as_str());
                let value = match kind_of(element, name, depth).filter(|_| ns.is_empty()) {
                    Some(kind) => self.number(kind, value),
                    None => self.replace(value),
                };
                let name = match ns {
                    "" => name.to_owned(),
                    NS_XML => format!("xml:{name}"),
                    other => format!("{{{other}}}{name}"),
                };
                (name, quote(&value))
            })
            .collect();
        attributes.sort();
        attributes
    }

    fn number(&mut self, kind: &'static str, value: &str) -> String {
        let number = *self
            .numbered
            .entry((kind, value.to_owned()))
            .or_insert_with(|| {
                let count = self.counts.entry(kind).or_default();
                *count += 1;
                *count
            });
        format!("{kind}{number}")
    }

    fn replace(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.substitutions {
            text = text.replace(value, name);
        }
        text
    }
}

/// Under which name the values of an attribute are numbered.
fn kind_of(element: &Element, attribute: &str, depth: usize) -> Option<&'static str> {
    match (element.name(), attribute) {
        (_, "stamp") => Some("stamp"),
        ("stanza-id" | "archived" | "result", "id") => Some("archive"),
        ("occupant-id", "id") => Some("occupant"),
        (_, "id") if depth == 0 => Some("id"),
        _ => None,
    }
}

fn status_code(node: &Node) -> Option<u16> {
    let element = node
        .as_element()
        .filter(|element| element.is("status", NS_MUC_USER))?;
    Some(
        element
            .attr("code")
            .and_then(|code| code.parse().ok())
            .unwrap_or_default(),
    )
}

/// Keeps a value on its line and in its quotes.
fn quote(value: &str) -> String {
    value
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_order_and_generated_values_do_not_matter() {
        let first = "<presence xmlns='jabber:client' to='a-1@d/p' id='q' from='r@c/n'>\
            <x xmlns='http://jabber.org/protocol/muc#user'><status code='170'/>\
            <item role='none' jid='a-1@d/p' affiliation='none'/><status code='110'/></x>\
            <delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/></presence>";
        let second = "<c:presence xmlns:c='jabber:client' from='r@c/n' id='z' to='a-2@d/q'>\
            <u:x xmlns:u='http://jabber.org/protocol/muc#user'><u:item affiliation='none' \
            jid='a-2@d/q' role='none'/><u:status code='110'/><u:status code='170'/></u:x>\
            <delay xmlns='urn:xmpp:delay' stamp='2021-01-01T00:00:00Z'/></c:presence>";
        let expected = "presence from=\"r@c/n\" id=\"id1\" to=\"alice/A\"\n  \
            x {http://jabber.org/protocol/muc#user}\n    \
            item affiliation=\"none\" jid=\"alice/A\" role=\"none\"\n    \
            status code=\"110\"\n    status code=\"170\"\n  \
            delay {urn:xmpp:delay} stamp=\"stamp1\"\n";
        for (xml, jid) in [(first, "a-1@d/p"), (second, "a-2@d/q")] {
            let mut names = Names::default();
            names.substitute(jid, "alice/A");
            names.substitute(jid.split('/').next().unwrap(), "alice");
            assert_eq!(names.canonical(&xml.parse().unwrap()), expected);
        }
    }

    #[test]
    fn equal_values_keep_equal_names() {
        let mut names = Names::default();
        let line = |names: &mut Names, id: &str| {
            let xml = format!("<iq xmlns='jabber:client' id='{id}'/>");
            names.canonical(&xml.parse().unwrap())
        };
        assert_eq!(line(&mut names, "a"), "iq id=\"id1\"\n");
        assert_eq!(line(&mut names, "b"), "iq id=\"id2\"\n");
        assert_eq!(line(&mut names, "a"), "iq id=\"id1\"\n");
    }
}
