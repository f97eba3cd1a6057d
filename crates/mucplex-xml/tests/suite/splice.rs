//! Changes by splicing change what they should and nothing else.

use mucplex_xml::{Element, Event, Frame, Framer, Limits, Patch};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    compare::{Tree, no_limits, read_with_rxml},
    generate,
};

fn frame(xml: &str) -> Frame {
    Frame::parse(xml.to_owned().into(), &Limits::default()).unwrap()
}

/// The first frame of a stream with this header.
fn inherited(header: &str, xml: &str) -> Frame {
    let mut framer = Framer::new(Limits::default());
    framer.push(header.as_bytes());
    framer.push(xml.as_bytes());
    assert!(matches!(framer.next_event(), Ok(Some(Event::Header(_)))));
    match framer.next_event() {
        Ok(Some(Event::Frame(frame))) => frame,
        other => panic!("{other:?}"),
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn with_to_replaces_and_shares() {
    let frame = frame("<message from='a' to='old' id='1'><body>x</body></message>");
    let copy = frame.with_to("new");
    assert_eq!(text(&copy.head), "<message from='a' to='new");
    assert_eq!(text(&copy.tail), "' id='1'><body>x</body></message>");
    // The tail is a part of the frame, no copy of it.
    assert_eq!(copy.tail.as_ptr(), frame.bytes()[25..].as_ptr());
    assert_eq!(copy.len(), frame.bytes().len());
    assert_eq!(copy.to_bytes(), [copy.head.clone(), copy.tail].concat());
}

#[test]
fn with_to_inserts_behind_the_name() {
    for (xml, expected) in [
        ("<a/>", "<a to='x&apos;y'/>"),
        ("<a>t</a>", "<a to='x&apos;y'>t</a>"),
        ("<a\nid=\"1\" />", "<a to='x&apos;y'\nid=\"1\" />"),
        // An attribute of another namespace is not `to`.
        ("<a xml:to='z'/>", "<a to='x&apos;y' xml:to='z'/>"),
        ("<a to=\"z\"/>", "<a to=\"x&apos;y\"/>"),
        ("<a to = ''/>", "<a to = 'x&apos;y'/>"),
    ] {
        assert_eq!(text(&frame(xml).with_to("x'y").to_bytes()), expected);
    }
}

#[test]
fn portable_is_the_frame_itself_on_a_usual_stream() {
    let usual = "<stream:stream xmlns='jabber:client' xmlns:unused='u' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    for xml in [
        "<message><body/></message>",
        "<stream:features/>",
        "<a xml:lang='en'/>",
    ] {
        let frame = inherited(usual, xml);
        let portable = frame.portable();
        assert_eq!(portable.bytes().as_ptr(), frame.bytes().as_ptr());
        assert_eq!(portable.bytes().len(), xml.len());
    }
}

#[test]
fn portable_declares_what_is_used_of_the_header() {
    let header = "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:c='jabber:client' \
        xmlns:p='a&amp;b' xmlns:unused='u'>";
    for (xml, expected) in [
        (
            "<c:message c:to='a'/>",
            "<c:message xmlns='' xmlns:c='jabber:client' c:to='a'/>",
        ),
        (
            "<c:iq><x p:y='1'/></c:iq>",
            "<c:iq xmlns='' xmlns:c='jabber:client' xmlns:p='a&amp;b'><x p:y='1'/></c:iq>",
        ),
        // The element's own declarations stay the only ones.
        (
            "<message xmlns='jabber:client' xmlns:p='v'><p:x/></message>",
            "<message xmlns='jabber:client' xmlns:p='v'><p:x/></message>",
        ),
        (
            "<message xmlns='jabber:client'><x xmlns:p='v'><p:y/></x><p:y/></message>",
            "<message xmlns:p='a&amp;b' xmlns='jabber:client'><x xmlns:p='v'><p:y/></x><p:y/></message>",
        ),
        (
            "<s:features/>",
            "<s:features xmlns='' xmlns:s='http://etherx.jabber.org/streams'/>",
        ),
    ] {
        let frame = inherited(header, xml);
        assert_eq!(frame.bytes(), xml);
        let portable = frame.portable();
        assert_eq!(text(portable.bytes()), expected);
        let again = Frame::parse(portable.bytes().clone(), &Limits::default()).unwrap();
        assert_eq!(again.kind(), frame.kind());
        assert_eq!(Tree::of(&again.root()), Tree::of(&frame.root()));
        assert_eq!(Tree::of(&portable.root()), Tree::of(&frame.root()));
    }
}

#[test]
fn portable_keeps_the_ranges_of_the_head() {
    let header = "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>";
    let frame = inherited(
        header,
        "<c:message id='1' to='a' type='chat' from='b' xml:lang='e'/>",
    );
    let portable = frame.portable();
    assert_eq!(portable.id().as_deref(), Some("1"));
    assert_eq!(portable.to().as_deref(), Some("a"));
    assert_eq!(portable.from().as_deref(), Some("b"));
    assert_eq!(portable.stanza_type().as_deref(), Some("chat"));
    assert_eq!(portable.lang().as_deref(), Some("e"));
    assert_eq!(
        text(&portable.with_to("z").to_bytes()),
        "<c:message xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client' id='1' to='z' \
            type='chat' from='b' xml:lang='e'/>"
    );
}

#[test]
fn patches() {
    type Change = for<'a> fn(&mut Patch<'a>, &'a Frame);
    fn child<'a>(frame: &'a Frame, name: &str) -> Element<'a> {
        frame.root().child(name, "jabber:client").unwrap()
    }
    fn made(xml: &str, change: Change) -> String {
        let frame = frame(xml);
        let mut patch = frame.patch();
        change(&mut patch, &frame);
        assert_eq!(patch.finish_frame().unwrap().bytes(), &patch.finish());
        text(&patch.finish()).to_owned()
    }
    assert_eq!(made("<a/>", |_, _| {}), "<a/>");
    assert_eq!(
        made("<a b='1' c='2'/>", |p, f| {
            p.set_attr(&f.root(), "b", "<'\">")
                .remove_attr(&f.root(), "c")
                .remove_attr(&f.root(), "d");
        }),
        "<a b='&lt;&apos;&quot;&gt;'/>"
    );
    // The later counts.
    assert_eq!(
        made("<a b='1'/>", |p, f| {
            p.set_attr(&f.root(), "b", "2")
                .remove_attr(&f.root(), "b")
                .set_attr(&f.root(), "b", "3");
            p.set_attr(&f.root(), "n", "1")
                .set_attr(&f.root(), "n", "2");
            p.set_attr(&f.root(), "m", "1").remove_attr(&f.root(), "m");
        }),
        "<a n='2' b='3'/>"
    );
    // An attribute whose name ends alike is another one.
    assert_eq!(
        made("<a xml:b='1' bb='2' ab='3'/>", |p, f| {
            p.remove_attr(&f.root(), "b");
        }),
        "<a xml:b='1' bb='2' ab='3'/>"
    );
    assert_eq!(
        made("<a><b/><c>t</c></a>", |p, f| {
            p.append(&f.root(), "<d/>").append(&f.root(), "<e></e>");
            p.append(&child(f, "b"), "<x></x>")
                .append(&child(f, "b"), "<y/>");
            p.append(&child(f, "c"), "u")
                .set_attr(&child(f, "c"), "i", "1");
        }),
        "<a><b><x></x><y/></b><c i='1'>tu</c><d/><e></e></a>"
    );
    assert_eq!(
        made("<p:a xmlns:p='u' />", |p, f| {
            p.append(&f.root(), "x");
        }),
        "<p:a xmlns:p='u' >x</p:a>"
    );
    // What is inside of something that goes, goes with it.
    assert_eq!(
        made("<a><b><c/></b>t<d/></a>", |p, f| {
            let b = child(f, "b");
            let c = b.child("c", "jabber:client").unwrap();
            p.append(&c, "<x/>")
                .set_attr(&b, "i", "1")
                .remove(&b)
                .replace(&child(f, "d"), "<e/>");
        }),
        "<a>t<e/></a>"
    );
    // Next to each other, at one place.
    assert_eq!(
        made("<a><b></b></a>", |p, f| {
            p.append(&f.root(), "<y/>").append(&child(f, "b"), "<x/>");
        }),
        "<a><b><x/></b><y/></a>"
    );
}

