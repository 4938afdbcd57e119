//! LVM: physical volumes made by hand, which run everywhere, and those that `lvm` itself makes, against what it says of
//! them. The kernel's word on the files is in `lvm_kernel.rs`.

#[path = "lvm/build.rs"]
mod build;
mod skips;

use std::process::Command;

use build::{Area, MIB, group, label, linear, volume, write_area};
use imager_native::base::error::Result;
use imager_native::base::ranges::ByteRange;
use imager_native::disk::lvm;
use imager_native::disk::lvm::group::{Logical, Physical};
use imager_native::disk::volume::Volume;
use imager_native::fs::Outcome;
use imager_native::map::scan::Scan;

const EXTENT: u64 = 64 << 10;
/// 1 MiB of tables, 100 extents, and some bytes that no extent covers.
const LENGTH: u64 = MIB + 100 * EXTENT + 5000;

fn extents(first: u64, count: u64) -> ByteRange {
    ByteRange { start: MIB + first * EXTENT, length: count * EXTENT }
}

fn disk(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH as usize];
    label(&mut bytes, LENGTH, &[Area::first(text)]);
    bytes
}

fn read(bytes: &Vec<u8>) -> Result<Physical> {
    lvm::read(Volume::whole(bytes))
}

/// What it holds besides the bytes before and behind the extents.
fn layout(logical: &str) -> (Vec<Logical>, Vec<ByteRange>, Vec<String>) {
    let physical = read(&disk(&group(1, logical))).unwrap();
    assert_eq!(physical.group, "vg");
    let mut rest = physical.rest;
    assert_eq!(rest.remove(0), ByteRange { start: 0, length: MIB });
    assert_eq!(rest.pop(), Some(ByteRange { start: LENGTH - 5000, length: 5000 }));
    let others = physical.others.into_iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    (physical.volumes, rest, others)
}

fn logical(number: u32, name: &str, pieces: &[(u64, u64)]) -> Logical {
    let pieces = pieces.iter().map(|&(first, count)| extents(first, count)).collect();
    Logical { number, name: format!("vg/{name}"), pieces }
}

#[test]
fn linear_volumes_have_their_pieces_and_the_rest_is_free() {
    let root = volume("root", true, &[&linear(10, 5, 60), &linear(0, 10, 3), &linear(15, 5, 65)]);
    let home = volume("home", true, &[&linear(0, 7, 20)]);
    let (volumes, rest, others) = layout(&(root + &home));
    assert_eq!(volumes, [logical(1, "root", &[(3, 10), (60, 10)]), logical(2, "home", &[(20, 7)])]);
    assert_eq!((rest, others), (vec![], vec![]));
    assert_eq!(layout(""), (vec![], vec![], vec![]));
}

#[test]
fn what_is_not_linear_stays_raw() {
    let striped = "start_extent=0\nextent_count=20\ntype=\"striped\"\nstripe_count=2\nstripes=[\"pv0\",0,\"pv1\",0]";
    let mirror = "start_extent=0\nextent_count=5\ntype=\"mirror\"\nmirrors=[\"pv0\",15,\"pv1\",0]";
    let away = "start_extent=4\nextent_count=4\ntype=\"striped\"\nstripe_count=1\nstripes=[\"pv1\",0]";
    let cow = "start_extent=0\nextent_count=30\ntype=\"snapshot\"\nchunk_size=8\norigin=\"base\"\ncow_store=\"snap\"";
    let merging = "start_extent=0\nextent_count=2\ntype=\"snapshot\"\norigin=\"undone\"\nmerging_store=\"merge\"";
    let thin = "start_extent=0\nextent_count=99\ntype=\"thin\"\nthin_pool=\"pool\"";
    let unknown = "start_extent=0\nextent_count=3\ntype=\"of tomorrow\"\nareas=[\"pv0\",90]";
    let gap = [linear(0, 1, 80), linear(2, 1, 82)];
    let all = [
        volume("striped", true, &[striped]),
        volume("mirror", true, &[mirror]),
        volume("half", true, &[&linear(0, 4, 25), away]),
        volume("base", true, &[&linear(0, 10, 30)]),
        volume("snap", true, &[&linear(0, 3, 40)]),
        volume("snapshot0", false, &[cow]),
        volume("undone", true, &[&linear(0, 2, 50)]),
        volume("snapshot1", false, &[merging]),
        volume("thin", true, &[thin]),
        volume("hidden", false, &[&linear(0, 5, 70)]),
        volume("gap", true, &[&gap[0], &gap[1]]),
        volume("locked", true, &[&linear(0, 2, 84)]).replace("\"WRITE\"", "\"WRITE\", \"PVMOVE\""),
        volume("odd", true, &[unknown]),
    ];
    let (volumes, rest, others) = layout(&all.concat());
    assert_eq!(volumes, [logical(4, "base", &[(30, 10)])]);
    let kept = [(0, 10), (15, 5), (25, 4), (40, 3), (50, 2), (70, 5), (80, 1), (82, 1), (84, 2), (90, 3)];
    assert_eq!(rest, kept.map(|(first, count)| extents(first, count)));
    assert_eq!(
        others,
        [
            "vg/striped striped",
            "vg/mirror mirror",
            "vg/half striped",
            "vg/snap part of another",
            "vg/undone part of another",
            "vg/thin thin",
            "vg/gap striped",
            "vg/locked striped",
            "vg/odd of tomorrow"
        ]
    );
}

