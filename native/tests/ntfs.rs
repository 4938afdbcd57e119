//! NTFS against ntfs-3g and sleuthkit: what the mount showed is what the map's extents read.

#[path = "ntfs/lab.rs"]
mod lab;
#[path = "ntfs/reader.rs"]
mod reader;
#[path = "ntfs/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use imager_native::fs::{ByteRange, Content, ExtentKind, File, Kind, VolumeMap, ntfs};
use imager_native::volume::Volume;
use lab::{Image, Mount, Random, Scratch, Seen, output};

const MIB: u64 = 1 << 20;

/// Prints why, and ends the test, where real volumes cannot be made.
macro_rules! needs_tools {
    () => {
        if let Some(reason) = lab::missing() {
            // Not by eprintln, which is silent in a test that passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: real NTFS volumes cannot be made here: {reason}");
            return;
        }
    };
}

fn volume_of(name: &str, bytes: u64, options: &[&str], fill: impl FnOnce(&Mount)) -> Shape {
    let scratch = Scratch::new(name);
    let path = scratch.image(bytes, options);
    compare_volume(name, &scratch, &path, fill)
}

fn compare_volume(name: &str, scratch: &Scratch, path: &Path, fill: impl FnOnce(&Mount)) -> Shape {
    let mount = scratch.mount(path);
    fill(&mount);
    mount.close();
    // Mounted once more: what is seen is what is on the disk, and the sizes and times are final.
    let mount = scratch.mount(path);
    let seen = lab::see(&mount);
    mount.close();
    let image = Image::open(path);
    let volume = Volume::whole(&image);
    assert!(ntfs::detect(volume).unwrap());
    let start = Instant::now();
    let map = ntfs::map(volume).unwrap();
    eprintln!("{name}: {} files, {} entries in {:?}", map.files.len(), map.entries.len(), start.elapsed());
    assert_eq!(map.doubts, Vec::<String>::new());
    assert!(!map.dirty);
    reader::check(&map, 0, volume.length);
    compare(&image, &map, &seen);
    compare_bitmap(&map, path, volume.length);
    compare_runs(&map, path);
    Shape { map, mft: String::from_utf8_lossy(&output(Command::new("istat").arg(path).arg("0"))).into_owned() }
}

/// What a volume turned out to hold, so that no test passes because its fixture came out too plain.
struct Shape {
    map: VolumeMap,
    mft: String,
}

impl Shape {
    fn extents(&self, path: &str) -> &[imager_native::fs::Extent] {
        match &paths(&self.map)[path.as_bytes()].streams[0].content {
            Content::Resident(_) => panic!("{path} is resident"),
            Content::Extents(extents) => extents,
        }
    }

    fn stream(&self, path: &str) -> &imager_native::fs::Stream {
        &paths(&self.map)[path.as_bytes()].streams[0]
    }

    fn has_compressed_and_plain(&self, path: &str) -> bool {
        let compressed = |kind| matches!(kind, ExtentKind::Compressed { .. });
        let extents = self.extents(path);
        extents.iter().any(|e| compressed(e.kind)) && extents.iter().any(|e| e.kind == ExtentKind::Plain)
    }
}

/// All paths of the map, by its entries from the root down.
fn paths(map: &VolumeMap) -> BTreeMap<Vec<u8>, &File> {
    let mut paths = BTreeMap::new();
    let mut folders = vec![(Vec::new(), map.root)];
    while let Some((path, number)) = folders.pop() {
        let first = map.entries.partition_point(|entry| entry.parent < number);
        for entry in map.entries[first..].iter().take_while(|entry| entry.parent == number) {
            let mut path: Vec<u8> = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&entry.name);
            let at = map.files.binary_search_by_key(&entry.child, |file| file.number).unwrap();
            if map.files[at].kind == Kind::Directory {
                folders.push((path.clone(), entry.child));
            }
            paths.insert(path, &map.files[at]);
        }
    }
    paths
}

