//! The hot functions, each under its own name, on one thread: `cargo bench --no-default-features`. A line of JSON each:
//! its rates, in bytes or items a second, one for each of SAMPLES samples.

use std::hint::black_box;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imager_native::base::limits::{BLOCK_BYTES, MAP_PAGE_BYTES, MIB};
use imager_native::base::pool;
use imager_native::base::ranges::ByteRange;
use imager_native::base::secret::Secret;
use imager_native::disk::table::Partition;
use imager_native::disk::volume::Volume;
use imager_native::formats::descriptor::Descriptor;
use imager_native::formats::names::{RunName, Runs};
use imager_native::formats::page::{self, MapEntry, Ref};
use imager_native::formats::record::{Domain, signature};
use imager_native::formats::shard;
use imager_native::fs::volume_map::{Content, Extent, ExtentKind, File, Kind, Stream, Timestamp, VolumeMap};
use imager_native::fs::{self, Outcome};
use imager_native::map::cut::{MappedVolume, allocated, cut};
use imager_native::snapshot::batch::{Batch, is_zero};
use imager_native::snapshot::packer::Packer;
use imager_native::stripes::erasure::{Encoder, Scheme, recover};
use imager_native::stripes::stripe;

const SAMPLES: usize = 5;
const SAMPLE: Duration = Duration::from_millis(200);

fn main() {
    blocks();
    parity();
    packing();
    cutting();
    map_pages();
    ext_map();
}

