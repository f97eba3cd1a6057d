//! Streams from the first byte to the last: negotiation, login, binding, errors and ends.

mod binding;
mod endings;
mod greeting;
mod hostile;
mod json;
mod login;
mod logs;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        login::tests(),
        greeting::tests(),
        binding::tests(),
        endings::tests(),
        logs::tests(),
        hostile::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
