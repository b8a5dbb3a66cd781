//! Sizes as people read them.

use std::fmt;

/// A number of bytes that is shown with a binary unit.
///
/// ```
/// use onecopy_os::ByteSize;
///
/// assert_eq!(ByteSize(8 << 30).to_string(), "8.0 GiB");
/// assert_eq!(ByteSize(1000).to_string(), "1000 B");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let power = ((self.0.ilog2() / 10) as usize).min(UNITS.len());
        let amount = self.0 as f64 / (1_u64 << (10 * power)) as f64;
        f.pad(&format!("{amount:.1} {}", UNITS[power - 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_takes_over_at_its_size() {
        let shown = [0, 1023, 1024, 1536, (1 << 20) - 1, 1 << 20, 5 << 40, u64::MAX].map(|n| ByteSize(n).to_string());
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1024.0 KiB", "1.0 MiB", "5.0 TiB", "16.0 EiB"]);
        assert_eq!(format!("{:>8}|", ByteSize(2048)), " 2.0 KiB|");
    }
}
