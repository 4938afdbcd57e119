//! From records back to pages, blocks and disks.

use std::sync::Arc;

use napi::bindgen_prelude::{BigInt, Buffer, Either, Null, Result, Uint8Array};
use napi_derive::napi;

use super::keys::Vault;
use super::names::Runs;
use super::{lock, thrown};
use crate::base::error::Error;
use crate::formats::page::{self, Page, Ref};
use crate::formats::record::signature;
use crate::formats::references::References;
use crate::fs::volume_map::{Codec, Content, ExtentKind, File};

/// What opens one page; its key stays inside.
#[napi]
pub struct PageRef(pub(super) Ref);

#[napi]
impl PageRef {
    /// The signature, 32 bytes.
    #[napi]
    pub fn id(&self) -> Buffer {
        signature(&self.0.key).to_vec().into()
    }

    /// Its birth number (docs/formats/pack.md).
    #[napi(getter)]
    pub fn birth(&self) -> BigInt {
        self.0.birth.into()
    }
}

/// A tree of a manifest: 1 map, 2 files, 3 directories.
#[napi(object)]
pub struct TreeTop {
    pub tree: u8,
    pub volume: u32,
    pub level: u8,
}

/// What a map page adds to the sums of its snapshot.
#[napi(object)]
pub struct Mapped {
    pub bytes: f64,
    pub pieces: u32,
}

/// A piece of a stream. `logical` is its byte offset in the stream, `disk` the one on the disk, `length` its bytes
/// there.
#[napi(object)]
pub struct FileExtent {
    /// 0 plain, 1 unwritten, 2 compressed, 3 encrypted, 4 packed.
    pub kind: u8,
    /// Of a compressed unit or a packed extent: bytes that it unpacks to.
    pub raw_length: u32,
    /// Packed: 1 zlib, 2 LZO, 3 zstd; else 0.
    pub codec: u8,
    /// Packed: where the file's part begins in the unpacked bytes.
    pub raw_offset: u32,
    /// Packed: bytes of the file's part.
    pub used: u32,
    pub logical: f64,
    pub disk: f64,
    pub length: f64,
}

/// A stream of a file: `size` in bytes; from `valid` on it reads as zeros. `resident`: the bytes of one that lies in
/// the file's own record, null where `extents` have them. `name` is empty for the content of the file itself.
#[napi(object)]
pub struct FileStream {
    pub name: String,
    pub size: f64,
    pub valid: f64,
    pub resident: Either<Buffer, Null>,
    pub extents: Vec<FileExtent>,
}

/// Seconds since 1970, below 0 for earlier ones, and nanoseconds below 10^9.
#[napi(object)]
pub struct FileTime {
    pub seconds: f64,
    pub nanoseconds: u32,
}

/// An extended attribute; the name with its prefix (`user.mime`).
#[napi(object)]
pub struct FileXattr {
    pub name: Buffer,
    pub value: Buffer,
}

/// A file as a file page holds it; `kind` as `fs::Kind`.
#[napi(object)]
pub struct FileRecord {
    pub number: f64,
    pub generation: u32,
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub device: f64,
    pub modified: FileTime,
    pub changed: FileTime,
    pub created: FileTime,
    pub xattrs: Vec<FileXattr>,
    pub streams: Vec<FileStream>,
}

/// A verified, decoded page of a manifest.
#[napi(js_name = "ManifestPage")]
pub struct ManifestPage(pub(super) Arc<Page>);

pub(super) fn wrong_kind() -> napi::Error {
    thrown(Error::corrupt("manifest", 0, "a page of another kind than its tree's"))
}

#[napi]
impl ManifestPage {
    /// Of the root: what the snapshot says about itself, JSON.
    #[napi]
    pub fn description(&self) -> Result<String> {
        match &*self.0 {
            Page::Root { description, .. } => Ok(description.clone()),
            _ => Err(wrong_kind()),
        }
    }

    /// Of the root: its trees, in order; `top` gives the page of each.
    #[napi]
    pub fn tops(&self) -> Result<Vec<TreeTop>> {
        let Page::Root { tops, .. } = &*self.0 else { return Err(wrong_kind()) };
        let top = |top: &page::Top| TreeTop { tree: top.tree as u8, volume: top.volume, level: top.level };
        Ok(tops.iter().map(top).collect())
    }

    /// Of the root: what opens the top page of a tree, by its index in `tops`. Throws CORRUPT where there is none.
    #[napi]
    pub fn top(&self, index: u32) -> Result<PageRef> {
        match &*self.0 {
            Page::Root { tops, .. } => tops.get(index as usize).map(|top| PageRef(top.page)).ok_or_else(wrong_kind),
            _ => Err(wrong_kind()),
        }
    }

    /// Of an index page: the pages one level below whose keys meet `first..=last`.
    #[napi]
    pub fn children(&self, first: f64, last: f64) -> Result<Vec<PageRef>> {
        let Page::Index { entries, .. } = &*self.0 else { return Err(wrong_kind()) };
        let (first, last) = (first as u64, last as u64);
        let meets = |entry: &&page::IndexEntry| entry.first <= last && entry.last >= first;
        Ok(entries.iter().filter(meets).map(|entry| PageRef(entry.child)).collect())
    }

    /// Of a map page: how many bytes of the disk it speaks of, and in how many stored pieces.
    #[napi]
    pub fn mapped(&self) -> Result<Mapped> {
        let Page::Map(entries) = &*self.0 else { return Err(wrong_kind()) };
        Ok(Mapped {
            bytes: entries.iter().map(|entry| f64::from(entry.length)).sum(),
            pieces: entries.iter().filter(|entry| entry.block.is_stored()).count() as u32,
        })
    }

