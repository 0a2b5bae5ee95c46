//! Messages, items and the parts of their contents, by the tables of the rooms that have conversations.
//!
//! One reader for all of them: servers take more shapes than their APIs' pages name.

use std::borrow::Cow;

use super::super::json;
use super::super::json::string::{decode, decodes_to};
use super::super::message::{ItemKind, Role};
use super::super::{chat, messages, responses};
use super::reader::{MAX_WORD, SegmentReader};
use super::rule::{self, PartShape};
use super::{SegmentKind, UnreadKind};

/// A message, an item or a part.
struct InputMembers<'a> {
    all: Vec<(&'a [u8], &'a [u8])>,
    /// The value of `type`.
    kind: Cow<'a, str>,
    role: Role,
    output: Option<&'a [u8]>,
}

struct InputMember<'a> {
    key: &'a [u8],
    name: Cow<'a, str>,
    value: &'a [u8],
}

impl<'a> InputMembers<'a> {
    fn of(all: Vec<(&'a [u8], &'a [u8])>) -> Self {
        let (mut kind, mut role, mut output) = (None, Role::Other, None);
        for &(key, value) in &all {
            if decodes_to(key, "type") {
                kind = json::string(value);
            } else if decodes_to(key, "role") {
                role = Role::read(value);
            } else if decodes_to(key, "output") {
                output = Some(value);
            }
        }
        Self { all, kind: decode(kind.unwrap_or_default(), MAX_WORD), role, output }
    }

    fn iter(&self) -> impl Iterator<Item = InputMember<'a>> {
        self.all.iter().map(|&(key, value)| InputMember { key, name: decode(key, MAX_WORD), value })
    }
}

impl<'a> SegmentReader<'a> {
    /// Reads a message or an item by its members, and says which message it is if it has a text of its own.
    pub(super) fn message(
        &mut self,
        kind: SegmentKind,
        object: &'a [u8],
        members: Vec<(&'a [u8], &'a [u8])>,
    ) -> (Role, Option<usize>) {
        let members = InputMembers::of(members);
        let item = ItemKind::of(&members.kind);
        let start = self.start();
        let output = members.output.filter(|_| item == ItemKind::ToolResult);
        match output {
            Some(output) if output.starts_with(b"{") => self.parts(SegmentKind::ToolResult, output),
            Some(output) => {
                self.text_message(Role::Tool, SegmentKind::ToolResult, output);
            }
            None => {}
        }
        // A document has the members that its client likes, and templates show them all.
        let is_free = kind == SegmentKind::Document && part_shape(&members.kind).is_none();
        let shape = if is_free { PartShape::text(|_| None) } else { message_shape(&members.kind, item) };
        if let Some(unread) = shape.unread {
            self.unread(unread, object);
        }
        let rest = match (kind, item) {
            (SegmentKind::Document, _) => SegmentKind::Document,
            (_, ItemKind::ToolCall) => SegmentKind::ToolCall,
            (_, ItemKind::ToolResult) => SegmentKind::ToolResult,
            _ => SegmentKind::Other,
        };
        let own = match members.role {
            _ if kind == SegmentKind::Document => kind,
            _ if members.kind == "reasoning" => SegmentKind::Reasoning,
            Role::System => SegmentKind::SystemPrompt,
            Role::Tool => SegmentKind::ToolResult,
            _ => kind,
        };
        for member in members.iter() {
            match &*member.name {
                "content" => self.content(own, member.value),
                "output" if output.is_some() => {}
                name => match (shape.member)(name).or_else(|| rule::common_member(name, is_free)) {
                    Some(rule) => self.apply(rule.outside(kind), kind, member.value),
                    None => self.unknown_member(rest, member.key, member.value),
                },
            }
        }
        (members.role, self.end_message(members.role, start))
    }

    /// Reads a message's content into its own text: a string or parts.
    pub(super) fn content(&mut self, kind: SegmentKind, value: &'a [u8]) {
        match value.first() {
            Some(b'"') => self.own_text(kind, value),
            Some(b'[') => json::array(value).for_each(|part| self.part(kind, part, true)),
            _ => self.strings(kind, value),
        }
    }

    /// Reads a string or parts that belong to no message's own text.
    pub(super) fn parts(&mut self, kind: SegmentKind, value: &'a [u8]) {
        self.nested(kind, value, |reader| match value.first() {
            Some(b'[') => json::array(value).for_each(|part| reader.part(kind, part, false)),
            Some(b'{') => reader.part(kind, value, false),
            _ => reader.strings(kind, value),
        });
    }

    /// Reads one part of a content; `is_own` says whether its text is the message's own.
    fn part(&mut self, kind: SegmentKind, part: &'a [u8], is_own: bool) {
        if !part.starts_with(b"{") {
            if is_own && part.starts_with(b"\"") {
                self.own_text(kind, part);
            } else {
                self.strings(kind, part);
            }
            return;
        }
        let members = InputMembers::of(json::object(part).collect());
        let shape = part_shape(&members.kind);
        // A document, a variable or an input that is an object has no type.
        let has_no_shape = !is_own && members.kind.is_empty();
        let unread = shape.map_or(Some(UnreadKind::UnknownPart), |shape| shape.unread);
        if let Some(unread) = unread.filter(|_| !has_no_shape) {
            self.unread(unread, part);
        }
        for member in members.iter() {
            let known = shape.and_then(|shape| (shape.member)(&member.name));
            match known.or_else(|| rule::common_member(&member.name, has_no_shape)) {
                Some(rule) if is_own => self.apply(rule, kind, member.value),
                Some(rule) => self.apply(rule.outside(kind), kind, member.value),
                None if has_no_shape && !member.value.starts_with(b"\"") => self.parts(kind, member.value),
                None if has_no_shape => self.unknown_member(kind, member.key, member.value),
                None => self.unknown_member(SegmentKind::Other, member.key, member.value),
            }
        }
    }
}

/// Finds how the members of a message or an item are read.
fn message_shape(kind: &str, item: ItemKind) -> PartShape {
    if matches!(kind, "" | "message") {
        return PartShape::text(chat::message_member);
    }
    let known = responses::item(kind).or_else(|| part_shape(kind));
    known.unwrap_or(match item {
        ItemKind::ToolCall | ItemKind::ToolResult => PartShape::text(|_| None),
        ItemKind::Message | ItemKind::Image => {
            PartShape::unread(UnreadKind::UnknownPart, chat::message_member)
        }
    })
}

fn part_shape(kind: &str) -> Option<PartShape> {
    chat::part(kind).or_else(|| messages::part(kind)).or_else(|| responses::part(kind))
}
