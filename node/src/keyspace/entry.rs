//! One key with its value, in one allocation behind a thin pointer.
//!
//! ```text
//! offset  bytes
//! 0       1      kind of the value (low 4 bits), bit 7: a deadline follows the header
//! 1       3      access clock, little endian (see `eviction`)
//! 4       4      length of the value part in bytes, little endian
//! 8       0 | 8  deadline, Unix ms
//! ..      1 | 5  key length: one byte, or 255 and four bytes
//! ..      n      key
//! ..      m      value part: the string itself | an integer (8) | a pointer to an `Object` (8)
//! ```
//!
//! A 16-byte key with a 64-byte value takes 96 bytes. A table holds 8 bytes a key: the address,
//! and in the 16 bits that no address uses, a tag by which the table finds the key. (Linux gives
//! programs addresses of 47 or 48 bits unless they ask for more, which no allocator does.)
//!
//! # Safety
//!
//! This is the one module of the workspace with `unsafe`. What it relies on:
//! 1. `start` comes from `alloc(layout(capacity))`, where `capacity` is `allocated_size` of the
//!    sizes that the header states; nothing changes the header's sizes without keeping that true
//!    (`overwrite` checks it, everything else builds a new allocation).
//! 2. An `Entry` owns its allocation: no copy of the pointer outlives it, and references into it
//!    borrow the entry, so the borrow checker forbids writing while they live.
//! 3. Of kind `OBJECT`, the value part is a pointer from `Box::into_raw`, owned by this entry and
//!    freed exactly once: in `drop`, or when another value takes its place.
//! 4. All fields are read and written unaligned, so nothing depends on the key's length.
//! 5. The address fits in `ADDRESS_BITS` (`build` checks it). Memory is reached only through
//!    `start`, which takes the tag off the pointer.
//!
//! `tests::entry_behaves_like_a_struct` checks every operation against a plain struct.

#![allow(unsafe_code, reason = "see Safety above: 8 header bytes a key instead of three boxes")]

mod prefetch;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::num::NonZero;
use std::ptr::{self, NonNull};

use crate::records::UnixMillis;
pub(super) use prefetch::prefetch;
use prefetch::prefetch_at;

/// Strings up to this many bytes live in the entry; longer ones, and those that were appended
/// to, in a buffer of their own that can grow in place.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;

/// Bits of an address; those above hold the tag.
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: usize = (1 << ADDRESS_BITS) - 1;

const HEADER_BYTES: usize = 8;
const DEADLINE_BYTES: usize = 8;
const DEADLINE_BIT: u8 = 0x80;
const KIND_MASK: u8 = 0x0f;
const LONG_KEY: u8 = u8::MAX;

const INTEGER: u8 = 0;
const INLINE_STRING: u8 = 1;
const OBJECT: u8 = 2;

/// A value that is too large, or too changeable, to live inside its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A string with room to grow.
    String(Vec<u8>),
}

impl Object {
    /// Bytes this object has allocated, itself included.
    fn allocated(&self) -> usize {
        let Object::String(bytes) = self;
        size_of::<Object>() + allocated_size(bytes.capacity())
    }
}

/// A value as readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string that is the canonical decimal form of this integer.
    Integer(i64),
    /// Any other string.
    String(&'a [u8]),
}

/// One key with its value, deadline and access clock.
pub struct Entry {
    tagged: NonNull<u8>,
}

// SAFETY: an entry owns everything it points to (invariants 2 and 3), and `Object` is `Send`.
unsafe impl Send for Entry {}

/// The sizes that decide an entry's layout.
#[derive(Clone, Copy)]
struct Shape {
    has_deadline: bool,
    key: usize,
    value: usize,
}

impl Shape {
    fn key_header_at(self) -> usize {
        HEADER_BYTES + if self.has_deadline { DEADLINE_BYTES } else { 0 }
    }

    fn key_at(self) -> usize {
        self.key_header_at() + if self.key < LONG_KEY as usize { 1 } else { 5 }
    }

    fn value_at(self) -> usize {
        self.key_at() + self.key
    }

    fn capacity(self) -> usize {
        allocated_size(self.value_at() + self.value)
    }
}

/// The value part that a value needs.
#[derive(Clone, Copy)]
enum Part<'a> {
    Bytes(&'a [u8]),
    Integer(i64),
    Object(*mut Object),
}

