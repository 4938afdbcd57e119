//! $Bitmap: one bit a cluster, set where the cluster is in use. Whatever contradicts it is taken as allocated too.

use super::boot::Boot;
use super::runs;
use super::streams::Whole;
use crate::error::{Error, Result};
use crate::fs::ByteRange;
use crate::limits;
use crate::volume::Volume;

/// $Boot, whose 8 KiB hold the boot sector and the loader.
const BOOT_FILE_BYTES: u64 = 8192;

/// The ranges of clusters in use, relative to the volume, in order, coalesced.
pub fn read(volume: Volume, boot: &Boot, bitmap: &Whole) -> Result<Vec<ByteRange>> {
    let bytes = boot.clusters.div_ceil(8);
    let Whole::NonResident { list, initialized_size, .. } = bitmap else {
        return Err(Error::corrupt("$Bitmap", 0, "it lies inside its own record"));
    };
    if *initialized_size < bytes {
        return Err(Error::corrupt("$Bitmap", *initialized_size, "shorter than the volume"));
    }
    let mut scan = Scan { ranges: Vec::new(), open: None, cluster: 0, boot };
    let mut buffer = vec![0u8; limits::TABLE_READ_BYTES.min(bytes.next_multiple_of(8) as usize)];
    let mut at = 0;
    while at < bytes {
        let take = (bytes - at).min(buffer.len() as u64) as usize;
        runs::read(volume, boot, &list.runs, at, &mut buffer[..take])?;
        // Past the end of the bitmap, up to a whole word: free, and cut off by the number of clusters anyway.
        buffer[take..].fill(0);
        for word in buffer[..take.next_multiple_of(8)].chunks_exact(8) {
            scan.word(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        at += take as u64;
    }
    scan.close(boot.clusters);
    Ok(scan.ranges)
}

struct Scan<'a> {
    ranges: Vec<ByteRange>,
    /// Where the range began that is not yet closed.
    open: Option<u64>,
    cluster: u64,
    boot: &'a Boot,
}

impl Scan<'_> {
    fn word(&mut self, word: u64) {
        let first = self.cluster;
        let mut bit = 0;
        while bit < 64 {
            let rest = word >> bit;
            match self.open {
                None if rest == 0 => break,
                None => {
                    bit += rest.trailing_zeros();
                    self.open = Some(first + u64::from(bit));
                }
                Some(_) => {
                    bit += rest.trailing_ones();
                    if bit < 64 {
                        self.close(first + u64::from(bit));
                    }
                }
            }
        }
        self.cluster = first + 64;
    }

    fn close(&mut self, end: u64) {
        let (clusters, cluster_bytes) = (self.boot.clusters, self.boot.cluster_bytes);
        let Some(start) = self.open.take().filter(|&start| start < clusters) else { return };
        let length = (end.min(clusters) - start) * cluster_bytes;
        self.ranges.push(ByteRange { start: start * cluster_bytes, length });
    }
}

/// All that is in use, absolute. `marked` is what `$Bitmap` says, `occupied` what the records' runs say. Also gives the
/// bytes that only the records know of.
pub fn allocated(
    volume: Volume,
    boot: &Boot,
    marked: Vec<ByteRange>,
    occupied: Vec<(u64, u64)>,
) -> (Vec<ByteRange>, u64) {
    let cluster_bytes = boot.cluster_bytes;
    let end = boot.clusters * cluster_bytes;
    let first = ByteRange { start: 0, length: BOOT_FILE_BYTES.max(cluster_bytes).min(volume.length) };
    let tail = ByteRange { start: end, length: volume.length - end };
    let known: u64 = coalesce(marked.iter().copied().chain([first, tail]).collect()).iter().map(|r| r.length).sum();
    let runs =
        occupied.iter().map(|&(lcn, count)| ByteRange { start: lcn * cluster_bytes, length: count * cluster_bytes });
    let mut ranges = coalesce(marked.iter().copied().chain(runs).chain([first, tail]).collect());
    let total: u64 = ranges.iter().map(|range| range.length).sum();
    ranges.iter_mut().for_each(|range| range.start = volume.absolute(range.start));
    (ranges, total - known)
}

fn coalesce(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_unstable();
    let mut merged: Vec<ByteRange> = Vec::new();
    for range in ranges.into_iter().filter(|range| range.length > 0) {
        match merged.last_mut() {
            Some(last) if range.start <= last.end() => last.length = last.length.max(range.end() - last.start),
            _ => merged.push(range),
        }
    }
    merged
}
