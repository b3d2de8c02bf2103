//! A weighted grammar of the commands in scope: valid, odd and broken ones.

use crate::options::{
    BAD_PAYLOADS, BAD_TIMES, COMMAND_MISUSES, COMMANDS, CONNECTION, DATABASES, FLOATS, INTEGERS,
    KEYS, OFFSETS, PARAMETERS, PATTERNS, SERVER, SETTINGS, VALUES,
};
use crate::step::Step;
use crate::support::random::Random;
use crate::support::wire::Request;

/// How often a command of a family is drawn, and how it is made.
type Family = (usize, fn(&mut Generator) -> Request);

/// Commands on keys; some are damaged on purpose.
#[rustfmt::skip]
const ON_KEYS: &[Family] = &[
    (12, Generator::set), (8, Generator::one_key), (8, Generator::expire), (6, Generator::range),
    (6, Generator::increment), (5, Generator::many_keys), (5, Generator::many_pairs),
    (4, Generator::getex), (3, Generator::set_old_forms), (4, Generator::rename_or_copy),
    (3, Generator::lcs), (4, Generator::object), (2, Generator::restore), (2, Generator::keyspace),
    (2, Generator::database),
];

/// The others, with their misuses listed by hand: damage could make one stop or block a server.
#[rustfmt::skip]
const OTHERS: &[Family] = &[
    (2, Generator::connection), (2, Generator::command), (1, Generator::config),
    (1, Generator::server),
];

/// Makes steps from random numbers.
pub(crate) struct Generator {
    /// The source of all choices.
    pub(crate) random: Random,
    /// Makes every deadline of a sequence differ from every other by 100 s or more, so that
    /// `GT`, `LT` and orders of deadlines do not depend on which millisecond a command came in.
    deadlines: usize,
}

impl Generator {
    /// Returns a generator.
    pub(crate) fn new(random: Random) -> Self {
        Self { random, deadlines: 0 }
    }

    /// Returns the next step.
    pub(crate) fn step(&mut self) -> Step {
        match self.random.below(100) {
            0..3 => Step::FullScan(self.scan_options()),
            3..6 => Step::Transfer(self.key()),
            6..14 => Step::Command(self.one_of(OTHERS)),
            _ => {
                let mut request = self.one_of(ON_KEYS);
                if self.random.chance(7) {
                    self.damage(&mut request);
                }
                Step::Command(request)
            }
        }
    }

    fn one_of(&mut self, families: &[Family]) -> Request {
        let total: usize = families.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.below(total);
        for (weight, make) in families {
            if at < *weight {
                return make(self);
            }
            at -= weight;
        }
        unreachable!("the weights add up to the total");
    }

