//! From the $DATA attributes of a file to its streams: segments put together, runs turned into extents.

use super::attributes::{Attribute, FLAG_COMPRESSED, FLAG_ENCRYPTED, Value};
use super::boot::Boot;
use super::runs::{self, DataRun, Runlist};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;
use crate::fs::volume_map::{Content, Extent, ExtentKind, Stream};
use crate::fs::wtf8::wtf8;

const WHAT: &str = "$DATA";

/// An attribute with all its segments.
#[derive(Clone, Debug)]
pub enum Whole {
    Resident(Vec<u8>),
    /// `initialized_size <= data_size`, which the runs cover.
    NonResident {
        list: Runlist,
        data_size: u64,
        initialized_size: u64,
        flags: u16,
        compression_unit: u8,
    },
}

impl Whole {
    pub fn size(&self) -> u64 {
        match self {
            Self::Resident(value) => value.len() as u64,
            Self::NonResident { data_size, .. } => *data_size,
        }
    }

    /// All bytes of a short one. None: longer than `most`, or not kept plainly.
    pub fn read(&self, volume: Volume, boot: &Boot, most: u64) -> Result<Option<Vec<u8>>> {
        match self {
            _ if self.size() > most => Ok(None),
            Self::Resident(value) => Ok(Some(value.clone())),
            Self::NonResident { flags, .. } if flags & (FLAG_COMPRESSED | FLAG_ENCRYPTED) != 0 => Ok(None),
            Self::NonResident { list, data_size, initialized_size, .. } => {
                let mut value = vec![0; *data_size as usize];
                runs::read(volume, boot, &list.runs, 0, &mut value[..*initialized_size as usize])?;
                Ok(Some(value))
            }
        }
    }
}

/// Groups $DATA attributes by name, the unnamed one first.
pub fn join(mut attributes: Vec<Attribute>, boot: &Boot) -> Result<Vec<(Vec<u16>, Whole)>> {
    attributes.sort_by(|a, b| (&a.name, a.lowest_vcn()).cmp(&(&b.name, b.lowest_vcn())));
    let mut streams: Vec<(Vec<u16>, Whole)> = Vec::new();
    for Attribute { name, flags, value, .. } in attributes {
        let known = streams.last_mut().filter(|(last, _)| *last == name);
        match (known, value) {
            (None, Value::Resident(value)) => streams.push((name, Whole::Resident(value))),
            (None, Value::NonResident(segment)) if segment.lowest_vcn == 0 => {
                let mut list = Runlist::default();
                list.append(&segment.runs, boot)?;
                let (data_size, initialized_size) = (segment.data_size, segment.initialized_size);
                let compression_unit = segment.compression_unit;
                let whole = Whole::NonResident { list, data_size, initialized_size, flags, compression_unit };
                streams.push((name, whole));
            }
            (Some((_, Whole::NonResident { list, .. })), Value::NonResident(segment)) if segment.lowest_vcn > 0 => {
                list.append(&segment.runs, boot)?;
            }
            _ => return Err(Error::corrupt(WHAT, 0, "two streams of one name, or one without its beginning")),
        }
    }
    for (_, whole) in &streams {
        if let Whole::NonResident { list, data_size, .. } = whole
            && *data_size > list.end() * boot.cluster_bytes
        {
            return Err(Error::corrupt(WHAT, *data_size, "a stream is longer than its runs"));
        }
    }
    Ok(streams)
}

pub fn stream(name: &[u16], whole: Whole, volume: Volume, boot: &Boot) -> Result<Stream> {
    let name = wtf8(name);
    let size = whole.size();
    Ok(match whole {
        Whole::Resident(value) => Stream { name, size, valid: size, content: Content::Resident(value) },
        Whole::NonResident { list, initialized_size, flags, compression_unit, .. } => {
            let extents = if flags & FLAG_ENCRYPTED != 0 {
                extents(&list.runs, ExtentKind::Encrypted, volume, boot)
            } else if flags & FLAG_COMPRESSED != 0 {
                Units::new(compression_unit, volume, boot)?.extents(&list.runs)?
            } else {
                extents(&list.runs, ExtentKind::Plain, volume, boot)
            };
            Stream { name, size, valid: initialized_size, content: Content::Extents(extents) }
        }
    })
}

