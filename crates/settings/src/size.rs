//! Sizes and rates as people write them.

/// Bytes of one GiB, the `gb` of the keys, as in the system before this one.
const GIB: f64 = 1_073_741_824.0;

/// Bytes of that many GiB.
pub(crate) fn gib(value: f64) -> u64 {
    // The tables keep values within 0 ..= 1e6 GiB, far inside u64.
    (value * GIB) as u64
}

/// Bits per second of `"2M"`, `"800k"`, `"1.5M"`, `"2000000"`; none when it is no rate above zero.
pub(crate) fn bitrate(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1e3),
        (at, 'm' | 'M') => (&text[..at], 1e6),
        (at, 'g' | 'G') => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let value = digits.parse::<f64>().ok()? * factor;
    (value.is_finite() && (1_000.0..=1e11).contains(&value)).then_some(value as u64)
}
