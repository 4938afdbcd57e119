//! Real images against the kernel and the file systems' own tools: every file's record, content, extents and names, and
//! every range in use (docs/differential.md). A sample of the matrix in every run, chosen by a seed that is printed and
//! that IMAGER_SEED sets; all of it with IMAGER_IMAGES=all.

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use imager_native::disk::read_table;
use imager_native::disk::table::Partition;
use imager_native::disk::volume::Volume;
use imager_native::fs::volume_map::VolumeMap;
use imager_native::fs::{Outcome, map_volume};
use lab::{Image, Row, Scratch, Trouble, reader, render};

const WORKERS: usize = 3;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Of one file system.
#[derive(Default)]
struct Tally {
    images: usize,
    volumes: usize,
    files: usize,
    names: usize,
    lines: usize,
    mismatches: Vec<String>,
    left_out: Vec<String>,
}

#[test]
fn every_image_is_what_others_say() {
    let all = std::env::var("IMAGER_IMAGES").is_ok_and(|value| value == "all");
    let only = std::env::var("IMAGER_ONLY").unwrap_or_default();
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / DAY_SECONDS;
    let seed = std::env::var("IMAGER_SEED").unwrap_or(days.to_string());
    let arguments = if all { vec!["--all"] } else { vec!["--seed", &seed] };
    let rows = match lab::rows(&arguments) {
        Ok(rows) => rows,
        Err(Trouble::Impossible(reason)) => return lab::skipped(&reason),
        Err(Trouble::Failed(why)) => panic!("{why}"),
    };
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.name.starts_with(&only)).collect();
    let (next, tallies) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<String, Tally>::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = compare_image(row, all);
                    one.mismatches.iter().for_each(|why| println!("{why}"));
                    let mut tallies = tallies.lock().unwrap();
                    tallies.entry(row.name.split('-').next().unwrap().into()).or_default().add(one);
                }
            });
        }
    });
    let tallies = tallies.into_inner().unwrap();
    print_table(&tallies, &seed);
    let mismatches: Vec<_> = tallies.values().flat_map(|tally| &tally.mismatches).collect();
    assert!(mismatches.is_empty(), "{}", mismatches.iter().map(|text| format!("\n{text}")).collect::<String>());
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.images += other.images;
        self.volumes += other.volumes;
        self.files += other.files;
        self.names += other.names;
        self.lines += other.lines;
        self.mismatches.extend(other.mismatches);
        self.left_out.extend(other.left_out);
    }
}

