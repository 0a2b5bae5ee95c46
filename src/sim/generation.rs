//! What the model generates: made-up words, a length and a reason to end, the same for the same seed.
//! It refuses to know the API and the schedule.

use super::tokens::piece;

/// The vocabulary; no word needs escaping in JSON.
const WORDS: &[&str] = &[
    "the", "a", "signal", "line", "train", "switch", "model", "answer", "of", "and", "to", "in", "that",
    "which", "runs", "waits", "moves", "holds", "each", "every", "green", "quiet", "early", "late", "north",
    "south", "station", "bridge", "morning", "with", "from", "over", "under", "before", "after", "near",
    "one", "two", "three", "keeps", "carries", "turns", "reads", "writes", "short", "long", "simple",
    "clear", "track", "platform", "driver", "message", "number", "question", "reason", "table", "paper",
    "river", "valley", "is", "was", "will", "can", "not",
];

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SimFinishReason {
    /// The model ended by itself, or a stop string came up.
    Stop,
    /// The token limit was reached.
    Length,
}

impl SimFinishReason {
    /// The name in responses and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What decides a generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct SamplingParams<'a> {
    /// Equal seeds give equal texts.
    pub(super) seed: u64,
    /// The length in tokens at which the model ends by itself.
    pub(super) natural_tokens: usize,
    /// The most tokens allowed.
    pub(super) max_tokens: usize,
    /// The strings that end a generation and are not part of it.
    pub(super) stops: &'a [String],
}

/// A generated text and where its tokens end.
#[derive(Debug, Clone)]
pub(super) struct Generation {
    pub(super) text: String,
    /// For each token, where it ends in `text`; tokens of a stop string end at the end of the text.
    pub(super) ends: Vec<usize>,
    pub(super) finish: SimFinishReason,
    /// The stop string that ended it.
    pub(super) stopped_by: Option<String>,
}

impl Generation {
    pub(super) fn new(params: SamplingParams<'_>) -> Self {
        let count = params.natural_tokens.min(params.max_tokens);
        let finish = if params.natural_tokens < params.max_tokens {
            SimFinishReason::Stop
        } else {
            SimFinishReason::Length
        };
        let mut generation =
            Self { text: String::new(), ends: Vec::with_capacity(count + 2), finish, stopped_by: None };
        generation.append_words(params.seed, count);
        generation.truncate_at(params.stops);
        generation
    }

    /// A text that is there already, up to so many tokens.
    pub(super) fn fixed(text: &str, max_tokens: usize) -> Self {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < text.len() && ends.len() < max_tokens {
            at += piece(&text[at..]);
            ends.push(at);
        }
        let finish = if at < text.len() { SimFinishReason::Length } else { SimFinishReason::Stop };
        Self { text: text[..at].to_owned(), ends, finish, stopped_by: None }
    }

    /// The text of the token at `index`.
    pub(super) fn token(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    fn append_words(&mut self, seed: u64, count: usize) {
        let mut random = SplitMix64(seed);
        let mut left_in_sentence = 0;
        while self.ends.len() < count {
            let start = self.text.len();
            if start > 0 {
                self.text.push(' ');
            }
            let number = random.next_u64();
            let word = WORDS[(number % WORDS.len() as u64) as usize];
            if left_in_sentence == 0 {
                left_in_sentence = 6 + (number >> 32) % 8;
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

    fn truncate_at(&mut self, stops: &[String]) {
        let found = stops.iter().filter(|stop| !stop.is_empty());
        let found = found.filter_map(|stop| self.text.find(stop.as_str()).map(|at| (at, stop)));
        let Some((at, stop)) = found.min_by_key(|(at, stop)| at + stop.len()) else { return };
        let end = at + stop.len();
        let tokens =
            self.ends.iter().position(|token| *token >= end).map_or(self.ends.len(), |index| index + 1);
        self.ends.truncate(tokens);
        for end in &mut self.ends {
            *end = (*end).min(at);
        }
        self.text.truncate(at);
        self.finish = SimFinishReason::Stop;
        self.stopped_by = Some(stop.clone());
    }
}

/// `SplitMix64`: a small deterministic generator.
#[derive(Debug, Clone, Copy)]
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    /// Draws 64 bits.
    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a number in `0..1`.
    pub(super) fn next_share(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::ids_of;
    use super::*;

    fn params(stops: &[String]) -> SamplingParams<'_> {
        SamplingParams { seed: 7, natural_tokens: 40, max_tokens: 100, stops }
    }

    #[test]
    fn an_answer_is_its_tokens_and_the_same_every_time() {
        let answer = Generation::new(params(&[]));
        assert_eq!(answer.ends.len(), 40);
        let joined: String = (0..40).map(|i| answer.token(i)).collect();
        assert_eq!(joined, answer.text);
        assert_eq!(Generation::new(params(&[])).text, answer.text);
        assert_eq!(answer.finish, SimFinishReason::Stop);
        assert_eq!(ids_of(&answer.text).len(), 40, "an answer read back as a prompt has the same tokens");
    }

    #[test]
    fn the_limit_ends_an_answer_with_length() {
        let answer = Generation::new(SamplingParams { max_tokens: 10, ..params(&[]) });
        assert_eq!((answer.ends.len(), answer.finish), (10, SimFinishReason::Length));
    }

    #[test]
    fn a_stop_string_is_cut_off_and_named() {
        let whole = Generation::new(params(&[]));
        let stop = whole.text[20..26].to_owned();
        let stops = [stop.clone()];
        let answer = Generation::new(params(&stops));
        assert!(whole.text.starts_with(&answer.text) && !answer.text.contains(&stop));
        assert_eq!(answer.stopped_by, Some(stop));
        let joined: String = (0..answer.ends.len()).map(|i| answer.token(i)).collect();
        assert_eq!(joined, answer.text);
    }
}
