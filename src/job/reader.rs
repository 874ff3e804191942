//! Walks a TOML document by hand, so that one wrong value does not hide the next.
//!
//! A [`Table`] knows its keys: what is unknown is reported when it is opened, what has the wrong type when it is
//! asked for. A value that was reported is [`Entry::Invalid`], which keeps it from being reported again as missing.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{Context, Located, Place, Refusal, nearest};

/// A key's value as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Entry<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// It is, but wrong; reported already.
    Invalid,
    /// It is, and right.
    Valid(Located<T>),
}

impl<T> Entry<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// This value, or where the key is absent the one of `[defaults]`.
    pub(super) fn or(self, default: Self) -> Self {
        if self.is_absent() { default } else { self }
    }

    /// The same entry with another form of its value.
    pub(super) fn map<U>(self, form: impl FnOnce(T) -> U) -> Entry<U> {
        match self {
            Self::Absent => Entry::Absent,
            Self::Invalid => Entry::Invalid,
            Self::Valid(Located { value, place }) => Entry::Valid(Located { value: form(value), place }),
        }
    }

    /// Where a right value stands.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Valid(located) => Some(&located.place),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// The value with its place.
    pub(super) fn located(self) -> Option<Located<T>> {
        match self {
            Self::Valid(located) => Some(located),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// The value.
    pub(super) fn value(self) -> Option<T> {
        self.located().map(|located| located.value)
    }
}

/// The keys of one kind of table.
#[derive(Debug)]
pub(super) struct Keys {
    /// Their names, in the order in which they are told.
    pub(super) known: &'static [&'static str],
}

/// An opened table.
pub(super) struct Table<'t, 'c> {
    context: &'c Context<'t>,
    entries: &'c DeTable<'t>,
    keys: &'static Keys,
    path: String,
    /// The keys that others, unknown ones, were probably meant to be.
    misspelt: Vec<&'static str>,
    /// Where its header stands.
    pub(super) place: Place,
}

/// What stands in a file is documented but not built.
pub(super) fn not_yet(what: &str) -> Refusal {
    Refusal::new(format!("{what} is known, but not supported by this version yet"))
}

/// What a value is, in a user's words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date-time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The refusal of a value of the wrong type.
pub(super) fn wrong_type(value: &DeValue<'_>, expected: &str) -> Refusal {
    Refusal::new(format!("expected {expected}, found {}", kind(value)))
}

/// The text of a value.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Refusal> {
    match value {
        DeValue::String(text) => Ok(text),
        _ => Err(wrong_type(value, "text")),
    }
}

/// The whole number of a value within `range`.
pub(super) fn integer(value: &DeValue<'_>, range: std::ops::RangeInclusive<u32>) -> Result<u32, Refusal> {
    let accepted = match *range.end() {
        u32::MAX => format!("a whole number, at least {}", range.start()),
        end => format!("a whole number from {} to {end}", range.start()),
    };
    let DeValue::Integer(number) = value else {
        return Err(wrong_type(value, "a whole number").accepts(accepted));
    };
    i64::from_str_radix(number.as_str(), number.radix())
        .ok()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| Refusal::new(format!("{number} is out of range")).accepts(accepted))
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Refusal> {
    let accepted = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    let found = text(value).map_err(|refusal| refusal.accepts(&accepted))?;
    words.iter().find(|(word, _)| *word == found).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let near = nearest(found, words.iter().map(|(word, _)| *word));
        Refusal::new(format!("{found:?} is not one of its values"))
            .accepts(accepted)
            .suggests(near.map(|near| format!("{near:?}")))
    })
}

impl<'t, 'c> Table<'t, 'c> {
    /// Opens the document itself.
    pub(super) fn root(context: &'c Context<'t>, entries: &'c DeTable<'t>, keys: &'static Keys) -> Self {
        let place = context.place(0..0, "");
        Self::open(context, entries, keys, place)
    }

    fn open(context: &'c Context<'t>, entries: &'c DeTable<'t>, keys: &'static Keys, place: Place) -> Self {
        let mut table = Self { context, entries, keys, path: place.key.clone(), misspelt: Vec::new(), place };
        table.misspelt = table.check_keys();
        table
    }

