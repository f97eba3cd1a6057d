//! The reviewed list of differences between the server alone and the proxy.
//!
//! The file is a list of entries with an empty line between two of them; `#` begins a comment line.
//!
//! ```text
//! scenario: join-*, second session
//! drop: *: presence from="room"*
//! reason: ejabberd's presence of the room itself carries nothing; a late joiner does not get it
//!
//! scenario: *
//! attribute: id of *: presence *
//! reason: the id of another session's presence
//! ```
//!
//! `scenario` has the names of scenarios, with commas between them; `drop` takes out a line of a transcript with all that is
//! nested in it; `attribute` takes an attribute out of a line. `*` stands for any characters, white
//! space before a line is not compared. Every entry needs a `scenario`, a `reason`, and one or more
//! of `drop` and `attribute`.

use std::fmt;
use std::path::Path;

/// The file is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum AllowedError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The error.
        source: std::io::Error,
    },
    /// A line is none of the keys.
    #[error("line {line}: {text:?} is not `scenario:`, `drop:`, `attribute:` or `reason:`")]
    Key {
        /// Its number.
        line: usize,
        /// The line.
        text: String,
    },
    /// An entry lacks something.
    #[error("the entry that ends at line {line} has no {what}")]
    Incomplete {
        /// The number of its last line.
        line: usize,
        /// What is missing.
        what: &'static str,
    },
}

/// What an entry takes out of a transcript.
#[derive(Debug, Clone)]
pub enum Rule {
    /// A line with all that is nested in it.
    Drop(String),
    /// An attribute of a line.
    Attribute {
        /// Its name.
        name: String,
        /// The pattern of the line.
        line: String,
    },
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop(line) => write!(f, "drop: {line}"),
            Self::Attribute { name, line } => write!(f, "attribute: {name} of {line}"),
        }
    }
}

/// One allowed difference.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The patterns of the scenarios it is about.
    pub scenarios: String,
    /// What it takes out.
    pub rules: Vec<Rule>,
    /// Why that may differ.
    pub reason: String,
}

impl Entry {
    /// Whether it is about this scenario.
    pub fn is_about(&self, scenario: &str) -> bool {
        self.scenarios
            .split(',')
            .any(|pattern| matches(pattern.trim(), scenario))
    }
}

/// The allowed differences.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    entries: Vec<Entry>,
}

impl Allowed {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, AllowedError> {
        let text = std::fs::read_to_string(path).map_err(|source| AllowedError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Parses the content of the file.
    pub fn parse(text: &str) -> Result<Self, AllowedError> {
        let mut allowed = Self::default();
        let mut entry: Option<Entry> = None;
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.starts_with('#') {
                continue;
            }
            if line.is_empty() {
                allowed.finish(entry.take(), last)?;
                continue;
            }
            last = number;
            let key = || AllowedError::Key {
                line: number,
                text: line.to_owned(),
            };
            let (name, value) = line.split_once(':').ok_or_else(key)?;
            let value = value.trim().to_owned();
            let entry = entry.get_or_insert_default();
            match name {
                "scenario" => entry.scenarios = value,
                "reason" => entry.reason = value,
                "drop" => entry.rules.push(Rule::Drop(value)),
                "attribute" => {
                    let (name, line) = value.split_once(" of ").ok_or_else(key)?;
                    let (name, line) = (name.trim().to_owned(), line.trim().to_owned());
                    entry.rules.push(Rule::Attribute { name, line });
                }
                _ => return Err(key()),
            }
        }
        allowed.finish(entry, last)?;
        Ok(allowed)
    }