    /// Of a file page: the record of a number. One with very many extents goes on in the next page.
    #[napi]
    pub fn file(&self, number: f64) -> Result<Option<FileRecord>> {
        let Page::Files(files) = &*self.0 else { return Err(wrong_kind()) };
        let found = files.binary_search_by_key(&(number as u64), |file| file.number);
        Ok(found.ok().map(|index| file_record(&files[index])))
    }

    /// Of a directory page: the number behind a name.
    #[napi]
    pub fn child(&self, parent: f64, name: Uint8Array) -> Result<Option<f64>> {
        let Page::Directory(rows) = &*self.0 else { return Err(wrong_kind()) };
        let wanted = (parent as u64, name.as_ref());
        let found = rows.binary_search_by(|row| (row.parent, row.name.as_slice()).cmp(&wanted));
        Ok(found.ok().map(|index| rows[index].child as f64))
    }
}

fn file_record(file: &File) -> FileRecord {
    let time = |time: crate::fs::volume_map::Timestamp| FileTime {
        seconds: time.seconds as f64,
        nanoseconds: time.nanoseconds,
    };
    FileRecord {
        number: file.number as f64,
        generation: file.generation,
        kind: file.kind as u8,
        mode: file.mode.into(),
        uid: file.uid,
        gid: file.gid,
        links: file.links,
        device: file.device as f64,
        modified: time(file.modified),
        changed: time(file.changed),
        created: time(file.created),
        xattrs: file.shown_xattrs().map(|(name, value)| FileXattr { name: name.into(), value: value.into() }).collect(),
        streams: file.streams.iter().map(file_stream).collect(),
    }
}

fn file_stream(stream: &crate::fs::volume_map::Stream) -> FileStream {
    let (resident, extents) = match &stream.content {
        Content::Resident(bytes) => (Either::A(bytes.clone().into()), &[][..]),
        Content::Extents(extents) => (Either::B(Null), extents.as_slice()),
    };
    let extent = |extent: &crate::fs::volume_map::Extent| {
        let (raw_length, [codec, raw_offset, used]) = match extent.kind {
            ExtentKind::Plain | ExtentKind::Unwritten | ExtentKind::Encrypted => (0, [0; 3]),
            ExtentKind::Compressed { raw_length } => (raw_length, [0; 3]),
            ExtentKind::Packed { codec, raw_length, raw_offset, used } => {
                (raw_length, [codec as u32, raw_offset, used])
            }
        };
        FileExtent {
            kind: extent.kind.number(),
            raw_length,
            codec: codec as u8,
            raw_offset,
            used,
            logical: extent.logical as f64,
            disk: extent.disk as f64,
            length: extent.length as f64,
        }
    };
    FileStream {
        name: String::from_utf8_lossy(&stream.name).into_owned(),
        size: stream.size as f64,
        valid: stream.valid as f64,
        resident,
        extents: extents.iter().map(extent).collect(),
    }
}

#[napi]
impl Vault {
    /// What opens the root page of a snapshot, from its head. Throws FORGED, and INVALID where `runs` does not know its run.
    #[napi]
    pub fn open_root(&self, sealed: Uint8Array, birth: BigInt, runs: &Runs) -> Result<PageRef> {
        self.0.open_root(&sealed, birth.get_u64().1, &lock(&runs.0)).map(PageRef).map_err(thrown)
    }
}

/// The births of a snapshot, collected again from its manifest.
#[napi]
#[derive(Default)]
pub struct ReferenceSet(References);

#[napi]
impl ReferenceSet {
    /// An empty set.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// All that a page of the manifest names.
    #[napi]
    pub fn add_page(&mut self, page: &ManifestPage) {
        let refs: Vec<Ref> = match &*page.0 {
            Page::Map(entries) => entries.iter().map(|entry| entry.block).collect(),
            Page::Index { entries, .. } => entries.iter().map(|entry| entry.child).collect(),
            Page::Root { tops, .. } => tops.iter().map(|top| top.page).collect(),
            Page::Files(_) | Page::Directory(_) => vec![],
        };
        refs.iter().filter(|one| one.is_stored()).for_each(|one| self.0.add(one.birth));
    }

    /// Adds one birth number: of the root page, which no other page names.
    #[napi]
    pub fn add_birth(&mut self, birth: BigInt) {
        self.0.add(birth.get_u64().1);
    }

    /// The reference bitmap of all that was added (docs/formats/references.md).
    #[napi]
    pub fn encode(&self, runs: &Runs) -> Result<Buffer> {
        self.0.encode(&lock(&runs.0)).map(Buffer::from).map_err(thrown)
    }
}

/// The plain bytes of a compressed unit, `raw_length` of them. `codec`: 0 LZNT1 (NTFS); 1 zlib, 2 LZO, 3 zstd (btrfs).
/// Throws CORRUPT, and UNSUPPORTED for another codec.
#[napi]
pub fn decompress_unit(compressed: Uint8Array, raw_length: u32, codec: u8) -> Result<Buffer> {
    let raw = match (codec, Codec::of_number(codec)) {
        (0, _) => crate::fs::ntfs::decompress::unit(&compressed, raw_length as usize),
        (_, Some(codec)) => crate::fs::btrfs::packed::unpack(codec, &compressed, raw_length as usize),
        (_, None) => Err(crate::base::error::Error::unsupported(format!("codec {codec}"))),
    };
    raw.map(Buffer::from).map_err(thrown)
}
