//! Sentences for people, the first of them spelled out.

use crate::base::limits;

#[derive(Default)]
pub struct Doubts {
    sentences: Vec<String>,
    more: u64,
}

impl Doubts {
    pub fn push(&mut self, sentence: String) {
        if self.sentences.len() < limits::VOLUME_DOUBTS {
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
