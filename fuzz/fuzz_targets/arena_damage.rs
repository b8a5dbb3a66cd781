//! An arena whose tables are damaged between any operations: each answers, if only by an error.

#![no_main]

mod operations;

use libfuzzer_sys::fuzz_target;
use onecopy_arena::Specimen;
use operations::{Operation, run};

fuzz_target!(|operations: Vec<Operation>| {
    let specimen = Specimen::new(4 << 20).expect("this machine has a few MiB");
    run(&specimen, operations);
});
