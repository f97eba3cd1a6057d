//! What test runs have printed.

use std::collections::BTreeMap;
use std::io;

/// Where a test ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// On a real Prosody.
    Prosody,
    /// On a real ejabberd.
    Ejabberd,
    /// Without a server.
    Virtual,
}

impl Place {
    /// All, in the order of the listing.
    pub(crate) const ALL: [Self; 3] = [Self::Prosody, Self::Ejabberd, Self::Virtual];
    /// The servers on which every behaviour is to be shown.
    pub(crate) const SERVERS: [Self; 2] = [Self::Prosody, Self::Ejabberd];

    /// Its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
            Self::Virtual => "virtual",
        }
    }
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was not run.
    Ignored,
}

/// The outcomes of the tests that carry numbers, by name and place.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) outcomes: BTreeMap<String, BTreeMap<Place, Outcome>>,
}

impl Results {
    /// Reads what a run has printed, as libtest and libtest-mimic print it: `running 2 tests`, and
    /// for each one `test <name> ... ok`. A run of which lines are missing is an error.
    pub(crate) fn read(&mut self, printed: &str) -> io::Result<()> {
        let (mut announced, mut found) = (0, 0);
        for line in printed.lines() {
            if let Some(count) = announcement(line) {
                announced += count;
            } else if let Some((name, outcome)) = test(line) {
                found += 1;
                self.note(name, outcome);
            }
        }
        if announced == found {
            return Ok(());
        }
        let what = format!("{announced} tests are to run, {found} have a result");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }

    fn note(&mut self, name: &str, outcome: Outcome) {
        let (name, place) = match name.rsplit_once("::") {
            Some((name, "prosody")) => (name, Place::Prosody),
            Some((name, "ejabberd")) => (name, Place::Ejabberd),
            Some(_) | None => (name, Place::Virtual),
        };
        if numbers(name).next().is_some() {
            let places = self.outcomes.entry(name.to_owned()).or_default();
            places.insert(place, outcome);
        }
    }

    /// The tests of a behaviour.
    pub(crate) fn of(
        &self,
        number: u32,
    ) -> impl Iterator<Item = (&String, &BTreeMap<Place, Outcome>)> {
        let all = self.outcomes.iter();
        all.filter(move |(name, _)| numbers(name).any(|its| its == number))
    }
}

/// The numbers a name begins with: `message::b20_b21_each_…` gives 20 and 21.
pub(crate) fn numbers(name: &str) -> impl Iterator<Item = u32> {
    let name = name.rsplit("::").next().unwrap_or_default();
    name.split('_').map_while(|word| {
        let digits = word.strip_prefix('b')?;
        (digits.len() >= 2).then(|| digits.parse().ok())?
    })
}

fn announcement(line: &str) -> Option<usize> {
    let count = line.strip_prefix("running ")?;
    let count = count.strip_suffix(" tests").or(count.strip_suffix(" test"));
    count?.parse().ok()
}

fn test(line: &str) -> Option<(&str, Outcome)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let outcome = match outcome.split([',', ' ']).next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "ignored" => Outcome::Ignored,
        _ => return None,
    };
    Some((name.trim_end(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_numbers() {
        let of = |name| numbers(name).collect::<Vec<u32>>();
        assert_eq!(of("b20_each_session"), [20]);
        assert_eq!(of("message::b20_b104_b3_each"), [20, 104]);
        assert_eq!(of("model::breaks"), [0; 0]);
        assert_eq!(of("transparent_b20"), [0; 0]);
    }

    #[test]
    fn both_ways_to_print_are_read() {
        let mut results = Results::default();
        let mimic = "\nrunning 4 tests\ntest b01_one::prosody   ... ok\ntest b01_one::ejabberd ... FAILED\n\
                     test transparent_x::prosody ... ok\ntest b02_two::prosody ... ignored\n\nfailures:\n";
        let libtest =
            "running 1 test\ntest join::b01_late ... ok\n\ntest result: ok. 1 passed; 0 failed;\n";
        results.read(mimic).unwrap();
        results.read(libtest).unwrap();
        let named = |name: &str| &results.outcomes[name];
        assert_eq!(results.outcomes.len(), 3);
        assert_eq!(named("b01_one")[&Place::Prosody], Outcome::Passed);
        assert_eq!(named("b01_one")[&Place::Ejabberd], Outcome::Failed);
        assert_eq!(named("b02_two")[&Place::Prosody], Outcome::Ignored);
        assert_eq!(named("join::b01_late")[&Place::Virtual], Outcome::Passed);
        assert_eq!(results.of(1).count(), 2);
    }

    #[test]
    fn a_run_that_was_cut_short_is_an_error() {
        let printed = "running 2 tests\ntest b01_one::prosody ... ok\n";
        assert!(Results::default().read(printed).is_err());
    }
}