    /// Reports unknown keys; gives those that they were probably meant to be.
    fn check_keys(&self) -> Vec<&'static str> {
        let mut misspelt = Vec::new();
        for key in self.entries.keys() {
            let name = key.get_ref().as_ref();
            let place = self.context.place(key.span(), self.path_of(name));
            if !self.keys.known.contains(&name) {
                let all = self.keys.known.iter().copied();
                let near = nearest(name, all.clone());
                misspelt.extend(near);
                let all = all.collect::<Vec<_>>().join(", ");
                let refusal = Refusal::new(format!("there is no key `{name}` here"));
                self.context
                    .report(&place, refusal.accepts(all).suggests(near.map(|near| format!("`{near}`"))));
            }
        }
        misspelt
    }

    /// Whether a key is there, if only misspelt: it is not missing then, whatever it is meant to say.
    pub(super) fn is_there(&self, key: &str) -> bool {
        self.entries.contains_key(key) || self.misspelt.contains(&key)
    }

    /// What stands for a key that has no value to be read.
    fn without_value<T>(&self, key: &str) -> Entry<T> {
        if self.is_there(key) { Entry::Invalid } else { Entry::Absent }
    }

    /// The dotted path of a key of this table.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The place of a key that is not there: the table's header.
    pub(super) fn place_of_missing(&self, key: &str) -> Place {
        Place { key: self.path_of(key), ..self.place.clone() }
    }

    fn get(&self, key: &str) -> Option<(Place, &'c DeValue<'t>)> {
        debug_assert!(self.keys.known.contains(&key), "{key} is read but not listed");
        let value = self.entries.get(key)?;
        Some((self.context.place(value.span(), self.path_of(key)), value.get_ref()))
    }

    /// Reads a key.
    pub(super) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Refusal>,
    ) -> Entry<T> {
        let Some((place, value)) = self.get(key) else { return self.without_value(key) };
        self.entry(place, read(value))
    }

    fn entry<T>(&self, place: Place, read: Result<T, Refusal>) -> Entry<T> {
        match read {
            Ok(value) => Entry::Valid(Located { value, place }),
            Err(refusal) => {
                self.context.report(&place, refusal);
                Entry::Invalid
            }
        }
    }

    /// Reads a key as text of a certain form.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        accepted: &str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Entry<T> {
        self.read(key, |value| parse(text(value).map_err(|refusal| refusal.accepts(accepted))?))
    }

    /// Opens a table under a key.
    pub(super) fn table(&self, key: &str, keys: &'static Keys) -> Option<Self> {
        let (place, value) = self.get(key)?;
        if let DeValue::Table(entries) = value {
            return Some(Self::open(self.context, entries, keys, place));
        }
        self.context.report(&place, wrong_type(value, "a table").accepts(format!("[{}]", self.path_of(key))));
        None
    }

    /// Reads the elements of a list under a key, which must not be empty. What is wrong with one of them
    /// does not hide the others, but makes the list invalid.
    pub(super) fn list<T>(
        &self,
        key: &str,
        accepted: &str,
        element: impl FnMut(&Self, Place, &'c Spanned<DeValue<'t>>) -> Option<T>,
    ) -> Entry<Vec<T>> {
        match self.list_or_none(key, accepted, element) {
            Entry::Valid(Located { value, place }) if value.is_empty() => {
                self.entry(place, Err(Refusal::new("the list is empty").accepts(accepted)))
            }
            entry => entry,
        }
    }

    /// The same for a list that may be empty.
    pub(super) fn list_or_none<T>(
        &self,
        key: &str,
        accepted: &str,
        mut element: impl FnMut(&Self, Place, &'c Spanned<DeValue<'t>>) -> Option<T>,
    ) -> Entry<Vec<T>> {
        let Some((place, value)) = self.get(key) else { return self.without_value(key) };
        let DeValue::Array(array) = value else {
            return self.entry(place, Err(wrong_type(value, "a list").accepts(accepted)));
        };
        let read: Vec<Option<T>> = array
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let path = format!("{}[{}]", place.key, index + 1);
                element(self, self.context.place(value.span(), path), value)
            })
            .collect();
        match read.into_iter().collect::<Option<Vec<T>>>() {
            Some(value) => Entry::Valid(Located { value, place }),
            None => Entry::Invalid,
        }
    }

    /// Opens a list's element as a table.
    pub(super) fn element_table(
        &self,
        place: Place,
        value: &'c DeValue<'t>,
        keys: &'static Keys,
        accepted: &str,
    ) -> Option<Self> {
        if let DeValue::Table(entries) = value {
            return Some(Self::open(self.context, entries, keys, place));
        }
        self.context.report(&place, wrong_type(value, "a table").accepts(accepted));
        None
    }

    /// Reports something about this table.
    pub(super) fn report(&self, place: &Place, refusal: Refusal) {
        self.context.report(place, refusal);
    }

    /// How many problems the file has so far.
    pub(super) fn problems(&self) -> usize {
        self.context.count()
    }
}
