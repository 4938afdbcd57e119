//! From names to directory entries. Only what hangs below the root, without a loop, is let through; what lies in
//! $Extend, the file system's own folder, is dropped with its files.

use super::doubts::RecordDoubts;
use super::files::Name;
use super::survey::{EXTEND_RECORD, FIRST_USER_RECORD, ROOT_RECORD};
use crate::fs::volume_map::{DirectoryEntry, File, Kind};

/// Where a folder hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ancestry {
    Unknown,
    /// Being followed now; met again, it is a loop.
    Followed,
    Root,
    Extend,
    Nowhere,
}

pub struct Tree {
    /// Sorted by (parent, name).
    pub entries: Vec<DirectoryEntry>,
    /// Without those below $Extend.
    pub files: Vec<File>,
}

/// `files` sorted by number, without the system's own but for the root.
pub fn build(files: Vec<File>, names: Vec<Name>, doubts: &mut RecordDoubts) -> Tree {
    let mut links: Vec<Link> = names.into_iter().filter_map(|name| link(&files, name, doubts)).collect();
    let ancestries = ancestries(&files, &mut links, doubts);

    let mut entries = Vec::with_capacity(links.len());
    // A file is the system's own if it has names and all of them lie in $Extend.
    let mut named = vec![false; files.len()];
    let mut extend = vec![false; files.len()];
    for Link { child, parent, name } in links {
        match parent.ancestry(&ancestries) {
            Ancestry::Root => {
                named[child] = true;
                entries.push(DirectoryEntry { parent: parent.number, name, child: files[child].number });
            }
            Ancestry::Extend => extend[child] = true,
            _ => doubts.record(files[child].number, "its folder does not hang below the root"),
        }
    }
    let mut kept = Vec::with_capacity(files.len());
    for (index, file) in files.into_iter().enumerate() {
        if file.number == ROOT_RECORD || named[index] || !extend[index] {
            kept.push(file);
        }
    }
    entries.sort_unstable_by(|a, b| (a.parent, &a.name, a.child).cmp(&(b.parent, &b.name, b.child)));
    entries.dedup_by(|next, kept| {
        let same = (next.parent, &next.name) == (kept.parent, &kept.name);
        if same {
            doubts.record(next.child, "another file of its folder has the same name");
        }
        same
    });
    Tree { entries, files: kept }
}

/// A name whose parent was found: `child` is an index in `files`.
struct Link {
    child: usize,
    parent: Parent,
    name: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Parent {
    number: u64,
    /// None: $Extend.
    index: Option<usize>,
}

impl Parent {
    fn ancestry(&self, ancestries: &[Ancestry]) -> Ancestry {
        self.index.map_or(Ancestry::Extend, |index| ancestries[index])
    }
}

fn link(files: &[File], name: Name, doubts: &mut RecordDoubts) -> Option<Link> {
    let Name { child, parent, name } = name;
    if child == ROOT_RECORD {
        // The root is its own parent, by the name ".".
        return None;
    }
    let find = |number: u64| files.binary_search_by_key(&number, |file| file.number).ok();
    let index = find(child)?;
    if parent.number == EXTEND_RECORD {
        return Some(Link { child: index, parent: Parent { number: EXTEND_RECORD, index: None }, name });
    }
    let doubt = match find(parent.number).map(|index| &files[index]) {
        None if parent.number < FIRST_USER_RECORD => Some("its folder is one of the file system's own"),
        None => Some("its folder is missing"),
        Some(folder) if folder.kind != Kind::Directory => Some("its folder is not a folder"),
        // As in ntfs-3g, a reference with sequence 0 fits any; so does a root that had to be invented.
        Some(folder) if ![0, folder.generation].contains(&u32::from(parent.sequence)) && folder.generation != 0 => {
            Some("its folder was replaced by another")
        }
        Some(_) if name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." => {
            Some("a name that no path can hold")
        }
        Some(_) => None,
    };
    if let Some(reason) = doubt {
        doubts.record(child, reason);
        return None;
    }
    Some(Link { child: index, parent: Parent { number: parent.number, index: find(parent.number) }, name })
}

