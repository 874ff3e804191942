//! Faults as the command line orders them: `NAME:KEY=VALUE,…`.

use std::time::Duration;

use crate::job::{self, Refusal, nearest};
use crate::model::{FragmentNumber, StreamSelector, UtcMillis};

use super::api::Api;
use super::fault::{Fault, FaultRule, When, Window};
use super::points::SecondClient;

/// Something that makes the emulator a worse service than it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Disturbance {
    /// Requests that go wrong.
    Fault(FaultRule),
    /// Somebody else who spends a stream's points.
    SecondClient(SecondClient),
    /// So many milliseconds by which the service's clock is ahead.
    ClockOffset(i64),
}

/// What can be ordered: name, keys of its own (those with `!` are needed), meaning.
const KINDS: [(&str, &[&str], &str); 22] = [
    ("throttle", &[], "400 ClientLimitExceededException"),
    ("storm", &["for!"], "every call is throttled for a while"),
    ("internal", &[], "500 InternalFailure"),
    ("unavailable", &[], "503 ServiceUnavailable"),
    ("denied", &[], "403 AccessDeniedException"),
    ("error", &["status!", "code!"], "any other error answer"),
    ("expired-token", &[], "403 ExpiredTokenException until other credentials come"),
    ("expired-endpoint", &[], "401 NotAuthorizedException until GetDataEndpoint is asked again"),
    ("no-fragments", &[], "404 for a clip, whatever there is"),
    ("short-clip", &["missing!"], "the last fragments of a clip are left out silently"),
    ("short-body", &["bytes!"], "the connection is closed after so many bytes of the body"),
    ("reset", &["bytes"], "the connection is reset, before the answer or in its body"),
    ("stall", &["bytes"], "silence, before the answer or in its body, until the client hangs up"),
    ("slow", &["bytes-per-second!"], "the body comes at that pace"),
    ("away", &[], "connections are reset without an answer"),
    ("garbage", &[], "200 with bytes that mean nothing"),
    ("empty", &[], "200 without a byte"),
    ("bad-fragment", &["fragment!"], "400 InvalidMediaFrameException for clips that hold it"),
    ("late", &["fragment!", "listings"], "the first listings (1) lack the fragment"),
    ("retention", &["head!"], "what was ingested before that time is gone"),
    ("second-client", &["stream", "media", "metadata"], "another client spends so many points a second"),
    ("clock", &["offset!"], "the service's clock is ahead (5m) or behind (-5m)"),
];

/// Keys that say which requests a fault befalls, with the form of their values.
const SELECTING: [(&str, &str, &str); 9] = [
    ("api", "CALL", "only this call, such as GetClip"),
    ("stream", "NAME", "only this stream"),
    ("nth", "N", "only the nth of these requests, from 1"),
    ("first", "N", "only the first n"),
    ("skip", "N", "all but the first n"),
    ("every", "N", "every nth"),
    ("rate", "SHARE", "that share of them, from 0 to 1"),
    ("from", "TIME", "only from so long after the start, such as 30s"),
    ("for", "TIME", "only for so long, such as 2m"),
];

/// Names that do not fit in the pattern but will be tried.
const ALIASES: [(&str, &str); 3] = [("500", "internal"), ("503", "unavailable"), ("short", "short-body")];

/// The command line's own words on what can be ordered.
pub fn disturbance_help() -> String {
    let kinds = KINDS.map(|(name, keys, what)| {
        let key_form = |(index, key): (usize, &&str)| {
            let before = if index == 0 { ':' } else { ',' };
            match key.strip_suffix('!') {
                Some(key) => format!("{before}{key}=…"),
                None => format!("[{before}{key}=…]"),
            }
        };
        let keys: String = keys.iter().enumerate().map(key_form).collect();
        format!("  {name}{keys}: {what}")
    });
    let selecting = SELECTING.map(|(key, form, what)| format!("  {key}={form}: {what}"));
    format!(
        "Something that goes wrong, NAME or NAME:KEY=VALUE,…; may be repeated\n\nNames:\n{}\n\nWhich requests, for \
         all but the last two:\n{}",
        kinds.join("\n"),
        selecting.join("\n")
    )
}

