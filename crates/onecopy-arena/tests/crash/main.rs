//! Real processes, really killed: at every named point, and at random times.
//!
//! Needs the feature `crash-points`, and a `main` of its own, as it starts itself again and forks without other threads.
//! `ONECOPY_ROUNDS=2000` sets the rounds at random times, `ONECOPY_KILLS` the kills at each point, `ONECOPY_SEED` repeats the choices of a run.

mod chaos;
mod contents;
mod points;
mod reopen;
mod survivor;
mod worker;

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use survivor::{Directory, Survivor};

/// Kills at each point, as many alone as with traffic: 20 together.
const KILLS: u64 = 10;
/// Deaths at random times: of one process, and as many of all of them.
const ROUNDS: u64 = 100;
/// What dies how, each by a survivor of its own. Two survivors run at a time.
const FAULTS: [&[&str]; 2] = [&["alone", "janitors", "reopened"], &["traffic", "random", "on-disk"]];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--worker") => worker::run(&survivor::orders_from(&arguments[2..])),
        Some("--user") => reopen::use_it(&arguments[2..]),
        Some("--look") => reopen::look_at_it(&arguments[2..]),
        Some("--fault") => inflict(&arguments[2], setting("ONECOPY_SEED").unwrap()),
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
    let before = survivor::shared_memory_files();
    let rows: Vec<String> = std::thread::scope(|scope| {
        let threads = FAULTS
            .map(|faults| scope.spawn(move || faults.iter().map(|fault| table_of(fault, seed)).collect::<String>()));
        threads.into_iter().map(|thread| thread.join().expect("a survivor failed")).collect()
    });
    assert_eq!(survivor::shared_memory_files(), before, "a file appeared in /dev/shm");
    println!("{:44} {:>6} {:>6} {:>8} {:>12}", "fault", "rounds", "kills", "repairs", "slowest");
    print!("{}", rows.concat());
    println!("0 leaked, 0 hangs, 0 wrong bytes, 0 files");
}

fn table_of(fault: &str, seed: u64) -> String {
    let mut survivor = Command::new(std::env::current_exe().unwrap());
    survivor.args(["--fault", fault]).env("ONECOPY_SEED", seed.to_string()).stderr(Stdio::inherit());
    let output = survivor.output().unwrap();
    assert!(output.status.success(), "{fault}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn inflict(fault: &str, seed: u64) {
    let rounds = setting("ONECOPY_ROUNDS").unwrap_or(ROUNDS);
    let kills = setting("ONECOPY_KILLS").unwrap_or(KILLS);
    survivor::limit_round();
    if fault == "reopened" {
        let mut place = reopen::Place::new(seed);
        println!("{}", place.kill_at_each(kills));
        println!("{}", place.kill_at_random(rounds));
        return;
    }
    let directory = (fault == "on-disk").then(Directory::new);
    let mut survivor = Survivor::new(seed, directory.as_ref().map(|directory| directory.0.as_path()));
    match fault {
        "alone" | "on-disk" => println!("{}", points::kill_at_each(&mut survivor, kills)),
        "traffic" => {
            survivor.start_traffic(2);
            println!("{}", points::kill_at_each(&mut survivor, kills));
        }
        "janitors" => println!("{}", points::kill_janitors(&mut survivor, kills)),
        "random" => {
            println!("{}", chaos::kill_single(&mut survivor, rounds));
            println!("{}", chaos::kill_groups(&mut survivor, rounds));
        }
        _ => panic!("no fault {fault}"),
    }
    survivor.end();
}