/// Finds where each folder hangs, in one pass over all. Leaves each folder only one name: with two, the tree could loop.
fn ancestries(files: &[File], links: &mut Vec<Link>, doubts: &mut RecordDoubts) -> Vec<Ancestry> {
    let mut parents: Vec<Option<Parent>> = vec![None; files.len()];
    links.retain(|link| {
        let file = &files[link.child];
        if file.kind != Kind::Directory {
            return true;
        }
        let first = parents[link.child].is_none();
        if first {
            parents[link.child] = Some(link.parent);
        } else {
            doubts.record(file.number, "a folder with more than one name; the first was kept");
        }
        first
    });
    let mut ancestries: Vec<Ancestry> = files.iter().map(|_| Ancestry::Unknown).collect();
    let mut way = Vec::new();
    for start in 0..files.len() {
        let mut at = start;
        let ancestry = loop {
            match ancestries[at] {
                Ancestry::Unknown if files[at].number == ROOT_RECORD => break Ancestry::Root,
                Ancestry::Unknown => {}
                Ancestry::Followed => break Ancestry::Nowhere,
                known => break known,
            }
            ancestries[at] = Ancestry::Followed;
            way.push(at);
            match parents[at] {
                None => break Ancestry::Nowhere,
                Some(Parent { index: None, .. }) => break Ancestry::Extend,
                Some(Parent { index: Some(index), .. }) => at = index,
            }
        };
        // `at` may be the root itself, which is on no way.
        if files[at].number == ROOT_RECORD {
            ancestries[at] = Ancestry::Root;
        }
        way.drain(..).for_each(|index| ancestries[index] = ancestry);
    }
    ancestries
}

#[cfg(test)]
mod tests {
    use super::super::record::Reference;
    use super::*;
    use crate::fs::volume_map::Timestamp;

    fn file(number: u64, kind: Kind) -> File {
        let at = Timestamp::default();
        let (mode, uid, gid, links, device) = (0o777, 0, 0, 1, 0);
        let (xattrs, streams) = (Vec::new(), Vec::new());
        File {
            number,
            generation: 1,
            kind,
            mode,
            uid,
            gid,
            links,
            device,
            modified: at,
            changed: at,
            created: at,
            xattrs,
            streams,
            opaque: Vec::new(),
        }
    }

    fn name(child: u64, parent: u64, sequence: u16, name: &str) -> Name {
        Name { child, parent: Reference { number: parent, sequence }, name: name.into() }
    }

    fn run(files: &[(u64, Kind)], names: Vec<Name>) -> (Vec<(u64, String, u64)>, Vec<u64>, usize) {
        let mut doubts = RecordDoubts::default();
        let tree = build(files.iter().map(|&(number, kind)| file(number, kind)).collect(), names, &mut doubts);
        let entries =
            tree.entries.into_iter().map(|e| (e.parent, String::from_utf8(e.name).unwrap(), e.child)).collect();
        (entries, tree.files.iter().map(|file| file.number).collect(), doubts.into_sentences().len())
    }

    #[test]
    fn loops_and_second_names_of_folders_are_left_out() {
        use Kind::Directory as D;
        let files = [(5, D), (30, D), (31, D), (32, D), (33, Kind::File), (34, D)];
        let names = vec![
            name(5, 5, 1, "."),
            name(30, 31, 1, "a"),
            name(31, 30, 1, "b"),
            name(33, 31, 1, "in the loop"),
            name(32, 5, 1, "c"),
            name(34, 32, 1, "d"),
            name(32, 34, 1, "back"),
        ];
        let (entries, files, doubts) = run(&files, names);
        assert_eq!(entries, [(5, "c".into(), 32), (32, "d".into(), 34)]);
        assert_eq!(files, [5, 30, 31, 32, 33, 34]);
        assert_eq!(doubts, 2);
    }

    #[test]
    fn extend_is_dropped_but_not_what_also_lies_elsewhere() {
        use Kind::Directory as D;
        let files = [(5, D), (24, Kind::File), (25, D), (26, Kind::File), (27, Kind::File)];
        let names = vec![
            name(24, 11, 1, "$Quota"),
            name(25, 11, 11, "$RmMetadata"),
            name(26, 25, 1, "$Repair"),
            name(27, 25, 1, "linked"),
            name(27, 5, 1, "linked"),
        ];
        let (entries, files, doubts) = run(&files, names);
        assert_eq!(entries, [(5, "linked".into(), 27)]);
        assert_eq!((files, doubts), (vec![5, 27], 0));
    }

    #[test]
    fn doubtful_names_are_left_out_and_their_files_kept() {
        let files = [(5, Kind::Directory), (30, Kind::File), (31, Kind::File)];
        let names = vec![
            name(30, 5, 2, "stale"),
            name(30, 99, 1, "lost"),
            name(30, 31, 1, "below a file"),
            name(30, 8, 1, "system"),
            name(30, 5, 1, "a/b"),
            name(30, 5, 1, ".."),
            name(30, 5, 1, "twice"),
            name(31, 5, 0, "twice"),
        ];
        let (entries, files, doubts) = run(&files, names);
        assert_eq!(entries, [(5, "twice".into(), 30)]);
        assert_eq!((files, doubts), (vec![5, 30, 31], 6));
    }
}
