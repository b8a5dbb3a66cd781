//! Real processes, really killed while they use locks, queues and containers: at every named point of these, and at
//! random times, alone and with others that go on.
//!
//! Needs the feature `crash-points`, and a `main` of its own, as it starts itself again and forks without other threads.
//! `ONECOPY_KILLS` sets the kills at each point, `ONECOPY_ROUNDS=2000` those at random times of each subject,
//! `ONECOPY_SEED` repeats the choices of a run, and `ONECOPY_SUBJECT=queue` runs one line of the table.
//!
//! To add a thing that is shared: a line in [`subjects::SUBJECTS`], and what it consists of beside `queue.rs`.

mod arrays;
mod containers;
#[expect(dead_code, reason = "what it does with blocks is for the harness of the arena")]
#[path = "../../../onecopy-arena/tests/crash/contents.rs"]
mod contents;
mod counters;
mod history;
mod locks;
mod nested;
mod pipes;
mod process;
mod queue;
mod stage;
mod subjects;
mod waits;
mod watches;

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use stage::Stage;
use subjects::{POINTS_OF, SUBJECTS, Subject};

/// Kills at each point, as many alone as with others: 20 together.
const KILLS: u64 = 10;
/// Kills at random times, per subject.
const ROUNDS: u64 = 25;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--worker") => process::work(&arguments[2..]),
        Some("--subject") => inflict(subjects::find(&arguments[2]), setting("ONECOPY_SEED").unwrap()),
        _ => inflict_all(),
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn inflict_all() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("ONECOPY_SEED").unwrap_or(now.as_secs());
    println!("ONECOPY_SEED={seed}");
    println!("{}", stage::HEADING);
    let only = std::env::var("ONECOPY_SUBJECT").ok();
    let chosen: Vec<_> = SUBJECTS.iter().filter(|one| only.as_deref().is_none_or(|only| only == one.name)).collect();
    // Two at a time, so that one waits while the other works.
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(subject) = chosen.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                    print!("{}", table_of(subject, seed));
                }
            });
        }
    });
    println!("0 hangs, 0 lost messages of others, 0 wrong contents, 0 bytes left");
}

fn table_of(subject: &Subject, seed: u64) -> String {
    let mut stage = Command::new(std::env::current_exe().unwrap());
    stage.args(["--subject", subject.name]).env("ONECOPY_SEED", seed.to_string()).stderr(Stdio::inherit());
    let output = stage.output().unwrap();
    assert!(output.status.success(), "{}: {}", subject.name, output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn inflict(subject: &'static Subject, seed: u64) {
    let kills = setting("ONECOPY_KILLS").unwrap_or(KILLS);
    let rounds = setting("ONECOPY_ROUNDS").unwrap_or(ROUNDS);
    let mut stage = Stage::new(subject, seed);
    for others in [0, 2] {
        println!("{}", stage.kill_at_each_point(POINTS_OF, others, kills));
    }
    println!("{}", stage.kill_at_random(rounds));
}
