//! An array or object in a body, and how its items come and go with their commas.
//!
//! Refuses to interpret the items.

use std::ops::Range;

use super::super::json::string::decodes_to;
use super::super::json::{self, ItemSpan};
use super::super::{ChatRequest, Edit};

/// The items of one array or object, in order, with their spans in the body.
pub(super) struct List<'a> {
    body: &'a [u8],
    /// The place after the opening bracket.
    open: usize,
    pub(super) items: Vec<ItemSpan>,
    is_object: bool,
}

impl<'a> List<'a> {
    /// Reads the top level.
    pub(super) fn top(request: &'a ChatRequest) -> Self {
        let items = request.members().to_vec();
        let open = items.first().map_or(0, |item| item.key.start - 1);
        Self { body: request.body(), open, items, is_object: true }
    }

    /// Reads the array or object that is the value at `span`; nothing if it is neither.
    pub(super) fn at(body: &'a [u8], span: &Range<usize>) -> Option<Self> {
        let (is_object, items) = match body[span.start] {
            b'{' => (true, json::members(body, span.start)),
            b'[' => (false, json::elements(body, span.start)),
            _ => return None,
        };
        let items = items.map_while(Result::ok).collect();
        Some(Self { body, open: span.start + 1, items, is_object })
    }

    /// Reads an array of the top level; nothing if the member is not there or something else.
    pub(super) fn array(request: &'a ChatRequest, name: &str) -> Option<Self> {
        let value = request.member(name).filter(|value| value.starts_with(b"["))?;
        Self::at(request.body(), &json::span(request.body(), value))
    }

    /// Returns an item's value.
    pub(super) fn value(&self, index: usize) -> &'a [u8] {
        &self.body[self.items[index].value.clone()]
    }

    /// Returns the indices of the members of this name, in order.
    pub(super) fn places(&self, name: &str) -> Vec<usize> {
        let spelt = |index: &usize| decodes_to(&self.body[self.items[*index].key.clone()], name);
        (0..self.items.len()).filter(spelt).collect()
    }

    /// Puts items, which are not empty, behind all others.
    pub(super) fn append(&self, mut with: Vec<u8>) -> Edit {
        let at = self.items.last().map_or(self.open, |last| last.value.end);
        if !self.items.is_empty() {
            with.insert(0, b',');
        }
        Edit { span: at..at, with }
    }

    /// Puts an element before all others, of which some stay.
    pub(super) fn prepend(&self, mut with: Vec<u8>, stays: bool) -> Edit {
        if stays {
            with.push(b',');
        }
        Edit { span: self.open..self.open, with }
    }

    /// Removes the items at these indices, in order, each with one comma, and leaves every byte around them.
    pub(super) fn remove(&self, gone: &[usize]) -> Vec<Edit> {
        let gone = |index: usize| gone.binary_search(&index).is_ok();
        let mut edits = Vec::new();
        let count = self.items.len();
        let mut index = 0;
        while index < count {
            if !gone(index) {
                index += 1;
                continue;
            }
            let first = index;
            while index < count && gone(index) {
                index += 1;
            }
            let span = match (first, index) {
                (_, next) if next < count => self.extent(first).start..self.extent(next).start,
                (0, _) => self.extent(0).start..self.extent(count - 1).end,
                _ => self.extent(first - 1).end..self.extent(count - 1).end,
            };
            edits.push(Edit { span, with: Vec::new() });
        }
        edits
    }

    fn extent(&self, index: usize) -> Range<usize> {
        let ItemSpan { key, value } = &self.items[index];
        if self.is_object { key.start - 1..value.end } else { value.clone() }
    }
}
