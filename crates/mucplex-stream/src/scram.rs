//! SCRAM as a client (RFC 5802, RFC 7677), without channel binding: how an uplink that has no
//! client logs in, by a password or by keys kept from an earlier login.
//!
//! ```text
//! Scram --server-first--> Deriving --keys--> AwaitFinal --server-final--> ScramKeys
//!            +------------(keys are kept)--------^
//! ```
//! The way from a password to keys is slow on purpose, so it is not taken here: [`Derivation`]
//! says what to do, and may be run on a thread that can wait.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use stringprep::saslprep;
use zeroize::Zeroizing;

/// Iterations beyond which a server is not obeyed: some ten seconds of work (RFC 5802 9). There
/// is no lower bound but one: the count of an account is the server's to choose.
pub const MAX_ITERATIONS: u32 = 10_000_000;

/// A SCRAM mechanism by its hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramMechanism {
    /// `SCRAM-SHA-1`
    Sha1,
    /// `SCRAM-SHA-256`
    Sha256,
    /// `SCRAM-SHA-512`
    Sha512,
}

impl ScramMechanism {
    /// From the strongest to the weakest.
    const ALL: [Self; 3] = [Self::Sha512, Self::Sha256, Self::Sha1];

    /// As SASL knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The strongest of those that are offered.
    #[must_use]
    pub fn strongest(offered: &[String]) -> Option<Self> {
        let is_offered = |known: &Self| offered.iter().any(|name| name == known.name());
        Self::ALL.into_iter().find(is_offered)
    }

    /// Bytes of a hash, and so of a key.
    const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn hash(self, data: &[u8]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha1 => Zeroizing::new(Sha1::digest(data).to_vec()),
            Self::Sha256 => Zeroizing::new(Sha256::digest(data).to_vec()),
            Self::Sha512 => Zeroizing::new(Sha512::digest(data).to_vec()),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Zeroizing<Vec<u8>> {
        let code = match self {
            Self::Sha1 => mac::<Sha1>(key, data).map(|mac| mac.finalize().into_bytes().to_vec()),
            Self::Sha256 => {
                mac::<Sha256>(key, data).map(|mac| mac.finalize().into_bytes().to_vec())
            }
            Self::Sha512 => {
                mac::<Sha512>(key, data).map(|mac| mac.finalize().into_bytes().to_vec())
            }
        };
        Zeroizing::new(code.unwrap_or_default())
    }

    /// Whether `code` is the HMAC, in constant time.
    fn verify(self, key: &[u8], data: &[u8], code: &[u8]) -> bool {
        match self {
            Self::Sha1 => mac::<Sha1>(key, data).is_some_and(|mac| mac.verify_slice(code).is_ok()),
            Self::Sha256 => {
                mac::<Sha256>(key, data).is_some_and(|mac| mac.verify_slice(code).is_ok())
            }
            Self::Sha512 => {
                mac::<Sha512>(key, data).is_some_and(|mac| mac.verify_slice(code).is_ok())
            }
        }
    }

    /// `Hi()` of RFC 5802 2.2.
    fn salted_password(self, password: &str, salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
        let mut salted = Zeroizing::new(vec![0; self.length()]);
        let password = password.as_bytes();
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted),
        }
        salted
    }

    const fn code(self) -> u8 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
            Self::Sha512 => 3,
        }
    }
}

/// HMAC takes keys of any length, so there always is one.
fn mac<D: EagerHash>(key: &[u8], data: &[u8]) -> Option<Hmac<D>> {
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key).ok()?;
    mac.update(data);
    Some(mac)
}

/// What is kept of a password: enough to log in where the server has the same salt and iteration
/// count, and nowhere else. Wiped when dropped, not shown by `Debug`.
///
/// A server that stores passwords as they are makes up a salt for each exchange (Prosody with
/// `internal_plain`, ejabberd with `auth_password_format: plain`): there no keys serve twice, and
/// every later login by them is [`ScramFault::Stale`].
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    mechanism: ScramMechanism,
    salt: Vec<u8>,
    iterations: u32,
    client_key: Zeroizing<Vec<u8>>,
    server_key: Zeroizing<Vec<u8>>,
}

