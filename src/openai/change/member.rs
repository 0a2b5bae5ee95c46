//! Members that are set and removed.
//!
//! Refuses to interpret them.

use super::super::{ChatRequest, Edit, json};
use super::list::List;

/// Sets the member at the end of a path; where a name is there twice on the way, only the last stays.
pub(super) fn set(request: &ChatRequest, path: &[&str], value: &[u8]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut object = List::top(request);
    let mut rest = path;
    while let Some((name, below)) = rest.split_first() {
        let places = object.places(name);
        let Some((&last, earlier)) = places.split_last() else {
            edits.push(object.append(member(name, &nested(below, value))));
            return edits;
        };
        edits.extend(object.remove(earlier));
        let (span, old) = (object.items[last].value.clone(), object.value(last));
        let inner = List::at(request.body(), &span).filter(|_| old.starts_with(b"{"));
        match inner {
            Some(inner) if !below.is_empty() => object = inner,
            _ => {
                let with = nested(below, value);
                if with != old {
                    edits.push(Edit { span, with });
                }
                return edits;
            }
        }
        rest = below;
    }
    edits
}

/// Removes members of the top level.
pub(super) fn remove(request: &ChatRequest, names: &[&str]) -> Vec<Edit> {
    let top = List::top(request);
    let mut gone: Vec<usize> = names.iter().flat_map(|name| top.places(name)).collect();
    gone.sort_unstable();
    top.remove(&gone)
}

/// Writes a member of an object.
pub(super) fn member(name: &str, value: &[u8]) -> Vec<u8> {
    [&json::quoted(name), &b":"[..], value].concat()
}

/// Wraps a value into one object for each name.
fn nested(names: &[&str], value: &[u8]) -> Vec<u8> {
    let wrap = |inner: Vec<u8>, name: &&str| [b"{", &member(name, &inner)[..], b"}"].concat();
    names.iter().rev().fold(value.to_vec(), wrap)
}
