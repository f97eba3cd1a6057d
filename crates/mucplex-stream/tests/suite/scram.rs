//! SCRAM: the exchanges of the RFCs, another implementation as the server, and what is refused.

use base64::{Engine, prelude::BASE64_STANDARD};
use mucplex_stream::scram::{
    AwaitFinal, Identity, MAX_ITERATIONS, Reply, Scram, ScramFault, ScramKeys, ScramMechanism,
    Secret,
};
use proptest::prelude::*;
use sasl::{
    common::{ChannelBinding, Identity as Account, scram as theirs},
    impl_validator_using_provider,
    secret::{Pbkdf2Sha1, Pbkdf2Sha256},
    server::{Mechanism, Provider, ProviderError, Response, mechanisms::Scram as Server},
};

/// One whole exchange: who, by what, and what both sides say.
struct Vector {
    mechanism: ScramMechanism,
    identity: Identity<'static>,
    password: &'static str,
    nonce: &'static str,
    messages: [&'static str; 4],
}

const USER: Identity<'static> = Identity {
    username: "user",
    authzid: None,
};

/// RFC 5802 5.
const SHA1: Vector = Vector {
    mechanism: ScramMechanism::Sha1,
    identity: USER,
    password: "pencil",
    nonce: "fyko+d2lbbFgONRv9qkxdawL",
    messages: [
        "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ],
};

/// RFC 7677 3.
const SHA256: Vector = Vector {
    mechanism: ScramMechanism::Sha256,
    identity: USER,
    password: "pencil",
    nonce: "rOprNGfwEbeRWgbNEkqO",
    messages: [
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ],
};

/// There is none in an RFC; made with Python's `hashlib` and `hmac`.
const SHA512: Vector = Vector {
    mechanism: ScramMechanism::Sha512,
    identity: USER,
    password: "pencil",
    nonce: "rOprNGfwEbeRWgbNEkqO",
    messages: [
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqOxyz,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqOxyz,p=Zh7jX0Zd1PDsAp0GWmOHffLG1DskbCh0BAVkrdux5geSLrPrNDADL\
         nb7cECEf2tNQChGSgS6exnqZm0MJydbJQ==",
        "v=EvTyz7M5H81pgmL5qrcfBywuFl5QwZM+NX9KNezM1jkj8Jr32Qla+qrVtZhQkrcU/NswVKlNY2aaVw8HypRJ/w==",
    ],
};

/// A name to escape, an authorization identity, a password that SASLprep changes to `IXa`
/// (RFC 4013 3); made as the one before.
const PREPARED: Vector = Vector {
    mechanism: ScramMechanism::Sha256,
    identity: Identity {
        username: "a,b=c",
        authzid: Some("admin"),
    },
    password: "I\u{ad}X\u{aa}",
    nonce: "rOprNGfwEbeRWgbNEkqO",
    messages: [
        "n,a=admin,n=a=2Cb=3Dc,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqOxyz,s=c2FsdA==,i=1",
        "c=bixhPWFkbWluLA==,r=rOprNGfwEbeRWgbNEkqOxyz,p=P5NH1VBqiInlcXq8JZdvzGNXGaJF+T7aPT37KijrEhI=",
        "v=TvV+2qf8dQg8YBAZ1DdtzIASbLguWSbnL/OH5XSaiQQ=",
    ],
};

const VECTORS: [Vector; 4] = [SHA1, SHA256, SHA512, PREPARED];

impl Vector {
    fn begin(&self, secret: Secret) -> Scram {
        let nonce = BASE64_STANDARD.decode(self.nonce).unwrap();
        let (scram, first) = Scram::begin(self.identity, secret, &nonce).unwrap();
        assert_eq!(first, self.messages[0]);
        scram
    }

    fn password(&self) -> Secret {
        Secret::Password(self.mechanism, self.password.to_owned().into())
    }

    fn keys(&self) -> ScramKeys {
        let scram = self.begin(self.password());
        let reply = scram.server_first(self.messages[1].as_bytes()).unwrap();
        let (proof, end) = derived(reply);
        assert_eq!(proof, self.messages[2]);
        end.server_final(self.messages[3].as_bytes()).unwrap()
    }
}

fn derived(reply: Reply) -> (String, AwaitFinal) {
    let Reply::Derive(derivation, deriving) = reply else {
        panic!("a password has to become keys")
    };
    proof(deriving.keys(derivation.run()).unwrap())
}

fn proof(reply: Reply) -> (String, AwaitFinal) {
    match reply {
        Reply::Proof(message, end) => (message, end),
        Reply::Derive(..) => panic!("there are keys"),
    }
}

fn fault(reply: Result<Reply, ScramFault>) -> ScramFault {
    reply.expect_err("a fault")
}

#[test]
fn exchanges_by_password_and_by_the_keys_of_it() {
    for vector in VECTORS {
        let keys = vector.keys();
        assert_eq!(keys.mechanism(), vector.mechanism);
        let stored = ScramKeys::from_bytes(&keys.to_bytes()).unwrap();
        assert!(stored == keys);
        let scram = vector.begin(Secret::Keys(stored));
        let reply = scram.server_first(vector.messages[1].as_bytes()).unwrap();
        let (message, end) = proof(reply);
        assert_eq!(message, vector.messages[2]);
        assert!(end.server_final(vector.messages[3].as_bytes()).unwrap() == keys);
    }
}

/// No proof is given to a server that has another password, and asking again could lock the
/// account.
#[test]
fn kept_keys_for_another_salt_or_count_are_stale() {
    let other = [
        SHA256.messages[1].replace("i=4096", "i=4097"),
        SHA256.messages[1].replace("W22Z", "X22Z"),
    ];
    for first in other {
        let scram = SHA256.begin(Secret::Keys(SHA256.keys()));
        let reply = scram.server_first(first.as_bytes());
        assert_eq!(fault(reply), ScramFault::Stale);
    }
}

#[test]
fn first_messages_that_are_refused() {
    let (nonce, rest) = ("r=rOprNGfwEbeRWgbNEkqO", "s=c2FsdA==,i=4096");
    let malformed = [
        String::new(),
        "e=other-error".into(),
        format!("m=x,{nonce}a,{rest}"),
        format!("{nonce}a"),
        format!("{nonce}a,s=!,i=1"),
        format!("{nonce}a,s=,i=1"),
        format!("{nonce}a,s=c2FsdA==,i="),
        format!("{nonce}a,s=c2FsdA==,i=-1"),
        format!("{nonce}a,s=c2FsdA==,i=+1"),
    ];
    for text in malformed {
        let reply = SHA256
            .begin(SHA256.password())
            .server_first(text.as_bytes());
        assert!(matches!(fault(reply), ScramFault::Malformed(_)), "{text}");
    }
    let table = [
        (format!("{nonce},{rest}"), ScramFault::Nonce),
        (format!("r=other,{rest}"), ScramFault::Nonce),
        (format!("r=,{rest}"), ScramFault::Nonce),
        (format!("{nonce}a,s=c2FsdA==,i=0"), ScramFault::Iterations),
        (
            format!("{nonce}a,s=c2FsdA==,i={}", MAX_ITERATIONS + 1),
            ScramFault::Iterations,
        ),
        (
            format!("{nonce}a,s=c2FsdA==,i=99999999999"),
            ScramFault::Iterations,
        ),
    ];
    for (text, expected) in table {
        let reply = SHA256
            .begin(SHA256.password())
            .server_first(text.as_bytes());
        assert_eq!(fault(reply), expected, "{text}");
    }
    let reply = SHA256.begin(SHA256.password()).server_first(b"r=\xff");
    assert!(matches!(fault(reply), ScramFault::Malformed(_)));
    // An optional extension behind what must be there is no harm.
    let reply = SHA256
        .begin(SHA256.password())
        .server_first(format!("{nonce}a,{rest},x=y").as_bytes());
    assert!(matches!(reply, Ok(Reply::Derive(..))));
}

#[test]
fn last_messages_that_are_refused() {
    let forged = SHA1.messages[3].replace("rmF9", "rmF8");
    let table: [(&[u8], ScramFault); 6] = [
        (forged.as_bytes(), ScramFault::Signature),
        (b"v=", ScramFault::Signature),
        (b"v=!", ScramFault::Malformed("v is no base64")),
        (b"e=invalid-proof", ScramFault::Refused),
        (b"", ScramFault::Malformed("no v")),
        (b"\xff", ScramFault::Malformed("no UTF-8")),
    ];
    for (text, expected) in table {
        let scram = SHA1.begin(SHA1.password());
        let reply = scram.server_first(SHA1.messages[1].as_bytes()).unwrap();
        let (_, end) = derived(reply);
        assert_eq!(end.server_final(text).err(), Some(expected));
    }
}

#[test]
fn names_and_passwords_that_cannot_be_prepared() {
    for username in ["", "a\u{7}", "\u{ad}"] {
        let identity = Identity {
            username,
            authzid: None,
        };
        let begun = Scram::begin(identity, SHA1.password(), &[0; 16]);
        assert_eq!(begun.err(), Some(ScramFault::Prepare), "{username:?}");
    }
    let password = "\u{627}1".to_owned().into();
    let scram = SHA1.begin(Secret::Password(ScramMechanism::Sha1, password));
    let reply = scram.server_first(SHA1.messages[1].as_bytes());
    assert_eq!(fault(reply), ScramFault::Prepare);
}

#[test]
fn keys_made_for_another_exchange_prove_nothing() {
    let scram = SHA256.begin(SHA256.password());
    let reply = scram.server_first(SHA256.messages[1].as_bytes()).unwrap();
    let Reply::Derive(_, deriving) = reply else {
        panic!("keys")
    };
    assert_eq!(fault(deriving.keys(PREPARED.keys())), ScramFault::Stale);
}

#[test]
fn the_strongest_mechanism_is_chosen() {
    let choose = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ScramMechanism::strongest(&names)
    };
    use ScramMechanism::{Sha1, Sha256, Sha512};
    let all = ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-512", "SCRAM-SHA-256"];
    assert_eq!(choose(&all), Some(Sha512));
    assert_eq!(choose(&["SCRAM-SHA-1", "SCRAM-SHA-256"]), Some(Sha256));
    assert_eq!(choose(&["SCRAM-SHA-1"]), Some(Sha1));
    assert_eq!(choose(&["PLAIN", "SCRAM-SHA-256-PLUS"]), None);
}

