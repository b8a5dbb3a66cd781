//! numpy arrays through numpy's C API: the only module here with `unsafe`.

use std::ffi::c_int;
use std::num::NonZero;
use std::ptr::{NonNull, null_mut};

use numpy::npyffi::flags::{NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_WRITEABLE};
use numpy::npyffi::{
    NpyTypes, PY_ARRAY_API, PyArray_Check, PyArrayObject, PyArrayObject_fields, get_type_object, npy_intp,
};
use numpy::{PyArrayDescr, PyArrayDescrMethods};
use onecopy::{Access, Block};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// An instance of `numpy.ndarray` or of a class derived from it.
#[derive(Debug)]
pub(crate) struct NdArray<'py> {
    object: Bound<'py, PyAny>,
}

/// Where the items of a new array lie.
pub(crate) struct Placement<'a> {
    pub(crate) first: NonNull<u8>,
    pub(crate) shape: &'a [u64],
    pub(crate) strides: &'a [i64],
    pub(crate) writable: bool,
}

impl<'py> NdArray<'py> {
    /// The array behind an object.
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: `object` is a valid Python object and the GIL is held.
        if unsafe { PyArray_Check(object.py(), object.as_ptr()) } == 0 {
            let class = object.get_type().qualname()?;
            return Err(PyTypeError::new_err(format!(
                "expected a numpy array, got {class}; make one of it with onecopy.array()"
            )));
        }
        Ok(Self { object: object.clone() })
    }

    fn fields(&self) -> &PyArrayObject_fields {
        // SAFETY: the type was checked when this value was made, and all versions of numpy that this module runs on
        // share this layout. Nothing writes these fields while the GIL is held.
        unsafe { &(*self.object.as_ptr().cast::<PyArrayObject>()).fields }
    }

    pub(crate) fn py(&self) -> Python<'py> {
        self.object.py()
    }

    /// Address of the first item.
    pub(crate) fn address(&self) -> usize {
        self.fields().data as usize
    }

    /// A pointer into the array's memory, to an address between those of its items.
    pub(crate) fn pointer_to(&self, address: NonZero<usize>) -> NonNull<u8> {
        NonNull::new(self.fields().data.cast::<u8>()).map_or(NonNull::dangling(), |first| first.with_addr(address))
    }

    pub(crate) fn shape(&self) -> &[npy_intp] {
        self.per_dimension(self.fields().dimensions)
    }

    pub(crate) fn strides(&self) -> &[npy_intp] {
        self.per_dimension(self.fields().strides)
    }

    fn per_dimension(&self, numbers: *const npy_intp) -> &[npy_intp] {
        let count = self.fields().nd as usize;
        if count == 0 {
            return &[];
        }
        // SAFETY: numpy keeps `nd` numbers there, for as long as the array lives and is not reshaped in place, which
        // needs the GIL.
        unsafe { std::slice::from_raw_parts(numbers, count) }
    }

    pub(crate) fn dtype(&self) -> Bound<'py, PyArrayDescr> {
        // SAFETY: `descr` is a borrowed reference to a dtype object, never null in an array.
        unsafe {
            let object: Bound<'py, PyAny> = Bound::from_borrowed_ptr(self.py(), self.fields().descr.cast());
            object.cast_into_unchecked()
        }
    }

    pub(crate) fn base(&self) -> Option<Bound<'py, PyAny>> {
        // SAFETY: `base` is null or a borrowed reference.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.py(), self.fields().base) }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.has(NPY_ARRAY_WRITEABLE)
    }

    /// Whether the items lie without gaps, in C or in Fortran order.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.has(NPY_ARRAY_C_CONTIGUOUS) || self.has(NPY_ARRAY_F_CONTIGUOUS)
    }

    fn has(&self, flag: c_int) -> bool {
        self.fields().flags & flag != 0
    }

    /// Bytes of all items.
    pub(crate) fn nbytes(&self) -> usize {
        self.shape().iter().fold(self.dtype().itemsize(), |bytes, &n| bytes.saturating_mul(n as usize))
    }

    /// The bytes of a contiguous array.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        let len = self.nbytes();
        if !self.is_contiguous() {
            return None;
        }
        if len == 0 {
            return Some(&[]);
        }
        // SAFETY: a contiguous array of `len` bytes starts at `data` and lives as long as the reference to it that
        // `self` holds. Another thread may write to it while the GIL is released, as with every numpy function that
        // releases it: the copy then holds some of the old and some of the new bytes.
        Some(unsafe { std::slice::from_raw_parts(self.fields().data.cast::<u8>().cast_const(), len) })
    }

    /// The bytes of a contiguous array, and a reference to it; or to the block, if there is one, in which all of them are.
    pub(crate) fn hold_bytes(&self, block: Option<Block>) -> Option<HeldBytes> {
        let bytes = self.bytes()?;
        let array = block.is_none().then(|| self.object.clone().unbind());
        Some(HeldBytes { array, _block: block, first: NonNull::from(bytes).cast(), len: bytes.len() })
    }
}

