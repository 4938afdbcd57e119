//! The name of what no parser takes, from its magic bytes, so that people learn what is kept as it is. A guess: nothing
//! but the bytes here is looked at, and nothing depends on it.

use crate::disk::volume::Volume;

/// What there is, and why it is read raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: &'static str,
    pub reason: &'static str,
}

struct Magic {
    at: u64,
    bytes: &'static [u8],
    found: Found,
}

const fn magic(at: u64, bytes: &'static [u8], name: &'static str, reason: &'static str) -> Magic {
    Magic { at, bytes, found: Found { name, reason } }
}

/// BitLocker To Go shows a small FAT volume to systems that do not know it, which has this identifier.
pub const BITLOCKER_TO_GO_AT: u64 = 0x1A8;
pub const BITLOCKER_TO_GO: [u8; 16] = *b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
const LUKS: &str = "it is LUKS: encrypted, kept as it is";
const BITLOCKED: &str = "it is BitLocker: encrypted, kept as it is";
const SWAP: &str = "it is swap space, it has no files";
const ASLEEP: &str = "it is swap space with a system that sleeps, kept as it is";
const LVM: &str = "it is a physical volume of LVM, kept as it is";
const MD: &str = "it is a member of a Linux RAID, kept as it is";
const APPLE: &str = "it has an Apple partition map, whose partitions are not read apart";
const ZFS: &str = "it is a member of a ZFS pool, kept as it is";
const MD_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9\x01\0\0\0";
const MD_090_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9\0\0\0\0";

/// What wraps or encrypts comes before what may lie inside it. Distances are from the start of the volume.
const MAGICS: &[Magic] = &[
    magic(0, b"LUKS\xba\xbe\0\x01", "luks", LUKS),
    magic(0, b"LUKS\xba\xbe\0\x02", "luks", LUKS),
    magic(3, b"-FVE-FS-", "bitlocker", BITLOCKED),
    magic(BITLOCKER_TO_GO_AT, &BITLOCKER_TO_GO, "bitlocker", BITLOCKED),
    magic(24, b"LVM2 001", "lvm2", LVM),
    magic(512 + 24, b"LVM2 001", "lvm2", LVM),
    magic(1024 + 24, b"LVM2 001", "lvm2", LVM),
    magic(1536 + 24, b"LVM2 001", "lvm2", LVM),
    magic(0, MD_MAGIC, "md", MD),
    magic(4096, MD_MAGIC, "md", MD),
    magic(0, b"XFSB", "xfs", "it is XFS, kept as it is"),
    magic(0x10040, b"_BHRfS_M", "btrfs", "it is btrfs, kept as it is"),
    magic(
        4096 + 24,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        "bcachefs",
        "it is bcachefs, kept as it is",
    ),
    // Also bcachefs before Linux 6.7: the two shared their magic.
    magic(
        4096 + 24,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        "bcache",
        "it is a device of bcache or an old bcachefs, kept as it is",
    ),
    magic(0, b"\0\0\0ReFS\0", "refs", "it is ReFS, kept as it is"),
    magic(32, b"NXSB", "apfs", "it is an APFS container, kept as it is"),
    magic(1024, b"H+\0\x04", "hfsplus", "it is HFS+, kept as it is"),
    magic(1024, b"HX\0\x05", "hfsplus", "it is HFS+, kept as it is"),
    magic(0, b"hsqs", "squashfs", "it is squashfs, kept as it is"),
    magic(0, b"sqsh", "squashfs", "it is squashfs, kept as it is"),
    magic(1024, b"\xe2\xe1\xf5\xe0", "erofs", "it is EROFS, kept as it is"),
    magic(1024, b"\x10\x20\xf5\xf2", "f2fs", "it is F2FS, kept as it is"),
    magic(0x8000, b"JFS1", "jfs", "it is JFS, kept as it is"),
    magic(0x10034, b"ReIsErFs", "reiserfs", "it is ReiserFS, kept as it is"),
    magic(0x10034, b"ReIsEr2Fs", "reiserfs", "it is ReiserFS, kept as it is"),
    magic(0x10034, b"ReIsEr3Fs", "reiserfs", "it is ReiserFS, kept as it is"),
    magic(0x2034, b"ReIsErFs", "reiserfs", "it is ReiserFS, kept as it is"),
    magic(0x10000, b"ReIsEr4", "reiser4", "it is Reiser4, kept as it is"),
    magic(0x10000, b"\x01\x16\x19\x70\0\0\0\x01", "gfs2", "it is GFS2, kept as it is"),
    magic(1024, b"OCFSV2", "ocfs2", "it is OCFS2, kept as it is"),
    magic(2048, b"OCFSV2", "ocfs2", "it is OCFS2, kept as it is"),
    magic(4096, b"OCFSV2", "ocfs2", "it is OCFS2, kept as it is"),
    magic(8192, b"OCFSV2", "ocfs2", "it is OCFS2, kept as it is"),
    magic(0x10_0000, b"\x0d\xd0\x01\xc0", "vmfs", "it is a volume of VMFS, kept as it is"),
    magic(0x20_0000, b"\x5e\xf1\xab\x2f", "vmfs", "it is VMFS, kept as it is"),
    magic(0x8001, b"CD001", "iso9660", "it is ISO 9660, kept as it is"),
    magic(0x8001, b"BEA01", "udf", "it is UDF, kept as it is"),
    magic(8192 + 1372, b"\x54\x19\x01\0", "ufs", "it is UFS, kept as it is"),
    magic(8192 + 1372, b"\x19\x01\x54\x19", "ufs", "it is UFS, kept as it is"),
    magic(65536 + 1372, b"\x19\x01\x54\x19", "ufs", "it is UFS, kept as it is"),
    magic(262_144 + 1372, b"\x19\x01\x54\x19", "ufs", "it is UFS, kept as it is"),
    magic(512, b"\x57\x45\x56\x82", "bsdlabel", "it has a BSD disk label, whose partitions are not read apart"),
    magic(0, b"ER\x02\0", "applemap", APPLE),
    magic(0, b"ER\x10\0", "applemap", APPLE),
];