#[test]
fn nothing_secret_is_shown() {
    let keys = SHA1.keys();
    let scram = SHA1.begin(SHA1.password());
    let shown = format!("{scram:?} {:?} {:?}", SHA1.password(), Secret::Keys(keys));
    let reply = scram.server_first(SHA1.messages[1].as_bytes()).unwrap();
    let shown = format!("{shown} {reply:?}");
    let (_, end) = derived(reply);
    assert_eq!(
        format!("{shown} {end:?}"),
        "Scram Password(SCRAM-SHA-1) ScramKeys(SCRAM-SHA-1) \
         Derive(Derivation(SCRAM-SHA-1), Deriving) AwaitFinal"
    );
}

#[test]
fn bytes_that_hold_no_keys() {
    let bytes = SHA256.keys().to_bytes();
    assert_eq!(bytes.len(), 8 + 16 + 64);
    for length in 0..bytes.len() {
        assert!(ScramKeys::from_bytes(&bytes[..length]).is_err());
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(ScramKeys::from_bytes(&longer).is_err());
    for (at, value) in [(0, 2), (1, 0), (1, 1), (1, 9), (7, 15)] {
        let mut other = bytes.to_vec();
        other[at] = value;
        assert!(ScramKeys::from_bytes(&other).is_err(), "{at}");
    }
}

/// The accounts of the other implementation.
struct Accounts(&'static str);

impl Provider<Pbkdf2Sha1> for Accounts {
    fn provide(&self, _: &Account) -> Result<Pbkdf2Sha1, ProviderError> {
        Ok(Pbkdf2Sha1::derive(self.0, b"pepper", 4096).unwrap())
    }
}

impl Provider<Pbkdf2Sha256> for Accounts {
    fn provide(&self, _: &Account) -> Result<Pbkdf2Sha256, ProviderError> {
        Ok(Pbkdf2Sha256::derive(self.0, b"pepper", 4096).unwrap())
    }
}

impl_validator_using_provider!(Accounts, Pbkdf2Sha1);
impl_validator_using_provider!(Accounts, Pbkdf2Sha256);

fn login(server: &mut dyn Mechanism, password: &str, nonce: &[u8]) -> Option<ScramKeys> {
    let mechanism = match server.name() {
        "SCRAM-SHA-1" => ScramMechanism::Sha1,
        _ => ScramMechanism::Sha256,
    };
    let secret = Secret::Password(mechanism, password.to_owned().into());
    let (scram, first) = Scram::begin(USER, secret, nonce).unwrap();
    let Ok(Response::Proceed(challenge)) = server.respond(first.as_bytes()) else {
        panic!("no challenge")
    };
    let (proof, end) = derived(scram.server_first(&challenge).unwrap());
    let Ok(Response::Success(account, last)) = server.respond(proof.as_bytes()) else {
        return None;
    };
    assert_eq!(account, Account::Username("user".to_owned()));
    Some(end.server_final(&last).unwrap())
}

/// This server takes the flag `n` only where it could bind to a channel.
fn no_binding() -> ChannelBinding {
    ChannelBinding::TlsUnique(Vec::new())
}

#[test]
fn another_implementation_is_logged_in_to() {
    let sha1 = || Server::<theirs::Sha1, _>::new(Accounts("sekret"), no_binding());
    let sha256 = || Server::<theirs::Sha256, _>::new(Accounts("sekret"), no_binding());
    assert!(login(&mut sha1(), "sekret", &[1; 16]).is_some());
    assert!(login(&mut sha256(), "sekret", &[2; 16]).is_some());
    assert!(login(&mut sha1(), "Sekret", &[3; 16]).is_none());
    assert!(login(&mut sha256(), "", &[4; 16]).is_none());
}

proptest! {
    #[test]
    fn nothing_a_server_says_is_too_much(first: Vec<u8>, text in ".*", last: Vec<u8>) {
        let keys = || ScramKeys::from_bytes(&{
            let mut bytes = vec![1, 1, 0, 0, 0, 1, 0, 0];
            bytes.extend([0; 40]);
            bytes
        }).unwrap();
        for said in [&*first, text.as_bytes()] {
            let (scram, _) = Scram::begin(USER, Secret::Keys(keys()), &[7; 16]).unwrap();
            prop_assert!(scram.server_first(said).is_err());
        }
        let _ = ScramKeys::from_bytes(&last);
    }
}
