//! The structural index: where fields and lines begin and end, found 64 bytes at a time without a branch per byte.
//!
//! Each group of 64 bytes becomes bit masks (bit i = byte i). A field ends where a separator stands and begins behind
//! one; shifting a mask by one bit relates each byte to its neighbour, and the bit that falls out is carried on.

#![allow(
    clippy::inline_always,
    reason = "must become part of a function that is compiled for the instructions of the machine"
)]

mod lanes;
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
mod quotes;
#[cfg(target_arch = "x86_64")]
mod x86;

use lanes::Lanes;
use quotes::Quotes;

use crate::block::PADDING;
use crate::dialect::Dialect;

/// Bytes that one mask covers.
const GROUP: usize = 64;
const _: () = assert!(GROUP <= PADDING);

/// Which bytes matter.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// `None`: runs of white space.
    delimiter: Option<u8>,
    /// Lines with one of these bytes need the exact rules.
    special: Vec<u8>,
}

impl Marks {
    /// `None` if the dialect is beyond the index.
    pub(crate) fn new(dialect: &Dialect) -> Option<Self> {
        let delimiter = match dialect.delimiter.as_deref() {
            None => None,
            Some([byte]) => Some(*byte),
            Some(_) => return None,
        };
        let mut special: Vec<u8> = dialect.comments.iter().map(|comment| comment[0]).collect();
        special.sort_unstable();
        special.dedup();
        Some(Self { delimiter, special })
    }
}

/// Positions in one block of whole lines.
#[derive(Debug, Default)]
pub(crate) struct Index {
    starts: Vec<u32>,
    ends: Vec<u32>,
    started: usize,
    ended: usize,
    lines: Vec<LineEnd>,
    special: Vec<u32>,
}

/// The end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineEnd {
    /// Its first byte.
    pub(crate) at: u32,
    /// Number of fields up to here, from the start of the block.
    pub(crate) fields: u32,
}

/// Masks of one group.
struct Group {
    starts: u64,
    ends: u64,
    lines: u64,
    special: u64,
    /// What ends a field, line ends included.
    separators: u64,
    /// Bytes behind one of these, or at the start of the block.
    after_separator: u64,
}

/// What the last byte of a group means for the first byte of the next: masks with at most the lowest bit set.
#[derive(Clone, Copy)]
struct Carry {
    /// It was a carriage return.
    after_return: u64,
    /// It was a separator; so is the start of the block.
    after_separator: u64,
}

/// Moves `mask` to the bytes behind, with what the group before left in `carried`.
#[inline(always)]
fn shift(mask: u64, carried: &mut u64) -> u64 {
    let shifted = mask << 1 | *carried;
    *carried = mask >> 63;
    shifted
}

impl Index {
    /// First byte of each field.
    pub(crate) fn starts(&self) -> &[u32] {
        &self.starts[..self.started]
    }

    /// The byte behind each field.
    pub(crate) fn ends(&self) -> &[u32] {
        &self.ends[..self.ended]
    }

    pub(crate) fn lines(&self) -> &[LineEnd] {
        &self.lines
    }

    /// Bytes whose line needs the exact rules: comments, and white space that may hide beyond ASCII.
    pub(crate) fn special(&self) -> &[u32] {
        &self.special
    }

    /// Indexes `padded`: whole lines, the last with its line end, and [`PADDING`] bytes behind.
    ///
    /// False if it cannot be done this way, because a `quote` stands where the exact rules have to say what it means.
    /// Otherwise a quoted field begins and ends with its quotes.
    pub(crate) fn scan(&mut self, padded: &[u8], marks: &Marks, quote: Option<u8>) -> bool {
        #[cfg(target_arch = "x86_64")]
        return x86::scan(self, padded, marks, quote);
        #[cfg(not(target_arch = "x86_64"))]
        return self.scan_with::<portable::Portable>(padded, marks, quote);
    }

