//! Processes that are started to be killed, and what they leave on record.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use onecopy::{Arena, BlockId, JoinHint, Patience, Shareable, Shared, SharedObject};
use onecopy_os::crash::POINTS;

use crate::contents::Choices;
use crate::subjects;

/// Nothing that is waited for takes longer, however busy the machine is. Who waits longer hangs.
pub(crate) const HANG: Duration = Duration::from_secs(30);

pub(crate) fn patience() -> Patience<'static> {
    Patience::within(HANG)
}

/// A wait that may well end without anything.
pub(crate) fn moment() -> Patience<'static> {
    Patience::within(Duration::from_millis(4))
}

/// When a process dies.
#[derive(Debug, Clone)]
pub(crate) enum Death {
    Never,
    /// When it comes by a point for the `pass`th time.
    At {
        point: String,
        pass: u64,
    },
}

/// What a worker is told on its command line.
pub(crate) struct Orders {
    pub(crate) subject: &'static str,
    pub(crate) hint: JoinHint,
    pub(crate) blocks: Vec<BlockId>,
    /// Its name in the logs.
    pub(crate) actor: u32,
    pub(crate) seed: u64,
    pub(crate) death: Death,
    /// Goes on until its input ends.
    pub(crate) endless: bool,
}

/// What a process and the children that it forked said, line by line; and which of them were killed.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) lines: Vec<String>,
    pub(crate) killed: Vec<u32>,
}

/// A process that was started.
pub(crate) struct Running {
    actor: u32,
    child: Child,
    input: Option<ChildStdin>,
    record: File,
}

impl Running {
    pub(crate) fn start(orders: &Orders) -> Self {
        // A file and no pipe: nobody has to read it for the process to go on, and a killed one's words stay.
        // SAFETY: the name is a string that ends with zero; the descriptor is new, and nobody else's.
        let record = unsafe { File::from_raw_fd(libc::memfd_create(c"crash-log".as_ptr(), libc::MFD_CLOEXEC)) };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--worker").args(orders.to_words());
        let mut child = command.stdin(Stdio::piped()).stdout(record.try_clone().unwrap()).spawn().unwrap();
        let input = child.stdin.take();
        Self { actor: orders.actor, child, input, record }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Lets an endless one end.
    pub(crate) fn tell_to_end(&mut self) {
        drop(self.input.take());
    }

    /// Waits until it has ended; answers its log, and whether it or a child of it was killed.
    pub(crate) fn end(mut self) -> (Log, bool) {
        let status = self.child.wait().unwrap();
        let died = status.signal() == Some(libc::SIGKILL);
        self.wait_for_children();
        let mut text = String::new();
        self.record.seek(SeekFrom::Start(0)).unwrap();
        self.record.read_to_string(&mut text).unwrap();
        assert!(died || status.success(), "actor {} ended by {status}, after {text}", self.actor);
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let mut killed = killed_children(&lines);
        if died {
            killed.push(self.actor);
        }
        (Log { lines, killed }, died)
    }

    /// Waits until the children of one that was killed have ended too: they have the other end of its input.
    fn wait_for_children(&self) {
        let Some(input) = &self.input else { return };
        let mut end = libc::pollfd { fd: input.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one valid structure, as the call is told.
        let ready = unsafe { libc::poll(&raw mut end, 1, 2 * HANG.as_millis() as i32) };
        assert!(ready == 1 && end.revents & libc::POLLERR != 0, "a child of actor {} hangs", self.actor);
    }
}

/// The children that were begun and said of no end. Nobody has to see them die: their parent may be killed before.
fn killed_children(lines: &[String]) -> Vec<u32> {
    let said = |what: &str| -> Vec<u32> {
        lines.iter().filter_map(|line| line.strip_prefix(what)).map(|actor| actor.parse().unwrap()).collect()
    };
    let failed = said("failed ");
    assert!(failed.is_empty(), "the children {failed:?} failed");
    let ended = said("ended ");
    said("forks ").into_iter().filter(|actor| !ended.contains(actor)).collect()
}

/// A process at work.
pub(crate) struct Worker {
    pub(crate) arena: &'static Arena,
    pub(crate) actor: u32,
    pub(crate) choices: Choices,
    /// How many messages it has put.
    pub(crate) put: u32,
    blocks: Vec<BlockId>,
    children: u32,
}

impl Worker {
    /// The object in one of the blocks that this worker was told of.
    pub(crate) fn object<T: SharedObject>(&self, which: usize) -> T {
        T::from(self.shared(which))
    }

    pub(crate) fn shared<T: Shareable>(&self, which: usize) -> Shared<T> {
        Shared::attach(self.arena.get(self.blocks[which]).unwrap()).unwrap()
    }

    /// Says something that stays when this process is killed.
    pub(crate) fn say(line: &str) {
        // One system call: what two processes say does not mix, and nothing is lost in a buffer.
        std::io::stdout().lock().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush()).unwrap();
    }

    /// Lets a child do something and die by it.
    pub(crate) fn let_a_child_die(&mut self, at: Option<&str>, work: impl FnOnce(&mut Self)) {
        self.children += 1;
        let actor = self.actor * 100_000 + self.children;
        Self::say(&format!("forks {actor}\n"));
        // SAFETY: what the child uses is made for forks, and no other thread of this process runs.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            self.actor = actor;
            limit_life();
            if let Some(point) = at {
                arm(point, 1);
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(self)));
            if done.is_ok() && at.is_none() {
                die();
            }
            Self::say(&format!("{} {actor}\n", if done.is_ok() { "ended" } else { "failed" }));
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        let mut status = 0;
        // SAFETY: the status is a valid place for the call's answer.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(status == 0 || libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, "{status:#x}");
    }

