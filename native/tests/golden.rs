//! The bytes of version 1 of every format that is stored or sent from here, against fixtures/golden/. What differs is a broken
//! format; only `test/golden/make` writes them, and only until version 1 is released. What zstd made may differ with its
//! version, so that compressed records are opened only.

use std::path::{Path, PathBuf};

use imager_native::base::error::Error;
use imager_native::base::limits::BLOCK_BYTES;
use imager_native::base::secret::Secret;
use imager_native::formats::descriptor::Descriptor;
use imager_native::formats::file_record;
use imager_native::formats::frame::{Fetch, TO_END};
use imager_native::formats::names::{RunName, Runs};
use imager_native::formats::pack::{self, Row};
use imager_native::formats::page::{self, DirectoryRow, IndexEntry, MapEntry, Page, Ref, Top, Tree};
use imager_native::formats::record::{self, Domain, RECORD_OVERHEAD, Type};
use imager_native::formats::references::References;
use imager_native::formats::root_key::RootKey;
use imager_native::formats::shard::{self, BODY_OFFSET};
use imager_native::fs::volume_map::{Content, Extent, ExtentKind, File, Kind, Stream, Timestamp};
use imager_native::signatures::{index, row};
use imager_native::stripes::erasure::Scheme;
use imager_native::stripes::stripe;

/// Stripe 5 of the first run.
const STRIPE: u64 = 1 << 24 | 5;
const NUMBER: u32 = 5;
const FLEET: [u8; 16] = *b"fleet of goldens";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/golden").join(format!("{name}-v1.bin"))
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn same(name: &str, bytes: &[u8]) {
    if std::env::var_os("IMAGER_MAKE_GOLDEN").is_some() {
        std::fs::write(path(name), bytes).unwrap();
    }
    assert!(golden(name) == bytes, "{name}: these bytes are version 1, for ever");
}

/// Bytes that do not compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn key(seed: u8) -> [u8; 32] {
    noise(seed, 32).try_into().unwrap()
}

fn domain_key() -> Secret {
    Secret::new(key(1))
}

fn manifest_key() -> Secret {
    Secret::new(key(2))
}

fn trailer_key() -> Secret {
    Secret::new(key(3))
}

fn writer() -> Secret {
    Secret::new(key(4))
}

/// The appliance's own run, and one of another.
fn runs() -> Runs {
    let mut runs = Runs::default();
    for writer in [writer(), Secret::new(key(5))] {
        runs.number(&RunName { writer: writer.signing_key(), run: *b"drawn 64" }).unwrap();
    }
    runs
}

fn run() -> RunName {
    runs().names()[0]
}

fn text() -> Vec<u8> {
    b"the same sentence over and over. ".repeat(100)
}

#[test]
fn key_derivation() {
    let secret = Secret::new(key(1));
    let (id, other) = (secret.id(), secret.derive("imager v1 golden", b"material"));
    let derived = [
        id.as_slice(),
        other.bytes(),
        &secret.signing_key(),
        &secret.sealing_key(),
        &secret.sign(b"message"),
        &secret.tag(b"message"),
        &Domain::blocks(&secret).block_key(b"m"),
        &Domain::pages(&secret).block_key(b"m"),
        &record::signature(&key(1)),
    ];
    same("keys", &derived.concat());
}

#[test]
fn records_of_blocks_and_pages() {
    let cases =
        [("record-block", Domain::blocks(&domain_key()), 10), ("record-page", Domain::pages(&manifest_key()), 11)];
    for (name, domain, seed) in cases {
        let plain = noise(seed, 200);
        let (block_key, mut record) = (domain.block_key(&plain), Vec::new());
        assert_eq!(domain.seal(&block_key, &plain, 1, &mut record), plain.len() + RECORD_OVERHEAD);
        same(name, &record);
        assert_eq!(domain.open(&block_key, &golden(name), 200).unwrap(), plain);
    }
}

#[test]
fn a_compressed_record_opens() {
    let domain = Domain::blocks(&domain_key());
    let (plain, record) = (text(), golden("record-compressed"));
    assert!(record.len() < 200);
    assert_eq!(domain.open(&domain.block_key(&plain), &record, BLOCK_BYTES).unwrap(), plain);
}

