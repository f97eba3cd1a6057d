//! Random streams that are valid, in all the ways XML can be written, and damage to them.

use proptest::{collection::vec, prelude::*, sample::select};

/// An element to be written. Where something depends on what is in scope, a number chooses.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    name: &'static str,
    prefix: u8,
    default_ns: Option<&'static str>,
    bind: Option<(&'static str, &'static str)>,
    attributes: Vec<(&'static str, u8, String)>,
    /// Chooses quotes, white space, and how an empty element is written.
    hand: u8,
    content: Vec<Content>,
}

#[derive(Clone, Debug)]
enum Content {
    Text(&'static str),
    Child(Item),
}

const NAMES: &[&str] = &[
    "message",
    "presence",
    "iq",
    "body",
    "x",
    "item",
    "r",
    "a",
    "features",
    "error",
    "Ünïcode",
    "日本",
    "a-b.c_d",
    "_",
    "א٣",
];
const PREFIXES: &[&str] = &["p", "q", "stream", "c", "ns1", "ü"];
const NAMESPACES: &[&str] = &[
    "jabber:client",
    "jabber:server",
    "urn:xmpp:sm:3",
    "u",
    "http://jabber.org/protocol/muc#user",
    "http://etherx.jabber.org/streams",
    "u&amp;v",
    "u&#38;v",
    "a b",
    "é",
];
const ATTRIBUTES: &[&str] = &[
    "to", "from", "id", "type", "lang", "stamp", "version", "x-y", "é",
];
/// All may follow each other in text and in attribute values, but for what [`push_text`] mends.
const TEXTS: &[&str] = &[
    "hello",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\r",
    "&amp;",
    "&lt;",
    "&gt;",
    "&quot;",
    "&apos;",
    "&#65;",
    "&#x1F600;",
    "&#13;",
    "&#9;",
    "&#x10FFFD;",
    "&#0065;",
    "]",
    "]]",
    ">",
    "\u{7f}",
    "\u{80}",
    "é",
    "日本語",
    "😀",
    "👩‍👩‍👧",
    "\u{fffd}",
    "\u{10ffff}",
    "\u{feff}",
    "=",
    "/",
    "!",
    "?",
    "--",
    "xmlns",
    ";",
    "#",
    "0123456789abcdef0123456789abcdef0123456789abcdef",
];
/// Also in text alone.
const CDATA: &[&str] = &[
    "<![CDATA[]]>",
    "<![CDATA[a<b&c]]>",
    "<![CDATA[]]]]>",
    "<![CDATA[]\r\n]]>",
    "<![CDATA[>]>]]]>",
    "<![CDATA[&amp;]]>",
    "<![CDATA[\r]]>",
    "<![CDATA[日😀]]>",
    "\"",
    "'",
];

fn text() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => select(TEXTS), 1 => select(CDATA)]
}

fn attribute() -> impl Strategy<Value = (&'static str, u8, String)> {
    let value = vec(select(TEXTS), 0..4).prop_map(|parts| parts.concat());
    (select(ATTRIBUTES), any::<u8>(), value)
}

fn item() -> impl Strategy<Value = Item> {
    let shell = || {
        (
            select(NAMES),
            any::<u8>(),
            proptest::option::weighted(0.3, select(NAMESPACES)),
            proptest::option::weighted(0.3, (select(PREFIXES), select(NAMESPACES))),
            vec(attribute(), 0..4),
            any::<u8>(),
        )
    };
    let leaf = (shell(), vec(text().prop_map(Content::Text), 0..4)).prop_map(build);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let content = prop_oneof![
            text().prop_map(Content::Text),
            inner.prop_map(Content::Child)
        ];
        (shell(), vec(content, 0..5)).prop_map(build)
    })
}

