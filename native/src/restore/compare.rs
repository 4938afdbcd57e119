//! What lies on the target of a restore, compared with what should: before, so that only what differs is fetched; after all
//! of it, so that no disk that lost a write goes unnoticed. Bytes count as there only when they were read from the medium now
//! and their block's key says so.

use std::collections::{BTreeMap, VecDeque};

use crate::base::error::{Error, Result};
use crate::base::limits::MIB;
use crate::base::ranges::coalesce;
use crate::formats::domains::Domains;
use crate::restore::plan::{Collected, Held, Selected, Use};
use crate::restore::target::Target;

/// Items that one core takes in a turn: blocks of a few MiB.
const RUN: usize = 64;

/// What was found of a plan's pieces on a target.
pub struct Differing {
    /// The pieces that do not hold the right bytes.
    pub selected: Selected,
    /// Bytes that are right already.
    pub same: u64,
    /// Bytes that are neither right nor zeros: somebody else's, or of another state of the disk.
    pub other: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    Blank,
    Other,
}

impl Collected {
    /// Reads all pieces from the medium and leaves out those that hold the right bytes already. What lies past the end of a
    /// file that is too short counts as blank.
    pub fn differing(mut self, target: &Target, domains: &Domains) -> Result<Differing> {
        target.forget_cached()?;
        let chains = self.chains_by_disk();
        let found = in_parallel(&chains, |chain: &Vec<usize>| self.find(chain, target, domains))?;
        let mut there = vec![false; self.uses.len()];
        let (mut same, mut other) = (0, 0);
        for (chain, found) in chains.iter().zip(found) {
            let bytes: u64 = chain.iter().map(|&at| u64::from(self.uses[at].length)).sum();
            match found {
                Found::Same => {
                    same += bytes;
                    chain.iter().for_each(|&at| there[at] = true);
                }
                Found::Blank => {}
                Found::Other => other += bytes,
            }
        }
        let differing = self.uses.iter().zip(&there).filter(|(_, there)| !**there).map(|(piece, _)| *piece).collect();
        Ok(Differing { selected: self.only(differing), same, other })
    }

    /// Reads everything back from the medium, after all of it was written: pieces of blocks, marked patterns and zeros.
    /// Returns the bytes of the pieces. Throws `Corrupt` for what is not as it should be.
    pub fn verify(mut self, target: &Target, domains: &Domains) -> Result<u64> {
        target.forget_cached()?;
        let lost = |at| Error::corrupt("target", at, "it does not give back what was written there");
        let chains = self.chains_by_disk();
        let right = in_parallel(&chains, |chain: &Vec<usize>| {
            Ok(self.find(chain, target, domains)? == Found::Same || self.as_written(chain, target, domains)?)
        })?;
        if let Some((chain, _)) = chains.iter().zip(&right).find(|(_, right)| !**right) {
            return Err(lost(self.uses[chain[0]].disk));
        }
        let mut chained = vec![false; self.uses.len()];
        chains.iter().flatten().for_each(|&at| chained[at] = true);
        let loose: Vec<Vec<usize>> = (0..self.uses.len()).filter(|&at| !chained[at]).map(|at| vec![at]).collect();
        let right = in_parallel(&loose, |piece: &Vec<usize>| self.as_written(piece, target, domains))?;
        if let Some((piece, _)) = loose.iter().zip(&right).find(|(_, right)| !**right) {
            return Err(lost(self.uses[piece[0]].disk));
        }
        if let Some(at) = self.held.damaged(target)? {
            return Err(lost(at));
        }
        Ok(self.uses.iter().map(|piece| u64::from(piece.length)).sum())
    }

    /// Blocks that are whole on the disk, by the indexes of their pieces, in the order of the disk.
    fn chains_by_disk(&mut self) -> Vec<Vec<usize>> {
        self.uses.sort_unstable_by_key(|piece| (piece.block, piece.in_block, piece.disk));
        let mut chains = chains(&self.uses);
        chains.sort_unstable_by_key(|chain| self.uses[chain[0]].disk);
        chains
    }

    fn find(&self, chain: &[usize], target: &Target, domains: &Domains) -> Result<Found> {
        let pieces: Vec<Use> = chain.iter().map(|&at| self.uses[at]).collect();
        let Some(bytes) = read(target, &pieces)? else { return Ok(Found::Blank) };
        if domains.is_key_of(&self.blocks[pieces[0].block as usize].key, &bytes) {
            return Ok(Found::Same);
        }
        Ok(if bytes.iter().all(|&byte| byte == 0) { Found::Blank } else { Found::Other })
    }

