//! The contract beside the results.

use std::collections::BTreeMap;
use std::fmt;

use crate::contract::Contract;
use crate::results::{Outcome, Place, Results, numbers};

/// One test, and what became of it where.
type Row = (String, BTreeMap<Place, Outcome>);

/// What is printed, and what is missing.
#[derive(Debug)]
pub(crate) struct Listing {
    behaviours: Vec<(u32, String, Vec<Row>)>,
    /// Behaviours that are to be shown on this server, and are not.
    missing: Vec<(u32, Place)>,
    /// Tests that have not passed.
    not_passed: Vec<String>,
    /// Tests whose number is none of the contract.
    unknown: Vec<String>,
}

impl Listing {
    pub(crate) fn new(contract: &Contract, results: &Results) -> Self {
        let mut missing = Vec::new();
        let mut behaviours = Vec::new();
        for (number, line) in &contract.lines {
            let rows: Vec<Row> = results
                .of(*number)
                .map(|(name, places)| (name.clone(), places.clone()))
                .collect();
            if contract.asks_for(*number) {
                let servers = Place::SERVERS.into_iter();
                let not_shown = servers.filter(|server| !shows(&rows, *server));
                missing.extend(not_shown.map(|server| (*number, server)));
            }
            behaviours.push((*number, line.clone(), rows));
        }
        let is_known = |name: &str| numbers(name).all(|it| contract.lines.contains_key(&it));
        let names = results.outcomes.keys();
        Self {
            behaviours,
            missing,
            not_passed: not_passed(results),
            unknown: names.filter(|name| !is_known(name)).cloned().collect(),
        }
    }

    /// Whether all that is asked for is shown, and nothing is wrong with the tests.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.not_passed.is_empty() && self.unknown.is_empty()
    }

    /// How many behaviours are shown there.
    fn shown(&self, place: Place) -> usize {
        let behaviours = self.behaviours.iter();
        behaviours.filter(|(_, _, rows)| shows(rows, place)).count()
    }
}

/// Whether a test there has passed.
fn shows(rows: &[Row], place: Place) -> bool {
    let mut places = rows.iter().map(|(_, places)| places);
    places.any(|places| places.get(&place) == Some(&Outcome::Passed))
}

fn not_passed(results: &Results) -> Vec<String> {
    let mut all = Vec::new();
    for (name, places) in &results.outcomes {
        for (place, outcome) in places {
            if *outcome != Outcome::Passed {
                all.push(format!("{name} ({})", place.name()));
            }
        }
    }
    all
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line, rows) in &self.behaviours {
            writeln!(f, "{}", format!("{number}. {line}").trim_end())?;
            for (name, places) in rows {
                write!(f, "   ")?;
                for place in Place::ALL {
                    let outcome = match places.get(&place) {
                        Some(Outcome::Passed) => "ok",
                        Some(Outcome::Failed) => "FAILED",
                        Some(Outcome::Ignored) => "ignored",
                        None => "-",
                    };
                    write!(f, " {outcome:<8}")?;
                }
                writeln!(f, " {name}")?;
            }
            if rows.is_empty() {
                writeln!(f, "    no test")?;
            }
        }
        writeln!(f, "\nThe columns are Prosody, ejabberd, and virtual time.")?;
        let all = self.behaviours.len();
        for place in Place::ALL {
            writeln!(f, "{}: {} of {all} shown", place.name(), self.shown(place))?;
        }
        for place in Place::SERVERS {
            let missing = self.missing.iter().filter(|(_, on)| *on == place);
            let numbers: Vec<String> = missing.map(|(number, _)| number.to_string()).collect();
            if !numbers.is_empty() {
                writeln!(f, "not shown on {}: {}", place.name(), numbers.join(" "))?;
            }
        }
        for name in &self.not_passed {
            writeln!(f, "not passed: {name}")?;
        }
        for name in &self.unknown {
            writeln!(f, "not a number of the contract: {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "running 2 tests\ntest b01_x::prosody ... ok\ntest b01_x::ejabberd ... ok\n";

    fn listing(document: &str, printed: &[&str]) -> Listing {
        let mut results = Results::default();
        for printed in printed {
            results.read(printed).unwrap();
        }
        Listing::new(&Contract::read(document), &results)
    }

    #[test]
    fn each_server_is_to_show_each_behaviour() {
        assert!(listing("1. One\n", &[BOTH]).is_complete());
        let listing = listing(
            "1. One\n2. Two\n",
            &[BOTH, "running 1 test\ntest b02_y::prosody ... ok\n"],
        );
        assert!(!listing.is_complete());
        assert_eq!(listing.missing, [(2, Place::Ejabberd)]);
        let text = listing.to_string();
        assert!(
            text.contains("1. One\n    ok       ok       -        b01_x\n"),
            "{text}"
        );
        assert!(text.contains("not shown on ejabberd: 2\n"), "{text}");
    }

    #[test]
    fn virtual_time_alone_shows_nothing_of_servers() {
        let printed = "running 1 test\ntest join::b02_y ... ok\n";
        let listing = listing("2. Two\n", &[printed]);
        assert_eq!(listing.missing.len(), 2);
        assert_eq!(listing.shown(Place::Virtual), 1);
    }

    #[test]
    fn what_has_not_passed_counts_beside_what_has() {
        for outcome in ["FAILED", "ignored"] {
            let printed = format!("running 1 test\ntest b01_z::prosody ... {outcome}\n");
            let listing = listing("1. One\n", &[BOTH, &printed]);
            assert!(listing.missing.is_empty() && !listing.is_complete());
        }
    }

    #[test]
    fn a_number_that_is_not_in_the_contract_is_a_mistake() {
        assert!(!listing("2. Two\n", &[BOTH]).is_complete());
    }

    #[test]
    fn what_is_not_built_may_have_no_test() {
        assert!(listing("1. One\n## Not yet\n56. Resume\n", &[BOTH]).is_complete());
    }
}