    fn is_told_to_end() -> bool {
        let mut input = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure, as the call is told.
        unsafe { libc::poll(&raw mut input, 1, 0) };
        input.revents != 0
    }
}

fn die() -> ! {
    // SAFETY: a signal to this very process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("SIGKILL cannot be survived");
}

fn point(name: &str) -> &'static onecopy_os::crash::Point {
    POINTS.iter().find(|point| point.name() == name).unwrap_or_else(|| panic!("no point {name}"))
}

fn arm(name: &str, pass: u64) {
    let fatal = point(name);
    for other in POINTS {
        other.kill_at(if std::ptr::eq(other, fatal) { pass } else { 0 });
    }
}

/// Ends a process that hangs, which would otherwise be a hang of the whole test.
pub(crate) fn limit_life() {
    // SAFETY: the call takes a number; nothing here uses the signal.
    unsafe { libc::alarm(4 * HANG.as_secs() as u32) };
}

/// The life of a worker.
pub(crate) fn work(words: &[String]) {
    let orders = Orders::from_words(words);
    limit_life();
    let arena = Arena::join(orders.hint).unwrap();
    if let Death::At { point, pass } = &orders.death {
        arm(point, *pass);
    }
    let mut worker = Worker {
        arena,
        actor: orders.actor,
        choices: Choices(orders.seed),
        put: 0,
        blocks: orders.blocks,
        children: 0,
    };
    let subject = subjects::find(orders.subject);
    loop {
        (subject.work)(&mut worker);
        if !orders.endless || Worker::is_told_to_end() {
            break;
        }
    }
    if !orders.endless {
        POINTS.iter().for_each(|point| Worker::say(&format!("passes {} {}\n", point.name(), point.passes())));
    }
    arena.leave().unwrap();
}

impl Orders {
    fn to_words(&self) -> Vec<String> {
        let (point, pass) = match &self.death {
            Death::Never => (String::new(), 0),
            Death::At { point, pass } => (point.clone(), *pass),
        };
        let mut words = vec![self.subject.to_owned(), self.hint.to_string(), point];
        words.extend([self.seed, u64::from(self.actor), pass, u64::from(self.endless)].map(|word| word.to_string()));
        words.extend(self.blocks.iter().flat_map(|id| [id.index.to_string(), id.generation.to_string()]));
        words
    }

    fn from_words(words: &[String]) -> Self {
        let number = |i: usize| words[i].parse::<u64>().unwrap();
        let block = |i: usize| BlockId { index: number(i) as u32, generation: number(i + 1) as u32 };
        let death = match &*words[2] {
            "" => Death::Never,
            point => Death::At { point: point.to_owned(), pass: number(5) },
        };
        Self {
            subject: subjects::find(&words[0]).name,
            hint: words[1].parse().unwrap(),
            seed: number(3),
            actor: number(4) as u32,
            death,
            endless: number(6) != 0,
            blocks: (7..words.len()).step_by(2).map(block).collect(),
        }
    }
}
