//! Owns YAML text to a positioned tree; the only file that names the YAML crate. Refuses to know keys and types.
//!
//! Bounded in every direction: bytes of text, nodes and bytes after aliases are copied, keys, and depth.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::issue::{Issue, PathSegment, Position, YamlPath};

/// The longest text that is read, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// The most nodes in a tree, counting each copy that an alias makes.
const MAX_NODES: usize = 100_000;
/// The most bytes of keys and scalars in a tree, counting each copy that an alias or an anchor makes.
pub(super) const MAX_TREE_BYTES: usize = 4 << 20;
/// The longest key, in bytes: every path through it repeats it.
const MAX_KEY_BYTES: usize = 1024;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// One node of the document and where it starts.
#[derive(Debug, Clone)]
pub(super) struct YamlNode {
    pub(super) mark: Position,
    pub(super) kind: YamlKind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum YamlKind {
    Scalar(Scalar),
    List(Vec<YamlNode>),
    Map(Vec<YamlEntry>),
}

/// One key and its value; the same key may occur twice in a tree.
#[derive(Debug, Clone)]
pub(super) struct YamlEntry {
    pub(super) key: String,
    pub(super) mark: Position,
    pub(super) value: YamlNode,
}

/// A scalar that has no type yet.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) style: Style,
}

/// How a scalar was written, which decides how its text is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Typed by its looks.
    Plain,
    /// Always a string.
    Quoted,
    /// The result of an expansion: whatever is expected at its place.
    Expanded,
}

impl YamlNode {
    /// Moves a tree down, as part of a text that holds its own.
    pub(super) fn move_down(&mut self, lines: usize) {
        self.mark.line += lines;
        match &mut self.kind {
            YamlKind::Scalar(_) => {}
            YamlKind::List(items) => items.iter_mut().for_each(|item| item.move_down(lines)),
            YamlKind::Map(entries) => {
                for entry in entries {
                    entry.mark.line += lines;
                    entry.value.move_down(lines);
                }
            }
        }
    }

    /// Finds where a path lies; a path into nothing lies at its deepest existing ancestor.
    pub(super) fn locate(&self, path: &YamlPath) -> Position {
        let (mut node, mut mark) = (self, self.mark);
        for segment in path.segments() {
            match (segment, &node.kind) {
                (PathSegment::Key(key), YamlKind::Map(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *key) else { break };
                    node = &entry.value;
                    mark = if matches!(node.kind, YamlKind::Scalar(_)) { node.mark } else { entry.mark };
                }
                (PathSegment::Index(index), YamlKind::List(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    node = item;
                    mark = node.mark;
                }
                _ => break,
            }
        }
        mark
    }

    /// Finds the scalar at exactly a path.
    pub(super) fn scalar(&self, path: &YamlPath) -> Option<&Scalar> {
        let node = path.segments().iter().try_fold(self, |node, segment| match (segment, &node.kind) {
            (PathSegment::Key(key), YamlKind::Map(entries)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value)
            }
            (PathSegment::Index(index), YamlKind::List(items)) => items.get(*index),
            _ => None,
        })?;
        match &node.kind {
            YamlKind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
}

/// Parses the single document of a text; the error is at the first place that is not acceptable.
pub(super) fn parse(text: &str) -> Result<YamlNode, Issue> {
    let mut documents = documents(text, Documents::One)?;
    documents.pop().ok_or_else(|| refused(START, "the document is empty".to_owned()))
}

/// Parses every document of a text, as Kubernetes manifests have several; the bounds are those of all together.
pub(super) fn parse_all(text: &str) -> Result<Vec<YamlNode>, Issue> {
    documents(text, Documents::Many)
}

/// How many documents a text may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Documents {
    #[default]
    One,
    Many,
}

const START: Position = Position { line: 1, column: 1 };

fn documents(text: &str, allowed: Documents) -> Result<Vec<YamlNode>, Issue> {
    let start = START;
    if text.len() > MAX_TEXT_BYTES {
        return Err(refused(start, format!("the document is longer than {MAX_TEXT_BYTES} bytes")));
    }
    let mut builder = Builder { allowed, ..Builder::default() };
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            refused(position(error.marker()), format!("not valid YAML: {}", error.info()))
        })?;
        builder.event(event, span)?;
    }
    Ok(builder.roots)
}

