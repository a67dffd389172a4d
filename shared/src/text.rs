//! Small things to do with text.

use uuid::Uuid;

/// What a person typed, with nothing in it that `like` would read as a pattern.
#[must_use]
pub fn escape_like(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('%', r"\%")
        .replace('_', r"\_")
}

/// What a name becomes in addresses: the plain one, and one that nobody else can have.
#[must_use]
pub fn slugs_for(name: &str, id: Uuid) -> Vec<String> {
    let words = name
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut slug = words
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>()
        .join("-");
    slug.truncate(40);
    let slug = slug.trim_end_matches('-');
    let id = id.simple().to_string();
    let own = &id[20..];
    if slug.len() < 2 {
        return vec![own.to_owned()];
    }
    vec![slug.to_owned(), format!("{slug}-{own}")]
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::ids;

    #[test]
    fn a_name_makes_a_slug() {
        let id = ids::fresh(DateTime::UNIX_EPOCH);
        for (name, slug) in [
            ("Lighthouse Events", "lighthouse-events"),
            ("  Café (Nord) & Co. ", "caf-nord-co"),
        ] {
            let slugs = slugs_for(name, id);
            assert_eq!(slugs[0], slug);
            assert!(slugs[1].starts_with(&format!("{slug}-")), "{slugs:?}");
        }
        assert_eq!(slugs_for("日本", id).len(), 1);
        let long = slugs_for(&"a b ".repeat(50), id);
        assert!(long.iter().all(|slug| slug.len() <= 60), "{long:?}");
    }

    #[test]
    fn what_people_type_is_no_pattern() {
        assert_eq!(escape_like(r"100% \ a_b"), r"100\% \\ a\_b");
    }
}
