//! What one session must see of one room: an occupant of its own in a room that loses nothing.
//!
//! The session enters the room at some place of its [`Ledger`], and is told what followed, all of
//! it, once, in order. Which place that is, is found out from what it was told on entering: where
//! several fit, all are kept until something tells them apart. The hub is not asked.

use std::collections::BTreeMap;

use super::seen::Seen;
use crate::ledger::{Event, Ledger, What};

/// How much of the ideal holds for one account in one room, until all is at rest again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// All, in the room's order.
    Exact,
    /// The room is being handed over: the next carrier may bring own presences once more.
    Moved,
    /// The room is being handed over and presences look alike: such as cancel each other out may
    /// be left out.
    Alike,
    /// The room had nobody of the account's for a while, or may have had: the room tells what it
    /// keeps, which is the messages with a body, and how things are.
    Gap,
}

/// What the view goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) account: usize,
    pub(crate) grade: Grade,
    /// The service ends a join with a subject.
    pub(crate) subject: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has asked to enter: presences of others, then its own.
    Asked,
    /// Its own presence has come: messages of the past, then the subject.
    Past,
    Live,
}

#[derive(Debug)]
pub(crate) struct View {
    pub(crate) stage: Stage,
    /// Of others, as it was told last.
    pub(crate) roster: BTreeMap<String, u64>,
    pub(crate) own: Option<(String, u64)>,
    /// Where it may have entered, and what it may have been told up to.
    pub(crate) at: Vec<(usize, usize)>,
    /// It cannot have entered before this.
    floor: usize,
    /// How many messages of the past it has asked for.
    most: usize,
    past: Vec<u64>,
    pub(crate) subject: Option<u64>,
    /// Private messages it is to be given.
    pub(crate) owed: Vec<String>,
    /// What it last said of itself, and when in the order of such words: 0 with its join. `None`
    /// if that depends on whether a nick is granted.
    pub(crate) said: Option<(usize, usize)>,
    /// How many of these the proxy may answer itself.
    pub(crate) answerable: usize,
    /// The last of them is yet to be answered.
    pub(crate) unanswered: bool,
}

/// What follows from a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stays,
    /// It is out of the room.
    Ends,
}