    /// Whether pieces that are no whole block hold what this run wrote there.
    fn as_written(&self, pieces: &[usize], target: &Target, domains: &Domains) -> Result<bool> {
        for &at in pieces {
            let piece = self.uses[at];
            let Some(bytes) = read(target, &[piece])? else { return Ok(false) };
            if target.partial(piece.disk) != Some(domains.newest().block_key(&bytes)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Held {
    /// The first piece whose pattern or zeros are not there.
    fn damaged(&self, target: &Target) -> Result<Option<u64>> {
        for piece in &self.missing {
            let mut bytes = vec![0; piece.length as usize];
            if !target.read(piece.disk, &mut bytes)? || bytes != piece.pattern() {
                return Ok(Some(piece.disk));
            }
        }
        let zeros = coalesce(self.zeros.clone());
        let parts: Vec<(u64, u64)> = zeros.iter().flat_map(|range| range.parts(MIB as u64)).collect();
        let right = in_parallel(&parts, |&(at, length): &(u64, u64)| {
            let mut bytes = vec![0; length as usize];
            Ok(target.read(at, &mut bytes)? && bytes.iter().all(|&byte| byte == 0))
        })?;
        Ok(parts.iter().zip(right).find(|(_, right)| !right).map(|(&(at, _), _)| at))
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

/// `None` where a file ends before them.
fn read(target: &Target, pieces: &[Use]) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; pieces.iter().map(|piece| piece.length as usize).sum()];
    let mut rest = bytes.as_mut_slice();
    for piece in pieces {
        let (part, after) = rest.split_at_mut(piece.length as usize);
        if !target.read(piece.disk, part)? {
            return Ok(None);
        }
        rest = after;
    }
    Ok(Some(bytes))
}

/// In order, on all cores. The cores take turns, run by run: they read near each other, as a disk with heads wants it.
fn in_parallel<T: Sync, R: Send>(items: &[T], task: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runs: Vec<&[T]> = items.chunks(RUN).collect();
    let (runs, task) = (&runs, &task);
    std::thread::scope(|scope| {
        let one = move |core: usize| {
            let own = runs.iter().skip(core).step_by(cores);
            own.map(|run| run.iter().map(task).collect::<Result<Vec<R>>>()).collect::<Result<Vec<_>>>()
        };
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || one(core))).collect();
        let parts = threads.into_iter().map(|thread| thread.join().expect("a comparison does not panic"));
        let mut parts = parts.map(|part| part.map(Vec::into_iter)).collect::<Result<Vec<_>>>()?;
        let mut turns = (0..runs.len()).map(|run| parts[run % cores].next().expect("each core did its runs"));
        Ok(turns.by_ref().flatten().collect())
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
        let domains = Domains::new(&Secret::new([1; 32]), &[]);
        let domain = domains.newest();
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
            MapEntry { disk: 28, length: 8, in_block: 0, block: Ref::ZEROS },
            entry(50, 4, 4, b"xxxxdddd", 3 << 16),
        ];
        let differing = || {
            let mut collected = Collected::default();
            collected.add(&entries);
            let Differing { selected, same, other } = collected.differing(&target, &domains).unwrap();
            let left: Vec<u64> = selected.uses.iter().map(|piece| piece.disk).collect();
            (selected, left, same, other)
        };
        let (selected, _, same, other) = differing();
        assert_eq!((selected.blocks.len(), same, other), (3, 0, 0));
        for (disk, bytes) in [(0, b"aaaaaaaa".as_slice()), (20, b"bbb"), (40, b"cccc"), (50, b"dddd")] {
            target.write(disk, bytes).unwrap();
        }
        let (selected, left, same, _) = differing();
        assert_eq!((left, selected.blocks.len(), same), (vec![8, 50], 2, 8 + 7), "half a block proves nothing");
        target.write(9, b"?").unwrap();
        assert_eq!(differing().3, 8, "bytes of somebody else");
        target.write(9, &[0]).unwrap();

        let mut records = Vec::new();
        let mut seal = |plain: &[u8]| {
            let start = records.len() as u32;
            (start, domain.seal(&domain.block_key(plain), plain, 1, &mut records) as u32)
        };
        let (a, d) = (seal(b"aaaaaaaa"), seal(b"xxxxdddd"));
        let located = [a, d].map(|(offset, length)| Location { stripe: 3, offset, length });
        let plan = selected.reserve(&target).unwrap().locate(&located).unwrap();
        let fetched = [Fetched { offset: 0, bytes: &records }];
        assert_eq!(plan.write(3, &fetched, None, &domains, &target).unwrap().bytes, 12);
        let verify = || {
            let mut collected = Collected::default();
            collected.add(&entries);
            collected.verify(&target, &domains)
        };
        assert_eq!(verify().unwrap(), 8 + 8 + 3 + 4 + 4, "what was there already, too");
        // A block that was there, one that was written, one in two pieces, half of one, zeros.
        for lost in [0, 9, 41, 53, 30] {
            let mut byte = [0];
            target.read(lost, &mut byte).unwrap();
            target.write(lost, b"?").unwrap();
            assert!(verify().is_err(), "{lost}");
            target.write(lost, &byte).unwrap();
        }
        assert!(verify().is_ok());
        target.write(45, b"?").unwrap();
        assert!(verify().is_ok(), "free space says nothing");
        std::fs::remove_file(&path).unwrap();
    }
}
