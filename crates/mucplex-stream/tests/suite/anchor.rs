//! The login of an uplink without a client, against servers that say what a test has them say.

use mucplex_stream::{
    Credentials, DialFailure, UpstreamTls,
    anchor_login::{AnchorError, Failure, Input},
    scram::ScramFault,
    sm::Count,
};
use mucplex_xml::StreamErrorCondition;
use sasl::server::{Mechanism, Response};

use crate::{
    anchor_rig::*,
    rig::{
        END, PROCEED, SERVER_HEADER, STARTTLS, SUCCESS, TLS_FEATURES, UPLINK_HEADER, stream_error,
    },
};

#[test]
fn b59_a_password_logs_in_by_scram_and_leaves_keys_that_do() {
    let offered = [
        "PLAIN",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512-PLUS",
    ];
    for in_challenge in [false, true] {
        let mut rig = Rig::offered(password(), to_bind(), &offered);
        scram(&mut rig, Juliet::new("sekret", b"pepper"), in_challenge);
        bind(&mut rig);
        let established = rig.established();
        assert_eq!(established.jid, jid());
        assert!(established.sm_enabled && established.early.is_empty());
        assert_eq!(established.sm, Some(state("up-2")));
        assert_eq!((established.resumed, established.former_h), (None, None));

        let kept = keys(established.keys.expect("keys"));
        let mut rig = Rig::offered(kept, to_bind(), &offered);
        scram(&mut rig, Juliet::new("sekret", b"pepper"), in_challenge);
        bind(&mut rig);
        assert!(rig.established().keys.is_some());
    }
}

fn kept() -> Credentials {
    let mut rig = Rig::offered(password(), to_bind(), &["SCRAM-SHA-256"]);
    scram(&mut rig, Juliet::new("sekret", b"pepper"), false);
    bind(&mut rig);
    keys(rig.established().keys.expect("keys"))
}

/// A changed password has a new salt: no proof is sent, so nothing counts against the account.
#[test]
fn keys_of_another_password_are_stale_before_a_proof() {
    let mut rig = Rig::offered(kept(), to_bind(), &["SCRAM-SHA-256"]);
    scram(&mut rig, Juliet::new("changed", b"salt"), false);
    assert_eq!(rig.sent(), format!("{ABORT}{END}"));
    let error = rig.failed();
    assert_eq!(error, AnchorError::Scram(ScramFault::Stale));
    assert_eq!(error.failure(), Failure::Stale);
}

#[test]
fn keys_that_are_refused_or_have_no_mechanism_are_stale() {
    let mut rig = Rig::offered(kept(), to_bind(), &["SCRAM-SHA-256"]);
    scram(&mut rig, Juliet::new("changed", b"pepper"), false);
    assert_eq!(rig.sent(), END);
    let error = rig.failed();
    assert_eq!(error, AnchorError::KeysRefused("not-authorized"));
    assert_eq!(error.failure(), Failure::Stale);

    let mut rig = Rig::offered(kept(), to_bind(), &["SCRAM-SHA-1", "PLAIN"]);
    assert_eq!(rig.sent(), END);
    assert_eq!(rig.failed().failure(), Failure::Stale);
}

#[test]
fn a_password_that_is_refused_is_not_tried_again() {
    let mut rig = Rig::offered(password(), to_bind(), &["SCRAM-SHA-256", "PLAIN"]);
    scram(&mut rig, Juliet::new("changed", b"pepper"), false);
    assert_eq!(rig.sent(), END);
    let error = rig.failed();
    assert_eq!(error, AnchorError::Refused("not-authorized"));
    assert_eq!(error.failure(), Failure::Refused);
}

#[test]
fn plain_where_there_is_no_scram() {
    let table = [
        (None, "\0juliet\0sekret"),
        (
            Some("romeo@example.org"),
            "romeo@example.org\0juliet\0sekret",
        ),
    ];
    for (authzid, expected) in table {
        let credentials = Credentials::Password {
            username: "juliet".into(),
            authzid: authzid.map(Into::into),
            password: "sekret".to_owned().into(),
        };
        let mut rig = Rig::offered(credentials, to_bind(), &["X-OTHER", "PLAIN"]);
        let auth = rig.sent();
        assert!(auth.contains("mechanism='PLAIN'"), "{auth}");
        assert_eq!(message(&auth), expected.as_bytes());
        rig.server(SUCCESS);
        bind(&mut rig);
        assert!(rig.established().keys.is_none());
    }
    let rig = Rig::offered(password(), to_bind(), &["X-OTHER"]);
    assert_eq!(rig.failed(), AnchorError::NoMechanism);
}

