//! Small things to do with text.

use uuid::Uuid;

/// What a person typed, with nothing in it that `like` would read as a pattern.
#[must_use]
pub fn escape_like(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('%', r"\%")
        .replace('_', r"\_")
}

/// Whether there is something to be read, in one line.
#[must_use]
pub fn is_a_line(text: &str) -> bool {
    let is_seen = |letter: char| {
        let without_width = matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        !letter.is_whitespace() && !without_width
    };
    let breaks = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    text.contains(is_seen) && !text.contains(breaks)
}

/// What a name becomes in addresses: the plain one, and one that nobody else can have. Letters of other scripts are
/// written as they are said. None looks like an id, which leads elsewhere.
#[must_use]
pub fn slugs_for(name: &str, id: Uuid) -> Vec<String> {
    let name = deunicode::deunicode_with_tofu(name, " ");
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
    let slugs = [slug.to_owned(), format!("{slug}-{own}")].into_iter();
    let unlike_ids = slugs.map(|slug| match Uuid::try_parse(&slug) {
        Ok(_) => format!("e-{slug}"),
        Err(_) => slug,
    });
    unlike_ids.collect()
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
            ("  Café (Nord) & Co. ", "cafe-nord-co"),
            ("Ünïcödé Straße", "unicode-strasse"),
            ("日本", "ri-ben"),
            ("Концерт", "kontsert"),
        ] {
            let slugs = slugs_for(name, id);
            assert_eq!(slugs[0], slug);
            assert!(slugs[1].starts_with(&format!("{slug}-")), "{slugs:?}");
        }
        assert_eq!(slugs_for("???", id).len(), 1);
        for like_an_id in [
            "3642c793-9e60-4249-b3dc-194f9bc5703a",
            "3642c793-9e60-4249-b3dc",
        ] {
            let slugs = slugs_for(like_an_id, id);
            assert_eq!(slugs.len(), 2);
            assert!(
                slugs.iter().all(|slug| slug.parse::<Uuid>().is_err()),
                "{slugs:?}"
            );
        }
        let long = slugs_for(&"a b ".repeat(50), id);
        assert!(long.iter().all(|slug| slug.len() <= 60), "{long:?}");
    }

    #[test]
    fn a_line_can_be_read_and_has_no_end() {
        for line in ["Night of Lights", "★", " ليلة ", "Zoë 👩‍🚀"] {
            assert!(is_a_line(line), "{line}");
        }
        for other in [
            "",
            " \t",
            "\u{200b}\u{200b}",
            "a\r\nBcc: b",
            "bell\u{7}",
            "a\u{2028}b",
        ] {
            assert!(!is_a_line(other), "{other:?}");
        }
    }

    #[test]
    fn what_people_type_is_no_pattern() {
        assert_eq!(escape_like(r"100% \ a_b"), r"100\% \\ a\_b");
    }
}
