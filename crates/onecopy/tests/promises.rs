//! Memory that a process was granted and has not taken yet, when the process is killed. Needs a `main` of its own, as it
//! starts itself again.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use onecopy::{Arena, ArenaError, JoinHint, Options};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 64 * MIB;
const GRANTED: u64 = 40 * MIB;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--child") {
        let mut argument = || arguments.next().expect("a hint and a number");
        return be_killed_before_taking_it(argument().parse().unwrap(), argument().parse().unwrap());
    }
    // A broken lock would otherwise make this program wait for ever.
    // SAFETY: the call takes a number; nothing here uses the signal.
    unsafe { libc::alarm(120) };
    for written in [0, MIB, GRANTED - MIB] {
        a_killed_process_gives_back_what_it_was_granted(written);
    }
    println!("test a_killed_process_gives_back_what_it_was_granted ... ok");
}

fn be_killed_before_taking_it(hint: JoinHint, written: u64) {
    let draft = Arena::join(hint).unwrap().draft(GRANTED, GRANTED).unwrap();
    draft.write_at(0, &vec![1; written as usize]).unwrap();
    println!("granted");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn start(arena: &Arena, written: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--child", &arena.hint().to_string(), &written.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "granted\n");
    child
}

fn a_killed_process_gives_back_what_it_was_granted(written: u64) {
    let arena = Arena::create(Options { limit: Some(LIMIT), warm: None }).unwrap();
    let mut child = start(arena, written);
    let stats = arena.stats().unwrap();
    assert_eq!((stats.promised_bytes, stats.used_bytes), (GRANTED - written, GRANTED));
    let refused = arena.allocate(32 * MIB).unwrap_err();
    assert!(matches!(refused, ArenaError::OutOfMemory { free, .. } if free == LIMIT - GRANTED), "{refused}");

    child.kill().unwrap();
    child.wait().unwrap();
    drop(arena.allocate(60 * MIB).unwrap());
    let stats = arena.stats().unwrap();
    assert_eq!((stats.promised_bytes, stats.used_bytes, stats.blocks), (0, 0, 0));
    arena.verify().unwrap();
}
