//! A range of a pack from whole shard files, of which only those count whose every slice and root are right.

use crate::base::error::Result;
use crate::formats::shard;
use crate::retrieve::routes::{Layout, Shard, Span};
use crate::stripes::erasure::{Scheme, recover};

/// What whole files gave.
pub struct Sound {
    /// Nothing where fewer than k files are right.
    pub bytes: Option<Vec<u8>>,
    /// Of all shards, the indexes of those that are right.
    pub right: Vec<u32>,
    /// Came, and are not what the catalog names.
    pub damaged: Vec<Shard>,
}

/// `files`: of each of the layout's shards, its whole file, if it came. Throws `Corrupt` for bytes outside of the pack.
pub fn read(layout: &Layout, start: u32, end: u32, files: &[Option<&[u8]>]) -> Result<Sound> {
    let spans = layout.spans(start, end)?;
    let scheme = Scheme::new(layout.k, layout.m)?;
    let mut bodies: Vec<Option<&[u8]>> = vec![None; (layout.k + layout.m) as usize];
    let mut damaged = Vec::new();
    for (shard, file) in layout.shards.iter().zip(files) {
        let Some(file) = file else { continue };
        match (body(layout, shard, file), bodies.get_mut(shard.index as usize)) {
            (Some(body), Some(slot)) => *slot = Some(body),
            _ => damaged.push(*shard),
        }
    }
    let right: Vec<u32> = (0..).zip(&bodies).filter(|(_, body)| body.is_some()).map(|(index, _)| index).collect();
    if right.len() < layout.k as usize {
        return Ok(Sound { bytes: None, right, damaged });
    }
    let missing: Vec<usize> = spans.iter().map(|span| span.index as usize).filter(|&at| bodies[at].is_none()).collect();
    let rebuilt = if missing.is_empty() { vec![] } else { recover(scheme, &bodies, &missing)? };
    let body_of = |index: usize| match missing.iter().position(|&at| at == index) {
        Some(at) => rebuilt[at].as_slice(),
        None => bodies[index].unwrap_or_default(),
    };
    let part = |span: &Span| &body_of(span.index as usize)[span.start as usize..span.end as usize];
    Ok(Sound { bytes: Some(spans.iter().flat_map(part).copied().collect()), right, damaged })
}

fn body<'a>(layout: &Layout, shard: &Shard, file: &'a [u8]) -> Option<&'a [u8]> {
    let header = shard::inspect(file).ok()?;
    let body = file.get(shard::BODY_OFFSET..)?;
    let named = header.shard == shard.id && header.root == shard.root && body.len() == layout.body_bytes() as usize;
    named.then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::formats::shard::SealedHeader;
    use crate::stripes::stripe;

    /// The files of a 2+2 stripe of 1000 bytes, and its layout.
    fn stripe() -> (Layout, Vec<Vec<u8>>, Vec<u8>) {
        let pack: Vec<u8> = (0..1000u32).map(|at| (at * 7 % 251) as u8).collect();
        let sealed_header =
            SealedHeader { fleet: [1; 16], stripe: 7, index: 0, k: 2, m: 2, pack_bytes: 1000, root: [0; 32] };
        let ids: Vec<[u8; 16]> = (0..4).map(|index| [index; 16]).collect();
        let scheme = Scheme::new(2, 2).unwrap();
        let encoded = stripe::encode(pack.clone(), scheme, &ids, &sealed_header, &Secret::new([2; 32])).unwrap();
        let shard = |index: usize| Shard {
            index: index as u32,
            id: ids[index],
            host: [index as u8; 32],
            root: encoded.root(index).unwrap(),
        };
        let layout = Layout { k: 2, m: 2, pack_bytes: 1000, shards: (0..4).map(shard).collect() };
        let files = (0..4).map(|index| encoded.file(index).unwrap().concat()).collect();
        (layout, files, pack)
    }

    #[test]
    fn what_is_right_gives_the_range_and_what_is_not_is_named() {
        let (layout, mut files, pack) = stripe();
        *files[0].last_mut().unwrap() ^= 1;
        files[2].truncate(4000);
        let given = |absent: &[usize]| -> Vec<Option<&[u8]>> {
            (0..4).map(|at| (!absent.contains(&at)).then_some(files[at].as_slice())).collect()
        };
        let sound = read(&layout, 400, 900, &given(&[])).unwrap();
        assert_eq!((sound.bytes.as_deref(), sound.right), (Some(&pack[400..900]), vec![1, 3]));
        assert_eq!(sound.damaged.iter().map(|shard| shard.index).collect::<Vec<_>>(), [0, 2]);
        let too_few = read(&layout, 400, 900, &given(&[1])).unwrap();
        assert_eq!((too_few.bytes, too_few.right), (None, vec![3]));
        assert!(read(&layout, 400, 1001, &given(&[])).is_err());
    }

    #[test]
    fn a_sound_file_of_another_shard_counts_for_nothing() {
        let (layout, files, _) = stripe();
        let swapped: Vec<Option<&[u8]>> = [1, 0, 2, 2].iter().map(|&at| Some(files[at].as_slice())).collect();
        let sound = read(&layout, 0, 10, &swapped).unwrap();
        assert_eq!((sound.bytes, sound.right, sound.damaged.len()), (None, vec![2], 3));
    }
}
