//! Behaviours 50, 52, 53 and 55: requests.

use std::time::Duration;

use crate::dialect::{PROSODY, SPARSE};
use crate::world::{TEA, World};

fn two() -> (World, u64, u64) {
    let mut w = World::of(PROSODY);
    let (a, b) = (w.bind("phone"), w.bind("desk"));
    w.joined(a, "alice");
    w.joined(b, "alice");
    w.other_joins("bob", TEA);
    w.run();
    w.raw(a);
    w.raw(b);
    w.seen_by_other("bob");
    (w, a, b)
}

fn ask_bob(w: &mut World, id: u64) {
    w.send(
        id,
        "<iq type='get' to='tea@rooms.test/bob' id='1'><query xmlns='jabber:iq:version'/></iq>",
    );
}

/// The ids of the requests bob has been sent.
fn asked_of_bob(w: &mut World) -> Vec<String> {
    let seen = w.seen_by_other("bob");
    seen.iter()
        .map(|line| line.split(' ').nth(2).unwrap().to_owned())
        .collect()
}

fn bob_answers(w: &mut World, id: &str) {
    w.other(
        "bob",
        &format!("<iq type='result' to='tea@rooms.test/alice' id='{id}'/>"),
    );
}

#[test]
fn b50_a_moderators_request_works_from_every_session() {
    let (mut w, a, b) = two();
    w.send(b, "<iq type='set' to='tea@rooms.test' id='k'><query xmlns='http://jabber.org/protocol/muc#admin'><item nick='bob' role='none'/></query></iq>");
    w.run();
    assert_eq!(w.seen(b), ["gone bob 307", "iq result k room"]);
    assert_eq!(w.seen(a), ["gone bob 307"]);
}

#[test]
fn b52_equal_ids_do_not_mix() {
    let (mut w, a, b) = two();
    ask_bob(&mut w, a);
    ask_bob(&mut w, b);
    w.run();
    let ids = asked_of_bob(&mut w);
    assert_eq!(ids.len(), 2);
    bob_answers(&mut w, &ids[1]);
    w.run();
    assert!(w.seen(a).is_empty());
    assert_eq!(w.seen(b), ["iq result 1 bob"]);
    bob_answers(&mut w, &ids[0]);
    bob_answers(&mut w, &ids[0]);
    w.run();
    assert_eq!(w.seen(a), ["iq result 1 bob"]);
    assert!(w.seen(b).is_empty());
}

#[test]
fn b52_an_answer_that_does_not_come() {
    let (mut w, a, b) = two();
    ask_bob(&mut w, b);
    w.run();
    w.wait(Duration::from_secs(121));
    assert_eq!(w.seen(b), ["error iq 1 remote-server-timeout"]);
    let ids = asked_of_bob(&mut w);
    bob_answers(&mut w, &ids[0]);
    w.run();
    // Late: to the stream it was asked on, as with the server alone; it means nothing there.
    assert!(w.seen(b).is_empty());
    w.seen(a);
    ask_bob(&mut w, b);
    let up = w.up(a);
    w.lose(up);
    assert_eq!(w.seen(b), ["error iq 1 remote-server-timeout"]);
}

#[test]
fn b52_what_waits_for_an_answer_is_bounded() {
    let (mut w, a, b) = two();
    for _ in 0..1_100 {
        ask_bob(&mut w, b);
    }
    assert_eq!(w.seen(b).len(), 1_100 - 1_024);
    w.run();
    w.wait(Duration::from_secs(121));
    assert_eq!(w.seen(b).len(), 1_024);
    assert!(w.seen(a).is_empty());
}

