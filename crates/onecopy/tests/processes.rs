//! Arrays between real processes: forked, spawned, unrelated, and killed. Needs a `main` of its own, as it starts
//! itself again and forks without other threads.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::FromRawFd;
use std::process::{Child, Command, Stdio};

use onecopy::{Access, Arena, Array, DType, SESSION_VARIABLE, session};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--child") {
        return child(&arguments.next().expect("a role"), arguments.next().as_deref());
    }
    // A broken lock or fork would otherwise make this program wait for ever.
    // SAFETY: the call takes a number; nothing here uses the signal.
    unsafe { libc::alarm(300) };
    let tests: [(&str, fn()); 8] = [
        ("a_spawned_child_shares_the_session", a_spawned_child_shares_the_session),
        ("an_unrelated_process_joins_by_a_handle", an_unrelated_process_joins_by_a_handle),
        ("a_killed_process_leaves_nothing", a_killed_process_leaves_nothing),
        ("a_forked_child_holds_what_it_inherited", a_forked_child_holds_what_it_inherited),
        ("a_child_of_a_raw_system_call_is_told_so", a_child_of_a_raw_system_call_is_told_so),
        ("children_killed_in_the_cradle_leave_nothing", children_killed_in_the_cradle_leave_nothing),
        ("a_fork_during_the_first_call_is_no_deadlock", a_fork_during_the_first_call_is_no_deadlock),
        ("a_killed_owner_of_the_heap_lock_stops_nobody", a_killed_owner_of_the_heap_lock_stops_nobody),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
}

// --- the child's side ---

fn child(role: &str, handle: Option<&str>) {
    match role {
        "double" => {
            let array = Array::receive(&from_hex(handle.unwrap())).unwrap();
            let doubled: Vec<f64> = items(&array).iter().map(|x| 2.0 * x).collect();
            println!("{}", to_hex(&array_of(session().unwrap(), &doubled).send().unwrap()));
        }
        "hold" => {
            let arena = session().unwrap();
            let _held: Vec<_> = (1..200).map(|n| arena.allocate(n * 1000).unwrap()).collect();
            println!("holding");
            wait_for_the_end();
        }
        "churn" => {
            let arena = session().unwrap();
            println!("churning");
            loop {
                let held: Vec<_> = (1..50).map(|n| arena.allocate(n * 977).unwrap()).collect();
                let parcels = held[0].0.post().unwrap();
                drop(arena.receive(held[0].0.id(), Some(parcels)).unwrap());
            }
        }
        "fork-early" => fork_early(),
        _ => panic!("no role {role}"),
    }
}

/// Forks while another thread makes the session.
fn fork_early() {
    let begun = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            begun.wait();
            session().unwrap();
        });
        begun.wait();
        // SAFETY: the child uses what is made for forks.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: a lock that nobody releases would make the child wait for ever.
            unsafe { libc::alarm(60) };
            let ok = session().is_ok_and(|arena| arena.allocate(100).is_ok());
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!ok)) }
        }
        let mut status = 0;
        // SAFETY: the status is a valid place for the call's answer.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0, "the child hung or failed");
    });
}

fn wait_for_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

// --- both sides ---

fn array_of(arena: &'static Arena, values: &[f64]) -> Array {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    Array::copy_of(arena, &bytes, DType::scalar("<f8").unwrap(), &[values.len() as u64]).unwrap()
}

