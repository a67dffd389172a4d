//! Finding events by words.
//!
//! Words are looked for in titles, descriptions, venues and cities, the last of them also by its beginning. Only when
//! no event that passes the other filters has the words, and they are plain words, those are taken whose title, venue or city is nearly what
//! was typed.

use sqlx::{Postgres, QueryBuilder};

/// Whether somebody typed words and no more; who asks for a phrase, or for what is without a word, means just that.
pub(super) fn is_plain(q: &str) -> bool {
    !q.contains('"') && !q.split_whitespace().any(|word| word.starts_with('-'))
}

/// What to look for, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search<'a> {
    Words(&'a str),
    Nearly(&'a str),
}

impl Search<'_> {
    pub(super) fn condition(self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Words(q) => sql
                .push(" and e.words @@ words_asked(")
                .push_bind(q.to_owned())
                .push(")"),
            Self::Nearly(q) => sql
                .push(" and e.names %> lower(unaccent(")
                .push_bind(q.to_owned())
                .push("))"),
        };
    }

    /// How well an event fits; more is better.
    pub(super) fn rank(self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Words(q) => sql
                .push("ts_rank(e.words, words_asked(")
                .push_bind(q.to_owned())
                .push("))"),
            Self::Nearly(q) => sql
                .push("word_similarity(lower(unaccent(")
                .push_bind(q.to_owned())
                .push(")), e.names)"),
        };
    }
}
