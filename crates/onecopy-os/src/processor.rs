//! Hints to the processor.

/// Asks the processor for the cache line at an address, to write to it soon. It may be in the cache of another one, and
/// getting several lines one after the other takes longer than all at once. Any address will do; nothing is read.
#[inline]
pub fn expect_write<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that never faults and changes nothing that a program can see. Processors that do not know it do
    // nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
