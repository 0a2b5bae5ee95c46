//! The texts of a request, read once for all its signals, as far as they are needed.

use std::borrow::Cow;

use super::inputs::SignalInputs;
use super::judged::JudgedBlock;
use crate::classify::ClassifyHeads;
use crate::openai::{ChatRequest, MessageText, Role};

pub(super) struct SignalTexts<'a> {
    /// Every text; none where the prompt is enough.
    all: Vec<MessageText<'a>>,
    /// The prompt, where it is not among them.
    prompt: Cow<'a, str>,
    prompt_at: Option<usize>,
    /// The places of the user's messages before the prompt, the latest first.
    earlier: Vec<usize>,
    /// What guards judge.
    pub(super) judged: Vec<JudgedBlock<'a>>,
}

impl<'a> SignalTexts<'a> {
    pub(super) fn read(request: &'a ChatRequest, inputs: &SignalInputs) -> Self {
        let judged = inputs.judged.blocks(request);
        if !inputs.all_texts {
            let prompt = request.prompt_text();
            return Self { all: Vec::new(), prompt, prompt_at: None, earlier: Vec::new(), judged };
        }
        let all = request.message_texts();
        let prompt_at = all.iter().position(|text| text.is_prompt);
        let before = all[..prompt_at.unwrap_or(0)].iter().enumerate().rev();
        let by_user = before.filter(|(_, text)| text.role == Role::User).map(|(place, _)| place);
        let earlier = by_user.take(usize::from(inputs.lookback)).collect();
        Self { prompt: Cow::Borrowed(""), prompt_at, earlier, all, judged }
    }

    pub(super) fn prompt(&self) -> &str {
        self.prompt_at.map_or(&*self.prompt, |at| &*self.all[at].text)
    }

    /// Returns the places of the user's messages before the prompt, as many as were needed, the latest first.
    pub(super) fn earlier(&self) -> &[usize] {
        &self.earlier
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|text| &*text.text)
    }

    /// Returns the texts beside the prompt with their places, the latest first.
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.all.iter().enumerate().rev();
        all.filter(|(at, _)| Some(*at) != self.prompt_at).map(|(at, text)| (at, &*text.text))
    }

    /// Returns the other texts of which the classifier is asked something, each with its place.
    pub(super) fn asked(&self, inputs: &SignalInputs) -> impl Iterator<Item = AskedText<'_>> {
        let of_all = inputs.others;
        let asked = self.others().map(move |(place, text)| {
            let embedding = self.earlier.contains(&place);
            let questions = of_all.or(ClassifyHeads { embedding, ..ClassifyHeads::NONE });
            AskedText { place, text, questions }
        });
        asked.filter(|asked| !asked.questions.is_empty())
    }

    /// Says whether the model has answered before the prompt.
    pub(super) fn follows_an_answer(&self) -> bool {
        self.all[..self.prompt_at.unwrap_or(0)].iter().any(|text| text.role == Role::Assistant)
    }
}

/// One text beside the prompt, and what the classifier is asked of it.
pub(super) struct AskedText<'t> {
    pub(super) place: usize,
    pub(super) text: &'t str,
    pub(super) questions: ClassifyHeads,
}
