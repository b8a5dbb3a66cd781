//! Death at every named point.

use std::collections::{BTreeMap, BTreeSet};

use onecopy_os::crash::{POINTS, Point};

use crate::reopen::is_of_opening;
use crate::survivor::{Row, Survivor};
use crate::worker::CHILD_DIED;

/// Attempts for each kill that is asked for: what a worker comes by depends on the others.
const ATTEMPTS: u64 = 20;
/// Passed only where the table of processes is full, which has a test of its own.
const JANITOR: &str = "janitor.locked";

/// Where the points of this harness stand: the arena and its lock. Those of other locks have a harness of their own.
const MODULES: [&str; 2] = ["onecopy_arena::", "onecopy_sync::word"];

fn names() -> BTreeSet<&'static str> {
    let all: BTreeSet<_> = POINTS.iter().map(Point::name).collect();
    assert_eq!(all.len(), POINTS.len(), "two points have the same name");
    let here = |point: &&Point| MODULES.iter().any(|module| point.module().starts_with(module));
    let names: BTreeSet<_> = POINTS.iter().filter(here).map(Point::name).collect();
    assert!(names.contains(JANITOR) && names.len() > 60, "only {} points are listed", names.len());
    names
}

/// How often a worker that is not killed comes by each point.
fn passes(survivor: &mut Survivor) -> BTreeMap<String, u64> {
    let mut passes = BTreeMap::new();
    for _ in 0..3 {
        let sent = survivor.send();
        let (said, code) = survivor.start(None, Some(sent), false).end();
        assert_eq!(code, Some(0), "a worker failed without being killed");
        survivor.look(Some(sent));
        for line in said {
            let (name, count) = line.split_once(' ').unwrap();
            let most = passes.entry(name.to_owned()).or_default();
            *most = count.parse::<u64>().unwrap().max(*most);
        }
    }
    passes
}

/// Kills workers at each point, at passes spread over their lives; the survivor and its traffic carry on each time.
pub(crate) fn kill_at_each(survivor: &mut Survivor, kills: u64) -> Row {
    let passes = passes(survivor);
    let mut rounds = 0;
    let points: Vec<_> = names().into_iter().filter(|&name| name != JANITOR && !is_of_opening(name)).collect();
    for &point in &points {
        let most = passes.get(point).copied().unwrap_or(0).max(1);
        let mut killed = 0;
        for attempt in 0..kills * ATTEMPTS {
            // The first pass too, and after a miss rather early ones.
            let pass = 1 + survivor.choices.below(most).min(attempt) / (1 + attempt / kills);
            rounds += 1;
            killed += u64::from(kill_once(survivor, point, pass));
            if killed == kills {
                break;
            }
        }
        assert_eq!(killed, kills, "{point} was reached {killed} times only");
        survivor.judge_waits(point);
    }
    let fault = match survivor.traffic().len() {
        0 if survivor.arena.path().is_some() => format!("SIGKILL at each of {} points, on disk", points.len()),
        0 => format!("SIGKILL at each of {} points, alone", points.len()),
        n => format!("SIGKILL at each of {} points, {n} others", points.len()),
    };
    survivor.row(&fault, rounds, kills * points.len() as u64)
}

/// Answers whether the worker, or a child of it, came by and died.
fn kill_once(survivor: &mut Survivor, point: &str, pass: u64) -> bool {
    let sent = survivor.send();
    let (_, code) = survivor.start(Some((point, pass)), Some(sent), false).end();
    assert!(matches!(code, None | Some(0 | CHILD_DIED)), "a worker failed at {point}, pass {pass}: {code:?}");
    survivor.look(Some(sent));
    code != Some(0)
}

/// Kills those that sweep before they join, as the table of processes is full of the dead.
pub(crate) fn kill_janitors(survivor: &mut Survivor, kills: u64) -> Row {
    while survivor.arena.stats().unwrap().members.len() < 511 {
        // SAFETY: this program has one thread, and the child ends at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        // SAFETY: a null status pointer is allowed.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
    }
    for _ in 0..kills {
        let (_, code) = survivor.start(Some((JANITOR, 1)), None, false).end();
        assert_eq!(code, None, "the janitor was not killed");
    }
    // The table is still full: now one of them does its work.
    let (_, code) = survivor.start(None, None, false).end();
    assert_eq!(code, Some(0));
    survivor.look(None);
    survivor.row("SIGKILL of a janitor, table full of the dead", kills, kills)
}