/// The bytes of a contiguous array, which this keeps, for a thread that has no Python.
pub(crate) struct HeldBytes {
    /// What keeps the memory: an array, which should go where there is Python (elsewhere it only goes when somebody has that
    /// next), or a block.
    array: Option<Py<PyAny>>,
    _block: Option<Block>,
    first: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the array or the block, which any thread may refer to, and it is only read.
unsafe impl Send for HeldBytes {}

impl HeldBytes {
    /// All of a block.
    pub(crate) fn of_block(block: Block) -> Self {
        // Its arrays are in the writable mapping, whose pages are there already.
        let address = block.address(Access::ReadWrite).or_else(|| block.address(Access::ReadOnly));
        let first = address.expect("every block can be read");
        let len = block.len() as usize;
        Self { array: None, _block: Some(block), first, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Lets go of what needs no Python for that; the rest is given back.
    pub(crate) fn let_go(self) -> Option<Self> {
        self.array.is_some().then_some(self)
    }

    pub(crate) fn get(&self) -> &[u8] {
        // SAFETY: made of a block, or of the bytes of an array, whose memory lives as long as `self`: by the array itself,
        // which numpy refuses to resize in place while there is another reference, or by the block that they are in. What another
        // thread does with its items meanwhile is the program's affair, as with `NdArray::bytes`.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

/// Has `write` fill the bytes of a contiguous, writable array from `start` on; none for another.
pub(crate) fn fill<T>(array: &NdArray<'_>, start: usize, len: usize, write: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
    let end = start.checked_add(len)?;
    if !array.is_contiguous() || !array.is_writable() || end > array.nbytes() {
        return None;
    }
    if len == 0 {
        return Some(write(&mut []));
    }
    // SAFETY: a contiguous array of at least `end` bytes starts at `data` and lives as long as `array`. What another
    // thread does with its items meanwhile is the program's affair, as with `NdArray::bytes`.
    Some(write(unsafe { std::slice::from_raw_parts_mut(array.fields().data.cast::<u8>().add(start), len) }))
}

/// Strong references to an object, including the one that is asked.
pub(crate) fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: `object` is a valid Python object and the GIL is held.
    unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) }
}

/// Makes an array over memory that `owner` keeps.
pub(crate) fn over<'py>(
    owner: Bound<'py, PyAny>,
    dtype: Bound<'py, PyArrayDescr>,
    placement: &Placement<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let mut shape: Vec<npy_intp> = placement.shape.iter().map(|&n| n as npy_intp).collect();
    let mut strides: Vec<npy_intp> = placement.strides.iter().map(|&n| n as npy_intp).collect();
    let flags = if placement.writable { NPY_ARRAY_WRITEABLE } else { 0 };
    // SAFETY: the two vectors have `nd` numbers each; the dtype's reference is given away, as the function asks; the
    // caller made sure that every item lies in the memory of `owner`, which becomes the array's base and so outlives
    // it. `SetBaseObject` takes the reference even where it fails.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            get_type_object(py, NpyTypes::PyArray_Type),
            dtype.into_dtype_ptr(),
            shape.len() as c_int,
            shape.as_mut_ptr(),
            strides.as_mut_ptr(),
            placement.first.as_ptr().cast(),
            flags,
            null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        if PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), owner.into_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(array)
    }
}
