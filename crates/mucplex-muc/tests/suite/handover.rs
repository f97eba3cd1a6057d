//! Behaviours 43 and 59: another uplink takes a room over, and nobody notices.
//!
//! Two sessions, the first one's uplink carries the room. What ends its part, and how far ahead or
//! behind the two uplinks run, is varied; the other session must see the room as if nothing were.

use std::time::Duration;

use crate::dialect::{self, Dialect, EJABBERD, PROSODY, SINGLE, SPARSE};
use crate::world::{TEA, World, two_of};

const MESSAGE: &str = "<message to='tea@rooms.test' type='groupchat'";

/// Which uplink is served first, whenever both have something.
#[derive(Clone, Copy, Debug)]
enum Pace {
    OldAhead,
    NewAhead,
    Equal,
}

/// Delivers what is on its way, one step at a time, with bob and the session saying something
/// after each; the lines said, in the room's order.
fn talk(w: &mut World, old: u64, new: u64, session: u64, pace: Pace, with_ids: bool) -> usize {
    let mut n = 0;
    for round in 0..40 {
        let id = if with_ids {
            format!(" id='m{round}'")
        } else {
            String::new()
        };
        if round % 2 == 0 {
            w.other(
                "bob",
                &format!("{MESSAGE}{id}><body>bob{round}</body></message>"),
            );
        } else {
            w.send(
                session,
                &format!("{MESSAGE}{id}><body>me{round}</body></message>"),
            );
        }
        if round % 5 == 0 {
            let show = ["away", "chat", "xa"][round % 3];
            w.other(
                "bob",
                &format!("<presence to='tea@rooms.test/bob'><show>{show}</show></presence>"),
            );
        }
        n += 1;
        let moves: &[(u64, usize)] = match pace {
            Pace::OldAhead => &[(old, 9), (new, 1)],
            Pace::NewAhead => &[(new, 9), (old, 1)],
            Pace::Equal => &[(old, 1), (new, 1)],
        };
        for (uplink, steps) in moves {
            for _ in 0..*steps {
                w.step_up(*uplink);
                w.step_down(*uplink);
            }
        }
    }
    n
}

/// Everything the room has heard, as a session must have seen it.
fn check(w: &mut World, session: u64, count: usize, context: &str) {
    let said = w.service.known(TEA).said.clone();
    assert_eq!(
        said.len(),
        count,
        "{context}: something never reached the room: {said:?}"
    );
    let mine: Vec<_> = said.iter().filter(|body| body.starts_with("me")).collect();
    let order = |body: &&String| body[2..].parse::<u32>().unwrap();
    assert!(mine.is_sorted_by_key(order), "{context}: {mine:?}");
    let seen = w.seen(session);
    let bodies: Vec<&str> = seen
        .iter()
        .filter(|line| line.starts_with("message") || line.starts_with("past"))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(bodies, said, "{context}");
    let last = seen
        .iter()
        .rev()
        .find(|line| line.starts_with("presence bob"));
    assert_eq!(
        last.map(String::as_str),
        Some("presence bob xa"),
        "{context}"
    );
    assert!(
        !seen.iter().any(|line| line.starts_with("gone")),
        "{context}: {seen:?}"
    );
}

fn hand_over(end: fn(&mut World, u64), dialects: &[Dialect], unnoticed: bool) {
    for dialect in dialects {
        for pace in [Pace::OldAhead, Pace::NewAhead, Pace::Equal] {
            for with_ids in [true, false] {
                for lag in [0, 3, 7] {
                    let context = format!("{} {pace:?} ids {with_ids} lag {lag}", dialect.name);
                    let (mut w, a, b) = two_of(*dialect);
                    let (old, new) = (w.up(a), w.up(b));
                    // Some traffic is on its way when it begins.
                    for n in 0..lag {
                        w.other("bob", &format!("{MESSAGE}><body>early{n}</body></message>"));
                    }
                    end(&mut w, a);
                    let count = lag + talk(&mut w, old, new, b, pace, with_ids);
                    w.run();
                    w.wait(Duration::from_secs(11));
                    w.run();
                    check(&mut w, b, count, &context);
                    let told = w.seen_by_other("bob");
                    let left = told.iter().any(|line| line.starts_with("gone alice"));
                    assert!(!left || !unnoticed, "{context}: the room saw it");
                    assert!(
                        w.seen(a).iter().all(|line| !line.starts_with("gone")),
                        "{context}"
                    );
                    let streams = w
                        .service
                        .known(TEA)
                        .occupants
                        .iter()
                        .find(|it| it.nick == "alice")
                        .map(|it| it.streams.clone());
                    assert_eq!(
                        streams,
                        Some(vec!["alice@test/desk".to_owned()]),
                        "{context}"
                    );
                }
            }
        }
    }
}

