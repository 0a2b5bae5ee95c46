//! Owns the guards of requests: by the classifier's findings they pass, refuse, reroute or mask a request.
//!
//! A decision's guards come before its model's, those before the policy's. Knows nothing of answers.

use super::plan::{DirectResponse, MaskedValues};
use super::retry_after::retry_after;
use super::trace::GuardNotice;
use crate::classify::{Entity, Findings, PiiFindings, Unknown};
use crate::openai::{ChatRequest, Rejection, Replacement};
use crate::policy::{
    AnswerGuard, BasisPoints, Decision, FactCheckSignal, GuardOnUnknown, ModelId, PiiAction, PiiGuard,
    PiiKinds, Policy, PromptAction, PromptGuard, Scope, SignalKind,
};
use crate::signals::SignalEvaluation;
use std::collections::BTreeSet;
use std::ops::Range;

/// The guards of one request, each the first of its decision's, its model's and the policy's.
pub(super) struct ActiveGuards<'a> {
    pub(super) prompt: Option<&'a PromptGuard>,
    pub(super) pii: Option<&'a PiiGuard>,
    pub(super) answer: Option<&'a AnswerGuard>,
}

impl<'a> ActiveGuards<'a> {
    pub(super) fn of(policy: &'a Policy, decision: Option<&'a Decision>, model: Option<ModelId>) -> Self {
        let decision = decision.map(|decision| &decision.plugins.guards);
        let model = model.map(|model| &policy[model].guards);
        let held = [decision, model, Some(&policy.guards)];
        let held = || held.into_iter().flatten();
        Self {
            prompt: held().find_map(|guards| guards.prompt.as_ref()),
            pii: held().find_map(|guards| guards.pii.as_ref()),
            answer: held().find_map(|guards| guards.answer.as_ref()).filter(|guard| guard.is_on()),
        }
    }
}

/// What the prompt guard decides.
pub(super) enum PromptVerdict {
    Pass,
    Route(ModelId),
    Refuse(DirectResponse),
}

/// Judges whether a request attacks the model.
pub(super) fn judge_prompt(
    guard: &PromptGuard,
    known: &SignalEvaluation,
    request: &ChatRequest,
    notices: &mut Vec<GuardNotice>,
) -> PromptVerdict {
    if guard.action == PromptAction::Off {
        return PromptVerdict::Pass;
    }
    let mut worst = 0.0_f32;
    let (mut is_attack, mut unknown) = (false, unreadable(request));
    for (_, findings) in read(known, guard.scope) {
        match &findings.jailbreak {
            Some(Ok(risk)) => {
                worst = worst.max(risk.score);
                is_attack |= risk.score >= guard.min_score.map_or(risk.threshold, BasisPoints::fraction);
            }
            Some(Err(Unknown::Empty)) => {}
            Some(Err(reason)) => unknown = Some(*reason),
            None => unknown = Some(Unknown::Failed),
        }
    }
    if is_attack {
        notices.push(GuardNotice::Jailbreak { score: worst });
        return match guard.action {
            PromptAction::Block => {
                let confidence_bp = BasisPoints::from_fraction(f64::from(worst)).0;
                PromptVerdict::Refuse(DirectResponse::Blocked(Rejection::Jailbreak { confidence_bp }))
            }
            PromptAction::Route(model) => PromptVerdict::Route(model),
            PromptAction::Report | PromptAction::Off => PromptVerdict::Pass,
        };
    }
    unknown
        .and_then(|reason| unjudged("prompt", guard.on_unknown, reason, known, notices))
        .map_or(PromptVerdict::Pass, PromptVerdict::Refuse)
}

/// Whether a signal says that the answer needs facts.
pub(super) fn needs_facts(policy: &Policy, known: &SignalEvaluation) -> bool {
    known.signals.iter().any(|(id, told)| {
        let wants_facts =
            matches!(policy[id].kind, SignalKind::FactCheck(FactCheckSignal { needed: true, .. }));
        wants_facts && told.value.as_ref().is_ok_and(|reading| reading.matches)
    })
}

/// Judges the personal data in a request: returns it masked, with the values that were masked, or refuses it.
pub(super) fn judge_pii(
    guard: &PiiGuard,
    known: &SignalEvaluation,
    request: &ChatRequest,
    notices: &mut Vec<GuardNotice>,
) -> Result<Option<(ChatRequest, MaskedValues)>, DirectResponse> {
    if guard.action == PiiAction::Off {
        return Ok(None);
    }
    let mut kinds = BTreeSet::new();
    let mut unknown = unreadable(request);
    for (_, findings) in read(known, guard.scope) {
        match &findings.pii {
            Some(found) => {
                kinds.extend(counted(guard, &found.entities).map(|entity| entity.kind.to_string()));
                unknown = found.unknown_among(|kind| guard.kinds.holds(kind)).or(unknown);
            }
            None => unknown = Some(Unknown::Failed),
        }
    }
    if kinds.is_empty() {
        let refusal = unknown.and_then(|reason| unjudged("pii", guard.on_unknown, reason, known, notices));
        return refusal.map_or(Ok(None), Err);
    }
    notices.push(GuardNotice::Pii { kinds: kinds.iter().cloned().collect() });
    match guard.action {
        PiiAction::Block => {
            Err(DirectResponse::Blocked(Rejection::PersonalData { kinds: kinds.into_iter().collect() }))
        }
        PiiAction::Mask { .. } => {
            match unknown.and_then(|reason| unjudged("pii", guard.on_unknown, reason, known, notices)) {
                Some(refusal) => Err(refusal),
                None => Ok(Some(mask(guard, known, request))),
            }
        }
        PiiAction::Report | PiiAction::Off => Ok(None),
    }
}

