//! The clusters of a volume and who owns them. Every chain is followed through here: a cluster is given once, to the
//! first that asks, so that cycles and cross-links end by themselves and all chains together cost what the volume has.

use super::bits::Bits;
use super::table::{ClusterRun, END, Table};
use crate::base::limits;
use crate::base::ranges::{ByteRange, push};
use crate::disk::volume::Volume;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::{Extent, ExtentKind};

pub const ENTRY_BYTES: usize = 32;
/// So that the number of a file, the offset of its entry / 32, is below 2^48.
pub const MOST_BYTES: u64 = 1 << 53;
/// Of a piece of a directory: its end often comes early.
const FIRST_READ_BYTES: u64 = 64 << 10;

pub struct Heap<'a> {
    pub volume: Volume<'a>,
    /// Byte offset of cluster 2.
    pub at: u64,
    pub cluster_bytes: u64,
    pub clusters: u32,
    pub table: Table,
    pub claimed: Bits,
    pub doubts: Doubts,
}

/// Clusters that one file or directory owns, in order: first and number of each piece.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub pieces: Vec<(u32, u32)>,
    /// Why it ends before its end mark, if it does.
    pub broken: Option<String>,
}

impl Chain {
    pub fn clusters(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.1)).sum()
    }
}

impl Heap<'_> {
    /// The chain that begins at `first`, as the FAT has it.
    pub fn chain(&mut self, first: u32) -> Chain {
        let mut chain = Chain::default();
        let mut cluster = first;
        while cluster != END {
            let Some(run) = self.table.run_from(cluster) else {
                let what = if cluster.wrapping_sub(2) < self.clusters { "is free or bad" } else { "does not exist" };
                chain.broken = Some(format!("its chain leads to cluster {cluster}, which {what}"));
                return chain;
            };
            if !self.take(&mut chain, run) {
                return chain;
            }
            cluster = run.next;
        }
        chain
    }

    /// So many clusters one after the other.
    pub fn contiguous(&mut self, first: u32, count: u64) -> Chain {
        let mut chain = Chain::default();
        let before = u64::from(first.wrapping_sub(2));
        if before + count > u64::from(self.clusters) {
            chain.broken = Some(format!("it claims {count} clusters from {first} on, which do not exist"));
        } else {
            self.take(&mut chain, ClusterRun { first, count: count as u32, next: END });
        }
        chain
    }

    fn take(&mut self, chain: &mut Chain, run: ClusterRun) -> bool {
        let claimed = self.claimed.claim(u64::from(run.first), u64::from(run.count)) as u32;
        if claimed > 0 {
            chain.pieces.push((run.first, claimed));
        }
        if claimed < run.count {
            let taken = run.first + claimed;
            let mine = chain.pieces.iter().any(|&(first, count)| (first..first + count).contains(&taken));
            let how = if mine { "its own for the second time" } else { "another's" };
            chain.broken = Some(format!("its chain leads to cluster {taken}, which is {how}"));
        }
        claimed == run.count
    }

    /// Byte offset of a cluster in the volume.
    fn cluster_at(&self, cluster: u32) -> u64 {
        self.at + u64::from(cluster - 2) * self.cluster_bytes
    }

    /// The pieces as bytes of the volume.
    pub fn spans(&self, chain: &Chain) -> Vec<(u64, u64)> {
        let span = |&(first, count): &(u32, u32)| (self.cluster_at(first), u64::from(count) * self.cluster_bytes);
        chain.pieces.iter().map(span).collect()
    }

    /// As much of the chain as `size` bytes need; what lies past them is allocated, but not content.
    pub fn extents(&self, chain: &Chain, size: u64) -> Vec<Extent> {
        let mut extents = Vec::with_capacity(chain.pieces.len());
        let wanted = size.div_ceil(self.cluster_bytes) * self.cluster_bytes;
        let mut logical = 0;
        for (at, length) in self.spans(chain) {
            let length = length.min(wanted - logical);
            if length == 0 {
                break;
            }
            extents.push(Extent { kind: ExtentKind::Plain, logical, disk: self.volume.absolute(at), length });
            logical += length;
        }
        extents
    }

    /// Calls `each` with every whole directory entry and its byte offset in the volume, until it says no. A part that
    /// cannot be read is a doubt, and what follows is still read.
    pub fn entries(
        volume: Volume,
        spans: &[(u64, u64)],
        doubts: &mut Doubts,
        mut each: impl FnMut(u64, &[u8; ENTRY_BYTES], &mut Doubts) -> bool,
    ) {
        let longest = spans.iter().map(|span| span.1).max().unwrap_or(0);
        let mut buffer = vec![0u8; longest.min(limits::TABLE_READ_BYTES as u64) as usize];
        for &(start, length) in spans {
            let mut at = start;
            while at < start + length {
                let step = if at == start { FIRST_READ_BYTES } else { limits::TABLE_READ_BYTES as u64 };
                let take = (start + length - at).min(step) as usize;
                if let Err(error) = volume.read(at, &mut buffer[..take]) {
                    read_sectors(volume, at, &mut buffer[..take]);
                    doubts.push(format!("{error}; directory entries there are left out"));
                }
                for (number, entry) in buffer[..take].as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
                    if !each(at + (number * ENTRY_BYTES) as u64, entry, doubts) {
                        return;
                    }
                }
                at += take as u64;
            }
        }
    }

    /// All in use, absolute: what precedes the clusters, the clusters of the set, what follows the last one.
    pub fn allocated(&self, in_use: &Bits) -> Vec<ByteRange> {
        let end = self.at + u64::from(self.clusters) * self.cluster_bytes;
        let clusters = in_use.ranges().map(|(first, end)| {
            let start = self.cluster_at(first as u32);
            (start, start + (end - first) * self.cluster_bytes)
        });
        let mut ranges: Vec<ByteRange> = Vec::new();
        for (start, end) in [(0, self.at)].into_iter().chain(clusters).chain([(end, self.volume.length)]) {
            push(&mut ranges, ByteRange { start: self.volume.absolute(start), length: end - start });
        }
        ranges.shrink_to_fit();
        ranges
    }
}

/// What can be read, sector by sector. The rest looks like deleted entries, so that it does not end the directory.
fn read_sectors(volume: Volume, at: u64, buffer: &mut [u8]) {
    for (number, sector) in buffer.chunks_mut(512).enumerate() {
        if volume.read(at + number as u64 * 512, sector).is_err() {
            // Deleted on FAT.
            sector.fill(0xE5);
        }
    }
}
