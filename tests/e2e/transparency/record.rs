//! What the sessions of one run have received, before anything is taken out of it.

use mucplex_testkit::Element;
use mucplex_testkit::client::{Direction, Entry};
use mucplex_testkit::transcript::{Allowed, Names, Transcript};
use mucplex_testkit::xml::{NS_CLIENT, NS_MUC_ADMIN};

const NS_RSM: &str = "http://jabber.org/protocol/rsm";
/// What every time stamp is replaced by: whether two things happen in one second is chance.
const STAMP: &str = "2000-01-01T00:00:00Z";

const STANZAS: [&str; 3] = ["message", "presence", "iq"];

/// The steps of a run and what came of each.
#[derive(Default)]
pub(super) struct Record {
    pub(super) names: Names,
    /// The names behind the last step.
    numbered: Option<Names>,
    lines: Vec<Line>,
}

enum Line {
    Step(String),
    Received {
        who: String,
        element: Element,
        /// Its text with ids numbered from one, by which it is dropped or not.
        text: String,
    },
}

impl Record {
    pub(super) fn step(&mut self, text: &str) {
        self.lines.push(Line::Step(text.to_owned()));
    }

    pub(super) fn received(&mut self, who: &str, element: &Element) {
        let mut element = element.clone();
        normalise(&mut element);
        let text = format!("{who}: {}", self.names.clone().canonical(&element));
        self.lines.push(Line::Received {
            who: who.to_owned(),
            element,
            text,
        });
    }

    /// What a session has sent, from its log: the ids it has chosen are the same ones in each run,
    /// so they are numbered first, and what a server sends once more or less does not change them.
    pub(super) fn sent(&mut self, log: &[Entry]) {
        let sent = log
            .iter()
            .filter(|entry| entry.direction == Direction::Sent);
        let ids = sent.filter_map(|entry| entry.text.split(" id='").nth(1)?.split('\'').next());
        for id in ids {
            let numbered = format!("<iq xmlns='{NS_CLIENT}' id='{id}'/>");
            let numbered = numbered.parse().expect("an id of the script");
            self.numbered
                .get_or_insert_with(|| self.names.clone())
                .canonical(&numbered);
        }
    }

    /// The transcript without the stanzas that `allowed` drops: these are left out before ids are
    /// numbered, so that one stanza more does not change the numbers of all that follow.
    pub(super) fn render(&self, allowed: &Allowed, scenario: &str) -> String {
        let names = self.numbered.as_ref().unwrap_or(&self.names);
        let mut transcript = Transcript::new(names.clone());
        for line in &self.lines {
            match line {
                Line::Step(text) => transcript.step(text),
                Line::Received { who, element, text } => {
                    if !allowed.apply(scenario, text).is_empty() {
                        transcript.push(who, element);
                    }
                }
            }
        }
        transcript.text().to_owned()
    }
}

/// Takes out what differs between any two runs: times, and archive ids where they are text.
fn normalise(element: &mut Element) {
    let names = element.attrs_mut();
    for ((_, name), value) in names.iter_mut() {
        if name.as_str() == "stamp" && is_stamp(value) {
            STAMP.clone_into(value);
        }
        if name.as_str() == "subid" {
            "drawn".clone_into(value);
        }
    }
    if element.has_ns(NS_RSM) && matches!(element.name(), "first" | "last") {
        element.take_nodes();
    }
    for child in element.children_mut() {
        normalise(child);
    }
    if element.name() == "query" && element.has_ns(NS_MUC_ADMIN) {
        sort_items(element);
    }
    if STANZAS.contains(&element.name()) && element.has_ns(NS_CLIENT) {
        sort_children(element);
        for ((_, name), value) in element.attrs_mut().iter_mut() {
            if name.as_str() == "id" && is_drawn(value) {
                "drawn".clone_into(value);
            }
        }
    }
}

/// A server lists occupants and affiliations in an order of its own, another one each time.
fn sort_items(list: &mut Element) {
    let mut nodes = list.take_nodes();
    nodes.sort_by_cached_key(|node| {
        let jid = node.as_element()?.attr("jid")?;
        Some(jid.to_owned())
    });
    for node in nodes {
        list.append_node(node);
    }
}

/// The children of a stanza say the same in any order (RFC 6120 8.4), but for those of one name.
fn sort_children(stanza: &mut Element) {
    let mut nodes = stanza.take_nodes();
    nodes.sort_by_cached_key(|node| {
        node.as_element()
            .map(|child| (child.ns(), child.name().to_owned()))
    });
    for node in nodes {
        stanza.append_node(node);
    }
}

/// An id that ejabberd has drawn at random, as it does for what no client has asked for.
fn is_drawn(id: &str) -> bool {
    let number = id.trim_start_matches("push");
    number.len() > 10 && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// XEP-0082, or the older form of XEP-0091.
fn is_stamp(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    digits >= 14 && value.contains('T')
}
