//! How an n-dimensional array in row-major order falls apart into equal chunks.

use crate::error::Error;

/// An array and the chunks that cover it.
///
/// Chunks are counted in row-major order and called cells. A cell at the edge of the array has the full size too; what
/// lies outside the array is padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    shape: Vec<usize>,
    chunk: Vec<usize>,
    counts: Vec<usize>,
    item: usize,
    array_bytes: usize,
    cell_bytes: usize,
}

/// Bytes that are consecutive both in the array and in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Offset in the array, bytes.
    pub array: usize,
    /// Offset in the cell, bytes.
    pub cell: usize,
    /// Length, bytes.
    pub len: usize,
}

impl Grid {
    /// Lays chunks of shape `chunk` over an array of shape `shape` with `item` bytes per element.
    ///
    /// A chunk may be larger than the array, as in a dataset that shall grow.
    ///
    /// # Errors
    /// [`Error::ChunkShape`] when the number of axes differs or a size is 0, [`Error::TooLarge`] when a size overflows.
    pub fn new(shape: &[usize], chunk: &[usize], item: usize) -> Result<Self, Error> {
        if shape.len() != chunk.len() || chunk.contains(&0) || item == 0 {
            return Err(Error::ChunkShape { chunk: chunk.to_vec(), shape: shape.to_vec() });
        }
        let counts: Vec<usize> = shape.iter().zip(chunk).map(|(&n, &c)| n.div_ceil(c)).collect();
        // Checked once, so that the products below (all of them parts of these) cannot overflow.
        product(&counts, 1)?;
        Ok(Self {
            array_bytes: product(shape, item)?,
            cell_bytes: product(chunk, item)?,
            shape: shape.to_vec(),
            chunk: chunk.to_vec(),
            counts,
            item,
        })
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.counts.iter().product()
    }

    /// Bytes of the array.
    pub fn array_bytes(&self) -> usize {
        self.array_bytes
    }

    /// Bytes of one cell, padding included.
    pub fn cell_bytes(&self) -> usize {
        self.cell_bytes
    }

    /// Index of the first element of a cell along each axis: what HDF5 calls the offset of a chunk.
    pub fn origin(&self, cell: usize) -> Vec<usize> {
        let mut rest = cell;
        let mut origin = vec![0; self.shape.len()];
        for axis in (0..origin.len()).rev() {
            origin[axis] = rest % self.counts[axis] * self.chunk[axis];
            rest /= self.counts[axis];
        }
        origin
    }

    /// The cell that begins at `origin`, or `None` when no cell does.
    pub fn cell_at(&self, origin: &[usize]) -> Option<usize> {
        if origin.len() != self.shape.len() {
            return None;
        }
        let mut cell = 0;
        for (axis, &first) in origin.iter().enumerate() {
            if first >= self.shape[axis] || !first.is_multiple_of(self.chunk[axis]) {
                return None;
            }
            cell = cell * self.counts[axis] + first / self.chunk[axis];
        }
        Some(cell)
    }

    /// Calls `visit` for each run of a cell, in order. Together the runs are the part of the cell inside the array.
    pub fn runs(&self, cell: usize, mut visit: impl FnMut(Run)) {
        let origin = self.origin(cell);
        let extent: Vec<usize> = (0..origin.len()).map(|d| self.chunk[d].min(self.shape[d] - origin[d])).collect();
        let split = self.split_axis();
        let array_strides = strides(&self.shape, self.item);
        let cell_strides = strides(&self.chunk, self.item);
        let dot = |a: &[usize], b: &[usize]| a.iter().zip(b).map(|(x, y)| x * y).sum::<usize>();
        let len = extent.get(split).map_or(self.item, |n| n * cell_strides[split]);
        let base = dot(&origin, &array_strides);
        let mut index = vec![0; split];
        loop {
            visit(Run { array: base + dot(&index, &array_strides), cell: dot(&index, &cell_strides), len });
            if !advance(&mut index, &extent) {
                return;
            }
        }
    }

    /// The last axis along which a cell is cut: from it on, elements are consecutive in the array and in the cell.
    fn split_axis(&self) -> usize {
        (0..self.shape.len()).rev().find(|&d| d == 0 || self.chunk[d] != self.shape[d]).unwrap_or(0)
    }
}

