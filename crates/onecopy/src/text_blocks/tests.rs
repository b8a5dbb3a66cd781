//! Blocks of texts: whole, in order, bounded, with errors in their place.

use std::fmt::Write;

use onecopy_arena::Options as ArenaOptions;
use onecopy_text::Scalar;
use proptest::prelude::*;

use onecopy_text::Batch;
use onecopy_text::Sink;
use std::io;

use super::filling::AHEAD_BYTES;
use super::*;

fn arena() -> &'static Arena {
    Arena::create(ArenaOptions { limit: Some(64 << 20), warm: Some(0) }).unwrap()
}

fn numbers(count: u64) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "{n}").unwrap();
        text
    })
}

fn start(arena: &'static Arena, text: String, threads: usize, records: u64) -> TextBlocks {
    let source = Source::stream("test.txt", io::Cursor::new(text));
    let options = Options { threads, block_size: 100, ..Options::default() };
    TextBlocks::start(arena, source, Schema::rows(Scalar::U64), options, records).unwrap()
}

fn next(blocks: &TextBlocks) -> Result<Option<Vec<u64>>, LoadError> {
    let part = blocks.take(&mut || false)?;
    Ok(part.map(|part| {
        assert_eq!(part.block.len(), part.records * part.record_size as u64);
        let bytes = part.block.read_at(0, part.block.len()).unwrap();
        bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect()
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn parts_are_whole_and_in_order(count in 0_u64..3000, records in 1_u64..700, threads in 1_usize..4) {
        let blocks = start(arena(), numbers(count), threads, records);
        let parts: Vec<_> = std::iter::from_fn(|| next(&blocks).unwrap()).collect();
        prop_assert!(parts.iter().rev().skip(1).all(|part| part.len() as u64 == records));
        prop_assert_eq!(parts.concat(), (0..count).collect::<Vec<_>>());
        prop_assert!(next(&blocks).unwrap().is_none());
    }
}

#[test]
fn an_error_comes_in_its_place_and_once() {
    let blocks = start(arena(), numbers(250) + "x\n" + &numbers(500), 3, 100);
    assert_eq!(next(&blocks).unwrap().unwrap().len(), 100);
    assert_eq!(next(&blocks).unwrap().unwrap().len(), 100);
    assert!(next(&blocks).unwrap_err().to_string().starts_with("test.txt:251:1: could not convert string 'x'"));
    assert!(next(&blocks).unwrap().is_none());
}

#[test]
fn a_block_whose_last_record_is_wrong_is_none() {
    let options = Options { threads: 1, ..Options::default() };
    let source = Source::stream("test.txt", io::Cursor::new(numbers(199) + "x\n"));
    let blocks = TextBlocks::start(arena(), source, Schema::rows(Scalar::U64), options, 100).unwrap();
    assert_eq!(next(&blocks).unwrap().unwrap().len(), 100);
    assert!(next(&blocks).unwrap_err().to_string().starts_with("test.txt:200:1: could not convert string 'x'"));
    assert!(next(&blocks).unwrap().is_none());
}

#[test]
fn a_write_behind_a_flaw_does_not_wait_for_blocks_that_never_come() {
    let blocks = start(arena(), String::new(), 1, 10);
    while blocks.shared.lock().end.is_none() {
        std::thread::yield_now();
    }
    let ahead = {
        let mut state = blocks.shared.lock();
        state.record_size = 8;
        state.ahead()
    };
    let batch = Batch { first_record: 10 * (ahead + 2), records: &[0; 8], lines: &[], raw: &[], raw_text: &[] };
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| done.send(blocks.shared.write(&batch)).unwrap());
        assert!(wait.recv_timeout(Duration::from_millis(20)).is_err(), "it is too far ahead");
        blocks.shared.end_before(15);
        let written = wait.recv_timeout(Duration::from_secs(60));
        blocks.shared.lock().abandoned = true;
        blocks.shared.changed.notify_all();
        written.expect("it returns").unwrap();
    });
}

#[test]
fn memory_is_bounded_and_comes_back() {
    let arena = arena();
    let blocks = start(arena, numbers(1_000_000), 2, 1000);
    for _ in 0..100 {
        next(&blocks).unwrap().unwrap();
        let used = arena.stats().unwrap().used_bytes;
        assert!(used <= AHEAD_BYTES + 2 * 8000 + 4096, "{used}");
    }
    drop(blocks);
    assert_eq!(arena.stats().unwrap().blocks, 0);
}

