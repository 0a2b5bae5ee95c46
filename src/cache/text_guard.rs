//! Owns whether two texts that an embedding sees as near ask for the same.
//! Refuses to guess: a word that it cannot account for on both sides is a difference, in any language.
//!
//! After function words, politeness and known synonyms are taken away, two texts must have the same words and the
//! same numbers. Beyond that they must agree in
//!
//! - how often something is negated, and what;
//! - which side of an opposition is meant (enable and disable, before and after, more than and less than);
//! - what stands behind a direction ("from A to B", "bigger than B", "B's A");
//! - the order of what does not stand beside each other ("dog bites man");
//! - time (was, is, will be), person (my, your), and whether yes or no is the answer.
//!
//! Quoted words, code, paths, addresses and file names are compared letter by letter.

mod facts;
mod phrases;
mod tables;
#[cfg(test)]
mod tests;
mod tokens;

use facts::{Term, TextFacts};
use tables::OPPOSED_CLASSES;

/// One text, read once to be compared with several.
#[derive(Debug)]
pub(super) struct TextGuard {
    facts: TextFacts,
}

impl TextGuard {
    pub(super) fn new(text: &str) -> Self {
        Self { facts: TextFacts::of(text) }
    }

    /// Tells whether words leave open that an answer to the other text answers this one: they have not the same terms, and
    /// what no likeness may blur agrees (numbers, quotations, code and addresses by letter, how often something is negated,
    /// which side of an opposition is meant, and whether something is the asker's own).
    pub(super) fn may_be_paraphrase(&self, other: &str) -> bool {
        let (own, other) = (&self.facts, &TextFacts::of(other));
        own.person.mine == other.person.mine
            && own.negations == other.negations
            && have_same(&by_letter(own), &by_letter(other))
            && !has_opposed_sides(own, other)
            && !has_opposed_roles(own, other)
            && !have_same(&own.terms.iter().collect::<Vec<_>>(), &other.terms.iter().collect::<Vec<_>>())
    }

    /// Tells whether an answer to the other text answers this one.
    pub(super) fn passes(&self, other: &str) -> bool {
        agree(&self.facts, &TextFacts::of(other))
    }
}

/// Tells whether two texts ask for the same, as far as words tell.
pub fn is_same_question(one: &str, other: &str) -> bool {
    TextGuard::new(one).passes(other)
}

/// Tells whether words leave open that two texts ask for the same, so that a judge of paraphrases may decide.
pub fn may_be_paraphrase(one: &str, other: &str) -> bool {
    TextGuard::new(one).may_be_paraphrase(other)
}

/// What is compared by letter; "one" is often no number.
fn by_letter(facts: &TextFacts) -> Vec<&Term> {
    let is_compared = |term: &&Term| match term {
        Term::Number(digits) => digits != "1",
        Term::Exact(_) => true,
        Term::Word(_) | Term::Class(_) => false,
    };
    facts.terms.iter().filter(is_compared).collect()
}

fn have_same(some: &[&Term], others: &[&Term]) -> bool {
    let count = |terms: &[&Term], term: &Term| terms.iter().filter(|other| **other == term).count();
    some.len() == others.len() && some.iter().all(|term| count(some, term) == count(others, term))
}

/// Tells whether each text has another side of an opposition, and neither has both.
fn has_opposed_sides(a: &TextFacts, b: &TextFacts) -> bool {
    let has = |facts: &TextFacts, side: u16| facts.terms.contains(&Term::Class(side));
    OPPOSED_CLASSES.iter().any(|(one, other)| {
        let (in_a, in_b) = ((has(a, *one), has(a, *other)), (has(b, *one), has(b, *other)));
        in_a.0 != in_a.1 && in_b.0 != in_b.1 && in_a.0 != in_b.0
    })
}

fn agree(a: &TextFacts, b: &TextFacts) -> bool {
    // A text without content has nothing that could be agreed on.
    !a.terms.is_empty()
        && a.terms.len() == b.terms.len()
        && a.negations == b.negations
        && a.tense == b.tense
        && a.closed == b.closed
        && !(a.person.is_opposed(b.person))
        && numbers(a).eq(numbers(b))
        && same_order(&a.terms, &b.terms)
        && same_roles(a, b)
        && !has_opposed_roles(a, b)
}

fn numbers(facts: &TextFacts) -> impl Iterator<Item = &Term> {
    facts.terms.iter().filter(|term| matches!(term, Term::Number(_)))
}

/// Tells whether the terms are the same and in an order that says the same: equal, with a phrase moved from one end
/// to the other, or with only such terms changed that stand beside each other in one of the texts.
fn same_order(a: &[Term], b: &[Term]) -> bool {
    if a == b {
        return true;
    }
    let Some(places) = places(a, b) else { return false };
    let count = places.len();
    let is_rotation = (0..count).all(|at| places[(at + 1) % count] == (places[at] + 1) % count);
    is_rotation
        || (0..count).all(|one| {
            // Terms beside each other in the first text may stand anywhere in the second.
            (one + 2..count).all(|two| places[one] < places[two] || places[one] - places[two] == 1)
        })
}

/// Returns where each term of `a` stands in `b`; `None` unless every one has its own place.
fn places(a: &[Term], b: &[Term]) -> Option<Vec<usize>> {
    let mut taken = vec![false; b.len()];
    a.iter()
        .map(|term| {
            let place = (0..b.len()).find(|at| !taken[*at] && b[*at] == *term)?;
            taken[place] = true;
            Some(place)
        })
        .collect()
}

/// Tells whether a term stands behind one preposition in the one text and behind its opposite in the other.
fn has_opposed_roles(a: &TextFacts, b: &TextFacts) -> bool {
    a.roles.iter().any(|(role, term)| {
        let of_same = b.roles.iter().filter(|(_, other)| b.terms[*other] == a.terms[*term]);
        of_same.clone().any(|(other, _)| role.is_opposed(*other))
            && !of_same.clone().any(|(other, _)| other == role)
    })
}

/// Tells whether what stands behind a preposition in both texts is the same, or more in one of them.
fn same_roles(a: &TextFacts, b: &TextFacts) -> bool {
    let of = |facts: &TextFacts, role| -> Vec<usize> {
        facts.roles.iter().filter(|(other, _)| *other == role).map(|(_, term)| *term).collect()
    };
    a.roles.iter().all(|(role, _)| {
        let (ours, theirs) = (of(a, *role), of(b, *role));
        let within = |few: &[usize], facts: &TextFacts, many: &[usize], others: &TextFacts| {
            few.iter().all(|term| many.iter().any(|other| facts.terms[*term] == others.terms[*other]))
        };
        theirs.is_empty() || within(&ours, a, &theirs, b) || within(&theirs, b, &ours, a)
    })
}
