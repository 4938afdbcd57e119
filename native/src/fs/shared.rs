//! What parsers do with what they found, whichever file system it is: sentences of doubt, and a tree made of names.

use super::volume_map::{DirectoryEntry, File, Kind};
use crate::base::limits::DOUBTS;

/// Sentences for people, the first of them spelled out.
#[derive(Default)]
pub struct Doubts {
    sentences: Vec<String>,
    more: u64,
}

impl Doubts {
    pub fn push(&mut self, sentence: String) {
        self.push_for(1, sentence);
    }

    /// A sentence that stands for `count` doubts.
    pub fn push_for(&mut self, count: u64, sentence: String) {
        if self.sentences.len() < DOUBTS {
            self.sentences.push(sentence);
        } else {
            self.more += count;
        }
    }

    /// Only counted.
    pub fn leave_out(&mut self, count: u64) {
        self.more += count;
    }

    pub fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("{} further doubts are not listed", self.more));
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
