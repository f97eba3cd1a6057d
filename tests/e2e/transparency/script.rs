//! The language of the scenarios: one step a line, who does what.
//!
//! ```text
//! # A comment.
//! sessions: alice/phone alice/laptop bob/desk
//! bob/desk creates as bob
//! alice/phone joins as alice with maxstanzas=2 password=secret
//! alice/phone says hello
//! bob/desk whispers psst to alice
//! bob/desk sets the subject to Tea
//! alice/phone renames to alicia
//! alice/phone sends <presence to='{room}/alicia'><show>away</show></presence>
//! alice/phone asks <iq type='get' to='{room}'><query xmlns='urn:example'/></iq>
//! bob/desk configures membersonly=1 whois=anyone
//! bob/desk gives {alice} the affiliation member because of her tea
//! bob/desk gives alicia the role visitor
//! bob/desk kicks alicia because of the noise
//! alice/phone leaves with bye
//! bob/desk creates as bob in {other}
//! alice/laptop sends <presence/>
//! and alice/laptop awaits presence from alice/phone
//! alice/phone sends <iq type='get' id='v' to='{room}/bob'><query xmlns='jabber:iq:version'/></iq>
//! and bob/desk awaits iq get
//! and bob/desk answers result <query xmlns='jabber:iq:version'><name>x</name></query>
//! ```
//!
//! A line that begins with `and` belongs to the step before it: only behind it is written down what
//! everybody got. What a server does at a time of its own is awaited, by the name, type and sender
//! of a stanza.
//!
//! The sessions of bob go past the proxy, all others through it in the run that is compared.
//!
//! | in a line | what it is |
//! |---|---|
//! | `{room}`, `{other}` | the room; the one of the lines that end with ` in {other}` |
//! | `{alice}`, `{alice/phone}` | an account's bare JID, a session's full JID |
//! | `{last}` | the last page's end that the session was told of (XEP-0059 `<last/>`) |
//! | `{long}` | 40,000 characters |
//!
//! A join may carry children: `joins as alice with <show>away</show>`. A field of the room's form
//! is `muc#roomconfig_…` unless its name has an underscore. `server: archived` behind the line of
//! the sessions wants a server whose rooms keep an archive.

use mucplex_testkit::client::{History, Join};

/// A scenario.
pub(crate) struct Script {
    /// Its first line, a comment: which behaviours it shows, and how.
    pub(crate) about: String,
    /// The sessions, in the order in which they log in.
    pub(crate) sessions: Vec<String>,
    /// The server's rooms keep an archive.
    pub(crate) archived: bool,
    pub(crate) steps: Vec<Step>,
}

/// One line.
pub(crate) struct Step {
    pub(crate) text: String,
    /// The session that acts, as `alice/phone`.
    pub(crate) who: String,
    pub(crate) place: Place,
    pub(crate) action: Action,
    /// The next line belongs to the same step.
    pub(crate) goes_on: bool,
}

/// In which room a session acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Room,
    Other,
}

/// What a session does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Joins, and accepts the default configuration of the room that this creates.
    Create { nick: String },
    /// Joins, or is refused.
    Join { nick: String, join: Join },
    /// Sends a groupchat message.
    Say(String),
    /// Sets the subject, or takes it away.
    Subject(String),
    /// Sends a private message.
    Whisper { text: String, nick: String },
    /// Takes another nick.
    Rename(String),
    /// Leaves, with a status text.
    Leave(Option<String>),
    /// Ends its stream.
    Disconnect,
    /// Takes an occupant out (XEP-0045 8.2).
    Kick {
        nick: String,
        reason: Option<String>,
    },
    /// Bans an account (XEP-0045 9.1).
    Ban {
        account: String,
        reason: Option<String>,
    },
    /// Destroys the room (XEP-0045 10.9).
    Destroy {
        venue: Option<String>,
        reason: Option<String>,
    },
    /// Sends fields of the owner's form (XEP-0045 10.2).
    Configure(Vec<(String, String)>),
    /// Gives a nick, or an account's JID in braces, a role or an affiliation (XEP-0045 8 to 10).
    Give {
        whom: String,
        what: String,
        value: String,
        reason: Option<String>,
    },
    /// Sends an IQ request, to which an id is added, and waits for its answer.
    Ask(String),
    /// Sends bytes.
    Send(String),
    /// Answers the last IQ request it got, with a result or an error.
    Answer { kind: String, payload: String },
    /// Waits for a stanza.
    Await {
        name: String,
        kind: Option<String>,
        from: Option<String>,
    },
}

