//! What can be told of a request's signature without knowing any secret: its form, its date, whose it is.

use std::time::Duration;

use axum::http::HeaderMap;

use crate::model::UtcMillis;

use super::hash;
use super::refusal::Refusal;

/// How far a signature's date may be from the service's clock, either way.
const MOST_SKEW: Duration = Duration::from_mins(5);

/// Dates as `X-Amz-Date` has them.
const DATE: &str = "%Y%m%dT%H%M%SZ";

/// A request's signature. The signature itself is not checked: the emulator knows no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// The region that it was made for.
    pub(super) region: String,
    /// When it was made.
    date: UtcMillis,
    /// A fingerprint of the access key's id and the session token.
    pub(super) credentials: u64,
}

impl Signature {
    /// Reads the headers of a signed request.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = header("authorization").ok_or_else(Refusal::unsigned)?;
        let incomplete = || Refusal::bad_signature("The request signature is incomplete.");
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(incomplete)?;
        let field = |name: &str| {
            fields
                .split(',')
                .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(incomplete)
        };
        let (credential, signature) = (field("Credential")?, field("Signature")?);
        field("SignedHeaders")?;
        let is_hex = signature.len() == 64 && signature.bytes().all(|digit| digit.is_ascii_hexdigit());
        let date = header("x-amz-date").and_then(parse_date);
        let Some(date) = date.filter(|_| is_hex) else { return Err(incomplete()) };
        let [key, _, region, "kinesisvideo", "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..]
        else {
            let problem = "Credential should be scoped to correct service: 'kinesisvideo'.";
            return Err(Refusal::bad_signature(problem));
        };
        let credentials = hash::of(&(key, header("x-amz-security-token")));
        Ok(Self { region: region.to_owned(), date, credentials })
    }

    /// Refuses a date too far from the service's clock.
    pub(super) fn check_date(&self, now: UtcMillis) -> Result<(), Refusal> {
        let most = i64::try_from(MOST_SKEW.as_millis()).unwrap_or(i64::MAX);
        let [date, clock] = [self.date, now].map(|instant| format_instant(instant, DATE));
        if self.date < now - most {
            let oldest = format_instant(now - most, DATE);
            return Err(Refusal::bad_signature(&format!(
                "Signature expired: {date} is now earlier than {oldest} ({clock} - 5 min.)"
            )));
        }
        if self.date > now + most {
            let newest = format_instant(now + most, DATE);
            return Err(Refusal::bad_signature(&format!(
                "Signature not yet current: {date} is still later than {newest} ({clock} + 5 min.)"
            )));
        }
        Ok(())
    }
}

fn parse_date(text: &str) -> Option<UtcMillis> {
    let date = jiff::civil::DateTime::strptime(DATE, text).ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

/// An instant in a format of `strftime`, in UTC.
pub(super) fn format_instant(instant: UtcMillis, format: &str) -> String {
    instant.to_jiff().map(|timestamp| timestamp.strftime(format).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(authorization: &str, token: Option<&str>) -> Result<Signature, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", authorization.parse().expect("ASCII"));
        headers.insert("x-amz-date", "20240301T000000Z".parse().expect("ASCII"));
        if let Some(token) = token {
            headers.insert("x-amz-security-token", token.parse().expect("ASCII"));
        }
        Signature::of(&headers)
    }

    fn scope(key: &str, service: &str) -> String {
        let (names, signature) = ("SignedHeaders=host;x-amz-date", "a".repeat(64));
        format!(
            "AWS4-HMAC-SHA256 Credential={key}/20240301/eu-west-1/{service}/aws4_request, {names}, Signature={signature}"
        )
    }

    #[test]
    fn requests_without_a_signature_of_the_right_form_are_refused() {
        let code = |authorization: &str| signed(authorization, None).map_err(|refusal| refusal.code);
        let right = signed(&scope("AK", "kinesisvideo"), None).expect("the right form");
        assert_eq!((right.region.as_str(), right.date), ("eu-west-1", UtcMillis::new(1_709_251_200_000)));
        assert_eq!(code(&scope("AK", "s3")), Err("InvalidSignatureException".into()));
        assert_eq!(code("Basic abc"), Err("InvalidSignatureException".into()));
        let missing = Signature::of(&HeaderMap::new()).map_err(|refusal| (refusal.status, refusal.code));
        assert_eq!(missing, Err((403, "MissingAuthenticationTokenException".into())));
    }

    #[test]
    fn credentials_are_told_apart_by_key_and_by_token() {
        let of = |key, token| signed(&scope(key, "kinesisvideo"), token).map(|of| of.credentials);
        assert_eq!(of("AK", Some("t")), of("AK", Some("t")));
        for other in [of("AK", None), of("AK", Some("u")), of("AL", Some("t"))] {
            assert_ne!(other, of("AK", Some("t")));
        }
    }

    #[test]
    fn a_date_may_be_five_minutes_off_either_way_and_no_more() {
        let signature = signed(&scope("AK", "kinesisvideo"), None).expect("the right form");
        let at = |ms| signature.check_date(signature.date + ms).map_err(|refusal| refusal.message);
        assert_eq!((at(300_000), at(-300_000)), (Ok(()), Ok(())));
        let expired = "Signature expired: 20240301T000000Z is now earlier than 20240301T000001Z (20240301T000501Z - 5 min.)";
        assert_eq!(at(301_000), Err(expired.to_owned()));
        let early = "Signature not yet current: 20240301T000000Z is still later than 20240229T235959Z \
                     (20240229T235459Z + 5 min.)";
        assert_eq!(at(-301_000), Err(early.to_owned()));
    }
}
