//! Secrets at rest: sealed with a key that is not in the store.
//!
//! The key is a file of one line, `mucplex-seal-key-1:` and 64 hexadecimal digits, that only its
//! owner may read. What is sealed is XChaCha20-Poly1305 with a random nonce (192 bits: however many
//! are sealed, none comes twice), and bound to its account and domain: moved to another account it
//! does not open.
//!
//! Sealed bytes: the version, 1; 24 bytes of nonce; the ciphertext with its tag.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use jid::BareJid;
use zeroize::Zeroizing;

const PREFIX: &str = "mucplex-seal-key-1:";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Of the sealed bytes.
const VERSION: u8 = 1;
/// Longer than any key file.
const MOST_FILE_BYTES: u64 = 1024;

/// The key that seals. It is wiped from memory when it is dropped, and never printed.
#[derive(Clone)]
pub struct SealKey {
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SealKeyError {
    /// The file cannot be read, or not be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is a file already; a key that is overwritten opens nothing any more.
    #[error("{}: there already; a key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others can read it.
    #[error("{}: mode {mode:04o}; allowed is 0600 or less (chmod 600)", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is somebody else's, who can read it.
    #[error(
        "{}: owned by user {owner}; allowed is the one mucplex runs as ({user}), or root",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It holds no key.
    #[error("{}: no seal key in it; `mucplex seal-key` makes one", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A later version made it.
    #[error("{}: a seal key of a format that this version does not know", path.display())]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Why something was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// More than can be sealed at once, which is 256 GiB.
    #[error("too large to be sealed")]
    TooLarge,
    /// A later version sealed it.
    #[error("sealed in a way that this version does not know")]
    Version,
    /// Sealed with another key or for another account, or changed since.
    #[error("does not open with this key for this account")]
    Refused,
}

impl SealKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// When there is no key in it, or others than its owner may read it.
    pub fn load(path: &Path) -> Result<Self, SealKeyError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        guard(path, &file)?;
        let mut text = Zeroizing::new(String::with_capacity(MOST_FILE_BYTES as usize));
        match file.take(MOST_FILE_BYTES).read_to_string(&mut text) {
            Ok(_) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(format_error(path)),
            Err(error) => Err(io_error(path, error)),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, SealKeyError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let Some(digits) = line.strip_prefix(PREFIX) else {
            let later = line.starts_with("mucplex-seal-key-");
            return Err(if later {
                SealKeyError::Version {
                    path: path.to_owned(),
                }
            } else {
                format_error(path)
            });
        };
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != KEY_BYTES || !rest.is_empty() {
            return Err(format_error(path));
        }
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            let value = hex_value(*high).zip(hex_value(*low));
            let (high, low) = value.ok_or_else(|| format_error(path))?;
            *byte = high << 4 | low;
        }
        Ok(Self { key })
    }

    /// Makes a key file, which only its owner may read.
    ///
    /// # Errors
    /// When it is there already, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, SealKeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key).map_err(SealKeyError::Random)?;
        let mut line = Zeroizing::new(String::with_capacity(PREFIX.len() + 2 * KEY_BYTES + 1));
        line.push_str(PREFIX);
        for byte in key.iter() {
            line.push(hex_digit(byte >> 4));
            line.push(hex_digit(byte & 0xf));
        }
        line.push('\n');
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let mut file = created.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => SealKeyError::Exists {
                path: path.to_owned(),
            },
            _ => io_error(path, source),
        })?;
        let written = file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_all());
        if let Err(source) = written {
            // Half a key is none, and would stand in the way of the next attempt.
            let _ = std::fs::remove_file(path);
            return Err(io_error(path, source));
        }
        Ok(Self { key })
    }

    /// Seals a secret of an account for a domain. Two sealings of one secret differ.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn seal(
        &self,
        account: &BareJid,
        domain: &str,
        secret: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SealError::Random)?;
        let payload = Payload {
            msg: secret,
            aad: &bound_to(account, domain),
        };
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SealError::TooLarge)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what was sealed for this account and domain. The secret is wiped when it is dropped.
    ///
    /// # Errors
    /// When it was not sealed so, or not by this key.
    pub fn open(
        &self,
        account: &BareJid,
        domain: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Refused)?;
        if *version != VERSION {
            return Err(SealError::Version);
        }
        let (nonce, ciphertext) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SealError::Refused)?;
        let payload = Payload {
            msg: ciphertext,
            aad: &bound_to(account, domain),
        };
        self.cipher()
            .decrypt(&XNonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| SealError::Refused)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }
}

/// What the secret is for, in a form that no two accounts share: each text behind its length.
fn bound_to(account: &BareJid, domain: &str) -> Vec<u8> {
    let mut bound = vec![VERSION];
    for text in ["mucplex", account.as_str(), domain] {
        bound.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bound.extend_from_slice(text.as_bytes());
    }
    bound
}

/// Nobody but us may read it: asked of the file that is open, not of its name.
fn guard(path: &Path, file: &File) -> Result<(), SealKeyError> {
    let about = file.metadata().map_err(|source| io_error(path, source))?;
    let mode = about.mode() & 0o7777;
    if mode & !0o600 != 0 {
        return Err(SealKeyError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let (owner, user) = (about.uid(), rustix::process::geteuid().as_raw());
    // Root reads everything anyway.
    if owner != user && owner != 0 {
        return Err(SealKeyError::Owner {
            path: path.to_owned(),
            owner,
            user,
        });
    }
    Ok(())
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

fn hex_value(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

fn io_error(path: &Path, source: io::Error) -> SealKeyError {
    SealKeyError::Io {
        path: path.to_owned(),
        source,
    }
}

fn format_error(path: &Path) -> SealKeyError {
    SealKeyError::Format {
        path: path.to_owned(),
    }
}
