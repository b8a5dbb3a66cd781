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
    /// The group of the first one of these.
    base: usize,
    /// How many chunks there were before the array.
    before: usize,
    /// Whether others may follow.
    goes_on: bool,
}

/// What is known of arrays of rows that come one after the other, and are one array in the file: how its chunks are
/// encoded is found out for all of them.
#[derive(Debug, Default)]
pub struct Course {
    pipeline: Option<Pipeline>,
    cells: usize,
    plans: Vec<(usize, Plan)>,
}

impl Plans {
    /// Those of an array that is all there is.
    pub(crate) fn new(grid: &Grid, pipeline: &Pipeline) -> Self {
        // For fewer chunks, to find a plan takes longer than it saves.
        let has_plans = has_choice(grid, pipeline) && grid.cells() >= SHARED_BY;
        let groups = if has_plans { grid.cells().div_ceil(SHARED_BY) } else { 0 };
        Self { found: (0..groups).map(|_| OnceLock::new()).collect(), base: 0, before: 0, goes_on: false }
    }

    /// Those of the next array.
    pub(crate) fn following(course: &mut Course, grid: &Grid, pipeline: &Pipeline) -> Self {
        if course.pipeline != Some(*pipeline) {
            *course = Course { pipeline: Some(*pipeline), ..Course::default() };
        }
        let (before, base) = (course.cells, course.group_in_use());
        let end = if has_choice(grid, pipeline) { (before + grid.cells()).div_ceil(SHARED_BY) } else { base };
        let mut found: Vec<_> = (base..end).map(|_| OnceLock::new()).collect();
        for (group, plan) in course.plans.drain(..) {
            if let Some(place) = found.get_mut(group - base) {
                *place = OnceLock::from(plan);
            }
        }
        Self { found, base, before, goes_on: true }
    }

    /// Leaves to the next array what it has to know.
    pub(crate) fn pass_on(self, course: &mut Course, grid: &Grid) {
        course.cells = self.before + grid.cells();
        let plans = (self.base..).zip(self.found).filter_map(|(group, plan)| Some((group, plan.into_inner()?)));
        course.plans = plans.filter(|(group, _)| *group >= course.group_in_use()).collect();
    }

    /// The plan for a cell: that of the group before its own, for which nobody has to wait. `find` finds the one of a
    /// cell, and is called for the first of each group.
    pub(crate) fn of(&self, cell: usize, mut find: impl FnMut(usize) -> Plan) -> &Plan {
        let number = self.before + cell;
        let group = number / SHARED_BY;
        let mut plan = |group: usize| {
            let Some(plan) = group.checked_sub(self.base).and_then(|place| self.found.get(place)) else {
                return &Plan::Whole;
            };
            match (group * SHARED_BY).checked_sub(self.before) {
                Some(leader) => plan.get_or_init(|| find(leader)),
                None => plan.get().unwrap_or(&Plan::Whole),
            }
        };
        if number.is_multiple_of(SHARED_BY) && (self.goes_on || group + 1 < self.base + self.found.len()) {
            plan(group);
        }
        plan(group.saturating_sub(1))
    }
}

impl Course {
    /// The first group whose plan the next chunk may need.
    fn group_in_use(&self) -> usize {
        (self.cells / SHARED_BY).saturating_sub(1)
    }
}

fn has_choice(grid: &Grid, pipeline: &Pipeline) -> bool {
    match (pipeline.codec, pipeline.shuffle) {
        (Codec::Deflate { level }, Some(size)) => Zlib::has_choice(level, grid.cell_bytes() / size, size),
        _ => false,
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

    #[test]
    fn arrays_that_follow_each_other_have_the_plans_of_one() {
        let (asked, mut course) = (RefCell::new(Vec::new()), Course::default());
        let mut leaders = Vec::new();
        for count in [10, 1, 30, 100, 59] {
            let grid = Grid::new(&[count * 10_000], &[10_000], 2).unwrap();
            let before = leaders.len();
            let plans = Plans::following(&mut course, &grid, &PIPELINE);
            for cell in 0..count {
                let find = |cell| {
                    asked.borrow_mut().push(before + cell);
                    Plan::Planes(vec![Method::Runs { most: before + cell }])
                };
                let Plan::Planes(methods) = plans.of(cell, find) else { panic!("cell {cell} has no plan") };
                leaders.push(methods[0]);
            }
            plans.pass_on(&mut course, &grid);
        }
        let expected = |cell: usize| Method::Runs { most: (cell / SHARED_BY).saturating_sub(1) * SHARED_BY };
        assert_eq!(leaders, (0..200).map(expected).collect::<Vec<_>>());
        assert_eq!(*asked.borrow(), [0, 32, 64, 96, 128, 160, 192]);
    }

    #[test]
    fn what_is_known_of_other_filters_is_forgotten() {
        let (grid, mut course) = (Grid::new(&[40 * 10_000], &[10_000], 2).unwrap(), Course::default());
        let plans = Plans::following(&mut course, &grid, &PIPELINE);
        let found = plans.of(0, |_| Plan::Planes(vec![Method::Runs { most: 1 }; 2])).clone();
        plans.pass_on(&mut course, &grid);
        let other = Pipeline { shuffle: Some(4), ..PIPELINE };
        let plans = Plans::following(&mut course, &Grid::new(&[40 * 10_000], &[10_000], 4).unwrap(), &other);
        assert_ne!(plans.of(0, |_| Plan::Planes(vec![Method::Runs { most: 2 }; 4])), &found);
    }
}
