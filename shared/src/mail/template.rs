//! The words of our mails: for each template a text and an HTML file in `templates/`, part of the program.
//!
//! The first line of the text is the subject. HTML is escaped; a name that is missing from the parameters
//! is an error, not a gap in a sentence.

use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Content {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

macro_rules! templates {
    ($($name:literal),+ $(,)?) => {
        const FILES: &[(&str, &str)] = &[
            ("layout.html", include_str!("templates/layout.html")),
            $(
                (concat!($name, ".txt"), include_str!(concat!("templates/", $name, ".txt"))),
                (concat!($name, ".html"), include_str!(concat!("templates/", $name, ".html"))),
            )+
        ];
    };
}

templates! {
    "address-change", "address-changed", "event-cancelled", "invitation", "new-device", "order-disputed", "order-paid", "order-refunded", "order-sold-out", "order-to-pay",
    "password-changed",
    "password-reset", "payment-not-wanted", "refund-failed", "test", "tickets-given-back", "verify-email", "welcome",
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in FILES {
        templates
            .add_template(name, source)
            .expect("the templates are part of the program and parse");
    }
    templates
});

pub(super) fn render(name: &str, params: &Value) -> Result<Content, minijinja::Error> {
    let part = |extension| {
        TEMPLATES
            .get_template(&format!("{name}.{extension}"))?
            .render(params)
    };
    let text = part("txt")?;
    let (subject, text) = text.split_once('\n').unwrap_or((&text, ""));
    Ok(Content {
        subject: subject.trim().to_owned(),
        text: text.trim_start().to_owned(),
        html: part("html")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_test_mail_reads_well() {
        let content = render(
            "test",
            &json!({"installation": "https://tickets.example.org"}),
        )
        .expect("it renders");
        assert_eq!(content.subject, "A test mail from Holdfast");
        assert!(content.text.starts_with("Hello,\n"), "{}", content.text);
        assert!(
            content.text.contains("https://tickets.example.org"),
            "{}",
            content.text
        );
        assert!(
            content
                .html
                .contains("<title>A test mail from Holdfast</title>"),
            "{}",
            content.html
        );
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let content = render("test", &json!({"installation": "<b>&\"'"})).expect("it renders");
        assert!(content.text.contains("<b>&\"'"), "{}", content.text);
        assert!(
            content.html.contains("&lt;b&gt;&amp;&quot;&#x27;"),
            "{}",
            content.html
        );
    }

    #[test]
    fn a_missing_parameter_is_an_error() {
        let error = render("test", &json!({})).expect_err("no mail with gaps");
        assert_eq!(error.kind(), minijinja::ErrorKind::UndefinedError);
    }

    #[test]
    fn every_template_has_a_subject_that_fits_a_line() {
        let texts = FILES
            .iter()
            .filter_map(|(name, source)| Some((name.strip_suffix(".txt")?, source)));
        for (name, source) in texts {
            let subject = source.lines().next().unwrap_or_default();
            assert!((5..=70).contains(&subject.len()), "{name}: {subject}");
        }
    }
}
