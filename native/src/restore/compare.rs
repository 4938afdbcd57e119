//! What lies on the target of a restore, compared with what should: before, so that only what differs is fetched; after, so
//! that no disk that lost a write goes unnoticed. Bytes count as there only when their block's key says so.

use std::collections::{BTreeMap, VecDeque};

use crate::base::error::{Error, Result};
use crate::formats::record::Domain;
use crate::restore::plan::{Collected, Located, Selected, Use};
use crate::restore::target::Target;

impl Collected {
    /// Leaves out the pieces that hold the right bytes already; returns how many bytes these are.
    pub fn differing(mut self, target: &Target, domain: &Domain) -> Result<(Selected, u64)> {
        self.uses.sort_unstable_by_key(|piece| (piece.block, piece.in_block, piece.disk));
        let mut chains = chains(&self.uses);
        chains.sort_unstable_by_key(|chain| self.uses[chain[0]].disk);
        let same = in_parallel(&chains, |chain: &Vec<usize>| {
            let pieces = chain.iter().map(|&at| self.uses[at]).collect::<Vec<_>>();
            let bytes = read(target, &pieces)?;
            Ok(domain.block_key(&bytes) == self.blocks[pieces[0].block as usize].key)
        })?;
        let mut there = vec![false; self.uses.len()];
        for (chain, _) in chains.iter().zip(same).filter(|(_, same)| *same) {
            chain.iter().for_each(|&at| there[at] = true);
        }
        let bytes = self.uses.iter().zip(&there).filter(|(_, there)| **there).map(|(piece, _)| u64::from(piece.length));
        let bytes = bytes.sum();
        let differing = self.uses.iter().zip(&there).filter(|(_, there)| !**there).map(|(piece, _)| *piece).collect();
        Ok((self.only(differing), bytes))
    }
}

impl Located {
    /// Reads back what was written, from the medium. Throws `Corrupt` for what is not as it should be.
    pub fn verify(&self, target: &Target, domain: &Domain) -> Result<u64> {
        target.forget_cached()?;
        let partial = self.partial.lock().expect("no holder of this lock panics");
        let mut order: Vec<usize> = (0..self.uses.len()).collect();
        order.sort_unstable_by_key(|&at| self.uses[at].disk);
        let same = in_parallel(&order, |&at| {
            let piece = self.uses[at];
            let wanted = partial.get(&piece.disk).unwrap_or(&self.blocks[piece.block as usize].key);
            Ok(domain.block_key(&read(target, &[piece])?) == *wanted)
        })?;
        match order.iter().zip(same).find(|(_, same)| !same) {
            None => Ok(self.uses.iter().map(|piece| u64::from(piece.length)).sum()),
            Some((&at, _)) => {
                Err(Error::corrupt("target", self.uses[at].disk, "it does not give back what was written there"))
            }
        }
    }
}

/// Pieces that together are a block, in its order, by their indexes. `uses` are sorted by block and offset in it. One that
/// continues nothing is in no chain.
fn chains(uses: &[Use]) -> Vec<Vec<usize>> {
    let mut chains: Vec<Vec<usize>> = Vec::new();
    // Where the chains of this block end.
    let mut open: BTreeMap<u32, VecDeque<usize>> = BTreeMap::new();
    for (at, piece) in uses.iter().enumerate() {
        if at == 0 || uses[at - 1].block != piece.block {
            open.clear();
        }
        let chain = match open.get_mut(&piece.in_block).and_then(VecDeque::pop_front) {
            Some(chain) => chain,
            None if piece.in_block == 0 => {
                chains.push(Vec::new());
                chains.len() - 1
            }
            None => continue,
        };
        chains[chain].push(at);
        open.entry(piece.in_block.saturating_add(piece.length)).or_default().push_back(chain);
    }
    chains
}

