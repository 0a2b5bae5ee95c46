//! One object that arrives in parts: texts grow, lists grow, of anything else the last counts.
//!
//! Refuses to know what a member means; who calls says how it is to be merged.

use crate::json;
use crate::json::object::{self, Object, elements, entries, number_member, string_value};

/// What keeps an event from being part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotMergeable;

/// The members so far, in the order of their first sight.
#[derive(Debug, Default)]
pub(crate) struct MergedObject {
    members: Vec<(String, MergedValue)>,
}

#[derive(Debug)]
enum MergedValue {
    /// A value as it was written.
    Raw(Vec<u8>),
    Text(String),
    /// What stands between the brackets.
    List(Vec<u8>),
    Inner(MergedObject),
    /// Objects under the index that each names.
    Indexed(Vec<(u64, MergedObject)>),
}

/// How many bytes are kept, and how many may be.
#[derive(Debug, Default)]
pub(crate) struct ByteBudget {
    pub(crate) kept: usize,
    pub(crate) max: usize,
}

impl ByteBudget {
    /// Counts what is about to be kept.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), NotMergeable> {
        self.kept = self.kept.saturating_add(bytes);
        if self.kept <= self.max { Ok(()) } else { Err(NotMergeable) }
    }
}

impl MergedObject {
    /// Takes a value in place of what was there; a null only where there was nothing.
    pub(crate) fn last(
        &mut self,
        key: &str,
        value: &[u8],
        budget: &mut ByteBudget,
    ) -> Result<(), NotMergeable> {
        let part = self.part(key, budget)?;
        let old = match part {
            MergedValue::Raw(old) => old.len(),
            _ if value == b"null" => return Ok(()),
            _ => 0,
        };
        if value == b"null" && old > 0 {
            return Ok(());
        }
        budget.take(value.len().saturating_sub(old))?;
        *part = MergedValue::Raw(value.to_vec());
        Ok(())
    }

    /// Appends to a text.
    pub(crate) fn append(
        &mut self,
        key: &str,
        more: &str,
        budget: &mut ByteBudget,
    ) -> Result<(), NotMergeable> {
        budget.take(more.len())?;
        match self.part(key, budget)? {
            MergedValue::Text(text) => text.push_str(more),
            part => *part = MergedValue::Text(more.to_owned()),
        }
        Ok(())
    }

    /// Appends the elements of an array.
    pub(crate) fn extend(
        &mut self,
        key: &str,
        array: &[u8],
        budget: &mut ByteBudget,
    ) -> Result<(), NotMergeable> {
        budget.take(array.len())?;
        let part = self.part(key, budget)?;
        if !matches!(part, MergedValue::List(_)) {
            *part = MergedValue::List(Vec::new());
        }
        if let MergedValue::List(list) = part {
            for element in elements(array) {
                if !list.is_empty() {
                    list.push(b',');
                }
                list.extend_from_slice(element);
            }
        }
        Ok(())
    }

    /// Returns the object under `key`, a new one if there was none.
    pub(crate) fn inner(&mut self, key: &str, budget: &mut ByteBudget) -> Result<&mut Self, NotMergeable> {
        let part = self.part(key, budget)?;
        if !matches!(part, MergedValue::Inner(_)) {
            *part = MergedValue::Inner(Self::default());
        }
        let MergedValue::Inner(inner) = part else {
            return Err(NotMergeable);
        };
        Ok(inner)
    }

    /// Merges a delta as a chat stream has it: texts grow, calls of tools grow under their index.
    pub(crate) fn merge_delta(&mut self, delta: &[u8], budget: &mut ByteBudget) -> Result<(), NotMergeable> {
        for (key, value) in entries(delta) {
            match (&*key, value.first()) {
                ("role", _) => self.last("role", value, budget)?,
                ("tool_calls", Some(b'[')) => self.merge_calls(value, budget)?,
                ("function_call" | "audio", Some(b'{')) => {
                    self.inner(&key, budget)?.merge_function(value, budget)?;
                }
                (key, Some(b'"')) => self.append(key, &string_value(value).unwrap_or_default(), budget)?,
                (key, _) => self.last(key, value, budget)?,
            }
        }
        Ok(())
    }