#[test]
fn a_token_is_sent_as_it_was() {
    let mut rig = Rig::offered(token(), to_bind(), &["PLAIN", "X-TOKEN"]);
    assert_eq!(
        rig.sent(),
        format!("<auth {SASL} mechanism='X-TOKEN'>AGp1bGlldAB0</auth>")
    );
    rig.server(SUCCESS);
    bind(&mut rig);
    assert!(rig.established().keys.is_none());

    let rig = Rig::offered(token(), to_bind(), &["PLAIN"]);
    assert_eq!(rig.failed().failure(), Failure::Refused);
    // RFC 7628 3.2.2: the reason of a refusal comes as a challenge.
    let mut rig = Rig::offered(token(), to_bind(), &["X-TOKEN"]);
    rig.sent();
    rig.server(&sasl_element("challenge", b"{}"));
    assert_eq!(rig.sent(), format!("{ABORT}{END}"));
    assert_eq!(rig.failed().failure(), Failure::Refused);
}

#[test]
fn what_a_failure_means() {
    use Failure::{Refused, Temporary};
    let table = [
        ("<temporary-auth-failure/>", Temporary),
        ("<encryption-required/>", Temporary),
        ("<not-authorized/><text>no</text>", Refused),
        ("<account-disabled/>", Refused),
        ("<credentials-expired/>", Refused),
        ("<made-up/>", Refused),
        ("", Refused),
    ];
    for (condition, failure) in table {
        let mut rig = Rig::offered(token(), to_bind(), &["X-TOKEN"]);
        rig.server(&format!("<failure {SASL}>{condition}</failure>"));
        assert_eq!(rig.failed().failure(), failure, "{condition}");
    }
    let mut rig = Rig::offered(kept(), to_bind(), &["SCRAM-SHA-256"]);
    rig.server(&format!(
        "<failure {SASL}><temporary-auth-failure/></failure>"
    ));
    assert_eq!(rig.failed().failure(), Temporary);
}

/// A server that says success too soon, or without knowing the keys, is not the account's.
#[test]
fn a_server_that_does_not_prove_itself() {
    let mut rig = Rig::offered(password(), to_bind(), &["SCRAM-SHA-256"]);
    rig.server(SUCCESS);
    assert!(matches!(rig.failed(), AnchorError::Sasl(_)));

    for last in [SUCCESS.to_owned(), sasl_element("success", b"v=AAAA")] {
        let mut rig = Rig::offered(password(), to_bind(), &["SCRAM-SHA-256"]);
        let mut server = Juliet::new("sekret", b"pepper").server();
        let Ok(Response::Proceed(challenge)) = server.respond(&message(&rig.sent())) else {
            panic!("no challenge")
        };
        rig.server(&sasl_element("challenge", &challenge));
        rig.derive();
        rig.server(&last);
        assert!(matches!(rig.failed(), AnchorError::Scram(_)), "{last}");
    }
}

#[test]
fn over_starttls() {
    let mut rig = Rig::new(UpstreamTls::StartTls, token(), to_bind());
    rig.input(Input::UplinkOpen);
    assert_eq!(rig.sent(), UPLINK_HEADER);
    rig.server(SERVER_HEADER);
    rig.server(TLS_FEATURES);
    assert_eq!(rig.sent(), STARTTLS);
    rig.server(PROCEED);
    assert_eq!(rig.signals(), ["secure"]);
    assert!(!rig.login.wants_server());
    rig.input(Input::UplinkSecured);
    assert_eq!(rig.sent(), UPLINK_HEADER);
    rig.server(SERVER_HEADER);
    rig.server(&offer(&["X-TOKEN"]));
    rig.sent();
    rig.server(SUCCESS);
    bind(&mut rig);
    rig.established();
}

