//! Every decoder of stored bytes against generated pages and against damage. Seeded; a failure names its seed.
//! `IMAGER_MUTATIONS` sets how many damaged inputs each decoder gets.

#[path = "../src/base/xorshift.rs"]
mod xorshift;

use imager_native::base::limits::{BLOCK_BYTES, MAP_PAGE_BYTES, PAGE_BYTES};
use imager_native::base::secret::Secret;
use imager_native::formats::descriptor::Descriptor;
use imager_native::formats::file_record;
use imager_native::formats::names::{RunName, Runs};
use imager_native::formats::pack::{self, Row};
use imager_native::formats::page::{self, DirectoryRow, IndexEntry, MapEntry, Page, Ref, Top, Tree};
use imager_native::formats::record::{self, Context, Domain, Type};
use imager_native::formats::shard::{self, BODY_OFFSET};
use imager_native::fs::volume_map::{Content, Extent, ExtentKind, File, Kind, Stream, Timestamp};
use imager_native::stripes::erasure::Scheme;
use imager_native::stripes::stripe;
use xorshift::Random;

const RUNS: u64 = 5;

fn runs() -> Runs {
    let mut runs = Runs::default();
    for seed in 1..=RUNS as u8 {
        runs.number(&RunName { writer: [seed; 32], run: [seed; 8] }).unwrap();
    }
    runs
}

