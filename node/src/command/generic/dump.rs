//! `DUMP` and `RESTORE`: values as Redis's own files hold them.
//!
//! ```text
//! 1 byte    type: 0 is a string, the only one this node has
//! n bytes   the string: a length and its bytes | an integer | compressed by LZF
//! 2 bytes   version of the format, little endian
//! 8 bytes   CRC-64 (Jones) of all before, little endian
//! ```

use crc::{CRC_64_REDIS, Crc, Table};
use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;

use super::ROW;
use crate::command::string::encoded;
use crate::command::{Args, CommandError, CommandResult, CommandSpec, Flags, Keys, Run};
use crate::keyspace::entry::{Entry, Value};
use crate::keyspace::eviction::AccessMode;
use crate::keyspace::{Deadline, Keyspace};
use crate::records::UnixMillis;

static CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Version that payloads state: that of Redis 7.0, which later ones read too.
const VERSION: u16 = 10;
/// Newest version whose strings are known to be as described above (Redis 7.4 and 8).
const VERSION_MAX: u16 = 12;
const FOOTER_BYTES: usize = 10;

const TYPE_STRING: u8 = 0;

/// Marks in the top bits of a length's first byte.
const LENGTH_6_BITS: u8 = 0;
const LENGTH_14_BITS: u8 = 1;
const LENGTH_32_BITS: u8 = 0x80;
const LENGTH_64_BITS: u8 = 0x81;
const INTEGER_8_BITS: u8 = 0xc0;
const INTEGER_16_BITS: u8 = 0xc1;
const INTEGER_32_BITS: u8 = 0xc2;
const COMPRESSED: u8 = 0xc3;

fn push_string(payload: &mut Vec<u8>, bytes: &[u8]) {
    // Redis stores short decimal strings as numbers.
    let integer = parse_integer(bytes).and_then(|integer| i32::try_from(integer).ok());
    match integer {
        Some(integer) if i8::try_from(integer).is_ok() => {
            payload.extend([INTEGER_8_BITS, integer as u8]);
        }
        Some(integer) if i16::try_from(integer).is_ok() => {
            payload.push(INTEGER_16_BITS);
            payload.extend((integer as i16).to_le_bytes());
        }
        Some(integer) => {
            payload.push(INTEGER_32_BITS);
            payload.extend(integer.to_le_bytes());
        }
        None => {
            push_length(payload, bytes.len());
            payload.extend(bytes);
        }
    }
}

fn push_length(payload: &mut Vec<u8>, length: usize) {
    match length {
        0..0x40 => payload.push(length as u8),
        0x40..0x4000 => payload.extend([LENGTH_14_BITS << 6 | (length >> 8) as u8, length as u8]),
        _ => match u32::try_from(length) {
            Ok(length) => {
                payload.push(LENGTH_32_BITS);
                payload.extend(length.to_be_bytes());
            }
            Err(_) => {
                payload.push(LENGTH_64_BITS);
                payload.extend((length as u64).to_be_bytes());
            }
        },
    }
}

/// Returns the payload of a value.
fn payload_of(value: Value<'_>) -> Vec<u8> {
    let mut payload = vec![TYPE_STRING];
    match value {
        Value::Integer(integer) => push_string(&mut payload, integer.to_string().as_bytes()),
        Value::String(bytes) => push_string(&mut payload, bytes),
    }
    payload.extend(VERSION.to_le_bytes());
    let checksum = CHECKSUM.checksum(&payload);
    payload.extend(checksum.to_le_bytes());
    payload
}

/// Reads a payload front to back.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length_from(&mut self, first: u8) -> Option<usize> {
        match (first >> 6, first) {
            (LENGTH_6_BITS, _) => Some(usize::from(first)),
            (LENGTH_14_BITS, _) => {
                let [low] = self.array()?;
                Some(usize::from(first & 0x3f) << 8 | usize::from(low))
            }
            (_, LENGTH_32_BITS) => Some(u32::from_be_bytes(self.array()?) as usize),
            (_, LENGTH_64_BITS) => usize::try_from(u64::from_be_bytes(self.array()?)).ok(),
            _ => None,
        }
    }

    fn length(&mut self) -> Option<usize> {
        let [first] = self.array()?;
        self.length_from(first)
    }

    /// Reads a string in any of its forms, at most `bytes_max` long.
    fn string(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        let [first] = self.array()?;
        let decimal = |integer: i32| integer.to_string().into_bytes();
        match first {
            INTEGER_8_BITS => Some(decimal(i8::from_le_bytes(self.array()?).into())),
            INTEGER_16_BITS => Some(decimal(i16::from_le_bytes(self.array()?).into())),
            INTEGER_32_BITS => Some(decimal(i32::from_le_bytes(self.array()?))),
            COMPRESSED => {
                let (compressed, length) = (self.length()?, self.length()?);
                let compressed = self.take(compressed)?;
                (length <= bytes_max).then(|| decompress(compressed, length))?
            }
            _ => {
                let length = self.length_from(first)?;
                Some(self.take(length)?.to_vec())
            }
        }
    }
}

