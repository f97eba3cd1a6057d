//! How a room answers.

/// What a room does; the default is a room that behaves.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The answer to a join.
    pub joining: Joining,
    /// The answer to an occupant's request for another nick.
    pub renaming: Renaming,
    /// The answer to a leave.
    pub leaving: Leaving,
    /// Status codes in each self-presence of a join, as 100 or 170.
    pub codes: Vec<u16>,
    /// Whether the self-presence of a join or a nick change carries the id of the request
    /// (XEP-0045 has it so since version 1.32); errors always do.
    pub reflects_ids: bool,
    /// Whether items show full JIDs: a non-anonymous room.
    pub shows_jids: bool,
    /// Whether each groupchat message gets a stanza-id of the room (XEP-0359).
    pub stanza_ids: bool,
    /// Whether groupchat messages, private messages and IQs are taken at all; where not, they are
    /// received and nothing comes of them, as in a service that hangs.
    pub answers: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            joining: Joining::Admit,
            renaming: Renaming::Announce,
            leaving: Leaving::Confirm,
            codes: Vec::new(),
            reflects_ids: true,
            shows_jids: false,
            stanza_ids: false,
            answers: true,
        }
    }
}

/// What comes of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joining {
    /// The account is let in.
    Admit,
    /// It is let in under this nick, with status 210 (XEP-0045 7.2.3).
    Assign(String),
    /// An error with this condition (RFC 6120 8.3.3), as `forbidden`.
    Refuse(&'static str),
    /// Nothing for now: the join waits for [`super::Room::admit`] or [`super::Room::refuse`].
    Hold,
    /// The same, and the joiner gets a CAPTCHA (XEP-0158 4) with this challenge id. Its right answer
    /// lets it in.
    Challenge(String),
    /// These stanzas, whatever they are, in which `{to}` stands for the joining stream's JID, `{id}`
    /// for the id of the join, `{room}` for the room and `{nick}` for the nick it asked for. The
    /// stream is an occupant under that nick from then on, and gets what occupants get.
    Say(Vec<String>),
}

/// What comes of a nick change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renaming {
    /// Unavailable with 303, then available under the new nick (XEP-0045 7.6).
    Announce,
    /// Only available under the new nick.
    WithoutUnavailable,
    /// Both, but the unavailable does not say why: no 303 and no new nick.
    WithoutCode,
    /// The nick is changed and nobody is told.
    Silent,
    /// An error with this condition.
    Refuse(&'static str),
}

/// What comes of a leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Unavailable with 110 to the leaver, unavailable to the others.
    Confirm,
    /// The leaver is gone and gets no answer; the others are told.
    Silent,
    /// Nothing at all comes of it: the room no longer answers.
    Ignore,
}