/// The name of swap space, with or without a system that sleeps in it.
pub const SWAP_SPACE: &str = "swap";
/// Where the kernel puts the magic of swap space: at the end of the first page, whatever a page is there.
const SWAP_PAGES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
const SWAP_MAGICS: [&[u8]; 2] = [b"SWAPSPACE2", b"SWAP-SPACE"];
/// Of a system that sleeps there.
const SLEEP_MAGICS: [&[u8]; 4] = [b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"];
/// Uberblocks of the first ZFS label; each begins with its magic.
const ZFS_RING: (u64, usize, usize) = (128 << 10, 128, 1024);
const ZFS_MAGIC: u64 = 0x00BA_B10C;

/// What cannot be read counts as not matching.
pub fn recognise(volume: Volume) -> Option<Found> {
    let has = |at: u64, bytes: &[u8]| volume.read_vec(at, bytes.len()).is_ok_and(|there| there == bytes);
    let found = MAGICS.iter().find(|magic| has(magic.at, magic.bytes)).map(|magic| magic.found);
    found.or_else(|| swap(&has)).or_else(|| md_at_end(volume, &has)).or_else(|| zfs(volume))
}

fn swap(has: &impl Fn(u64, &[u8]) -> bool) -> Option<Found> {
    let any = |page: u64, magics: &[&[u8]]| magics.iter().any(|magic| has(page - 10, magic));
    let page = SWAP_PAGES.into_iter().find(|page| any(*page, &SWAP_MAGICS) || any(*page, &SLEEP_MAGICS))?;
    let reason = if any(page, &SWAP_MAGICS) { SWAP } else { ASLEEP };
    Some(Found { name: SWAP_SPACE, reason })
}

/// The size of the page that holds the header of swap space in which nobody sleeps.
pub fn swap_page(volume: Volume) -> Option<u64> {
    SWAP_PAGES.into_iter().find(|page| {
        let magic = volume.read_vec(page - 10, 10);
        magic.is_ok_and(|magic| SWAP_MAGICS.contains(&magic.as_slice()))
    })
}

/// Version 0.90 lies in the last 64 KiB that begin at a multiple of 64 KiB, 1.0 at least 8 KiB before the end.
fn md_at_end(volume: Volume, has: &impl Fn(u64, &[u8]) -> bool) -> Option<Found> {
    let old = (volume.length & !0xFFFF).checked_sub(0x10000);
    let new = (volume.length & !0x1FF).checked_sub(0x2000).map(|at| at & !0xFFF);
    let found = old.is_some_and(|at| has(at, MD_090_MAGIC)) || new.is_some_and(|at| has(at, MD_MAGIC));
    found.then_some(Found { name: "md", reason: MD })
}

fn zfs(volume: Volume) -> Option<Found> {
    let (at, count, step) = ZFS_RING;
    let ring = volume.read_vec(at, count * step).ok()?;
    let found = ring.chunks(step).any(|block| {
        let first = u64::from_le_bytes(block[..8].try_into().expect("eight bytes"));
        first == ZFS_MAGIC || first.swap_bytes() == ZFS_MAGIC
    });
    found.then_some(Found { name: "zfs", reason: ZFS })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(at: usize, bytes: &[u8]) -> Option<&'static str> {
        let mut disk = vec![0u8; (3 << 20) + 700];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        recognise(Volume::whole(&disk)).map(|found| found.name)
    }

    #[test]
    fn every_magic_is_found() {
        for magic in MAGICS {
            assert_eq!(named(magic.at as usize, magic.bytes), Some(magic.found.name));
        }
        for page in SWAP_PAGES {
            assert_eq!(named(page as usize - 10, b"SWAPSPACE2"), Some("swap"));
        }
        assert_eq!(named((3 << 20) - 0x10000, MD_090_MAGIC), Some("md"));
        assert_eq!(named((3 << 20) + 512 - 0x2000 - 512, MD_MAGIC), Some("md"));
        assert_eq!(named((128 << 10) + 7 * 1024, &ZFS_MAGIC.to_be_bytes()), Some("zfs"));
        assert_eq!(named(0, b"nothing"), None);
    }

    #[test]
    fn short_volumes_are_nothing() {
        for length in [0, 1, 511, 4096, 70_000] {
            assert_eq!(recognise(Volume::whole(&vec![0; length])), None);
        }
    }
}
