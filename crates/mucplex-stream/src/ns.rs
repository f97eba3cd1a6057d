//! The namespaces that negotiation speaks of, each written once.

/// The stream itself (RFC 6120 4.8.1).
pub const STREAMS: &str = "http://etherx.jabber.org/streams";
/// Content of a client's stream (RFC 6120 4.8.3).
pub const CLIENT: &str = "jabber:client";
/// STARTTLS (RFC 6120 5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// SASL2 of any version (XEP-0388), up to the version number.
pub const SASL2_ANY: &str = "urn:xmpp:sasl:";
/// Channel-binding types for SASL (XEP-0440).
pub const SASL_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// Resource binding (RFC 6120 7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Conditions of stanza errors (RFC 6120 8.3).
pub const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Stream management (XEP-0198), the version that is spoken.
pub const STREAM_MANAGEMENT: &str = "urn:xmpp:sm:3";
/// Stream management of any version (XEP-0198), up to the version number.
pub const STREAM_MANAGEMENT_ANY: &str = "urn:xmpp:sm:";
/// Client state indication (XEP-0352).
pub const CSI: &str = "urn:xmpp:csi:0";
/// The stream feature of compression (XEP-0138).
pub const COMPRESS_FEATURE: &str = "http://jabber.org/features/compress";
/// The protocol of compression (XEP-0138).
pub const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// The stream feature of non-SASL authentication (XEP-0078).
pub const IQ_AUTH_FEATURE: &str = "http://jabber.org/features/iq-auth";
/// The protocol of non-SASL authentication (XEP-0078).
pub const IQ_AUTH: &str = "jabber:iq:auth";
