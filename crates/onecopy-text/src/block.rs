//! A buffer of text that a thread works on, and how the parts of a line that two portions share come together.

use crate::dialect::Dialect;

/// Bytes behind the text that may be read, whatever they are: kernels load ahead.
pub(crate) const PADDING: usize = 64;
/// Longest line in bytes; positions in a block have to fit 32 bits.
pub(crate) const MAX_LINE: usize = 256 << 20;
/// Room in front of a portion for the start of its first line.
const HEADROOM: usize = 64 << 10;

/// Text with room in front and behind.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Block {
    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (HEADROOM, HEADROOM);
        self.reserve(0);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The text and [`PADDING`] bytes more.
    pub(crate) fn padded(&self) -> &[u8] {
        &self.bytes[self.start..self.end + PADDING]
    }

    /// The `length` bytes behind the text, to be written and then counted by [`grow`](Self::grow).
    pub(crate) fn spare(&mut self, length: usize) -> &mut [u8] {
        self.reserve(length);
        &mut self.bytes[self.end..self.end + length]
    }

    pub(crate) fn grow(&mut self, length: usize) {
        self.end += length;
    }

    pub(crate) fn push(&mut self, text: &[u8]) {
        self.spare(text.len()).copy_from_slice(text);
        self.grow(text.len());
    }

    fn reserve(&mut self, length: usize) {
        let needed = self.end + length + PADDING;
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
    }

    /// Puts the start of the first line in front of the text, and moves the start of the last line to `carry`.
    ///
    /// Afterwards the block holds whole lines, perhaps none. With `last` everything is whole, and the block ends with a
    /// line end unless the dialect would take it for content of a quoted field.
    pub(crate) fn join(&mut self, carry: &mut Vec<u8>, last: bool, dialect: &Dialect) {
        let quoted = [self.text(), carry].iter().any(|text| dialect.has_quote(text));
        if last {
            self.prepend(std::mem::take(carry));
            if !quoted && !matches!(self.text().last(), None | Some(b'\n' | b'\r')) {
                self.spare(1)[0] = b'\n';
                self.grow(1);
            }
        } else if quoted {
            self.join_quoted(carry, dialect);
        } else {
            self.join_plain(carry, dialect);
        }
    }

    /// Without quotes line ends are line ends wherever they stand: only the new text is searched.
    fn join_plain(&mut self, carry: &mut Vec<u8>, dialect: &Dialect) {
        let complete = dialect.complete_lines(self.text());
        if complete == 0 {
            carry.extend_from_slice(self.text());
            self.end = self.start;
            return;
        }
        let tail = self.text()[complete..].to_vec();
        self.end = self.start + complete;
        self.prepend(std::mem::replace(carry, tail));
    }

    /// With quotes a line has to be seen from its start.
    fn join_quoted(&mut self, carry: &mut Vec<u8>, dialect: &Dialect) {
        carry.extend_from_slice(self.text());
        let complete = dialect.complete_lines(carry);
        self.end = self.start;
        if complete > 0 {
            let tail = carry.split_off(complete);
            self.prepend(std::mem::replace(carry, tail));
        }
    }

    /// Puts `head` in front of the text.
    fn prepend(&mut self, mut head: Vec<u8>) {
        if head.len() <= self.start {
            let start = self.start - head.len();
            self.bytes[start..self.start].copy_from_slice(&head);
            self.start = start;
        } else {
            head.extend_from_slice(self.text());
            self.bytes = head;
            (self.start, self.end) = (0, self.bytes.len());
            self.reserve(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    /// Cuts `text` into portions of `size`, joins them again, and returns the blocks of whole lines.
    fn join_all(text: &[u8], size: usize, quote: Option<u8>) -> Vec<Vec<u8>> {
        let dialect = Dialect::new(&Options { quote, ..Options::default() });
        let (mut carry, mut block, mut blocks) = (Vec::new(), Block::default(), Vec::new());
        let count = text.len().div_ceil(size).max(1);
        for i in 0..count {
            let portion = &text[i * size..text.len().min((i + 1) * size)];
            block.clear();
            block.push(portion);
            block.join(&mut carry, i + 1 == count, &dialect);
            assert_eq!(block.padded().len(), block.text().len() + PADDING);
            blocks.push(block.text().to_vec());
        }
        assert!(carry.is_empty());
        blocks
    }

    #[test]
    fn blocks_hold_whole_lines_at_every_size() {
        let text = b"one two\n\nthree\r\nfour\rfive\n\r\nsix seven eight\nnine";
        for size in 1..=text.len() {
            let blocks = join_all(text, size, None);
            assert_eq!(blocks.concat(), [&text[..], b"\n"].concat(), "size {size}");
            for block in blocks.iter().filter(|block| !block.is_empty()) {
                assert!(matches!(block.last(), Some(b'\n' | b'\r')), "size {size}");
            }
            for pair in blocks.windows(2) {
                assert!(!(pair[0].ends_with(b"\r") && pair[1].starts_with(b"\n")), "a line end was cut, size {size}");
            }
        }
    }

    #[test]
    fn quoted_line_ends_do_not_cut() {
        let text = b"a \"b\nc\" d\n\"e\n\"\"f\"\ng \"h\ni";
        for size in 1..=text.len() {
            let blocks = join_all(text, size, Some(b'"'));
            assert_eq!(blocks.concat(), text, "size {size}");
            let mut at = 0;
            for block in blocks {
                assert!([0, 10, 18, text.len()].contains(&at), "size {size}: cut at {at}");
                at += block.len();
            }
        }
    }

    #[test]
    fn long_lines_travel_through_many_portions() {
        let mut text = vec![b'x'; 5 * HEADROOM];
        text.push(b'\n');
        text.extend_from_slice(&vec![b'y'; 3 * HEADROOM]);
        for size in [1000, HEADROOM - 1, HEADROOM, 2 * HEADROOM, 9 * HEADROOM] {
            for quote in [None, Some(b'"')] {
                assert_eq!(join_all(&text, size, quote).concat(), [&text[..], b"\n"].concat(), "size {size}");
            }
        }
    }
}