#[test]
fn metadata_that_cannot_be_believed_leaves_all_of_it_raw() {
    let good = group(1, &volume("root", true, &[&linear(0, 10, 3)]));
    assert!(read(&disk(&good)).is_ok());
    let deep = "a {\n".repeat(5000);
    let huge = u64::MAX.to_string();
    let changes: [(&str, &str); 22] = [
        ("extent_count = 10", "extent_count = 98"),
        ("extent_count = 10", "extent_count = 9223372036854775807"),
        ("extent_count = 10", "extent_count = 0"),
        ("extent_count = 10", "extent_count = -10"),
        ("\"pv0\", 3", "\"pv0\", -3"),
        ("\"pv0\", 3", "\"pv0\", 9223372036854775807"),
        ("\"pv0\", 3", "\"pv0\""),
        ("\"pv0\", 3", "\"pv0\", 3, \"pv0\", 3"),
        ("stripes =", "disk = \"pv0\"\nstripes ="),
        ("segment_count = 1", "segment_count = 2"),
        ("segment_count = 1", &huge),
        ("pe_count = 100", "pe_count = 101"),
        ("pe_count = 100", "pe_count = 9223372036854775807"),
        ("pe_start = 2048\npe_count = 100", "pe_start = 2040\npe_count = 100"),
        ("extent_size = 128", "extent_size = 0"),
        ("extent_size = 128", "extent_size = 9223372036854775807"),
        ("012345-", "112345-"),
        ("id = \"y\"", "id = \"012345-6789-abcd-efgh-ijkl-mnop-qrstuv\""),
        ("version = 1", "version = 2"),
        ("seqno = 1", "seqno = 1\nseqno = 1"),
        ("logical_volumes {", &deep),
        ("# made by hand", "other { seqno = 1 }"),
    ];
    for (from, to) in changes {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let bytes = disk(&text);
        assert!(read(&bytes).is_err(), "{from} became {}", &to[..to.len().min(50)]);
        let scan = Scan::new(&bytes, true).unwrap();
        assert_eq!(scan.volumes.len(), 1);
        let Outcome::Raw { found: "lvm2", reason } = &scan.volumes[0].outcome else { panic!("mapped") };
        assert!(reason.contains("kept as it is: "), "{reason}");
        assert_eq!(scan.allocated(), [ByteRange { start: 0, length: LENGTH }]);
    }
    for end in (0..good.len()).step_by(7).filter(|&end| good.is_char_boundary(end)) {
        assert!(read(&disk(&good[..end])).is_err(), "cut at {end}");
    }
    let overlap = volume("a", true, &[&linear(0, 5, 0)]) + &volume("b", true, &[&linear(0, 5, 4)]);
    assert!(read(&disk(&group(1, &overlap))).is_err());
    let circle = "start_extent=0\nextent_count=1\ntype=\"striped\"\nstripe_count=1\nstripes=[\"loop\",0]";
    assert_eq!(layout(&volume("loop", true, &[circle])).2, ["vg/loop part of another"]);
}