impl Part<'_> {
    fn new(value: Value<'_>) -> Part<'_> {
        match value {
            Value::Integer(integer) => Part::Integer(integer),
            Value::String(bytes) if bytes.len() <= INLINE_BYTES_MAX => Part::Bytes(bytes),
            Value::String(bytes) => {
                Part::Object(Box::into_raw(Box::new(Object::String(bytes.to_vec()))))
            }
        }
    }

    fn kind(self) -> u8 {
        match self {
            Part::Integer(_) => INTEGER,
            Part::Bytes(_) => INLINE_STRING,
            Part::Object(_) => OBJECT,
        }
    }

    fn len(self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Integer(_) | Part::Object(_) => 8,
        }
    }
}

impl Entry {
    /// Makes an entry. Costs one allocation (two more for strings over [`INLINE_BYTES_MAX`]).
    ///
    /// # Panics
    /// Where the key or the value is longer than 4 GiB, which the protocol's limits exclude, or
    /// where the allocator returns an address of more than 48 bits.
    pub fn new(key: &[u8], value: Value<'_>, deadline: Option<UnixMillis>, access: u32) -> Entry {
        Entry::build(key, Part::new(value), deadline, access)
    }

    fn build(key: &[u8], part: Part<'_>, deadline: Option<UnixMillis>, access: u32) -> Entry {
        let shape = Shape { has_deadline: deadline.is_some(), key: key.len(), value: part.len() };
        let key_len = u32::try_from(key.len()).expect("keys are shorter than a query buffer");
        let layout = layout(shape.capacity());
        // SAFETY: `layout` is never empty, as it holds at least the header.
        let Some(pointer) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        assert!(pointer.addr().get() <= ADDRESS_MASK, "addresses have at most 48 bits");
        let mut entry = Entry { tagged: pointer };
        entry.write(4, &(part.len() as u32).to_le_bytes());
        entry.write(0, &[part.kind() | if shape.has_deadline { DEADLINE_BIT } else { 0 }]);
        entry.set_access(access);
        if let Some(deadline) = deadline {
            entry.write(HEADER_BYTES, &deadline.0.to_le_bytes());
        }
        if key.len() < LONG_KEY as usize {
            entry.write(shape.key_header_at(), &[key_len as u8]);
        } else {
            entry.write(shape.key_header_at(), &[LONG_KEY]);
            entry.write(shape.key_header_at() + 1, &key_len.to_le_bytes());
        }
        entry.write(shape.key_at(), key);
        entry.write_part(shape.value_at(), part);
        entry
    }

    /// Returns the tag, 0 in a new entry.
    #[inline]
    pub(super) fn tag(&self) -> u16 {
        (self.tagged.addr().get() >> ADDRESS_BITS) as u16
    }

    /// Sets the tag, which then stays whatever value the entry gets; a clone has none.
    #[inline]
    pub(super) fn set_tag(&mut self, tag: u16) {
        self.tagged = self.tagged.map_addr(|address| {
            let address = NonZero::new(address.get() & ADDRESS_MASK);
            address.expect("no allocation has address 0") | usize::from(tag) << ADDRESS_BITS
        });
    }

    /// Start of the allocation.
    #[inline]
    fn start(&self) -> *mut u8 {
        self.tagged.as_ptr().map_addr(|address| address & ADDRESS_MASK)
    }

    /// Puts a new allocation in place of this one.
    fn rebuild(&mut self, mut new: Entry) {
        new.set_tag(self.tag());
        *self = new;
    }

