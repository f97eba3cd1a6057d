//! The steps a random life is made of, how they are drawn, and how they read.

use std::fmt;

pub(crate) const ROOMS: [&str; 3] = ["tea@rooms.test", "den@rooms.test", "bar@rooms.test"];
pub(crate) const OTHERS: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];
/// The accounts' nicks; one both may ask for.
pub(crate) const NICKS: [[&str; 3]; 2] = [["alice", "al", "ally"], ["bea", "al", "bee"]];
pub(crate) const SHOWS: [&str; 4] = [
    "",
    "<show>away</show>",
    "<show>chat</show>",
    "<show>dnd</show>",
];
/// How available each is.
pub(crate) const RANKS: [usize; 4] = [4, 3, 4, 1];
pub(crate) const ROLES: [&str; 3] = ["visitor", "participant", "moderator"];
pub(crate) const CONFIGS: [&[u16]; 6] = [&[104], &[170], &[171], &[172], &[173], &[104, 172]];
/// How many messages of the past a join asks for; the last is a service's default.
pub(crate) const MOST: [usize; 4] = [0, 2, 5, 20];
/// The account of each session: three are one account's, two another's.
pub(crate) const SLOTS: [usize; 5] = [0, 0, 0, 1, 1];

/// Which sessions want copies of the others' private messages (XEP-0280).
pub(crate) const CARBONS: [bool; 5] = [true, false, true, false, true];

/// A step. Sessions are named by slot, uplinks by the order in which they came, rooms, nicks and
/// people by their place above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A session of its own resource.
    Bind(usize),
    /// A session comes back under the resource it had.
    Return(usize),
    /// The connection of a client is cut, or its stream closed.
    Cut(usize),
    /// A client stops reading; when so much waits for it, its session is ended.
    Stall(usize, usize),
    /// Undirected unavailable.
    Away(usize),
    /// An uplink breaks.
    Lose(usize),
    /// The connection of a client is lost, and it resumes its session later.
    Sleep(usize),
    Wake(usize),
    /// An account gets an anchor, or is to get one.
    Anchor(usize),
    Expect(usize, bool),
    /// The connection of an uplink is lost, and its stream resumed later.
    Suspend(usize),
    Resume(usize),
    /// A client says that it is available: the end of its session takes that back.
    Available(usize),
    /// Session, room, nick, how much of the past.
    Join(usize, usize, usize, usize),
    Leave(usize, usize),
    Say(usize, usize),
    /// A message without a body.
    Hint(usize, usize),
    Topic(usize, usize),
    Show(usize, usize, usize),
    Nick(usize, usize, usize),
    /// A private message: to an other, to the other account, to nobody.
    Whisper(usize, usize, usize),
    /// A request: to an other, to the other account, to nobody, to the room, to itself (a ping).
    Ask(usize, usize, usize),
    /// Answers what it has been asked.
    Answer(usize),
    Kick(usize, usize),
    Ban(usize, usize),
    Destroy(usize),
    Config(usize, usize),
    /// Room, whom (the others, then the accounts), role.
    Role(usize, usize, usize),
    OtherJoins(usize, usize),
    OtherLeaves(usize, usize),
    OtherShow(usize, usize, usize),
    OtherNick(usize, usize),
    OtherSays(usize, usize),
    /// Other, room, account.
    OtherWhispers(usize, usize, usize),
    OtherAsks(usize, usize, usize),
    OtherAnswers(usize),
    /// So many stanzas of an uplink reach the server.
    Up(usize, usize),
    /// So many stanzas of the server reach the proxy.
    Down(usize, usize),
    /// All that is on its way arrives.
    Run,
    /// Seconds pass.
    Wait(u64),
    /// All comes to rest, and must be as it is with the room.
    Rest,
}

/// A small generator of our own: a life is a number, the same on every machine (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// How often each kind of step is drawn, in the order of [`draw`].
const WEIGHTS: [usize; 40] = [
    4, 2, 2, 1, 2, 1, 9, 2, 5, 1, 1, 2, 1, 2, 2, 2, 1, 1, 1, 1, 1, 4, 1, 2, 1, 5, 2, 1, 1, 9, 9, 4,
    1, 2, 2, 2, 1, 1, 2, 1,
];
/// Kinds of steps that a life may do without: what one hides, a life without it shows.
const MAY_BE_MISSING: [usize; 27] = [
    1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 22, 23, 24, 26, 27, 33, 35, 36,
    37, 39,
];