/// Why a request can't be judged whatever the classifier finds: its prompt is token ids.
fn unreadable(request: &ChatRequest) -> Option<Unknown> {
    request.has_token_ids().then_some(Unknown::Unsupported)
}

/// Records that a guard could not judge the request, and refuses it if the guard says so.
fn unjudged(
    guard: &'static str,
    on_unknown: GuardOnUnknown,
    reason: Unknown,
    known: &SignalEvaluation,
    notices: &mut Vec<GuardNotice>,
) -> Option<DirectResponse> {
    notices.push(GuardNotice::Unjudged { guard, reason });
    (on_unknown == GuardOnUnknown::Reject).then(|| {
        let retry_after = retry_after(reason, known);
        DirectResponse::Rejected(Rejection::Unjudged { reason: reason.as_str(), retry_after })
    })
}

/// What was found in the texts of a scope; the prompt has no place of its own here.
fn read(known: &SignalEvaluation, scope: Scope) -> impl Iterator<Item = (Option<usize>, &Findings)> {
    let others = known.others.iter().filter(move |_| scope == Scope::Conversation);
    known
        .prompt
        .iter()
        .map(|findings| (None, findings))
        .chain(others.map(|(at, findings)| (Some(*at), findings)))
}

fn counted<'a>(guard: &'a PiiGuard, entities: &'a [Entity]) -> impl Iterator<Item = &'a Entity> {
    counted_by(&guard.kinds, guard.min_score, entities)
}

/// The entities that the guard counts; one that a validated pattern found always counts.
fn counted_by<'a>(
    kinds: &'a PiiKinds,
    min_score: Option<BasisPoints>,
    entities: &'a [Entity],
) -> impl Iterator<Item = &'a Entity> {
    use crate::classify::EntitySource;
    entities.iter().filter(move |entity| {
        let sure = entity.by == EntitySource::Pattern
            || min_score.is_none_or(|least| entity.confidence >= least.fraction());
        sure && kinds.holds(&entity.kind)
    })
}

/// Replaces each piece by its kind and a number; equal pieces have the same number.
fn mask(guard: &PiiGuard, known: &SignalEvaluation, request: &ChatRequest) -> (ChatRequest, MaskedValues) {
    let mut masked = MaskedValues::new();
    let texts = request.message_texts();
    let mut replaced = Vec::new();
    for (place, findings) in read(known, guard.scope) {
        let at = place.or_else(|| texts.iter().position(|text| text.is_prompt));
        // Other places than the prompt's own are those of other texts.
        let Some(at) = at.filter(|at| texts.get(*at).is_some_and(|text| text.is_prompt == place.is_none()))
        else {
            continue;
        };
        let Some(PiiFindings { entities, .. }) = &findings.pii else { continue };
        let text = &texts[at].text;
        let mut pieces: Vec<(Range<usize>, String)> = Vec::new();
        for entity in counted(guard, entities) {
            let overlaps = pieces.last().is_some_and(|(last, _)| entity.bytes.start < last.end);
            if let Some(words) = text.get(entity.bytes.clone()).filter(|_| !overlaps) {
                pieces.push((entity.bytes.clone(), token(&mut masked, &entity.kind, words)));
            }
        }
        replaced.push((at, pieces));
    }
    let replaced: Vec<(usize, Vec<Replacement<'_>>)> = replaced
        .iter()
        .map(|(at, pieces)| {
            (*at, pieces.iter().map(|(bytes, token)| (bytes.clone(), token.as_str())).collect())
        })
        .collect();
    let replaced: Vec<(usize, &[Replacement<'_>])> =
        replaced.iter().map(|(at, pieces)| (*at, pieces.as_slice())).collect();
    (request.redacted_each(&replaced), masked)
}

fn token(masked: &mut MaskedValues, kind: &str, words: &str) -> String {
    if let Some((token, _)) = masked.iter().find(|(token, known)| known == words && is_of(token, kind)) {
        return token.clone();
    }
    let count = masked.iter().filter(|(token, _)| is_of(token, kind)).count();
    let token = format!("[{kind}_{}]", count + 1);
    masked.push((token.clone(), words.to_owned()));
    token
}

fn is_of(token: &str, kind: &str) -> bool {
    token.strip_prefix('[').and_then(|rest| rest.strip_prefix(kind)).is_some_and(|rest| rest.starts_with('_'))
}
