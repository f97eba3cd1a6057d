//! Stream management: what is read, what is written, and how is counted.

use bytes::Bytes;
use mucplex_stream::sm::{Count, Nonza, SmFault, SmId, handled_count_too_high, is_counted};
use mucplex_xml::{Frame, Limits};
use proptest::prelude::*;

fn frame(xml: &str) -> Frame {
    Frame::parse(Bytes::copy_from_slice(xml.as_bytes()), &Limits::default()).unwrap()
}

fn read(xml: &str) -> Option<Result<Nonza, SmFault>> {
    Nonza::read(&frame(xml))
}

fn id(id: &str) -> SmId {
    id.into()
}

#[test]
fn what_is_written_is_read_again() {
    let enabled = |id: Option<&str>, resume, max| Nonza::Enabled {
        id: id.map(SmId::from),
        resume,
        location: None,
        max,
    };
    let h = Count::new(u32::MAX);
    let table = [
        (
            Nonza::Enable {
                resume: false,
                max: None,
            },
            "<enable xmlns='urn:xmpp:sm:3'/>",
        ),
        (
            Nonza::Enable {
                resume: true,
                max: Some(60),
            },
            "<enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>",
        ),
        (
            enabled(None, false, None),
            "<enabled xmlns='urn:xmpp:sm:3'/>",
        ),
        (
            enabled(Some("a'<"), true, Some(600)),
            "<enabled xmlns='urn:xmpp:sm:3' id='a&apos;&lt;' resume='true' max='600'/>",
        ),
        (
            Nonza::Resume {
                previd: id("x&"),
                h,
            },
            "<resume xmlns='urn:xmpp:sm:3' previd='x&amp;' h='4294967295'/>",
        ),
        (
            Nonza::Resumed {
                previd: id("x"),
                h: Count::ZERO,
            },
            "<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        ),
        (
            Nonza::Failed {
                h: None,
                condition: None,
            },
            "<failed xmlns='urn:xmpp:sm:3'></failed>",
        ),
        (
            Nonza::Failed {
                h: Some(Count::new(7)),
                condition: Some("item-not-found"),
            },
            "<failed xmlns='urn:xmpp:sm:3' h='7'>\
             <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        ),
        (Nonza::Request, "<r xmlns='urn:xmpp:sm:3'/>"),
        (
            Nonza::Ack { h },
            "<a xmlns='urn:xmpp:sm:3' h='4294967295'/>",
        ),
    ];
    for (nonza, xml) in table {
        assert_eq!(nonza.to_bytes(), xml);
        assert_eq!(read(xml), Some(Ok(nonza)));
    }
}

/// Clients come back to the proxy, whatever address the server prefers.
#[test]
fn a_location_is_read_but_never_written() {
    let xml = "<enabled xmlns='urn:xmpp:sm:3' id='a' resume='1' location='[::1]:5222'/>";
    let Some(Ok(nonza)) = read(xml) else {
        panic!("{xml}")
    };
    let Nonza::Enabled {
        location, resume, ..
    } = &nonza
    else {
        panic!("{nonza:?}")
    };
    assert_eq!((location.as_deref(), *resume), (Some("[::1]:5222"), true));
    assert_eq!(
        nonza.to_bytes(),
        "<enabled xmlns='urn:xmpp:sm:3' id='a' resume='true'/>"
    );
}

#[test]
fn a_wish_that_is_not_understood_is_none() {
    for attributes in [
        "",
        "resume='yes' max='long'",
        "resume='0' max='-1'",
        "max=''",
    ] {
        let read = read(&format!("<enable xmlns='urn:xmpp:sm:3' {attributes}/>"));
        let none = Nonza::Enable {
            resume: false,
            max: None,
        };
        assert_eq!(read, Some(Ok(none)), "{attributes}");
    }
}

#[test]
fn what_cannot_be_read() {
    let table = [
        ("<t xmlns='urn:xmpp:sm:3'/>", SmFault::Unknown),
        ("<a xmlns='urn:xmpp:sm:3'/>", SmFault::Count),
        ("<a xmlns='urn:xmpp:sm:3' h=''/>", SmFault::Count),
        ("<a xmlns='urn:xmpp:sm:3' h='+1'/>", SmFault::Count),
        ("<a xmlns='urn:xmpp:sm:3' h='4294967296'/>", SmFault::Count),
        ("<resume xmlns='urn:xmpp:sm:3' h='1'/>", SmFault::PrevId),
        ("<resume xmlns='urn:xmpp:sm:3' previd='a'/>", SmFault::Count),
        (
            "<resumed xmlns='urn:xmpp:sm:3' previd='a'/>",
            SmFault::Count,
        ),
    ];
    for (xml, fault) in table {
        assert_eq!(read(xml), Some(Err(fault)), "{xml}");
    }
    for xml in [
        "<r xmlns='urn:xmpp:sm:2'/>",
        "<r xmlns='urn:xmpp:sm:'/>",
        "<message xmlns='jabber:client'/>",
    ] {
        assert_eq!(read(xml), None, "{xml}");
    }
    let padded = "<a xmlns='urn:xmpp:sm:3' h=' 12&#10;'/>";
    let h = Count::new(12);
    assert_eq!(read(padded), Some(Ok(Nonza::Ack { h })));
}

/// What a `<failed/>` holds is the server's free text but for the conditions there are.
#[test]
fn only_known_conditions_are_taken() {
    let failed = |child: &str| read(&format!("<failed xmlns='urn:xmpp:sm:3'>{child}</failed>"));
    for child in [
        "<item-not-found/>",
        "<made-up xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>",
        "text",
    ] {
        let none = Nonza::Failed {
            h: None,
            condition: None,
        };
        assert_eq!(failed(child), Some(Ok(none)), "{child}");
    }
    assert_eq!(
        failed(
            "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>t</text>\
             <unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        ),
        Some(Ok(Nonza::failed("unexpected-request")))
    );
}

#[test]
fn stanzas_are_counted_and_nothing_else() {
    for (xml, counted) in [
        ("<message xmlns='jabber:client'/>", true),
        ("<presence xmlns='jabber:client'/>", true),
        ("<iq xmlns='jabber:client'/>", true),
        ("<message xmlns='urn:x'/>", false),
        ("<r xmlns='urn:xmpp:sm:3'/>", false),
        ("<active xmlns='urn:xmpp:csi:0'/>", false),
    ] {
        assert_eq!(is_counted(&frame(xml)), counted, "{xml}");
    }
}

#[test]
fn a_peer_that_acknowledges_too_much_is_told() {
    assert_eq!(
        handled_count_too_high(Count::new(10), Count::new(8)),
        "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='8'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>\
         You acknowledged 10 stanzas, but I only sent you 8 so far.</text></stream:error>"
    );
}

#[test]
fn an_id_is_not_shown() {
    let resume = Nonza::Resume {
        previd: id("secret"),
        h: Count::ZERO,
    };
    assert!(!format!("{resume:?}").contains("secret"));
}

proptest! {
    #[test]
    fn a_count_goes_round(acked: u32, handled in 0_u32..1000, more in 0_u32..1000) {
        let acked = Count::new(acked);
        let h = acked.advance(handled);
        prop_assert_eq!(h.since(acked, handled + more), Some(handled));
        // Less than before, and more than was sent.
        prop_assert_eq!(acked.since(h, more), (handled == 0).then_some(0));
        prop_assert_eq!(h.advance(more + 1).since(acked, handled + more), None);
    }
}
