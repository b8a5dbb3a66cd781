//! Messages of 64 bytes from one process to another, and back: `cargo bench -p onecopy --bench queue`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use onecopy::{Batch, Patience, Queue, SESSION_VARIABLE, SharedObject, ValueKind, session, session_hint};

const ROUNDS: usize = 5;
const MESSAGES: u64 = 3_000_000;
const EXCHANGES: u64 = 200_000;
const BYTES: usize = 64;

fn main() {
    if let Some(("--consume", handles)) =
        std::env::args().nth(1).zip(std::env::args().nth(2)).as_ref().map(|(a, b)| (a.as_str(), b))
    {
        return consume(handles);
    }
    for round in 1..=ROUNDS {
        let arena = session().unwrap();
        let (there, back) = (Queue::new(arena, None).unwrap(), Queue::new(arena, None).unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--consume", &format!("{} {}", hex(&there.send().unwrap()), hex(&back.send().unwrap()))])
            .env(SESSION_VARIABLE, session_hint().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let one = rate(&there, &back, 1);
        let many = rate(&there, &back, 100);
        let exchange = exchanges(&there, &back);
        child.wait().unwrap();
        println!(
            "round {round}: {:.1} M messages/s one by one, {:.1} M/s by 100, exchange p50 {:.2} us p99 {:.2} us",
            one / 1e6,
            many / 1e6,
            exchange.0 * 1e6,
            exchange.1 * 1e6
        );
    }
}

fn send(queue: &Queue, batch: &Batch) {
    queue.put_batch(batch, &Patience::FOREVER).unwrap();
}

fn receive(queue: &Queue, batch: &mut Batch, most: u32) -> u64 {
    batch.clear();
    u64::from(queue.take_batch(most, batch, &Patience::FOREVER).unwrap())
}

/// Messages per second until the other side says that it has them all.
fn rate(there: &Queue, back: &Queue, at_once: u64) -> f64 {
    let (mut batch, mut reply) = (Batch::new(), Batch::new());
    let start = Instant::now();
    for _ in 0..MESSAGES / at_once {
        batch.clear();
        (0..at_once).for_each(|n| there.push(&mut batch, ValueKind::Bytes, &[n as u8; BYTES]).unwrap());
        send(there, &batch);
    }
    receive(back, &mut reply, 1);
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}

fn exchanges(there: &Queue, back: &Queue) -> (f64, f64) {
    let (mut batch, mut reply) = (Batch::new(), Batch::new());
    there.push(&mut batch, ValueKind::Bytes, &[7; BYTES]).unwrap();
    let mut seconds: Vec<_> = (0..EXCHANGES)
        .map(|_| {
            let start = Instant::now();
            send(there, &batch);
            receive(back, &mut reply, 1);
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    (seconds[seconds.len() / 2], seconds[seconds.len() * 99 / 100])
}

fn consume(handles: &str) {
    let (there, back) = handles.split_once(' ').unwrap();
    let (there, back) = (Queue::receive(&bytes(there)).unwrap(), Queue::receive(&bytes(back)).unwrap());
    println!("ready");
    std::io::stdout().flush().unwrap();
    let (mut batch, mut reply) = (Batch::new(), Batch::new());
    back.push(&mut reply, ValueKind::None, &[]).unwrap();
    for at_once in [1, 100] {
        let (mut received, mut sum) = (0, 0);
        while received < MESSAGES {
            received += receive(&there, &mut batch, at_once);
            sum += batch.messages().map(|message| u64::from(message.bytes[BYTES - 1])).sum::<u64>();
        }
        let each: u64 = (0..u64::from(at_once)).sum();
        assert_eq!(sum, MESSAGES / u64::from(at_once) * each);
        send(&back, &reply);
    }
    for _ in 0..EXCHANGES {
        receive(&there, &mut batch, 1);
        send(&back, &batch);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}