#[test]
fn of_two_metadata_areas_the_newer_counts_and_neither_may_be_damaged() {
    let old = group(6, &volume("old", true, &[&linear(0, 10, 3)]));
    let new = group(7, &volume("new", true, &[&linear(0, 10, 3)]));
    let (length, second) = (LENGTH + MIB, LENGTH);
    let ring = MIB / 2;
    let area = |text| Area { start: second, bytes: ring, text, text_at: 512, ignored: false };
    let make = |first: Area, second: Area| {
        let mut bytes = vec![0; length as usize];
        label(&mut bytes, length, &[first, second]);
        bytes
    };
    let name = |bytes: &Vec<u8>| read(bytes).map(|physical| physical.volumes[0].name.clone());
    assert_eq!(name(&make(Area::first(&old), area(&new))).unwrap(), "vg/new");
    assert_eq!(name(&make(Area::first(&new), area(&old))).unwrap(), "vg/new");
    let wrapped = Area { text_at: ring - 100, ..area(&new) };
    assert_eq!(name(&make(Area::first(&old), wrapped)).unwrap(), "vg/new", "the text goes round");
    let ignored = || Area { ignored: true, ..area(&new) };
    assert_eq!(name(&make(Area::first(&old), ignored())).unwrap(), "vg/old");
    assert!(name(&make(Area { ignored: true, ..Area::first(&old) }, ignored())).is_err(), "nothing is known");
    let good = make(Area::first(&new), area(&old));
    for at in [4096, 4096 + 50, 4096 + 600, second as usize + 3, second as usize + 700] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        assert!(name(&bytes).is_err(), "byte {at}");
    }
    let mut pending = good;
    pending[4096 + 64] = 99;
    let sum = build::checksum(&pending[4100..4608]);
    pending[4096..4100].copy_from_slice(&sum.to_le_bytes());
    assert!(name(&pending).unwrap_err().to_string().contains("about to change"));
    let mut moved = make(Area::first(&new), area(&old));
    write_area(&mut moved, &Area { start: second, bytes: ring + 512, ..area(&old) });
    assert!(name(&moved).is_err(), "an area that describes another");
}

