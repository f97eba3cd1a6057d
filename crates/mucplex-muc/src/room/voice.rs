//! Requests for voice, which moderators approve (XEP-0045 8.6; behaviour 30).
//!
//! Every session of a moderator is shown the request, and each may answer it. The room hears the
//! first answer: what a second one would do is up to the room.

use std::collections::VecDeque;

use mucplex_xml::{Element, Frame};

use super::Room;
use crate::{SessionId, ns};

/// Requests of one room that are remembered.
const MOST_REQUESTS: usize = 64;

/// The requests that sessions have been shown.
#[derive(Debug, Default)]
pub(super) struct VoiceRequests {
    open: VecDeque<Applicant>,
    /// With the session that has answered, which may change its mind.
    answered: VecDeque<(Applicant, SessionId)>,
}

/// Who asks for voice, by what the form says.
#[derive(Debug, PartialEq, Eq)]
struct Applicant {
    jid: Option<String>,
    nick: Option<String>,
}

impl VoiceRequests {
    /// A request is shown to the sessions, maybe for the second time.
    fn open(&mut self, applicant: Applicant) {
        self.answered.retain(|(answered, _)| *answered != applicant);
        self.open.retain(|open| *open != applicant);
        push_bounded(&mut self.open, applicant);
    }

    /// A session answers a request. `false` if another one has answered it before.
    fn answer(&mut self, applicant: Applicant, session: SessionId) -> bool {
        let mut answered = self.answered.iter();
        if let Some((_, by)) = answered.find(|(answered, _)| *answered == applicant) {
            return *by == session;
        }
        if let Some(place) = self.open.iter().position(|open| *open == applicant) {
            self.open.remove(place);
            push_bounded(&mut self.answered, (applicant, session));
        }
        true
    }
}

fn push_bounded<T>(requests: &mut VecDeque<T>, request: T) {
    if requests.len() >= MOST_REQUESTS {
        requests.pop_front();
    }
    requests.push_back(request);
}

impl Room {
    /// The room says something to the moderators: it may be a request.
    pub(super) fn note_voice_request(&mut self, frame: &Frame) {
        if let Some(applicant) = applicant(frame, "form") {
            self.voice.open(applicant);
        }
    }

    /// Whether a session's message answers a request that another session has answered.
    pub(super) fn is_second_answer(&mut self, session: SessionId, frame: &Frame) -> bool {
        applicant(frame, "submit").is_some_and(|applicant| !self.voice.answer(applicant, session))
    }
}

/// The one for whom this form of a request is, if it is one.
fn applicant(frame: &Frame, kind: &str) -> Option<Applicant> {
    let form = frame.root().child("x", ns::DATA)?;
    let value = |name: &str| {
        let is_it = |field: &Element<'_>| {
            field.is("field", ns::DATA) && field.attr("var").as_deref() == Some(name)
        };
        let value = form.children().find(is_it)?.child("value", ns::DATA)?;
        Some(value.text())
    };
    let is_request = form.attr("type").as_deref() == Some(kind)
        && value("FORM_TYPE").as_deref() == Some(ns::MUC_REQUEST);
    is_request.then(|| Applicant {
        jid: value("muc#jid"),
        nick: value("muc#roomnick"),
    })
}