/// As a head carries it (`Vault.sealRoot`).
#[test]
fn the_sealed_key_of_a_root_page() {
    let (root_key, domain) = (RootKey::new(&manifest_key()), manifest_key().id());
    let root = Ref { key: key(40), birth: STRIPE << 16 | 9 };
    let sealed = root_key.seal(&domain, &root, &runs()).unwrap();
    assert_eq!(sealed.len(), 32 + RECORD_OVERHEAD);
    same("record-root-key", &sealed);
    assert_eq!(root_key.open(&domain, &golden("record-root-key"), root.birth, &runs()).unwrap(), root);
}

fn rows() -> Vec<Row> {
    let domain_of = |kind| if kind == Type::Block { domain_key().id() } else { manifest_key().id() };
    let row = |ordinal: u64, kind: Type, id, offset| Row {
        birth: STRIPE << 16 | ordinal,
        kind: kind as u8,
        domain: domain_of(kind),
        id,
        offset,
        length: 254,
    };
    let ids = records().map(|(key, _)| record::signature(&key));
    vec![row(0, Type::Block, ids[0], 16), row(1, Type::Page, ids[1], 270)]
}

/// Key and record of a block and of a page.
fn records() -> [([u8; 32], Vec<u8>); 2] {
    [(Domain::blocks(&domain_key()), 10), (Domain::pages(&manifest_key()), 11)].map(|(domain, seed)| {
        let (key, mut record) = (domain.block_key(&noise(seed, 200)), Vec::new());
        domain.seal(&key, &noise(seed, 200), 1, &mut record);
        (key, record)
    })
}

fn packed() -> Vec<u8> {
    let mut bytes = pack::start(4096);
    records().iter().for_each(|(_, record)| bytes.extend_from_slice(record));
    pack::finish(&mut bytes, &rows(), STRIPE, &runs(), &trailer_key()).unwrap();
    bytes
}

#[test]
fn a_pack_with_its_trailer() {
    same("pack", &packed());
    let bytes = golden("pack");
    let (trailer, length) = pack::read_header(&bytes).unwrap();
    assert_eq!((trailer, length), (524, bytes.len()));
    assert_eq!(length, 524 + 16 + RECORD_OVERHEAD + 1 + 2 * 16 + 1 + 40 + 2 * 50, "a trailer that zstd did not touch");
    let read = pack::read_trailer(&bytes[trailer..], trailer, (&run(), NUMBER), &mut runs(), &trailer_key());
    assert_eq!(read.unwrap(), rows());
    assert_eq!(records()[0].1, bytes[16..270]);
}

#[test]
fn the_shards_of_a_stripe() {
    let pack = packed();
    assert_eq!(pack.len(), 768);
    let trailer = *blake3::hash(&pack[524..]).as_bytes();
    let template =
        Descriptor { fleet: FLEET, run: run(), number: NUMBER, k: 0, m: 0, pack_bytes: 0, trailer, roots: vec![] };
    let encoded = stripe::encode(pack.clone(), Scheme::new(2, 1).unwrap(), &template, &writer()).unwrap();
    let roots: Vec<[u8; 32]> = (0..3).map(|index| encoded.root(index).unwrap()).collect();
    for (index, name) in [(0, "shard-data"), (2, "shard-parity")] {
        same(name, &encoded.file(index).unwrap().concat());
        let file = golden(name);
        let header = shard::inspect(&file).unwrap();
        assert_eq!((usize::from(header.index), header.body_bytes, header.root), (index, 384, roots[index]));
        assert_eq!(header.id(), run().shard_id(NUMBER, index as u8));
        let expected = Descriptor { k: 2, m: 1, pack_bytes: 768, roots: roots.clone(), ..template.clone() };
        assert_eq!(header.stripe, expected);
    }
    assert_eq!(golden("shard-data")[BODY_OFFSET..], pack[..384]);
}

/// As a folder has it that stands for one host.
#[test]
fn the_shard_of_a_copy() {
    let pack = packed();
    let trailer = *blake3::hash(&pack[524..]).as_bytes();
    let template =
        Descriptor { fleet: FLEET, run: run(), number: NUMBER, k: 0, m: 0, pack_bytes: 0, trailer, roots: vec![] };
    let copy = stripe::encode(pack.clone(), Scheme::new(1, 0).unwrap(), &template, &writer()).unwrap();
    same("shard-copy", &copy.file(0).unwrap().concat());
    assert!(copy.file(1).is_none());
    let file = golden("shard-copy");
    let header = shard::inspect(&file).unwrap();
    assert_eq!((header.index, header.body_bytes, header.id()), (0, 768, run().shard_id(NUMBER, 0)));
    assert_eq!(header.stripe, Descriptor { k: 1, m: 0, pack_bytes: 768, roots: vec![header.root], ..template });
    assert_eq!(file[BODY_OFFSET..], pack);
}

