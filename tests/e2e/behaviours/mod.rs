//! The numbered contract, by concern.

mod anchor;
mod client_state;
mod custody;
mod entry;
mod errors;
mod handover;
mod history;
mod join;
mod leave;
mod lost;
mod message;
mod nick;
mod nick_policy;
mod overlap;
mod owner;
mod passthrough;
mod ping;
mod plain;
mod presence;
mod private;
mod push;
mod rate;
mod removal;
mod requests;
mod restart;
mod resume;
mod resume_requests;
mod scripted;
mod secrets;
mod slow;
mod standing;
mod stay;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        join::tests(),
        entry::tests(),
        errors::tests(),
        history::tests(),
        message::tests(),
        private::tests(),
        presence::tests(),
        nick::tests(),
        nick_policy::tests(),
        owner::tests(),
        requests::tests(),
        resume::tests(),
        resume_requests::tests(),
        custody::tests(),
        push::tests(),
        slow::tests(),
        standing::tests(),
        stay::tests(),
        lost::tests(),
        ping::tests(),
        leave::tests(),
        removal::tests(),
        handover::tests(),
        overlap::tests(),
        scripted::tests(),
        client_state::tests(),
        passthrough::tests(),
        plain::tests(),
        anchor::tests(),
        rate::tests(),
        restart::tests(),
        secrets::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