    /// Merges an object whose arrays go on from event to event, as log probabilities do.
    pub(crate) fn merge_lists(&mut self, object: &[u8], budget: &mut ByteBudget) -> Result<(), NotMergeable> {
        for (key, value) in entries(object) {
            match value.first() {
                Some(b'[') => self.extend(&key, value, budget)?,
                _ => self.last(&key, value, budget)?,
            }
        }
        Ok(())
    }

    /// Says whether a member is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        let part = self.members.iter().find(|(name, _)| name == key).map(|(_, part)| part);
        part.is_some_and(|part| !matches!(part, MergedValue::Raw(raw) if raw == b"null"))
    }

    /// Returns the members written as JSON, in order.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.members.iter().map(|(key, part)| (key.as_str(), part.json()))
    }

    fn merge_calls(&mut self, calls: &[u8], budget: &mut ByteBudget) -> Result<(), NotMergeable> {
        let part = self.part("tool_calls", budget)?;
        if !matches!(part, MergedValue::Indexed(_)) {
            *part = MergedValue::Indexed(Vec::new());
        }
        let MergedValue::Indexed(known) = part else {
            return Err(NotMergeable);
        };
        for (place, call) in elements(calls).enumerate() {
            let index = number_member(call, "index").unwrap_or(place as u64);
            indexed(known, index, budget)?.merge_call(call, budget)?;
        }
        Ok(())
    }

    fn merge_call(&mut self, call: &[u8], budget: &mut ByteBudget) -> Result<(), NotMergeable> {
        for (key, value) in entries(call) {
            match (&*key, value.first()) {
                ("index", _) => {}
                (key, Some(b'{')) => self.inner(key, budget)?.merge_function(value, budget)?,
                // Some servers repeat these as empty strings.
                (key, _) if value != b"\"\"" || !self.has(key) => self.last(key, value, budget)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Merges a function's name, which may be repeated, and its arguments, which grow.
    fn merge_function(&mut self, function: &[u8], budget: &mut ByteBudget) -> Result<(), NotMergeable> {
        for (key, value) in entries(function) {
            let Some(more) = string_value(value) else {
                self.last(&key, value, budget)?;
                continue;
            };
            let known = self.members.iter().find(|(name, _)| *name == key).map(|(_, part)| part);
            let is_repeated = key != "arguments"
                && key != "input"
                && matches!(known, Some(MergedValue::Text(text)) if *text == more);
            if !is_repeated {
                self.append(&key, &more, budget)?;
            }
        }
        Ok(())
    }

    fn part(&mut self, key: &str, budget: &mut ByteBudget) -> Result<&mut MergedValue, NotMergeable> {
        let place = self.members.iter().position(|(name, _)| name == key);
        let place = if let Some(place) = place {
            place
        } else {
            budget.take(key.len() + OVERHEAD)?;
            if self.members.len() >= MOST_ENTRIES {
                return Err(NotMergeable);
            }
            self.members.push((key.to_owned(), MergedValue::Raw(Vec::new())));
            self.members.len() - 1
        };
        Ok(&mut self.members[place].1)
    }
}

/// What a member or an element costs beside its text.
const OVERHEAD: usize = 4;

/// The most members of an object, choices, calls or blocks; no model's answer has nearly as many.
const MOST_ENTRIES: usize = 1024;

/// Returns the object under an index, a new one if there was none.
pub(crate) fn indexed<'a>(
    known: &'a mut Vec<(u64, MergedObject)>,
    index: u64,
    budget: &mut ByteBudget,
) -> Result<&'a mut MergedObject, NotMergeable> {
    let place = match known.binary_search_by_key(&index, |(index, _)| *index) {
        Ok(place) => place,
        Err(place) => {
            budget.take(OVERHEAD)?;
            if known.len() >= MOST_ENTRIES {
                return Err(NotMergeable);
            }
            known.insert(place, (index, MergedObject::default()));
            place
        }
    };
    Ok(&mut known[place].1)
}

impl MergedValue {
    fn json(&self) -> Vec<u8> {
        match self {
            Self::Raw(raw) if raw.is_empty() => b"null".to_vec(),
            Self::Raw(raw) => raw.clone(),
            Self::Text(text) => json::quoted(text),
            Self::List(inside) => [b"[", inside.as_slice(), b"]"].concat(),
            Self::Inner(inner) => Object::default().all(inner.written()).end(),
            Self::Indexed(known) => {
                object::array(known.iter().map(|(_, inner)| Object::default().all(inner.written()).end()))
            }
        }
    }
}
