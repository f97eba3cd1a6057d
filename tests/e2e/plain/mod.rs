//! What is no room traffic passes as if the proxy were not there (behaviours 69 and 70).

mod bytes;
mod nonzas;
mod scripts;
mod undeclared;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        nonzas::tests(),
        scripts::tests(),
        undeclared::tests(),
        bytes::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
