//! Replaces spans of a body and leaves every other byte as it was.
//!
//! Refuses to know what the bytes mean.

use std::ops::Range;

use bytes::Bytes;

/// One replacement: the bytes of `span` give way to `with`; an empty span inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes of the body go.
    pub span: Range<usize>,
    /// What replaces them.
    pub with: Vec<u8>,
}

/// Applies `edits`, which are sorted, inside the body and do not overlap; without edits nothing is copied.
pub fn splice(body: &Bytes, edits: &[Edit]) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    let gone: usize = edits.iter().map(|edit| edit.span.len()).sum();
    let come: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut spliced = Vec::with_capacity((body.len() + come).saturating_sub(gone));
    let mut kept = 0;
    for edit in edits {
        spliced.extend_from_slice(&body[kept..edit.span.start]);
        spliced.extend_from_slice(&edit.with);
        kept = edit.span.end;
    }
    spliced.extend_from_slice(&body[kept..]);
    Bytes::from(spliced)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_edit_is_no_copy() {
        let body = Bytes::from_static(b"abc");
        assert_eq!(splice(&body, &[]).as_ptr(), body.as_ptr());
    }

    #[test]
    fn edits_replace_insert_and_remove() {
        let body = Bytes::from_static(b"0123456789");
        let edit = |span, with: &str| Edit { span, with: with.as_bytes().to_vec() };
        let edits = [edit(0..0, "<"), edit(1..3, "one two"), edit(3..5, ""), edit(10..10, ">")];
        assert_eq!(splice(&body, &edits), "<0one two56789>");
    }

    proptest! {
        #[test]
        fn what_is_outside_the_edits_stays(parts in prop::collection::vec((".{0,9}", ".{0,9}", ".{0,9}"), 0..6)) {
            let (mut before, mut after, mut edits) = (String::new(), String::new(), Vec::new());
            for (kept, old, new) in &parts {
                before += kept;
                after += kept;
                edits.push(Edit { span: before.len()..before.len() + old.len(), with: new.clone().into_bytes() });
                before += old;
                after += new;
            }
            prop_assert_eq!(splice(&Bytes::from(before), &edits), after);
        }
    }
}
