//! Finding events by words.
//!
//! Words are looked for in titles, descriptions, venues and cities, the last of them also by its beginning. Only when
//! no event that passes the other filters has the words, and they are plain words, those are taken whose title, venue or city is nearly what
//! was typed.

use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::filter::TITLE;
use crate::error::Result;

/// What somebody typed, as Postgres understands it. It is asked for once: within a list it would be made anew for every
/// row that is looked at, which takes ten times as long as looking at the row.
#[derive(Debug)]
pub(super) struct Asked {
    words: String,
    names: String,
    /// What an event would be titled that is just what was typed.
    title: String,
    /// Words and no more; who asks for a phrase, or for what is without a word, means just that.
    pub is_plain: bool,
}

impl Asked {
    /// Nothing if nothing was typed.
    pub(super) async fn read(db: &mut PgConnection, q: Option<&str>) -> Result<Option<Self>> {
        let Some(q) = q.filter(|q| !q.trim().is_empty()) else {
            return Ok(None);
        };
        let asked = sqlx::query!(
            r#"select words_asked($1)::text as "words!", lower(unaccent($1)) as "names!", lower(trim($1)) as "title!""#,
            q
        );
        let asked = asked.fetch_one(db).await?;
        Ok(Some(Self {
            words: asked.words,
            names: asked.names,
            title: asked.title,
            is_plain: is_plain(q),
        }))
    }
}

fn is_plain(q: &str) -> bool {
    !q.contains('"') && !q.split_whitespace().any(|word| word.starts_with('-'))
}

/// What to look for, and how.
#[derive(Debug, Clone, Copy)]
pub(super) enum Search<'a> {
    Words(&'a Asked),
    Nearly(&'a Asked),
}

impl Search<'_> {
    pub(super) fn condition(self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Words(asked) => sql
                .push(" and e.words @@ ")
                .push_bind(asked.words.clone())
                .push("::tsquery"),
            Self::Nearly(asked) => sql.push(" and e.names %> ").push_bind(asked.names.clone()),
        };
    }

    /// An event is titled just so.
    pub(super) fn titled(self, sql: &mut QueryBuilder<Postgres>) {
        let (Self::Words(asked) | Self::Nearly(asked)) = self;
        sql.push(TITLE).push(" = ").push_bind(asked.title.clone());
    }

    /// How well an event fits; more is better.
    pub(super) fn rank(self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Words(asked) => sql
                .push("ts_rank(e.words, ")
                .push_bind(asked.words.clone())
                .push("::tsquery)"),
            // What is titled so comes before what takes place there.
            Self::Nearly(asked) => sql
                .push("word_similarity(")
                .push_bind(asked.names.clone())
                .push(", e.names) + word_similarity(")
                .push_bind(asked.names.clone())
                .push(", lower(e.title))"),
        };
    }
}
