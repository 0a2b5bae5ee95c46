//! The part of a text that is tokenized: without the white space around it, and without its middle where it is long.
//!
//! Bounds the work for a text before there are tokens to count. Knows nothing of models or windows.

/// A token spans fewer bytes than this on average, in every tokenizer known here.
pub(super) const MAX_BYTES_PER_TOKEN: usize = 8;

#[derive(Debug)]
pub(super) struct Excerpt {
    pieces: Vec<Piece>,
    /// Bytes of the trimmed text, those that were left out included.
    len: usize,
    /// Characters of white space before the text.
    pub(super) leading_chars: usize,
}

#[derive(Debug)]
pub(super) struct Piece {
    /// The byte of the whole text where the piece starts.
    pub(super) start: usize,
    pub(super) text: String,
}

impl Excerpt {
    /// Copies as much of a text as `max_tokens` tokens can span, from both ends.
    pub(super) fn new(text: &str, max_tokens: usize) -> Self {
        let start = text.len() - text.trim_start().len();
        let leading_chars = text[..start].chars().count();
        let text = text.trim();
        let piece = |from: usize, text: &str| Piece { start: start + from, text: text.to_owned() };
        let limit = max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN);
        let pieces = if text.len() <= limit {
            vec![piece(0, text)]
        } else {
            let head = text.floor_char_boundary(limit / 2);
            let tail = text.ceil_char_boundary(text.len() - limit / 2);
            vec![piece(0, &text[..head]), piece(tail, &text[tail..])]
        };
        Self { pieces, len: text.len(), leading_chars }
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns the text, if nothing was left out.
    pub(super) fn whole(&self) -> Option<&Piece> {
        match &self.pieces[..] {
            [piece] => Some(piece),
            _ => None,
        }
    }

    /// Estimates the tokens of the trimmed text from those of the pieces.
    pub(super) fn estimate_tokens(&self, tokens: usize) -> f32 {
        let bytes: usize = self.pieces.iter().map(|piece| piece.text.len()).sum();
        tokens as f32 * self.len as f32 / bytes.max(1) as f32
    }
}
