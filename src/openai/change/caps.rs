//! Numbers of a request that are not to be greater than a limit.
//!
//! Owns how the APIs call the limit of tokens. Refuses to choose the limits.

use super::super::{Api, ChatRequest, Edit};
use super::list::List;
use super::member::member;

/// Limits a member of the top level wherever it is.
pub(super) fn cap(request: &ChatRequest, name: &str, most: u64) -> Vec<Edit> {
    let top = List::top(request);
    top.places(name).into_iter().filter_map(|place| capped(&top, place, most)).collect()
}

/// Limits the tokens to generate, or adds the limit where the client sets none.
pub(super) fn cap_tokens(request: &ChatRequest, api: Api, most: u64) -> Vec<Edit> {
    let names = api.dialect().request.token_limits;
    let Some(&to_add) = names.first() else {
        return Vec::new();
    };
    let top = List::top(request);
    // Engines have a least number too, which must not be above the greatest.
    let (mut edits, mut is_set) = (cap(request, "min_tokens", most), false);
    for name in names {
        let places = top.places(name);
        let Some((&last, earlier)) = places.split_last() else {
            continue;
        };
        edits.extend(top.remove(earlier));
        // `null` is no limit; it may be there beside the other name's number.
        if top.value(last) != b"null" {
            is_set = true;
            edits.extend(capped(&top, last, most));
        }
    }
    if is_set {
        return edits;
    }
    edits.push(match top.places(to_add).last() {
        Some(&null) => number(&top, null, most),
        None => top.append(member(to_add, most.to_string().as_bytes())),
    });
    edits
}

fn capped(top: &List<'_>, place: usize, most: u64) -> Option<Edit> {
    (!within(top.value(place), most)).then(|| number(top, place, most))
}

fn number(top: &List<'_>, place: usize, most: u64) -> Edit {
    Edit { span: top.items[place].value.clone(), with: most.to_string().into_bytes() }
}

/// Says whether a value is a number from zero to the limit.
fn within(value: &[u8], most: u64) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return false;
    }
    match text.parse::<u64>() {
        Ok(number) => number <= most,
        Err(_) => text.parse::<f64>().is_ok_and(|number| number <= most as f64 && most < 1 << 53),
    }
}
