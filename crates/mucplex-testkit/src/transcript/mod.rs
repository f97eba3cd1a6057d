//! A canonical form of stanzas, to compare what a session sees with the server alone with what it
//! sees through the proxy.
//!
//! ```
//! use mucplex_testkit::transcript::{Allowed, Names, Transcript, difference};
//!
//! let mut run = |user: &str, id: &str| {
//!     let mut names = Names::default();
//!     names.substitute(&format!("{user}@example.test/phone"), "alice/A");
//!     let mut transcript = Transcript::new(names);
//!     let xml = format!(
//!         "<message xmlns='jabber:client' id='{id}' to='{user}@example.test/phone'>\
//!          <body>hi</body></message>"
//!     );
//!     transcript.push("alice/A", &xml.parse().unwrap());
//!     transcript.text().to_owned()
//! };
//! let (direct, proxied) = (run("alice-1", "x7"), run("alice-2", "y9"));
//! assert_eq!(direct, "alice/A: message id=\"id1\" to=\"alice/A\"\n  body\n    \"hi\"\n");
//! assert_eq!(difference(&direct, &proxied, &Allowed::default(), "greeting"), None);
//! ```

mod allowed;
mod canonical;
mod diff;

use std::fmt::Write as _;

use minidom::Element;

pub use allowed::{Allowed, AllowedError, Entry, Rule};
pub use canonical::Names;
pub use diff::diff;

use crate::xml::Stanza;

/// What the sessions of one run have received, in canonical form.
#[derive(Debug, Default)]
pub struct Transcript {
    names: Names,
    text: String,
}

impl Transcript {
    /// An empty transcript that uses `names`.
    pub fn new(names: Names) -> Self {
        Self {
            names,
            text: String::new(),
        }
    }

    /// Adds a stanza that `who` has received.
    pub fn push(&mut self, who: &str, element: &Element) {
        let block = self.names.canonical(element);
        let _ = write!(self.text, "{who}: {block}");
    }

    /// Adds stanzas that `who` has received.
    pub fn extend<'a>(&mut self, who: &str, stanzas: impl IntoIterator<Item = &'a Stanza>) {
        for stanza in stanzas {
            self.push(who, &stanza.element);
        }
    }

    /// Adds a line that is the same in each run: a step of the script.
    pub fn step(&mut self, text: &str) {
        let _ = writeln!(self.text, "# {text}");
    }

    /// The names, to add more.
    pub fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// One line per element or text, indented by depth; each stanza begins with who received it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What differs between two transcripts after the allowed differences of `scenario` are taken out
/// of both; `None` if nothing does.
pub fn difference(
    direct: &str,
    proxied: &str,
    allowed: &Allowed,
    scenario: &str,
) -> Option<String> {
    diff(
        &allowed.apply(scenario, direct),
        &allowed.apply(scenario, proxied),
    )
}
