//! The floor of a snapshot, for `npm run bench`: the steps that no design can leave out and nothing else. Reads what is
//! in use, BLAKE3, zstd at imager's level, AES-256-GCM, appends to one file; on two threads. No index but a set in memory,
//! no parity, no network, no fsync, and nothing that could be restored from.
//!
//! `floor IMAGE FOLDER`: appends to FOLDER/records and FOLDER/known, the hashes that the next run need not store.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Mutex;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use imager_native::base::error::{Error, Result};
use imager_native::base::limits::{BLOCK_BYTES, MIB};
use imager_native::disk::source::Source;
use imager_native::disk::volume::ReadAt;
use imager_native::map::cut::{Blocks, Cut, Piece};
use imager_native::map::scan::Scan;

const THREADS: usize = 2;
const BATCH_BYTES: usize = 4 * MIB;
/// As in src/jobs/snapshot/pipeline.ts.
const LEVEL: i32 = 1;

/// What the threads share. Each lock is held for a batch, not for a block.
struct Floor {
    source: Source,
    cut: Cut,
    walk: Mutex<Blocks>,
    known: Mutex<HashSet<[u8; 32]>>,
    out: Mutex<Out>,
}

struct Out {
    records: File,
    known: File,
    /// Counts the nonces.
    sealed: u64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, image, folder] = arguments.as_slice() else {
        return Err(Error::invalid("arguments", "floor IMAGE FOLDER"));
    };
    let source = Source::open(image)?;
    let cut = Scan::new(&source, false)?.cut();
    let append = |name: &str| {
        let path = Path::new(folder).join(name);
        OpenOptions::new().create(true).append(true).read(true).open(path).map_err(|e| Error::io(name, e))
    };
    let (records, mut known) = (append("records")?, append("known")?);
    let mut hashes = Vec::new();
    known.read_to_end(&mut hashes).map_err(|error| Error::io("known", error))?;
    let floor = Floor {
        source,
        cut,
        walk: Mutex::default(),
        known: Mutex::new(hashes.as_chunks().0.iter().copied().collect()),
        out: Mutex::new(Out { records, known, sealed: 0 }),
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| floor.work())).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })
}

impl Floor {
    fn work(&self) -> Result<()> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("32 bytes are a key"));
        let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|error| Error::io("zstd", error))?;
        let mut plain = vec![0; BATCH_BYTES];
        loop {
            let blocks = self.next_blocks();
            if blocks.is_empty() {
                return Ok(());
            }
            self.read(&blocks, &mut plain)?;
            let fresh = self.fresh(&blocks, &plain);
            let mut sealed = Vec::with_capacity(BATCH_BYTES);
            let mut hashes = Vec::with_capacity(fresh.len() * 32);
            let first = self.reserve(fresh.len());
            for (number, (hash, block)) in (first..).zip(&fresh) {
                let mut record = compressor.compress(block).map_err(|error| Error::io("zstd", error))?;
                let mut nonce = [0; 12];
                nonce[..8].copy_from_slice(&number.to_le_bytes());
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record).expect("a block is short enough");
                sealed.extend_from_slice(&record);
                hashes.extend_from_slice(hash);
            }
            let mut out = self.out.lock().expect("no thread panics");
            out.records.write_all(&sealed).map_err(|error| Error::io("records", error))?;
            out.known.write_all(&hashes).map_err(|error| Error::io("known", error))?;
        }
    }

    /// The pieces of the next few blocks.
    fn next_blocks(&self) -> Vec<Vec<Piece>> {
        let mut walk = self.walk.lock().expect("no thread panics");
        let mut blocks = Vec::new();
        let mut total = 0;
        while total + BLOCK_BYTES <= BATCH_BYTES {
            let mut pieces = Vec::new();
            if !walk.next(&self.cut, &mut pieces) {
                break;
            }
            total += length(&pieces);
            blocks.push(pieces);
        }
        blocks
    }

    /// All blocks, back to back; what is together on the disk too is read in one go.
    fn read(&self, blocks: &[Vec<Piece>], plain: &mut [u8]) -> Result<()> {
        let mut at = 0;
        let mut pieces = blocks.iter().flatten().peekable();
        while let Some(first) = pieces.next() {
            let mut length = first.length as usize;
            while let Some(next) = pieces.next_if(|next| next.disk == first.disk + length as u64) {
                length += next.length as usize;
            }
            self.source.read_at(first.disk, &mut plain[at..at + length])?;
            at += length;
        }
        Ok(())
    }

    /// The blocks that no one has stored yet, with their hashes.
    fn fresh<'a>(&self, blocks: &[Vec<Piece>], plain: &'a [u8]) -> Vec<([u8; 32], &'a [u8])> {
        let mut rest = plain;
        let mut hashed = Vec::with_capacity(blocks.len());
        for pieces in blocks {
            let (block, behind) = rest.split_at(length(pieces));
            rest = behind;
            if block.iter().any(|&byte| byte != 0) {
                hashed.push((*blake3::hash(block).as_bytes(), block));
            }
        }
        let mut known = self.known.lock().expect("no thread panics");
        hashed.retain(|(hash, _)| known.insert(*hash));
        hashed
    }

    fn reserve(&self, count: usize) -> u64 {
        let mut out = self.out.lock().expect("no thread panics");
        out.sealed += count as u64;
        out.sealed - count as u64
    }
}

fn length(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.length as usize).sum()
}