/// Decompresses LZF. The output grows with the input read, whatever `length` announces.
fn decompress(input: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut reader = Reader(input);
    let mut output = Vec::new();
    while !reader.0.is_empty() {
        let [control] = reader.array()?;
        let control = usize::from(control);
        if control < 32 {
            output.extend_from_slice(reader.take(control + 1)?);
        } else {
            let mut count = (control >> 5) + 2;
            if count == 9 {
                let [more] = reader.array()?;
                count += usize::from(more);
            }
            let [low] = reader.array()?;
            let distance = ((control & 31) << 8 | usize::from(low)) + 1;
            let start = output.len().checked_sub(distance)?;
            // The copy may overlap what it writes, so it goes byte by byte.
            for at in start..start + count {
                output.push(output[at]);
            }
        }
        if output.len() > length {
            return None;
        }
    }
    (output.len() == length).then_some(output)
}

/// Returns the string of a payload.
fn string_of(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, CommandError> {
    let wrong = || CommandError::err("DUMP payload version or checksum are wrong");
    let body = payload.len().checked_sub(FOOTER_BYTES).ok_or_else(wrong)?;
    let (body, mut footer) = (&payload[..body], Reader(&payload[body..]));
    let version = footer.array().map(u16::from_le_bytes);
    let checksum = footer.array().map(u64::from_le_bytes);
    let checked = CHECKSUM.checksum(&payload[..payload.len() - size_of::<u64>()]);
    if version.is_none_or(|version| version > VERSION_MAX) || checksum != Some(checked) {
        return Err(wrong());
    }
    let string = match body.split_first() {
        Some((&TYPE_STRING, rest)) => Reader(rest).string(bytes_max),
        _ => None,
    };
    string.ok_or_else(|| CommandError::err("Bad data format"))
}

/// `DUMP key`
fn dump(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    match keyspace.read(args.at(1)).map(Entry::value) {
        Some(value) => reply.bulk(&payload_of(value)),
        None => reply.null(),
    }
    Ok(())
}

/// The options of `RESTORE`.
#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<i64>,
    frequency: Option<i64>,
}