    fn finish(&mut self, entry: Option<Entry>, line: usize) -> Result<(), AllowedError> {
        let Some(entry) = entry else { return Ok(()) };
        let parts = [
            ("scenario", entry.scenarios.is_empty()),
            ("drop or attribute", entry.rules.is_empty()),
            ("reason", entry.reason.is_empty()),
        ];
        if let Some((what, _)) = parts.into_iter().find(|(_, missing)| *missing) {
            return Err(AllowedError::Incomplete { line, what });
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Takes what may differ in `scenario` out of a transcript.
    pub fn apply(&self, scenario: &str, transcript: &str) -> String {
        let mut out = String::new();
        // The depth of a line that was dropped, while what is nested in it passes.
        let mut dropped: Option<usize> = None;
        for line in transcript.lines() {
            let depth = line.len() - line.trim_start().len();
            if dropped.is_some_and(|above| depth > above) {
                continue;
            }
            dropped = None;
            match self.rewrite(scenario, line) {
                Some(line) => {
                    out.push_str(&line);
                    out.push('\n');
                }
                None => dropped = Some(depth),
            }
        }
        out
    }

    /// The entries, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The part of the list that is about a scenario, with the numbers of its entries.
    pub fn about(&self, scenario: &str) -> (Self, Vec<usize>) {
        let about = self.entries.iter().enumerate();
        let about = about.filter(|(_, entry)| entry.is_about(scenario));
        let (numbers, entries) = about.map(|(number, entry)| (number, entry.clone())).unzip();
        (Self { entries }, numbers)
    }

    /// The list without an entry. What it changes nothing for does not need that entry.
    pub fn without(&self, entry: usize) -> Self {
        let mut rest = self.clone();
        rest.entries.remove(entry);
        rest
    }

    /// The list without one `drop` or `attribute` of an entry.
    pub fn without_rule(&self, entry: usize, rule: usize) -> Self {
        let mut rest = self.clone();
        rest.entries[entry].rules.remove(rule);
        rest
    }

    fn rewrite(&self, scenario: &str, line: &str) -> Option<String> {
        let mut line = line.to_owned();
        let entries = self.entries.iter().filter(|entry| entry.is_about(scenario));
        for rule in entries.flat_map(|entry| &entry.rules) {
            match rule {
                Rule::Drop(pattern) if matches(pattern, line.trim_start()) => return None,
                Rule::Attribute {
                    name,
                    line: pattern,
                } if matches(pattern, line.trim_start()) => {
                    line = without_attribute(&line, name);
                }
                Rule::Drop(_) | Rule::Attribute { .. } => {}
            }
        }
        Some(line)
    }
}

/// Whether `text` is `pattern` with `*` for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    while let Some((part, after)) = rest.split_once('*') {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
        rest = after;
    }
    text.ends_with(rest)
}

fn without_attribute(line: &str, name: &str) -> String {
    let start = format!(" {name}=\"");
    let Some(from) = line.find(&start) else {
        return line.to_owned();
    };
    let value = from + start.len();
    let Some(end) = line[value..].find('"') else {
        return line.to_owned();
    };
    format!("{}{}", &line[..from], &line[value + end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# reviewed\nscenario: leave-*, join-*\ndrop: *: presence from=\"room\"*\n\
        attribute: id of x *\nreason: because\n\nscenario: other\ndrop: *\nreason: no\n";

    #[test]
    fn lines_with_what_is_nested_and_attributes_are_taken_out() {
        let allowed = Allowed::parse(FILE).unwrap();
        let text = "a: presence from=\"room\" to=\"a\"\n  c\n    d\na: presence from=\"room/b\"\n  \
                    x a=\"1\" id=\"2\" z=\"3\"\n";
        let expected = "a: presence from=\"room/b\"\n  x a=\"1\" z=\"3\"\n";
        assert_eq!(allowed.apply("join-second", text), expected);
        assert_eq!(allowed.apply("leave", text), text);
        assert_eq!(allowed.without(1).apply("join-second", text), expected);
        assert_eq!(allowed.without(0).apply("join-second", text), text);
        let (about, numbers) = allowed.about("other");
        assert_eq!(
            (about.apply("other", text), numbers),
            (String::new(), vec![1])
        );
        let kept = allowed.without_rule(0, 0).apply("join-second", text);
        assert_eq!(kept, text.replace(" id=\"2\"", ""));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let cases = [
            ("scenario: a\ndrop: b\n", "line 2 has no reason"),
            ("scenario: a\nreason: b", "line 2 has no drop or attribute"),
            ("drop: a\nreason: b", "has no scenario"),
            ("\nfoo: a", "line 2: \"foo: a\""),
            ("attribute: a", "line 1"),
        ];
        for (text, expected) in cases {
            let error = Allowed::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*b*", "abc", true),
            ("a", "ab", false),
            ("a*b*a", "aba", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
