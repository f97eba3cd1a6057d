//! The namespaces this crate reads and writes.

/// XEP-0045, what an entering client adds to its presence.
pub(crate) const MUC: &str = "http://jabber.org/protocol/muc";
/// XEP-0045, what the room adds to presences and messages.
pub(crate) const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0045, requests of moderators and admins.
pub(crate) const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
/// XEP-0045, requests of owners.
pub(crate) const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
/// XEP-0045, requests for voice.
pub(crate) const MUC_REQUEST: &str = "http://jabber.org/protocol/muc#request";
/// XEP-0004.
pub(crate) const DATA: &str = "jabber:x:data";
/// XEP-0030.
pub(crate) const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// XEP-0092.
pub(crate) const VERSION: &str = "jabber:iq:version";
/// XEP-0280.
pub(crate) const CARBONS: &str = "urn:xmpp:carbons:2";
/// XEP-0297.
pub(crate) const FORWARD: &str = "urn:xmpp:forward:0";
/// XEP-0199.
pub(crate) const PING: &str = "urn:xmpp:ping";
/// XEP-0203.
pub(crate) const DELAY: &str = "urn:xmpp:delay";
/// XEP-0359.
pub(crate) const STANZA_ID: &str = "urn:xmpp:sid:0";
/// XEP-0421.
pub(crate) const OCCUPANT_ID: &str = "urn:xmpp:occupant-id:0";
/// XEP-0313.
pub(crate) const MAM: &str = "urn:xmpp:mam:2";
/// XEP-0352.
pub(crate) const CSI: &str = "urn:xmpp:csi:0";
/// XEP-0198.
pub(crate) const SM: &str = "urn:xmpp:sm:3";
/// XEP-0138.
pub(crate) const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// RFC 6120 7.
pub(crate) const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// RFC 6120 8.3.
pub(crate) const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// RFC 6120 8.
pub(crate) const CLIENT: &str = "jabber:client";
/// XEP-0085.
pub(crate) const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0334.
pub(crate) const HINTS: &str = "urn:xmpp:hints";
/// XEP-0060.
pub(crate) const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
pub(crate) const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// XEP-0402.
pub(crate) const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";
