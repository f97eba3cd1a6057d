//! The server's side of SASL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sasl::common::Password;
use sasl::common::scram::{ScramProvider, Sha1};

use crate::client::{ClientError, Connection};
use crate::xml::{NS_SASL, Stanza};

const SALT: &[u8] = b"a salt for tests";
const ITERATIONS: u32 = 4096;
/// A nonce that repeats serves a server that keeps nothing secret.
const NONCE: &str = "scripted";

/// How a client has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The mechanism, as `PLAIN`.
    pub mechanism: String,
    /// The authentication identity.
    pub user: String,
    /// The password, where the mechanism shows it.
    pub password: Option<String>,
}

/// The `<mechanisms/>` feature: PLAIN, and SCRAM-SHA-1 if the server knows a password.
pub(super) fn mechanisms(scram: bool) -> String {
    let scram = if scram {
        "<mechanism>SCRAM-SHA-1</mechanism>"
    } else {
        ""
    };
    format!("<mechanisms xmlns='{NS_SASL}'><mechanism>PLAIN</mechanism>{scram}</mechanisms>")
}

/// Serves one exchange up to the success. PLAIN passes with any password, SCRAM-SHA-1 with
/// `password`.
pub(super) async fn authenticate(
    connection: &mut Connection,
    password: Option<&str>,
) -> Result<Credentials, ClientError> {
    let auth = connection
        .expect("<auth/>", |stanza| stanza.is("auth", NS_SASL))
        .await?;
    match (auth.attr("mechanism"), password) {
        (Some("PLAIN"), _) => {
            let credentials = plain(&auth)?;
            connection
                .send_raw(format!("<success xmlns='{NS_SASL}'/>"))
                .await?;
            Ok(credentials)
        }
        (Some("SCRAM-SHA-1"), Some(password)) => scram(connection, &auth, password).await,
        _ => Err(ClientError::unexpected(
            "a mechanism that was offered",
            &auth,
        )),
    }
}

/// RFC 4616.
fn plain(auth: &Stanza) -> Result<Credentials, ClientError> {
    let text = text_of(auth)?;
    let mut parts = text.split('\0').skip(1).map(str::to_owned);
    let (user, password) = (parts.next(), parts.next());
    let user = user.ok_or_else(|| ClientError::unexpected("SASL PLAIN", auth))?;
    Ok(Credentials {
        mechanism: "PLAIN".into(),
        user,
        password,
    })
}

/// RFC 5802, without channel binding: the header may be `n,,` or `y,,`.
async fn scram(
    connection: &mut Connection,
    auth: &Stanza,
    password: &str,
) -> Result<Credentials, ClientError> {
    let first = text_of(auth)?;
    // The bare message follows the gs2 header, which ends with the second comma.
    let bare = first.splitn(3, ',').nth(2).unwrap_or_default();
    let user = attribute(bare, "n=", auth)?;
    let nonce = format!("{}{NONCE}", attribute(bare, "r=", auth)?);
    let challenge = format!("r={nonce},s={},i={ITERATIONS}", BASE64.encode(SALT));
    let encoded = BASE64.encode(&challenge);
    connection
        .send_raw(format!(
            "<challenge xmlns='{NS_SASL}'>{encoded}</challenge>"
        ))
        .await?;

    let answer = connection
        .expect("<response/>", |s| s.is("response", NS_SASL))
        .await?;
    let last = text_of(&answer)?;
    let proof = attribute(&last, "p=", &answer)?;
    let without_proof = last.split(",p=").next().unwrap_or_default();
    let message = format!("{bare},{challenge},{without_proof}");

    let keys = Keys::derive(password)?;
    if BASE64.encode(keys.proof(&message)?) != proof {
        let failure = format!("<failure xmlns='{NS_SASL}'><not-authorized/></failure>");
        connection.send_raw(failure).await?;
        return Err(ClientError::unexpected("the right proof", &answer));
    }
    let signature = hmac(&message, &keys.server)?;
    let data = BASE64.encode(format!("v={}", BASE64.encode(signature)));
    connection
        .send_raw(format!("<success xmlns='{NS_SASL}'>{data}</success>"))
        .await?;
    Ok(Credentials {
        mechanism: "SCRAM-SHA-1".into(),
        user,
        password: None,
    })
}

struct Keys {
    client: Vec<u8>,
    server: Vec<u8>,
}

impl Keys {
    fn derive(password: &str) -> Result<Self, ClientError> {
        let password = Password::Plain(password.to_owned());
        let salted = Sha1::derive(&password, SALT, ITERATIONS)
            .map_err(|error| ClientError::Sasl(error.to_string()))?;
        Ok(Self {
            client: hmac("Client Key", &salted)?,
            server: hmac("Server Key", &salted)?,
        })
    }

    fn proof(&self, message: &str) -> Result<Vec<u8>, ClientError> {
        let signature = hmac(message, &Sha1::hash(&self.client))?;
        Ok(self
            .client
            .iter()
            .zip(signature)
            .map(|(key, byte)| key ^ byte)
            .collect())
    }
}

fn hmac(text: &str, key: &[u8]) -> Result<Vec<u8>, ClientError> {
    Sha1::hmac(text.as_bytes(), key).map_err(|error| ClientError::Sasl(error.to_string()))
}

fn text_of(stanza: &Stanza) -> Result<String, ClientError> {
    let wrong = || ClientError::unexpected("base64 of UTF-8", stanza);
    let bytes = BASE64.decode(stanza.text()).map_err(|_| wrong())?;
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn attribute(message: &str, name: &str, stanza: &Stanza) -> Result<String, ClientError> {
    message
        .split(',')
        .find_map(|part| part.strip_prefix(name))
        .map(str::to_owned)
        .ok_or_else(|| ClientError::unexpected(&format!("a SCRAM message with {name}"), stanza))
}
