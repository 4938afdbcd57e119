//! The read path: locations, routes, and the disk of a snapshot.

mod routes;

use std::sync::{Arc, Mutex};

use napi::Env;
use napi::bindgen_prelude::{
    AsyncTask, BigUint64Array, Buffer, ClassInstance, Either, Float64Array, Null, Object, Result, Uint32Array,
};
use napi_derive::napi;

use super::body::Body;
use super::formats::{ManifestPage, PageRef, wrong_kind};
use super::keys::Vault;
use super::names::Runs;
use super::wire::{DataClient, DataEndpoint, Settled, settle};
use super::{Job, job, lock, thrown};
use crate::base::clock::Clock;
use crate::base::limits::PAGE_BYTES;
use crate::formats::page::{self, Gap, MapEntry, Page, Ref};
use crate::retrieve::disk_reader::Reader;
use crate::retrieve::records::{Fetched, Location, Range, ranges, record};
use crate::retrieve::window::{self, BlockCache, Need};
use crate::retrieve::{locations, parts};
use routes::Routes;

/// Where records lie: a stripe (0 where nobody knows), and bytes of its pack.
#[napi(object)]
pub struct RecordLocations {
    pub stripes: Float64Array,
    pub offsets: Uint32Array,
    pub lengths: Uint32Array,
}

impl RecordLocations {
    pub(super) fn of(locations: &[Location]) -> Self {
        Self {
            stripes: locations.iter().map(|location| location.stripe as f64).collect::<Vec<_>>().into(),
            offsets: locations.iter().map(|location| location.offset).collect::<Vec<_>>().into(),
            lengths: locations.iter().map(|location| location.length).collect::<Vec<_>>().into(),
        }
    }

    pub(super) fn decode(&self) -> Vec<Location> {
        let each = self.stripes.iter().zip(&*self.offsets).zip(&*self.lengths);
        each.map(|((&stripe, &offset), &length)| Location { stripe: stripe as u64, offset, length }).collect()
    }
}

/// Records by what they are: what a catalog is asked for to find them.
#[napi(object)]
pub struct SoughtRecords {
    pub births: BigUint64Array,
    /// Signatures, 32 bytes each.
    pub ids: Buffer,
}

impl SoughtRecords {
    pub(super) fn of((births, ids): (Vec<u64>, Vec<u8>)) -> Self {
        Self { births: births.into(), ids: ids.into() }
    }
}

/// Records to open once more, and where each lies.
#[napi(object)]
pub struct PlacedRecords {
    pub members: Vec<u32>,
    pub at: RecordLocations,
}

impl PlacedRecords {
    pub(super) fn decode(&self) -> Vec<(u32, Location)> {
        self.members.iter().copied().zip(self.at.decode()).collect()
    }
}

/// A range of a pack, and which of those that were asked for have their record in it.
#[napi(object)]
pub struct PackRange {
    pub stripe: f64,
    pub start: u32,
    pub end: u32,
    pub members: Vec<u32>,
}

impl PackRange {
    pub(super) fn of(range: &Range) -> Self {
        let Range { stripe, start, end, members } = range;
        Self { stripe: *stripe as f64, start: *start, end: *end, members: members.clone() }
    }
}

/// The ranges to fetch for some records, whose indexes in the batch are the members; those closer than `gap` bytes share one.
#[napi]
pub fn pack_ranges(locations: RecordLocations, gap: u32) -> Vec<PackRange> {
    let located = locations.decode().into_iter().zip(0..);
    ranges(located, gap, u32::MAX).iter().map(PackRange::of).collect()
}

/// Tells births apart into locations, once the lengths of their stripes' records are known.
#[napi]
pub struct LocationIndex(Mutex<locations::RecordLocations>);

#[napi]
impl LocationIndex {
    /// One that knows no stripe yet.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// Stripes of these births whose lengths are not known, each once.
    #[napi]
    pub fn unknown(&self, births: BigUint64Array) -> Vec<f64> {
        lock(&self.0).unknown(&births).into_iter().map(|stripe| stripe as f64).collect()
    }

    /// The lengths of all records of a stripe, in order; none where the catalog does not tell them.
    #[napi]
    pub fn learn(&self, stripe: f64, lengths: Uint32Array) {
        lock(&self.0).learn(stripe as u64, &lengths);
    }

    /// A location for each birth, in order.
    #[napi]
    pub fn locate(&self, births: BigUint64Array) -> RecordLocations {
        RecordLocations::of(&lock(&self.0).locate(&births))
    }
}

