//! Settings from outside of the job file: the command line's `--set KEY=VALUE`, then the environment's `KVS_EXPORT_KEY`.
//!
//! They stand against what a job and the defaults say, never against each other's checks: a value is read by the same code as
//! the file's, and what is wrong with it is told by the name of its variable or option. What is exported (streams, ranges,
//! windows) only the file says: a variable that is forgotten in a shell must not change it.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::errors::{Context, Place, Refusal, nearest};
use super::raw::{self, AWS_KEYS, JOB_KEYS, LIMITS_KEYS, RawFile};

/// What the names of all variables begin with.
const PREFIX: &str = "KVS_EXPORT_";

/// Variables that are no settings of a job file: the program's own, and those that it gives to `[notify]`'s command.
const OTHERS: [&str; 7] = ["LOG", "FFMPEG", "OUTCOME", "EXIT_CODE", "REPORT", "CRASH_AT", "STEP_LOG"];

/// Keys of a job that say what is exported.
const WHAT: [&str; 10] =
    ["name", "streams", "except", "from", "to", "last", "ranges", "split", "daily", "days"];

/// Keys whose values are no text.
const NOT_TEXT: [&str; 6] =
    ["requests_in_flight", "stream_budget", "attempts", "merges", "keep_chunks", "allow_empty"];

/// A key that may be set from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Settable {
    /// `aws`, `limits`, `job`, or nothing for the file's own keys.
    table: &'static str,
    key: &'static str,
}

impl Settable {
    /// All of them, in the order of the file.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let of = |table, keys: &'static [&'static str]| keys.iter().map(move |key| Self { table, key });
        let job = of("job", JOB_KEYS.known).filter(|settable| !WHAT.contains(&settable.key));
        of("", &["state", "work"])
            .chain(of("aws", AWS_KEYS.known))
            .chain(of("limits", LIMITS_KEYS.known))
            .chain(job)
    }

    /// `limits.merges`; a job's keys have no table.
    pub(super) fn option(self) -> String {
        match self.table {
            "" | "job" => self.key.to_owned(),
            table => format!("{table}.{}", self.key),
        }
    }

    /// `KVS_EXPORT_LIMITS_MERGES`.
    pub(super) fn variable(self) -> String {
        format!("{PREFIX}{}", self.option().replace('.', "_").to_uppercase())
    }

    /// Where the document that is read has it.
    fn path(self) -> String {
        if self.table.is_empty() { self.key.to_owned() } else { format!("{}.{}", self.table, self.key) }
    }

    #[cfg(test)]
    pub(super) fn is_text(self) -> bool {
        !NOT_TEXT.contains(&self.key)
    }

    #[cfg(test)]
    pub(super) fn place(self) -> (&'static str, &'static str) {
        (self.table, self.key)
    }

    /// The value as TOML: text needs no quotes outside of a file.
    fn toml(self, value: &str) -> String {
        let literal = DeValue::parse(value).ok().map(toml::Spanned::into_inner);
        match literal {
            Some(DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_))
                if NOT_TEXT.contains(&self.key) =>
            {
                value.to_owned()
            }
            _ => toml::Value::String(value.to_owned()).to_string(),
        }
    }
}

/// A value from outside, and the name under which it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    value: String,
    origin: String,
}

/// The settings from outside, and what is wrong with their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    settings: BTreeMap<Settable, Setting>,
    refused: Vec<(String, Refusal)>,
}

impl Overlay {
    /// Takes the environment's variables, those of other programs among them, and then the command line's `KEY=VALUE`. A
    /// variable that is empty is not set; `None` stands for a value that is not UTF-8.
    pub fn of<'s>(
        variables: impl IntoIterator<Item = (String, Option<String>)>,
        options: impl IntoIterator<Item = &'s str>,
    ) -> Self {
        let mut overlay = Self::default();
        for (name, value) in variables {
            overlay.variable(name, value);
        }
        for option in options {
            overlay.option(option);
        }
        overlay
    }

    fn variable(&mut self, name: String, value: Option<String>) {
        let Some(rest) = name.strip_prefix(PREFIX) else { return };
        if OTHERS.contains(&rest) || value.as_ref().is_some_and(String::is_empty) {
            return;
        }
        let Some(settable) = Settable::all().find(|settable| settable.variable() == name) else {
            let all: Vec<String> = Settable::all().map(Settable::variable).collect();
            let near = nearest(&name, all.iter().map(String::as_str)).map(str::to_owned);
            let refusal = Refusal::new("this program knows no such variable of the environment");
            self.refused.push((name, refusal.accepts(all.join(", ")).suggests(near)));
            return;
        };
        match value {
            Some(value) => {
                self.settings.insert(settable, Setting { value, origin: name });
            }
            None => {
                self.refused.push((name, Refusal::new("the variable is not UTF-8 text").accepts("UTF-8")));
            }
        }
    }

    fn option(&mut self, option: &str) {
        let Some((key, value)) = option.split_once('=') else {
            let refusal = Refusal::new(format!("{option:?} is not KEY=VALUE"));
            self.refused.push(("--set".to_owned(), refusal.accepts("--set limits.merges=2")));
            return;
        };
        let key = key.trim();
        let Some(settable) = Settable::all().find(|settable| settable.option() == key) else {
            let all: Vec<String> = Settable::all().map(Settable::option).collect();
            let near = nearest(key, all.iter().map(String::as_str)).map(|near| format!("`{near}`"));
            let refusal = Refusal::new(format!("no key `{key}` can be set from outside of the job file"));
            self.refused.push(("--set".to_owned(), refusal.accepts(all.join(", ")).suggests(near)));
            return;
        };
        let setting = Setting { value: value.trim().to_owned(), origin: format!("--set {key}") };
        self.settings.insert(settable, setting);
    }

    /// The value of a key as TOML, and the name under which it is set from outside; `job[1]` is any job.
    pub(super) fn find(&self, table: &str, key: &str) -> Option<(String, String)> {
        let table = if table.starts_with("job[") { "job" } else { table };
        let (settable, setting) =
            self.settings.iter().find(|(settable, _)| settable.table == table && settable.key == key)?;
        Some((settable.toml(&setting.value), setting.origin.clone()))
    }

    /// The file with these settings instead of its own; reports what is wrong with them.
    pub(super) fn over(&self, context: &Context<'_>, raw: RawFile) -> RawFile {
        for (name, refusal) in &self.refused {
            context.report(&Place::named(name), refusal.clone());
        }
        if self.settings.is_empty() {
            return raw;
        }
        let lines = self
            .settings
            .iter()
            .map(|(key, setting)| format!("{} = {}\n", key.path(), key.toml(&setting.value)));
        let text: String = lines.collect();
        // Keys are of this program and values are quoted: the text is TOML.
        let Ok(document) = DeTable::parse(&text) else { return raw };
        let names = self.settings.iter().map(|(key, setting)| (key.path(), setting.origin.clone()));
        let outside = Context::named(names.collect());
        let raw = raw::read_overlay(&outside, document.get_ref()).over(raw);
        context.take(outside);
        raw
    }
}
