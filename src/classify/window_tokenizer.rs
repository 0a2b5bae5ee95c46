//! `tokenizer.json`: from texts to token ids, and the special tokens around them.
//!
//! Knows nothing of encoders, nor of where windows lie in a text.

use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_128;

use super::ClassifyHead;
use super::backend::{ModelError, TokenizedText};
use super::load_error::LoadError;
use super::model_files::ModelFiles;
use super::special_tokens::SpecialTokens;
use super::timed_pattern::{TimedTokenizer, encode};
use super::tokenizer_patterns::check_patterns;

/// How vocabularies name the token for what they lack.
const UNKNOWN_TOKENS: [&str; 2] = ["[UNK]", "<unk>"];

pub(super) struct WindowTokenizer {
    tokenizer: TimedTokenizer,
    /// Around pairs where the model judges pairs, else around single windows.
    pub(super) special_tokens: SpecialTokens,
    /// What stands for signs that the vocabulary lacks; none where it has every byte.
    pub(super) unknown: Option<u32>,
    /// A hash of the file.
    pub(super) digest: u128,
    prompt: Option<Prompt>,
}

/// What stands before each text that the model reads.
struct Prompt {
    text: String,
    /// So many of its bytes are tokens of their own whatever follows.
    bytes: usize,
}

impl WindowTokenizer {
    /// Reads the file in `folder` or, where it has none, the one beside it.
    pub(super) fn read(
        files: &ModelFiles,
        folder: &str,
        assigned: Option<ClassifyHead>,
    ) -> Result<Self, LoadError> {
        let own = format!("{folder}tokenizer.json");
        let name = if files.has(&own)? { own } else { "tokenizer.json".to_owned() };
        let bytes = files.read(&name)?;
        let path: PathBuf = files.path(&name);
        let wrong = |source| LoadError::Tokenizer { path: path.clone(), source };
        check_patterns(&path, &bytes)?;
        let tokenizer = without_truncation(&bytes).map_err(wrong)?;
        let special_tokens = match assigned {
            Some(ClassifyHead::Hallucination) => SpecialTokens::of_pairs(&tokenizer).map_err(wrong)?,
            _ => Some(SpecialTokens::of_texts(&tokenizer).map_err(wrong)?),
        };
        let special_tokens = special_tokens.ok_or_else(|| LoadError::Unsupported {
            path: path.clone(),
            reason: "it puts nothing between the two texts of a pair".to_owned(),
        })?;
        let unknown = UNKNOWN_TOKENS.iter().find_map(|name| tokenizer.token_to_id(name));
        Ok(Self { tokenizer, special_tokens, unknown, digest: xxh3_128(&bytes), prompt: None })
    }

    /// Has every window begin with a prompt. Its last characters may share a token with a text's first.
    pub(super) fn put_before(&mut self, text: String) -> tokenizers::Result<()> {
        let encoding = self.tokenizer.encode(format!("{text}a").as_str(), false)?;
        let inside = encoding.get_offsets().iter().take_while(|(_, end)| *end <= text.len());
        let tokens = inside.clone().count();
        let bytes = inside.last().map_or(0, |(_, end)| *end);
        self.special_tokens.push_before(&encoding.get_ids()[..tokens]);
        self.prompt = Some(Prompt { text, bytes });
        Ok(())
    }

    pub(super) fn tokenize(&self, text: &str) -> Result<TokenizedText, ModelError> {
        let Some(prompt) = &self.prompt else {
            let encoding = encode(&self.tokenizer, text)?;
            let bytes = encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect();
            return Ok(TokenizedText { ids: encoding.get_ids().to_vec(), bytes });
        };
        let encoding = encode(&self.tokenizer, &format!("{}{text}", prompt.text))?;
        let from = |at: usize| at.saturating_sub(prompt.text.len());
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        let of_text = tokens.filter(|(_, (start, end))| *start >= prompt.bytes && *end > prompt.bytes);
        let (ids, bytes) = of_text.map(|(id, (start, end))| (*id, from(*start)..from(*end))).unzip();
        Ok(TokenizedText { ids, bytes })
    }
}

/// Windows are cut by their planner and batches have no padding, whatever the file says.
fn without_truncation(bytes: &[u8]) -> tokenizers::Result<TimedTokenizer> {
    let mut tokenizer = TimedTokenizer::from_bytes(bytes)?;
    tokenizer.with_truncation(None)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}
