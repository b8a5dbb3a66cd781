//! A directory whose files hold anything: it is refused, or an arena that answers.

#![no_main]

mod operations;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use onecopy_arena::{Arena, Options, Specimen};
use operations::{Operation, run};

#[derive(Arbitrary, Debug)]
struct Input {
    /// Changes of the metadata, as (table, position in it, value, bytes).
    changes: Vec<(u8, u16, u64, u8)>,
    /// Other sizes of the three files.
    sizes: [Option<u32>; 3],
    operations: Vec<Operation>,
}

struct Template {
    path: PathBuf,
    meta: Vec<u8>,
    data: u64,
}

const FILES: [&str; 3] = ["meta", "data-a", "data-b"];
/// Where the tables begin, for the size of this arena.
const TABLES: [u64; 5] = [0, 4096, 36_864, 36_864 + (64 << 12), 36_864 + (128 << 12)];

fn template() -> Template {
    let path = std::env::temp_dir().join(format!("onecopy-fuzz-{}", std::process::id()));
    let arena = Arena::open_path(&path, Options { limit: Some(1 << 20), warm: None }, None).expect("a small arena");
    let (root, _) = arena.allocate(100).expect("a block");
    arena.set_root(&root).expect("a root");
    let (value, _) = arena.allocate(1000).expect("a block");
    value.post_owned(&root).expect("a parcel");
    let meta = std::fs::read(path.join("meta")).expect("its metadata");
    let data = std::fs::metadata(path.join("data-a")).expect("its data").len();
    // This process stays a member of that one: each input has files of its own.
    std::fs::remove_dir_all(&path).expect("its own files");
    Template { path, meta, data }
}

fn private(path: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).expect("a file")
}

fuzz_target!(|input: Input| {
    use std::os::unix::fs::DirBuilderExt;
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    let Template { path, meta, data } = TEMPLATE.get_or_init(template);
    std::fs::DirBuilder::new().mode(0o700).create(path).expect("a directory");
    for ((name, size), whole) in FILES.iter().zip(input.sizes).zip([meta.len() as u64, *data, *data]) {
        let file = private(&path.join(name));
        if *name == "meta" {
            file.write_all_at(meta, 0).expect("a few bytes");
            for &(table, position, value, width) in &input.changes {
                let bytes = &value.to_le_bytes()[..usize::from(width % 9)];
                file.write_all_at(bytes, TABLES[usize::from(table) % 5] + u64::from(position)).expect("a few bytes");
            }
        }
        file.set_len(size.map_or(whole, u64::from)).expect("a sparse file");
    }
    if let Ok(specimen) = Specimen::open(path) {
        run(&specimen, input.operations);
    }
    std::fs::remove_dir_all(path).expect("its own files");
});
