//! Owns a short sketch of an embedding, by which nearly all of a scope is passed over without a multiplication.
//! Refuses to know what is sketched.
//!
//! A sketch holds the signs of 512 random projections. Two vectors at an angle θ disagree in each sign with
//! probability θ/π (Charikar, "Similarity estimation techniques from rounding algorithms", 2002), so the number of
//! disagreements tells the angle, and a wanted angle tells how many disagreements are too many. The projections are
//! the rows of two random sign flips, each followed by a Walsh–Hadamard transform.

/// The words of a sketch.
pub(super) const WORDS: usize = 8;

/// The words of a sketch that are compared first.
pub(super) const HEAD: usize = WORDS / 2;

/// The signs of a sketch.
const BITS: usize = WORDS * 64;

/// The most numbers of an embedding that is compared.
pub(super) const MAX_DIMENSIONS: usize = 8192;

/// How many standard deviations a wanted vector may stray from its expected number of disagreements.
const DEVIATIONS: f32 = 4.0;

/// The same for the words that are compared first, of which a wanted vector must pass both.
const HEAD_DEVIATIONS: f32 = 5.0;

/// The signs of an embedding's projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sketch(pub(super) [u64; WORDS]);

impl Sketch {
    /// Sketches an embedding; `None` where it is empty, too long or not of finite numbers.
    pub(super) fn of(embedding: &[f32]) -> Option<Self> {
        let fits = (1..=MAX_DIMENSIONS).contains(&embedding.len());
        if !fits || embedding.iter().any(|number| !number.is_finite()) {
            return None;
        }
        let mut rotated = vec![0.0_f32; embedding.len().next_power_of_two().max(BITS)];
        rotated[..embedding.len()].copy_from_slice(embedding);
        for round in 0..2 {
            flip(&mut rotated, round);
            transform(&mut rotated);
        }
        let mut words = [0_u64; WORDS];
        for (word, numbers) in words.iter_mut().zip(rotated.chunks_exact(64)) {
            for (bit, number) in numbers.iter().enumerate() {
                *word |= u64::from(number.is_sign_negative()) << bit;
            }
        }
        Some(Self(words))
    }

    /// Returns the words that are compared first, and the others.
    pub(super) fn halves(&self) -> ([u64; HEAD], [u64; HEAD]) {
        (std::array::from_fn(|word| self.0[word]), std::array::from_fn(|word| self.0[HEAD + word]))
    }
}

/// Counts the signs in which halves of two sketches disagree.
pub(super) fn disagreements(ours: &[u64; HEAD], theirs: &[u64; HEAD]) -> u32 {
    ours.iter().zip(theirs).map(|(ours, theirs)| (ours ^ theirs).count_ones()).sum()
}

/// Counts the same for many sketches, given word by word, into as many places.
///
/// Bits are added within words, which becomes wide instructions on every machine; few have one that counts.
pub(super) fn many_disagreements(ours: &[u64; HEAD], theirs: &[Vec<u64>; HEAD], out: &mut [u32]) {
    let [first, second, third, fourth] = theirs;
    let theirs = first.iter().zip(second).zip(third).zip(fourth);
    for (out, (((first, second), third), fourth)) in out.iter_mut().zip(theirs) {
        let [a, b, c, d] = [first ^ ours[0], second ^ ours[1], third ^ ours[2], fourth ^ ours[3]];
        // Three bits make a sum of one and one of two.
        let (ones, twos) = (a ^ b ^ c, (a & b) | ((a ^ b) & c));
        let bytes = in_bytes(in_nibbles(ones) + in_nibbles(d)) + 2 * in_bytes(in_nibbles(twos));
        *out = sum_of_bytes(bytes);
    }
}

/// Counts the bits of every four.
fn in_nibbles(word: u64) -> u64 {
    const PAIRS: u64 = 0x5555_5555_5555_5555;
    const NIBBLES: u64 = 0x3333_3333_3333_3333;
    let pairs = word - ((word >> 1) & PAIRS);
    (pairs & NIBBLES) + ((pairs >> 2) & NIBBLES)
}

/// Adds counts of four bits, each below eight, in pairs.
fn in_bytes(nibbles: u64) -> u64 {
    const BYTES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    (nibbles & BYTES) + ((nibbles >> 4) & BYTES)
}

/// Adds eight bytes.
fn sum_of_bytes(bytes: u64) -> u32 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes & EVEN) + ((bytes >> 8) & EVEN);
    let fours = pairs + (pairs >> 32);
    ((fours + (fours >> 16)) & 0xffff) as u32
}

