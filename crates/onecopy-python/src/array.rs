//! numpy arrays over blocks of the arena, and the handles of such arrays.

use std::num::NonZero;
use std::ptr::NonNull;

use numpy::{PyArrayDescr, PyArrayDescrMethods};
use onecopy::{
    Access, Arena, ArrayHandle, Batch, Block, BlockHandle, Counters, EncodedDType, Error, Mode, PrivateCopy,
    copy_interruptibly,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;

use crate::dtype;
use crate::errors::OrRaise;
use crate::interrupt::interruptibly;
use crate::ndarray::{NdArray, Placement, over, references};
use crate::open_arena::OpenArena;

/// Waiting for less than this is cheaper than letting another thread run meanwhile.
pub(crate) const RELEASE_GIL_ABOVE: usize = 64 << 10;

/// Keeps a block alive for the arrays over it: the base of every shared array.
#[pyclass(frozen, name = "Block", module = "onecopy._native")]
pub(crate) struct BlockOwner {
    block: Block,
    /// Set where the arrays are private views of the block.
    private: Option<PrivateCopy>,
}

/// A block as arrays of this process see it.
pub(crate) struct Window<'py> {
    owner: Bound<'py, BlockOwner>,
    start: NonNull<u8>,
    mode: Mode,
}

impl BlockOwner {
    /// The block in one of the modes.
    pub(crate) fn window(py: Python<'_>, block: Block, mode: Mode) -> PyResult<Window<'_>> {
        let private = if mode == Mode::CopyOnWrite { Some(block.private_copy().or_raise(py)?) } else { None };
        let access = if mode == Mode::ReadWrite { Access::ReadWrite } else { Access::ReadOnly };
        let start = private.as_ref().map(PrivateCopy::address).or_else(|| block.address(access));
        let start = start.ok_or_else(|| PyValueError::new_err("the block is sealed: ask for mode=\"ro\""))?;
        Ok(Window { owner: Bound::new(py, Self { block, private })?, start, mode })
    }
}

impl<'py> Window<'py> {
    /// The array whose first item lies `offset` bytes into the block. The caller has checked that all items lie inside.
    pub(crate) fn array(
        &self,
        offset: u64,
        dtype: Bound<'py, PyArrayDescr>,
        (shape, strides): (&[u64], &[i64]),
    ) -> PyResult<Bound<'py, PyAny>> {
        let first = self.start.map_addr(|address| address.saturating_add(offset as usize));
        let writable = self.mode != Mode::ReadOnly;
        over(self.owner.clone().into_any(), dtype, &Placement { first, shape, strides, writable })
    }
}

/// Memory of an array that lies in the arena.
pub(crate) struct Located {
    pub(crate) block: Block,
    pub(crate) offset: u64,
    pub(crate) mode: Mode,
}

/// Arrays outside the arena from this size on are copied into it once and travel as handles; smaller ones travel in the
/// message. Below it a copy through a pipe costs less than a block that somebody has to receive.
const LEAST_BYTES_TO_MOVE: usize = 64 << 10;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("LEAST_BYTES_TO_MOVE", LEAST_BYTES_TO_MOVE)?;
    m.add_class::<BlockOwner>()?;
    m.add_function(wrap_pyfunction!(empty, m)?)?;
    m.add_function(wrap_pyfunction!(put, m)?)?;
    m.add_function(wrap_pyfunction!(view, m)?)?;
    m.add_function(wrap_pyfunction!(is_shared, m)?)?;
    m.add_function(wrap_pyfunction!(is_exclusive, m)?)?;
    m.add_function(wrap_pyfunction!(encode, m)?)?;
    m.add_function(wrap_pyfunction!(decode, m)?)?;
    m.add_function(wrap_pyfunction!(dtype::is_plain, m)?)?;
    m.add_function(wrap_pyfunction!(count_copied, m)?)
}

/// A new array over a whole block, in C or Fortran order.
pub(crate) fn array_over<'py>(
    py: Python<'py>,
    block: Block,
    dtype: Bound<'py, PyArrayDescr>,
    shape: &[u64],
    fortran: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let strides = dense_strides(shape, dtype.itemsize(), fortran);
    wrap(py, block, Mode::ReadWrite, 0, dtype, (shape, &strides))
}

fn dense_strides(shape: &[u64], itemsize: usize, fortran: bool) -> Vec<i64> {
    let mut strides = vec![0; shape.len()];
    let mut step = itemsize as i64;
    let mut set = |i: usize| {
        strides[i] = step;
        step = step.saturating_mul(shape[i].max(1) as i64);
    };
    if fortran {
        (0..shape.len()).for_each(&mut set);
    } else {
        (0..shape.len()).rev().for_each(&mut set);
    }
    strides
}