impl RestoreOptions {
    fn parse(args: Args<'_>) -> Result<Self, CommandError> {
        let mut parsed = RestoreOptions::default();
        let mut options = args.cursor(4);
        while options.remaining() > 0 {
            if options.take("replace") {
                parsed.replace = true;
            } else if options.take("absttl") {
                parsed.absolute = true;
            } else if options.remaining() < 2 {
                return Err(CommandError::Syntax);
            } else if parsed.frequency.is_none() && options.take("idletime") {
                let seconds = options.integer()?;
                if seconds < 0 {
                    return Err(CommandError::err("Invalid IDLETIME value, must be >= 0"));
                }
                parsed.idle_seconds = Some(seconds);
            } else if parsed.idle_seconds.is_none() && options.take("freq") {
                let frequency = options.integer()?;
                if !(0..=255).contains(&frequency) {
                    return Err(CommandError::err("Invalid FREQ value, must be >= 0 and <= 255"));
                }
                parsed.frequency = Some(frequency);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(parsed)
    }

    /// The access clock that the options ask for, where it means anything.
    fn access(&self, keyspace: &Keyspace) -> Option<u32> {
        let fresh = keyspace.clock.fresh();
        match keyspace.clock.mode {
            AccessMode::Lfu => self.frequency.map(|frequency| fresh & !0xff | frequency as u32),
            AccessMode::Lru => {
                self.idle_seconds.map(|idle| fresh.wrapping_sub(idle.min(0xff_ffff) as u32))
            }
        }
    }
}

/// `RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
fn restore(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let key = args.at(1);
    let options = RestoreOptions::parse(args)?;
    if !options.replace && keyspace.write(key).is_some() {
        return Err(CommandError::Other("BUSYKEY Target key name already exists.".into()));
    }
    let ttl = args.integer(2)?;
    if ttl < 0 {
        return Err(CommandError::err("Invalid TTL value, must be >= 0"));
    }
    let value = string_of(args.at(3), keyspace.limits.string_bytes_max as usize)?;
    let now = keyspace.now().0;
    let deadline = match (ttl, options.absolute) {
        (0, _) => Deadline::Clear,
        (ttl, true) => Deadline::At(UnixMillis(ttl as u64)),
        // Beyond the end of time Redis's sum turns negative, and so belongs to the past.
        (ttl, false) => {
            let sum = ttl.checked_add(now as i64).unwrap_or(0);
            Deadline::At(UnixMillis(sum as u64))
        }
    };
    if matches!(deadline, Deadline::At(at) if at.0 <= now) {
        keyspace.remove(key);
    } else {
        keyspace.put(key, encoded(&value), deadline);
        // Of what was there before, nothing is left.
        let access = options.access(keyspace).unwrap_or_else(|| keyspace.clock.fresh());
        keyspace.set_access(key, access);
    }
    reply.ok();
    Ok(())
}

pub(in crate::command) const SPECS: &[CommandSpec] = &[
    CommandSpec {
        name: "dump",
        arity: 2,
        flags: Flags::READONLY,
        keys: Keys::FIRST,
        since: "2.6.0",
        complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is \
                     the number of Redis objects composing the value and M their average size. \
                     For small string values the time complexity is thus O(1)+O(1*M) where M is \
                     small, so simply O(1).",
        summary: "Returns a serialized representation of the value stored at a key.",
        syntax: "key",
        run: Run::Keyspace(dump),
        ..ROW
    },
    CommandSpec {
        name: "restore",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENY_OOM),
        keys: Keys::FIRST,
        since: "2.6.0",
        complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the \
                     serialized value, where N is the number of Redis objects composing the \
                     value and M their average size. For small string values the time complexity \
                     is thus O(1)+O(1*M) where M is small, so simply O(1).",
        summary: "Creates a key from the serialized representation of a value.",
        syntax: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        run: Run::Keyspace(restore),
        ..ROW
    },
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn payloads_that_redis_made_are_read() {
        // From Redis 7.0.15: an integer of each width, short strings, LZF.
        let cases: &[(String, &str)] = &[
            ("7".into(), "00c0070a0074cd48a283abce92"),
            ("-300".into(), "00c1d4fe0a00c6c48623febede2e"),
            ("70000".into(), "00c2701101000a0001a408fe953095a5"),
            (
                i64::MAX.to_string(),
                "0013393232333337323033363835343737353830370a003a657e9481e85f22",
            ),
            ("hello".into(), "000568656c6c6f0a006372df766534200a"),
            (
                "abcdefghij".repeat(20),
                "00c31240c80a6162636465666768696a61e0b20901696a0a007a9b7c8ecbd1e20e",
            ),
            (
                "x".repeat(1000),
                "00c31243e8017878e0ff00e0ff00e0ff00e0c3000178780a009219e2966d932c99",
            ),
        ];
        for (text, hex) in cases {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let payload: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            assert_eq!(string_of(&payload, 1 << 20).unwrap(), text.as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_dumped_is_restored(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                prop::collection::vec(any::<u8>(), 16_000..17_000),
                any::<i64>().prop_map(|integer| integer.to_string().into_bytes()),
                any::<i16>().prop_map(|integer| integer.to_string().into_bytes()),
            ],
            flip in any::<prop::sample::Index>(),
        ) {
            let mut payload = payload_of(encoded(&bytes));
            prop_assert_eq!(string_of(&payload, 1 << 20).unwrap(), bytes);
            let at = flip.index(payload.len());
            payload[at] ^= 1;
            prop_assert!(string_of(&payload, 1 << 20).is_err());
        }

        #[test]
        fn any_bytes_are_decompressed_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            length in 0..500_usize,
        ) {
            if let Some(output) = decompress(&bytes, length) {
                prop_assert_eq!(output.len(), length);
            }
        }
    }
}
