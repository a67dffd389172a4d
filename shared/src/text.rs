//! Small things to do with text.

/// What a person typed, with nothing in it that `like` would read as a pattern.
#[must_use]
pub fn escape_like(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('%', r"\%")
        .replace('_', r"\_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_no_pattern() {
        assert_eq!(escape_like(r"100% \ a_b"), r"100\% \\ a\_b");
    }
}