/// The array whose first item lies `offset` bytes into a block. The caller has checked that all items lie inside.
fn wrap<'py>(
    py: Python<'py>,
    block: Block,
    mode: Mode,
    offset: u64,
    dtype: Bound<'py, PyArrayDescr>,
    geometry: (&[u64], &[i64]),
) -> PyResult<Bound<'py, PyAny>> {
    BlockOwner::window(py, block, mode)?.array(offset, dtype, geometry)
}

/// New shared array without defined contents, or of zeros; in the session's arena, or in another.
#[pyfunction]
#[pyo3(signature = (shape, dtype, fortran, zero, arena=None))]
#[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
fn empty<'py>(
    py: Python<'py>,
    shape: Vec<u64>,
    dtype: Bound<'py, PyArrayDescr>,
    fortran: bool,
    zero: bool,
    arena: Option<&OpenArena>,
) -> PyResult<Bound<'py, PyAny>> {
    dtype::encode(&dtype)?;
    let count = shape.iter().try_fold(dtype.itemsize() as u64, |bytes, &n| bytes.checked_mul(n));
    let bytes = count.filter(|&bytes| i64::try_from(bytes).is_ok()).ok_or_else(|| {
        PyValueError::new_err(format!("an array of shape {shape:?} and dtype {dtype} is too large for any memory"))
    })?;
    let arena = arena.map(OpenArena::get).transpose()?;
    let make = |stop: &mut dyn FnMut() -> bool| -> Result<Block, Error> {
        let arena = arena_or_session(arena)?;
        Ok(if zero {
            arena.allocate_zeroed_interruptibly(bytes, stop)?
        } else {
            arena.allocate_interruptibly(bytes, stop)?.0
        })
    };
    let block = release_above(py, bytes as usize, make)?;
    array_over(py, block, dtype, &shape, fortran)
}

/// Runs `work` with the GIL released, and so that Ctrl-C stops it, if it moves many bytes.
pub(crate) fn release_above<T: Send>(
    py: Python<'_>,
    bytes: usize,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<T, Error> + Send,
) -> PyResult<T> {
    if bytes > RELEASE_GIL_ABOVE { interruptibly(py, work) } else { work(&mut || false).or_raise(py) }
}