impl Script {
    /// Parses a scenario; one that cannot be read fails its test.
    pub(crate) fn parse(text: &str) -> Self {
        let about = text.lines().find_map(|line| line.strip_prefix("# "));
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .peekable();
        let sessions = lines
            .next()
            .and_then(|line| line.strip_prefix("sessions:"))
            .expect("the first line says `sessions:`");
        let sessions: Vec<String> = sessions.split_whitespace().map(str::to_owned).collect();
        let archived = lines.next_if_eq(&"server: archived").is_some();
        let mut steps: Vec<Step> = Vec::new();
        for line in lines {
            let line = match (line.strip_prefix("and "), steps.last_mut()) {
                (Some(line), Some(step)) => {
                    step.goes_on = true;
                    line
                }
                (_, _) => line,
            };
            steps.push(Step::parse(line));
        }
        for step in &steps {
            assert!(
                sessions.contains(&step.who),
                "no such session: {}",
                step.text
            );
        }
        Self {
            about: about.unwrap_or_default().to_owned(),
            sessions,
            archived,
            steps,
        }
    }
}

impl Step {
    fn parse(line: &str) -> Self {
        let (text, place) = match line.strip_suffix(" in {other}") {
            Some(text) => (text, Place::Other),
            None => (line, Place::Room),
        };
        let (who, rest) = text
            .split_once(' ')
            .unwrap_or_else(|| panic!("no step: {line}"));
        let action = Action::parse(rest).unwrap_or_else(|| panic!("no such action: {line}"));
        Self {
            text: line.to_owned(),
            who: who.to_owned(),
            place,
            action,
            goes_on: false,
        }
    }
}

impl Action {
    fn parse(text: &str) -> Option<Self> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(match verb {
            "creates" => Self::Create {
                nick: rest.strip_prefix("as ")?.to_owned(),
            },
            "joins" => Self::join(rest.strip_prefix("as ")?)?,
            "says" => Self::Say(rest.to_owned()),
            "sets" => Self::Subject(rest.strip_prefix("the subject to")?.trim().to_owned()),
            "whispers" => {
                let (text, nick) = rest.rsplit_once(" to ")?;
                Self::Whisper {
                    text: text.to_owned(),
                    nick: nick.to_owned(),
                }
            }
            "renames" => Self::Rename(rest.strip_prefix("to ")?.to_owned()),
            "leaves" => Self::Leave(rest.strip_prefix("with ").map(str::to_owned)),
            "disconnects" => Self::Disconnect,
            "kicks" => {
                let (nick, reason) = because(rest);
                Self::Kick { nick, reason }
            }
            "bans" => {
                let (account, reason) = because(rest);
                Self::Ban { account, reason }
            }
            "destroys" => {
                let (what, reason) = because(rest.strip_prefix("the room")?);
                Self::Destroy {
                    venue: what.strip_prefix(" for ").map(str::to_owned),
                    reason,
                }
            }
            "configures" => Self::Configure(fields(rest)?),
            "gives" => {
                let (gift, reason) = because(rest);
                let (whom, gift) = gift.split_once(" the ")?;
                let (what, value) = gift.split_once(' ')?;
                Self::Give {
                    whom: whom.to_owned(),
                    what: what.to_owned(),
                    value: value.to_owned(),
                    reason,
                }
            }
            "answers" => {
                let (kind, payload) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Answer {
                    kind: kind.to_owned(),
                    payload: payload.to_owned(),
                }
            }
            "asks" => Self::Ask(rest.to_owned()),
            "sends" => Self::Send(rest.to_owned()),
            "awaits" => Self::awaits(rest),
            _ => return None,
        })
    }

    fn awaits(rest: &str) -> Self {
        let (what, from) = match rest.split_once(" from ") {
            Some((what, from)) => (what, Some(from.to_owned())),
            None => (rest, None),
        };
        let (name, kind) = match what.split_once(' ') {
            Some((name, kind)) => (name, Some(kind.to_owned())),
            None => (what, None),
        };
        Self::Await {
            name: name.to_owned(),
            kind,
            from,
        }
    }

    fn join(rest: &str) -> Option<Self> {
        let (nick, options) = rest.split_once(" with ").unwrap_or((rest, ""));
        let mut join = Join::default();
        let options = if options.starts_with('<') {
            options.clone_into(&mut join.children);
            ""
        } else {
            options
        };
        for option in options.split_whitespace() {
            let (name, value) = option.split_once('=')?;
            if name == "password" {
                join.password = Some(value.to_owned());
                continue;
            }
            let history = join.history.get_or_insert_with(History::default);
            match name {
                "maxstanzas" => history.maxstanzas = Some(value.parse().ok()?),
                "maxchars" => history.maxchars = Some(value.parse().ok()?),
                "seconds" => history.seconds = Some(value.parse().ok()?),
                "since" => history.since = Some(value.to_owned()),
                _ => return None,
            }
        }
        Some(Self::Join {
            nick: nick.to_owned(),
            join,
        })
    }
}

fn fields(rest: &str) -> Option<Vec<(String, String)>> {
    let field = |field: &str| {
        let (name, value) = field.split_once('=')?;
        let name = if name.contains('_') {
            name.to_owned()
        } else {
            format!("muc#roomconfig_{name}")
        };
        Some((name, value.to_owned()))
    };
    rest.split_whitespace().map(field).collect()
}

fn because(rest: &str) -> (String, Option<String>) {
    match rest.split_once(" because ") {
        Some((what, reason)) => (what.to_owned(), Some(reason.to_owned())),
        None => (rest.to_owned(), None),
    }
}
