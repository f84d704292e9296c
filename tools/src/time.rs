//! Points in time as people write them, without a calendar library: UTC only.

/// Reads `@TIME` without the `@`: seconds or milliseconds since 1970 (told apart by size), `2026-11-22`,
/// `2026-11-22T08:30`, with seconds and fractions, with or without `Z`, or `-15m` for that long ago (s, m, h, d).
/// The result is in milliseconds since 1970.
///
/// # Errors
/// Says what would have been understood.
pub fn parse(text: &str, now_ms: i64) -> Result<i64, String> {
    let parsed = match text.strip_prefix('-') {
        Some(ago) => parse_span(ago).and_then(|span| now_ms.checked_sub(span)),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => parse_number(text),
        None => parse_date(text.strip_suffix('Z').unwrap_or(text)),
    };
    parsed.ok_or_else(|| {
        format!(
            "`{text}` is no time: write @2026-11-22, @2026-11-22T08:30:00Z (UTC), @-15m (s, m, h, d ago), or seconds or \
             milliseconds since 1970"
        )
    })
}

/// Ten digits are seconds, thirteen are milliseconds.
fn parse_number(text: &str) -> Option<i64> {
    const FIRST_MS: i64 = 100_000_000_000;
    let number: i64 = text.parse().ok()?;
    if number < FIRST_MS { number.checked_mul(1000) } else { Some(number) }
}

fn parse_span(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let factor = match unit {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut fields = date.split('-');
    let (year, month, day) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || year.len() != 4 {
        return None;
    }
    let days = days_from_civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    let time = match time {
        Some(time) => parse_time_of_day(time)?,
        None => 0,
    };
    Some(days * 86_400_000 + time)
}

fn parse_time_of_day(text: &str) -> Option<i64> {
    let mut fields = text.split(':');
    let hours: i64 = fields.next()?.parse().ok().filter(|hours| (0..24).contains(hours))?;
    let minutes: i64 = fields.next()?.parse().ok().filter(|minutes| (0..60).contains(minutes))?;
    let seconds = fields.next().unwrap_or("0");
    if fields.next().is_some() {
        return None;
    }
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole: i64 = whole.parse().ok().filter(|seconds| (0..61).contains(seconds))?;
    let fraction = fraction.get(..fraction.len().min(3))?;
    let ms: i64 = format!("{fraction:0<3}").parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + whole) * 1000 + ms)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar: counted from 1 March of year 0, so that the
/// leap day is a year's last.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year;
    const MARCH_0000_TO_1970: i64 = 719_468;
    Some(days - MARCH_0000_TO_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood() {
        let now = 1_000_000_000_000;
        for (text, expected) in [
            ("1970-01-01", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-11-22T05:13:20.5Z", 1_795_324_400_500),
            ("2026-11-22 05:13", 1_795_324_380_000),
            ("1795324400", 1_795_324_400_000),
            ("1795324400500", 1_795_324_400_500),
            ("-90s", now - 90_000),
            ("-2d", now - 172_800_000),
        ] {
            assert_eq!(parse(text, now), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_examples() {
        for text in
            ["", "tomorrow", "2026-13-01", "2026-02-29", "2026-1", "-5y", "2026-11-22T25:00", "-", "-é"]
        {
            let error = parse(text, 0).expect_err(text);
            assert!(error.contains("@2026-11-22"), "{error}");
        }
    }
}