fn arena_or_session(arena: Option<&'static Arena>) -> Result<&'static Arena, Error> {
    arena.map_or_else(onecopy::session, Ok)
}

/// The arena that an array lies in.
pub(crate) fn arena_of(array: &Bound<'_, PyAny>) -> Option<&'static Arena> {
    Some(locate(&NdArray::of(array).ok()?)?.block.arena())
}

/// Copy of a contiguous array in the arena, with the same order of items; none for an array that is not contiguous.
#[pyfunction]
#[pyo3(signature = (array, seal, arena=None))]
fn put<'py>(
    py: Python<'py>,
    array: &Bound<'py, PyAny>,
    seal: bool,
    arena: Option<&OpenArena>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let arena = arena.map(OpenArena::get).transpose()?;
    let source = NdArray::of(array)?;
    let dtype = source.dtype();
    dtype::encode(&dtype)?;
    let Some(bytes) = source.bytes() else { return Ok(None) };
    let copy = |stop: &mut dyn FnMut() -> bool| -> Result<Block, Error> {
        let mut block = copy_interruptibly(arena_or_session(arena)?, bytes, stop)?;
        if seal {
            block.seal()?;
        }
        Ok(block)
    };
    let block = release_above(py, bytes.len(), copy)?;
    let (shape, strides) = geometry(&source);
    let mode = if seal { Mode::ReadOnly } else { Mode::ReadWrite };
    wrap(py, block, mode, 0, dtype, (&shape, &strides)).map(Some)
}

/// Shape and strides of an array in the types of the Rust API.
fn geometry(array: &NdArray<'_>) -> (SmallVec<[u64; 4]>, SmallVec<[i64; 4]>) {
    let shape = array.shape().iter().map(|&n| n as u64).collect();
    (shape, array.strides().iter().map(|&n| n as i64).collect())
}

/// Bytes before the first item that the array reaches to (negative strides), and behind its start.
fn extent(array: &NdArray<'_>) -> (usize, usize) {
    let (mut before, mut behind) = (0_usize, array.dtype().itemsize());
    for (&n, &stride) in array.shape().iter().zip(array.strides()) {
        if n == 0 {
            return (0, 0);
        }
        let reach = (n as usize - 1).saturating_mul(stride.unsigned_abs());
        if stride < 0 { before += reach } else { behind += reach }
    }
    (before, behind)
}

/// Where in an arena an array lies, if it lies in one.
pub(crate) fn locate(array: &NdArray<'_>) -> Option<Located> {
    let (before, behind) = extent(array);
    let low = array.address().checked_sub(before)?;
    if let Some((block, offset, access)) = Arena::block_of(low) {
        let inside = offset + (before + behind) as u64 <= block.len();
        let writable = access == Access::ReadWrite && array.is_writable();
        let mode = if writable { Mode::ReadWrite } else { Mode::ReadOnly };
        return inside.then_some(Located { block, offset: offset + before as u64, mode });
    }
    let owner = private_owner(array)?;
    let owner = owner.get();
    let start = owner.private.as_ref()?.address().addr().get();
    let offset = array.address().checked_sub(start)? as u64;
    let inside = low >= start && offset + behind as u64 <= owner.block.len();
    inside.then(|| Located { block: owner.block.clone(), offset, mode: Mode::CopyOnWrite })
}

/// Where an array lies, if it lies in an arena, or where a copy of it does that is worth making; none for an array that
/// must travel in a message. Nobody else refers to the copy.
fn locate_or_move_in(py: Python<'_>, array: &NdArray<'_>) -> PyResult<Option<Located>> {
    if let Some(place) = locate(array) {
        return Ok(Some(place));
    }
    let dtype = array.dtype();
    if array.nbytes() < LEAST_BYTES_TO_MOVE || !dtype::is_plain(&dtype) || dtype::has_metadata(&dtype)? {
        return Ok(None);
    }
    let Some(bytes) = array.bytes() else { return Ok(None) };
    let block = release_above(py, bytes.len(), |stop| copy_interruptibly(onecopy::session()?, bytes, stop))?;
    Ok(Some(Located { block, offset: 0, mode: Mode::ReadWrite }))
}

/// The owner of the private view that an array is, or is a view of.
fn private_owner<'py>(array: &NdArray<'py>) -> Option<Bound<'py, BlockOwner>> {
    let mut base = array.base()?;
    loop {
        if let Ok(owner) = base.cast::<BlockOwner>() {
            return Some(owner.clone());
        }
        base = NdArray::of(&base).ok()?.base()?;
    }
}

/// The mode that a word means.
pub(crate) fn mode_of(word: &str) -> PyResult<Mode> {
    match word {
        "ro" => Ok(Mode::ReadOnly),
        "rw" => Ok(Mode::ReadWrite),
        "cow" => Ok(Mode::CopyOnWrite),
        other => Err(PyValueError::new_err(format!("mode={other:?}: expected \"ro\", \"rw\" or \"cow\""))),
    }
}

/// The bytes that the items of an array lie between, as a writable array, and how many of them are before the first item.
pub(crate) fn span_of<'py>(array: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, usize)> {
    let source = NdArray::of(array)?;
    let (before, behind) = extent(&source);
    let first = source.address().checked_sub(before).and_then(NonZero::new);
    let first = first.ok_or_else(|| PyValueError::new_err("the array has no memory"))?;
    let shape = [(before + behind) as u64];
    let placement = Placement { first: source.pointer_to(first), shape: &shape, strides: &[1], writable: true };
    let bytes = over(array.clone(), numpy::dtype::<u8>(array.py()), &placement)?;
    Ok((bytes, before))
}

/// The same items of a shared array in another mode; none for an array that is not shared.
#[pyfunction]
fn view<'py>(py: Python<'py>, array: &Bound<'py, PyAny>, mode: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let source = NdArray::of(array)?;
    let mode = mode_of(mode)?;
    let Some(place) = locate(&source) else { return Ok(None) };
    if mode == Mode::ReadWrite && place.mode != Mode::ReadWrite {
        return Err(PyValueError::new_err("the array is read-only here; share a copy of it for mode=\"rw\""));
    }
    let (shape, strides) = geometry(&source);
    wrap(py, place.block, mode, place.offset, source.dtype(), (&shape, &strides)).map(Some)
}

/// Whether an array lies in an arena, so that it travels as a handle.
#[pyfunction]
fn is_shared(array: &Bound<'_, PyAny>) -> bool {
    NdArray::of(array).is_ok_and(|array| locate(&array).is_some())
}