#[test]
fn a_patch_that_breaks_the_frame_is_refused() {
    let frame = frame("<a><b/></a>");
    let root = frame.root();
    for xml in ["<x>", "</a>", "&nbsp;", "<!---->"] {
        assert!(
            frame.patch().append(&root, xml).finish_frame().is_err(),
            "{xml}"
        );
    }
    assert!(frame.patch().remove(&root).finish_frame().is_err());
}

#[test]
fn a_patched_frame_still_belongs_to_its_stream() {
    let header = "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>";
    let frame = inherited(header, "<c:message><c:body>x</c:body></c:message>");
    let mut patch = frame.patch();
    patch.set_attr(&frame.root(), "to", "a");
    let patched = patch.finish_frame().unwrap().portable();
    assert_eq!(
        text(patched.bytes()),
        "<c:message xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client' to='a'>\
            <c:body>x</c:body></c:message>"
    );
}

/// An element of a tree, by the numbers of the children on the way to it.
fn paths(tree: &Tree, path: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    all.push(path.clone());
    for (number, child) in tree.children.iter().enumerate() {
        path.push(number);
        paths(child, path, all);
        path.pop();
    }
}

fn element<'a>(frame: &'a Frame, path: &[usize]) -> Element<'a> {
    path.iter().fold(frame.root(), |element, &number| {
        element.children().nth(number).unwrap()
    })
}

