//! Owns an explanation as text for a terminal.

use super::{
    ExplainedAdmission, ExplainedDomain, ExplainedEmbedding, ExplainedEntity, ExplainedFindings,
    ExplainedJailbreak, ExplainedPlan, ExplainedSaturation, ExplainedTime, Explanation, FindingOrReason,
};
use std::fmt;

/// How much of a prompt people are shown, in characters.
const SHOWN_CHARS: usize = 100;

/// How many domains people are shown, and from which probability on.
const SHOWN_DOMAINS: (usize, f32) = (4, 0.005);

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.prompt.chars().take(SHOWN_CHARS).collect();
        let more = if start.len() < self.prompt.len() { " …" } else { "" };
        writeln!(f, "prompt     {}{more}, for `{}`", quoted(&start), self.requested_model)?;
        self.signals.fmt(f)?;
        for (place, signal) in self.policy_signals.iter().enumerate() {
            let title = if place == 0 { "signals" } else { "" };
            let mark = if signal.matches { "+" } else { "-" };
            let score = signal.score.map(|score| format!(" {score:.4}")).unwrap_or_default();
            writeln!(f, "{title:<9}  {mark} {} ({}){score}: {}", signal.name, signal.kind, signal.why)?;
        }
        for (place, decision) in self.decisions.iter().enumerate() {
            let title = if place == 0 { "decisions" } else { "" };
            let mark = match (decision.chosen, decision.matched) {
                (true, _) => "=>",
                (false, true) => " +",
                (false, false) => " -",
            };
            writeln!(
                f,
                "{title:<9} {mark} {} (priority {}): {}",
                decision.name, decision.priority, decision.why
            )?;
        }
        writeln!(f, "plan       {}", self.plan)?;
        show(f, "replicas", self.replicas.as_ref(), |f, replicas| replicas.fmt(f))?;
        self.time.fmt(f)
    }
}

impl fmt::Display for ExplainedFindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.judges.is_empty() {
            writeln!(f, "judged by  {}", self.judges.join(" and "))?;
        }
        show(f, "domain", self.domain.as_ref(), |f, domain: &ExplainedDomain| {
            let mut likely: Vec<_> = domain.probabilities.iter().collect();
            likely.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            let shown = likely.iter().take(SHOWN_DOMAINS.0).filter(|(_, p)| **p >= SHOWN_DOMAINS.1);
            let shown: Vec<_> = shown.map(|(label, p)| format!("{label} {p:.3}")).collect();
            write!(f, "{}", shown.join(", "))?;
            if domain.coverage < 1.0 {
                write!(f, " (from {:.0} % of the text)", domain.coverage * 100.0)
            } else {
                Ok(())
            }
        })?;
        show(f, "jailbreak", self.jailbreak.as_ref(), |f, risk: &ExplainedJailbreak| {
            let (verdict, order) = if risk.flagged { ("yes", ">=") } else { ("no", "<") };
            write!(f, "{verdict}: {:.4} {order} {}", risk.score, risk.threshold)?;
            if risk.flagged { write!(f, ", bytes {}..{}", risk.at[0], risk.at[1]) } else { Ok(()) }
        })?;
        show(f, "pii", self.pii.as_ref(), |f, found: &Vec<ExplainedEntity>| {
            let each = found.iter().map(|entity| {
                let ExplainedEntity { kind, start, end, confidence, by } = entity;
                format!("{kind} at {start}..{end} ({confidence:.3}, {by})")
            });
            let each: Vec<_> = each.collect();
            f.write_str(if each.is_empty() { "none" } else { "" })?;
            f.write_str(&each.join(", "))
        })?;
        show(f, "embedding", self.embedding.as_ref(), |f, vector: &ExplainedEmbedding| {
            write!(f, "{} wide, norm {:.4}", vector.width, vector.norm)
        })
    }
}

fn show<T>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    finding: Option<&FindingOrReason<T>>,
    known: impl FnOnce(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    let Some(finding) = finding else { return Ok(()) };
    write!(f, "{name:<10} ")?;
    match finding {
        FindingOrReason::Known(answer) => known(f, answer)?,
        FindingOrReason::Unknown { unknown } => write!(f, "unknown: {unknown}")?,
    }
    writeln!(f)
}

impl fmt::Display for ExplainedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan { model, pools, decision, reason, chosen, runner_up, noticed, admission } => {
                let pools = pools.iter().map(|pool| {
                    let hedged = pool.hedged_after_ms.map(|after| format!(", sent twice after {after} ms"));
                    format!("{} (as {}{})", pool.name, pool.upstream_model, hedged.unwrap_or_default())
                });
                let pools: Vec<_> = pools.collect();
                write!(f, "{model} by {reason}")?;
                if let Some(decision) = decision {
                    write!(f, " ({decision})")?;
                }
                if let Some((by, why)) = chosen {
                    write!(f, ", of several by {by}: {why}")?;
                }
                if let Some(other) = runner_up {
                    write!(f, " (next: {other})")?;
                }
                write!(f, "; pools: {}", pools.join(", then "))?;
                noticed.iter().try_for_each(|noticed| write!(f, "; a guard noticed {noticed}"))?;
                admission.as_ref().map_or(Ok(()), |admission| admission.fmt(f))
            }
            Self::Answer { answered, .. } => write!(f, "answered here: {}", quoted(answered)),
            Self::Rejection { status, message, .. } => write!(f, "rejected with {status}: {message}"),
        }
    }
}

/// A text in quotes, without what moves a terminal's cursor. Unlike `Debug`, it leaves marks on letters as they are: Thai and Hindi
/// are read by them.
fn quoted(text: &str) -> String {
    let parts: Vec<String> = text.split('\'').map(|part| part.escape_debug().to_string()).collect();
    format!("\"{}\"", parts.join("'"))
}

impl fmt::Display for ExplainedAdmission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, priority, when_saturated, max_wait_ms, saturated_from } = self;
        let ExplainedSaturation { queue, kv_usage, in_flight } = saturated_from;
        write!(f, "\nadmission  priority {priority}; {when_saturated}")?;
        if *when_saturated == "waits" {
            write!(f, " up to {:.0} s", max_wait_ms / 1e3)?;
        }
        write!(f, " while {pool} has {queue} waiting or {:.0} % of its KV cache in use", kv_usage * 100.0)?;
        in_flight.map_or(Ok(()), |most| write!(f, " or {most} requests"))?;
        f.write_str(", in the mean of its endpoints")
    }
}

impl fmt::Display for ExplainedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokenize_ms, queue_ms, compute_ms, decide_ms, .. } = self;
        write!(
            f,
            "time       tokenize {tokenize_ms:.2} ms, queue {queue_ms:.2} ms, compute {compute_ms:.2} ms, decide {decide_ms:.3} ms"
        )?;
        write!(f, "; {} tokens in {} windows, {} cached", self.tokens, self.windows, self.cached)?;
        if tokenize_ms + queue_ms + compute_ms > self.policy_deadline_ms {
            write!(f, "\n           longer than the {} ms that the policy waits", self.policy_deadline_ms)?;
        }
        writeln!(f)
    }
}
