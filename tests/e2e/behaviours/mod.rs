//! The numbered contract, by concern.

mod errors;
mod handover;
mod history;
mod isolation;
mod join;
mod leave;
mod message;
mod overlap;
mod presence;
mod removal;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        join::tests(),
        errors::tests(),
        history::tests(),
        message::tests(),
        presence::tests(),
        leave::tests(),
        removal::tests(),
        handover::tests(),
        overlap::tests(),
        isolation::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
