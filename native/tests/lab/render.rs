//! A map in the lines of truth.py.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use aws_lc_rs::digest::{Context, SHA256, digest};
use imager_native::disk::volume::{ReadAt, Volume};
use imager_native::fs::btrfs::{inode_number, subvolume_index};
use imager_native::fs::volume_map::{Codec, Content, Extent, ExtentKind, File, Kind, Stream, Timestamp, VolumeMap};

use super::{paths, reader};

/// Of larger files, only what their extents hold.
const WHOLE_BYTES: u64 = 1 << 27;

/// `about`: the V line of the other side, which says what it knows.
pub fn lines(volume: Volume, map: &VolumeMap, about: &str) -> BTreeSet<String> {
    let words: Vec<&str> = about.split(' ').collect();
    let (fields, extents) = (words[4], words[5]);
    let label = if map.label.is_empty() { "-".into() } else { hex(map.label.as_bytes()) };
    let uuid = if map.uuid.is_empty() { "-" } else { &map.uuid };
    let mut lines = BTreeSet::from([format!("V {} {uuid} {label} {fields} {extents}", map.file_system)]);
    let view = View { volume, map, sealed: sealed(map) };
    match fields {
        "posix" => view.posix(&mut lines),
        "windows" => view.windows(extents == "extents", &mut lines),
        _ => view.paths(fields != "untimed", extents == "extents", &mut lines),
    }
    lines.extend(map.allocated.iter().map(|range| format!("U {} {}", range.start - volume.start, range.length)));
    lines
}

/// Folders whose names and files are ciphertext.
fn sealed(map: &VolumeMap) -> BTreeSet<u64> {
    let cipher = |file: &File| extents(&file.streams).any(|extent| extent.kind == ExtentKind::Encrypted);
    let files: BTreeSet<u64> = map.files.iter().filter(|file| cipher(file)).map(|file| file.number).collect();
    map.entries.iter().filter(|entry| files.contains(&entry.child)).map(|entry| entry.parent).collect()
}

fn extents(streams: &[Stream]) -> impl Iterator<Item = &Extent> {
    streams.iter().flat_map(|stream| match &stream.content {
        Content::Resident(_) => [].iter(),
        Content::Extents(extents) => extents.iter(),
    })
}

struct View<'a> {
    volume: Volume<'a>,
    map: &'a VolumeMap,
    sealed: BTreeSet<u64>,
}