fn extents(runs: &[DataRun], kind: ExtentKind, volume: Volume, boot: &Boot) -> Vec<Extent> {
    let mut extents = Vec::with_capacity(runs.len());
    for run in runs {
        if let Some(lcn) = run.lcn {
            push(&mut extents, extent(kind, run.vcn, lcn, run.length, volume, boot));
        }
    }
    extents
}

fn extent(kind: ExtentKind, vcn: u64, lcn: u64, length: u64, volume: Volume, boot: &Boot) -> Extent {
    let bytes = boot.cluster_bytes;
    Extent { kind, logical: vcn * bytes, disk: volume.absolute(lcn * bytes), length: length * bytes }
}

/// Joins what continues the last extent, except for compressed units, each of which stands alone.
fn push(extents: &mut Vec<Extent>, next: Extent) {
    match extents.last_mut() {
        Some(last)
            if last.kind == next.kind
                && !matches!(next.kind, ExtentKind::Compressed { .. })
                && (last.logical + last.length, last.disk + last.length) == (next.logical, next.disk) =>
        {
            last.length += next.length;
        }
        _ => extents.push(next),
    }
}

/// Cuts the runs of a compressed stream into its units of `clusters` clusters: a unit with none is a hole, one with all
/// is plain, and one that ends in a sparse run is compressed into what comes before.
struct Units<'a> {
    clusters: u64,
    volume: Volume<'a>,
    boot: &'a Boot,
    extents: Vec<Extent>,
    /// Pieces of the unit being gathered: (vcn, lcn, length). They start the unit and have no gap.
    pieces: Vec<(u64, u64, u64)>,
    gathered: u64,
}

impl<'a> Units<'a> {
    fn new(compression_unit: u8, volume: Volume<'a>, boot: &'a Boot) -> Result<Self> {
        let clusters = 1u64.checked_shl(u32::from(compression_unit)).unwrap_or(0);
        let bytes = clusters.saturating_mul(boot.cluster_bytes);
        if compression_unit == 0 || clusters == 0 || bytes > limits::COMPRESSION_UNIT_BYTES {
            return Err(Error::unsupported("an NTFS compression unit of this size"));
        }
        Ok(Self { clusters, volume, boot, extents: Vec::new(), pieces: Vec::new(), gathered: 0 })
    }

    fn extents(mut self, runs: &[DataRun]) -> Result<Vec<Extent>> {
        for run in runs {
            if let Some(lcn) = run.lcn {
                self.run(run.vcn, lcn, run.length)?;
            }
        }
        self.flush();
        Ok(self.extents)
    }

    fn run(&mut self, mut vcn: u64, mut lcn: u64, mut length: u64) -> Result<()> {
        while length > 0 {
            let within = vcn % self.clusters;
            if within == 0 {
                self.flush();
            }
            let whole = length - length % self.clusters;
            let take = if within == 0 && whole > 0 {
                let plain = extent(ExtentKind::Plain, vcn, lcn, whole, self.volume, self.boot);
                push(&mut self.extents, plain);
                whole
            } else {
                self.piece(vcn, lcn, length.min(self.clusters - within))?
            };
            (vcn, lcn, length) = (vcn + take, lcn + take, length - take);
        }
        Ok(())
    }

    fn piece(&mut self, vcn: u64, lcn: u64, length: u64) -> Result<u64> {
        let follows =
            self.pieces.first().map_or(vcn.is_multiple_of(self.clusters), |first| first.0 + self.gathered == vcn);
        if !follows {
            return Err(Error::corrupt(WHAT, 0, "a compression unit with a hole before its data"));
        }
        self.pieces.push((vcn, lcn, length));
        self.gathered += length;
        Ok(length)
    }

