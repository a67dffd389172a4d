//! The one place that asks the process for its environment, and the one that reads the settings file.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the home of the environment"
)]

#[cfg(feature = "product")]
mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;

#[cfg(feature = "product")]
pub use file::{is_given, source};

/// The environment.
#[must_use]
pub fn env() -> BTreeMap<String, String> {
    std::env::vars().collect()
}

/// The folders in which programs are looked for.
#[must_use]
pub fn program_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}
