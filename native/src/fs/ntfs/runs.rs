//! Mapping pairs: where the clusters of a non-resident attribute lie.
//!
//! A pair is a header byte (low nibble: bytes of the length; high nibble: bytes of the offset), the length in clusters
//! and the signed distance of its first cluster from that of the last pair that had one. No offset: a sparse run.
//! A zero header, or the end of the attribute, ends the list.
//!
//! What leaves here holds: runs are in order of `vcn` without gaps, `vcn * cluster_bytes` fits in an i64, every
//! cluster lies inside the volume, and one attribute never maps more clusters than the volume has.

use super::boot::Boot;
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;

const WHAT: &str = "NTFS mapping pairs";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRun {
    pub vcn: u64,
    /// None: sparse.
    pub lcn: Option<u64>,
    pub length: u64,
}

impl DataRun {
    pub fn end(&self) -> u64 {
        self.vcn + self.length
    }
}

pub fn decode(pairs: &[u8], lowest_vcn: u64, boot: &Boot) -> Result<Vec<DataRun>> {
    let most_vcn = i64::MAX as u64 / boot.cluster_bytes;
    let mut runs = Vec::new();
    let (mut at, mut vcn, mut lcn, mut mapped) = (0usize, lowest_vcn, 0i64, 0u64);
    while let Some(&header) = pairs.get(at).filter(|&&header| header != 0) {
        let corrupt = |why: &str| Error::corrupt(WHAT, at as u64, why);
        let (length_bytes, offset_bytes) = (usize::from(header & 15), usize::from(header >> 4));
        let length_at = at + 1;
        let offset_at = length_at + length_bytes;
        let next = offset_at + offset_bytes;
        if length_bytes == 0 || length_bytes > 8 || offset_bytes > 8 || next > pairs.len() {
            return Err(corrupt("a pair of impossible size"));
        }
        let length = signed(&pairs[length_at..offset_at]);
        let end = u64::try_from(length).ok().and_then(|length| vcn.checked_add(length));
        let Some(end) = end.filter(|&end| length > 0 && end <= most_vcn) else {
            return Err(corrupt("a run without a possible length"));
        };
        let length = length as u64;
        let mut run = DataRun { vcn, lcn: None, length };
        if offset_bytes > 0 {
            lcn = lcn
                .checked_add(signed(&pairs[offset_at..next]))
                .ok_or_else(|| corrupt("a cluster number overflows"))?;
            mapped += length;
            let inside = u64::try_from(lcn).is_ok_and(|lcn| lcn < boot.clusters && length <= boot.clusters - lcn);
            if !inside || mapped > boot.clusters {
                return Err(corrupt("a run outside the volume"));
            }
            run.lcn = Some(lcn as u64);
        }
        runs.push(run);
        vcn = end;
        at = next;
    }
    Ok(runs)
}

