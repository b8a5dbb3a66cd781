//! ISO 8601 dates and times to numpy's `datetime64`.

use super::Fault;
use super::number::integer;
use crate::layout::Unit;

/// numpy's "not a time".
const NAT: i64 = i64::MIN;
const SECONDS_PER_DAY: i128 = 86_400;

fn is_nat(text: &[u8]) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case(b"nat")
}

/// An integer of whatever unit the field has.
pub(super) fn timedelta(text: &[u8]) -> Result<i64, Fault> {
    if is_nat(text) {
        return Ok(NAT);
    }
    // The smallest integer means NaT and cannot be a number.
    integer(text).and_then(|value| if value == NAT { Err(Fault::Overflow) } else { Ok(value) })
}

/// Steps of `step` units since 1970; what is finer than the unit is dropped (rounding down), as in numpy.
pub(super) fn datetime(text: &[u8], unit: Unit, step: u32) -> Result<i64, Fault> {
    if is_nat(text) {
        return Ok(NAT);
    }
    let units = Instant::parse(text)?.in_units(unit).ok_or(Fault::Overflow)?;
    let steps = units.div_euclid(i128::from(step.max(1)));
    i64::try_from(steps).ok().filter(|&steps| steps != NAT).ok_or(Fault::Overflow)
}

/// A point in time on the proleptic Gregorian calendar, in UTC.
struct Instant {
    seconds: i128,
    attoseconds: i128,
}

impl Instant {
    fn parse(text: &[u8]) -> Result<Self, Fault> {
        let mut scan = Scan { rest: text };
        let (year, mut month, mut day) = (scan.year()?, 1, 1);
        let (mut time, mut attoseconds) = (0, 0);
        if scan.take(b'-') {
            month = scan.two_digits(1..=12)?;
            if scan.take(b'-') {
                day = scan.two_digits(1..=days_in_month(year, month))?;
                if scan.take(b'T') || scan.take(b' ') {
                    (time, attoseconds) = scan.time()?;
                    time -= scan.zone()?;
                }
            }
        }
        let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + time;
        if scan.rest.is_empty() { Ok(Self { seconds, attoseconds }) } else { Err(Fault::Bad) }
    }

    fn in_units(&self, unit: Unit) -> Option<i128> {
        let days = self.seconds.div_euclid(SECONDS_PER_DAY);
        let fine = |per_second: i128| {
            self.seconds
                .checked_mul(per_second)?
                .checked_add(self.attoseconds / (1_000_000_000_000_000_000 / per_second))
        };
        match unit {
            Unit::Year => Some(civil_from_days(days).0 - 1970),
            Unit::Month => {
                let (year, month) = civil_from_days(days);
                Some((year - 1970) * 12 + month - 1)
            }
            Unit::Week => Some(days.div_euclid(7)),
            Unit::Day => Some(days),
            Unit::Hour => Some(self.seconds.div_euclid(3600)),
            Unit::Minute => Some(self.seconds.div_euclid(60)),
            Unit::Second => Some(self.seconds),
            Unit::Millisecond => fine(1_000),
            Unit::Microsecond => fine(1_000_000),
            Unit::Nanosecond => fine(1_000_000_000),
            Unit::Picosecond => fine(1_000_000_000_000),
            Unit::Femtosecond => fine(1_000_000_000_000_000),
            Unit::Attosecond => fine(1_000_000_000_000_000_000),
        }
    }
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn digits(&mut self) -> &[u8] {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits
    }

    /// A sign and any number of digits, as far as they fit 64 bits.
    fn year(&mut self) -> Result<i128, Fault> {
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        let year = i128::from(integer::<i64>(self.digits())?);
        Ok(if negative { -year } else { year })
    }

