//! From the features after login to the session.

use jid::FullJid;
use mucplex_stream::{
    Authenticated, Bound, ContentNamespace, Input, ListenerTls, UpstreamTls, bind,
};

use crate::rig::*;

fn bound() -> Bound {
    Bound {
        jid: FullJid::new("juliet@example.org/balcony").unwrap(),
        login: authenticated(),
    }
}

#[test]
fn the_result_passes_and_then_the_session_begins() {
    let mut rig = Rig::at_bind();
    rig.client(BIND);
    rig.server(BIND_RESULT);
    rig.expect(&[
        to_server(BIND),
        to_client(BIND_RESULT),
        Line::Bound(bound()),
    ]);
    assert!(!rig.login.wants_client() && !rig.login.wants_server());
    rig.input(Input::ServerClosed);
    rig.expect(&[]);
}

#[test]
fn b65_the_session_knows_what_the_server_offers() {
    let mut rig = Rig::at_sasl();
    rig.client(AUTH);
    rig.server(SUCCESS);
    rig.client(CLIENT_HEADER);
    rig.server(SERVER_HEADER);
    rig.server(
        "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
         <csi xmlns='urn:xmpp:csi:0'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
    );
    rig.client(BIND);
    rig.server(BIND_RESULT);
    let login = Authenticated {
        server_csi: true,
        server_sm: true,
        ..authenticated()
    };
    let bound = Bound { login, ..bound() };
    assert_eq!(rig.take().last(), Some(&Line::Bound(bound)));
}

#[test]
fn what_comes_behind_the_request_is_the_sessions() {
    let mut rig = Rig::at_bind();
    let behind = "<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>\
                  <presence/>";
    rig.client(&format!("{BIND}{behind}"));
    rig.expect(&[to_server(BIND)]);
    assert_eq!(rig.client_waits(), behind.len());
    rig.server(BIND_RESULT);
    rig.expect(&[to_client(BIND_RESULT), Line::Bound(bound())]);
    assert_eq!(rig.client_waits(), behind.len());
}

#[test]
fn an_error_passes_and_the_client_may_try_again() {
    let error = "<iq type='error' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
        <error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    let mut rig = Rig::at_bind();
    rig.client(BIND);
    rig.server(error);
    rig.expect(&[to_server(BIND), to_client(error)]);
    assert!(rig.login.wants_client());
    rig.client(BIND);
    rig.server(BIND_RESULT);
    rig.expect(&[
        to_server(BIND),
        to_client(BIND_RESULT),
        Line::Bound(bound()),
    ]);
}

#[test]
fn ids_are_free_text() {
    for (asked, answered) in [
        ("id='a&amp;b&#39;&gt;'", "id=\"a&#38;b'>\""),
        ("id=''", "id=''"),
        ("", ""),
    ] {
        let mut rig = Rig::at_bind();
        rig.client(&BIND.replace("id='b1'", asked));
        rig.server(&BIND_RESULT.replace("id='b1'", answered));
        assert_eq!(rig.take().last(), Some(&Line::Bound(bound())), "{asked}");
    }
}

#[test]
fn other_stanzas_of_the_server_pass_meanwhile() {
    let pushed = "<iq type='result' id='other'/>";
    let message = "<message id='b1' type='result'><body>m</body></message>";
    let features = "<stream:features/>";
    let mut rig = Rig::at_bind();
    rig.client(BIND);
    rig.take();
    for xml in [
        pushed,
        message,
        features,
        "<iq type='get' id='b1'><ping xmlns='urn:xmpp:ping'/></iq>",
    ] {
        rig.server(xml);
        rig.expect(&[to_client(xml)]);
    }
    rig.server(BIND_RESULT);
    assert_eq!(rig.take().last(), Some(&Line::Bound(bound())));
}

#[test]
fn results_the_proxy_cannot_go_on_with() {
    let table = [
        BIND_RESULT.replace("juliet@example.org/balcony", "juliet@example.org"),
        BIND_RESULT.replace("juliet@example.org/balcony", "juliet@example.net/balcony"),
        BIND_RESULT.replace("juliet@example.org/balcony", "@/"),
        BIND_RESULT.replace("<jid>juliet@example.org/balcony</jid>", ""),
        "<iq type='result' id='b1'/>".to_owned(),
        BIND_RESULT.replace("id='b1'", "id='b2'"),
        BIND_RESULT.replace("id='b1'", ""),
    ];
    for result in table {
        let mut rig = Rig::at_bind();
        rig.client(BIND);
        rig.take();
        rig.server(&result);
        let lines = rig.take();
        let (client, server) = Rig::sides(&lines);
        assert_eq!(client, stream_error("internal-server-error"), "{result}");
        assert_eq!(server, END);
        Rig::close_reason(&lines);
    }
    let mut rig = Rig::at_bind();
    rig.server(BIND_RESULT);
    assert!(Rig::close_reason(&rig.take()).contains("answers nothing"));
}

/// RFC 6120 4.7.4, and 4.8.2: the steady state has to know how stanzas are declared.
#[test]
fn language_and_content_namespace_are_handed_over() {
    let mut rig = Rig::at_sasl();
    rig.client(AUTH);
    rig.server(SUCCESS);
    rig.client(
        "<stream:stream to='example.org' version='1.0' xml:lang='de' xmlns:c='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    rig.server(SERVER_HEADER);
    rig.server(BIND_FEATURES);
    rig.take();
    // Nothing to the proxy, so it has to be nothing to the server.
    rig.client(BIND);
    rig.expect(&[to_server(BIND)]);
    assert!(rig.login.wants_client());
    let bind = BIND.replace("iq", "c:iq");
    rig.client(&bind);
    rig.expect(&[to_server(bind)]);
    assert!(!rig.login.wants_client());
    rig.server(BIND_RESULT);
    let login = Authenticated {
        client_lang: Some("de".into()),
        content: ContentNamespace::Prefixed,
        ..authenticated()
    };
    let expected = Bound { login, ..bound() };
    rig.expect(&[to_client(BIND_RESULT), Line::Bound(expected)]);
}

#[test]
fn over_starttls_on_both_sides() {
    let mut rig = Rig::new(ListenerTls::StartTls, UpstreamTls::StartTls);
    for step in crate::endings::script() {
        step.run(&mut rig);
    }
    assert_eq!(rig.take().last(), Some(&Line::Bound(bound())));
}

#[test]
fn a_request_of_our_own() {
    assert_eq!(
        bind::request("1", Some("a<b")),
        "<iq xmlns='jabber:client' type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <resource>a&lt;b</resource></bind></iq>"
    );
    assert_eq!(
        bind::request("1", None),
        "<iq xmlns='jabber:client' type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'></bind></iq>"
    );
}