fn read(target: &Target, pieces: &[Use]) -> Result<Vec<u8>> {
    let mut bytes = vec![0; pieces.iter().map(|piece| piece.length as usize).sum()];
    let mut rest = bytes.as_mut_slice();
    for piece in pieces {
        let (part, after) = rest.split_at_mut(piece.length as usize);
        target.read(piece.disk, part)?;
        rest = after;
    }
    Ok(bytes)
}

/// In order, on all cores, neighbours on the same one.
fn in_parallel<T: Sync>(items: &[T], task: impl Fn(&T) -> Result<bool> + Sync) -> Result<Vec<bool>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(cores).max(1);
    let task = &task;
    std::thread::scope(|scope| {
        let one = move |part: &[T]| part.iter().map(task).collect::<Result<Vec<bool>>>();
        let threads: Vec<_> = items.chunks(share).map(|part| scope.spawn(move || one(part))).collect();
        let parts = threads.into_iter().map(|thread| thread.join().expect("a comparison does not panic"));
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::formats::page::{MapEntry, Ref};
    use crate::retrieve::records::{Fetched, Location};

    /// Three blocks: one whole and twice on the disk, one in two pieces, one of which only the second half is named.
    #[test]
    fn only_what_differs_stays_in_the_plan_and_a_lost_write_is_found() {
        let domain = Domain::blocks(&Secret::new([1; 32]));
        let path = std::env::temp_dir().join(format!("imager-compare-{}", std::process::id()));
        let target = Target::open(path.to_str().unwrap(), 64).unwrap();
        target.blank().unwrap();
        let entry = |disk, length, in_block, plain: &[u8], birth| {
            let block = Ref { key: domain.block_key(plain), birth };
            MapEntry { disk, length, in_block, block }
        };
        let entries = [
            entry(0, 8, 0, b"aaaaaaaa", 1 << 16),
            entry(8, 8, 0, b"aaaaaaaa", 1 << 16),
            entry(20, 3, 0, b"bbbcccc", 2 << 16),
            entry(40, 4, 3, b"bbbcccc", 2 << 16),
            entry(50, 4, 4, b"xxxxdddd", 3 << 16),
        ];
        let differing = || {
            let mut collected = Collected::default();
            collected.add(&entries);
            let (selected, same) = collected.differing(&target, &domain).unwrap();
            let left: Vec<u64> = selected.uses.iter().map(|piece| piece.disk).collect();
            (selected, left, same)
        };
        let (selected, _, same) = differing();
        assert_eq!((selected.blocks.len(), same), (3, 0));
        for (disk, bytes) in [(0, b"aaaaaaaa".as_slice()), (20, b"bbb"), (40, b"cccc"), (50, b"dddd")] {
            target.write(disk, bytes).unwrap();
        }
        let (selected, left, same) = differing();
        assert_eq!((left, selected.blocks.len(), same), (vec![8, 50], 2, 8 + 7), "half a block proves nothing");

        let mut records = Vec::new();
        let mut seal = |plain: &[u8]| {
            let start = records.len() as u32;
            (start, domain.seal(&domain.block_key(plain), plain, 1, &mut records) as u32)
        };
        let (a, d) = (seal(b"aaaaaaaa"), seal(b"xxxxdddd"));
        let located = [a, d].map(|(offset, length)| Location { stripe: 3, offset, length });
        let plan = selected.reserve(&target).unwrap().locate(&located).unwrap();
        let fetched = [Fetched { offset: 0, bytes: &records }];
        assert_eq!(plan.write(3, &fetched, None, &domain, &target).unwrap().bytes, 12);
        assert_eq!(plan.verify(&target, &domain).unwrap(), 12);
        for lost in [9, 53] {
            let mut byte = [0];
            target.read(lost, &mut byte).unwrap();
            target.write(lost, b"?").unwrap();
            assert!(plan.verify(&target, &domain).is_err());
            target.write(lost, &byte).unwrap();
        }
        assert!(plan.verify(&target, &domain).is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
