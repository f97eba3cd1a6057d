//! What frames tell about themselves, and sizes that have to pass.

use mucplex_xml::{
    Event, Frame, Framer, FramingError, Kind, Limits, Namespace, Outgoing, StreamErrorCondition,
};

use crate::{compare::frame_all, hostile::HEADER};

const CLIENT: &str = "jabber:client";

fn frame(xml: &str) -> Frame {
    Frame::parse(xml.to_owned().into(), &Limits::default()).unwrap()
}

/// The frames of a stream that has to be accepted.
fn frames(content: &str) -> Vec<Frame> {
    let outcome = frame_all(format!("{HEADER}{content}").as_bytes(), Limits::default());
    assert_eq!(outcome.error, None);
    outcome.frames
}

#[test]
fn kinds_need_their_namespace() {
    for (xml, kind, ns) in [
        ("<message/>", Kind::Message, CLIENT),
        ("<presence xmlns='jabber:client'/>", Kind::Presence, CLIENT),
        ("<c:iq xmlns:c='jabber:client'/>", Kind::Iq, CLIENT),
        (
            "<message xmlns='jabber:server'/>",
            Kind::Nonza,
            "jabber:server",
        ),
        ("<message xmlns=''/>", Kind::Nonza, ""),
        (
            "<stream:error/>",
            Kind::StreamError,
            "http://etherx.jabber.org/streams",
        ),
        (
            "<stream:features/>",
            Kind::StreamFeatures,
            "http://etherx.jabber.org/streams",
        ),
        ("<error/>", Kind::Nonza, CLIENT),
        ("<r xmlns='urn:xmpp:sm:3'/>", Kind::Nonza, "urn:xmpp:sm:3"),
        ("<Message/>", Kind::Nonza, CLIENT),
        (
            "<message xmlns='jabber&#58;client'/>",
            Kind::Message,
            CLIENT,
        ),
    ] {
        let frame = frame(xml);
        assert_eq!((frame.kind(), frame.ns()), (kind, ns), "{xml}");
        assert_eq!(frame.namespace(), &Namespace::from(ns));
    }
}

#[test]
fn values_are_decoded_and_normalised() {
    let frame = frame(
        "<message to='a&amp;b&#x20;&#10;c' from='x\ty\r\nz\rw' id=\"'&quot;\" type='' xml:lang='é'>\
            1\r\n2\r3&#13;<![CDATA[4\r\n5&amp;]]>\t<b>no</b>&lt;</message>",
    );
    assert_eq!(frame.to().as_deref(), Some("a&b \nc"));
    assert_eq!(frame.from().as_deref(), Some("x y z w"));
    assert_eq!(frame.id().as_deref(), Some("'\""));
    assert_eq!(frame.stanza_type().as_deref(), Some(""));
    assert_eq!(frame.lang().as_deref(), Some("é"));
    assert_eq!(frame.root().text(), "1\n2\n3\r4\n5&amp;\t<");
    assert_eq!(frame.root().attr("to").as_deref(), Some("a&b \nc"));
    assert_eq!(frame.root().attr("lang"), None);
}

#[test]
fn children_inherit_what_is_in_scope() {
    let frame = frame(
        "<iq xmlns:p='outer'><p:a/><b xmlns='u' xmlns:p='inner'><p:a><c/></p:a><b/></b>\
            <p:a/><stream:x/></iq>",
    );
    let root = frame.root();
    let names: Vec<_> = root
        .children()
        .map(|child| format!("{}|{}", child.ns(), child.name()))
        .collect();
    assert_eq!(
        names,
        [
            "outer|a",
            "u|b",
            "outer|a",
            "http://etherx.jabber.org/streams|x"
        ]
    );
    let b = root.child("b", "u").unwrap();
    let inner = b.child("a", "inner").unwrap();
    assert!(inner.child("c", "u").is_some());
    assert_eq!(&frame.bytes()[inner.span()], b"<p:a><c/></p:a>");
    assert!(
        b.child("b", "u")
            .is_some_and(|b| b.children().next().is_none())
    );
    assert!(root.child("a", CLIENT).is_none());
}

