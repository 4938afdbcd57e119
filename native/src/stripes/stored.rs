//! A shard as the disk has it: read back from its file, not from what came.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::direct::{DIRECT_BYTES, DirectReader, aligned};
use crate::base::error::{Error, Result};
use crate::base::limits::{SHARD_BYTES, SLICE_BYTES};
use crate::formats::descriptor::{Descriptor, WIDTH};
use crate::formats::names::RunName;
use crate::formats::shard::{self, BODY_OFFSET, Header};

/// Bytes of a shard that are in memory at once, a whole number of slices.
pub const PIECE_BYTES: usize = 4 * SLICE_BYTES;

/// Room for a piece, wherever the allocator puts it: `aligned` gives it.
pub fn room() -> Vec<u8> {
    vec![0; PIECE_BYTES + DIRECT_BYTES]
}

/// Checks the whole file, as `shard::inspect`. Throws `Io`, and what a shard is refused for.
pub fn inspect(path: &Path) -> Result<Header> {
    let mut memory = room();
    let pages = aligned(&mut memory);
    let mut file = Stored::open(path)?;
    let header = shard::read_header_of(file.head(pages)?, file.length)?;
    file.slices(pages, |index, slice| header.check_slice(index, slice))?;
    Ok(header)
}

/// What came of a shard, before anybody knows whether its slices are right.
pub struct Came {
    pub header: Header,
    head: [u8; BODY_OFFSET],
    /// CRC-32C of each slice: only to tell what came damaged from what the disk did not keep.
    sums: Vec<u32>,
}

/// Why a file is not the shard that its header says.
#[derive(Debug)]
pub enum Unsound {
    /// What came was damaged.
    Came(Error),
    /// The disk gives back something else than was written.
    Stored(Error),
}

impl From<Error> for Unsound {
    fn from(error: Error) -> Self {
        Self::Stored(error)
    }
}

impl Came {
    /// Of a shard of `file_bytes`. Throws what its header is refused for.
    pub fn new(head: &[u8], file_bytes: usize) -> Result<Self> {
        let header = shard::read_header_of(head, file_bytes)?;
        let head = head.first_chunk().copied().ok_or_else(|| Error::corrupt("shard", 0, "its header was cut"))?;
        Ok(Self { header, head, sums: Vec::new() })
    }

    /// The next slices, whole ones but for the last of all.
    pub fn add(&mut self, piece: &[u8]) {
        self.sums.extend(piece.chunks(SLICE_BYTES).map(crc32c::crc32c));
    }

    /// Checks the file into which it was written, and which is synced. `pages` has room for a piece.
    pub fn read_back(&self, path: &Path, pages: &mut [u8]) -> std::result::Result<(), Unsound> {
        let mut file = Stored::open(path)?;
        if file.head(pages)? != self.head || file.length != BODY_OFFSET + self.header.body_bytes {
            return Err(Error::corrupt("shard", 0, "its header or its length is another one"))?;
        }
        file.slices(pages, |index, slice| {
            self.header.check_slice(index, slice).map_err(|error| match self.sums.get(index) {
                Some(&sum) if sum == crc32c::crc32c(slice) => Unsound::Came(error),
                _ => Unsound::Stored(error),
            })
        })
    }
}

/// A file as the disk has it.
struct Stored<'a> {
    path: &'a Path,
    file: DirectReader,
    length: usize,
}

impl<'a> Stored<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let opened = DirectReader::open(path).and_then(|file| Ok((file.length()?, file)));
        let (length, file) = opened.map_err(|error| reading(path, error))?;
        if length > (BODY_OFFSET + SHARD_BYTES) as u64 {
            return Err(Error::corrupt("shard", length, "it is longer than any shard"));
        }
        Ok(Self { path, file, length: length as usize })
    }

    /// What stands before the body; less where the file ends before.
    fn head<'b>(&mut self, pages: &'b mut [u8]) -> Result<&'b [u8]> {
        let head = &mut pages[..BODY_OFFSET];
        let filled = self.file.read(head, 0).map_err(|error| reading(self.path, error))?;
        Ok(&head[..filled])
    }

    /// Has each slice of the body checked, in order.
    fn slices<E: From<Error>>(
        &mut self,
        pages: &mut [u8],
        mut check: impl FnMut(usize, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        for (nth, at) in (BODY_OFFSET..self.length).step_by(PIECE_BYTES).enumerate() {
            let want = PIECE_BYTES.min(self.length - at);
            let piece = &mut pages[..want.next_multiple_of(DIRECT_BYTES)];
            let filled = self.file.read(piece, at as u64).map_err(|error| reading(self.path, error))?;
            if filled < want {
                return Err(reading(self.path, std::io::ErrorKind::UnexpectedEof.into()).into());
            }
            for (index, slice) in piece[..want].chunks(SLICE_BYTES).enumerate() {
                check(nth * (PIECE_BYTES / SLICE_BYTES) + index, slice)?;
            }
        }
        Ok(())
    }
}

