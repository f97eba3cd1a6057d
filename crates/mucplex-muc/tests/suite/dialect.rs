//! Where real room services differ.

/// What a service does where XEP-0045 leaves room, or where services take some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) name: &'static str,
    /// Kick and ban presences carry 110 for every stream of the nick, not just for the first.
    pub(crate) removal_110_for_all: bool,
    /// A presence of the bare room JID opens a join.
    pub(crate) room_presence: bool,
    /// A private message reaches every stream of the nick.
    pub(crate) pm_to_all: bool,
    /// A subject ends a join, also an empty one.
    pub(crate) subject: bool,
    /// The self-presence carries the id of the join.
    pub(crate) reflects_id: bool,
    /// A second stream of the account may be in the room under the nick.
    pub(crate) second_stream: bool,
    /// A second stream's coming and going shows as a presence update.
    pub(crate) stream_updates: bool,
    /// The room gives messages a stanza-id.
    pub(crate) stanza_id: bool,
    /// Leaves are confirmed.
    pub(crate) confirms_leave: bool,
    /// The leave of a stream whose resource was bound anew is handled late, and takes along what
    /// the newer one has joined.
    pub(crate) ends_older_late: bool,
}

pub(crate) const PROSODY: Dialect = Dialect {
    name: "prosody",
    removal_110_for_all: true,
    room_presence: false,
    pm_to_all: true,
    subject: true,
    reflects_id: true,
    second_stream: true,
    stream_updates: false,
    stanza_id: true,
    confirms_leave: true,
    ends_older_late: false,
};

pub(crate) const EJABBERD: Dialect = Dialect {
    name: "ejabberd",
    removal_110_for_all: false,
    room_presence: true,
    pm_to_all: false,
    stream_updates: true,
    ends_older_late: true,
    ..PROSODY
};

/// No ids of any kind, and no subject: as little as a service can give.
pub(crate) const SPARSE: Dialect = Dialect {
    name: "sparse",
    subject: false,
    reflects_id: false,
    stanza_id: false,
    ..PROSODY
};

/// One stream under a nick.
pub(crate) const SINGLE: Dialect = Dialect {
    name: "single",
    second_stream: false,
    reflects_id: false,
    ..PROSODY
};

pub(crate) const ALL: [Dialect; 4] = [PROSODY, EJABBERD, SPARSE, SINGLE];