/// The most disagreements that a vector of at least a wanted cosine is expected to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) struct DisagreementLimits {
    pub(super) head: u32,
    pub(super) all: u32,
}

impl DisagreementLimits {
    pub(super) fn of(min_score: f32) -> Self {
        let share = min_score.clamp(-1.0, 1.0).acos() / std::f32::consts::PI;
        let most = |bits: f32, deviations: f32| {
            (bits * share + deviations * (bits * share * (1.0 - share)).sqrt()).ceil() as u32
        };
        Self { head: most(BITS as f32 / 2.0, HEAD_DEVIATIONS), all: most(BITS as f32, DEVIATIONS) }
    }
}

/// Flips signs by a fixed sequence of random bits, another for each round (splitmix64, Steele et al. 2014).
fn flip(numbers: &mut [f32], round: u64) {
    for (index, chunk) in numbers.chunks_mut(64).enumerate() {
        let mut bits = ((round << 32) + index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        for (bit, number) in chunk.iter_mut().enumerate() {
            let sign = ((bits >> bit) & 1) as u32;
            *number = f32::from_bits(number.to_bits() ^ (sign << 31));
        }
    }
}

/// Transforms in place by the Walsh–Hadamard matrix, without its scale, which changes no sign.
fn transform(numbers: &mut [f32]) {
    let mut half = 1;
    while half < numbers.len() {
        for pair in numbers.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// Two unit vectors with that cosine.
    fn pair(random: &mut SmallRng, dimensions: usize, cosine: f32) -> (Vec<f32>, Vec<f32>) {
        let unit = |vector: Vec<f32>| {
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            vector.into_iter().map(|x| x / norm).collect::<Vec<f32>>()
        };
        let a = unit((0..dimensions).map(|_| random.random_range(-1.0..1.0_f32)).collect());
        let b: Vec<f32> = (0..dimensions).map(|_| random.random_range(-1.0..1.0_f32)).collect();
        let along: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
        let b = unit(a.iter().zip(&b).map(|(x, y)| y - along * x).collect());
        let sine = (1.0 - cosine * cosine).sqrt();
        let c = a.iter().zip(&b).map(|(x, y)| cosine * x + sine * y).collect();
        (a, c)
    }

    #[test]
    fn near_vectors_pass_and_far_ones_do_not() {
        let mut random = SmallRng::seed_from_u64(7);
        let most = DisagreementLimits::of(0.9);
        let is_near = |a: &[f32], b: &[f32]| {
            let (a, b) = (Sketch::of(a).unwrap().halves(), Sketch::of(b).unwrap().halves());
            let head = disagreements(&a.0, &b.0);
            head <= most.head && head + disagreements(&a.1, &b.1) <= most.all
        };
        for dimensions in [64, 384, 768, 1000] {
            let (mut lost, mut passed) = (0, 0);
            for _ in 0..300 {
                let (a, near) = pair(&mut random, dimensions, 0.9);
                lost += u32::from(!is_near(&a, &near));
                let (a, far) = pair(&mut random, dimensions, 0.0);
                passed += u32::from(is_near(&a, &far));
            }
            assert!(lost <= 1 && passed == 0, "{dimensions}: {lost} lost, {passed} passed");
        }
    }

    #[test]
    fn what_cannot_be_compared_has_no_sketch() {
        assert_eq!(Sketch::of(&[]), None);
        assert_eq!(Sketch::of(&[f32::NAN]), None);
        assert_eq!(Sketch::of(&vec![0.1; MAX_DIMENSIONS + 1]), None);
        assert!(Sketch::of(&[1.0]).is_some());
    }

    #[test]
    fn more_may_disagree_where_less_is_wanted() {
        let most: Vec<DisagreementLimits> = [1.0, 0.95, 0.9, 0.5, 0.0].map(DisagreementLimits::of).into();
        assert!(most.is_sorted() && most[0] == DisagreementLimits { head: 0, all: 0 }, "{most:?}");
    }

    #[test]
    fn many_are_counted_as_one_by_one() {
        let mut random = SmallRng::seed_from_u64(3);
        let extremes = [[0; HEAD], [u64::MAX; HEAD]];
        let rows: Vec<[u64; HEAD]> =
            extremes.into_iter().chain((0..99).map(|_| std::array::from_fn(|_| random.random()))).collect();
        let columns: [Vec<u64>; HEAD] =
            std::array::from_fn(|word| rows.iter().map(|row| row[word]).collect());
        for ours in &rows {
            let mut many = vec![0; rows.len()];
            many_disagreements(ours, &columns, &mut many);
            let each: Vec<u32> = rows.iter().map(|row| disagreements(ours, row)).collect();
            assert_eq!(many, each);
        }
    }
}
