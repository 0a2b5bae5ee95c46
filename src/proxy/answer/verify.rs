//! Verifies a whole answer against the tool results and documents that its model had.
//!
//! Knows nothing of sockets: what holds the header back until then is `replay`'s.

use crate::classify::{Classifier, Findings, GroundednessInput, Unknown};
use crate::openai::{AnswerPiece, Api, Assembler, ChatRequest, Format, choice_texts};
use crate::policy::{HallucinationAction, HallucinationGuard};
use crate::telemetry::{GuardRecord, millis};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most of an answer that is held back or collected, in bytes; a longer one is not verified.
pub(in crate::proxy) const MAX_ANSWER: usize = 4 << 20;

/// How many choices of an answer are verified.
const MAX_CHOICES: usize = 16;

/// The longest list of spans that a header carries, in bytes.
const MAX_SPANS: usize = 1024;

/// An answer that is to be verified once it is whole.
pub(in crate::proxy) struct VerifyStage {
    api: Api,
    is_stream: bool,
    assembler: Assembler,
    /// How many bytes the client has got.
    bytes: usize,
    context: String,
    question: String,
    classifier: Arc<Classifier>,
    guard: HallucinationGuard,
    result: VerifyResult,
}

/// An answer and what it is verified against.
pub(super) struct VerifiedAnswer<'a> {
    pub(super) format: Format,
    pub(super) api: Api,
    pub(super) request: &'a ChatRequest,
    /// Tool results and documents; not empty.
    pub(super) context: String,
}

enum VerifyResult {
    Pending,
    /// Without an outcome where there was nothing to verify.
    Done(Option<VerifyOutcome>),
}

/// How an answer was verified.
pub(in crate::proxy) struct VerifyOutcome {
    /// What the classifier says of each choice.
    pub(in crate::proxy) findings: Vec<Findings>,
    pub(in crate::proxy) took: Duration,
    /// The unsupported spans, where the client may know them.
    spans: Vec<String>,
    /// The highest confidence in one of them.
    worst: Option<f32>,
    unknown: Option<Unknown>,
}

impl VerifyStage {
    /// Sets up the verification of an answer against the context that its request gave the model.
    pub(super) fn new(
        answer: VerifiedAnswer<'_>,
        guard: HallucinationGuard,
        classifier: &Arc<Classifier>,
    ) -> Self {
        let VerifiedAnswer { format, api, request, context } = answer;
        Self {
            api,
            is_stream: format == Format::EventStream,
            assembler: Assembler::new(format, api, MAX_ANSWER),
            bytes: 0,
            context,
            question: request.prompt_text().into_owned(),
            classifier: Arc::clone(classifier),
            guard,
            result: VerifyResult::Pending,
        }
    }

    /// Takes the next piece of what the client gets.
    pub(super) fn take(&mut self, piece: AnswerPiece<'_>) {
        self.assembler.take(piece);
    }

    /// Returns how many bytes are held.
    pub(super) fn held(&self) -> usize {
        self.assembler.held()
    }

    /// Counts what the client gets.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether the answer's header waits for the outcome.
    pub(super) fn holds_header(&self) -> bool {
        let is_pending = matches!(self.result, VerifyResult::Pending);
        is_pending && self.guard.action == HallucinationAction::Header && !self.is_stream
    }

    /// Verifies the whole answer, once; nothing if there is nothing to verify: it broke off, or has no text.
    pub(super) async fn judge(&mut self) -> Option<&VerifyOutcome> {
        if matches!(self.result, VerifyResult::Pending) {
            let outcome = match self.assembler.finish() {
                Some(whole) => self.verify(&whole).await,
                None => (self.bytes > MAX_ANSWER).then(|| VerifyOutcome::unknown(Unknown::TooLong)),
            };
            self.result = VerifyResult::Done(outcome);
        }
        match &self.result {
            VerifyResult::Done(outcome) => outcome.as_ref(),
            VerifyResult::Pending => None,
        }
    }

    /// Lets the answer go unverified.
    pub(super) fn skip(&mut self, reason: Unknown) {
        self.result = VerifyResult::Done(Some(VerifyOutcome::unknown(reason)));
    }

    /// Returns the outcome, or what is still to be verified.
    pub(super) fn finish(self) -> (Option<VerifyOutcome>, Option<Self>) {
        match self.result {
            VerifyResult::Done(outcome) => (outcome, None),
            VerifyResult::Pending => (None, Some(self)),
        }
    }

