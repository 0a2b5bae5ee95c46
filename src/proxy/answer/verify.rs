//! Owns whether an answer is borne out by what its model was told: what is collected of it on its way, what is found,
//! and what is told of that.
//!
//! Knows nothing of sockets: when an answer is whole, it is told.

use crate::classify::{Classifier, Findings, GroundednessInput, Unknown};
use crate::openai::{Api, Assembler, ChatRequest, Format, choice_texts};
use crate::policy::{HallucinationAction, HallucinationGuard};
use crate::proxy::exchange::Exchange;
use crate::telemetry::{GuardRecord, millis};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most of an answer that is held back or collected; a longer one is not judged.
pub(in crate::proxy) const MAX_ANSWER: usize = 4 << 20;

/// How many choices of an answer are judged.
const MAX_CHOICES: usize = 16;

/// The longest list of parts that a header carries.
const MAX_SPANS: usize = 1024;

/// An answer that is to be judged once it is whole.
pub(in crate::proxy) struct VerifyStage {
    api: Api,
    collected: Assembler,
    /// How many bytes have come.
    bytes: usize,
    grounds: String,
    question: String,
    classifier: Arc<Classifier>,
    guard: HallucinationGuard,
    is_stream: bool,
}

/// What was found out about an answer.
pub(in crate::proxy) struct VerifyOutcome {
    /// What the classifier said of each choice.
    pub(in crate::proxy) findings: Vec<Findings>,
    pub(in crate::proxy) took: Duration,
    /// The parts that nothing bears out, where the client may know them.
    parts: Vec<String>,
    worst: Option<f32>,
    unknown: Option<Unknown>,
}

impl Exchange {
    /// Prepares to judge the answer that begins, where the policy wants that and there is anything to judge it by; notes
    /// where there is not.
    pub(in crate::proxy) fn verification(&mut self, format: Format) -> Option<VerifyStage> {
        let attempts = self.attempts.as_ref()?;
        let effects = attempts.request.plan.effects.as_deref()?;
        let guard = effects.answer.as_ref()?.hallucination;
        if !guard.is_on() || !attempts.request.api.generates_text() {
            return None;
        }
        let request = seen(&attempts.request.request, effects.request.as_ref(), !effects.unmask.is_empty());
        let grounds = request.groundedness_context();
        if grounds.trim().is_empty() {
            if guard.unverified && effects.needs_facts {
                self.record.details().guards.unverified_factual = Some(true);
            }
            return None;
        }
        (guard.action != HallucinationAction::Off).then(|| VerifyStage {
            api: attempts.request.api,
            collected: Assembler::new(format, attempts.request.api, MAX_ANSWER),
            bytes: 0,
            question: request.prompt_text().into_owned(),
            grounds,
            classifier: Arc::clone(&self.live.classifier),
            guard,
            is_stream: format == Format::EventStream,
        })
    }
}

/// The request whose words an answer repeats: where they were masked upstream and are put back, the client's own.
fn seen<'a>(own: &'a ChatRequest, changed: Option<&'a ChatRequest>, unmasks: bool) -> &'a ChatRequest {
    changed.filter(|_| !unmasks).unwrap_or(own)
}

impl VerifyStage {
    /// Takes the next bytes of what the client gets.
    pub(in crate::proxy) fn feed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.collected.feed(bytes);
    }

    /// Says whether the answer is held back until it is judged.
    pub(in crate::proxy) fn holds(&self) -> bool {
        self.guard.action == HallucinationAction::Header && !self.is_stream
    }

    /// Judges the whole answer; none if there is nothing to judge: it broke off, or says nothing.
    pub(in crate::proxy) async fn judge(mut self) -> Option<VerifyOutcome> {
        let (began, api) = (Instant::now(), self.api);
        let Some(whole) = self.collected.finish() else {
            return (self.bytes > MAX_ANSWER).then(|| VerifyOutcome::unknown(Unknown::TooLong));
        };
        let answers = choice_texts(api, &whole);
        let deadline = began + self.guard.deadline;
        let (context, question) = (self.grounds.as_str(), self.question.as_str());
        let judged = answers.iter().take(MAX_CHOICES);
        let judged = judged
            .map(|answer| self.classifier.verify(GroundednessInput { context, question, answer }, deadline));
        let findings = futures::future::join_all(judged).await;
        if findings.is_empty() {
            return None;
        }
        let unknown = (answers.len() > MAX_CHOICES).then_some(Unknown::TooLong);
        let took = began.elapsed();
        let mut outcome = VerifyOutcome { took, parts: Vec::new(), worst: None, unknown, findings };
        for (findings, answer) in outcome.findings.iter().zip(&answers) {
            match &findings.hallucination {
                Some(Ok(doubts)) => {
                    for doubt in doubts {
                        outcome.worst = Some(outcome.worst.unwrap_or(0.0).max(doubt.confidence));
                        let part = answer.get(doubt.bytes.clone()).filter(|_| self.guard.spans);
                        outcome.parts.extend(part.map(str::to_owned));
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
    /// Says of an answer that it was not judged.
    pub(in crate::proxy) fn unknown(reason: Unknown) -> Self {
        let (findings, parts) = (Vec::new(), Vec::new());
        Self { findings, took: Duration::ZERO, parts, worst: None, unknown: Some(reason) }
    }

    /// Says whether anything of the answer is made up.
    pub(in crate::proxy) fn doubts(&self) -> bool {
        self.worst.is_some()
    }

    /// Returns the headers that tell the client.
    pub(in crate::proxy) fn headers(&self) -> Vec<(&'static str, String)> {
        if !self.doubts() {
            return Vec::new();
        }
        let mut headers = vec![
            ("x-vsr-hallucination-detected", "true".to_owned()),
            ("x-vsr-response-warnings", "hallucination".to_owned()),
        ];
        if !self.parts.is_empty() {
            headers.push(("x-vsr-hallucination-spans", listed(&self.parts)));
        }
        headers
    }

    /// Notes for the log and the metrics what was found.
    pub(in crate::proxy) fn note(&self, guards: &mut GuardRecord) {
        guards.hallucination = self.worst;
        guards.verify_ms = (!self.findings.is_empty()).then(|| millis(self.took));
        if let Some(reason) = self.unknown {
            guards.unjudged.push(("hallucination", reason.as_str()));
        }
    }
}

/// Writes as many of the parts as fit, as a JSON list that a header can carry.
fn listed(parts: &[String]) -> String {
    let mut list = String::from("[");
    for part in parts {
        let comma = if list.len() > 1 { "," } else { "" };
        let room = MAX_SPANS.saturating_sub(list.len() + comma.len() + "\"\"]".len());
        let inside = ascii(part, room);
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
