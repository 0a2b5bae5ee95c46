//! Owns the guards of requests: by the classifier's findings they pass, refuse, reroute or mask a request.
//!
//! A decision's guards come before its model's, those before the policy's. Knows nothing of answers.

use super::masking::{self, MaskedRequest, PiiPlace};
use super::plan::{DirectResponse, MaskedValues};
use super::retry_after::retry_after;
use super::trace::{AttackPlace, GuardNotice};
use crate::classify::{Entity, EntitySource, Risk, Unknown, read_beside};
use crate::openai::{ChatRequest, Rejection, SegmentPlace, TextPiece, Unread, UnreadKind};
use crate::policy::{
    AnswerGuard, BasisPoints, Decision, FactCheckSignal, GuardOnUnknown, Guards, ModelId, PiiAction,
    PiiGuard, Policy, PromptAction, PromptGuard, Scope, SignalKind, TextSources, is_secret,
};
use crate::signals::{JudgedFindings, SignalEvaluation, source_of};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

/// How many bytes a request has whose personal data is looked for on a thread of its own.
const LARGE: usize = 64 * 1024;

/// How long that may take, also where the classifier has left less time.
const MASKING_TIME: Duration = Duration::from_secs(1);

/// The guards that hold for a model, each the first of the decision's, the model's and the policy's.
#[derive(Clone, Copy)]
pub(super) struct ActiveGuards<'a> {
    pub(super) prompt: Option<&'a PromptGuard>,
    pub(super) pii: Option<&'a PiiGuard>,
    pub(super) secrets: Option<&'a PiiGuard>,
    pub(super) answer: Option<&'a AnswerGuard>,
}

/// A request to judge.
#[derive(Clone, Copy)]
pub(super) struct GuardInput<'a> {
    pub(super) policy: &'a Policy,
    pub(super) decision: Option<&'a Decision>,
    pub(super) request: &'a ChatRequest,
    pub(super) known: &'a Arc<SignalEvaluation>,
    /// By when it must have been routed, were there no guards.
    pub(super) deadline: Instant,
}

impl<'a> GuardInput<'a> {
    /// Returns the guards that hold for a model.
    pub(super) fn guards_of(&self, model: Option<ModelId>) -> ActiveGuards<'a> {
        let decision = self.decision.map(|decision| &decision.plugins.guards);
        let model = model.map(|model| &self.policy[model].guards);
        ActiveGuards::first_of([decision, model, Some(&self.policy.guards)])
    }

    /// By when guards must have masked the request.
    fn deadline_of(&self, finders: &[PiiFinder<'_>]) -> Instant {
        let classifier = &self.policy.classifier;
        let timeouts = finders.iter().map(|finder| finder.guard.timeout.unwrap_or(classifier.guard_timeout));
        self.deadline + timeouts.max().unwrap_or_default().saturating_sub(classifier.deadline)
    }

    /// Whether no guard of a model refuses the request.
    pub(super) fn is_allowed(&self, model: ModelId) -> bool {
        let (guards, mut notices) = (self.guards_of(Some(model)), Vec::new());
        let is_refused =
            |guard| matches!(judge_prompt(guard, self, &mut Vec::new()), PromptVerdict::Refuse(_));
        !guards.prompt.is_some_and(is_refused) && {
            let (bytes, finders) = (self.request.body().len(), guards.pii_finders());
            let found = read_beside(bytes, || PiiFound::look_for(&finders, self.request, self.known, false));
            found.conclude(&finders, self.known, &mut notices).is_ok()
        }
    }
}

impl<'a> ActiveGuards<'a> {
    pub(super) const NONE: Self = Self { prompt: None, pii: None, secrets: None, answer: None };

