//! Asking the processor to bring memory into its cache, without waiting for it.
//!
//! # Safety
//!
//! A prefetch is a hint. It changes nothing but caches and never faults, whatever the address
//! (AMD64 Architecture Programmer's Manual, volume 3, `PREFETCHh`; Arm Architecture Reference
//! Manual, `PRFM`), so any pointer will do. The standard library has no stable safe form of it.

/// Asks for the first and the last byte of a value, which is no larger than a cache line.
#[inline]
pub(in super::super) fn prefetch<T>(value: &T) {
    let first = std::ptr::from_ref(value).cast::<u8>();
    prefetch_at(first);
    if size_of::<T>() > size_of::<u64>() {
        prefetch_at(first.wrapping_add(size_of::<T>() - 1));
    }
}

/// Asks for the cache line at an address; does nothing on processors not named here.
#[inline]
pub(super) fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE, which has this instruction, is part of x86-64; for the address, see above.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: see above.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
