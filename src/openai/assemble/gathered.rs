//! One object that arrives in parts: texts grow, lists grow, of anything else the last counts.
//!
//! Refuses to know what a member means; who calls says how it is to be merged.

use crate::openai::object::{self, Object, elements, entries, number_in, said};

use super::Unfit;

/// The members so far, in the order of their first sight.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    members: Vec<(String, Part)>,
}

#[derive(Debug)]
enum Part {
    /// A value as it was written.
    Raw(Vec<u8>),
    Text(String),
    /// What stands between the brackets.
    List(Vec<u8>),
    Inner(Gathered),
    /// Objects under the index that each names.
    Indexed(Vec<(u64, Gathered)>),
}

/// How many bytes are kept, and how many may be.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) kept: usize,
    pub(super) max: usize,
}

impl Room {
    /// Counts what is about to be kept.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Unfit> {
        self.kept = self.kept.saturating_add(bytes);
        if self.kept <= self.max { Ok(()) } else { Err(Unfit) }
    }
}

impl Gathered {
    /// Takes a value in place of what was there; a null only where there was nothing.
    pub(super) fn last(&mut self, key: &str, value: &[u8], room: &mut Room) -> Result<(), Unfit> {
        let part = self.part(key, room)?;
        let old = match part {
            Part::Raw(old) => old.len(),
            _ if value == b"null" => return Ok(()),
            _ => 0,
        };
        if value == b"null" && old > 0 {
            return Ok(());
        }
        room.take(value.len().saturating_sub(old))?;
        *part = Part::Raw(value.to_vec());
        Ok(())
    }

    /// Appends to a text.
    pub(super) fn append(&mut self, key: &str, more: &str, room: &mut Room) -> Result<(), Unfit> {
        room.take(more.len())?;
        match self.part(key, room)? {
            Part::Text(text) => text.push_str(more),
            part => *part = Part::Text(more.to_owned()),
        }
        Ok(())
    }

    /// Appends the elements of an array.
    pub(super) fn extend(&mut self, key: &str, array: &[u8], room: &mut Room) -> Result<(), Unfit> {
        room.take(array.len())?;
        let part = self.part(key, room)?;
        if !matches!(part, Part::List(_)) {
            *part = Part::List(Vec::new());
        }
        if let Part::List(list) = part {
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
    pub(super) fn inner(&mut self, key: &str, room: &mut Room) -> Result<&mut Self, Unfit> {
        let part = self.part(key, room)?;
        if !matches!(part, Part::Inner(_)) {
            *part = Part::Inner(Self::default());
        }
        let Part::Inner(inner) = part else {
            return Err(Unfit);
        };
        Ok(inner)
    }

    /// Merges a delta as a chat stream has it: texts grow, calls of tools grow under their index.
    pub(super) fn merge_delta(&mut self, delta: &[u8], room: &mut Room) -> Result<(), Unfit> {
        for (key, value) in entries(delta) {
            match (&*key, value.first()) {
                ("role", _) => self.last("role", value, room)?,
                ("tool_calls", Some(b'[')) => self.merge_calls(value, room)?,
                ("function_call" | "audio", Some(b'{')) => {
                    self.inner(&key, room)?.merge_function(value, room)?;
                }
                (key, Some(b'"')) => self.append(key, &said(value).unwrap_or_default(), room)?,
                (key, _) => self.last(key, value, room)?,
            }
        }
        Ok(())
    }

    /// Merges an object whose arrays go on from event to event, as log probabilities do.
    pub(super) fn merge_lists(&mut self, object: &[u8], room: &mut Room) -> Result<(), Unfit> {
        for (key, value) in entries(object) {
            match value.first() {
                Some(b'[') => self.extend(&key, value, room)?,
                _ => self.last(&key, value, room)?,
            }
        }
        Ok(())
    }

    /// Says whether a member is there and not null.
    pub(super) fn has(&self, key: &str) -> bool {
        let part = self.members.iter().find(|(name, _)| name == key).map(|(_, part)| part);
        part.is_some_and(|part| !matches!(part, Part::Raw(raw) if raw == b"null"))
    }

    /// Returns the members written as JSON, in order.
    pub(super) fn written(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.members.iter().map(|(key, part)| (key.as_str(), part.json()))
    }

    fn merge_calls(&mut self, calls: &[u8], room: &mut Room) -> Result<(), Unfit> {
        let part = self.part("tool_calls", room)?;
        if !matches!(part, Part::Indexed(_)) {
            *part = Part::Indexed(Vec::new());
        }
        let Part::Indexed(known) = part else {
            return Err(Unfit);
        };
        for (place, call) in elements(calls).enumerate() {
            let index = number_in(call, "index").unwrap_or(place as u64);
            indexed(known, index, room)?.merge_call(call, room)?;
        }
        Ok(())
    }

    fn merge_call(&mut self, call: &[u8], room: &mut Room) -> Result<(), Unfit> {
        for (key, value) in entries(call) {
            match (&*key, value.first()) {
                ("index", _) => {}
                (key, Some(b'{')) => self.inner(key, room)?.merge_function(value, room)?,
                // Some servers repeat these as empty strings.
                (key, _) if value != b"\"\"" || !self.has(key) => self.last(key, value, room)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Merges a function's name, which may be repeated, and its arguments, which grow.
    fn merge_function(&mut self, function: &[u8], room: &mut Room) -> Result<(), Unfit> {
        for (key, value) in entries(function) {
            let Some(more) = said(value) else {
                self.last(&key, value, room)?;
                continue;
            };
            let known = self.members.iter().find(|(name, _)| *name == key).map(|(_, part)| part);
            let is_repeated = key != "arguments"
                && key != "input"
                && matches!(known, Some(Part::Text(text)) if *text == more);
            if !is_repeated {
                self.append(&key, &more, room)?;
            }
        }
        Ok(())
    }

    fn part(&mut self, key: &str, room: &mut Room) -> Result<&mut Part, Unfit> {
        let place = self.members.iter().position(|(name, _)| name == key);
        let place = if let Some(place) = place {
            place
        } else {
            room.take(key.len() + OVERHEAD)?;
            if self.members.len() >= MOST_ENTRIES {
                return Err(Unfit);
            }
            self.members.push((key.to_owned(), Part::Raw(Vec::new())));
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
pub(super) fn indexed<'a>(
    known: &'a mut Vec<(u64, Gathered)>,
    index: u64,
    room: &mut Room,
) -> Result<&'a mut Gathered, Unfit> {
    let place = match known.binary_search_by_key(&index, |(index, _)| *index) {
        Ok(place) => place,
        Err(place) => {
            room.take(OVERHEAD)?;
            if known.len() >= MOST_ENTRIES {
                return Err(Unfit);
            }
            known.insert(place, (index, Gathered::default()));
            place
        }
    };
    Ok(&mut known[place].1)
}

impl Part {
    fn json(&self) -> Vec<u8> {
        match self {
            Self::Raw(raw) if raw.is_empty() => b"null".to_vec(),
            Self::Raw(raw) => raw.clone(),
            Self::Text(text) => object::quoted(text),
            Self::List(inside) => [b"[", inside.as_slice(), b"]"].concat(),
            Self::Inner(inner) => Object::default().all(inner.written()).end(),
            Self::Indexed(known) => {
                object::array(known.iter().map(|(_, inner)| Object::default().all(inner.written()).end()))
            }
        }
    }
}
