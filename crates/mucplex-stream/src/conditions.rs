//! Defined conditions of errors, found in what a peer says: everything else in there may say
//! anything, so no more of it gets into a log.

use mucplex_xml::Element;

use crate::ns;

/// RFC 6120 8.3.3.
const STANZA: [&str; 22] = [
    "bad-request",
    "conflict",
    "feature-not-implemented",
    "forbidden",
    "gone",
    "internal-server-error",
    "item-not-found",
    "jid-malformed",
    "not-acceptable",
    "not-allowed",
    "not-authorized",
    "policy-violation",
    "recipient-unavailable",
    "redirect",
    "registration-required",
    "remote-server-not-found",
    "remote-server-timeout",
    "resource-constraint",
    "service-unavailable",
    "subscription-required",
    "undefined-condition",
    "unexpected-request",
];

/// RFC 6120 6.5.
const SASL: [&str; 11] = [
    "aborted",
    "account-disabled",
    "credentials-expired",
    "encryption-required",
    "incorrect-encoding",
    "invalid-authzid",
    "invalid-mechanism",
    "malformed-request",
    "mechanism-too-weak",
    "not-authorized",
    "temporary-auth-failure",
];

/// The condition of a stanza error, or of what borrows it, among the children of `parent`.
pub(crate) fn of_stanza(parent: &Element<'_>) -> Option<&'static str> {
    among(parent, ns::STANZAS, &STANZA)
}

/// The condition of a SASL `<failure/>`.
pub(crate) fn of_sasl(failure: &Element<'_>) -> Option<&'static str> {
    among(failure, ns::SASL, &SASL)
}

fn among(parent: &Element<'_>, ns: &str, known: &[&'static str]) -> Option<&'static str> {
    parent
        .children()
        .filter(|child| child.ns() == ns)
        .find_map(|child| known.iter().copied().find(|name| *name == child.name()))
}