fn reading(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("reading back {}", path.display()), error)
}

/// A shard of another stripe than the one of this identity under the same name, where the folder holds one: a twin of the writer
/// sent it. One whose header cannot be read says nothing. Looks for the names that there can be, not through the folder.
pub fn find_other(folder: &Path, run: &RunName, number: u32, identity: &[u8; 32]) -> Option<[u8; 16]> {
    let mut ids = (0..WIDTH as u8).map(|index| run.shard_id(number, index));
    ids.find(|id| read_stripe(folder, id).is_some_and(|held| held.identity() != *identity))
}

fn read_stripe(folder: &Path, id: &[u8; 16]) -> Option<Descriptor> {
    stripe_of(&path_of(folder, id)).ok()
}

/// Where the folder of a peer's store has a shard, if it holds it.
pub fn path_of(folder: &Path, id: &[u8; 16]) -> PathBuf {
    let name = format!("{:032x}", u128::from_be_bytes(*id));
    folder.join(&name[..2]).join(format!("{name}.shard"))
}

/// Of which stripe the shard in this file is, by its header alone.
fn stripe_of(path: &Path) -> Result<Descriptor> {
    let mut header = [0; BODY_OFFSET];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).map_err(|error| reading(path, error))?;
    shard::read_header(&header).map(|header| header.stripe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::stripes::erasure::Scheme;
    use crate::stripes::stripe::{Stripe, encode};

    fn example(content: u8) -> Stripe {
        let writer = Secret::new([1; 32]);
        let run = RunName { writer: writer.signing_key(), run: [2; 8] };
        let (fleet, trailer, roots) = ([0; 16], [0; 32], vec![]);
        let template = Descriptor { fleet, run, number: 7, k: 0, m: 0, pack_bytes: 0, trailer, roots };
        encode(vec![content; 100_000], Scheme::new(2, 1).unwrap(), &template, &writer).unwrap()
    }

    #[test]
    fn a_shard_is_read_back_from_its_file_and_another_stripe_of_its_name_is_found() {
        let folder = std::env::temp_dir().join(format!("imager-stored-{}", std::process::id()));
        let (held, twin) = (example(1), example(2));
        let file = held.file(2).unwrap().concat();
        let header = shard::inspect(&file).unwrap();
        let name = format!("{:032x}", u128::from_be_bytes(header.id()));
        let path = folder.join(&name[..2]).join(format!("{name}.shard"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &file).unwrap();
        assert_eq!(inspect(&path).unwrap(), header);
        let find = |stripe: &Descriptor| find_other(&folder, &stripe.run, stripe.number, &stripe.identity());
        assert_eq!(find(&header.stripe), None);
        let other = shard::inspect(&twin.file(0).unwrap().concat()).unwrap();
        assert_eq!(find(&other.stripe), Some(header.id()), "of another index");
        std::fs::write(&path, &file[..file.len() - 1]).unwrap();
        assert!(inspect(&path).is_err(), "a file that was cut");
        std::fs::write(&path, &file[..100]).unwrap();
        assert_eq!(find(&other.stripe), None, "what cannot be read is no twin");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_came_damaged_is_told_from_what_the_disk_did_not_keep() {
        let path = std::env::temp_dir().join(format!("imager-read-back-{}", std::process::id()));
        let file = example(1).file(2).unwrap().concat();
        let mut memory = room();
        let pages = aligned(&mut memory);
        let mut check = |came: &[u8], stored: &[u8]| {
            std::fs::write(&path, stored).unwrap();
            let mut arrived = Came::new(&came[..BODY_OFFSET], came.len()).unwrap();
            arrived.add(&came[BODY_OFFSET..]);
            arrived.read_back(&path, pages)
        };
        assert!(check(&file, &file).is_ok());
        for at in [0, 100, BODY_OFFSET - 1, BODY_OFFSET, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(matches!(check(&file, &changed), Err(Unsound::Stored(_))), "byte {at}");
            if at >= BODY_OFFSET {
                assert!(matches!(check(&changed, &changed), Err(Unsound::Came(_))), "byte {at}");
                assert!(matches!(check(&changed, &file), Ok(())), "what is stored counts");
            }
        }
        for cut in [0, 100, BODY_OFFSET, file.len() - 1] {
            assert!(matches!(check(&file, &file[..cut]), Err(Unsound::Stored(_))), "cut at {cut}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            Came::new(&file[..BODY_OFFSET], file.len()).unwrap().read_back(&path, pages),
            Err(Unsound::Stored(_))
        ));
    }
}
