//! Owns the file of labelled texts: JSON lines, with every bad line named at once.

use super::spans::LabeledSpan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// How many bad lines are named; the rest is counted.
const MOST_NAMED: usize = 20;

/// The labels of a file for the jailbreak signal, in the order of their indices.
const GUARD: [&str; 2] = ["benign", "jailbreak"];

/// The labels of a file of pairs, in the order of their indices.
const PAIR: [&str; 2] = ["different", "same"];

/// The type by which some data sets say that a text has none.
const NO_PII: &str = "NO_PII";

/// What texts are labelled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LabeledSignal {
    /// What a text is about.
    Domain,
    /// Whether a text attacks the model that reads it.
    Jailbreak,
    /// Which personal data a text holds.
    Pii,
    /// Which secrets a text holds, by patterns alone.
    Secrets,
    /// Whether the answer to another text answers this one too.
    Pair,
}

impl LabeledSignal {
    /// Whether places in a text are labelled, rather than the text.
    pub(super) fn has_spans(self) -> bool {
        matches!(self, Self::Pii | Self::Secrets)
    }

    /// The signal's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Jailbreak => "jailbreak",
            Self::Pii => "pii",
            Self::Secrets => "secrets",
            Self::Pair => "pair",
        }
    }
}

/// The labelled texts of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// What they are labelled with.
    pub signal: LabeledSignal,
    /// The classes that [`GroundTruth::Class`] counts; empty for personal data.
    pub labels: Vec<String>,
    /// The texts, in the file's order; never empty.
    pub items: Vec<Sample>,
}

/// One labelled text.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The text.
    pub text: String,
    /// The other of a pair.
    pub other: Option<String>,
    /// Its label.
    pub truth: GroundTruth,
}

/// The label that a person gave a text.
#[derive(Debug, Clone, PartialEq)]
pub enum GroundTruth {
    /// Of the class with that index.
    Class(usize),
    /// One that holds personal data of these types.
    Types(BTreeSet<String>),
    /// One that holds personal data exactly there.
    Spans(BTreeSet<LabeledSpan>),
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: String,
}

/// Why a file of labelled texts cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLines {
    /// The first of them; none where the file has no lines at all.
    pub first: Vec<BadLine>,
    /// How many there are.
    pub count: usize,
}

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("no labelled text in it");
        }
        write!(f, "{} bad line(s):", self.count)?;
        for bad in &self.first {
            write!(f, "\n  line {}: {}", bad.line, bad.fault)?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for BadLines {}

/// A line as it is written; what else is in it is the writer's.
#[derive(Deserialize)]
struct RawSample {
    text: String,
    other: Option<String>,
    label: Option<String>,
    types: Option<Vec<String>>,
    spans: Option<Vec<(usize, usize, String)>>,
}

/// The labels that a model can give.
#[derive(Debug, Clone, Default)]
pub struct KnownLabels {
    /// The domains.
    pub domains: Vec<String>,
    /// The kinds of personal data.
    pub pii_kinds: Vec<String>,
}

/// Reads a file; what it is labelled with is `signal`, or what its lines look like. Its labels must be known: what a
/// model cannot say would count as its mistake.
pub fn read(file: &str, signal: Option<LabeledSignal>, known: &KnownLabels) -> Result<Samples, BadLines> {
    let lines = file.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (mut raws, mut bad) = (Vec::new(), Vec::new());
    for (at, line) in lines {
        match serde_json::from_str::<RawSample>(line) {
            Ok(raw) => raws.push((at + 1, raw)),
            Err(error) => bad.push(BadLine { line: at + 1, fault: explained(&error) }),
        }
    }
    let signal = signal.unwrap_or_else(|| infer_signal(&raws));
    let labels = match signal {
        LabeledSignal::Domain => known.domains.clone(),
        LabeledSignal::Jailbreak => GUARD.map(str::to_owned).to_vec(),
        LabeledSignal::Pair => PAIR.map(str::to_owned).to_vec(),
        LabeledSignal::Pii | LabeledSignal::Secrets => Vec::new(),
    };
    let mut items = Vec::with_capacity(raws.len());
    for (line, raw) in raws {
        let allowed = if signal.has_spans() { &known.pii_kinds } else { &labels };
        match truth(&raw, signal, allowed) {
            Ok(truth) => items.push(Sample { text: raw.text, other: raw.other, truth }),
            Err(fault) => bad.push(BadLine { line, fault }),
        }
    }
    if !bad.is_empty() || items.is_empty() {
        bad.sort_by_key(|bad| bad.line);
        let count = bad.len();
        bad.truncate(MOST_NAMED);
        return Err(BadLines { first: bad, count });
    }
    Ok(Samples { signal, labels, items })
}

/// A parser's complaint without its place: the line is known, and is always its first.
fn explained(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((fault, _)) => format!("{fault} at column {}", error.column()),
        None => text,
    }
}