    /// Drops, adds, repeats or replaces an argument, or changes the case of the name.
    fn damage(&mut self, request: &mut Request) {
        // A span of a few milliseconds would make replies depend on who is faster.
        let spans: [&[u8]; 6] = [b"EX", b"PX", b"SETEX", b"PSETEX", b"EXPIRE", b"PEXPIRE"];
        let is_span = |word: &Vec<u8>| spans.contains(&word.to_ascii_uppercase().as_slice());
        let kind = if request.iter().any(is_span) { 5 } else { 0 };
        let at = self.random.below(request.len());
        match self.random.below(6).max(kind) {
            0 if request.len() > 1 => {
                request.pop();
            }
            1 => request.push(self.value()),
            2 => request.push(self.key()),
            // The name stays: another one could be a command that is not in scope.
            3 if at > 0 => request[at] = self.value(),
            4 if at > 0 => request[at] = self.word(INTEGERS),
            _ => request[0] = mixed_case(&request[0]),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.random.pick(KEYS).to_vec()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(50) {
            0 => vec![b'x'; 20_000],
            1 => (0..300).map(|_| self.random.next() as u8).collect(),
            _ => self.random.pick(VALUES).to_vec(),
        }
    }

    fn word(&mut self, words: &[&str]) -> Vec<u8> {
        self.random.pick(words).as_bytes().to_vec()
    }

    /// A span in seconds: 1,000 s to 3 years.
    fn seconds(&mut self) -> usize {
        self.deadlines += 1;
        1_000 + 100 * (self.random.below(1_000) * 1_000 + self.deadlines)
    }

    /// An argument for a time in the unit of `option`: `EX PX EXAT PXAT` or a command's name.
    fn time(&mut self, option: &str) -> Vec<u8> {
        if self.random.chance(12) {
            return self.word(BAD_TIMES);
        }
        let seconds = self.seconds();
        // Points in time lie after the year 2100, later than any span from now.
        let seconds = if option.contains("AT") { 4_102_444_800 + seconds } else { seconds };
        let milliseconds = option.starts_with('P');
        let number = if milliseconds { seconds * 1_000 } else { seconds };
        number.to_string().into_bytes()
    }

    fn set(&mut self) -> Request {
        let mut request = vec![b"SET".to_vec(), self.key(), self.value()];
        for _ in 0..*self.random.pick(&[0, 0, 0, 1, 1, 2, 2, 3]) {
            let option = *self
                .random
                .pick(&["NX", "XX", "GET", "EX", "PX", "EXAT", "PXAT", "KEEPTTL", "get", "BOGUS"]);
            self.push_option(&mut request, option);
        }
        request
    }

    fn getex(&mut self) -> Request {
        let mut request = vec![b"GETEX".to_vec(), self.key()];
        for _ in 0..*self.random.pick(&[0, 1, 1, 1, 2]) {
            let options = ["EX", "PX", "EXAT", "PXAT", "PERSIST", "persist", "NX"];
            let option = *self.random.pick(&options);
            self.push_option(&mut request, option);
        }
        request
    }

    fn push_option(&mut self, request: &mut Request, option: &str) {
        request.push(option.as_bytes().to_vec());
        if matches!(option, "EX" | "PX" | "EXAT" | "PXAT") && !self.random.chance(4) {
            let time = self.time(option);
            request.push(time);
        }
    }

    fn set_old_forms(&mut self) -> Request {
        let (key, value) = (self.key(), self.value());
        match self.random.below(4) {
            0 => vec![b"SETNX".to_vec(), key, value],
            1 => vec![b"SETEX".to_vec(), key, self.time("SETEX"), value],
            2 => vec![b"PSETEX".to_vec(), key, self.time("PSETEX"), value],
            _ => vec![b"GETSET".to_vec(), key, value],
        }
    }

    fn one_key(&mut self) -> Request {
        let name = self.word(&[
            "GET",
            "GET",
            "GETDEL",
            "STRLEN",
            "TYPE",
            "TTL",
            "PTTL",
            "EXPIRETIME",
            "PEXPIRETIME",
            "PERSIST",
            "INCR",
            "DECR",
            "DUMP",
            "EXISTS",
            "TOUCH",
            "DEL",
            "UNLINK",
        ]);
        vec![name, self.key()]
    }

    fn expire(&mut self) -> Request {
        let name = *self.random.pick(&["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]);
        let mut request = vec![name.as_bytes().to_vec(), self.key(), self.time(name)];
        for _ in 0..*self.random.pick(&[0, 0, 1, 1, 2]) {
            request.push(self.word(&["NX", "XX", "GT", "LT", "gt", "BOGUS"]));
        }
        request
    }

    fn range(&mut self) -> Request {
        let key = self.key();
        match self.random.below(5) {
            0 | 1 => {
                let name = self.word(&["GETRANGE", "SUBSTR"]);
                vec![name, key, self.word(OFFSETS), self.word(OFFSETS)]
            }
            2 | 3 => vec![b"SETRANGE".to_vec(), key, self.word(OFFSETS), self.value()],
            _ => vec![b"APPEND".to_vec(), key, self.value()],
        }
    }

    fn increment(&mut self) -> Request {
        let key = self.key();
        match self.random.below(3) {
            0 => vec![b"INCRBYFLOAT".to_vec(), key, self.word(FLOATS)],
            1 => vec![b"INCRBY".to_vec(), key, self.word(INTEGERS)],
            _ => vec![b"DECRBY".to_vec(), key, self.word(INTEGERS)],
        }
    }

    fn many_keys(&mut self) -> Request {
        let mut request = vec![self.word(&["MGET", "MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"])];
        for _ in 0..self.random.below(6) {
            request.push(self.key());
        }
        request
    }

    fn many_pairs(&mut self) -> Request {
        let mut request = vec![self.word(&["MSET", "MSETNX"])];
        for _ in 0..self.random.below(5) {
            request.push(self.key());
            request.push(self.value());
        }
        request
    }

    fn rename_or_copy(&mut self) -> Request {
        let (from, to) = (self.key(), self.key());
        if self.random.chance(50) {
            return vec![self.word(&["RENAME", "RENAMENX"]), from, to];
        }
        let mut request = vec![b"COPY".to_vec(), from, to];
        for _ in 0..self.random.below(3) {
            if self.random.chance(50) {
                request.push(self.word(&["REPLACE", "replace", "BOGUS"]));
            } else {
                request.extend([b"DB".to_vec(), self.word(DATABASES)]);
            }
        }
        request
    }

    fn lcs(&mut self) -> Request {
        let mut request = vec![b"LCS".to_vec(), self.key(), self.key()];
        for _ in 0..self.random.below(4) {
            match self.random.below(5) {
                0 => request.push(b"LEN".to_vec()),
                1 | 2 => request.push(b"IDX".to_vec()),
                3 => request.push(b"WITHMATCHLEN".to_vec()),
                _ => request.extend([b"MINMATCHLEN".to_vec(), self.word(INTEGERS)]),
            }
        }
        request
    }

    fn object(&mut self) -> Request {
        let subcommand = self.word(&[
            "ENCODING", "ENCODING", "REFCOUNT", "FREQ", "IDLETIME", "HELP", "BOGUS", "encoding",
        ]);
        let mut request = vec![b"OBJECT".to_vec(), subcommand];
        if request[1] != b"HELP" {
            request.push(self.key());
        }
        request
    }

    fn restore(&mut self) -> Request {
        let time = if self.random.chance(50) { b"0".to_vec() } else { self.time("PX") };
        let payload = self.random.pick(BAD_PAYLOADS).to_vec();
        let mut request = vec![b"RESTORE".to_vec(), self.key(), time, payload];
        for _ in 0..self.random.below(3) {
            match self.random.below(5) {
                0 => request.push(b"REPLACE".to_vec()),
                1 => request.push(b"ABSTTL".to_vec()),
                2 => request.extend([b"IDLETIME".to_vec(), self.word(INTEGERS)]),
                3 => request.extend([b"FREQ".to_vec(), self.word(INTEGERS)]),
                _ => request.push(b"BOGUS".to_vec()),
            }
        }
        request
    }

    fn keyspace(&mut self) -> Request {
        match self.random.below(6) {
            0 | 1 => vec![b"KEYS".to_vec(), self.word(PATTERNS)],
            2 => vec![b"DBSIZE".to_vec()],
            3 => vec![b"RANDOMKEY".to_vec()],
            4 => vec![b"MEMORY".to_vec(), b"USAGE".to_vec(), self.key()],
            _ => {
                // Broken on purpose: whole scans are a step of their own.
                let cursor = self.word(&["abc", "-1", "", "1.5", "99999999999999999999999"]);
                let mut request = vec![b"SCAN".to_vec(), cursor];
                request.extend(self.scan_options());
                request
            }
        }
    }

    fn scan_options(&mut self) -> Request {
        let mut options = Vec::new();
        for _ in 0..self.random.below(3) {
            match self.random.below(7) {
                0..3 => options.extend([b"MATCH".to_vec(), self.word(PATTERNS)]),
                3 | 4 => {
                    let counts = ["1", "2", "10", "1000", "0", "-1", "abc", "1.5"];
                    options.extend([b"COUNT".to_vec(), self.word(&counts)]);
                }
                5 => {
                    let types = ["string", "STRING", "list", "hash", "bogus"];
                    options.extend([b"TYPE".to_vec(), self.word(&types)]);
                }
                _ => options.push(self.word(&["BOGUS", "MATCH", "COUNT", "TYPE"])),
            }
        }
        options
    }

    fn database(&mut self) -> Request {
        match self.random.below(12) {
            0..4 => vec![b"SELECT".to_vec(), self.word(DATABASES)],
            4..7 => vec![b"MOVE".to_vec(), self.key(), self.word(DATABASES)],
            7..10 => vec![b"SWAPDB".to_vec(), self.word(DATABASES), self.word(DATABASES)],
            _ => {
                let name = self.word(&["FLUSHDB", "FLUSHALL"]);
                match self.word(&["", "", "ASYNC", "sync", "BOGUS"]) {
                    none if none.is_empty() => vec![name],
                    mode => vec![name, mode],
                }
            }
        }
    }

    fn connection(&mut self) -> Request {
        words(self.random.pick::<&str>(CONNECTION))
    }

    fn command(&mut self) -> Request {
        let mut request = vec![b"COMMAND".to_vec()];
        match self.random.below(8) {
            0 | 1 => {
                request.push(b"INFO".to_vec());
                for _ in 0..self.random.below(3) + 1 {
                    request.push(self.word(COMMANDS));
                }
            }
            2..5 => {
                request.push(self.word(&["GETKEYS", "GETKEYS", "GETKEYSANDFLAGS"]));
                request.extend(self.one_of(ON_KEYS));
            }
            5 => request.push(b"COUNT".to_vec()),
            6 => {
                let patterns = ["mset*", "incr*", "nosuch*", "getr?nge", "expire*", "objec[t]"];
                let list = ["LIST", "FILTERBY", "PATTERN"].map(|word| word.as_bytes().to_vec());
                request.extend(list);
                request.push(self.word(&patterns));
            }
            _ => request.extend(words(self.random.pick::<&str>(COMMAND_MISUSES))),
        }
        request
    }

    fn config(&mut self) -> Request {
        let mut request = vec![b"CONFIG".to_vec()];
        match self.random.below(4) {
            0 => {
                request.push(b"GET".to_vec());
                for _ in 0..self.random.below(3) + 1 {
                    request.push(self.word(PARAMETERS));
                }
            }
            1 | 2 => {
                request.push(b"SET".to_vec());
                for _ in 0..self.random.below(2) + 1 {
                    request.push(self.word(PARAMETERS));
                    request.push(self.word(SETTINGS));
                }
            }
            _ => request.push(self.word(&["RESETSTAT", "REWRITE", "GET", "SET", "BOGUS"])),
        }
        request
    }

    fn server(&mut self) -> Request {
        words(self.random.pick::<&str>(SERVER))
    }
}

/// Returns steps that read all that a sequence can have left behind.
pub(crate) fn closing_steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for database in ["0", "1"] {
        steps.push(Step::words(&["SELECT", database]));
        steps.push(Step::words(&["DBSIZE"]));
        steps.push(Step::FullScan(Vec::new()));
        for key in KEYS {
            for name in ["GET", "PTTL"] {
                steps.push(Step::Command(vec![name.as_bytes().to_vec(), key.to_vec()]));
            }
        }
    }
    steps
}

fn words(line: &str) -> Request {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn mixed_case(name: &[u8]) -> Vec<u8> {
    let flip = |(at, byte): (usize, &u8)| {
        if at % 2 == 0 { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() }
    };
    name.iter().enumerate().map(flip).collect()
}
