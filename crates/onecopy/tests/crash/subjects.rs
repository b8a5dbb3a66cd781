//! The table of what is shared: one line for each thing, and nothing else to change when there is another.

use onecopy::Arena;

use crate::contents::Choices;
use crate::process::{Log, Worker};
use crate::{containers, counters, locks, nested, pipes, queue, waits, watches};

/// Something that processes share, and how they use it.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// Makes one, in the process that stays.
    pub(crate) begin: fn(&'static Arena, &mut Choices) -> Box<dyn Scene>,
    /// Does all that can be done with it, in a process that may be killed meanwhile; others do it again and again.
    pub(crate) work: fn(&mut Worker),
    /// The modules whose points it is killed at.
    pub(crate) modules: &'static [&'static str],
}

/// One of them, as the process that stays has it.
pub(crate) trait Scene {
    /// The blocks by which another process finds it.
    fn blocks(&self) -> Vec<onecopy::BlockId>;
    /// Uses it after a death, while others do.
    fn go_on(&mut self);
    /// Judges it when all others have ended, each of which left a log.
    fn settle(self: Box<Self>, logs: &[Log]);
}

/// The table.
pub(crate) static SUBJECTS: &[Subject] = &[
    queue::QUEUE,
    containers::DICT,
    containers::LIST,
    locks::LOCK,
    locks::RLOCK,
    locks::RWLOCK,
    waits::SEMAPHORE,
    waits::CONDITION,
    waits::EVENT,
    waits::BARRIER,
    pipes::PIPE,
    watches::REACTOR,
    counters::COUNTER,
    nested::NESTED,
];

/// All points of these must be reached by some subject; those of the arena have a harness of their own.
pub(crate) const POINTS_OF: &[&str] = &["onecopy_sync::", "onecopy_collections::", "onecopy::"];

pub(crate) fn find(name: &str) -> &'static Subject {
    SUBJECTS.iter().find(|subject| subject.name == name).unwrap_or_else(|| panic!("no subject {name}"))
}
