//! What maps and lists have in common: a body that one word names, a lock for those who write, and a lock for programs.
//!
//! A **body** is a block with tables and an append-only log of records. Readers take no lock: what they find is either
//! published whole or not at all, and never changes. Writers take turns. When a body is full, or has to begin anew, a
//! writer makes another one and stores its name in one word. Design: `docs/design/containers.md`.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use onecopy_arena::ArenaError;
use onecopy_sync::{
    Acquired, Death, Guard, Held, OnOwnerDied, Owners, Patience, RLock, Refused, RobustMutex, Stopped, this_thread,
};

pub(crate) mod body;
pub(crate) mod record;
mod repair;
pub(crate) mod view;

pub use record::{Key, Record};

use crate::door::{AtomicU64, Block, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Viewer, crash_point};
use crate::queue::Enclosed;
use body::{Body, id_of};
use record::{Draft, TooLong};
use view::{Geometry, Kind, View};

/// Readers try so often to find the blocks of a value before they ask those who write to wait.
const TRIES: u32 = 8;

/// The shared part of a container. Zeros are none yet: [`Open::begin`] makes them one.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Container {
    /// Readers read only this line, which seldom changes.
    current: Current,
    /// Seed of the hashes.
    seed: AtomicU64,
    writers: Apart<RobustMutex>,
    /// Held by who wants all others to wait.
    program: Apart<RLock>,
}

#[cfg(all(test, loom))]
impl Container {
    /// What zeros are in shared memory.
    pub(crate) fn zeros() -> Self {
        let (writers, program) = (Apart(RobustMutex::new()), Apart(RLock::new()));
        Self { current: Current::new(0), seed: AtomicU64::new(0), writers, program }
    }
}

/// Names the body.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Current(AtomicU64);

impl Current {
    /// One that names this body, for models.
    #[cfg(all(test, loom))]
    pub(crate) fn new(name: u64) -> Self {
        Self(AtomicU64::new(name))
    }

    #[inline]
    pub(crate) fn load(&self) -> u64 {
        // SYNC POINT: acquire pairs with the release in `store`: whoever reads the name reads the body as it was filled.
        self.0.load(Acquire)
    }

    /// With this store the container is what the body says.
    pub(crate) fn store(&self, name: u64) {
        self.0.store(name, Release);
    }
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Apart<T>(T);

/// What a process remembers of a container.
#[derive(Debug, Default)]
pub struct Local {
    body: ArcSwapOption<Body>,
}

#[cfg(all(test, loom))]
impl Local {
    /// Lets go of the body that was used last.
    pub(crate) fn forget(&self) {
        self.body.store(None);
    }
}

/// Why an operation on a container was not done. The container stays usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// Somebody holds the lock of the container: [`Open::wait`] waits for the end of that.
    #[error("another process or thread holds the lock of the container")]
    Locked,
    /// There is no such item.
    #[error("index {index} is out of range for a list of {len}")]
    OutOfRange {
        /// The index.
        index: usize,
        /// The length of the list.
        len: usize,
    },
    /// More than a container can hold, or one of its values.
    #[error("too large for a container: a value is at most 512 MiB and refers to at most 16,384 arrays")]
    TooLarge,
    /// Of the arena.
    #[error(transparent)]
    Arena(#[from] ArenaError),
}

/// Contradictions in what lies in shared memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Damaged(&'static str);

pub(crate) fn damaged(what: &'static str) -> Damaged {
    Damaged(what)
}

impl From<Damaged> for ArenaError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged.0.into())
    }
}

impl From<Damaged> for ContainerError {
    fn from(damaged: Damaged) -> Self {
        Self::Arena(damaged.into())
    }
}

impl From<TooLong> for ContainerError {
    fn from(_: TooLong) -> Self {
        Self::TooLarge
    }
}

/// A value on its way into a container.
#[derive(Debug)]
pub struct Item<'a> {
    draft: Draft,
    /// What the value refers to. Parcels of it are made when the container is locked, so that a death before leaves
    /// none.
    blocks: &'a [Block],
}