fn compare(image: &Image, map: &VolumeMap, seen: &BTreeMap<Vec<u8>, Seen>) {
    let paths = paths(map);
    let only = |path: &&Vec<u8>| paths.contains_key(*path) != seen.contains_key(*path);
    let different: Vec<_> = paths.keys().chain(seen.keys()).filter(only).map(|path| path.escape_ascii()).collect();
    assert!(
        different.is_empty(),
        "only on one side: {:?}",
        different.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    let distinct: std::collections::BTreeSet<u64> = paths.values().map(|file| file.number).collect();
    assert_eq!(distinct.len() + 1, map.files.len(), "files without a name");
    for (path, file) in paths {
        assert_eq!(&as_seen(image, file, &seen[&path]), &seen[&path], "{}", path.escape_ascii());
        assert_eq!((file.mode, file.uid, file.gid), (0o777, 0, 0));
    }
}

fn as_seen(image: &Image, file: &File, seen: &Seen) -> Seen {
    let kinds = ['?', '-', 'd', 'l', 'b', 'c', 'p', 's'];
    let mut target = Vec::new();
    let mut streams = BTreeMap::new();
    for stream in &file.streams {
        let bytes = reader::read(image, stream, 64 * MIB);
        assert_eq!(bytes.len() as u64, stream.size);
        if file.kind == Kind::Symlink && stream.name.is_empty() {
            target = bytes;
        } else {
            streams.insert(stream.name.clone(), (stream.size, blake3::hash(&bytes)));
        }
    }
    Seen {
        number: file.number,
        kind: kinds[file.kind as usize],
        // ntfs-3g counts folders its own way.
        links: if file.kind == Kind::Directory { seen.links } else { u64::from(file.links) },
        device: file.device,
        modified: (file.modified.seconds, i64::from(file.modified.nanoseconds)),
        changed: (file.changed.seconds, i64::from(file.changed.nanoseconds)),
        target,
        streams,
    }
}

/// `allocated` is what ntfscat reads of $Bitmap, with the first 8 KiB and the tail.
fn compare_bitmap(map: &VolumeMap, image: &Path, length: u64) {
    let bitmap = output(Command::new("ntfscat").args(["-f", "-i", "6"]).arg(image));
    let cluster = u64::from(map.cluster_bytes);
    let boot = std::fs::read(image).unwrap();
    let bytes_per_sector = u64::from(u16::from_le_bytes([boot[0x0B], boot[0x0C]]));
    let number_of_sectors = u64::from_le_bytes(boot[0x28..0x30].try_into().unwrap());
    let clusters = number_of_sectors * bytes_per_sector / cluster;
    let mut expected: Vec<ByteRange> = Vec::new();
    let mut add = |start: u64, length: u64| match expected.last_mut() {
        Some(last) if start <= last.end() => last.length = last.length.max(start + length - last.start),
        _ => expected.push(ByteRange { start, length }),
    };
    add(0, 8192);
    for index in (0..clusters).filter(|index| bitmap[(index / 8) as usize] >> (index % 8) & 1 != 0) {
        add(index * cluster, cluster);
    }
    add(clusters * cluster, length - clusters * cluster);
    assert_eq!(map.allocated, expected);
}

/// Clusters of the unnamed stream, for every 40th file and all with more than 30 runs, as sleuthkit lists them.
fn compare_runs(map: &VolumeMap, image: &Path) {
    let cluster = u64::from(map.cluster_bytes);
    let mut compared = 0;
    let unnamed = |file: &&File| file.kind == Kind::File && file.streams.first().is_some_and(|s| s.name.is_empty());
    for (index, file) in map.files.iter().filter(unnamed).enumerate() {
        let stream = &file.streams[0];
        let runs = match &stream.content {
            Content::Resident(_) => &[][..],
            Content::Extents(extents) => extents,
        };
        let special = runs.len() > 30 || runs.iter().any(|run| run.kind != ExtentKind::Plain);
        if index % 40 != 0 && !special || compared == 60 {
            continue;
        }
        compared += 1;
        let ours: Vec<u64> =
            runs.iter().flat_map(|run| (run.disk / cluster)..(run.disk + run.length) / cluster).collect();
        let (resident, clusters) = sleuthkit(image, file.number);
        assert_eq!(resident, matches!(stream.content, Content::Resident(_)), "file {}", file.number);
        assert_eq!(clusters, ours, "file {}", file.number);
    }
    assert!(compared > 0);
}

/// Whether the unnamed $DATA is resident, and its clusters without those of holes (0).
fn sleuthkit(image: &Path, number: u64) -> (bool, Vec<u64>) {
    let text = String::from_utf8_lossy(&output(Command::new("istat").arg(image).arg(number.to_string()))).into_owned();
    let mut lines = text.lines().skip_while(|line| !line.starts_with("Type: $DATA") || !line.contains("Name: N/A"));
    let resident = !lines.next().expect("no unnamed $DATA").contains("Non-Resident");
    let lines = lines.take_while(|line| !line.starts_with("Type:"));
    let numbers = lines.flat_map(|line| line.split_whitespace().map(|word| word.parse::<u64>().unwrap()));
    (resident, numbers.filter(|&cluster| cluster != 0).collect())
}

#[test]
fn small_clusters() {
    needs_tools!();
    let shape = volume_of("512", 40 * MIB, &["-c", "512"], |mount| {
        work::everyday(mount, &mut Random(1), 500);
        work::compressed(mount, &mut Random(2), 50_000);
    });
    assert!(shape.has_compressed_and_plain("compressed/mixed"));
    assert!(shape.stream("grown.bin").valid < shape.stream("grown.bin").size);
    assert!(matches!(shape.stream("one").content, Content::Resident(_)));
}

#[test]
fn usual_clusters() {
    needs_tools!();
    let shape = volume_of("4096", 60 * MIB, &["-c", "4096", "-L", "Größe"], |mount| {
        work::everyday(mount, &mut Random(3), 2000);
        work::compressed(mount, &mut Random(4), 300_000);
    });
    assert!(shape.has_compressed_and_plain("compressed/mixed"));
    assert!(shape.extents("hole.bin").is_empty());
    assert_eq!(shape.map.files.iter().map(|file| file.links).max(), Some(301));
}

#[test]
fn large_clusters() {
    needs_tools!();
    volume_of("65536", 100 * MIB, &["-c", "65536"], |mount| work::everyday(mount, &mut Random(5), 300));
}

/// Disks of 4 KiB sectors have MFT records of 4 KiB.
#[test]
fn large_sectors() {
    needs_tools!();
    let shape = volume_of("4Kn", 60 * MIB, &["-s", "4096", "-c", "4096"], |mount| {
        work::everyday(mount, &mut Random(10), 300);
        work::compressed(mount, &mut Random(11), 300_000);
    });
    assert!(matches!(&shape.stream("link").content, Content::Resident(_)));
}

#[test]
fn attribute_lists() {
    needs_tools!();
    let shape = volume_of("lists", 48 * MIB, &["-c", "4096"], |mount| {
        work::fragmented(mount, &mut Random(6), 4096, 12_000_000);
    });
    let runs = shape.extents("fragmented.bin").len();
    assert!(runs > 400, "{runs} runs");
}

#[test]
fn fragmented_mft() {
    needs_tools!();
    let shape = volume_of("mft", 12 * MIB, &["-c", "1024"], |mount| work::fragmented_mft(mount, &mut Random(7)));
    assert!(shape.mft.contains("$ATTRIBUTE_LIST"), "$MFT came out in too few pieces: {}", shape.mft);
}

/// Links, pipes and devices as Windows and its subsystem for Linux keep them: in reparse points.
#[test]
fn reparse_points() {
    needs_tools!();
    let mut scratch = Scratch::new("reparse");
    scratch.options.push_str(",special_files=wsl");
    let path = scratch.image(8 * MIB, &["-c", "4096"]);
    compare_volume("reparse", &scratch, &path, work::reparse_points);
}

#[test]
fn about_the_volume() {
    needs_tools!();
    let scratch = Scratch::new("about");
    let path = scratch.image(4 * MIB, &["-c", "1024", "-L", "Größe 😀"]);
    let map = ntfs::map(Volume::whole(&Image::open(&path))).unwrap();
    let uuid = output(Command::new("blkid").args(["-p", "-o", "value", "-s", "UUID"]).arg(&path));
    assert_eq!(map.uuid.as_bytes(), uuid.trim_ascii());
    assert_eq!((map.label.as_str(), map.root, map.cluster_bytes), ("Größe 😀", 5, 1024));
    assert_eq!((map.files.len(), map.entries.len()), (1, 0));
}
