//! Runs lives by the thousand, and makes those that fail short.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

use super::life::{Life, Setting};
use super::script::{Op, Rng, Script};
use crate::dialect::{ALL, Dialect};

/// Lives over all dialects, unless the environment names another number.
const LIVES: u64 = 100_000;
/// How long a failing life may take to be made short.
const SHRINKING: Duration = Duration::from_secs(60);

thread_local! {
    /// What the last panic said, while lives are tried; `None` otherwise.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Tries a life, and gives what went wrong.
pub(crate) fn attempt(setting: Setting, ops: &[Op]) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let quiet = SAID.with_borrow_mut(|said| {
                said.as_mut().map(|said| *said = info.to_string()).is_some()
            });
            if !quiet {
                before(info);
            }
        }));
    });
    SAID.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut life = Life::new(setting);
        for op in ops {
            life.act(*op);
        }
        life.end();
    }));
    let said = SAID.take().unwrap_or_default();
    result.map_err(|_| said)
}

/// The steps of a life that fails, with what came of each.
fn tell(setting: Setting, ops: &[Op]) -> String {
    let mut told = Vec::new();
    SAID.set(Some(String::new()));
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let mut life = Life::new(setting);
        life.world.story = Some(Vec::new());
        let mut step = |life: &mut Life, op: Op| {
            told.push(format!("{op:?}"));
            let result = catch_unwind(AssertUnwindSafe(|| life.act(op)));
            told.append(life.world.story.as_mut().unwrap());
            result
        };
        for op in ops {
            if step(&mut life, *op).is_err() {
                return;
            }
        }
        let _ = step(&mut life, Op::Rest);
    }));
    SAID.set(None);
    told.join("\n")
}

#[allow(clippy::disallowed_methods, reason = "not part of what is tested")]
fn clock() -> Instant {
    Instant::now()
}

/// Takes out what the failure does without: halves, quarters, single steps, until none is left
/// that could go.
pub(crate) fn shrink(mut ops: Vec<Op>, fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let end = clock() + SHRINKING;
    let mut chunk = ops.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < ops.len() && clock() < end {
            let mut rest = ops.clone();
            rest.drain(at..(at + chunk).min(ops.len()));
            if fails(&rest) {
                ops = rest;
                shorter = true;
            } else {
                at += chunk;
            }
        }
        if clock() >= end || chunk == 1 && !shorter {
            return ops;
        }
        chunk = chunk.div_ceil(2).max(1);
    }
}

#[allow(clippy::disallowed_methods, reason = "how much to test")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |value| value.parse().unwrap())
}

fn setting(dialect: Dialect, rng: &mut Rng) -> Setting {
    Setting {
        dialect,
        numbered: rng.below(4) != 0,
        stays: rng.below(4) != 0,
        renames: rng.below(4) == 0,
    }
}

/// Every fourth life is this dialect's.
pub(crate) fn lives(dialect: Dialect) {
    let place = ALL.iter().position(|it| it.name == dialect.name).unwrap() as u64;
    let (count, first) = (number("MUCPLEX_LIVES", LIVES), number("MUCPLEX_SEED", 0));
    let all = ALL.len() as u64;
    for seed in (first..first + count).filter(|seed| seed % all == place) {
        let mut rng = Rng(seed);
        let setting = setting(dialect, &mut rng);
        let script = Script::random(&mut rng);
        if attempt(setting, &script.0).is_err() {
            let short = shrink(script.0, |ops| attempt(setting, ops).is_err());
            report(seed, setting, &short);
        }
    }
}

fn report(seed: u64, setting: Setting, ops: &[Op]) {
    let why = attempt(setting, ops).err().unwrap_or_default();
    let Setting {
        dialect,
        numbered,
        stays,
        renames,
    } = setting;
    let told = tell(setting, ops);
    let script = Script(ops.to_vec());
    panic!(
        "a life with a service like {name} fails (MUCPLEX_SEED={seed} MUCPLEX_LIVES=1)\n{why}\n\n\
         {told}\n\nRetold:\n    retold({upper}, {numbered}, {stays}, {renames}, &[{script:?}\n    ]);\n",
        name = dialect.name,
        upper = dialect.name.to_uppercase(),
    );
}