impl<'a> Item<'a> {
    /// A value of which `tag` says what it is, under a key or without one.
    pub fn new(key: Option<&Key<'_>>, tag: u8, value: &[u8], blocks: &'a [Block]) -> Result<Self, ContainerError> {
        Ok(Self { draft: Draft::new(key, tag, value, blocks.len())?, blocks })
    }

    pub(crate) fn draft_mut(&mut self) -> &mut Draft {
        &mut self.draft
    }

    pub(crate) fn words(&self) -> usize {
        self.draft.words().len().next_multiple_of(view::UNIT)
    }
}

/// A value that was taken out, or looked at: the record stays as it is as long as this.
#[derive(Debug)]
pub struct Picked {
    body: Arc<Body>,
    at: u64,
    blocks: Vec<Block>,
}

impl Picked {
    /// The record.
    pub fn record(&self) -> Result<Record<'_>, ContainerError> {
        Ok(self.body.view().record(self.at)?)
    }

    /// The blocks that it refers to.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }
}

/// A container as a process uses it.
#[derive(Debug, Clone, Copy)]
pub struct Open<'a> {
    container: &'a Container,
    block: &'a Block,
    local: &'a Local,
    kind: Kind,
}

pub(crate) type Loaded = arc_swap::Guard<Option<Arc<Body>>>;

impl<'a> Open<'a> {
    #[inline]
    pub(crate) fn new(container: &'a Container, block: &'a Block, local: &'a Local, kind: Kind) -> Self {
        Self { container, block, local, kind }
    }

    /// Makes zeros an empty container. Nobody else has it yet.
    pub(crate) fn begin(&self, seed: u64, geometry: Geometry) -> Result<(), ContainerError> {
        let body = Body::make(self.block, self.kind, geometry)?;
        self.container.seed.store(seed, Relaxed);
        self.container.current.store(body.name());
        self.local.body.store(Some(Arc::new(body)));
        Ok(())
    }

    #[inline]
    pub(crate) fn seed(&self) -> u64 {
        self.container.seed.load(Relaxed)
    }

    // --- the body ---

    /// The body of this moment.
    #[inline]
    pub(crate) fn body(&self) -> Result<Loaded, ArenaError> {
        let current = self.container.current.load();
        let loaded = self.local.body.load();
        if loaded.as_ref().is_some_and(|body| body.name() == current) { Ok(loaded) } else { self.open(current) }
    }

