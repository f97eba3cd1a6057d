//! The numbered behaviours.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// How far the numbers go where the document is not there to say so.
const NUMBERS: RangeInclusive<u32> = 1..=77;

/// What is not built yet, and so not asked for. A number leaves this list with the change that
/// builds it.
const NOT_YET: [RangeInclusive<u32>; 4] = [42..=45, 56..=64, 67..=67, 75..=77];

/// The behaviours by number, each with its line.
#[derive(Debug)]
pub(crate) struct Contract {
    pub(crate) lines: BTreeMap<u32, String>,
}

impl Contract {
    /// Reads the document: each line that begins with a number and a full stop is a behaviour, and
    /// the first of two with one number counts.
    pub(crate) fn read(document: &str) -> Self {
        let mut lines = BTreeMap::new();
        for (number, text) in document.lines().filter_map(numbered) {
            // Behind the text stand links to the tests.
            let text = text.split(" [").next().unwrap_or(text);
            lines.entry(number).or_insert_with(|| text.to_owned());
        }
        Self { lines }
    }

    /// The numbers without their lines.
    pub(crate) fn numbers_alone() -> Self {
        let lines = NUMBERS.map(|number| (number, String::new())).collect();
        Self { lines }
    }

    /// Whether a behaviour must be shown.
    pub(crate) fn asks_for(&self, number: u32) -> bool {
        let not_yet = NOT_YET.iter().any(|numbers| numbers.contains(&number));
        self.lines.contains_key(&number) && !not_yet
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
        let contract = Contract::read("27. PM\n56. Resume\n");
        assert!(contract.asks_for(27));
        assert!(!contract.asks_for(56) && !contract.asks_for(28));
        assert!(Contract::numbers_alone().asks_for(28));
    }
}
