//! The file map (docs/overview.md): what a file system's own tables say about a volume. One type for all file systems.

use crate::base::ranges::ByteRange;

/// Everything that a volume's tables say. All disk addresses are absolute in the source and lie inside the volume.
#[derive(Debug, Default)]
pub struct VolumeMap {
    /// "ext4", "ext3", "ext2", "ntfs", "fat12", "fat16", "fat32", "exfat", ...
    pub file_system: &'static str,
    pub label: String,
    pub uuid: String,
    pub cluster_bytes: u32,
    /// The journal holds changes that the tables do not show yet.
    pub dirty: bool,
    /// The number of the root directory.
    pub root: u64,
    /// Sorted, disjoint, coalesced. Everything in use, tables and journal too; bytes between the end of the file
    /// system and the end of the volume are included as allocated.
    pub allocated: Vec<ByteRange>,
    /// Sorted by number, each number once.
    pub files: Vec<File>,
    /// Sorted by (parent, name). No "." or "..".
    pub entries: Vec<DirectoryEntry>,
    /// btrfs: the ids of subvolumes and snapshots; `btrfs::subvolume_index` leads here. Else empty.
    pub subvolumes: Vec<u64>,
    /// Where the file system's own tables lie, as far as that is known: never left out, whoever claims them.
    pub tables: Vec<ByteRange>,
    /// Blocks of a journal that is empty, and that nobody will read: all but its superblock. Else empty.
    pub idle_journal: Vec<ByteRange>,
    /// Sentences about parts that could not be read as files and are kept raw, for the snapshot and for people.
    pub doubts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    pub parent: u64,
    /// As stored: bytes on ext, UTF-8 (WTF-8 for lone surrogates) made from UTF-16 on NTFS.
    pub name: Vec<u8>,
    pub child: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    File = 1,
    Directory = 2,
    Symlink = 3,
    BlockDevice = 4,
    CharacterDevice = 5,
    Fifo = 6,
    Socket = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::BlockDevice,
        Self::CharacterDevice,
        Self::Fifo,
        Self::Socket,
    ];

    /// The type bits of a Unix mode (S_IFMT), the same on every disk.
    pub fn type_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o01_0000,
            Self::CharacterDevice => 0o02_0000,
            Self::Directory => 0o04_0000,
            Self::BlockDevice => 0o06_0000,
            Self::File => 0o10_0000,
            Self::Symlink => 0o12_0000,
            Self::Socket => 0o14_0000,
        }
    }

    /// `None` where type bits mean nothing, or a mode has bits above them.
    pub fn of_mode(mode: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_bits() == mode & !0o7777)
    }
}

/// Seconds since 1970 and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Inode number; on NTFS the MFT record number without its sequence; on FAT the position of its directory entry; on
    /// btrfs with the subvolume's index in the list in the bits from 32 on.
    pub number: u64,
    /// ext: i_generation; NTFS: the record's sequence number.
    pub generation: u32,
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky (07777). NTFS: 0777 for folders, 0777 for files (as ntfs-3g shows).
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// Makedev value of a device node, else 0. Linux encoding: (major << 8 | minor) with the high bits of `makedev(3)`.
    pub device: u64,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub created: Timestamp,
    /// Name and value, in the order of the disk; names with their prefix ("user.mime", "security.capability").
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The unnamed stream first where there is one; a directory's has a size only, a symlink's is its link target.
    pub streams: Vec<Stream>,
    /// Attributes of kinds that no parser here knows, as a later version wrote them; else empty.
    pub opaque: Vec<u8>,
}

/// As which the opaque attributes of a file are shown, so that whoever copies or restores it keeps them.
const OPAQUE_XATTR: &[u8] = b"user.imager.opaque";

impl File {
    /// Its extended attributes, with what no parser here knows as one of them.
    pub fn shown_xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let opaque = (!self.opaque.is_empty()).then_some((OPAQUE_XATTR, self.opaque.as_slice()));
        self.xattrs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).chain(opaque)
    }
}

#[cfg(test)]
impl File {
    /// A file of root's, all of whose times are the epoch.
    pub fn of_streams(number: u64, streams: Vec<Stream>) -> Self {
        let time = Timestamp::default();
        Self {
            number,
            generation: 0,
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            links: 1,
            device: 0,
            modified: time,
            changed: time,
            created: time,
            xattrs: vec![],
            streams,
            opaque: vec![],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Empty for the unnamed one; UTF-8 of an NTFS stream's name.
    pub name: Vec<u8>,
    /// Logical length in bytes.
    pub size: u64,
    /// Bytes past this read as zeros although extents cover them (NTFS valid data length; elsewhere = size).
    pub valid: u64,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Held whole in the file's own record: exactly `size` bytes.
    Resident(Vec<u8>),
    /// Sorted by logical offset, not overlapping; what is absent is a hole.
    Extents(Vec<Extent>),
}

/// How btrfs packs an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    Zlib = 1,
    Lzo = 2,
    Zstd = 3,
}

impl Codec {
    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Zlib, Self::Lzo, Self::Zstd].into_iter().find(|codec| *codec as u8 == number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    Plain,
    /// Allocated, reads as zeros.
    Unwritten,
    /// A compression unit: `raw_length` logical bytes kept in `length` disk bytes. LZNT1 on NTFS.
    Compressed {
        raw_length: u32,
    },
    /// btrfs: `length` disk bytes unpack to `raw_length` bytes, of which the file has `used` from `raw_offset` on. Each
    /// is a stream of its own, and several files may use parts of it.
    Packed {
        codec: Codec,
        raw_length: u32,
        raw_offset: u32,
        used: u32,
    },
    /// Ciphertext whose key we do not hold; the bytes are kept as they are.
    Encrypted,
}

impl ExtentKind {
    /// As pages and the addon write it; never renumbered.
    pub fn number(&self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Unwritten => 1,
            Self::Compressed { .. } => 2,
            Self::Encrypted => 3,
            Self::Packed { .. } => 4,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub kind: ExtentKind,
    /// Byte offset in the stream; a multiple of the cluster.
    pub logical: u64,
    /// Absolute byte offset in the source.
    pub disk: u64,
    /// Bytes on disk; whole clusters, so the last extent may pass the stream's end.
    pub length: u64,
}
