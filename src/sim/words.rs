//! Text and tokens: how a text is cut into tokens, how blocks of them are named, and what the model "says".
//! It refuses to know the API, the schedule and real tokenizers: a token is a word's piece of at most four bytes
//! with the space before it, which comes near one token to 3.5 characters of English and costs no vocabulary.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The words that answers are made of; none needs escaping in JSON.
const WORDS: &[&str] = &[
    "the", "a", "signal", "line", "train", "switch", "model", "answer", "of", "and", "to", "in", "that",
    "which", "runs", "waits", "moves", "holds", "each", "every", "green", "quiet", "early", "late", "north",
    "south", "station", "bridge", "morning", "with", "from", "over", "under", "before", "after", "near",
    "one", "two", "three", "keeps", "carries", "turns", "reads", "writes", "short", "long", "simple",
    "clear", "track", "platform", "driver", "message", "number", "question", "reason", "table", "paper",
    "river", "valley", "is", "was", "will", "can", "not",
];

/// A prompt as the scheduler needs it.
#[derive(Debug, Clone, Default)]
pub(super) struct Prompt {
    /// How many tokens it has.
    pub(super) tokens: usize,
    /// The chained hash of each full block.
    pub(super) hashes: Vec<u64>,
    /// The bytes after the last full block, which the answer's first tokens will complete.
    pub(super) tail: Vec<u8>,
    /// A fingerprint of the whole prompt, from which the answer is derived.
    pub(super) digest: u64,
}

impl Prompt {
    /// Cuts a text into tokens and blocks of `block_size` tokens.
    pub(super) fn of_text(text: &str, block_size: usize) -> Self {
        let mut prompt = Self { digest: xxh3_64_with_seed(text.as_bytes(), 0), ..Self::default() };
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
        let mut prompt = Self { tokens: ids.len(), digest: xxh3_64_with_seed(&bytes, 0), ..Self::default() };
        let mut blocks = bytes.chunks_exact(block_size * size_of::<u64>());
        for block in &mut blocks {
            let chain = xxh3_64_with_seed(block, prompt.chain());
            prompt.hashes.push(chain);
        }
        prompt.tail = blocks.remainder().to_vec();
        prompt
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
fn piece(text: &str) -> usize {
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

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model had said everything, or a stop string came up.
    Stop,
    /// The token limit was reached.
    Length,
}

impl Finish {
    /// The API's and the metrics' word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What to say, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brief<'a> {
    /// Where the words come from: equal seeds say the same.
    pub(super) seed: u64,
    /// The length at which the model would end by itself.
    pub(super) natural: usize,
    /// The most tokens allowed.
    pub(super) limit: usize,
    /// The strings that end the answer and are not part of it.
    pub(super) stops: &'a [String],
}

/// A whole answer and where its tokens end.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// What is said.
    pub(super) text: String,
    /// For each token, where it ends in `text`; tokens of a stop string end at the end of the text.
    pub(super) ends: Vec<usize>,
    /// Why it ended.
    pub(super) finish: Finish,
    /// The stop string that ended it.
    pub(super) stopped_by: Option<String>,
}

impl Answer {
    /// Writes the answer to a brief.
    pub(super) fn write(brief: Brief<'_>) -> Self {
        let count = brief.natural.min(brief.limit);
        let finish = if brief.natural < brief.limit { Finish::Stop } else { Finish::Length };
        let mut answer =
            Self { text: String::new(), ends: Vec::with_capacity(count + 2), finish, stopped_by: None };
        answer.say(brief.seed, count);
        answer.cut(brief.stops);
        answer
    }

