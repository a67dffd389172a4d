//! What values there can be, and how each is read from text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

/// How a type is read from the text of a setting.
pub trait FromSetting: Sized {
    const KIND: &'static str;
    /// A sentence on what was expected instead.
    fn from_setting(text: &str) -> Result<Self, String>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Development,
    Production,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Pretty,
    Json,
}

/// A span of time, written `250ms`, `20s`, `5m`, `12h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Values separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<String>);

/// Networks of addresses, `10.0.0.0/8`; an address alone is a network of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

/// The header in which reverse proxies name who they pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    XForwardedFor,
    /// That of RFC 7239.
    Forwarded,
}

/// An `http` or `https` address without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub String);

/// A name and an address, as a mail's sender has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox(pub lettre::message::Mailbox);

/// Named secrets, the one in use first.
#[derive(Debug, Clone)]
pub struct TokenKeys(pub Vec<(String, SecretString)>);

/// Secrets of which any will do.
#[derive(Debug, Clone)]
pub struct Secrets(pub Vec<SecretString>);

/// A key that may act for us at Stripe; a publishable one may not.
#[derive(Debug, Clone)]
pub struct StripeKey(pub SecretString);

/// Settings whose text one `FromStr` reads.
macro_rules! from_str_setting {
    ($($type:ty: $kind:literal),+ $(,)?) => {$(
        impl FromSetting for $type {
            const KIND: &'static str = $kind;
            fn from_setting(text: &str) -> Result<Self, String> {
                Self::from_str(text).map_err(|_| format!("expected {}", Self::KIND))
            }
        }
    )+};
}

from_str_setting! {
    SocketAddr: "an address and port",
    bool: "true or false",
    u32: "a whole number",
    usize: "a whole number",
    PathBuf: "a path",
}

impl FromSetting for String {
    const KIND: &'static str = "text";
    fn from_setting(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected some text".into());
        }
        Ok(text.to_owned())
    }
}

impl FromSetting for SecretString {
    const KIND: &'static str = "text (secret)";
    fn from_setting(text: &str) -> Result<Self, String> {
        String::from_setting(text).map(Self::from)
    }
}

impl<T: FromSetting> FromSetting for Option<T> {
    const KIND: &'static str = T::KIND;
    fn from_setting(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::from_setting(text).map(Some)
    }
}

impl FromSetting for TokenKeys {
    const KIND: &'static str =
        "name:secret pairs separated by commas, each secret of at least 32 characters (secret)";
    fn from_setting(text: &str) -> Result<Self, String> {
        let expected = || format!("expected {}, each name once", Self::KIND);
        let mut keys: Vec<(String, SecretString)> = Vec::new();
        for pair in text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (name, secret) = pair.split_once(':').ok_or_else(expected)?;
            let known = keys.iter().any(|(known, _)| known == name);
            if name.is_empty() || secret.len() < 32 || known {
                return Err(expected());
            }
            keys.push((name.to_owned(), secret.into()));
        }
        Ok(Self(keys))
    }
}

impl FromSetting for Secrets {
    const KIND: &'static str = "values separated by commas (secret)";
    fn from_setting(text: &str) -> Result<Self, String> {
        let List(items) = List::from_setting(text)?;
        Ok(Self(items.into_iter().map(SecretString::from).collect()))
    }
}

impl FromSetting for StripeKey {
    const KIND: &'static str = "a key that begins with sk_ or rk_ (secret)";
    fn from_setting(text: &str) -> Result<Self, String> {
        let good = |prefix| {
            text.strip_prefix(prefix).is_some_and(|rest: &str| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            })
        };
        if good("sk_") || good("rk_") {
            Ok(Self(text.into()))
        } else {
            Err(format!("expected {}", Self::KIND))
        }
    }
}

impl StripeKey {
    /// Whether real money moves with it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let key = self.0.expose_secret();
        key.starts_with("sk_live_") || key.starts_with("rk_live_")
    }
}

impl FromSetting for Mode {
    const KIND: &'static str = "development or production";
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err(format!("expected {}", Self::KIND)),
        }
    }
}

impl FromSetting for LogFormat {
    const KIND: &'static str = "pretty or json";
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("expected {}", Self::KIND)),
        }
    }
}

impl FromSetting for Span {
    const KIND: &'static str = "a span of time like 250ms, 20s, 5m, 12h or 7d";
    fn from_setting(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let millis_per_unit: u64 = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("expected {}", Self::KIND)),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(millis_per_unit))
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| format!("expected {}", Self::KIND))
    }
}

impl Span {
    /// The span as the calendar counts it.
    #[must_use]
    pub fn delta(self) -> chrono::TimeDelta {
        chrono::TimeDelta::from_std(self.0).unwrap_or(chrono::TimeDelta::MAX)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

impl FromSetting for List {
    const KIND: &'static str = "values separated by commas";
    fn from_setting(text: &str) -> Result<Self, String> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        Ok(Self(items.map(str::to_owned).collect()))
    }
}

impl FromSetting for Networks {
    const KIND: &'static str = "networks or addresses separated by commas, like 10.0.0.0/8";
    fn from_setting(text: &str) -> Result<Self, String> {
        let List(items) = List::from_setting(text)?;
        let read = |item: String| {
            let alone = || item.parse::<IpAddr>().ok().map(IpNet::from);
            let network = item.parse::<IpNet>().ok().or_else(alone);
            network.ok_or_else(|| format!("expected {}", Self::KIND))
        };
        let networks: Result<Vec<IpNet>, String> = items.into_iter().map(read).collect();
        Ok(Self(networks?))
    }
}

impl Networks {
    /// Whether an address is in one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromSetting for ForwardedHeader {
    const KIND: &'static str = "x-forwarded-for or forwarded";
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(format!("expected {}", Self::KIND)),
        }
    }
}

impl ForwardedHeader {
    /// As it stands in a request.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

impl FromSetting for Url {
    const KIND: &'static str = "an http or https address";
    fn from_setting(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(format!("expected {}", Self::KIND)),
        }
    }
}

impl FromSetting for Mailbox {
    const KIND: &'static str = "a mail address like Name <name@example.org>";
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("expected {}", Self::KIND))
    }
}
