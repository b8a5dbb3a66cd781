//! How the chunks of one array are encoded: found out on every so many-th, for those behind it.

use std::sync::OnceLock;

use crate::deflate::{Plan, Zlib};
use crate::grid::Grid;
use crate::pipeline::{Codec, Pipeline};

/// Chunks that share a plan. To find it takes some four times as long as to encode a chunk.
const SHARED_BY: usize = 32;

/// The plans of an array, by groups of chunks. Which one a chunk has depends on the array alone, so that what is stored
/// does not depend on the threads.
pub(crate) struct Plans {
    found: Vec<OnceLock<Plan>>,
}

impl Plans {
    pub(crate) fn new(grid: &Grid, pipeline: &Pipeline) -> Self {
        let has_choice = match (pipeline.codec, pipeline.shuffle) {
            (Codec::Deflate { level }, Some(size)) => Zlib::has_choice(level, grid.cell_bytes() / size, size),
            _ => false,
        };
        // For fewer chunks, to find a plan takes longer than it saves.
        let groups = if has_choice && grid.cells() >= SHARED_BY { grid.cells().div_ceil(SHARED_BY) } else { 0 };
        Self { found: (0..groups).map(|_| OnceLock::new()).collect() }
    }

    /// The plan for a cell: that of the group before its own, for which nobody has to wait. `find` finds the one of a
    /// cell, and is called for the first of each group.
    pub(crate) fn of(&self, cell: usize, mut find: impl FnMut(usize) -> Plan) -> &Plan {
        let group = cell / SHARED_BY;
        let mut plan = |group: usize| self.found[group].get_or_init(|| find(group * SHARED_BY));
        if self.found.is_empty() {
            return &Plan::Whole;
        }
        if cell.is_multiple_of(SHARED_BY) && group + 1 < self.found.len() {
            plan(group);
        }
        plan(group.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::Method;
    use std::cell::RefCell;

    const PIPELINE: Pipeline = Pipeline { shuffle: Some(2), codec: Codec::Deflate { level: 4 }, fletcher32: false };

    #[test]
    fn a_cell_has_the_plan_of_the_group_before() {
        let grid = Grid::new(&[100 * 10_000], &[10_000], 2).unwrap();
        let plans = Plans::new(&grid, &PIPELINE);
        let asked = RefCell::new(Vec::new());
        let find = |cell| {
            asked.borrow_mut().push(cell);
            Plan::Planes(vec![Method::Runs { most: cell }])
        };
        let found = |cell| match plans.of(cell, find) {
            Plan::Planes(methods) => methods[0],
            Plan::Whole => panic!("cell {cell} has no plan"),
        };
        for (cell, leader) in [(0, 0), (1, 0), (31, 0), (32, 0), (63, 0), (64, 32), (95, 32), (96, 64), (99, 64)] {
            assert_eq!(found(cell), Method::Runs { most: leader }, "{cell}");
        }
        // The last group has none to find a plan for.
        assert_eq!(*asked.borrow(), [0, 32, 64]);
    }

    #[test]
    fn without_a_choice_nothing_is_tried() {
        let grid = Grid::new(&[100 * 10_000], &[10_000], 2).unwrap();
        for pipeline in [
            Pipeline { shuffle: None, ..PIPELINE },
            Pipeline { shuffle: Some(1), ..PIPELINE },
            Pipeline { codec: Codec::Lzf, ..PIPELINE },
            Pipeline { codec: Codec::Deflate { level: 9 }, ..PIPELINE },
        ] {
            assert_eq!(Plans::new(&grid, &pipeline).of(5, |_| panic!("tried")), &Plan::Whole);
        }
        let few = Grid::new(&[31 * 10_000], &[10_000], 2).unwrap();
        assert_eq!(Plans::new(&few, &PIPELINE).of(5, |_| panic!("tried")), &Plan::Whole);
    }
}
