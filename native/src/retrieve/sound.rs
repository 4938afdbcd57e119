//! A range of a pack from whole shard files, of which only those count whose every slice and root are right.

use std::ops::Deref;
use std::sync::Arc;

use crate::base::error::Result;
use crate::formats::shard;
use crate::retrieve::routes::{Layout, Shard, Span};
use crate::stripes::erasure::{Scheme, recover};

/// The files of a stripe's shards that came and are right, `F` the bytes of one.
pub struct Sound<F> {
    layout: Arc<Layout>,
    /// By the indexes of their shards.
    right: Vec<Option<F>>,
}

impl<F: Deref<Target = [u8]>> Sound<F> {
    pub fn new(layout: Arc<Layout>) -> Self {
        let right = (0..layout.k + layout.m).map(|_| None).collect();
        Self { layout, right }
    }

    /// Keeps the file of a shard, if it is what the catalog names.
    pub fn keep(&mut self, shard: &Shard, file: F) -> bool {
        let Some(slot) = self.right.get_mut(shard.index as usize) else { return false };
        if !is_right(&self.layout, shard, &file) {
            return false;
        }
        *slot = Some(file);
        true
    }

    /// The indexes of the shards that are right.
    pub fn indexes(&self) -> Vec<u32> {
        (0..).zip(&self.right).filter(|(_, file)| file.is_some()).map(|(index, _)| index).collect()
    }

    /// Bytes of the pack; nothing where fewer than k shards are right. Throws `Corrupt` for bytes outside of it.
    pub fn read(&self, start: u32, end: u32) -> Result<Option<Vec<u8>>> {
        let spans = self.layout.spans(start, end)?;
        let scheme = Scheme::new(self.layout.k, self.layout.m)?;
        let bodies: Vec<Option<&[u8]>> =
            self.right.iter().map(|file| file.as_deref().and_then(|file| file.get(shard::BODY_OFFSET..))).collect();
        if bodies.iter().flatten().count() < self.layout.k as usize {
            return Ok(None);
        }
        let missing: Vec<usize> =
            spans.iter().map(|span| span.index as usize).filter(|&at| bodies[at].is_none()).collect();
        let rebuilt = if missing.is_empty() { vec![] } else { recover(scheme, &bodies, &missing)? };
        let body_of = |index: usize| match missing.iter().position(|&at| at == index) {
            Some(at) => rebuilt[at].as_slice(),
            None => bodies[index].unwrap_or_default(),
        };
        let part = |span: &Span| &body_of(span.index as usize)[span.start as usize..span.end as usize];
        Ok(Some(spans.iter().flat_map(part).copied().collect()))
    }
}

fn is_right(layout: &Layout, shard: &Shard, file: &[u8]) -> bool {
    let Ok(header) = shard::inspect(file) else { return false };
    let body_bytes = file.len().saturating_sub(shard::BODY_OFFSET);
    header.id() == shard.id && header.root == shard.root && body_bytes == layout.body_bytes() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::formats::descriptor::Descriptor;
    use crate::formats::names::RunName;
    use crate::stripes::stripe;

    /// The files of a 2+2 stripe of 1000 bytes, and its layout.
    fn stripe() -> (Arc<Layout>, Vec<Vec<u8>>, Vec<u8>) {
        let pack: Vec<u8> = (0..1000u32).map(|at| (at * 7 % 251) as u8).collect();
        let writer = Secret::new([2; 32]);
        let run = RunName { writer: writer.signing_key(), run: [3; 8] };
        let template =
            Descriptor { fleet: [1; 16], run, number: 7, k: 0, m: 0, pack_bytes: 0, trailer: [0; 32], roots: vec![] };
        let encoded = stripe::encode(pack.clone(), Scheme::new(2, 2).unwrap(), &template, &writer).unwrap();
        let shard = |index: usize| Shard {
            index: index as u32,
            id: run.shard_id(7, index as u8),
            host: [index as u8; 32],
            root: encoded.root(index).unwrap(),
        };
        let layout = Layout { k: 2, m: 2, pack_bytes: 1000, shards: (0..4).map(shard).collect() };
        let files = (0..4).map(|index| encoded.file(index).unwrap().concat()).collect();
        (Arc::new(layout), files, pack)
    }

    /// Which of the shards are right whose files came, and what they give of the pack.
    fn read(
        layout: &Arc<Layout>,
        range: (u32, u32),
        files: &[(usize, &[u8])],
    ) -> (Vec<bool>, Vec<u32>, Result<Option<Vec<u8>>>) {
        let mut sound = Sound::new(layout.clone());
        let kept = files.iter().map(|&(index, file)| sound.keep(&layout.shards[index], file)).collect();
        (kept, sound.indexes(), sound.read(range.0, range.1))
    }

    #[test]
    fn what_is_right_gives_the_range_and_what_is_not_is_named() {
        let (layout, mut files, pack) = stripe();
        *files[0].last_mut().unwrap() ^= 1;
        files[2].truncate(4000);
        let given: Vec<(usize, &[u8])> = files.iter().map(Vec::as_slice).enumerate().collect();
        let (kept, right, bytes) = read(&layout, (400, 900), &given);
        assert_eq!((kept, right), (vec![false, true, false, true], vec![1, 3]));
        assert_eq!(bytes.unwrap().as_deref(), Some(&pack[400..900]));
        let (_, right, bytes) = read(&layout, (400, 900), &given[2..]);
        assert_eq!((right, bytes.unwrap()), (vec![3], None));
        assert!(read(&layout, (400, 1001), &given).2.is_err());
    }

    #[test]
    fn a_sound_file_of_another_shard_counts_for_nothing() {
        let (layout, files, _) = stripe();
        let swapped: Vec<(usize, &[u8])> = (0..).zip([1, 0, 2, 2].map(|at: usize| files[at].as_slice())).collect();
        let (kept, right, bytes) = read(&layout, (0, 10), &swapped);
        assert_eq!((kept, right, bytes.unwrap()), (vec![false, false, true, false], vec![2], None));
    }
}