impl View {
    pub(crate) fn asked(floor: usize, most: usize) -> Self {
        Self {
            stage: Stage::Asked,
            roster: BTreeMap::new(),
            own: None,
            at: Vec::new(),
            floor,
            most,
            past: Vec::new(),
            subject: None,
            owed: Vec::new(),
            said: Some((0, 0)),
            answerable: 0,
            unanswered: false,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// What it has been told up to, at least.
    pub(crate) fn told(&self) -> usize {
        let told = self.at.iter().map(|(_, told)| *told);
        told.min().unwrap_or(self.floor)
    }

    pub(crate) fn take(
        &mut self,
        seen: &Seen,
        ledger: &Ledger,
        rules: Rules,
    ) -> Result<Outcome, String> {
        match self.stage {
            Stage::Asked => self.take_before_self(seen, ledger, rules),
            Stage::Past => self.take_past(seen, ledger, rules),
            Stage::Live => self.take_live(seen, ledger, rules),
        }
    }

    fn take_before_self(
        &mut self,
        seen: &Seen,
        ledger: &Ledger,
        rules: Rules,
    ) -> Result<Outcome, String> {
        match seen {
            Seen::Here {
                nick: Some(nick),
                own: true,
                canon,
            } => {
                self.own = Some((nick.clone(), *canon));
                self.enter(ledger, rules)?;
                self.stage = Stage::Past;
            }
            Seen::Here {
                nick: Some(nick),
                canon,
                ..
            } => {
                if self.roster.insert(nick.clone(), *canon).is_some() && rules.grade != Grade::Gap {
                    return Err(format!("{nick} twice before the self-presence"));
                }
            }
            Seen::Here { nick: None, .. } => {}
            Seen::Gone { own: true, .. } => return Ok(Outcome::Ends),
            Seen::Gone {
                nick: Some(nick), ..
            } if rules.grade == Grade::Gap => {
                self.roster.remove(nick);
            }
            // What an older stream of the same full JID was owed (ejabberd 23.01).
            _ if rules.grade == Grade::Gap => {}
            _ => return Err("before the self-presence".to_owned()),
        }
        Ok(Outcome::Stays)
    }

    /// Finds the places where the room was as the session has been told.
    fn enter(&mut self, ledger: &Ledger, rules: Rules) -> Result<(), String> {
        let others = self.roster.values().fold(0, |all, canon| all ^ canon);
        let own = self.own.as_ref().map(|(_, canon)| *canon);
        let fits = |place: &usize| {
            let state = &ledger.states[*place];
            let known = state.own[rules.account].map(|event| ledger.events[event].canon);
            // In the middle of a change of nick it is under the new one already.
            let renamed = place.checked_sub(1).is_some_and(|before| {
                let event = &ledger.events[before];
                event.what == What::Renamed && event.about == Some(rules.account)
            });
            renamed && known.is_none() && state.roster == others
                || known == own && state.roster == others ^ own.unwrap_or_default()
        };
        self.at = (self.floor..=ledger.end())
            .filter(|place| rules.grade == Grade::Gap || fits(place))
            .map(|place| (place, place))
            .collect();
        if self.at.is_empty() {
            return Err("the occupants were never like this".to_owned());
        }
        Ok(())
    }

    fn take_past(&mut self, seen: &Seen, ledger: &Ledger, rules: Rules) -> Result<Outcome, String> {
        match seen {
            Seen::Said { canon, past: true } => {
                self.past.push(*canon);
                Ok(Outcome::Stays)
            }
            Seen::Subject { canon, empty } => {
                self.be_in(*canon, *empty, ledger, rules)?;
                Ok(Outcome::Stays)
            }
            Seen::Gone { own: true, .. } => self.take_live(seen, ledger, rules),
            Seen::Here { nick: None, .. } => Ok(Outcome::Stays),
            // The uplink that was to bring the past is gone, and another one begins anew.
            Seen::Here { own: true, .. } if rules.grade == Grade::Gap => {
                self.past.clear();
                self.stage = Stage::Asked;
                self.take_before_self(seen, ledger, rules)
            }
            _ if rules.subject && rules.grade != Grade::Gap => {
                Err("between the self-presence and the subject".to_owned())
            }
            _ => self.take_live(seen, ledger, rules),
        }
    }

    /// The subject: the join is over, and the past is complete.
    fn be_in(
        &mut self,
        canon: u64,
        empty: bool,
        ledger: &Ledger,
        rules: Rules,
    ) -> Result<(), String> {
        let (past, most) = (std::mem::take(&mut self.past), self.most);
        self.at
            .retain(|(entered, _)| ledger.past(*entered, most).eq(past.iter().copied()));
        if self.at.is_empty() {
            return Err(format!(
                "the past was never like this: {} messages",
                past.len()
            ));
        }
        let mut at = Vec::new();
        for (entered, told) in std::mem::take(&mut self.at) {
            let subject = ledger.states[entered].subject;
            let known = subject.map(|event| ledger.events[event].canon);
            if known == Some(canon)
                || known.is_none() && empty
                || empty && !rules.subject
                || rules.grade == Grade::Gap
            {
                at.push((entered, told));
            }
            // Without a subject of its own, the next change of it ends a join.
            for next in follow(ledger, told, rules, |event| {
                event.what == What::Subject && event.canon == canon
            }) {
                if !rules.subject {
                    at.push((entered, next));
                }
            }
        }
        self.at = at;
        self.subject = Some(canon);
        if self.at.is_empty() {
            return Err("not the subject of that time".to_owned());
        }
        self.stage = Stage::Live;
        Ok(())
    }

    fn take_live(&mut self, seen: &Seen, ledger: &Ledger, rules: Rules) -> Result<Outcome, String> {
        let mut outcome = Outcome::Stays;
        match seen {
            Seen::Here { nick: None, .. } => return Ok(outcome),
            Seen::Here {
                nick: Some(nick),
                own,
                canon,
            } => {
                if *own {
                    self.unanswered = false;
                    let known = Some((nick.clone(), *canon));
                    let before = std::mem::replace(&mut self.own, known.clone());
                    // The proxy answers where the room is told nothing.
                    if self.answerable > 0 && before == known {
                        // The echo of another stream's coming looks the same.
                        let here = self.at.clone();
                        if self.advance(seen, ledger, rules).is_err() {
                            self.answerable -= 1;
                        } else {
                            self.at.extend(here);
                            self.at.sort_unstable();
                            self.at.dedup();
                        }
                        return Ok(outcome);
                    }
                } else {
                    self.roster.insert(nick.clone(), *canon);
                }
            }
            Seen::Gone {
                nick, own, renamed, ..
            } => {
                if *own && !*renamed {
                    outcome = Outcome::Ends;
                }
                if let Some(nick) = nick.as_ref().filter(|_| !*own) {
                    self.roster.remove(nick);
                }
            }
            Seen::Said { past: true, .. } if rules.grade != Grade::Gap => {
                return Err("a message of the past, after the join".to_owned());
            }
            Seen::Subject { canon, .. } => self.subject = Some(*canon),
            _ => {}
        }
        let again = |canon: u64| {
            let mut all = ledger.events.iter();
            all.any(|event| event.about == Some(rules.account) && event.canon == canon)
        };
        match (self.advance(seen, ledger, rules), seen) {
            (
                Err(_),
                Seen::Here {
                    own: true, canon, ..
                },
            ) if rules.grade >= Grade::Moved && again(*canon) => {}
            (result, _) => result?,
        }
        Ok(outcome)
    }

    fn advance(&mut self, seen: &Seen, ledger: &Ledger, rules: Rules) -> Result<(), String> {
        let mut at = Vec::new();
        for (entered, told) in &self.at {
            if rules.grade == Grade::Gap && !matches!(seen, Seen::Said { .. }) {
                // Told how things are, not how they came to be.
                at.push((*entered, *told));
                continue;
            }
            let nexts = follow(ledger, *told, rules, |event| {
                says(event, seen, rules.account)
            });
            at.extend(nexts.into_iter().map(|next| (*entered, next)));
        }
        at.sort_unstable();
        at.dedup();
        if at.is_empty() {
            let waited_for = self.at.first().and_then(|(_, told)| {
                let rest = &ledger.events[*told..];
                rest.iter().find(|event| !may_skip(event, rules))
            });
            return Err(match waited_for {
                Some(event) => format!("out of turn; it was to be told: {}", event.xml),
                None => "nothing was left to be told".to_owned(),
            });
        }
        self.at = at;
        Ok(())
    }

    /// What it has not been told by now, if anything.
    pub(crate) fn misses<'l>(&self, ledger: &'l Ledger, rules: Rules) -> Option<&'l Event> {
        let open = |told: usize| {
            let mut rest = ledger.events[told..].iter();
            rest.find(|event| !may_skip(event, rules))
        };
        let mut all = self.at.iter().map(|(_, told)| open(*told));
        if all.any(|open| open.is_none()) {
            return None;
        }
        self.at.first().and_then(|(_, told)| open(*told))
    }

