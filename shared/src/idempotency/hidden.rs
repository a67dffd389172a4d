//! The secrets in a kept answer: it has marks in their places, and they are encrypted beside it.

use serde_json::Value;

use super::{Answer, Key};
use crate::encryption::{Cipher, Place};
use crate::error::Result;

/// The fields of answers whose texts open something.
const SECRET_FIELDS: [&str; 7] = [
    "access_token",
    "client_secret",
    "code",
    "payment_url",
    "refresh_token",
    "secret",
    "token",
];
/// No secret is shorter; codes of sessions and of errors are.
const SHORTEST: usize = 20;

/// An answer as it is written down, and its secrets if it has any.
pub(super) fn hide(answer: Answer, cipher: &Cipher, key: &Key) -> (Answer, Option<Vec<u8>>) {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let mut secrets = Vec::new();
    if let Some(body) = &body {
        collect(body, &mut secrets);
    }
    if secrets.is_empty() {
        return (answer, None);
    }
    let marks: Vec<String> = (0..secrets.len()).map(|at| mark(key, at)).collect();
    let hidden = replaced(answer, &secrets, &marks);
    let secrets = secrets.join("\n");
    (
        hidden,
        Some(cipher.encrypt(Place::Answer(key.digest()), &secrets)),
    )
}

/// The answer as it went out.
pub(super) fn show(answer: Answer, cipher: &Cipher, key: &Key, encrypted: &[u8]) -> Result<Answer> {
    let secrets = cipher.decrypt(Place::Answer(key.digest()), encrypted)?;
    let secrets: Vec<String> = secrets.lines().map(str::to_owned).collect();
    let marks: Vec<String> = (0..secrets.len()).map(|at| mark(key, at)).collect();
    Ok(replaced(answer, &marks, &secrets))
}

/// Nobody can write one into a request beforehand: it depends on the whole request.
fn mark(key: &Key, at: usize) -> String {
    format!("<secret {at} of {}>", hex::encode(&key.digest()[..16]))
}

fn collect(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if is_secret(name, text) => {
                        if !secrets.contains(text) {
                            secrets.push(text.clone());
                        }
                    }
                    other => collect(other, secrets),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, secrets)),
        _ => {}
    }
}

fn is_secret(name: &str, text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    SECRET_FIELDS.contains(&name) && text.len() >= SHORTEST && text.chars().all(plain)
}

/// The same answer with other texts in these places, of its body and of its headers.
fn replaced(mut answer: Answer, these: &[String], by: &[String]) -> Answer {
    let replace = |text: String| {
        let pairs = these.iter().zip(by);
        pairs.fold(text, |text, (this, by)| text.replace(this.as_str(), by))
    };
    if let Ok(body) = String::from_utf8(std::mem::take(&mut answer.body)) {
        answer.body = replace(body).into_bytes();
    }
    for value in answer
        .headers
        .as_object_mut()
        .into_iter()
        .flat_map(|it| it.values_mut())
    {
        if let Value::String(text) = value {
            *text = replace(std::mem::take(text));
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(key: &str) -> Key {
        Key {
            caller: "stranger".into(),
            key: key.into(),
            fingerprint: vec![7; 32],
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was_and_is_written_down_without_its_secrets() {
        let cipher = Cipher::new(&crate::config::tests::development().auth);
        let token = "AZvBNHhAcq4AAAAAAAAAAAGbwTR4QHKu";
        let body = json!({"token": token, "items": [{"code": "S1"}, {"code": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}], "name": "Zoë"});
        let answer = Answer {
            status: 201,
            headers: json!({"location": format!("/api/v1/holds/{token}"), "x": "y"}),
            body: body.to_string().into_bytes(),
        };
        let (hidden, secrets) = hide(answer.clone(), &cipher, &key("a"));
        let secrets = secrets.expect("two");
        let written = format!(
            "{}{}",
            hidden.headers,
            String::from_utf8_lossy(&hidden.body)
        );
        for secret in [token, "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert!(!written.contains(secret), "{written}");
        }
        assert!(
            written.contains("S1") && written.contains("Zoë"),
            "{written}"
        );
        let shown = show(hidden.clone(), &cipher, &key("a"), &secrets).expect("shown");
        assert_eq!(shown, answer);
        show(hidden, &cipher, &key("b"), &secrets).expect_err("another request");
    }

    #[test]
    fn an_answer_without_secrets_is_kept_as_it_is() {
        let cipher = Cipher::new(&crate::config::tests::development().auth);
        let answer = Answer {
            status: 409,
            headers: json!({}),
            body: br#"{"error": {"code": "INSUFFICIENT_CAPACITY"}}"#.to_vec(),
        };
        let mut secret_code = answer.clone();
        secret_code.body = br#"{"error": {"code": "X"}}"#.to_vec();
        assert_eq!(
            hide(secret_code.clone(), &cipher, &key("a")),
            (secret_code, None)
        );
        let (hidden, secrets) = hide(answer.clone(), &cipher, &key("a"));
        let shown = secrets.map(|secrets| show(hidden, &cipher, &key("a"), &secrets));
        assert_eq!(shown.expect("a long code").expect("shown"), answer);
    }
}
