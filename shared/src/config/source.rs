//! Where values come from: the environment, else the file, else the default.

use std::collections::BTreeMap;

use super::values::FromSetting;
use super::{Config, Setting};

/// What is wrong with a configuration, all of it, in words.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadConfig(pub Vec<String>);

/// Where values come from. The caller has read the environment and the file.
#[derive(Debug, Default)]
pub struct Source {
    pub env: BTreeMap<String, String>,
    pub file: toml::Table,
}

impl Source {
    /// The value given for a setting, in the one spelling that all of them are parsed from.
    fn given(&self, setting: &Setting) -> Option<String> {
        if let Some(value) = self.env.get(&setting.env()) {
            return Some(value.clone());
        }
        let value = self.file.get(setting.section)?.get(setting.key)?;
        Some(match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect::<Vec<_>>()
                .join(","),
            other => other.to_string(),
        })
    }

    pub(super) fn read<T: FromSetting>(&self, section: &str, key: &str) -> Result<T, String> {
        let setting = Config::SETTINGS
            .iter()
            .find(|s| s.section == section && s.key == key)
            .expect("every field is declared as a setting");
        let text = self
            .given(setting)
            .or_else(|| setting.default.map(str::to_owned))
            .ok_or_else(|| format!("{} is missing: {}", setting.name(), setting.doc.trim()))?;
        T::from_setting(text.trim()).map_err(|expected| {
            // The value itself may be a secret: it is not repeated.
            format!("{} has a bad value: {expected}", setting.name())
        })
    }

    /// Names that look like ours and are none of ours: a typo must not be a silent default.
    pub(super) fn unknown(&self) -> impl Iterator<Item = String> + '_ {
        let env = self
            .env
            .keys()
            .filter(|name| {
                Config::SETTINGS
                    .iter()
                    .any(|setting| setting.is_beside(name))
            })
            .filter(|name| !Config::SETTINGS.iter().any(|s| s.env() == **name))
            .map(|name| format!("{name} is no setting of Holdfast"));
        let file = self.file.iter().flat_map(|(section, body)| {
            let keys: Vec<Option<&String>> = match body.as_table() {
                Some(table) => table.keys().map(Some).collect(),
                None => vec![None],
            };
            keys.into_iter()
                .filter(move |key| {
                    !Config::SETTINGS
                        .iter()
                        .any(|s| s.section == section && Some(s.key) == key.map(String::as_str))
                })
                .map(move |key| match key {
                    Some(key) => format!("[{section}] {key} is no setting of Holdfast"),
                    None => format!("`{section}` stands outside any section of the file"),
                })
        });
        env.chain(file)
    }
}
