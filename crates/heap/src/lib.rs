//! Gives memory that was freed back to the system.
//!
//! glibc keeps what was freed between pieces that are still in use. After a storm of connections that is most of what
//! they took, for ever: on a small machine it is missed elsewhere.

/// Gives whole free pages back, wherever they lie. Takes about a millisecond for each 20 MiB of heap.
///
/// Does nothing where the C library is not glibc. May be called from any thread; others that allocate wait for a part
/// of that time.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    #![expect(unsafe_code, reason = "calls a function of the C library that nobody has wrapped")]

    use std::ffi::c_int;

    // Declared in glibc's <malloc.h>.
    unsafe extern "C" {
        /// Gives free memory back but for `pad` bytes at the top of the heap; 1 if there was any.
        fn malloc_trim(pad: usize) -> c_int;
    }

    pub(super) fn give_back() {
        // SAFETY: the function takes no pointers and is safe to call from any thread (malloc_trim(3): MT-Safe); it
        // touches free memory only.
        let _ = unsafe { malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "only the kernel knows")]
    fn resident_pages() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("proc(5)")
    }

    /// G2: holes between pieces in use go back.
    #[test]
    fn memory_between_what_is_in_use_goes_back() {
        let mut pieces: Vec<Option<Vec<u8>>> =
            (0..64_000_u32).map(|number| Some(vec![number as u8; 1_000])).collect();
        let full = resident_pages();
        for (number, piece) in pieces.iter_mut().enumerate() {
            if number % 64 != 0 {
                *piece = None;
            }
        }
        give_back();
        // 64 MB were taken, all but a sixty-fourth is free; no page counts that still holds a piece.
        assert!(resident_pages() + 8_000 < full, "{} of {full}", resident_pages());
        assert!(pieces.iter().flatten().all(|piece| piece.len() == 1_000));
    }
}