#[test]
fn a_label_beside_another_file_system_is_not_believed() {
    let mut bytes = disk(&group(1, &volume("root", true, &[&linear(0, 10, 3)])));
    assert_eq!(Scan::new(&bytes, true).unwrap().volumes.len(), 2);
    bytes[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
    let scan = Scan::new(&bytes, true).unwrap();
    assert_eq!((scan.volumes.len(), scan.allocated().len()), (1, 1));
    let Outcome::Raw { reason, .. } = &scan.volumes[0].outcome else { panic!("mapped") };
    assert!(reason.contains("both"), "{reason}");
}

#[test]
fn logical_volumes_are_numbered_after_their_partition() {
    let text = group(1, &(volume("a", true, &[&linear(0, 10, 3)]) + &volume("b", true, &[&linear(0, 2, 50)])));
    let mut bytes = vec![0; 2 * MIB as usize];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let entry = &mut bytes[446 + 16..446 + 32];
    entry[4] = 0x8e;
    entry[8..12].copy_from_slice(&4096u32.to_le_bytes());
    entry[12..16].copy_from_slice(&((LENGTH / 512) as u32).to_le_bytes());
    bytes.extend(disk(&text));
    let scan = Scan::new(&bytes, true).unwrap();
    let numbers: Vec<_> = scan.volumes.iter().map(|volume| (volume.partition.index, volume.within)).collect();
    assert_eq!(numbers, [(2, None), (2001, Some(2)), (2002, Some(2))]);
    assert_eq!(scan.volumes[1].partition.name, "vg/a");
    assert_eq!(scan.volumes[1].pieces, [ByteRange { start: 2 * MIB + extents(3, 10).start, length: 10 * EXTENT }]);
    // Of no use to anyone: the disk before, the tables and the tail. In use: both logical volumes, which are raw.
    let held: u64 = scan.allocated().iter().map(|range| range.length).sum();
    assert_eq!(held, bytes.len() as u64 - 88 * EXTENT);
}

/// A loop device with a physical volume, handled by `lvm` without the kernel's device-mapper.
struct Tool {
    path: std::path::PathBuf,
    device: String,
}

impl Tool {
    fn new() -> Option<Self> {
        let path = std::env::temp_dir().join(format!("imager-lvm-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().set_len(64 * MIB).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&path).output().ok();
        let output = output.filter(|output| output.status.success());
        let device = output.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_string());
        match device {
            Some(device) => Some(Self { path, device }),
            None => {
                let _ = std::fs::remove_file(&path);
                None
            }
        }
    }

    fn lvm(&self, line: &str) -> Option<String> {
        let words = line.split(' ').map(|word| if word == "DEVICE" { self.device.as_str() } else { word });
        let apart = ["--driverloaded", "n", "--devices", &self.device, "--config", "backup { backup = 0 archive = 0 }"];
        let output = Command::new("lvm").args(words).args(apart).env("LVM_SUPPRESS_FD_WARNINGS", "1").output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn lvm_says_the_same_of_what_it_made() {
    let lines = "pvcreate -y --pvmetadatacopies 2 DEVICE\nvgcreate -s 256k office DEVICE\n\
                 lvcreate -y -an -Zn -Wn -l 20 -n root office\nlvcreate -y -an -Zn -Wn -l 10 -n home office\n\
                 lvextend -l +7 office/root\nlvcreate -y -an -Zn -Wn -l 3 -n gone office\n\
                 lvcreate -y -an -Zn -Wn -l 9 -n mail-2.x+y office\nlvremove -y office/gone\nlvextend -l +5 office/home";
    let Some(tool) = Tool::new().filter(|tool| lines.lines().all(|line| tool.lvm(line).is_some())) else {
        return skips::skipped("no lvm or no loop devices");
    };
    // "office/root:0-19" for each segment, in the order of the volume.
    let report =
        tool.lvm("lvs --noheadings --separator | -o vg_name,lv_name,seg_pe_ranges -O lv_name,seg_start").unwrap();
    let mut theirs: Vec<(String, Vec<(u64, u64)>)> = Vec::new();
    for line in report.lines() {
        let fields: Vec<&str> = line.trim().split('|').collect();
        let name = format!("{}/{}", fields[0], fields[1]);
        let (first, last) = fields[2].rsplit_once(':').unwrap().1.split_once('-').unwrap();
        let range = (first.parse::<u64>().unwrap(), last.parse::<u64>().unwrap());
        match theirs.last_mut() {
            Some((same, ranges)) if *same == name && ranges[ranges.len() - 1].1 + 1 == range.0 => {
                ranges.last_mut().unwrap().1 = range.1;
            }
            Some((same, ranges)) if *same == name => ranges.push(range),
            _ => theirs.push((name, vec![range])),
        }
    }
    let start = tool.lvm("pvs --noheadings --nosuffix --units b -o pe_start").unwrap().trim().parse::<u64>().unwrap();
    Command::new("sync").status().unwrap();
    let bytes = std::fs::read(&tool.path).unwrap();
    let physical = read(&bytes).unwrap();
    let extent = 256 << 10;
    let in_extents = |piece: &ByteRange| ((piece.start - start) / extent, (piece.end() - start) / extent - 1);
    let mut ours: Vec<_> = physical
        .volumes
        .iter()
        .map(|logical| (logical.name.clone(), logical.pieces.iter().map(in_extents).collect::<Vec<_>>()))
        .collect();
    ours.sort();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 3);
    assert!(ours.iter().any(|(_, pieces)| pieces.len() > 1));
    let held: u64 = physical.rest.iter().map(|range| range.length).sum();
    let free = tool.lvm("pvs --noheadings --nosuffix --units b -o pv_free").unwrap().trim().parse::<u64>().unwrap();
    assert_eq!(held, 64 * MIB - free - 51 * extent);
}
