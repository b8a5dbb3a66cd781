//! A metadata file that begins with anything: it is refused, or an arena that answers.

#![no_main]

mod operations;

use std::sync::atomic::Ordering::Relaxed;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use onecopy_arena::Draught;
use operations::{Operation, run};

#[derive(Arbitrary, Debug)]
struct Input {
    /// Changes of the first page, as (position, value, bytes).
    changes: Vec<(u16, u64, u8)>,
    /// Pages of the file; by default as many as the header says.
    pages: Option<u16>,
    operations: Vec<Operation>,
}

const MOST_METADATA: u64 = 64 << 20;

fn draught(size: u64, changes: &[(u16, u64, u8)]) -> Draught {
    let draught = Draught::new(size).expect("this machine has a few MiB");
    for &(position, value, width) in changes {
        let bytes = value.to_le_bytes();
        for (i, byte) in bytes.iter().enumerate().take(usize::from(width % 9)) {
            if let Some(to) = draught.metadata().get(usize::from(position % 4096) + i) {
                to.store(*byte, Relaxed);
            }
        }
    }
    draught
}

fuzz_target!(|input: Input| {
    let Input { changes, pages, operations } = input;
    let size = match pages {
        Some(pages) => u64::from(pages) << 12,
        None => draught(4096, &changes).size_by_header().min(MOST_METADATA),
    };
    if let Ok(specimen) = draught(size, &changes).adopt() {
        run(&specimen, operations);
    }
});