fn infer_signal(raws: &[(usize, RawSample)]) -> LabeledSignal {
    let mut labels = raws.iter().filter_map(|(_, raw)| raw.label.as_deref()).peekable();
    if labels.peek().is_none() && raws.iter().any(|(_, raw)| raw.types.is_some() || raw.spans.is_some()) {
        return LabeledSignal::Pii;
    }
    if raws.iter().any(|(_, raw)| raw.other.is_some()) {
        return LabeledSignal::Pair;
    }
    // A domain's labels never are those of a guard, so that one typing error does not turn the meaning of a file.
    if labels.any(|label| GUARD.contains(&label)) { LabeledSignal::Jailbreak } else { LabeledSignal::Domain }
}

fn truth(raw: &RawSample, signal: LabeledSignal, labels: &[String]) -> Result<GroundTruth, String> {
    if raw.text.trim().is_empty() {
        return Err("`text` is empty".to_owned());
    }
    if signal.has_spans() {
        return personal_data(raw, labels);
    }
    if signal == LabeledSignal::Pair && raw.other.as_ref().is_none_or(|other| other.trim().is_empty()) {
        return Err("`other` is missing or empty".to_owned());
    }
    let label = raw.label.as_deref().ok_or("`label` is missing")?;
    let class = labels.iter().position(|known| known == label);
    class.map(GroundTruth::Class).ok_or_else(|| unknown_label(label, labels))
}

fn unknown_label(label: &str, labels: &[String]) -> String {
    let near = labels.iter().map(|known| (strsim::damerau_levenshtein(label, known), known)).min();
    match near {
        Some((distance, known)) if distance <= 2 => {
            format!("label `{label}` is not known; did you mean `{known}`?")
        }
        _ => format!("label `{label}` is none of {}", labels.join(", ")),
    }
}

