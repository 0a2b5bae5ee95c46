//! Owns how an evaluation reads for people.

use super::{ComparedEvaluation, Evaluation, ModelEvaluation};
use crate::evaluation::{
    Calibration, ClassScore, Comparison, Confusion, FoundThreshold, LabeledSignal, Report, Share,
};
use std::fmt::{self, Write};

/// Writes all figures as text.
pub(super) fn of(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    // A string takes whatever is written to it.
    let _ = whole(&mut text, evaluation);
    text.truncate(text.trim_end().len());
    text
}

fn whole(to: &mut String, Evaluation { file, model, compared }: &Evaluation) -> fmt::Result {
    one(to, file, model)?;
    compared.as_ref().map_or(Ok(()), |compared| {
        writeln!(to)?;
        one(to, file, &compared.model)?;
        writeln!(to)?;
        paired(to, &model.model, compared)
    })
}

fn one(
    to: &mut String,
    file: &str,
    ModelEvaluation { model, report, found }: &ModelEvaluation,
) -> fmt::Result {
    writeln!(to, "{}: {} texts of {file}, answered by {model}\n", report.signal.as_str(), report.texts)?;
    headline(to, report)?;
    found.as_ref().map_or(Ok(()), |found| threshold(to, found))?;
    writeln!(to)?;
    scores(to, "class", "texts", &report.classes)?;
    if let Some(spans) = &report.spans {
        scores(to, "exact span", "spans", &spans.types)?;
    }
    if let Some(confusion) = &report.confusion {
        matrix(to, confusion)?;
    }
    report.calibration.as_ref().map_or(Ok(()), |calibration| reliability(to, calibration))
}

fn headline(to: &mut String, report: &Report) -> fmt::Result {
    let [from, until] = report.accuracy.interval;
    writeln!(to, "accuracy     {:.3} (95 % interval {from:.3} to {until:.3})", report.accuracy.value)?;
    writeln!(to, "macro F1     {:.3}", report.macro_f1)?;
    if let Some(spans) = &report.spans {
        let (precision, recall) = (spans.precision, spans.recall);
        writeln!(to, "span F1      {:.3} (precision {precision:.3}, recall {recall:.3})", spans.f1)?;
    }
    if let Some(ranking) = &report.ranking {
        writeln!(to, "AUROC        {}", rate(ranking.auroc))?;
        let (caught, alarms) = (rate(ranking.true_positive_rate), rate(ranking.false_positive_rate));
        writeln!(
            to,
            "at {:<9} {caught} of the {} caught, {alarms} of the others flagged",
            ranking.threshold,
            if report.signal == LabeledSignal::Pair { "same" } else { "attacks" }
        )?;
    }
    if let Some(confident) = &report.confident {
        let (share, right) = (confident.share, rate(confident.accuracy));
        writeln!(
            to,
            "sure enough  {share:.3} of the texts at {} or above, accuracy {right}",
            confident.min_confidence
        )?;
    }
    if let Some(calibration) = &report.calibration {
        writeln!(to, "calibration  error (ECE) {:.3}", calibration.ece)?;
    }
    let latency = &report.latency;
    writeln!(
        to,
        "latency      p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms; {:.1} texts/s, asked {} at once",
        latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.texts_per_second, latency.batch
    )?;
    let unknown: Vec<_> = report.unknown.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let unknown = if unknown.is_empty() { "none".to_owned() } else { unknown.join(", ") };
    writeln!(to, "no answer    {unknown}")
}

fn threshold(to: &mut String, found: &FoundThreshold) -> fmt::Result {
    let share = |Share { value, interval: [from, until] }: Share| {
        format!("{value:.4} (95 % interval {from:.4} to {until:.4})")
    };
    writeln!(to, "threshold    {:.4} flags at most {} of the benign texts", found.threshold, found.wanted)?;
    writeln!(to, "  flagged    {}", share(found.false_positives))?;
    writeln!(to, "  caught     {}", found.recall.map_or_else(|| "-".to_owned(), share))
}

/// Two models side by side.
fn paired(to: &mut String, first: &str, compared: &ComparedEvaluation) -> fmt::Result {
    writeln!(to, "first is {first}, second is {}", compared.model.model)?;
    writeln!(
        to,
        "{:<12} {:>6} {:>11} {:>12}  second less first",
        "right", "texts", "only first", "only second"
    )?;
    let paired = &compared.paired;
    let rows = [("all", Some(paired.all)), ("attacks", paired.attacks), ("benign", paired.benign)];
    for (name, comparison) in rows {
        let Some(Comparison { texts, only_first, only_second, difference, interval: [from, until], p_value }) =
            comparison
        else {
            continue;
        };
        writeln!(
            to,
            "{name:<12} {texts:>6} {only_first:>11} {only_second:>12}  {difference:+.3} (95 % interval {from:+.3} to \
             {until:+.3}), p {p_value:.3}"
        )?;
    }
    Ok(())
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.3}"))
}

fn scores(to: &mut String, title: &str, of: &str, classes: &[ClassScore]) -> fmt::Result {
    writeln!(to, "{title:<20} {of:>6} {:>10} {:>8} {:>8}", "precision", "recall", "F1")?;
    for ClassScore { label, support, precision, recall, f1 } in classes {
        writeln!(to, "{label:<20} {support:>6} {precision:>10.3} {recall:>8.3} {f1:>8.3}")?;
    }
    writeln!(to)
}

/// The classes that occur, with a number for each column.
fn matrix(to: &mut String, confusion: &Confusion) -> fmt::Result {
    let occurs = |class: &usize| {
        confusion.rows[*class].iter().any(|count| *count > 0)
            || confusion.rows.iter().any(|row| row[*class] > 0)
    };
    let classes: Vec<usize> = (0..confusion.labels.len()).filter(occurs).collect();
    write!(to, "{:<23}", "confusion, answered:")?;
    for column in 1..=classes.len() {
        write!(to, " {column:>5}")?;
    }
    writeln!(to, "  none")?;
    for (place, &class) in classes.iter().enumerate() {
        write!(to, "{:>2} {:<20}", place + 1, confusion.labels[class])?;
        for column in classes.iter().copied().chain([confusion.labels.len()]) {
            write!(to, " {:>5}", confusion.rows[class][column])?;
        }
        writeln!(to)?;
    }
    writeln!(to)
}

fn reliability(to: &mut String, calibration: &Calibration) -> fmt::Result {
    writeln!(to, "{:<20} {:>6} {:>10} {:>8}", "confidence", "texts", "said", "right")?;
    for bin in &calibration.bins {
        let range = format!("{:.2} to {:.2}", bin.from, bin.to);
        writeln!(to, "{range:<20} {:>6} {:>10.3} {:>8.3}", bin.count, bin.confidence, bin.right)?;
    }
    Ok(())
}
