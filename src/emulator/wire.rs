//! The service's JSON: requests taken apart, answers put together.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{TimestampKind, UtcMillis};

use super::archive::Selector;
use super::refusal::Refusal;

/// The members of all requests; each call has some of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RawRequest {
    pub(super) stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: Option<String>,
    #[serde(rename = "APIName")]
    pub(super) api_name: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) stream_name_condition: Option<RawNameCondition>,
    pub(super) fragment_selector: Option<RawSelector>,
    pub(super) clip_fragment_selector: Option<RawSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RawNameCondition {
    pub(super) comparison_operator: Option<String>,
    pub(super) comparison_value: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RawSelector {
    fragment_selector_type: Option<String>,
    timestamp_range: Option<RawRange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawRange {
    start_timestamp: Value,
    end_timestamp: Value,
}

impl RawRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        // A call whose members are all optional may be sent without a body.
        if body.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(body).map_err(|problem| Refusal::serialization(&problem.to_string()))
    }
}

impl RawSelector {
    /// Checks that all members are there.
    pub(super) fn parse(&self) -> Result<Selector, Refusal> {
        let kind = match self.fragment_selector_type.as_deref() {
            Some("SERVER_TIMESTAMP") => TimestampKind::Server,
            Some("PRODUCER_TIMESTAMP") => TimestampKind::Producer,
            _ => {
                let message = "FragmentSelectorType must be one of [PRODUCER_TIMESTAMP, SERVER_TIMESTAMP].";
                return Err(Refusal::invalid_argument(message));
            }
        };
        let Some(range) = &self.timestamp_range else {
            return Err(Refusal::invalid_argument("TimestampRange is required."));
        };
        let instant = |name: &str, value: &Value| {
            parse_timestamp(value)
                .ok_or_else(|| Refusal::invalid_argument(&format!("{name} is not a timestamp.")))
        };
        Ok(Selector {
            kind,
            start: instant("StartTimestamp", &range.start_timestamp)?,
            end: instant("EndTimestamp", &range.end_timestamp)?,
        })
    }
}

/// Reads seconds after 1970, to the millisecond, or RFC 3339 text.
fn parse_timestamp(value: &Value) -> Option<UtcMillis> {
    match value {
        Value::Number(seconds) => {
            let ms = (seconds.as_f64()? * 1000.0).round();
            // Beyond 2^53 ms a number of seconds has no milliseconds any more; the year is then past 280 000.
            (ms.abs() < 9e15).then(|| format!("{ms:.0}").parse().ok().map(UtcMillis::new)).flatten()
        }
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(UtcMillis::from),
        _ => None,
    }
}

/// Writes seconds after 1970 with their milliseconds.
pub(super) fn timestamp(instant: UtcMillis) -> Value {
    Value::from(instant.get() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn timestamps_keep_their_milliseconds_both_ways() {
        for ms in [1_709_251_200_001, 1_709_251_200_999, 1_511_852_108_513, 0, -1] {
            let instant = UtcMillis::new(ms);
            assert_eq!(parse_timestamp(&timestamp(instant)), Some(instant));
            assert_eq!(parse_timestamp(&json!(instant.to_string())), Some(instant));
        }
        let noon = UtcMillis::new(1_709_294_400_250);
        assert_eq!(parse_timestamp(&json!("2024-03-01T13:00:00.25+01:00")), Some(noon));
        for bad in [json!(null), json!("soon"), json!("2024-03-01T13:00:00"), json!([1]), json!(1e300)] {
            assert_eq!(parse_timestamp(&bad), None, "{bad}");
        }
    }
}