#[test]
fn a_header_tells_what_it_declares() {
    let header = "<stream:stream to='example.org' from='a@example.org' id='i&amp;d' version='1.0' \
        xml:lang='de' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
        xmlns:p='u&#x41;'>";
    let outcome = frame_all(
        format!("<?xml version='1.0'?>\n{header}").as_bytes(),
        Limits::default(),
    );
    let told = outcome.header.unwrap();
    assert_eq!(told.bytes(), header);
    assert_eq!(told.to().as_deref(), Some("example.org"));
    assert_eq!(told.from().as_deref(), Some("a@example.org"));
    assert_eq!(told.id().as_deref(), Some("i&d"));
    assert_eq!(told.version().as_deref(), Some("1.0"));
    assert_eq!(told.lang().as_deref(), Some("de"));
    assert_eq!(told.content_namespace(), CLIENT);
    assert_eq!(told.declarations(), [("p".into(), "uA".into())]);
}

#[test]
fn white_space_is_given_out_as_it_comes() {
    let mut framer = Framer::new(Limits::default());
    framer.push(HEADER.as_bytes());
    assert!(matches!(framer.next_event(), Ok(Some(Event::Header(_)))));
    for piece in [" ", "\n\n", "\t\r\n"] {
        framer.push(piece.as_bytes());
        match framer.next_event() {
            Ok(Some(Event::Whitespace(space))) => assert_eq!(space, piece),
            other => panic!("{other:?}"),
        }
        assert!(matches!(framer.next_event(), Ok(None)));
        assert_eq!(framer.buffered(), 0);
    }
}

#[test]
fn nothing_is_told_behind_the_end() {
    let mut framer = Framer::new(Limits::default());
    framer.push(HEADER.as_bytes());
    framer.push(b"<presence/></stream:stream >\n \n");
    let events: Vec<_> = std::iter::from_fn(|| framer.next_event().unwrap()).collect();
    assert!(matches!(
        events.as_slice(),
        [Event::Header(_), Event::Frame(_), Event::End]
    ));
    assert_eq!(framer.buffered(), 0);
}

#[test]
fn a_restart_forgets_what_the_old_stream_declared() {
    let mut framer = Framer::new(Limits::default());
    let old = HEADER.replace("xmlns:stream", "xmlns:p='u' xmlns:stream");
    framer.push(old.as_bytes());
    framer.push(b"<p:a/>");
    assert!(matches!(framer.next_event(), Ok(Some(Event::Header(_)))));
    assert!(matches!(framer.next_event(), Ok(Some(Event::Frame(_)))));
    // What has arrived already is read as the new stream.
    framer.push(format!("{HEADER}<p:a/>").as_bytes());
    framer.restart();
    assert!(matches!(framer.next_event(), Ok(Some(Event::Header(_)))));
    assert_eq!(
        framer.next_event().unwrap_err(),
        FramingError::UnboundPrefix
    );
    // An error is final.
    framer.restart();
    framer.push(HEADER.as_bytes());
    assert_eq!(
        framer.next_event().unwrap_err(),
        FramingError::UnboundPrefix
    );
    assert_eq!(framer.buffered(), 0);
}

#[test]
fn an_attribute_of_100_kb_passes() {
    let value = "0123456789".repeat(10_000);
    let frames = frames(&format!(
        "<iq id='{value}' type='get'><a b=\"{value}\"/></iq>"
    ));
    assert_eq!(frames[0].id().as_deref(), Some(value.as_str()));
    let a = frames[0].root().child("a", CLIENT).unwrap();
    assert_eq!(a.attr("b").as_deref(), Some(value.as_str()));
}

#[test]
fn a_message_of_200_kb_passes_in_pieces_of_7_bytes() {
    let body = "Wherefore art thou, 日本 😀 &amp; ".repeat(6_000);
    let stream = format!("{HEADER}<message><body>{body}</body></message>");
    assert!(stream.len() > 200_000);
    let mut framer = Framer::new(Limits::default());
    let mut found = Vec::new();
    for piece in stream.as_bytes().chunks(7) {
        framer.push(piece);
        while let Some(event) = framer.next_event().unwrap() {
            found.push(event);
        }
    }
    let [Event::Header(_), Event::Frame(frame)] = found.as_slice() else {
        panic!("{found:?}");
    };
    let text = frame.root().child("body", CLIENT).unwrap().text();
    assert_eq!(text, body.replace("&amp;", "&"));
}

#[test]
fn sixty_stanzas_in_one_push() {
    let stanzas: String = (0..60)
        .map(|number| format!("<message id='{number}'><body>{number}</body></message>"))
        .collect();
    let frames = frames(&stanzas);
    assert_eq!(frames.len(), 60);
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(frame.id().as_deref(), Some(number.to_string().as_str()));
    }
}