    async fn verify(&self, whole: &[u8]) -> Option<VerifyOutcome> {
        let began = Instant::now();
        let answers = choice_texts(self.api, whole);
        let deadline = began + self.guard.deadline;
        let (context, question) = (self.context.as_str(), self.question.as_str());
        let judged = answers.iter().take(MAX_CHOICES);
        let judged = judged
            .map(|answer| self.classifier.verify(GroundednessInput { context, question, answer }, deadline));
        let findings = futures::future::join_all(judged).await;
        if findings.is_empty() {
            return None;
        }
        let unknown = (answers.len() > MAX_CHOICES).then_some(Unknown::TooLong);
        let took = began.elapsed();
        let mut outcome = VerifyOutcome { took, spans: Vec::new(), worst: None, unknown, findings };
        for (findings, answer) in outcome.findings.iter().zip(&answers) {
            match &findings.hallucination {
                Some(Ok(doubts)) => {
                    for doubt in doubts {
                        outcome.worst = Some(outcome.worst.unwrap_or(0.0).max(doubt.confidence));
                        let span = answer.get(doubt.bytes.clone()).filter(|_| self.guard.spans);
                        outcome.spans.extend(span.map(str::to_owned));
                    }
                }
                Some(Err(Unknown::Empty)) | None => {}
                Some(Err(reason)) => outcome.unknown = Some(*reason),
            }
        }
        Some(outcome)
    }
}

impl VerifyOutcome {
    fn unknown(reason: Unknown) -> Self {
        let (findings, spans) = (Vec::new(), Vec::new());
        Self { findings, took: Duration::ZERO, spans, worst: None, unknown: Some(reason) }
    }

    /// Whether anything of the answer is unsupported.
    pub(super) fn is_unsupported(&self) -> bool {
        self.worst.is_some()
    }

    /// Returns the headers that report the outcome.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        if !self.is_unsupported() {
            return Vec::new();
        }
        let mut headers = vec![
            ("x-vsr-hallucination-detected", "true".to_owned()),
            ("x-vsr-response-warnings", "hallucination".to_owned()),
        ];
        if !self.spans.is_empty() {
            headers.push(("x-vsr-hallucination-spans", listed(&self.spans)));
        }
        headers
    }

    /// Records the outcome for the log and the metrics.
    pub(super) fn record(&self, guards: &mut GuardRecord) {
        guards.hallucination = self.worst;
        guards.verify_ms = (!self.findings.is_empty()).then(|| millis(self.took));
        if let Some(reason) = self.unknown {
            guards.unjudged.push(("hallucination", reason.as_str()));
        }
    }
}

/// Writes as many of the spans as fit, as a JSON list that a header can carry.
fn listed(spans: &[String]) -> String {
    let mut list = String::from("[");
    for span in spans {
        let comma = if list.len() > 1 { "," } else { "" };
        let room = MAX_SPANS.saturating_sub(list.len() + comma.len() + "\"\"]".len());
        let inside = ascii(span, room);
        if inside.is_empty() {
            break;
        }
        let _ = write!(list, "{comma}\"{inside}\"");
    }
    list + "]"
}

/// Writes a text as it stands between the quotes of a JSON string, in visible ASCII alone; what does not fit is cut off.
fn ascii(text: &str, room: usize) -> String {
    let mut inside = String::new();
    for character in text.chars() {
        let before = inside.len();
        match character {
            '"' | '\\' => inside.extend(['\\', character]),
            ' '..='~' => inside.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(inside, "\\u{unit:04x}");
                }
            }
        }
        if inside.len() > room {
            inside.truncate(before);
            break;
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Vec<String> {
        assert!(http::HeaderValue::from_str(header).unwrap().to_str().is_ok(), "{header}");
        assert!(header.len() <= MAX_SPANS, "{}", header.len());
        serde_json::from_str(header).unwrap()
    }

    #[test]
    fn parts_are_a_json_list_that_any_header_can_carry() {
        let parts = ["Zürich", "a \"b\" \\ c\nd\u{7f}", "🦀"].map(str::to_owned);
        assert_eq!(read(&listed(&parts)), parts);
        assert_eq!(listed(&parts[..1]), r#"["Z\u00fcrich"]"#);
    }

    #[test]
    fn a_long_list_is_cut_between_characters_and_stays_json() {
        let part = "🦀".repeat(30);
        let listed = read(&listed(&vec![part.clone(); 9]));
        assert_eq!(listed[..2], [part.clone(), part.clone()]);
        assert!(part.starts_with(listed.last().unwrap()) && listed.len() == 3, "{listed:?}");
        let listed = read(&super::listed(&["x".repeat(5000)]));
        assert_eq!(listed[0].len(), MAX_SPANS - 4);
    }
}
