//! The numbered behaviours.

use std::collections::{BTreeMap, BTreeSet};

/// The heading over what is not built yet, and so not asked for.
const NOT_YET: &str = "## Not yet";

/// The behaviours by number, each with its line.
#[derive(Debug)]
pub(crate) struct Contract {
    pub(crate) lines: BTreeMap<u32, String>,
    not_yet: BTreeSet<u32>,
}

impl Contract {
    /// Reads the document: each line that begins with a number and a full stop is a behaviour, and
    /// the first of two with one number counts.
    pub(crate) fn read(document: &str) -> Self {
        let (mut lines, mut not_yet) = (BTreeMap::new(), BTreeSet::new());
        let mut is_built = true;
        for line in document.lines() {
            if line.starts_with("## ") {
                is_built = line.trim_end() != NOT_YET;
            }
            let Some((number, text)) = numbered(line) else {
                continue;
            };
            if !is_built && !lines.contains_key(&number) {
                not_yet.insert(number);
            }
            // Behind the text stand links to the tests.
            let text = text.split(" [").next().unwrap_or(text);
            lines.entry(number).or_insert_with(|| text.to_owned());
        }
        Self { lines, not_yet }
    }

    /// Whether a behaviour must be shown.
    pub(crate) fn asks_for(&self, number: u32) -> bool {
        self.lines.contains_key(&number) && !self.not_yet.contains(&number)
    }
}

/// `27. A PM to the account: …`, in a list, a heading, or bold.
fn numbered(line: &str) -> Option<(u32, &str)> {
    let line = line.trim_start_matches(['#', '*', '-', ' ']);
    let (number, text) = line.split_once('.')?;
    let number = number.parse().ok()?;
    let text = text.trim_start_matches('*').strip_prefix(' ')?;
    Some((number, text.trim()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn behaviours_are_numbered_lines() {
        let document = "# Contract\n\n1. First.\n   More.\n**2.** Second. And 3. no.\n\
                        ### 3. Third\n1. Not again.\n4 is no number\n4.a neither\n";
        let contract = Contract::read(document);
        let lines: Vec<_> = contract.lines.into_iter().collect();
        let expected = [(1, "First."), (2, "Second. And 3. no."), (3, "Third")];
        assert_eq!(
            lines,
            expected.map(|(number, text)| (number, text.to_owned()))
        );
    }

    #[test]
    fn what_is_not_built_or_not_there_is_not_asked_for() {
        let contract =
            Contract::read("27. PM\n## Not yet\nText.\n\n56. Resume\n## More\n60. Cut\n");
        assert!(contract.asks_for(27) && contract.asks_for(60));
        assert!(!contract.asks_for(56) && !contract.asks_for(28));
    }

    /// The document names, behind each line, files in which a test carries its number.
    #[test]
    fn each_line_of_the_document_names_its_tests() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let document = fs::read_to_string(docs.join("BEHAVIOURS.md")).unwrap();
        let target = |name: &str| {
            let start = format!("[{name}]: ");
            document.lines().find_map(|line| line.strip_prefix(&start))
        };
        let mut shown = 0;
        for line in document.lines() {
            let Some((number, _)) = numbered(line) else {
                continue;
            };
            for name in line.split(" [").skip(1) {
                let name = name.split(']').next().unwrap();
                let path =
                    target(name).unwrap_or_else(|| panic!("{number}: [{name}] leads nowhere"));
                let file = fs::read_to_string(docs.join(path)).unwrap();
                let mark = format!("b{number:02}_");
                assert!(file.contains(&mark), "{number}: no test of it in {path}");
                shown += 1;
            }
        }
        assert!(shown > 100, "{shown}");
    }
}
