//! The arenas that this process is in, and what a fork does to them.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock};

use onecopy_os::{FileAccess, ForkHooks, PrivateDirectory, notice_fork, on_fork, watch_forks};

use crate::ArenaError;
use crate::arena::{Arena, Block, JoinHint, Options};
use crate::data::Access;
use crate::layout::ArenaId;
use crate::look::{details_in, details_of};
use crate::membership::{Holds, locked};
use crate::slots::Cradle;
use crate::stats::Details;

static ARENAS: Mutex<Vec<&'static Arena>> = Mutex::new(Vec::new());
/// How often somebody else may be faster in making an arena.
const MOST_ATTEMPTS: u32 = 8;
const HOOKS: ForkHooks = ForkHooks { before, parent, child };

impl Arena {
    /// Makes an arena and joins it.
    pub fn create(options: Options) -> Result<&'static Self, ArenaError> {
        create_among(&mut *arenas()?, options)
    }

    /// Opens the arena in the directory at `path`, or makes it. `create`: true, it must be new; false, it must be there.
    ///
    /// The arena survives its processes, and may be larger than memory. Opened again in the same process, it is the same.
    /// Whoever opens it when no process has it open puts it in order first: what processes held that have ended goes, and
    /// so do handles that nobody has received; what is [published](Self::set_root) stays. Each opening is undone by
    /// [`close`](Self::close).
    ///
    /// ```
    /// # use onecopy_arena::{Arena, Options};
    /// # let path = std::env::temp_dir().join(format!("onecopy-example-{}", std::process::id()));
    /// let options = Options { limit: Some(64 << 20), warm: None };
    /// let arena = Arena::open_path(&path, options, None)?;
    /// let block = arena.allocate_zeroed(1000)?;
    /// arena.set_root(&block)?;
    /// drop(block);
    /// arena.flush()?;
    /// arena.close()?;
    ///
    /// let again = Arena::open_path(&path, options, Some(false))?; // here, or in any other process, at any time
    /// assert_eq!(again.root()?.map(|block| block.len()), Some(1000));
    /// # std::fs::remove_dir_all(path).unwrap();
    /// # Ok::<(), onecopy_arena::ArenaError>(())
    /// ```
    pub fn open_path(path: &Path, options: Options, create: Option<bool>) -> Result<&'static Self, ArenaError> {
        let arena = open_path_among(&mut *arenas()?, path, options, create).map_err(|error| error.at(path))?;
        arena.count_opened();
        Ok(arena)
    }

    /// As [`create`](Self::create), to be closed by [`close`](Self::close).
    pub fn open_new(options: Options) -> Result<&'static Self, ArenaError> {
        Self::create(options).inspect(|arena| arena.count_opened())
    }

    /// As [`join`](Self::join), to be closed by [`close`](Self::close).
    pub fn open_hint(hint: JoinHint) -> Result<&'static Self, ArenaError> {
        Self::join(hint).inspect(|arena| arena.count_opened())
    }

    /// Looks into the arena in the directory at `path`, as [`look`](Self::look) does, whether or not a process has it open.
    pub fn look_at_path(path: &Path) -> Result<Details, ArenaError> {
        let look = || {
            let directory = PrivateDirectory::existing(path)?.ok_or_else(|| ArenaError::NotThere(path.into()))?;
            details_in(&directory)
        };
        look().map_err(|error: ArenaError| error.at(path))
    }

    /// Joins the arena that a member of it described; answers the same arena when this process is a member already.
    pub fn join(hint: JoinHint) -> Result<&'static Self, ArenaError> {
        let arena = Self::join_unswept(hint)?;
        arena.heap()?.sweep()?;
        Ok(arena)
    }

    /// As [`join`](Self::join), but leaves it to the caller to sweep the dead.
    pub fn join_unswept(hint: JoinHint) -> Result<&'static Self, ArenaError> {
        join_among(&mut *arenas()?, hint)
    }

    /// The arena in `cell`. At the first call it is filled: with the arena that one of `hints` leads to, or else with a new
    /// one.
    ///
    /// A thread that forks waits for one that is filling a cell, so a child never finds it half done.
    pub fn join_or_create_once<E: From<ArenaError>>(
        cell: &OnceLock<&'static Self>,
        hints: &[JoinHint],
        options: impl FnOnce() -> Result<Options, E>,
    ) -> Result<&'static Self, E> {
        let mut arenas = arenas()?;
        if let Some(arena) = cell.get() {
            return Ok(arena);
        }
        let mut join = |&hint: &JoinHint| {
            let arena = join_among(&mut arenas, hint).ok()?;
            arena.heap().and_then(|heap| heap.sweep()).ok()?;
            Some(arena)
        };
        let arena = match hints.iter().find_map(&mut join) {
            Some(arena) => arena,
            None => create_among(&mut arenas, options()?)?,
        };
        Ok(cell.get_or_init(|| arena))
    }

    /// Looks into an arena that a process has, without joining it: nothing is written and no lock is taken. The figures
    /// need not belong to one moment.
    pub fn look(hint: JoinHint) -> Result<Details, ArenaError> {
        let arenas = locked(&ARENAS);
        match arenas.iter().find(|arena| arena.id() == hint.id) {
            Some(arena) => Ok(arena.roll().details()),
            None => details_of(hint, &arenas),
        }
    }

    /// The arena of this name if this process is a member.
    pub fn find(id: ArenaId) -> Option<&'static Self> {
        locked(&ARENAS).iter().copied().find(|arena| arena.id() == id)
    }

    /// As [`block_at`](Self::block_at), in whichever arena of this process the address lies.
    pub fn block_of(address: usize) -> Option<(Block, u64, Access)> {
        locked(&ARENAS).iter().find_map(|arena| arena.block_at(address))
    }
}

