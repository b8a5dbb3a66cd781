//! gzip as a stream: members one behind the other, zero padding allowed.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Of every member.
const FIRST_BYTE: u8 = 0x1f;

/// All members of a gzip stream as one text.
pub(super) struct Members<R> {
    /// `None` after the last member.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(input: R) -> Self {
        Self { member: Some(GzDecoder::new(input)) }
    }

    /// What follows other members: more of them, or nothing.
    pub(super) fn behind_others(input: R) -> io::Result<Self> {
        Ok(Self { member: Self::next_member(input)? })
    }

    /// Looks behind a member: another one, or the end.
    fn next_member(mut input: R) -> io::Result<Option<GzDecoder<R>>> {
        loop {
            let ahead = input.fill_buf()?;
            if ahead.is_empty() {
                return Ok(None);
            }
            // Tapes and some copy tools pad with zeros; gzip itself ignores them.
            let zeros = ahead.iter().take_while(|&&byte| byte == 0).count();
            if zeros == 0 && ahead[0] != FIRST_BYTE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "something else follows the compressed data"));
            }
            if zeros == 0 {
                return Ok(Some(GzDecoder::new(input)));
            }
            input.consume(zeros);
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let length = member.read(out)?;
            if length > 0 || out.is_empty() {
                return Ok(length);
            }
            let finished = self.member.take().map(GzDecoder::into_inner);
            self.member = finished.map(Self::next_member).transpose()?.flatten();
        }
        Ok(0)
    }
}
