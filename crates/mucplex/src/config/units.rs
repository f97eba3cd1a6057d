//! Sizes as operators write them.

/// `4MiB`, `256KiB`, `1000000`: bytes, with the powers of 1024 for `KiB`, `MiB`, `GiB` and of 1000
/// for `kB`, `MB`, `GB`.
pub(super) fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: usize = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4MiB", Some(4 << 20)),
            ("256 KiB", Some(256 << 10)),
            ("1GB", Some(1_000_000_000)),
            ("70000", Some(70_000)),
            ("0B", Some(0)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("4Mib", None),
            ("1.5MiB", None),
            ("99999999999999999999GiB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