#[test]
fn b59_the_carriers_session_ends() {
    hand_over(World::cut, &[PROSODY, EJABBERD, SPARSE], true);
}

#[test]
fn b59_the_carriers_session_sends_undirected_unavailable() {
    hand_over(World::unavailable, &[PROSODY, EJABBERD, SPARSE], true);
}

#[test]
fn b59_a_service_that_allows_one_stream_sees_a_leave_and_a_join() {
    hand_over(World::cut, &[SINGLE], false);
}

/// The uplink breaks: what was on its way on it comes from the room's history instead.
#[test]
fn b59_the_carriers_uplink_is_lost_without_warning() {
    for dialect in [PROSODY, EJABBERD, SPARSE] {
        for delivered in 0..6 {
            let (mut w, a, b) = two_of(dialect);
            for n in 0..5 {
                w.other_says("bob", TEA, &format!("m{n}"));
                w.wait(Duration::from_secs(1));
            }
            w.other_joins("carol", TEA);
            w.other(
                "bob",
                "<presence to='tea@rooms.test/bob'><show>away</show></presence>",
            );
            w.other(
                "bob",
                "<message to='tea@rooms.test' type='groupchat'><subject>green</subject></message>",
            );
            for _ in 0..delivered {
                w.step_down(w.up(a));
            }
            let up = w.up(a);
            w.lose(up);
            w.say(b, TEA, "1", "mine");
            // The server notices later.
            w.all_up(w.up(b));
            w.run();
            w.wait(Duration::from_secs(11));
            w.run();
            let seen = w.seen(b);
            let bodies: Vec<&str> = seen
                .iter()
                .filter(|line| line.starts_with("message") || line.starts_with("past"))
                .map(|line| line.rsplit(' ').next().unwrap())
                .collect();
            assert_eq!(
                bodies,
                ["m0", "m1", "m2", "m3", "m4", "mine"],
                "{} {delivered}",
                dialect.name
            );
            for line in ["presence carol", "presence bob away"] {
                assert_eq!(
                    seen.iter().filter(|it| *it == line).count(),
                    1,
                    "{line}: {seen:?}"
                );
            }
            let subjects = seen.iter().filter(|it| *it == "subject bob: green").count();
            assert_eq!(subjects, usize::from(dialect.subject), "{seen:?}");
            assert!(
                w.seen_by_other("bob")
                    .iter()
                    .all(|line| !line.starts_with("gone alice"))
            );
        }
    }
}

#[test]
fn b59_who_left_while_no_carrier_looked_is_gone_for_the_sessions() {
    let (mut w, a, b) = two_of(PROSODY);
    w.other_joins("carol", TEA);
    w.run();
    w.seen(b);
    w.other(
        "carol",
        "<presence to='tea@rooms.test/carol' type='unavailable'/>",
    );
    w.service.config_change(TEA, &[170]);
    let up = w.up(a);
    w.lose(up);
    w.run();
    assert_eq!(w.seen(b), ["gone carol"]);
    w.join(b, TEA, "alice");
    assert_eq!(
        w.seen(b),
        ["presence bob", "presence alice 110 170", "subject room: "]
    );
}

#[test]
fn b59_the_end_mark_never_comes() {
    let mut quiet = PROSODY;
    quiet.confirms_leave = false;
    let (mut w, a, b) = two_of(quiet);
    w.cut(a);
    w.run();
    w.say(b, TEA, "1", "held");
    assert!(
        w.uplinks[&w.up(b)]
            .sent
            .iter()
            .all(|xml| !xml.contains("held"))
    );
    w.wait(Duration::from_secs(5));
    w.run();
    assert_eq!(w.seen(b), ["message alice: held"]);
    assert!(!w.uplinks[&w.up(a)].open);
}

