//! What a map could not make sense of, for people: one sentence a reason, with the first few records it concerns.

use std::collections::HashMap;

use crate::base::error::Error;
use crate::base::limits;
use crate::fs::shared::Doubts;

const SHOWN: usize = 4;

#[derive(Default)]
pub struct RecordDoubts {
    /// About the volume as a whole.
    volume: Doubts,
    reasons: Vec<(String, u64, Vec<u64>)>,
    index: HashMap<String, usize>,
    /// Records whose reason is one too many.
    beyond: u64,
}

impl RecordDoubts {
    /// Something about the volume as a whole.
    pub fn volume(&mut self, sentence: impl Into<String>) {
        self.volume.push(sentence.into());
    }

    pub fn record(&mut self, number: u64, reason: impl Into<String>) {
        let reason = reason.into();
        if let Some(&index) = self.index.get(&reason) {
            let (_, count, numbers) = &mut self.reasons[index];
            *count += 1;
            if numbers.len() < SHOWN {
                numbers.push(number);
            }
        } else if self.reasons.len() < limits::DOUBTS {
            self.index.insert(reason.clone(), self.reasons.len());
            self.reasons.push((reason, 1, vec![number]));
        } else {
            self.beyond += 1;
        }
    }

    /// A record left out. The offset is dropped, so that equal reasons are counted together.
    pub fn error(&mut self, number: u64, error: &Error) {
        match error {
            Error::Corrupt { what, why, .. } => self.record(number, format!("{what}: {why}")),
            other => self.record(number, other.to_string()),
        }
    }

    pub fn into_sentences(self) -> Vec<String> {
        let mut doubts = self.volume;
        for (reason, count, numbers) in self.reasons {
            let shown = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            let more = count - numbers.len() as u64;
            let which = match (count, more) {
                (1, _) => format!("MFT record {shown}"),
                (_, 0) => format!("MFT records {shown}"),
                _ => format!("MFT records {shown} and {more} more"),
            };
            doubts.push_for(count, format!("{which}: {reason}"));
        }
        doubts.leave_out(self.beyond);
        doubts.into_sentences()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_reasons_are_counted_and_the_list_is_short() {
        let mut doubts = RecordDoubts::default();
        doubts.volume("The volume is odd");
        (0..7).for_each(|number| doubts.error(number, &Error::corrupt("record", number, "torn")));
        (0..300).for_each(|number| doubts.record(number, format!("reason {number}")));
        let sentences = doubts.into_sentences();
        assert_eq!(sentences[1], "MFT records 0, 1, 2, 3 and 3 more: record: torn");
        assert_eq!(sentences.len(), 101);
        assert_eq!(sentences[100], "202 further doubts are not listed");
    }
}