fn subtree<'a>(tree: &'a mut Tree, path: &[usize]) -> &'a mut Tree {
    path.iter()
        .fold(tree, |tree, &number| &mut tree.children[number])
}

fn read(bytes: &[u8]) -> Tree {
    // rxml wants the declarations a frame takes from its stream.
    let document = format!(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>{}\
            </stream:stream>",
        text(bytes).replace("\r\n", "\n").replace('\r', "\n")
    );
    let mut stream = read_with_rxml(document.as_bytes(), true).unwrap();
    stream.children.remove(0)
}

proptest! {
    /// Each change to any element of any frame, read by rxml, is that change to the tree.
    #[test]
    fn a_patch_changes_what_it_says(
        xml in generate::element(),
        changes in vec((any::<Index>(), 0..4_u8, "[a-c]", "[ -~\t\n\r😀]{0,6}"), 1..5),
    ) {
        let frame = Frame::parse(xml.into(), &no_limits()).unwrap();
        let mut tree = Tree::of(&frame.root());
        prop_assert_eq!(&tree, &read(frame.bytes()));
        let mut all = Vec::new();
        paths(&tree, &mut Vec::new(), &mut all);
        let mut patch = frame.patch();
        for (at, change, name, value) in &changes {
            let path = &all[at.index(all.len())];
            let element = element(&frame, path);
            let key = (String::new(), name.clone());
            match change {
                0 => {
                    patch.set_attr(&element, name, value);
                    subtree(&mut tree, path).attributes.insert(key, value.clone());
                }
                1 => {
                    patch.remove_attr(&element, name);
                    subtree(&mut tree, path).attributes.remove(&key);
                }
                2 => {
                    let escaped = mucplex_xml::escape::escape_text(value);
                    let child = format!("<n xmlns='u'>{escaped}</n>");
                    patch.append(&element, &child);
                    subtree(&mut tree, path).children.push(Tree {
                        name: "n".to_owned(),
                        ns: "u".to_owned(),
                        text: value.clone(),
                        ..Tree::default()
                    });
                }
                _ => {
                    let to = frame.with_to(value).to_bytes();
                    let copy = Frame::parse(to, &no_limits()).unwrap();
                    prop_assert_eq!(copy.to().unwrap(), value.as_str());
                    prop_assert_eq!(read(copy.bytes()), Tree::of(&copy.root()));
                }
            }
        }
        let patched = patch.finish_frame().unwrap();
        prop_assert_eq!(&Tree::of(&patched.root()), &tree);
        prop_assert_eq!(&read(patched.bytes()), &tree);
    }

    /// Removing and replacing, which also end the changes made inside.
    #[test]
    fn a_removed_element_is_gone(xml in generate::element(), at in any::<Index>(), keep in any::<bool>()) {
        let frame = Frame::parse(xml.into(), &no_limits()).unwrap();
        let mut tree = Tree::of(&frame.root());
        let mut all = Vec::new();
        paths(&tree, &mut Vec::new(), &mut all);
        let path = &all[at.index(all.len())];
        let Some((&number, parent)) = path.split_last() else {
            return Ok(());
        };
        let element = element(&frame, path);
        let mut patch = frame.patch();
        patch.append(&element, "<lost/>");
        if keep {
            patch.replace(&element, "<n xmlns='u'/>");
        } else {
            patch.remove(&element);
        }
        let parent = subtree(&mut tree, parent);
        parent.children.remove(number);
        if keep {
            let n = Tree { name: "n".to_owned(), ns: "u".to_owned(), ..Tree::default() };
            parent.children.insert(number, n);
        }
        prop_assert_eq!(read(&patch.finish()), tree);
    }

    /// Whatever is escaped reads as what it was, but for characters XML does not have.
    #[test]
    fn escaping_is_undone_by_reading(value in "\\PC*|[\0-\u{20}&<>'\"\u{fffe}]*") {
        let legal: String = value
            .chars()
            .map(|c| match c {
                '\t' | '\n' | '\r' => c,
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
                c => c,
            })
            .collect();
        let attribute = mucplex_xml::escape::escape_attribute(&value);
        let content = mucplex_xml::escape::escape_text(&value);
        let frame = frame(&format!("<a id='{attribute}' from=\"{attribute}\">{content}</a>"));
        prop_assert_eq!(frame.id().unwrap(), legal.as_str());
        prop_assert_eq!(frame.from().unwrap(), legal.as_str());
        prop_assert_eq!(frame.root().text(), legal);
    }
}

#[test]
fn a_frame_can_say_its_namespace_itself() {
    for (xml, expected) in [
        (
            "<message to='a'/>",
            "<message xmlns='jabber:client' to='a'/>",
        ),
        ("<iq/>", "<iq xmlns='jabber:client'/>"),
        (
            "<message xmlns='jabber:client'/>",
            "<message xmlns='jabber:client'/>",
        ),
    ] {
        assert_eq!(frame(xml).declaring_client().to_bytes(), expected);
    }
}