/// A collection that is still open, with its anchor.
struct OpenCollection {
    mark: Position,
    anchor: usize,
    before: TreeSize,
    content: OpenContent,
}

/// How large a tree or a part of it is.
#[derive(Debug, Clone, Copy, Default)]
struct TreeSize {
    nodes: usize,
    bytes: usize,
}

impl std::ops::Add for TreeSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { nodes: self.nodes + other.nodes, bytes: self.bytes + other.bytes }
    }
}

enum OpenContent {
    List(Vec<YamlNode>),
    Map { entries: Vec<YamlEntry>, key: Option<(String, Position)> },
}

/// Builds the tree from events without recursion.
#[derive(Default)]
struct Builder {
    open: Vec<OpenCollection>,
    /// Each finished anchor with its size.
    anchors: HashMap<usize, (YamlNode, TreeSize)>,
    /// Of what is in the tree so far.
    size: TreeSize,
    /// Bytes of what anchors hold beside the tree.
    anchored_bytes: usize,
    roots: Vec<YamlNode>,
    allowed: Documents,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Issue> {
        let mark = position(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain || is_string_tag(tag.as_deref(), mark)?;
                let style = if quoted { Style::Quoted } else { Style::Plain };
                let size = TreeSize { nodes: 1, bytes: text.len() };
                let scalar = Scalar { text: text.into_owned(), style };
                self.finish(YamlNode { mark, kind: YamlKind::Scalar(scalar) }, anchor, size)
            }
            Event::SequenceStart(anchor, tag) => {
                is_string_tag(tag.as_deref(), mark)?;
                self.start(mark, anchor, OpenContent::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                is_string_tag(tag.as_deref(), mark)?;
                self.start(mark, anchor, OpenContent::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(refused(mark, "an alias may not stand inside its own anchor".to_owned()));
                };
                let size = *size;
                self.admit(mark, size, depth(node))?;
                let node = YamlNode { mark, kind: node.kind.clone() };
                self.finish(node, 0, size)
            }
            Event::DocumentStart(_) if self.allowed == Documents::One && !self.roots.is_empty() => {
                Err(refused(mark, "only one document is allowed".to_owned()))
            }
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn start(&mut self, mark: Position, anchor: usize, content: OpenContent) -> Result<(), Issue> {
        if self.open.len() >= MAX_DEPTH {
            return Err(refused(mark, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(OpenCollection { mark, anchor, before: self.size, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Issue> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let kind = match frame.content {
            OpenContent::List(items) => YamlKind::List(items),
            OpenContent::Map { entries, .. } => YamlKind::Map(entries),
        };
        // The children are counted already; an anchor's size is theirs and its own.
        let (whole, before) = (self.size, frame.before);
        let size = TreeSize { nodes: whole.nodes - before.nodes + 1, bytes: whole.bytes - before.bytes };
        self.size = before;
        self.finish(YamlNode { mark: frame.mark, kind }, frame.anchor, size)
    }

    /// Refuses what would make the tree too large, before it is copied.
    fn admit(&self, mark: Position, more: TreeSize, depth: usize) -> Result<(), Issue> {
        let size = self.size + more;
        if size.nodes > MAX_NODES {
            return Err(refused(mark, format!("the document has more than {MAX_NODES} nodes")));
        }
        if size.bytes + self.anchored_bytes > MAX_TREE_BYTES {
            let message =
                format!("the document has more than {MAX_TREE_BYTES} bytes with what its aliases copy");
            return Err(refused(mark, message));
        }
        if self.open.len() + depth > MAX_DEPTH + 1 {
            return Err(refused(mark, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, node: YamlNode, anchor: usize, size: TreeSize) -> Result<(), Issue> {
        let mark = node.mark;
        self.admit(mark, size, 1)?;
        if anchor > 0 {
            self.anchored_bytes += size.bytes;
            self.admit(mark, size, 1)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        self.size = self.size + size;
        match self.open.last_mut().map(|frame| &mut frame.content) {
            None => self.roots.push(node),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Map { entries, key }) => match (key.take(), node.kind) {
                (Some((key, at)), kind) => {
                    entries.push(YamlEntry { key, mark: at, value: YamlNode { mark, kind } });
                }
                (None, YamlKind::Scalar(scalar)) if scalar.text.len() > MAX_KEY_BYTES => {
                    return Err(refused(mark, format!("a key is longer than {MAX_KEY_BYTES} bytes")));
                }
                (None, YamlKind::Scalar(scalar)) => *key = Some((scalar.text, mark)),
                (None, _) => return Err(refused(mark, "a key must be a plain name".to_owned())),
            },
        }
        Ok(())
    }
}

/// Gives a node's own depth; recursion is bounded because every part was bounded before.
fn depth(node: &YamlNode) -> usize {
    match &node.kind {
        YamlKind::Scalar(_) => 1,
        YamlKind::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        YamlKind::Map(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
    }
}

fn is_string_tag(tag: Option<&saphyr_parser::Tag>, mark: Position) -> Result<bool, Issue> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(true),
        Some(tag) => Err(refused(mark, format!("the tag `{tag}` is not supported"))),
    }
}

fn position(marker: &saphyr_parser::Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

fn refused(mark: Position, message: String) -> Issue {
    Issue::of_document(mark, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse(text).err().map(|issue| issue.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_syntax_error_says_where_it_is() {
        assert!(message("a: 1\nb: [1, 2\nc: 3\n").starts_with("line "), "{}", message("a: [1"));
        assert_eq!(message(""), "line 1, column 1: the document is empty");
        assert_eq!(message("a: 1\n---\nb: 2\n"), "line 2, column 1: only one document is allowed");
        assert_eq!(message("? [a]\n: b\n"), "line 1, column 3: a key must be a plain name");
        assert_eq!(message("a: !custom b\n"), "line 1, column 4: the tag `!custom` is not supported");
    }

    #[test]
    fn an_alias_is_a_copy_at_its_own_place() {
        let tree = parse("a: &x {b: 1}\nc: *x\n").unwrap();
        assert_eq!(tree.locate(&YamlPath::default().key("c")), Position { line: 2, column: 1 });
        assert_eq!(tree.locate(&YamlPath::default().key("c").key("b")), Position { line: 1, column: 11 });
        assert_eq!(
            tree.locate(&YamlPath::default().key("a").key("nope").index(3)),
            Position { line: 1, column: 1 }
        );
    }

    #[test]
    fn aliases_cannot_multiply_without_bound() {
        let levels = (1..30).map(|level| {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            format!("a{level}: &a{level} [{below}]\n")
        });
        let text = format!("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{}", levels.collect::<Vec<_>>().concat());
        assert!(message(&text).ends_with("the document has more than 100000 nodes"), "{}", message(&text));
        assert!(message("a: &a [*a]\n").contains("inside its own anchor"));
    }

    #[test]
    fn aliases_cannot_multiply_bytes_without_bound() {
        let long = "x".repeat(400 << 10);
        let many = vec!["*a"; 20_000].join(", ");
        let text = format!("a: &a {long}\nb: [{many}]\n");
        let expected = "the document has more than 4194304 bytes with what its aliases copy";
        assert!(message(&text).ends_with(expected), "{}", message(&text));
        let nested = format!("{}{long}{}", "[".repeat(20), "]".repeat(20));
        assert!(parse(&nested).is_ok());
        let anchors: Vec<String> = (0..20).map(|level| format!("&a{level} [")).collect();
        let nested = format!("{}{long}{}", anchors.concat(), "]".repeat(20));
        assert!(message(&nested).ends_with(expected), "{}", message(&nested));
        assert!(
            message(&format!("? {}\n: 1\n", "k".repeat(2000))).ends_with("a key is longer than 1024 bytes")
        );
    }

    #[test]
    fn depth_is_bounded_also_through_aliases() {
        assert!(!message(&"[".repeat(100_000)).is_empty());
        assert!(message(&"- ".repeat(1000)).ends_with("nested deeper than 32 levels"));
        let levels = (1..40).map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1));
        let text = format!("a0: &a0 [x]\n{}", levels.collect::<Vec<_>>().concat());
        assert!(message(&text).ends_with("nested deeper than 32 levels"));
    }
}
