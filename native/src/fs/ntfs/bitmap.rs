//! $Bitmap: one bit a cluster, set where the cluster is in use. Whatever contradicts it is taken as allocated too.

use super::boot::Boot;
use super::runs;
use super::streams::Whole;
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::base::ranges::{ByteRange, coalesce};
use crate::disk::volume::Volume;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ntfs::runs::{DataRun, Runlist};

    /// A volume of `clusters` of 512 bytes whose bitmap lies at cluster 1.
    fn scan(clusters: u64, bits: impl Fn(u64) -> bool, initialized_size: u64) -> Result<Vec<(u64, u64)>> {
        let (cluster_bytes, record_bytes) = (512, 1024);
        let boot = Boot { cluster_bytes, clusters, record_bytes, mft_lcn: 4, mftmirr_lcn: 9, volume_serial_number: 0 };
        let mut disk = vec![0u8; (clusters * 512) as usize];
        // Bits past the end are set: they mean nothing.
        for cluster in (0..clusters.next_multiple_of(512)).filter(|&cluster| cluster >= clusters || bits(cluster)) {
            disk[512 + cluster as usize / 8] |= 1 << (cluster % 8);
        }
        let mut list = Runlist::default();
        list.append(&[DataRun { vcn: 0, lcn: Some(1), length: clusters.div_ceil(4096) }], &boot)?;
        let bitmap = Whole::NonResident { list, data_size: 1 << 20, initialized_size, flags: 0, compression_unit: 0 };
        let ranges = read(Volume::whole(&disk), &boot, &bitmap)?;
        Ok(ranges.iter().map(|range| (range.start / 512, range.length / 512)).collect())
    }

    #[test]
    fn bits_become_ranges_across_words() {
        let used = |cluster: u64| matches!(cluster, 0 | 2..=3 | 60..=130 | 192..=255 | 300 | 999);
        let expected = [(0, 1), (2, 2), (60, 71), (192, 64), (300, 1), (999, 1)];
        assert_eq!(scan(1000, used, 125).unwrap(), expected);
        assert_eq!(scan(1000, |_| true, 125).unwrap(), [(0, 1000)]);
        assert_eq!(scan(1000, |_| false, 125).unwrap(), []);
        assert_eq!(scan(1001, |cluster| cluster == 1000, 126).unwrap(), [(1000, 1)]);
    }

    #[test]
    fn a_short_bitmap_is_refused() {
        assert!(scan(1000, |_| true, 124).is_err());
    }

    #[test]
    fn ranges_overlap_and_touch() {
        let range = |start, length| ByteRange { start, length };
        let merged = coalesce(vec![range(10, 5), range(0, 4), range(15, 1), range(2, 4), range(11, 2), range(9, 0)]);
        assert_eq!(merged, [range(0, 6), range(10, 6)]);
    }
}