/// Steps `index` through all combinations below `extent`, the last axis fastest; `false` after the last one.
fn advance(index: &mut [usize], extent: &[usize]) -> bool {
    for axis in (0..index.len()).rev() {
        index[axis] += 1;
        if index[axis] < extent[axis] {
            return true;
        }
        index[axis] = 0;
    }
    false
}

fn strides(shape: &[usize], item: usize) -> Vec<usize> {
    let mut strides = vec![item; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// `item` times all sizes. Sizes of 0 count as 1 for the check, so that every stride of the array is in range as well.
fn product(shape: &[usize], item: usize) -> Result<usize, Error> {
    shape
        .iter()
        .try_fold(item, |total, &n| total.checked_mul(n.max(1)))
        .filter(|&total| isize::try_from(total).is_ok())
        .map(|total| if shape.contains(&0) { 0 } else { total })
        .ok_or_else(|| Error::TooLarge { shape: shape.to_vec(), item })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(grid: &Grid, cell: usize) -> Vec<(usize, usize, usize)> {
        let mut all = Vec::new();
        grid.runs(cell, |run| all.push((run.array, run.cell, run.len)));
        all
    }

    #[test]
    fn rows_of_a_table_are_one_run() {
        let grid = Grid::new(&[10, 6], &[4, 6], 2).unwrap();
        assert_eq!((grid.cells(), grid.cell_bytes(), grid.array_bytes()), (3, 48, 120));
        assert_eq!(runs(&grid, 1), [(48, 0, 48)]);
        assert_eq!(runs(&grid, 2), [(96, 0, 24)]);
        assert_eq!(grid.origin(2), [8, 0]);
    }

    #[test]
    fn tiles_are_one_run_per_row() {
        let grid = Grid::new(&[3, 5], &[2, 3], 1).unwrap();
        assert_eq!(grid.cells(), 4);
        assert_eq!(runs(&grid, 0), [(0, 0, 3), (5, 3, 3)]);
        assert_eq!(runs(&grid, 3), [(13, 0, 2)]);
    }

    #[test]
    fn a_chunk_may_exceed_the_array() {
        let grid = Grid::new(&[2, 2], &[8, 4], 1).unwrap();
        assert_eq!(runs(&grid, 0), [(0, 0, 2), (2, 4, 2)]);
    }

    #[test]
    fn a_scalar_is_one_cell_and_nothing_has_none() {
        assert_eq!(runs(&Grid::new(&[], &[], 8).unwrap(), 0), [(0, 0, 8)]);
        assert_eq!(Grid::new(&[0, 3], &[2, 3], 8).unwrap().cells(), 0);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(matches!(Grid::new(&[3], &[0], 1), Err(Error::ChunkShape { .. })));
        assert!(matches!(Grid::new(&[3], &[1, 1], 1), Err(Error::ChunkShape { .. })));
        assert!(matches!(Grid::new(&[usize::MAX, 0], &[1, 1], 8), Err(Error::TooLarge { .. })));
        let grid = Grid::new(&[10], &[4], 1).unwrap();
        assert_eq!(
            [grid.cell_at(&[4]), grid.cell_at(&[5]), grid.cell_at(&[12]), grid.cell_at(&[])],
            [Some(1), None, None, None]
        );
    }

    proptest! {
        #[test]
        fn cells_partition_the_array(axes in proptest::collection::vec((1usize..7, 1usize..5), 1..4), item in 1usize..4) {
            let (shape, chunk): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
            let grid = Grid::new(&shape, &chunk, item).unwrap();
            let mut seen = vec![0u8; grid.array_bytes()];
            for cell in 0..grid.cells() {
                prop_assert_eq!(grid.cell_at(&grid.origin(cell)), Some(cell));
                let mut inside = vec![0u8; grid.cell_bytes()];
                grid.runs(cell, |run| {
                    seen[run.array..run.array + run.len].iter_mut().for_each(|n| *n += 1);
                    inside[run.cell..run.cell + run.len].iter_mut().for_each(|n| *n += 1);
                });
                prop_assert!(inside.iter().all(|&n| n <= 1));
            }
            prop_assert!(seen.iter().all(|&n| n == 1));
        }
    }
}