#[test]
fn b59_the_next_carrier_is_lost_in_the_middle() {
    for dialect in dialect::ALL {
        for steps in 0..8 {
            for end in [World::cut, World::unavailable, |w: &mut World, id| {
                w.lose(w.up(id));
            }] {
                let (mut w, a, b) = two_of(dialect);
                let c = w.bind("third");
                w.joined(c, "alice");
                w.seen_by_other("bob");
                w.cut(a);
                for n in 0..steps {
                    w.other_says("bob", TEA, &format!("m{n}"));
                    w.say(c, TEA, &format!("c{n}"), &format!("c{n}"));
                    for uplink in [w.up(b), w.up(a), w.up(c)] {
                        w.step_up(uplink);
                        w.step_down(uplink);
                    }
                }
                end(&mut w, b);
                for _ in 0..3 {
                    w.run();
                    w.wait(Duration::from_secs(11));
                }
                w.say(c, TEA, "last", "last");
                w.run();
                let said = w.service.known(TEA).said.clone();
                assert_eq!(
                    said.len(),
                    2 * steps + 1,
                    "{} {steps}: {said:?}",
                    dialect.name
                );
                let seen = w.seen(c);
                let bodies: Vec<&str> = seen
                    .iter()
                    .filter(|line| line.starts_with("message") || line.starts_with("past"))
                    .map(|line| line.rsplit(' ').next().unwrap())
                    .collect();
                assert_eq!(bodies, said, "{} {steps}", dialect.name);
            }
        }
    }
}

#[test]
fn b59_the_next_carrier_never_answers() {
    let (mut w, a, b) = two_of(PROSODY);
    w.service.dead.insert(TEA.into());
    w.cut(a);
    w.run();
    w.wait(Duration::from_secs(31));
    assert_eq!(w.seen(b), ["gone alice 110 333"]);
    // The leave on it is to reach the room first, which is not waited for either.
    w.wait(Duration::from_secs(11));
    assert!(!w.uplinks[&w.up(a)].open);
    w.service.dead.clear();
    w.run();
    w.join(b, TEA, "alice");
    w.run();
    assert!(w.seen(b).contains(&"presence alice 110".to_owned()));
}

#[test]
fn b43_nobody_is_left_to_carry_the_room() {
    let mut w = World::new();
    w.other_joins("bob", TEA);
    let a = w.bind("phone");
    w.joined(a, "alice");
    w.seen_by_other("bob");
    w.unavailable(a);
    w.run();
    // The stream has left the room, and comes back behind that for as long as the account stays.
    assert_eq!(w.seen_by_other("bob"), ["gone alice", "presence alice xa"]);
    assert!(w.seen(a).is_empty() && !w.withholds(a));
    w.join(a, TEA, "alice");
    w.run();
    assert_eq!(
        w.seen(a),
        [
            "presence bob",
            "presence alice xa 110",
            "subject room: ",
            "presence alice 110"
        ]
    );
}

#[test]
fn b43_what_a_client_sends_behind_its_unavailable_waits_with_it() {
    let (mut w, a, b) = two_of(PROSODY);
    w.unavailable(a);
    w.send(a, "<message to='bob@test' id='x'><body>hi</body></message>");
    assert!(!w.sent(w.up(a)).iter().any(|xml| xml.contains("bob@test")));
    w.run();
    let sent = w.sent(w.up(a));
    let place = |text: &str| sent.iter().position(|xml| xml.contains(text)).unwrap();
    assert!(place("<presence type='unavailable'/>") < place("bob@test"));
    assert!(place("to='tea@rooms.test/alice'") < place("<presence type='unavailable'/>"));
    assert!(w.seen(b).is_empty());
}

