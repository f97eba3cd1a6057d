//! What the scenarios have shown, as a page of the documentation.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mucplex_testkit::server::Kind;
use mucplex_testkit::transcript::Allowed;

use super::{Outcome, allowed, outcomes};

/// Set, the report is written; otherwise it must be what it would be.
const WRITE: &str = "MUCPLEX_WRITE_REPORT";
const REFRESH: &str = "just transparency";

/// Every scenario has been played, and the report says what came of it.
pub(super) async fn is_current() {
    let report = render(&outcomes().await, &allowed());
    let file = file();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, report).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == report,
        "{} is out of date; `{REFRESH}` writes it anew:\n{}",
        file.display(),
        mucplex_testkit::transcript::diff(&written, &report).unwrap_or_default()
    );
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/TRANSPARENCY.md")
}

fn render(outcomes: &[impl AsRef<Outcome>], allowed: &Allowed) -> String {
    let mut report = String::from(HEAD);
    let mut rows = Vec::new();
    for outcome in outcomes.iter().map(AsRef::as_ref) {
        let cell = verdict(outcome);
        match rows.last_mut() {
            Some((scenario, _, cells)) if *scenario == outcome.scenario => {
                let cells: &mut Vec<(Kind, String)> = cells;
                cells.push((outcome.kind, cell));
            }
            _ => rows.push((outcome.scenario, &outcome.about, vec![(outcome.kind, cell)])),
        }
    }
    let count = rows.len();
    let _ = writeln!(report, "{count} scenarios.\n");
    report.push_str("| scenario | what happens | Prosody | ejabberd |\n|---|---|---|---|\n");
    for (scenario, about, cells) in rows {
        let cell = |kind| cells.iter().find(|(of, _)| *of == kind);
        let cell = |kind| cell(kind).map_or("", |(_, cell)| cell.as_str());
        let link = format!("[{scenario}](../tests/e2e/transparency/scenarios/{scenario}.txt)");
        let (prosody, ejabberd) = (cell(Kind::Prosody), cell(Kind::Ejabberd));
        let about = about.replace('|', "\\|").replace('<', "&lt;");
        let _ = writeln!(report, "| {link} | {about} | {prosody} | {ejabberd} |");
    }
    report.push_str("\n## Allowed differences\n");
    for (number, entry) in allowed.entries().iter().enumerate() {
        let _ = writeln!(report, "\n{}. {}.", number + 1, entry.reason);
        for rule in &entry.rules {
            let _ = writeln!(report, "   - `{rule}`");
        }
    }
    report
}

fn verdict(outcome: &Outcome) -> String {
    if outcome.difference.is_some() {
        return "**different**".to_owned();
    }
    let needed = outcome.needed.entries.iter();
    let numbers: Vec<String> = needed.map(|number| (number + 1).to_string()).collect();
    match numbers.as_slice() {
        [] => "equal".to_owned(),
        numbers => format!("equal but for {}", numbers.join(", ")),
    }
}

const HEAD: &str = "# What a client sees through the proxy, and what with the server alone

Written by the tests: `just transparency`. A run of the tests fails when this page is out of date.

Each scenario is played twice on each server, by the sessions of alice, carol and others with the server alone, and by the same through the proxy; those of bob
always have the server alone. Each line is a stanza somebody sends; what *every* session has received after it, of any kind, is written down in a canonical form: JIDs by name, ids and archive ids
numbered by their first appearance, times replaced, attributes and children in one order. The two transcripts must be equal, but for what
[allowed-differences.txt](../tests/e2e/allowed-differences.txt) lists with its reason. Numbers in the table are those of that list, which is repeated below.

The language of the scenarios is described in [script.rs](../tests/e2e/transparency/script.rs). The numbers of behaviours are those of the tests' names.

";