/// Whether an array over a whole block has no user in this process but the caller, who has it in one variable: neither
/// it nor its memory is referred to from elsewhere, so nobody will change it as long as the caller keeps it.
#[pyfunction]
fn is_exclusive(py: Python<'_>, array: &Bound<'_, PyAny>) -> bool {
    // The variable's reference and, before 3.14, one for the argument.
    let expected = if py.version_info() >= (3, 14) { 1 } else { 2 };
    if references(array) > expected {
        return false;
    }
    let Ok(source) = NdArray::of(array) else { return false };
    let Some(base) = source.base() else { return false };
    // The array's reference and the one that was just taken.
    references(&base) == 2 && base.cast::<BlockOwner>().is_ok_and(|owner| owner.get().block.is_only_reference())
}

/// Handle of a shared array, for one receiver; none for an array that is not shared.
#[pyfunction]
fn encode<'py>(py: Python<'py>, array: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    Ok(sent(py, array)?.map(|handle| PyBytes::new(py, &handle)))
}

/// The bytes of a handle of a shared array, for one receiver; none for other arrays.
fn sent(py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    let source = NdArray::of(array)?;
    let Some(place) = locate(&source) else { return Ok(None) };
    let dtype = dtype::encode(&source.dtype())?;
    let handle = handle_of(&source, &place, BlockHandle::post(&place.block).or_raise(py)?, dtype);
    Counters::count_sent(source.nbytes() as u64);
    Ok(Some(handle.encode()))
}

fn handle_of(source: &NdArray<'_>, place: &Located, block: BlockHandle, dtype: EncodedDType) -> ArrayHandle {
    let (shape, strides) = geometry(source);
    ArrayHandle { block, mode: place.mode, offset: place.offset, shape, strides, dtype }
}

/// Where a shared array lies and how, for what keeps its block alive by itself.
pub(crate) fn described(array: &Bound<'_, PyAny>) -> PyResult<(Block, ArrayHandle)> {
    let source = NdArray::of(array)?;
    let place = locate(&source).ok_or_else(|| PyValueError::new_err("the array is not shared"))?;
    let block = BlockHandle { arena: place.block.arena().hint(), id: place.block.id(), parcel: None };
    let handle = handle_of(&source, &place, block, dtype::encode(&source.dtype())?);
    Ok((place.block, handle))
}

/// Where an array lies that is shared or has been copied into the arena for this, and how, if a handle says all there is
/// to say of it; none for other arrays.
pub(crate) fn plain(array: &Bound<'_, PyAny>) -> PyResult<Option<(Block, ArrayHandle)>> {
    let source = NdArray::of(array)?;
    let Some(place) = locate_or_move_in(array.py(), &source)? else { return Ok(None) };
    let (dtype, has_metadata) = dtype::encode_with_metadata(&source.dtype())?;
    if has_metadata {
        return Ok(None);
    }
    let handle = handle_of(&source, &place, BlockHandle::within(&place.block, None), dtype);
    Counters::count_sent(source.nbytes() as u64);
    Ok(Some((place.block, handle)))
}

/// The array that a message of a batch is the handle of.
pub(crate) fn taken<'py>(py: Python<'py>, handle: &[u8], batch: &Batch) -> PyResult<Bound<'py, PyAny>> {
    let handle = ArrayHandle::decode(handle).or_raise(py)?;
    over_handle(py, &handle, |itemsize| onecopy::array_in(batch, &handle, itemsize))
}

/// The same for the only message of a batch, which is of no use after that.
pub(crate) fn taken_alone<'py>(
    py: Python<'py>,
    handle: &ArrayHandle,
    batch: &mut Batch,
) -> PyResult<Bound<'py, PyAny>> {
    over_handle(py, handle, |itemsize| onecopy::array_alone_in(batch, handle, itemsize))
}

/// The array that a handle names.
pub(crate) fn received<'py>(py: Python<'py>, handle: &ArrayHandle) -> PyResult<Bound<'py, PyAny>> {
    over_handle(py, handle, |itemsize| handle.receive(itemsize))
}

/// The array that a handle describes, in the block that `find` has for items of a size.
fn over_handle<'py>(
    py: Python<'py>,
    handle: &ArrayHandle,
    find: impl FnOnce(u64) -> Result<Block, Error>,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = dtype::decode(py, &handle.dtype)?;
    let block = find(dtype.itemsize() as u64).or_raise(py)?;
    wrap(py, block, handle.mode, handle.offset, dtype, (&handle.shape, &handle.strides))
}

/// The array that the bytes of a handle name.
#[pyfunction]
pub(crate) fn decode<'py>(py: Python<'py>, handle: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    received(py, &ArrayHandle::decode(handle).or_raise(py)?)
}

/// Says that an array's bytes went into a message.
#[pyfunction]
fn count_copied(nbytes: u64) {
    Counters::count_copied(nbytes);
}