type Shell = (
    &'static str,
    u8,
    Option<&'static str>,
    Option<(&'static str, &'static str)>,
    Vec<(&'static str, u8, String)>,
    u8,
);

fn build((shell, content): (Shell, Vec<Content>)) -> Item {
    let (name, prefix, default_ns, bind, attributes, hand) = shell;
    Item {
        name,
        prefix,
        default_ns,
        bind,
        attributes,
        hand,
        content,
    }
}

/// Every XML 1.0 document may begin with one of these.
const DECLARATIONS: &[&str] = &[
    "",
    "",
    "<?xml version='1.0'?>",
    "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n",
    "<?xml version='1.0' encoding='UTF-8' standalone='yes'?>",
    "<?xml version = '1.0'\tstandalone='no' ?>",
    "\n ",
];
/// A header, and the prefixes it binds.
const HEADERS: &[(&str, &[&str])] = &[
    (
        "<stream:stream to='example.org' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        &["stream"],
    ),
    (
        "<stream:stream xmlns:stream=\"http://etherx.jabber.org/streams\"\n xmlns=\"jabber:client\" xmlns:p='u' xmlns:q='u' id='&lt;1>' >",
        &["stream", "p", "q"],
    ),
    (
        "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:c='jabber:client' xmlns:stream='urn:other'>",
        &["s", "c", "stream"],
    ),
    (
        "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client' from='a&amp;b'>",
        &["c"],
    ),
    (
        "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams'>",
        &["stream", "db"],
    ),
];

/// A stream: declaration, header, elements with white space between them, perhaps its end.
pub(crate) fn stream() -> impl Strategy<Value = Vec<u8>> {
    written(false)
}

/// A stream with flaws that no random damage is likely to make: attributes that are one by their
/// expanded names, prefixes that are not bound, tokens in places where they are not allowed.
pub(crate) fn wild_stream() -> impl Strategy<Value = Vec<u8>> {
    written(true)
}

fn written(wild: bool) -> impl Strategy<Value = Vec<u8>> {
    let space = select(vec!["", "", "", " ", "\n", "\r\n\t "]);
    (
        select(DECLARATIONS),
        select(HEADERS),
        vec((item(), space), 0..5),
        any::<bool>(),
    )
        .prop_map(move |(declaration, (header, prefixes), items, end)| {
            let mut writer = Writer {
                out: format!("{declaration}{header}"),
                prefixes: prefixes.to_vec(),
                wild,
            };
            for (item, space) in items {
                writer.write(&item);
                writer.out.push_str(space);
            }
            if end {
                let name = header[1..].split([' ', '\n']).next().unwrap();
                writer.out.push_str(&format!("</{name} >"));
            }
            writer.out.into_bytes()
        })
}

/// One element, as a frame that stands alone.
pub(crate) fn element() -> impl Strategy<Value = Vec<u8>> {
    item().prop_map(|item| {
        let mut writer = Writer {
            out: String::new(),
            prefixes: vec!["stream"],
            wild: false,
        };
        writer.write(&item);
        writer.out.into_bytes()
    })
}

struct Writer {
    out: String,
    /// Those that are bound, innermost last.
    prefixes: Vec<&'static str>,
    wild: bool,
}

/// What a wild stream does wrong in one element.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    Text(&'static str),
    Value(&'static str),
    NoSpace,
    TwoColons,
    Unbound,
    /// Each attribute once more, with another prefix.
    Twins,
}

const MISPLACED: &[&str] = &[
    "\u{ffff}", "\u{fffe}", "]]>", "&nbsp;", "&#1;", "<", "&", "\0", "'", "\"", "\u{1f}",
];

impl Writer {
    fn flaw(&self, item: &Item) -> Flaw {
        let token = MISPLACED[usize::from(item.prefix) % MISPLACED.len()];
        match item.hand >> 4 {
            _ if !self.wild => Flaw::None,
            1 => Flaw::Text(token),
            2 => Flaw::Value(token),
            3 => Flaw::NoSpace,
            4 => Flaw::TwoColons,
            5 => Flaw::Unbound,
            6 | 7 => Flaw::Twins,
            _ => Flaw::None,
        }
    }

    fn write(&mut self, item: &Item) {
        let outside = self.prefixes.len();
        self.prefixes.extend(item.bind.map(|(prefix, _)| prefix));
        let flaw = self.flaw(item);
        let gap = ["", " ", "\n", "\t\r\n "][usize::from(item.hand >> 1 & 3)];
        // More choices than there are prefixes: none.
        let chosen = usize::from(item.prefix) % (self.prefixes.len() + 2);
        let name = match self.prefixes.get(chosen) {
            _ if flaw == Flaw::Unbound => format!("unbound:{}", item.name),
            Some(prefix) if flaw == Flaw::TwoColons => format!("{prefix}:a:b"),
            Some(prefix) => format!("{prefix}:{}", item.name),
            None => item.name.to_owned(),
        };
        self.out.push_str(&format!("<{name}"));
        self.attributes(item, gap, flaw);
        if item.content.is_empty() && item.hand & 8 == 0 {
            self.out.push_str(&format!("{gap}/>"));
        } else {
            self.out.push_str(&format!("{gap}>"));
            if let Flaw::Text(token) = flaw {
                self.out.push_str(token);
            }
            for part in &item.content {
                match part {
                    Content::Text(text) => self.text(text),
                    Content::Child(child) => self.write(child),
                }
            }
            self.out.push_str(&format!("</{name}{gap}>"));
        }
        self.prefixes.truncate(outside);
    }

    fn attributes(&mut self, item: &Item, gap: &str, flaw: Flaw) {
        let (quote, reference) = [('\'', "&apos;"), ('"', "&#x22;")][usize::from(item.hand & 1)];
        let mut space = " ";
        let mut attribute = |name: &str, value: &str| {
            let mut value = value.replace(quote, reference);
            if let Flaw::Value(token) = flaw {
                value.push_str(token);
            }
            let attribute = format!("{gap}{space}{name}{gap}={gap}{quote}{value}{quote}");
            self.out.push_str(&attribute);
            if flaw == Flaw::NoSpace {
                space = "";
            }
        };
        if let Some(uri) = item.default_ns {
            attribute("xmlns", uri);
        }
        if let Some((prefix, uri)) = item.bind {
            attribute(&format!("xmlns:{prefix}"), uri);
        }
        let mut seen = Vec::new();
        for (name, prefix, value) in &item.attributes {
            // A local name once in a tag: so no two prefixes can make one attribute of two.
            if seen.contains(name) && !self.wild {
                continue;
            }
            seen.push(name);
            let choices = self.prefixes.len() * if self.wild { 1 } else { 4 } + 1;
            let name = match self.prefixes.get(usize::from(*prefix) % choices) {
                _ if *name == "lang" => "xml:lang".to_owned(),
                Some(prefix) => format!("{prefix}:{name}"),
                None => (*name).to_owned(),
            };
            attribute(&name, value);
            let next = usize::from(*prefix).wrapping_add(1) % choices;
            if let (Flaw::Twins, Some(prefix)) = (flaw, self.prefixes.get(next)) {
                attribute(
                    &format!("{prefix}:{}", name.rsplit(':').next().unwrap()),
                    value,
                );
            }
        }
    }

    /// `]]>` must not come about in text.
    fn text(&mut self, text: &str) {
        if text.starts_with('>') && self.out.ends_with("]]") && !self.wild {
            self.out.push(' ');
        }
        self.out.push_str(text);
    }
}

/// One change to the bytes of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static [u8]),
    Remove(prop::sample::Index, usize),
    /// Copies some bytes of the stream to another place of it.
    Splice(prop::sample::Index, usize, prop::sample::Index),
    /// Inserts at a place where a token begins or ends.
    Between(prop::sample::Index, &'static [u8]),
    /// Copies what lies between two such places to a third.
    Transplant([prop::sample::Index; 3]),
    /// Overwrites with a token.
    Overwrite(prop::sample::Index, &'static [u8]),
}

const TOKENS: &[&[u8]] = &[
    b"<",
    b">",
    b"/",
    b"'",
    b"\"",
    b"=",
    b"&",
    b";",
    b":",
    b"!",
    b"?",
    b"#",
    b"]",
    b"]]",
    b"]]>",
    b"[",
    b" ",
    b"\n",
    b"\r",
    b"\t",
    b"<![CDATA[",
    b"<![CDATA[]]>",
    b"<!--",
    b"-->",
    b"<?",
    b"?>",
    b"<?xml version='1.0'?>",
    b"<!DOCTYPE a>",
    b"</",
    b"/>",
    b"<a>",
    b"</a>",
    b"<a/>",
    b"&amp;",
    b"&#0;",
    b"&#xD800;",
    b"&#x41;",
    b"&#65;",
    b"&#0000065;",
    b"&#xFFFFFF;",
    b"&nbsp;",
    b"&a",
    b"&#",
    b" xmlns='u'",
    b" xmlns=''",
    b" xmlns:p='u'",
    b" xmlns:p=''",
    b" xmlns:xml='u'",
    b" xmlns:xmlns='u'",
    b" p:a='1'",
    b" a='1'",
    b" to='x'",
    b" xml:lang='de'",
    b" xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    b"p:",
    b"xmlns:",
    b"xml:",
    b"stream:",
    b"</stream:stream>",
    b"<stream:stream>",
    b"\0",
    b"\x08",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc2\x85",
    b"\xc3\xa4",
    b"\xc3\x97",
    b"\xcc\x80",
    b"\xe2\x82",
    b"\xe2\x82\xac",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xef\xbf\xbe",
    b"\xef\xbf\xbf",
    b"\xf0\x9f\x98\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5",
    b"\xff",
    b"-",
    b".",
    b"1",
    b"_",
];

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        4 => (index(), select(TOKENS)).prop_map(|(at, token)| Damage::Insert(at, token)),
        2 => (index(), 1..12_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        2 => (index(), 1..40_usize, index()).prop_map(|(from, length, to)| Damage::Splice(from, length, to)),
        4 => (index(), select(TOKENS)).prop_map(|(at, token)| Damage::Between(at, token)),
        4 => [index(), index(), index()].prop_map(Damage::Transplant),
        2 => (index(), select(TOKENS)).prop_map(|(at, token)| Damage::Overwrite(at, token)),
    ]
}

/// A stream with some damage. Much of what comes out is still well-formed.
pub(crate) fn damaged_stream() -> impl Strategy<Value = Vec<u8>> {
    (stream(), vec(damage(), 1..4)).prop_map(|(mut bytes, damages)| {
        for damage in damages {
            apply(&damage, &mut bytes);
        }
        bytes
    })
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    let length = bytes.len();
    if length == 0 {
        return;
    }
    let insert = |bytes: &mut Vec<u8>, at: usize, what: &[u8]| {
        bytes.splice(at..at, what.iter().copied());
    };
    match damage {
        Damage::Flip(at, byte) => bytes[at.index(length)] = *byte,
        Damage::Insert(at, token) => insert(bytes, at.index(length), token),
        Damage::Remove(at, count) => {
            let at = at.index(length);
            bytes.drain(at..(at + count).min(length));
        }
        Damage::Splice(from, count, to) => {
            let from = from.index(length);
            let piece = bytes[from..(from + count).min(length)].to_vec();
            insert(bytes, to.index(length), &piece);
        }
        Damage::Between(at, token) => {
            let places = places(bytes);
            insert(bytes, places[at.index(places.len())], token);
        }
        Damage::Transplant(indices) => {
            let places = places(bytes);
            let [a, b, to] = indices.map(|index| places[index.index(places.len())]);
            let piece = bytes[a.min(b)..(a.max(b)).min(a.min(b) + 60)].to_vec();
            insert(bytes, to, &piece);
        }
        Damage::Overwrite(at, token) => {
            let at = at.index(length);
            bytes.splice(at..(at + token.len()).min(length), token.iter().copied());
        }
    }
}

/// Where the tokens of XML begin and end, roughly.
fn places(bytes: &[u8]) -> Vec<usize> {
    let marks = |byte: &u8| {
        matches!(
            byte,
            b'<' | b'>' | b'/' | b' ' | b'\'' | b'"' | b'=' | b'&' | b';' | b':'
        )
    };
    (0..bytes.len())
        .filter(|&at| marks(&bytes[at]) || (at > 0 && marks(&bytes[at - 1])))
        .chain([bytes.len()])
        .collect()
}
