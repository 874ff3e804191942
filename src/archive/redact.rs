//! Takes out of the service's words what they quote of a request's signature.
//!
//! A refused signature is answered with the canonical request, session token and all, and a malformed one with the
//! Authorization header; the words go into logs, reports and the state file, where neither belongs.

use std::cmp::Reverse;

/// From here on a message quotes the request.
const QUOTES: [&str; 2] = ["The Canonical String for this request", "The String-to-Sign"];

/// What follows these words, in any case of letters, is a secret or signed with one. The last are those of
/// credential files and processes, whose failures are told with what they said.
const LABELS: [&str; 9] = [
    "x-amz-security-token",
    "x-amz-credential",
    "x-amz-signature",
    "credential=",
    "signature=",
    "secretaccesskey",
    "sessiontoken",
    "secret_access_key",
    "session_token",
];

/// The first letters of access key ids, permanent and temporary ones.
const KEY_ID_PREFIXES: [&str; 2] = ["AKIA", "ASIA"];

/// Shorter words are none.
const KEY_ID_LENGTH: usize = 16;

const HIDDEN: &str = "[hidden]";

/// The text without session tokens, signatures and access key ids.
pub(super) fn redact(text: &str) -> String {
    let quote = QUOTES.iter().filter_map(|quote| text.find(quote)).min();
    let (text, cut) = quote.map_or((text, false), |at| (&text[..at], true));
    let mut rest = text;
    let mut told = String::with_capacity(rest.len());
    while let Some((start, end)) = next_secret(rest) {
        told.push_str(&rest[..start]);
        told.push_str(HIDDEN);
        rest = &rest[end..];
    }
    told.push_str(rest);
    if cut {
        told.push_str(HIDDEN);
    }
    told
}

/// Where the first secret of a text begins and ends.
fn next_secret(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let labelled = LABELS.iter().filter_map(|label| {
        lower.match_indices(label).find_map(|(at, _)| {
            let value = at + label.len();
            let begins = value + text[value..].find(|c: char| !matches!(c, ':' | '=' | ' ' | '"' | '\''))?;
            let end = end_of_word(text, begins);
            // Header names also stand in lists, where other names follow; and what is hidden stays so.
            let is_value = begins > value || label.ends_with('=');
            (is_value && end > begins && !text[begins..].starts_with(HIDDEN)).then_some((begins, end))
        })
    });
    let key_ids = KEY_ID_PREFIXES.iter().filter_map(|prefix| {
        text.match_indices(prefix).find_map(|(at, _)| {
            let end = at + text[at..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len() - at);
            (end - at >= KEY_ID_LENGTH).then_some((at, end))
        })
    });
    // Of two that begin together the longer: a key id also begins the credential that names it.
    labelled.chain(key_ids).min_by_key(|(start, end)| (*start, Reverse(*end)))
}

fn end_of_word(text: &str, from: usize) -> usize {
    let is_end = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '&' | '"' | '\'' | '\\' | ')');
    from + text[from..].find(is_end).unwrap_or(text.len() - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_request_is_cut_off() {
        let text = "The request signature we calculated does not match.\n\nThe Canonical String for this request \
                    should have been\n'POST\n/describeStream\n\nx-amz-security-token:IQoJb3JpZ2lu\n'";
        assert_eq!(redact(text), "The request signature we calculated does not match.\n\n[hidden]");
    }

    #[test]
    fn tokens_signatures_and_key_ids_are_hidden_wherever_they_stand() {
        for (text, told) in [
            ("header X-Amz-Security-Token: abc/+= was bad", "header X-Amz-Security-Token: [hidden] was bad"),
            (
                "Authorization=AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/2026/x, SignedHeaders=host, Signature=0f0f",
                "Authorization=AWS4-HMAC-SHA256 Credential=[hidden], SignedHeaders=host, Signature=[hidden]",
            ),
            ("key ASIAIOSFODNN7EXAMPLE expired", "key [hidden] expired"),
            (
                "https://x/?X-Amz-Signature=ab&X-Amz-Credential=cd&y=1",
                "https://x/?X-Amz-Signature=[hidden]&X-Amz-Credential=[hidden]&y=1",
            ),
            ("aws_secret_access_key = abc\nx", "aws_secret_access_key = [hidden]\nx"),
            ("{\"SessionToken\":\"ab/+=\"}", "{\"SessionToken\":\"[hidden]\"}"),
            ("{\"x-amz-security-token\": \"abc\"}", "{\"x-amz-security-token\": \"[hidden]\"}"),
        ] {
            assert_eq!(redact(text), told);
            assert_eq!(redact(told), told, "what is hidden stays as it is");
        }
    }

    #[test]
    fn all_other_words_stay() {
        for text in [
            "",
            "The security token included in the request is expired",
            "SignedHeaders=host;x-amz-date;x-amz-security-token",
            "user arn:aws:iam::123456789012:user/AKIA may not",
            "Größe: x-amz-security-token",
            "'POST\nhost;x-amz-security-token;x-amz-date\n",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
