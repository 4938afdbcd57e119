//! What parsers do with what they found, whichever file system it is: sentences of doubt, a tree made of names, spans of
//! blocks joined.

use super::volume_map::{DirectoryEntry, File, Kind};
use crate::base::limits::VOLUME_DOUBTS;

/// Sentences for people, the first of them spelled out.
#[derive(Default)]
pub struct Doubts {
    sentences: Vec<String>,
    more: u64,
}

impl Doubts {
    pub fn push(&mut self, sentence: String) {
        if self.sentences.len() < VOLUME_DOUBTS {
            self.sentences.push(sentence);
        } else {
            self.more += 1;
        }
    }

    pub fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("and {} more", self.more));
        }
        self.sentences
    }
}

/// Sorts the entries, and leaves out those that would make the tree something else than one: names given twice, ways
/// to what is not a file here, and second ways to a directory. `files` are sorted by number.
pub fn tidy(root: u64, files: &[File], entries: &mut Vec<DirectoryEntry>, doubts: &mut Doubts) {
    let mut closed: Vec<bool> = files.iter().map(|file| file.number == root).collect();
    entries.sort_unstable_by(|a, b| (a.parent, &a.name, a.child).cmp(&(b.parent, &b.name, b.child)));
    let (mut nowhere, mut twice) = (0u64, 0u64);
    entries.dedup_by(|later, earlier| {
        let same = later.parent == earlier.parent && later.name == earlier.name;
        twice += u64::from(same);
        same
    });
    entries.retain(|entry| {
        let Ok(at) = files.binary_search_by_key(&entry.child, |file| file.number) else {
            nowhere += 1;
            return false;
        };
        let again = files[at].kind == Kind::Directory && closed[at];
        closed[at] = true;
        twice += u64::from(again);
        !again
    });
    entries.shrink_to_fit();
    if nowhere > 0 {
        doubts.push(format!("{nowhere} names lead to inodes that are not files here, they were left out"));
    }
    if twice > 0 {
        doubts.push(format!("{twice} names are given twice or lead to a directory a second time, they were left out"));
    }
}

/// First block, and the one behind the last.
pub type Span = (u64, u64);

/// Appends a span, joined to the last one where they meet; empty ones are dropped.
pub fn push(spans: &mut Vec<Span>, (start, end): Span) {
    match spans.last_mut() {
        _ if start >= end => {}
        Some(last) if last.0 <= start && start <= last.1 => last.1 = last.1.max(end),
        _ => spans.push((start, end)),
    }
}

/// Sorted and disjoint.
pub fn coalesce(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        push(&mut merged, span);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_merged() {
        assert_eq!(coalesce(vec![(5, 9), (1, 3), (3, 4), (6, 7), (9, 12), (20, 21)]), [(1, 4), (5, 12), (20, 21)]);
        assert_eq!(coalesce(vec![(7, 7), (9, 8)]), []);
    }
}
