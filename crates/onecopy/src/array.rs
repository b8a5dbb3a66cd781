//! Arrays in the arena.

use std::ptr::NonNull;

use onecopy_arena::{Access, Arena, Block};

use crate::{ArrayHandle, BlockHandle, Counters, DType, Error, HandleError, copy_into, counters};

/// What a process may do with an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Read. A store faults, also one of native code.
    ReadOnly = 0,
    /// Read and write; all processes see what is written.
    ReadWrite = 1,
    /// Read and write; what is written stays in the process that writes it.
    CopyOnWrite = 2,
}

impl Mode {
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::ReadOnly),
            1 => Some(Self::ReadWrite),
            2 => Some(Self::CopyOnWrite),
            _ => None,
        }
    }
}

/// An array of items of one type in a block of the arena.
///
/// The bytes are other processes' too: they are reached by an address, never by a Rust slice.
#[derive(Debug, Clone)]
pub struct Array {
    block: Block,
    mode: Mode,
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<i64>,
    dtype: DType,
}

impl Array {
    /// A new array of zeros in C order.
    pub fn zeros(arena: &'static Arena, dtype: DType, shape: &[u64]) -> Result<Self, Error> {
        let block = arena.allocate_zeroed(byte_count(shape, dtype.itemsize())?)?;
        Ok(Self::whole(block, dtype, shape))
    }

    /// A new array in C order with a copy of `bytes`, its items in the machine's layout.
    pub fn copy_of(arena: &'static Arena, bytes: &[u8], dtype: DType, shape: &[u64]) -> Result<Self, Error> {
        let expected = byte_count(shape, dtype.itemsize())?;
        if expected != bytes.len() as u64 {
            return Err(Error::Shape(format!("shape {shape:?} takes {expected} bytes, but there are {}", bytes.len())));
        }
        Ok(Self::whole(copy_into(arena, bytes)?, dtype, shape))
    }

    fn whole(block: Block, dtype: DType, shape: &[u64]) -> Self {
        let mut strides = vec![0; shape.len()];
        let mut step = dtype.itemsize() as i64;
        for (stride, &n) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            step = step.saturating_mul(n.max(1) as i64);
        }
        Self { block, mode: Mode::ReadWrite, offset: 0, shape: shape.to_vec(), strides, dtype }
    }

    /// The bytes of a handle to this array, to be received once by any process of the user. The array lives on until
    /// then, whatever the sender does.
    pub fn send(&self) -> Result<Vec<u8>, Error> {
        let handle = self.handle(BlockHandle::post(&self.block)?);
        Counters::count_sent(self.nbytes());
        Ok(handle.encode())
    }

    fn handle(&self, block: BlockHandle) -> ArrayHandle {
        let mut dtype = Vec::new();
        self.dtype.encode(&mut dtype);
        let (shape, strides) = (self.shape.as_slice().into(), self.strides.as_slice().into());
        ArrayHandle { block, mode: self.mode, offset: self.offset, shape, strides, dtype: dtype.into() }
    }

    /// The block that it lies in, and how, for what keeps the block alive by itself.
    pub(crate) fn described(&self) -> (&Block, ArrayHandle) {
        (&self.block, self.handle(BlockHandle::within(&self.block, None)))
    }

    /// The array that a handle names.
    pub fn receive(bytes: &[u8]) -> Result<Self, Error> {
        Self::receive_by(bytes, ArrayHandle::receive)
    }

    /// As [`receive`](Self::receive); `find` has the block of a handle for items of that size.
    pub(crate) fn receive_by(
        bytes: &[u8],
        find: impl FnOnce(&ArrayHandle, u64) -> Result<Block, Error>,
    ) -> Result<Self, Error> {
        let handle = ArrayHandle::decode(bytes)?;
        let dtype = DType::decode(&handle.dtype)?;
        let block = find(&handle, dtype.itemsize())?;
        let ArrayHandle { mode, offset, shape, strides, .. } = handle;
        Ok(Self { block, mode, offset, shape: shape.into_vec(), strides: strides.into_vec(), dtype })
    }

    /// Items along each dimension.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Bytes from one item to the next along each dimension.
    pub fn strides(&self) -> &[i64] {
        &self.strides
    }

    /// Type of the items.
    pub fn dtype(&self) -> &DType {
        &self.dtype
    }

    /// What this process may do with it.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes of all items.
    pub fn nbytes(&self) -> u64 {
        self.shape.iter().fold(self.dtype.itemsize(), |bytes, &n| bytes.saturating_mul(n))
    }

    /// Address of the first item; none to write to where the array is read-only, nor for a private view, which is made
    /// by [`Block::private_copy`].
    pub fn address(&self, access: Access) -> Option<NonNull<u8>> {
        if access == Access::ReadWrite && self.mode != Mode::ReadWrite {
            return None;
        }
        // SAFETY: the offset was checked against the block's length when the array was made.
        self.block.address(access).map(|first| unsafe { first.add(self.offset as usize) })
    }

    /// The same items, to be read only; so are all copies of it that are sent.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.mode = Mode::ReadOnly;
        self
    }
}

impl ArrayHandle {
    /// Takes a reference to the block, joining its arena where this process is no member yet, and checks that the array
    /// lies inside.
    pub fn receive(&self, itemsize: u64) -> Result<Block, Error> {
        self.accept(self.block.receive()?, itemsize)
    }

    /// As [`receive`](Self::receive), where this process has the block already.
    pub(crate) fn accept(&self, block: Block, itemsize: u64) -> Result<Block, Error> {
        self.check_bounds(block.len(), itemsize)?;
        if block.is_sealed() && self.mode == Mode::ReadWrite {
            return Err(HandleError("it asks for write access to a sealed block".into()).into());
        }
        counters::received();
        Ok(block)
    }
}

fn byte_count(shape: &[u64], itemsize: u64) -> Result<u64, Error> {
    let count = shape.iter().try_fold(itemsize, |bytes, &n| bytes.checked_mul(n));
    count.ok_or_else(|| {
        Error::Shape(format!("shape {shape:?} of items of {itemsize} bytes is too large for any memory"))
    })
}