    /// All is at rest: it has been told all there is.
    pub(crate) fn settle(&mut self, ledger: &Ledger) {
        self.answerable = 0;
        self.at = vec![(ledger.end(), ledger.end())];
    }
}

/// The places behind the next event that is the one sought, and behind those that may be left out.
fn follow(
    ledger: &Ledger,
    told: usize,
    rules: Rules,
    sought: impl Fn(&Event) -> bool,
) -> Vec<usize> {
    let mut found = Vec::new();
    for (place, event) in ledger.events.iter().enumerate().skip(told) {
        if sought(event) {
            found.push(place + 1);
        }
        if !may_skip(event, rules) {
            break;
        }
    }
    found
}

/// Whether a stanza tells of an event.
fn says(event: &Event, seen: &Seen, account: usize) -> bool {
    let about_own = event.about == Some(account);
    match (seen, event.what) {
        (Seen::Here { own, canon, .. }, What::Here)
        | (Seen::Gone { own, canon, .. }, What::Gone | What::Renamed) => {
            *canon == event.canon && *own == about_own
        }
        (Seen::Gone { own, destroyed, .. }, What::Destroyed) => *own && *destroyed,
        (Seen::Said { canon, .. }, What::Said)
        | (Seen::Subject { canon, .. }, What::Subject)
        | (Seen::Notice { canon }, What::Notice) => *canon == event.canon,
        _ => false,
    }
}

/// Whether a session may go without having been told.
fn may_skip(event: &Event, rules: Rules) -> bool {
    let own = event.about == Some(rules.account);
    let presence = matches!(event.what, What::Here | What::Gone | What::Renamed);
    match rules.grade {
        // It says nothing new, and a hand-over may take it for what it has brought already.
        Grade::Exact | Grade::Moved => event.echo,
        Grade::Alike => presence && (!own || event.echo),
        Grade::Gap => event.what != What::Said,
    }
}