#[test]
fn b60_a_stream_that_was_cut_is_resumed() {
    let mut rig = Rig::logged_in(to_resume(), FEATURES);
    assert_eq!(rig.sent(), RESUME);
    let missed = "<message/><r xmlns='urn:xmpp:sm:3'/>";
    rig.server(&format!(
        "<resumed xmlns='urn:xmpp:sm:3' previd='up-1' h='6'/>{missed}"
    ));
    assert_eq!(rig.framer.buffered(), missed.len());
    let established = rig.established();
    assert_eq!(established.resumed, Some(Count::new(6)));
    assert_eq!(established.jid, jid());
    assert!(established.sm_enabled);
    assert_eq!(established.sm, Some(state("up-1")));
}

#[test]
fn b60_a_stream_that_is_forgotten_is_bound_anew() {
    let mut rig = Rig::logged_in(to_resume(), FEATURES);
    assert_eq!(rig.sent(), RESUME);
    rig.server(FAILED);
    assert_eq!(rig.sent(), BIND);
    rig.server(BIND_RESULT);
    rig.server(ENABLED);
    let established = rig.established();
    assert_eq!(established.resumed, None);
    assert_eq!(established.former_h, Some(Count::new(5)));
    assert_eq!(established.sm, Some(state("up-2")));

    // A server that has lost stream management altogether.
    let mut rig = Rig::logged_in(to_resume(), FEATURES_WITHOUT_SM);
    assert_eq!(rig.sent(), BIND);
    rig.server(BIND_RESULT);
    let established = rig.established();
    assert!(!established.sm_enabled && established.sm.is_none());
}

#[test]
fn stream_management_as_far_as_there_is_some() {
    let mut rig = Rig::logged_in(to_bind(), FEATURES_WITHOUT_SM);
    rig.server(BIND_RESULT);
    let established = rig.established();
    assert!(!established.sm_enabled && established.sm.is_none());

    let unexpected = FAILED.replace("item-not-found", "unexpected-request");
    let table = [
        (&*unexpected, false),
        ("<enabled xmlns='urn:xmpp:sm:3'/>", true),
        ("<enabled xmlns='urn:xmpp:sm:3' id='a'/>", true),
        ("<enabled xmlns='urn:xmpp:sm:3' resume='true'/>", true),
    ];
    for (answer, enabled) in table {
        let mut rig = Rig::logged_in(to_bind(), FEATURES);
        rig.server(BIND_RESULT);
        rig.server(answer);
        let established = rig.established();
        assert_eq!(established.sm_enabled, enabled, "{answer}");
        assert_eq!(established.sm, None, "{answer}");
    }
}

#[test]
fn stanzas_that_come_early_are_not_lost() {
    let mut rig = Rig::logged_in(to_bind(), FEATURES);
    rig.server("<message id='1'/>");
    rig.server(BIND_RESULT);
    rig.server("<iq id='2' type='get'/><r xmlns='urn:xmpp:sm:3'/><presence id='3'/>");
    rig.server(&format!("{ENABLED}<message id='4'/>"));
    assert_eq!(rig.framer.buffered(), "<message id='4'/>".len());
    let early = rig.established().early;
    let ids: Vec<_> = early.iter().map(|frame| frame.id().unwrap()).collect();
    assert_eq!(ids, ["1", "2", "3"]);

    let mut rig = Rig::logged_in(to_bind(), FEATURES);
    rig.server(BIND_RESULT);
    rig.server(&"<message/>".repeat(257));
    assert_eq!(rig.failed(), AnchorError::Flooded);
}

