//! Sets how the C library looks up host names: in the hosts file and DNS alone.
//!
//! glibc looks names up through modules that `/etc/nsswitch.conf` lists. A statically linked program would load
//! those libraries of the system into itself, which fails, or breaks, unless they are of exactly its glibc. The
//! modules `files` and `dns` are part of glibc itself; with these two alone nothing is ever loaded.

/// Why the lookup of names stays as `/etc/nsswitch.conf` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSet {
    /// The process has, or had, more than one thread, and another could be looking up a name.
    NotAlone,
    /// The C library did not take the setting; it has no memory left.
    Declined,
}

impl std::fmt::Display for NotSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::NotAlone => "the lookup of names can only be set before the first thread starts",
            Self::Declined => "the C library does not let the lookup of names be set",
        })
    }
}

impl std::error::Error for NotSet {}

/// Makes every later lookup of a host name in this process use the hosts file, then DNS, and nothing else.
///
/// `/etc/hosts` and `/etc/resolv.conf` are read as ever; what `/etc/nsswitch.conf` says of `hosts` no longer counts.
/// Does nothing where the C library is not glibc: others have no modules.
///
/// # Errors
///
/// See [`NotSet`]; nothing has changed then. With one thread and memory left there is no error.
pub fn use_files_and_dns() -> Result<(), NotSet> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        glibc::use_files_and_dns()
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        Ok(())
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    #![expect(unsafe_code, reason = "calls a function of the C library that nobody has wrapped")]

    use std::ffi::{CStr, c_char, c_int};

    use super::NotSet;

    const DATABASE: &CStr = c"hosts";
    const SERVICES: &CStr = c"files dns";

    // Declared in glibc's <nss.h> and <sys/single_threaded.h>.
    unsafe extern "C" {
        /// Replaces the services of one database; 0 if it did.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;

        /// Not 0 while the process is known to have a single thread. glibc 2.32 or newer.
        static __libc_single_threaded: c_char;
    }

    pub(super) fn use_files_and_dns() -> Result<(), NotSet> {
        // SAFETY: the variable is there for the whole life of the process, and only the C library writes to it:
        // when a thread starts, or is joined. If it is not 0 there is no other thread that could do so now.
        let single_threaded = unsafe { (&raw const __libc_single_threaded).read_volatile() };
        if single_threaded == 0 {
            return Err(NotSet::NotAlone);
        }
        // SAFETY: both arguments are texts that end with 0 and live as long as the process; the C library copies
        // them. It changes the database without a lock, which no other thread can read: there is none.
        let outcome = unsafe { __nss_configure_lookup(DATABASE.as_ptr(), SERVICES.as_ptr()) };
        if outcome == 0 { Ok(()) } else { Err(NotSet::Declined) }
    }
}