fn decode(bytes: &[u8]) -> imager_native::base::error::Result<Page> {
    page::decode(bytes, &mut runs())
}

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number of any length in bits, so that every length of LEB128 occurs.
    fn number(&mut self, bits: u32) -> u64 {
        match self.below(u64::from(bits) + 1) as u32 {
            0 => 0,
            length => self.draw() >> (64 - length),
        }
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.draw() as u8).collect()
    }

    /// Of one of `runs()`.
    fn birth(&mut self) -> u64 {
        (1 + self.below(RUNS)) << 40 | self.number(40)
    }

    fn reference(&mut self) -> Ref {
        Ref { key: std::array::from_fn(|_| self.draw() as u8), birth: self.birth() }
    }

    fn kind(&mut self) -> Kind {
        use Kind::{BlockDevice, CharacterDevice, Directory, Fifo, Socket, Symlink};
        let kinds = [Kind::File, Directory, Symlink, BlockDevice, CharacterDevice, Fifo, Socket];
        kinds[self.below(7) as usize]
    }

    fn map(&mut self) -> (Vec<u8>, Page) {
        let base = self.below(1 << 20) * MAP_PAGE_BYTES;
        let (mut entries, mut at) = (vec![], 0);
        loop {
            at += self.number(18);
            let mut block = self.reference();
            let zeros = self.below(3) == 0;
            block.birth = if zeros { self.below(3) } else { block.birth };
            let length = 1 + self.number(if zeros { 22 } else { 15 });
            if at + length > MAP_PAGE_BYTES {
                break;
            }
            let in_block = self.below(BLOCK_BYTES as u64 - length.min(BLOCK_BYTES as u64 - 1));
            entries.push(MapEntry { disk: base + at, length: length as u32, in_block: in_block as u32, block });
            at += length;
        }
        (page::encode_map(base, &entries, &runs()).unwrap(), Page::Map(entries))
    }

    fn extents(&mut self) -> Content {
        let extent = |random: &mut Self| {
            let kind = match random.below(4) {
                0 => ExtentKind::Plain,
                1 => ExtentKind::Unwritten,
                2 => ExtentKind::Compressed { raw_length: random.number(32) as u32 },
                _ => ExtentKind::Encrypted,
            };
            let [logical, disk, length] = [62; 3].map(|bits| random.number(bits));
            Extent { kind, logical, disk, length }
        };
        Content::Extents((0..self.below(5)).map(|_| extent(self)).collect())
    }

    fn stream(&mut self) -> Stream {
        let content = if self.below(2) == 0 { Content::Resident(self.bytes(300)) } else { self.extents() };
        Stream { name: self.bytes(40), size: self.number(64), valid: self.number(64), content }
    }

    fn file(&mut self, number: u64) -> File {
        let mut time = || Timestamp { seconds: self.draw() as i64, nanoseconds: self.draw() as u32 };
        let (modified, changed, created) = (time(), time(), time());
        File {
            number,
            generation: self.number(32) as u32,
            kind: self.kind(),
            mode: self.number(16) as u16,
            uid: self.number(32) as u32,
            gid: self.number(32) as u32,
            links: self.number(32) as u32,
            device: self.number(64),
            modified,
            changed,
            created,
            xattrs: (0..self.below(3)).map(|_| (self.bytes(30), self.bytes(300))).collect(),
            streams: (0..self.below(3)).map(|_| self.stream()).collect(),
            opaque: self.bytes(100),
        }
    }

    fn files(&mut self) -> (Vec<u8>, Page) {
        let (mut files, mut number) = (vec![], 0);
        for _ in 0..self.below(20) {
            number += 1 + self.number(50);
            files.push(self.file(number));
        }
        let records: Vec<Vec<u8>> = files.iter().flat_map(file_record::encode_file).collect();
        (page::encode_files(&records), Page::Files(files))
    }

    fn directory(&mut self) -> (Vec<u8>, Page) {
        let row = |random: &mut Self| DirectoryRow {
            parent: random.number(64),
            child: random.number(64),
            kind: random.kind() as u8,
            name: random.bytes(255),
        };
        let mut rows: Vec<DirectoryRow> = (0..self.below(50)).map(|_| row(self)).collect();
        rows.sort_by(|a, b| (a.parent, &a.name).cmp(&(b.parent, &b.name)));
        (page::encode_directory(&rows), Page::Directory(rows))
    }

    fn index(&mut self) -> (Vec<u8>, Page) {
        let mut entries: Vec<IndexEntry> = (0..self.below(50))
            .map(|_| {
                let (a, b) = (self.number(64), self.number(64));
                IndexEntry { first: a.min(b), last: a.max(b), child: self.reference() }
            })
            .collect();
        entries.sort_by_key(|entry| entry.first);
        let level = 1 + self.below(255) as u8;
        (page::encode_index(level, &entries, &runs()).unwrap(), Page::Index { level, entries })
    }

    fn root(&mut self) -> (Vec<u8>, Page) {
        let description = String::from_utf8_lossy(&self.bytes(500)).into_owned();
        let top = |random: &mut Self| Top {
            tree: [Tree::Map, Tree::Files, Tree::Directories][random.below(3) as usize],
            volume: random.number(32) as u32,
            level: random.number(8) as u8,
            page: random.reference(),
        };
        let tops: Vec<Top> = (0..self.below(9)).map(|_| top(self)).collect();
        (page::encode_root(&description, &tops, &runs()).unwrap(), Page::Root { description, tops })
    }

    fn page(&mut self) -> (Vec<u8>, Page) {
        match self.below(5) {
            0 => self.map(),
            1 => self.files(),
            2 => self.directory(),
            3 => self.index(),
            _ => self.root(),
        }
    }

    /// Some bytes changed, cut off, put in or repeated; numbers like to become extreme.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() as u64 + 1) as usize;
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.splice(at..at, self.bytes(20)).for_each(drop),
                2 => bytes.splice(at..at, [0xff; 9]).for_each(drop),
                3 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                4 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0),
                _ => bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (self.0 % 8)),
            }
        }
    }
}