fn personal_data(raw: &RawSample, kinds: &[String]) -> Result<GroundTruth, String> {
    let named = raw.types.iter().flatten().chain(raw.spans.iter().flatten().map(|(_, _, kind)| kind));
    if let Some(unknown) = named.filter(|kind| *kind != NO_PII).find(|kind| !kinds.contains(kind)) {
        return Err(unknown_label(unknown, kinds));
    }
    let Some(spans) = &raw.spans else {
        let types = raw.types.as_ref().ok_or("neither `types` nor `spans` is there")?;
        return Ok(GroundTruth::Types(types.iter().filter(|kind| *kind != NO_PII).cloned().collect()));
    };
    let length = raw.text.chars().count();
    let mut truth = BTreeSet::new();
    for (start, end, kind) in spans {
        if start >= end || *end > length {
            return Err(format!("span {start}..{end} is not within the text's {length} characters"));
        }
        truth.insert(LabeledSpan { start: *start, end: *end, kind: kind.clone() });
    }
    Ok(GroundTruth::Spans(truth))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> KnownLabels {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        KnownLabels { domains: names(&["law", "math"]), pii_kinds: names(&["AGE", "PERSON"]) }
    }

    #[test]
    fn a_kind_that_no_model_tells_is_refused() {
        for line in ["{\"text\":\"a\",\"types\":[\"PERSN\"]}", "{\"text\":\"a\",\"spans\":[[0,1,\"PERSN\"]]}"]
        {
            let bad = read(line, None, &known()).unwrap_err().to_string();
            assert!(
                bad.contains("line 1") && bad.contains("label `PERSN` is not known; did you mean `PERSON`?"),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_signal_is_inferred_from_the_labels() {
        let inferred = |file: &str| read(file, None, &known()).map(|samples| (samples.signal, samples.items));
        let (signal, items) = inferred("{\"text\":\"2+2\",\"label\":\"math\",\"source\":1}\n\n").unwrap();
        assert_eq!(
            (signal, &items[0].truth, items[0].text.as_str()),
            (LabeledSignal::Domain, &GroundTruth::Class(1), "2+2")
        );
        let guard = "{\"text\":\"a\",\"label\":\"jailbreak\"}\r\n{\"text\":\"b\",\"label\":\"benign\"}";
        let (signal, items) = inferred(guard).unwrap();
        assert_eq!(signal, LabeledSignal::Jailbreak);
        assert_eq!([&items[0].truth, &items[1].truth], [&GroundTruth::Class(1), &GroundTruth::Class(0)]);
        let (signal, items) = inferred("{\"text\":\"a\",\"types\":[\"AGE\",\"NO_PII\"]}").unwrap();
        assert_eq!(
            (signal, &items[0].truth),
            (LabeledSignal::Pii, &GroundTruth::Types(BTreeSet::from(["AGE".to_owned()])))
        );
        let (_, items) = inferred("{\"text\":\"ä b\",\"spans\":[[2,3,\"AGE\"]],\"types\":[]}").unwrap();
        let span = LabeledSpan { start: 2, end: 3, kind: "AGE".to_owned() };
        assert_eq!(items[0].truth, GroundTruth::Spans(BTreeSet::from([span])));
    }

    #[test]
    fn pairs_have_two_texts() {
        let pair = "{\"text\":\"a\",\"other\":\"b\",\"label\":\"same\"}";
        let samples = read(pair, None, &known()).unwrap();
        assert_eq!((samples.signal, samples.items[0].other.as_deref()), (LabeledSignal::Pair, Some("b")));
        assert_eq!(samples.items[0].truth, GroundTruth::Class(1));
        let bad =
            read(&format!("{pair}\n{{\"text\":\"a\",\"label\":\"same\"}}"), None, &known()).unwrap_err();
        assert_eq!((bad.first[0].line, bad.first[0].fault.as_str()), (2, "`other` is missing or empty"));
    }

    #[test]
    fn a_configured_signal_is_not_inferred() {
        let both = "{\"text\":\"a\",\"label\":\"math\",\"types\":[]}";
        assert_eq!(read(both, None, &known()).unwrap().signal, LabeledSignal::Domain);
        assert_eq!(read(both, Some(LabeledSignal::Pii), &known()).unwrap().signal, LabeledSignal::Pii);
        let bad = read(both, Some(LabeledSignal::Jailbreak), &known()).unwrap_err();
        assert_eq!(bad.first[0].fault, "label `math` is none of benign, jailbreak");
    }

    #[test]
    fn all_bad_lines_are_named_in_their_order() {
        let file = "{\"text\":\"a\",\"label\":\"math\"}\n{\"text\":\"a\",\"label\":\"mat\"}\nnonsense\n{\"text\":\" \",\"label\":\"law\"}\n{\"text\":\"a\"}\n{\"label\":\"law\"}\n";
        let bad = read(file, None, &known()).unwrap_err();
        let faults: Vec<_> = bad.first.iter().map(|bad| (bad.line, bad.fault.as_str())).collect();
        assert_eq!(
            faults,
            [
                (2, "label `mat` is not known; did you mean `math`?"),
                (3, "expected ident at column 2"),
                (4, "`text` is empty"),
                (5, "`label` is missing"),
                (6, "missing field `text` at column 15"),
            ]
        );
        assert!(bad.to_string().starts_with("5 bad line(s):\n  line 2: label"), "{bad}");
    }

    #[test]
    fn spans_outside_the_text_are_bad_and_many_bad_lines_are_counted() {
        let bad = read("{\"text\":\"äö\",\"spans\":[[0,3,\"AGE\"]]}", None, &known()).unwrap_err();
        assert_eq!(bad.first[0].fault, "span 0..3 is not within the text's 2 characters");
        let bad = read(&"?\n".repeat(25), None, &known()).unwrap_err();
        assert_eq!((bad.count, bad.first.len()), (25, MOST_NAMED));
        assert!(bad.to_string().ends_with("and 5 more"), "{bad}");
        assert_eq!(read("\n \n", None, &known()).unwrap_err().to_string(), "no labelled text in it");
    }
}
