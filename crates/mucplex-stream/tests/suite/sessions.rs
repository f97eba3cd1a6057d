//! A client that comes back: it resumes a session, or asks for a resource that is held.

use jid::{BareJid, FullJid};
use mucplex_stream::{
    Attach, Authenticated, BindDecision, Bound, ContentNamespace, Found, Input, Resumed, Spare,
    bind, sm::Count,
};

use crate::rig::*;

const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='s-1' h='4'/>";
const FAILED: &str = "<failed xmlns='urn:xmpp:sm:3'>\
    <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
const UNEXPECTED: &str = "<failed xmlns='urn:xmpp:sm:3'>\
    <unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
const SERVER_RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='up-1' h='9'/>";
const OWN_BIND: &str = "<iq xmlns='jabber:client' type='set' id='p1-bind'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>spare</resource></bind></iq>";
const REFUSED: &str = "<iq type='error' id='p1-bind'><error type='wait'>\
    <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";

fn own_result(jid: &str) -> String {
    BIND_RESULT
        .replace("id='b1'", "id='p1-bind'")
        .replace("juliet@example.org/balcony", jid)
}

fn juliet() -> BareJid {
    BareJid::new("juliet@example.org").unwrap()
}

fn spare() -> Spare {
    Spare {
        jid: FullJid::new("juliet@example.org/spare").unwrap(),
    }
}

fn find() -> Line {
    Line::FindSession("s-1".into(), Count::new(4))
}

/// After a client's `<resume/>`.
fn finding() -> Rig {
    let mut rig = Rig::at_bind();
    rig.client(RESUME);
    rig.expect(&[find()]);
    assert!(!rig.login.wants_client());
    rig
}

fn found(rig: &mut Rig, found: Found) {
    rig.input(Input::SessionFound(found));
}

fn held() -> Found {
    Found::Held {
        account: juliet(),
        resource: "spare".into(),
    }
}

fn cut() -> Found {
    Found::Cut {
        previd: "up-1".into(),
        h: Count::new(9),
        client_h: Some(Count::new(7)),
    }
}

/// A client whose session is not resumed binds as if it had not asked.
#[track_caller]
fn goes_on_to_bind(rig: &mut Rig) {
    assert!(rig.login.wants_client());
    rig.client(BIND);
    rig.server(BIND_RESULT);
    let lines = rig.take();
    assert_eq!(
        lines.get(..2),
        Some(&[to_server(BIND), to_client(BIND_RESULT)][..])
    );
    assert!(matches!(lines.last(), Some(Line::Bound(_))), "{lines:?}");
}

#[test]
fn b56_an_unknown_session_fails_and_the_client_may_bind() {
    let mut rig = finding();
    found(&mut rig, Found::Unknown { h: None });
    rig.expect(&[to_client(FAILED)]);
    goes_on_to_bind(&mut rig);

    let mut rig = finding();
    let h = Some(Count::new(12));
    found(&mut rig, Found::Unknown { h });
    rig.expect(&[to_client(
        FAILED.replace("'urn:xmpp:sm:3'", "'urn:xmpp:sm:3' h='12'"),
    )]);
    goes_on_to_bind(&mut rig);
}

#[test]
fn b56_a_session_whose_uplink_is_cut_goes_on_on_the_fresh_one() {
    let mut rig = finding();
    found(&mut rig, cut());
    rig.expect(&[to_server(SERVER_RESUME)]);
    let behind = "<message><body>missed</body></message><r xmlns='urn:xmpp:sm:3'/>";
    rig.server(&format!(
        "<resumed xmlns='urn:xmpp:sm:3' previd='up-1' h='3'/>{behind}"
    ));
    let resumed = Resumed {
        login: authenticated(),
        server_h: Some(Count::new(3)),
        spare: None,
    };
    rig.expect(&[Line::Resumed(resumed)]);
    // What the server has kept for the session is the session's.
    assert_eq!(rig.server_waits(), behind.len());
    assert!(!rig.login.wants_client() && !rig.login.wants_server());
}

#[test]
fn b56_what_the_client_sends_behind_its_request_is_the_sessions() {
    let mut rig = Rig::at_bind();
    let behind = "<a xmlns='urn:xmpp:sm:3' h='4'/><message/>";
    rig.client(&format!("{RESUME}{behind}"));
    rig.expect(&[find()]);
    found(&mut rig, cut());
    rig.server("<resumed xmlns='urn:xmpp:sm:3' previd='up-1' h='3'/>");
    assert!(matches!(rig.take().last(), Some(Line::Resumed(_))));
    assert_eq!(rig.client_waits(), behind.len());
}