#[test]
fn b53_a_request_to_the_account_is_answered_by_one_session() {
    let (mut w, a, b) = two();
    w.other(
        "bob",
        "<iq type='get' to='tea@rooms.test/alice' id='v'><query xmlns='jabber:iq:version'/></iq>",
    );
    w.run();
    let first = w.seen(a);
    assert_eq!(first.len() + w.seen(b).len(), 1);
    let id = first[0].split(' ').nth(2).unwrap().to_owned();
    // The one that was asked goes, and another is asked; only that one's answer counts.
    w.leave(a, TEA, "alice");
    assert_eq!(w.seen(b), [format!("iq get {id} bob")]);
    let answer = format!("<iq type='result' to='tea@rooms.test/bob' id='{id}'/>");
    w.send(a, &answer);
    w.send(b, &answer);
    w.send(b, &answer);
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["iq result v alice"]);
}

#[test]
fn b53_with_nobody_attached_the_proxy_answers() {
    const ASKED: [&str; 5] = [
        "<query xmlns='jabber:iq:version'/>",
        "<ping xmlns='urn:xmpp:ping'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info' node='urn:x#1'/>",
        "<vCard xmlns='vcard-temp'/>",
    ];
    let (mut w, a, b) = two();
    let asks = |w: &mut World, id: &str, what: &str| {
        w.other(
            "bob",
            &format!("<iq type='get' to='tea@rooms.test/alice' id='{id}'>{what}</iq>"),
        );
        w.run();
    };
    // One that was put to a session, and four to come.
    asks(&mut w, "v0", ASKED[0]);
    let idle = w.bind("idle");
    w.cut(a);
    w.cut(b);
    w.run();
    for (n, what) in (1..).zip(&ASKED[1..]) {
        asks(&mut w, &format!("v{n}"), what);
    }
    assert_eq!(
        w.seen_by_other("bob"),
        [
            "iq result v0 alice",
            "iq result v1 alice",
            "iq result v2 alice",
            "error iq v3 service-unavailable",
            "error iq v4 service-unavailable"
        ]
    );
    assert!(w.seen(idle).is_empty());
}

#[test]
fn b55_what_the_room_answers_is_the_askers_alone() {
    let (mut w, a, b) = two();
    for id in [a, b] {
        w.send(
            id,
            "<iq type='set' to='tea@rooms.test' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>",
        );
    }
    w.run();
    for id in [a, b] {
        assert_eq!(
            w.seen(id),
            [
                "private room: result",
                "private room: result",
                "iq result q room"
            ]
        );
    }
}

/// A request that waited for a hand-over in vain was once refused under the proxy's own id.
#[test]
fn b52_a_request_that_waits_for_a_hand_over_in_vain() {
    let (mut w, a, b) = two();
    let up = w.up(a);
    w.service.dead.insert(TEA.into());
    w.lose(up);
    ask_bob(&mut w, b);
    w.run();
    w.wait(Duration::from_secs(31));
    assert_eq!(
        w.seen(b),
        ["error iq 1 remote-server-timeout", "gone alice 110 333"]
    );
}

/// A service takes an answer from the stream it has asked alone (Prosody 0.12): the carrier of a
/// session that has gone once left before another session could give it.
#[test]
fn b53_the_carriers_session_goes_and_another_answers() {
    let (mut w, a, b) = two();
    let c = w.bind("third");
    w.joined(c, "alice");
    w.other(
        "bob",
        "<iq type='get' to='tea@rooms.test/alice' id='v'><query xmlns='jabber:iq:version'/></iq>",
    );
    w.run();
    let [asked] = &w.seen(a)[..] else {
        panic!("not asked")
    };
    let id = asked.split(' ').nth(2).unwrap().to_owned();
    for (gone, next) in [(a, b), (b, c)] {
        w.cut(gone);
        w.run();
        assert_eq!(w.seen(next), [format!("iq get {id} bob")]);
    }
    w.seen_by_other("bob");
    let (old, next) = (w.up(a), w.up(c));
    w.uplinks.get_mut(&next).unwrap().sent.clear();
    let answer = format!("<iq type='result' to='tea@rooms.test/bob' id='{id}'/>");
    w.send(c, &answer);
    w.send(c, &answer);
    assert_eq!(
        w.uplinks[&old]
            .sent
            .iter()
            .filter(|it| **it == answer)
            .count(),
        1
    );
    w.run();
    assert_eq!(w.seen_by_other("bob")[0], "iq result v alice");
    // Then the old carrier goes.
    assert!(!w.uplinks[&old].open);
    w.say(c, TEA, "1", "here");
    w.run();
    assert_eq!(w.seen(c), ["message alice: here"]);
}

