//! Files as they are found: missing, unreadable, changing, special; and what can be watched and stopped.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use onecopy_text::{
    Batch, Expected, MemorySink, Options, Progress, ReadError, Scalar, Schema, Sink, Source, Summary, read,
};
use support::{bgzf, delimited, gzip, zstd};

fn read_path(path: &Path) -> Result<(Summary, Vec<u8>), ReadError> {
    let sink = MemorySink::new();
    let options = Options { block_size: 100, threads: 3, ..Options::default() };
    let summary = read(Source::path(path), &Schema::rows(Scalar::U8), &options, &sink, &Progress::new())?;
    Ok((summary, sink.into_bytes()))
}

#[test]
fn files_are_read_and_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.gz");
    fs::write(&path, "1 2\n".repeat(1000)).unwrap();
    let (summary, bytes) = read_path(&path).unwrap();
    assert_eq!(
        summary,
        Summary { records: 1000, columns: 2, names: None, blank_line: None, bytes_in: 4000, bytes_text: 4000 }
    );
    assert_eq!(bytes, [1, 2].repeat(1000));
}

#[test]
fn unreadable_paths_say_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let shown = directory.path().display();
    let message = read_path(&directory.path().join("none.txt")).unwrap_err().to_string();
    assert_eq!(message, format!("{shown}/none.txt: no such file; check the name"));
    let message = read_path(directory.path()).unwrap_err().to_string();
    assert_eq!(message, format!("{shown}: is a directory; name the files in it"));
}

#[test]
fn files_of_proc_are_read_although_they_seem_empty() {
    let sink = MemorySink::new();
    let options = Options { max_rows: Some(1), ..delimited(":") };
    let source = Source::path("/proc/self/status");
    read(source, &Schema::rows(Scalar::Bytes(100)), &options, &sink, &Progress::new()).unwrap();
    assert!(sink.into_bytes().starts_with(b"Name\0"));
}

/// Changes the file when the first records come.
struct Meddler<F: Fn() + Sync> {
    inner: MemorySink,
    change: F,
}

impl<F: Fn() + Sync> Sink for Meddler<F> {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        (self.change)();
        self.inner.begin(expected)
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        self.inner.write(batch)
    }
}

/// Runs a read of 40,000 rows during which `change` happens to the file.
fn read_changing(path: &Path, threads: usize, change: impl Fn(&Path) + Sync) -> ReadError {
    let sink = Meddler { inner: MemorySink::new(), change: || change(path) };
    let options = Options { block_size: 100, threads, ..Options::default() };
    read(Source::path(path), &Schema::rows(Scalar::U8), &options, &sink, &Progress::new()).unwrap_err()
}

#[test]
fn a_file_that_changes_is_an_error_however_it_is_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let rows: Vec<_> = (0..40_000_u32).map(|i| format!("{} {}\n", i % 251, i * 7919 % 256)).collect();
    let text = rows.concat();
    for (name, bytes) in [
        ("plain", text.clone().into_bytes()),
        ("gzip", gzip(text.as_bytes())),
        ("BGZF", bgzf(text.as_bytes(), 5000)),
        ("zstd", zstd(text.as_bytes())),
    ] {
        let before = bytes.len() as u64;
        for new_size in [0, 10, before / 2, before - 1, before + 1] {
            for threads in [1, 3] {
                fs::write(&path, &bytes).unwrap();
                let resize =
                    |path: &Path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(new_size).unwrap();
                let failure = read_changing(&path, threads, resize);
                let told =
                    matches!(failure, ReadError::Changed { before: was, now, .. } if (was, now) == (before, new_size));
                assert!(told, "{name} to {new_size}: {failure}");
            }
        }
        fs::write(&path, &bytes).unwrap();
        let old = fs::File::open(&path).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        let failure = read_changing(&path, 2, |path| fs::write(path, &bytes).unwrap());
        assert_eq!(
            failure.to_string(),
            format!("{}: changed while it was read; read it again when its writer is done", path.display()),
            "{name}"
        );
    }
}

#[test]
fn an_error_before_the_place_where_a_file_was_cut_wins() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    fs::write(&path, "1 2\n".repeat(10) + "x 2\n" + &"1 2\n".repeat(10_000)).unwrap();
    let cut = |path: &Path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap();
    let failure = read_changing(&path, 3, cut);
    assert!(matches!(&failure, ReadError::Field(error) if error.at.line == 11), "{failure}");
}

/// Counts, and fails or cancels at a given write.
struct Counting<'a> {
    writes: AtomicU64,
    at: u64,
    then: &'a (dyn Fn() -> io::Result<()> + Sync),
}

