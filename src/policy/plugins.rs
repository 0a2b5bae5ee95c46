//! Owns what the operator wants to be done to requests and answers, checked and final. Refuses to know how it is done.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::signal::{PiiKinds, Scope};
use super::{BasisPoints, ModelId};

/// What is done to the requests of a decision and to their answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plugins {
    /// A system prompt of the operator's.
    pub system_prompt: Option<SystemPrompt>,
    /// Whether, and how hard, the model reasons; as the client says where there is none.
    pub reasoning: Option<Reasoning>,
    /// Changes to the headers that go upstream.
    pub headers: HeaderChanges,
    /// The most tokens of an answer.
    pub max_tokens: Option<u64>,
    /// The most answers to one request.
    pub max_n: Option<u64>,
    /// Fields at the top level of the body that are left out.
    pub remove_params: Vec<String>,
    /// Which tools the model is offered.
    pub tools: Option<Tools>,
    /// A fixed answer instead of a model's.
    pub respond: Option<String>,
    /// Answers that are given again.
    pub cache: Option<CacheUse>,
    /// What is held against requests and answers.
    pub guards: Guards,
}

/// What is held against requests and answers; `None` leaves it to whoever is asked next: a decision's guards stand
/// before its model's, those before the policy's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guards {
    /// What happens to prompts that attack the model.
    pub prompt: Option<PromptGuard>,
    /// What happens to personal data in requests.
    pub pii: Option<PiiGuard>,
    /// What happens to answers.
    pub answer: Option<AnswerGuard>,
}

impl Guards {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A system prompt of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemPrompt {
    /// The text.
    pub text: String,
    /// What becomes of the client's own.
    pub mode: SystemPromptMode,
}

/// What becomes of the client's own system prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemPromptMode {
    /// It is dropped.
    Replace,
    /// It follows.
    Insert,
}

/// Whether, and how hard, a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasoning {
    /// It does not.
    Off,
    /// It does, so hard.
    On(Effort),
}

/// How hard a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A little.
    Low,
    /// Somewhat.
    Medium,
    /// A lot.
    High,
}

impl Effort {
    /// Returns the word for it, as OpenAI's API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How a family of models is told to reason or not to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasoningFamily {
    /// The name that metrics show.
    pub name: String,
    /// Where it is said.
    pub kind: ReasoningKind,
    /// The name of the parameter.
    pub parameter: String,
}

/// Where a model is told to reason or not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasoningKind {
    /// `true` or `false` in `chat_template_kwargs`.
    ChatTemplateKwargs,
    /// `low`, `medium` or `high` at the top level; what is off is `low`, as not every such model can do without.
    ReasoningEffort,
    /// `{"type": "enabled"}` or `{"type": "disabled"}` at the top level.
    Thinking,
}

/// Changes to the headers that go upstream; names in lower case, values valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Headers that get this value, whatever they had.
    pub set: Vec<(String, String)>,
    /// Headers that get this value beside what they have.
    pub add: Vec<(String, String)>,
    /// Headers that are left out.
    pub remove: Vec<String>,
}

impl HeaderChanges {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Which tools the model is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tools {
    /// None.
    None,
    /// Those of the client that these lists leave.
    Filter {
        /// The names that stay; all when empty.
        allow: Vec<String>,
        /// The names that go.
        block: Vec<String>,
    },
    /// Those of the client that fit the prompt.
    Rank(ToolPick),
    /// Those of a file that fit the prompt, instead of the client's.
    Select(ToolPick, Vec<ToolSpec>),
    /// Those of a file that fit the prompt, beside the client's.
    Add(ToolPick, Vec<ToolSpec>),
}

/// How many tools are picked, and how like the prompt they must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolPick {
    /// The most.
    pub top_k: u32,
    /// The least cosine.
    pub min_score: BasisPoints,
}

/// A tool of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it is for, as it is held against prompts.
    pub description: String,
    /// What models are told, as JSON: `{"type": "function", "function": {…}}`.
    pub json: String,
}

/// Answers that are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// The least cosine of two prompts that count as the same; without one they must be equal.
    pub min_score: Option<BasisPoints>,
    /// How long an answer is kept.
    pub ttl: Duration,
    /// Who may be given whose answer.
    pub scope: CacheScope,
}

/// Who may be given whose answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScope {
    /// Only the same user.
    User,
    /// Everyone of the same tenant.
    Tenant,
    /// Everyone.
    All,
}

/// What happens to prompts that attack the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptGuard {
    /// What is done.
    pub action: PromptAction,
    /// The least probability; the classifier's threshold where there is none.
    pub min_score: Option<BasisPoints>,
    /// Which texts are looked at.
    pub scope: Scope,
    /// What happens when there is no answer.
    pub on_unknown: GuardOnUnknown,
}

/// What is done with a prompt that attacks the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptAction {
    /// It is refused.
    Block,
    /// It goes to this model.
    Route(ModelId),
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

