//! The table of all settings in `docs/operations.md`, made from their declarations.

use std::fmt::Write as _;

use shared::config::{Config, Setting};

/// Every setting, a table per section of the file.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in Config::SETTINGS {
        if setting.section != section {
            section = setting.section;
            let head = "| Environment | File | Kind | Default | Meaning |\n|---|---|---|---|---|";
            writeln!(text, "\n### `[{section}]`\n\n{head}").expect("writing to a string");
        }
        text.push_str(&row(setting));
    }
    text
}

fn row(setting: &Setting) -> String {
    let default = match setting.default {
        None => "must be given".to_owned(),
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{default}`"),
    };
    let (env, key, kind) = (setting.env(), setting.key, setting.kind);
    format!(
        "| `{env}` | `{key}` | {kind} | {default} | {} |\n",
        setting.doc.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "<!-- settings -->\n";
    const END: &str = "\n<!-- /settings -->";

    #[test]
    fn the_documentation_has_the_settings_as_they_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let text = std::fs::read_to_string(path).expect("the document is there");
        let (_, rest) = text.split_once(START).expect("the table has its start");
        let (written, _) = rest.split_once(END).expect("the table has its end");
        assert_eq!(
            written.trim(),
            markdown().trim(),
            "docs/operations.md is out of date: run `make reference`"
        );
    }

    #[test]
    fn a_setting_without_default_must_be_given() {
        let text = markdown();
        assert!(text.contains(
            "| `DATABASE_URL` | `url` | text (secret) | must be given | Connection string"
        ));
        assert!(text.contains("| `HOLDFAST_LIMITS_ACCOUNT_PER_MINUTE` |"));
    }
}