impl View<'_> {
    fn key(&self, number: u64) -> String {
        match self.map.subvolumes.get(subvolume_index(number)) {
            Some(tree) => format!("{tree}:{}", inode_number(number)),
            None => number.to_string(),
        }
    }

    fn posix(&self, lines: &mut BTreeSet<String>) {
        let mut secret = BTreeSet::new();
        for entry in &self.map.entries {
            if self.sealed.contains(&entry.parent) {
                secret.insert(entry.child);
            }
            let (parent, child) = (self.key(entry.parent), self.key(entry.child));
            lines.insert(format!("E {parent} {} {child}", hex(&entry.name)));
        }
        for file in &self.map.files {
            let secret = secret.contains(&file.number);
            let kinds = [0o100000, 0o040000, 0o120000, 0o060000, 0o020000, 0o010000, 0o140000];
            let mode = kinds[file.kind as usize - 1] | u32::from(file.mode);
            let versioned = matches!(file.kind, Kind::File | Kind::Directory) && !(secret && file.kind == Kind::File);
            let generation = if versioned { file.generation.to_string() } else { "-".into() };
            let stream = file.streams.first();
            let (size, hash) = match (file.kind, stream) {
                (Kind::Directory, Some(stream)) if self.map.file_system == "btrfs" => (stream.size, "-".into()),
                (Kind::File, Some(stream)) if secret => (stream.size, "sealed".into()),
                (Kind::Symlink, Some(_)) if secret => (0, "sealed".into()),
                (Kind::File | Kind::Symlink, Some(stream)) => (stream.size, self.hash(stream)),
                _ => (0, "-".into()),
            };
            let mut attributes: Vec<_> = file.xattrs.iter().collect();
            attributes.sort();
            let attributes: Vec<_> = attributes.iter().map(|(name, value)| hex(name) + "=" + &hex(value)).collect();
            let (key, attributes) = (self.key(file.number), attributes.join(","));
            let (modified, changed) = (nanoseconds(file.modified), nanoseconds(file.changed));
            lines.insert(format!(
                "F {key} {generation} {mode:o} {} {} {} {size} {} {modified} {changed} {hash} {attributes}",
                file.uid, file.gid, file.links, file.device
            ));
            if let (Kind::File, false, Some(stream)) = (file.kind, secret, stream) {
                lines.insert(format!("X {key} - {}", self.runs(stream)));
            }
        }
    }

    fn windows(&self, with_runs: bool, lines: &mut BTreeSet<String>) {
        for entry in &self.map.entries {
            lines.insert(format!("E {} {} {}", entry.parent, hex(&entry.name), entry.child));
        }
        for file in self.map.files.iter().filter(|file| file.number != self.map.root) {
            assert_eq!((file.mode, file.uid, file.gid), (0o777, 0, 0), "as ntfs-3g shows them");
            // ntfs-3g counts folders its own way.
            let links = if file.kind == Kind::Directory { "-".into() } else { file.links.to_string() };
            let (mut target, mut streams) = ("-".to_string(), Vec::new());
            for stream in &file.streams {
                let name = if stream.name.is_empty() { "-".into() } else { hex(&stream.name) };
                match (file.kind, name.as_str()) {
                    (Kind::Symlink, "-") => target = hex(&reader::read(self.volume.source, stream, WHOLE_BYTES)),
                    _ => streams.push(format!("{name}={}={}", stream.size, self.hash(stream))),
                }
                if with_runs && file.kind == Kind::File && stream.size > 0 {
                    lines.insert(format!("X {} {name} {}", file.number, self.plain_runs(stream)));
                }
            }
            streams.sort();
            let kind = ['-', 'd', 'l', 'b', 'c', 'p', 's'][file.kind as usize - 1];
            let (modified, changed) = (nanoseconds(file.modified), nanoseconds(file.changed));
            let streams = streams.join(",");
            lines.insert(format!(
                "F {} {kind} {links} {} {modified} {changed} {target} {streams}",
                file.number, file.device
            ));
        }
    }

    fn paths(&self, timed: bool, with_runs: bool, lines: &mut BTreeSet<String>) {
        for (path, file) in paths(self.map).into_iter().filter(|(path, _)| path != b"lost+found") {
            let key = hex(&path);
            if file.kind == Kind::Directory {
                lines.insert(format!("F {key} d"));
                continue;
            }
            let stream = &file.streams[0];
            let time = if timed { file.modified.seconds.to_string() } else { "-".into() };
            lines.insert(format!("F {key} - {} {time} {}", stream.size, self.hash(stream)));
            if with_runs && stream.size > 0 {
                lines.insert(format!("X {key} - {}", self.plain_runs(stream)));
            }
        }
    }

    fn hash(&self, stream: &Stream) -> String {
        let source: &dyn ReadAt = self.volume.source;
        if stream.size < WHOLE_BYTES || matches!(stream.content, Content::Resident(_)) {
            return hex(digest(&SHA256, &reader::read(source, stream, WHOLE_BYTES)).as_ref());
        }
        let mut context = Context::new(&SHA256);
        reader::pieces(source, stream, |_, piece| context.update(piece));
        hex(context.finish().as_ref())
    }

    fn runs(&self, stream: &Stream) -> String {
        let Content::Extents(extents) = &stream.content else {
            // Of nothing, FIEMAP says nothing.
            return if stream.size == 0 { "" } else { "inline" }.into();
        };
        joined(extents.iter().map(|extent| {
            let (length, kind) = match extent.kind {
                ExtentKind::Packed { used, .. } => (u64::from(used), 'c'),
                ExtentKind::Unwritten => (extent.length, 'u'),
                _ => (extent.length, 'p'),
            };
            (extent.logical, extent.disk - self.volume.start, length, kind)
        }))
    }

    /// Nothing but where the bytes are, and none past the end.
    fn plain_runs(&self, stream: &Stream) -> String {
        let Content::Extents(extents) = &stream.content else { return "inline".into() };
        joined(extents.iter().filter(|extent| extent.logical < stream.size).map(|extent| {
            let length = extent.length.min(stream.size - extent.logical);
            (extent.logical, extent.disk - self.volume.start, length, 'p')
        }))
    }
}

/// What follows on without a gap is one run, as FIEMAP has it, which counts what a packed one unpacks to.
fn joined(runs: impl Iterator<Item = (u64, u64, u64, char)>) -> String {
    let mut out: Vec<(u64, u64, u64, char)> = Vec::new();
    for run in runs {
        match out.last_mut() {
            Some(last) if last.3 == run.3 && last.0 + last.2 == run.0 && last.1 + last.2 == run.1 => {
                last.2 += run.2;
            }
            _ => out.push(run),
        }
    }
    let mut text = String::new();
    for (logical, disk, length, kind) in out {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{logical}:{disk}:{length}{kind}").unwrap();
    }
    text
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How much a map holds of each thing that the matrix may ask for.
pub fn shows(map: &VolumeMap) -> BTreeMap<&'static str, usize> {
    let mut shows = BTreeMap::from([("files", map.files.len()), ("subvolumes", map.subvolumes.len())]);
    let mut add = |what: &'static str, yes: bool| *shows.entry(what).or_insert(0) += usize::from(yes);
    let mut places = BTreeSet::new();
    let mut fragments = 0;
    for stream in map.files.iter().filter(|file| file.kind == Kind::File).flat_map(|file| &file.streams) {
        add("streams", !stream.name.is_empty());
        add("valid", stream.valid < stream.size);
        let Content::Extents(extents) = &stream.content else {
            add("resident", true);
            continue;
        };
        fragments = fragments.max(extents.len());
        let mut end = 0;
        for extent in extents {
            add("holes", extent.logical > end);
            end = extent.logical + extent.length;
            add("shared", !places.insert(extent.disk));
            add("unwritten", extent.kind == ExtentKind::Unwritten);
            add("encrypted", extent.kind == ExtentKind::Encrypted);
            add("compressed", matches!(extent.kind, ExtentKind::Compressed { .. }));
            for (name, wanted) in [("zlib", Codec::Zlib), ("lzo", Codec::Lzo), ("zstd", Codec::Zstd)] {
                add(name, matches!(extent.kind, ExtentKind::Packed { codec, .. } if codec == wanted));
            }
        }
    }
    shows.insert("fragments", fragments);
    shows
}
