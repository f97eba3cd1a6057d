//! The steps a random life is made of.

use proptest::prelude::*;

pub(crate) const ROOMS: [&str; 2] = ["tea@rooms.test", "den@rooms.test"];
pub(crate) const OTHERS: [&str; 4] = ["bob", "carol", "dave", "erin"];
pub(crate) const NICKS: [&str; 3] = ["alice", "al", "ally"];
pub(crate) const SHOWS: [&str; 3] = ["", "<show>away</show>", "<show>chat</show>"];

/// Sessions are named by slot, uplinks by the order in which they came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Bind(usize),
    Join(usize, usize, usize),
    Leave(usize, usize),
    Cut(usize),
    Away(usize),
    Say(usize, usize),
    Topic(usize, usize),
    Show(usize, usize, usize),
    Nick(usize, usize, usize),
    Lose(usize),
    Kick(usize),
    Destroy(usize),
    OtherJoins(usize, usize),
    OtherLeaves(usize, usize),
    OtherShow(usize, usize, usize),
    OtherNick(usize, usize),
    OtherSays(usize, usize),
    OtherWhispers(usize, usize),
    Up(usize, usize),
    Down(usize, usize),
    Run,
    Wait(u64),
    Rest,
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let slot = || 0..4_usize;
    let room = || prop_oneof![4 => Just(0_usize), 1 => Just(1_usize)];
    let other = || 0..4_usize;
    let three = || 0..3_usize;
    prop_oneof![
        3 => slot().prop_map(Op::Bind),
        8 => (slot(), room(), prop_oneof![3 => Just(0), 1 => three()]).prop_map(|(s, r, n)| Op::Join(s, r, n)),
        2 => (slot(), room()).prop_map(|(s, r)| Op::Leave(s, r)),
        2 => slot().prop_map(Op::Cut),
        2 => slot().prop_map(Op::Away),
        5 => (slot(), room()).prop_map(|(s, r)| Op::Say(s, r)),
        1 => (slot(), room()).prop_map(|(s, r)| Op::Topic(s, r)),
        2 => (slot(), room(), three()).prop_map(|(s, r, n)| Op::Show(s, r, n)),
        1 => (slot(), room(), three()).prop_map(|(s, r, n)| Op::Nick(s, r, n)),
        1 => slot().prop_map(Op::Lose),
        1 => room().prop_map(Op::Kick),
        1 => room().prop_map(Op::Destroy),
        3 => (other(), room()).prop_map(|(o, r)| Op::OtherJoins(o, r)),
        1 => (other(), room()).prop_map(|(o, r)| Op::OtherLeaves(o, r)),
        2 => (other(), room(), three()).prop_map(|(o, r, n)| Op::OtherShow(o, r, n)),
        1 => (other(), room()).prop_map(|(o, r)| Op::OtherNick(o, r)),
        5 => (other(), room()).prop_map(|(o, r)| Op::OtherSays(o, r)),
        1 => (other(), room()).prop_map(|(o, r)| Op::OtherWhispers(o, r)),
        8 => (0..6_usize, 1..6_usize).prop_map(|(u, n)| Op::Up(u, n)),
        8 => (0..6_usize, 1..9_usize).prop_map(|(u, n)| Op::Down(u, n)),
        4 => Just(Op::Run),
        1 => Just(Op::Rest),
        1 => prop_oneof![Just(1_u64), Just(6), Just(35)].prop_map(Op::Wait),
    ]
}

/// A life on paper, one step a line.
pub(crate) struct Script(pub(crate) Vec<Op>);

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|op| write!(f, "\n    Op::{op:?},"))
    }
}