/// The bytes are no keys, or of a version that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes hold no SCRAM keys")]
pub struct KeysFault;

impl ScramKeys {
    const VERSION: u8 = 1;

    /// What they log in with.
    #[must_use]
    pub const fn mechanism(&self) -> ScramMechanism {
        self.mechanism
    }

    /// For a store that seals them: version, mechanism, iterations (4 bytes), length of the salt
    /// (2), salt, client key, server key; numbers in network order.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let length = 8 + self.salt.len() + 2 * self.mechanism.length();
        // At once, as growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend([Self::VERSION, self.mechanism.code()]);
        bytes.extend(self.iterations.to_be_bytes());
        // No salt is longer than 64 KiB: see `read_first`.
        bytes.extend(u16::try_from(self.salt.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(&self.salt);
        bytes.extend(self.client_key.iter());
        bytes.extend(self.server_key.iter());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    /// [`KeysFault`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeysFault> {
        Self::parse(bytes).ok_or(KeysFault)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let ([version, code], rest) = bytes.split_first_chunk()?;
        let mut known = ScramMechanism::ALL.into_iter();
        let mechanism = known.find(|mechanism| mechanism.code() == *code)?;
        let (iterations, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let (client_key, server_key) = rest.split_at_checked(mechanism.length())?;
        (*version == Self::VERSION && server_key.len() == mechanism.length()).then(|| Self {
            mechanism,
            salt: salt.to_vec(),
            iterations: u32::from_be_bytes(*iterations),
            client_key: Zeroizing::new(client_key.to_vec()),
            server_key: Zeroizing::new(server_key.to_vec()),
        })
    }

    fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({})", self.mechanism.name())
    }
}

/// Slow work: keys from a password (RFC 5802 3). Blocks for as long as the server's iteration
/// count asks, milliseconds to seconds.
pub struct Derivation {
    mechanism: ScramMechanism,
    /// Prepared.
    password: Zeroizing<String>,
    salt: Vec<u8>,
    iterations: u32,
}

impl Derivation {
    /// Does it. The password is wiped afterwards.
    #[must_use]
    pub fn run(self) -> ScramKeys {
        let mechanism = self.mechanism;
        let salted = mechanism.salted_password(&self.password, &self.salt, self.iterations);
        ScramKeys {
            mechanism,
            client_key: mechanism.hmac(&salted, b"Client Key"),
            server_key: mechanism.hmac(&salted, b"Server Key"),
            salt: self.salt,
            iterations: self.iterations,
        }
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Derivation({})", self.mechanism.name())
    }
}

/// Who logs in.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Authentication identity.
    pub username: &'a str,
    /// Authorization identity, where it is another (RFC 5802 5.1).
    pub authzid: Option<&'a str>,
}

/// By what.
#[derive(Clone)]
pub enum Secret {
    /// A password, as it was typed.
    Password(ScramMechanism, Zeroizing<String>),
    /// Keys from an earlier login.
    Keys(ScramKeys),
}

/// Why an exchange ends. Its text never holds what the peers have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramFault {
    /// SASLprep (RFC 4013) does not allow the user name or the password.
    #[error("the user name or the password cannot be prepared")]
    Prepare,
    /// A message of the server that is none.
    #[error("the server's SCRAM message cannot be read: {0}")]
    Malformed(&'static str),
    /// The server's nonce does not go on from ours (RFC 5802 5.1).
    #[error("the server's SCRAM nonce is not made from ours")]
    Nonce,
    /// An iteration count of zero, or over [`MAX_ITERATIONS`].
    #[error("the server asks for an iteration count that is refused")]
    Iterations,
    /// The kept keys are of another password, or another salt for it.
    #[error("the kept keys are not for what the server has now")]
    Stale,
    /// The server has refused the proof.
    #[error("the server refused the proof")]
    Refused,
    /// The server does not know the keys itself.
    #[error("the server's signature is wrong")]
    Signature,
}