/// The last record of the last stripe of the other run.
const LAST: u64 = 2 << 40 | 0xff_ffff << 16 | 0xffff;

fn reference(seed: u8, birth: u64) -> Ref {
    Ref { key: key(seed), birth }
}

#[test]
fn a_map_page() {
    let base = 3 << 23;
    let zeros = Ref { key: [0; 32], birth: 0 };
    let entries = vec![
        MapEntry { disk: base, length: 65_536, in_block: 0, block: reference(20, STRIPE << 16) },
        MapEntry { disk: base + 65_536, length: 4096, in_block: 61_440, block: reference(21, LAST) },
        MapEntry { disk: base + (1 << 20), length: 4 << 20, in_block: 0, block: zeros },
        MapEntry { disk: base + (5 << 20), length: 1 << 20, in_block: 0, block: Ref::UNREADABLE },
        MapEntry { disk: base + (6 << 20), length: 2 << 20, in_block: 0, block: Ref::NOT_STORED },
    ];
    same("page-map", &page::encode_map(base, &entries, &runs()).unwrap());
    assert_eq!(page::decode(&golden("page-map"), &mut runs()).unwrap(), Page::Map(entries));
}

fn stream(name: &str, size: u64, valid: u64, content: Content) -> Stream {
    Stream { name: name.into(), size, valid, content }
}

fn file(number: u64, kind: Kind, streams: Vec<Stream>) -> File {
    File {
        number,
        generation: 0xdead_beef,
        kind,
        mode: 0o4755,
        uid: 1000,
        gid: 100_000,
        links: 2,
        device: 0,
        modified: Timestamp { seconds: 1_700_000_000, nanoseconds: 999_999_999 },
        changed: Timestamp { seconds: -1, nanoseconds: 1 },
        created: Timestamp { seconds: 0, nanoseconds: 0 },
        xattrs: vec![],
        streams,
        opaque: vec![],
    }
}

/// Extents of every kind; between 16 KiB and 64 KiB a hole.
fn extents() -> Vec<Extent> {
    let kinds = [
        (ExtentKind::Plain, 0, 16_384),
        (ExtentKind::Unwritten, 65_536, 4096),
        (ExtentKind::Compressed { raw_length: 65_536 }, 131_072, 20_480),
        (ExtentKind::Encrypted, 196_608, 8192),
    ];
    kinds.map(|(kind, logical, length)| Extent { kind, logical, disk: (1 << 40) + logical, length }).to_vec()
}

fn continued() -> Extent {
    Extent { kind: ExtentKind::Plain, logical: 1 << 30, disk: 1 << 20, length: 4096 }
}

#[test]
fn a_file_page() {
    let mut plain = file(12, Kind::File, vec![stream("", 1 << 31, 150_000, Content::Extents(extents()))]);
    plain.xattrs = vec![(b"user.note".to_vec(), "größer".into()), (b"security.capability".to_vec(), vec![0, 255])];
    let named = stream("Zone.Identifier", 5, 5, Content::Resident(b"hello".to_vec()));
    plain.streams.push(named);
    plain.opaque = vec![0, 1, 0xff];
    // As the writer cuts it at 16,384 extents a record: the attributes again; no xattrs, opaque or resident bytes.
    let mut more = plain.clone();
    more.xattrs = vec![];
    more.opaque = vec![];
    more.streams[0].content = Content::Extents(vec![continued()]);
    more.streams[1].content = Content::Resident(vec![]);
    let mut node = file(1 << 33, Kind::BlockDevice, vec![]);
    node.device = 8 << 8 | 1;
    let folder = File { links: 1, uid: 0, gid: 0, generation: 0, ..file(11, Kind::Directory, vec![]) };
    let link = file(300, Kind::Symlink, vec![stream("", 6, 6, Content::Resident(b"target".to_vec()))]);

    let mut records: Vec<Vec<u8>> =
        [&folder, &plain, &more, &link, &node].into_iter().flat_map(file_record::encode_file).collect();
    assert_eq!(records[2][..2], [12, 0], "number and part");
    records[2][1] = 1;
    same("page-files", &page::encode_files(&records));

    let joined = [extents(), vec![continued()]].concat();
    plain.streams[0].content = Content::Extents(joined);
    assert_eq!(page::decode(&golden("page-files"), &mut runs()).unwrap(), Page::Files(vec![folder, plain, link, node]));
}

