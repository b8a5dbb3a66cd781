//! What a process costs the arena when it comes and when it dies: `cargo bench -p onecopy-arena`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onecopy_arena::{Arena, JoinHint, Options};

const ROUNDS: usize = 25;
const BLOCKS: u32 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, hint] = &arguments[..] {
        return child(role, hint.parse().expect("a hint"));
    }
    let arena = Arena::create(Options { limit: Some(1 << 30), warm: None }).expect("an arena");
    report("take a slot", (0..ROUNDS).map(|_| time_of_slot(arena)));
    report("join: open and map it, take a slot", (0..ROUNDS).map(|_| time_of_join(arena, "join-unswept")));
    report("join, and look for dead processes", (0..ROUNDS).map(|_| time_of_join(arena, "join")));
    report("reap a dead process that held 100,000 blocks", (0..ROUNDS).map(|_| time_of_reap(arena)));
}

fn child(role: &str, hint: JoinHint) {
    let start = Instant::now();
    let arena = if role == "join-unswept" { Arena::join_unswept(hint) } else { Arena::join(hint) };
    let arena = arena.expect("the parent's arena");
    let elapsed = start.elapsed();
    let mut blocks = Vec::new();
    if role == "hold" {
        blocks.extend((0..BLOCKS).map(|_| arena.allocate(64).expect("a block")));
    }
    println!("{}", elapsed.as_nanos());
    // Until the parent ends it.
    let _ = std::io::stdin().read(&mut [0]);
    drop(blocks);
}

/// Starts a child and kills it once it has said how long it took to join.
fn run(arena: &Arena, role: &str) -> Duration {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([role, &arena.hint().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a child");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    child.kill().expect("the child is there");
    child.wait().expect("the child is there");
    Duration::from_nanos(line.trim().parse().expect("nanoseconds"))
}

/// The slot of this process, given up and taken again.
fn time_of_slot(arena: &Arena) -> Duration {
    arena.leave().expect("a sound arena");
    let start = Instant::now();
    arena.rejoin().expect("a free slot");
    start.elapsed()
}

fn time_of_join(arena: &Arena, role: &str) -> Duration {
    let elapsed = run(arena, role);
    arena.reap().expect("a sound arena");
    elapsed
}

fn time_of_reap(arena: &Arena) -> Duration {
    run(arena, "hold");
    let start = Instant::now();
    let reaped = arena.reap().expect("a sound arena");
    let elapsed = start.elapsed();
    assert_eq!(reaped, (1, BLOCKS));
    elapsed
}

fn report(what: &str, times: impl Iterator<Item = Duration>) {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    println!(
        "{what:46} median {:9.1?}  least {:9.1?}  most {:9.1?}",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1]
    );
}
