//! Which parts of a window a head judges by themselves: spans of tokens of a few sizes that overlap by half and end with
//! sentences where they can, beside the whole window.
//!
//! A window's tokens are cut into units of 8 to 16 tokens, after the last end of a sentence where there is one; a span is
//! as many units as fit into its size. Depends on the tokens alone, so that a window's spans are the same wherever it
//! stands. Pure: refuses to know states or what is judged.

use std::ops::Range;

use super::special_tokens::EncoderInput;

/// The most tokens of a unit.
const UNIT: usize = 16;
/// The fewest tokens that a unit has before it may end with a sentence.
const MIN_UNIT: usize = 8;

/// The sizes of spans, and which tokens end a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpanGrid {
    /// Tokens of a span at most, each a multiple of two units.
    pub(super) sizes: Vec<usize>,
    pub(super) sentence_ends: Vec<u32>,
}

/// The spans of all windows of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BatchSpans {
    /// The rows of the batch that each unit covers.
    pub(super) units: Vec<Range<usize>>,
    /// The units of each span.
    pub(super) spans: Vec<Range<usize>>,
    /// The spans of each window; none where the window is as short as one.
    pub(super) windows: Vec<Range<usize>>,
}

impl SpanGrid {
    /// Says what is wrong with it, if anything is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let is_odd = |size: &usize| *size == 0 || !size.is_multiple_of(2 * UNIT);
        if self.sizes.is_empty() || self.sizes.iter().any(is_odd) {
            return Some("a size of spans is no multiple of 32");
        }
        None
    }

    /// Lays spans over the judged tokens of each window.
    pub(super) fn lay(&self, input: &EncoderInput) -> BatchSpans {
        let mut batch = BatchSpans::default();
        for judged in &input.judged {
            let from = batch.spans.len();
            let first = batch.units.len();
            let ends = self.unit_ends(&input.ids[judged.clone()]);
            let mut start = judged.start;
            for end in ends {
                batch.units.push(start..judged.start + end);
                start = judged.start + end;
            }
            self.lay_spans(first, &mut batch);
            batch.windows.push(from..batch.spans.len());
        }
        batch
    }

    /// Cuts tokens into units; returns where each ends.
    fn unit_ends(&self, ids: &[u32]) -> Vec<usize> {
        let mut ends = Vec::with_capacity(ids.len() / MIN_UNIT + 1);
        let mut start = 0;
        while ids.len() - start > UNIT {
            let may_end = (start + MIN_UNIT - 1..start + UNIT).rev();
            let last = may_end.into_iter().find(|at| self.sentence_ends.contains(&ids[*at]));
            start = last.map_or(start + UNIT, |at| at + 1);
            ends.push(start);
        }
        if start < ids.len() {
            ends.push(ids.len());
        }
        ends
    }

    /// Adds the spans over the units from `first` on, but not one over all of them.
    fn lay_spans(&self, first: usize, batch: &mut BatchSpans) {
        let units = &batch.units;
        for size in &self.sizes {
            for start in (first..units.len()).step_by(size / (2 * UNIT)) {
                let fits = |end: &usize| units[*end].end - units[start].start <= *size;
                let end = (start..units.len()).take_while(fits).last().map_or(start, |last| last + 1);
                if (start, end) != (first, units.len()) {
                    batch.spans.push(start..end);
                }
                if end == units.len() {
                    break;
                }
            }
        }
    }
}

impl BatchSpans {
    /// The rows of the batch that a span covers.
    pub(super) fn rows(&self, span: usize) -> Range<usize> {
        let units = &self.spans[span];
        self.units[units.start].start..self.units[units.end - 1].end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END: u32 = 1012;

    fn grid() -> SpanGrid {
        SpanGrid { sizes: vec![32, 64, 128], sentence_ends: vec![END] }
    }

    fn batch(windows: &[Vec<u32>]) -> (EncoderInput, BatchSpans) {
        let mut input = EncoderInput { starts: vec![0], ..EncoderInput::default() };
        for window in windows {
            let from = input.ids.len() + 1;
            input.ids.push(101);
            input.ids.extend(window);
            input.ids.push(102);
            input.judged.push(from..from + window.len());
            input.starts.push(input.ids.len());
        }
        let spans = grid().lay(&input);
        (input, spans)
    }

    fn rows(window: Vec<u32>) -> Vec<Range<usize>> {
        let spans = batch(&[window]).1;
        (0..spans.spans.len()).map(|span| spans.rows(span)).map(|rows| rows.start - 1..rows.end - 1).collect()
    }

    #[test]
    fn a_window_as_short_as_a_span_has_none() {
        assert!(rows(vec![5; 32]).is_empty() && rows(vec![]).is_empty() && rows(vec![5]).is_empty());
    }

    #[test]
    fn spans_overlap_by_half_at_every_size() {
        assert_eq!(rows(vec![5; 40]), [0..32, 16..40]);
        let long = rows(vec![5; 160]);
        let of = |size: usize| long.iter().filter(|span| span.len() == size).cloned().collect::<Vec<_>>();
        assert_eq!(of(64), [0..64, 32..96, 64..128, 96..160]);
        assert_eq!((of(128).len(), of(128)[0].clone()), (1, 0..128));
        assert_eq!(long.last(), Some(&(64..160)), "the last one of a size ends with the window");
    }

    #[test]
    fn a_span_ends_with_a_sentence_where_one_ends_in_time() {
        let mut ids = vec![5; 60];
        (ids[9], ids[21], ids[24]) = (END, END, END);
        // The units end after 10, 25 (the later of two), 41 and 57 tokens.
        assert_eq!(rows(ids)[..2], [0..25, 10..41]);
    }

    #[test]
    fn sizes_that_units_do_not_fill_are_refused() {
        let fault = |sizes: &[usize]| SpanGrid { sizes: sizes.to_vec(), sentence_ends: vec![] }.fault();
        assert!(fault(&[]).is_some() && fault(&[0]).is_some() && fault(&[32, 40]).is_some());
        assert_eq!(fault(&[32, 64]), None);
    }

    proptest! {
        #[test]
        fn spans_stay_in_their_window_and_leave_no_token_out(
            windows in proptest::collection::vec(proptest::collection::vec(prop_oneof![9 => 5..9_u32, 1 => Just(END)], 0..300), 0..5),
        ) {
            let (input, spans) = batch(&windows);
            prop_assert_eq!(spans.windows.len(), windows.len());
            for (judged, of_window) in input.judged.iter().zip(&spans.windows) {
                let rows: Vec<_> = of_window.clone().map(|span| spans.rows(span)).collect();
                prop_assert!(rows.iter().all(|rows| judged.start <= rows.start && rows.end <= judged.end));
                prop_assert!(rows.iter().all(|rows| (1..=128).contains(&rows.len()) && rows != judged));
                let in_some = |at: usize| rows.iter().any(|rows| rows.len() <= 32 && rows.contains(&at));
                prop_assert!(judged.len() <= 32 || judged.clone().all(in_some));
            }
        }

        #[test]
        fn a_windows_spans_do_not_depend_on_its_neighbours(
            one in proptest::collection::vec(prop_oneof![9 => 5..9_u32, 1 => Just(END)], 0..300), before in 0..100_usize,
        ) {
            let alone = rows(one.clone());
            let (input, spans) = batch(&[vec![5; before], one]);
            let start = input.judged[1].start;
            let beside: Vec<_> = spans.windows[1].clone().map(|span| spans.rows(span)).collect();
            let beside: Vec<_> = beside.into_iter().map(|rows| rows.start - start..rows.end - start).collect();
            prop_assert_eq!(alone, beside);
        }
    }
}
