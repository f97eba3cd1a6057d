//! Stanzas as one short line each, so that a test can say what somebody saw.

use mucplex_xml::{Frame, Kind};

use crate::service::{MUC_USER, parse};

/// `presence bob`, `presence alice 110 100`, `gone bob 303`, `message bob: hi`,
/// `past bob: hi`, `subject bob: tea`, `private bob: psst`, `error message 7 not-acceptable`,
/// `iq result 4 bob`.
pub(crate) fn line(xml: &str) -> String {
    let frame = parse(xml);
    let from = frame.from().unwrap_or_default().into_owned();
    let who = match from.split_once('/') {
        Some((_, nick)) => nick.to_owned(),
        None => "room".to_owned(),
    };
    let id = frame.id().unwrap_or_default().into_owned();
    let kind = frame.stanza_type().unwrap_or_default().into_owned();
    let parts: Vec<String> = match frame.kind() {
        _ if kind == "error" => {
            let error = frame.root().child("error", "jabber:client").unwrap();
            let condition = error.children().next().unwrap().name().to_owned();
            vec!["error".into(), frame.name().into(), id, condition]
        }
        Kind::Presence => presence(&frame, &kind, who),
        Kind::Message => vec![message(&frame, &kind, &who)],
        Kind::Iq => vec!["iq".into(), kind, id, who],
        _ => vec![frame.name().into()],
    };
    parts.join(" ")
}

fn presence(frame: &Frame, kind: &str, who: String) -> Vec<String> {
    let verb = match kind {
        "" => "presence",
        "unavailable" => "gone",
        other => other,
    };
    let mut parts = vec![verb.to_owned(), who];
    if let Some(show) = frame.root().child("show", "jabber:client") {
        parts.push(show.text());
    }
    parts.extend(codes(frame).iter().map(ToString::to_string));
    parts
}

fn message(frame: &Frame, kind: &str, who: &str) -> String {
    let root = frame.root();
    let text = |name| root.child(name, "jabber:client").map(|it| it.text());
    let late = root.child("delay", "urn:xmpp:delay").is_some();
    match (text("body"), text("subject")) {
        (None, Some(subject)) => format!("subject {who}: {subject}"),
        (body, _) => {
            let verb = match kind {
                "groupchat" if late => "past",
                "groupchat" => "message",
                _ => "private",
            };
            let codes: String = codes(frame).iter().map(|code| format!("{code} ")).collect();
            let body = body.unwrap_or_else(|| {
                let first = root.children().find(|child| !child.is("x", MUC_USER));
                codes + first.map_or("", |child| child.name())
            });
            format!("{verb} {who}: {}", body.trim())
        }
    }
}

/// The status codes, sorted but for 110, which comes first.
pub(crate) fn codes(frame: &Frame) -> Vec<u16> {
    let mut codes: Vec<u16> = frame
        .root()
        .children()
        .filter(|child| child.is("x", MUC_USER))
        .flat_map(|x| x.children().collect::<Vec<_>>())
        .filter(|child| child.is("status", MUC_USER))
        .map(|status| status.attr("code").unwrap().parse().unwrap())
        .collect();
    codes.sort_unstable_by_key(|code| (*code != 110, *code));
    codes
}

pub(crate) fn lines(stanzas: &[String]) -> Vec<String> {
    stanzas.iter().map(|xml| line(xml)).collect()
}
