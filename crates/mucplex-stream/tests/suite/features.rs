//! What of a server's features the client sees.

use bytes::Bytes;
use mucplex_stream::features::{
    binds_channel, for_client, for_client_after_login, mechanisms, offers_csi,
};
use mucplex_xml::{Frame, Limits};

/// Neighbours of what is tested, in spellings that a rewrite would change.
const BEFORE: &str = "<register xmlns=\"http://jabber.org/features/iq-register\"  />";
const AFTER: &str = "\n<x:caps xmlns:x='urn:example' a = 'b&#38;c'><![CDATA[<]]></x:caps>";

fn rewrite(xml: &str) -> Bytes {
    let xml = Bytes::copy_from_slice(xml.as_bytes());
    for_client(&Frame::parse(xml, &Limits::default()).unwrap())
}

fn around(feature: &str) -> String {
    format!("<stream:features>{BEFORE}{feature}{AFTER}</stream:features>")
}

#[test]
fn taken_out_with_neighbours_untouched() {
    let table = [
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>",
        "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>\
         <channel-binding type='tls-exporter'/></sasl-channel-binding>",
        "<sm xmlns='urn:xmpp:sm:2'/>",
        "<sm xmlns='urn:xmpp:sm:3'><optional/></sm>",
        "<compression xmlns='http://jabber.org/features/compress'><method>zlib</method>\
         </compression>",
        "<authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism>\
         <inline><bind xmlns='urn:xmpp:bind:0'/></inline></authentication>",
        "<authentication xmlns='urn:xmpp:sasl:1'/>",
        "<auth xmlns='http://jabber.org/features/iq-auth'/>",
        "<s:sm xmlns:s='urn:xmpp:sm:3'/>",
        // All of the mechanisms bind to the channel: an empty list is none.
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>SCRAM-SHA-1-PLUS</mechanism></mechanisms>",
    ];
    for feature in table {
        assert_eq!(rewrite(&around(feature)), around(""), "{feature}");
    }
}

#[test]
fn left_as_they_are() {
    let table = [
        "",
        "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>",
        "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>",
        "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://prosody.im' ver='x='/>",
        "<ver xmlns='urn:xmpp:features:rosterver'/>",
        "<sub xmlns='urn:xmpp:features:pre-approval'/>",
        "<csi xmlns='urn:xmpp:csi:0'/>",
        "<unknown xmlns='urn:example:unknown'><sm xmlns='urn:xmpp:sm:3'/></unknown>",
        // The name alone does not make it.
        "<sm xmlns='urn:example'/>",
        "<starttls xmlns='urn:example'/>",
        "<auth xmlns='urn:example'/>",
        "<mechanisms xmlns='urn:example'><mechanism>X-PLUS</mechanism></mechanisms>",
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
         <hostname xmlns='urn:xmpp:domain-based-name:1'>h</hostname></mechanisms>",
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    ];
    for feature in table {
        assert_eq!(rewrite(&around(feature)), around(feature), "{feature}");
    }
}

#[test]
fn unchanged_features_are_the_same_bytes() {
    let frame = Frame::parse(around("").into(), &Limits::default()).unwrap();
    assert_eq!(for_client(&frame).as_ptr(), frame.bytes().as_ptr());
}

