//! Owns `${VAR}`, `${VAR:-default}` and `$$` in scalars. Refuses to know the keys.

use super::environment::Environment;
use super::issue::{Issue, MAX_ISSUES, YamlPath};
use super::yaml::{MAX_TREE_BYTES, Style, YamlKind, YamlNode};

/// The longest text that a scalar may expand to, in bytes.
const MAX_EXPANDED_BYTES: usize = 64 << 10;

/// Why a scalar could not be expanded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ExpandError {
    #[error("the variable `{0}` is not set; set it or give a default with `${{{0}:-value}}`")]
    Missing(String),
    #[error("`${{` without its `}}`; write `$$` for a dollar sign")]
    Open,
    #[error("`{0}` is not a variable's name; write `$$` for a dollar sign")]
    Name(String),
    #[error("the expanded value is too long")]
    Long,
    #[error("the expanded values are longer than {MAX_TREE_BYTES} bytes together")]
    LongTogether,
}

/// Expands every scalar of a tree in place and gives what was wrong.
pub(super) fn expand(root: &mut YamlNode, environment: &dyn Environment) -> Vec<Issue> {
    let mut expander = Expander { environment, bytes: 0, issues: Vec::new() };
    expander.walk(root, &YamlPath::default());
    expander.issues
}

struct Expander<'a> {
    environment: &'a dyn Environment,
    /// Of all expanded values so far.
    bytes: usize,
    issues: Vec<Issue>,
}

impl Expander<'_> {
    fn walk(&mut self, node: &mut YamlNode, path: &YamlPath) {
        match &mut node.kind {
            YamlKind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.walk(item, &path.index(index));
                }
            }
            YamlKind::Map(entries) => {
                for entry in entries {
                    self.walk(&mut entry.value, &path.key(&entry.key));
                }
            }
            YamlKind::Scalar(scalar) if scalar.text.contains('$') => match self.value(&scalar.text) {
                Ok((text, whole)) => {
                    scalar.text = text;
                    if whole {
                        scalar.style = Style::Expanded;
                    }
                }
                Err(_) if self.issues.len() >= MAX_ISSUES => {}
                Err(fault) => {
                    // Whatever is expected here is accepted in its place, so that one fault is one issue.
                    scalar.style = Style::Expanded;
                    self.issues.push(Issue {
                        path: path.to_string(),
                        line: node.mark.line,
                        column: node.mark.column,
                        message: fault.to_string(),
                        suggestion: None,
                        excerpt: None,
                    });
                }
            },
            YamlKind::Scalar(_) => {}
        }
    }

    fn value(&mut self, source: &str) -> Result<(String, bool), ExpandError> {
        let expanded = text(source, self.environment)?;
        self.bytes += expanded.0.len();
        if self.bytes > MAX_TREE_BYTES { Err(ExpandError::LongTogether) } else { Ok(expanded) }
    }
}

/// Expands one text; the flag is set where it was one expansion and nothing else.
fn text(source: &str, environment: &dyn Environment) -> Result<(String, bool), ExpandError> {
    let (mut out, mut rest, mut whole) = (String::new(), source, false);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(inner) = after.strip_prefix('{') {
            let end = inner.find('}').ok_or(ExpandError::Open)?;
            out.push_str(&variable(&inner[..end], environment)?);
            rest = &inner[end + 1..];
            whole = at == 0 && rest.is_empty() && source.len() == end + 3;
        } else {
            out.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
        if out.len() > MAX_EXPANDED_BYTES {
            return Err(ExpandError::Long);
        }
    }
    out.push_str(rest);
    Ok((out, whole))
}

/// Gives a reference's value; as in a shell, `:-` stands in for an empty variable too.
fn variable(reference: &str, environment: &dyn Environment) -> Result<String, ExpandError> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ExpandError::Name(name.chars().take(64).collect()));
    }
    match (environment.var(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Missing(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::Fixed;
    use super::*;

    fn environment() -> Fixed {
        let vars = [("HOST", "example.com"), ("EMPTY", "")];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Fixed { vars, ..Fixed::default() }
    }

    #[test]
    fn variables_defaults_and_dollars_expand() {
        let expanded = |source| text(source, &environment()).map(|(text, _)| text);
        assert_eq!(expanded("${HOST}:${PORT:-443}").as_deref(), Ok("example.com:443"));
        assert_eq!(expanded("${EMPTY:-x}${EMPTY}y").as_deref(), Ok("xy"));
        assert_eq!(expanded("$${HOST} costs $5 or $$5").as_deref(), Ok("${HOST} costs $5 or $5"));
        assert_eq!(expanded("${NOPE}"), Err(ExpandError::Missing("NOPE".to_owned())));
        assert_eq!(expanded("a${HOST"), Err(ExpandError::Open));
        assert_eq!(expanded("${1X}"), Err(ExpandError::Name("1X".to_owned())));
    }

    #[test]
    fn expansions_are_bounded_together() {
        let vars = [("BIG".to_owned(), "x".repeat(60_000))].into();
        let environment = Fixed { vars, ..Fixed::default() };
        let list = |count: usize| format!("[{}]", vec!["\"${BIG}\""; count].join(", "));
        let faults = |count| expand(&mut super::super::yaml::parse(&list(count)).unwrap(), &environment);
        assert!(faults(50).is_empty());
        let issues = faults(5000);
        assert_eq!(issues.len(), MAX_ISSUES);
        assert!(issues[0].message.ends_with("bytes together"), "{}", issues[0]);
    }

    #[test]
    fn only_a_lone_expansion_is_whole() {
        let whole = |source| text(source, &environment()).map(|(_, whole)| whole);
        assert_eq!(whole("${HOST}"), Ok(true));
        assert_eq!(whole("${HOST}${HOST}"), Ok(false));
        assert_eq!(whole("x${HOST}"), Ok(false));
        assert_eq!(whole("$$"), Ok(false));
    }

    #[test]
    fn the_missing_variable_names_the_way_out() {
        assert_eq!(
            ExpandError::Missing("KEY".to_owned()).to_string(),
            "the variable `KEY` is not set; set it or give a default with `${KEY:-value}`"
        );
    }
}