#[test]
fn a_wait_can_be_given_up_and_taken_up_again() {
    let (reader, mut writer) = io::pipe().unwrap();
    let source = Source::stream("pipe", reader);
    let options = Options { threads: 1, ..Options::default() };
    let blocks = TextBlocks::start(arena(), source, Schema::rows(Scalar::U64), options, 1).unwrap();
    assert!(matches!(blocks.take(&mut || true), Err(LoadError::Interrupted)));
    io::Write::write_all(&mut writer, b"7\n").unwrap();
    drop(writer);
    assert_eq!(next(&blocks).unwrap().unwrap(), [7]);
    assert!(next(&blocks).unwrap().is_none());
}

#[test]
fn more_than_there_is_memory_for_is_the_arenas_error() {
    let blocks = start(arena(), numbers(10), 1, 1 << 40);
    assert!(matches!(next(&blocks), Err(LoadError::Arena(onecopy_arena::ArenaError::OutOfMemory { .. }))));
}

/// Doubles numbers by hand up to one of them, and supplies them up to another.
struct ByHand {
    most: u64,
    supplied: u64,
    end: Option<u64>,
}

impl Meanwhile for ByHand {
    fn stop(&mut self) -> bool {
        false
    }

    fn finish(&mut self, batch: &mut Unfinished, _: &InOrder) -> Result<(), usize> {
        let mut start = 0;
        for (i, (record, field)) in batch.records.chunks_exact_mut(8).zip(&batch.raw).enumerate() {
            let number: u64 = str::from_utf8(&batch.raw_text[start..field.end]).unwrap().parse().unwrap();
            if number >= self.most {
                return Err(i);
            }
            record.copy_from_slice(&(2 * number).to_le_bytes());
            start = field.end;
        }
        Ok(())
    }

    fn supply(&mut self) -> Option<Vec<u8>> {
        self.supplied += 1;
        match self.end {
            Some(end) if self.supplied > end => None,
            None if self.supplied > 3000 => Some(Vec::new()),
            _ => Some(format!("{}\n", self.supplied - 1).into()),
        }
    }
}