    /// Returns the key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let shape = self.shape();
        // SAFETY: the key lies within the allocation (invariant 1) and is borrowed from `self`.
        unsafe { self.bytes(shape.key_at(), shape.key) }
    }

    /// Returns the value.
    #[inline]
    pub fn value(&self) -> Value<'_> {
        let shape = self.shape();
        match self.kind() {
            INTEGER => Value::Integer(i64::from_le_bytes(self.read(shape.value_at()))),
            // SAFETY: the value part lies within the allocation (invariant 1).
            INLINE_STRING => Value::String(unsafe { self.bytes(shape.value_at(), shape.value) }),
            _ => {
                // SAFETY: of this kind the part is a live pointer that we own (invariant 3).
                let Object::String(bytes) = unsafe { &*self.object(shape) };
                Value::String(bytes)
            }
        }
    }

    /// Whether the string lives in a buffer of its own, with room to grow.
    pub fn is_growable(&self) -> bool {
        self.kind() == OBJECT
    }

    /// Returns the time from which the key no longer exists.
    #[inline]
    pub fn deadline(&self) -> Option<UnixMillis> {
        self.has_deadline().then(|| UnixMillis(u64::from_le_bytes(self.read(HEADER_BYTES))))
    }

    /// Brings the first bytes into the cache.
    #[inline]
    pub(super) fn warm_first(&self) {
        prefetch_at(self.start());
    }

    /// Reads the last byte, once the first is in the cache. What it is is of no use.
    #[inline]
    pub(super) fn warm_last(&self) -> u8 {
        let shape = self.shape();
        let [last] = self.read(shape.value_at() + shape.value - 1);
        last
    }

    /// Returns the access clock: 24 bits whose meaning is the eviction policy's.
    #[inline]
    pub fn access(&self) -> u32 {
        let [_, a, b, c] = self.read(0);
        u32::from_le_bytes([a, b, c, 0])
    }

    /// Sets the access clock; only the low 24 bits are kept.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        let [a, b, c, _] = access.to_le_bytes();
        self.write(1, &[a, b, c]);
    }

    /// Returns the bytes allocated for this entry, its value's own buffer included.
    #[inline]
    pub fn allocated(&self) -> usize {
        let shape = self.shape();
        let own = shape.capacity();
        if self.kind() == OBJECT {
            // SAFETY: invariant 3.
            return own + unsafe { &*self.object(shape) }.allocated();
        }
        own
    }

    /// Replaces value and deadline. Writes in place where the new value needs the same
    /// allocation as the old one, as an overwrite with a value of like length does.
    #[inline]
    pub fn replace(&mut self, value: Value<'_>, deadline: Option<UnixMillis>) {
        if let Value::String(bytes) = value
            && self.kind() == INLINE_STRING
            && bytes.len() <= INLINE_BYTES_MAX
            && self.overwrite(Part::Bytes(bytes), deadline)
        {
            return;
        }
        self.replace_part(Part::new(value), deadline);
    }

    fn replace_part(&mut self, part: Part<'_>, deadline: Option<UnixMillis>) {
        if self.kind() != OBJECT && self.overwrite(part, deadline) {
            return;
        }
        // The old value, if it is an object, is freed with the old allocation.
        self.rebuild(Entry::build(self.key(), part, deadline, self.access()));
    }

    /// Writes a value part in place, if it fits the allocation exactly and no object is lost.
    #[inline]
    fn overwrite(&mut self, part: Part<'_>, deadline: Option<UnixMillis>) -> bool {
        let old = self.shape();
        let new = Shape { value: part.len(), ..old };
        if deadline.is_some() != old.has_deadline || new.capacity() != old.capacity() {
            return false;
        }
        if let Some(deadline) = deadline {
            self.write(HEADER_BYTES, &deadline.0.to_le_bytes());
        }
        self.write(0, &[part.kind() | if old.has_deadline { DEADLINE_BIT } else { 0 }]);
        self.write(4, &(part.len() as u32).to_le_bytes());
        self.write_part(new.value_at(), part);
        true
    }

    /// Sets or clears the deadline. Setting a first one, or clearing it, builds a new allocation.
    pub fn set_deadline(&mut self, deadline: Option<UnixMillis>) {
        if let (Some(deadline), true) = (deadline, self.has_deadline()) {
            self.write(HEADER_BYTES, &deadline.0.to_le_bytes());
        } else if deadline.is_some() != self.has_deadline() {
            let shape = self.shape();
            let rebuilt = match self.kind() {
                // The new entry takes the object over, so the old one must not free it.
                OBJECT => {
                    let part = Part::Object(self.object(shape));
                    let new = Entry::build(self.key(), part, deadline, self.access());
                    self.release_object();
                    new
                }
                _ => Entry::new(self.key(), self.value(), deadline, self.access()),
            };
            self.rebuild(rebuilt);
        }
    }

    /// Gives the key another name; the tag is 0 then, as in a new entry. What lives in a buffer of
    /// its own stays there, so this costs no more than a new entry of a short value.
    pub(super) fn set_key(&mut self, key: &[u8]) {
        let (deadline, access) = (self.deadline(), self.access());
        *self = match self.kind() {
            // As in `set_deadline`: the new entry takes the object over.
            OBJECT => {
                let part = Part::Object(self.object(self.shape()));
                let new = Entry::build(key, part, deadline, access);
                self.release_object();
                new
            }
            _ => Entry::new(key, self.value(), deadline, access),
        };
    }

    /// Copies value and deadline under another key; a string that can grow still can.
    pub(super) fn copy_as(&self, key: &[u8], access: u32) -> Entry {
        let mut copy = Entry::new(key, self.value(), self.deadline(), access);
        if self.is_growable() && !copy.is_growable() {
            copy.growable();
        }
        copy
    }

    /// Puts another entry of the same key in place of this one.
    pub(super) fn replace_whole(&mut self, new: Entry) {
        self.rebuild(new);
    }

    /// Returns the string as a buffer that can be changed and can grow, moving it out of the
    /// entry first where it still lives there. The caller accounts for `allocated` afterwards.
    pub fn growable(&mut self) -> &mut Vec<u8> {
        if self.kind() != OBJECT {
            let bytes = match self.value() {
                Value::Integer(integer) => integer.to_string().into_bytes(),
                Value::String(bytes) => bytes.to_vec(),
            };
            let object = Box::into_raw(Box::new(Object::String(bytes)));
            self.replace_part(Part::Object(object), self.deadline());
        }
        // SAFETY: invariant 3; the reference borrows `self` mutably.
        let Object::String(bytes) = unsafe { &mut *self.object(self.shape()) };
        bytes
    }

    /// Forgets the object without freeing it: its ownership has passed to another entry.
    fn release_object(&mut self) {
        self.write(0, &[INTEGER | if self.has_deadline() { DEADLINE_BIT } else { 0 }]);
    }

    fn kind(&self) -> u8 {
        let [first] = self.read(0);
        first & KIND_MASK
    }

    fn has_deadline(&self) -> bool {
        let [first] = self.read(0);
        first & DEADLINE_BIT != 0
    }

    #[inline]
    fn shape(&self) -> Shape {
        let has_deadline = self.has_deadline();
        let value = u32::from_le_bytes(self.read(4)) as usize;
        let mut shape = Shape { has_deadline, key: 0, value };
        let [short] = self.read(shape.key_header_at());
        shape.key = if short < LONG_KEY {
            short as usize
        } else {
            u32::from_le_bytes(self.read(shape.key_header_at() + 1)) as usize
        };
        shape
    }

    fn object(&self, shape: Shape) -> *mut Object {
        debug_assert_eq!(self.kind(), OBJECT);
        // SAFETY: of this kind the value part holds a pointer (invariant 3), stored unaligned
        // (invariant 4).
        unsafe { self.start().add(shape.value_at()).cast::<*mut Object>().read_unaligned() }
    }

    #[inline]
    fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        // SAFETY: callers pass offsets of fields that the layout has (invariant 1).
        unsafe { self.start().add(at).cast::<[u8; N]>().read_unaligned() }
    }

    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: callers pass fields that the layout has (invariant 1); `bytes` never comes from
        // this allocation, as `self` is borrowed mutably.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.start().add(at), bytes.len());
        }
    }

    #[inline]
    fn write_part(&mut self, at: usize, part: Part<'_>) {
        match part {
            Part::Bytes(bytes) => self.write(at, bytes),
            Part::Integer(integer) => self.write(at, &integer.to_le_bytes()),
            Part::Object(object) => {
                // SAFETY: the layout reserves eight bytes here; unaligned (invariant 4).
                unsafe {
                    self.start().add(at).cast::<*mut Object>().write_unaligned(object);
                }
            }
        }
    }

    /// # Safety
    /// `at..at + length` must lie within the allocation and be initialised.
    #[inline]
    unsafe fn bytes(&self, at: usize, length: usize) -> &[u8] {
        // SAFETY: passed on to the caller.
        unsafe { std::slice::from_raw_parts(self.start().add(at), length) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let shape = self.shape();
        if self.kind() == OBJECT {
            // SAFETY: invariant 3: ours alone, and never used again.
            drop(unsafe { Box::from_raw(self.object(shape)) });
        }
        // SAFETY: invariant 1: allocated with this very layout.
        unsafe { dealloc(self.start(), layout(shape.capacity())) };
    }
}

