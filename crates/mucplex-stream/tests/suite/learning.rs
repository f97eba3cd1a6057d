//! What a relayed login tells of the client's credentials.

use base64::{Engine, prelude::BASE64_STANDARD};
use mucplex_stream::{Authenticated, Credentials};

use crate::rig::*;

const SASL: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";

fn auth(mechanism: &str, message: &str) -> String {
    let message = BASE64_STANDARD.encode(message);
    format!("<auth {SASL} mechanism='{mechanism}'>{message}</auth>")
}

fn response(message: &str) -> String {
    let message = BASE64_STANDARD.encode(message);
    format!("<response {SASL}>{message}</response>")
}

/// What is known at the end of a login in which the client says this.
fn login(says: &[&str]) -> Authenticated {
    let mut rig = Rig::at_sasl();
    for (number, message) in says.iter().enumerate() {
        if number > 0 {
            rig.server(&format!("<challenge {SASL}/>"));
        }
        rig.client(message);
    }
    finish(&mut rig)
}

fn finish(rig: &mut Rig) -> Authenticated {
    for xml in [SUCCESS, SERVER_HEADER, BIND_FEATURES] {
        rig.server(xml);
        if xml == SUCCESS {
            rig.client(CLIENT_HEADER);
        }
    }
    rig.client(BIND);
    rig.server(BIND_RESULT);
    match rig.take().pop() {
        Some(Line::Bound(bound)) => bound.login,
        other => panic!("not bound: {other:?}"),
    }
}

fn password(username: &str, authzid: Option<&str>, password: &str) -> Option<Credentials> {
    Some(Credentials::Password {
        username: username.into(),
        authzid: authzid.map(Into::into),
        password: password.to_owned().into(),
    })
}

#[test]
fn b59_plain_is_a_password() {
    let table = [
        ("\0juliet\0pass", password("juliet", None, "pass")),
        (
            "romeo@example.org\0juliet\0pass",
            password("juliet", Some("romeo@example.org"), "pass"),
        ),
        ("\0jülïet\0p\u{e4}ss,=", password("jülïet", None, "päss,=")),
    ];
    for (message, credentials) in table {
        let login = login(&[&auth("PLAIN", message)]);
        assert_eq!(login.credentials, credentials);
        assert!(login.username_hint.is_some());
    }
    // RFC 6120 6.4.2: the message may come behind an empty challenge.
    for empty in ["", "\n"] {
        let begin = format!("<auth {SASL} mechanism='PLAIN'>{empty}</auth>");
        let login = login(&[&begin, &response("\0juliet\0pass")]);
        assert_eq!(login.credentials, password("juliet", None, "pass"));
    }
}

#[test]
fn messages_that_are_not_plain_tell_nothing() {
    for message in [
        "",
        "juliet",
        "\0juliet",
        "\0juliet\0",
        "\0\0pass",
        "\0a\0b\0c",
    ] {
        let login = login(&[&auth("PLAIN", message)]);
        assert_eq!((login.credentials, login.username_hint), (None, None));
    }
    for text in ["!", "=", "AP8A/wA="] {
        let login = login(&[&format!("<auth {SASL} mechanism='PLAIN'>{text}</auth>")]);
        assert_eq!((login.credentials, login.username_hint), (None, None));
    }
}

#[test]
fn b59_a_bearer_token_is_kept_as_it_was_sent() {
    let bearer = "n,a=juliet@example.org,\u{1}auth=Bearer x\u{1}\u{1}";
    let table = [
        ("OAUTHBEARER", bearer, Some("juliet@example.org")),
        ("OAUTHBEARER", "n,,\u{1}auth=Bearer x\u{1}\u{1}", None),
        ("X-OAUTH2", "\0juliet\0token", Some("juliet")),
        ("X-TOKEN", "\0juliet\0token", Some("juliet")),
    ];
    for (mechanism, message, username) in table {
        let login = login(&[&auth(mechanism, message)]);
        let token = Credentials::Token {
            mechanism: mechanism.into(),
            initial_response: BASE64_STANDARD.encode(message).into(),
        };
        assert_eq!(login.credentials, Some(token));
        assert_eq!(login.username_hint.as_deref(), username);
    }
}

#[test]
fn scram_tells_a_name_and_no_more() {
    for (first, username) in [
        ("n,,n=juliet,r=abc", Some("juliet")),
        ("y,a=romeo,n=a=2Cb=3Dc,r=abc", Some("a,b=c")),
        ("n,,r=abc", None),
        ("n,,n=,r=abc", None),
    ] {
        let login = login(&[
            &auth("SCRAM-SHA-1", first),
            &response("c=biws,r=abc,p=v0X="),
        ]);
        assert_eq!(login.credentials, None);
        assert_eq!(login.username_hint.as_deref(), username, "{first}");
    }
    let login = login(&[&auth("X-OTHER", "\0juliet\0pass")]);
    assert_eq!((login.credentials, login.username_hint), (None, None));
}

/// What the server has refused is forgotten.
#[test]
fn only_the_exchange_that_succeeds_counts() {
    let mut rig = Rig::at_sasl();
    let failure = format!("<failure {SASL}><not-authorized/></failure>");
    rig.client(&auth("PLAIN", "\0juliet\0wrong"));
    rig.server(&failure);
    rig.client(&auth("PLAIN", "\0romeo\0right"));
    let login = finish(&mut rig);
    assert_eq!(login.credentials, password("romeo", None, "right"));

    let mut rig = Rig::at_sasl();
    rig.client(&auth("PLAIN", "\0juliet\0wrong"));
    rig.server(&failure);
    rig.client(&auth("X-OTHER", ""));
    let login = finish(&mut rig);
    assert_eq!((login.credentials, login.username_hint), (None, None));
}

#[test]
fn nothing_of_it_is_shown() {
    let login = login(&[&auth("PLAIN", "\0juliet\0secret")]);
    assert!(!format!("{login:?}").contains("secret"));
    let token = Credentials::Token {
        mechanism: "X-TOKEN".into(),
        initial_response: "secret".to_owned().into(),
    };
    assert_eq!(format!("{token:?}"), "Token(\"X-TOKEN\")");
}