    #[cold]
    fn open(&self, mut current: u64) -> Result<Loaded, ArenaError> {
        loop {
            match self.block.arena().get(id_of(current)) {
                Ok(block) => {
                    self.local.body.store(Some(Arc::new(Body::over(block, self.kind)?)));
                    // By another thread it may have been replaced meanwhile, by a body that is not older.
                    return Ok(self.local.body.load());
                }
                // Another has taken its place, unless the name is wrong.
                Err(ArenaError::Stale { .. }) if self.container.current.load() != current => {
                    current = self.container.current.load();
                }
                Err(ArenaError::Stale { .. }) => return Err(damaged("a container has lost its body").into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The new body takes the place of the old one.
    pub(crate) fn swing(&self, old: &Body, new: Body) -> Result<Arc<Body>, ContainerError> {
        crash_point!("body.filled");
        self.container.current.store(new.name());
        crash_point!("body.swung");
        self.block.arena().discard(old.view().parcel())?;
        crash_point!("body.left");
        let new = Arc::new(new);
        self.local.body.store(Some(new.clone()));
        Ok(new)
    }

    pub(crate) fn new_body(&self, geometry: Geometry) -> Result<Body, ContainerError> {
        Body::make(self.block, self.kind, geometry)
    }

    // --- blocks that values refer to ---

    /// Writes an item into the log of a body with room for it, together with parcels of what it refers to.
    pub(crate) fn append(&self, view: View<'_>, item: &mut Item<'_>) -> Result<u64, ContainerError> {
        for (number, block) in item.blocks.iter().enumerate() {
            match block.post_owned(self.block) {
                Ok(parcel) => item.draft.name(number, Enclosed { block: block.id(), parcel }),
                Err(error) => {
                    self.discard_known(item.draft.named(number))?;
                    return Err(error.into());
                }
            }
            crash_point!("container.enclosed");
        }
        if let Some(at) = view.append(item.draft.words()) {
            return Ok(at);
        }
        self.discard_known(item.draft.named(item.blocks.len()))?;
        Err(damaged("a container has less room than it says").into())
    }

    /// As [`append`](Self::append), all items or none; answers where they are.
    pub(crate) fn append_all(&self, view: View<'_>, items: &mut [Item<'_>]) -> Result<Vec<u64>, ContainerError> {
        let mut places = Vec::with_capacity(items.len());
        for number in 0..items.len() {
            match self.append(view, &mut items[number]) {
                Ok(at) => places.push(at),
                Err(error) => {
                    let written = items[..number].iter().flat_map(|item| item.draft.named(item.blocks.len()));
                    self.discard_known(written)?;
                    return Err(error);
                }
            }
        }
        Ok(places)
    }

    fn discard_known(&self, enclosed: impl Iterator<Item = Enclosed>) -> Result<(), ArenaError> {
        for enclosed in enclosed {
            self.block.arena().discard(enclosed.parcel)?;
            crash_point!("container.discarded");
        }
        Ok(())
    }

    /// Lets go of what a value refers to that is not in the container any more.
    #[inline]
    pub(crate) fn discard(&self, record: Record<'_>) -> Result<(), ArenaError> {
        if record.is_enclosing() { self.discard_known(record.enclosed()) } else { Ok(()) }
    }

    /// References to the blocks of a value. Unless the container is locked they may be gone: [`ArenaError::Stale`].
    pub(crate) fn references(&self, record: Record<'_>) -> Result<Vec<Block>, ArenaError> {
        record.enclosed().map(|enclosed| self.block.arena().get(enclosed.block)).collect()
    }

    /// A value, with references to its blocks.
    pub(crate) fn pick(&self, body: &Arc<Body>, at: u64) -> Result<Picked, ArenaError> {
        let record = body.view().record(at)?;
        Ok(Picked { blocks: self.references(record)?, body: body.clone(), at })
    }

    /// Shows a record that `find` finds to `take`, without a lock unless its blocks keep going away.
    #[inline]
    pub(crate) fn read<T>(
        &self,
        find: impl Fn(View<'_>) -> Result<Option<u64>, Damaged>,
        take: impl FnOnce(Record<'_>, &[Block]) -> T,
    ) -> Result<Option<T>, ContainerError> {
        let body = self.body()?;
        let Some(view) = body.as_ref().map(|body| body.view()) else { return Err(damaged("no body").into()) };
        let Some(at) = find(view)? else { return Ok(None) };
        let record = view.record(at)?;
        if !record.is_enclosing() {
            return Ok(Some(take(record, &[])));
        }
        let picked = self.pick_patiently(&find)?;
        picked.map(|picked| Ok(take(picked.record()?, picked.blocks()))).transpose()
    }

    pub(crate) fn pick_patiently(
        &self,
        find: impl Fn(View<'_>) -> Result<Option<u64>, Damaged>,
    ) -> Result<Option<Picked>, ContainerError> {
        let try_once = || -> Result<Option<Picked>, ArenaError> {
            let body = self.arc()?;
            find(body.view())?.map(|at| self.pick(&body, at)).transpose()
        };
        for _ in 0..TRIES {
            match try_once() {
                Err(ArenaError::Stale { .. }) => {}
                other => return Ok(other?),
            }
        }
        let _writing = self.exclude()?;
        match try_once() {
            Err(ArenaError::Stale { .. }) => Err(damaged("a value refers to a block that is gone").into()),
            other => Ok(other?),
        }
    }

    /// The body of this moment, to be kept.
    pub(crate) fn arc(&self) -> Result<Arc<Body>, ArenaError> {
        self.body()?.as_ref().cloned().ok_or_else(|| damaged("no body").into())
    }

    // --- locks ---

    fn owners(&self) -> Result<Viewer, ArenaError> {
        self.block.arena().owners()
    }

    /// Keeps others from writing; repairs what a dead writer left.
    #[inline]
    pub(crate) fn exclude(&self) -> Result<Guard<'a>, ContainerError> {
        match self.container.writers.0.lock(&self.owners()?) {
            Acquired::Clean(guard) => {
                crash_point!("container.locked");
                Ok(guard)
            }
            Acquired::OwnerDied(guard) => {
                crash_point!("container.inherited");
                self.repair()?;
                crash_point!("container.repaired");
                Ok(guard)
            }
        }
    }

    /// Whether nobody writes at this moment, nor died when it wrote.
    pub(crate) fn is_calm(&self) -> bool {
        self.container.writers.0.owner().is_none()
    }

    /// As [`exclude`](Self::exclude), if nobody else holds the lock of programs.
    #[inline]
    pub(crate) fn write(&self) -> Result<Guard<'a>, ContainerError> {
        let guard = self.exclude()?;
        let program = &self.container.program.0;
        if program.is_held() && !program.is_owned(self.block.arena().me()?, this_thread()) {
            return Err(ContainerError::Locked);
        }
        Ok(guard)
    }

    /// Waits until nobody else holds the lock of programs. A death of its holder stays to be told.
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), WaitError> {
        let (owners, program) = (self.owners()?, &self.container.program.0);
        let _death: Option<Death> = program.reacquire(&owners, this_thread(), 1, patience)?;
        // Held by this thread since the line above.
        let _ = program.release(owners.me(), this_thread());
        Ok(())
    }

    /// Takes the lock of programs: from now on, others wait with what they want to write.
    pub fn lock(&self, patience: &Patience<'_>, policy: OnOwnerDied) -> Result<Held, LockFailure> {
        let owners = self.owners()?;
        let held = self.container.program.0.acquire(&owners, this_thread(), patience, policy)?;
        self.after_lock()?;
        Ok(held)
    }

    /// As [`lock`](Self::lock), whatever happened; a death stays to be told.
    pub fn hold(&self, patience: &Patience<'_>) -> Result<(), LockFailure> {
        let (owners, program) = (self.owners()?, &self.container.program.0);
        if program.is_owned(owners.me(), this_thread()) {
            return self.lock(patience, OnOwnerDied::Take).map(drop);
        }
        program.reacquire(&owners, this_thread(), 1, patience).map_err(Refused::from)?;
        self.after_lock()
    }

    /// Whoever writes at this moment came before, and is waited for.
    fn after_lock(&self) -> Result<(), LockFailure> {
        self.exclude().map(drop).map_err(|error| {
            let _ = self.unlock();
            LockFailure::Container(error)
        })
    }

    /// Releases the lock of programs once; whether this thread held it.
    pub fn unlock(&self) -> Result<bool, ArenaError> {
        Ok(self.container.program.0.release(self.block.arena().me()?, this_thread()).is_ok())
    }

    /// Says that what the holder of the lock of programs, who calls this, was to change is half changed.
    pub fn give_up(&self) {
        self.container.program.0.give_up();
    }

    /// Whether anybody holds the lock of programs.
    pub fn is_locked(&self) -> bool {
        self.container.program.0.is_held()
    }
}

/// Why a wait for the lock of a container ended without success.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time was up, or the wait was called off.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Of the arena.
    #[error(transparent)]
    Arena(#[from] ArenaError),
}

/// Why the lock of a container was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockFailure {
    /// A holder died, or the wait ended.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Of the container.
    #[error(transparent)]
    Container(ContainerError),
}

impl From<ArenaError> for LockFailure {
    fn from(error: ArenaError) -> Self {
        Self::Container(error.into())
    }
}