#[napi]
impl Vault {
    /// `runs` learns the runs that the pages name. Opens and decodes pages from what was fetched of a pack (`offsets[i]`, ascending, is where `fetched[i]` begins there);
    /// null for each whose record does not verify. Uses the bodies up. Throws what a page throws that verifies and makes no sense.
    #[napi(ts_return_type = "Promise<(ManifestPage | null)[]>")]
    pub fn open_pages(
        &self,
        pages: Vec<ClassInstance<PageRef>>,
        locations: RecordLocations,
        offsets: Vec<u32>,
        fetched: Vec<ClassInstance<Body>>,
        runs: &Runs,
    ) -> Result<AsyncTask<Job<Vec<Either<ManifestPage, Null>>>>> {
        let (vault, locations, runs) = (self.0.clone(), locations.decode(), runs.0.clone());
        let pages: Vec<Ref> = pages.iter().map(|page| page.0).collect();
        // Not back into the pool: pages are read once, and the pool would keep what they took.
        let unpooled = |body: &ClassInstance<Body>| body.spend().map(|mut bytes| std::mem::take(&mut bytes.0));
        let bodies = fetched.iter().map(unpooled).collect::<Result<Vec<_>>>()?;
        Ok(job(move || {
            let fetched = Fetched::each(&offsets, &bodies);
            let open = |(page, location): (&Ref, &Location)| {
                let record = record(&fetched, *location)?;
                vault.pages.open(&page.key, &record, PAGE_BYTES).ok()
            };
            let opened = pages.iter().zip(&locations).map(open);
            let decoded = opened.map(|plain| match plain {
                Some(plain) => Ok(Either::A(ManifestPage(Arc::new(page::decode(&plain, &mut lock(&runs))?)))),
                None => Ok(Either::B(Null)),
            });
            decoded.collect()
        }))
    }
}

/// A map page and where its blocks lie.
#[napi]
pub struct Window(pub(super) Arc<window::Window>);

fn entries_of<'a>(pages: &'a [ClassInstance<ManifestPage>]) -> Result<Vec<&'a [MapEntry]>> {
    let entries = |page: &'a ClassInstance<ManifestPage>| match &*page.0 {
        Page::Map(entries) => Ok(entries.as_slice()),
        _ => Err(wrong_kind()),
    };
    pages.iter().map(entries).collect()
}

/// Of map pages: the birth numbers of their blocks, page by page.
#[napi]
pub fn map_births(pages: Vec<ClassInstance<ManifestPage>>) -> Result<BigUint64Array> {
    let entries = entries_of(&pages)?;
    let births = entries.iter().flat_map(|entries| window::stored(entries)).map(|block| block.birth);
    Ok(births.collect::<Vec<_>>().into())
}

/// Their signatures, 32 bytes each.
#[napi]
pub fn map_ids(pages: Vec<ClassInstance<ManifestPage>>) -> Result<Buffer> {
    Ok(entries_of(&pages)?.into_iter().flat_map(window::ids).collect::<Vec<u8>>().into())
}

#[napi]
impl Window {
    /// The ranges to fetch for some entries, which are their members.
    #[napi]
    pub fn ranges(&self, entries: Vec<u32>) -> Vec<PackRange> {
        self.0.ranges(&entries).iter().map(PackRange::of).collect()
    }

    /// Where the blocks of some entries were found first.
    #[napi]
    pub fn placed(&self, entries: Vec<u32>) -> PlacedRecords {
        let (members, at): (Vec<u32>, Vec<Location>) = self.0.placed(&entries).into_iter().unzip();
        PlacedRecords { members, at: RecordLocations::of(&at) }
    }

    /// What the blocks of some entries are.
    #[napi]
    pub fn sought(&self, entries: Vec<u32>) -> SoughtRecords {
        SoughtRecords::of(self.0.sought(&entries))
    }
}

/// Fetches parts of packs by itself, over data connections.
#[napi]
pub struct DirectParts(Arc<parts::DirectParts>);

#[napi]
impl DirectParts {
    /// Asks over the connections of `client`, as `routes` say; what it learns of hosts and shards goes there.
    #[napi(constructor)]
    pub fn new(client: &DataClient, routes: &Routes) -> Self {
        Self(Arc::new(parts::DirectParts::new(client.0.clone(), Clock::SYSTEM, routes.patience, routes.state.clone())))
    }

    /// How a host is reached; `timeoutMs` counts for nothing.
    #[napi]
    pub fn host(&self, target: DataEndpoint) -> Result<()> {
        self.0.learn_host(target.decode()?);
        Ok(())
    }
}