/// The arenas, locked; forks wait for that.
fn arenas() -> Result<MutexGuard<'static, Vec<&'static Arena>>, ArenaError> {
    // Before the lock is taken: a fork in between would leave it locked in the child.
    on_fork(HOOKS)?;
    let arenas = locked(&ARENAS);
    watch_forks();
    Ok(arenas)
}

fn create_among(arenas: &mut Vec<&'static Arena>, options: Options) -> Result<&'static Arena, ArenaError> {
    let arena = Arena::make(options)?;
    arenas.push(arena);
    Ok(arena)
}

fn open_path_among(
    arenas: &mut Vec<&'static Arena>,
    path: &Path,
    options: Options,
    create: Option<bool>,
) -> Result<&'static Arena, ArenaError> {
    for _ in 0..MOST_ATTEMPTS {
        match PrivateDirectory::existing(path)?.map(|directory| Ok((directory.list()?.is_empty(), directory))) {
            Some(Err(error)) => return Err(error),
            Some(Ok((false, _))) if create == Some(true) => return Err(ArenaError::Exists(path.into())),
            Some(Ok((false, directory))) => return open_directory_among(arenas, &directory),
            _ if create == Some(false) => return Err(ArenaError::NotThere(path.into())),
            _ => {}
        }
        if let Some(arena) = Arena::make_at(path, options)? {
            arenas.push(arena);
            return Ok(arena);
        }
        // Another process was faster: its arena is there now.
    }
    Err(ArenaError::Foreign("there are hidden files, so that no arena can be put there".into()))
}

fn open_directory_among(
    arenas: &mut Vec<&'static Arena>,
    directory: &PrivateDirectory,
) -> Result<&'static Arena, ArenaError> {
    // Others wait until the first one has put the arena in order.
    let _lock = directory.lock()?;
    let meta = Arena::meta_file(directory, FileAccess::ReadWrite)?;
    if let Some(arena) = arenas.iter().find(|arena| arena.is_in(&meta)) {
        arena.check_files(directory, meta)?;
        arena.come_in()?;
        return Ok(arena);
    }
    let arena = Arena::open_in(directory, meta)?;
    arenas.push(arena);
    Ok(arena)
}

fn join_among(arenas: &mut Vec<&'static Arena>, hint: JoinHint) -> Result<&'static Arena, ArenaError> {
    // Before anything is opened: closing a second descriptor of the metadata would drop the liveness lock.
    if let Some(arena) = arenas.iter().find(|arena| arena.id() == hint.id) {
        arena.rejoin()?;
        return Ok(arena);
    }
    let arena = Arena::enter(hint, arenas)?;
    arenas.push(arena);
    Ok(arena)
}

/// What the forking thread keeps locked between the two sides of a fork, so that the child finds tables that no other
/// thread was changing.
struct Crossing {
    arenas: MutexGuard<'static, Vec<&'static Arena>>,
    each: Vec<(MutexGuard<'static, Holds>, Option<Cradle>)>,
}

thread_local! {
    static CROSSING: RefCell<Option<Crossing>> = const { RefCell::new(None) };
}

fn before() {
    let arenas = locked(&ARENAS);
    let each = arenas.iter().map(|arena| arena.prepare_fork()).collect();
    // A thread that is ending has no thread locals any more; its fork then goes unnoticed, as one by a raw system call
    // does.
    let _ = CROSSING.try_with(|crossing| *crossing.borrow_mut() = Some(Crossing { arenas, each }));
}

fn parent() {
    let _ = CROSSING.try_with(|crossing| crossing.borrow_mut().take());
}

fn child() {
    let Ok(Some(crossing)) = CROSSING.try_with(|crossing| crossing.borrow_mut().take()) else { return };
    for (arena, (holds, cradle)) in crossing.arenas.iter().zip(crossing.each) {
        arena.finish_fork(cradle);
        drop(holds);
    }
    notice_fork();
}