/// Little-endian, sign in the last byte. `bytes` has one to eight.
fn signed(bytes: &[u8]) -> i64 {
    let fill = if bytes.last().is_some_and(|&byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

/// The runs of a whole attribute, put together from the segments of its records.
#[derive(Clone, Debug, Default)]
pub struct Runlist {
    pub runs: Vec<DataRun>,
    mapped: u64,
}

impl Runlist {
    /// `next` as `decode` gave it, from the segment that follows.
    pub fn append(&mut self, next: &[DataRun], boot: &Boot) -> Result<()> {
        if self.runs.len() + next.len() > limits::STREAM_EXTENTS {
            return Err(Error::corrupt(WHAT, 0, "more runs than imager keeps"));
        }
        if next.first().is_some_and(|first| first.vcn != self.end()) {
            return Err(Error::corrupt(WHAT, 0, "a gap between the segments of an attribute"));
        }
        // Each segment alone fits in the volume; a hostile list could still repeat one without end.
        self.mapped += next.iter().filter(|run| run.lcn.is_some()).map(|run| run.length).sum::<u64>();
        if self.mapped > boot.clusters {
            return Err(Error::corrupt(WHAT, 0, "an attribute of more clusters than the volume"));
        }
        self.runs.extend_from_slice(next);
        Ok(())
    }

    /// The first cluster number of the attribute past its runs.
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(0, DataRun::end)
    }
}

/// Bytes from `offset` of the attribute; sparse runs read as zeros, and what the runs do not cover is an error.
pub fn read(volume: Volume, boot: &Boot, runs: &[DataRun], offset: u64, buffer: &mut [u8]) -> Result<()> {
    let mut done = 0usize;
    let mut index = runs.partition_point(|run| run.end() <= offset / boot.cluster_bytes);
    while done < buffer.len() {
        let at = offset + done as u64;
        let Some(run) = runs.get(index).filter(|run| run.vcn * boot.cluster_bytes <= at) else {
            return Err(Error::corrupt(WHAT, at, "the attribute is longer than its runs"));
        };
        let take = (run.end() * boot.cluster_bytes - at).min((buffer.len() - done) as u64) as usize;
        let part = &mut buffer[done..done + take];
        match run.lcn {
            Some(lcn) => volume.read(lcn * boot.cluster_bytes + (at - run.vcn * boot.cluster_bytes), part)?,
            None => part.fill(0),
        }
        done += take;
        index += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        let (cluster_bytes, clusters, record_bytes) = (512, 1000, 1024);
        Boot { cluster_bytes, clusters, record_bytes, mft_lcn: 4, mftmirr_lcn: 500, volume_serial_number: 0 }
    }

    #[test]
    fn pairs_are_signed_and_may_be_sparse() {
        // 16 at 100; 4 sparse; 2 at 100 - 50.
        let runs = decode(&[0x11, 16, 100, 0x01, 4, 0x12, 2, 0, 0xCE, 0, 9, 9], 0, &boot()).unwrap();
        let expected = [(0, Some(100), 16), (16, None, 4), (20, Some(50), 2)];
        assert_eq!(runs, expected.map(|(vcn, lcn, length)| DataRun { vcn, lcn, length }));
        assert!(decode(&[], 0, &boot()).unwrap().is_empty());
    }

    #[test]
    fn hostile_pairs_are_refused() {
        let cases: [&[u8]; 10] = [
            &[0x11, 0, 5],                                              // no clusters
            &[0x11, 0xff, 5],                                           // a negative length
            &[0x11, 5],                                                 // cut off
            &[0x19, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],                      // nine bytes of length
            &[0x91, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],                      // nine bytes of offset
            &[0x10, 1],                                                 // no length
            &[0x11, 1, 0xff],                                           // before the volume
            &[0x22, 0x00, 0x02, 0x00, 0x02],                            // 512 clusters at 512: past the end
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], // more than i64 bytes
            &[0x22, 0x58, 2, 1, 0, 0x22, 0x58, 2, 0, 0],                // 1200 clusters of 1000
        ];
        for pairs in cases {
            assert!(decode(pairs, 0, &boot()).is_err(), "{pairs:02x?}");
        }
        let far = [0x81, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(decode(&far, 0, &boot()).is_err());
        assert!(decode(&[0x11, 1, 1], u64::MAX, &boot()).is_err());
    }

    #[test]
    fn segments_join_without_gaps_and_without_end() {
        let mut list = Runlist::default();
        list.append(&decode(&[0x21, 100, 0, 1], 0, &boot()).unwrap(), &boot()).unwrap();
        assert!(list.append(&decode(&[0x21, 100, 0, 1], 101, &boot()).unwrap(), &boot()).is_err());
        for segment in 1..10 {
            list.append(&decode(&[0x21, 100, 0, 1], segment * 100, &boot()).unwrap(), &boot()).unwrap();
        }
        assert!(list.append(&decode(&[0x21, 100, 0, 1], 1000, &boot()).unwrap(), &boot()).is_err());
    }

    #[test]
    fn reads_cross_runs_and_stop_at_their_end() {
        let disk: Vec<u8> = (0..1000 * 512u32).map(|at| (at / 512) as u8).collect();
        let runs = decode(&[0x11, 2, 10, 0x01, 1, 0x11, 1, 10], 0, &boot()).unwrap();
        let mut buffer = [9u8; 1536];
        read(Volume::whole(&disk), &boot(), &runs, 512, &mut buffer).unwrap();
        assert_eq!([buffer[0], buffer[512], buffer[1024]], [11, 0, 20]);
        assert!(read(Volume::whole(&disk), &boot(), &runs, 513, &mut buffer).is_err());
    }
}