    /// Of each kind the first.
    fn first_of(held: [Option<&'a Guards>; 3]) -> Self {
        let held = || held.into_iter().flatten();
        Self {
            prompt: held().find_map(|guards| guards.prompt.as_ref()),
            pii: held().find_map(|guards| guards.pii.as_ref()),
            secrets: held().find_map(|guards| guards.secrets.as_ref()),
            answer: held().find_map(|guards| guards.answer.as_ref()).filter(|guard| guard.is_on()),
        }
    }

    /// Whether these are the very same guards.
    pub(super) fn are(&self, other: &Self) -> bool {
        fn same<T>(one: Option<&T>, other: Option<&T>) -> bool {
            one.map(ptr::from_ref) == other.map(ptr::from_ref)
        }
        same(self.prompt, other.prompt)
            && same(self.pii, other.pii)
            && same(self.secrets, other.secrets)
            && same(self.answer, other.answer)
    }

    /// Returns what of the masked values is put back into the answer; a secret never is where it has a guard of its own.
    pub(super) fn values_to_unmask(&self, mut values: MaskedValues) -> MaskedValues {
        let unmasks = self.pii.is_some_and(|guard| guard.action == PiiAction::Mask { unmask: true });
        values.retain(|(token, _)| {
            unmasks && !(self.secrets.is_some() && masking::kind_of(token).is_some_and(is_secret))
        });
        values
    }

    /// What looks for personal data and secrets; where secrets have a guard of their own, they are its alone.
    fn pii_finders(&self) -> Vec<PiiFinder<'a>> {
        let personal = if self.secrets.is_some() { Guarded::PersonalData } else { Guarded::Both };
        let guards = [(Guarded::Secrets, self.secrets), (personal, self.pii)];
        let finders = guards.into_iter().filter_map(|(guarded, guard)| {
            guard.map(|guard| PiiFinder { guarded, guard: Cow::Borrowed(guard) })
        });
        finders.filter(|finder| finder.guard.action != PiiAction::Off).collect()
    }
}

/// Whether a guard of a model lets nothing pass that it cannot read.
pub(super) fn rejects_unread(policy: &Policy, model: ModelId) -> bool {
    let ActiveGuards { prompt, pii, secrets, answer } =
        ActiveGuards::first_of([None, Some(&policy[model].guards), Some(&policy.guards)]);
    let rejects = |on_unknown: GuardOnUnknown| on_unknown == GuardOnUnknown::Reject;
    prompt.is_some_and(|guard| guard.action != PromptAction::Off && rejects(guard.on_unknown))
        || [pii, secrets]
            .into_iter()
            .flatten()
            .any(|guard| guard.action != PiiAction::Off && rejects(guard.on_unknown))
        || answer.is_some_and(|guard| rejects(guard.on_unknown))
}

/// What a guard looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guarded {
    Secrets,
    /// Without secrets, which another guard has.
    PersonalData,
    Both,
}

impl Guarded {
    /// As notices name the guard.
    fn as_str(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::PersonalData | Self::Both => "pii",
        }
    }
}

/// A guard of personal data or of secrets, and what it counts.
#[derive(Clone)]
struct PiiFinder<'a> {
    guarded: Guarded,
    guard: Cow<'a, PiiGuard>,
}

impl PiiFinder<'_> {
    fn counts(&self, kind: &str) -> bool {
        self.guard.kinds.holds(kind) && !(self.guarded == Guarded::PersonalData && is_secret(kind))
    }

    fn masks(&self) -> bool {
        matches!(self.guard.action, PiiAction::Mask { .. })
    }

    fn into_owned(self) -> PiiFinder<'static> {
        PiiFinder { guard: Cow::Owned(self.guard.into_owned()), ..self }
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
    input: &GuardInput<'_>,
    notices: &mut Vec<GuardNotice>,
) -> PromptVerdict {
    if guard.action == PromptAction::Off {
        return PromptVerdict::Pass;
    }
    let mut worst: Option<(&Risk, &[TextPiece])> = None;
    let (mut is_attack, mut unknown) = (false, unreadable(input.request, guard.scope));
    for JudgedFindings { findings, pieces } in input.known.judged(input.request, guard.scope, guard.of) {
        match &findings.jailbreak {
            Some(Ok(risk)) => {
                if worst.is_none_or(|(worst, _)| risk.score > worst.score) {
                    worst = Some((risk, pieces));
                }
                is_attack |= risk.score >= guard.min_score.map_or(risk.threshold, BasisPoints::fraction);
            }
            Some(Err(Unknown::Empty)) => {}
            Some(Err(reason)) => unknown = Some(*reason),
            None => unknown = Some(Unknown::Failed),
        }
    }
    if let Some((risk, pieces)) = worst.filter(|_| is_attack) {
        let score = risk.score;
        notices.push(GuardNotice::Jailbreak { score, at: attack_place(input.request, risk, pieces) });
        return match guard.action {
            PromptAction::Block => {
                let confidence_bp = BasisPoints::from_fraction(f64::from(score)).0;
                PromptVerdict::Refuse(DirectResponse::Blocked(Rejection::Jailbreak { confidence_bp }))
            }
            PromptAction::Route(model) => PromptVerdict::Route(model),
            PromptAction::Report | PromptAction::Off => PromptVerdict::Pass,
        };
    }
    unknown
        .and_then(|reason| unjudged("prompt", guard.on_unknown, reason, input.known, notices))
        .map_or(PromptVerdict::Pass, PromptVerdict::Refuse)
}