/// The name is taken, or there are too many sessions: nothing is wrong with the credentials.
#[test]
fn a_refused_bind_says_nothing_of_the_credentials() {
    for condition in ["conflict", "resource-constraint"] {
        let mut rig = Rig::logged_in(to_bind(), FEATURES);
        rig.sent();
        rig.server(&format!(
            "<iq type='error' id='bind'><error type='cancel'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        ));
        assert_eq!(rig.sent(), END);
        let error = rig.failed();
        assert_eq!(
            error.to_string(),
            format!("the server refused to bind: {condition}")
        );
        assert_eq!(error.failure(), Failure::Temporary);
    }
    let mut rig = Rig::logged_in(to_bind(), FEATURES);
    rig.server(&BIND_RESULT.replace("example.org", "example.net"));
    assert_eq!(rig.failed().failure(), Failure::Temporary);
}

type Reach = fn() -> Rig;

/// A login in each of its states once the stream is open.
const STATES: [Reach; 5] = [
    || {
        let mut rig = Rig::new(UpstreamTls::None, token(), to_bind());
        rig.input(Input::UplinkOpen);
        rig.server(SERVER_HEADER);
        rig
    },
    || Rig::offered(password(), to_bind(), &["SCRAM-SHA-256"]),
    || Rig::logged_in(to_resume(), FEATURES),
    || Rig::logged_in(to_bind(), FEATURES),
    || {
        let mut rig = Rig::logged_in(to_bind(), FEATURES);
        rig.server(BIND_RESULT);
        rig
    },
];

#[test]
fn how_it_ends_in_each_state() {
    let conflict = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        </stream:error>";
    let abort = || Input::Abort(StreamErrorCondition::SystemShutdown, "shutdown");
    for reach in STATES {
        let at = || {
            let mut rig = reach();
            rig.sent();
            rig
        };
        let mut rig = at();
        rig.input(Input::ServerClosed);
        assert_eq!(rig.sent(), "");
        assert_eq!(rig.failed(), AnchorError::ServerGone);

        let mut rig = at();
        rig.input(abort());
        assert_eq!(rig.sent(), END);
        assert!(
            rig.failed()
                .to_string()
                .contains("system-shutdown: shutdown")
        );

        let mut rig = at();
        rig.server("<a></b>");
        assert_eq!(rig.sent(), stream_error("not-well-formed"));
        assert_eq!(rig.failed().failure(), Failure::Unreachable);

        let mut rig = at();
        rig.server(conflict);
        assert_eq!(rig.sent(), END);
        let error = rig.failed();
        assert!(error.failure() != Failure::Refused && error.failure() != Failure::Stale);

        let mut rig = at();
        rig.server(END);
        assert_eq!(rig.sent(), END);
        let error = rig.failed();
        assert!(error.failure() != Failure::Refused && error.failure() != Failure::Stale);
    }
    let mut rig = Rig::new(UpstreamTls::None, token(), to_bind());
    rig.input(Input::UplinkFailed(DialFailure("refused".into())));
    assert_eq!(rig.sent(), "");
    assert_eq!(rig.failed().failure(), Failure::Unreachable);
}

#[test]
fn answers_that_cannot_be_read() {
    let mut rig = Rig::logged_in(to_resume(), FEATURES);
    rig.server("<resumed xmlns='urn:xmpp:sm:3' previd='up-1'/>");
    assert_eq!(rig.failed().failure(), Failure::Temporary);
    let mut rig = Rig::offered(password(), to_bind(), &["SCRAM-SHA-256"]);
    rig.sent();
    rig.server(&format!("<challenge {SASL}>!</challenge>"));
    assert_eq!(rig.sent(), format!("{ABORT}{END}"));
    assert_eq!(rig.failed().failure(), Failure::Temporary);
}

/// As with [`Rig`], however the server's bytes are cut.
#[test]
fn b60_chunks_make_no_difference() {
    let replies = [
        SERVER_HEADER.to_owned() + &offer(&["X-TOKEN"]),
        SUCCESS.to_owned(),
        SERVER_HEADER.to_owned() + FEATURES,
        FAILED.to_owned(),
        format!("<message id='0'/>{BIND_RESULT}<message id='1'/>"),
        format!("{ENABLED}<message id='2'/>"),
    ];
    for size in 1..40 {
        let mut rig = Rig::new(UpstreamTls::None, token(), to_resume());
        rig.input(Input::UplinkOpen);
        for reply in &replies {
            for chunk in reply.as_bytes().chunks(size) {
                rig.framer.push(chunk);
                rig.pump();
            }
        }
        assert_eq!(rig.framer.buffered(), "<message id='2'/>".len());
        let established = rig.established();
        assert_eq!(established.early.len(), 2);
        assert_eq!(established.sm, Some(state("up-2")));
    }
}
