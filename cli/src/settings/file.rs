//! The settings of the product: the environment and the settings file together.

use std::path::Path;

use anyhow::Context as _;
use shared::config::{Config, Source};

/// The settings file when `HOLDFAST_CONFIG` names no other.
const FILE: &str = "holdfast.toml";

/// What the environment and the settings file give, not yet checked.
pub fn source() -> anyhow::Result<Source> {
    let env = super::env();
    let file = file(
        env.get("HOLDFAST_CONFIG").map(String::as_str),
        Path::new(FILE),
    )?;
    Ok(Source { env, file })
}

/// A file that was named must be there; the usual one may be missing.
fn file(named: Option<&str>, usual: &Path) -> anyhow::Result<toml::Table> {
    let path = match named {
        Some(path) => Path::new(path),
        None if usual.exists() => usual,
        None => return Ok(toml::Table::new()),
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the settings file {} cannot be read", path.display()))?;
    // The position is enough to find the mistake; the text around it may hold a secret.
    text.parse::<toml::Table>().map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].lines().count().max(1));
        anyhow::anyhow!(
            "the settings file {} is no TOML: {} (line {line})",
            path.display(),
            error.message()
        )
    })
}

/// Whether somebody gave this setting, in the environment or in the file.
#[must_use]
pub fn is_given(source: &Source, section: &str, key: &str) -> bool {
    let in_env = Config::SETTINGS
        .iter()
        .filter(|setting| setting.section == section && setting.key == key)
        .any(|setting| source.env.contains_key(&setting.env()));
    in_env
        || source
            .file
            .get(section)
            .is_some_and(|section| section.get(key).is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_missing_usual_file_gives_nothing_and_a_missing_named_one_is_an_error() {
        let absent = Path::new("/nonexistent/holdfast.toml");
        assert!(file(None, absent).expect("fine").is_empty());
        let message = file(Some("/nonexistent/other.toml"), absent)
            .expect_err("named")
            .to_string();
        assert!(message.contains("/nonexistent/other.toml"), "{message}");
    }

    #[test]
    fn a_bad_file_is_named_with_its_line_and_without_its_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("holdfast.toml");
        std::fs::write(
            &path,
            "[redis]\nurl = \"fine\"\n[database]\nurl = hunter2\n",
        )
        .expect("written");
        let message = file(None, &path).expect_err("no TOML").to_string();
        assert!(
            message.contains("holdfast.toml") && message.contains("line 4"),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_setting_is_given_by_the_environment_or_by_the_file() {
        let source = Source {
            env: BTreeMap::from([("DATABASE_URL".to_owned(), "x".to_owned())]),
            file: "[redis]\nurl = \"y\"".parse().expect("TOML"),
        };
        assert!(is_given(&source, "database", "url"));
        assert!(is_given(&source, "redis", "url"));
        assert!(!is_given(&source, "http", "listen"));
    }
}