/// What is to be fetched before a read: entries whose blocks are absent; or the part that the snapshot does not hold.
#[napi(object)]
pub struct WindowNeed {
    pub entries: Vec<u32>,
    pub missing: Either<MissingPart, Null>,
}

/// Bytes of the disk that the source did not give, or that were left out on purpose.
#[napi(object)]
pub struct MissingPart {
    pub offset: f64,
    pub length: f64,
    pub left_out: bool,
}

/// Reads the disk of a snapshot, and keeps the blocks that were used last.
#[napi]
pub struct DiskReader(pub(super) Arc<Reader>);

#[napi]
impl DiskReader {
    /// `bytes` of blocks are kept.
    #[napi(constructor)]
    pub fn new(parts: &DirectParts, vault: &Vault, bytes: u32) -> Self {
        Self(Arc::new(Reader::new(parts.0.clone(), BlockCache::new(bytes as usize), vault.0.blocks.clone())))
    }

    /// The windows from `first` to `last` from all their map pages; those without one are zeros. `locations` in the order of
    /// `mapBirths`. Throws CORRUPT for one that the catalog does not know.
    #[napi]
    pub fn learn(
        &self,
        first: u32,
        last: u32,
        pages: Vec<ClassInstance<ManifestPage>>,
        locations: RecordLocations,
    ) -> Result<()> {
        let pages: Vec<Arc<Page>> = pages.iter().map(|page| page.0.clone()).collect();
        self.0.learn(first.into()..=last.into(), &pages, &locations.decode()).map_err(thrown)
    }

    /// Whether a window, by its number, has anything but zeros; null where it was not learnt, or is forgotten.
    #[napi]
    pub fn has_blocks(&self, number: u32) -> Option<bool> {
        self.0.window(number.into()).map(|window| window.is_some())
    }

    /// A window with blocks, for what is fetched another way; null where it is forgotten.
    #[napi]
    pub fn window(&self, number: u32) -> Option<Window> {
        self.0.window(number.into()).flatten().map(Window)
    }

    /// What a read of these bytes of one window still needs; null where the window is forgotten.
    #[napi]
    pub fn need(&self, offset: f64, length: f64) -> Option<WindowNeed> {
        let window = self.0.window_at(offset as u64)?;
        Some(match window.need(&self.0.cache, offset as u64, offset as u64 + length as u64) {
            Need::Blocks(entries) => WindowNeed { entries, missing: Either::B(Null) },
            Need::Missing(offset, length, gap) => {
                let left_out = gap == Gap::NotStored;
                let part = MissingPart { offset: offset as f64, length: length as f64, left_out };
                WindowNeed { entries: vec![], missing: Either::A(part) }
            }
        })
    }

    /// Has the blocks of a window's entries fetched and opened, and waits for those that are on the way already; the entries
    /// whose blocks did not come. None where the window is forgotten.
    #[napi(ts_return_type = "Promise<number[]>")]
    pub fn fetch<'env>(&self, env: &'env Env, number: u32, entries: Vec<u32>) -> Result<Object<'env>> {
        let (settled, promise): (Settled<Vec<u32>>, _) = env.create_deferred()?;
        match self.0.window(number.into()).flatten() {
            Some(window) => self.0.fetch(&window, &entries, false, move |missing| settle(settled, missing)),
            None => settle(settled, vec![]),
        }
        Ok(promise)
    }

    /// Opens the blocks of entries, each at its place, from what was fetched (as `PlanLocated.write`); returns the entries
    /// whose record did not verify. Uses the bodies up.
    #[napi(ts_return_type = "Promise<number[]>")]
    pub fn open(
        &self,
        window: &Window,
        placed: PlacedRecords,
        offsets: Vec<u32>,
        fetched: Vec<ClassInstance<Body>>,
    ) -> Result<AsyncTask<Job<Vec<u32>>>> {
        let (reader, window, placed) = (self.0.clone(), window.0.clone(), placed.decode());
        let bodies = fetched.iter().map(|body| body.spend()).collect::<Result<Vec<_>>>()?;
        Ok(job(move || Ok(window.open(&reader.cache, &reader.domains, &placed, &Fetched::each(&offsets, &bodies)))))
    }

    /// A part of the disk within one window; null where the window, or a block, is absent (again).
    #[napi]
    pub fn read(&self, offset: f64, length: u32) -> Result<Option<Body>> {
        let (start, end) = (offset as u64, offset as u64 + u64::from(length));
        let Some(window) = self.0.window_at(start) else { return Ok(None) };
        window.read(&self.0.cache, start, end).map(|bytes| bytes.map(Body::from)).map_err(thrown)
    }
}
