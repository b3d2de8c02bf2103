//! Pattern matching as Redis does it (`stringmatchlen` in its `util.c`).

/// Patterns nest at most this many `*` before matching gives up and says no, as in Redis.
const NESTING_MAX: usize = 1000;

/// Whether `text` matches `pattern`: `*`, `?`, `[a-c]`, `[^a]` and `\` escapes.
///
/// Takes time proportional to the text for the usual patterns; several `*` may multiply that, as
/// in Redis.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Redis looks at the pattern only while there is text, so of all patterns that could match
    // an empty one, `*` alone does: its callers know that pattern.
    if text.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    Matcher { fold_case: false, skip_longer: false }.run(pattern, text, 0)
}

/// The same without regard to ASCII case, as `CONFIG GET` wants.
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    Matcher { fold_case: true, skip_longer: false }.run(pattern, text, 0)
}

struct Matcher {
    fold_case: bool,
    /// Set when a later `*` found no match: an earlier one need not try further.
    skip_longer: bool,
}

impl Matcher {
    fn run(&mut self, mut pattern: &[u8], mut text: &[u8], depth: usize) -> bool {
        if depth > NESTING_MAX {
            return false;
        }
        while let Some(&first) = pattern.first() {
            if text.is_empty() {
                break;
            }
            match first {
                b'*' => return self.star(pattern, text, depth),
                b'?' => {}
                b'[' => {
                    let (matched, rest) = self.class(&pattern[1..], text[0]);
                    if !matched {
                        return false;
                    }
                    // `rest` begins with the closing bracket, or is empty where there is none.
                    text = &text[1..];
                    pattern = rest.get(1..).unwrap_or_default();
                    continue;
                }
                _ => {
                    if first == b'\\' && pattern.len() >= 2 {
                        pattern = &pattern[1..];
                    }
                    if self.fold(pattern[0]) != self.fold(text[0]) {
                        return false;
                    }
                }
            }
            pattern = &pattern[1..];
            text = &text[1..];
        }
        if text.is_empty() {
            while pattern.first() == Some(&b'*') {
                pattern = &pattern[1..];
            }
        }
        pattern.is_empty() && text.is_empty()
    }

    fn star(&mut self, mut pattern: &[u8], mut text: &[u8], depth: usize) -> bool {
        while pattern.get(1) == Some(&b'*') {
            pattern = &pattern[1..];
        }
        if pattern.len() == 1 {
            return true;
        }
        while !text.is_empty() {
            if self.run(&pattern[1..], text, depth + 1) {
                return true;
            }
            if self.skip_longer {
                return false;
            }
            text = &text[1..];
        }
        // No match of the rest anywhere: a longer match of an earlier `*` cannot help either.
        self.skip_longer = true;
        false
    }

    /// Matches one byte against a class; returns what follows, the closing bracket included.
    fn class<'a>(&self, mut pattern: &'a [u8], byte: u8) -> (bool, &'a [u8]) {
        let negated = pattern.first() == Some(&b'^');
        if negated {
            pattern = &pattern[1..];
        }
        let byte = self.fold(byte);
        let mut matched = false;
        loop {
            match *pattern {
                [b'\\', escaped, ..] => {
                    pattern = &pattern[1..];
                    matched |= escaped == byte;
                }
                [b']', ..] | [] => break,
                [low, b'-', high, ..] => {
                    let (low, high) = (self.fold(low), self.fold(high));
                    matched |= (low.min(high)..=low.max(high)).contains(&byte);
                    pattern = &pattern[2..];
                }
                [single, ..] => matched |= self.fold(single) == byte,
            }
            pattern = &pattern[1..];
        }
        (matched != negated, pattern)
    }

    fn fold(&self, byte: u8) -> u8 {
        if self.fold_case { byte.to_ascii_lowercase() } else { byte }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_redis_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("a**b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdf", false),
            ("[abc", "a", true),
            ("[\\]]", "]", true),
            ("user:*", "user:42", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(matches_ignoring_case(b"MAX*", b"maxmemory"));
    }

    #[test]
    fn many_stars_end_quickly() {
        let pattern = b"a*".repeat(50);
        assert!(!matches(&[pattern.as_slice(), b"b"].concat(), &[b'a'; 200]));
    }
}
