//! A shard as the disk has it: read back from its file, not from what came.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::base::direct::forget;
use crate::base::error::{Error, Result};
use crate::base::limits::SHARD_BYTES;
use crate::base::pool::{self, Recycled};
use crate::formats::descriptor::{Descriptor, WIDTH};
use crate::formats::shard::{self, BODY_OFFSET, Header};

/// Checks the whole file, as `shard::inspect`. What of a synced file lies in the cache is let go of before, so that the disk is
/// asked, and after. Throws `Io`, and what a shard is refused for.
pub fn inspect(path: &Path) -> Result<Header> {
    let io = |error| Error::io(format!("reading back {}", path.display()), error);
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > (BODY_OFFSET + SHARD_BYTES) as u64 {
        return Err(Error::corrupt("shard", length, "it is longer than any shard"));
    }
    forget(&file);
    let mut bytes = Recycled(pool::take_filled(length as usize));
    file.read_exact(&mut bytes.0).map_err(io)?;
    forget(&file);
    shard::inspect(&bytes.0)
}

/// A shard of another stripe of the same name, where the folder holds one: a twin of the writer sent it. One whose header cannot
/// be read says nothing. Looks for the names that there can be, not through the folder.
pub fn find_other(folder: &Path, stripe: &Descriptor) -> Option<[u8; 16]> {
    let identity = stripe.identity();
    let mut ids = (0..WIDTH as u8).map(|index| stripe.run.shard_id(stripe.number, index));
    ids.find(|id| read_stripe(folder, id).is_some_and(|held| held.identity() != identity))
}

fn read_stripe(folder: &Path, id: &[u8; 16]) -> Option<Descriptor> {
    let name = format!("{:032x}", u128::from_be_bytes(*id));
    stripe_of(&folder.join(&name[..2]).join(format!("{name}.shard"))).ok()
}

/// Of which stripe the shard in this file is, by its header alone.
pub fn stripe_of(path: &Path) -> Result<Descriptor> {
    let mut header = [0; BODY_OFFSET];
    let io = |error| Error::io(format!("reading back {}", path.display()), error);
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).map_err(io)?;
    shard::read_header(&header).map(|header| header.stripe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::formats::names::RunName;
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
        assert_eq!(find_other(&folder, &header.stripe), None);
        let other = shard::inspect(&twin.file(0).unwrap().concat()).unwrap();
        assert_eq!(find_other(&folder, &other.stripe), Some(header.id()), "of another index");
        std::fs::write(&path, &file[..file.len() - 1]).unwrap();
        assert!(inspect(&path).is_err(), "a file that was cut");
        std::fs::write(&path, &file[..100]).unwrap();
        assert_eq!(find_other(&folder, &other.stripe), None, "what cannot be read is no twin");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