/// What happens when a guard has no answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GuardOnUnknown {
    /// The request goes on.
    #[default]
    Allow,
    /// The request is refused.
    Reject,
}

/// What happens to personal data in requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PiiGuard {
    /// What is done.
    pub action: PiiAction,
    /// The kinds that matter.
    pub kinds: PiiKinds,
    /// The least probability; the classifier's threshold where there is none.
    pub min_score: Option<BasisPoints>,
    /// Which texts are looked at.
    pub scope: Scope,
    /// What happens when there is no answer.
    pub on_unknown: GuardOnUnknown,
}

/// What is done with personal data in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PiiAction {
    /// The request is refused.
    Block,
    /// Each piece is replaced by its kind.
    Mask {
        /// Whether the answer gets the masked texts back.
        unmask: bool,
    },
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

/// What happens to answers, as they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerGuard {
    /// What is done with personal data.
    pub pii: AnswerAction,
    /// The kinds that matter.
    pub kinds: PiiKinds,
    /// Whether the answer ends before text that reads like an attack.
    pub cuts_jailbreak: bool,
    /// Words and phrases that must not be said.
    pub words: Words,
    /// What is done where one of them is said.
    pub on_words: AnswerAction,
    /// What happens to text that could not be judged: it passes, or the answer ends before it.
    pub on_unknown: GuardOnUnknown,
    /// What is told of what nothing bears out that the model was told.
    pub hallucination: HallucinationGuard,
}

impl AnswerGuard {
    /// Whether anything is looked at.
    pub fn is_on(&self) -> bool {
        self.watches() || self.hallucination.is_on()
    }

    /// Whether anything is looked at on the way, so that the answer may change.
    pub fn watches(&self) -> bool {
        self.pii != AnswerAction::Off || self.cuts_jailbreak || !self.words.is_empty()
    }
}

/// What is told of an answer that is not borne out by what its model was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HallucinationGuard {
    /// What is done.
    pub action: HallucinationAction,
    /// Whether the client is told which parts of the answer.
    pub spans: bool,
    /// Whether the client is told where facts are needed and nothing is there to check the answer against.
    pub unverified: bool,
    /// How long a whole answer may be judged.
    pub deadline: Duration,
}

impl HallucinationGuard {
    /// Whether anything is told.
    pub fn is_on(&self) -> bool {
        self.action != HallucinationAction::Off || self.unverified
    }
}

/// What is done with an answer that nothing bears out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HallucinationAction {
    /// No answer is looked at.
    #[default]
    Off,
    /// It is counted and logged, once it has gone out.
    Log,
    /// The client is told in headers too, for which the answer is held back until it is judged; of a stream, which is
    /// not held back, it is only counted and logged.
    Header,
}

/// Words and phrases to be found in texts; equal lists are equal.
#[derive(Debug, Clone, Default)]
pub struct Words {
    list: Arc<[String]>,
    /// All of them; none where there are no words.
    pattern: Option<Regex>,
}

impl Words {
    /// Compiles a list; whatever the case, and not inside of longer words.
    pub(super) fn new(list: &[String]) -> Result<Self, regex::Error> {
        if list.is_empty() {
            return Ok(Self::default());
        }
        let is_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let edge = |character| if is_word(character) { r"\b" } else { "" };
        let mut longest_first: Vec<&String> = list.iter().collect();
        longest_first.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let each = longest_first.iter().map(|word| {
            let (before, after) = (edge(word.chars().next()), edge(word.chars().next_back()));
            format!("{before}{}{after}", regex::escape(word))
        });
        let pattern = each.collect::<Vec<_>>().join("|");
        let pattern = RegexBuilder::new(&pattern).case_insensitive(true).build()?;
        Ok(Self { list: list.into(), pattern: Some(pattern) })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many bytes the longest has.
    pub fn longest(&self) -> usize {
        self.list.iter().map(String::len).max().unwrap_or(0)
    }

    /// Finds where they stand in a text, none overlapping another.
    pub fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.pattern.iter().flat_map(|pattern| pattern.find_iter(text)).map(|found| found.range())
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Words {}

/// What is done with a part of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerAction {
    /// Nothing.
    #[default]
    Off,
    /// It is masked.
    Mask,
    /// The answer ends before it.
    Cut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_alone_whatever_their_case() {
        let at = |text: &str, words: &[&str]| -> Vec<Range<usize>> {
            let list: Vec<String> = words.iter().map(ToString::to_string).collect();
            Words::new(&list).unwrap().find(text).collect()
        };
        assert_eq!(at("Bluebird bluebirds BLUEBIRD", &["bluebird"]), [0..8, 19..27]);
        assert_eq!(at("C++ and c++", &["c++"]), [0..3, 8..11]);
        assert_eq!(at("a blue bird, blue sky", &["blue", "blue bird"]), [2..11, 13..17]);
        assert_eq!(at("xa b c", &["a b", "b c"]), vec![3..6]);
        assert!(at("anything", &[]).is_empty());
    }
}