    /// The text of the token at `index`.
    pub(super) fn token(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    fn say(&mut self, seed: u64, count: usize) {
        let mut dice = Dice(seed);
        let mut left_in_sentence = 0;
        while self.ends.len() < count {
            let start = self.text.len();
            if start > 0 {
                self.text.push(' ');
            }
            let roll = dice.roll();
            let word = WORDS[(roll % WORDS.len() as u64) as usize];
            if left_in_sentence == 0 {
                left_in_sentence = 6 + (roll >> 32) % 8;
                self.text.push(char::from(word.as_bytes()[0].to_ascii_uppercase()));
                self.text.push_str(&word[1..]);
            } else {
                self.text.push_str(word);
            }
            left_in_sentence -= 1;
            if left_in_sentence == 0 {
                self.text.push('.');
            }
            let mut at = start;
            while at < self.text.len() {
                at += piece(&self.text[at..]);
                self.ends.push(at);
            }
        }
        self.ends.truncate(count);
        self.text.truncate(self.ends.last().copied().unwrap_or_default());
    }

    fn cut(&mut self, stops: &[String]) {
        let found = stops.iter().filter(|stop| !stop.is_empty());
        let found = found.filter_map(|stop| self.text.find(stop.as_str()).map(|at| (at, stop)));
        let Some((at, stop)) = found.min_by_key(|(at, stop)| at + stop.len()) else { return };
        let said = at + stop.len();
        let tokens = self.ends.iter().position(|end| *end >= said).map_or(self.ends.len(), |index| index + 1);
        self.ends.truncate(tokens);
        for end in &mut self.ends {
            *end = (*end).min(at);
        }
        self.text.truncate(at);
        self.finish = Finish::Stop;
        self.stopped_by = Some(stop.clone());
    }
}

/// `SplitMix64`: a small deterministic generator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Rolls 64 bits.
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Rolls a share in `0..1`.
    pub(super) fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(stops: &[String]) -> Brief<'_> {
        Brief { seed: 7, natural: 40, limit: 100, stops }
    }

    #[test]
    fn tokens_are_pieces_of_words() {
        let text = "Hello big  world\n\nünïcødé 東京タワー";
        let ids = ids_of(text);
        assert_eq!(text_of(&ids), text);
        assert_eq!(Prompt::of_text(text, 16).tokens, ids.len());
        assert_eq!(ids_of("the quick fox\n").len(), 5);
    }

    #[test]
    fn equal_beginnings_have_equal_blocks() {
        let common = "one two three four five six seven eight nine ten ".repeat(4);
        let a = Prompt::of_text(&format!("{common}left"), 16);
        let b = Prompt::of_text(&format!("{common}right turn"), 16);
        let shared = a.hashes.iter().zip(&b.hashes).take_while(|(x, y)| x == y).count();
        assert!(shared >= 3, "{shared} of {}", a.hashes.len());
        assert_ne!(a.digest, b.digest);
    }

    #[test]
    fn an_answer_is_its_tokens_and_the_same_every_time() {
        let answer = Answer::write(brief(&[]));
        assert_eq!(answer.ends.len(), 40);
        let joined: String = (0..40).map(|i| answer.token(i)).collect();
        assert_eq!(joined, answer.text);
        assert_eq!(Answer::write(brief(&[])).text, answer.text);
        assert_eq!(answer.finish, Finish::Stop);
        assert_eq!(ids_of(&answer.text).len(), 40, "an answer read back as a prompt has the same tokens");
    }

    #[test]
    fn the_limit_ends_an_answer_with_length() {
        let answer = Answer::write(Brief { limit: 10, ..brief(&[]) });
        assert_eq!((answer.ends.len(), answer.finish), (10, Finish::Length));
    }

    #[test]
    fn a_stop_string_is_cut_off_and_named() {
        let whole = Answer::write(brief(&[]));
        let stop = whole.text[20..26].to_owned();
        let stops = [stop.clone()];
        let answer = Answer::write(brief(&stops));
        assert!(whole.text.starts_with(&answer.text) && !answer.text.contains(&stop));
        assert_eq!(answer.stopped_by, Some(stop));
        let joined: String = (0..answer.ends.len()).map(|i| answer.token(i)).collect();
        assert_eq!(joined, answer.text);
    }
}
