//! Reads a mounted or restored image as `npm run bench` wants it, compares what comes with the original, and prints one
//! line of JSON. Only what a snapshot holds is read: holes are fast and prove nothing.
//!
//! ```text
//! reader sequential ORIGINAL IMAGE BYTES              ascending, 1 MiB a read, until BYTES are read
//! reader random ORIGINAL IMAGE JOBS READS MS SEED     4 KiB at random places, READS in all or until MS have passed
//! reader verify ORIGINAL IMAGE START END              everything; IMAGE is START..END of ORIGINAL
//! reader changed ORIGINAL BEFORE                      4 KiB pages in use that no page of BEFORE in use is like
//! reader files ORIGINAL                               how many bytes in use are content of files, in how many ranges
//! reader touch BYTES                                  writes to so much memory, and gives it back
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use imager_native::base::error::{Error, Result};
use imager_native::base::limits::MIB;
use imager_native::base::ranges::{ByteRange, coalesce, without};
use imager_native::disk::source::Source;
use imager_native::disk::volume::ReadAt;
use imager_native::fs::volume_map::{Content, ExtentKind};
use imager_native::map::scan::Scan;

const PAGE: u64 = 4096;
/// Of a sequential read, one chunk in so many is compared: more would be measured too.
const COMPARED: u64 = 16;

struct Images {
    original: Source,
    image: File,
    /// Where the image begins in the original.
    start: u64,
    held: Vec<ByteRange>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["sequential", original, image, bytes] => {
            let images = Images::open(original, image, 0)?;
            report(images.sequential(number(bytes)?, COMPARED)?);
        }
        ["random", original, image, jobs, reads, ms, seed] => {
            let images = Images::open(original, image, 0)?;
            let limit = Duration::from_millis(number(ms)?);
            report(images.random(number(jobs)?, number(reads)?, limit, number(seed)?)?);
        }
        ["verify", original, image, start, end] => {
            let mut images = Images::open(original, image, number(start)?)?;
            images.clip(number(end)?);
            report(images.sequential(u64::MAX, 1)?);
        }
        ["changed", original, before] => report(changed(original, before)?),
        ["files", original] => report(content(original)?),
        ["touch", bytes] => report(touch(number(bytes)?)),
        _ => return Err(Error::invalid("arguments", "see the head of native/examples/reader.rs")),
    }
    Ok(())
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::invalid("arguments", format!("{text} is no number")))
}