fn mutations() -> u64 {
    std::env::var("IMAGER_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(3000)
}

#[test]
fn generated_pages_return() {
    for seed in 1..1500 {
        let (bytes, page) = Random::new(seed).page();
        assert_eq!(decode(&bytes).unwrap(), page, "seed {seed}");
    }
}

#[test]
fn a_file_of_very_many_extents_goes_on_in_further_records() {
    let mut random = Random::new(7);
    let extent = |at: u64| Extent { kind: ExtentKind::Plain, logical: at << 13, disk: at << 12, length: 4096 };
    let mut file = random.file(12);
    let content = Content::Extents((0..2 * file_record::RECORD_EXTENTS as u64 + 1).map(extent).collect());
    file.streams = vec![Stream { name: vec![], size: 1 << 40, valid: 1 << 40, content }, random.stream()];
    let records = file_record::encode_file(&file);
    assert_eq!(records.len(), 3);
    assert_eq!(decode(&page::encode_files(&records)).unwrap(), Page::Files(vec![file.clone()]));
    // In pages of their own they are joined by the reader.
    let mut joined: Option<File> = None;
    for record in records {
        let Page::Files(files) = decode(&page::encode_files(&[record])).unwrap() else { panic!("a file page") };
        for more in files {
            match &mut joined {
                None => joined = Some(more),
                Some(file) => file_record::join(file, more),
            }
        }
    }
    assert_eq!(joined, Some(file));
}

#[test]
fn what_no_writer_writes_is_refused() {
    let block = |birth| Ref { key: [1; 32], birth };
    let entry = |disk, length, in_block, birth| MapEntry { disk, length, in_block, block: block(birth) };
    const BIRTH: u64 = 1 << 40 | 1 << 16;
    let maps = [
        vec![entry(0, 10, 65_530, BIRTH)],
        vec![entry(0, 10, u32::MAX, BIRTH)],
        vec![entry(0, 10, u32::MAX, 0)],
        vec![entry(0, 65_537, 0, BIRTH)],
        vec![entry(0, 0, 0, BIRTH)],
        vec![entry(0, 10, 0, BIRTH), entry(9, 10, 0, BIRTH)],
        vec![entry(MAP_PAGE_BYTES - 1, 2, 0, BIRTH)],
    ];
    for entries in maps {
        assert!(decode(&page::encode_map(0, &entries, &runs()).unwrap()).is_err(), "{entries:?}");
    }
    assert!(decode(&page::encode_map(1, &[], &runs()).unwrap()).is_err());
    let index = |first, last| IndexEntry { first, last, child: block(1) };
    assert!(decode(&page::encode_index(0, &[index(1, 2)], &runs()).unwrap()).is_err());
    assert!(decode(&page::encode_index(1, &[index(2, 1)], &runs()).unwrap()).is_err());
    assert!(decode(&page::encode_index(1, &[index(2, 3), index(1, 9)], &runs()).unwrap()).is_err());
    let row = |parent, name: &str| DirectoryRow { parent, child: 1, kind: 1, name: name.into() };
    assert!(decode(&page::encode_directory(&[row(1, "b"), row(1, "a")])).is_err());
    assert!(decode(&page::encode_directory(&[row(2, "a"), row(1, "a")])).is_err());
    let mut random = Random::new(3);
    let [first, second] = [9, 8].map(|number| file_record::encode_file(&random.file(number)).remove(0));
    assert!(decode(&page::encode_files(&[first.clone(), second])).is_err());
    assert!(decode(&page::encode_files(&[first.clone(), first])).is_err(), "one number twice");
    assert!(decode(&vec![0; PAGE_BYTES + 1]).is_err());
}

#[test]
fn damaged_pages_never_panic() {
    for seed in 1..=mutations() {
        let mut random = Random::new(seed);
        let (mut bytes, _) = random.page();
        random.damage(&mut bytes);
        let _ = decode(&bytes);
    }
}

/// Not damage but intent: the trailer is made by someone who holds the key.
#[test]
fn sealed_nonsense_never_panics() {
    let key = Secret::new([3; 32]);
    let key_id = key.id();
    let run = runs().names()[0];
    let id = run.stripe_id(5);
    for seed in 1..=mutations() {
        let mut random = Random::new(seed);
        let count = random.below(4) as u8;
        let mut plain = vec![count];
        plain.extend((0..16 * u64::from(count)).map(|_| random.draw() as u8));
        let listed = random.below(3) as u8;
        plain.push(listed);
        plain.extend((0..40 * u64::from(listed)).map(|_| random.draw() as u8));
        for _ in 0..random.below(5) {
            let row: Vec<u8> =
                (0..50).map(|at| if at == 9 { random.below(4) as u8 } else { random.draw() as u8 }).collect();
            plain.extend(row);
        }
        random.damage(&mut plain);
        let context = Context { kind: Type::Trailer, domain: &key_id, id: &id };
        let mut bytes = key_id.to_vec();
        record::seal(key.bytes(), context, &plain, 1, &mut bytes);
        let offset = random.number(32) as usize;
        for row in pack::read_trailer(&bytes, offset, (&run, 5), &mut runs(), &key).unwrap_or_default() {
            assert!(row.offset as usize + row.length as usize <= offset, "seed {seed}");
        }
        random.damage(&mut bytes);
        let _ = pack::read_trailer(&bytes, offset, (&run, 5), &mut runs(), &key);
        let _ = pack::read_header(&bytes);
    }
}

#[test]
fn damaged_shards_never_panic() {
    let key = Secret::new([3; 32]);
    let run = RunName { writer: key.signing_key(), run: [2; 8] };
    let trailer = [3; 32];
    let template = Descriptor { fleet: [1; 16], run, number: 9, k: 0, m: 0, pack_bytes: 0, trailer, roots: vec![] };
    let stripe = stripe::encode(vec![7; 400_000], Scheme::new(4, 2).unwrap(), &template, &key).unwrap();
    let file = stripe.file(2).unwrap().concat();
    for seed in 1..=mutations() {
        let mut random = Random::new(seed);
        let mut header = file[..BODY_OFFSET].to_vec();
        header.truncate(400 + random.below(BODY_OFFSET as u64) as usize);
        random.damage(&mut header);
        let _ = shard::read_header(&header);
        let _ = shard::inspect(&header);
    }
}

/// Every length a record can claim: refused before memory is taken for it.
#[test]
fn damaged_records_are_refused() {
    let domain = Domain::blocks(&Secret::new([1; 32]));
    for seed in 1..=mutations() {
        let mut random = Random::new(seed);
        let plain = if random.below(2) == 0 { vec![7; 5000] } else { random.bytes(300) };
        let (block_key, mut record) = (domain.block_key(&plain), Vec::new());
        domain.seal(&block_key, &plain, 1, &mut record);
        let before = record.clone();
        random.damage(&mut record);
        let opened = domain.open(&block_key, &record, BLOCK_BYTES);
        assert_eq!(opened.ok(), (record == before).then_some(plain), "seed {seed}");
    }
}

#[test]
fn a_pack_lists_what_was_put_in() {
    let key = Secret::new([3; 32]);
    for seed in 1..200 {
        let mut random = Random::new(seed);
        let mut bytes = pack::start(4096);
        let rows: Vec<Row> = (0..random.below(300))
            .map(|_| {
                let (offset, length) = (bytes.len() as u32, random.below(200) as u32);
                bytes.resize(bytes.len() + length as usize, 1);
                let id = random.reference().key;
                Row { birth: random.birth(), kind: 1, domain: [random.below(9) as u8; 16], id, offset, length }
            })
            .collect();
        let run = runs().names()[0];
        pack::finish(&mut bytes, &rows, 1 << 24 | seed, &runs(), &key).unwrap();
        let (trailer, length) = pack::read_header(&bytes).unwrap();
        assert!(
            bytes.len() - trailer <= pack::trailer_bound(rows.len()) + 40 * (RUNS as usize - 1)
                && length == bytes.len()
        );
        let read = pack::read_trailer(&bytes[trailer..], trailer, (&run, seed as u32), &mut runs(), &key);
        assert_eq!(read.unwrap(), rows, "seed {seed}");
    }
}
