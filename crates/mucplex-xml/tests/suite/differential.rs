//! What the framer lets through, rxml reads as the same tree.

use mucplex_xml::Limits;
use proptest::prelude::*;

use crate::{compare::check, generate};

proptest! {
    /// Valid streams are let through to the end, and so the comparison covers all of them.
    #[test]
    fn a_valid_stream_is_the_same_tree(stream in generate::stream()) {
        let outcome = check(&stream, Limits::default());
        prop_assert_eq!(outcome.error, None, "{}", String::from_utf8_lossy(&stream));
    }

    #[test]
    fn a_damaged_stream_is_refused_or_the_same_tree(stream in generate::damaged_stream()) {
        check(&stream, Limits::default());
    }

    #[test]
    fn a_wild_stream_is_refused_or_the_same_tree(stream in generate::wild_stream()) {
        check(&stream, Limits::default());
    }
}
