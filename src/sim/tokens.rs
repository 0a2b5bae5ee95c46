//! Text and tokens: how a text is cut into tokens, and how blocks of them are hashed.
//! It refuses to know the API, the schedule and real tokenizers: a token is a word's piece of at most four bytes
//! with the space before it, which comes near one token to 3.5 characters of English and costs no vocabulary.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A prompt as the scheduler needs it.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenizedPrompt {
    /// How many tokens it has.
    pub(super) tokens: usize,
    /// The chained hash of each full block.
    pub(super) hashes: Vec<u64>,
    /// The bytes after the last full block, which the first generated tokens complete.
    pub(super) tail: Vec<u8>,
    /// A hash of the whole prompt, the seed of what is generated.
    pub(super) digest: u64,
    source: PromptSource,
}

/// What a prompt is made of.
#[derive(Debug, Clone)]
enum PromptSource {
    Text(Box<str>),
    Ids(Box<[u64]>),
}

impl Default for PromptSource {
    fn default() -> Self {
        Self::Ids(Box::default())
    }
}

impl TokenizedPrompt {
    /// Cuts a text into tokens and blocks of `block_size` tokens.
    pub(super) fn of_text(text: &str, block_size: usize) -> Self {
        let source = PromptSource::Text(text.into());
        let mut prompt = Self { digest: xxh3_64_with_seed(text.as_bytes(), 0), source, ..Self::default() };
        let (mut at, mut block_start, mut chain) = (0, 0, 0);
        while at < text.len() {
            at += piece(&text[at..]);
            prompt.tokens += 1;
            if prompt.tokens.is_multiple_of(block_size) {
                chain = xxh3_64_with_seed(&text.as_bytes()[block_start..at], chain);
                prompt.hashes.push(chain);
                block_start = at;
            }
        }
        prompt.tail = text.as_bytes()[block_start..].to_vec();
        prompt
    }

    /// Takes token ids as they are.
    pub(super) fn of_ids(ids: &[u64], block_size: usize) -> Self {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let (digest, source) = (xxh3_64_with_seed(&bytes, 0), PromptSource::Ids(ids.into()));
        let mut prompt = Self { tokens: ids.len(), digest, source, ..Self::default() };
        let mut blocks = bytes.chunks_exact(block_size * size_of::<u64>());
        for block in &mut blocks {
            let chain = xxh3_64_with_seed(block, prompt.chain());
            prompt.hashes.push(chain);
        }
        prompt.tail = blocks.remainder().to_vec();
        prompt
    }

    /// The ids of its tokens.
    pub(super) fn ids(&self) -> Vec<u64> {
        match &self.source {
            PromptSource::Text(text) => ids_of(text),
            PromptSource::Ids(ids) => ids.to_vec(),
        }
    }

    /// The hash that the next full block's hash is chained to.
    pub(super) fn chain(&self) -> u64 {
        self.hashes.last().copied().unwrap_or_default()
    }
}

/// Names a full block that follows the block named `chain`.
pub(super) fn block_hash(block: &[u8], chain: u64) -> u64 {
    xxh3_64_with_seed(block, chain)
}

/// Lists the token ids of a text; an id holds its piece's bytes, so that `text_of` needs no vocabulary.
pub(super) fn ids_of(text: &str) -> Vec<u64> {
    let mut ids = Vec::with_capacity(text.len() / 3);
    let mut at = 0;
    while at < text.len() {
        let end = at + piece(&text[at..]);
        let bytes = &text.as_bytes()[at..end];
        let (space, rest) = match bytes {
            [b' ', rest @ ..] => (1_u64 << 32, rest),
            all => (0, all),
        };
        ids.push(rest.iter().rev().fold(0_u64, |id, byte| id << 8 | u64::from(*byte)) | space);
        at = end;
    }
    ids
}

/// Gives back the text of token ids.
pub(super) fn text_of(ids: &[u64]) -> String {
    let mut bytes = Vec::with_capacity(ids.len() * 4);
    for id in ids {
        if id >> 32 & 1 == 1 {
            bytes.push(b' ');
        }
        bytes.extend((id & 0xffff_ffff).to_le_bytes().into_iter().filter(|byte| *byte != 0));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Measures the first token of a text: a newline, or an optional space and at most four bytes of a word.
pub(super) fn piece(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes[0] == b'\n' {
        return 1;
    }
    let start = usize::from(bytes[0] == b' ');
    let mut end = (start + 4).min(bytes.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let word = &bytes[start..end];
    let length = word.iter().position(|byte| matches!(byte, b' ' | b'\n')).unwrap_or(word.len());
    start + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_pieces_of_words() {
        let text = "Hello big  world\n\nünïcødé 東京タワー";
        let ids = ids_of(text);
        assert_eq!(text_of(&ids), text);
        assert_eq!(TokenizedPrompt::of_text(text, 16).tokens, ids.len());
        assert_eq!(ids_of("the quick fox\n").len(), 5);
    }

    #[test]
    fn equal_beginnings_have_equal_blocks() {
        let common = "one two three four five six seven eight nine ten ".repeat(4);
        let a = TokenizedPrompt::of_text(&format!("{common}left"), 16);
        let b = TokenizedPrompt::of_text(&format!("{common}right turn"), 16);
        let shared = a.hashes.iter().zip(&b.hashes).take_while(|(x, y)| x == y).count();
        assert!(shared >= 3, "{shared} of {}", a.hashes.len());
        assert_ne!(a.digest, b.digest);
    }
}
