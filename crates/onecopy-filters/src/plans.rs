//! How the chunks of one array are encoded: found out on every so many-th, for those behind it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::deflate::{Plan, Zlib};
use crate::error::Error;
use crate::grid::Grid;
use crate::pipeline::{Codec, Pipeline};

/// Chunks that share a plan. To find it takes some four times as long as to encode a chunk.
const SHARED_BY: usize = 32;

/// The plans of an array, by groups of chunks. Which one a chunk has depends on the array alone, so that what is stored
/// does not depend on the threads.
pub(crate) struct Plans<L> {
    groups: Vec<Arc<Group<L>>>,
    /// The number of the first one of these.
    base: usize,
    /// How many chunks there were before the array.
    before: usize,
    /// Whether others may follow.
    goes_on: bool,
}

/// Chunks that share a plan.
#[derive(Debug)]
struct Group<L> {
    plan: OnceLock<Plan>,
    /// Held by the one who is finding it.
    finding: Mutex<()>,
    /// Where the chunk is on which it is found.
    leader: L,
}

/// What is known of arrays of rows that come one after the other, and are one array in the file: how its chunks are
/// encoded is found out for all of them.
#[derive(Debug)]
pub(crate) struct Course<L> {
    pipeline: Option<Pipeline>,
    cells: usize,
    /// Those that the next array may need, the first one with its number.
    groups: Vec<Arc<Group<L>>>,
    base: usize,
}

impl<L> Default for Course<L> {
    fn default() -> Self {
        Self { pipeline: None, cells: 0, groups: Vec::new(), base: 0 }
    }
}

impl<L> Plans<L> {
    /// Those of an array that is all there is. `leader` says where a cell is.
    pub(crate) fn new(grid: &Grid, pipeline: &Pipeline, leader: impl Fn(usize) -> L) -> Self {
        // For fewer chunks, to find a plan takes longer than it saves.
        let has_plans = has_choice(grid, pipeline) && grid.cells() >= SHARED_BY;
        let groups = if has_plans { grid.cells().div_ceil(SHARED_BY) } else { 0 };
        let groups = (0..groups).map(|group| Group::new(leader(group * SHARED_BY))).collect();
        Self { groups, base: 0, before: 0, goes_on: false }
    }

    /// Those of the next array.
    pub(crate) fn following(
        course: &mut Course<L>,
        grid: &Grid,
        pipeline: &Pipeline,
        leader: impl Fn(usize) -> L,
    ) -> Self {
        if course.pipeline != Some(*pipeline) {
            *course = Course { pipeline: Some(*pipeline), ..Course::default() };
        }
        let (before, base) = (course.cells, course.base);
        let mut groups = std::mem::take(&mut course.groups);
        course.cells += grid.cells();
        if has_choice(grid, pipeline) {
            let new = base + groups.len()..course.cells.div_ceil(SHARED_BY);
            groups.extend(new.map(|group| Group::new(leader(group * SHARED_BY - before))));
        }
        // The first one whose plan the next chunk may need.
        course.base = (course.cells / SHARED_BY).saturating_sub(1);
        course.groups = groups.iter().skip(course.base - base).map(Arc::clone).collect();
        Self { groups, base, before, goes_on: true }
    }

    /// The plan for a cell: that of the group before its own, for which nobody has to wait. `find` finds the one of a
    /// leader.
    ///
    /// # Errors
    /// The error of `find`.
    pub(crate) fn of(&self, cell: usize, mut find: impl FnMut(&L) -> Result<Plan, Error>) -> Result<&Plan, Error> {
        let number = self.before + cell;
        let group = number / SHARED_BY;
        let mut plan = |group: usize| match group.checked_sub(self.base).and_then(|place| self.groups.get(place)) {
            Some(group) => group.plan(&mut find),
            None => Ok(&Plan::Whole),
        };
        // Whoever leads a group finds its plan, so that all who come later have it.
        if number.is_multiple_of(SHARED_BY) && (self.goes_on || group + 1 < self.base + self.groups.len()) {
            plan(group)?;
        }
        plan(group.saturating_sub(1))
    }
}

