//! What crosses between processes instead of an array.
//!
//! Little-endian, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `oc`, version, mode |
//! | 40 | the block, as [`BlockHandle`] says |
//! | 8 | offset of the first item in the block |
//! | 1 | number of dimensions n |
//! | n × 8, n × 8 | shape, strides in bytes |
//! | rest | data type |

use smallvec::SmallVec;

use crate::block_handle::BlockHandle;
use crate::reader::Reader;
use crate::{HandleError, Mode};

const MAGIC: [u8; 3] = *b"oc\x01";
/// numpy's own limit.
const MOST_DIMENSIONS: usize = 64;

/// The bytes that a data type is encoded in; few for most.
pub type EncodedDType = SmallVec<[u8; 24]>;

/// Where an array is, and how its items lie there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayHandle {
    /// The block that it lies in.
    pub block: BlockHandle,
    /// What the receiver may do.
    pub mode: Mode,
    /// Bytes from the start of the block to the first item.
    pub offset: u64,
    /// Items along each dimension.
    pub shape: SmallVec<[u64; 4]>,
    /// Bytes from one item to the next along each dimension.
    pub strides: SmallVec<[i64; 4]>,
    /// Type of the items, encoded.
    pub dtype: EncodedDType,
}

impl ArrayHandle {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 16 * self.shape.len() + self.dtype.len());
        out.extend_from_slice(&MAGIC);
        out.push(self.mode as u8);
        self.block.encode(&mut out);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.push(self.shape.len() as u8);
        out.extend(self.shape.iter().flat_map(|n| n.to_le_bytes()));
        out.extend(self.strides.iter().flat_map(|n| n.to_le_bytes()));
        out.extend_from_slice(&self.dtype);
        out
    }

    /// Reads a handle. Whether it fits the block is found out when it is received.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandleError> {
        let mut reader = Reader { bytes };
        reader.handle().ok_or_else(|| HandleError(format!("{} bytes that are not one", bytes.len())))
    }

    /// Checks that every item lies inside a block of `len` bytes; `itemsize` is that of the data type.
    pub fn check_bounds(&self, len: u64, itemsize: u64) -> Result<(), HandleError> {
        let (mut low, mut high) = (i128::from(self.offset), i128::from(self.offset) + i128::from(itemsize));
        if self.shape.contains(&0) {
            high = low;
        } else {
            for (&n, &stride) in self.shape.iter().zip(&self.strides) {
                let reach = i128::from(n - 1).saturating_mul(i128::from(stride));
                low = low.saturating_add(reach.min(0));
                high = high.saturating_add(reach.max(0));
            }
        }
        if low >= 0 && high <= i128::from(len) {
            Ok(())
        } else {
            Err(HandleError(format!("it spans bytes {low} to {high} of a block of {len}")))
        }
    }
}

impl Reader<'_> {
    fn handle(&mut self) -> Option<ArrayHandle> {
        if self.take::<3>()? != MAGIC {
            return None;
        }
        let mode = Mode::from_bits(self.u8()?)?;
        let block = BlockHandle::decode(self)?;
        let offset = self.u64()?;
        let dimensions = usize::from(self.u8()?);
        if dimensions > MOST_DIMENSIONS {
            return None;
        }
        let shape = (0..dimensions).map(|_| self.u64()).collect::<Option<_>>()?;
        let strides = (0..dimensions).map(|_| self.take().map(i64::from_le_bytes)).collect::<Option<_>>()?;
        Some(ArrayHandle { block, mode, offset, shape, strides, dtype: self.bytes.into() })
    }
}

#[cfg(test)]
mod tests {
    use onecopy_arena::{ArenaId, BlockId, JoinHint};
    use proptest::prelude::*;

    use super::*;
    use crate::block_handle::tests::block_handles;

    fn handles() -> impl Strategy<Value = ArrayHandle> {
        let shape = prop::collection::vec((0_u64..50, -500_i64..500), 0..6);
        (shape, block_handles(), any::<u64>(), 0_u8..3, prop::collection::vec(any::<u8>(), 0..9)).prop_map(
            |(shape, block, offset, mode, dtype)| ArrayHandle {
                block,
                mode: Mode::from_bits(mode).unwrap(),
                offset,
                shape: shape.iter().map(|s| s.0).collect(),
                strides: shape.iter().map(|s| s.1).collect(),
                dtype: dtype.into(),
            },
        )
    }

    /// Every byte of every item, the slow way.
    fn bytes_of(handle: &ArrayHandle, itemsize: i128) -> Vec<i128> {
        let mut starts = vec![i128::from(handle.offset)];
        for (&n, &stride) in handle.shape.iter().zip(&handle.strides) {
            starts =
                starts.iter().flat_map(|&at| (0..i128::from(n)).map(move |i| at + i * i128::from(stride))).collect();
        }
        starts.iter().flat_map(|&at| at..at + itemsize).collect()
    }

    proptest! {
        #[test]
        fn every_handle_crosses(handle in handles()) {
            let bytes = handle.encode();
            prop_assert_eq!(ArrayHandle::decode(&bytes).unwrap(), handle.clone());
            let fixed = bytes.len() - handle.dtype.len();
            for cut in 0..fixed {
                prop_assert!(ArrayHandle::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ArrayHandle::decode(&bytes);
            let _ = ArrayHandle::decode(&[&MAGIC[..], &bytes].concat());
        }

        #[test]
        fn bounds_are_those_of_every_item(
            offset in 0_u64..60, shape in prop::collection::vec((0_u64..4, -9_i64..9), 0..4), itemsize in 0_u64..5, len in 0_u64..80,
        ) {
            let mut handle = ArrayHandle::decode(&sample().encode()).unwrap();
            handle.offset = offset;
            handle.shape = shape.iter().map(|s| s.0).collect();
            handle.strides = shape.iter().map(|s| s.1).collect();
            let inside = bytes_of(&handle, itemsize.into()).iter().all(|&at| at >= 0 && at < i128::from(len));
            let accepted = handle.check_bounds(len, itemsize).is_ok();
            // Never accepts a byte outside; it may refuse an array without bytes that points outside.
            prop_assert!(!accepted || inside);
            prop_assert!(accepted || !inside || itemsize == 0 || handle.shape.contains(&0));
        }
    }

    fn sample() -> ArrayHandle {
        ArrayHandle {
            block: BlockHandle {
                arena: JoinHint { id: ArenaId(1), pid: 1, meta: 3, data: [4, 5] },
                id: BlockId { index: 1, generation: 2 },
                parcel: None,
            },
            mode: Mode::ReadOnly,
            offset: 0,
            shape: SmallVec::new(),
            strides: SmallVec::new(),
            dtype: SmallVec::new(),
        }
    }

    #[test]
    fn huge_shapes_do_not_overflow() {
        let handle = ArrayHandle {
            shape: SmallVec::from_elem(u64::MAX, 64),
            strides: SmallVec::from_elem(i64::MIN, 64),
            ..sample()
        };
        assert!(handle.check_bounds(u64::MAX, u64::MAX).is_err());
    }
}
