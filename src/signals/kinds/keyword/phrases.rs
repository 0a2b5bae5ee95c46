//! Keywords as a trie over words, so that a text's word costs the same however many keywords there are.
//!
//! Refuses to know where in a text a phrase may begin.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::KeywordHits;
use super::words::{TextWord, words};

// The keys are the policy's, so that their hashes may be foreseen.
type Map<K, V> = HashMap<K, V, Xxh3DefaultBuilder>;

/// Where all phrases begin.
pub(super) const ROOT: u32 = 0;

/// Phrases by their words.
#[derive(Debug)]
pub(super) struct PhraseTrie {
    vocabulary: Map<Box<str>, u32>,
    /// From a node by a word, behind white space or not, to the next node.
    steps: Map<(u32, u32, bool), u32>,
    nodes: Vec<PhraseNode>,
    /// The nodes that end what a phrase has before its first white space, by that text.
    heads: Map<Box<str>, u32>,
}

#[derive(Debug, Default)]
struct PhraseNode {
    /// The keywords that end here.
    keywords: Vec<u32>,
    /// Whether a word behind white space leads on.
    continues: bool,
}

impl Default for PhraseTrie {
    fn default() -> Self {
        let (vocabulary, steps, heads) = (Map::default(), Map::default(), Map::default());
        Self { vocabulary, steps, heads, nodes: vec![PhraseNode::default()] }
    }
}

impl PhraseTrie {
    /// Adds a keyword, spelled in the case that texts are searched in; one without words is never found.
    pub(super) fn insert(&mut self, phrase: &str, keyword: u32) {
        let Some(head) = phrase.split_whitespace().next() else { return };
        let (mut node, mut head_node) = (ROOT, None);
        for TextWord { spelling, is_apart, .. } in words(phrase) {
            // White space before the first word means nothing.
            let is_apart = is_apart && node != ROOT;
            if is_apart {
                head_node.get_or_insert(node);
                self.nodes[node as usize].continues = true;
            }
            let next_id = self.vocabulary.len() as u32;
            let id = *self.vocabulary.entry(spelling.into()).or_insert(next_id);
            let nodes = &mut self.nodes;
            node = *self.steps.entry((node, id, is_apart)).or_insert_with(|| {
                nodes.push(PhraseNode::default());
                nodes.len() as u32 - 1
            });
        }
        self.nodes[node as usize].keywords.push(keyword);
        self.heads.insert(head.into(), head_node.unwrap_or(node));
    }

    /// Returns the phrases' heads, which are what they have before their first white space, each with its node.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&str, u32)> {
        self.heads.iter().map(|(head, node)| (&**head, *node))
    }

    /// Returns every word of the phrases with its number.
    pub(super) fn vocabulary(&self) -> impl Iterator<Item = (&str, u32)> {
        self.vocabulary.iter().map(|(word, id)| (&**word, *id))
    }

    pub(super) fn word_id(&self, spelling: &str) -> Option<u32> {
        self.vocabulary.get(spelling).copied()
    }

    /// Goes on from a node by a word; the keywords that end there are hits.
    pub(super) fn step(
        &self,
        node: u32,
        word_id: u32,
        is_apart: bool,
        hits: &mut KeywordHits,
    ) -> Option<u32> {
        #[cfg(test)]
        {
            hits.steps += 1;
        }
        let next = *self.steps.get(&(node, word_id, is_apart))?;
        hits.insert(&self.nodes[next as usize].keywords);
        Some(next)
    }

    /// Goes on from the node of a head through the text behind it.
    pub(super) fn follow(&self, head_node: u32, rest: &str, hits: &mut KeywordHits) {
        #[cfg(test)]
        {
            hits.steps += 1;
        }
        let head = &self.nodes[head_node as usize];
        hits.insert(&head.keywords);
        if !head.continues || !rest.starts_with(char::is_whitespace) {
            return;
        }
        let mut node = head_node;
        for word in words(rest) {
            let next = self.word_id(word.spelling).and_then(|id| self.step(node, id, word.is_apart, hits));
            let Some(next) = next else { return };
            node = next;
        }
    }
}