    #[inline(always)]
    fn scan_with<L: Lanes>(&mut self, padded: &[u8], marks: &Marks, quote: Option<u8>) -> bool {
        (self.started, self.ended) = (0, 0);
        self.lines.clear();
        self.special.clear();
        let length = padded.len() - PADDING;
        let mut carry = Carry { after_return: 0, after_separator: 1 };
        let mut quotes = quote.map(Quotes::new);
        for base in (0..length).step_by(GROUP) {
            let bytes = padded[base..].first_chunk().expect("the padding is as long as a group");
            let lanes = L::load(bytes);
            let valid = if length - base < GROUP { (1 << (length - base)) - 1 } else { !0 };
            let outside = quotes.as_mut().map_or(!0, |quotes| quotes.outside(lanes.equal(quotes.byte) & valid));
            let mut group = match marks.delimiter {
                Some(delimiter) => delimited(&lanes, delimiter, outside, &mut carry),
                None => spaced(&lanes, outside, &mut carry),
            };
            let comments = marks.special.iter().fold(0, |mask, &byte| mask | lanes.equal(byte)) & outside;
            group.special |= comments;
            group.keep(valid);
            if let Some(quotes) = &mut quotes {
                group.special |= quotes.check(&group, comments & valid);
            }
            self.append::<L>(&group, base as u32);
        }
        quotes.is_none_or(|quotes| quotes.are_sound())
    }

    /// Takes the quotes off the quoted fields.
    pub(crate) fn strip(&mut self, text: &[u8], quote: u8) {
        let fields = self.starts[..self.started].iter_mut().zip(&mut self.ends[..self.ended]);
        for (start, end) in fields {
            if *end > *start + 1 && text[*start as usize] == quote {
                *start += 1;
                *end -= 1;
            }
        }
    }

    #[inline(always)]
    fn append<L: Lanes>(&mut self, group: &Group, base: u32) {
        self.append_lines(group, base);
        let room = self.started.max(self.ended) + GROUP;
        if self.ends.len() < room {
            self.starts.resize(2 * room, 0);
            self.ends.resize(2 * room, 0);
        }
        self.started += L::flatten(group.starts, base, room_in(&mut self.starts[self.started..]));
        self.ended += L::flatten(group.ends, base, room_in(&mut self.ends[self.ended..]));
        let mut special = group.special;
        while special != 0 {
            self.special.push(base + special.trailing_zeros());
            special &= special - 1;
        }
    }

    #[inline(always)]
    fn append_lines(&mut self, group: &Group, base: u32) {
        let mut lines = group.lines;
        while lines != 0 {
            let up_to_here = lines ^ (lines - 1);
            let fields = self.ended as u32 + (group.ends & up_to_here).count_ones();
            self.lines.push(LineEnd { at: base + lines.trailing_zeros(), fields });
            lines &= lines - 1;
        }
    }
}

impl Group {
    fn keep(&mut self, valid: u64) {
        for mask in [&mut self.starts, &mut self.ends, &mut self.lines, &mut self.special] {
            *mask &= valid;
        }
    }
}

#[inline(always)]
fn delimited<L: Lanes>(lanes: &L, delimiter: u8, outside: u64, carry: &mut Carry) -> Group {
    let (feeds, returns) = (lanes.equal(b'\n') & outside, lanes.equal(b'\r') & outside);
    let feeds_after_return = feeds & shift(returns, &mut carry.after_return);
    let lines = returns | (feeds ^ feeds_after_return);
    let delimiters = lanes.equal(delimiter) & outside;
    let separators = delimiters | feeds | returns;
    let after_separator = shift(separators, &mut carry.after_separator);
    let starts = after_separator & !feeds_after_return;
    Group { starts, ends: delimiters | lines, lines, special: 0, separators, after_separator }
}

#[inline(always)]
fn spaced<L: Lanes>(lanes: &L, outside: u64, carry: &mut Carry) -> Group {
    let (feeds, returns) = (lanes.equal(b'\n') & outside, lanes.equal(b'\r') & outside);
    let lines = returns | (feeds & !shift(returns, &mut carry.after_return));
    let separators = (lanes.within(b'\t', b'\r') | lanes.within(0x1c, b' ')) & outside;
    let after_separator = shift(separators, &mut carry.after_separator);
    let (starts, ends) = (after_separator & !separators, separators & !after_separator);
    Group { starts, ends, lines, special: lanes.non_ascii() & outside, separators, after_separator }
}