    fn flush(&mut self) {
        let kind = if self.gathered == self.clusters {
            ExtentKind::Plain
        } else {
            ExtentKind::Compressed { raw_length: (self.clusters * self.boot.cluster_bytes) as u32 }
        };
        for (vcn, lcn, length) in std::mem::take(&mut self.pieces) {
            push(&mut self.extents, extent(kind, vcn, lcn, length, self.volume, self.boot));
        }
        self.gathered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ntfs::{attributes, sample};

    fn boot() -> Boot {
        let (cluster_bytes, clusters, record_bytes) = (1024, 256, 1024);
        Boot { cluster_bytes, clusters, record_bytes, mft_lcn: 4, mftmirr_lcn: 200, volume_serial_number: 0 }
    }

    /// Extents as (is compressed, first cluster in the stream, on disk, count).
    fn cut(flags: u16, compression_unit: u8, clusters: u64, pairs: &[u8]) -> Result<Vec<(ExtentKind, u64, u64, u64)>> {
        let mut raw = sample::non_resident(0x80, "", (0, clusters), clusters * 1024, pairs);
        raw[0x0C..0x0E].copy_from_slice(&flags.to_le_bytes());
        raw[0x22] = compression_unit;
        let attribute = attributes::decode(&raw, &boot())?.unwrap();
        let (_, whole) = join(vec![attribute], &boot())?.pop().unwrap();
        let disk = vec![0u8; 1];
        match stream(&[], whole, Volume::whole(&disk), &boot())?.content {
            Content::Resident(_) => panic!("resident"),
            Content::Extents(extents) => {
                Ok(extents.iter().map(|e| (e.kind, e.logical / 1024, e.disk / 1024, e.length / 1024)).collect())
            }
        }
    }

    #[test]
    fn compression_units_are_cut() {
        let packed = ExtentKind::Compressed { raw_length: 4096 };
        // Units of 4: two plain at once, one compressed in two pieces, a hole, one plain in two pieces, one cut short.
        let pairs = [0x11, 9, 10, 0x11, 1, 30, 0x01, 2, 0x01, 4, 0x11, 1, 10, 0x11, 3, 5, 0x11, 1, 5];
        let plain = ExtentKind::Plain;
        let expected = [
            (plain, 0, 10, 8),
            (packed, 8, 18, 1),
            (packed, 9, 40, 1),
            (plain, 16, 50, 1),
            (plain, 17, 55, 3),
            (packed, 20, 60, 1),
        ];
        assert_eq!(cut(1, 2, 21, &pairs).unwrap(), expected);
        assert!(cut(1, 2, 4, &[0x01, 1, 0x11, 3, 10]).is_err(), "a hole before the data");
        assert!(cut(1, 2, 4, &[0x11, 1, 10, 0x01, 1, 0x11, 2, 10]).is_err(), "a hole inside the data");
        for unit in [0, 9, 64, 255] {
            assert_eq!(cut(1, unit, 4, &[0x11, 4, 10]).unwrap_err().code(), "UNSUPPORTED");
        }
        assert!(
            cut(1, 2, 1 << 52, &[0x07, 0, 0, 0, 0, 0, 0, 0x10]).unwrap().is_empty(),
            "a hole of any size costs nothing"
        );
    }

    #[test]
    fn neighbours_join_and_ciphertext_is_marked() {
        let pairs = [0x11, 2, 10, 0x11, 2, 2, 0x11, 2, 3];
        assert_eq!(cut(0, 0, 6, &pairs).unwrap(), [(ExtentKind::Plain, 0, 10, 4), (ExtentKind::Plain, 4, 15, 2)]);
        let cipher = ExtentKind::Encrypted;
        assert_eq!(cut(0x4000, 0, 6, &pairs).unwrap(), [(cipher, 0, 10, 4), (cipher, 4, 15, 2)]);
    }

    #[test]
    fn streams_are_whole_and_their_names_unique() {
        let part = |name, vcns, size, pairs: &[u8]| {
            attributes::decode(&sample::non_resident(0x80, name, vcns, size, pairs), &boot()).unwrap().unwrap()
        };
        let first = part("a", (0, 2), 4096, &[0x11, 2, 10]);
        let second = part("a", (2, 2), 0, &[0x11, 2, 20]);
        let unnamed = attributes::decode(&sample::resident(0x80, "", b"x"), &boot()).unwrap().unwrap();
        let joined = join(vec![second.clone(), first.clone(), unnamed.clone()], &boot()).unwrap();
        assert_eq!((joined.len(), joined[0].1.size(), joined[1].1.size()), (2, 1, 4096));
        for bad in
            [vec![second.clone()], vec![first.clone()], vec![first.clone(), first], vec![unnamed.clone(), unnamed]]
        {
            assert!(join(bad, &boot()).is_err());
        }
    }
}
