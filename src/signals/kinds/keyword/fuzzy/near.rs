//! Words that differ from known ones in a few letters.
//!
//! Lengths and sets of letters rule most pairs out before any letters are compared. Refuses to know texts.

/// The longest word that may differ, in characters.
pub(super) const MAX_LETTERS: usize = 64;

/// The words of keywords, by their length in characters.
#[derive(Debug, Default)]
pub(super) struct NearWords {
    by_length: Vec<Vec<NearWord>>,
}

#[derive(Debug)]
struct NearWord {
    /// Which letters it has, as far as 64 bits tell them apart.
    letters: u64,
    spelling: Box<[char]>,
    /// How many letters may differ.
    edits: usize,
    id: u32,
}

/// Returns how many letters of a word of this length may differ if at most `max` may: a third of them at most, as
/// short words are like too many others.
pub(super) fn allowed(length: usize, max: u8) -> usize {
    usize::from(max).min(length / 3)
}

impl NearWords {
    /// Adds a word of which at most `max_edits` letters may differ.
    pub(super) fn add(&mut self, spelling: &str, max_edits: u8, id: u32) {
        let spelling: Box<[char]> = spelling.chars().collect();
        let edits = allowed(spelling.len(), max_edits);
        if edits == 0 || spelling.len() > MAX_LETTERS {
            return;
        }
        if self.by_length.len() <= spelling.len() {
            self.by_length.resize_with(spelling.len() + 1, Vec::new);
        }
        let known = NearWord { letters: letters(&spelling), edits, id, spelling };
        self.by_length[known.spelling.len()].push(known);
    }

    /// Finds the known words that differ from a word in as few letters as they may, but differ.
    pub(super) fn find(&self, word: &str, found: &mut Vec<u32>) {
        let mut buffer = ['\0'; MAX_LETTERS + 3];
        let mut length = 0;
        for c in word.chars() {
            let Some(place) = buffer.get_mut(length) else { return };
            *place = c;
            length += 1;
        }
        let word = &buffer[..length];
        let set = letters(word);
        let lengths = length.saturating_sub(3)..(length + 4).min(self.by_length.len());
        for known in lengths.flat_map(|length| &self.by_length[length]) {
            // Each edit adds at most one letter to the difference on either side.
            let differing = (known.letters ^ set).count_ones() as usize;
            if differing <= 2 * known.edits && within(word, &known.spelling, known.edits) {
                found.push(known.id);
            }
        }
    }
}

fn letters(word: &[char]) -> u64 {
    word.iter().fold(0, |set, c| set | 1 << (u32::from(*c) % 64))
}

/// Says whether two different words become equal by at most `most` letters put in, left out or replaced.
fn within(a: &[char], b: &[char], most: usize) -> bool {
    if a == b || a.len().abs_diff(b.len()) > most || b.len() > MAX_LETTERS {
        return false;
    }
    let mut row: [usize; MAX_LETTERS + 1] = std::array::from_fn(|at| at);
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        let mut least = row[0];
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
            least = least.min(cost);
        }
        if least > most {
            return false;
        }
    }
    row[b.len()] <= most
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_third_of_a_word_may_differ_at_most() {
        assert_eq!([2, 3, 5, 6, 8, 9, 30].map(|length| allowed(length, 3)), [0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(allowed(30, 1), 1);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_the_plain_distance_says(
            known in prop::collection::vec("[abcéd]{1,9}", 1..6), word in "[abcéd]{0,10}", max in 0..4_u8,
        ) {
            let mut near = NearWords::default();
            for (id, known) in known.iter().enumerate() {
                near.add(known, max, id as u32);
            }
            let mut found = Vec::new();
            near.find(&word, &mut found);
            found.sort_unstable();
            let is_like = |known: &String| {
                let distance = strsim::levenshtein(known, &word);
                distance > 0 && distance <= allowed(known.chars().count(), max)
            };
            let places = known.iter().enumerate().filter(|(_, known)| is_like(known));
            let expected: Vec<u32> = places.map(|(id, _)| id as u32).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_word_is_too_long(word in "\\PC{60,140}", known in "\\PC{60,70}") {
            let mut near = NearWords::default();
            near.add(&known, 3, 0);
            near.find(&word, &mut Vec::new());
        }
    }
}