/// The part of a list that one group may fill.
#[inline(always)]
fn room_in(list: &mut [u32]) -> &mut [u32; GROUP] {
    list.first_chunk_mut().expect("room for a whole group")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use proptest::prelude::*;

    fn marks(delimiter: Option<&str>) -> Marks {
        let delimiter = delimiter.map(|d| d.as_bytes().to_vec());
        Marks::new(&Dialect::new(&Options { delimiter, ..Options::default() })).unwrap()
    }

    fn pad(text: &str) -> Vec<u8> {
        let mut padded = text.as_bytes().to_vec();
        padded.extend_from_slice(&[b' '; PADDING]);
        padded
    }

    fn lines_of_fields(index: &Index, text: &str) -> Vec<Vec<String>> {
        let mut from = 0;
        let fields = |to: u32| {
            let range = std::mem::replace(&mut from, to as usize)..to as usize;
            range.map(|i| text[index.starts()[i] as usize..index.ends()[i] as usize].to_owned()).collect()
        };
        index.lines().iter().map(|line| line.fields).map(fields).collect()
    }

    /// The obvious way to the same result.
    fn split(text: &str, delimiter: Option<&str>) -> Vec<Vec<String>> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let is_space = |c: char| c.is_ascii() && crate::dialect::is_space(c as u8);
        let line = |line: &str| match delimiter {
            Some(delimiter) => line.split(delimiter).map(str::to_owned).collect(),
            None => line.split(is_space).filter(|field| !field.is_empty()).map(str::to_owned).collect(),
        };
        text.strip_suffix('\n').map_or(vec![], |text| text.split('\n').map(line).collect())
    }

    pub(super) type Scan = fn(&mut Index, &[u8], &Marks, Option<u8>) -> bool;

    fn scans() -> Vec<Scan> {
        let mut scans: Vec<Scan> = vec![Index::scan, Index::scan_with::<portable::Portable>];
        #[cfg(target_arch = "x86_64")]
        scans.extend(x86::lesser_scans());
        scans
    }

    fn check(text: &str, delimiter: Option<&str>) {
        let mut index = Index::default();
        for scan in scans() {
            assert!(scan(&mut index, &pad(text), &marks(delimiter), None));
            assert_eq!(lines_of_fields(&index, text), split(text, delimiter), "{text:?}");
            let special: Vec<u32> = text
                .bytes()
                .enumerate()
                .filter(|(_, byte)| *byte == b'#' || (delimiter.is_none() && !byte.is_ascii()))
                .map(|(at, _)| at as u32)
                .collect();
            assert_eq!(index.special(), special, "{text:?}");
        }
    }

    #[test]
    fn boundaries_of_groups_do_not_show() {
        for shift in 0..70 {
            let head = "x".repeat(shift);
            for delimiter in [None, Some(","), Some("\t"), Some(" ")] {
                check(&format!("{head}a,b c\r\n\r\rd\t,\n\n  e  f \r\n"), delimiter);
            }
        }
    }

    /// The fields of each line without their quotes; `None` if the index passes.
    fn unquoted(text: &str, delimiter: Option<&str>) -> Option<Vec<Vec<String>>> {
        let mut index = Index::default();
        let mut outcomes = scans().into_iter().map(|scan| {
            let sound = scan(&mut index, &pad(text), &marks(delimiter), Some(b'"'));
            index.strip(text.as_bytes(), b'"');
            sound.then(|| lines_of_fields(&index, text))
        });
        let first = outcomes.next().unwrap();
        assert!(outcomes.all(|outcome| outcome == first), "{text:?}");
        first
    }

    #[test]
    fn quoted_fields_hide_separators() {
        for shift in 0..70 {
            let x = "x".repeat(shift);
            let text = format!("{x},\"a,\r\n#b\",\"\"\r\n\"{x},\",c d,\n");
            let expected = vec![
                vec![x.clone(), "a,\r\n#b".into(), String::new()],
                vec![format!("{x},"), "c d".into(), String::new()],
            ];
            assert_eq!(unquoted(&text, Some(",")), Some(expected));
            let text = format!("{x}y  \"a \n#b\" \n\"{x} \" c,d\n");
            let expected = vec![vec![format!("{x}y"), "a \n#b".into()], vec![format!("{x} "), "c,d".into()]];
            assert_eq!(unquoted(&text, None), Some(expected));
        }
    }

    #[test]
    fn quotes_in_odd_places_are_for_the_rules() {
        for shift in 0..70 {
            let x = "x".repeat(shift);
            for odd in ["a\"b\"", "\"a\"b", " \"a\"", "\"a", "a\"", "#\"a\"", "#,\"a\\n\""] {
                assert_eq!(unquoted(&format!("{x},{odd},\"c\"\n"), Some(",")), None, "{odd} {shift}");
            }
        }
    }

    proptest! {
        #[test]
        fn index_is_what_splitting_gives(text in "([ab,#é]{0,9}[ \t\n\r\u{b}]{0,3}){0,40}", delimiter in 0..3usize) {
            check(&format!("{text}\n"), [None, Some(","), Some(" ")][delimiter]);
        }
    }
}
