//! Owns Prometheus' text format 0.0.4 as far as gauges need it: pieces into lines, lines into samples.
//! Refuses to know any family. Allocates nothing but for a line that is cut between two pieces.
//!
//! Source: Prometheus' "Exposition formats", text-based format.

use memchr::{memchr, memchr2};

/// The longest line that is kept where it is cut; a longer one is passed over.
const MAX_LINE: usize = 64 << 10;

/// Puts pieces of a page together into lines.
#[derive(Debug, Default)]
pub(super) struct PageLines {
    /// The start of a line whose end has not come yet.
    begun: Vec<u8>,
    /// That line is too long.
    is_skipping: bool,
}

impl PageLines {
    /// Gives each line that ends in this piece, without its line feed. What follows the page's last line feed was cut
    /// off, and is no line.
    pub(super) fn feed(&mut self, piece: &[u8], mut on_line: impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            if self.begun.is_empty() {
                on_line(line);
            } else {
                self.begun.extend_from_slice(line);
                on_line(&self.begun);
                self.begun.clear();
            }
        }
        if self.is_skipping || self.begun.len() + rest.len() > MAX_LINE {
            self.is_skipping |= !rest.is_empty() || !self.begun.is_empty();
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(rest);
        }
    }
}

/// The name of a line's family and what follows it; nothing for comments and empty lines.
pub(super) fn name_of(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_start();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let end = line.iter().position(|byte| !is_name(byte)).unwrap_or(line.len());
    (end > 0).then(|| line.split_at(end))
}

/// One sample of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricSample<'a> {
    pub(super) labels: MetricLabels<'a>,
    /// `NaN` and the infinities included.
    pub(super) value: f64,
}

impl<'a> MetricSample<'a> {
    /// Reads what follows a family's name; nothing where it is broken. A time stamp is passed over.
    pub(super) fn read(rest: &'a [u8]) -> Option<Self> {
        let rest = rest.trim_ascii();
        let (labels, rest) =
            if rest.first() == Some(&b'{') { MetricLabels::split(rest)? } else { (MetricLabels(&[]), rest) };
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let value = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        Some(Self { labels, value })
    }
}

/// The labels of a sample: what stands between its braces.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricLabels<'a>(&'a [u8]);

impl<'a> MetricLabels<'a> {
    /// Labels from the text that [`Self::bytes`] gave.
    pub(super) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The text between the braces.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Splits a text that starts with a brace behind the one that closes it.
    fn split(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut at = 1;
        loop {
            at += memchr2(b'"', b'}', &text[at..])?;
            if text[at] == b'}' {
                return Some((Self(&text[1..at]), &text[at + 1..]));
            }
            at += 1;
            at += quoted(&text[at..])? + 1;
        }
    }

    /// The value of a label, its escapes as they stand.
    pub(super) fn get(self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Every label with its value, its escapes as they stand, up to the first that is broken.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let start = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
            rest = &rest[start..];
            let equals = memchr(b'=', rest)?;
            let name = rest[..equals].trim_ascii();
            let value = rest[equals + 1..].trim_ascii_start().strip_prefix(b"\"")?;
            let end = quoted(value)?;
            rest = &value[end + 1..];
            Some((name, &value[..end]))
        })
    }
}

/// Where the quote stands that ends a text.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// A label's value with its escapes resolved.
pub(super) fn unescaped(value: &[u8]) -> String {
    let mut text = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'\\', Some(b'n')) => text.push(b'\n'),
            (b'\\', Some(escaped)) => text.push(*escaped),
            (plain, _) => {
                text.push(*plain);
                continue;
            }
        }
        bytes.next();
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut page, mut found) = (PageLines::default(), Vec::new());
        for piece in pieces {
            page.feed(piece, |line| found.push(String::from_utf8_lossy(line).into_owned()));
        }
        found
    }

    /// A sample's name, labels and value.
    type NamedSample = (String, Vec<(String, String)>, f64);

    fn sample(line: &str) -> Option<NamedSample> {
        let (name, rest) = name_of(line.as_bytes())?;
        let sample = MetricSample::read(rest)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let labels = sample.labels.iter().map(|(name, value)| (text(name), unescaped(value))).collect();
        Some((text(name), labels, sample.value))
    }

    #[test]
    fn lines_are_put_together_and_a_cut_off_end_is_none() {
        assert_eq!(lines(&[b"a 1\nb", b" ", b"2\n\nc 3"]), ["a 1", "b 2", ""]);
    }

    #[test]
    fn a_line_without_end_is_passed_over_and_not_kept() {
        let mut page = PageLines::default();
        let mut found = Vec::new();
        for _ in 0..100 {
            page.feed(&[b'x'; 4096], |_line| unreachable!("no line ends"));
            assert!(page.begun.len() <= MAX_LINE);
        }
        page.feed(b"x\ny 1\n", |line| found.push(line.to_vec()));
        assert_eq!(found, [b"y 1"]);
    }

    #[test]
    fn samples_are_read_whatever_their_labels_and_numbers_look_like() {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (line, name, labels, value) in [
            ("a 1", "a", vec![], 1.0),
            ("a{} 1.5e+09", "a", vec![], 1.5e9),
            (
                "  a  {x=\"1\" , y = \"2\",}  -3  1700000000000\r",
                "a",
                vec![label("x", "1"), label("y", "2")],
                -3.0,
            ),
            (
                r#"a:b{x="}\"\\\n",y=""} +Inf"#,
                "a:b",
                vec![label("x", "}\"\\\n"), label("y", "")],
                f64::INFINITY,
            ),
        ] {
            assert_eq!(sample(line), Some((name.to_owned(), labels, value)), "{line}");
        }
        assert!(sample("a NaN").unwrap().2.is_nan());
        for broken in ["", "# HELP a b", "a", "a{", "a{x=\"1\" 1", "a{x=\"1} 1", "a{x=\"\\", "a one", "{a} 1"]
        {
            assert_eq!(sample(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_however_they_are_cut(
            page in prop::collection::vec(prop::sample::select(&b"ab{}=\",\\\n #1.eN+-\xff\r\t"[..]), 0..400),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(page.len() + 1)).collect();
            cuts.extend([0, page.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &page[ends[0]..ends[1]]).collect();
            prop_assert_eq!(lines(&pieces), lines(&[&page]));
            for line in page.split(|byte| *byte == b'\n') {
                if let Some((_, rest)) = name_of(line) && let Some(sample) = MetricSample::read(rest) {
                    prop_assert!(sample.labels.iter().all(|(_, value)| unescaped(value).len() <= 3 * value.len()));
                }
            }
        }

        #[test]
        fn a_label_is_read_as_it_was_written(value in ".*", number in any::<f64>()) {
            let written = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let line = format!("a{{x=\"{written}\"}} {number:e}");
            let (_, labels, read) = sample(&line).unwrap();
            prop_assert_eq!(labels, [("x".to_owned(), value)]);
            prop_assert_eq!(read.to_bits(), number.to_bits());
        }
    }
}
