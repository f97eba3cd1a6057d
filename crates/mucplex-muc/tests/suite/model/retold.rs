//! The lives by number, and by name those that once went wrong.

use super::life::Setting;
use super::runner::{attempt, lives};
use super::script::Op;
use crate::dialect::{Dialect, EJABBERD, PROSODY, SINGLE, SPARSE};

#[test]
fn lives_with_a_service_like_prosody() {
    lives(PROSODY);
}

#[test]
fn lives_with_a_service_like_ejabberd() {
    lives(EJABBERD);
}

#[test]
fn lives_with_a_service_that_gives_little() {
    lives(SPARSE);
}

#[test]
fn lives_with_a_service_that_allows_one_stream() {
    lives(SINGLE);
}

/// `numbered`, `stays` and `renames` as in [`Setting`].
fn retold(dialect: Dialect, numbered: bool, stays: bool, renames: bool, ops: &[Op]) {
    let setting = Setting {
        dialect,
        numbered,
        stays,
        renames,
    };
    if let Err(why) = attempt(setting, ops) {
        panic!("{why}");
    }
}

/// The error for a sibling's message came behind the room's end, and went to the carrier's session.
#[test]
fn an_error_that_comes_after_the_end_finds_its_sender() {
    retold(
        PROSODY,
        true,
        false,
        false,
        &[
            Op::Bind(2),
            Op::Join(2, 0, 0, 3),
            Op::Bind(1),
            Op::Run,
            Op::Join(1, 0, 0, 0),
            Op::Hint(1, 0),
            Op::Destroy(0),
        ],
    );
}

/// A ban made the proxy forget what it had been asked: nobody was answered.
#[test]
fn a_request_is_answered_after_a_ban() {
    retold(
        EJABBERD,
        true,
        true,
        false,
        &[
            Op::Bind(4),
            Op::Join(4, 0, 0, 3),
            Op::Run,
            Op::Ask(4, 0, 2),
            Op::Ban(0, 1),
        ],
    );
}

/// The leave of a session that was gone had not reached the room when another one joined.
#[test]
fn an_account_is_not_in_a_room_twice() {
    retold(
        SINGLE,
        true,
        false,
        false,
        &[
            Op::Bind(3),
            Op::Join(3, 0, 2, 1),
            Op::Cut(3),
            Op::Bind(4),
            Op::Join(4, 0, 1, 1),
        ],
    );
}

/// The room granted a nick after the session had said that it was away, and took that back.
#[test]
fn the_last_word_counts_whatever_is_granted_later() {
    retold(
        EJABBERD,
        false,
        true,
        false,
        &[
            Op::Bind(1),
            Op::Join(1, 1, 0, 0),
            Op::Run,
            Op::Nick(1, 1, 2),
            Op::Show(1, 1, 1),
        ],
    );
}

/// The answer to a self-ping, behind the ban, made the proxy join again.
#[test]
fn a_ping_does_not_bring_back_who_was_banned() {
    retold(
        PROSODY,
        false,
        true,
        false,
        &[
            Op::Bind(4),
            Op::Join(4, 0, 0, 3),
            Op::Rest,
            Op::Ban(0, 1),
            Op::Ask(4, 0, 9),
        ],
    );
}

/// The error for a presence of the proxy's own had no id and was taken for the next join's.
#[test]
fn a_join_is_not_refused_by_what_went_before_it() {
    retold(
        SPARSE,
        false,
        true,
        false,
        &[
            Op::Bind(0),
            Op::Bind(2),
            Op::Join(2, 0, 0, 2),
            Op::Wait(35),
            Op::Kick(0, 0),
            Op::Show(2, 0, 3),
            Op::Join(0, 0, 0, 0),
            Op::Down(1, 3),
            Op::Join(2, 0, 0, 1),
        ],
    );
}