/// Finds the worst part of a judged text in the request; where it reaches over several strings, the first of them.
fn attack_place(request: &ChatRequest, risk: &Risk, pieces: &[TextPiece]) -> Option<AttackPlace> {
    let places = request.segment_places(pieces, std::iter::once(risk.at.clone())).pop()?;
    let SegmentPlace { segment, range, .. } = places.into_iter().next()?;
    let segment = request.nth_segment(segment);
    Some(AttackPlace { source: source_of(&segment), message: segment.message, bytes: range })
}

/// Whether a signal says that the answer needs facts.
pub(super) fn needs_facts(policy: &Policy, known: &SignalEvaluation) -> bool {
    known.signals.iter().any(|(id, told)| {
        let wants_facts =
            matches!(policy[id].kind, SignalKind::FactCheck(FactCheckSignal { needed: true, .. }));
        wants_facts && told.value.as_ref().is_ok_and(|reading| reading.matches)
    })
}

/// Judges the personal data and the secrets in a request: returns it masked where a guard masks, or refuses it.
pub(super) async fn judge_pii(
    guards: &ActiveGuards<'_>,
    input: &GuardInput<'_>,
    notices: &mut Vec<GuardNotice>,
) -> Result<Option<MaskedRequest>, DirectResponse> {
    let finders = guards.pii_finders();
    if finders.is_empty() {
        return Ok(None);
    }
    if input.request.body().len() < LARGE {
        let found = PiiFound::look_for(&finders, input.request, input.known, true);
        return found.conclude(&finders, input.known, notices);
    }
    let own: Vec<_> = finders.iter().cloned().map(PiiFinder::into_owned).collect();
    let (request, known) = (input.request.clone(), Arc::clone(input.known));
    let task = spawn_blocking(move || PiiFound::look_for(&own, &request, &known, true));
    let deadline = input.deadline_of(&finders).max(Instant::now() + MASKING_TIME);
    let found = match tokio::time::timeout_at(deadline.into(), task).await {
        Ok(Ok(found)) => found,
        Ok(Err(_panicked)) => PiiFound::unknown(&finders, Unknown::Failed),
        Err(_elapsed) => PiiFound::unknown(&finders, Unknown::Late),
    };
    found.conclude(&finders, input.known, notices)
}

/// The personal data and secrets of a request, as guards count them.
struct PiiFound {
    /// What each guard found: the kinds, and why there may be more.
    each: Vec<(BTreeSet<String>, Option<Unknown>)>,
    /// The request without it, where that was wanted.
    masked: Option<Result<MaskedRequest, Rejection>>,
}

