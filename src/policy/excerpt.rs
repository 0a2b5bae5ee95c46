//! Owns how the place of an issue is shown: its line of the text, and a caret below. Refuses to show what may be a secret.

/// The most characters of a line that are shown.
const WIDTH: usize = 100;

/// The longest line that is shown, in bytes: each of many issues may stand in the same one.
const MAX_LINE_BYTES: usize = 2048;

/// Words for what nobody should see: a line or a path with one of them is not shown.
const SECRET_WORDS: [&str; 9] =
    ["value", "credential", "secret", "password", "authorization", "bearer", "api", "key", "keys"];

/// Gives a line of a text, from 1, with a caret below a column, unless it or the path of what is there tells of a secret.
pub(super) fn excerpt(lines: &[&str], line: usize, column: usize, path: &str) -> Option<String> {
    let text = lines.get(line.checked_sub(1)?)?.trim_end();
    if text.is_empty() || text.len() > MAX_LINE_BYTES || may_hold_secret(text) || may_hold_secret(path) {
        return None;
    }
    let at = column.saturating_sub(1);
    let first = (at + 1).saturating_sub(WIDTH * 3 / 4);
    let shown: String = text.chars().skip(first).take(WIDTH).map(visible).collect();
    let (gutter, indent) = (" ".repeat(line.to_string().len()), " ".repeat(at - first));
    Some(format!("  {line} | {shown}\n  {gutter} | {indent}^"))
}

/// A tab as wide as its one column, and nothing that moves a terminal's cursor.
fn visible(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

fn may_hold_secret(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    words.any(|word| SECRET_WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize) -> Option<String> {
        excerpt(&text.lines().collect::<Vec<_>>(), line, column, "pools.p")
    }

    #[test]
    fn a_caret_stands_below_the_column() {
        assert_eq!(shown("a: 1\n  b: é\tx\n", 2, 3).as_deref(), Some("  2 |   b: é x\n    |   ^"));
        assert_eq!(shown("a: 1\n", 7, 1), None);
        assert_eq!(shown("\n", 1, 1), None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_column() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = shown(&text, 1, 501).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].chars().count(), "  1 | ".len() + WIDTH);
        assert_eq!(lines[0].find('X'), lines[1].find('^'));
        assert_eq!(self::shown(&text.repeat(3), 1, 501), None);
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for line in ["credential: {value: sk-1}", "x: {password: p, typo: 1}", "headers: {Authorization: x}"]
        {
            assert_eq!(shown(line, 1, 1), None, "{line}");
        }
        assert!(shown("max_tokens: x", 1, 1).is_some());
    }
}
