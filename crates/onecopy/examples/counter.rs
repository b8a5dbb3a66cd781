//! Two processes count to a hundred million together, one by one: `cargo run --release --package onecopy --example
//! counter`. A number of increments per process may follow.

use std::error::Error;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use onecopy::{Counter, SESSION_VARIABLE, SharedObject, session, session_hint};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--count", times, handle] => count(times.parse()?, &bytes(handle)?),
        [] => count_together(50_000_000),
        [times] => count_together(times.parse()?),
        _ => Err("usage: counter [TIMES]".into()),
    }
}

fn count_together(times: u64) -> Result<(), Box<dyn Error>> {
    let counter = Counter::new(session()?, 0)?;
    let start = Instant::now();
    let mut children = Vec::new();
    for _ in 0..2 {
        let child = Command::new(std::env::current_exe()?)
            .args(["--count", &times.to_string(), &hex(&counter.send()?)])
            .env(SESSION_VARIABLE, session_hint()?)
            .stdin(Stdio::null())
            .spawn()?;
        children.push(child);
    }
    for mut child in children {
        if !child.wait()?.success() {
            return Err("a process that counts has failed".into());
        }
    }
    println!("{} in {:.1} s", counter.get(), start.elapsed().as_secs_f64());
    Ok(())
}

fn count(times: u64, handle: &[u8]) -> Result<(), Box<dyn Error>> {
    let counter = Counter::receive(handle)?;
    for _ in 0..times {
        counter.add(1)?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16)).collect()
}