impl PiiFound {
    fn unknown(finders: &[PiiFinder<'_>], reason: Unknown) -> Self {
        Self { each: finders.iter().map(|_| (BTreeSet::new(), Some(reason))).collect(), masked: None }
    }

    /// Gathers what was found where the guards look, and masks it where they mask.
    fn look_for(
        finders: &[PiiFinder<'_>],
        request: &ChatRequest,
        known: &SignalEvaluation,
        may_mask: bool,
    ) -> Self {
        let mut masked: Vec<PiiPlace<'_>> = Vec::new();
        let mut pieces = Vec::new();
        let each = finders.iter().map(|finder| {
            let guard = &*finder.guard;
            let mut unknown = unreadable(request, guard.scope);
            let mut places: Vec<PiiPlace<'_>> = Vec::new();
            for judged in known.judged(request, guard.scope, guard.of) {
                // What the model finds is masked wherever it stands; secrets are found by patterns.
                if finder.masks() && finder.guarded != Guarded::Secrets {
                    pieces.push(judged.pieces);
                }
                match &judged.findings.pii {
                    Some(found) => {
                        add_places(finder, request, judged.pieces, &found.entities, &mut places);
                        unknown = found.unknown_among(|kind| finder.counts(kind)).or(unknown);
                    }
                    None => unknown = Some(Unknown::Failed),
                }
            }
            let kinds = places.iter().map(|found| found.kind.to_owned()).collect();
            if finder.masks() {
                masked.append(&mut places);
            }
            (kinds, unknown)
        });
        let each = each.collect();
        let key = finders.iter().find(|finder| finder.masks()).map(|finder| finder.guard.key.expose());
        let key = key.filter(|_| may_mask && !masked.is_empty());
        let masked = key.map(|key| masking::mask(request, key, masked, &pieces));
        Self { each, masked }
    }

    fn conclude(
        self,
        finders: &[PiiFinder<'_>],
        known: &SignalEvaluation,
        notices: &mut Vec<GuardNotice>,
    ) -> Result<Option<MaskedRequest>, DirectResponse> {
        for (finder, (kinds, unknown)) in finders.iter().zip(self.each) {
            if !kinds.is_empty() {
                notices.push(GuardNotice::Pii { kinds: kinds.iter().cloned().collect() });
                if finder.guard.action == PiiAction::Block {
                    let kinds = kinds.into_iter().collect();
                    return Err(DirectResponse::Blocked(Rejection::PersonalData { kinds }));
                }
            }
            let refusal = unknown.and_then(|reason| {
                unjudged(finder.guarded.as_str(), finder.guard.on_unknown, reason, known, notices)
            });
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
        }
        self.masked.transpose().map_err(DirectResponse::Rejected)
    }
}

/// Adds the places of the entities that a guard counts.
fn add_places<'a>(
    finder: &PiiFinder<'_>,
    request: &'a ChatRequest,
    pieces: &[TextPiece],
    entities: &'a [Entity],
    found: &mut Vec<PiiPlace<'a>>,
) {
    let guard = &*finder.guard;
    let counted: Vec<&Entity> = counted(finder, entities).collect();
    let places = request.segment_places(pieces, counted.iter().map(|entity| entity.bytes.clone()));
    for (entity, places) in counted.into_iter().zip(places) {
        let by_model = entity.by == EntitySource::Model;
        let counts = |place: &SegmentPlace<'_>| {
            // The model reads numbers by the words around them, of which a bare one has none.
            !(by_model && (place.is_number || masking::is_placeholder(&place.words)))
                && (guard.of == TextSources::ALL
                    || guard.of.has(source_of(&request.nth_segment(place.segment))))
        };
        let places = places.into_iter().filter(counts);
        found.extend(places.map(|place| PiiPlace { kind: &entity.kind, place, by_model }));
    }
}

/// Why a request can't be judged whatever the classifier finds: something in it is no text, or too much.
fn unreadable(request: &ChatRequest, scope: Scope) -> Option<Unknown> {
    let reason = |unread: &Unread| match unread.kind {
        // What this refers to was judged when it was sent, or is the operator's.
        UnreadKind::Reference => None,
        UnreadKind::TooMany => Some(Unknown::TooLong),
        UnreadKind::Image
        | UnreadKind::Audio
        | UnreadKind::Video
        | UnreadKind::File
        | UnreadKind::Embedding
        | UnreadKind::TokenIds
        | UnreadKind::Encrypted
        | UnreadKind::UnknownPart => Some(Unknown::Unsupported),
    };
    match scope {
        Scope::Prompt => request.latest_unread().find_map(reason),
        Scope::Conversation => request.unread().iter().find_map(reason),
    }
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

/// The entities that a guard counts; one that a validated pattern found always counts.
fn counted<'a>(finder: &PiiFinder<'_>, entities: &'a [Entity]) -> impl Iterator<Item = &'a Entity> {
    entities.iter().filter(move |entity| {
        let least = finder.guard.min_score;
        let sure = entity.by == EntitySource::Pattern
            || least.is_none_or(|least| entity.confidence >= least.fraction());
        sure && finder.counts(&entity.kind)
    })
}
