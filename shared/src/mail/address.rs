//! Addresses that mail can be sent to.

use lettre::Address;

/// The longest address that fits the commands of SMTP.
const LONGEST: usize = 254;

/// The address without the spaces around it, if mail can be sent to it. An address stands in headers and in commands of SMTP:
/// quoted local parts and control characters are refused, since software on the way disagrees about where they end.
#[must_use]
pub fn address(typed: &str) -> Option<&str> {
    let typed = typed.trim_matches(' ');
    let hostile = |c: char| c.is_control() || c.is_whitespace() || "\"<>(),;:\\".contains(c);
    let good = typed.len() <= LONGEST
        && !typed.contains(hostile)
        && typed.parse::<Address>().is_ok()
        && typed
            .rsplit_once('@')
            .is_some_and(|(_, host)| host.contains('.') && !host.starts_with('['));
    good.then_some(typed)
}

/// A text on one line, for a header: control characters become spaces.
#[must_use]
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_people_are_taken() {
        for good in [
            "ada@example.org",
            " ada@example.org ",
            "o'hara+tickets@mail.example.co.uk",
            "jürgen@bücher.example",
        ] {
            assert_eq!(address(good), Some(good.trim()), "{good}");
        }
    }

    #[test]
    fn what_could_end_a_header_or_a_command_is_no_address() {
        for bad in [
            "",
            "ada",
            "ada@",
            "@example.org",
            "ada@localhost",
            "ada@[127.0.0.1]",
            "ada@example..org",
            "ada@@example.org",
            "ada@example.org\r\nBcc: eve@example.org",
            "ada\r\n@example.org",
            "\tada@example.org",
            "\"ada\\\r\nRCPT TO:<eve@example.org>\"@example.org",
            "\"ada b\"@example.org",
            "ada@example.org>,<eve@example.org",
            "ada@example.org, eve@example.org",
            "ada@exam\u{0}ple.org",
            "Ada <ada@example.org>",
        ] {
            assert_eq!(address(bad), None, "{bad:?}");
        }
        assert_eq!(address(&format!("{}@example.org", "a".repeat(250))), None);
    }

    #[test]
    fn a_header_stays_one_line() {
        assert_eq!(
            one_line("Jazz\r\nBcc: eve@example.org"),
            "Jazz  Bcc: eve@example.org"
        );
    }
}