/// Runs `work`, which does `amount` of `unit` each time, until a sample is long enough.
fn bench<T>(name: &str, unit: &str, amount: usize, mut work: impl FnMut() -> T) {
    black_box(work());
    let rates: Vec<String> = (0..SAMPLES)
        .map(|_| {
            let (began, mut rounds) = (Instant::now(), 0);
            while began.elapsed() < SAMPLE {
                black_box(work());
                rounds += 1;
            }
            format!("{:.0}", (rounds * amount) as f64 / began.elapsed().as_secs_f64())
        })
        .collect();
    println!(r#"{{"name":"{name}","unit":"{unit}","rates":[{}]}}"#, rates.join(","));
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Compresses to about half, as a system disk does.
fn plain_block() -> Vec<u8> {
    let text = b"2024-01-01T00:00:00 host app: event handled\n";
    let half = noise(1, BLOCK_BYTES / 2);
    half.chunks(64).flat_map(|chunk| chunk.iter().chain(text.iter().cycle().take(64))).copied().collect()
}

fn blocks() {
    let domain = Domain::blocks(&Secret::new([1; 32]));
    let plain = plain_block();
    let key = domain.block_key(&plain);
    let mut record = Vec::new();
    domain.seal(&key, &plain, 1, &mut record);
    let zeros = vec![0; BLOCK_BYTES];
    bench("is_zero", "MB/s", BLOCK_BYTES, || is_zero(black_box(&zeros)));
    bench("block_key", "MB/s", BLOCK_BYTES, || domain.block_key(&plain));
    bench("signature", "/s", 1, || signature(&key));
    let mut out = Vec::with_capacity(2 * BLOCK_BYTES);
    bench("seal", "MB/s", BLOCK_BYTES, || {
        out.clear();
        domain.seal(&key, &plain, 1, &mut out)
    });
    bench("open", "MB/s", BLOCK_BYTES, || domain.open(&key, &record, BLOCK_BYTES).expect("it was sealed so"));
}

fn parity() {
    let scheme = Scheme::new(4, 2).expect("4+2 is a scheme");
    let data: Vec<Vec<u8>> = (0..4).map(|index| noise(index, 4 * MIB)).collect();
    let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut parity = vec![vec![0; 4 * MIB]; 2];
    let encoder = Encoder::new(scheme);
    bench("encode (4+2)", "MB/s", 16 * MIB, || {
        encoder.encode(&slices, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    });
    let present = [None, None, Some(slices[2]), Some(slices[3]), Some(&parity[0][..]), Some(&parity[1][..])];
    bench("recover (2 of 4+2)", "MB/s", 16 * MIB, || recover(scheme, &present, &[0, 1]).expect("four are there"));
    let (pack, key) = (data.concat(), Secret::new([2; 32]));
    let run = RunName { writer: key.signing_key(), run: [0; 8] };
    let template =
        Descriptor { fleet: [0; 16], run, number: 1, k: 0, m: 0, pack_bytes: 0, trailer: [0; 32], roots: vec![] };
    // The pack goes back to the pool with its stripe, and is filled again.
    bench("stripe::encode (4+2)", "MB/s", pack.len(), || {
        let mut bytes = pool::take(pack.len());
        bytes.extend_from_slice(&pack);
        stripe::encode(bytes, scheme, &template, &key).expect("its writer's key")
    });
    let stripe = stripe::encode(pack.clone(), scheme, &template, &key).expect("its writer's key");
    let file = stripe.file(0).expect("it has six").concat();
    bench("shard::inspect", "MB/s", file.len(), || shard::inspect(&file).expect("it is whole"));
}

/// Blocks of 16 KiB, so that a batch holds as many as one of a real disk.
fn packing() {
    let domain = Domain::blocks(&Secret::new([1; 32]));
    let mut batch = Batch::of_pages((0..512).map(|index| noise(index, 16 * 1024)));
    batch.hash(&domain);
    let births = vec![0; batch.items.len()];
    bench("claim", "/s", births.len(), || {
        let mut packer = Packer::new(Secret::new([3; 32]), 4, Arc::new(Mutex::new(Runs::default())), 1);
        packer.claim(&mut batch, &births).expect("a birth for each");
    });
}

fn file(number: u64, extents: Vec<Extent>) -> File {
    let size = 1 << 20;
    let time = Timestamp::default();
    File {
        number,
        generation: 0,
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        links: 1,
        device: 0,
        modified: time,
        changed: time,
        created: time,
        xattrs: vec![],
        streams: vec![Stream { name: vec![], size, valid: size, content: Content::Extents(extents) }],
        opaque: vec![],
    }
}

/// 50,000 files of three extents that lie apart.
fn cutting() {
    const FILES: u64 = 50_000;
    const LENGTH: u64 = 8192;
    let extent = |file: u64, part: u64| {
        let disk = (part * FILES + file) * LENGTH;
        Extent { kind: ExtentKind::Plain, logical: part * LENGTH, disk, length: LENGTH }
    };
    let files = (0..FILES).map(|number| file(number, (0..3).map(|part| extent(number, part)).collect())).collect();
    let length = 3 * FILES * LENGTH;
    let map = VolumeMap { files, allocated: vec![ByteRange { start: 0, length }], ..VolumeMap::default() };
    let partition = Partition { index: 1, start: 0, length, kind: String::new(), name: String::new() };
    let volumes = [MappedVolume::of_partition(partition, Outcome::Mapped(map))];
    let held = allocated(length, &volumes);
    bench("cut", "/s", FILES as usize, || cut(&held, &volumes));
}

fn map_pages() {
    let count = MAP_PAGE_BYTES / BLOCK_BYTES as u64;
    let entry = |index: u64| MapEntry {
        disk: index * BLOCK_BYTES as u64,
        length: BLOCK_BYTES as u32,
        in_block: 0,
        block: Ref { key: [index as u8; 32], birth: 1 << 40 | index },
    };
    let entries: Vec<MapEntry> = (0..count).map(entry).collect();
    let mut runs = Runs::default();
    runs.number(&RunName { writer: [1; 32], run: [2; 8] }).expect("the first");
    let page = page::encode_map(0, &entries, &runs).expect("of a known run");
    bench("encode_map", "/s", entries.len(), || page::encode_map(0, &entries, &runs));
    bench("decode_map", "/s", entries.len(), || page::decode(&page, &mut runs).expect("it was encoded so"));
}

/// 5,000 files in 50 folders, as `mkfs.ext4 -d` writes them; the image is in memory.
fn ext_map() {
    const FILES: usize = 5000;
    let folder = std::env::temp_dir().join(format!("imager-micro-{}", std::process::id()));
    let image = folder.join("image");
    for number in 0..FILES {
        let parent = folder.join(format!("tree/{}", number % 50));
        std::fs::create_dir_all(&parent).expect("the temporary folder can be written");
        std::fs::write(parent.join(number.to_string()), noise(number as u64, 5000)).expect("it has room");
    }
    let made = Command::new("mkfs.ext4").args(["-q", "-d"]).arg(folder.join("tree")).arg(&image).arg("128M").status();
    let bytes = made.is_ok_and(|status| status.success()).then(|| std::fs::read(&image));
    std::fs::remove_dir_all(&folder).expect("it was made above");
    match bytes {
        Some(Ok(bytes)) => {
            let map = || fs::map_volume(Volume::whole(&bytes));
            assert!(matches!(map(), Outcome::Mapped(map) if map.files.len() > FILES));
            bench("ext map", "/s", FILES, map);
        }
        _ => eprintln!("ext map was not measured: there is no mkfs.ext4"),
    }
}