fn print_table(tallies: &BTreeMap<String, Tally>, seed: &str) {
    println!("seed {seed}\n| | Images | Volumes | Files | Names | Lines compared | Mismatches | Left out |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut sum = Tally::default();
    let line = |name: &str, tally: &Tally| {
        let Tally { images, volumes, files, names, lines, mismatches, left_out } = tally;
        let (mismatches, left_out) = (mismatches.len(), left_out.len());
        println!("| {name} | {images} | {volumes} | {files} | {names} | {lines} | {mismatches} | {left_out} |");
    };
    for (name, tally) in tallies {
        line(name, tally);
        sum.images += tally.images;
        sum.volumes += tally.volumes;
        sum.files += tally.files;
        sum.names += tally.names;
        sum.lines += tally.lines;
        sum.mismatches.extend(tally.mismatches.clone());
        sum.left_out.extend(tally.left_out.clone());
    }
    line("all", &sum);
    sum.left_out.iter().for_each(|reason| lab::skipped(reason));
}

fn compare_image(row: &Row, second_opinion: bool) -> Tally {
    let mut tally = Tally::default();
    let scratch = Scratch::new(&format!("{}-{}", row.name, row.seed));
    let path = scratch.path("image");
    let text = path.to_str().unwrap();
    let made = lab::lab("make", &[&row.name, &row.seed, text]);
    let truth = made.and_then(|_| match row.raw.as_str() {
        "" if second_opinion => lab::lab("truth", &[&row.name, text, "partclone"]),
        "" => lab::lab("truth", &[&row.name, text]),
        _ => Ok(String::new()),
    });
    let truth = match truth {
        Ok(truth) => truth,
        Err(Trouble::Impossible(reason)) => {
            tally.left_out.push(format!("{} {}: {reason}", row.name, row.seed));
            return tally;
        }
        Err(Trouble::Failed(why)) => {
            tally.mismatches.push(format!("{} {}: {why}", row.name, row.seed));
            return tally;
        }
    };
    let image = Image::open(&path);
    tally.images = 1;
    let table = read_table(&image, &imager_native::fs::known).unwrap();
    let mut shown = BTreeMap::new();
    let mut known: BTreeSet<&str> = truth.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut differs = |why: String| tally.mismatches.push(format!("{} {}: {why}", row.name, row.seed));
    for partition in &table.partitions {
        let index = partition.index.to_string();
        known.remove(index.as_str());
        let volume = Volume { source: &image, start: partition.start, length: partition.length };
        match map_volume(volume) {
            Outcome::Raw { found: _, reason } if !row.raw.is_empty() && reason.contains(&row.raw) => {}
            Outcome::Raw { found, reason } => differs(format!("partition {index} is raw: {found}: {reason}")),
            Outcome::Mapped(_) if !row.raw.is_empty() => differs("it is mapped".into()),
            Outcome::Mapped(map) => {
                reader::check(&map, partition.start, partition.length);
                render::shows(&map).into_iter().for_each(|(what, count)| {
                    let before = shown.entry(what).or_insert(0);
                    *before = count.max(*before);
                });
                tally.volumes += 1;
                tally.files += map.files.len();
                tally.names += map.entries.len();
                tally.lines += compare_volume(row, volume, partition, &map, &truth, &mut differs);
            }
        }
    }
    known.into_iter().for_each(|index| differs(format!("there is no partition {index}")));
    for wanted in &row.shows {
        let (what, least) = wanted.split_once(':').unwrap_or((wanted, "1"));
        let count = shown.get(what).copied().unwrap_or(0);
        if count < least.parse().unwrap() {
            differs(format!("the image came out too plain: {count} {what}"));
        }
    }
    tally
}

/// How many lines were compared.
fn compare_volume(
    row: &Row,
    volume: Volume,
    partition: &Partition,
    map: &VolumeMap,
    truth: &str,
    differs: &mut impl FnMut(String),
) -> usize {
    if map.dirty {
        differs("dirty".into());
    }
    if map.doubts.iter().any(|doubt| row.doubt.is_empty() || !doubt.contains(&row.doubt)) {
        differs(format!("doubts: {:?}", map.doubts));
    }
    if map.doubts.is_empty() != row.doubt.is_empty() {
        differs(format!("no doubt that says {}", row.doubt));
    }
    let prefix = format!("{} ", partition.index);
    let mut theirs: BTreeSet<String> =
        truth.lines().filter_map(|line| line.strip_prefix(&prefix)).map(String::from).collect();
    let wanted: Vec<String> = theirs.iter().filter(|line| line.starts_with("W ")).cloned().collect();
    theirs.retain(|line| !line.starts_with("W "));
    let Some(about) = theirs.iter().find(|line| line.starts_with("V ")) else {
        differs(format!("the others know no partition {}", partition.index));
        return 0;
    };
    let ours = render::lines(volume, map, about);
    for (who, here, there) in [("only the others", &theirs, &ours), ("only the map", &ours, &theirs)] {
        let different: Vec<&String> = here.difference(there).collect();
        if !different.is_empty() {
            let some: Vec<String> = different.iter().take(4).map(|line| line.chars().take(400).collect()).collect();
            differs(format!("{} lines, {who}:\n  {}", different.len(), some.join("\n  ")));
        }
    }
    for line in &wanted {
        if line.starts_with("W failed") {
            println!("{} {}: no second opinion: {line}", row.name, row.seed);
            continue;
        }
        let numbers: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        let (start, end) =
            (volume.start + numbers[0], (volume.start + numbers[0] + numbers[1]).min(volume.start + volume.length));
        let after = map.allocated.partition_point(|range| range.start <= start);
        if after == 0 || map.allocated[after - 1].end() < end {
            differs(format!("partclone keeps {start}..{end}, which the map leaves out"));
        }
    }
    ours.len() + wanted.len()
}
