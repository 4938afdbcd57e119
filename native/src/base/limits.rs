//! Every cap of the addon, each with its reason. Nothing is allocated from a length that was not compared with
//! one of these and with what remains of its input.

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// The unit of dedupe: a day's change costs 260 MB at 64 KiB, 382 MB at 1 MiB.
pub const BLOCK_BYTES: usize = 64 * KIB;
/// A stream of so much is a database, an image, a mailbox: what of it changes is overwritten in place, in pages.
pub const LARGE_STREAM_BYTES: u64 = 64 * MIB as u64;
/// The unit of dedupe in those: 2,000 pages of 4 KiB changed in 200 MB cost 57 MB, at 64 KiB 98 MB.
pub const LARGE_STREAM_BLOCK_BYTES: usize = 32 * KIB;
/// A manifest page's plain bytes; a folder of any size is split below this.
pub const PAGE_BYTES: usize = 4 * MIB;
/// One file's record in a manifest: half a page. A file with more (thousands of named streams) is in the image only.
pub const RECORD_BYTES: usize = 2 * MIB;
/// One shard's body. k of them make a pack.
pub const SHARD_BYTES: usize = 4 * MIB;
/// Records of one pack: an ordinal is 16 bits of a birth number.
pub const PACK_RECORDS: usize = 1 << 16;
/// Hosts of one stripe.
pub const STRIPE_SHARDS: usize = 32;
/// The part of a shard that one entry of its slice table covers, and the unit of an audit.
pub const SLICE_BYTES: usize = 64 * KIB;
/// Places of records that an appliance remembers to have stored or proved, 8 bytes each: 256 GB of blocks. Others are proved again.
pub const PROVED_PLACES: usize = 1 << 22;
/// Disk bytes that one map page describes.
pub const MAP_PAGE_BYTES: u64 = 8 << 20;

/// Partitions of one table. GPT allows 2^32; every tool writes 128.
pub const PARTITIONS: usize = 1024;
/// Metadata areas of one LVM physical volume: `pvcreate` makes at most two.
pub const LVM_AREAS: usize = 4;
/// The text that describes a volume group: 250 bytes a segment, so 60,000 of them.
pub const LVM_METADATA_BYTES: u64 = 16 * MIB as u64;
/// Names and values in that text, about 100 bytes of memory each.
pub const LVM_TEXT_NODES: usize = 1 << 20;
/// Sections in sections of that text; lvm2 itself writes five.
pub const LVM_TEXT_DEPTH: usize = 10;
/// Logical volumes of one physical volume that are shown: they are numbered in the thousands of their partition.
pub const LVM_VOLUMES: u32 = 999;
/// The last partition whose logical volumes are shown, so that their numbers stay below 65,534, which a mount can show.
pub const LVM_PARTITIONS: u32 = 64;
/// Folders above a file whose path is asked for: a path of 4096 bytes has at most 2048.
pub const PATH_DEPTH: usize = 2048;
/// Depth of an ext4 extent tree (the kernel's own limit is 5).
pub const EXTENT_TREE_DEPTH: u16 = 5;
/// An NTFS attribute list (Windows' own limit).
pub const ATTRIBUTE_LIST_BYTES: u64 = 256 * KIB as u64;
/// Logical bytes of one NTFS compression unit: Windows writes 16 clusters of at most 4 KiB; room for four times that.
pub const COMPRESSION_UNIT_BYTES: u64 = 256 * KIB as u64;
/// A reparse point, or a file that stands for a symbolic link, with its headers (Windows: 16 KiB).
pub const LINK_BYTES: u64 = 17 * KIB as u64;
/// One read of a table ($MFT, $Bitmap): large enough for a disk's best speed.
pub const TABLE_READ_BYTES: usize = MIB;
/// Sentences of doubt about one volume; the rest is counted.
pub const DOUBTS: usize = 100;
/// Extents of one stream: 16 TiB of 4 KiB clusters with every second one missing would be 2^31; 2^26 is 1 GiB of memory.
pub const STREAM_EXTENTS: usize = 1 << 26;
/// Extended attributes of one file, in bytes (the kernel's XATTR_SIZE_MAX for one value is 64 KiB).
pub const XATTR_BYTES: usize = 256 * KIB;
/// Bytes of a resident stream: an NTFS record is at most 4 KiB, an ext4 inode at most 64 KiB.
pub const RESIDENT_BYTES: usize = 64 * KIB;
/// Block groups of an ext volume: one of 1 PiB with groups of 128 MiB has 2^23.
pub const EXT_GROUPS: u64 = 1 << 23;
/// Extended attributes of all files of one volume: 300 bytes for each of ten million files are 3 GB on disk as well;
/// past this the attributes are left to the raw blocks.
pub const VOLUME_XATTR_BYTES: usize = 1 << 29;
/// Cluster runs of one FAT: 12 bytes each, so 400 MB at worst; a volume of 2^28 clusters of which every
/// eighth begins another fragment.
pub const FAT_RUNS: usize = 1 << 25;
/// One exFAT directory (the specification's own limit).
pub const EXFAT_DIRECTORY_BYTES: u64 = 256 << 20;
/// Depth of an XFS B+tree (the kernel's XFS_BTREE_MAXLEVELS is 9; large extent counts allow a few more).
pub const XFS_TREE_DEPTH: u16 = 16;
/// Depth of the tree of an XFS file's attributes (the kernel's XFS_DA_NODE_MAXDEPTH).
pub const XFS_ATTRIBUTE_DEPTH: u16 = 5;
/// A symbolic link's target on XFS (the kernel's XFS_SYMLINK_MAXLEN).
pub const XFS_LINK_TARGET_BYTES: u64 = 1024;
/// Files of one btrfs volume, each snapshot's counted again: 300 bytes each are 10 GB.
pub const BTRFS_FILES: u64 = 1 << 25;
/// Bytes that one compressed btrfs extent holds and unpacks to: the kernel compresses at most 128 KiB at a time.
pub const PACKED_RAW_BYTES: u64 = 128 * KIB as u64;
/// One frame on a data connection that is not a body: a question with its grant, or an error as it travels.
pub const FRAME_BYTES: usize = 64 * KIB;