/// XEP-0352 3: offered after login, whether the server has it or not.
#[test]
fn b65_client_state_is_offered_once() {
    let csi = "<csi xmlns='urn:xmpp:csi:0'/>";
    let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";
    let offered = |xml: String| {
        let frame = Frame::parse(xml.into(), &Limits::default()).unwrap();
        (for_client_after_login(&frame), offers_csi(&frame))
    };
    for sm in ["", "<sm xmlns='urn:xmpp:sm:3'/>"] {
        let without = format!("<stream:features>{bind}{sm}</stream:features>");
        let with = format!("<stream:features>{csi}{bind}{sm}</stream:features>");
        let own = "<sm xmlns='urn:xmpp:sm:3'/>";
        let added = format!("<stream:features>{bind}{csi}{own}</stream:features>");
        let kept = format!("<stream:features>{csi}{bind}{own}</stream:features>");
        assert_eq!(offered(without), (added.into(), false));
        assert_eq!(offered(with), (kept.into(), true));
    }
    let none = "<stream:features/>".to_owned();
    let only = format!("<stream:features>{csi}<sm xmlns='urn:xmpp:sm:3'/></stream:features>");
    assert_eq!(offered(none), (only.into(), false));
    // Of another namespace it is something else.
    let other = "<stream:features><csi xmlns='urn:xmpp:csi:1'/></stream:features>".to_owned();
    assert!(!offered(other).1);
    assert_eq!(rewrite(&around("")), around(""));
}

#[test]
fn mechanisms_that_bind_to_the_channel() {
    let list = |mechanisms: &str| {
        around(&format!(
            "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{mechanisms}</mechanisms>"
        ))
    };
    assert_eq!(
        rewrite(&list(
            "<mechanism>SCRAM-SHA-256-PLUS</mechanism> <mechanism>SCRAM-SHA-256</mechanism>\
             <mechanism> SCRAM-SHA-1-PLUS\n</mechanism><mechanism>PLAIN</mechanism>\
             <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'/>"
        )),
        list(" <mechanism>SCRAM-SHA-256</mechanism><mechanism>PLAIN</mechanism>")
    );
    assert!(binds_channel("scram-sha-1-plus"));
    assert!(!binds_channel("PLUS"));
    assert!(!binds_channel("X-PLUS-1"));
}

/// As Prosody 13 sends them over TLS.
#[test]
fn prosody() {
    let features = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256-PLUS</mechanism>\
        <mechanism>PLAIN</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
        <mechanism>SCRAM-SHA-1</mechanism></mechanisms>\
        <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
        </sasl-channel-binding>\
        <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>\
        </stream:features>";
    assert_eq!(
        rewrite(features),
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>PLAIN</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
         <mechanism>SCRAM-SHA-1</mechanism></mechanisms>\
         <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>\
         </stream:features>"
    );
    let after_login = "<stream:features><c ver='y8AJvG8QEJNmTtDx' hash='sha-1' \
        xmlns='http://jabber.org/protocol/caps' node='http://prosody.im'/>\
        <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><required/></bind>\
        <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
        <ver xmlns='urn:xmpp:features:rosterver'/><sub xmlns='urn:xmpp:features:pre-approval'/>\
        <sm xmlns='urn:xmpp:sm:2'><optional/></sm><sm xmlns='urn:xmpp:sm:3'><optional/></sm>\
        <csi xmlns='urn:xmpp:csi:0'/></stream:features>";
    let expected = after_login
        .replace("<sm xmlns='urn:xmpp:sm:2'><optional/></sm>", "")
        .replace("<sm xmlns='urn:xmpp:sm:3'><optional/></sm>", "");
    assert_eq!(rewrite(after_login), expected);
}

/// As ejabberd 23.01 and later send them.
#[test]
fn ejabberd() {
    let features = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
        <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
        <mechanism>X-OAUTH2</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
        <mechanism>SCRAM-SHA-1-PLUS</mechanism></mechanisms>\
        <compression xmlns='http://jabber.org/features/compress'><method>zlib</method>\
        </compression><register xmlns='http://jabber.org/features/iq-register'/>\
        <authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism></authentication>\
        </stream:features>";
    assert_eq!(
        rewrite(features),
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>PLAIN</mechanism><mechanism>X-OAUTH2</mechanism>\
         <mechanism>SCRAM-SHA-1</mechanism></mechanisms>\
         <register xmlns='http://jabber.org/features/iq-register'/></stream:features>"
    );
    let frame = Frame::parse(Bytes::from_static(features.as_bytes()), &Limits::default()).unwrap();
    assert_eq!(
        mechanisms(&frame),
        ["PLAIN", "X-OAUTH2", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"]
    );
}