#[test]
fn b53_the_carriers_session_goes_and_nobody_answers() {
    let (mut w, a, b) = two();
    w.other(
        "bob",
        "<iq type='get' to='tea@rooms.test/alice' id='v'><query xmlns='jabber:iq:version'/></iq>",
    );
    w.run();
    w.cut(a);
    w.run();
    let [asked] = &w.seen(b)[..] else {
        panic!("not asked")
    };
    let id = asked.split(' ').nth(2).unwrap().to_owned();
    assert!(w.uplinks[&w.up(a)].open);
    w.wait(Duration::from_secs(6));
    w.run();
    let on_bob = w.seen_by_other("bob");
    let answers: Vec<_> = on_bob.iter().filter(|it| it.contains("iq")).collect();
    assert_eq!(answers, ["error iq v service-unavailable"]);
    assert!(!w.uplinks[&w.up(a)].open);
    // Too late.
    let answer = format!("<iq type='result' to='tea@rooms.test/bob' id='{id}'/>");
    w.send(b, &answer);
    w.run();
    assert!(w.seen_by_other("bob").is_empty());
}

/// The answer to a session's request comes on the carrier that has asked.
#[test]
fn b52_a_request_under_way_on_a_carrier_that_is_to_leave() {
    for answers in [true, false] {
        let (mut w, a, b) = two();
        ask_bob(&mut w, b);
        w.run();
        let ids = asked_of_bob(&mut w);
        w.cut(a);
        w.run();
        assert!(w.uplinks[&w.up(a)].open);
        if answers {
            bob_answers(&mut w, &ids[0]);
            w.run();
            assert_eq!(w.seen(b), ["iq result 1 bob"]);
        } else {
            w.wait(Duration::from_secs(6));
            w.run();
            assert_eq!(w.seen(b), ["error iq 1 remote-server-timeout"]);
        }
        assert!(!w.uplinks[&w.up(a)].open);
    }
}

#[test]
fn b53_what_no_session_answers_is_answered_in_the_end() {
    let (mut w, a, b) = two();
    for n in 0..300 {
        let ask =
            format!("<iq type='get' to='tea@rooms.test/alice' id='{n}'><x xmlns='urn:x'/></iq>");
        w.other("bob", &ask);
    }
    w.run();
    assert_eq!(w.seen(a).len() + w.seen(b).len(), 256);
    // Those for which there is no place are refused at once.
    let refused = w.seen_by_other("bob");
    assert_eq!(refused.len(), 300 - 256);
    assert_eq!(refused[0], "error iq 256 resource-constraint");
    w.wait(Duration::from_secs(121));
    w.run();
    let unanswered = w.seen_by_other("bob");
    assert_eq!(unanswered.len(), 256);
    assert_eq!(unanswered[0], "error iq 0 service-unavailable");
}

#[test]
fn b53_large_requests_are_bounded_in_bytes() {
    let (mut w, a, b) = two();
    let large = "x".repeat(200_000);
    for n in 0..4 {
        let ask = format!(
            "<iq type='set' to='tea@rooms.test/alice' id='{n}'><x xmlns='urn:x'>{large}</x></iq>"
        );
        w.other("bob", &ask);
    }
    w.run();
    assert_eq!(w.seen(a).len() + w.seen(b).len(), 2);
    let refused = w.seen_by_other("bob");
    assert_eq!(
        refused,
        [
            "error iq 2 resource-constraint",
            "error iq 3 resource-constraint"
        ]
    );
}

