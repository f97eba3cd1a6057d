//! Stream features: reading a server's, and rewriting them for the client (RFC 6120 4.3.2).

use bytes::Bytes;
use mucplex_xml::{Element, Frame};

use crate::ns;

/// Whether a server's features offer STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTlsOffer {
    /// No.
    Absent,
    /// The stream may go on without.
    Optional,
    /// Nothing else is possible before it (RFC 6120 5.4.1).
    Required,
}

/// Looks for STARTTLS in a server's features.
#[must_use]
pub fn starttls_offer(features: &Frame) -> StartTlsOffer {
    match features.root().child("starttls", ns::TLS) {
        None => StartTlsOffer::Absent,
        Some(starttls) if starttls.child("required", ns::TLS).is_some() => StartTlsOffer::Required,
        Some(_) => StartTlsOffer::Optional,
    }
}

/// The SASL mechanisms that features offer, in their order (RFC 6120 6.4.1).
#[must_use]
pub fn mechanisms(features: &Frame) -> Vec<String> {
    let root = features.root();
    let offered = root.child("mechanisms", ns::SASL);
    offered
        .iter()
        .flat_map(Element::children)
        .filter(|child| child.is("mechanism", ns::SASL))
        .map(|mechanism| mechanism.text().trim().to_owned())
        .collect()
}

/// Whether a SASL mechanism binds to the TLS channel, which ends at the proxy (RFC 5802 6).
#[must_use]
pub fn binds_channel(mechanism: &str) -> bool {
    let mechanism = mechanism.trim().to_ascii_uppercase();
    mechanism.ends_with("-PLUS")
}

/// A server's features as the client may see them: without what the proxy does itself, cannot
/// relay, or would lose sight of the session by. All else, the unknown too, stays byte for byte.
///
/// Taken out: STARTTLS; `-PLUS` mechanisms and channel-binding types (XEP-0440); SASL2 (XEP-0388)
/// with all that lives in it; stream management (XEP-0198); compression (XEP-0138);
/// non-SASL authentication (XEP-0078).
#[must_use]
pub fn for_client(features: &Frame) -> Bytes {
    rewritten(features, None)
}

/// The same for the features after login, where the proxy adds what it does itself whatever the
/// server does: client state indication (XEP-0352 3) and stream management (XEP-0198 2), which
/// takes the place of the server's own.
#[must_use]
pub fn for_client_after_login(features: &Frame) -> Bytes {
    let csi = match offers_csi(features) {
        true => String::new(),
        false => format!("<csi xmlns='{}'/>", ns::CSI),
    };
    let sm = format!("<sm xmlns='{}'/>", ns::STREAM_MANAGEMENT);
    rewritten(features, Some(&format!("{csi}{sm}")))
}

/// Whether a server's features offer client state indication (XEP-0352 3).
#[must_use]
pub fn offers_csi(features: &Frame) -> bool {
    features.root().child("csi", ns::CSI).is_some()
}

/// Whether a server's features offer stream management, in the version that is spoken
/// (XEP-0198 2).
#[must_use]
pub fn offers_sm(features: &Frame) -> bool {
    features.root().child("sm", ns::STREAM_MANAGEMENT).is_some()
}

fn rewritten(features: &Frame, added: Option<&str>) -> Bytes {
    let mut patch = features.patch();
    let mut changed = false;
    if let Some(added) = added {
        patch.append(&features.root(), added);
        changed = true;
    }
    for feature in features.root().children() {
        for element in taken_out(feature) {
            patch.remove(&element);
            changed = true;
        }
    }
    if changed {
        patch.finish()
    } else {
        features.bytes().clone()
    }
}

/// What has to go of one feature: all of it, parts of it, nothing.
fn taken_out(feature: Element<'_>) -> Vec<Element<'_>> {
    if is_hidden(&feature) {
        return vec![feature];
    }
    if !feature.is("mechanisms", ns::SASL) {
        return Vec::new();
    }
    let (gone, kept): (Vec<_>, Vec<_>) = feature.children().partition(|child| {
        child.is("sasl-channel-binding", ns::SASL_CHANNEL_BINDING)
            || (child.is("mechanism", ns::SASL) && binds_channel(&child.text()))
    });
    let usable = kept.iter().any(|child| child.is("mechanism", ns::SASL));
    // RFC 6120 6.4.1: a list of mechanisms has at least one.
    if gone.is_empty() || usable {
        gone
    } else {
        vec![feature]
    }
}

fn is_hidden(feature: &Element<'_>) -> bool {
    let namespace = feature.ns();
    match (feature.name(), &*namespace) {
        ("starttls", ns::TLS)
        | ("sasl-channel-binding", ns::SASL_CHANNEL_BINDING)
        | ("compression", ns::COMPRESS_FEATURE)
        | ("auth", ns::IQ_AUTH_FEATURE) => true,
        ("authentication", namespace) => namespace.starts_with(ns::SASL2_ANY),
        ("sm", namespace) => namespace.starts_with(ns::STREAM_MANAGEMENT_ANY),
        (_, _) => false,
    }
}
