//! The texts that guards judge: which of a request's they are, and what was found in each.
//!
//! Refuses to know what follows from it.

use crate::classify::{ClassifyHeads, Findings};
use crate::openai::{ChatRequest, Role, Segment, SegmentKind, TextBlock, TextPiece};
use crate::policy::{Scope, TextSource, TextSources};

/// What the guards need judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GuardInputs {
    pub(super) attacks: ScopedSources,
    pub(super) pii: ScopedSources,
    /// Personal data and secrets that patterns find.
    pub(super) patterns: ScopedSources,
}

/// From where texts are judged: from the prompt on and beside the messages, and before the prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ScopedSources {
    latest: TextSources,
    earlier: TextSources,
}

impl ScopedSources {
    pub(super) fn new(scope: Scope, of: TextSources) -> Self {
        let is_all = scope == Scope::Conversation;
        Self { latest: of, earlier: if is_all { of } else { TextSources::NONE } }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn has(self, source: TextSource, is_latest: bool) -> bool {
        if is_latest { self.latest.has(source) } else { self.earlier.has(source) }
    }

    fn or(self, other: Self) -> Self {
        Self { latest: self.latest.or(other.latest), earlier: self.earlier.or(other.earlier) }
    }
}

impl GuardInputs {
    pub(super) const NONE: Self = Self {
        attacks: ScopedSources { latest: TextSources::NONE, earlier: TextSources::NONE },
        pii: ScopedSources { latest: TextSources::NONE, earlier: TextSources::NONE },
        patterns: ScopedSources { latest: TextSources::NONE, earlier: TextSources::NONE },
    };

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            attacks: self.attacks.or(other.attacks),
            pii: self.pii.or(other.pii),
            patterns: self.patterns.or(other.patterns),
        }
    }

    /// Returns the blocks to judge, in the order of the request.
    pub(super) fn blocks(self, request: &ChatRequest) -> Vec<JudgedBlock<'_>> {
        if self == Self::NONE {
            return Vec::new();
        }
        let of = |segment: &Segment<'_>, is_latest: bool| {
            let source = source_of(segment);
            let (jailbreak, pii) = (self.attacks.has(source, is_latest), self.pii.has(source, is_latest));
            let patterns = self.patterns.has(source, is_latest);
            let heads = ClassifyHeads { jailbreak, pii, patterns, ..ClassifyHeads::NONE };
            (!heads.is_empty()).then_some((heads, is_latest))
        };
        let blocks = request.text_blocks(of).into_iter();
        blocks.map(|((heads, is_latest), block)| JudgedBlock { heads, is_latest, block }).collect()
    }
}

/// A block, and what it is judged for.
pub(super) struct JudgedBlock<'a> {
    pub(super) heads: ClassifyHeads,
    is_latest: bool,
    pub(super) block: TextBlock<'a>,
}

impl JudgedBlock<'_> {
    /// Lets go of the text; `answer` is the place of its findings.
    pub(super) fn judged(self, answer: usize) -> JudgedText {
        JudgedText { is_latest: self.is_latest, pieces: self.block.pieces, answer }
    }
}

/// A text that was put to the classifier for a guard.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedText {
    /// Whether it is no older than the prompt, or stands beside the messages.
    is_latest: bool,
    /// Where it is in the request.
    pub pieces: Vec<TextPiece>,
    /// The place of its findings.
    pub(super) answer: usize,
}

/// What was found in a text that a guard judges.
#[derive(Debug, Clone, Copy)]
pub struct JudgedFindings<'a> {
    /// Where the text is in the request.
    pub pieces: &'a [TextPiece],
    /// What was found.
    pub findings: &'a Findings,
}

impl JudgedText {
    /// Whether a guard of this scope looks that far back.
    pub(super) fn is_in(&self, scope: Scope) -> bool {
        self.is_latest || scope == Scope::Conversation
    }

    /// Whether any piece of the text comes from one of these sources.
    pub(super) fn is_from(&self, request: &ChatRequest, of: TextSources) -> bool {
        of == TextSources::ALL
            || self.pieces.iter().any(|piece| of.has(source_of(&request.nth_segment(piece.segment))))
    }
}

/// Says where a text comes from.
pub fn source_of(segment: &Segment<'_>) -> TextSource {
    match (segment.kind, segment.role) {
        (SegmentKind::SystemPrompt, _) | (SegmentKind::Message, Role::System) => TextSource::System,
        (SegmentKind::Message, Role::Assistant) | (SegmentKind::Prediction, _) => TextSource::Assistant,
        (SegmentKind::ToolResult, _) | (SegmentKind::Message, Role::Tool) => TextSource::ToolResults,
        (SegmentKind::Message, Role::User | Role::Other) => TextSource::User,
        (SegmentKind::ToolCall, _) => TextSource::ToolCalls,
        (SegmentKind::ToolDescription | SegmentKind::Schema, _) => TextSource::Tools,
        (SegmentKind::Document, _) => TextSource::Documents,
        (SegmentKind::Reasoning, _) => TextSource::Reasoning,
        (SegmentKind::Template, _) => TextSource::Templates,
        (SegmentKind::Metadata, _) => TextSource::Metadata,
        (SegmentKind::Name | SegmentKind::Identifier | SegmentKind::Other, _) => TextSource::Other,
    }
}