impl Disturbance {
    /// Reads `NAME` or `NAME:KEY=VALUE,…`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        let Some((name, own_keys, _)) = KINDS.into_iter().find(|(known, ..)| *known == name) else {
            let names = KINDS.map(|(name, ..)| name);
            return Err(Refusal::new(format!("{name:?} is no fault"))
                .accepts(names.join(", "))
                .suggests(nearest(name, names).map(str::to_owned)));
        };
        let fields = Fields::read(name, own_keys, rest)?;
        match name {
            "second-client" => fields.second_client().map(Self::SecondClient),
            "clock" => fields.offset().map(Self::ClockOffset),
            _ => fields.rule().map(Self::Fault),
        }
    }
}

/// The keys of one disturbance with their values.
struct Fields<'a> {
    name: &'static str,
    values: Vec<(&'static str, &'a str)>,
}

impl<'a> Fields<'a> {
    fn read(name: &'static str, own: &'static [&'static str], text: &'a str) -> Result<Self, Refusal> {
        let mut accepted: Vec<&'static str> = own.iter().map(|key| key.trim_end_matches('!')).collect();
        if !matches!(name, "second-client" | "clock") {
            for (key, ..) in SELECTING {
                if !accepted.contains(&key) {
                    accepted.push(key);
                }
            }
        }
        let mut values = Vec::new();
        for field in text.split(',').filter(|_| !text.is_empty()) {
            let Some((key, value)) = field.split_once('=') else {
                let message = format!("{field:?} in {name:?} has no value");
                return Err(Refusal::new(message).accepts(format!("{name}:KEY=VALUE,…")));
            };
            let Some(known) = accepted.iter().find(|known| **known == key) else {
                return Err(Refusal::new(format!("{name:?} has no key {key:?}"))
                    .accepts(accepted.join(", "))
                    .suggests(nearest(key, accepted.iter().copied()).map(str::to_owned)));
            };
            if values.iter().any(|(before, _)| before == known) {
                return Err(Refusal::new(format!("{name:?} has {key:?} twice")));
            }
            values.push((*known, value));
        }
        for needed in own.iter().filter_map(|key| key.strip_suffix('!')) {
            if !values.iter().any(|(key, _)| *key == needed) {
                let message = format!("{name:?} needs {needed:?}");
                return Err(Refusal::new(message).accepts(format!("{name}:{needed}=VALUE")));
            }
        }
        Ok(Self { name, values })
    }

    /// Takes a value out, if the key is there, and reads it.
    fn take<T>(
        &mut self,
        key: &str,
        form: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(at) = self.values.iter().position(|(known, _)| *known == key) else { return Ok(None) };
        let (_, value) = self.values.swap_remove(at);
        let refused = || Refusal::new(format!("{key}={value} in {:?} is not right", self.name)).accepts(form);
        read(value).map(Some).ok_or_else(refused)
    }

    fn number<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, Refusal> {
        self.take(key, "a whole number", |text| text.parse().ok())
    }

    /// The value of a key that was found to be there.
    fn needed<T>(&self, value: Option<T>) -> Result<T, Refusal> {
        value.ok_or_else(|| Refusal::new(format!("{:?} lacks a key", self.name)))
    }

    fn time(&mut self, key: &str) -> Result<Option<Duration>, Refusal> {
        let read = |text: &str| job::Duration::parse(text).ok();
        let time = self.take(key, job::Duration::ACCEPTED, read)?;
        Ok(time.map(|time| Duration::from_millis(time.total_millis())))
    }

    fn stream(&mut self) -> Result<Option<String>, Refusal> {
        self.take("stream", "the name of a stream", |text| match StreamSelector::parse(text) {
            Ok(StreamSelector::Name(name)) => Some(name),
            _ => None,
        })
    }

    fn api(&mut self) -> Result<Option<Api>, Refusal> {
        let names = Api::ALL.map(Api::as_str);
        let given = self.values.iter().find(|(key, _)| *key == "api").map(|(_, value)| *value);
        let api =
            self.take("api", &names.join(", "), |text| Api::ALL.into_iter().find(|api| api.as_str() == text));
        api.map_err(|refusal| {
            refusal.suggests(given.and_then(|given| nearest(given, names)).map(str::to_owned))
        })
    }

    /// Which of the requests: at most one of five keys.
    fn when(&mut self) -> Result<When, Refusal> {
        let share = |text: &str| text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        let at_least_one = |text: &str| text.parse().ok().filter(|count| *count > 0);
        let positive = "a whole number from 1";
        let given = [
            self.take("nth", positive, at_least_one)?.map(When::Nth),
            self.take("first", positive, at_least_one)?.map(When::First),
            self.take("skip", positive, at_least_one)?.map(When::After),
            self.take("every", positive, at_least_one)?.map(When::Every),
            self.take("rate", "a share from 0 to 1, such as 0.1", share)?.map(When::Rate),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (when, None) => Ok(when.unwrap_or(When::Always)),
            (_, Some(_)) => {
                Err(Refusal::new(format!("{:?} says twice which requests it befalls", self.name))
                    .accepts("one of nth, first, skip, every, rate"))
            }
        }
    }

    fn during(&mut self) -> Result<Option<Window>, Refusal> {
        let (from, length) = (self.time("from")?, self.time("for")?);
        Ok((from.is_some() || length.is_some()).then(|| {
            let from = from.unwrap_or_default();
            Window { from, to: length.map_or(Duration::MAX, |length| from.saturating_add(length)) }
        }))
    }

    fn rule(mut self) -> Result<FaultRule, Refusal> {
        let fault = self.fault()?;
        Ok(FaultRule {
            api: self.api()?,
            stream: self.stream()?,
            during: self.during()?,
            when: self.when()?,
            fault,
        })
    }

    fn fragment(&mut self) -> Result<FragmentNumber, Refusal> {
        let number = self.take("fragment", "a fragment number as ListFragments gives it", |text| {
            FragmentNumber::parse(text).ok()
        })?;
        self.needed(number)
    }

    fn fault(&mut self) -> Result<Fault, Refusal> {
        Ok(match self.name {
            "throttle" | "storm" => Fault::Throttle,
            "internal" => Fault::InternalFailure,
            "unavailable" => Fault::ServiceUnavailable,
            "denied" => Fault::AccessDenied,
            "error" => self.refusal()?,
            "expired-token" => Fault::ExpireCredentials,
            "expired-endpoint" => Fault::ExpireEndpoint,
            "no-fragments" => Fault::NoFragments,
            "short-clip" => {
                let missing = self.number("missing")?;
                Fault::ShortClip { missing: self.needed(missing)? }
            }
            "short-body" => {
                let after = self.number("bytes")?;
                Fault::CutBody { after: self.needed(after)? }
            }
            "reset" => Fault::ResetConnection { after: self.number("bytes")? },
            "stall" => Fault::Stall { after: self.number("bytes")? },
            "slow" => {
                let pace = self.take("bytes-per-second", "a whole number from 1", |text| {
                    text.parse().ok().filter(|pace| *pace > 0)
                })?;
                Fault::Slow { bytes_per_second: self.needed(pace)? }
            }
            "away" => Fault::Away,
            "garbage" => Fault::Garbage,
            "empty" => Fault::EmptyBody,
            "bad-fragment" => Fault::RefuseFragment(self.fragment()?),
            "late" => Fault::ListLate {
                fragment: self.fragment()?,
                listings: self.number("listings")?.unwrap_or(1),
            },
            "retention" => {
                let form = "a time such as 2025-03-03T08:00:00Z";
                let head = self
                    .take("head", form, |text| text.parse::<jiff::Timestamp>().ok().map(UtcMillis::from))?;
                Fault::RetentionPasses { head: self.needed(head)? }
            }
            other => return Err(Refusal::new(format!("{other:?} is no fault"))),
        })
    }

    fn refusal(&mut self) -> Result<Fault, Refusal> {
        let status = self.take("status", "an HTTP status from 400 to 599", |text| {
            text.parse().ok().filter(|status| (400..600).contains(status))
        })?;
        let code = self.take("code", "a code such as ConnectionLimitExceededException", |text| {
            let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_word.then(|| text.to_owned())
        })?;
        let message = "An error on order.".to_owned();
        Ok(Fault::Refuse { status: self.needed(status)?, code: self.needed(code)?, message })
    }

    fn second_client(mut self) -> Result<SecondClient, Refusal> {
        let (media, metadata) = (self.number("media")?, self.number("metadata")?);
        if media.is_none() && metadata.is_none() {
            return Err(Refusal::new("\"second-client\" needs points to spend")
                .accepts("second-client:media=POINTS,metadata=POINTS"));
        }
        let (media, metadata) = (media.unwrap_or(0), metadata.unwrap_or(0));
        Ok(SecondClient { stream: self.stream()?, media, metadata })
    }

    fn offset(mut self) -> Result<i64, Refusal> {
        let offset = self.take("offset", "a length of time such as 10m or -10m", |text| {
            let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
            let ms = i64::try_from(job::Duration::parse(length).ok()?.total_millis()).ok()?;
            Some(sign * ms)
        })?;
        self.needed(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> FaultRule {
        match Disturbance::parse(text) {
            Ok(Disturbance::Fault(rule)) => rule,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_fault_is_read_with_its_own_keys() {
        let second = Duration::from_secs;
        let number =
            FragmentNumber::parse("91343852333181432387730302044767688728495783936").expect("a number");
        let cases = [
            ("throttle", FaultRule::every_request(Fault::Throttle)),
            (
                "throttle:api=GetClip,every=5",
                FaultRule { when: When::Every(5), ..FaultRule::always(Api::GetClip, Fault::Throttle) },
            ),
            (
                "storm:stream=yard,from=10s,for=1m",
                FaultRule::every_request(Fault::Throttle).on_stream("yard").during(second(10), second(70)),
            ),
            (
                "500:nth=3",
                FaultRule { when: When::Nth(3), ..FaultRule::every_request(Fault::InternalFailure) },
            ),
            (
                "503:first=3",
                FaultRule { when: When::First(3), ..FaultRule::every_request(Fault::ServiceUnavailable) },
            ),
            ("denied:api=ListFragments", FaultRule::always(Api::ListFragments, Fault::AccessDenied)),
            (
                "expired-token:skip=9",
                FaultRule { when: When::After(9), ..FaultRule::every_request(Fault::ExpireCredentials) },
            ),
            ("expired-endpoint", FaultRule::every_request(Fault::ExpireEndpoint)),
            ("no-fragments", FaultRule::every_request(Fault::NoFragments)),
            ("short-clip:missing=2", FaultRule::every_request(Fault::ShortClip { missing: 2 })),
            ("short-body:bytes=0", FaultRule::every_request(Fault::CutBody { after: 0 })),
            ("reset", FaultRule::every_request(Fault::ResetConnection { after: None })),
            ("reset:bytes=9", FaultRule::every_request(Fault::ResetConnection { after: Some(9) })),
            ("stall", FaultRule::every_request(Fault::Stall { after: None })),
            ("stall:bytes=9", FaultRule::every_request(Fault::Stall { after: Some(9) })),
            (
                "slow:stream=yard,rate=0.1,bytes-per-second=2000",
                FaultRule {
                    when: When::Rate(0.1),
                    ..FaultRule::every_request(Fault::Slow { bytes_per_second: 2_000 }).on_stream("yard")
                },
            ),
            ("away:from=30s,for=2m", FaultRule::every_request(Fault::Away).during(second(30), second(150))),
            ("away:from=30s", FaultRule::every_request(Fault::Away).during(second(30), Duration::MAX)),
            ("garbage", FaultRule::every_request(Fault::Garbage)),
            ("empty", FaultRule::every_request(Fault::EmptyBody)),
            (
                "bad-fragment:fragment=91343852333181432387730302044767688728495783936",
                FaultRule::every_request(Fault::RefuseFragment(number.clone())),
            ),
            (
                "late:fragment=91343852333181432387730302044767688728495783936",
                FaultRule::every_request(Fault::ListLate { fragment: number, listings: 1 }),
            ),
            (
                "retention:head=2024-03-01T00:00:00Z",
                FaultRule::every_request(Fault::RetentionPasses { head: UtcMillis::new(1_709_251_200_000) }),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(rule(text), expected, "{text}");
        }
        let error = rule("error:status=429,code=ConnectionLimitExceededException").fault;
        assert!(matches!(error, Fault::Refuse { status: 429, .. }), "{error:?}");
        assert_eq!(
            Disturbance::parse("second-client:stream=yard,media=250"),
            Ok(Disturbance::SecondClient(SecondClient {
                stream: Some("yard".to_owned()),
                media: 250,
                metadata: 0
            }))
        );
        assert_eq!(Disturbance::parse("clock:offset=-10m"), Ok(Disturbance::ClockOffset(-600_000)));
        assert_eq!(Disturbance::parse("clock:offset=1h"), Ok(Disturbance::ClockOffset(3_600_000)));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let cases = [
            ("trottle", "\"trottle\" is no fault", "throttle, storm", Some("throttle")),
            ("throttle:apj=GetClip", "no key \"apj\"", "api, stream, nth", Some("api")),
            ("throttle:api=GetClips", "api=GetClips", "ListFragments, GetClip", Some("GetClip")),
            ("throttle:every", "\"every\" in \"throttle\" has no value", "KEY=VALUE", None),
            ("throttle:every=0", "every=0", "from 1", None),
            ("throttle:every=2,nth=1", "twice which requests", "one of nth", None),
            ("throttle:rate=1.5", "rate=1.5", "from 0 to 1", None),
            ("throttle:rate=nan", "rate=nan", "from 0 to 1", None),
            ("throttle:from=30", "from=30", "\"60s\"", None),
            ("throttle:bytes=1", "no key \"bytes\"", "api", None),
            ("slow", "needs \"bytes-per-second\"", "slow:bytes-per-second=VALUE", None),
            ("slow:bytes-per-second=0", "bytes-per-second=0", "from 1", None),
            ("storm:stream=yard", "needs \"for\"", "storm:for=VALUE", None),
            ("throttle:stream=a/b", "stream=a/b", "name of a stream", None),
            ("bad-fragment:fragment=x", "fragment=x", "ListFragments", None),
            ("retention:head=yesterday", "head=yesterday", "2025-03-03T08:00:00Z", None),
            ("error:status=200,code=X", "status=200", "400 to 599", None),
            ("second-client:stream=yard", "needs points", "media=POINTS", None),
            ("clock:offset=ten", "offset=ten", "-10m", None),
            ("clock:offset=1m,api=GetClip", "no key \"api\"", "offset", None),
        ];
        for (text, problem, accepted, suggestion) in cases {
            let refusal = Disturbance::parse(text).expect_err(text);
            assert!(refusal.message.contains(problem), "{text}: {refusal:?}");
            assert!(
                refusal.accepted.as_deref().is_none_or(|form| form.contains(accepted)),
                "{text}: {refusal:?}"
            );
            assert!(refusal.accepted.is_some(), "{text}");
            assert_eq!(refusal.suggestion.as_deref(), suggestion, "{text}");
        }
        let twice = Disturbance::parse("throttle:nth=1,nth=2").expect_err("twice");
        assert!(twice.message.contains("has \"nth\" twice"), "{twice:?}");
    }

    #[test]
    fn the_help_names_everything_that_is_accepted() {
        let help = disturbance_help();
        for (name, keys, _) in KINDS {
            assert!(help.contains(&format!("  {name}")), "{name}");
            for key in keys {
                assert!(help.contains(&format!("{}=…", key.trim_end_matches('!'))), "{name}: {key}");
            }
        }
        assert!(help.contains("slow:bytes-per-second=…: ") && help.contains("reset[:bytes=…]: "), "{help}");
    }
}
