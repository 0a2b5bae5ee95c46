//! Where the windows of a text lie: spans of tokens at fixed places, counted from the text's start.
//!
//! Text that is appended moves no window that was full before, so that what was found in it stays known. Pure:
//! refuses to know tokens, models or what is asked.

use std::ops::Range;

/// Where windows start and how long they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowGrid {
    window: usize,
    overlap: usize,
}

/// One window over a text's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenWindow {
    /// The places of its tokens.
    pub(super) tokens: Range<usize>,
    /// How many of them the window before does not have.
    pub(super) fresh: usize,
}

impl WindowGrid {
    /// Fits the wanted numbers of tokens into what a model can read; a window has at least one fresh token.
    pub(super) fn new(window: usize, overlap: usize, max_tokens: usize) -> Self {
        let window = window.min(max_tokens).max(1);
        Self { window, overlap: overlap.min(window / 2) }
    }

    /// Lays windows over `tokens`, without a hole; none over nothing.
    pub(super) fn lay(self, tokens: Range<usize>) -> Vec<TokenWindow> {
        let stride = self.window - self.overlap;
        let mut windows = Vec::with_capacity(tokens.len().div_ceil(stride));
        let mut fresh_from = tokens.start;
        let mut start = tokens.start;
        while fresh_from < tokens.end {
            let end = tokens.end.min(start + self.window);
            windows.push(TokenWindow { tokens: start..end, fresh: end - fresh_from });
            (fresh_from, start) = (end, start + stride);
        }
        windows
    }
}

/// Chooses windows from both ends, in turns from the first, while their fresh tokens fit into `limit`; at least one.
///
/// Returns their places in the order of the choice.
pub(super) fn from_both_ends(windows: &[TokenWindow], limit: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    let mut tokens = 0;
    for turn in 0..windows.len() {
        let at = if turn % 2 == 0 { turn / 2 } else { windows.len() - 1 - turn / 2 };
        tokens += windows[at].fresh;
        if tokens > limit && !chosen.is_empty() {
            break;
        }
        chosen.push(at);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lay(window: usize, overlap: usize, tokens: usize) -> Vec<Range<usize>> {
        WindowGrid::new(window, overlap, 512).lay(0..tokens).into_iter().map(|window| window.tokens).collect()
    }

    #[test]
    fn a_short_text_is_one_window_and_nothing_is_none() {
        assert!(lay(256, 32, 0).is_empty());
        assert_eq!(lay(256, 32, 1), vec![0..1; 1]);
        assert_eq!(lay(256, 32, 256), vec![0..256; 1]);
    }

    #[test]
    fn a_longer_text_is_windows_that_overlap() {
        assert_eq!(lay(256, 32, 257), [0..256, 224..257]);
        assert_eq!(lay(4, 1, 10), [0..4, 3..7, 6..10]);
    }

    #[test]
    fn a_window_fits_the_model_and_an_overlap_leaves_it_half() {
        assert_eq!(WindowGrid::new(1000, 900, 510), WindowGrid { window: 510, overlap: 255 });
        assert_eq!(WindowGrid::new(0, 7, 510), WindowGrid { window: 1, overlap: 0 });
    }

    #[test]
    fn both_ends_are_chosen_in_turns_as_far_as_they_fit() {
        let windows = WindowGrid::new(4, 1, 512).lay(0..16);
        assert_eq!(windows.iter().map(|window| window.fresh).collect::<Vec<_>>(), [4, 3, 3, 3, 3]);
        assert_eq!(from_both_ends(&windows, 16), [0, 4, 1, 3, 2]);
        assert_eq!(from_both_ends(&windows, 13), [0, 4, 1, 3]);
        assert_eq!(from_both_ends(&windows, 9), [0, 4]);
        assert_eq!(from_both_ends(&windows, 1), [0]);
        assert_eq!(from_both_ends(&[], 9), [0; 0]);
    }

    proptest! {
        #[test]
        fn windows_cover_every_token_and_count_each_once_as_fresh(
            window in 0..300_usize, overlap in 0..300_usize, max_tokens in 1..300_usize, start in 0..50_usize, len in 0..2000_usize,
        ) {
            let tokens = start..start + len;
            let windows = WindowGrid::new(window, overlap, max_tokens).lay(tokens.clone());
            let mut next = tokens.start;
            for window in &windows {
                prop_assert!(window.tokens.start <= next && window.tokens.len() <= max_tokens);
                prop_assert_eq!(window.tokens.end - next, window.fresh);
                prop_assert!(window.fresh > 0);
                next = window.tokens.end;
            }
            prop_assert_eq!(next, tokens.end);
        }

        #[test]
        fn appended_tokens_move_no_window_that_was_full(
            window in 1..300_usize, overlap in 0..300_usize, len in 0..2000_usize, more in 0..2000_usize,
        ) {
            let grid = WindowGrid::new(window, overlap, 510);
            let (before, after) = (grid.lay(0..len), grid.lay(0..len + more));
            let full = before.iter().filter(|window| window.tokens.len() == grid.window).count();
            prop_assert_eq!(&before[..full], &after[..full]);
            prop_assert!(before.len() - full <= 1);
        }

        #[test]
        fn the_ends_fit_and_are_each_chosen_once(len in 1..2000_usize, limit in 0..3000_usize) {
            let windows = WindowGrid::new(64, 16, 510).lay(0..len);
            let mut chosen = from_both_ends(&windows, limit);
            let tokens: usize = chosen.iter().map(|at| windows[*at].fresh).sum();
            prop_assert!(tokens <= limit || chosen.len() == 1);
            prop_assert!(len > limit || chosen.len() == windows.len());
            let count = chosen.len();
            chosen.sort_unstable();
            chosen.dedup();
            prop_assert_eq!(chosen.len(), count);
        }
    }
}