/// A request waits for a hand-over, and the old carrier is lost meanwhile: the session was told
/// that there is no answer, and then the request went out all the same.
#[test]
fn b52_a_request_that_waits_when_the_old_carrier_is_lost() {
    let (mut w, a, b) = two();
    let (old, next) = (w.up(a), w.up(b));
    w.cut(a);
    w.all_up(next);
    w.all_down(next);
    ask_bob(&mut w, b);
    assert!(w.uplinks[&next].up.is_empty());
    w.lose(old);
    w.run();
    let ids = asked_of_bob(&mut w);
    assert_eq!(ids.len(), 1);
    bob_answers(&mut w, &ids[0]);
    w.run();
    assert_eq!(w.seen(b), ["iq result 1 bob"]);
}

/// A client that does not answer: what it was asked is forgotten, and holds up no hand-over.
#[test]
fn b53_a_session_that_never_answers() {
    let (mut w, a, b) = two();
    w.send(
        b,
        "<presence to='tea@rooms.test/alice'><show>chat</show></presence>",
    );
    w.run();
    w.other(
        "bob",
        "<iq type='get' to='tea@rooms.test/alice' id='v'><query xmlns='jabber:iq:version'/></iq>",
    );
    w.run();
    assert!(w.seen(b).last().unwrap().starts_with("iq get"));
    w.wait(Duration::from_secs(121));
    w.cut(a);
    w.run();
    assert!(!w.uplinks[&w.up(a)].open);
}

/// Others see the account before its session has been told the subject, and ask for its
/// capabilities.
#[test]
fn b40_b53_a_request_in_the_middle_of_a_join() {
    let mut w = World::of(SPARSE);
    w.other_joins("bob", TEA);
    let a = w.bind("phone");
    w.join(a, TEA, "alice");
    w.run();
    w.seen(a);
    w.seen_by_other("bob");
    w.other(
        "bob",
        "<iq type='get' to='tea@rooms.test/alice' id='i'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    );
    w.run();
    let seen = w.seen(a);
    assert_eq!(seen.len(), 1, "{seen:?}");
    let id = seen[0].split(' ').nth(2).unwrap().to_owned();
    w.send(
        a,
        &format!("<iq type='result' to='tea@rooms.test/bob' id='{id}'/>"),
    );
    w.run();
    assert_eq!(w.seen_by_other("bob"), ["iq result i alice"]);
}

/// Nobody is in the room any more to get the answer (RFC 6120 8.2.3 wants one).
#[test]
fn b52_the_account_is_put_out_before_the_answer() {
    let (mut w, a, b) = two();
    ask_bob(&mut w, b);
    w.run();
    w.service.remove(TEA, "alice", 307);
    w.run();
    for session in [a, b] {
        assert_eq!(w.seen(session), ["gone alice 110 307"]);
    }
    // Until then it may come all the same.
    w.wait(Duration::from_secs(121));
    assert_eq!(w.seen(b), ["error iq 1 remote-server-timeout"]);
    assert!(w.seen(a).is_empty());
}

/// A session that is not in the room asks an occupant under an id like the proxy's own.
#[test]
fn b52_an_id_like_the_proxys_from_outside() {
    let (mut w, a, _) = two();
    let c = w.bind("third");
    w.joined(c, "alice");
    w.leave(c, TEA, "alice");
    w.run();
    w.seen(c);
    ask_bob(&mut w, a);
    w.send(
        c,
        "<iq type='get' to='tea@rooms.test/bob' id='mucplex-1'><query xmlns='jabber:iq:version'/></iq>",
    );
    w.run();
    assert_eq!(w.seen(c), ["error iq mucplex-1 not-acceptable"]);
    let ids = asked_of_bob(&mut w);
    assert_eq!(ids.len(), 1);
    bob_answers(&mut w, &ids[0]);
    w.run();
    assert_eq!(w.seen(a), ["iq result 1 bob"]);
}