impl<L> Group<L> {
    fn new(leader: L) -> Arc<Self> {
        Arc::new(Self { plan: OnceLock::new(), finding: Mutex::default(), leader })
    }

    fn plan(&self, find: impl FnOnce(&L) -> Result<Plan, Error>) -> Result<&Plan, Error> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let _finding = self.finding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let plan = find(&self.leader)?;
        Ok(self.plan.get_or_init(|| plan))
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
        let plans = Plans::new(&grid, &PIPELINE, |cell| cell);
        let asked = RefCell::new(Vec::new());
        let find = |cell: &usize| {
            asked.borrow_mut().push(*cell);
            Ok(Plan::Planes(vec![Method::Runs { most: *cell }]))
        };
        let found = |cell| match plans.of(cell, find).unwrap() {
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
            assert_eq!(Plans::new(&grid, &pipeline, |_| ()).of(5, |()| panic!("tried")), Ok(&Plan::Whole));
        }
        let few = Grid::new(&[31 * 10_000], &[10_000], 2).unwrap();
        assert_eq!(Plans::new(&few, &PIPELINE, |_| ()).of(5, |()| panic!("tried")), Ok(&Plan::Whole));
    }

    fn found_at(leader: usize) -> Plan {
        Plan::Planes(vec![Method::Runs { most: leader }])
    }

    #[test]
    fn arrays_that_follow_each_other_have_the_plans_of_one() {
        for late in [false, true] {
            let (asked, mut course) = (RefCell::new(Vec::new()), Course::default());
            let (mut begun, mut parts) = (0, Vec::new());
            for count in [10, 1, 30, 100, 59] {
                let grid = Grid::new(&[count * 10_000], &[10_000], 2).unwrap();
                parts.push((count, Plans::following(&mut course, &grid, &PIPELINE, |cell| begun + cell)));
                begun += count;
            }
            // Also when the last one is the first for which one is asked.
            if late {
                parts.reverse();
            }
            let find = |leader: &usize| {
                asked.borrow_mut().push(*leader);
                Ok(found_at(*leader))
            };
            let numbers = |(count, plans): &(usize, Plans<usize>)| {
                let found = |cell| (plans.before + cell, plans.of(cell, find).unwrap().clone());
                (0..*count).map(found).collect::<Vec<_>>()
            };
            let mut leaders: Vec<_> = parts.iter().flat_map(numbers).collect();
            leaders.sort_by_key(|(number, _)| *number);
            let expected = |cell: usize| found_at((cell / SHARED_BY).saturating_sub(1) * SHARED_BY);
            assert_eq!(leaders, (0..200).map(|cell| (cell, expected(cell))).collect::<Vec<_>>());
            let mut asked = asked.into_inner();
            asked.sort_unstable();
            assert_eq!(asked, [0, 32, 64, 96, 128, 160, 192]);
        }
    }

    #[test]
    fn what_is_known_of_other_filters_is_forgotten() {
        let (grid, mut course) = (Grid::new(&[40 * 10_000], &[10_000], 2).unwrap(), Course::default());
        let plans = Plans::following(&mut course, &grid, &PIPELINE, |_| 1);
        let found = plans.of(0, |leader| Ok(found_at(*leader))).unwrap().clone();
        let other = Pipeline { shuffle: Some(4), ..PIPELINE };
        let grid = Grid::new(&[40 * 10_000], &[10_000], 4).unwrap();
        let plans = Plans::following(&mut course, &grid, &other, |_| 2);
        assert_ne!(plans.of(0, |leader| Ok(found_at(*leader))).unwrap(), &found);
    }

    #[test]
    fn a_plan_that_could_not_be_found_is_looked_for_again() {
        let grid = Grid::new(&[40 * 10_000], &[10_000], 2).unwrap();
        let plans = Plans::new(&grid, &PIPELINE, |cell| cell);
        let error = Error::OutOfMemory { bytes: 5 };
        assert_eq!(plans.of(3, |_| Err(error.clone())), Err(error));
        assert_eq!(plans.of(3, |leader| Ok(found_at(*leader))), Ok(&found_at(0)));
    }
}
