//! SIGKILL at any instant: what was acknowledged is there.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use mucplex_store::Store;
use rand::RngExt as _;

use crate::{
    child::{command, keep_all, spawnable},
    stage::{Stage, alice, close, load, message, next, tea},
};

const ROUNDS: usize = 30;

#[test]
fn whatever_was_acknowledged_is_there() {
    let stage = Stage::new();
    let play = command("child::says_without_end", stage.dir.path());
    let mut stored = 0;
    for round in 0..ROUNDS {
        let mut child = spawnable(&play).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut told = out
            .lines()
            .map_while(|line| {
                let line = line.unwrap();
                let number = line
                    .strip_prefix("stored ")
                    .map(|n| n.parse::<u64>().unwrap());
                Some(number)
            })
            .flatten();
        let lives_until = rand::rng().random_range(1..400);
        let mut acknowledged: Vec<u64> = told.by_ref().take(lives_until).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died, and nobody had read yet.
        acknowledged.extend(told);
        let last = *acknowledged.last().expect("it has lived");
        assert_eq!(
            acknowledged,
            Vec::from_iter(stored..=last),
            "round {round}: in order, each once"
        );

        let store = Store::open(&stage.path(), keep_all()).unwrap();
        let kept = load(&store, &alice());
        let room = &kept.rooms[&tea()];
        stored = next(room);
        assert!(
            stored > last,
            "round {round}: {last} was acknowledged, {stored} is the next"
        );
        let numbers: Vec<_> = room.messages.iter().map(|message| message.number).collect();
        assert_eq!(numbers, Vec::from_iter(0..stored), "round {round}");
        assert!(
            room.messages
                .iter()
                .all(|kept| kept.stanza == message(kept.number).stanza)
        );
        assert_eq!(
            room.served[0].number,
            Some(stored - 1),
            "round {round}: both or none"
        );
        close(&store);
    }
}