impl Clone for Entry {
    fn clone(&self) -> Entry {
        self.copy_as(self.key(), self.access())
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never keys or values: an entry may end up in a log line.
        f.debug_struct("Entry").field("allocated", &self.allocated()).finish_non_exhaustive()
    }
}

/// Rounds an allocation up to what the allocator hands out for it anyway: steps of 16 bytes up
/// to 128, then four steps to each power of two (the size classes of mimalloc and jemalloc).
/// Values of like length thus share a size, so that an overwrite happens in place.
#[inline]
pub fn allocated_size(bytes: usize) -> usize {
    if bytes <= 128 {
        return bytes.next_multiple_of(16);
    }
    let step = 1 << (usize::BITS - 1 - (bytes - 1).leading_zeros() - 2);
    bytes.next_multiple_of(step)
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, 8).expect("entries are far smaller than the address space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Replace(Vec<u8>, Option<u64>),
        ReplaceInteger(i64, Option<u64>),
        SetDeadline(Option<u64>),
        SetAccess(u32),
        Append(Vec<u8>),
        SetKey(Vec<u8>),
        Clone,
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            prop::collection::vec(any::<u8>(), 16_300..16_500),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (bytes(), any::<Option<u64>>()).prop_map(|(b, d)| Step::Replace(b, d)),
            (any::<i64>(), any::<Option<u64>>()).prop_map(|(i, d)| Step::ReplaceInteger(i, d)),
            any::<Option<u64>>().prop_map(Step::SetDeadline),
            (0..1_u32 << 24).prop_map(Step::SetAccess),
            prop::collection::vec(any::<u8>(), 0..100).prop_map(Step::Append),
            prop::collection::vec(any::<u8>(), 0..30).prop_map(Step::SetKey),
            Just(Step::Clone),
        ]
    }

    fn as_bytes(value: Value<'_>) -> Vec<u8> {
        match value {
            Value::Integer(integer) => integer.to_string().into_bytes(),
            Value::String(bytes) => bytes.to_vec(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn entry_behaves_like_a_struct(
            mut key in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..30),
                prop::collection::vec(any::<u8>(), 250..260),
            ],
            first in bytes(),
            tag in any::<u16>(),
            steps in prop::collection::vec(step(), 0..20),
        ) {
            let mut entry = Entry::new(&key, Value::String(&first), None, 7);
            prop_assert_eq!(entry.tag(), 0);
            entry.set_tag(u16::MAX);
            entry.set_tag(tag);
            let (mut value, mut deadline, mut access) = (first, None, 7);
            for step in steps {
                match step {
                    Step::Replace(bytes, at) => {
                        deadline = at.map(UnixMillis);
                        entry.replace(Value::String(&bytes), deadline);
                        value = bytes;
                    }
                    Step::ReplaceInteger(integer, at) => {
                        deadline = at.map(UnixMillis);
                        entry.replace(Value::Integer(integer), deadline);
                        value = integer.to_string().into_bytes();
                    }
                    Step::SetDeadline(at) => {
                        deadline = at.map(UnixMillis);
                        entry.set_deadline(deadline);
                    }
                    Step::SetAccess(clock) => {
                        access = clock;
                        entry.set_access(clock);
                    }
                    Step::Append(bytes) => {
                        entry.growable().extend_from_slice(&bytes);
                        value.extend(bytes);
                    }
                    Step::SetKey(other) => {
                        entry.set_key(&other);
                        key = other;
                        prop_assert_eq!(entry.tag(), 0);
                        entry.set_tag(tag);
                    }
                    Step::Clone => {
                        let clone = entry.clone();
                        entry = clone;
                        prop_assert_eq!(entry.tag(), 0);
                        entry.set_tag(tag);
                    }
                }
                prop_assert_eq!(entry.tag(), tag);
                prop_assert_eq!(entry.key(), &key[..]);
                prop_assert_eq!(as_bytes(entry.value()), &value[..]);
                prop_assert_eq!(entry.deadline(), deadline);
                prop_assert_eq!(entry.access(), access);
                prop_assert!(entry.allocated() > key.len() + 8);
            }
        }
    }

    #[test]
    fn a_small_entry_costs_what_the_design_says() {
        let entry = Entry::new(&[b'k'; 16], Value::String(&[b'v'; 64]), None, 0);
        assert_eq!(entry.allocated(), 96);
    }

    #[test]
    fn size_classes_waste_at_most_a_quarter() {
        for bytes in 129..100_000 {
            let size = allocated_size(bytes);
            assert!(size >= bytes && size <= bytes + bytes / 4, "{bytes} -> {size}");
        }
    }
}
