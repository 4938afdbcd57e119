//! What imager asks of a file system. Adding one is a folder with an `impl` of this, and a line in `FILE_SYSTEMS`
//! (mod.rs); that nothing here has a harmless default is on purpose.

use super::volume_map::VolumeMap;
use crate::base::error::Result;
use crate::disk::volume::Volume;

pub trait FileSystem: Sync {
    /// What a volume is called whose map is refused: "ext".
    fn name(&self) -> &'static str;

    /// What its maps may call themselves, as `blkid` does: "ext2", "ext3", "ext4".
    fn names(&self) -> &'static [&'static str];

    /// Whether its magic is there; `map` says whether it can be read.
    fn detect(&self, volume: Volume) -> Result<bool>;

    /// Whether enough is left of it to try, on a volume where nothing that is known begins.
    fn detect_remains(&self, _volume: Volume) -> Result<bool> {
        Ok(false)
    }

    /// The whole map, or why there is none.
    fn map(&self, volume: Volume) -> Result<VolumeMap>;

    /// Whether page and hibernation files in the root folder of such a map are Windows' own, which makes them anew
    /// when it starts.
    fn has_windows_files(&self, map: &VolumeMap) -> bool;

    /// Whether a file that changed always has another time of change: fine enough, and nobody sets it back.
    fn has_trustworthy_times(&self) -> bool;

    /// The types under which Linux mounts it (/proc/mounts), if its frozen state was compared with what it is restored
    /// to. Empty: it is never frozen.
    fn frozen_as(&self) -> &'static [&'static str];
}
