//! Labels: the names of a checkpoint's classes, and what they say about its head.
//!
//! Knows nothing of weights.

use super::CheckpointConfig;
use crate::findings::ClassifyHead;

/// Words in the names of labels of attacks.
const ATTACK: [&str; 8] =
    ["jailbreak", "injection", "malicious", "unsafe", "attack", "harmful", "adversarial", "hacking"];

/// Words in the names of labels of unsupported tokens.
const UNSUPPORTED: [&str; 7] =
    ["hallucinat", "unsupported", "ungrounded", "unfaithful", "fabricat", "contradict", "baseless"];

/// Words that negate one of those.
const NOT: [&str; 4] = ["not", "no", "non", "benign"];

/// Names of the positive one of two labels that are otherwise without meaning.
const POSITIVE: [&str; 5] = ["1", "label 1", "true", "yes", "positive"];

/// Returns the names of `count` labels, by their index.
pub(super) fn of(config: &CheckpointConfig, count: usize) -> Vec<String> {
    let by_id: Vec<(usize, &String)> =
        config.id2label.iter().flatten().filter_map(|(id, label)| Some((id.parse().ok()?, label))).collect();
    let by_label = config.label2id.iter().flatten().map(|(label, id)| (*id, label));
    let named: Vec<(usize, &String)> = if by_id.is_empty() { by_label.collect() } else { by_id };
    let count = named.iter().map(|(id, _)| id.saturating_add(1)).max().unwrap_or(count);
    let named: std::collections::HashMap<usize, &String> = named.into_iter().collect();
    let name = |id: usize| named.get(&id).map(|label| (*label).clone());
    // No real checkpoint has more; a wrong id must not become a large allocation.
    (0..count.min(65_536)).map(|id| name(id).unwrap_or_else(|| format!("LABEL_{id}"))).collect()
}

/// Tells which head a classifier of texts with these labels is.
pub(super) fn head_of_texts(labels: &[String], assigned: Option<ClassifyHead>) -> ClassifyHead {
    match assigned {
        Some(head) => head,
        None if labels.len() <= 4 && labels.iter().any(|label| is_attack(label)) => ClassifyHead::Jailbreak,
        None => ClassifyHead::Domain,
    }
}

/// Returns the labels of attacks; none where the names do not say.
pub(super) fn attacks(labels: &[String]) -> Vec<usize> {
    let with = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..labels.len()).filter(|at| is(&labels[*at])).collect()
    };
    let attacks = with(&is_attack);
    match (attacks.is_empty(), labels.len()) {
        (false, _) => attacks,
        (true, 1) => vec![0],
        (true, 2) => with(&|label| POSITIVE.contains(&words(label).join(" ").as_str())),
        (true, _) => Vec::new(),
    }
}

/// Returns the labels of unsupported tokens; the second of two where the names do not say.
pub(super) fn unsupported(labels: &[String]) -> Vec<usize> {
    let found: Vec<usize> = (0..labels.len()).filter(|at| names_any(&labels[*at], &UNSUPPORTED)).collect();
    if found.is_empty() && labels.len() == 2 { vec![1] } else { found }
}

fn is_attack(label: &str) -> bool {
    names_any(label, &ATTACK)
}

fn names_any(label: &str, known: &[&str]) -> bool {
    let words = words(label);
    let names_one = words.iter().any(|word| known.iter().any(|known| word.starts_with(known)));
    names_one && !words.iter().any(|word| NOT.contains(&word.as_str()))
}

fn words(label: &str) -> Vec<String> {
    let parts = label.split(|c: char| !c.is_alphanumeric());
    parts.filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn labels_are_in_the_order_of_their_ids() {
        let config: CheckpointConfig = serde_json::from_str(
            r#"{"model_type": "bert", "id2label": {"10": "k", "2": "c", "0": "a", "1": "b"}}"#,
        )
        .unwrap();
        let names = of(&config, 2);
        assert_eq!((names.len(), &names[..4]), (11, &labels(&["a", "b", "c", "LABEL_3"])[..]));
        assert_eq!(names[10], "k");
        let config: CheckpointConfig =
            serde_json::from_str(r#"{"model_type": "bert", "label2id": {"yes": 1, "no": 0}}"#).unwrap();
        assert_eq!(of(&config, 7), ["no", "yes"]);
        let config: CheckpointConfig = serde_json::from_str(r#"{"model_type": "bert"}"#).unwrap();
        assert_eq!(of(&config, 3), ["LABEL_0", "LABEL_1", "LABEL_2"]);
    }

    #[test]
    fn the_label_of_an_attack_is_known_by_its_name() {
        for (names, want) in [
            (&["benign", "jailbreak"][..], &[1][..]),
            (&["INJECTION", "SAFE"], &[0]),
            (&["LEGIT", "INJECTION"], &[1]),
            (&["BENIGN", "INJECTION", "JAILBREAK"], &[1, 2]),
            (&["not_jailbreak", "jailbreak"], &[1]),
            (&["safe", "unsafe"], &[1]),
            (&["no attack", "Malicious prompt"], &[1]),
            (&["LABEL_0", "LABEL_1"], &[1]),
            (&["0", "1"], &[1]),
            (&["jailbreak"], &[0]),
            (&["cats", "dogs"], &[]),
            (&["LABEL_0", "LABEL_1", "LABEL_2"], &[]),
        ] {
            assert_eq!(attacks(&labels(names)), want, "{names:?}");
        }
    }

    #[test]
    fn the_label_of_unsupported_tokens_is_known_by_its_name_or_by_its_place() {
        for (names, want) in [
            (&["SUPPORTED", "HALLUCINATED"][..], &[1][..]),
            (&["hallucination", "supported"], &[0]),
            (&["not_hallucinated", "hallucinated"], &[1]),
            (&["LABEL_0", "LABEL_1"], &[1]),
            (&["0", "1"], &[1]),
            (&["O", "B-FABRICATED", "I-FABRICATED"], &[1, 2]),
            (&["O", "B-PERSON", "I-PERSON"], &[]),
            (&["supported"], &[]),
        ] {
            assert_eq!(unsupported(&labels(names)), want, "{names:?}");
        }
    }

    #[test]
    fn only_an_attacks_name_makes_a_classifier_a_guard_unasked() {
        assert_eq!(head_of_texts(&labels(&["benign", "jailbreak"]), None), ClassifyHead::Jailbreak);
        assert_eq!(head_of_texts(&labels(&["LABEL_0", "LABEL_1"]), None), ClassifyHead::Domain);
        assert_eq!(
            head_of_texts(&labels(&["LABEL_0", "LABEL_1"]), Some(ClassifyHead::Jailbreak)),
            ClassifyHead::Jailbreak
        );
        assert_eq!(head_of_texts(&labels(&["law", "math", "other"]), None), ClassifyHead::Domain);
    }
}