#[test]
fn what_is_at_the_limits_passes() {
    let attributes: String = (0..64).map(|number| format!(" a{number}=''")).collect();
    let name = "n".repeat(1024);
    let depth = format!("{}{}", "<a>".repeat(64), "</a>".repeat(64));
    let size = format!("<a>{}</a>", "x".repeat(256 * 1024 - 7));
    for xml in [
        format!("<a{attributes}/>"),
        format!("<{name}/>"),
        depth,
        size,
    ] {
        assert_eq!(frames(&xml).len(), 1);
    }
}

/// Many prefixes in scope and many attributes make the checks slow, if anything does. Counted in
/// bytes let through, not in time: the test only shows that such a stanza ends.
#[test]
fn many_prefixes_and_attributes_end() {
    let mut xml = String::from("<a>");
    for depth in 0..62 {
        xml.push_str("<a");
        for number in 0..64 {
            xml.push_str(&format!(" xmlns:p{depth}_{number}='u{depth}_{number}'"));
        }
        xml.push('>');
    }
    while xml.len() < 250_000 {
        xml.push_str("<p61_63:a p0_0:b='' p61_0:b=''/>");
    }
    xml.push_str(&"</a>".repeat(63));
    assert_eq!(frames(&xml).len(), 1);
}

#[test]
fn compact_leaves_the_buffer() {
    let frames = frames("<message to='a'><body>x</body></message><presence/>");
    let compact = frames[0].compact();
    assert_eq!(compact.bytes(), frames[0].bytes());
    assert_ne!(compact.bytes().as_ptr(), frames[0].bytes().as_ptr());
    assert_eq!(compact.to().as_deref(), Some("a"));
}

#[test]
fn stream_errors_are_written_and_escaped() {
    assert_eq!(
        StreamErrorCondition::PolicyViolation.to_xml(Some("a < b & c")),
        "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
            <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &lt; b &amp; c</text>\
            </stream:error>"
    );
    let bytes = StreamErrorCondition::HostUnknown.to_xml(None);
    let frame = Frame::parse(bytes, &Limits::default()).unwrap();
    assert_eq!(frame.kind(), Kind::StreamError);
    let ns = "urn:ietf:params:xml:ns:xmpp-streams";
    assert!(frame.root().child("host-unknown", ns).is_some());
}

#[test]
fn parse_takes_one_element_and_nothing_else() {
    for xml in [
        "",
        " <a/>",
        "<a/> ",
        "<a/><b/>",
        "<a>",
        "a",
        "<?xml version='1.0'?><a/>",
    ] {
        let parsed = Frame::parse(xml.to_owned().into(), &Limits::default());
        assert!(parsed.is_err(), "{xml}");
    }
}

#[test]
fn what_goes_between_tasks_may() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Frame>();
    shared::<Event>();
    shared::<Outgoing>();
    shared::<Framer>();
    shared::<FramingError>();
}

#[test]
fn many_attributes_are_compared_as_well_as_few() {
    let limits = Limits {
        attributes: usize::MAX,
        ..Limits::default()
    };
    let many: String = (0..1000).map(|n| format!(" a{n}='x' p:a{n}='x'")).collect();
    let parse = |more: &str| {
        let xml = format!("<message xmlns:p='u' xmlns:q='u'{many}{more}/>");
        Frame::parse(xml.into(), &limits).map(drop)
    };
    assert_eq!(parse(""), Ok(()));
    for twice in [" a500='y'", " p:a7='y'", " q:a999='y'"] {
        assert_eq!(
            parse(twice),
            Err(FramingError::DuplicateAttribute),
            "{twice}"
        );
    }
}

#[test]
fn prefixes_that_nothing_declares_stand_where_they_may() {
    let xml = "<message e:y='1' f:y='2' from='a'><g:x e:y='z'>t</g:x><x xmlns='u'/></message>";
    let strict = Limits::default();
    assert_eq!(
        Frame::parse(xml.into(), &strict).map(drop),
        Err(FramingError::UnboundPrefix)
    );
    let lenient = Limits {
        unbound_prefixes: true,
        ..strict
    };
    let frame = Frame::parse(xml.into(), &lenient).unwrap();
    assert_eq!(frame.kind(), Kind::Message);
    assert_eq!(frame.from().as_deref(), Some("a"));
    let children: Vec<_> = frame.root().children().collect();
    assert_eq!(children[0].ns(), "");
    assert!(children[1].is("x", "u"));
    assert_eq!(frame.portable().bytes(), xml);
    let mut patch = frame.patch();
    patch.set_attr(&frame.root(), "id", "7");
    assert_eq!(patch.finish_frame().unwrap().id().as_deref(), Some("7"));
}