/// A life on paper, one step a line.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Script(pub(crate) Vec<Op>);

impl Script {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut weights = WEIGHTS;
        for kind in MAY_BE_MISSING {
            if rng.below(3) == 0 {
                weights[kind] = 0;
            }
        }
        if weights[37] > 0 && rng.below(2) == 0 {
            weights[37] = 0;
        } else if weights[37] > 0 {
            weights[12] = 0;
        }
        let total: usize = weights.iter().sum();
        let length = 5 + rng.below(100);
        let mut ops = Vec::with_capacity(length);
        for _ in 0..length {
            let mut at = rng.below(total);
            let kind = weights.iter().position(|weight| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            ops.push(draw(rng, kind.unwrap()));
        }
        Self(ops)
    }
}

fn draw(rng: &mut Rng, kind: usize) -> Op {
    let r = |rng: &mut Rng| [0, 0, 0, 0, 0, 1, 1, 2][rng.below(8)];
    let s = |rng: &mut Rng| rng.below(SLOTS.len());
    let o = |rng: &mut Rng| rng.below(OTHERS.len());
    match kind {
        0 => Op::Bind(s(rng)),
        1 => Op::Return(s(rng)),
        2 => Op::Cut(s(rng)),
        3 => Op::Stall(s(rng), 200 + rng.below(3_000)),
        4 => Op::Away(s(rng)),
        5 => Op::Lose(rng.below(6)),
        6 => Op::Join(
            s(rng),
            r(rng),
            [0, 0, 0, 1, 2][rng.below(5)],
            rng.below(MOST.len()),
        ),
        7 => Op::Leave(s(rng), r(rng)),
        8 => Op::Say(s(rng), r(rng)),
        9 => Op::Hint(s(rng), r(rng)),
        10 => Op::Topic(s(rng), r(rng)),
        11 => Op::Show(s(rng), r(rng), rng.below(SHOWS.len())),
        12 => Op::Nick(s(rng), r(rng), rng.below(3)),
        13 => Op::Whisper(s(rng), r(rng), rng.below(8)),
        14 => Op::Ask(s(rng), r(rng), rng.below(10)),
        15 => Op::Answer(s(rng)),
        16 => Op::Kick(r(rng), rng.below(2)),
        17 => Op::Ban(r(rng), rng.below(2)),
        18 => Op::Destroy(r(rng)),
        19 => Op::Config(r(rng), rng.below(CONFIGS.len())),
        20 => Op::Role(r(rng), rng.below(8), rng.below(ROLES.len())),
        21 => Op::OtherJoins(o(rng), r(rng)),
        22 => Op::OtherLeaves(o(rng), r(rng)),
        23 => Op::OtherShow(o(rng), r(rng), rng.below(SHOWS.len())),
        24 => Op::OtherNick(o(rng), r(rng)),
        25 => Op::OtherSays(o(rng), r(rng)),
        26 => Op::OtherWhispers(o(rng), r(rng), rng.below(2)),
        27 => Op::OtherAsks(o(rng), r(rng), rng.below(2)),
        28 => Op::OtherAnswers(o(rng)),
        29 => Op::Up(rng.below(6), 1 + rng.below(5)),
        30 => Op::Down(rng.below(6), 1 + rng.below(8)),
        31 => Op::Run,
        33 => Op::Sleep(s(rng)),
        34 => Op::Wake(s(rng)),
        35 => Op::Anchor(SLOTS[s(rng)]),
        36 => Op::Expect(SLOTS[s(rng)], rng.below(3) != 0),
        37 => Op::Suspend(rng.below(6)),
        38 => Op::Resume(rng.below(6)),
        39 => Op::Available(s(rng)),
        _ => match rng.below(6) {
            0 | 1 => Op::Wait(1),
            2 => Op::Wait(6),
            3 => Op::Wait(35),
            _ => Op::Rest,
        },
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|op| write!(f, "\n        Op::{op:?},"))
    }
}