/// The client's first message is sent; the server's is awaited.
pub struct Scram {
    secret: Secret,
    gs2_header: String,
    first_bare: String,
    nonce: String,
}

/// What follows on the server's first message.
#[derive(Debug)]
pub enum Reply {
    /// Keys are needed first.
    Derive(Derivation, Deriving),
    /// This message is to be sent.
    Proof(String, AwaitFinal),
}

/// Keys are being made.
pub struct Deriving {
    exchange: Exchange,
    salt: Vec<u8>,
    iterations: u32,
}

/// The client's proof is sent; the server's signature is awaited.
pub struct AwaitFinal {
    keys: ScramKeys,
    auth_message: String,
}

/// What both sides have said so far.
struct Exchange {
    gs2_header: String,
    first_bare: String,
    server_first: String,
    /// The whole one.
    nonce: String,
}

impl Scram {
    /// Begins; gives the client's first message. `nonce`: 16 or more unpredictable bytes.
    ///
    /// # Errors
    /// [`ScramFault::Prepare`].
    pub fn begin(
        identity: Identity<'_>,
        secret: Secret,
        nonce: &[u8],
    ) -> Result<(Self, String), ScramFault> {
        let username = saslname(identity.username)?;
        let authzid = match identity.authzid {
            Some(authzid) => format!("a={}", saslname(authzid)?),
            None => String::new(),
        };
        // `n`: no support for channel binding. TLS is not this crate's, and where there is some,
        // the server has no reason to think that its offer was tampered with.
        let gs2_header = format!("n,{authzid},");
        let nonce = BASE64_STANDARD.encode(nonce);
        let first_bare = format!("n={username},r={nonce}");
        let message = format!("{gs2_header}{first_bare}");
        let scram = Self {
            secret,
            gs2_header,
            first_bare,
            nonce,
        };
        Ok((scram, message))
    }

    /// The server's first message.
    ///
    /// # Errors
    /// [`ScramFault`]: the exchange is to be aborted.
    pub fn server_first(self, message: &[u8]) -> Result<Reply, ScramFault> {
        let server_first = read_text(message)?;
        let (nonce, salt, iterations) = read_first(server_first)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramFault::Nonce);
        }
        let exchange = Exchange {
            gs2_header: self.gs2_header,
            first_bare: self.first_bare,
            server_first: server_first.to_owned(),
            nonce: nonce.to_owned(),
        };
        match self.secret {
            Secret::Keys(keys) if keys.fit(&salt, iterations) => Ok(exchange.prove(keys)),
            Secret::Keys(_) => Err(ScramFault::Stale),
            Secret::Password(mechanism, password) => {
                let derivation = Derivation {
                    mechanism,
                    password: prepared(password)?,
                    salt: salt.clone(),
                    iterations,
                };
                let deriving = Deriving {
                    exchange,
                    salt,
                    iterations,
                };
                Ok(Reply::Derive(derivation, deriving))
            }
        }
    }
}

impl Deriving {
    /// The keys that [`Derivation::run`] has made; the reply is a [`Reply::Proof`].
    ///
    /// # Errors
    /// [`ScramFault::Stale`] when they were made for another exchange.
    pub fn keys(self, keys: ScramKeys) -> Result<Reply, ScramFault> {
        if keys.fit(&self.salt, self.iterations) {
            Ok(self.exchange.prove(keys))
        } else {
            Err(ScramFault::Stale)
        }
    }
}

impl Exchange {
    /// RFC 5802 3: the proof is the client key, hidden by a signature of all that was said.
    fn prove(self, keys: ScramKeys) -> Reply {
        let mechanism = keys.mechanism;
        let binding = BASE64_STANDARD.encode(&self.gs2_header);
        let without_proof = format!("c={binding},r={}", self.nonce);
        let auth_message = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let stored_key = mechanism.hash(&keys.client_key);
        let mut proof = mechanism.hmac(&stored_key, auth_message.as_bytes());
        for (byte, key) in proof.iter_mut().zip(keys.client_key.iter()) {
            *byte ^= key;
        }
        let message = format!("{without_proof},p={}", BASE64_STANDARD.encode(&*proof));
        Reply::Proof(message, AwaitFinal { keys, auth_message })
    }
}