#[test]
fn b57_a_server_that_has_forgotten_the_session_ends_it() {
    for (h, server_h) in [("", None), (" h='8'", Some(Count::new(8)))] {
        let mut rig = finding();
        found(&mut rig, cut());
        rig.take();
        rig.server(&FAILED.replace("'urn:xmpp:sm:3'", &format!("'urn:xmpp:sm:3'{h}")));
        let failed = FAILED.replace("'urn:xmpp:sm:3'", "'urn:xmpp:sm:3' h='7'");
        rig.expect(&[Line::SessionGone(server_h), to_client(failed)]);
        goes_on_to_bind(&mut rig);
    }
}

#[test]
fn an_answer_to_a_resumption_that_cannot_be_read() {
    let mut rig = finding();
    found(&mut rig, cut());
    rig.take();
    rig.server("<resumed xmlns='urn:xmpp:sm:3' previd='up-1'/>");
    let lines = rig.take();
    let (client, server) = Rig::sides(&lines);
    assert_eq!(client, stream_error("internal-server-error"));
    assert_eq!(server, END);
}

#[test]
fn b59_a_session_whose_uplink_is_held_leaves_a_spare_one() {
    let mut rig = finding();
    found(&mut rig, held());
    rig.expect(&[to_server(OWN_BIND)]);
    assert!(!rig.login.wants_client());
    let behind = "<message/>";
    rig.server(&format!(
        "{}{behind}",
        own_result("juliet@example.org/spare")
    ));
    let resumed = Resumed {
        login: authenticated(),
        server_h: None,
        spare: Some(spare()),
    };
    rig.expect(&[Line::Resumed(resumed)]);
    assert_eq!(rig.server_waits(), behind.len());
}

#[test]
fn b71_the_id_of_anothers_session_is_of_no_use() {
    let mut rig = finding();
    found(&mut rig, held());
    rig.take();
    rig.server(&own_result("romeo@example.org/spare"));
    let lines = rig.take();
    let (client, server) = Rig::sides(&lines);
    assert_eq!(client, stream_error("not-authorized"));
    assert_eq!(server, END);
    assert!(Rig::close_reason(&lines).contains("another account's"));
}

#[test]
fn a_server_that_does_not_bind_the_spare_uplink_leaves_it_to_the_client() {
    let mut rig = finding();
    found(&mut rig, held());
    rig.take();
    rig.server(REFUSED);
    rig.expect(&[to_client(FAILED)]);
    goes_on_to_bind(&mut rig);
}

#[test]
fn what_the_server_says_meanwhile_passes() {
    let table: [fn(&mut Rig); 3] = [|_| {}, |rig| found(rig, cut()), |rig| found(rig, held())];
    for answer in table {
        let mut rig = finding();
        answer(&mut rig);
        rig.take();
        for xml in ["<iq type='result' id='b1'/>", "<message/>"] {
            rig.server(xml);
            rig.expect(&[to_client(xml)]);
        }
        assert!(!rig.login.wants_client());
        // Nobody has asked for this.
        rig.server(BIND_RESULT);
        assert!(matches!(rig.take().last(), Some(Line::Close(_))));
    }
}

#[test]
fn a_second_attempt_is_one_too_many_at_some_point() {
    let mut rig = Rig::at_bind();
    for _ in 0..5 {
        rig.client(RESUME);
        found(&mut rig, Found::Unknown { h: None });
        rig.expect(&[find(), to_client(FAILED)]);
    }
    rig.client(RESUME);
    found(&mut rig, Found::Unknown { h: None });
    let (client, _) = Rig::sides(&rig.take());
    assert_eq!(client, stream_error("policy-violation"));
}

#[test]
fn stream_management_out_of_order_is_refused() {
    let bad = FAILED.replace("item-not-found", "bad-request");
    let table = [
        ("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", UNEXPECTED),
        ("<r xmlns='urn:xmpp:sm:3'/>", UNEXPECTED),
        ("<resume xmlns='urn:xmpp:sm:3' previd='s-1'/>", &bad),
        ("<resume xmlns='urn:xmpp:sm:3' h='1'/>", &bad),
    ];
    for (xml, answer) in table {
        let mut rig = Rig::at_bind();
        rig.client(xml);
        rig.expect(&[to_client(answer)]);
        goes_on_to_bind(&mut rig);
    }
    let mut rig = Rig::at_bind();
    rig.client(&RESUME.replace("sm:3", "sm:2"));
    rig.expect(&[to_client(UNEXPECTED.replace("sm:3", "sm:2"))]);
    // XEP-0198 5: only one who has logged in resumes.
    let mut rig = Rig::at_sasl();
    rig.client(RESUME);
    rig.expect(&[to_client(UNEXPECTED)]);
}

/// A client's stream management is the proxy's, and no server answers in its place.
#[test]
fn stream_management_of_the_server_does_not_pass() {
    for mut rig in [Rig::at_sasl(), Rig::at_bind(), finding()] {
        for xml in [
            "<r xmlns='urn:xmpp:sm:3'/>",
            "<resumed xmlns='urn:xmpp:sm:3' previd='s-1' h='4'/>",
            FAILED,
        ] {
            rig.server(xml);
            rig.expect(&[]);
        }
    }
}

