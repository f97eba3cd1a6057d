//! What differs between two texts, for assertion messages.

use std::fmt::Write as _;

/// Lines around a difference that are shown with it.
const CONTEXT: usize = 3;

/// The lines that differ, with `-` for `left` and `+` for `right`; `None` if none do.
pub fn diff(left: &str, right: &str) -> Option<String> {
    if left == right {
        return None;
    }
    let left: Vec<&str> = left.lines().collect();
    let right: Vec<&str> = right.lines().collect();
    let edits = edits(&left, &right);
    let near_change = |index: usize| {
        let from = index.saturating_sub(CONTEXT);
        let to = (index + CONTEXT + 1).min(edits.len());
        edits[from..to].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut out = String::new();
    let mut skipping = false;
    for (index, (mark, line)) in edits.iter().enumerate() {
        if near_change(index) {
            let _ = writeln!(out, "{mark} {line}");
            skipping = false;
        } else if !skipping {
            out.push_str("  ...\n");
            skipping = true;
        }
    }
    Some(out)
}

/// The shortest way from `left` to `right`, by the longest common subsequence.
fn edits<'a>(left: &[&'a str], right: &[&'a str]) -> Vec<(char, &'a str)> {
    let (rows, columns) = (left.len(), right.len());
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            common[i][j] = if left[i] == right[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < rows || j < columns {
        if i < rows && j < columns && left[i] == right[j] {
            out.push((' ', left[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == columns || (i < rows && common[i + 1][j] >= common[i][j + 1]) {
            out.push(('-', left[i]));
            i += 1;
        } else {
            out.push(('+', right[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_changed_with_its_surroundings() {
        assert_eq!(diff("a\nb", "a\nb"), None);
        let left = "1\n2\n3\n4\n5\n6\nold\n7\n";
        let right = "1\n2\n3\n4\n5\n6\nnew\n7\nmore\n";
        let expected = "  ...\n  4\n  5\n  6\n- old\n+ new\n  7\n+ more\n";
        assert_eq!(diff(left, right).unwrap(), expected);
    }
}