impl AwaitFinal {
    /// The server's last message; the keys have served and are worth keeping.
    ///
    /// # Errors
    /// [`ScramFault`]: the server must not be trusted, or has refused.
    pub fn server_final(self, message: &[u8]) -> Result<ScramKeys, ScramFault> {
        let text = read_text(message)?;
        if text.starts_with("e=") {
            return Err(ScramFault::Refused);
        }
        let verifier = text
            .strip_prefix("v=")
            .ok_or(ScramFault::Malformed("no v"))?;
        let verifier = verifier.split(',').next().unwrap_or_default();
        let signature = BASE64_STANDARD
            .decode(verifier)
            .map_err(|_| ScramFault::Malformed("v is no base64"))?;
        let keys = self.keys;
        let signed = self.auth_message.as_bytes();
        if keys.mechanism.verify(&keys.server_key, signed, &signature) {
            Ok(keys)
        } else {
            Err(ScramFault::Signature)
        }
    }
}

/// Nonce, salt and iteration count of a server's first message (RFC 5802 7).
fn read_first(text: &str) -> Result<(&str, Vec<u8>, u32), ScramFault> {
    let mut attributes = text.split(',');
    let mut next = |prefix, fault| {
        let attribute = attributes.next().unwrap_or_default();
        // `m=` in place of `r=` is an extension that must be understood; there is none.
        attribute.strip_prefix(prefix).ok_or(fault)
    };
    let nonce = next("r=", ScramFault::Malformed("no r"))?;
    let salt = next("s=", ScramFault::Malformed("no s"))?;
    let iterations = next("i=", ScramFault::Malformed("no i"))?;
    let salt = BASE64_STANDARD
        .decode(salt)
        .ok()
        .filter(|salt| !salt.is_empty() && salt.len() <= u16::MAX.into())
        .ok_or(ScramFault::Malformed("s is no salt"))?;
    let digits = iterations.bytes().all(|byte| byte.is_ascii_digit());
    let count: Option<u32> = digits.then(|| iterations.parse().ok()).flatten();
    match count {
        Some(count @ 1..=MAX_ITERATIONS) => Ok((nonce, salt, count)),
        Some(_) => Err(ScramFault::Iterations),
        None if digits && !iterations.is_empty() => Err(ScramFault::Iterations),
        None => Err(ScramFault::Malformed("i is no number")),
    }
}

fn read_text(message: &[u8]) -> Result<&str, ScramFault> {
    std::str::from_utf8(message).map_err(|_| ScramFault::Malformed("no UTF-8"))
}

/// RFC 5802 5.1: a prepared name, in which `=` and `,` are escaped.
fn saslname(name: &str) -> Result<String, ScramFault> {
    let name = saslprep(name).map_err(|_| ScramFault::Prepare)?;
    if name.is_empty() {
        return Err(ScramFault::Prepare);
    }
    Ok(name.replace('=', "=3D").replace(',', "=2C"))
}

/// RFC 5802 2.2: a password is prepared before it is used. One in ASCII, as nearly all are, stays
/// where it is; preparing another leaves traces of it in memory that was given back.
fn prepared(password: Zeroizing<String>) -> Result<Zeroizing<String>, ScramFault> {
    let changed = match saslprep(&password).map_err(|_| ScramFault::Prepare)? {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(prepared) => Some(Zeroizing::new(prepared)),
    };
    Ok(changed.unwrap_or(password))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(mechanism, _) => write!(f, "Password({})", mechanism.name()),
            Self::Keys(keys) => keys.fmt(f),
        }
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scram")
    }
}

impl fmt::Debug for Deriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deriving")
    }
}

impl fmt::Debug for AwaitFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwaitFinal")
    }
}