fn report((count, bytes, time): (u64, u64, Duration)) {
    println!(r#"{{"reads":{count},"bytes":{bytes},"seconds":{}}}"#, time.as_secs_f64());
}

/// The host of a virtual machine gives it memory page by page when it is first written to: who comes first pays for it.
fn touch(bytes: u64) -> (u64, u64, Duration) {
    let began = Instant::now();
    let mut memory = vec![0u8; bytes as usize];
    memory.iter_mut().step_by(PAGE as usize).for_each(|byte| *byte = 1);
    (std::hint::black_box(memory).len() as u64 / PAGE, bytes, began.elapsed())
}

/// What a later snapshot need not read: what files hold. Unwritten extents hold nothing.
fn content(original: &str) -> Result<(u64, u64, Duration)> {
    let began = Instant::now();
    let scan = Scan::new(&Source::open(original)?, false)?;
    let files = (0..scan.volumes.len()).filter_map(|volume| scan.map(volume)).flat_map(|map| &map.files);
    let extents = files.flat_map(|file| &file.streams).flat_map(|stream| match &stream.content {
        Content::Extents(extents) => extents.as_slice(),
        _ => &[],
    });
    let written = extents.filter(|extent| extent.kind != ExtentKind::Unwritten);
    let written = coalesce(written.map(|extent| ByteRange { start: extent.disk, length: extent.length }).collect());
    let held = scan.allocated();
    let bytes = |ranges: &[ByteRange]| ranges.iter().map(|range| range.length).sum::<u64>();
    Ok((written.len() as u64, bytes(&held) - bytes(&without(&held, &written)), began.elapsed()))
}

/// What no cut could leave out: pages whose bytes were nowhere before.
fn changed(original: &str, before: &str) -> Result<(u64, u64, Duration)> {
    let began = Instant::now();
    let mut known = HashSet::new();
    each_page(before, |hash| {
        known.insert(hash);
    })?;
    let mut count = 0;
    each_page(original, |hash| count += u64::from(!known.contains(&hash)))?;
    Ok((count, count * PAGE, began.elapsed()))
}

fn each_page(image: &str, mut seen: impl FnMut(blake3::Hash)) -> Result<()> {
    let source = Source::open(image)?;
    let pages = Pages::of(&Scan::new(&source, false)?.allocated());
    let mut buffer = vec![0; PAGE as usize];
    (0..pages.count).try_for_each(|number| {
        source.read_at(pages.place(number), &mut buffer)?;
        seen(blake3::hash(&buffer));
        Ok(())
    })
}

impl Images {
    fn open(original: &str, image: &str, start: u64) -> Result<Self> {
        let original = Source::open(original)?;
        let scan = Scan::new(&original, false)?;
        let image = File::open(image).map_err(|error| Error::io(image, error))?;
        let mut images = Self { original, image, start, held: scan.allocated() };
        images.clip(u64::MAX);
        Ok(images)
    }

    /// Leaves what the image can hold, which ends at `end`.
    fn clip(&mut self, end: u64) {
        let clipped = self.held.iter().map(|range| (range.start.max(self.start), range.end().min(end)));
        let within = clipped.filter(|(start, end)| start < end);
        self.held = within.map(|(start, end)| ByteRange { start, length: end - start }).collect();
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.image.read_exact_at(buffer, at - self.start).or_else(|error| match error.kind() {
            // An image may end where its zeros begin.
            ErrorKind::UnexpectedEof => self.read_to_end(at, buffer),
            _ => Err(Error::io(format!("reading {} bytes at {at}", buffer.len()), error)),
        })
    }

    fn read_to_end(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(0);
        let mut done = 0;
        loop {
            match self.image.read_at(&mut buffer[done..], at - self.start + done as u64) {
                Ok(0) => return Ok(()),
                Ok(length) => done += length,
                Err(error) => return Err(Error::io(format!("reading at {at}"), error)),
            }
        }
    }

    fn compare(&self, at: u64, got: &[u8]) -> Result<()> {
        let mut wanted = vec![0; got.len()];
        self.original.read_at(at, &mut wanted)?;
        match got.iter().zip(&wanted).position(|(got, wanted)| got != wanted) {
            None => Ok(()),
            Some(index) => Err(Error::corrupt("image", at + index as u64, "another byte than the original's")),
        }
    }

    fn sequential(&self, most: u64, compared: u64) -> Result<(u64, u64, Duration)> {
        let mut buffer = vec![0; MIB];
        let (mut count, mut bytes) = (0, 0);
        let began = Instant::now();
        for range in &self.held {
            let mut at = range.start;
            while at < range.end() && bytes < most {
                let length = (range.end() - at).min(MIB as u64);
                let part = &mut buffer[..length as usize];
                self.read(at, part)?;
                if count % compared == 0 {
                    self.compare(at, part)?;
                }
                at += length;
                bytes += length;
                count += 1;
            }
        }
        Ok((count, bytes, began.elapsed()))
    }

    fn random(&self, jobs: u64, reads: u64, limit: Duration, seed: u64) -> Result<(u64, u64, Duration)> {
        let pages = Pages::of(&self.held);
        let done = AtomicU64::new(0);
        let began = Instant::now();
        let job = |job: u64| {
            let mut random = Random(seed * 64 + job + 1);
            let mut buffer = vec![0; PAGE as usize];
            while began.elapsed() < limit && done.fetch_add(1, Ordering::Relaxed) < reads {
                let at = pages.place(random.next() % pages.count);
                self.read(at, &mut buffer)?;
                self.compare(at, &buffer)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs).map(|number| scope.spawn(move || job(number))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no job panics"))
        })?;
        let time = began.elapsed();
        // Each job counts once more when it finds that nothing is left to do.
        let count = done.into_inner().min(reads);
        Ok((count, count * PAGE, time))
    }
}

/// The whole pages of the ranges, numbered through.
struct Pages {
    /// Number of the range's first page, and where that lies.
    firsts: Vec<(u64, u64)>,
    count: u64,
}

impl Pages {
    fn of(ranges: &[ByteRange]) -> Self {
        let mut pages = Self { firsts: Vec::new(), count: 0 };
        for range in ranges {
            let start = range.start.next_multiple_of(PAGE);
            let whole = range.end().saturating_sub(start) / PAGE;
            if whole > 0 {
                pages.firsts.push((pages.count, start));
                pages.count += whole;
            }
        }
        pages
    }

    fn place(&self, number: u64) -> u64 {
        let range = self.firsts.partition_point(|(first, _)| *first <= number) - 1;
        let (first, start) = self.firsts[range];
        start + (number - first) * PAGE
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