fn items(array: &Array) -> Vec<f64> {
    let first = array.address(Access::ReadOnly).unwrap().cast::<f64>();
    // SAFETY: the array is contiguous, of this type, and nobody writes to it.
    unsafe { std::slice::from_raw_parts(first.as_ptr(), array.shape()[0] as usize) }.to_vec()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        write!(text, "{b:02x}").unwrap();
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

// --- the parent's side ---

fn start(role: &str, handle: Option<&str>, session: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--child", role]).args(handle).stdin(Stdio::piped()).stdout(Stdio::piped());
    match session {
        Some(hint) => command.env(SESSION_VARIABLE, hint),
        None => command.env_remove(SESSION_VARIABLE),
    };
    command.spawn().unwrap()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn blocks() -> u32 {
    let arena = session().unwrap();
    arena.verify().unwrap();
    arena.stats().unwrap().blocks
}

fn a_spawned_child_shares_the_session() {
    let arena = session().unwrap();
    let sent = to_hex(&array_of(arena, &[1.0, 2.5, -3.0]).send().unwrap());
    let mut child = start("double", Some(&sent), Some(&arena.hint().to_string()));
    let reply = first_line(&mut child);
    assert!(child.wait().unwrap().success());
    // The sender has ended; its array has not.
    let array = Array::receive(&from_hex(&reply)).unwrap();
    assert_eq!(items(&array), [2.0, 5.0, -6.0]);
    drop(array);
    arena.reap().unwrap();
    assert_eq!(blocks(), 0);
}

fn an_unrelated_process_joins_by_a_handle() {
    let arena = session().unwrap();
    let sent = to_hex(&array_of(arena, &[7.0]).send().unwrap());
    let mut child = start("double", Some(&sent), None);
    let reply = first_line(&mut child);
    assert!(!reply.is_empty());
    assert!(child.wait().unwrap().success());
    // The reply was in the child's own arena, which ended with it.
    assert!(Array::receive(&from_hex(&reply)).unwrap_err().to_string().contains("cannot be reached"));
    arena.reap().unwrap();
    assert_eq!(blocks(), 0);
}

fn a_killed_process_leaves_nothing() {
    let arena = session().unwrap();
    let mut child = start("hold", None, Some(&arena.hint().to_string()));
    assert_eq!(first_line(&mut child), "holding");
    assert_eq!(blocks(), 199);
    kill(child);
    assert_eq!(arena.reap().unwrap(), (1, 199));
    assert_eq!(blocks(), 0);
}

fn a_fork_during_the_first_call_is_no_deadlock() {
    for _ in 0..40 {
        assert!(start("fork-early", None, None).wait().unwrap().success());
    }
}

fn a_killed_owner_of_the_heap_lock_stops_nobody() {
    let arena = session().unwrap();
    for _ in 0..60 {
        let mut child = start("churn", None, Some(&arena.hint().to_string()));
        assert_eq!(first_line(&mut child), "churning");
        let mine = array_of(arena, &[4.0; 100]);
        kill(child);
        assert_eq!(items(&mine), [4.0; 100]);
        drop(mine);
        arena.reap().unwrap();
        // A parcel that was in flight when its sender died belongs to nobody; here at most the one of each round.
        let stats = arena.stats().unwrap();
        assert_eq!(stats.blocks, stats.parcels.min(stats.blocks));
        arena.verify().unwrap();
    }
}

/// Two ends of a pipe.
fn pipe() -> (std::fs::File, std::fs::File) {
    let mut ends = [0; 2];
    // SAFETY: the array has room for two descriptors, which are this function's to give away.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        (std::fs::File::from_raw_fd(ends[0]), std::fs::File::from_raw_fd(ends[1]))
    }
}

fn a_forked_child_holds_what_it_inherited() {
    let arena = session().unwrap();
    let array = array_of(arena, &[1.0, 2.0]);
    let ((mut go_in, mut go_out), (mut reply_in, mut reply_out)) = (pipe(), pipe());
    // SAFETY: this program has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        go_in.read_exact(&mut [0]).unwrap();
        let ok = items(&array) == [1.0, 2.0] && arena.allocate(100).is_ok();
        drop(array);
        reply_out.write_all(&[u8::from(ok)]).unwrap();
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(0) }
    }
    assert_eq!(arena.stats().unwrap().members.len(), 2);
    drop(array);
    assert_eq!(blocks(), 1, "the child still holds it");
    go_out.write_all(&[0]).unwrap();
    let mut ok = [0];
    reply_in.read_exact(&mut ok).unwrap();
    assert_eq!(ok, [1]);
    wait_for(pid);
    arena.reap().unwrap();
    assert_eq!(blocks(), 0);
}

fn wait_for(pid: i32) {
    // SAFETY: a null status pointer is allowed.
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
}

fn a_child_of_a_raw_system_call_is_told_so() {
    let arena = session().unwrap();
    let array = array_of(arena, &[8.0; 10]);
    // SAFETY: a fork by another door; this program has one thread, and the child ends here.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as i32;
    if pid == 0 {
        let told = arena.allocate(10).is_err_and(|error| error.to_string().contains("raw system call"));
        let same = items(&array) == [8.0; 10];
        drop(array);
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!(told && same))) }
    }
    let mut status = 0;
    // SAFETY: the status is a valid place for the call's answer.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert_eq!(blocks(), 1, "the child let go of what the parent holds");
    assert_eq!(items(&array), [8.0; 10]);
    drop(array);
    assert_eq!(blocks(), 0);
}

fn children_killed_in_the_cradle_leave_nothing() {
    let arena = session().unwrap();
    let array = array_of(arena, &[5.0; 1000]);
    for _ in 0..100 {
        // SAFETY: this program has one thread; the child only waits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { libc::pause() };
        }
        // SAFETY: the child is this test's own and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        wait_for(pid);
    }
    arena.reap().unwrap();
    assert_eq!(arena.stats().unwrap().members.len(), 1);
    drop(array);
    assert_eq!(blocks(), 0);
}