#[test]
fn an_answer_nobody_waits_for_changes_nothing() {
    for mut rig in [Rig::at_sasl(), Rig::at_bind()] {
        found(&mut rig, held());
        found(&mut rig, cut());
        rig.input(Input::BindDecision(BindDecision::Pass));
        rig.expect(&[]);
    }
    let mut rig = finding();
    rig.input(Input::BindDecision(BindDecision::Pass));
    rig.expect(&[]);
}

/// After a client's request to bind, which the test decides about.
fn deciding() -> Rig {
    let mut rig = Rig::at_bind();
    rig.decides = true;
    rig.client(BIND);
    rig.expect(&[Line::BindRequested(
        Some("balcony".into()),
        Some("juliet".into()),
    )]);
    assert!(!rig.login.wants_client());
    rig
}

fn decided(rig: &mut Rig, decision: BindDecision) {
    rig.input(Input::BindDecision(decision));
}

fn proxy() -> BindDecision {
    BindDecision::Proxy {
        resource: "spare".into(),
        account: juliet(),
    }
}

#[test]
fn a_request_to_bind_passes_when_it_is_decided() {
    let mut rig = deciding();
    decided(&mut rig, BindDecision::Pass);
    rig.expect(&[to_server(BIND)]);
    rig.server(BIND_RESULT);
    let lines = rig.take();
    assert_eq!(lines.first(), Some(&to_client(BIND_RESULT)));
    assert!(matches!(lines.last(), Some(Line::Bound(_))));
}

#[test]
fn b59_a_client_that_asks_for_what_is_held_is_attached_to_it() {
    let mut rig = deciding();
    decided(&mut rig, proxy());
    rig.expect(&[to_server(OWN_BIND)]);
    rig.server(&own_result("juliet@example.org/spare"));
    let attach = Attach {
        login: authenticated(),
        request_id: Some("b1".into()),
        spare: spare(),
    };
    rig.expect(&[Line::Attach(attach)]);
}

/// The hint was wrong, not the client.
#[test]
fn b71_a_client_of_another_account_gets_its_own_session() {
    let mut rig = deciding();
    decided(&mut rig, proxy());
    rig.take();
    rig.server(&own_result("romeo@example.org/spare"));
    let jid = FullJid::new("romeo@example.org/spare").unwrap();
    let login = authenticated();
    rig.expect(&[
        to_client(BIND_RESULT.replace("juliet@example.org/balcony", "romeo@example.org/spare")),
        Line::Bound(Bound { jid, login }),
    ]);
}

#[test]
fn a_refusal_of_the_proxys_request_leaves_it_to_the_client() {
    let mut rig = deciding();
    decided(&mut rig, proxy());
    rig.take();
    rig.server(REFUSED);
    rig.expect(&[to_server(BIND)]);
    rig.server(BIND_RESULT);
    assert!(matches!(rig.take().last(), Some(Line::Bound(_))));
}

#[test]
fn what_is_asked_for_and_what_is_answered() {
    let table = [
        (BIND.replace("<resource>balcony</resource>", ""), None),
        (BIND.replace("balcony", ""), None),
        (BIND.replace("balcony", "a&amp;b"), Some("a&b")),
    ];
    for (request, resource) in table {
        let mut rig = Rig::at_bind();
        rig.decides = true;
        rig.client(&request);
        let expected = Line::BindRequested(resource.map(Into::into), Some("juliet".into()));
        rig.expect(&[expected]);
    }
    let jid = FullJid::new("juliet@example.org/a&b'").unwrap();
    assert_eq!(
        bind::result(Some("'1'"), &jid),
        "<iq type='result' id='&apos;1&apos;'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>juliet@example.org/a&amp;b'</jid></bind></iq>"
    );
    assert_eq!(
        bind::result(None, &spare().jid),
        "<iq type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>juliet@example.org/spare</jid></bind></iq>"
    );
}

/// A stream without a default namespace: what the proxy writes there says what it is.
#[test]
fn the_proxys_own_request_is_a_stanza_on_any_stream() {
    let mut rig = Rig::at_sasl();
    rig.client(AUTH);
    rig.server(SUCCESS);
    rig.client(
        "<stream:stream to='example.org' version='1.0' xmlns:c='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    rig.server(SERVER_HEADER);
    rig.server(BIND_FEATURES);
    rig.client(RESUME);
    rig.take();
    found(&mut rig, held());
    rig.expect(&[to_server(OWN_BIND)]);
    rig.server(&own_result("juliet@example.org/spare"));
    let login = Authenticated {
        content: ContentNamespace::Prefixed,
        ..authenticated()
    };
    let resumed = Resumed {
        login,
        server_h: None,
        spare: Some(spare()),
    };
    rig.expect(&[Line::Resumed(resumed)]);
}
