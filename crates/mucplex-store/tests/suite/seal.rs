//! Keys at rest.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use mucplex_store::{SealError, SealKey, SealKeyError};
use tempfile::TempDir;

use crate::stage::{alice, bob};

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    (dir, path)
}

fn key_file(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn what_is_sealed_opens_for_its_account_and_domain_alone() {
    let (_dir, path) = place();
    let key = SealKey::create(&path).unwrap();
    let sealed = key.seal(&alice(), "example.org", b"secret").unwrap();
    let again = SealKey::load(&path).unwrap();
    assert_eq!(
        **again.open(&alice(), "example.org", &sealed).unwrap(),
        *b"secret"
    );
    let refused = |result: Result<_, SealError>| matches!(result, Err(SealError::Refused));
    assert!(refused(again.open(&bob(), "example.org", &sealed)));
    assert!(refused(again.open(&alice(), "example.net", &sealed)));
    let other = SealKey::create(&path.with_extension("other")).unwrap();
    assert!(refused(other.open(&alice(), "example.org", &sealed)));
    // The border between the two is bound as well.
    let near = "alice@example.or".parse().unwrap();
    assert!(refused(again.open(&near, "gexample.org", &sealed)));
}

/// What is in stores today opens with every version to come.
#[test]
fn what_an_earlier_version_has_sealed_opens() {
    let (_dir, path) = place();
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    key_file(&path, &format!("mucplex-seal-key-1:{key}\n"), 0o600);
    let key = SealKey::load(&path).unwrap();
    let sealed = SEALED.as_chunks::<2>().0;
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    let sealed: Vec<u8> = sealed
        .iter()
        .map(|[high, low]| digit(*high) << 4 | digit(*low))
        .collect();
    assert_eq!(
        **key.open(&alice(), "example.org", &sealed).unwrap(),
        *b"secret"
    );
}

const SEALED: &[u8; 2 * 47] = b"016465666768696a6b6c6d6e6f707172737475767778797a7b0f169ac29a5aa24d53b8b4b044463e2918ed38e4c0b9";

#[test]
fn no_changed_byte_passes() {
    let (_dir, path) = place();
    let key = SealKey::create(&path).unwrap();
    let sealed = key.seal(&alice(), "example.org", b"secret").unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        key.open(&alice(), "example.org", &changed).unwrap_err();
        key.open(&alice(), "example.org", &sealed[..at])
            .unwrap_err();
    }
    let mut later = sealed.clone();
    later[0] = 2;
    let error = key.open(&alice(), "example.org", &later).unwrap_err();
    assert!(matches!(error, SealError::Version));
}

#[test]
fn two_sealings_of_one_secret_differ_and_show_nothing_of_it() {
    let (_dir, path) = place();
    let key = SealKey::create(&path).unwrap();
    let seal = || {
        key.seal(&alice(), "example.org", b"the same secret")
            .unwrap()
    };
    let (one, other) = (seal(), seal());
    assert_ne!(one[1..25], other[1..25], "the nonces");
    assert_ne!(one[25..], other[25..]);
    assert!(!one.windows(6).any(|window| window == b"secret"));
    assert_eq!(format!("{key:?}"), "SealKey");
}

#[test]
fn a_key_file_is_for_its_owner_and_never_overwritten() {
    let (_dir, path) = place();
    SealKey::create(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.len(), "mucplex-seal-key-1:".len() + 64 + 1);
    let error = SealKey::create(&path).unwrap_err();
    assert!(matches!(error, SealKeyError::Exists { .. }));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let (_dir, path) = place();
    SealKey::create(&path).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o700, 0o644] {
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let error = SealKey::load(&path).unwrap_err();
        let told = format!(
            "{}: mode {mode:04o}; allowed is 0600 or less (chmod 600)",
            path.display()
        );
        assert_eq!(error.to_string(), told);
    }
    fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    SealKey::load(&path).unwrap();
    // Only root can give a file away, and only root can read one that is not its own.
    if rustix::process::geteuid().is_root() {
        chown(&path, Some(12_345), None).unwrap();
        let error = SealKey::load(&path).unwrap_err();
        assert!(
            matches!(error, SealKeyError::Owner { owner: 12_345, .. }),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_key_is_told() {
    let (_dir, path) = place();
    let digits = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
    for text in [
        "",
        "secret\n",
        "mucplex-seal-key-1:\n",
        &digits,
        "mucplex-seal-key-1:zz\n",
    ] {
        key_file(&path, text, 0o600);
        let error = SealKey::load(&path).unwrap_err();
        assert!(
            matches!(error, SealKeyError::Format { .. }),
            "{text}: {error}"
        );
    }
    for text in [
        format!("mucplex-seal-key-1:{}", &digits[1..]),
        format!("mucplex-seal-key-1:{digits}0"),
        format!("mucplex-seal-key-1:{digits}\n\n"),
        format!("mucplex-seal-key-1:+{}", &digits[1..]),
    ] {
        key_file(&path, &text, 0o600);
        let error = SealKey::load(&path).unwrap_err();
        assert!(
            matches!(error, SealKeyError::Format { .. }),
            "{text}: {error}"
        );
    }
    fs::write(&path, [0xff; 40]).unwrap();
    let error = SealKey::load(&path).unwrap_err();
    assert!(matches!(error, SealKeyError::Format { .. }), "{error}");
    key_file(&path, &format!("mucplex-seal-key-1:{digits}"), 0o600);
    SealKey::load(&path).unwrap();
    key_file(&path, &format!("mucplex-seal-key-2:{digits}\n"), 0o600);
    let error = SealKey::load(&path).unwrap_err();
    assert!(matches!(error, SealKeyError::Version { .. }));
    let error = SealKey::load(&path.with_extension("absent")).unwrap_err();
    assert!(matches!(error, SealKeyError::Io { .. }));
}
