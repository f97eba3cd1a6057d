//! What the sessions of one run have received, before anything is taken out of it.

use mucplex_testkit::Element;
use mucplex_testkit::client::{Direction, Entry};
use mucplex_testkit::transcript::{Allowed, Names, Transcript};
use mucplex_testkit::xml::NS_CLIENT;

const NS_RSM: &str = "http://jabber.org/protocol/rsm";
/// What every time stamp is replaced by: whether two things happen in one second is chance.
const STAMP: &str = "2000-01-01T00:00:00Z";

const STANZAS: [&str; 3] = ["message", "presence", "iq"];

/// The steps of a run and what came of each.
#[derive(Default)]
pub(super) struct Record {
    pub(super) names: Names,
    /// Ids that the sessions have chosen; they are the same ones in each run.
    sent: Vec<String>,
    lines: Vec<Line>,
}

enum Line {
    Step(String),
    Received { who: String, element: Element },
}

impl Record {
    pub(super) fn step(&mut self, text: &str) {
        self.lines.push(Line::Step(text.to_owned()));
    }

    pub(super) fn received(&mut self, who: &str, element: &Element) {
        let mut element = element.clone();
        normalise(&mut element);
        self.lines.push(Line::Received {
            who: who.to_owned(),
            element,
        });
    }

    /// What a session has sent, from its log.
    pub(super) fn sent(&mut self, log: &[Entry]) {
        let sent = log
            .iter()
            .filter(|entry| entry.direction == Direction::Sent);
        let ids = sent.filter_map(|entry| entry.text.split(" id='").nth(1)?.split('\'').next());
        self.sent.extend(ids.map(str::to_owned));
    }

    /// The transcript without the stanzas that `allowed` drops: these are left out before ids are
    /// numbered, so that one stanza more does not change the numbers of all that follow.
    pub(super) fn render(&self, allowed: &Allowed, scenario: &str) -> String {
        let mut names = self.names.clone();
        // Numbered first: what a server sends once more or less does not change them.
        for id in &self.sent {
            let numbered = format!("<iq xmlns='{NS_CLIENT}' id='{id}'/>");
            names.canonical(&numbered.parse().expect("an id of the script"));
        }
        let mut transcript = Transcript::new(names);
        for line in &self.lines {
            match line {
                Line::Step(text) => transcript.step(text),
                Line::Received { who, element } => {
                    let block = format!("{who}: {}", self.names.clone().canonical(element));
                    if !allowed.apply(scenario, &block).is_empty() {
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
    if STANZAS.contains(&element.name()) && element.has_ns(NS_CLIENT) {
        sort_children(element);
        for ((_, name), value) in element.attrs_mut().iter_mut() {
            if name.as_str() == "id" && is_drawn(value) {
                "drawn".clone_into(value);
            }
        }
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