#[test]
fn b27_private_messages_in_the_middle_of_a_hand_over() {
    for dialect in [PROSODY, EJABBERD] {
        for steps in 0..8 {
            let (mut w, a, b) = two_of(dialect);
            w.cut(a);
            for _ in 0..steps {
                for uplink in [w.up(b), w.up(a)] {
                    w.step_up(uplink);
                    w.step_down(uplink);
                }
            }
            w.other(
                "bob",
                "<message to='tea@rooms.test/alice' type='chat'><body>psst</body></message>",
            );
            w.run();
            assert_eq!(
                w.seen(b)
                    .iter()
                    .filter(|it| *it == "private bob: psst")
                    .count(),
                1,
                "{} {steps}",
                dialect.name
            );
        }
    }
}

#[test]
fn b34_a_change_of_nick_in_the_middle_of_a_hand_over() {
    for dialect in dialect::ALL {
        for before in [true, false] {
            for steps in 0..6 {
                let (mut w, a, b) = two_of(dialect);
                let nick = "<presence to='tea@rooms.test/ally' id='n'/>";
                if before {
                    w.send(b, nick);
                }
                w.cut(a);
                for _ in 0..steps {
                    for uplink in [w.up(b), w.up(a)] {
                        w.step_up(uplink);
                        w.step_down(uplink);
                    }
                }
                if !before {
                    w.send(b, nick);
                }
                w.say(b, TEA, "1", "hi");
                for _ in 0..3 {
                    w.run();
                    w.wait(Duration::from_secs(11));
                }
                let seen = w.seen(b);
                let context = format!("{} {before} {steps}: {seen:?}", dialect.name);
                let place = |line: &str| seen.iter().position(|it| it == line);
                assert!(place("gone alice 110 303").is_some(), "{context}");
                assert!(
                    place("presence ally 110") < place("message ally: hi"),
                    "{context}"
                );
                let nicks: Vec<_> = w
                    .service
                    .known(TEA)
                    .occupants
                    .iter()
                    .map(|it| it.nick.clone())
                    .collect();
                assert_eq!(nicks, ["bob", "ally"], "{context}");
            }
        }
    }
}

#[test]
fn b14_the_subject_changes_in_the_middle_of_a_hand_over() {
    for dialect in [PROSODY, EJABBERD] {
        for steps in 0..8 {
            let (mut w, a, b) = two_of(dialect);
            w.cut(a);
            for _ in 0..steps {
                for uplink in [w.up(b), w.up(a)] {
                    w.step_up(uplink);
                    w.step_down(uplink);
                }
            }
            w.send(
                b,
                "<message to='tea@rooms.test' type='groupchat'><subject>green</subject></message>",
            );
            w.run();
            let told = w
                .seen(b)
                .iter()
                .filter(|it| *it == "subject alice: green")
                .count();
            assert_eq!(told, 1, "{} {steps}", dialect.name);
            w.join(b, TEA, "alice");
            assert_eq!(w.seen(b).last().unwrap(), "subject alice: green");
        }
    }
}

#[test]
fn b42_the_last_session_leaves_in_the_middle_of_a_hand_over() {
    for dialect in dialect::ALL {
        for steps in 0..8 {
            let (mut w, a, b) = two_of(dialect);
            w.cut(a);
            for _ in 0..steps {
                for uplink in [w.up(b), w.up(a)] {
                    w.step_up(uplink);
                    w.step_down(uplink);
                }
            }
            w.say(b, TEA, "1", "last words");
            w.leave(b, TEA, "alice");
            w.run();
            w.wait(Duration::from_secs(11));
            w.run();
            let context = format!("{} {steps}", dialect.name);
            assert_eq!(w.service.known(TEA).nick("alice"), None, "{context}");
            let seen = w.seen_by_other("bob");
            let heard = seen.contains(&"message alice: words".to_owned())
                || seen.contains(&"message alice: last words".to_owned());
            let refused = w.seen(b).iter().any(|it| it.starts_with("error message 1"));
            assert!(heard || refused, "{context}: {seen:?}");
            if dialect.second_stream {
                assert_eq!(
                    seen.iter()
                        .filter(|it| it.starts_with("gone alice"))
                        .count(),
                    1,
                    "{context}: {seen:?}"
                );
            }
        }
    }
}