impl Sink for Counting<'_> {
    fn begin(&self, _: &Expected) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: &Batch<'_>) -> io::Result<()> {
        if self.writes.fetch_add(1, Ordering::Relaxed) == self.at { (self.then)() } else { Ok(()) }
    }
}

fn count(progress: &Progress, then: &(dyn Fn() -> io::Result<()> + Sync)) -> (Result<Summary, ReadError>, u64) {
    let text = "1 2\n".repeat(100_000);
    let sink = Counting { writes: AtomicU64::new(0), at: 5, then };
    let options = Options { block_size: 100, threads: 3, ..Options::default() };
    let source = Source::memory("test.txt", text.as_bytes());
    let outcome = read(source, &Schema::rows(Scalar::U8), &options, &sink, progress);
    (outcome, sink.writes.into_inner())
}

#[test]
fn an_error_of_the_sink_ends_the_read() {
    let (outcome, writes) = count(&Progress::new(), &|| Err(io::Error::other("the disk is full")));
    assert_eq!(outcome.unwrap_err().to_string(), "the disk is full");
    assert!(writes < 1000, "{writes}");
}

#[test]
fn cancelling_ends_the_read_soon() {
    let progress = Progress::new();
    let cancel = || {
        progress.cancel();
        Ok(())
    };
    let (outcome, writes) = count(&progress, &cancel);
    assert!(matches!(outcome, Err(ReadError::Cancelled)), "{outcome:?}");
    assert!(writes < 1000, "{writes}");
}

#[test]
fn progress_counts_to_the_end() {
    let progress = Progress::new();
    let (outcome, writes) = count(&progress, &|| Ok(()));
    assert_eq!(outcome.unwrap().records, 100_000);
    assert_eq!((progress.bytes_read(), progress.bytes_total(), progress.records()), (400_000, 400_000, 100_000));
    assert!(writes >= 4000, "{writes}");
}

#[test]
#[should_panic(expected = "the sink panics")]
fn a_panic_of_the_sink_is_passed_on() {
    let _ = count(&Progress::new(), &|| panic!("the sink panics"));
}

#[test]
fn errors_of_a_stream_are_reported_after_what_came_before() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, mut out: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1..=500 => out.write(b"1 2\n"),
                _ => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        }
    }
    let sink = MemorySink::new();
    let options = Options { block_size: 7, threads: 2, ..Options::default() };
    let outcome = read(Source::stream("pipe", Broken(0)), &Schema::rows(Scalar::U8), &options, &sink, &Progress::new());
    assert!(matches!(&outcome, Err(ReadError::Io { file, .. }) if file == "pipe"), "{outcome:?}");
    assert_eq!(sink.into_bytes(), [1, 2].repeat(500));
}

#[test]
fn expectations_bound_the_records() {
    struct Note(std::sync::Mutex<Option<Expected>>);
    impl Sink for Note {
        fn begin(&self, expected: &Expected) -> io::Result<()> {
            *self.0.lock().unwrap() = Some(expected.clone());
            Ok(())
        }
        fn write(&self, _: &Batch<'_>) -> io::Result<()> {
            Ok(())
        }
    }
    let expect = |text: &str, options: &Options| {
        let sink = Note(std::sync::Mutex::default());
        let source = Source::memory("test.txt", text.as_bytes());
        read(source, &Schema::rows(Scalar::I16), options, &sink, &Progress::new()).unwrap();
        sink.0.into_inner().unwrap().unwrap()
    };
    let expected = expect("# c\n10 20\n1 2\n3 4", &Options::default());
    assert_eq!(expected, Expected { record_size: 4, at_most: Some(3), estimate: Some(3), names: None, raw: vec![] });
    let expected = expect("1\n2\n3", &Options { max_rows: Some(2), ..Options::default() });
    assert_eq!(expected, Expected { record_size: 2, at_most: Some(2), estimate: Some(2), names: None, raw: vec![] });
    assert_eq!(expect("", &Options::default()).at_most, Some(0));
}

#[test]
fn cancelling_ends_the_wait_for_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for has_writer in [false, true] {
        let (progress, sink) = (Progress::new(), MemorySink::new());
        // For reading, too, so that opening does not wait for the reader.
        let writer = has_writer.then(|| fs::File::options().read(true).write(true).open(&path).unwrap());
        let outcome = std::thread::scope(|scope| {
            let reader = scope
                .spawn(|| read(Source::path(&path), &Schema::rows(Scalar::U8), &Options::default(), &sink, &progress));
            if let Some(mut writer) = writer.as_ref() {
                writer.write_all(&b"1 2\n".repeat(1000)).unwrap();
            }
            progress.cancel();
            reader.join().unwrap()
        });
        assert!(matches!(outcome, Err(ReadError::Cancelled)), "{has_writer} {outcome:?}");
    }
}
