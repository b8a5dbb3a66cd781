//! Arenas in a directory: they survive all their processes, and may be larger than memory.

use std::path::{Path, PathBuf};

use onecopy_os::{FileAccess, MemoryFile, NewDirectory, PrivateDirectory, crash_point};

use super::{Arena, ArenaError, DATA_FILES, Data, Geometry, Meta, Options, Place, Relaxed};
use crate::layout::{DATA, META};

impl Arena {
    /// Makes an arena in a directory at `path`; none where something else has appeared there meanwhile.
    pub(crate) fn make_at(path: &Path, options: Options) -> Result<Option<&'static Self>, ArenaError> {
        let new = NewDirectory::make(path)?;
        let directory = new.directory();
        let limit = match options.limit {
            Some(limit) => limit,
            None => directory.space()?.free / 5 * 4,
        };
        let geometry = Geometry::on_disk(limit);
        let full = |error| match (error, directory.space()) {
            (ArenaError::Os(error), Ok(bound)) if error.is_full_disk() => {
                ArenaError::out_of_memory(geometry.metadata_size(), bound)
            }
            (error, _) => Self::no_room_to_map(error, options.limit),
        };
        let mut arena = Self::lay_out_in(Place::Directory(directory), geometry, limit, options.warm).map_err(full)?;
        crash_point!("make-at.laid-out");
        arena.meta.settle()?;
        let arena = Box::new(arena);
        arena.take_slot()?;
        arena.heap()?.format()?;
        arena.meta.seal();
        arena.flush()?;
        crash_point!("make-at.complete");
        // From here on others may join it; they find a member that lives.
        Ok(new.publish()?.then(|| &*Box::leak(arena)))
    }

    /// Opens the arena in a directory, whose metadata file is open already, and whose lock the caller has.
    pub(crate) fn open_in(directory: &PrivateDirectory, meta: MemoryFile) -> Result<&'static Self, ArenaError> {
        let meta = Meta::adopt(meta)?;
        let [a, b] = Self::data_files(directory, FileAccess::ReadWrite)?;
        let data = Data::adopt([a, b], meta.geometry())?;
        let mut arena = Box::new(Self::over(meta, data));
        if arena.roll().is_deserted() {
            arena.meta.settle()?;
            crash_point!("open-in.settled");
        }
        arena.come_in()?;
        Ok(Box::leak(arena))
    }

    fn data_files(directory: &PrivateDirectory, access: FileAccess) -> Result<[MemoryFile; DATA_FILES], ArenaError> {
        let [a, b] = DATA.map(|part| directory.open_file(part, access));
        Ok([a?, b?])
    }

    /// Becomes a member of an arena on disk; the first one puts it in order.
    pub(crate) fn come_in(&self) -> Result<(), ArenaError> {
        if self.is_member() {
            return Ok(());
        }
        if !self.roll().is_deserted() {
            self.take_slot()?;
            return self.heap()?.sweep().map(drop);
        }
        // As after a death inside the heap: nothing but the truth is believed.
        self.meta.superblock().disorder.store(1, Relaxed);
        self.sweep_as_janitor()?;
        crash_point!("come-in.swept");
        self.take_slot()?;
        // Those who sent them are dead, and nobody is left who could receive them.
        self.reap_in_flight()?;
        self.reap()?;
        crash_point!("come-in.reaped");
        self.trim(0)?;
        let heap = self.heap()?;
        heap.reserve_used()?;
        heap.verify()
    }

    /// The metadata file of the arena in a directory.
    pub(crate) fn meta_file(directory: &PrivateDirectory, access: FileAccess) -> Result<MemoryFile, ArenaError> {
        Ok(directory.open_file(META, access)?)
    }

    /// Whether the files that this process has mapped are still as they were: nothing else tells that one was truncated, but
    /// for a signal when it is touched.
    pub(crate) fn check_files(&self, directory: &PrivateDirectory, meta: MemoryFile) -> Result<(), ArenaError> {
        let found = Meta::look(meta)?;
        let geometry = self.meta.geometry();
        if found.geometry() != geometry || found.id() != self.id() {
            return Err(ArenaError::Foreign("its head has changed since this process opened it".into()));
        }
        let files = Self::data_files(directory, FileAccess::ReadWrite)?;
        if !self.data.is_in(&files) {
            return Err(ArenaError::Foreign("a data file has been replaced since this process opened it".into()));
        }
        Data::check_sizes(&files, geometry)
    }

    /// Whether its metadata is in this file.
    pub(crate) fn is_in(&self, file: &MemoryFile) -> bool {
        self.meta.file().identity() == file.identity()
    }

    /// The directory of an arena on disk.
    pub fn path(&self) -> Option<PathBuf> {
        self.meta.file().path()?.parent().map(Path::to_owned)
    }

    /// Waits until all that has been written to an arena on disk so far is there: it survives a power loss, as long as it
    /// is not changed again. Nothing for an arena in memory.
    pub fn flush(&self) -> Result<(), ArenaError> {
        if self.meta.file().is_on_disk() {
            // First what the tables speak of.
            self.data.sync()?;
            self.meta.file().sync()?;
        }
        Ok(())
    }
}