    fn two_digits(&mut self, range: std::ops::RangeInclusive<i128>) -> Result<i128, Fault> {
        let [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = self.rest else { return Err(Fault::Bad) };
        let value = i128::from((tens - b'0') * 10 + (ones - b'0'));
        self.rest = rest;
        if range.contains(&value) { Ok(value) } else { Err(Fault::Bad) }
    }

    /// `hh`, `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f…` with up to 18 digits: seconds and attoseconds.
    fn time(&mut self) -> Result<(i128, i128), Fault> {
        let mut seconds = self.two_digits(0..=23)? * 3600;
        let mut attoseconds = 0;
        if self.take(b':') {
            seconds += self.two_digits(0..=59)? * 60;
            if self.take(b':') {
                seconds += self.two_digits(0..=59)?;
                if self.take(b'.') {
                    attoseconds = self.attoseconds()?;
                }
            }
        }
        Ok((seconds, attoseconds))
    }

    fn attoseconds(&mut self) -> Result<i128, Fault> {
        let digits = self.digits();
        match digits.len() {
            0 => Ok(0),
            length @ 1..=18 => Ok(integer::<i128>(digits)? * 10i128.pow(18 - length as u32)),
            _ => Err(Fault::Bad),
        }
    }

    /// Seconds east of Greenwich: nothing, `Z`, `±hh`, `±hhmm` or `±hh:mm`.
    fn zone(&mut self) -> Result<i128, Fault> {
        let sign = match self.rest {
            [] => return Ok(0),
            b"Z" => {
                self.rest = &[];
                return Ok(0);
            }
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return Err(Fault::Bad),
        };
        self.rest = &self.rest[1..];
        let hours = self.two_digits(0..=23)?;
        let minutes = if self.take(b':') || !self.rest.is_empty() { self.two_digits(0..=59)? } else { 0 };
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

fn days_in_month(year: i128, month: i128) -> i128 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i128::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both conversions count in years that begin in March, so that the leap day is the last day of the year.

/// Days since 1970-01-01.
fn days_from_civil(year: i128, month: i128, day: i128) -> i128 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Year and month of a day since 1970-01-01.
fn civil_from_days(days: i128) -> (i128, i128) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3) } else { (year + 1, month - 9) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<i64, Fault> {
        datetime(text.as_bytes(), Unit::Second, 1)
    }

    /// Values from numpy 2.4.
    #[test]
    fn values_are_those_of_numpy() {
        let cases = [
            ("2012-03-01", 1_330_560_000),
            ("2012", 1_325_376_000),
            ("-5", -62_324_985_600),
            ("12", -61_788_528_000),
            ("2012-03-01T10:11:12.123456789", 1_330_596_672),
            ("2012-03-01 10:00", 1_330_596_000),
            ("2012-03-01T10Z", 1_330_596_000),
            ("2012-03-01T10:00+0130", 1_330_590_600),
            ("2012-03-01T10:00-01", 1_330_599_600),
            ("2012-03-01T10:00:00.", 1_330_596_000),
            ("+12345-01-01", 327_403_382_400),
            ("012345-01-01", 327_403_382_400),
            ("0000-01-01", -62_167_219_200),
            ("20120301", 634_873_205_664_000),
            ("1969-12-31T23:59:59.5", -1),
        ];
        for (text, value) in cases {
            assert_eq!(seconds(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn malformed_dates_are_refused() {
        let bad = [
            "2012-1-1",
            "2012-02-30",
            "2012-13-01",
            "2012-03-01T",
            "2012-03-01T24:00",
            "2012-03-01T23:59:60",
            "2012-03-01T10:1",
            "2012-03Z",
            "2012-03-01T10:00z",
            "2012-03-01T1000",
            "2012-03-01T10:00+24:00",
            "20120301T1000",
            "today",
            "-",
            "1.0",
            "2012-03-01T10:00:00.1234567890123456789",
            "2012-03-01T10+01:",
            "2012-03-01+01",
        ];
        for text in bad {
            assert_eq!(seconds(text), Err(Fault::Bad), "{text}");
        }
    }

    #[test]
    fn units_round_down_and_never_wrap() {
        let get = |text: &str, unit, step| datetime(text.as_bytes(), unit, step);
        assert_eq!(get("1969-12-31T23:59:59", Unit::Second, 10), Ok(-1));
        assert_eq!(get("1969-12-30", Unit::Week, 1), Ok(-1));
        assert_eq!(get("1970-01-08", Unit::Week, 1), Ok(1));
        assert_eq!(get("1960", Unit::Month, 1), Ok(-120));
        assert_eq!(get("1969-11", Unit::Month, 5), Ok(-1));
        assert_eq!(get("2012-12-31T23:30-01", Unit::Year, 1), Ok(43));
        assert_eq!(get("1970-01-01T00:00:00.123456789012345678", Unit::Attosecond, 1), Ok(123_456_789_012_345_678));
        assert_eq!(get("1969-12-31T23:59:59.999", Unit::Millisecond, 1), Ok(-1));
        assert_eq!(get("2300-01-01", Unit::Nanosecond, 1), Err(Fault::Overflow));
        assert_eq!(get("9223372036854775807", Unit::Attosecond, 1), Err(Fault::Overflow));
        assert_eq!(get("99999999999999999999", Unit::Year, 1), Err(Fault::Overflow));
    }

    #[test]
    fn nat_has_three_spellings() {
        for text in ["NaT", "nat", ""] {
            assert_eq!(seconds(text), Ok(NAT));
            assert_eq!(timedelta(text.as_bytes()), Ok(NAT));
        }
        assert_eq!(timedelta(b"-5"), Ok(-5));
        assert_eq!(timedelta(b"-9223372036854775808"), Err(Fault::Overflow));
        assert_eq!(timedelta(b"1.5"), Err(Fault::Bad));
    }

    #[test]
    fn calendar_inverts_itself() {
        for days in (-800_000..800_000).step_by(13) {
            let (year, month) = civil_from_days(days);
            let first = days_from_civil(year, month, 1);
            assert!((0..days_in_month(year, month)).contains(&(days - first)), "{days}");
        }
    }
}