/// The room reflected a message while the account was on its way out: it was no lost one.
#[test]
fn a_message_taken_at_the_door_is_not_refused() {
    retold(
        PROSODY,
        true,
        true,
        false,
        &[
            Op::Bind(0),
            Op::Bind(1),
            Op::Join(1, 0, 0, 2),
            Op::Join(0, 0, 0, 3),
            Op::Run,
            Op::Say(0, 0),
            Op::Cut(1),
            Op::Away(0),
        ],
    );
}

/// A session waited for a nick that had been asked for on a carrier that was lost.
#[test]
fn a_nick_lost_with_its_carrier_is_given_up() {
    retold(
        PROSODY,
        true,
        true,
        true,
        &[
            Op::Bind(0),
            Op::Bind(2),
            Op::Join(0, 0, 1, 1),
            Op::Cut(0),
            Op::Run,
            Op::Bind(1),
            Op::Join(1, 0, 0, 0),
            Op::Lose(0),
        ],
    );
}

/// It joined on its own after a kick, and was then told the error for the nick it had waited for.
#[test]
fn a_nick_asked_for_before_a_kick_is_not_waited_for() {
    retold(
        PROSODY,
        true,
        true,
        true,
        &[
            Op::Bind(2),
            Op::Join(2, 0, 1, 3),
            Op::Bind(1),
            Op::Run,
            Op::Kick(0, 0),
            Op::Join(1, 0, 0, 2),
        ],
    );
}

/// The uplink of a session that ended in its sleep was never given back.
#[test]
fn a_sleeper_that_ends_leaves_nothing_behind() {
    retold(
        EJABBERD,
        true,
        true,
        false,
        &[Op::Bind(2), Op::Anchor(0), Op::Sleep(2)],
    );
}

/// What had waited for an answer all the time of a stay was due again and again at its end.
#[test]
fn the_end_of_a_stay_is_the_end_of_it() {
    retold(
        SPARSE,
        true,
        true,
        true,
        &[
            Op::Bind(0),
            Op::Join(0, 0, 0, 1),
            Op::Wait(35),
            Op::Nick(0, 0, 2),
            Op::Leave(0, 0),
            Op::Bind(2),
            Op::Join(0, 0, 0, 3),
        ],
    );
}

/// The join went into a suspended stream before the leave that was owed there.
#[test]
fn a_leave_that_is_owed_goes_before_a_join() {
    retold(
        EJABBERD,
        true,
        true,
        false,
        &[
            Op::Bind(3),
            Op::Suspend(4),
            Op::Join(3, 0, 0, 2),
            Op::Leave(3, 0),
            Op::Join(3, 0, 2, 3),
        ],
    );
}

/// The answers to a join that was left again on a suspended stream came to its session.
#[test]
fn what_is_left_on_a_suspended_stream_is_left() {
    retold(
        SPARSE,
        true,
        true,
        false,
        &[
            Op::Bind(4),
            Op::Join(4, 0, 2, 3),
            Op::Suspend(1),
            Op::Leave(4, 0),
        ],
    );
}

/// A newer anchor came while the only stream in the room was that of the one before, on its way in.
#[test]
fn an_anchor_that_is_followed_ends_what_it_has_begun() {
    retold(
        EJABBERD,
        true,
        true,
        false,
        &[
            Op::Bind(4),
            Op::Join(4, 0, 1, 2),
            Op::Run,
            Op::Lose(0),
            Op::Rest,
            Op::Anchor(1),
            Op::Up(0, 3),
            Op::Anchor(1),
        ],
    );
}

/// A server takes a session for an older stream of the same full JID: an answer to what the proxy
/// had asked there is nothing for the newer one, which has asked no room for anything.
#[test]
fn an_answer_to_an_older_stream_is_not_for_the_newer_one() {
    retold(
        PROSODY,
        true,
        false,
        false,
        &[
            Op::OtherJoins(0, 1),
            Op::Bind(1),
            Op::Join(1, 1, 0, 3),
            Op::Ask(1, 1, 0),
            Op::Run,
            Op::Lose(2),
            Op::Up(3, 3),
            Op::Return(1),
        ],
    );
}