fn take_all(blocks: &TextBlocks, hand: &mut ByHand) -> (Vec<Vec<u64>>, Result<(), LoadError>) {
    let mut parts = Vec::new();
    loop {
        match blocks.take(hand) {
            Ok(Some(part)) => {
                let bytes = part.block.read_at(0, part.block.len()).unwrap();
                parts.push(bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect());
            }
            Ok(None) => return (parts, Ok(())),
            Err(error) => return (parts, Err(error)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn raw_fields_and_supplied_text_end_behind_whole_blocks(
        records in 1_u64..700, threads in 1_usize..4, most in 0_u64..4000,
        end in proptest::option::of(prop_oneof![0_u64..3000, 0_u64..200])
    ) {
        let options = Options { threads, block_size: 100, raw: Raw::All, ..Options::default() };
        let blocks =
            TextBlocks::start_supplied(arena(), "numbers", Schema::rows(Scalar::U64), options, records).unwrap();
        let (parts, outcome) = take_all(&blocks, &mut ByHand { most, supplied: 0, end });
        // What is supplied before the end is whole; what is not made ends the text.
        let whole = most.min(end.unwrap_or(3000));
        let fails = most < 3000 || end.is_some();
        // A last line might go on where the supply fails.
        let wanted = if fails { whole / records * records } else { whole };
        prop_assert_eq!(parts.concat(), (0..wanted).map(|n| 2 * n).collect::<Vec<_>>());
        prop_assert!(parts.iter().rev().skip(1).all(|part| part.len() as u64 == records));
        let ends_early = most < end.unwrap_or(3000) || end.is_some();
        prop_assert_eq!(outcome.is_err(), ends_early);
        prop_assert!(blocks.take(&mut || false).unwrap().is_none());
    }
}

#[test]
fn raw_fields_that_nobody_makes_are_an_error_and_no_hang() {
    let options = Options { raw: Raw::All, threads: 3, block_size: 50, ..Options::default() };
    let source = Source::stream("numbers", io::Cursor::new(numbers(1000)));
    let blocks = TextBlocks::start(arena(), source, Schema::rows(Scalar::U64), options.clone(), 10).unwrap();
    assert!(blocks.take(&mut || false).is_err());
    assert!(blocks.take(&mut || false).unwrap().is_none());
    let blocks = TextBlocks::start_supplied(arena(), "numbers", Schema::rows(Scalar::U64), options, 10).unwrap();
    assert!(blocks.take(&mut || false).is_err());
}

#[test]
fn blocks_longer_than_the_text_take_no_more_than_it_needs() {
    let arena = arena();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), numbers(1000)).unwrap();
    let source = Source::path(file.path());
    let options = Options { lines: true, ..Options::default() };
    let blocks = TextBlocks::start(arena, source, Schema::rows(Scalar::U64), options, u64::MAX).unwrap();
    assert_eq!(next(&blocks).unwrap().unwrap(), (0..1000).collect::<Vec<_>>());
    assert!(next(&blocks).unwrap().is_none());
}

#[test]
fn names_come_with_the_first_block() {
    let source = Source::stream("numbers", &b"a b\n1 2\n"[..]);
    let options = Options { header: true, ..Options::default() };
    let blocks = TextBlocks::start(arena(), source, Schema::rows(Scalar::U64), options, 5).unwrap();
    assert_eq!(next(&blocks).unwrap().unwrap(), [1, 2]);
    assert_eq!(blocks.names().unwrap(), ["a", "b"]);
}

#[test]
fn a_block_of_so_many_bytes_has_the_records_that_fit() {
    for (bytes, expected) in [(1, 1), (8, 1), (23, 2), (80, 10)] {
        let source = Source::stream("test.txt", io::Cursor::new(numbers(25)));
        let schema = Schema::rows(Scalar::U64);
        let blocks = TextBlocks::start(arena(), source, schema, Options::default(), BlockSize::Bytes(bytes)).unwrap();
        assert_eq!(next(&blocks).unwrap().unwrap().len(), expected, "{bytes}");
    }
}

#[test]
fn blocks_of_so_many_bytes_fill_whole_pages_where_they_can() {
    for record in [1, 2, 8, 24, 26, 4095, 4096, 4100, 8000, 100_000] {
        for bytes in [1, 5000, 100_000, 8 << 20] {
            let records = BlockSize::Bytes(bytes).records(record);
            assert!(records == 1 || records * record <= bytes, "{record} {bytes}");
            // Nothing that is larger and would fit fills whole pages.
            let pages = (1..=bytes / record).rev().find(|records| records * record % PAGE == 0);
            assert_eq!(records, pages.unwrap_or(bytes / record).max(1), "{record} {bytes}");
        }
    }
    assert_eq!(BlockSize::Records(7).records(26), 7);
}

#[test]
fn how_long_the_text_was_is_known_at_its_end() {
    let blocks = start(arena(), numbers(20), 2, 10);
    assert_eq!(next(&blocks).unwrap().unwrap().len(), 10);
    while next(&blocks).unwrap().is_some() {}
    assert_eq!(blocks.text_bytes(), Some(numbers(20).len() as u64));
}

#[test]
fn blocks_of_a_long_text_are_in_huge_pages_and_those_of_a_short_one_are_not() {
    let Some(size) = onecopy_os::huge_page_size().filter(|_| onecopy_os::try_huge_page().is_ok()) else { return };
    let records = size / 8;
    let path = std::env::temp_dir().join(format!("onecopy-long-text-{}", std::process::id()));
    for (count, expected) in [(10, true), (3, false)] {
        std::fs::write(&path, "1234567\n".repeat((count * records) as usize)).unwrap();
        let source = Source::path(&path);
        let schema = Schema::rows(Scalar::U64);
        let arena = Arena::create(ArenaOptions { limit: Some(32 * size), warm: None }).unwrap();
        let blocks = TextBlocks::start(arena, source, schema, Options::default(), records).unwrap();
        let mut found = 0;
        while let Some(part) = blocks.take(&mut || false).unwrap() {
            let bytes = part.block.read_at(0, part.block.len()).unwrap();
            assert!(bytes.chunks_exact(8).all(|chunk| chunk == 1_234_567_u64.to_le_bytes()));
            assert_eq!(part.block.is_in_huge_pages(), expected, "block {found} of {count}");
            found += 1;
        }
        assert_eq!(found, count);
        arena.verify().unwrap();
    }
    std::fs::remove_file(path).unwrap();
}