#[test]
fn a_directory_page() {
    let row =
        |parent, child, kind: Kind, name: &str| DirectoryRow { parent, child, kind: kind as u8, name: name.into() };
    let rows = vec![
        row(2, 11, Kind::Directory, "lost+found"),
        row(2, 12, Kind::File, "Ünïcode 本"),
        DirectoryRow { parent: 300, child: 1 << 33, kind: Kind::BlockDevice as u8, name: vec![0xff, 0xfe] },
    ];
    same("page-directory", &page::encode_directory(&rows));
    assert_eq!(page::decode(&golden("page-directory"), &mut runs()).unwrap(), Page::Directory(rows));
}

#[test]
fn an_index_page() {
    let entries = vec![
        IndexEntry { first: 0, last: (8 << 20) - 1, child: reference(22, STRIPE << 16 | 1) },
        IndexEntry { first: 1 << 62, last: u64::MAX, child: reference(23, LAST) },
    ];
    same("page-index", &page::encode_index(2, &entries, &runs()).unwrap());
    assert_eq!(page::decode(&golden("page-index"), &mut runs()).unwrap(), Page::Index { level: 2, entries });
}

#[test]
fn a_root_page() {
    let description = "{\"words\":\"größer\"}".to_string();
    let top = |tree, volume, level, seed| Top { tree, volume, level, page: reference(seed, STRIPE << 16 | 2) };
    let tops = vec![top(Tree::Map, 0, 2, 24), top(Tree::Files, 1, 0, 25), top(Tree::Directories, 300, 1, 26)];
    same("page-root", &page::encode_root(&description, &tops, &runs()).unwrap());
    assert_eq!(page::decode(&golden("page-root"), &mut runs()).unwrap(), Page::Root { description, tops });
}

#[test]
fn a_reference_bitmap() {
    let mut references = References::default();
    let birth = STRIPE << 16;
    for birth in [birth, birth | 1, birth | 63, birth | 64, birth + (1 << 16), LAST, 2 << 40] {
        references.add(birth);
    }
    same("references", &references.encode(&runs()).unwrap());
}

#[test]
fn unknown_versions_and_features_are_named() {
    let (pack, page, shard) = (golden("pack"), golden("page-map"), golden("shard-data"));
    for at in [4, 6] {
        let changed = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 2;
            bytes
        };
        for outcome in [
            pack::read_header(&changed(&pack)).err(),
            page::decode(&changed(&page), &mut runs()).err(),
            shard::read_header(&changed(&shard)).err(),
        ] {
            assert!(matches!(outcome, Some(Error::Unsupported { .. })), "{outcome:?}");
        }
    }
}

#[test]
fn a_fetch() {
    let fetch = Fetch { shard: *b"shard of goldens", range: 4096..(1 << 40) + 5 };
    same("fetch", &fetch.encode());
    assert_eq!(Fetch::decode(&golden("fetch")).unwrap(), fetch);
    let whole = Fetch { range: 0..TO_END, ..fetch };
    assert_eq!(Fetch::decode(&whole.encode()).unwrap(), whole);
    assert!(Fetch::decode(&golden("fetch")[1..]).is_none());
}

#[test]
fn a_segment_of_signatures() {
    let record = |n: u8| [&noise(n, 32)[..], &u32::from(n).to_le_bytes(), &254u32.to_le_bytes()].concat();
    let rows = row::rows(STRIPE, &(0..80).flat_map(record).collect::<Vec<u8>>(), None);
    let folder = std::env::temp_dir().join(format!("imager-golden-segment-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    index::write_segment(&folder, 1, &rows).unwrap();
    same("segment", &std::fs::read(folder.join("1.seg")).unwrap());
    let index = index::Index::new(&folder, 1 << 20);
    index.use_segments(&[1]).unwrap();
    let found = index.find(&noise(7, 32)).unwrap();
    let hit = row::Hit { index: 0, birth: STRIPE << 16 | 7, stripe: STRIPE, offset: 7, length: 254 };
    assert_eq!(found, [hit]);
    std::fs::remove_dir_all(folder).unwrap();
}
